/*
 * operator/window.c
 *	  Tumbling and hopping windows.
 *
 * A hopping window is made of cells one slide long: an event goes into one
 * cell of its group, and a window's row is its cells combined when the window
 * closes.  A tumbling window is one cell.  (Flink's window functions share
 * slices in the same way.)
 *
 * Closing.  A window is final when wm >= end - 1 ms, and late is judged by the
 * same line.  Windows are closed at the end of a batch, but also before an
 * event is applied that is too late for some windows of a cell that others
 * still need: so what a window counts does not depend on where batches end.
 *
 * Showing.  With emit 'changes' a tumbling window's row is inserted by the
 * batch that makes it, and rewritten at most once each emit_interval, not at
 * all while catching up, and when it becomes final.  Hopping windows are
 * rewritten whole at each emit_interval.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "operator/cell.h"
#include "operator/running.h"
#include "utils/memutils.h"

typedef struct CsWindow
{
	CsOperator	  op;
	CsGrouping	  grouping;
	CsGroupInput *inputs;		 /* of the chunk */
	CsRunning	 *running;		 /* hopping: carries a window on to the next, or NULL */
	TimestampTz	  closed_before; /* op.closed as of the last commit */
	bool		  stale_before;
	TimestampTz	  emit_before;
} CsWindow;

static CsOperator *
window_create(const CsStream *stream, const CsDefinition *def, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CsWindow	 *w = palloc0(sizeof(CsWindow));
	CsQueryParts  parts;

	w->op.ops = &cs_window_ops;
	w->op.stream = stream;
	w->op.def = def;
	w->op.needed = palloc0(stream->event_desc->natts * sizeof(bool));
	w->op.closed = w->closed_before = CS_WM_NONE;
	w->op.emit_at = w->emit_before = CS_WM_DONE;
	cs_query_parts(def, &parts);
	cs_operator_needs(&w->op, (Node *) parts.filter);
	cs_operator_needs(&w->op, (Node *) parts.groups);
	cs_operator_needs(&w->op, (Node *) parts.measures);
	cs_grouping_compile(&w->grouping, &parts, cs_system_attno(stream, CS_SYS_PLACE));
	w->op.measure_errors = &w->grouping.ms->errors;
	cs_cell_columns(&w->op, &w->grouping, &parts);
	w->running = cs_running_create(&w->op, &w->grouping, cxt);
	MemoryContextSwitchTo(old);
	return &w->op;
}

/* ---- events ---- */

static void
window_begin_chunk(CsOperator *op, CsBatchContext *batch, int n)
{
	CsWindow	 *w = (CsWindow *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->chunk);

	w->inputs = cs_grouping_inputs(&w->grouping, n);
	MemoryContextSwitchTo(old);
}

static void
window_evaluate(CsOperator *op, CsBatchContext *batch, const CsEvent *event, int i)
{
	CsWindow *w = (CsWindow *) op;

	(void) event;
	cs_grouping_evaluate(&w->grouping, batch, &w->inputs[i]);
}

static void
window_reject(CsOperator *op, int i)
{
	((CsWindow *) op)->inputs[i].take = false;
	op->errors++;
}

static bool close_windows(CsWindow *w, CsBatchContext *batch, TimestampTz wm);

static inline bool
is_closed_by(TimestampTz end, TimestampTz wm)
{
	return wm != CS_WM_NONE && end - CS_USECS_PER_MSEC <= wm;
}

static void
apply_event(CsWindow *w, CsBatchContext *batch, CsEvent *event, CsGroupInput *input)
{
	const CsDefinition *def = w->op.def;
	TimestampTz			start = cs_slide_start(event->place.time, def->slide, def->origin);
	CsCell			   *cell;

	if (is_closed_by(start + def->size, event->watermark))
	{
		w->op.late++;
		cs_event_mark(event, CS_CLASS_LATE);
		batch->emitter->late(batch->emitter, &w->op, event,
							 event->watermark == CS_WM_DONE
								 ? 0
								 : event->watermark - (start + def->size - CS_USECS_PER_MSEC));
		return;
	}
	if (def->slide != def->size && is_closed_by(start + def->slide, event->watermark))
	{
		close_windows(w, batch, event->watermark); /* those that must not see it */
		if (w->running)
			cs_running_forget(w->running);
	}
	cell = cs_cell_get(&w->grouping, batch->state, def->definition_id, CS_BUCKET(start), input, def->group_limit);
	cell->stale = true;
	cell->rows++;
	w->op.stale = true;
	cs_measures_add(w->grouping.ms, cell->states, input->inputs, &event->place);
	w->op.used++;
	cs_event_mark(event, CS_CLASS_USED);
}

