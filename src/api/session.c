/*
 * api/session.c
 *	  create_session, alter_session, drop_session.
 */
#include "operator/session.h"
#include "api/define.h"
#include "core/local_day.h"

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
	A_SPLIT_ON,
	A_END_WHEN,
	A_SPLIT_AT_MIDNIGHT,
	A_TIME_ZONE,
	A_ALLOWED_LATENESS,
	A_EMIT,
	A_EMIT_INTERVAL,
	A_IF_NOT_EXISTS,
	A_BACKFILL,
	A_BACKFILL_FROM
};

static const char *const reserved[] = {"session_id", "session_start", "session_end", "closed_reason",
									   "is_final",	 "revision",	  NULL};

/* Every session table has this measure, whatever else is asked for. */
#define DURATION_COLUMN "session_duration_seconds"
#define DURATION "trunc(extract(epoch FROM max(e.event_time) - min(e.event_time)))::pg_catalog.int8"

/* The time zone whose midnights split, or NULL: the one given, else that of the stream. */
static char *
midnight_zone(FunctionCallInfo fcinfo, const CsStream *stream)
{
	char *zone = cs_arg_text(fcinfo, A_TIME_ZONE);

	if (!cs_arg_bool(fcinfo, A_SPLIT_AT_MIDNIGHT, false))
	{
		if (zone != NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("time_zone has no meaning without split_at_midnight"),
							errhint("Say split_at_midnight => true as well, or leave time_zone out.")));
		return NULL;
	}
	if (zone == NULL)
		zone = stream->time_zone;
	if (cs_time_zone(zone) == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("time zone \"%s\" does not exist", zone),
						errhint("Names of time zones are in pg_timezone_names, for example 'Europe/Vienna'.")));
	return zone;
}

static void
fill_texts(FunctionCallInfo fcinfo, CsDraft *draft)
{
	cs_draft_value(draft, cs_value_text("measures", cs_arg_text(fcinfo, A_MEASURES)));
	cs_draft_value(draft, cs_value_text("key", cs_arg_text(fcinfo, A_KEY)));
	cs_draft_value(draft, cs_value_text("filter", cs_arg_text(fcinfo, A_FILTER)));
	cs_draft_value(draft, cs_value_text("split_on", cs_arg_text(fcinfo, A_SPLIT_ON)));
	cs_draft_value(draft, cs_value_text("end_when", cs_arg_text(fcinfo, A_END_WHEN)));
	cs_draft_value(draft, cs_value_text("start_column", "session_start"));
}

static void
fill(FunctionCallInfo fcinfo, CsDraft *draft)
{
	Interval *gap = cs_arg_required_interval(fcinfo, A_GAP, "gap");
	Interval *max_length = cs_arg_interval(fcinfo, A_MAX_LENGTH);
	Interval *lateness = cs_arg_interval(fcinfo, A_ALLOWED_LATENESS);

	draft->def.gap = cs_span(gap, "gap", 1, CS_WITHIN_MAX);
	if (max_length != NULL)
		draft->def.max_length = cs_span(max_length, "max_length", 1, CS_WITHIN_MAX);
	if (lateness != NULL)
		draft->def.lateness = cs_span(lateness, "allowed_lateness", 0, CS_WITHIN_MAX);
	draft->def.time_zone = midnight_zone(fcinfo, draft->stream);
	cs_draft_emit(draft, cs_arg_text(fcinfo, A_EMIT), "closed",
				  cs_arg_required_interval(fcinfo, A_EMIT_INTERVAL, "emit_interval"));
	cs_draft_value(draft, cs_value_interval("gap", gap));
	cs_draft_value(draft, cs_value_interval("max_length", max_length));
	cs_draft_value(draft, cs_value_interval("allowed_lateness", lateness));
	cs_draft_value(draft, cs_value_text("time_zone", draft->def.time_zone));
	fill_texts(fcinfo, draft);
}

/* What cuts: group columns of the view, beside the key. */
static void
add_cuts(CsView *view, const char *split_on, const char *end_when)
{
	int n = 1;

	if (split_on)
	{
		cs_view_add_value(view, "split_on", split_on, CS_SESSION_SPLIT_COLUMN);
		cs_view_group_by(view, ++n);
	}
	if (end_when)
	{
		cs_view_add_boolean(view, "end_when", end_when, CS_SESSION_END_COLUMN);
		cs_view_group_by(view, ++n);
	}
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
	cs_draft_backfill(&draft, fcinfo, A_BACKFILL, A_BACKFILL_FROM);
	fill(fcinfo, &draft);
	view = cs_view_begin(draft.what, psprintf("SELECT FROM " CS_SCHEMA ".event_%d e", stream->stream_id), reserved, 0);
	cs_view_use_lookups(view, cs_lookups_load(stream, CurrentMemoryContext));
	cs_view_add_key(view, "key", key ? key : "effective_user_id", "effective_user_id");
	add_cuts(view, cs_arg_text(fcinfo, A_SPLIT_ON), cs_arg_text(fcinfo, A_END_WHEN));
	cs_view_add_list(view, "measures", cs_arg_required(fcinfo, A_MEASURES, "measures"), false);
	if (!cs_view_has_column(view, DURATION_COLUMN))
		cs_view_add_value(view, NULL, DURATION, DURATION_COLUMN);
	cs_view_add_filter(view, "filter", cs_arg_text(fcinfo, A_FILTER));
	PG_RETURN_OID(cs_draft_finish(&draft, view));
}

Datum
clickstream_alter_session(PG_FUNCTION_ARGS)
{
	static const char *const fixed[] = {"gap",		  "measures", "key",	  "filter",
										"max_length", "split_on", "end_when", "split_at_midnight",
										"time_zone",  "emit"};
	CsDefinition			*def = cs_definition_argument(fcinfo, CS_KIND_SESSION, "session");
	CsValue					 values[2];
	int						 n = 0;

	for (int i = 0; i < lengthof(fixed); i++)
		cs_refuse_change(fcinfo, i + 3, fixed[i], "session");
	if (!PG_ARGISNULL(1))
	{
		cs_span(PG_GETARG_INTERVAL_P(1), "allowed_lateness", 0, CS_WITHIN_MAX);
		values[n++] = cs_value_interval("allowed_lateness", PG_GETARG_INTERVAL_P(1));
	}
	if (!PG_ARGISNULL(2))
	{
		cs_span(PG_GETARG_INTERVAL_P(2), "emit_interval", 0, USECS_PER_DAY);
		values[n++] = cs_value_interval("emit_interval", PG_GETARG_INTERVAL_P(2));
	}
	cs_definition_alter(def, values, n);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_session(PG_FUNCTION_ARGS)
{
	return cs_drop_by_name(fcinfo, CS_KIND_SESSION, "session");
}
