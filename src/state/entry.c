/*
 * state/entry.c
 *	  Committed entries: slots, their bytes, and what the worker finds them by.
 *
 * What is here changes committed state, so it runs after COMMIT or in
 * recovery only.  In a state that readers see, an entry that goes stays in its
 * slot, marked as gone, until nobody can ask for it (publish.c); one that
 * only loses a part (cs_work_keep()) goes on in another slot.  It must be this
 * way round: a reader that has passed the slot before has taken the entry, and
 * does not take the new one, which is too new for him; one that comes later
 * finds the old one where it was.
 *
 * Locking: a change of what readers see is made with the lock of the slot's
 * block, held for this one slot.  Bytes that no slot points to are nobody
 * else's.
 */
#include "postgres.h"

#include "core/mutant.h"
#include "state/internal.h"

/* Its slot, and its part of the table of keys, which is three to six tenths full. */
#define ENTRY_OVERHEAD ((int64) (CS_SLOT + 3 * sizeof(CsKeyRef)))

StaticAssertDecl(sizeof(CsEntry) <= CS_SLOT && sizeof(CsEntry) > CS_SLOT - 16,
				 "an entry is on two cache lines of its own");
StaticAssertDecl(CS_ENTRY_CHAINED == CS_ARENA_LARGE, "one number");
StaticAssertDecl(sizeof(CsChain) == CS_ARENA_LIMIT, "a piece of a chain is of the greatest class");

/* ---- slots ---- */

LWLock *
cs_slot_lock(CsState *state, const CsEntry *slot)
{
	int32 block = state->readable ? cs_block_of(slot) : -1;

	if (block < 0)
		return NULL;
	LWLockAcquire(cs_block_lock(block), LW_EXCLUSIVE);
	return cs_block_lock(block);
}

static inline void
unlock(LWLock *lock)
{
	if (lock)
		LWLockRelease(lock);
}

/* The slot is among those that readers of its block look at; with its lock held. */
static void
show_slot(const CsState *state, const CsEntry *slot)
{
	int32 block = state->region ? cs_block_of(slot) : -1;

	if (block >= 0)
	{
		int32 number = (int32) (((const char *) slot - cs_block_address(block)) / CS_SLOT);

		cs_pool->blocks[block].nslots = Max(cs_pool->blocks[block].nslots, number + 1);
	}
}

/* A slot without bytes, which readers do not take before its time. */
CsEntry *
cs_slot_make(CsState *state, const CsKey *key, CsSlotKind kind)
{
	uint8 class;
	CsEntry *slot = cs_arena_alloc(&state->entry_pieces, sizeof(CsEntry), &class);
	LWLock	*lock = cs_slot_lock(state, slot);

	memset(slot, 0, sizeof(*slot));
	slot->key = *key;
	slot->since = state->readable ? state->commit : 0;
	slot->changed = state->commit;
	slot->due = slot->queued = CS_WM_DONE;
	slot->kind = (uint8) kind;
	show_slot(state, slot);
	unlock(lock);
	return slot;
}

static void
free_bytes(CsState *state, CsEntry *slot)
{
	if (slot->data == NULL)
		return;
	if (slot->data_class == CS_ENTRY_CHAINED)
		cs_chain_free(&state->data_pieces, (CsChain *) slot->data);
	else
	{
		if (slot->kind == CS_HOLDS_SET)
			cs_chain_free(&state->data_pieces, ((CsChain *) slot->data)->next);
		cs_arena_free(&state->data_pieces, slot->data, slot->data_class);
	}
}

static void
free_slot(CsState *state, CsEntry *slot)
{
	LWLock *lock = cs_slot_lock(state, slot);
	CsEntry was = *slot;

	slot->kind = CS_HOLDS_NOTHING;
	unlock(lock);
	free_bytes(state, &was);
	cs_arena_free(&state->entry_pieces, slot, cs_arena_class(sizeof(CsEntry)));
}

static int64
slot_bytes(const CsEntry *slot)
{
	return CS_SLOT + (slot->kind == CS_HOLDS_SET ? slot->len * sizeof(CsHash128) : slot->len);
}

void
cs_gone_init(CsGone *gone)
{
	memset(gone, 0, sizeof(*gone));
	for (int i = 0; i < CS_GONE_LANES; i++)
		gone->tail[i] = &gone->first[i];
}

