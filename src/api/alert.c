/*
 * api/alert.c
 *	  create_alert, alter_alert, drop_alert, check_alert, notify_changes.
 *
 * Who changes an alert sends an invalidation of the table that holds them, by
 * which the stream's worker loads its list again, and wakes it; if none runs a
 * watcher comes (worker/watch.c).
 */
#include "api/define.h"

#include "core/alert.h"
#include "core/clock.h"
#include "worker/worker.h"

#include "catalog/namespace.h"
#include "funcapi.h"
#include "utils/guc.h"
#include "utils/inval.h"

PG_FUNCTION_INFO_V1(clickstream_create_alert);
PG_FUNCTION_INFO_V1(clickstream_alter_alert);
PG_FUNCTION_INFO_V1(clickstream_drop_alert);
PG_FUNCTION_INFO_V1(clickstream_check_alert);
PG_FUNCTION_INFO_V1(clickstream_notify_changes);

#define HOLD_MAX (INT64CONST(366) * USECS_PER_DAY)

/* Arguments of create_alert(), in order. */
enum
{
	A_NAME,
	A_QUERY,
	A_HOLD_FOR,
	A_CHANNEL,
	A_STREAM
};

static void
tell_worker(int32 stream_id)
{
	CacheInvalidateRelcacheByRelid(cs_own_relation("alert_definition"));
	cs_worker_wake(stream_id);
	cs_worker_watch();
}

static void
check_channel(const char *channel)
{
	if (channel && (channel[0] == '\0' || strlen(channel) >= NAMEDATALEN))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("channel must be a name of 1 to %d bytes", NAMEDATALEN - 1), errhint("Give NULL for none.")));
}

/* The alert, its stream, and that the current user may change it. */
static CsAlert *
alert_argument(FunctionCallInfo fcinfo, CsStream **stream)
{
	char	*name = cs_arg_required(fcinfo, A_NAME, "name");
	CsAlert *alert = cs_alert_find(name, CurrentMemoryContext);

	if (alert == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("alert \"%s\" does not exist", name),
						errhint("Alerts are listed in clickstream.alert.")));
	*stream = cs_stream_load_by_id(alert->stream_id, CurrentMemoryContext);
	cs_stream_check_owner(*stream);
	return alert;
}

/* The stream that is named, or whose tables the query reads. */
static CsStream *
stream_of(FunctionCallInfo fcinfo, List *relations)
{
	char	 *name = cs_arg_text(fcinfo, A_STREAM);
	CsStream *stream =
		name ? cs_stream_load_by_name(name, CurrentMemoryContext) : cs_alert_stream_of(relations, CurrentMemoryContext);

	if (stream == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cannot tell which stream evaluates this alert"),
				 errdetail("The query reads the result tables of no stream, or of several."), errhint("Give stream.")));
	cs_stream_check_owner(stream);
	return stream;
}

static void
insert(const char *name, const char *query, const Interval *hold_for, const char *channel, const CsStream *stream)
{
	CsValue values[] = {
		cs_value_int("stream_id", stream->stream_id),
		cs_value_text("name", name),
		cs_value_text("query", query),
		cs_value_text("search_path", GetConfigOption("search_path", false, false)),
		cs_value_interval("hold_for", hold_for),
		cs_value_text("channel", channel),
	};

	cs_catalog_insert("alert_definition", values, lengthof(values));
}

Datum
clickstream_create_alert(PG_FUNCTION_ARGS)
{
	char	 *name = cs_arg_required(fcinfo, A_NAME, "name");
	char	 *query = cs_arg_required(fcinfo, A_QUERY, "query");
	Interval *hold_for = cs_arg_required_interval(fcinfo, A_HOLD_FOR, "hold_for");
	char	 *channel = cs_arg_text(fcinfo, A_CHANNEL);
	CsStream *stream;

	cs_span(hold_for, "hold_for", 0, HOLD_MAX);
	check_channel(channel);
	stream = stream_of(fcinfo, cs_alert_validate(query));
	if (cs_alert_find(name, CurrentMemoryContext) != NULL)
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("alert \"%s\" exists already", name)));
	insert(name, query, hold_for, channel, stream);
	tell_worker(stream->stream_id);
	PG_RETURN_VOID();
}

