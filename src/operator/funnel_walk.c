/*
 * operator/funnel_walk.c
 *	  A key's waiting events, in place order and in groups of equal time,
 *	  become attempts.
 *
 * With a breakdown each value has an attempt of its own: an event of step 1
 * (unordered: the first event) counts for the attempt of its value only, all
 * others for every attempt.  So the table is what one funnel for each value
 * would give whose step 1 demands the value.
 *
 * No locking; memory: the current context.
 */
#include "postgres.h"

#include "operator/funnel_entry.h"
#include "utils/memutils.h"

static int
waiting_cmp(const void *a, const void *b)
{
	return cs_place_cmp(&((const CsFunnelWaiting *) a)->place, &((const CsFunnelWaiting *) b)->place);
}

void
cs_funnel_sort(CsFunnelWork *w)
{
	if (w->nwaiting > 1 && !CS_MUTANT(UNSORTED_APPLY))
		qsort(w->waiting, w->nwaiting, sizeof(CsFunnelWaiting), waiting_cmp);
}

CsFunnelSlot *
cs_funnel_slot_add(const CsFunnelOperator *op, CsFunnelSlots *open, const CsFunnelGroup *group)
{
	CsFunnelSlot *slot;

	if (open->n == open->capacity)
	{
		int capacity = Max(open->capacity * 2, 4);

		open->slots = open->slots ? repalloc(open->slots, capacity * sizeof(CsFunnelSlot))
								  : palloc(capacity * sizeof(CsFunnelSlot));
		memset(open->slots + open->capacity, 0, (capacity - open->capacity) * sizeof(CsFunnelSlot));
		open->capacity = capacity;
	}
	slot = &open->slots[open->n++];
	if (slot->funnel == NULL) /* the memory of one that has ended is used again */
		slot->funnel = cs_funnel_init(palloc(cs_funnel_size(&op->rule)), &op->rule);
	cs_funnel_reset(slot->funnel);
	slot->group = group;
	return slot;
}

/* Slot i is over: the last one takes its place. */
static void
slot_remove(CsFunnelSlots *open, int i)
{
	CsFunnelSlot gone = open->slots[i];

	open->slots[i] = open->slots[--open->n];
	open->slots[open->n] = gone;
}

static CsFunnelReason
end_reason(const CsFunnelRule *rule, const CsFunnel *f)
{
	if (f->excluded)
		return CS_FUNNEL_WAS_EXCLUDED;
	switch (f->end)
	{
		case CS_FUNNEL_CONVERTED:
			return CS_FUNNEL_CONVERSION;
		case CS_FUNNEL_BROKEN:
			return CS_FUNNEL_WAS_BROKEN;
		case CS_FUNNEL_EXCLUDED:
			return CS_FUNNEL_EXPIRED; /* what the attempt shows had expired before */
		case CS_FUNNEL_GOES_ON:
			break;
	}
	return cs_funnel_expires(rule, f) ? CS_FUNNEL_EXPIRED : CS_FUNNEL_MAX_LENGTH;
}

/* reason OPEN: its own. */
static void
end_slot(CsFunnelWalk *walk, CsFunnelSlot *slot, CsFunnelReason reason)
{
	walk->ended(walk, slot, reason != CS_FUNNEL_OPEN ? reason : end_reason(&walk->op->rule, slot->funnel));
	cs_funnel_reset(slot->funnel);
}

static inline bool
same_group(const CsFunnelGroup *a, const CsFunnelGroup *b)
{
	return a && b && a->hash.lo == b->hash.lo && a->hash.hi == b->hash.hi;
}

/* Feed an attempt, open or not, with a group of equal time. */
static void
feed_slot(CsFunnelWalk *walk, CsFunnelSlot *slot, const CsFunnelWaiting *waiting, const CsFunnelEvent *events, int n)
{
	const CsFunnelRule *rule = &walk->op->rule;
	CsFunnel		   *f = slot->funnel;
	TimestampTz			t = waiting[0].place.time;

	if (f->open && t > cs_funnel_last_moment(rule, f))
		end_slot(walk, slot, CS_FUNNEL_OPEN);
	for (int i = 0; i < n;)
	{
		int opener;
		int taken;

		if (slot->group && rule->mode == CS_FUNNEL_UNORDERED && !f->open && !same_group(waiting[i].group, slot->group))
		{
			i++; /* only its own value opens it */
			continue;
		}
		taken = cs_funnel_take(rule, f, t, events + i, n - i, &opener);

		if (opener >= 0)
		{
			slot->first = waiting[i + opener].place;
			if (walk->opened)
				walk->opened(walk, slot);
		}
		i += taken;
		if (f->end != CS_FUNNEL_GOES_ON)
			end_slot(walk, slot, CS_FUNNEL_OPEN);
	}
}

