/*
 * engine/watermark.c
 *	  The stream's watermark.
 *
 * A partition's watermark is the greatest min(event_time, message timestamp)
 * seen on it less watermark_delay; the stream's is the least of the active
 * partitions.  It moves after an event, never before it, and never back.  A
 * partition of which nothing has been read holds it at minus infinity, unless
 * nothing is there to be read; one that is at its end and has been silent for
 * idle_timeout does not hold it, until it speaks again.  The clock's part in
 * this is stored with the partition.
 *
 * To be silent is remembered, to be at the end is asked each time: a silent
 * partition that has messages which are not read yet, or of which a start does
 * not know it yet, holds the watermark where it stood.  Else what came during a
 * pause would be late on all partitions but the one that is read first.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "engine/internal.h"

/* Is nothing there that the watermark has not seen, as far as is known? */
static bool
is_through(const CsPartition *p)
{
	return p->at_end && p->ahead == 0;
}

bool
cs_watermark_is_idle(const CsPartition *p)
{
	return p->idle && is_through(p);
}

/* What a partition allows the watermark to be; CS_WM_DONE: whatever the others say. */
static TimestampTz
allowed_by(const CsEngine *e, const CsPartition *p)
{
	if (cs_watermark_is_idle(p))
		return CS_WM_DONE;
	if (p->max_time == CS_WM_NONE)
		return is_through(p) ? CS_WM_DONE : CS_WM_NONE;
	return p->max_time - e->stream->watermark_delay;
}

void
cs_watermark_recompute(CsEngine *e)
{
	TimestampTz wm = CS_WM_DONE;

	for (int i = 0; i < e->npartitions; i++)
	{
		TimestampTz allowed = allowed_by(e, e->partitions[i]);

		if (allowed < wm)
			wm = allowed;
	}
	if (wm == CS_WM_DONE)
	{
		/* Nobody holds it: the furthest that any partition has come. */
		wm = CS_WM_NONE;
		for (int i = 0; i < e->npartitions; i++)
		{
			CsPartition *p = e->partitions[i];

			if (p->max_time != CS_WM_NONE && p->max_time - e->stream->watermark_delay > wm)
				wm = p->max_time - e->stream->watermark_delay;
		}
	}
	wm = Min(wm, e->ceiling);
	if (wm > e->watermark)
		e->watermark = wm;
}

void
cs_watermark_event(CsEngine *e, CsPartition *p, TimestampTz time, TimestampTz message_time)
{
	TimestampTz before = allowed_by(e, p);

	if (message_time != CS_WM_NONE && message_time < time)
		time = message_time;
	p->idle = false;
	if (time <= p->max_time)
		return;
	p->max_time = time;
	p->moved_at = e->ctx.now;

	/* Only the partition that holds the watermark can move it. */
	if (e->watermark == CS_WM_NONE || before <= e->watermark || before == CS_WM_DONE)
		cs_watermark_recompute(e);
}

/* A message that is no event: the last one that a silent partition had may have held the watermark. */
void
cs_watermark_no_event(CsEngine *e, const CsPartition *p)
{
	if (is_through(p))
		cs_watermark_recompute(e);
}

/*
 * Where the messages themselves have put the watermark, for a stream that
 * finish() has moved to the end: where all were at theirs, and some engines
 * that ask have not looked.
 */
TimestampTz
cs_watermark_content(const CsEngine *e)
{
	TimestampTz least = CS_WM_DONE;
	TimestampTz greatest = CS_WM_NONE;

	for (int i = 0; i < e->npartitions; i++)
	{
		const CsPartition *p = e->partitions[i];

		if (p->max_time == CS_WM_NONE)
			continue;
		greatest = Max(greatest, p->max_time - e->stream->watermark_delay);
		if (!p->idle)
			least = Min(least, p->max_time - e->stream->watermark_delay);
	}
	return least == CS_WM_DONE ? greatest : least;
}

/* Partitions that fell silent stop holding the watermark; true if one did. */
bool
cs_watermark_idle(CsEngine *e, TimestampTz now)
{
	bool changed = false;

	if (e->problem[0] != '\0')
		return false; /* an unreachable broker is never "at its end" */
	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];

		if (p->idle || p->paused || !p->at_end || p->last_spoke + e->stream->idle_timeout > now)
			continue;
		p->idle = changed = true;
	}
	if (changed)
		cs_watermark_recompute(e);
	return changed;
}

/* What the table is to say, as this batch leaves it. */
void
cs_watermark_show_idle(CsEngine *e)
{
	for (int i = 0; i < e->npartitions; i++)
		e->partitions[i]->shown_idle = cs_watermark_is_idle(e->partitions[i]);
}

/* When the next partition may turn idle; CS_WM_DONE never. */
TimestampTz
cs_watermark_idle_deadline(CsEngine *e)
{
	TimestampTz deadline = CS_WM_DONE;

	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];

		if (!p->idle && p->at_end)
			deadline = Min(deadline, p->last_spoke + e->stream->idle_timeout);
	}
	return deadline;
}
