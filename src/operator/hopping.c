/*
 * operator/hopping.c
 *	  Windows that share cells: hopping windows closed and shown, and what
 *	  cumulative windows have in common with them.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "operator/window.h"

/* ---- which windows ---- */

static int
span_cmp(const void *x, const void *y)
{
	return cs_span_cmp(x, y);
}

typedef struct SpanList
{
	CsSpan *spans;
	int		n, capacity;
} SpanList;

static void
add_span(SpanList *list, CsSpan span)
{
	if (list->n == list->capacity)
	{
		list->capacity = list->capacity ? list->capacity * 2 : 256;
		list->spans = list->spans ? repalloc_huge(list->spans, list->capacity * sizeof(CsSpan))
								  : MemoryContextAllocHuge(CurrentMemoryContext, list->capacity * sizeof(CsSpan));
	}
	list->spans[list->n++] = span;
}

/* Windows to which what lies in a bucket belongs, those that end in (after, upto] among them; palloc'd. */
static CsSpan *
windows_of_bucket(CsWindow *w, int64 bucket, TimestampTz after, TimestampTz upto, int *n)
{
	*n = 0;
	switch (cs_bucket_kind(bucket))
	{
		case CS_BUCKET_PANE:
		case CS_BUCKET_SUM: /* all windows that start there */
			return cs_assigned_windows_in(&w->assign, cs_bucket_time(bucket), after, upto, n);
		case CS_BUCKET_NOTE:
		case CS_BUCKET_CLOSING:
			break;
	}
	return NULL;
}

static inline bool
lies_between(CsSpan span, TimestampTz after, TimestampTz upto)
{
	return cs_is_passed(span.end, upto) && !cs_is_passed(span.end, after);
}

CsSpan *
cs_windows_between(CsWindow *w, CsState *state, TimestampTz after, TimestampTz upto, int *n)
{
	SpanList list = {0};
	int		 nbuckets;
	int64	*buckets = cs_state_buckets(state, w->op.def->definition_id, &nbuckets);

	for (int b = 0; b < nbuckets; b++)
	{
		int		nspans;
		CsSpan *spans = windows_of_bucket(w, buckets[b], after, upto, &nspans);

		for (int i = 0; i < nspans; i++)
		{
			if (lies_between(spans[i], after, upto))
				add_span(&list, spans[i]);
		}
		if (spans)
			pfree(spans);
	}
	pfree(buckets);
	if (list.n > 0)
		qsort(list.spans, list.n, sizeof(CsSpan), span_cmp);
	*n = 0;
	for (int i = 0; i < list.n; i++)
	{
		if (i == 0 || span_cmp(&list.spans[i], &list.spans[*n - 1]) != 0)
			list.spans[(*n)++] = list.spans[i];
	}
	return list.spans;
}

TimestampTz
cs_windows_next_end(CsWindow *w, CsState *state, TimestampTz after)
{
	int			nbuckets;
	int64	   *buckets = cs_state_buckets(state, w->op.def->definition_id, &nbuckets);
	TimestampTz next = CS_WM_DONE;

	for (int b = 0; b < nbuckets; b++)
	{
		/* of a pane behind the moment the first to end, of one before it the first behind */
		TimestampTz from = Max(after, cs_bucket_time(buckets[b]));
		int			n;
		CsSpan	   *spans = windows_of_bucket(w, buckets[b], after, from + 2 * w->assign.slide, &n);

		for (int i = 0; i < n; i++)
		{
			if (!cs_is_passed(spans[i].end, after))
				next = Min(next, spans[i].end - CS_USECS_PER_MSEC);
		}
		if (spans)
			pfree(spans);
	}
	pfree(buckets);
	return next;
}

TimestampTz
cs_window_first_pane(CsWindow *w, CsSpan span)
{
	if (w->assign.form != CS_WINDOW_CUMULATIVE)
		return span.start;
	if (cs_is_passed(span.end, cs_retired_at(w->op.def, w->closing.wm)))
		return span.end; /* all added up */
	if (w->retired == CS_WM_NONE)
		return span.start;
	return Max(span.start, cs_grid_floor(&w->assign.pane, w->retired + CS_USECS_PER_MSEC));
}

/* ---- closing ---- */

int64
cs_window_emit_part(CsWindow *w, CsBatchContext *batch, CsSpan span, CsPart part)
{
	CsAssembly *a = cs_assembly_begin(w, batch->state, 1024);

	if (w->assign.form == CS_WINDOW_CUMULATIVE)
		cs_assembly_add(a, CS_BUCKET_OF(span.start, CS_BUCKET_SUM), part);
	for (TimestampTz pane = cs_window_first_pane(w, span); pane < span.end; pane = cs_grid_next(&w->assign.pane, pane))
		cs_assembly_add(a, CS_BUCKET_OF(pane, CS_BUCKET_PANE), part);
	return cs_assembly_emit(a, batch, span, cs_is_passed(span.end, cs_retired_at(w->op.def, w->closing.wm)));
}

