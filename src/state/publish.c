/*
 * state/publish.c
 *	  A batch's end: the committed state takes over what the batch has made, or
 *	  the batch is forgotten.
 *
 * Publication comes after COMMIT and cannot fail: its memory was reserved
 * before (reserve.c).  It works on entries that were read up to a second ago and
 * have left the processor's caches since, so it asks for each some steps ahead.
 *
 * In shared memory the region says which commit is being published, and then
 * that it is; what this commit removes stays for readers of those before it
 * (entry.c): until no snapshot is left that does not see it, but for no more
 * than CS_KEPT_COMMITS.  Mostly that is until the next one, so what has gone
 * is used again while the processor's caches still have it.
 *
 * Locking: one slot at a time, in entry.c and set.c.
 */
#include "postgres.h"

#include "access/transam.h"
#include "core/fault.h"
#include "core/memory.h"
#include "state/budget.h"
#include "state/spill.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

#define WORKS_KEPT (64 * 1024) /* slots of the table of new works that are kept from batch to batch */

static void
clean_buckets(CsDefState *def)
{
	HASH_SEQ_STATUS scan;
	CsBucket	   *b;

	def->last_bucket = NULL;
	hash_seq_init(&scan, def->buckets);
	while ((b = hash_seq_search(&scan)) != NULL)
	{
		b->new_works = NULL;
		b->nnew = 0;
		if (b->nentries == 0 && b->nspilled == 0)
			hash_search(def->buckets, &b->bucket, HASH_REMOVE, NULL);
	}
}

/* No entry has a work any more. */
static void
unlink_works(CsState *state)
{
	for (CsWork *work = state->all_works; work; work = work->next)
	{
		if (work->base)
			work->base->work = NULL;
	}
}

/* What publish and abort have in common: the overlay is gone, timers are whole. */
static void
forget_batch(CsState *state)
{
	for (int i = 0; i < state->npopped; i++)
	{
		CsEntry *entry = state->popped[i];

		if (entry && entry->is_gone)
			entry = (CsEntry *) keyset_lookup(state->entries, &entry->key)->key; /* it goes on in another slot */
		if (entry)
			cs_timer_set(state, cs_def_state(state, (int32) entry->key.def), entry);
	}
	for (int i = 0; i < state->ndefs; i++)
	{
		state->defs[i].dirty = NULL;
		state->defs[i].ndirty = state->defs[i].dirty_capacity = 0;
		state->defs[i].new_count = 0;
		clean_buckets(&state->defs[i]);
	}
	if (state->works->size > WORKS_KEPT && (uint64) state->works->members * 16 < state->works->size)
	{
		keyset_destroy(state->works);
		state->works = keyset_create(state->context, CS_KEYSET_LEAST, NULL);
	}
	else
		keyset_reset(state->works);
	state->all_works = NULL;
	state->nworks = 0;
	state->batch_next = state->batch_end = NULL;
	memset(state->announced, 0, sizeof(state->announced));
	state->popped = state->copied = NULL;
	state->npopped = state->popped_capacity = 0;
	state->ncopied = state->copied_capacity = 0;
	state->copied_set = NULL;
	state->copied_sets = NULL;
	state->ncopied_sets = 0;
	state->set_changes = NULL;
	state->set_changes_tail = &state->set_changes;
	state->round++;
}

void
cs_state_abort(CsState *state)
{
	for (CsSetChange *c = state->set_changes; c; c = c->next)
	{
		CsBigSet *set = c->drop ? cs_bigset_find(state, c->id) : NULL;

		if (set)
			set->dropping = false;
	}
	memset(state->needs, 0, sizeof(state->needs));
	state->needs_slots = 0;
	state->log_next = state->log;
	state->log_bytes_next[0] = state->log_bytes[0];
	state->log_bytes_next[1] = state->log_bytes[1];
	unlink_works(state);
	forget_batch(state);
	cs_evict_abort(state);
}

/* Announce what publish_works() will touch of a work that comes up some steps later: one thing leads to the next. */
static inline void
prefetch_works(CsState *state, const CsDefState *def, int64 i)
{
	const CsDirty *ahead = def->dirty + i;

	if (i + 2 * CS_PREFETCH_WORK < def->ndirty)
	{
		__builtin_prefetch(ahead[2 * CS_PREFETCH_WORK].work);
		__builtin_prefetch((const char *) ahead[2 * CS_PREFETCH_WORK].work + 64);
	}
	if (i + CS_PREFETCH_WORK < def->ndirty)
	{
		const CsDirty *next = &ahead[CS_PREFETCH_WORK];

		if (next->base)
		{
			__builtin_prefetch(next->base, 1);
			__builtin_prefetch((const char *) next->base + 64, 1);
		}
		else
			cs_state_prefetch_slot(state, &next->work->key);
	}
	if (i + CS_PREFETCH_DATA < def->ndirty)
	{
		const CsDirty *next = &ahead[CS_PREFETCH_DATA];

		if (next->base)
			cs_prefetch_bytes(next->base->data, next->work->image_len);
		if (next->work->image)
			cs_prefetch_bytes(next->work->image, next->work->image_len);
	}
}

/* Of an entry that the spill table has: it stays the batch's guest, or comes home. */
static void
publish_guest(CsState *state, CsDefState *def, CsWork *work, CsEntry *guest, int half)
{
	if (work->deleted)
		cs_guest_remove(state, def, guest);
	else if (work->spills)
	{
		guest->data = work->image;
		guest->len = work->image_len;
		guest->due = work->due;
	}
	else if (work->image)
	{
		cs_guest_remove(state, def, guest);
		cs_entry_install(state, def, &work->key, work->image, work->image_len, half, work->due);
	}
}

