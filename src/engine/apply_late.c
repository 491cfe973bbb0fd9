/*
 * engine/apply_late.c
 *	  Late events of a definition go into its results.
 *
 * A transaction of the stream without messages: rows are written as a batch
 * writes them, so rollups follow; the counters and the ledger move from late
 * to used; state and watermark stay.  The engine is of no use afterwards: it
 * has not published what it has stored.
 *
 * The event log holds every event; what the definition has not counted before
 * (events late for it, made before it was) is left out.  That is asked of its
 * own late events: the class in the log is what the definitions of that time
 * made of an event together.  So where late events have been trimmed that were
 * not applied, nothing is made of events that may be those.  Where the log begins
 * later than the definition does, nothing is repaired from before it is sure
 * to be complete: the time of its first event and watermark_delay.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/event_log_read.h"
#include "core/mutant.h"
#include "engine/apply_late.h"
#include "engine/repair.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

typedef struct PlaceEntry
{
	struct
	{
		int32 topic;
		int32 partition;
		int64 offset;
	} place;
	CsLate *late;
} PlaceEntry;

/* ---- which events ---- */

static CsPartition *
partition_of(const CsEngine *e, int topic, int32 id)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		if (e->partitions[i]->topic == topic && e->partitions[i]->id == id)
			return e->partitions[i];
	}
	return NULL;
}

CsLate *
cs_repair_find(CsRepair *r, const CsPlace *place)
{
	PlaceEntry	key = {.place = {place->topic, place->partition, place->offset}};
	PlaceEntry *found = hash_search(r->by_place, &key.place, HASH_FIND, NULL);

	return found ? found->late : NULL;
}

bool
cs_repair_takes(CsRepair *r, const CsPlace *place, const CsLogged *logged, bool *unsure)
{
	CsLate *late = cs_repair_find(r, place);

	*unsure = false;
	if (late)
		return cs_late_is_open(late) && !CS_MUTANT(LATE_LEFT_OUT);
	if (!logged->seen || !cs_replay_counts(r->replay, place))
		return false;
	/* Nothing is late that the watermark had not passed, whatever allowed_lateness was then. */
	*unsure = r->trimmed && place->time - CS_USECS_PER_MSEC <= logged->watermark;
	return true;
}

/* A late event, one of those asked for or not. */
static void
add_late(CsRepair *r, const CsLateRow *row, bool selected)
{
	CsLate	  *late = &r->lates[r->nlates++];
	PlaceEntry key;

	late->row = *row;
	late->topic = cs_stream_topic_index(r->e->stream, row->topic);
	late->selected = selected;
	key.place.topic = late->topic;
	key.place.partition = row->partition;
	key.place.offset = row->offset;
	((PlaceEntry *) hash_search(r->by_place, &key.place, HASH_ENTER, NULL))->late = late;
}

typedef struct Finding
{
	CsRepair *r;
	CsLate	 *late;
} Finding;

static void
found_in_log(const Datum *values, const bool *isnull, const CsLogged *logged, void *arg)
{
	Finding		 *finding = arg;
	MemoryContext old = MemoryContextSwitchTo(finding->r->context);

	cs_replay_event(finding->r->replay, &finding->late->event, values, isnull);
	finding->late->class = logged->class;
	MemoryContextSwitchTo(old);
}

static void
find_lates(CsRepair *r)
{
	for (int i = 0; i < r->nlates; i++)
	{
		CsLate *late = &r->lates[i];
		Finding finding = {r, late};

		if (!late->selected)
			continue;
		CHECK_FOR_INTERRUPTS();
		late->found = late->topic >= 0 && cs_event_log_find(r->log, r->e->stream, late->row.topic, late->row.partition,
															late->row.offset, found_in_log, &finding);
		if (!late->found)
			late->refused = "the event log does not hold it";
	}
}

