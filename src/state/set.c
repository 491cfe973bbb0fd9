/*
 * state/set.c
 *	  Exact distinct sets of 128-bit hashes.
 *
 * A small set (up to CS_SET_INLINE members) lies inside its entry's bytes.  A
 * larger one becomes a set of its own, known by a number that is never used
 * again; the log then gets only the members added, so no set is ever written
 * twice but by copying forward.  Adding is idempotent and a set only grows
 * until it is dropped, which makes the order of records within it irrelevant.
 *
 * A batch adds to a private list (CsSet.added); the committed set changes at
 * publication.  No locking: private to the process.
 */
#include "postgres.h"

#include "core/memory.h"
#include "state/spill.h"
#include "utils/memutils.h"

#define LINEAR_MAX 16 /* added members searched one by one up to here */

static inline CsHash128
load_member(const char *p)
{
	CsHash128 h;

	memcpy(&h, p, sizeof(h));
	return h;
}

static inline bool
same(CsHash128 a, CsHash128 b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

/* ---- committed sets ---- */

CsBigSet *
cs_bigset_find(CsState *state, uint64 id)
{
	return hash_search(state->sets, &id, HASH_FIND, NULL);
}

bool
cs_bigset_has(const CsBigSet *set, CsHash128 member)
{
	for (uint32 i = (uint32) member.lo & set->index_mask;; i = (i + 1) & set->index_mask)
	{
		uint32 at = set->index[i];

		if (at == 0)
			return false;
		if (same(set->members[at - 1], member))
			return true;
	}
}

static void
index_members(uint32 *index, uint32 mask, const CsHash128 *members, int64 n)
{
	for (int64 m = 0; m < n; m++)
	{
		uint32 i = (uint32) members[m].lo & mask;

		while (index[i] != 0)
			i = (i + 1) & mask;
		index[i] = (uint32) m + 1;
	}
}

/* Room for one more member; the index stays at most half full. */
static void
bigset_grow(CsState *state, CsBigSet *set)
{
	int64	   capacity = set->capacity ? set->capacity * 2 : 64;
	uint32	   slots = (uint32) capacity * 2;
	CsHash128 *members = MemoryContextAllocHuge(state->context, capacity * sizeof(CsHash128));
	uint32	  *index = MemoryContextAllocHuge(state->context, slots * sizeof(uint32));

	memset(index, 0, slots * sizeof(uint32));
	if (set->n > 0)
		memcpy(members, set->members, set->n * sizeof(CsHash128));
	index_members(index, slots - 1, members, set->n);
	if (set->members)
	{
		pfree(set->members);
		pfree(set->index);
	}
	state->bytes += (capacity - set->capacity) * (sizeof(CsHash128) + 2 * sizeof(uint32));
	state->set_bytes += (capacity - set->capacity) * (sizeof(CsHash128) + 2 * sizeof(uint32));
	cs_memory_advise(members, capacity * sizeof(CsHash128));
	cs_memory_advise(index, slots * sizeof(uint32));
	set->members = members;
	set->index = index;
	set->index_mask = slots - 1;
	set->capacity = capacity;
}

static void
bigset_insert(CsState *state, CsBigSet *set, CsHash128 member)
{
	uint32 i;

	if (set->n == set->capacity)
	{
		if (set->n >= PG_INT32_MAX / 2)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("a distinct count has more than %d members", PG_INT32_MAX / 2)));
		bigset_grow(state, set);
	}
	for (i = (uint32) member.lo & set->index_mask; set->index[i] != 0; i = (i + 1) & set->index_mask)
		if (same(set->members[set->index[i] - 1], member))
			return;
	set->members[set->n] = member;
	set->index[i] = (uint32) ++set->n;
}

CsBigSet *
cs_bigset_make(CsState *state, int32 definition_id, uint64 id, int half)
{
	bool	  found;
	CsBigSet *set = hash_search(state->sets, &id, HASH_ENTER, &found);

	if (!found)
	{
		memset((char *) set + sizeof(set->id), 0, sizeof(*set) - sizeof(set->id));
		set->state = state;
		set->definition_id = definition_id;
		set->half = (uint8) half;
		dlist_push_tail(&state->half_sets[half], &set->half_node);
	}
	return set;
}

