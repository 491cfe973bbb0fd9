/*
 * state/budget.c
 *	  How much memory a state may hold, and how much it holds; see budget.h.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "core/settings.h"
#include "state/budget.h"
#include "state/spill.h"

#define DYNAHASH_ELEMENT 24 /* what dynahash adds to an element, its share of the directory included */

int64
cs_state_budget(const CsState *state)
{
	(void) state;
	return (int64) cs_state_memory * 1024;
}

static int64
table_bytes(HTAB *table, Size element)
{
	return hash_get_num_entries(table) * (int64) (element + DYNAHASH_ELEMENT);
}

/* What finds entries: all of it is derived from them. */
static int64
index_bytes(const CsState *state)
{
	int64 bytes = (int64) (state->entries->size * sizeof(CsKeyRef));

	for (int i = 0; i < state->ndefs; i++)
		bytes +=
			table_bytes(state->defs[i].buckets, sizeof(CsBucket)) + table_bytes(state->defs[i].timers, sizeof(CsTimer));
	return bytes;
}

int64
cs_state_used(const CsState *state)
{
	return state->entry_pieces.used + state->data_pieces.used + state->set_bytes +
		   table_bytes(state->sets, sizeof(CsBigSet)) + index_bytes(state) + cs_spill_bytes(state);
}