/* alter_alert(name, query, hold_for, channel, enabled): NULL leaves it as it is. */
Datum
clickstream_alter_alert(PG_FUNCTION_ARGS)
{
	CsStream *stream;
	CsAlert	 *alert = alert_argument(fcinfo, &stream);
	char	 *query = cs_arg_text(fcinfo, 1);
	char	 *channel = cs_arg_text(fcinfo, 3);
	CsValue	  values[9];
	int		  n = 0;

	if (query)
	{
		(void) cs_alert_validate(query);
		values[n++] = cs_value_text("query", query);
		values[n++] = cs_value_text("search_path", GetConfigOption("search_path", false, false));
	}
	if (!PG_ARGISNULL(2))
	{
		cs_span(PG_GETARG_INTERVAL_P(2), "hold_for", 0, HOLD_MAX);
		values[n++] = cs_value_interval("hold_for", PG_GETARG_INTERVAL_P(2));
	}
	check_channel(channel);
	if (channel)
		values[n++] = cs_value_text("channel", channel);
	if (!PG_ARGISNULL(4))
	{
		if (!PG_GETARG_BOOL(4) && alert->event_id != 0)
			cs_alert_end(alert, stream->name, cs_now());
		values[n++] = cs_value_bool("enabled", PG_GETARG_BOOL(4));
		values[n++] = cs_value_text("last_error", NULL);
		values[n++] = cs_value_text("last_error_sqlstate", NULL);
		values[n++] = cs_value_time("last_error_at", NULL);
	}
	if (query || !PG_ARGISNULL(4))
		values[n++] = cs_value_int("failures", 0);
	if (n > 0)
		cs_catalog_update("alert_definition", "alert_id", alert->id, values, n);
	tell_worker(stream->stream_id);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_alert(PG_FUNCTION_ARGS)
{
	CsStream *stream;
	CsAlert	 *alert;

	if (cs_arg_bool(fcinfo, 1, false) &&
		cs_alert_find(cs_arg_required(fcinfo, 0, "name"), CurrentMemoryContext) == NULL)
	{
		ereport(NOTICE, (errmsg("alert \"%s\" does not exist, skipping", cs_arg_text(fcinfo, 0))));
		PG_RETURN_VOID();
	}
	alert = alert_argument(fcinfo, &stream);
	if (alert->event_id != 0)
		cs_alert_end(alert, stream->name, cs_now());
	cs_catalog_delete("alert_definition", "alert_id", alert->id);
	tell_worker(stream->stream_id);
	PG_RETURN_VOID();
}

/* check_alert(name, OUT holds, OUT detail): what its query says at this moment. */
Datum
clickstream_check_alert(PG_FUNCTION_ARGS)
{
	CsStream *stream;
	CsAlert	 *alert = alert_argument(fcinfo, &stream);
	char	 *detail = cs_alert_evaluate(alert, stream->owner);
	TupleDesc desc;
	Datum	  values[2] = {BoolGetDatum(detail != NULL), (Datum) 0};
	bool	  nulls[2] = {false, detail == NULL};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (detail)
		values[1] = DirectFunctionCall1(jsonb_in, CStringGetDatum(detail));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* notify_changes(t regclass, channel text) returns void */
Datum
clickstream_notify_changes(PG_FUNCTION_ARGS)
{
	CsDefinition *def;
	CsValue		  value;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("t must be given")));
	def = cs_definition_load_by_table(PG_GETARG_OID(0), CurrentMemoryContext);
	if (def->kind == CS_KIND_EVENT_LOG)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("an event log does not notify of its events"),
						errhint("Name the table of a session, window, funnel or rollup.")));
	value = cs_value_text("notify_channel", cs_arg_text(fcinfo, 1));
	check_channel(cs_arg_text(fcinfo, 1));
	cs_definition_set(def, &value, 1);
	PG_RETURN_VOID();
}
