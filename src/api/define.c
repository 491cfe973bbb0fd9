/*
 * api/define.c
 *	  What making and dropping a definition of any kind have in common.
 *
 * Locks: the stream's row in our catalog, from the first change to the end of
 * the transaction; then what CREATE and DROP take.
 */
#include "api/define.h"

#include "api/sink.h"
#include "catalog/pg_type.h"
#include "core/backfill.h"
#include "core/ddl.h"
#include "core/live_view.h"
#include "miscadmin.h"
#include "operator/operator.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "worker/worker.h"

/* Comments of the columns that operators make; others are described by their expression. */
static const struct
{
	const char *name;
	const char *comment;
} column_comments[] = {
	{"session_id", "topic/partition/offset of the session's first event"},
	{"session_start", "time of the first event"},
	{"session_end", "time of the last event and the gap: exclusive"},
	{"session_duration_seconds", "whole seconds from the first event to the last"},
	{"closed_reason",
	 "what closed it: gap, max_length, split, end_when, expired, conversion, broken, excluded, max_attempts, finish; "
	 "idle: the topic is silent; NULL: it is open"},
	{"is_final", "true: the row cannot change any more"},
	{"revision", "how often the row has changed after it was closed"},
	{"window_start", "begin of the window: inclusive"},
	{"window_end", "end of the window: exclusive"},
	{"group_key", "stands for the values of the group columns in the primary key"},
	{"attempt_id", "topic/partition/offset of the attempt's first event"},
	{"level",
	 "the furthest step that the attempt has reached; unordered: the number of steps; 0: an exclusion has spoilt it"},
	{"funnel_duration_seconds", "whole seconds from the first step to the last, of a conversion"},
	{"is_rest", "true: the row holds the groups beyond the limit of groups of the window; its group_key is all zeros"},
	{"is_conversion", "true: all steps that are not optional were reached"},
	{"started_at", "time of the attempt's first event"},
};

void
cs_stream_check_owner(const CsStream *stream)
{
	if (!has_privs_of_role(GetUserId(), stream->owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of stream \"%s\"", stream->name),
						errdetail("It belongs to role \"%s\".", GetUserNameFromId(stream->owner, false))));
}

bool
cs_stream_try_touch(CsStream *stream)
{
	cs_stream_check_owner(stream);
	if (!cs_stream_bump(stream->stream_id))
		return false;
	cs_stream_load_events(stream);
	return true;
}

void
cs_stream_touch(CsStream *stream)
{
	if (!cs_stream_try_touch(stream))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("stream \"%s\" was dropped at this moment", stream->name)));
}

void
cs_stream_check_events(const CsStream *stream)
{
	if (!OidIsValid(cs_lookup_table_of(stream->stream_id)))
		return;
	ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
					errmsg("stream \"%s\" keeps the table of a lookup and has no events", stream->name),
					errhint("Use the table in definitions of another stream, by clickstream.create_lookup().")));
}

/* A table that exists: return it, refuse it, or let finish see whether it fits. */
static Oid
check_existing(CsDraft *draft, CsKind kind, bool if_not_exists)
{
	Oid			  table = cs_relation_find(draft->table_name);
	CsDefinition *def = OidIsValid(table) ? cs_definition_find(table, CurrentMemoryContext) : NULL;

	if (def == NULL)
		return InvalidOid;
	if (!if_not_exists || def->kind != kind)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("definition \"%s\" exists already", draft->table_name),
				 errhint("Drop it first, give another name, or say if_not_exists => true.")));
	ereport(NOTICE, (errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("%s \"%s\" exists already, skipping", draft->noun, draft->table_name)));
	return table;
}

Oid
cs_draft_begin(CsDraft *draft, CsKind kind, const char *noun, char *table_name, CsStream *stream, bool if_not_exists)
{
	Oid table;

	memset(draft, 0, sizeof(*draft));
	draft->noun = noun;
	draft->what = psprintf("%s \"%s\"", noun, table_name);
	draft->table_name = table_name;
	draft->stream = stream;
	cs_stream_touch(stream);
	cs_stream_check_events(stream);
	table = check_existing(draft, kind, if_not_exists);
	if (OidIsValid(table))
		return table;
	if (kind != CS_KIND_EVENT_LOG)
		cs_live_view_check(table_name, draft->what);
	cs_definitions_prune(stream->stream_id);
	draft->def.definition_id = cs_catalog_next_id("definition", "definition_id");
	draft->def.stream_id = stream->stream_id;
	draft->def.kind = kind;
	draft->def.name = table_name;
	draft->def.max_length = -1;
	draft->def.retention = -1;
	draft->def.group_limit = CS_GROUP_LIMIT_DEFAULT;
	draft->def.emit = CS_EMIT_CLOSED;
	draft->backfill_from = CS_WM_NONE;
	return InvalidOid;
}

