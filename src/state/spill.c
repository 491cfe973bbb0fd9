/*
 * state/spill.c
 *	  Entries read back from the spill table.
 *
 * A batch announces the keys of a chunk (cs_state_want()), and those that are
 * spilled are read in the order of the table's key.  Whoever asks for a key
 * that was not announced reads it alone: nobody is ever told that a spilled
 * entry is not there.  Entries that are due, and buckets, are read together.
 *
 * What is read back is the batch's guest, see guest.c.
 *
 * A row that is damaged stops whoever needs it.  A lenient state takes it, too,
 * so that it can be looked at and given up: an entry's as a guest that knows of
 * it, a set's as a set that nobody gets (cs_set_get()).
 *
 * No locking: private to the process; locks of the table: spill_table.c.
 */
#include "postgres.h"

#include "core/fault.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "state/budget.h"
#include "state/spill.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define ROOM_MIN 256	 /* entries that are opened at once, at least */
#define ROOM_SHARE 8	 /* of a batch's memory, that they take as they are stored */
#define ENTRY_ABOUT 1024 /* bytes, as long as there are none */
#define SETS_SHARE 4	 /* of a batch's memory, sets that it has read back; and not more than the budget */

void
cs_spill_attach(CsState *state, const CsStream *stream)
{
	state->spill = MemoryContextAllocZero(state->context, sizeof(CsSpill));
	state->spill->relation = stream->spill_relation;
}

int64
cs_spill_bytes(const CsState *state)
{
	int64 bytes = 0;

	for (int i = 0; i < state->ndefs; i++)
		bytes += state->defs[i].spilled ? cs_spill_index_bytes(state->defs[i].spilled) : 0;
	return bytes;
}

int64
cs_state_spilled(CsState *state)
{
	return state->spill ? state->spill->count : 0;
}

bool
cs_state_is_crowded(CsState *state, int64 batch_bytes)
{
	int64 most = cs_batch_memory * INT64CONST(1024);

	return batch_bytes > most ||
		   (state->spill && state->spill->loaded > Min(most / SETS_SHARE, cs_state_budget(state)));
}

/* Bytes of an entry in memory, about. */
static int64
about_resident(CsState *state)
{
	int64 entries = (int64) state->entries->members - (state->spill ? state->spill->nguests : 0);
	int64 bytes = state->entry_pieces.used + state->data_pieces.used - state->member_bytes - state->kept_bytes;

	return entries > 0 ? Max(bytes / entries, CS_ARENA_ALIGN) : ENTRY_ABOUT;
}

/* And of n spilled ones. */
static int64
about_spilled(int64 bytes, int64 n)
{
	return n > 0 ? bytes / n + CS_SLOT : 0;
}

/* A work and its row are some times as large. */
static int
room(int64 about, int64 max)
{
	return (int) Min(max, Max(ROOM_MIN, cs_batch_memory * INT64CONST(1024) / ROOM_SHARE / about));
}

int
cs_state_room(CsState *state, int max)
{
	int64 bytes = 0;

	for (int i = 0; i < state->ndefs; i++)
		bytes += state->defs[i].spilled_bytes;
	return room(Max(about_resident(state), about_spilled(bytes, cs_state_spilled(state))), max);
}

/* So many of a definition's spilled entries may be read back at once. */
static int
room_of(CsState *state, const CsDefState *def, int64 max)
{
	return room(Max(about_resident(state), about_spilled(def->spilled_bytes, cs_spilled(def))), max);
}

/* As an entry that is nowhere else; data stays where it is. */
static CsEntry
entry_of(const CsSpillRow *row)
{
	return (CsEntry){.key = row->key,
					 .data = (char *) row->data,
					 .len = row->len,
					 .half = CS_HALF_TABLE,
					 .due = CS_WM_DONE,
					 .queued = CS_WM_DONE};
}

static void
must_be_whole(CsState *state, const CsSpillRow *row)
{
	if (unlikely(row->problem != NULL) && !state->lenient)
		cs_spill_corrupt(state, row);
}

