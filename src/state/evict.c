/*
 * state/evict.c
 *	  Eviction: when memory is full, what was not changed for longest goes to
 *	  the spill table.
 *
 * Part of a batch's end, in its transaction: a row for each entry that goes,
 * and a mark in the log that the row is what counts from here.  Entries leave
 * memory when that is committed.  What this batch has touched stays; so does
 * nothing else that stands before it in the order of the last write, which the
 * lists by half of the log keep: the older half's first, the newer one's then.
 * Before both come entries that were read back and not changed: their rows are
 * there, so they cost nothing but being read again.
 *
 * What goes is what must, for the batch's growth to fit the budget (in some
 * steps, if that has become much less), and then
 * some more, a bounded number, down to nine tenths of it.  Distinct sets are
 * taken by their share of the memory.
 *
 * No locking: private to the process; locks of the table: spill_table.c.
 */
#include "postgres.h"

#include "core/fault.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "state/budget.h"
#include "state/spill.h"
#include "state/spill_table.h"
#include "utils/memutils.h"

#define SLACK_ENTRIES 20000 /* evicted at most beyond what must be */
#define SHRINK_SHARE 4		/* of the budget, evicted by a commit that is over it anyway */
#define ORPHANS 20000		/* rows of dropped definitions that a commit deletes */
#define INDEX_ENTRY 32		/* bytes of the index for each spilled entry, about */
#define MEMBER_BYTES 24		/* of a distinct set, in memory */

typedef struct Eviction
{
	CsState			 *state;
	struct LogWriter *log;
	CsSpillWriter	 *writer; /* opened when the first row is written or deleted */
	int64			  commit_number;
} Eviction;

static CsSpillWriter *
writer(Eviction *e)
{
	if (e->writer == NULL)
		e->writer = cs_spill_writer_open(e->state->spill->relation, e->commit_number);
	return e->writer;
}

/* ---- rows of what this batch has changed ---- */

static void
delete_changed(Eviction *e)
{
	CsState *state = e->state;

	for (int i = 0; i < state->ndefs && state->from_table > 0; i++)
	{
		for (int64 k = 0; k < state->defs[i].ndirty; k++)
		{
			CsWork *work = state->defs[i].dirty[k].work;

			if (work->base && work->base_half == CS_HALF_TABLE && !work->kept)
				cs_spill_delete(writer(e), &work->key);
		}
	}
	for (CsSetChange *c = state->set_changes; c; c = c->next)
	{
		CsBigSet *set = c->drop ? cs_bigset_find(state, c->id) : NULL;
		CsKey	  key;

		if (set == NULL || set->on_table == 0)
			continue;
		key = cs_spill_set_key(set->definition_id, set->id);
		cs_spill_delete(writer(e), &key);
	}
}

/* Of definitions that were dropped. */
static void
delete_orphans(Eviction *e)
{
	CsSpill *spill = e->state->spill;

	if (spill->norphans > 0 && cs_spill_delete_definition(writer(e), spill->orphans[spill->norphans - 1], ORPHANS))
		spill->norphans--; /* should the batch fail, the next recovery finds the rows */
}

/* ---- choosing ---- */

/* What the batch adds to memory when it is published, about. */
static int64
growth(CsState *state)
{
	int64 bytes = 0;

	for (int i = 0; i < state->ndefs; i++)
	{
		for (int64 k = 0; k < state->defs[i].ndirty; k++)
		{
			const CsWork *work = state->defs[i].dirty[k].work;
			int64		  before = work->base ? (int64) work->base_len + CS_ARENA_ALIGN : 0;

			bytes += (work->deleted ? 0 : (int64) work->image_len + CS_ARENA_ALIGN) - before;
		}
	}
	for (CsSetChange *c = state->set_changes; c; c = c->next)
		bytes += (c->n + c->nraw) * MEMBER_BYTES;
	return bytes;
}

