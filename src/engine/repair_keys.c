/*
 * engine/repair_keys.c
 *	  Late events of sessions and funnels.
 *
 * What a key did falls apart where nothing came for longer than the gap (of a
 * funnel: within): no session, and no attempt, reaches over such a pause.
 * So the part that a late event lies in, with the event, is replayed in the
 * order of events and takes the place of the rows that are there: those whose
 * id is one of the part's events.
 *
 * How far a part reaches is not known before it is read: a stretch of the log
 * around the late events is scanned for their keys, and a longer one if a
 * part touches its edge.
 */
#include "postgres.h"

#include "core/event_log_read.h"
#include "engine/repair.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define STRETCH_MIN (INT64CONST(4) * USECS_PER_HOUR) /* scanned at once on either side, at least */
#define WIDENINGS 4									 /* each four times wider; then all of the log */

/* A key with late events, and what it did in the stretch. */
typedef struct KeyEvents
{
	CsHash128	   key; /* hash key */
	CsReplayEvent *events;
	int			   n, capacity;
} KeyEvents;

typedef struct Stretch
{
	CsRepair	 *r;
	TimestampTz	  reach; /* a longer pause parts */
	MemoryContext context;
	MemoryContext staging;
	HTAB		 *keys;		   /* KeyEvents */
	int			  first, last; /* lates [first, last) */
	TimestampTz	  from, to;
	/* events whose key is not known yet */
	CsReplayEvent *staged;
	int			   n;
} Stretch;

/* ---- whose the late events are ---- */

static void
find_keys(CsRepair *r)
{
	CsReplayEvent event;
	bool		  takes;
	char		 *error;

	cs_replay_begin(r->replay, NULL, NULL);
	for (int i = 0; i < r->nlates; i++)
	{
		CsLate *late = &r->lates[i];

		if (!cs_late_is_open(late))
			continue;
		event = late->event;
		error = NULL;
		cs_replay_keys(r->replay, &event, 1, &takes, &late->key, &error);
		if (error)
			late->refused = MemoryContextStrdup(r->context, error);
		else if (!takes)
			late->refused = "the definition does not take it any more";
	}
}

/* ---- reading a stretch ---- */

static void
add_event(Stretch *s, KeyEvents *k, const CsReplayEvent *event)
{
	MemoryContext old = MemoryContextSwitchTo(s->context);

	if (k->n == k->capacity)
	{
		k->capacity = k->capacity ? k->capacity * 2 : 16;
		k->events = k->events ? repalloc_huge(k->events, k->capacity * sizeof(CsReplayEvent))
							  : palloc(k->capacity * sizeof(CsReplayEvent));
	}
	k->events[k->n++] = cs_replay_copy_event(s->r->replay, event);
	MemoryContextSwitchTo(old);
}

static void
sort_out(Stretch *s)
{
	bool	  *takes = palloc(Max(s->n, 1) * sizeof(bool));
	CsHash128 *keys = palloc(Max(s->n, 1) * sizeof(CsHash128));

	cs_replay_keys(s->r->replay, s->staged, s->n, takes, keys, NULL);
	for (int i = 0; i < s->n; i++)
	{
		KeyEvents *k = takes[i] ? hash_search(s->keys, &keys[i], HASH_FIND, NULL) : NULL;

		if (k)
			add_event(s, k, &s->staged[i]);
	}
	pfree(takes);
	pfree(keys);
	s->n = 0;
	MemoryContextReset(s->staging);
}

static void
stage_row(const Datum *values, const bool *isnull, const CsLogged *logged, void *arg)
{
	Stretch		 *s = arg;
	CsPlace		  place = cs_replay_place(s->r->replay, values);
	MemoryContext old;
	bool		  unsure;

	if (!cs_repair_takes(s->r, &place, logged, &unsure))
		return;
	old = MemoryContextSwitchTo(s->staging);
	cs_replay_event(s->r->replay, &s->staged[s->n], values, isnull);
	s->staged[s->n++].unsure = unsure;
	MemoryContextSwitchTo(old);
	if (s->n == CS_CHUNK_MESSAGES)
		sort_out(s);
}

