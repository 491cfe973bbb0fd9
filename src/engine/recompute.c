/*
 * engine/recompute.c
 *	  A definition's final rows, made again from the event log.
 *
 * The log says in which order events came and where the watermark stood then.
 * So a replay of them in that order judges each as it was judged, and comes to
 * the rows that the stream came to, or there is a mistake somewhere.  Rows are
 * handed out as they become final, and what is over is forgotten: memory is
 * what is open at once, as in the stream itself.
 *
 * What apply_late() has put in came otherwise.  Rows of windows that it has made
 * are made as it does it.  Of a key with such events all events are kept aside,
 * and the stretches between two pauses in which they lie are replayed as
 * apply_late() does it, the others as they came.
 *
 * Under one snapshot; no locking.
 */
#include "postgres.h"

#include "core/event_log_read.h"
#include "core/letters.h"
#include "engine/recompute.h"
#include "engine/repair.h"
#include "engine/replay.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* An event of a key that has applied late events. */
typedef struct Aside
{
	CsReplayEvent event;
	int64		  came;	 /* which one it was, in order */
	bool		  takes; /* apply_late() takes it */
	bool		  applied;
} Aside;

typedef struct AsideKey
{
	CsHash128 key; /* hash key */
	Aside	 *events;
	int		  n, capacity;
} AsideKey;

/* A row of a window that apply_late() has made. */
typedef struct RemadeRow
{
	struct
	{
		TimestampTz start, end;
		pg_uuid_t	group;
	} key; /* hash key */
} RemadeRow;

typedef struct Recompute
{
	CsEngine	   *e;
	CsStage		   *stage;
	CsReplay	   *replay;
	Oid				log;
	MemoryContext	context;
	TimestampTz		from, to;
	int				start, is_final, end, group; /* columns; the last two of windows */
	CsRecomputedRow row;
	void		   *arg;
	bool			by_key;
	int64			came; /* events so far */
	TimestampTz		watermark;
	CsRepair		repair; /* the late events, and what became of them */
	HTAB		   *remade; /* RemadeRow; NULL: none */
	HTAB		   *keys;	/* AsideKey; NULL: nothing is kept aside */
	/* events not yet applied */
	MemoryContext  staging;
	CsReplayEvent *staged;
	Aside		  *marks; /* beside each of them */
	bool		  *takes; /* and, with keys aside, whose it is */
	CsHash128	  *staged_keys;
	int			   n;
} Recompute;

/* ---- rows ---- */

static RemadeRow *
find_remade(const Recompute *r, const Datum *values, HASHACTION action)
{
	RemadeRow row;

	memset(&row, 0, sizeof(row));
	row.key.start = DatumGetTimestampTz(values[r->start]);
	row.key.end = DatumGetTimestampTz(values[r->end]);
	row.key.group = *DatumGetUUIDP(values[r->group]);
	return hash_search(r->remade, &row.key, action, NULL);
}

static void
hand_out(const Recompute *r, const Datum *values, const bool *isnull)
{
	TimestampTz start = DatumGetTimestampTz(values[r->start]);

	if (!isnull[r->is_final] && DatumGetBool(values[r->is_final]) && start >= r->from && start < r->to)
		r->row(values, isnull, r->arg);
}

/* Nothing is kept. */
static bool
take_row(CsReplay *replay, Datum *values, bool *isnull, void *arg)
{
	Recompute *r = arg;

	(void) replay;
	if (r->remade == NULL || find_remade(r, values, HASH_FIND) == NULL)
		hand_out(r, values, isnull);
	return false;
}

/* ---- late events that were applied ---- */

