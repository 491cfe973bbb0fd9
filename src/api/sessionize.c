/*
 * api/sessionize.c
 *	  sessionize(event_time, gap): a window function, the number of the session
 *	  of each row of its partition.
 *
 * A session goes on while the distance to the row before it is gap or less, as
 * in the sessions of streams.  Needs no frame: each row is looked at once.
 */
#include "postgres.h"

#include "api/args.h"
#include "common/int.h"
#include "core/definition.h"
#include "windowapi.h"

PG_FUNCTION_INFO_V1(clickstream_sessionize);

/* Zeroed at the beginning of each partition. */
typedef struct Partition
{
	int64 session; /* 0: none yet */
	int64 last;
} Partition;

static Datum
argument(WindowObject window, int i, bool *isnull)
{
	return WinGetFuncArgCurrent(window, i, isnull);
}

static bool
is_new_session(const Partition *p, int64 t, int64 gap)
{
	int64 distance;

	if (p->session == 0)
		return true;
	if (t < p->last)
		ereport(ERROR, (errcode(ERRCODE_WINDOWING_ERROR), errmsg("rows of sessionize must be in order of time"),
						errhint("Write OVER (PARTITION BY visitor ORDER BY event_time), with the columns of yours.")));
	return pg_sub_s64_overflow(t, p->last, &distance) || distance > gap;
}

Datum
clickstream_sessionize(PG_FUNCTION_ARGS)
{
	WindowObject window = PG_WINDOW_OBJECT();
	Partition	*p = WinGetPartitionLocalMemory(window, sizeof(Partition));
	bool		 no_time, no_gap;
	TimestampTz	 t = DatumGetTimestampTz(argument(window, 0, &no_time));
	Datum		 gap = argument(window, 1, &no_gap);

	if (no_gap)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("gap must be given"),
						errhint("Give an interval such as '30 minutes'.")));
	if (no_time)
		PG_RETURN_NULL();
	if (is_new_session(p, t, cs_span(DatumGetIntervalP(gap), "gap", 1, CS_WITHIN_MAX)))
		p->session++;
	p->last = t;
	PG_RETURN_INT64(p->session);
}
