/*
 * api/window_starts.c
 *	  window_starts() and cumulative_windows(): the windows that hold a point
 *	  in time.
 *
 * This is what a definition's view says, so that plain SQL over stored events
 * gives the operator's answer.  Windows of fixed length are plain sums here:
 * they begin at origin and every slide from there on, in both directions, and
 * are size long; the operator does the same sums on its own.  What follows a
 * calendar, and cumulative windows, come from operator/assign.c as the
 * operator's do; the tests compare both with sums in SQL.
 */
#include "postgres.h"

#include "api/args.h"
#include "common/int.h"
#include "core/definition.h"
#include "funcapi.h"
#include "operator/assign.h"

PG_FUNCTION_INFO_V1(clickstream_window_starts);
PG_FUNCTION_INFO_V1(clickstream_cumulative_windows);

/* What is left to return. */
typedef struct Windows
{
	CsSpan *spans;
	int		n, i;
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

static void
fixed_windows(FunctionCallInfo fcinfo, Windows *windows)
{
	TimestampTz t = PG_GETARG_TIMESTAMPTZ(0);
	int64		size = cs_span(PG_GETARG_INTERVAL_P(1), "size", 1, CS_SIZE_MAX);
	int64		slide = cs_span(PG_GETARG_INTERVAL_P(2), "slide", 1, CS_SIZE_MAX);
	TimestampTz last = slide_start(t, slide, PG_GETARG_TIMESTAMPTZ(3));
	TimestampTz start = last - (size - 1) / slide * slide;

	/* Size need not be a multiple of slide here: leave out one that ends before t. */
	if (start + size <= t)
		start += slide;
	windows->spans = MemoryContextAllocHuge(CurrentMemoryContext, ((last - start) / slide + 1) * sizeof(CsSpan));
	for (; start <= last; start += slide)
		windows->spans[windows->n++].start = start;
}

static void
assigned_windows(FunctionCallInfo fcinfo, Windows *windows, bool cumulative)
{
	CsDefinition def = {.name = "a window", .form = CS_WINDOW_CUMULATIVE};
	CsAssigner	 a;
	CsLength	 size, pane;
	TimestampTz	 t = PG_GETARG_TIMESTAMPTZ(0);
	bool		 calendar;

	def.size_given = *PG_GETARG_INTERVAL_P(1);
	def.slide_given = *PG_GETARG_INTERVAL_P(2);
	def.origin = PG_GETARG_TIMESTAMPTZ(3);
	def.time_zone = cs_arg_text(fcinfo, 4);
	if (!cumulative)
		def.form =
			memcmp(&def.size_given, &def.slide_given, sizeof(Interval)) == 0 ? CS_WINDOW_TUMBLING : CS_WINDOW_HOPPING;
	if (def.time_zone != NULL && pg_tzset(def.time_zone) == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("time zone \"%s\" is not recognized", def.time_zone)));
	calendar = cs_definition_zone(&def) != NULL;
	if (!cs_length_of(&def.size_given, calendar, &size) || !cs_length_of(&def.slide_given, calendar, &pane) ||
		!cs_lengths_fit(def.form, &size, &pane))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("size and %s do not fit each other", cumulative ? "step" : "slide")));
	if (TIMESTAMP_NOT_FINITE(t) || TIMESTAMP_NOT_FINITE(def.origin) || t < MIN_TIMESTAMP + CS_GRID_MARGIN ||
		t >= END_TIMESTAMP - CS_GRID_MARGIN)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	cs_assigner_init(&a, &def);
	windows->spans = cs_assigned_windows(&a, cs_assigned_pane(&a, t), &windows->n);
}

/* The first call's part; the function is not strict where a time zone may be NULL. */
static void
begin(FunctionCallInfo fcinfo, bool cumulative)
{
	FuncCallContext *call = SRF_FIRSTCALL_INIT();
	MemoryContext	 old = MemoryContextSwitchTo(call->multi_call_memory_ctx);
	Windows			*windows = palloc0(sizeof(Windows));

	call->user_fctx = windows;
	if (cumulative && get_call_result_type(fcinfo, NULL, &call->tuple_desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(3))
		windows->n = 0;
	else if (PG_NARGS() == 4)
		fixed_windows(fcinfo, windows);
	else
		assigned_windows(fcinfo, windows, cumulative);
	MemoryContextSwitchTo(old);
}

Datum
clickstream_window_starts(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Windows			*windows;

	if (SRF_IS_FIRSTCALL())
		begin(fcinfo, false);
	call = SRF_PERCALL_SETUP();
	windows = call->user_fctx;
	if (windows->i == windows->n)
		SRF_RETURN_DONE(call);
	SRF_RETURN_NEXT(call, TimestampTzGetDatum(windows->spans[windows->i++].start));
}

Datum
clickstream_cumulative_windows(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Windows			*windows;
	Datum			 values[2];
	bool			 isnull[2] = {false, false};

	if (SRF_IS_FIRSTCALL())
		begin(fcinfo, true);
	call = SRF_PERCALL_SETUP();
	windows = call->user_fctx;
	if (windows->i == windows->n)
		SRF_RETURN_DONE(call);
	values[0] = TimestampTzGetDatum(windows->spans[windows->i].start);
	values[1] = TimestampTzGetDatum(windows->spans[windows->i++].end);
	SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, isnull)));
}
