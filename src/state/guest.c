/*
 * state/guest.c
 *	  Guests: spilled entries in memory for as long as a batch lasts.
 *
 * What a batch needs of the spill table comes into the batch's own memory, not
 * into that of the state: so how much a batch may read back does not depend on
 * how much open state fits, and a batch over many visitors can be as large as
 * clickstream.batch_memory.  Until the batch ends a guest is found like any
 * committed entry: by key, in its bucket, in the timers.  Then it leaves again,
 * as its row is, or as the batch has left it (evict.c); the few that stay have
 * become entries of the state.
 *
 * Readers do not know guests: for them the row counts.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "access/xact.h"
#include "core/fault.h"
#include "state/spill.h"
#include "utils/memutils.h"

#define KEYS_KEPT (64 * 1024) /* places of the table of keys that are kept from batch to batch, */
#define EMPTY 8				  /* or so many times as many as there are keys */

typedef struct CsGuest
{
	CsEntry			entry;
	ItemPointerData tid;
	CsSpillRow		damage; /* problem NULL: none */
} CsGuest;

/* One entry more, or less, of a bucket is spilled. */
static void
count_in_bucket(CsDefState *def, const CsKey *key, bool marked, int delta)
{
	CsBucket *bucket = cs_bucket_of(def, key->bucket, true);

	bucket->nspilled += delta;
	bucket->nmarked += marked ? delta : 0;
}

void
cs_spill_index_entry(CsState *state, CsDefState *def, const CsEntry *entry)
{
	if (def->spilled == NULL)
		def->spilled = cs_spill_index_create(state->context);
	cs_spill_index_add(def->spilled, &entry->key, entry->due);
	state->spill->count++;
	def->spilled_bytes += entry->len;
	if (entry->key.bucket != 0)
		count_in_bucket(def, &entry->key, cs_spill_is_marked(state, def, entry), 1);
}

static CsGuest *
make_guest(CsState *state, const CsSpillRow *row, TimestampTz due)
{
	CsGuest *guest = cs_batch_alloc(state, sizeof(CsGuest) + row->len);
	CsEntry *entry = &guest->entry;

	memset(guest, 0, sizeof(CsGuest));
	guest->tid = row->tid;
	/* A lock that a subtransaction has taken may go with it, and the row be moved. */
	if (GetCurrentTransactionNestLevel() > 1)
		ItemPointerSetInvalid(&guest->tid);
	if (row->problem)
		guest->damage = (CsSpillRow){.key = row->key, .problem = row->problem, .piece = row->piece};
	entry->key = row->key;
	entry->kind = CS_HOLDS_ENTRY;
	entry->half = CS_HALF_TABLE;
	entry->data = memcpy(guest + 1, row->data, row->len);
	entry->len = row->len;
	entry->due = due;
	entry->queued = CS_WM_DONE;
	return guest;
}

/*
 * Up to its being taken in nothing has changed, and from then on nothing fails:
 * where there is no memory for it the batch ends, and the entry is spilled as
 * before.
 */
void
cs_guest_take_in(CsState *state, CsDefState *def, const CsSpillRow *row, TimestampTz due)
{
	CsGuest	 *guest = make_guest(state, row, due);
	CsEntry	 *entry = &guest->entry;
	CsBucket *bucket = NULL;
	bool	  marked = false;
	bool	  found;

	if (row->key.bucket != 0)
	{
		bucket = cs_bucket_of(def, row->key.bucket, true);
		marked = cs_spill_is_marked(state, def, entry);
	}
	else if (due != CS_WM_DONE)
		(void) cs_timer_of(def, due);
	CS_FAULT(SPILL_INSTALL);
	keyset_insert(state->entries, &entry->key, &found);
	Assert(!found);
	cs_spill_index_remove(def->spilled, &entry->key);
	state->spill->count--;
	state->spill->nguests++;
	def->spilled_bytes -= entry->len;
	def->count++;
	dlist_push_tail(&state->half[CS_HALF_TABLE], &entry->half_node);
	if (bucket)
	{
		dlist_push_tail(&bucket->entries, &entry->list_node);
		bucket->nentries++;
		count_in_bucket(def, &entry->key, marked, -1);
	}
	cs_timer_set(state, def, entry);
}

void
cs_guest_remove(CsState *state, CsDefState *def, CsEntry *guest)
{
	cs_entry_unlink(state, def, guest);
	state->spill->nguests--;
}

const CsSpillRow *
cs_guest_damage(const CsEntry *entry)
{
	const CsGuest *guest = (const CsGuest *) entry;

	return entry->half == CS_HALF_TABLE && guest->damage.problem ? &guest->damage : NULL;
}

ItemPointerData
cs_guest_tid(const CsEntry *guest)
{
	return ((const CsGuest *) guest)->tid;
}

void
cs_state_forget_guests(CsState *state)
{
	if (state->spill)
		cs_guests_leave(state);
}

void
cs_guests_leave(CsState *state)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &state->half[CS_HALF_TABLE])
	{
		CsEntry	   *guest = dlist_container(CsEntry, half_node, iter.cur);
		CsDefState *def = cs_def_state(state, (int32) guest->key.def);

		cs_guest_remove(state, def, guest);
		cs_spill_index_entry(state, def, guest);
	}
}

/* A batch of very many guests has left the table of keys nearly empty, which a table never becomes by itself. */
static void
shrink_table(CsState *state)
{
	keyset_hash	   *entries;
	keyset_iterator i;
	CsKeyRef	   *ref;
	bool			found;

	if (state->entries->size <= KEYS_KEPT || (uint64) state->entries->members * EMPTY > state->entries->size)
		return;
	entries = keyset_create(state->context, Max(state->entries->members, CS_KEYSET_LEAST), NULL);
	keyset_start_iterate(state->entries, &i);
	while ((ref = keyset_iterate(state->entries, &i)) != NULL)
		keyset_insert(entries, ref->key, &found)->key = ref->key;
	keyset_destroy(state->entries);
	state->entries = entries;
}

void
cs_guests_left(CsState *state)
{
	shrink_table(state);
	for (int i = 0; i < state->ndefs; i++)
	{
		if (state->defs[i].spilled)
			cs_spill_index_shrink(state->defs[i].spilled);
	}
}