static void
gone_add(CsGone *gone, CsEntry *slot)
{
	CsEntry ***tail = &gone->tail[gone->nadded++ % CS_GONE_LANES];

	slot->next_gone = NULL;
	**tail = slot;
	*tail = &slot->next_gone;
}

/* The first one, and announce those to come. */
static void
gone_take(CsGone *gone, CsEntry *slot)
{
	uint32	 lane = gone->ntaken++ % CS_GONE_LANES;
	CsEntry *half_way = gone->first[(gone->ntaken + CS_GONE_LANES / 2) % CS_GONE_LANES];

	gone->first[lane] = slot->next_gone;
	if (slot->next_gone == NULL)
		gone->tail[lane] = &gone->first[lane];
	else
	{
		__builtin_prefetch(slot->next_gone, 1);
		__builtin_prefetch((const char *) slot->next_gone + CS_SLOT / 2, 1);
	}
	if (half_way && half_way->data)
		__builtin_prefetch(half_way->data, 1);
}

/* Nothing of the worker's points to it any more. */
void
cs_slot_drop(CsState *state, CsEntry *slot)
{
	LWLock *lock;

	if (!state->readable || CS_MUTANT(GONE_AT_ONCE))
	{
		free_slot(state, slot);
		return;
	}
	lock = cs_slot_lock(state, slot);
	slot->is_gone = true;
	slot->gone = state->commit;
	unlock(lock);
	gone_add(&state->gone, slot);
	state->kept_bytes += slot_bytes(slot);
}

void
cs_entries_forget(CsState *state, int64 commit)
{
	CsEntry *slot;

	while ((slot = cs_gone_first(&state->gone)) != NULL && slot->gone <= commit)
	{
		gone_take(&state->gone, slot);
		state->kept_bytes -= slot_bytes(slot);
		free_slot(state, slot);
	}
}

/* ---- bytes ---- */

char *
cs_entry_gather(const CsEntry *entry)
{
	char *bytes = MemoryContextAllocHuge(CurrentMemoryContext, entry->len);

	cs_chain_read((const CsChain *) entry->data, bytes, entry->len);
	return bytes;
}

/* With the slot's lock held. */
static void
set_bytes(CsState *state, CsEntry *entry, const char *data, uint32 len)
{
	bool is_large = len > CS_ARENA_LIMIT;

	if (is_large && entry->data && entry->data_class == CS_ENTRY_CHAINED)
		entry->data = (char *) cs_chain_write(&state->data_pieces, (CsChain *) entry->data, data, len);
	else if (is_large)
	{
		free_bytes(state, entry);
		entry->data = (char *) cs_chain_write(&state->data_pieces, NULL, data, len);
		entry->data_class = CS_ENTRY_CHAINED;
	}
	else
	{
		if (entry->data == NULL || !cs_arena_fits(entry->data_class, len))
		{
			free_bytes(state, entry);
			entry->data = cs_arena_alloc(&state->data_pieces, len, &entry->data_class);
		}
		memcpy(entry->data, data, len);
	}
	entry->len = len;
}

/* ---- entries ---- */

/* Replace a committed entry's bytes; they are copied. */
void
cs_entry_update(CsState *state, CsDefState *def, CsEntry *entry, const char *data, uint32 len, int half,
				TimestampTz due)
{
	LWLock *lock = cs_slot_lock(state, entry);

	state->bytes += (int64) len - entry->len;
	set_bytes(state, entry, data, len);
	entry->changed = state->commit;
	unlock(lock);
	if (entry->half != half)
	{
		dlist_delete(&entry->half_node);
		entry->half = (uint8) half;
		dlist_push_tail(&state->half[half], &entry->half_node);
	}
	entry->due = due;
	cs_timer_set(state, def, entry);
}

char *
cs_entry_piece(CsState *state, uint32 len, uint8 *class)
{
	return cs_arena_alloc(&state->data_pieces, len, class);
}

/* Its half and when it is due are as they were. */
void
cs_entry_take(CsState *state, CsEntry *entry, char *piece, uint8 class, uint32 len)
{
	Assert(!state->readable);
	state->bytes += (int64) len - entry->len;
	free_bytes(state, entry);
	entry->data = piece;
	entry->data_class = class;
	entry->len = len;
	entry->changed = state->commit;
}

