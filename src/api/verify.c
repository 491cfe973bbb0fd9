/*
 * api/verify.c
 *	  What SQL function verify() is made of: a definition's rows made again.
 *
 *	recompute()			final rows of a session, window or funnel, from the event log
 *	recompute_border()	from which start on it can
 *	result_columns()	a definition's columns, and what each is for
 *	view_over()			a view over other rows: rollups over their source table
 *
 * All under the query's snapshot, so that table, log and watermark agree while the
 * stream runs; nothing is locked or written.  Rows are shown to who may SELECT the
 * result table or is a member of the stream's owner.  recompute() reads the log and
 * runs expressions as the owner; view_over() does where the caller has the
 * owner's rights, and otherwise as the caller: see core/bound_view.h.
 */
#include "postgres.h"

#include "core/backfill.h"
#include "core/bound_view.h"
#include "core/definition.h"
#include "engine/recompute.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(clickstream_recompute);
PG_FUNCTION_INFO_V1(clickstream_recompute_border);
PG_FUNCTION_INFO_V1(clickstream_result_columns);
PG_FUNCTION_INFO_V1(clickstream_view_over);

static void
begin(void)
{
	PushActiveSnapshot(GetActiveSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
}

static const CsHost host = {.begin = begin, .commit = commit};

static CsDefinition *
readable_definition(Oid table)
{
	CsDefinition *def = cs_definition_load_by_table(table, CurrentMemoryContext);
	CsStream	 *stream = cs_stream_load_by_id(def->stream_id, CurrentMemoryContext);

	if (pg_class_aclcheck(table, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		!has_privs_of_role(GetUserId(), stream->owner))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(table));
	if (def->kind == CS_KIND_EVENT_LOG)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is an event log", get_rel_name(def->table)),
						errhint("Name the table of a session, window, funnel or rollup.")));
	return def;
}

/* ---- rows made again ---- */

typedef struct Rows
{
	ReturnSetInfo *result;
	int			  *sources; /* of each column of the result: the operator's */
	Datum		  *values;
	bool		  *isnull;
} Rows;

static int
find_column(const CsOperator *op, const char *name)
{
	for (int i = 0; i < op->ncolumns; i++)
	{
		if (strcmp(op->columns[i].name, name) == 0)
			return i;
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("the definition of table \"%s\" has no column \"%s\"", get_rel_name(op->def->table), name)));
}

static void
map_columns(const CsOperator *op, void *arg)
{
	Rows	 *r = arg;
	TupleDesc desc = r->result->setDesc;

	r->sources = palloc(desc->natts * sizeof(int));
	r->values = palloc(desc->natts * sizeof(Datum));
	r->isnull = palloc(desc->natts * sizeof(bool));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		r->sources[i] = find_column(op, NameStr(att->attname));
		if (op->columns[r->sources[i]].type != att->atttypid)
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("column \"%s\" is of type %s", NameStr(att->attname),
								   format_type_be(op->columns[r->sources[i]].type)),
							errdetail("The column list asks for %s.", format_type_be(att->atttypid))));
	}
}

static void
put_row(const Datum *values, const bool *isnull, void *arg)
{
	Rows *r = arg;

	for (int i = 0; i < r->result->setDesc->natts; i++)
	{
		r->values[i] = values[r->sources[i]];
		r->isnull[i] = isnull[r->sources[i]];
	}
	tuplestore_putvalues(r->result->setResult, r->result->setDesc, r->values, r->isnull);
}

/* recompute(t regclass, start_time timestamptz, end_time timestamptz) AS (...) */
Datum
clickstream_recompute(PG_FUNCTION_ARGS)
{
	CsDefinition *def = readable_definition(PG_GETARG_OID(0));
	TimestampTz	  from = PG_ARGISNULL(1) ? CS_WM_NONE : PG_GETARG_TIMESTAMPTZ(1);
	TimestampTz	  to = PG_ARGISNULL(2) ? CS_WM_DONE : PG_GETARG_TIMESTAMPTZ(2);
	Rows		  rows = {0};

	if (def->kind == CS_KIND_ROLLUP)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is made of rows, not of events", get_rel_name(def->table))));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	rows.result = (ReturnSetInfo *) fcinfo->resultinfo;
	cs_engine_recompute(def->stream_id, &host, def->table, from, to, map_columns, put_row, &rows);
	return (Datum) 0;
}

/* Of others the engine says it. */
static void
refuse_filling(const CsDefinition *def)
{
	int			   n;
	CsBackfillRow *rows = cs_backfills_load(def->stream_id, &n);

	for (int i = 0; i < n; i++)
	{
		if (rows[i].definition_id == def->definition_id)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("\"%s\" is still being filled with history", get_rel_name(def->table)),
							errhint("View clickstream.stat_progress shows how far it is.")));
	}
}

/* Of a rollup: what retention may have deleted of it and of its source. */
static TimestampTz
rollup_border(const CsDefinition *def)
{
	TimestampTz border = def->deleted_before;
	ListCell   *lc;

	foreach(lc, cs_definitions_load(def->stream_id, CurrentMemoryContext))
	{
		CsDefinition *other = lfirst(lc);

		if (other->definition_id == def->source_id)
			border = Max(border, other->deleted_before);
	}
	return border;
}

Datum
clickstream_recompute_border(PG_FUNCTION_ARGS)
{
	CsDefinition *def = readable_definition(PG_GETARG_OID(0));
	TimestampTz	  border;

	if (def->kind == CS_KIND_ROLLUP)
	{
		refuse_filling(def);
		border = rollup_border(def);
	}
	else
		border = cs_engine_recompute_border(def->stream_id, &host, def->table);
	PG_RETURN_TIMESTAMPTZ(border);
}

/* ---- columns ---- */

enum
{
	COL_NAME,
	COL_TYPE,
	COL_ROLE,
	COLUMNS
};

Datum
clickstream_result_columns(PG_FUNCTION_ARGS)
{
	CsDefinition  *def = readable_definition(PG_GETARG_OID(0));
	CsStream	  *stream = cs_stream_load_by_id(def->stream_id, CurrentMemoryContext);
	CsOperator	  *op = cs_operator_ops(def->kind)->create(stream, def, CurrentMemoryContext);
	bool		   by_window = def->kind == CS_KIND_WINDOW || def->kind == CS_KIND_ROLLUP;
	ReturnSetInfo *result;
	CsQueryParts   parts;

	cs_query_parts(def, &parts);
	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	for (int i = 0; i < op->ncolumns; i++)
	{
		const CsColumn *column = &op->columns[i];
		bool			is_group = by_window && i >= 2 && i < 2 + list_length(parts.groups);
		Datum			values[COLUMNS];
		bool			isnull[COLUMNS] = {false};

		values[COL_NAME] = CStringGetTextDatum(column->name);
		values[COL_TYPE] = CStringGetTextDatum(
			format_type_extended(column->type, column->typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
		values[COL_ROLE] = CStringGetTextDatum(column->is_key ? "key" : is_group ? "group" : "value");
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/* ---- views ---- */

/* view_over(view regclass, rows text) AS (...) */
Datum
clickstream_view_over(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	cs_bound_view_run(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), result->setDesc, result->setResult);
	return (Datum) 0;
}