static void
read_stretch(Stretch *s)
{
	HASHCTL ctl = {.keysize = sizeof(CsHash128), .entrysize = sizeof(KeyEvents), .hcxt = s->context};

	MemoryContextReset(s->context);
	s->keys = hash_create("clickstream keys to repair", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = s->first; i < s->last; i++)
	{
		bool	   found;
		KeyEvents *k;

		if (!cs_late_is_open(&s->r->lates[i]))
			continue;
		k = hash_search(s->keys, &s->r->lates[i].key, HASH_ENTER, &found);
		if (!found)
			k->events = NULL, k->n = k->capacity = 0;
	}
	cs_replay_begin(s->r->replay, NULL, NULL);
	cs_event_log_scan(s->r->log, s->r->e->stream, s->from, s->to, stage_row, s);
	sort_out(s);
}

/* ---- the parts of a key ---- */

static int
event_cmp(const void *a, const void *b)
{
	return cs_place_cmp(&((const CsReplayEvent *) a)->place, &((const CsReplayEvent *) b)->place);
}

/* End of the part that begins at i. */
static int
part_end(const Stretch *s, const KeyEvents *k, int i)
{
	for (i++; i < k->n && k->events[i].place.time - k->events[i - 1].place.time <= s->reach; i++)
		;
	return i;
}

static bool
has_late(Stretch *s, const KeyEvents *k, int i, int end)
{
	for (; i < end; i++)
	{
		if (cs_repair_find(s->r, &k->events[i].place))
			return true;
	}
	return false;
}

/* Could the part go on outside of what was read? */
static bool
touches_edge(const Stretch *s, const CsReplayEvent *first, const CsReplayEvent *last)
{
	return (s->from != DT_NOBEGIN && first->place.time - s->from <= s->reach) ||
		   (s->to != DT_NOEND && s->to - last->place.time <= s->reach);
}

static bool
has_unsure(const KeyEvents *k, int i, int end)
{
	for (; i < end; i++)
	{
		if (k->events[i].unsure)
			return true;
	}
	return false;
}

static void
refuse_part(Stretch *s, const KeyEvents *k, int i, int end, const char *why)
{
	for (; i < end; i++)
	{
		CsLate *late = cs_repair_find(s->r, &k->events[i].place);

		if (late && cs_late_is_open(late))
			late->refused = why;
	}
}

/* A row that is there: its id is that of an event of the part. */
typedef struct OldRow
{
	char *id;
	int32 revision;
	bool  stays;
} OldRow;

static List *
old_rows(Stretch *s, const KeyEvents *k, int i, int end, Datum *values, bool *isnull)
{
	CsRepair *r = s->r;
	int		  id = r->stage->keys[0];
	List	 *rows = NIL;

	for (; i < end; i++)
	{
		char *text = cs_place_id(r->e->stream, &k->events[i].place);
		int32 revision;

		values[id] = CStringGetTextDatum(text);
		isnull[id] = false;
		revision = cs_repair_revision(r, values, isnull);
		if (revision >= 0)
		{
			OldRow *row = palloc0(sizeof(OldRow));

			row->id = text;
			row->revision = revision;
			rows = lappend(rows, row);
		}
	}
	return rows;
}

/* The replay's rows take the place of those that are there. */
static void
replace_rows(Stretch *s, const KeyEvents *k, int i, int end)
{
	CsRepair   *r = s->r;
	CsOperator *op = r->stage->op;
	int			id = r->stage->keys[0];
	Datum	   *values = palloc0(op->ncolumns * sizeof(Datum));
	bool	   *isnull = palloc(op->ncolumns * sizeof(bool));
	int32		revision = 0;
	List	   *old;
	ListCell   *lc;

	memset(isnull, true, op->ncolumns * sizeof(bool));
	old = old_rows(s, k, i, end, values, isnull);
	foreach(lc, old)
	{
		OldRow *row = lfirst(lc);

		revision = Max(revision, row->revision);
		for (CsReplayRow *made = cs_replay_rows(r->replay); made; made = made->next)
			row->stays |= strcmp(TextDatumGetCString(made->values[id]), row->id) == 0;
		if (row->stays)
			continue;
		values[id] = CStringGetTextDatum(row->id);
		isnull[id] = false;
		cs_repair_delete(r, values, isnull);
	}
	for (CsReplayRow *made = cs_replay_rows(r->replay); made; made = made->next)
		cs_repair_write(r, made, revision + 1);
}

