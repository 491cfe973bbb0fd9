/*
 * api/rollup.c
 *	  create_rollup, alter_rollup, drop_rollup: closed sessions or attempts,
 *	  counted by the time they started.
 */
#include "api/define.h"
#include "api/frame.h"

#include "core/ddl.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(clickstream_create_rollup);
PG_FUNCTION_INFO_V1(clickstream_alter_rollup);
PG_FUNCTION_INFO_V1(clickstream_drop_rollup);

/* Arguments of create_rollup(), in order. */
enum
{
	A_NAME,
	A_SOURCE,
	A_SIZE,
	A_MEASURES,
	A_GROUP_BY,
	A_FILTER,
	A_ORIGIN,
	A_EMIT,
	A_EMIT_INTERVAL,
	A_IF_NOT_EXISTS,
	A_BACKFILL
};

/* What is rolled up must have rows that close. */
static CsDefinition *
source_definition(FunctionCallInfo fcinfo)
{
	CsDefinition *source;

	if (PG_ARGISNULL(A_SOURCE))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("source must be given")));
	source = cs_definition_load_by_table(PG_GETARG_OID(A_SOURCE), CurrentMemoryContext);
	if (source->kind != CS_KIND_SESSION && source->kind != CS_KIND_FUNNEL)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("a rollup cannot read %s", source->name),
						errhint("A rollup reads the table of a session or a funnel.")));
	return source;
}

static void
fill(FunctionCallInfo fcinfo, CsDraft *draft, const CsDefinition *source)
{
	CsDefinition *def = &draft->def;
	Interval	 *size = cs_arg_required_interval(fcinfo, A_SIZE, "size");

	def->size = cs_span(size, "size", CS_SIZE_MIN, CS_SIZE_MAX);
	cs_check_milliseconds(def->size, "size");
	def->slide = def->size;
	def->origin = cs_arg_origin(fcinfo, A_ORIGIN);
	def->source_id = source->definition_id;
	def->start_column = source->kind == CS_KIND_SESSION ? "session_start" : "started_at";
	cs_draft_emit(draft, cs_arg_text(fcinfo, A_EMIT), "changes",
				  cs_arg_required_interval(fcinfo, A_EMIT_INTERVAL, "emit_interval"));
	cs_draft_value(draft, cs_value_interval("size", size));
	cs_draft_value(draft, cs_value_time("origin", &def->origin));
	cs_draft_value(draft, cs_value_int("source_id", def->source_id));
	cs_draft_value(draft, cs_value_text("start_column", def->start_column));
	cs_draft_value(draft, cs_value_text("measures", cs_arg_text(fcinfo, A_MEASURES)));
	cs_draft_value(draft, cs_value_text("group_by", cs_arg_text(fcinfo, A_GROUP_BY)));
	cs_draft_value(draft, cs_value_text("filter", cs_arg_text(fcinfo, A_FILTER)));
}

Datum
clickstream_create_rollup(PG_FUNCTION_ARGS)
{
	char		 *name = cs_arg_required(fcinfo, A_NAME, "name");
	CsDefinition *source = source_definition(fcinfo);
	CsStream	 *stream = cs_definition_stream(source);
	CsDraft		  draft;
	CsView		 *view;
	Oid			  table =
		cs_draft_begin(&draft, CS_KIND_ROLLUP, "rollup", name, stream, cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false));

	if (OidIsValid(table))
		PG_RETURN_OID(table);
	draft.backfill = cs_arg_bool(fcinfo, A_BACKFILL, false);
	draft.source = source->table;
	fill(fcinfo, &draft, source);
	view = cs_window_view_begin(&draft, cs_relation_name(source->table), quote_identifier(draft.def.start_column),
								" WHERE e.closed_reason IS NOT NULL", CS_VIEW_NO_PLACE);
	cs_window_view_add(view, cs_arg_text(fcinfo, A_GROUP_BY), cs_arg_required(fcinfo, A_MEASURES, "measures"),
					   cs_arg_text(fcinfo, A_FILTER));
	table = cs_draft_finish(&draft, view);
	cs_index_column(source->table, draft.def.start_column, stream->owner);
	PG_RETURN_OID(table);
}

Datum
clickstream_alter_rollup(PG_FUNCTION_ARGS)
{
	CsDefinition *def = cs_definition_argument(fcinfo, CS_KIND_ROLLUP, "rollup");
	CsValue		  value;

	if (!PG_ARGISNULL(1))
	{
		cs_span(PG_GETARG_INTERVAL_P(1), "emit_interval", 0, USECS_PER_DAY);
		value = cs_value_interval("emit_interval", PG_GETARG_INTERVAL_P(1));
	}
	cs_refuse_change(fcinfo, 2, "size", "rollup");
	cs_refuse_change(fcinfo, 3, "measures", "rollup");
	cs_refuse_change(fcinfo, 4, "group_by", "rollup");
	cs_refuse_change(fcinfo, 5, "filter", "rollup");
	cs_refuse_change(fcinfo, 6, "emit", "rollup");
	cs_definition_alter(def, &value, PG_ARGISNULL(1) ? 0 : 1);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_rollup(PG_FUNCTION_ARGS)
{
	return cs_drop_by_name(fcinfo, CS_KIND_ROLLUP, "rollup");
}
