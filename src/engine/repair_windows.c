/*
 * engine/repair_windows.c
 *	  Late events of a window definition.
 *
 * Replaying a late event alone gives the rows it belongs to: (window, group).
 * Then the events of those windows are replayed, neighbouring windows
 * together, and of the rows that come out the ones wanted are written.
 *
 * A window over its group limit is refused, as which groups share the rest
 * row there depended on the order of arrival; so are windows made together with
 * one that trimmed late events may lie in.  What is refused is left out, so the
 * windows are made again without it.
 */
#include "postgres.h"

#include "core/event_log_read.h"
#include "engine/repair.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

typedef struct SpanKey
{
	TimestampTz start;
	TimestampTz end; /* of cumulative windows many have one start */
} SpanKey;

typedef struct RowKey
{
	SpanKey	  span;
	pg_uuid_t group;
} RowKey;

/* A row that late events belong to. */
typedef struct Affected
{
	RowKey key; /* hash key */
} Affected;

/* A window that late events belong to. */
typedef struct Span
{
	SpanKey key; /* hash key */
} Span;

typedef struct Work
{
	CsRepair	 *r;
	MemoryContext context;					  /* of one try */
	HTAB		 *rows;						  /* Affected */
	HTAB		 *spans;					  /* Span */
	int			  start, end, group, is_rest; /* columns */
	SpanKey		  over_limit;				  /* a window with a rest row; start CS_WM_NONE: none */
	bool		  unsure;					  /* an event may have been late */
	List		 *made;						  /* CsReplayRow*, to be written */
} Work;

static RowKey
key_of(const Work *w, const Datum *values)
{
	RowKey key;

	memset(&key, 0, sizeof(key));
	key.span.start = DatumGetTimestampTz(values[w->start]);
	key.span.end = DatumGetTimestampTz(values[w->end]);
	key.group = *DatumGetUUIDP(values[w->group]);
	return key;
}

/* Note the row as one that the event belongs to, if its window is closed for good. */
static void
note_row(Work *w, CsLate *late, const CsReplayRow *row, int *closed)
{
	CsRepair *r = w->r;
	RowKey	  key = key_of(w, row->values);

	if (key.span.end - CS_USECS_PER_MSEC > r->settled)
		return; /* open yet: it was not late there */
	(*closed)++;
	if (key.span.start < r->deleted)
	{
		late->refused = CS_REPAIR_DELETED;
		return;
	}
	if (key.span.start < r->horizon)
	{
		late->refused = "the event log does not reach back far enough";
		return;
	}
	(void) hash_search(w->rows, &key, HASH_ENTER, NULL);
	(void) hash_search(w->spans, &key.span, HASH_ENTER, NULL);
}

static void
find_rows(Work *w, CsLate *late)
{
	CsReplay *replay = w->r->replay;
	int		  closed = 0;

	cs_replay_begin(replay, NULL, NULL);
	cs_replay_add(replay, &late->event);
	(void) cs_replay_close(replay, CS_WM_NONE, true);
	if (cs_replay_rows(replay) == NULL)
		late->refused = "the definition does not take it any more";
	for (CsReplayRow *row = cs_replay_rows(replay); row && late->refused == NULL; row = row->next)
		note_row(w, late, row, &closed);
	if (late->refused == NULL && closed == 0)
		late->refused = "its windows can still change";
}

/* ---- replaying windows ---- */

static bool
is_wanted(CsReplay *replay, Datum *values, bool *isnull, void *arg)
{
	Work  *w = arg;
	RowKey key = key_of(w, values);

	(void) replay;
	(void) isnull;
	if (DatumGetBool(values[w->is_rest]) && hash_search(w->spans, &key.span, HASH_FIND, NULL))
		w->over_limit = key.span;
	return hash_search(w->rows, &key, HASH_FIND, NULL) != NULL;
}

static void
replay_row(const Datum *values, const bool *isnull, const CsLogged *logged, void *arg)
{
	Work		 *w = arg;
	CsRepair	 *r = w->r;
	CsPlace		  place = cs_replay_place(r->replay, values);
	CsReplayEvent event;
	MemoryContext old;
	bool		  unsure;

	if (!cs_repair_takes(r, &place, logged, &unsure))
		return;
	w->unsure |= unsure;
	old = MemoryContextSwitchTo(r->e->chunk); /* until it is applied */
	cs_replay_event(r->replay, &event, values, isnull);
	MemoryContextSwitchTo(old);
	cs_replay_add(r->replay, &event);
}