/* What the events are to the attempts of a value: another value's step 1 is none. */
static void
masks_for(const CsFunnelWalk *walk, const CsFunnelGroup *group, const CsFunnelWaiting *waiting, CsFunnelEvent *events,
		  int n)
{
	bool own_first = group != NULL && walk->op->rule.mode != CS_FUNNEL_UNORDERED;

	for (int i = 0; i < n; i++)
	{
		events[i] = waiting[i].meets;
		if (own_first && !same_group(waiting[i].group, group))
			events[i].steps &= ~(uint32) 1;
	}
}

static int
find_slot(const CsFunnelSlots *open, const CsFunnelGroup *group)
{
	for (int i = 0; i < open->n; i++)
		if (same_group(open->slots[i].group, group))
			return i;
	return -1;
}

/* One more than may be open: the oldest ends. */
static void
end_oldest(CsFunnelWalk *walk)
{
	int oldest = 0;

	for (int i = 1; i < walk->open->n; i++)
		if (cs_place_cmp(&walk->open->slots[i].first, &walk->open->slots[oldest].first) < 0)
			oldest = i;
	end_slot(walk, &walk->open->slots[oldest], CS_FUNNEL_TOO_MANY);
	slot_remove(walk->open, oldest);
}

/* Each value's attempt, then those of values that have none open. */
static void
feed_groups(CsFunnelWalk *walk, const CsFunnelWaiting *waiting, CsFunnelEvent *events, int n)
{
	CsFunnelSlots *open = walk->open;

	for (int i = 0; i < open->n; i++)
	{
		masks_for(walk, open->slots[i].group, waiting, events, n);
		feed_slot(walk, &open->slots[i], waiting, events, n);
	}
	for (int k = 0; k < n; k++)
	{
		CsFunnelSlot *slot;

		if (waiting[k].group == NULL || find_slot(open, waiting[k].group) >= 0)
			continue;
		slot = cs_funnel_slot_add(walk->op, open, waiting[k].group);
		masks_for(walk, slot->group, waiting, events, n);
		feed_slot(walk, slot, waiting, events, n);
	}
	for (int i = open->n - 1; i >= 0; i--)
		if (!open->slots[i].funnel->open)
			slot_remove(open, i);
	while (open->n > CS_FUNNEL_MAX_ATTEMPTS)
		end_oldest(walk);
}

/* Apply all events of one time, in place order. */
static void
feed(CsFunnelWalk *walk, const CsFunnelWaiting *waiting, int n)
{
	CsFunnelSlots *open = walk->open;
	CsFunnelEvent  one;
	CsFunnelEvent *events = &one;

	if (n > 1)
		events = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(CsFunnelEvent) * n);
	if (walk->op->ngroups > 0)
		feed_groups(walk, waiting, events, n);
	else
	{
		masks_for(walk, NULL, waiting, events, n);
		if (open->n == 0)
			cs_funnel_slot_add(walk->op, open, NULL);
		feed_slot(walk, &open->slots[0], waiting, events, n);
		open->n = open->slots[0].funnel->open ? 1 : 0;
	}
	if (n > 1)
		pfree(events);
}

int64
cs_funnel_walk_events(CsFunnelWalk *walk, const CsFunnelWork *w, int64 from, TimestampTz limit)
{
	int64 end;

	for (; from < w->nwaiting && w->waiting[from].place.time <= limit; from = end)
	{
		TimestampTz t = w->waiting[from].place.time;

		for (end = from + 1; end < w->nwaiting && w->waiting[end].place.time == t; end++)
			;
		feed(walk, w->waiting + from, (int) (end - from));
	}
	return from;
}

void
cs_funnel_walk_end(CsFunnelWalk *walk, TimestampTz limit, bool finish)
{
	CsFunnelSlots *open = walk->open;

	for (int i = open->n - 1; i >= 0; i--)
	{
		CsFunnelSlot *slot = &open->slots[i];

		if (!finish && limit <= cs_funnel_last_moment(&walk->op->rule, slot->funnel))
			continue;
		end_slot(walk, slot, finish && !slot->funnel->excluded ? CS_FUNNEL_FINISH : CS_FUNNEL_OPEN);
		slot_remove(open, i);
	}
}

TimestampTz
cs_funnel_next_end(const CsFunnelOperator *op, const CsFunnelSlots *open)
{
	TimestampTz next = CS_WM_DONE;

	for (int i = 0; i < open->n; i++)
	{
		/* "no moment" is CS_WM_DONE: even the last attempt of all time must have one */
		int64 last = Min(cs_funnel_last_moment(&op->rule, open->slots[i].funnel), CS_WM_DONE - 2);

		next = Min(next, last + 1);
	}
	return next;
}