/* A row that should be there is not. */
static void
missing(CsState *state, const CsKey *key, const char *what)
{
	CsSpillRow row = {.key = *key, .problem = what};

	cs_spill_corrupt(state, &row);
}

/* Nor are some of a bucket's. */
static void
missing_of(CsState *state, const CsDefState *def, const CsBucket *bucket, const char *what)
{
	CsKey key = {.def = (uint32) def->definition_id, .bucket = bucket->bucket};

	missing(state, &key, what);
}

/* A row becomes a guest, unless it is one already. */
static void
install(const CsSpillRow *row, void *arg)
{
	CsState	   *state = arg;
	CsDefState *def = cs_def_state(state, (int32) row->key.def);
	TimestampTz due;

	must_be_whole(state, row);
	if (cs_spill_index_has(def->spilled, &row->key, &due))
		cs_guest_take_in(state, def, row, due);
}

static int
key_cmp(const void *a, const void *b)
{
	const CsKey *x = a;
	const CsKey *y = b;

	if (x->def != y->def)
		return x->def < y->def ? -1 : 1;
	if (x->bucket != y->bucket)
		return x->bucket < y->bucket ? -1 : 1;
	return cs_hash_cmp(&x->who, &y->who);
}

/* All these keys are spilled. */
static void
load(CsState *state, CsKey *keys, int n)
{
	CsSpillReader *reader;

	if (n == 0)
		return;
	CS_FAULT(SPILL_READ);
	qsort(keys, n, sizeof(CsKey), key_cmp);
	reader = cs_spill_reader_open(state->spill->relation, GetActiveSnapshot());
	for (int i = 0; i < n; i++)
	{
		if (!cs_spill_read(reader, &keys[i], install, state))
			missing(state, &keys[i], "its row in the spill table is missing");
		CHECK_FOR_INTERRUPTS();
	}
	cs_spill_reader_close(reader);
}

/* ---- by key ---- */

static bool
is_spilled(CsState *state, const CsKey *key)
{
	CsDefState *def = cs_def_state(state, (int32) key->def);
	TimestampTz due;

	return def && def->spilled && cs_spill_index_has(def->spilled, key, &due);
}

CsEntry *
cs_spill_fetch(CsState *state, const CsKey *key)
{
	CsKey copy = *key;

	if (!is_spilled(state, key))
		return NULL;
	load(state, &copy, 1);
	return cs_state_peek(state, key);
}

bool
cs_state_has_spilled(CsState *state, int32 definition_id)
{
	return cs_spilled(cs_def_state(state, definition_id)) > 0;
}

/* Whether it is spilled is seen when all are announced: until then the index is on its way from memory. */
void
cs_state_want(CsState *state, const CsKey *key)
{
	CsSpill	   *spill = state->spill;
	CsDefState *def = cs_def_state(state, (int32) key->def);

	if (def == NULL || def->spilled == NULL)
		return;
	cs_spill_index_prefetch(def->spilled, key);
	if (spill->nwanted == spill->wanted_capacity)
	{
		spill->wanted_capacity = Max(256, spill->wanted_capacity * 2);
		spill->wanted = spill->wanted ? repalloc_huge(spill->wanted, spill->wanted_capacity * sizeof(CsKey))
									  : MemoryContextAlloc(state->context, spill->wanted_capacity * sizeof(CsKey));
	}
	spill->wanted[spill->nwanted++] = *key;
}

void
cs_state_fetch_wanted(CsState *state)
{
	CsSpill *spill = state->spill;
	int		 nwanted = spill ? spill->nwanted : 0;
	int		 nspilled = 0;
	int		 n = 0;

	if (nwanted == 0)
		return;
	spill->nwanted = 0;
	for (int i = 0; i < nwanted; i++)
	{
		if (is_spilled(state, &spill->wanted[i]))
			spill->wanted[nspilled++] = spill->wanted[i];
	}
	qsort(spill->wanted, nspilled, sizeof(CsKey), key_cmp);
	for (int i = 0; i < nspilled; i++)
	{
		if (i == 0 || key_cmp(&spill->wanted[i], &spill->wanted[n - 1]) != 0)
			spill->wanted[n++] = spill->wanted[i];
	}
	load(state, spill->wanted, n);
}