static void
publish_spilled(CsState *state, CsDefState *def, CsWork *work, CsEntry *base)
{
	CsEntry entry = {.key = work->key, .data = work->image, .len = work->image_len, .due = work->due};

	if (base)
		cs_entry_remove(state, def, base);
	cs_spill_index_entry(state, def, &entry);
}

static void
publish_works(CsState *state, CsDefState *def)
{
	int half = state->log_next.half;

	for (int64 i = 0; i < def->ndirty; i++)
	{
		CsWork	*work = def->dirty[i].work;
		CsEntry *base = work->base;

		prefetch_works(state, def, i);
		CS_FAULT(MID_PUBLICATION);
		if (base)
		{
			work->base = NULL;
			base->work = NULL;
		}
		if (base && work->base_half == CS_HALF_TABLE)
			publish_guest(state, def, work, base, half);
		else if (work->spills)
			publish_spilled(state, def, work, base);
		else if (base && work->deleted)
			cs_entry_remove(state, def, base);
		else if (base && work->image)
			cs_entry_update(state, def, work->leaves_copy ? cs_entry_keep(state, base) : base, work->image,
							work->image_len, half, work->due);
		else if (work->image && !work->deleted)
			cs_entry_install(state, def, &work->key, work->image, work->image_len, half, work->due);
	}
}

static void
publish_sets(CsState *state)
{
	for (CsSetChange *c = state->set_changes; c; c = c->next)
	{
		if (c->drop)
			continue;
		cs_bigset_add(state, c->definition_id, c->id, c->raw, c->nraw, state->log_next.half);
		cs_bigset_add(state, c->definition_id, c->id, (const char *) c->members, c->n, state->log_next.half);
	}
	for (CsSetChange *c = state->set_changes; c; c = c->next)
	{
		if (c->drop)
			cs_bigset_drop(state, c->id);
	}
}

static void
publish_copies(CsState *state)
{
	int half = state->log_next.half;

	for (int i = 0; i < state->ncopied; i++)
	{
		CsEntry *entry = state->copied[i];

		dlist_delete(&entry->half_node);
		entry->half = (uint8) half;
		dlist_push_tail(&state->half[half], &entry->half_node);
	}
	for (int i = 0; i < state->ncopied_sets; i++)
	{
		CsBigSet *set = state->copied_sets[i];

		set->copied = 0;
		cs_bigset_move(state, set, half);
	}
	if (state->copied_set)
		state->copied_set->copied = state->copied_to;
}

/* Nobody will ask for a commit before this one any more. */
static void
forget_before(CsState *state, int64 commit)
{
	if (pg_atomic_read_u64(&state->region->readable_from) < (uint64) commit)
		pg_atomic_write_u64(&state->region->readable_from, (uint64) commit);
	cs_entries_forget(state, commit);
}

void
cs_state_forget_seen(CsState *state)
{
	TransactionId oldest;
	int64		  seen = 0;

	if (!state->readable || cs_gone_first(&state->gone) == NULL)
		return;
	oldest = GetOldestNonRemovableTransactionId(NULL);
	for (int i = 0; i < CS_KEPT_COMMITS; i++)
	{
		const CsKept *kept = &state->kept[i];

		if (kept->commit > seen && TransactionIdIsValid(kept->xid) && TransactionIdPrecedes(kept->xid, oldest))
			seen = kept->commit;
	}
	forget_before(state, seen);
}

/* Tell readers that what they find is on its way to commit state->commit. */
static void
begin_publishing(CsState *state)
{
	state->is_publishing = true;
	if (!state->readable)
		return;
	pg_atomic_write_u64(&state->region->publishing, (uint64) state->commit);
	if (state->commit > CS_KEPT_COMMITS)
		forget_before(state, state->commit - CS_KEPT_COMMITS);
}

static void
end_publishing(CsState *state)
{
	state->is_publishing = false;
	if (!state->readable)
		return;
	state->kept[state->commit % CS_KEPT_COMMITS] = (CsKept){state->commit, state->xid};
	cs_state_bound_kept(state);
	pg_write_barrier();
	pg_atomic_write_u64(&state->region->published, (uint64) state->commit);
}

void
cs_state_publish(CsState *state)
{
	int64 npublished = 0;

	begin_publishing(state);
	publish_copies(state);
	for (int i = 0; i < state->npopped; i++)
	{
		const CsWork *work = state->popped[i]->work;

		/* What is about to be removed, or to be made anew elsewhere, must not be queued again. */
		if (work && work->dirty && (work->deleted || work->spills || work->base_half == CS_HALF_TABLE))
			state->popped[i] = NULL;
	}
	/* Sets first: members that were inline until now still lie in the bytes that entries are about to lose. */
	publish_sets(state);
	for (int i = 0; i < state->ndefs; i++)
	{
		publish_works(state, &state->defs[i]);
		npublished += state->defs[i].ndirty;
	}
	if (npublished < state->nworks) /* the rest was looked at only */
		unlink_works(state);
	if (state->advised != state->entries->data)
	{
		state->advised = state->entries->data;
		cs_memory_advise(state->entries->data, state->entries->size * sizeof(CsKeyRef));
	}
	cs_memory_advise_heap();
	state->log = state->log_next;
	state->log_bytes[0] = state->log_bytes_next[0];
	state->log_bytes[1] = state->log_bytes_next[1];
	forget_batch(state);
	cs_evict_publish(state);
	end_publishing(state);
}