static void
take_entry(Eviction *e, CsEntry *entry)
{
	CsSpill *spill = e->state->spill;

	if (spill->nvictims == spill->victims_capacity)
	{
		spill->victims_capacity = Max(256, spill->victims_capacity * 2);
		spill->victims = spill->victims
							 ? repalloc_huge(spill->victims, spill->victims_capacity * sizeof(CsEntry *))
							 : MemoryContextAllocHuge(e->state->batch, spill->victims_capacity * sizeof(CsEntry *));
	}
	spill->victims[spill->nvictims++] = entry;
	entry->leaving = true;
	if (entry->half == CS_HALF_TABLE)
		return;
	cs_spill_write(writer(e), &entry->key, cs_entry_bytes(entry), entry->len);
	cs_log_spilled(e->log, &entry->key);
}

/* Evict the coldest entries of a half until goal bytes are free or slack entries are gone; the bytes it freed. */
static int64
take_entries(Eviction *e, int half, int64 goal, int64 max)
{
	int64	   freed = 0;
	dlist_iter iter;

	dlist_foreach(iter, &e->state->half[half])
	{
		CsEntry *entry = dlist_container(CsEntry, half_node, iter.cur);

		if (freed >= goal || max <= 0)
			break;
		if (entry->work || entry->leaving)
			continue;
		take_entry(e, entry);
		freed += (int64) entry->len + CS_ARENA_ALIGN - INDEX_ENTRY;
		max--;
		CHECK_FOR_INTERRUPTS();
	}
	return freed;
}

static void
take_set(Eviction *e, CsBigSet *set)
{
	CsState	  *state = e->state;
	CsSpill	  *spill = state->spill;
	CsKey	   key = cs_spill_set_key(set->definition_id, set->id);
	CsHash128 *members;

	if (spill->nset_victims == spill->set_victims_capacity)
	{
		spill->set_victims_capacity = Max(64, spill->set_victims_capacity * 2);
		spill->set_victims =
			spill->set_victims ? repalloc_huge(spill->set_victims, spill->set_victims_capacity * sizeof(CsBigSet *))
							   : MemoryContextAllocHuge(state->batch, spill->set_victims_capacity * sizeof(CsBigSet *));
	}
	spill->set_victims[spill->nset_victims++] = set;
	set->leaving = true;
	if (set->n == set->on_table)
		return;
	members = cs_bigset_gather(set);
	cs_spill_write_set(writer(e), &key, members, set->on_table, set->n);
	pfree(members);
	cs_log_set_spilled(e->log, set->id);
}

static int64
take_sets(Eviction *e, int half, int64 goal)
{
	int64	   freed = 0;
	dlist_iter iter;

	dlist_foreach(iter, &e->state->half_sets[half])
	{
		CsBigSet *set = dlist_container(CsBigSet, half_node, iter.cur);

		if (freed >= goal)
			break;
		if (set->used_in == e->state->round || set->dropping || set->leaving)
			continue;
		take_set(e, set);
		freed += set->capacity * MEMBER_BYTES;
		CHECK_FOR_INTERRUPTS();
	}
	return freed;
}

/* Free that much, of sets their share of it; slack: it need not be, so not more than some. */
static int64
make_room(Eviction *e, int64 goal, bool slack)
{
	CsState	 *state = e->state;
	const int order[3] = {CS_HALF_TABLE, 1 - state->log_next.half, state->log_next.half};
	int64	  of_sets = (int64) ((double) goal * (double) state->set_bytes / (double) Max(cs_state_used(state), 1));
	int64	  freed = 0;

	for (int i = 0; i < 3; i++)
		freed += take_sets(e, order[i], Min(of_sets, goal) - freed);
	for (int i = 0; i < 3; i++)
		freed += take_entries(e, order[i], goal - freed, slack ? SLACK_ENTRIES : PG_INT64_MAX);
	for (int i = 0; i < 3 && !slack; i++)
		freed += take_sets(e, order[i], goal - freed);
	return freed;
}