static HTAB *
make_hash(const Recompute *r, const char *name, Size keysize, Size entrysize)
{
	HASHCTL ctl = {.keysize = keysize, .entrysize = entrysize, .hcxt = r->context};

	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
take_remade(CsRepair *repair, const CsReplayRow *row, void *arg)
{
	Recompute *r = arg;

	(void) repair;
	(void) find_remade(r, row->values, HASH_ENTER);
	hand_out(r, row->values, row->isnull);
}

/* Whose the applied events are: all events of these keys are kept aside. */
static void
find_keys(Recompute *r)
{
	r->keys = make_hash(r, "clickstream keys aside", sizeof(CsHash128), sizeof(AsideKey));
	cs_replay_begin(r->replay, NULL, NULL);
	for (int i = 0; i < r->repair.nlates; i++)
	{
		CsLate	 *late = &r->repair.lates[i];
		AsideKey *k;
		bool	  takes;
		bool	  found;

		if (!cs_late_is_open(late))
			continue;
		cs_replay_keys(r->replay, &late->event, 1, &takes, &late->key, NULL);
		if (!takes)
			continue;
		k = hash_search(r->keys, &late->key, HASH_ENTER, &found);
		if (!found)
		{
			k->events = NULL;
			k->n = k->capacity = 0;
		}
	}
}

static void
load_applied(Recompute *r)
{
	bool any = false;

	cs_repair_begin(&r->repair, r->e, r->stage, r->replay);
	cs_repair_load(&r->repair, true, CS_WM_NONE, CS_WM_DONE);
	for (int i = 0; i < r->repair.nlates && !any; i++)
		any = cs_late_is_open(&r->repair.lates[i]);
	if (!any)
		return;
	if (r->by_key)
	{
		find_keys(r);
		return;
	}
	r->remade = make_hash(r, "clickstream rows made again", sizeof(((RemadeRow *) 0)->key), sizeof(RemadeRow));
	cs_repair_windows_make(&r->repair, take_remade, r);
}

/* ---- events as they came ---- */

/* Keep it, if its key is one of those. */
static bool
put_aside(Recompute *r, int i)
{
	AsideKey	 *k = r->takes[i] ? hash_search(r->keys, &r->staged_keys[i], HASH_FIND, NULL) : NULL;
	MemoryContext old;

	if (k == NULL)
		return false;
	old = MemoryContextSwitchTo(r->context);
	if (k->n == k->capacity)
	{
		k->capacity = k->capacity ? k->capacity * 2 : 16;
		k->events =
			k->events ? repalloc_huge(k->events, k->capacity * sizeof(Aside)) : palloc(k->capacity * sizeof(Aside));
	}
	k->events[k->n] = r->marks[i];
	k->events[k->n++].event = cs_replay_copy_event(r->replay, &r->staged[i]);
	MemoryContextSwitchTo(old);
	return true;
}

/* Apply what is staged; the watermark is that of the last one. */
static void
apply_staged(Recompute *r)
{
	if (r->keys)
		cs_replay_keys(r->replay, r->staged, r->n, r->takes, r->staged_keys, NULL);
	for (int i = 0; i < r->n; i++)
	{
		if (r->keys == NULL || !put_aside(r, i))
			cs_replay_add(r->replay, &r->staged[i]);
	}
	cs_replay_settle(r->replay, r->watermark);
	r->n = 0;
	MemoryContextReset(r->staging);
}

static void
take_event(const Datum *values, const bool *isnull, const CsLogged *logged, void *arg)
{
	Recompute	 *r = arg;
	CsPlace		  place = cs_replay_place(r->replay, values);
	CsLate		 *late;
	MemoryContext old;

	r->came++;
	if (!logged->seen || place.topic < 0 || !cs_replay_counts(r->replay, &place))
		return;
	late = r->keys ? cs_repair_find(&r->repair, &place) : NULL;
	r->watermark = Max(r->watermark, logged->watermark);
	old = MemoryContextSwitchTo(r->staging);
	cs_replay_event(r->replay, &r->staged[r->n], values, isnull);
	MemoryContextSwitchTo(old);
	r->staged[r->n].watermark = logged->watermark;
	r->marks[r->n] = (Aside){.came = r->came,
							 .takes = late == NULL || cs_late_is_open(late),
							 .applied = late && cs_late_is_open(late)};
	if (++r->n == CS_CHUNK_MESSAGES)
		apply_staged(r);
}

/* Events of windows can be chosen by time; where a session or an attempt ends depends on what came before it. */
static void
take_all(Recompute *r)
{
	int64		margin = 2 * r->stage->op->def->size + 3 * USECS_PER_DAY;
	TimestampTz from = DT_NOBEGIN;
	TimestampTz to = DT_NOEND;

	if (!r->by_key && r->from != CS_WM_NONE)
		from = r->from - margin;
	if (!r->by_key && r->to != CS_WM_DONE)
		to = r->to + margin;
	(void) cs_event_log_in_order(r->log, r->e->stream, (CsLogMark){0, -1}, r->e->stored.commit_number, from, to, 0,
								 take_event, r);
	apply_staged(r);
	cs_replay_settle(r->replay, r->e->watermark);
}

/* ---- keys kept aside ---- */

static int
place_cmp(const void *a, const void *b)
{
	return cs_place_cmp(&((const Aside *) a)->event.place, &((const Aside *) b)->event.place);
}

static int
came_cmp(const void *a, const void *b)
{
	int64 x = ((const Aside *) a)->came;
	int64 y = ((const Aside *) b)->came;

	return x < y ? -1 : x > y;
}

/* As apply_late() has made it: in the order of places, nothing late but what it did not apply. */
static void
replay_repaired(Recompute *r, const Aside *events, int n)
{
	bool finished = r->e->watermark == CS_WM_DONE;

	cs_replay_begin(r->replay, NULL, NULL);
	for (int i = 0; i < n; i++)
	{
		if (events[i].takes)
		{
			CsReplayEvent event = events[i].event;

			event.watermark = CS_WM_NONE;
			cs_replay_add(r->replay, &event);
		}
	}
	(void) cs_replay_close(r->replay, finished ? cs_watermark_content(r->e) : r->e->watermark, finished);
	for (CsReplayRow *row = cs_replay_rows(r->replay); row; row = row->next)
		hand_out(r, row->values, row->isnull);
}

static void
replay_as_it_was(Recompute *r, Aside *events, int n)
{
	qsort(events, n, sizeof(Aside), came_cmp);
	cs_replay_begin_as_it_was(r->replay, take_row, r);
	for (int i = 0; i < n; i++)
	{
		if (cs_replay_add(r->replay, &events[i].event))
			cs_replay_settle(r->replay, events[i].event.watermark);
	}
	cs_replay_settle(r->replay, r->e->watermark);
}

static void
replay_key(Recompute *r, AsideKey *k)
{
	const CsDefinition *def = r->stage->op->def;
	int64				reach = def->kind == CS_KIND_FUNNEL ? def->within : def->gap;

	qsort(k->events, k->n, sizeof(Aside), place_cmp);
	for (int i = 0, end; i < k->n; i = end)
	{
		bool repaired = k->events[i].applied;

		for (end = i + 1; end < k->n && k->events[end].event.place.time - k->events[end - 1].event.place.time <= reach;
			 end++)
			repaired |= k->events[end].applied;
		if (repaired)
			replay_repaired(r, k->events + i, end - i);
		else
			replay_as_it_was(r, k->events + i, end - i);
	}
}

static void
replay_aside(Recompute *r)
{
	HASH_SEQ_STATUS scan;
	AsideKey	   *k;

	if (r->keys == NULL)
		return;
	hash_seq_init(&scan, r->keys);
	while ((k = hash_seq_search(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		replay_key(r, k);
	}
}

/* ---- borders ---- */

/* From which start on the log is sure to hold all that a row is made of. */
static TimestampTz
log_border(const Recompute *r)
{
	const CsDefinition *def = r->stage->op->def;
	TimestampTz			horizon = cs_replay_horizon(r->replay);

	if (horizon == CS_WM_NONE || horizon == CS_WM_DONE || !r->by_key)
		return horizon;
	return horizon + (def->kind == CS_KIND_FUNNEL ? def->within : def->gap) + Max(def->max_length, 0);
}

static void
check_period(Recompute *r)
{
	TimestampTz border = log_border(r);
	TimestampTz deleted = r->stage->op->def->deleted_before;
	char	   *name = get_rel_name(r->stage->op->def->table);

	if (r->from == CS_WM_NONE)
		r->from = Max(border, deleted == DT_NOBEGIN ? CS_WM_NONE : deleted);
	if (border == CS_WM_DONE || r->from < border)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the event log does not reach back far enough"),
				 border == CS_WM_DONE
					 ? errdetail("It holds nothing of what \"%s\" is made of.", name)
					 : errdetail("It is sure to hold what rows of \"%s\" are made of if they start at %s or later.",
								 name, pstrdup(timestamptz_to_str(border))),
				 errhint("Give a later start_time.")));
	if (deleted != DT_NOBEGIN && r->from < deleted)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("rows of \"%s\" may have been deleted by retention", name),
						errdetail("Those that start before %s.", pstrdup(timestamptz_to_str(deleted))),
						errhint("Give a later start_time.")));
}

