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
 * publication.  Its members lie in a chain of pieces under a slot, like an
 * entry's bytes, and are never moved but while one small piece is all; an
 * entry's bytes say how many of them belong to it, so whoever has older bytes
 * takes the first ones.  What finds a member is the worker's own.
 *
 * Locking: see entry.c; members beyond the slot's len are nobody else's.
 */
#include "postgres.h"

#include "core/memory.h"
#include "state/spill.h"
#include "utils/memutils.h"

#define MEMBER_BYTES ((int64) (sizeof(CsHash128) + 2 * sizeof(uint32)))
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

static inline CsHash128 *
member_at(const CsBigSet *set, int64 i)
{
	return (CsHash128 *) set->pieces[i / CS_SET_PIECE]->bytes + i % CS_SET_PIECE;
}

bool
cs_bigset_has(const CsBigSet *set, int64 n, CsHash128 member)
{
	for (uint32 i = (uint32) member.lo & set->index_mask;; i = (i + 1) & set->index_mask)
	{
		uint32 at = set->index[i];

		if (at == 0)
			return false;
		if (same(*member_at(set, at - 1), member))
			return at <= n;
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

static int64
index_bytes(const CsBigSet *set)
{
	return set->index ? ((int64) set->index_mask + 1) * (int64) sizeof(uint32) : 0;
}

/* The index stays at most half full. */
static void
grow_index(CsState *state, CsBigSet *set)
{
	int64	slots = set->index ? ((int64) set->index_mask + 1) * 2 : 128;
	uint32 *index =
		MemoryContextAllocExtended(state->context, slots * sizeof(uint32), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	state->set_bytes += slots * (int64) sizeof(uint32) - index_bytes(set);
	if (set->index)
		pfree(set->index);
	set->index = index;
	set->index_mask = (uint32) slots - 1;
	for (int64 m = 0; m < set->n; m++)
	{
		uint32 i = (uint32) member_at(set, m)->lo & set->index_mask;

		while (index[i] != 0)
			i = (i + 1) & set->index_mask;
		index[i] = (uint32) m + 1;
	}
	cs_memory_advise(index, slots * sizeof(uint32));
}

static void
note_piece(CsState *state, CsBigSet *set, CsChain *piece)
{
	if (set->npieces == set->pieces_capacity)
	{
		set->pieces_capacity = Max(2 * set->pieces_capacity, 1);
		set->pieces = set->pieces ? repalloc(set->pieces, set->pieces_capacity * sizeof(CsChain *))
								  : MemoryContextAlloc(state->context, set->pieces_capacity * sizeof(CsChain *));
	}
	set->pieces[set->npieces++] = piece;
}

/* A larger first piece in place of the one there was, if any. */
static void
grow_first_piece(CsState *state, CsBigSet *set)
{
	uint32	 size = sizeof(CsChain);
	CsEntry *slot = set->slot;
	uint8 class;
	CsChain *piece;
	LWLock	*lock;

	if (set->capacity < CS_SET_PIECE / 2)
		size = offsetof(CsChain, bytes) + (uint32) (2 * Max(set->capacity, 31)) * sizeof(CsHash128);
	piece = cs_arena_alloc(&state->data_pieces, size, &class);
	piece->next = NULL;
	if (set->npieces > 0)
		memcpy(piece->bytes, set->pieces[0]->bytes, set->n * sizeof(CsHash128));
	lock = cs_slot_lock(state, slot);
	if (slot->data)
		cs_arena_free(&state->data_pieces, slot->data, slot->data_class);
	slot->data = (char *) piece;
	slot->data_class = class;
	if (lock)
		LWLockRelease(lock);
	set->npieces = 0;
	note_piece(state, set, piece);
	set->capacity = (cs_arena_size(class) - offsetof(CsChain, bytes)) / sizeof(CsHash128);
}

/* Room for one more member. */
static void
grow_pieces(CsState *state, CsBigSet *set)
{
	CsChain *piece;
	uint8 class;

	if (set->capacity < CS_SET_PIECE)
	{
		grow_first_piece(state, set);
		return;
	}
	piece = cs_arena_alloc(&state->data_pieces, sizeof(CsChain), &class);
	piece->next = NULL;
	set->pieces[set->npieces - 1]->next = piece;
	note_piece(state, set, piece);
	set->capacity += CS_SET_PIECE;
}

static void
bigset_insert(CsState *state, CsBigSet *set, CsHash128 member)
{
	uint32 i;

	if (set->index == NULL || (set->n + 1) * 2 > (int64) set->index_mask + 1)
	{
		if (set->n >= PG_INT32_MAX / 2)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("a distinct count has more than %d members", PG_INT32_MAX / 2)));
		grow_index(state, set);
	}
	for (i = (uint32) member.lo & set->index_mask; set->index[i] != 0; i = (i + 1) & set->index_mask)
		if (same(*member_at(set, set->index[i] - 1), member))
			return;
	if (set->n == set->capacity)
		grow_pieces(state, set);
	*member_at(set, set->n) = member;
	set->index[i] = (uint32) ++set->n;
}

static void
count_members(CsState *state, int64 n)
{
	state->set_bytes += n * (int64) sizeof(CsHash128);
	state->member_bytes += n * (int64) sizeof(CsHash128);
}

CsBigSet *
cs_bigset_make(CsState *state, int32 definition_id, uint64 id, int half)
{
	bool	  found;
	CsBigSet *set = hash_search(state->sets, &id, HASH_ENTER, &found);

	if (found)
		return set;
	memset((char *) set + sizeof(set->id), 0, sizeof(*set) - sizeof(set->id));
	set->state = state;
	set->definition_id = definition_id;
	set->half = (uint8) half;
	dlist_push_tail(&state->half_sets[half], &set->half_node);
	return set;
}

void
cs_bigset_append(CsState *state, CsBigSet *set, const char *members, int64 n)
{
	LWLock *lock;
	int64	before;

	if (set->slot == NULL)
	{
		CsKey key = {.def = (uint32) set->definition_id, .bucket = (int64) set->id};

		set->slot = cs_slot_make(state, &key, CS_HOLDS_SET);
	}
	before = set->slot->len;
	for (int64 i = 0; i < n; i++)
		bigset_insert(state, set, load_member(members + i * sizeof(CsHash128)));
	lock = cs_slot_lock(state, set->slot);
	set->slot->len = (uint32) set->n;
	set->slot->changed = state->commit;
	if (lock)
		LWLockRelease(lock);
	state->bytes += (set->n - before) * MEMBER_BYTES;
	count_members(state, set->n - before);
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

CsHash128 *
cs_bigset_gather(const CsBigSet *set)
{
	CsHash128 *members = MemoryContextAllocHuge(CurrentMemoryContext, Max(set->n, 1) * sizeof(CsHash128));

	for (int64 at = 0, n; at < set->n; at += n)
	{
		const CsHash128 *run = cs_bigset_run(set, at, set->n, &n);

		memcpy(members + at, run, n * sizeof(CsHash128));
	}
	return members;
}

void
cs_bigset_empty(CsState *state, CsBigSet *set, int64 n)
{
	if (set->slot)
	{
		state->bytes -= set->slot->len * MEMBER_BYTES;
		count_members(state, -(int64) set->slot->len);
		cs_slot_drop(state, set->slot);
	}
	state->set_bytes -= index_bytes(set);
	if (set->index)
		pfree(set->index);
	if (set->pieces)
		pfree(set->pieces);
	set->slot = NULL;
	set->index = NULL;
	set->pieces = NULL;
	set->npieces = set->pieces_capacity = 0;
	set->capacity = 0;
	set->n = n;
}

/* Whoever reads members has them read back. */
static inline CsBigSet *
resident(CsBigSet *set)
{
	if (set->slot == NULL && set->n > 0)
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
	if (set->big && cs_bigset_has(resident(set->big), set->nbig, member))
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
		__builtin_prefetch(member_at(set->big, at - 1));
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
	for (int64 at = 0, n; at < src->nbig; at += n)
	{
		const CsHash128 *members = cs_bigset_run(resident(src->big), at, src->nbig, &n);

		add_all(dst, members, n);
	}
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
		visit(*member_at(resident(set->big), i), arg);
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
	cs_put_uint(buf, (uint64) cs_set_count(set));
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
	if (set->big->damaged)
	{
		set->big->missed = true;
		cs_reader_corrupt(r, "rows of its distinct set in the spill table cannot be read");
	}
	set->nbig = (int64) cs_get_uint(r);
	if (set->nbig > set->big->n)
		cs_reader_corrupt(r, "members of a distinct set are missing");
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

void
cs_state_damaged_sets(CsState *state, bool drop, CsDamagedSet visit, void *arg)
{
	HASH_SEQ_STATUS scan;
	CsBigSet	   *big;

	hash_seq_init(&scan, state->sets);
	while ((big = hash_seq_search(&scan)) != NULL)
	{
		CsSet set = {.id = big->id, .big = big};

		if (!big->damaged)
			continue;
		if (drop)
			cs_set_drop(state, &set);
		visit(big->definition_id, big->id, big->missed, arg);
	}
}