#ifdef CLICKSTREAM_MUTANTS
/* For tests: nothing stays but what this batch has touched, and so many others. */
static bool
evict_by_force(Eviction *e)
{
	CsState	 *state = e->state;
	int64	  excess = (int64) state->entries->members - cs_force_spill;
	const int order[3] = {CS_HALF_TABLE, 1 - state->log_next.half, state->log_next.half};

	if (cs_force_spill < 0)
		return false;
	for (int i = 0; i < 3; i++)
		(void) take_sets(e, order[i], PG_INT64_MAX);
	for (int i = 0; i < 3; i++)
	{
		int64 before = state->spill->nvictims;

		(void) take_entries(e, order[i], PG_INT64_MAX, excess);
		excess -= state->spill->nvictims - before;
	}
	return true;
}
#else
static inline bool
evict_by_force(Eviction *e)
{
	(void) e;
	return false;
}
#endif

/* What one batch touches, and the index of all that is spilled, must be in memory whatever the budget is. */
static void
warn(CsState *state, int64 excess)
{
	if (state->spill->warned)
		return;
	state->spill->warned = true;
	ereport(LOG,
			(errmsg("the open state of a stream needs " INT64_FORMAT " kB more than it has of clickstream.state_memory",
					excess / 1024),
			 errdetail("All that can lie in its spill table does."), errhint("Raise clickstream.state_memory.")));
}

static void
evict(Eviction *e)
{
	int64 budget = cs_state_budget(e->state);
	int64 grows = growth(e->state);
	int64 must = cs_state_used(e->state) + grows - budget;
	int64 freed;

	/* The budget has become less, because another stream has begun: some with each commit. */
	must = Min(must, Max(grows, 0) + budget / SHRINK_SHARE);

	if (evict_by_force(e) || must <= 0)
		return;
	freed = make_room(e, must, false);
	if (freed >= must)
		(void) make_room(e, budget / 10, true);
	else
		warn(e->state, must - freed);
}

void
cs_evict_log(CsState *state, struct LogWriter *log, int64 commit_number)
{
	Eviction e = {.state = state, .log = log, .commit_number = commit_number};

	if (state->spill == NULL)
		return;
	delete_changed(&e);
	delete_orphans(&e);
	evict(&e);
	if (e.writer)
		cs_spill_writer_close(e.writer);
	CS_FAULT(SPILL_WRITTEN);
}

/* ---- the batch's end ---- */

static void
leave(CsState *state, CsEntry *entry)
{
	CsDefState *def = cs_def_state(state, (int32) entry->key.def);

	cs_spill_index_entry(state, def, entry);
	cs_entry_remove(state, def, entry);
}

static void
end_batch(CsState *state, bool committed)
{
	CsSpill *spill = state->spill;

	for (int i = 0; i < state->ndefs; i++)
		if (state->defs[i].spilled)
			cs_spill_index_end_batch(state->defs[i].spilled, committed);
	spill->victims = NULL;
	spill->nvictims = spill->victims_capacity = 0;
	spill->set_victims = NULL;
	spill->nset_victims = spill->set_victims_capacity = 0;
	spill->loaded = 0;
	spill->nwanted = 0;
}

/* The overlay is gone, and nothing else points to entries. */
void
cs_evict_publish(CsState *state)
{
	CsSpill *spill = state->spill;

	if (spill == NULL)
		return;
	for (int64 i = 0; i < spill->nvictims; i++)
		leave(state, spill->victims[i]);
	for (int i = 0; i < spill->nset_victims; i++)
	{
		CsBigSet *set = spill->set_victims[i];

		set->leaving = false;
		set->on_table = set->n;
		set->copied = 0;
		cs_bigset_empty(state, set, set->n);
		cs_bigset_move(state, set, CS_HALF_NONE);
	}
	end_batch(state, true);
}

void
cs_evict_abort(CsState *state)
{
	CsSpill *spill = state->spill;

	if (spill == NULL)
		return;
	for (int64 i = 0; i < spill->nvictims; i++)
		spill->victims[i]->leaving = false;
	for (int i = 0; i < spill->nset_victims; i++)
		spill->set_victims[i]->leaving = false;
	end_batch(state, false);
}
