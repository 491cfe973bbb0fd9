/*
 * api/open_state.h
 *	  Reading what is open of one definition: what open_sessions(),
 *	  open_windows(), open_funnels() and open_rows() have in common.
 *
 * begin, rows, end.
 */
#ifndef CS_API_OPEN_STATE_H
#define CS_API_OPEN_STATE_H

#include "postgres.h"

#include "core/catalog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "operator/operator.h"

typedef struct CsOpenReader
{
	CsDefinition  *def;
	CsStream	  *stream;
	CsOperator	  *op;			  /* compiled; columns of its rows */
	int64		   commit_number; /* whose content is shown: of the entry's, or of the whole */
	ReturnSetInfo *result;
	MemoryContext  context;
	/* private to open_state.c */
	MemoryContext part_context; /* of the state */
	MemoryContext row_context;
	CsIdentity	  owner;
	CsShowRow	  row;
	void		 *arg;
	CsState		 *state;
} CsOpenReader;

/*
 * Load the definition of a result table, see that the caller may read it, be
 * the stream's owner, and compile.  kinds: what it may be, ending with 0;
 * others raise `"table" holds no <things>`.
 */
extern void cs_open_begin(CsOpenReader *reader, FunctionCallInfo fcinfo, Oid table, const CsKind *kinds,
						  const char *things, const char *hint);
/* Call row for each thing that is open, in memory that is reset from time to time. */
extern void cs_open_rows(CsOpenReader *reader, CsShowRow row, void *arg);
/* All that is open, in reader->state to the end. */
extern void cs_open_read(CsOpenReader *reader);
/* Be the caller again, and forget everything. */
extern void cs_open_end(CsOpenReader *reader);
/* Add a row to the function's result. */
extern void cs_open_put(CsOpenReader *reader, Datum *values, bool *isnull);

/* Some of the operator's columns as a record, under other names if given; and a row's values of them as jsonb. */
extern TupleDesc cs_open_columns(const CsOpenReader *reader, int first, int n, char **names);
extern Datum	 cs_open_jsonb(TupleDesc columns, Datum *values, bool *isnull);
/* A value as text. */
extern Datum cs_open_text(const CsColumn *column, Datum value);

#endif
