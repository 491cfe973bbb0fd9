/*
 * engine/align.c
 *	  Partitions that are far ahead of the others wait for them.
 *
 * What lies between the watermark and the newest event is state.  Reading a
 * topic whose partitions are days apart would keep all these days open, so a
 * partition whose own watermark is more than max_drift ahead of the slowest is
 * paused at the source, and read again when it is no more than half of that
 * ahead (a pause throws away what the source has fetched ahead).
 *
 * Nobody waits for somebody who does not come: a partition at its end holds no
 * others up, nor does one that has brought nothing for idle_timeout because it
 * cannot be reached.  The slowest partition itself is never paused.  A paused
 * one is neither at its end nor silent, whatever the clock says; a silent one is
 * not paused, for it has nothing, or is asked whether it has.
 *
 * Final tables do not depend on it: within each partition order stays.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "core/clock.h"
#include "engine/internal.h"

/* May others have to wait for this one? */
static bool
holds_others_up(const CsEngine *e, const CsPartition *p, TimestampTz now)
{
	if (p->paused || p->at_end)
		return false;
	return p->last_spoke + e->stream->idle_timeout > now;
}

/* Greatest event time seen on the slowest partition that counts; CS_WM_DONE: none does. */
static TimestampTz
slowest(const CsEngine *e, TimestampTz now)
{
	TimestampTz least = CS_WM_DONE;

	for (int i = 0; i < e->npartitions; i++)
	{
		if (holds_others_up(e, e->partitions[i], now))
			least = Min(least, e->partitions[i]->max_time);
	}
	return least;
}

static bool
is_ahead(const CsPartition *p, TimestampTz least, int64 drift)
{
	if (p->max_time == CS_WM_NONE || least == CS_WM_DONE)
		return false;
	return least == CS_WM_NONE || p->max_time - least > drift;
}

static void
set_paused(CsEngine *e, CsPartition *p, bool paused, TimestampTz now)
{
	p->paused = paused;
	p->at_end = false; /* as far as we know */
	p->last_spoke = now;
	e->source->ops->pause(e->source, p, paused);
}

/* Pause who is too far ahead, and let others go on; true if somebody may go on. */
bool
cs_align_run(CsEngine *e)
{
	TimestampTz now = cs_now();
	TimestampTz least;
	bool		resumed = false;

	if (e->stream->max_drift < 0 || e->npartitions < 2 || !e->assigned)
		return false;
	least = slowest(e, now);
	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];

		if (p->paused && !is_ahead(p, least, e->stream->max_drift / 2))
		{
			set_paused(e, p, false, now);
			resumed = true;
		}
		else if (!p->paused && !p->idle && !p->is_gone && is_ahead(p, least, e->stream->max_drift))
			set_paused(e, p, true, now);
	}
	return resumed;
}

/* When somebody who is waited for has kept the others waiting for long enough; CS_WM_DONE never. */
TimestampTz
cs_align_deadline(const CsEngine *e)
{
	TimestampTz deadline = CS_WM_DONE;
	TimestampTz now = cs_now();
	bool		waits = false;

	for (int i = 0; i < e->npartitions; i++)
		waits |= e->partitions[i]->paused;
	for (int i = 0; waits && i < e->npartitions; i++)
	{
		if (holds_others_up(e, e->partitions[i], now))
			deadline = Min(deadline, e->partitions[i]->last_spoke + e->stream->idle_timeout);
	}
	return deadline;
}

/* A new assignment pauses nobody. */
void
cs_align_forget(CsEngine *e)
{
	for (int i = 0; i < e->npartitions; i++)
		e->partitions[i]->paused = false;
}
