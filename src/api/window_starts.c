/*
 * api/window_starts.c
 *	  window_starts(): the windows that hold a point in time.
 *
 * Windows begin at origin and every slide from there on, in both directions,
 * and are size long: [start, start + size).  A point lies in size / slide of
 * them, given in order of time.  The operator does the same sums on its own;
 * this function is what a definition's view says, so that plain SQL over
 * stored events gives the same answer.
 */
#include "postgres.h"

#include "api/args.h"
#include "common/int.h"
#include "core/definition.h"
#include "funcapi.h"

PG_FUNCTION_INFO_V1(clickstream_window_starts);

typedef struct Windows
{
	TimestampTz next;
	TimestampTz last;
	int64		slide;
} Windows;

/* The last window's start that is not after t. */
static TimestampTz
slide_start(TimestampTz t, int64 slide, TimestampTz origin)
{
	int64 distance;
	int64 rest;

	if (TIMESTAMP_NOT_FINITE(t) || TIMESTAMP_NOT_FINITE(origin) || pg_sub_s64_overflow(t, origin, &distance))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	rest = distance % slide;
	return t - (rest < 0 ? rest + slide : rest);
}

static Windows *
windows_begin(FunctionCallInfo fcinfo)
{
	Windows *windows = palloc(sizeof(Windows));
	int64	 size = cs_span(PG_GETARG_INTERVAL_P(1), "size", 1, CS_SIZE_MAX);

	windows->slide = cs_span(PG_GETARG_INTERVAL_P(2), "slide", 1, CS_SIZE_MAX);
	windows->last = slide_start(PG_GETARG_TIMESTAMPTZ(0), windows->slide, PG_GETARG_TIMESTAMPTZ(3));
	windows->next = windows->last - (size - 1) / windows->slide * windows->slide;
	/* Size need not be a multiple of slide here: leave out one that ends before t. */
	if (windows->next + size <= PG_GETARG_TIMESTAMPTZ(0))
		windows->next += windows->slide;
	return windows;
}

Datum
clickstream_window_starts(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Windows			*windows;
	TimestampTz		 start;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext old;

		call = SRF_FIRSTCALL_INIT();
		old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		call->user_fctx = windows_begin(fcinfo);
		MemoryContextSwitchTo(old);
	}
	call = SRF_PERCALL_SETUP();
	windows = call->user_fctx;
	if (windows->next > windows->last)
		SRF_RETURN_DONE(call);
	start = windows->next;
	windows->next += windows->slide;
	SRF_RETURN_NEXT(call, TimestampTzGetDatum(start));
}
