/*
 * operator/window.c
 *	  Windows: tumbling, hopping, cumulative; of fixed length or as a calendar
 *	  goes (assign.c).
 *
 * An event goes into one cell of its group, that of its pane.  A tumbling
 * window is one pane; a hopping window's row is its panes' cells combined when
 * the window closes (hopping.c); a cumulative window is added up step by step
 * (cumulative.c).  Flink's window functions share slices in the same way.
 *
 * Closing.  Tumbling windows are retired some cells in a batch, and others some
 * groups (closing.c).  A window closes when wm >= end - 1 ms.  It is retired, and late is
 * judged, by the same line allowed_lateness later.  Windows pass these lines
 * at the end of a batch, but also before an event is applied that is too late
 * for some windows of a cell that others still need: so what a window counts
 * does not depend on where batches end.  Where that would be too much the batch
 * ends before the event (must_wait()).
 *
 * Showing.  With emit 'changes' a tumbling window's row is inserted by the
 * batch that makes it, and rewritten at most once each emit_interval, not at
 * all while catching up, and when it closes.  Rows of open hopping and
 * cumulative windows are written at each emit_interval, where they have
 * changed; what is too much for one batch goes on in the next (stale.c).  Late
 * events rewrite rows of closed windows in their batch.
 *
 * A silent topic (preview()) shows windows that end before the clock does,
 * from the same cells; of that nothing is kept but a tumbling cell's mark
 * that it has a row.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "operator/window.h"
#include "utils/memutils.h"

/* So many events ahead: the slots of large sets, and then their members. */
#define PREFETCH_SET 6
#define PREFETCH_MEMBER 3

static bool
has_distinct(const CsMeasures *ms)
{
	for (int i = 0; i < ms->n; i++)
	{
		if (ms->measures[i].kind == CS_MEASURE_DISTINCT)
			return true;
	}
	return false;
}

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
	w->retired = w->retired_before = CS_WM_NONE;
	w->promised_upto = CS_WM_NONE;
	w->op.shown = CS_WM_NONE;
	w->op.emit_at = w->emit_before = CS_WM_DONE;
	cs_closing_end(w);
	w->closing_before = w->closing;
	w->previewed = w->previewed_before = CS_PREVIEWED_NONE;
	cs_query_parts(def, &parts);
	cs_operator_needs(&w->op, (Node *) parts.filter);
	cs_operator_needs(&w->op, (Node *) parts.groups);
	cs_operator_needs(&w->op, (Node *) parts.measures);
	cs_grouping_compile(&w->grouping, def, &parts, cs_system_attno(stream, CS_SYS_PLACE));
	w->op.measure_errors = &w->grouping.ms->errors;
	w->has_distinct = has_distinct(w->grouping.ms);
	cs_cell_columns(&w->op, &w->grouping, &parts);
	cs_assigner_init(&w->assign, def);
	w->grouping.assign = &w->assign;
	w->running[0] = w->running[1] = cs_running_create(w, cxt);
	if (def->lateness > 0)
		w->running[0] = cs_running_create(w, cxt); /* the two lines are not at the same window */
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

/* Sums of times and sizes must not overflow: so near the ends of time there are no windows. */
static inline bool
has_windows(TimestampTz time)
{
	return time >= MIN_TIMESTAMP + CS_GRID_MARGIN && time < END_TIMESTAMP - CS_GRID_MARGIN;
}

static void
window_evaluate(CsOperator *op, CsBatchContext *batch, const CsEvent *event, int i)
{
	CsWindow *w = (CsWindow *) op;

	cs_grouping_evaluate(&w->grouping, batch, &w->inputs[i]);

	if (w->inputs[i].take && !has_windows(event->place.time))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("event_time is out of the range of windows")));
}

static void
window_reject(CsOperator *op, int i)
{
	((CsWindow *) op)->inputs[i].take = false;
}

static bool pass_to(CsWindow *w, CsBatchContext *batch, TimestampTz wm, int64 *left);

static void
forget_running(CsWindow *w, int which)
{
	if (w->running[which])
		cs_running_forget(w->running[which]);
}

