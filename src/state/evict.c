/*
 * state/evict.c
 *	  Eviction: when memory is full, what was not changed for longest goes to
 *	  the spill table.
 *
 * Part of a batch's end, in its transaction: a row for each entry that goes,
 * and a mark in the log that the row is what counts from here.  Entries leave
 * memory when that is committed.  The order is that of the last write, which the
 * lists by half of the log keep: the older half's first, the newer one's then.
 *
 * What goes is what must, for the batch's growth to fit the budget (in some
 * steps, if that has become much less), and then some more, a bounded number,
 * down to nine tenths of it.  Distinct sets are taken by their share of the
 * memory, but those that this batch has used.
 *
 * Where that does not do, works of the batch spill, too, those that it has begun
 * with first: their new form is a row, and no record in the log.  A guest that
 * has changed (guest.c) spills, unless there is room for it: then it comes home,
 * the latest ones first.  So a batch over more visitors than fit in memory costs
 * one update of a row for each, and one over few keeps them.
 *
 * No locking: private to the process; locks of the table: spill_table.c.
 */
#include "postgres.h"

#include "core/fault.h"
#include "core/mutant.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "state/budget.h"
#include "state/spill.h"
#include "utils/memutils.h"

#define SLACK_ENTRIES 20000 /* evicted at most beyond what must be */
#define SHRINK_SHARE 4		/* of the budget, evicted by a commit that is over it anyway */
#define ORPHANS 20000		/* rows of dropped definitions that a commit deletes */
#define INDEX_ENTRY 32		/* bytes of the index for each spilled entry, about */
#define MEMBER_BYTES 24		/* of a distinct set, in memory */

static CsSpillWriter *
writer(CsEviction *e)
{
	if (e->writer == NULL)
		e->writer = cs_spill_writer_open(e->state->spill->relation, e->commit_number);
	return e->writer;
}

/* ---- rows of what this batch has changed ---- */

void
cs_evict_work(CsEviction *e, const CsWork *work)
{
	if (!cs_work_is_guests(work))
	{
		cs_spill_write(writer(e), &work->key, work->image, work->image_len);
		if (work->base)
			cs_log_spilled(e->log, &work->key);
	}
	else if (!cs_work_is_unchanged(work) && !CS_MUTANT(SPILL_STALE_ROW))
		cs_spill_update(writer(e), &work->key, cs_guest_tid(work->base), work->image, work->image_len);
}

void
cs_evict_forget_row(CsEviction *e, const CsWork *work)
{
	cs_spill_delete(writer(e), &work->key, cs_guest_tid(work->base));
}

static void
delete_dropped_sets(CsEviction *e)
{
	CsState *state = e->state;

	for (CsSetChange *c = state->set_changes; c; c = c->next)
	{
		CsBigSet *set = c->drop ? cs_bigset_find(state, c->id) : NULL;
		CsKey	  key;

		if (set == NULL || set->on_table == 0)
			continue;
		key = cs_spill_set_key(set->definition_id, set->id);
		cs_spill_delete_set(writer(e), &key);
	}
}

/* Of definitions that were dropped. */
static void
delete_orphans(CsEviction *e)
{
	CsSpill *spill = e->state->spill;

	if (spill->norphans > 0 && cs_spill_delete_definition(writer(e), spill->orphans[spill->norphans - 1], ORPHANS))
		spill->norphans--; /* should the batch fail, the next recovery finds the rows */
}

/* ---- choosing ---- */

/* Memory of an entry. */
static inline int64
entry_bytes(uint32 len)
{
	return (int64) len + CS_SLOT;
}

/* What the batch adds to memory when it is published, about; but for what spills. */
static int64
growth(CsState *state)
{
	int64 bytes = 0;

	for (int i = 0; i < state->ndefs; i++)
	{
		for (int64 k = 0; k < state->defs[i].ndirty; k++)
		{
			const CsWork *work = state->defs[i].dirty[k].work;

			if (!work->deleted && !work->spills)
				bytes += entry_bytes(work->image_len);
			if (work->base && work->base_half != CS_HALF_TABLE)
				bytes -= entry_bytes(work->base_len);
		}
	}
	for (CsSetChange *c = state->set_changes; c; c = c->next)
		bytes += (c->n + c->nraw) * MEMBER_BYTES;
	return bytes;
}

static void
take_entry(CsEviction *e, CsEntry *entry)
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
	cs_spill_write(writer(e), &entry->key, cs_entry_bytes(entry), entry->len);
	cs_log_spilled(e->log, &entry->key);
}

/* Evict the coldest entries of a half until goal bytes are free or slack entries are gone; the bytes it freed. */
static int64
take_entries(CsEviction *e, int half, int64 goal, int64 max)
{
	int64	   freed = 0;
	dlist_iter iter;

	dlist_foreach(iter, &e->state->half[half])
	{
		CsEntry *entry = dlist_container(CsEntry, half_node, iter.cur);

		if (freed >= goal || max <= 0)
			break;
		if ((entry->work && entry->work->dirty) || entry->leaving)
			continue;
		take_entry(e, entry);
		freed += entry_bytes(entry->len) - INDEX_ENTRY;
		max--;
		CHECK_FOR_INTERRUPTS();
	}
	return freed;
}