static void
set_up(Recompute *r, CsEngine *e, Oid table)
{
	const CsOperator *op;

	r->e = e;
	r->stage = cs_replay_stage(e, table);
	r->log = cs_replay_log(e, "Rows are made again from the event log.");
	r->replay = cs_replay_create(e, r->stage);
	op = r->stage->op;
	r->by_key = op->ops->key_of != NULL;
	r->start = cs_operator_column_number(op, op->def->start_column);
	r->is_final = cs_operator_column_number(op, "is_final");
	if (!r->by_key)
	{
		r->end = cs_operator_column_number(op, "window_end");
		r->group = cs_operator_column_number(op, "group_key");
	}
	r->watermark = CS_WM_NONE;
	r->staging = AllocSetContextCreate(CurrentMemoryContext, "clickstream rows of a log", ALLOCSET_DEFAULT_SIZES);
	r->staged = palloc(CS_CHUNK_MESSAGES * sizeof(CsReplayEvent));
	r->marks = palloc(CS_CHUNK_MESSAGES * sizeof(Aside));
	r->takes = palloc(CS_CHUNK_MESSAGES * sizeof(bool));
	r->staged_keys = palloc(CS_CHUNK_MESSAGES * sizeof(CsHash128));
}

void
cs_recompute_run(CsEngine *e, Oid table, TimestampTz from, TimestampTz to, CsRecomputeBegin begin, CsRecomputedRow row,
				 void *arg)
{
	Recompute	  r = {.from = from, .to = to, .row = row, .arg = arg};
	MemoryContext old;

	r.context = AllocSetContextCreate(e->batch, "clickstream recompute", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(r.context);
	set_up(&r, e, table);
	check_period(&r);
	begin(r.stage->op, arg);
	load_applied(&r);
	cs_replay_begin_as_it_was(r.replay, take_row, &r);
	take_all(&r);
	replay_aside(&r);
	MemoryContextSwitchTo(old);
}

TimestampTz
cs_recompute_border(CsEngine *e, Oid table)
{
	Recompute	  r = {0};
	MemoryContext old = MemoryContextSwitchTo(e->batch);
	TimestampTz	  border;
	TimestampTz	  deleted;

	set_up(&r, e, table);
	border = log_border(&r);
	deleted = r.stage->op->def->deleted_before;
	MemoryContextSwitchTo(old);
	return deleted == DT_NOBEGIN ? border : Max(border, deleted);
}