static void
mark_late(CsWindow *w, CsBatchContext *batch, CsEvent *event, const CsPane *pane, TimestampTz line)
{
	cs_event_mark(event, CS_CLASS_LATE);
	batch->emitter->late(batch->emitter, &w->op, event, cs_lateness(line, pane->last_end - CS_USECS_PER_MSEC));
}

/* Is an event too late for some of the windows that hold it, and not for all? */
static inline bool
is_late_for_some(const CsPane *pane, TimestampTz line)
{
	return pane->first_end != pane->last_end && cs_is_passed(pane->first_end, line) &&
		   !cs_is_passed(pane->last_end, line);
}

static bool
window_must_wait(CsOperator *op, CsState *state, TimestampTz time, TimestampTz watermark, int before, int64 max)
{
	CsWindow   *w = (CsWindow *) op;
	TimestampTz from = Max(op->closed, w->promised_upto);
	CsPane		pane;
	int64		weight;

	if (w->assign.form == CS_WINDOW_TUMBLING || watermark <= from || !has_windows(time))
		return false;
	cs_assign(&w->assign, time, &pane);
	if (!is_late_for_some(&pane, cs_retired_at(op->def, watermark)))
		return false;
	weight = cs_windows_weight(w, state, from, watermark, before);
	if (weight > max - w->promised)
		return true;
	w->promised += weight;
	w->promised_upto = watermark;
	return false;
}

/* Where an event goes that is too late for some of its windows; they pass their line before it is there. */
static int64
bucket_behind(CsWindow *w, CsBatchContext *batch, const CsEvent *event, const CsPane *pane)
{
	int64 left = PG_INT64_MAX; /* no more than may be: window_must_wait() */

	(void) pass_to(w, batch, event->watermark, &left);
	forget_running(w, 0);
	forget_running(w, 1);
	if (w->assign.form == CS_WINDOW_CUMULATIVE)
		return CS_BUCKET_OF(pane->whole, CS_BUCKET_SUM);
	return CS_BUCKET(pane->start);
}

static void
apply_event(CsWindow *w, CsBatchContext *batch, CsEvent *event, CsGroupInput *input)
{
	const CsDefinition *def = w->op.def;
	TimestampTz			line = cs_retired_at(def, event->watermark);
	const CsGroupInput *group = input;
	int64				bucket;
	CsPane				pane;
	CsWork			   *work;
	CsCell			   *cell;

	cs_assign(&w->assign, event->place.time, &pane);
	if (cs_is_passed(pane.last_end, line))
	{
		mark_late(w, batch, event, &pane, line);
		return;
	}
	bucket = CS_BUCKET(pane.start);
	if (is_late_for_some(&pane, line))
		bucket = bucket_behind(w, batch, event, &pane);
	else if (def->lateness > 0 && cs_is_passed(pane.first_end, w->op.closed))
		forget_running(w, 0);
	w->op.stale = w->pass.again = true;
	cs_event_mark(event, CS_CLASS_USED);
	work = cs_cell_find(batch->state, def->definition_id, bucket, &group, def->group_limit);
	if (cs_cell_patch(&w->grouping, batch->state, work, input))
		return;
	cell = cs_cell_open(&w->grouping, batch->state, work, group);
	cell->stale = cell->touched = true;
	cell->rows++;
	cs_measures_add(w->grouping.ms, cell->states, input->inputs, &event->place);
}

/* The key of the cell that event i goes to, if it is to be announced. */
static inline bool
key_ahead(CsWindow *w, CsEvent *events, int i, int n, CsKey *key)
{
	if (i >= n || !w->inputs[i].take || events[i].skip)
		return false;
	key->def = (uint32) w->op.def->definition_id;
	key->pad = 0;
	key->bucket = CS_BUCKET(cs_assigned_pane(&w->assign, events[i].place.time));
	key->who = w->inputs[i].key;
	return true;
}

/*
 * Announce events behind i to the state (see cs_state_prefetch_slot()), and
 * then to the large sets of cells that this batch has opened already.
 */
