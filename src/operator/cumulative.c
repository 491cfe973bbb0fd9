/*
 * operator/cumulative.c
 *	  Cumulative windows: from one start, each a step longer than the one
 *	  before it.
 *
 * An event lies in one pane, a step long.  When a step is retired its pane's
 * cells are added, group by group, to the sums of the windows that start
 * together, which is the next row to be written; then the cells go.  So a step
 * costs what is new in it and the rows that are due, however long the windows
 * have grown.  An event behind the watermark whose step is retired counts in
 * the windows that are open yet: it goes to the sum at once.
 *
 * With allowed_lateness steps are closed before they are retired: the rows
 * then come from the sum and the panes behind it.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "operator/window.h"

/* Windows that start together. */
typedef struct Family
{
	TimestampTz start;
	TimestampTz first; /* of its panes that have cells; the start if it has a sum */
} Family;

static Family *
families(CsWindow *w, CsState *state, int *n)
{
	int		nbuckets;
	int64  *buckets = cs_state_buckets(state, w->op.def->definition_id, &nbuckets);
	Family *list = palloc((nbuckets + 1) * sizeof(Family));

	/* in order of time; a sum comes right after the pane that has its start */
	*n = 0;
	for (int i = 0; i < nbuckets; i++)
	{
		CsPane pane;

		if (!cs_bucket_has_cells(buckets[i]))
			continue;
		cs_assign(&w->assign, cs_bucket_time(buckets[i]), &pane);
		if (*n > 0 && list[*n - 1].start == pane.whole)
			continue;
		list[*n].start = pane.whole;
		list[(*n)++].first = pane.start;
	}
	pfree(buckets);
	return list;
}

/* For readers of earlier commits the pane's cells are still there: they must find the sum without them. */
static void
keep_sum(CsWindow *w, CsState *state, TimestampTz whole, const CsHash128 *who, const CsCell *sum)
{
	CsKey	key = {.def = (uint32) w->op.def->definition_id, .bucket = CS_BUCKET_OF(whole, CS_BUCKET_SUM), .who = *who};
	CsWork *work = cs_state_get(state, &key);

	if (work->work != sum) /* one group too many: it is in the rest */
	{
		memset(&key.who, 0, sizeof(key.who));
		work = cs_state_get(state, &key);
	}
	cs_work_keep(work);
}

/*
 * Add cells of a pane, in the order of their groups, to the sum; how many.
 * group_limit counts in each pane: what has a row of its own there has one for
 * good, so no group of the sum goes into the rest.
 */
static int64
add_part(CsWindow *w, CsState *state, TimestampTz pane, TimestampTz whole, CsPart part)
{
	const CsDefinition *def = w->op.def;
	int64				n;
	CsWork **works = cs_works_of_part(state, def->definition_id, CS_BUCKET_OF(pane, CS_BUCKET_PANE), part, NULL, &n);

	for (int64 i = 0; i < n; i++)
	{
		CsCell		*cell = cs_cell_of(&w->grouping, state, works[i]);
		CsGroupInput input = {.key = works[i]->key.who, .values = cell->values, .isnull = cell->isnull};
		CsCell *sum = cs_cell_get(&w->grouping, state, def->definition_id, CS_BUCKET_OF(whole, CS_BUCKET_SUM), &input,
								  PG_INT64_MAX);

		keep_sum(w, state, whole, &works[i]->key.who, sum);
		cs_measures_merge(w->grouping.ms, state, sum->states, cell->states);
		sum->rows += cell->rows;
		sum->stale |= cell->stale;
		w->pass.again |= cell->stale; /* the rest's key may be where the pass has been */
		cs_cell_delete(&w->grouping, state, works[i]);
	}
	if (works)
		pfree(works);
	return n;
}

/* All of them; false: more than are left. */
static bool
add_up(CsWindow *w, CsState *state, TimestampTz pane, TimestampTz whole, int64 *left)
{
	CsClosing *closing = &w->closing;
	int64	   n = cs_state_bucket_count(state, w->op.def->definition_id, CS_BUCKET_OF(pane, CS_BUCKET_PANE));

	while (!closing->is_added && *left > 0)
	{
		CsPart part = cs_part_from(closing->from, n, *left);

		*left -= add_part(w, state, pane, whole, part) + 1;
		closing->is_added = part.last == PG_UINT64_MAX;
		closing->from = closing->is_added ? 0 : part.last + 1;
	}
	return closing->is_added;
}

/* Windows of one start, step by step; false: more than are left. */
static bool
pass_family(CsWindow *w, CsBatchContext *batch, const Family *family, TimestampTz retired, int64 *left)
{
	CsClosing  *closing = &w->closing;
	CsGrid	   *panes = &w->assign.pane;
	TimestampTz end = cs_grid_next(&w->assign.whole, family->start);
	TimestampTz pane = family->first;

	/* What is retired is written: go on behind it; and behind what this closing has come to. */
	if (w->retired != CS_WM_NONE && w->retired != CS_WM_DONE)
		pane = Max(pane, cs_grid_floor(panes, w->retired + CS_USECS_PER_MSEC));
	if (closing->span.start == family->start)
		pane = Max(pane, cs_grid_floor(panes, closing->span.end - 1));
	for (; pane < end; pane = cs_grid_next(panes, pane))
	{
		CsSpan span = {family->start, cs_grid_next(panes, pane)};
		bool   is_final = cs_is_passed(span.end, retired);

		if (!cs_is_passed(span.end, closing->wm))
			break;
		if (!is_final && cs_is_passed(span.end, w->op.closed))
			continue;
		if (closing->span.start != span.start || closing->span.end != span.end)
			*closing = (CsClosing){.wm = closing->wm, .span = span};
		if (*left <= 0 || (is_final && !add_up(w, batch->state, pane, family->start, left)) ||
			!cs_window_emit_rest(w, batch, span, &closing->from, left))
			return false;
		closing->span.end++; /* behind it */
	}
	return true;
}

bool
cs_cumulative_pass(CsWindow *w, CsBatchContext *batch, TimestampTz retired, int64 *left)
{
	bool	done = true;
	int		n;
	Family *list = families(w, batch->state, &n);

	for (int i = 0; i < n && done; i++)
		if (list[i].start >= w->closing.span.start)
			done = pass_family(w, batch, &list[i], retired, left);
	pfree(list);
	return done;
}
