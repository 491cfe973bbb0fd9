/*
 * api/maintenance.c
 *	  set_retention, set_letter_retention, set_alert_retention, trim_rows,
 *	  trim_alert_history: how long rows are kept.
 *
 * Results are deleted by event time: what counts as now is the stream's
 * watermark, but no later than the clock.  So a topic that is read again from
 * years ago does not lose its rows as they come, and one that stands still
 * keeps what it has.
 */
#include "api/define.h"

#include "core/alert.h"
#include "core/backfill.h"
#include "core/clock.h"
#include "core/event_log.h"
#include "core/ledger.h"
#include "core/retention.h"

PG_FUNCTION_INFO_V1(clickstream_set_retention);
PG_FUNCTION_INFO_V1(clickstream_set_letter_retention);
PG_FUNCTION_INFO_V1(clickstream_set_alert_retention);
PG_FUNCTION_INFO_V1(clickstream_trim_rows);
PG_FUNCTION_INFO_V1(clickstream_trim_alert_history);

#define KEEP_MAX (INT64CONST(36600) * USECS_PER_DAY)

/* set_retention(t regclass, keep interval) returns void */
Datum
clickstream_set_retention(PG_FUNCTION_ARGS)
{
	CsDefinition *def;
	Interval	 *keep = cs_arg_interval(fcinfo, 1);
	CsValue		  value;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("t must be given")));
	def = cs_definition_load_by_table(PG_GETARG_OID(0), CurrentMemoryContext);
	/* partitions of event logs are days: nothing shorter can be kept */
	if (keep != NULL)
		cs_span(keep, "keep", def->kind == CS_KIND_EVENT_LOG ? USECS_PER_DAY : USECS_PER_SEC, KEEP_MAX);
	value = cs_value_interval("retention", keep);
	cs_definition_set(def, &value, 1);
	PG_RETURN_VOID();
}

/* (stream text, keep interval): into a column of the stream. */
static Datum
set_of_stream(FunctionCallInfo fcinfo, const char *column)
{
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "stream"), CurrentMemoryContext);
	Interval *keep = cs_arg_interval(fcinfo, 1);
	CsValue	  value = cs_value_interval(column, keep);

	cs_stream_check_owner(stream);
	if (keep != NULL)
		cs_span(keep, "keep", 0, KEEP_MAX);
	cs_catalog_update("stream", "stream_id", stream->stream_id, &value, 1);
	PG_RETURN_VOID();
}

Datum
clickstream_set_letter_retention(PG_FUNCTION_ARGS)
{
	return set_of_stream(fcinfo, "letter_retention");
}

Datum
clickstream_set_alert_retention(PG_FUNCTION_ARGS)
{
	return set_of_stream(fcinfo, "alert_retention");
}

/* trim_alert_history(stream text, keep interval, max_rows bigint) returns bigint */
Datum
clickstream_trim_alert_history(PG_FUNCTION_ARGS)
{
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "stream"), CurrentMemoryContext);
	int64	  keep = cs_span(cs_arg_required_interval(fcinfo, 1, "keep"), "keep", 0, KEEP_MAX);

	cs_stream_check_owner(stream);
	PG_RETURN_INT64(cs_alert_history_trim(stream->stream_id, cs_now() - keep, cs_arg_max_rows(fcinfo, 2)));
}

static TimestampTz
now_of(const CsStream *stream)
{
	CsProgressRow row;

	cs_progress_load(stream->stream_id, &row);
	return row.watermark == CS_WM_NONE ? DT_NOBEGIN : Min(row.watermark, cs_now());
}

/* trim_rows(t regclass, max_rows bigint) returns bigint */
Datum
clickstream_trim_rows(PG_FUNCTION_ARGS)
{
	CsDefinition *def;
	CsStream	 *stream;
	TimestampTz	  now;
	int64		  limit = cs_arg_max_rows(fcinfo, 1);

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("t must be given")));
	def = cs_definition_load_by_table(PG_GETARG_OID(0), CurrentMemoryContext);
	stream = cs_stream_load_by_id(def->stream_id, CurrentMemoryContext);
	cs_stream_check_owner(stream);
	if (def->retention < 0)
		PG_RETURN_INT64(0);
	if (def->kind == CS_KIND_EVENT_LOG)
	{
		if (cs_backfill_exclude(stream->stream_id, true)) /* else what is history is yet wanted */
			(void) cs_event_log_expire(def->table, stream->owner, cs_now() - def->retention);
		PG_RETURN_INT64(0);
	}
	now = now_of(stream);
	PG_RETURN_INT64(now == DT_NOBEGIN ? 0 : cs_retention_delete(stream, def, now - def->retention, limit));
}
