/*
 * api/session.c
 *	  create_session, alter_session, drop_session.
 */
#include "api/define.h"

PG_FUNCTION_INFO_V1(clickstream_create_session);
PG_FUNCTION_INFO_V1(clickstream_alter_session);
PG_FUNCTION_INFO_V1(clickstream_drop_session);

/* Arguments of create_session(), in order. */
enum
{
	A_NAME,
	A_STREAM,
	A_GAP,
	A_MEASURES,
	A_KEY,
	A_FILTER,
	A_MAX_LENGTH,
	A_IF_NOT_EXISTS
};

static const char *const reserved[] = {"session_id", "session_start", "session_end", "closed_reason",
									   "is_final",	 "revision",	  NULL};

/* Every session table has this measure, whatever else is asked for. */
#define DURATION_COLUMN "session_duration_seconds"
#define DURATION "trunc(extract(epoch FROM max(e.event_time) - min(e.event_time)))::pg_catalog.int8"

static void
fill(FunctionCallInfo fcinfo, CsDraft *draft)
{
	Interval *gap = cs_arg_required_interval(fcinfo, A_GAP, "gap");
	Interval *max_length = cs_arg_interval(fcinfo, A_MAX_LENGTH);

	draft->def.gap = cs_span(gap, "gap", 1, CS_WITHIN_MAX);
	if (max_length != NULL)
		draft->def.max_length = cs_span(max_length, "max_length", 1, CS_WITHIN_MAX);
	cs_draft_value(draft, cs_value_interval("gap", gap));
	cs_draft_value(draft, cs_value_interval("max_length", max_length));
	cs_draft_value(draft, cs_value_text("measures", cs_arg_text(fcinfo, A_MEASURES)));
	cs_draft_value(draft, cs_value_text("key", cs_arg_text(fcinfo, A_KEY)));
	cs_draft_value(draft, cs_value_text("filter", cs_arg_text(fcinfo, A_FILTER)));
	cs_draft_value(draft, cs_value_text("start_column", "session_start"));
}

Datum
clickstream_create_session(PG_FUNCTION_ARGS)
{
	char	 *name = cs_arg_required(fcinfo, A_NAME, "name");
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, A_STREAM, "stream"), CurrentMemoryContext);
	char	 *key = cs_arg_text(fcinfo, A_KEY);
	CsDraft	  draft;
	CsView	 *view;
	Oid		  table =
		cs_draft_begin(&draft, CS_KIND_SESSION, "session", name, stream, cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false));

	if (OidIsValid(table))
		PG_RETURN_OID(table);
	fill(fcinfo, &draft);
	view = cs_view_begin(draft.what, psprintf("SELECT FROM " CS_SCHEMA ".event_%d e", stream->stream_id), reserved, 0);
	cs_view_add_text(view, "key", key ? key : "effective_user_id", NULL, "effective_user_id", true);
	cs_view_add_list(view, "measures", cs_arg_required(fcinfo, A_MEASURES, "measures"), false);
	if (!cs_view_has_column(view, DURATION_COLUMN))
		cs_view_add_value(view, NULL, DURATION, DURATION_COLUMN);
	cs_view_add_filter(view, "filter", cs_arg_text(fcinfo, A_FILTER));
	PG_RETURN_OID(cs_draft_finish(&draft, view));
}

Datum
clickstream_alter_session(PG_FUNCTION_ARGS)
{
	CsDefinition *def = cs_definition_of_kind(PG_GETARG_OID(0), CS_KIND_SESSION, "session");

	cs_refuse_change(fcinfo, 1, "gap", "session");
	cs_refuse_change(fcinfo, 2, "measures", "session");
	cs_refuse_change(fcinfo, 3, "key", "session");
	cs_refuse_change(fcinfo, 4, "filter", "session");
	cs_refuse_change(fcinfo, 5, "max_length", "session");
	cs_definition_alter(def, NULL, 0);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_session(PG_FUNCTION_ARGS)
{
	return cs_drop_by_name(fcinfo, CS_KIND_SESSION, "session");
}