/* The window's cells, and those of its most populous pane. */
static int64
count_cells(CsWindow *w, CsState *state, CsSpan span, int64 *most)
{
	int32 id = w->op.def->definition_id;
	int64 all = 0;

	if (w->assign.form == CS_WINDOW_CUMULATIVE)
		all = cs_state_bucket_count(state, id, CS_BUCKET_OF(span.start, CS_BUCKET_SUM));
	*most = all;
	for (TimestampTz pane = cs_window_first_pane(w, span); pane < span.end; pane = cs_grid_next(&w->assign.pane, pane))
	{
		int64 n = cs_state_bucket_count(state, id, CS_BUCKET_OF(pane, CS_BUCKET_PANE));

		all += n;
		*most = Max(*most, n);
	}
	return all;
}

bool
cs_window_emit_rest(CsWindow *w, CsBatchContext *batch, CsSpan span, uint64 *from, int64 *left)
{
	int64 most;
	int64 n = count_cells(w, batch->state, span, &most);

	while (*left > 0)
	{
		CsPart part = cs_part_from(*from, n, *left);

		*left -= cs_window_emit_part(w, batch, span, part) + 1;
		if (part.last == PG_UINT64_MAX)
			return true;
		*from = part.last + 1;
	}
	return false;
}

/* What is carried from slide to slide must not become more than a batch may open. */
static bool
emit_hopping(CsWindow *w, CsBatchContext *batch, CsSpan span, bool is_final, int64 *left)
{
	CsRunning *running = w->running[is_final];
	int64	   most;

	if (running)
	{
		(void) count_cells(w, batch->state, span, &most);
		if (most <= cs_state_room(batch->state, PG_INT32_MAX))
			return cs_running_emit(running, batch, span, is_final, &w->closing.from, left);
		cs_running_forget(running);
	}
	return cs_window_emit_rest(w, batch, span, &w->closing.from, left);
}

bool
cs_hopping_pass(CsWindow *w, CsBatchContext *batch, TimestampTz retired, int64 *left)
{
	CsClosing *closing = &w->closing;
	bool	   done = true;
	int		   n;
	CsSpan	  *spans = cs_windows_between(w, batch->state, w->retired, closing->wm, &n);

	for (int i = 0; i < n && done; i++)
	{
		bool is_final = cs_is_passed(spans[i].end, retired);
		int	 order = cs_span_cmp(&spans[i], &closing->span);

		if (order < 0 || (!is_final && cs_is_passed(spans[i].end, w->op.closed)))
			continue;
		if (order > 0)
		{
			closing->span = spans[i];
			closing->from = 0;
		}
		done = *left > 0 && emit_hopping(w, batch, spans[i], is_final, left);
		if (done) /* behind it */
			closing->span.start++;
	}
	if (spans)
		pfree(spans);
	return done;
}

/* So many open windows at most may a cell's rows be of. */
static int64
windows_of_cell(const CsWindow *w)
{
	if (w->assign.form != CS_WINDOW_CUMULATIVE)
		return w->assign.panes;
	return Max(w->op.def->size / Max(w->op.def->slide, 1), 1);
}

int64
cs_windows_weight(CsWindow *w, CsState *state, TimestampTz from, TimestampTz upto, int events)
{
	TimestampTz line = cs_retired_at(w->op.def, upto);
	int64		weight = 0;
	int64		ends = windows_of_cell(w);
	int			n;
	CsSpan	   *spans = cs_windows_between(w, state, cs_retired_at(w->op.def, from), upto, &n);

	for (int i = 0; i < n; i++)
	{
		int64 most;

		/* the row of one that has closed before is written again when it is retired */
		if (!cs_is_passed(spans[i].end, from) || cs_is_passed(spans[i].end, line))
			weight += count_cells(w, state, spans[i], &most);
	}
	if (spans)
		pfree(spans);
	if (w->assign.plain && from != CS_WM_NONE)
		ends = Min(ends, (upto - from) / w->assign.slide + 1);
	return weight + events * ends;
}

/* ---- what is over ---- */

/* Notes have no rows, and nothing hangs on them. */
static bool
delete_notes(CsWindow *w, CsState *state, int64 bucket, int max, int *n)
{
	bool	 more;
	CsWork **works = cs_state_some(state, w->op.def->definition_id, bucket, max, n, &more);

	for (int i = 0; i < *n; i++)
		cs_work_delete(state, works[i]);
	if (works)
		pfree(works);
	return !more;
}

/* When nothing needs what is in the bucket any more. */
static TimestampTz
end_of_use(CsWindow *w, int64 bucket)
{
	TimestampTz time = cs_bucket_time(bucket);
	CsPane		pane;

	switch (cs_bucket_kind(bucket))
	{
		case CS_BUCKET_PANE:
			cs_assign(&w->assign, time, &pane);
			return pane.last_end;
		case CS_BUCKET_SUM:
			return cs_grid_next(&w->assign.whole, time);
		case CS_BUCKET_NOTE:
			return w->assign.form == CS_WINDOW_CUMULATIVE ? time : cs_assigned_end(&w->assign, time);
		case CS_BUCKET_CLOSING:
			break;
	}
	return CS_WM_DONE;
}

