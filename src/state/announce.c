/*
 * state/announce.c
 *	  Memory that will be asked for is announced to the processor.
 *
 * A state is hundreds of megabytes, of which each event touches another place;
 * what comes from memory costs as much as all else that is done for it.  So
 * operators, and recovery, announce the keys of events to come: first the slot
 * of the table of entries, then the entry, then its bytes, or what the batch
 * has in their place.  Each step needs what the one before has fetched, and so
 * comes some events later.
 *
 * All of it is a hint: what is missed here is found, later, by the lookup.
 *
 * Locking: none; the tables are the worker's own.
 */
#include "postgres.h"

#include "state/internal.h"

void
cs_state_prefetch_slot(CsState *state, const CsKey *key)
{
	__builtin_prefetch(&state->entries->data[cs_key_hash(key) & state->entries->sizemask]);
}

#define NEAR_SLOTS 8 /* on two or three cache lines */
#define ENTRY_CAME 4 /* calls after its announcement an entry has come, */
#define WORK_CAME 6	 /* and after these its work */

/* What has this hash, if it is where that leads or near it: as full as the tables get, a fifth to two fifths are not quite there. */
static inline void *
find_near(const keyset_hash *set, uint32 hash)
{
	for (uint32 i = 0; i < NEAR_SLOTS; i++)
	{
		const CsKeyRef *ref = &set->data[(hash + i) & set->sizemask];

		if (ref->status == 0)
			break;
		if (ref->hash == hash)
			return (void *) ref->key;
	}
	return NULL;
}

/* What was announced some calls before, back of them. */
static inline CsAnnounced *
announced(CsState *state, uint32 back)
{
	return &state->announced[(state->nannounced - back) % lengthof(state->announced)];
}

/* The entry has come: its bytes, or the overlay's form in their place; of one without entry it may have one as well. */
static inline void
announce_contents(CsState *state, CsAnnounced *a)
{
	if (a->entry == NULL)
		a->work = a->hash != 0 ? find_near(state->works, a->hash) : NULL;
	else if ((a->work = a->entry->work) == NULL)
		cs_prefetch_bytes(a->entry->data, a->entry->len);
	if (a->work == NULL)
		return;
	__builtin_prefetch(a->work);
	__builtin_prefetch((const char *) a->work + 64);
}

/* Fetches the entry, and what leads on from those that were announced some calls before. */
void
cs_state_prefetch_entry(CsState *state, const CsKey *key)
{
	uint32		 hash = cs_key_hash(key);
	CsAnnounced *next = announced(state, 0);
	CsAnnounced *work = announced(state, WORK_CAME);

	announce_contents(state, announced(state, ENTRY_CAME));
	if (work->work && work->work->image)
		cs_prefetch_bytes(work->work->image, work->work->image_len);
	*next = (CsAnnounced){.entry = find_near(state->entries, hash), .hash = hash};
	if (next->entry)
		__builtin_prefetch(next->entry);
	else
		__builtin_prefetch(&state->works->data[hash & state->works->sizemask]);
	state->nannounced++;
}