void
cs_bigset_append(CsState *state, CsBigSet *set, const char *members, int64 n)
{
	for (int64 i = 0; i < n; i++)
		bigset_insert(state, set, load_member(members + i * sizeof(CsHash128)));
}

void
cs_bigset_move(CsState *state, CsBigSet *set, int half)
{
	dlist_delete(&set->half_node);
	set->half = (uint8) half;
	dlist_push_tail(&state->half_sets[half], &set->half_node);
}

/* What is added to a set lies in the half that is written; it moves there if nothing of it lies in a half. */
void
cs_bigset_add(CsState *state, int32 definition_id, uint64 id, const char *members, int64 n, int half)
{
	CsBigSet *set = cs_bigset_make(state, definition_id, id, half);

	cs_bigset_append(state, set, members, n);
	cs_bigset_move(state, set, set->half == CS_HALF_TABLE ? half : set->half);
}

void
cs_bigset_empty(CsState *state, CsBigSet *set, int64 n)
{
	state->bytes -= set->capacity * (sizeof(CsHash128) + 2 * sizeof(uint32));
	state->set_bytes -= set->capacity * (sizeof(CsHash128) + 2 * sizeof(uint32));
	if (set->members)
	{
		pfree(set->members);
		pfree(set->index);
	}
	set->members = NULL;
	set->index = NULL;
	set->capacity = 0;
	set->n = n;
}

/* Whoever reads members has them read back. */
static inline CsBigSet *
resident(CsBigSet *set)
{
	if (set->members == NULL && set->n > 0)
		cs_spill_load_set(set);
	return set;
}

void
cs_bigset_drop(CsState *state, uint64 id)
{
	CsBigSet *set = cs_bigset_find(state, id);

	if (set == NULL)
		return;
	dlist_delete(&set->half_node);
	cs_bigset_empty(state, set, 0);
	hash_search(state->sets, &id, HASH_REMOVE, NULL);
}

/* ---- a batch's view ---- */

