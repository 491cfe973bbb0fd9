/*
 * state/spill_index.c
 *	  Keys of spilled entries; see spill_index.h.
 *
 * Open addressing in 64 tables, each of which grows by a quarter when it is
 * full: so growing never needs much more than what is there, and little is
 * empty; one that has become nearly empty is made smaller.  A key's place is its
 * hash times the size, which keeps the order of hashes when a table grows.
 *
 * What is due.  The watermark moves a little with each commit, and something
 * is due nearly each time: to look at every key then would cost more than the
 * events.  So one look gathers what is due soon in a heap, and the heap answers
 * until the watermark has come to its end.  How far "soon" reaches follows from
 * how much the last look has found.  What leaves the index stays in the heap and
 * is passed over there.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "core/mutant.h"
#include "state/spill_index.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SHARDS 64
#define FREE_SLOT (CS_WM_NONE + 1) /* a due that no entry has */
#define FIRST_SLOTS 16
#define EMPTY 4							/* so many times as large as what is in it */
#define NEAR_MIN 4096					/* soon is what so many are, or ... */
#define NEAR_PART 32					/* ... one in so many */
#define FIRST_SPAN (60 * USECS_PER_SEC) /* soon is up to here, at first */

/* Element of a table; of a heap, too. */
typedef CsSpillDue Slot;

typedef struct Shard
{
	Slot  *slots;
	uint32 size;
	uint32 used;
} Shard;

struct CsSpillIndex
{
	MemoryContext cxt;
	int64		  count;
	int64		  bytes;
	Shard		  shards[SHARDS];

	/* what is due soon: all whose due lies up to near_end, and others that were */
	Slot	   *near;
	int64		nnear, near_capacity;
	TimestampTz near_end; /* CS_WM_NONE: nothing is gathered */
	TimestampTz span;
	bool		taken; /* this batch has what the heap no longer knows */

	/* the last question for the next due, if nothing has changed since */
	bool		next_known;
	TimestampTz next_after, next;
};

static CsHash128
identity(const CsKey *key)
{
	CsHash128 id = key->who;

	if (key->bucket != 0)
	{
		uint64 mixed = (uint64) key->bucket * UINT64CONST(0x9E3779B97F4A7C15);

		id.lo = (id.lo ^ mixed) * UINT64CONST(0xD6E8FEB86659FD93);
		id.hi ^= (mixed >> 32 | mixed << 32) * UINT64CONST(0xC2B2AE3D27D4EB4F);
		id.lo ^= id.lo >> 32;
		id.hi ^= id.hi >> 29;
	}
	return id;
}

static inline Shard *
shard_of(CsSpillIndex *index, CsHash128 id)
{
	return &index->shards[id.hi >> 58];
}

static inline uint32
home_of(const Shard *shard, CsHash128 id)
{
	return (uint32) (((id.lo >> 32) * shard->size) >> 32);
}