void
cs_draft_backfill(CsDraft *draft, FunctionCallInfo fcinfo, int backfill, int backfill_from)
{
	draft->backfill = cs_arg_bool(fcinfo, backfill, false);
	if (PG_ARGISNULL(backfill_from))
		return;
	if (!draft->backfill)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("backfill_from has no meaning without backfill"),
				 errhint("Say backfill => true as well, or leave backfill_from out.")));
	draft->backfill_from = PG_GETARG_TIMESTAMPTZ(backfill_from);
	if (TIMESTAMP_NOT_FINITE(draft->backfill_from))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("backfill_from must be finite"),
						errhint("Leave it out to have all that there is.")));
}

void
cs_draft_value(CsDraft *draft, CsValue value)
{
	Assert(draft->nvalues < CS_MAX_VALUES - 7);
	draft->values[draft->nvalues++] = value;
}

char *
cs_draft_view_name(const CsDraft *draft)
{
	return psprintf("definition_%d_view", draft->def.definition_id);
}

void
cs_draft_emit(CsDraft *draft, char *emit, const char *otherwise, Interval *emit_interval)
{
	static const char *const words[] = {"changes", "closed", NULL};

	draft->emit = emit ? emit : otherwise;
	cs_check_word(draft->emit, "emit", words);
	draft->def.emit = strcmp(draft->emit, "changes") == 0 ? CS_EMIT_CHANGES : CS_EMIT_CLOSED;
	draft->def.emit_interval = cs_span(emit_interval, "emit_interval", 0, USECS_PER_DAY);
	cs_draft_value(draft, cs_value_text("emit", draft->emit));
	cs_draft_value(draft, cs_value_interval("emit_interval", emit_interval));
}

/* What a column of the result table holds. */
static char *
column_comment(const CsDraft *draft, CsView *view, const char *name)
{
	size_t len = strlen(name);
	char  *text = cs_view_column_text(view, name);

	if (text != NULL)
		return text;
	for (int i = 0; i < lengthof(column_comments); i++)
		if (strcmp(column_comments[i].name, name) == 0)
			return pstrdup(column_comments[i].comment);
	if (draft->def.kind == CS_KIND_FUNNEL && len > 5)
		return psprintf("time of step %.*s", (int) len - 5, name);
	return NULL;
}

/* The operator's columns, as a table has them. */
static CsResultColumn *
result_columns(const CsDraft *draft, CsView *view, const CsOperator *op)
{
	CsResultColumn *columns = palloc0(op->ncolumns * sizeof(CsResultColumn));

	for (int i = 0; i < op->ncolumns; i++)
	{
		const CsColumn *c = &op->columns[i];

		columns[i].name = c->name;
		columns[i].type = c->type;
		columns[i].typmod = c->typmod;
		columns[i].collation = c->collation;
		columns[i].is_key = c->is_key;
		columns[i].comment = column_comment(draft, view, c->name);
	}
	return columns;
}

/* Compile as the worker will, with the owner's rights; raises for what cannot be computed. */
static CsOperator *
compile(const CsDraft *draft)
{
	const CsOperatorOps *ops = cs_operator_ops(draft->def.kind);
	CsIdentity			 saved;
	CsOperator			*op;

	cs_identity_enter(&saved, draft->stream->owner, true);
	op = ops->create(draft->stream, &draft->def, CurrentMemoryContext);
	cs_identity_leave(&saved);
	return op;
}

void
cs_draft_insert(CsDraft *draft, Oid table)
{
	cs_draft_value(draft, cs_value_int("definition_id", draft->def.definition_id));
	cs_draft_value(draft, cs_value_int("stream_id", draft->def.stream_id));
	cs_draft_value(draft, cs_value_char("kind", (char) draft->def.kind));
	cs_draft_value(draft, cs_value_oid("table_oid", REGCLASSOID, table));
	cs_draft_value(draft, cs_value_oid("view_oid", REGCLASSOID, draft->def.view));
	cs_draft_value(draft, cs_value_oid("live_view", REGCLASSOID, draft->def.live_view));
	cs_catalog_insert("definition", draft->values, draft->nvalues);
	cs_worker_wake(draft->stream->stream_id);
}