/* Announce event i + ahead to the state; see cs_state_prefetch_slot(). */
static inline void
prefetch(CsWindow *w, CsState *state, CsEvent *events, int i, int n, int ahead,
		 void (*announce)(CsState *, const CsKey *))
{
	const CsDefinition *def = w->op.def;
	CsKey				key = {.def = (uint32) def->definition_id};

	if (i + ahead < n && w->inputs[i + ahead].take && !events[i + ahead].skip)
	{
		key.bucket = CS_BUCKET(cs_slide_start(events[i + ahead].place.time, def->slide, def->origin));
		key.who = w->inputs[i + ahead].key;
		announce(state, &key);
	}
}

static void
window_apply(CsOperator *op, CsBatchContext *batch, CsEvent *events, int n)
{
	CsWindow	 *w = (CsWindow *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);

	w->grouping.ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	for (int i = 0; i < n; i++)
	{
		prefetch(w, batch->state, events, i, n, CS_PREFETCH_SLOT, cs_state_prefetch_slot);
		prefetch(w, batch->state, events, i, n, CS_PREFETCH_ENTRY, cs_state_prefetch_entry);
		if (!events[i].skip && w->inputs[i].take)
			apply_event(w, batch, &events[i], &w->inputs[i]);
	}
	MemoryContextSwitchTo(old);
}

/* ---- closing ---- */

/*
 * A hopping window being put together.  A group seen in one cell only is
 * taken as that cell is; from its second cell on it has a merged one.
 */
typedef struct HopGroup
{
	CsHash128	   key;
	uint32		   hash;
	char		   status;
	const CsEntry *entry; /* of the only cell so far: its entry, or ... */
	CsWork		  *work;  /* ... its work */
	CsCell		  *merged;
} HopGroup;

static inline uint32
group_hash(CsHash128 key)
{
	return (uint32) (key.lo >> 32);
}

#define SH_PREFIX groups
#define SH_ELEMENT_TYPE HopGroup
#define SH_KEY_TYPE CsHash128
#define SH_KEY key
#define SH_HASH_KEY(tb, k) group_hash(k)
#define SH_EQUAL(tb, a, b) ((a).lo == (b).lo && (a).hi == (b).hi)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct Assembly
{
	CsWindow	*w;
	CsState		*state;
	groups_hash *groups;
	CsCell		*scratch; /* for cells that are merged and then not needed any more */
} Assembly;

/* The cell of an entry or work, for a moment. */
static CsCell *
peek_cell(Assembly *a, const CsEntry *entry, CsWork *work)
{
	if (work && work->work)
		return work->work;
	cs_cell_read(&a->w->grouping, a->state, a->scratch, entry ? entry : work->base);
	return a->scratch;
}

static void
merge_into(Assembly *a, HopGroup *group, CsCell *cell)
{
	CsGrouping *g = &a->w->grouping;

	if (group->merged == NULL)
	{
		group->merged = cs_cell_make(g);
		memcpy(group->merged->values, cell->values, g->ngroups * sizeof(Datum));
		memcpy(group->merged->isnull, cell->isnull, g->ngroups * sizeof(bool));
	}
	cs_measures_merge(g->ms, a->state, group->merged->states, cell->states);
}

static void
add_cell(const CsKey *key, const CsEntry *entry, CsWork *work, void *arg)
{
	Assembly *a = arg;
	bool	  found;
	HopGroup *group = groups_insert(a->groups, key->who, &found);

	if (!found)
	{
		group->entry = entry;
		group->work = work;
		group->merged = NULL;
		return;
	}
	if (group->merged == NULL)
		merge_into(a, group, peek_cell(a, group->entry, group->work));
	merge_into(a, group, peek_cell(a, entry, work));
}