static inline void
prefetch(CsWindow *w, CsState *state, CsEvent *events, int i, int n)
{
	CsKey key;
	int	  member = i + PREFETCH_MEMBER;

	if (key_ahead(w, events, i + CS_PREFETCH_SLOT, n, &key))
		cs_state_prefetch_slot(state, &key);
	if (key_ahead(w, events, i + CS_PREFETCH_ENTRY, n, &key))
		cs_state_prefetch_entry(state, &key);
	if (!w->has_distinct)
		return;
	if (key_ahead(w, events, i + PREFETCH_SET, n, &key))
	{
		CsGroupInput  *input = &w->inputs[i + PREFETCH_SET];
		const CsEntry *entry = cs_state_peek(state, &key);

		input->announced = entry && entry->work ? entry->work->work : NULL;
		if (input->announced)
			cs_measures_prefetch(w->grouping.ms, input->announced->states, input->inputs, false);
	}
	if (member < n && w->inputs[member].take && w->inputs[member].announced)
		cs_measures_prefetch(w->grouping.ms, w->inputs[member].announced->states, w->inputs[member].inputs, true);
}

/* Have what is spilled of the chunk's cells read together. */
static void
fetch_spilled(CsWindow *w, CsState *state, const CsEvent *events, int n)
{
	CsKey key = {.def = (uint32) w->op.def->definition_id};

	if (!cs_state_has_spilled(state, w->op.def->definition_id))
		return;
	for (int i = 0; i < n; i++)
	{
		if (events[i].skip || !w->inputs[i].take)
			continue;
		key.bucket = CS_BUCKET(cs_assigned_pane(&w->assign, events[i].place.time));
		key.who = w->inputs[i].key;
		cs_state_want(state, &key);
	}
	cs_state_fetch_wanted(state);
}

static void
window_apply(CsOperator *op, CsBatchContext *batch, CsEvent *events, int n)
{
	CsWindow	 *w = (CsWindow *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);

	w->previewed = CS_PREVIEWED_NONE;
	w->grouping.ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	fetch_spilled(w, batch->state, events, n);
	for (int i = 0; i < n; i++)
	{
		prefetch(w, batch->state, events, i, n);
		if (!events[i].skip && w->inputs[i].take)
			apply_event(w, batch, &events[i], &w->inputs[i]);
	}
	w->promised_upto = CS_WM_NONE;
	MemoryContextSwitchTo(old);
}

/* ---- closing ---- */

/* Does the last millisecond of a pane, and so perhaps of a window, lie in (after, upto]? */
static bool
passes_an_end(CsWindow *w, TimestampTz after, TimestampTz upto)
{
	if (upto == CS_WM_NONE || after >= upto)
		return false;
	if (after == CS_WM_NONE || upto == CS_WM_DONE)
		return true;
	return cs_assigned_pane(&w->assign, upto + CS_USECS_PER_MSEC) - CS_USECS_PER_MSEC > after;
}

static bool
has_no_row(const CsWork *work)
{
	return !cs_cell_is_shown(work) || cs_cell_is_stale(work);
}

/*
 * Tumbling: write the rows of a part of a window that closes and can still
 * change; how many.  The cells say which have theirs, so a process that begins
 * again with the window comes to what was left of it.
 */
static int64
show_cells(CsWindow *w, CsBatchContext *batch, int64 bucket, CsPart part)
{
	int64	 n;
	CsWork **works = cs_works_of_part(batch->state, w->op.def->definition_id, bucket, part, has_no_row, &n);

	for (int64 i = 0; i < n; i++)
		cs_cell_show(&w->op, &w->grouping, batch, works[i]);
	if (works)
		pfree(works);
	return n;
}

/* The same from a part on, which moves, to the end; false: more than are left. */
static bool
show_rest(CsWindow *w, CsBatchContext *batch, int64 bucket, uint64 *from, int64 *left)
{
	int64 n = cs_state_bucket_count(batch->state, w->op.def->definition_id, bucket);

	while (*left > 0)
	{
		CsPart part = cs_part_from(*from, n, *left);

		*left -= show_cells(w, batch, bucket, part); /* not counting what has its row: see there */
		if (part.last == PG_UINT64_MAX)
			return true;
		*from = part.last + 1;
	}
	return false;
}

