/*
 * api/apply_late.c
 *	  apply_late(): events that came too late for a definition go into its
 *	  results.
 *
 * In the caller's transaction: the stream's worker is held until it ends, and
 * the engine that does it lives inside this call.  Others who change the
 * stream wait for its row in the catalog.
 */
#include "api/call_host.h"
#include "api/define.h"

#include "engine/apply_late.h"
#include "funcapi.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(clickstream_apply_late);

enum
{
	COL_TOPIC,
	COL_PARTITION,
	COL_OFFSET,
	COL_EVENT_TIME,
	COL_APPLIED,
	COL_REASON,
	COLUMNS
};

static void
put_result(const CsLateRow *late, const char *refused, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		   values[COLUMNS];
	bool		   isnull[COLUMNS] = {false};

	values[COL_TOPIC] = CStringGetTextDatum(late->topic);
	values[COL_PARTITION] = Int32GetDatum(late->partition);
	values[COL_OFFSET] = Int64GetDatum(late->offset);
	values[COL_EVENT_TIME] = TimestampTzGetDatum(late->event_time);
	values[COL_APPLIED] = BoolGetDatum(refused == NULL);
	values[COL_REASON] = refused ? CStringGetTextDatum(refused) : (Datum) 0;
	isnull[COL_REASON] = refused == NULL;
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* apply_late(t regclass, start_time timestamptz, end_time timestamptz) */
Datum
clickstream_apply_late(PG_FUNCTION_ARGS)
{
	TimestampTz	  from = PG_ARGISNULL(1) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(1);
	TimestampTz	  to = PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2);
	CsDefinition *def;
	CsStream	 *stream;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the table must be given")));
	def = cs_definition_load_by_table(PG_GETARG_OID(0), CurrentMemoryContext);
	if (def->kind == CS_KIND_ROLLUP || def->kind == CS_KIND_EVENT_LOG)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("nothing is late for the %s \"%s\"",
							   def->kind == CS_KIND_ROLLUP ? "rollup" : "event log", get_rel_name(def->table)),
						errhint("Name the table of a session, window or funnel; the rollups over it follow.")));
	if (from >= to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("start_time must be before end_time"),
						errhint("start_time is inclusive, end_time exclusive.")));
	InitMaterializedSRF(fcinfo, 0);
	stream = cs_definition_stream(def);
	cs_worker_hold(stream->stream_id);
	cs_engine_apply_late(stream->stream_id, &cs_call_host, def->table, from, to, put_result, fcinfo->resultinfo);
	return (Datum) 0;
}