static void
repair_part(Stretch *s, const KeyEvents *k, int i, int end)
{
	CsRepair   *r = s->r;
	bool		finished = r->settled == CS_WM_DONE;
	TimestampTz first = k->events[i].place.time;
	TimestampTz last = k->events[end - 1].place.time;

	if (first < r->deleted)
	{
		refuse_part(s, k, i, end, CS_REPAIR_DELETED);
		return;
	}
	if (r->horizon == CS_WM_DONE || first - s->reach < r->horizon)
	{
		refuse_part(s, k, i, end, "the event log does not reach back far enough");
		return;
	}
	if (!finished && last + s->reach >= r->settled)
	{
		refuse_part(s, k, i, end, "what it belongs to is open or can still change");
		return;
	}
	if (has_unsure(k, i, end))
	{
		refuse_part(s, k, i, end, CS_REPAIR_TRIMMED);
		return;
	}
	cs_replay_begin(r->replay, NULL, NULL);
	for (int j = i; j < end; j++)
		cs_replay_add(r->replay, &k->events[j]);
	if (cs_replay_close(r->replay, finished ? cs_watermark_content(r->e) : r->e->watermark, finished))
		replace_rows(s, k, i, end);
	else
		refuse_part(s, k, i, end, "what it belongs to is open or can still change");
}

/* False: a part touches the edge of the stretch. */
static bool
all_inside(Stretch *s)
{
	HASH_SEQ_STATUS scan;
	KeyEvents	   *k;
	bool			inside = true;

	hash_seq_init(&scan, s->keys);
	while ((k = hash_seq_search(&scan)) != NULL)
	{
		qsort(k->events, k->n, sizeof(CsReplayEvent), event_cmp);
		for (int i = 0, end; i < k->n; i = end)
		{
			end = part_end(s, k, i);
			if (has_late(s, k, i, end) && touches_edge(s, &k->events[i], &k->events[end - 1]))
				inside = false;
		}
	}
	return inside;
}

static void
repair_stretch(Stretch *s)
{
	HASH_SEQ_STATUS scan;
	KeyEvents	   *k;

	hash_seq_init(&scan, s->keys);
	while ((k = hash_seq_search(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0, end; i < k->n; i = end)
		{
			end = part_end(s, k, i);
			if (has_late(s, k, i, end))
				repair_part(s, k, i, end);
		}
	}
}

/* ---- stretches ---- */

/* Late events [first, last) lie close together: repair what they belong to. */
static void
repair_around(Stretch *s, int64 margin)
{
	CsRepair   *r = s->r;
	TimestampTz earliest = r->lates[s->first].row.event_time;
	TimestampTz latest = r->lates[s->last - 1].row.event_time;

	for (int i = 0;; i++, margin *= 4)
	{
		bool all = i == WIDENINGS || margin > CS_WITHIN_MAX;

		s->from = all ? DT_NOBEGIN : earliest - margin;
		s->to = all ? DT_NOEND : latest + margin;
		read_stretch(s);
		if (all_inside(s))
			break;
	}
	repair_stretch(s);
}

void
cs_repair_keys(CsRepair *r)
{
	const CsDefinition *def = r->stage->op->def;
	Stretch				s = {.r = r};
	int64				margin;

	s.reach = def->kind == CS_KIND_FUNNEL ? def->within : def->gap;
	margin = Max(4 * s.reach, STRETCH_MIN);
	s.context = AllocSetContextCreate(r->context, "clickstream repair of keys", ALLOCSET_DEFAULT_SIZES);
	s.staging = AllocSetContextCreate(r->context, "clickstream rows of a log", ALLOCSET_DEFAULT_SIZES);
	s.staged = MemoryContextAlloc(r->context, CS_CHUNK_MESSAGES * sizeof(CsReplayEvent));
	find_keys(r);
	for (s.first = 0; s.first < r->nlates; s.first = s.last)
	{
		s.last = s.first + 1;
		if (!cs_late_is_open(&r->lates[s.first]))
			continue;
		for (;
			 s.last < r->nlates && r->lates[s.last].row.event_time - r->lates[s.last - 1].row.event_time <= 2 * margin;
			 s.last++)
			;
		repair_around(&s, margin);
	}
}