/* All of it, in parts; false: more than are left. */
static bool
show_closed(CsWindow *w, CsBatchContext *batch, TimestampTz wm, int64 bucket, int64 *left)
{
	CsClosing *closing = &w->closing;

	cs_closing_begin(w, wm);
	if (bucket < closing->span.start)
		return true;
	if (bucket > closing->span.start)
		*closing = (CsClosing){.wm = closing->wm, .span = {bucket, bucket}};
	if (!show_rest(w, batch, bucket, &closing->from, left))
		return false;
	closing->span.start++; /* behind it */
	return true;
}

/* So many cells as are left; false: that was not all. */
static bool
tumbling_pass(CsWindow *w, CsBatchContext *batch, TimestampTz wm, TimestampTz retired, int64 *left)
{
	bool   done = true;
	int	   n;
	int64 *buckets = cs_state_buckets(batch->state, w->op.def->definition_id, &n);

	for (int i = 0; i < n && done; i++)
	{
		TimestampTz end = cs_assigned_end(&w->assign, CS_BUCKET_START(buckets[i]));
		int			max = (int) Min(Max(*left, 0), PG_INT32_MAX);
		int			rest = max;

		if (cs_is_passed(end, retired))
		{
			done = cs_cells_close(&w->op, &w->grouping, batch, buckets[i], true, &rest);
			*left -= max - rest;
		}
		else if (cs_is_passed(end, wm) && !cs_is_passed(end, w->op.closed))
			done = show_closed(w, batch, wm, buckets[i], left);
	}
	pfree(buckets);
	return done;
}

/* Both lines come to where they are with the watermark at wm. */
static bool
pass_lines(CsWindow *w, CsBatchContext *batch, TimestampTz wm, int64 *left)
{
	TimestampTz retired = cs_retired_at(w->op.def, wm);
	bool		done = true;

	if (wm <= w->op.closed)
		return true;
	if (passes_an_end(w, w->op.closed, wm) || passes_an_end(w, w->retired, retired))
	{
		if (w->assign.form != CS_WINDOW_TUMBLING)
			cs_closing_begin(w, wm);
		if (w->assign.form == CS_WINDOW_TUMBLING)
			done = tumbling_pass(w, batch, wm, retired, left);
		else if (w->assign.form == CS_WINDOW_HOPPING)
			done = cs_hopping_pass(w, batch, retired, left);
		else
			done = cs_cumulative_pass(w, batch, retired, left);
		w->has_rest = true;
	}
	if (!done)
		return false;
	cs_closing_end(w);
	w->op.closed = wm;
	w->retired = retired;
	return true;
}

static bool
pass_to(CsWindow *w, CsBatchContext *batch, TimestampTz wm, int64 *left)
{
	return (w->closing.wm == CS_WM_NONE || pass_lines(w, batch, w->closing.wm, left)) && pass_lines(w, batch, wm, left);
}

/*
 * The watermark has come to wm: close and retire what it has passed.  False:
 * that was too much for one batch, and goes on in the next.  What comes for
 * those windows meanwhile is late for them, by its own watermark.
 */
static bool
pass(CsWindow *w, CsBatchContext *batch, TimestampTz wm, int max)
{
	int64 left = max;

	if (!pass_to(w, batch, wm, &left))
		return false;
	if (w->has_rest && w->assign.form != CS_WINDOW_TUMBLING)
		w->has_rest = !cs_windows_tidy(w, batch, &left);
	return !w->has_rest || w->assign.form == CS_WINDOW_TUMBLING;
}

/* Late events of this batch: rows that had closed are written once more. */
static void
revise(CsWindow *w, CsBatchContext *batch, TimestampTz retired)
{
	int		 n;
	CsWork **works;

	if (w->assign.form != CS_WINDOW_TUMBLING)
	{
		cs_windows_revise(w, batch, retired);
		return;
	}
	works = cs_state_dirty(batch->state, w->op.def->definition_id, &n);
	cs_cell_sort(works, n);
	for (int i = 0; i < n; i++)
	{
		CsCell *cell = works[i]->work; /* not decoded: its row was shown, and no event has come */

		if (cell == NULL || !cell->touched ||
			!cs_is_passed(cs_assigned_end(&w->assign, CS_BUCKET_START(works[i]->key.bucket)), w->op.closed))
			continue;
		cell->touched = false;
		if (cell->shown)
			cell->revision++;
		cs_cell_show(&w->op, &w->grouping, batch, works[i]);
	}
	pfree(works);
}