/* Make or replace a committed entry; data is copied. */
void
cs_entry_install(CsState *state, CsDefState *def, const CsKey *key, const char *data, uint32 len, int half,
				 TimestampTz due)
{
	bool	  found;
	CsKeyRef *ref = keyset_insert(state->entries, key, &found);
	CsEntry	 *entry;

	if (!found)
	{
		entry = cs_slot_make(state, key, CS_HOLDS_ENTRY);
		ref->key = &entry->key;
		entry->half = (uint8) half;
		dlist_push_tail(&state->half[half], &entry->half_node);
		state->bytes += ENTRY_OVERHEAD;
		def->count++;
		if (key->bucket != 0)
		{
			CsBucket *b = cs_bucket_of(def, key->bucket, true);

			dlist_push_tail(&b->entries, &entry->list_node);
			b->nentries++;
		}
	}
	cs_entry_update(state, def, (CsEntry *) ref->key, data, len, half, due);
}

void
cs_entry_unlink(CsState *state, CsDefState *def, CsEntry *entry)
{
	if (entry->key.bucket != 0)
	{
		dlist_delete(&entry->list_node);
		cs_bucket_of(def, entry->key.bucket, false)->nentries--;
	}
	else
		cs_timer_leave(def, entry);
	dlist_delete(&entry->half_node);
	keyset_delete(state->entries, &entry->key);
	def->count--;
}

void
cs_entry_remove(CsState *state, CsDefState *def, CsEntry *entry)
{
	cs_entry_unlink(state, def, entry);
	state->bytes -= entry->len + ENTRY_OVERHEAD;
	cs_slot_drop(state, entry);
}

/* What is linked at the node of one slot is linked at that of another. */
static void
move_node(dlist_node *to, const dlist_node *from)
{
	*to = *from;
	to->prev->next = to;
	to->next->prev = to;
}

/* Whatever leads the worker to an entry leads to another slot. */
static void
move_links(CsState *state, CsEntry *to, const CsEntry *from)
{
	to->half = from->half;
	to->due = from->due;
	to->queued = from->queued;
	to->work = from->work;
	move_node(&to->half_node, &from->half_node);
	if (from->key.bucket != 0 || from->queued != CS_WM_DONE)
		move_node(&to->list_node, &from->list_node);
	keyset_lookup(state->entries, &from->key)->key = &to->key;
}

CsEntry *
cs_entry_keep(CsState *state, CsEntry *entry)
{
	CsEntry *next;

	if (!state->readable || CS_MUTANT(GONE_AT_ONCE))
		return entry;
	next = cs_slot_make(state, &entry->key, CS_HOLDS_ENTRY);
	move_links(state, next, entry);
	state->bytes -= entry->len;
	cs_slot_drop(state, entry);
	return next;
}

CsEntry *
cs_slot_move(CsState *state, CsEntry *from, CsBigSet *set)
{
	uint8 class;
	CsEntry *to = cs_arena_alloc(&state->entry_pieces, sizeof(CsEntry), &class);
	LWLock	*lock = cs_slot_lock(state, to);

	*to = *from;
	show_slot(state, to);
	unlock(lock);
	lock = cs_slot_lock(state, from);
	from->kind = CS_HOLDS_NOTHING;
	unlock(lock);
	state->entry_pieces.used -= cs_arena_size(class);
	if (set)
		set->slot = to;
	else
		move_links(state, to, from);
	return to;
}

void
cs_slot_set_link(CsState *state, const CsEntry *slot, char **link, char *piece)
{
	LWLock *lock = cs_slot_lock(state, slot);

	*link = piece;
	unlock(lock);
}

void
cs_state_clear(CsState *state)
{
	HASH_SEQ_STATUS scan;
	CsBigSet	   *set;

	for (int h = 0; h < 2; h++)
	{
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &state->half[h])
		{
			CsEntry *entry = dlist_container(CsEntry, half_node, iter.cur);

			cs_entry_remove(state, cs_def_state(state, (int32) entry->key.def), entry);
		}
	}
	hash_seq_init(&scan, state->sets);
	while ((set = hash_seq_search(&scan)) != NULL)
		cs_bigset_drop(state, set->id);
}