static void
take_set(CsEviction *e, CsBigSet *set)
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
take_sets(CsEviction *e, int half, int64 goal)
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
make_room(CsEviction *e, int64 goal, bool slack)
{
	CsState	 *state = e->state;
	const int order[3] = {CS_HALF_TABLE, 1 - state->log_next.half, state->log_next.half};
	int64	  of_sets = (int64) ((double) goal * (double) state->set_bytes / (double) Max(cs_state_used(state), 1));
	int64	  freed = 0;

	for (int i = 0; i < 3; i++)
		freed += take_sets(e, order[i], Min(of_sets, goal) - freed);
	for (int i = 1; i < 3; i++)
		freed += take_entries(e, order[i], goal - freed, slack ? SLACK_ENTRIES : PG_INT64_MAX);
	for (int i = 0; i < 3 && !slack; i++)
		freed += take_sets(e, order[i], goal - freed);
	return freed;
}

/* ---- works ---- */

/* The batch's works that have something to be stored, the latest first. */
static CsWork **
list_works(CsState *state, int64 *n)
{
	CsWork **works = MemoryContextAllocHuge(state->batch, Max(state->nworks, 1) * sizeof(CsWork *));

	*n = 0;
	for (CsWork *work = state->all_works; work; work = work->next)
		if (work->dirty && !work->deleted && work->image)
			works[(*n)++] = work;
	return works;
}

/* Guests for which there is room come home, the latest first. */
static void
take_home(CsWork **works, int64 n, int64 room)
{
	for (int64 i = 0; i < n && room > 0; i++)
	{
		if (!cs_work_is_guests(works[i]) || cs_work_is_unchanged(works[i]) || entry_bytes(works[i]->image_len) > room)
			continue;
		works[i]->spills = false;
		room -= entry_bytes(works[i]->image_len);
	}
}

/* Works of the state's own entries and new ones spill, the first ones first, until goal bytes are saved. */
static int64
spill_works(CsWork **works, int64 n, int64 goal)
{
	int64 saved = 0;

	for (int64 i = n - 1; i >= 0 && saved < goal; i--)
	{
		if (works[i]->spills || cs_work_is_guests(works[i]))
			continue;
		works[i]->spills = true;
		saved += entry_bytes(works[i]->image_len) - INDEX_ENTRY;
	}
	return saved;
}

#ifdef CLICKSTREAM_MUTANTS
static bool
is_forced(void)
{
	return cs_force_spill >= 0;
}

/*
 * For tests: nothing stays but what this batch has touched, and so many
 * others; of the former every fourth spills, and of guests each other one.
 */
static bool
evict_by_force(CsEviction *e, CsWork **works, int64 n)
{
	CsState	 *state = e->state;
	int64	  excess = (int64) state->entries->members - state->spill->nguests - cs_force_spill;
	const int order[3] = {CS_HALF_TABLE, 1 - state->log_next.half, state->log_next.half};

	if (!is_forced())
		return false;
	for (int i = 0; i < 3; i++)
		(void) take_sets(e, order[i], PG_INT64_MAX);
	for (int i = 1; i < 3; i++)
	{
		int64 before = state->spill->nvictims;

		(void) take_entries(e, order[i], PG_INT64_MAX, excess);
		excess -= state->spill->nvictims - before;
	}
	for (int64 i = 0; i < n; i++)
		works[i]->spills =
			(works[i]->key.who.lo + (uint64) e->commit_number) % (cs_work_is_guests(works[i]) ? 2 : 4) == 0;
	return true;
}
#else
static inline bool
is_forced(void)
{
	return false;
}

static inline bool
evict_by_force(CsEviction *e, CsWork **works, int64 n)
{
	(void) e;
	(void) works;
	(void) n;
	return false;
}
#endif

/* What one batch adds to sets, and the index of all that is spilled, must be in memory whatever the budget is. */
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
evict(CsEviction *e, CsWork **works, int64 n)
{
	int64 budget = cs_state_budget(e->state);
	int64 grows = growth(e->state);
	int64 excess = cs_state_used(e->state) + grows - budget;
	/* The budget has become less, because another stream has begun: some with each commit. */
	int64 must = Min(excess, Max(grows, 0) + budget / SHRINK_SHARE);
	int64 freed = 0;

	if (must > 0)
	{
		freed = make_room(e, must, false);
		if (freed >= must)
			freed += make_room(e, budget / 10, true);
		else
			freed += spill_works(works, n, must - freed);
		if (freed < must)
			warn(e->state, must - freed);
	}
	take_home(works, n, freed - excess);
}

bool
cs_evict_is_tight(const CsState *state)
{
	int64 most;

	if (state->spill == NULL)
		return false;
	most = cs_state_used(state) + 2 * (int64) MemoryContextMemAllocated(state->batch, true);
	return is_forced() || most > cs_state_budget(state);
}

/* Where it is not tight all that the batch has changed finds room. */
void
cs_evict_choose(CsEviction *e, bool tight)
{
	CsWork **works = NULL;
	int64	 n = 0;

	if (e->state->spill == NULL)
		return;
	if (tight)
		works = list_works(e->state, &n);
	for (int64 i = 0; i < n; i++)
		works[i]->spills = cs_work_is_guests(works[i]);
	if (!evict_by_force(e, works, n))
		evict(e, works, n);
}

void
cs_evict_end(CsEviction *e)
{
	if (e->state->spill == NULL)
		return;
	delete_dropped_sets(e);
	delete_orphans(e);
	if (e->writer)
		cs_spill_writer_close(e->writer);
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
	cs_guests_leave(state);
	cs_guests_left(state);
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
	cs_guests_leave(state);
}