/* NULL: it has none. */
static const CsDefinition *
event_log_of(const CsDraft *draft)
{
	ListCell *cell;

	foreach(cell, cs_definitions_load(draft->stream->stream_id, CurrentMemoryContext))
	{
		const CsDefinition *other = lfirst(cell);

		if (other->kind == CS_KIND_EVENT_LOG)
			return other;
	}
	return NULL;
}

/* It is to have what was before it: of events the log's, or else the topic's; of rows those of its source. */
static void
begin_backfill(const CsDraft *draft)
{
	const CsDefinition *def = &draft->def;
	Oid					owner = draft->stream->owner;
	const CsDefinition *log = def->kind == CS_KIND_ROLLUP ? NULL : event_log_of(draft);

	if (def->kind == CS_KIND_ROLLUP)
		cs_backfill_insert(def->stream_id, def->definition_id, cs_backfill_count_rows(draft->source, owner), NULL,
						   CS_WM_NONE);
	else if (log)
		cs_backfill_insert(def->stream_id, def->definition_id,
						   cs_backfill_count_events(log->table, owner, draft->backfill_from), log,
						   draft->backfill_from);
	else
		cs_backfill_insert_topic(def->stream_id, def->definition_id, draft->backfill_from);
}

static CsRewriting
rewriting(const CsDefinition *def)
{
	if (def->emit == CS_EMIT_CHANGES)
		return CS_REWRITING_EACH;
	return def->lateness > 0 ? CS_REWRITING_LATE : CS_REWRITING_NEVER;
}

Oid
cs_draft_finish(CsDraft *draft, CsView *view)
{
	CsOperator	   *op;
	CsResultColumn *columns;
	Oid				table;

	draft->def.view = cs_view_create(view, cs_draft_view_name(draft), draft->stream->owner);
	op = compile(draft);
	columns = result_columns(draft, view, op);
	table = cs_result_table(draft->table_name, draft->stream->owner,
							psprintf("%s of stream %s", draft->noun, draft->stream->name), columns, op->ncolumns,
							rewriting(&draft->def));
	cs_view_end(view);
	draft->def.live_view = cs_live_view_create(table, draft->stream->owner, columns, op->ncolumns);
	cs_draft_insert(draft, table);
	if (draft->backfill)
		begin_backfill(draft);
	return table;
}

/* The touch waits for whoever changes the stream, and he may have dropped the definition. */
CsStream *
cs_definition_stream(const CsDefinition *def)
{
	CsStream *stream = cs_stream_load_by_id(def->stream_id, CurrentMemoryContext);

	cs_stream_touch(stream);
	cs_definitions_prune(stream->stream_id);
	if (cs_definition_find(def->table, CurrentMemoryContext) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%s was dropped at this moment", def->name)));
	return stream;
}

/* Raise if a rollup reads the definition. */
static void
check_not_source(const CsDefinition *def)
{
	ListCell *cell;

	foreach(cell, cs_definitions_load(def->stream_id, CurrentMemoryContext))
	{
		CsDefinition *other = lfirst(cell);

		if (other->source_id == def->definition_id)
			ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
							errmsg("cannot drop %s because rollup %s reads it", def->name, other->name),
							errhint("Drop the rollup first.")));
	}
}

/* Raise if the log's history is yet wanted. */
static void
check_not_filling(const CsDefinition *log)
{
	ListCell	  *cell;
	int			   n;
	CsBackfillRow *rows = cs_backfills_load(log->stream_id, &n);

	foreach(cell, cs_definitions_load(log->stream_id, CurrentMemoryContext))
	{
		CsDefinition *other = lfirst(cell);

		for (int i = 0; i < n; i++)
			if (rows[i].definition_id == other->definition_id && rows[i].log_id == log->definition_id)
				ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
								errmsg("cannot drop %s because %s is being filled from it", log->name, other->name),
								errhint("Wait until view clickstream.stat_progress does not show it any more, or drop "
										"that first.")));
	}
}

