/*
 * api/damaged_state.c
 *	  damaged_state() and discard_damaged_state(): entries of a stream's state
 *	  that cannot be read.
 *
 * In the caller's transaction: the stream's worker is held until it ends, and
 * the engine that does it lives inside this call.
 */
#include "api/call_host.h"
#include "api/define.h"

#include "engine/examine.h"
#include "funcapi.h"
#include "operator/expression.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(clickstream_damaged_state);
PG_FUNCTION_INFO_V1(clickstream_discard_damaged_state);

enum
{
	COL_DEFINITION,
	COL_KEY,
	COL_WINDOW_START,
	COL_BYTES,
	COL_PROBLEM,
	COL_LOSS,
	COLUMNS
};

static void
put_result(const CsDamage *damage, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		   values[COLUMNS];
	bool		   isnull[COLUMNS] = {false};

	values[COL_DEFINITION] = ObjectIdGetDatum(damage->table);
	isnull[COL_DEFINITION] = !OidIsValid(damage->table);
	values[COL_KEY] = cs_hash_uuid(damage->key.who);
	values[COL_WINDOW_START] = TimestampTzGetDatum(cs_floor_msec(damage->key.bucket));
	isnull[COL_KEY] = damage->is_set;
	isnull[COL_WINDOW_START] = damage->key.bucket == 0;
	values[COL_BYTES] = Int32GetDatum((int32) damage->bytes);
	values[COL_PROBLEM] = CStringGetTextDatum(damage->problem);
	values[COL_LOSS] = CStringGetTextDatum(damage->loss);
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

static Datum
examine(FunctionCallInfo fcinfo, bool discard)
{
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "stream"), CurrentMemoryContext);

	InitMaterializedSRF(fcinfo, 0);
	cs_stream_touch(stream);
	cs_worker_hold(stream->stream_id);
	cs_engine_examine(stream->stream_id, &cs_call_host, discard, put_result, fcinfo->resultinfo);
	return (Datum) 0;
}

Datum
clickstream_damaged_state(PG_FUNCTION_ARGS)
{
	return examine(fcinfo, false);
}

Datum
clickstream_discard_damaged_state(PG_FUNCTION_ARGS)
{
	return examine(fcinfo, true);
}
