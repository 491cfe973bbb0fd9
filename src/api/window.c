/*
 * api/window.c
 *	  create_window, alter_window, drop_window: tumbling and hopping.
 */
#include "api/define.h"
#include "api/frame.h"

PG_FUNCTION_INFO_V1(clickstream_create_window);
PG_FUNCTION_INFO_V1(clickstream_alter_window);
PG_FUNCTION_INFO_V1(clickstream_drop_window);

/* Most windows that one event can lie in. */
#define SLIDES_MAX 10000

/* Arguments of create_window(), in order. */
enum
{
	A_NAME,
	A_STREAM,
	A_SIZE,
	A_MEASURES,
	A_SLIDE,
	A_GROUP_BY,
	A_FILTER,
	A_ORIGIN,
	A_EMIT,
	A_EMIT_INTERVAL,
	A_GROUP_LIMIT,
	A_IF_NOT_EXISTS
};

/* Size and slide, and that they fit. */
static void
fill_times(FunctionCallInfo fcinfo, CsDraft *draft)
{
	Interval	 *size = cs_arg_required_interval(fcinfo, A_SIZE, "size");
	Interval	 *slide = PG_ARGISNULL(A_SLIDE) ? size : PG_GETARG_INTERVAL_P(A_SLIDE);
	CsDefinition *def = &draft->def;

	def->size = cs_span(size, "size", CS_SIZE_MIN, CS_SIZE_MAX);
	def->slide = cs_span(slide, "slide", CS_SIZE_MIN, CS_SIZE_MAX);
	cs_check_milliseconds(def->size, "size");
	cs_check_milliseconds(def->slide, "slide");
	if (def->slide > def->size || def->size % def->slide != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("slide must divide size"),
						errhint("Give a size that is a whole number of slides, such as size => '15 minutes', "
								"slide => '1 minute'.")));
	if (def->size / def->slide > SLIDES_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("slide is too short for this size"),
						errdetail("Each event would lie in " INT64_FORMAT " windows; the most is %d.",
								  def->size / def->slide, SLIDES_MAX)));
	def->origin = cs_arg_origin(fcinfo, A_ORIGIN);
	cs_draft_value(draft, cs_value_interval("size", size));
	cs_draft_value(draft, cs_value_interval("slide", slide));
	cs_draft_value(draft, cs_value_time("origin", &def->origin));
}

static int64
group_limit(FunctionCallInfo fcinfo, int i)
{
	int64 limit = PG_GETARG_INT64(i);

	if (limit < 1 || limit > INT64CONST(1000000000))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("group_limit must be from 1 to 1000000000")));
	return limit;
}

static void
fill(FunctionCallInfo fcinfo, CsDraft *draft)
{
	CsDefinition *def = &draft->def;

	fill_times(fcinfo, draft);
	cs_draft_emit(draft, cs_arg_text(fcinfo, A_EMIT), def->slide == def->size ? "changes" : "closed",
				  cs_arg_required_interval(fcinfo, A_EMIT_INTERVAL, "emit_interval"));
	if (!PG_ARGISNULL(A_GROUP_LIMIT))
		def->group_limit = group_limit(fcinfo, A_GROUP_LIMIT);
	cs_draft_value(draft, cs_value_bigint("group_limit", def->group_limit));
	cs_draft_value(draft, cs_value_text("measures", cs_arg_text(fcinfo, A_MEASURES)));
	cs_draft_value(draft, cs_value_text("group_by", cs_arg_text(fcinfo, A_GROUP_BY)));
	cs_draft_value(draft, cs_value_text("filter", cs_arg_text(fcinfo, A_FILTER)));
	cs_draft_value(draft, cs_value_text("start_column", "window_start"));
}

Datum
clickstream_create_window(PG_FUNCTION_ARGS)
{
	char	 *name = cs_arg_required(fcinfo, A_NAME, "name");
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, A_STREAM, "stream"), CurrentMemoryContext);
	CsDraft	  draft;
	CsView	 *view;
	Oid		  table =
		cs_draft_begin(&draft, CS_KIND_WINDOW, "window", name, stream, cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false));

	if (OidIsValid(table))
		PG_RETURN_OID(table);
	fill(fcinfo, &draft);
	view = cs_window_view_begin(&draft, psprintf(CS_SCHEMA ".event_%d", stream->stream_id), "event_time", "", 0);
	cs_window_view_add(view, cs_arg_text(fcinfo, A_GROUP_BY), cs_arg_required(fcinfo, A_MEASURES, "measures"),
					   cs_arg_text(fcinfo, A_FILTER));
	PG_RETURN_OID(cs_draft_finish(&draft, view));
}

Datum
clickstream_alter_window(PG_FUNCTION_ARGS)
{
	CsDefinition *def = cs_definition_of_kind(PG_GETARG_OID(0), CS_KIND_WINDOW, "window");
	CsValue		  values[2];
	int			  n = 0;

	if (!PG_ARGISNULL(1))
	{
		cs_span(PG_GETARG_INTERVAL_P(1), "emit_interval", 0, USECS_PER_DAY);
		values[n++] = cs_value_interval("emit_interval", PG_GETARG_INTERVAL_P(1));
	}
	if (!PG_ARGISNULL(2))
		values[n++] = cs_value_bigint("group_limit", group_limit(fcinfo, 2));
	cs_refuse_change(fcinfo, 3, "size", "window");
	cs_refuse_change(fcinfo, 4, "slide", "window");
	cs_refuse_change(fcinfo, 5, "measures", "window");
	cs_refuse_change(fcinfo, 6, "group_by", "window");
	cs_refuse_change(fcinfo, 7, "filter", "window");
	cs_refuse_change(fcinfo, 8, "emit", "window");
	cs_definition_alter(def, values, n);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_window(PG_FUNCTION_ARGS)
{
	return cs_drop_by_name(fcinfo, CS_KIND_WINDOW, "window");
}