/* ---- showing ---- */

/*
 * About max rows that lag behind; those of tumbling windows that the batch has
 * made in any case.  Of the latter windows only those that end after that.
 */
static void
show_changes(CsWindow *w, CsBatchContext *batch, int max, TimestampTz after)
{
	bool tumbling = w->assign.form == CS_WINDOW_TUMBLING;
	bool all = w->pass.from == 0;
	bool rewrite = !batch->catching_up && (w->op.emit_at == CS_WM_DONE || batch->now >= w->op.emit_at);

	if (!w->op.stale)
	{
		if (batch->now >= w->op.emit_at)
			w->op.emit_at = CS_WM_DONE; /* the next change may be shown at once */
		return;
	}
	if (rewrite && tumbling)
		all &= cs_cells_show_stale(&w->op, &w->grouping, batch, &w->pass, max, after);
	else if (rewrite)
		cs_windows_show_stale(w, batch, max);
	if (tumbling && !(rewrite && all))
		cs_cells_show_new(&w->op, &w->grouping, batch, after);
	if (rewrite)
		cs_stale_note(&w->op, batch, &w->pass);
}

/* The last end that the watermark has passed. */
static TimestampTz
last_end(TimestampTz wm)
{
	return wm > CS_WM_DONE - CS_USECS_PER_MSEC ? CS_WM_DONE : wm + CS_USECS_PER_MSEC;
}

