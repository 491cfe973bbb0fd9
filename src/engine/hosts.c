/*
 * engine/hosts.c
 *	  What the host of an engine asks between two batches: when to call again,
 *	  why nothing comes, whether it should be opened anew.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "core/settings.h"
#include "engine/backfill.h"
#include "engine/feed.h"
#include "engine/internal.h"
#include "state/budget.h"

#define LOOK_AT_BOTH_MS 50

/* While history is read from a topic: of that, and what is live is looked at often enough by the deadline. */
int
cs_engine_poll_fd(CsEngine *e)
{
	CsHistory *h = cs_backfill_reading(e);
	int		   fd = h ? cs_history_poll_fd(h) : -1;

	return fd >= 0 ? fd : e->source->ops->poll_fd(e->source);
}

TimestampTz
cs_engine_deadline(CsEngine *e)
{
	TimestampTz idle = cs_watermark_idle_deadline(e); /* each asked once: Min() names its arguments twice */
	TimestampTz preview = cs_preview_deadline(e);
	TimestampTz align = cs_align_deadline(e);
	TimestampTz deadline = Min(Min(e->next_refresh, idle), Min(preview, align));

	if (cs_backfill_reading(e))
		deadline = Min(deadline, e->ctx.now + LOOK_AT_BOTH_MS * CS_USECS_PER_MSEC);
	if (cs_state_wants_round(e->state))
		deadline = Min(deadline, e->ctx.now + cs_commit_interval * CS_USECS_PER_MSEC);
	for (int i = 0; i < e->nstages; i++)
	{
		CsOperator *op = e->stages[i].op;

		if (op->stale && op->def->emit == CS_EMIT_CHANGES && op->emit_at != CS_WM_DONE &&
			!cs_stage_fills(&e->stages[i]))
			deadline = Min(deadline, op->emit_at);
	}
	return deadline;
}

const char *
cs_engine_problem(CsEngine *e)
{
	CsHistory *h = cs_backfill_reading(e);

	if (e->problem[0])
		return e->problem;
	return h ? cs_history_problem(h) : NULL;
}

bool
cs_engine_is_behind(CsEngine *e)
{
	return e->behind;
}

bool
cs_engine_is_stopped(CsEngine *e)
{
	return e->is_stopped;
}

bool
cs_engine_is_stale(CsEngine *e)
{
	return e->stale;
}

bool
cs_engine_has_read(CsEngine *e)
{
	return e->has_read;
}

bool
cs_engine_at_end(CsEngine *e)
{
	return cs_positions_at_end(e) && e->polled_empty && !e->closings_left && !cs_backfill_remains(e);
}

bool
cs_engine_rows_are_due(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		CsOperator *op = e->stages[i].op;

		if (op->stale && !e->catching_up && op->def->emit == CS_EMIT_CHANGES && !cs_stage_fills(&e->stages[i]) &&
			(op->emit_at == CS_WM_DONE || op->emit_at <= e->ctx.now))
			return true;
	}
	return false;
}

int
cs_engine_decode_workers(CsEngine *e, int64 *restarts, const char **why)
{
	return cs_feed_status(e->source, restarts, why);
}

const CsStream *
cs_engine_stream(CsEngine *e)
{
	return e->stream;
}