void
cs_definition_drop(const CsDefinition *def)
{
	check_not_source(def);
	if (def->kind == CS_KIND_EVENT_LOG)
		check_not_filling(def);
	cs_worker_hold(def->stream_id);
	cs_sinks_drop_of(def->stream_id, def->definition_id);
	cs_relation_drop(def->view);
	cs_live_view_drop(def->live_view, def->table);
	cs_relation_drop(def->table);
	cs_catalog_delete("late_event_data", "definition_id", def->definition_id);
	cs_catalog_delete("trimmed_letter", "definition_id", def->definition_id);
	cs_backfill_delete(def->stream_id, def->definition_id);
	cs_catalog_delete("definition", "definition_id", def->definition_id);
}

/* As its functions are called: create_session() and so on. */
static const char *
function_noun(CsKind kind)
{
	switch (kind)
	{
		case CS_KIND_SESSION:
			return "session";
		case CS_KIND_WINDOW:
			return "window";
		case CS_KIND_FUNNEL:
			return "funnel";
		case CS_KIND_ROLLUP:
			return "rollup";
		case CS_KIND_EVENT_LOG:
			break;
	}
	return "event_log";
}

static CsDefinition *
definition_of_kind(Oid table, CsKind kind, const char *noun)
{
	CsDefinition *def = cs_definition_load_by_table(table, CurrentMemoryContext);

	if (def->kind != kind)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a %s", get_rel_name(table), noun),
						errhint("It was made by clickstream.create_%1$s(): alter_%1$s() and drop_%1$s() are for it.",
								function_noun(def->kind))));
	return def;
}

CsDefinition *
cs_definition_argument(FunctionCallInfo fcinfo, CsKind kind, const char *noun)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("name must be given")));
	return definition_of_kind(PG_GETARG_OID(0), kind, noun);
}

/* The definition of that name, its stream touched, looked up again after that as above; NULL: there is none. */
static CsDefinition *
lock_by_name(const char *name, CsKind kind, const char *noun)
{
	int32 touched = 0; /* no stream has this number */
	Oid	  table;

	while (OidIsValid(table = cs_relation_find(name)))
	{
		CsDefinition *def = definition_of_kind(table, kind, noun);
		CsStream	 *stream;

		if (def->stream_id == touched)
			return def;
		stream = cs_stream_find_by_id(def->stream_id, CurrentMemoryContext);
		if (stream == NULL || !cs_stream_try_touch(stream))
		{
			AcceptInvalidationMessages(); /* the name goes with the stream */
			continue;
		}
		touched = cs_stream_load_by_id(def->stream_id, CurrentMemoryContext)->stream_id; /* raises if it is broken */
		cs_definitions_prune(touched);
	}
	return NULL;
}

Datum
cs_drop_by_name(FunctionCallInfo fcinfo, CsKind kind, const char *noun)
{
	char		 *name = cs_arg_required(fcinfo, 0, "name");
	CsDefinition *def = lock_by_name(name, kind, noun);

	if (def)
		cs_definition_drop(def);
	else if (cs_arg_bool(fcinfo, 1, false))
		ereport(NOTICE, (errmsg("%s \"%s\" does not exist, skipping", noun, name)));
	else
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%s \"%s\" does not exist", noun, name),
						errhint("View clickstream.stat_definition lists the definitions that there are.")));
	PG_RETURN_VOID();
}

void
cs_refuse_change(FunctionCallInfo fcinfo, int i, const char *name, const char *noun)
{
	if (PG_ARGISNULL(i))
		return;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s of a %s cannot be changed", name, noun),
					errdetail("What is kept and what is counted so far would mean something else."),
					errhint("Drop the %s and make it again.", noun)));
}

/* What it said of the history gone through it so far would not hold for the rest. */
static void
refuse_filling(const CsDefinition *def)
{
	int			   n;
	CsBackfillRow *rows = cs_backfills_load(def->stream_id, &n);

	for (int i = 0; i < n; i++)
		if (rows[i].definition_id == def->definition_id)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("cannot alter %s because it is being filled with history", def->name),
							errhint("Wait until view clickstream.stat_progress does not show it any more, or drop it "
									"and make it again.")));
}

static void
set_columns(const CsDefinition *def, const CsValue *values, int n)
{
	if (n > 0)
		cs_catalog_update("definition", "definition_id", def->definition_id, values, n);
	cs_worker_wake(def->stream_id);
}

void
cs_definition_set(const CsDefinition *def, const CsValue *values, int n)
{
	(void) cs_definition_stream(def);
	set_columns(def, values, n);
}

void
cs_definition_alter(const CsDefinition *def, const CsValue *values, int n)
{
	(void) cs_definition_stream(def);
	if (n > 0)
		refuse_filling(def);
	set_columns(def, values, n);
}
