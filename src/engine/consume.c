/*
 * engine/consume.c
 *	  A batch reads: until there is nothing more for now, or it is full.
 *
 * Nothing more is not the same as an empty queue.  Where what fetches is slower
 * than the worker, the broker has more, and says so: then the batch waits for
 * it, as long as commit_interval is not over.  Rows that grow wait for the end of
 * that, too.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "core/settings.h"
#include "engine/internal.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FAR_BEHIND 20000 /* messages */
#define PAUSE_MS 20		 /* while messages that the broker has are on their way */

bool
cs_is_far_behind(CsEngine *e)
{
	return cs_positions_lag(e) > FAR_BEHIND;
}

/*
 * The worker is faster than the broker.  A batch that ended now would be
 * followed by nothing until commit_interval is over.  One that closes what was
 * left does not wait: another one follows at once, which does.
 */
static bool
pause_for_more(CsEngine *e)
{
	bool reads = e->batch_messages > 0 || e->catching_up;

	return e->host->pause != NULL && reads && !e->closings_left && cs_is_far_behind(e) &&
		   !TimestampDifferenceExceeds(e->begun, GetCurrentTimestamp(), cs_commit_interval) && e->host->pause(PAUSE_MS);
}

bool
cs_consume(CsEngine *e, int64 max_messages, int polled)
{
	int64 limit = cs_batch_messages;

	if (max_messages > 0 && max_messages < limit)
		limit = max_messages;
	if (polled < 0)
		cs_align_run(e);
	for (;;)
	{
		int64 room = limit - e->batch_messages;

		if (polled < 0)
			polled = e->source->ops->poll(e->source, e->messages, (int) Min(room, CS_CHUNK_MESSAGES), 0);
		e->polled_empty = polled == 0;
		if (polled == 0)
		{
			if (!cs_align_run(e) && !pause_for_more(e))
				return false;
			polled = -1;
			continue;
		}
		cs_chunk_run(e, polled);
		e->source->ops->release(e->source);
		if (e->ends_before)
		{
			cs_positions_give_back(e);
			return false;
		}
		cs_align_run(e);
		polled = -1;
		if (e->batch_messages >= limit)
			return true;
		if (cs_state_is_crowded(e->state, (int64) MemoryContextMemAllocated(e->batch, true)))
			return true;
		CHECK_FOR_INTERRUPTS();
	}
}