/* Late events in the period: they are refused, and none of them is counted anywhere. */
static void
refuse_in(Work *w, TimestampTz start, TimestampTz end, const char *why)
{
	for (int i = 0; i < w->r->nlates; i++)
	{
		CsLate *late = &w->r->lates[i];

		if (cs_late_is_open(late) && late->row.event_time >= start && late->row.event_time < end)
			late->refused = why;
	}
}

/* Replay [start, end), which whole windows make up; false if something was refused. */
static bool
make_rows(Work *w, TimestampTz start, TimestampTz end)
{
	CsRepair	 *r = w->r;
	MemoryContext old;

	w->over_limit.start = CS_WM_NONE;
	w->unsure = false;
	cs_replay_begin(r->replay, is_wanted, w);
	cs_event_log_scan(r->log, r->e->stream, start, end, replay_row, w);
	(void) cs_replay_close(r->replay, CS_WM_NONE, true);
	if (w->over_limit.start != CS_WM_NONE)
	{
		refuse_in(w, w->over_limit.start, w->over_limit.end, "its window is over the limit of groups");
		return false;
	}
	if (w->unsure)
	{
		refuse_in(w, start, end, CS_REPAIR_TRIMMED);
		return false;
	}
	old = MemoryContextSwitchTo(w->context);
	for (CsReplayRow *row = cs_replay_rows(r->replay); row; row = row->next)
		w->made = lappend(w->made, cs_replay_copy(r->replay, row));
	MemoryContextSwitchTo(old);
	return true;
}

static int
span_cmp(const void *a, const void *b)
{
	TimestampTz x = ((const Span *) a)->key.start;
	TimestampTz y = ((const Span *) b)->key.start;

	return x < y ? -1 : x > y;
}

/* All windows, neighbours together. */
static bool
make_all(Work *w)
{
	long			n = hash_get_num_entries(w->spans);
	Span		   *sorted = palloc(Max(n, 1) * sizeof(Span));
	HASH_SEQ_STATUS scan;
	Span		   *span;
	long			i = 0;

	hash_seq_init(&scan, w->spans);
	while ((span = hash_seq_search(&scan)) != NULL)
		sorted[i++] = *span;
	qsort(sorted, n, sizeof(Span), span_cmp);
	for (i = 0; i < n;)
	{
		TimestampTz start = sorted[i].key.start;
		TimestampTz end = sorted[i].key.end;

		for (i++; i < n && sorted[i].key.start <= end; i++)
			end = Max(end, sorted[i].key.end);
		if (!make_rows(w, start, end))
			return false;
	}
	return true;
}

static HTAB *
make_hash(Work *w, const char *name, Size keysize, Size entrysize)
{
	HASHCTL ctl = {.keysize = keysize, .entrysize = entrysize, .hcxt = w->context};

	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* False: something was refused after rows were made with it. */
static bool
try_all(Work *w)
{
	MemoryContextReset(w->context);
	w->rows = make_hash(w, "clickstream rows to repair", sizeof(RowKey), sizeof(Affected));
	w->spans = make_hash(w, "clickstream windows to repair", sizeof(SpanKey), sizeof(Span));
	w->made = NIL;
	for (int i = 0; i < w->r->nlates; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (cs_late_is_open(&w->r->lates[i]))
			find_rows(w, &w->r->lates[i]);
	}
	return make_all(w);
}

void
cs_repair_windows_make(CsRepair *r, CsRepairedRow row, void *arg)
{
	CsOperator *op = r->stage->op;
	Work		w = {.r = r};
	ListCell   *lc;

	w.context = AllocSetContextCreate(r->context, "clickstream repair of windows", ALLOCSET_DEFAULT_SIZES);
	w.start = cs_operator_column_number(op, "window_start");
	w.end = cs_operator_column_number(op, "window_end");
	w.group = cs_operator_column_number(op, "group_key");
	w.is_rest = cs_operator_column_number(op, "is_rest");
	while (!try_all(&w))
		;
	foreach(lc, w.made)
		row(r, lfirst(lc), arg);
}

static void
write_row(CsRepair *r, const CsReplayRow *row, void *arg)
{
	(void) arg;
	cs_repair_write(r, row, 1);
}

void
cs_repair_windows(CsRepair *r)
{
	cs_repair_windows_make(r, write_row, NULL);
}
