/*
 * engine/closing.c
 *	  What the watermark closes, at a batch's end.
 *
 * A million entries may be due at once, so operators close what a batch's memory
 * has room for in one transaction, and the next ones go on; "closed" in clickstream.progress
 * follows when all are through.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "core/settings.h"
#include "engine/backfill.h"
#include "engine/dedupe.h"

#define ROOM_SHARE 8 /* of a batch's memory, for more of what closes */

int
cs_closings_at_once(const CsEngine *e)
{
	int n = Max(e->nstages, 1);

#ifdef CLICKSTREAM_MUTANTS
	if (cs_force_closings > 0)
		return cs_force_closings;
#endif
	return Max(cs_state_room(e->state, CS_CLOSINGS_PER_BATCH * n) / n, CS_CLOSINGS_MIN);
}

/* For more of what closes, by what it has taken so far: another turn may take as much again. */
static bool
has_room(CsEngine *e, int64 before)
{
	int64 taken = (int64) MemoryContextMemAllocated(e->batch, true) - before;

#ifdef CLICKSTREAM_MUTANTS
	if (cs_force_closings > 0)
		return false;
#endif
	return taken < cs_batch_memory * INT64CONST(1024) / ROOM_SHARE;
}

/*
 * All but rollups.  Some have next to nothing to close, others more than their
 * part of the room, and an entry that need not be opened takes less of it than
 * was allowed for: so they go on in turn, as long as it is not used up.  What is
 * left to the next batch costs more: it goes through the log first.
 */
static void
close_all(CsEngine *e, TimestampTz wm, int max, bool finish)
{
	bool *done = palloc0(Max(e->nstages, 1) * sizeof(bool));
	int64 before = (int64) MemoryContextMemAllocated(e->batch, true);

	do
	{
		e->closings_left = false;
		for (int i = 0; i < e->nstages; i++)
		{
			CsOperator *op = e->stages[i].op;

			if (op->def->kind == CS_KIND_ROLLUP || cs_stage_fills(&e->stages[i]))
				continue;
			if (!done[i])
				done[i] = op->ops->advance(op, &e->ctx, wm, max, finish);
			e->closings_left |= !done[i];
		}
	} while (e->closings_left && has_room(e, before));
	pfree(done);
}

void
cs_close(CsEngine *e, bool finish, TimestampTz as_of)
{
	TimestampTz wm = e->watermark;
	int			max = cs_closings_at_once(e);

	close_all(e, wm, max, finish);
	if (as_of != CS_WM_NONE)
		cs_preview_run(e, as_of);
	cs_dedupe_advance(e);
	cs_rollups_feed(e);
	/* As long as the watermark has not closed all that it passes, a bucket behind it may get a row yet. */
	if (e->closings_left)
		wm = e->stored.closed;
	for (int i = 0; i < e->nstages; i++)
	{
		CsOperator *op = e->stages[i].op;

		if (op->def->kind != CS_KIND_ROLLUP)
			continue;
		if (!op->ops->advance(op, &e->ctx, cs_backfill_watermark(e, &e->stages[i], wm), max, finish))
			e->closings_left = true;
		e->stages[i].effort.open_from = cs_rollup_open_from(op);
	}
	for (int i = 0; i < e->nstages; i++)
		if (e->stages[i].op->ops->note_closing && !cs_stage_fills(&e->stages[i]))
			e->stages[i].op->ops->note_closing(e->stages[i].op, &e->ctx, e->closings_left);
}

bool
cs_closing_is_midway(const CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
		if (e->stages[i].op->midway && !cs_stage_fills(&e->stages[i]))
			return true;
	return false;
}