/* ---- buckets ---- */

static void
install_marked(const CsSpillRow *row, void *arg)
{
	CsState *state = arg;
	CsEntry	 entry = entry_of(row);

	must_be_whole(state, row);
	if (cs_spill_is_marked(state, cs_def_state(state, (int32) row->key.def), &entry))
		install(row, arg);
}

static void
load_bucket(CsState *state, CsDefState *def, CsBucket *bucket, int64 max, CsSpillVisit visit)
{
	CsSpillReader *reader = cs_spill_reader_open(state->spill->relation, GetActiveSnapshot());

	cs_spill_read_bucket(reader, def->definition_id, bucket->bucket, max, visit, state);
	cs_spill_reader_close(reader);
}

void
cs_spill_load_bucket(CsState *state, CsDefState *def, CsBucket *bucket)
{
	if (bucket->nspilled == 0)
		return;
	load_bucket(state, def, bucket, PG_INT64_MAX, install);
	if (bucket->nspilled != 0)
		missing_of(state, def, bucket, "spilled entries of a bucket are missing");
}

void
cs_spill_load_part(CsState *state, CsDefState *def, CsBucket *bucket, CsPart part)
{
	CsSpillReader *reader;

	if (bucket->nspilled == 0)
		return;
	reader = cs_spill_reader_open(state->spill->relation, GetActiveSnapshot());
	cs_spill_read_part(reader, def->definition_id, bucket->bucket, part, install, state);
	cs_spill_reader_close(reader);
}

/* Those in memory that this batch has not deleted, up to max. */
static int64
count_live(CsBucket *bucket, int64 max)
{
	int64	   n = 0;
	dlist_iter iter;

	dlist_foreach(iter, &bucket->entries)
	{
		const CsEntry *entry = dlist_container(CsEntry, list_node, iter.cur);

		if (n == max)
			break;
		n += entry->work == NULL || !entry->work->deleted;
	}
	return n;
}

/* Some more of them, unless so many are in memory already.  Those that are have rows, too, which may come first. */
void
cs_spill_load_some(CsState *state, CsDefState *def, CsBucket *bucket, int64 max)
{
	int64 before = bucket->nspilled;
	int64 live = before > 0 ? count_live(bucket, max) : 0;

	if (before == 0 || live >= max)
		return;
	load_bucket(state, def, bucket, bucket->nentries + room_of(state, def, max - live), install);
	if (bucket->nspilled == before && live == 0)
		missing_of(state, def, bucket, "spilled entries of a bucket are missing");
}

/* Those of a part that are marked; without any the table is not looked at. */
void
cs_spill_load_marked(CsState *state, CsDefState *def, CsBucket *bucket, CsPart part)
{
	CsSpillReader *reader;

	if (bucket->nmarked == 0)
		return;
	reader = cs_spill_reader_open(state->spill->relation, GetActiveSnapshot());
	cs_spill_read_part(reader, def->definition_id, bucket->bucket, part, install_marked, state);
	cs_spill_reader_close(reader);
	if (part.first == 0 && part.last == PG_UINT64_MAX && bucket->nmarked != 0)
		missing_of(state, def, bucket, "marked entries of a bucket are missing");
}

/* ---- by time ---- */

static void
load_due(CsState *state, CsDefState *def, CsSpillDue *due, int n)
{
	CsKey *keys = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(CsKey));

	for (int i = 0; i < n; i++)
	{
		memset(&keys[i], 0, sizeof(CsKey));
		keys[i].def = (uint32) def->definition_id;
		keys[i].who = due[i].who;
	}
	load(state, keys, n);
	pfree(keys);
	if (due)
		pfree(due);
}

