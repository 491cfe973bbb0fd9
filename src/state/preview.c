/*
 * state/preview.c
 *	  Looking ahead in the timers: which entries would be due later.
 *
 * A silent topic's last rows are shown as if the watermark had moved on, but
 * it has not: so entries stay in their timers.  An entry may be queued at an
 * earlier second than it is due (see state.c); looking at it puts it where it
 * belongs, so that the next look, one step further, need not look again.
 *
 * Timers of whole seconds are few (a session gap's worth), entries many: the
 * seconds are sorted, entries are visited once.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "state/spill.h"
#include "utils/memutils.h"

static int
second_cmp(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* Seconds in [from, to] in which something is queued, ascending; palloc'd. */
static int64 *
seconds_between(CsState *state, CsDefState *def, int64 from, int64 to, int *n)
{
	int64		   *seconds = MemoryContextAlloc(state->batch, (hash_get_num_entries(def->timers) + 1) * sizeof(int64));
	HASH_SEQ_STATUS scan;
	CsTimer		   *timer;

	*n = 0;
	hash_seq_init(&scan, def->timers);
	while ((timer = hash_seq_search(&scan)) != NULL)
	{
		if (timer->second >= from && timer->second <= to && !dlist_is_empty(&timer->entries))
			seconds[(*n)++] = timer->second;
	}
	qsort(seconds, *n, sizeof(int64), second_cmp);
	return seconds;
}

/*
 * Everything that is queued up to `to` stands at its own second.  Moves go to
 * later seconds only, so one pass over the seconds there were does.
 */
static void
put_in_place(CsState *state, CsDefState *def, int64 from, int64 to)
{
	int	   n;
	int64 *seconds = seconds_between(state, def, from, to, &n);

	for (int i = 0; i < n; i++)
	{
		CsTimer			  *timer = hash_search(def->timers, &seconds[i], HASH_FIND, NULL);
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &timer->entries)
			(void) cs_timer_move(state, def, dlist_container(CsEntry, list_node, iter.cur));
	}
	pfree(seconds);
}

typedef struct Found
{
	CsWork **works;
	int		 n, capacity;
} Found;

static void
add_found(CsState *state, Found *found, CsEntry *entry)
{
	if (found->n == found->capacity)
	{
		found->capacity = found->capacity ? found->capacity * 2 : 256;
		found->works = found->works ? repalloc_huge(found->works, found->capacity * sizeof(CsWork *))
									: MemoryContextAlloc(state->batch, found->capacity * sizeof(CsWork *));
	}
	found->works[found->n++] = cs_state_open(state, entry);
}

/* Timers hold whole seconds of what is due; CS_WM_NONE: from the first on. */
static int64
first_second(TimestampTz after)
{
	return after == CS_WM_NONE ? PG_INT64_MIN : cs_second_of(after);
}

CsWork **
cs_state_preview(CsState *state, int32 definition_id, TimestampTz after, TimestampTz limit, int max, int *n,
				 TimestampTz *upto)
{
	CsDefState *def = cs_def_state(state, definition_id);
	Found		found = {0};
	int64		last;
	int64	   *seconds;
	int			nseconds;

	limit = cs_spill_load_between(state, def, after, limit, max);
	last = cs_second_of(limit);
	put_in_place(state, def, first_second(after), last);
	seconds = seconds_between(state, def, first_second(after), last, &nseconds);
	*upto = limit;
	for (int i = 0; i < nseconds; i++)
	{
		CsTimer	  *timer = hash_search(def->timers, &seconds[i], HASH_FIND, NULL);
		dlist_iter iter;

		if (found.n >= max)
		{
			*upto = seconds[i] * USECS_PER_SEC - 1;
			break;
		}
		dlist_foreach(iter, &timer->entries)
		{
			CsEntry *entry = dlist_container(CsEntry, list_node, iter.cur);

			if (entry->due > after && entry->due <= limit)
				add_found(state, &found, entry);
		}
	}
	pfree(seconds);
	*n = found.n;
	return found.works;
}

TimestampTz
cs_state_next_due(CsState *state, int32 definition_id, TimestampTz after)
{
	CsDefState	   *def = cs_def_state(state, definition_id);
	int64			from = first_second(after);
	int64			next = PG_INT64_MAX;
	TimestampTz		due = CS_WM_DONE;
	HASH_SEQ_STATUS scan;
	CsTimer		   *timer;
	dlist_iter		iter;

	hash_seq_init(&scan, def->timers);
	while ((timer = hash_seq_search(&scan)) != NULL)
	{
		if (dlist_is_empty(&timer->entries) || timer->second < from)
			continue;
		if (timer->second > from)
		{
			next = Min(next, timer->second);
			continue;
		}
		/* the second that `after` lies in: is there something behind it? */
		dlist_foreach(iter, &timer->entries)
		{
			CsEntry *entry = dlist_container(CsEntry, list_node, iter.cur);

			if (entry->due > after)
				due = Min(due, entry->due);
		}
	}
	/* what this batch has changed is in no timer */
	for (int64 i = 0; i < def->ndirty; i++)
	{
		const CsWork *work = def->dirty[i].work;

		if (!work->deleted && work->due > after)
			due = Min(due, work->due);
	}
	if (next != PG_INT64_MAX)
		due = Min(due, Max(next * USECS_PER_SEC, after == CS_WM_NONE ? PG_INT64_MIN : after + 1));
	next = cs_spill_next_due(def, after);
	return Min(due, next);
}