static void
added_grow(CsSet *set)
{
	uint32 slots;

	if (set->added == NULL)
	{
		set->capacity = 4;
		set->added = palloc(set->capacity * sizeof(CsHash128));
		return;
	}
	set->capacity *= 2;
	set->added = repalloc_huge(set->added, set->capacity * sizeof(CsHash128));
	if (set->capacity <= LINEAR_MAX)
		return;
	slots = (uint32) set->capacity * 2;
	if (set->index)
		pfree(set->index);
	set->index = palloc_extended(slots * sizeof(uint32), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	set->index_mask = slots - 1;
	index_members(set->index, set->index_mask, set->added, set->nadded);
}

/* Called in batch memory. */
bool
cs_set_add(CsSet *set, CsHash128 member)
{
	uint32 slot = 0;

	for (int i = 0; i < set->nbase; i++)
		if (same(load_member(set->base + i * sizeof(CsHash128)), member))
			return false;
	if (set->big && cs_bigset_has(resident(set->big), member))
		return false;
	if (set->index == NULL)
	{
		for (int i = 0; i < set->nadded; i++)
			if (same(set->added[i], member))
				return false;
	}
	if (set->nadded == set->capacity)
		added_grow(set);
	if (set->index)
	{
		for (slot = (uint32) member.lo & set->index_mask; set->index[slot] != 0; slot = (slot + 1) & set->index_mask)
			if (same(set->added[set->index[slot] - 1], member))
				return false;
		set->index[slot] = (uint32) set->nadded + 1;
	}
	set->added[set->nadded++] = member;
	return true;
}

void
cs_set_prefetch_slot(const CsSet *set, CsHash128 member)
{
	if (set->big && set->big->index)
		__builtin_prefetch(&set->big->index[(uint32) member.lo & set->big->index_mask]);
}

void
cs_set_prefetch_member(const CsSet *set, CsHash128 member)
{
	uint32 at = set->big && set->big->index ? set->big->index[(uint32) member.lo & set->big->index_mask] : 0;

	if (at != 0)
		__builtin_prefetch(&set->big->members[at - 1]);
}

/* A large set is added with its places in dst's index on their way from memory. */
static void
add_all(CsSet *dst, const CsHash128 *members, int64 n)
{
	for (int64 i = 0; i < n; i++)
	{
		if (dst->index && i + 8 < n)
			__builtin_prefetch(&dst->index[(uint32) members[i + 8].lo & dst->index_mask]);
		cs_set_add(dst, members[i]);
	}
}

void
cs_set_union(CsState *state, CsSet *dst, const CsSet *src)
{
	(void) state;
	for (int i = 0; i < src->nbase; i++)
		cs_set_add(dst, load_member(src->base + i * sizeof(CsHash128)));
	add_all(dst, src->nbig > 0 ? resident(src->big)->members : NULL, src->nbig);
	add_all(dst, src->added, src->nadded);
}

void
cs_set_copy(CsSet *dst, const CsSet *src)
{
	*dst = *src;
	dst->added = NULL;
	dst->index = NULL;
	if (src->added == NULL)
		return;
	dst->added = palloc_extended(src->capacity * sizeof(CsHash128), MCXT_ALLOC_HUGE);
	memcpy(dst->added, src->added, src->nadded * sizeof(CsHash128));
	if (src->index == NULL)
		return;
	dst->index = palloc_extended((src->index_mask + (Size) 1) * sizeof(uint32), MCXT_ALLOC_HUGE);
	memcpy(dst->index, src->index, (src->index_mask + (Size) 1) * sizeof(uint32));
}

void
cs_set_visit(const CsSet *set, void (*visit)(CsHash128 member, void *arg), void *arg)
{
	for (int i = 0; i < set->nbase; i++)
		visit(load_member(set->base + i * sizeof(CsHash128)), arg);
	for (int64 i = 0; i < set->nbig; i++)
		visit(resident(set->big)->members[i], arg);
	for (int i = 0; i < set->nadded; i++)
		visit(set->added[i], arg);
}

static CsSetChange *
note_change(CsState *state, uint64 id)
{
	CsSetChange *change = MemoryContextAllocZero(state->batch, sizeof(CsSetChange));

	change->id = id;
	change->definition_id = state->serializing;
	*state->set_changes_tail = change;
	state->set_changes_tail = &change->next;
	return change;
}

void
cs_set_put(StringInfo buf, CsState *state, CsSet *set)
{
	CsSetChange *change;

	if (set->id == 0 && cs_set_count(set) <= CS_SET_INLINE)
	{
		cs_put_uint(buf, (uint64) cs_set_count(set) << 1);
		if (set->nbase > 0)
			cs_put_raw(buf, set->base, set->nbase * sizeof(CsHash128));
		if (set->nadded > 0)
			cs_put_raw(buf, set->added, set->nadded * sizeof(CsHash128));
		return;
	}
	if (set->id == 0)
		set->id = (uint64) state->log_next.next_set_id++;
	if (set->nadded > 0 || set->nbase > 0)
	{
		change = note_change(state, set->id);
		change->members = set->added;
		change->n = set->nadded;
		change->raw = set->base;
		change->nraw = set->nbase;
	}
	cs_put_uint(buf, set->id << 1 | 1);
}

void
cs_set_get(CsReader *r, CsState *state, CsSet *set)
{
	uint64 head = cs_get_uint(r);

	memset(set, 0, sizeof(*set));
	if ((head & 1) == 0)
	{
		if (head >> 1 > CS_SET_INLINE)
			cs_reader_corrupt(r, "an inline set is too large");
		set->nbase = (int) (head >> 1);
		set->base = cs_get_raw(r, set->nbase * sizeof(CsHash128));
		return;
	}
	set->id = head >> 1;
	set->big = cs_bigset_find(state, set->id);
	if (set->big == NULL)
		cs_reader_corrupt(r, "a distinct set is missing");
	set->nbig = set->big->n;
	set->big->used_in = state->round;
}

void
cs_set_drop(CsState *state, CsSet *set)
{
	if (set->id == 0)
		return;
	note_change(state, set->id)->drop = true;
	if (set->big)
		set->big->dropping = true;
}