void
cs_repair_load(CsRepair *r, bool applied, TimestampTz from, TimestampTz to)
{
	HASHCTL ctl = {.keysize = sizeof(((PlaceEntry *) 0)->place), .entrysize = sizeof(PlaceEntry), .hcxt = r->context};
	int32	id = r->stage->op->def->definition_id;
	int		nopen;
	int		napplied = 0;
	CsLateRow *open = cs_late_rows(id, false, &nopen);
	CsLateRow *done = applied ? cs_late_rows(id, true, &napplied) : NULL;

	r->lates = MemoryContextAllocExtended(r->context, Max(nopen + napplied, 1) * sizeof(CsLate),
										  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	r->by_place =
		hash_create("clickstream late events", Max(nopen + napplied, 16), &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < nopen; i++)
		add_late(r, &open[i], !applied && open[i].event_time >= from && open[i].event_time < to);
	for (int i = 0; i < napplied; i++)
		add_late(r, &done[i], true);
	r->trimmed = cs_late_rows_trimmed(id);
	find_lates(r);
}

/* ---- rows ---- */

int32
cs_repair_revision(CsRepair *r, Datum *values, bool *isnull)
{
	CsTable		   *table = cs_stage_table(r->e, r->stage);
	TupleTableSlot *row = cs_table_find(table, values, isnull);
	bool			null;
	Datum			revision;

	if (row == NULL)
		return -1;
	revision = cs_table_value(table, row, cs_operator_column_number(r->stage->op, "revision"), &null);
	return null ? 0 : DatumGetInt32(revision);
}

/* Do table and replay agree on the row with this key, but for its revision? */
static bool
is_as_made(CsRepair *r, const CsReplayRow *row)
{
	CsOperator	   *op = r->stage->op;
	CsTable		   *table = cs_stage_table(r->e, r->stage);
	TupleTableSlot *there = cs_table_find(table, row->values, row->isnull);

	for (int i = 0; there && i < op->ncolumns; i++)
	{
		int16 typlen;
		bool  typbyval;
		bool  isnull;
		Datum value = cs_table_value(table, there, i, &isnull);

		get_typlenbyval(op->columns[i].type, &typlen, &typbyval);
		if (strcmp(op->columns[i].name, "revision") == 0)
			continue;
		if (isnull != row->isnull[i] || (!isnull && !datum_image_eq(value, row->values[i], typbyval, typlen)))
			return false;
	}
	return there != NULL;
}

void
cs_repair_write(CsRepair *r, const CsReplayRow *row, int32 revision)
{
	CsEngine	 *e = r->e;
	CsOperator	 *op = r->stage->op;
	int32		  before = cs_repair_revision(r, row->values, row->isnull);
	MemoryContext old;
	Datum		 *values;
	bool		 *isnull;

	if (is_as_made(r, row))
		return;
	old = MemoryContextSwitchTo(e->batch);
	values = palloc(op->ncolumns * sizeof(Datum));
	isnull = palloc(op->ncolumns * sizeof(bool));
	for (int i = 0; i < op->ncolumns; i++)
	{
		int16 typlen;
		bool  typbyval;

		get_typlenbyval(op->columns[i].type, &typlen, &typbyval);
		isnull[i] = row->isnull[i];
		values[i] = isnull[i] ? (Datum) 0 : datumCopy(row->values[i], typbyval, typlen);
	}
	values[cs_operator_column_number(op, "revision")] = Int32GetDatum(Max(before + 1, revision));
	e->emitter.row(&e->emitter, op, before < 0 ? CS_ROW_INSERT : CS_ROW_UPSERT, values, isnull);
	MemoryContextSwitchTo(old);
}

void
cs_repair_delete(CsRepair *r, Datum *values, bool *isnull)
{
	r->e->emitter.row(&r->e->emitter, r->stage->op, CS_ROW_DELETE, values, isnull);
}

/* ---- what is counted ---- */

/* In the definition's counters and, if nobody had used it, in the ledger: late was, used is. */
static void
account(CsRepair *r, CsLate *late)
{
	CsPartition *p = partition_of(r->e, late->topic, late->row.partition);
	CsCount		*count = cs_count_of(r->e, p, r->stage->op->def->definition_id);

	count->late--;
	count->used++;
	if (late->class != CS_CLASS_LATE)
		return;
	p->ledger[CS_CLASS_LATE]--;
	p->ledger[CS_CLASS_USED]++;
	p->repaired++;
	cs_event_log_mark_used(r->log, late->row.topic, late->row.partition, late->row.offset);
}

static void
finish_lates(CsRepair *r, CsLateResult result, void *arg)
{
	int64 *ids = MemoryContextAllocHuge(r->context, Max(r->nlates, 1) * sizeof(int64));
	int	   n = 0;

	for (int i = 0; i < r->nlates; i++)
	{
		CsLate *late = &r->lates[i];

		if (cs_late_is_open(late))
		{
			account(r, late);
			ids[n++] = late->row.id;
		}
		if (late->selected)
			result(&late->row, late->refused, arg);
	}
	cs_late_rows_applied(ids, n, cs_now());
}

/* ---- the transaction ---- */

void
cs_repair_begin(CsRepair *r, CsEngine *e, CsStage *stage, CsReplay *replay)
{
	memset(r, 0, sizeof(*r));
	r->e = e;
	r->stage = stage;
	r->replay = replay;
	r->log = e->event_log_table;
	r->context = CurrentMemoryContext;
	r->settled = e->watermark;
	if (r->settled != CS_WM_DONE && r->settled != CS_WM_NONE)
		r->settled -= Max(stage->op->def->lateness, 0);
	r->deleted = stage->op->def->deleted_before;
	r->horizon = cs_replay_horizon(replay);
}

typedef struct Applying
{
	Oid			 table;
	TimestampTz	 from, to;
	CsLateResult result;
	void		*arg;
} Applying;

static void
run(CsEngine *e, void *arg)
{
	Applying	 *applying = arg;
	MemoryContext context = AllocSetContextCreate(e->batch, "clickstream repair", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CsStage		 *stage = cs_replay_stage(e, applying->table);
	CsRepair	  r;

	(void) cs_replay_log(e, "Late events are applied by making what they touch again from the event log.");
	cs_repair_begin(&r, e, stage, cs_replay_create(e, stage));
	cs_repair_load(&r, false, applying->from, applying->to);
	if (r.stage->op->ops->key_of)
		cs_repair_keys(&r);
	else
		cs_repair_windows(&r);
	finish_lates(&r, applying->result, applying->arg);
	MemoryContextSwitchTo(old);
}

void
cs_engine_apply_late(int32 stream_id, const CsHost *host, Oid table, TimestampTz from, TimestampTz to,
					 CsLateResult result, void *arg)
{
	Applying applying = {table, from, to, result, arg};

	cs_engine_repair(stream_id, host, run, &applying);
}