static bool
window_advance(CsOperator *op, CsBatchContext *batch, TimestampTz wm, int max, bool finish)
{
	CsWindow	 *w = (CsWindow *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	bool		  done;

	(void) finish;
	if (op->def->lateness > 0)
		revise(w, batch, cs_retired_at(op->def, wm));
	done = pass(w, batch, wm, max);
	/*
	 * Not midway: some rows of what is open to the eye are written as closed
	 * already.  Where closings are left, what is to close gets its last row at once.
	 */
	if (op->def->emit == CS_EMIT_CHANGES && !op->midway)
		show_changes(w, batch, max, done ? CS_WM_NONE : last_end(wm));
	MemoryContextSwitchTo(old);
	return done;
}

/* Rows of one window, from where the last batch has stopped; false: more than are left. */
static bool
preview_span(CsWindow *w, CsBatchContext *batch, CsSpan span, int64 *left)
{
	CsPreviewed *at = &w->previewed;
	int			 order = cs_span_cmp(&span, &at->span);

	if (order < 0)
		return true;
	if (order > 0)
		*at = (CsPreviewed){span, 0};
	if (*left <= 0 ||
		!(w->assign.form == CS_WINDOW_TUMBLING ? show_rest(w, batch, CS_BUCKET(span.start), &at->from, left)
											   : cs_window_emit_rest(w, batch, span, &at->from, left)))
		return false;
	at->span.start++; /* behind it */
	return true;
}

/* Rows of open windows are there anyway with emit 'changes'. */
static TimestampTz
window_preview(CsOperator *op, CsBatchContext *batch, TimestampTz after, TimestampTz as_of, int max)
{
	CsWindow	 *w = (CsWindow *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	TimestampTz	  upto = as_of;
	int64		  left = max;
	CsSpan		 *spans;
	int			  n = 0;

	if (op->def->emit != CS_EMIT_CHANGES)
		spans = cs_windows_between(w, batch->state, after, as_of, &n);
	for (int i = 0; i < n; i++)
	{
		if (!preview_span(w, batch, spans[i], &left))
		{
			upto = spans[i].end - CS_USECS_PER_MSEC - 1; /* the next batch goes on in this one */
			break;
		}
	}
	MemoryContextSwitchTo(old);
	return upto;
}

static TimestampTz
window_preview_due(CsOperator *op, CsState *state, TimestampTz after)
{
	return op->def->emit == CS_EMIT_CHANGES ? CS_WM_DONE : cs_windows_next_end((CsWindow *) op, state, after);
}

static void
window_end_batch(CsOperator *op, bool committed)
{
	CsWindow *w = (CsWindow *) op;

	w->promised = 0;
	w->promised_upto = CS_WM_NONE;
	if (committed)
	{
		w->closed_before = op->closed;
		w->retired_before = w->retired;
		w->closing_before = w->closing;
		w->marked_before = w->is_marked;
		w->had_rest_before = w->has_rest;
		w->stale_before = w->op.stale;
		w->midway_before = op->midway;
		w->previewed_before = w->previewed;
		w->emit_before = op->emit_at;
		w->pass_before = w->pass;
		return;
	}
	forget_running(w, 0);
	forget_running(w, 1);
	op->closed = w->closed_before;
	w->retired = w->retired_before;
	w->closing = w->closing_before;
	w->is_marked = w->marked_before;
	w->has_rest = w->had_rest_before;
	op->midway = w->midway_before;
	w->previewed = w->previewed_before;
	w->op.stale = w->stale_before;
	op->emit_at = w->emit_before;
	w->pass = w->pass_before;
}

/* ---- state ---- */

static void
window_serialize(void *op, CsState *state, CsWork *work, StringInfo buf)
{
	if (cs_bucket_kind(work->key.bucket) == CS_BUCKET_NOTE)
		cs_note_put(work, buf);
	else if (cs_bucket_kind(work->key.bucket) == CS_BUCKET_CLOSING)
		cs_closing_put(work, buf);
	else
		cs_cell_put(&((CsWindow *) op)->grouping, state, work->work, buf);
}

static void
window_check(CsOperator *op, CsState *state, const CsEntry *entry)
{
	CsGrouping *grouping = &((CsWindow *) op)->grouping;

	if (cs_bucket_kind(entry->key.bucket) == CS_BUCKET_NOTE)
		(void) cs_note_read(op->def, entry);
	else if (cs_bucket_kind(entry->key.bucket) == CS_BUCKET_CLOSING)
		cs_closing_check(op->def, entry);
	else
		cs_cell_check(grouping, state, entry);
}

/* Rows of hopping and cumulative windows are put together from what is there, and written over. */
static void
window_lost(CsOperator *op, CsBatchContext *batch, const CsKey *key)
{
	if (((CsWindow *) op)->assign.form == CS_WINDOW_TUMBLING)
		cs_cell_gone(op, batch, CS_BUCKET_START(key->bucket), key->who);
}

static bool
window_is_vital(const CsKey *key)
{
	return cs_bucket_kind(key->bucket) == CS_BUCKET_CLOSING;
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

	cs_closing_recover(w, state);
	/* Tumbling windows' cells say what is written of them; a late event must find all of it written nevertheless. */
	if (w->assign.form == CS_WINDOW_TUMBLING && op->def->lateness > 0)
		op->midway = op->is_behind;
	w->midway_before = op->midway;
	w->closing_before = w->closing;
	w->marked_before = w->is_marked;
	w->had_rest_before = w->has_rest;
	w->closed_before = op->closed;
	w->retired = w->retired_before = cs_retired_at(op->def, op->closed);
	w->op.stale = w->stale_before = cs_state_count(state, op->def->definition_id) > 0;
}

const CsOperatorOps cs_window_ops = {
	.kind = CS_KIND_WINDOW,
	.create = window_create,
	.begin_chunk = window_begin_chunk,
	.evaluate = window_evaluate,
	.reject = window_reject,
	.must_wait = window_must_wait,
	.apply = window_apply,
	.advance = window_advance,
	.note_closing = cs_closing_store,
	.preview = window_preview,
	.preview_due = window_preview_due,
	.end_batch = window_end_batch,
	.serialize = window_serialize,
	.is_marked = cs_cell_is_marked,
	.due_of = window_due_of,
	.recovered = window_recovered,
	.survey = cs_window_survey,
	.show_all = cs_window_show_all,
	.check = window_check,
	.lost = window_lost,
	.is_vital = window_is_vital,
	.loss =
		"what the group had counted; its row, if that is not final, is deleted, or of windows that share it made of the rest",
};