/* Have in memory, and so in the timers, what is due by then; true if there is more of it. */
bool
cs_spill_load_due(CsState *state, CsDefState *def, TimestampTz limit, int max)
{
	CsSpillDue *due;
	int			n;
	bool		more;

	if (cs_spilled(def) == 0)
		return false;
	due = cs_spill_index_due(def->spilled, limit, room_of(state, def, max), &n, &more);
	load_due(state, def, due, n);
	return more;
}

/*
 * The same for what is due in (after, limit]: all of it up to the moment that
 * is returned, which is earlier than limit if there are more than max.
 */
TimestampTz
cs_spill_load_between(CsState *state, CsDefState *def, TimestampTz after, TimestampTz limit, int max)
{
	CsSpillDue *due;
	int			n;
	bool		more;

	if (cs_spilled(def) == 0)
		return limit;
	max = room_of(state, def, max);
	for (;;)
	{
		TimestampTz first = cs_spill_index_next(def->spilled, after);
		TimestampTz half;

		due = cs_spill_index_between(def->spilled, after, limit, max, &n, &more);
		if (!more)
			break;
		pfree(due);
		half = cs_second_of(first + (limit - first) / 2) * USECS_PER_SEC - 1;
		if (half < first)
			max = PG_INT32_MAX; /* the events of one second or two */
		else
			limit = half;
	}
	load_due(state, def, due, n);
	return limit;
}

TimestampTz
cs_spill_next_due(CsDefState *def, TimestampTz after)
{
	return cs_spilled(def) > 0 ? cs_spill_index_next(def->spilled, after) : CS_WM_DONE;
}

/* ---- all ---- */

typedef struct Walk
{
	CsState	   *state;
	CsDefState *def; /* NULL: all */
	void (*visit)(CsEntry *entry, void *arg);
	void *arg;
} Walk;

/* Those in memory were visited there. */
static void
walk_row(const CsSpillRow *row, void *arg)
{
	Walk   *walk = arg;
	CsEntry entry = entry_of(row);

	if ((int32) row->key.def == walk->def->definition_id && is_spilled(walk->state, &row->key))
		walk->visit(&entry, walk->arg);
}

void
cs_spill_walk(CsState *state, CsDefState *def, void (*visit)(CsEntry *entry, void *arg), void *arg)
{
	Walk		   walk = {state, def, visit, arg};
	CsSpillReader *reader;

	if (cs_spilled(def) == 0)
		return;
	reader = cs_spill_reader_open(state->spill->relation, GetActiveSnapshot());
	cs_spill_read_all(reader, walk_row, &walk);
	cs_spill_reader_close(reader);
}

/* ---- sets ---- */

static void
append_members(const CsSpillRow *row, void *arg)
{
	CsBigSet  *set = arg;
	CsSpillRow cut = *row;

	must_be_whole(set->state, row);
	if (row->len % sizeof(CsHash128) != 0)
	{
		cut.problem = "a spilled distinct set is cut";
		cs_spill_corrupt(set->state, &cut);
	}
	cs_bigset_append(set->state, set, row->data, row->len / sizeof(CsHash128));
	CS_FAULT(SPILL_INSTALL);
}

/* The members that lie in the table; what the log has said since comes behind them. */
static void
read_members(CsBigSet *set)
{
	CsKey		   key = cs_spill_set_key(set->definition_id, set->id);
	CsSpillReader *reader = cs_spill_reader_open(set->state->spill->relation, GetActiveSnapshot());

	(void) cs_spill_read(reader, &key, append_members, set);
	cs_spill_reader_close(reader);
	if (set->n != set->on_table)
		missing(set->state, &key, "members of a spilled distinct set are missing");
}

void
cs_spill_load_set(CsBigSet *set)
{
	CS_FAULT(SPILL_READ);
	set->n = 0;
	PG_TRY();
	{
		read_members(set);
	}
	PG_CATCH();
	{
		cs_bigset_empty(set->state, set, set->on_table);
		PG_RE_THROW();
	}
	PG_END_TRY();
	cs_bigset_move(set->state, set, CS_HALF_TABLE);
	set->state->spill->loaded += set->n * (int64) sizeof(CsHash128);
}