bool
cs_windows_tidy(CsWindow *w, CsBatchContext *batch, int64 *left)
{
	bool   done = true;
	int	   nbuckets;
	int64 *buckets = cs_state_buckets(batch->state, w->op.def->definition_id, &nbuckets);

	for (int i = 0; i < nbuckets && done; i++)
	{
		int max = (int) Min(*left, PG_INT32_MAX);
		int n = max;

		if (cs_bucket_kind(buckets[i]) == CS_BUCKET_CLOSING || !cs_is_passed(end_of_use(w, buckets[i]), w->retired))
			continue;
		if (max <= 0)
			done = false;
		else if (cs_bucket_kind(buckets[i]) == CS_BUCKET_NOTE)
			done = delete_notes(w, batch->state, buckets[i], max, &n);
		else
		{
			done = cs_cells_close(&w->op, &w->grouping, batch, buckets[i], false, &n);
			n = max - n;
		}
		*left -= n;
	}
	pfree(buckets);
	return done;
}

/* ---- rows that lag behind ---- */

void
cs_windows_revise(CsWindow *w, CsBatchContext *batch, TimestampTz retired)
{
	CsRowList *rows = cs_rows_begin();
	int		   n;
	CsWork	 **works = cs_state_dirty(batch->state, w->op.def->definition_id, &n);

	for (int i = 0; i < n; i++)
	{
		int		nspans = 0;
		CsSpan *spans = NULL;

		if (!cs_bucket_has_cells(works[i]->key.bucket) || !((CsCell *) works[i]->work)->touched)
			continue;
		spans = windows_of_bucket(w, works[i]->key.bucket, w->retired, w->op.closed, &nspans);
		for (int k = 0; k < nspans; k++)
		{
			if (lies_between(spans[k], retired, w->op.closed))
				cs_rows_add(rows, spans[k], works[i]->key.who);
			else if (lies_between(spans[k], w->retired, w->op.closed))
				cs_window_revise(w, batch->state, spans[k], works[i]->key.who); /* about to be written */
		}
		((CsCell *) works[i]->work)->touched = false;
		if (spans)
			pfree(spans);
	}
	cs_rows_emit(rows, w, batch);
	pfree(works);
}

TimestampTz
cs_windows_differ_until(CsWindow *w, const int64 *buckets, int n, int64 bucket)
{
	CsPane		pane, other;
	TimestampTz until;

	cs_assign(&w->assign, cs_bucket_time(bucket), &pane);
	if (w->assign.form != CS_WINDOW_CUMULATIVE)
		return CS_WM_DONE;
	until = pane.end;
	for (int i = 0; i < n; i++)
	{
		if (cs_bucket_kind(buckets[i]) != CS_BUCKET_PANE)
			continue;
		cs_assign(&w->assign, cs_bucket_time(buckets[i]), &other);
		if (other.whole == pane.whole)
			until = Max(until, other.end);
	}
	return until;
}

static void
add_stale(CsWindow *w, CsBatchContext *batch, CsRowList *rows, const CsKey *key, TimestampTz until)
{
	CsWork *work = cs_state_get(batch->state, key);
	int		n;
	CsSpan *spans = windows_of_bucket(w, key->bucket, w->op.closed, CS_WM_DONE, &n);
	bool	added = false;

	for (int i = 0; i < n; i++)
	{
		/* the first open one in any case: what was added to a sum may have no newer pane */
		if (cs_is_passed(spans[i].end, w->op.closed) || (spans[i].end > until && added))
			continue;
		cs_rows_add(rows, spans[i], key->who);
		added = true;
	}
	cs_cell_of(&w->grouping, batch->state, work)->stale = false;
	cs_work_dirty(batch->state, work);
	if (spans)
		pfree(spans);
}

void
cs_windows_show_stale(CsWindow *w, CsBatchContext *batch, int64 max)
{
	CsRowList  *rows = cs_rows_begin();
	int			nbuckets;
	int64	   *buckets = cs_state_buckets(batch->state, w->op.def->definition_id, &nbuckets);
	TimestampTz until = 0;
	int64		n;
	CsKey	   *keys = cs_stale_keys(batch->state, w->op.def->definition_id, cs_bucket_has_cells, &w->pass,
									 Max(max / windows_of_cell(w), 1), &n);

	for (int64 i = 0; i < n; i++)
	{
		if (i == 0 || keys[i].bucket != keys[i - 1].bucket)
			until = cs_windows_differ_until(w, buckets, nbuckets, keys[i].bucket);
		add_stale(w, batch, rows, &keys[i], until);
	}
	cs_rows_emit(rows, w, batch);
	if (keys)
		pfree(keys);
	pfree(buckets);
}