static inline bool
same(CsHash128 a, CsHash128 b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

CsSpillIndex *
cs_spill_index_create(MemoryContext cxt)
{
	CsSpillIndex *index = MemoryContextAllocZero(cxt, sizeof(CsSpillIndex));

	index->cxt = cxt;
	index->bytes = sizeof(CsSpillIndex);
	index->near_end = CS_WM_NONE;
	index->span = FIRST_SPAN;
	return index;
}

/* Where the key is, or would go. */
static Slot *
find_slot(const Shard *shard, CsHash128 id)
{
	uint32 i = home_of(shard, id);

	while (shard->slots[i].due != FREE_SLOT && !same(shard->slots[i].who, id))
		i = i + 1 == shard->size ? 0 : i + 1;
	return &shard->slots[i];
}

static void
resize(CsSpillIndex *index, Shard *shard, uint32 size)
{
	Shard old = *shard;

	shard->size = Max(FIRST_SLOTS, size);
	shard->slots = MemoryContextAllocHuge(index->cxt, shard->size * sizeof(Slot));
	for (uint32 i = 0; i < shard->size; i++)
		shard->slots[i].due = FREE_SLOT;
	for (uint32 i = 0; i < old.size; i++)
	{
		if (old.slots[i].due != FREE_SLOT)
			*find_slot(shard, old.slots[i].who) = old.slots[i];
	}
	if (old.slots)
		pfree(old.slots);
	index->bytes += ((int64) shard->size - old.size) * (int64) sizeof(Slot);
}

/* ---- what is due soon: a heap with the earliest in front ---- */

static void
near_push(CsSpillIndex *index, Slot slot)
{
	int64 i = index->nnear;

	if (i == index->near_capacity)
	{
		int64 capacity = Max(1024, i + i / 2);

		index->near = index->near ? repalloc_huge(index->near, capacity * sizeof(Slot))
								  : MemoryContextAllocHuge(index->cxt, capacity * sizeof(Slot));
		index->bytes += (capacity - i) * (int64) sizeof(Slot);
		index->near_capacity = capacity;
	}
	index->nnear++;
	for (; i > 0 && index->near[(i - 1) / 2].due > slot.due; i = (i - 1) / 2)
		index->near[i] = index->near[(i - 1) / 2];
	index->near[i] = slot;
}

static Slot
near_pop(CsSpillIndex *index)
{
	Slot  first = index->near[0];
	Slot  last = index->near[--index->nnear];
	int64 i = 0;

	for (;;)
	{
		int64 child = 2 * i + 1;

		if (child >= index->nnear)
			break;
		if (child + 1 < index->nnear && index->near[child + 1].due < index->near[child].due)
			child++;
		if (index->near[child].due >= last.due)
			break;
		index->near[i] = index->near[child];
		i = child;
	}
	if (index->nnear > 0)
		index->near[i] = last;
	return first;
}

static void
near_forget(CsSpillIndex *index)
{
	if (index->near)
		pfree(index->near);
	index->bytes -= index->near_capacity * (int64) sizeof(Slot);
	index->near = NULL;
	index->nnear = index->near_capacity = 0;
	index->near_end = CS_WM_NONE;
}

/* Is it still so?  Keys that were read or deleted since are not, nor those that were written with another due. */
static bool
still_holds(const CsSpillIndex *index, const Slot *slot)
{
	const Shard *shard = shard_of((CsSpillIndex *) index, slot->who);
	const Slot	*found = find_slot(shard, slot->who);

	return found->due == slot->due;
}

static inline int64
near_limit(const CsSpillIndex *index)
{
	return Max(NEAR_MIN, index->count / NEAR_PART);
}

/*
 * Gather what is due in the span behind that moment; what is due up to it is
 * with the caller.  A span that was too long is shorter the next time.
 */
static void
near_gather(CsSpillIndex *index, TimestampTz from)
{
	int64 limit = near_limit(index);

	near_forget(index);
	if (from > DT_NOEND - 1 - index->span)
		return;
	index->near_end = from + index->span;
	for (int s = 0; s < SHARDS; s++)
	{
		Shard *shard = &index->shards[s];

		for (uint32 i = 0; i < shard->size; i++)
		{
			Slot *slot = &shard->slots[i];

			if (slot->due == FREE_SLOT || slot->due <= from || slot->due > index->near_end)
				continue;
			if (index->nnear == limit)
			{
				near_forget(index);
				index->span = Max(index->span / 4, 1);
				return;
			}
			near_push(index, *slot);
		}
	}
	if (index->nnear < limit / 4)
		index->span = Min(index->span * 2, INT64CONST(36500) * USECS_PER_DAY);
}

/* ---- keys ---- */

void
cs_spill_index_shrink(CsSpillIndex *index)
{
	for (int s = 0; s < SHARDS; s++)
	{
		Shard *shard = &index->shards[s];

		if (shard->size > FIRST_SLOTS && shard->used < shard->size / EMPTY)
			resize(index, shard, shard->used * 2);
	}
	if (index->near_capacity > FIRST_SLOTS * SHARDS && index->nnear < index->near_capacity / EMPTY)
		near_forget(index);
}

void
cs_spill_index_add(CsSpillIndex *index, const CsKey *key, TimestampTz due)
{
	CsHash128 id = identity(key);
	Shard	 *shard = shard_of(index, id);
	Slot	 *slot;

	if (CS_MUTANT(SPILL_FORGETS) && key->bucket == 0 && id.lo % 16 == 0)
		return;
	if (shard->used >= shard->size - shard->size / 8)
		resize(index, shard, shard->size + shard->size / 4);
	slot = find_slot(shard, id);
	Assert(slot->due == FREE_SLOT);
	slot->who = id;
	slot->due = due;
	shard->used++;
	index->count++;
	if (index->near_end != CS_WM_NONE && due <= index->near_end)
		near_push(index, *slot);
	if (index->nnear > 4 * near_limit(index))
		near_forget(index); /* mostly what has gone and come again */
	index->next_known = false;
}

void
cs_spill_index_prefetch(const CsSpillIndex *index, const CsKey *key)
{
	CsHash128	 id = identity(key);
	const Shard *shard = shard_of((CsSpillIndex *) index, id);

	if (shard->used > 0)
		__builtin_prefetch(&shard->slots[home_of(shard, id)]);
}

bool
cs_spill_index_has(const CsSpillIndex *index, const CsKey *key, TimestampTz *due)
{
	CsHash128	 id = identity(key);
	const Shard *shard = shard_of((CsSpillIndex *) index, id);

	if (shard->used == 0)
		return false;
	*due = find_slot(shard, id)->due;
	return *due != FREE_SLOT;
}

/* What stands behind it moves up, so that nobody who looks for that meets the gap. */
void
cs_spill_index_remove(CsSpillIndex *index, const CsKey *key)
{
	CsHash128 id = identity(key);
	Shard	 *shard = shard_of(index, id);
	uint32	  hole = (uint32) (find_slot(shard, id) - shard->slots);
	uint32	  i = hole;

	if (shard->slots[hole].due == FREE_SLOT)
		elog(ERROR, "a spilled entry is not in the index");
	for (;;)
	{
		uint32 home;

		i = i + 1 == shard->size ? 0 : i + 1;
		if (shard->slots[i].due == FREE_SLOT)
			break;
		home = home_of(shard, shard->slots[i].who);
		/* may it stand in the hole: is that between its home and where it is? */
		if ((i + shard->size - home) % shard->size >= (i + shard->size - hole) % shard->size)
		{
			shard->slots[hole] = shard->slots[i];
			hole = i;
		}
	}
	shard->slots[hole].due = FREE_SLOT;
	shard->used--;
	index->count--;
	index->next_known = false;
}

int64
cs_spill_index_count(const CsSpillIndex *index)
{
	return index->count;
}

int64
cs_spill_index_bytes(const CsSpillIndex *index)
{
	return index->bytes;
}

/* ---- by time ---- */

typedef struct Due
{
	Slot *slots;
	int	  n, max, capacity;
} Due;

/* False if there is no room for it. */
static bool
list_add(Due *list, const Slot *slot)
{
	if (list->n == list->max)
		return false;
	if (list->n == list->capacity)
	{
		list->capacity = list->capacity ? list->capacity * 2 : 256;
		list->slots = list->slots ? repalloc_huge(list->slots, list->capacity * sizeof(Slot))
								  : MemoryContextAllocHuge(CurrentMemoryContext, list->capacity * sizeof(Slot));
	}
	list->slots[list->n++] = *slot;
	return true;
}

/* False if max was reached. */
static bool
look_at_all(CsSpillIndex *index, TimestampTz after, TimestampTz upto, Due *list)
{
	for (int s = 0; s < SHARDS; s++)
	{
		Shard *shard = &index->shards[s];

		for (uint32 i = 0; i < shard->size; i++)
		{
			Slot *slot = &shard->slots[i];

			if (slot->due == FREE_SLOT || slot->due == CS_WM_DONE || slot->due > upto ||
				(slot->due <= after && after != CS_WM_NONE))
				continue;
			if (!list_add(list, slot))
				return false;
		}
	}
	return true;
}

/* The heap gives what is due up to that moment; the caller takes it out of the index.  False if max was reached. */
static bool
take_near(CsSpillIndex *index, TimestampTz upto, Due *list)
{
	while (index->nnear > 0 && index->near[0].due <= upto)
	{
		Slot slot;

		if (list->n == list->max)
			return false;
		slot = near_pop(index);
		if (still_holds(index, &slot))
			(void) list_add(list, &slot);
	}
	return true;
}

CsSpillDue *
cs_spill_index_due(CsSpillIndex *index, TimestampTz upto, int max, int *n, bool *more)
{
	Due list = {.max = max};

	*more = false;
	*n = 0;
	if (index->count == 0 || CS_MUTANT(SPILL_NOT_DUE))
		return NULL;
	index->taken = true;
	if (index->near_end != CS_WM_NONE && upto <= index->near_end)
		*more = !take_near(index, upto, &list);
	else
	{
		*more = !look_at_all(index, CS_WM_NONE, upto, &list);
		if (!*more)
			near_gather(index, upto);
	}
	*n = list.n;
	return list.slots;
}

CsSpillDue *
cs_spill_index_between(CsSpillIndex *index, TimestampTz after, TimestampTz upto, int max, int *n, bool *more)
{
	Due list = {.max = max};

	*more = index->count > 0 && !look_at_all(index, after, upto, &list);
	*n = list.n;
	return list.slots;
}

/* A batch that failed may not have got all that it took. */
void
cs_spill_index_end_batch(CsSpillIndex *index, bool committed)
{
	if (index->taken && !committed)
		near_forget(index);
	index->taken = false;
}

TimestampTz
cs_spill_index_next(CsSpillIndex *index, TimestampTz after)
{
	TimestampTz next = CS_WM_DONE;

	if (index->count == 0)
		return CS_WM_DONE;
	if (index->next_known && index->next_after == after)
		return index->next;
	for (int s = 0; s < SHARDS; s++)
	{
		Shard *shard = &index->shards[s];

		for (uint32 i = 0; i < shard->size; i++)
		{
			TimestampTz due = shard->slots[i].due;

			if (due != FREE_SLOT && due < next && (due > after || after == CS_WM_NONE))
				next = due;
		}
	}
	index->next_known = true;
	index->next_after = after;
	index->next = next;
	return next;
}