static int
group_cmp(const void *x, const void *y)
{
	const HopGroup *a = *(HopGroup *const *) x;
	const HopGroup *b = *(HopGroup *const *) y;

	if (a->key.hi != b->key.hi)
		return a->key.hi < b->key.hi ? -1 : 1;
	return a->key.lo < b->key.lo ? -1 : a->key.lo > b->key.lo;
}

/* Combine a hopping window's cells by group and emit its rows, in the order of their key. */
static void
emit_hopping(CsWindow *w, CsBatchContext *batch, TimestampTz start, CsRowAction action, bool is_final)
{
	const CsDefinition *def = w->op.def;
	Assembly			a = {.w = w, .state = batch->state};
	HopGroup		  **sorted;
	HopGroup		   *group;
	groups_iterator		iter;
	int					n = 0;

	a.groups = groups_create(CurrentMemoryContext, 1024, NULL);
	a.scratch = cs_cell_make(&w->grouping);
	for (TimestampTz s = start; s < start + def->size; s += def->slide)
		cs_state_visit_bucket(batch->state, def->definition_id, CS_BUCKET(s), add_cell, &a);
	sorted = palloc(Max(a.groups->members, 1) * sizeof(HopGroup *));
	groups_start_iterate(a.groups, &iter);
	while ((group = groups_iterate(a.groups, &iter)) != NULL)
		sorted[n++] = group;
	qsort(sorted, n, sizeof(HopGroup *), group_cmp);
	for (int i = 0; i < n; i++)
	{
		CsCell *cell = sorted[i]->merged;

		if (cell == NULL)
			cell = peek_cell(&a, sorted[i]->entry, sorted[i]->work);
		cs_cell_emit(&w->op, &w->grouping, batch, action, start, start + def->size, sorted[i]->key, cell, is_final);
	}
	pfree(sorted);
	groups_destroy(a.groups);
}

static int
time_cmp(const void *a, const void *b)
{
	TimestampTz x = *(const TimestampTz *) a;
	TimestampTz y = *(const TimestampTz *) b;

	return x < y ? -1 : x > y;
}

/*
 * Starts of the windows that have cells and whose last millisecond lies in
 * (after, upto]; ascending.
 */
static TimestampTz *
window_starts(CsWindow *w, CsState *state, TimestampTz after, TimestampTz upto, int *n)
{
	const CsDefinition *def = w->op.def;
	int					nbuckets;
	int64			   *buckets = cs_state_buckets(state, def->definition_id, &nbuckets);
	int					hops = (int) (def->size / def->slide);
	TimestampTz		   *starts = palloc((nbuckets * (Size) hops + 1) * sizeof(TimestampTz));
	int					m = 0;

	for (int i = 0; i < nbuckets; i++)
	{
		for (int k = 0; k < hops; k++)
		{
			TimestampTz start = CS_BUCKET_START(buckets[i]) - k * def->slide;

			if (is_closed_by(start + def->size, upto) && !is_closed_by(start + def->size, after))
				starts[m++] = start;
		}
	}
	qsort(starts, m, sizeof(TimestampTz), time_cmp);
	*n = 0;
	for (int i = 0; i < m; i++)
	{
		if (i == 0 || starts[i] != starts[*n - 1])
			starts[(*n)++] = starts[i];
	}
	return starts;
}

static void
close_hopping(CsWindow *w, CsBatchContext *batch, TimestampTz start, CsRowAction action)
{
	if (w->running)
		cs_running_emit(w->running, batch, start, action);
	else
		emit_hopping(w, batch, start, action, true);
}

/* Windows end at multiples of the slide: does the last millisecond of one lie in (after, upto]? */
static bool
passes_an_end(const CsDefinition *def, TimestampTz after, TimestampTz upto)
{
	if (after == CS_WM_NONE || upto == CS_WM_DONE)
		return true;
	return cs_slide_start(upto + CS_USECS_PER_MSEC, def->slide, def->origin) - CS_USECS_PER_MSEC > after;
}

