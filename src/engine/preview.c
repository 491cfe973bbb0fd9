/*
 * engine/preview.c
 *	  A quiet topic shows its last sessions.
 *
 * When every partition is at its end and has been silent for idle_timeout,
 * rows are written as if the watermark stood at clock - watermark_delay: the
 * last sessions of the night are there in the morning.  Watermark and state
 * stay where the content has put them, so whatever comes next is judged as
 * if nothing had been shown: the operators show from copies, and remember only
 * what they have shown.
 *
 * What is too much for one transaction goes on in the next, as with closings.
 *
 * As the silence lasts, the moment moves on with the clock.  What is shown
 * since the last message is not looked at again, and a look is worth a
 * transaction only where an operator says that there is something to show.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/settings.h"
#include "engine/backfill.h"
#include "engine/internal.h"

static bool
is_silent(const CsEngine *e)
{
	if (!e->assigned || e->npartitions == 0 || e->problem[0] != '\0')
		return false; /* an unreachable broker is never silent */
	for (int i = 0; i < e->npartitions; i++)
	{
		if (!cs_watermark_is_idle(e->partitions[i]))
			return false;
	}
	return true;
}

/* Of its rows everything up to here is shown or closed. */
static TimestampTz
shown_upto(const CsEngine *e, const CsStage *stage)
{
	return Max(stage->previewed, e->watermark);
}

void
cs_preview_begin(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
		e->stages[i].previewed_next = CS_WM_NONE;
	e->previewed_rows = CS_WM_NONE;
	e->previews_left = false;
}

/* The next moment as of which some operator has something to show. */
static TimestampTz
next_due(CsEngine *e)
{
	TimestampTz due = CS_WM_DONE;

	for (int i = 0; i < e->nstages; i++)
	{
		CsOperator *op = e->stages[i].op;
		TimestampTz next = CS_WM_DONE;

		if (op->ops->preview_due && !cs_stage_fills(&e->stages[i]))
			next = op->ops->preview_due(op, e->state, shown_upto(e, &e->stages[i]));
		due = Min(due, next);
	}
	return due;
}

/* The moment as of which this batch is to show rows; CS_WM_NONE: it is not. */
TimestampTz
cs_preview_as_of(CsEngine *e)
{
	TimestampTz as_of = e->ctx.now - e->stream->watermark_delay;

	if (e->batch_messages > 0 || e->closings_left || e->watermark == CS_WM_DONE || !is_silent(e))
		return CS_WM_NONE;
	if (as_of <= e->watermark || e->ctx.now < e->preview_again || next_due(e) > as_of)
		return CS_WM_NONE;
	return as_of;
}

void
cs_preview_run(CsEngine *e, TimestampTz as_of)
{
	int max = cs_closings_at_once(e);

	for (int i = 0; i < e->nstages; i++)
	{
		CsStage	   *stage = &e->stages[i];
		CsOperator *op = stage->op;

		if (op->ops->preview == NULL || cs_stage_fills(stage))
			continue;
		stage->previewed_next = op->ops->preview(op, &e->ctx, shown_upto(e, stage), as_of, max);
		e->previews_left |= stage->previewed_next < as_of;
	}
	e->previewed_rows = as_of; /* of some operators, or parts of a window */
}

/* After COMMIT: a message begins a new silence, and all is to be looked at again. */
void
cs_preview_committed(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		CsStage *stage = &e->stages[i];

		if (e->batch_messages > 0)
			stage->previewed = CS_WM_NONE;
		else if (stage->previewed_next != CS_WM_NONE)
			stage->previewed = stage->previewed_next;
	}
	if (e->previewed_rows != CS_WM_NONE && !e->previews_left)
		e->preview_again = e->ctx.now + cs_commit_interval * INT64CONST(1000);
}

/* Clock time at which there will be something to show if the silence lasts; CS_WM_DONE never. */
TimestampTz
cs_preview_deadline(CsEngine *e)
{
	TimestampTz due;

	if (e->watermark == CS_WM_DONE || !is_silent(e))
		return CS_WM_DONE;
	due = next_due(e);
	if (due >= CS_WM_DONE - e->stream->watermark_delay)
		return CS_WM_DONE;
	return Max(due + e->stream->watermark_delay, e->preview_again);
}
