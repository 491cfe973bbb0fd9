/*
 * state/budget.c
 *	  How much memory a state may hold, and how much it holds; see budget.h.
 *
 * A running stream's memory is blocks of the shared pool and what is its
 * worker's own: what finds entries, and blocks that the pool had not.  Of its
 * blocks a sixteenth is left to pieces that fit nothing.
 *
 * What is kept for readers only is no reason to evict: it goes when there is
 * too much of it, and readers of older snapshots then read the log.
 *
 * What another stream lacks of its share, until this one has given it back
 * (compact.c), it has of its own memory.
 *
 * Locking: the pool's lock, while its counts are read.
 */
#include "postgres.h"

#include "core/settings.h"
#include "port/pg_bitutils.h"
#include "state/budget.h"
#include "state/spill.h"

#define DYNAHASH_ELEMENT 24 /* what dynahash adds to an element, its share of the directory included */

#define KEPT_SHARE 8 /* of the budget, kept for readers at most */

int64
cs_state_budget(const CsState *state)
{
	int64 blocks;

	if (state->region == NULL)
		return (int64) cs_state_memory * 1024;
	blocks = cs_region_budget(state->region);
	return blocks - blocks / 16;
}

static int64
table_bytes(HTAB *table, Size element)
{
	return hash_get_num_entries(table) * (int64) (element + DYNAHASH_ELEMENT);
}

/* What finds entries: all of it is derived from them.  What finds a batch's guests is the batch's. */
static int64
index_bytes(const CsState *state)
{
	int64  own = (int64) state->entries->members - (state->spill ? state->spill->nguests : 0);
	uint64 slots = pg_nextpower2_64((uint64) (Max(own, CS_KEYSET_LEAST) / CS_KEYSET_FILL));
	int64  bytes = (int64) (Min(state->entries->size, slots) * sizeof(CsKeyRef));

	for (int i = 0; i < state->ndefs; i++)
		bytes +=
			table_bytes(state->defs[i].buckets, sizeof(CsBucket)) + table_bytes(state->defs[i].timers, sizeof(CsTimer));
	return bytes;
}

/* With what finds them. */
static int64
set_bytes(const CsState *state)
{
	return state->set_bytes + table_bytes(state->sets, sizeof(CsBigSet));
}

int64
cs_state_used(const CsState *state)
{
	/* members of sets are counted with the pieces */
	return state->entry_pieces.used + state->data_pieces.used - state->kept_bytes + set_bytes(state) -
		   state->member_bytes + index_bytes(state) + cs_spill_bytes(state);
}

bool
cs_state_is_over_budget(const CsState *state)
{
	return state->region && state->spill && !state->spill->warned && cs_state_used(state) > cs_state_budget(state);
}

void
cs_state_forget_kept(CsState *state)
{
	pg_atomic_write_u64(&state->region->readable_from, (uint64) state->commit);
	cs_entries_forget(state, state->commit);
}

void
cs_state_bound_kept(CsState *state)
{
	const CsEntry *first = cs_gone_first(&state->gone);
	int64		   most;

	if (first == NULL)
		return;
	most = cs_state_budget(state) / KEPT_SHARE;
	for (; first && state->kept_bytes > most; first = cs_gone_first(&state->gone))
	{
		int64 commit = first->gone;

		pg_atomic_write_u64(&state->region->readable_from, (uint64) commit);
		cs_entries_forget(state, commit);
	}
}

static int64
own_bytes(const CsState *state)
{
	return state->blocks.nown * (int64) CS_BLOCK;
}

void
cs_state_report_memory(CsState *state, int64 entries, int64 batch_bytes)
{
	CsMemoryFacts facts = {.entries = entries, .batch_bytes = batch_bytes};

	if (state->region == NULL)
		return;
	facts.budget = cs_state_budget(state);
	facts.used = cs_state_used(state);
	facts.set_bytes = set_bytes(state);
	facts.index_bytes = index_bytes(state);
	facts.kept_bytes = state->kept_bytes;
	facts.own_bytes = own_bytes(state);
	facts.spilled = cs_state_spilled(state);
	facts.spill_bytes = cs_spill_bytes(state);
	cs_region_facts(state->region, &facts);
}