static bool
close_windows(CsWindow *w, CsBatchContext *batch, TimestampTz wm)
{
	const CsDefinition *def = w->op.def;
	int					n;
	int64			   *buckets;

	if (wm <= w->op.closed)
		return true;
	if (!passes_an_end(def, w->op.closed, wm))
	{
		w->op.closed = wm;
		return true;
	}
	if (def->slide != def->size)
	{
		TimestampTz *starts = window_starts(w, batch->state, w->op.closed, wm, &n);
		CsRowAction	 action = def->emit == CS_EMIT_CHANGES ? CS_ROW_UPSERT : CS_ROW_INSERT;

		for (int i = 0; i < n; i++)
			close_hopping(w, batch, starts[i], action);
	}
	buckets = cs_state_buckets(batch->state, def->definition_id, &n);
	for (int i = 0; i < n; i++)
	{
		if (is_closed_by(CS_BUCKET_START(buckets[i]) + def->size, wm))
			cs_cells_close(&w->op, &w->grouping, batch, buckets[i], def->slide == def->size);
	}
	w->op.closed = wm;
	return true;
}

/* ---- showing ---- */

static void
show_changes(CsWindow *w, CsBatchContext *batch)
{
	const CsDefinition *def = w->op.def;
	bool				rewrite = !batch->catching_up && (w->op.emit_at == CS_WM_DONE || batch->now >= w->op.emit_at);

	if (!w->op.stale)
	{
		if (batch->now >= w->op.emit_at)
			w->op.emit_at = CS_WM_DONE; /* the next change may be shown at once */
		return;
	}
	if (def->slide == def->size && !rewrite)
		cs_cells_show_new(&w->op, &w->grouping, batch);
	else if (def->slide == def->size)
	{
		cs_cells_show_stale(&w->op, &w->grouping, batch);
		w->op.stale = false;
	}
	else if (rewrite)
	{
		int			 n;
		TimestampTz *starts = window_starts(w, batch->state, w->op.closed, CS_WM_DONE, &n);

		for (int i = 0; i < n; i++)
			emit_hopping(w, batch, starts[i], CS_ROW_UPSERT, false);
		w->op.stale = false;
	}
	if (rewrite)
		w->op.emit_at = batch->now + def->emit_interval;
}

static bool
window_advance(CsOperator *op, CsBatchContext *batch, TimestampTz wm, int max, bool finish)
{
	CsWindow	 *w = (CsWindow *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);

	(void) max;
	(void) finish;
	close_windows(w, batch, wm);
	if (op->def->emit == CS_EMIT_CHANGES)
		show_changes(w, batch);
	MemoryContextSwitchTo(old);
	return true;
}

static void
window_end_batch(CsOperator *op, bool committed)
{
	CsWindow *w = (CsWindow *) op;

	if (committed)
	{
		w->closed_before = op->closed;
		w->stale_before = w->op.stale;
		w->emit_before = op->emit_at;
		return;
	}
	if (w->running)
		cs_running_forget(w->running);
	op->closed = w->closed_before;
	w->op.stale = w->stale_before;
	op->emit_at = w->emit_before;
}

/* ---- state ---- */

static void
window_serialize(void *op, CsState *state, CsWork *work, StringInfo buf)
{
	cs_cell_put(&((CsWindow *) op)->grouping, state, work->work, buf);
}

static TimestampTz
window_due_of(void *op, const CsEntry *entry)
{
	(void) op;
	(void) entry;
	return CS_WM_DONE; /* windows are found by their buckets */
}

static void
window_recovered(CsOperator *op, CsState *state)
{
	CsWindow *w = (CsWindow *) op;

	w->closed_before = op->closed;
	w->op.stale = w->stale_before = cs_state_count(state, op->def->definition_id) > 0;
}

const CsOperatorOps cs_window_ops = {
	.kind = CS_KIND_WINDOW,
	.create = window_create,
	.begin_chunk = window_begin_chunk,
	.evaluate = window_evaluate,
	.reject = window_reject,
	.apply = window_apply,
	.advance = window_advance,
	.end_batch = window_end_batch,
	.serialize = window_serialize,
	.due_of = window_due_of,
	.recovered = window_recovered,
};
