/*
 * operator/stale.c
 *	  Cells whose rows lag behind: which ones are written, when emit_interval is
 *	  over.
 *
 * There may be more of them than one batch should write, so they are passed
 * in the order of their groups' keys, which are hashes, those of all buckets
 * together, and a pass takes as many batches as it needs; the stream reads on.
 * What comes to lag behind where the pass has been waits for the next one, an
 * emit_interval later.  So each row is written once in a pass, and it ends
 * however much is read meanwhile.
 *
 * Where the pass stands is not stored: what has been written does not lag
 * behind, so after a restart the next one comes to what was left.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "operator/cell.h"
#include "utils/memutils.h"

#define FIRST_KEYS 256

typedef struct Gathering
{
	CsPart part; /* becomes less when more than wanted are found in it */
	int64  wanted;
	CsKey *keys;
	int64  n, capacity;
} Gathering;

static int
who_cmp(const void *a, const void *b)
{
	uint64 x = ((const CsKey *) a)->who.hi;
	uint64 y = ((const CsKey *) b)->who.hi;

	return x < y ? -1 : x > y;
}

static int
key_cmp(const void *a, const void *b)
{
	const CsKey *x = a;
	const CsKey *y = b;

	if (x->bucket != y->bucket)
		return x->bucket < y->bucket ? -1 : 1;
	return cs_hash_cmp(&x->who, &y->who);
}

/* Only so many as are wanted stay, and what has the last one's key. */
static void
cut(Gathering *g)
{
	qsort(g->keys, g->n, sizeof(CsKey), who_cmp);
	g->part.last = g->keys[g->wanted - 1].who.hi;
	while (g->keys[g->n - 1].who.hi > g->part.last)
		g->n--;
}

static void
add(Gathering *g, const CsKey *key)
{
	if (g->n == g->capacity && g->n >= 2 * g->wanted)
		cut(g);
	if (!cs_part_has(g->part, &key->who))
		return;
	if (g->n == g->capacity)
	{
		g->capacity = g->capacity ? g->capacity * 2 : FIRST_KEYS;
		g->keys = g->keys ? repalloc_huge(g->keys, g->capacity * sizeof(CsKey))
						  : MemoryContextAllocHuge(CurrentMemoryContext, g->capacity * sizeof(CsKey));
	}
	g->keys[g->n++] = *key;
}

static void
visit(const CsKey *key, const CsEntry *entry, CsWork *work, void *arg)
{
	Gathering *g = arg;
	CsWork	   committed = {.base = (CsEntry *) entry};

	if (cs_part_has(g->part, &key->who) && cs_cell_is_stale(work ? work : &committed))
		add(g, key);
}

/* Not more of the spilled ones than are wanted. */
static CsPart
part_of(CsState *state, int32 definition_id, const int64 *buckets, int n, const CsStalePass *pass, int64 wanted)
{
	int64 spilled = 0;

	for (int i = 0; i < n; i++)
		spilled += cs_state_spilled_marks(state, definition_id, buckets[i]);
	return spilled > wanted ? cs_part_from(pass->from, spilled, wanted) : (CsPart){pass->from, PG_UINT64_MAX};
}

CsKey *
cs_stale_keys(CsState *state, int32 definition_id, bool (*takes)(int64 bucket), CsStalePass *pass, int64 wanted,
			  int64 *n)
{
	int		  nbuckets;
	int64	 *buckets = cs_state_buckets(state, definition_id, &nbuckets);
	Gathering g = {.part = part_of(state, definition_id, buckets, nbuckets, pass, wanted), .wanted = wanted};

	if (pass->from == 0)
		pass->again = false;
	for (int i = 0; i < nbuckets; i++)
		if (takes == NULL || takes(buckets[i]))
			cs_state_visit_marked(state, definition_id, buckets[i], g.part, visit, &g);
	if (g.n > g.wanted)
		cut(&g);
	if (g.n > 0)
		qsort(g.keys, g.n, sizeof(CsKey), key_cmp);
	pass->from = g.part.last == PG_UINT64_MAX ? 0 : g.part.last + 1;
	pfree(buckets);
	*n = g.n;
	return g.keys;
}

bool
cs_cells_show_stale(CsOperator *op, CsGrouping *g, CsBatchContext *batch, CsStalePass *pass, int64 max,
					TimestampTz after)
{
	int64  n;
	CsKey *keys = cs_stale_keys(batch->state, op->def->definition_id, NULL, pass, Max(max, 1), &n);

	for (int64 i = 0; i < n; i++)
		if (cs_cell_ends_after(op, g, &keys[i], after))
			cs_cell_show(op, g, batch, cs_state_get(batch->state, &keys[i]));
	if (keys)
		pfree(keys);
	return pass->from == 0;
}

void
cs_stale_note(CsOperator *op, CsBatchContext *batch, const CsStalePass *pass)
{
	bool goes_on = pass->from != 0;

	op->stale = goes_on || pass->again;
	op->emit_at = goes_on ? batch->now : batch->now + op->def->emit_interval;
}
