/*
 * api/define.h
 *	  What making and dropping a definition of any kind have in common.
 *
 * begin, build the view, finish.  begin locks the stream's row, so that
 * definitions of a stream are made one after the other, and bumps its
 * version; finish compiles the definition as its worker will, makes or takes
 * the result table and writes the catalog.  An error anywhere undoes all.
 */
#ifndef CS_API_DEFINE_H
#define CS_API_DEFINE_H

#include "api/args.h"
#include "core/catalog.h"
#include "core/definition.h"
#include "core/lookup.h"
#include "core/view.h"

/* A definition being made. */
typedef struct CsDraft
{
	const char	*noun; /* "session" */
	const char	*what; /* "session \"user_sessions\"", for messages */
	char		*table_name;
	CsStream	*stream;
	CsDefinition def;					/* as it will be loaded; table is set by finish */
	const char	*emit;					/* in words, or NULL */
	bool		 backfill;				/* it is to have what was before it */
	TimestampTz	 backfill_from;			/* from this time on, or CS_WM_NONE: all of it */
	Oid			 source;				/* rollup: table it reads */
	CsValue		 values[CS_MAX_VALUES]; /* for the catalog, beside what def tells */
	int			 nvalues;
} CsDraft;

/*
 * Begin.  Returns the table if it is a definition of this kind already and
 * that is no error (if_not_exists), else InvalidOid with the draft filled.
 */
extern Oid cs_draft_begin(CsDraft *draft, CsKind kind, const char *noun, char *table_name, CsStream *stream,
						  bool if_not_exists);
/* Take the arguments with these numbers that say whether it is to have a history, and how much of it. */
extern void cs_draft_backfill(CsDraft *draft, FunctionCallInfo fcinfo, int backfill, int backfill_from);
/* Keep a value for the catalog. */
extern void cs_draft_value(CsDraft *draft, CsValue value);
/* Name for the draft's view. */
extern char *cs_draft_view_name(const CsDraft *draft);
/* Compile, make the table, write the catalog; ends the view. */
extern Oid cs_draft_finish(CsDraft *draft, CsView *view);
/* Write the catalog for a table that is there. */
extern void cs_draft_insert(CsDraft *draft, Oid table);

/* Raise unless the current user may change the stream. */
extern void cs_stream_check_owner(const CsStream *stream);
/*
 * Lock the stream's row and let a running worker know that something changed.
 * What the stream says of its events' columns holds from here on: a lookup that
 * was made meanwhile has added to them.
 */
extern void cs_stream_touch(CsStream *stream);
/* The same for who can do without it; false: it is gone. */
extern bool cs_stream_try_touch(CsStream *stream);

/* Raise if the stream has no events: it keeps the table of a lookup. */
extern void cs_stream_check_events(const CsStream *stream);

/* The stream of a definition, for those who may change it; touched. */
extern CsStream *cs_definition_stream(const CsDefinition *def);

/* Drop a definition with its view and table. */
extern void cs_definition_drop(const CsDefinition *def);
/* Body of drop_session() and kin: arguments name, if_exists. */
extern Datum cs_drop_by_name(FunctionCallInfo fcinfo, CsKind kind, const char *noun);
/* The definition of the table that the first argument names, which must be of that kind. */
extern CsDefinition *cs_definition_argument(FunctionCallInfo fcinfo, CsKind kind, const char *noun);
/* Raise if the argument is given: it would change the meaning of what is kept. */
extern void cs_refuse_change(FunctionCallInfo fcinfo, int i, const char *name, const char *noun);
/* Set columns of the definition's row; alter: such as say what its rows are, so not while it is being filled. */
extern void cs_definition_set(const CsDefinition *def, const CsValue *values, int n);
extern void cs_definition_alter(const CsDefinition *def, const CsValue *values, int n);

/* Arguments that windows and rollups share. */
extern void cs_draft_emit(CsDraft *draft, char *emit, const char *otherwise, Interval *emit_interval);

#endif