/* ---- recovery ---- */

/* Does a set lack nothing? */
static void
look_at_piece(const CsSpillRow *row, void *arg)
{
	CsBigSet *set = arg;

	set->damaged |= row->problem != NULL || row->len % sizeof(CsHash128) != 0;
}

static void
look_at_sets(CsState *state)
{
	HASH_SEQ_STATUS scan;
	CsBigSet	   *set;
	CsSpillReader  *reader = cs_spill_reader_open(state->spill->relation, GetActiveSnapshot());

	hash_seq_init(&scan, state->sets);
	while ((set = hash_seq_search(&scan)) != NULL)
	{
		CsKey key = cs_spill_set_key(set->definition_id, set->id);

		if (set->on_table > 0)
			(void) cs_spill_read(reader, &key, look_at_piece, set);
	}
	cs_spill_reader_close(reader);
}

static CsDefState *
definition_of_row(CsState *state, const CsKey *key)
{
	CsSpill	   *spill = state->spill;
	int32		column = (int32) key->def;
	CsDefState *def = cs_def_state(state, cs_spill_is_set(key) ? ~column : column);

	if (def)
		return def;
	for (int i = 0; i < spill->norphans; i++)
		if (spill->orphans[i] == column)
			return NULL;
	if (spill->orphans == NULL)
		spill->orphans = MemoryContextAlloc(state->context, sizeof(int32));
	else
		spill->orphans = repalloc(spill->orphans, (spill->norphans + 1) * sizeof(int32));
	spill->orphans[spill->norphans++] = column;
	return NULL;
}

static void
recover_row(const CsSpillRow *row, void *arg)
{
	CsState		*state = arg;
	const CsKey *key = &row->key;
	CsDefState	*def = definition_of_row(state, key);
	CsEntry		 entry = entry_of(row);

	if (def == NULL)
		return;
	if (cs_spill_is_set(key))
	{
		CsBigSet *set;

		must_be_whole(state, row);
		set = cs_bigset_make(state, def->definition_id, (uint64) key->bucket, CS_HALF_NONE);
		if (!state->is_copy || set->slot == NULL)
			set->on_table += Max(row->len / sizeof(CsHash128), 1); /* what is damaged may be cut, but is there */
		return;
	}
	if (!cs_part_has(state->part, &key->who))
		return;
	if (state->is_copy && keyset_lookup(state->entries, key) != NULL)
		return;
	must_be_whole(state, row);
	if (keyset_lookup(state->entries, key) != NULL)
		cs_spill_doubled(state, key);
	if (is_spilled(state, key))
		return; /* it has more rows than it should, and has been told of */
	if (row->problem == NULL)
		entry.due = cs_entry_due(state, def, &entry);
	cs_spill_index_entry(state, def, &entry);
}

/* Sets of which the log has members, too: those in the table come first. */
static void
complete_sets(CsState *state)
{
	HASH_SEQ_STATUS scan;
	CsBigSet	   *set;

	hash_seq_init(&scan, state->sets);
	while ((set = hash_seq_search(&scan)) != NULL)
	{
		if (set->on_table == 0 || set->damaged)
			continue;
		if (set->n == 0)
			set->n = set->on_table;
		else
		{
			CsHash128 *tail = cs_bigset_gather(set);
			int64	   n = set->n;

			cs_bigset_empty(state, set, 0);
			read_members(set);
			cs_bigset_append(state, set, (const char *) tail, n);
			pfree(tail);
		}
	}
}

/*
 * The log's fold holds what was in memory at some commit, so no more than was
 * allowed then; the table adds its index to that.
 */
void
cs_spill_recover(CsState *state, Snapshot snapshot)
{
	CsSpillReader *reader;

	CS_FAULT(RECOVERY_SPILL);
	reader = cs_spill_reader_open(state->spill->relation, snapshot);
	cs_spill_read_all(reader, recover_row, state);
	cs_spill_reader_close(reader);
	if (state->lenient)
		look_at_sets(state);
	complete_sets(state);
	state->spill->loaded = 0;
}
