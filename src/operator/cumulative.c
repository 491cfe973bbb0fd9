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
		CsBucketKind kind = cs_bucket_kind(buckets[i]);
		CsPane		 pane;

		if (kind == CS_BUCKET_NOTE)
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

/* Add the cells of a pane to the sums. */
static void
add_up(CsWindow *w, CsState *state, TimestampTz pane, TimestampTz whole)
{
	const CsDefinition *def = w->op.def;
	int					n;
	CsWork			  **works = cs_state_bucket(state, def->definition_id, CS_BUCKET_OF(pane, CS_BUCKET_PANE), &n);

	cs_cell_sort(works, n);
	for (int i = 0; i < n; i++)
	{
		CsCell		*cell = cs_cell_of(&w->grouping, state, works[i]);
		CsGroupInput input = {.key = works[i]->key.who, .values = cell->values, .isnull = cell->isnull};
		CsCell *sum = cs_cell_get(&w->grouping, state, def->definition_id, CS_BUCKET_OF(whole, CS_BUCKET_SUM), &input,
								  def->group_limit);

		keep_sum(w, state, whole, &works[i]->key.who, sum);
		cs_measures_merge(w->grouping.ms, state, sum->states, cell->states);
		sum->rows += cell->rows;
		sum->stale |= cell->stale;
		cs_cell_delete(&w->grouping, state, works[i]);
	}
	if (works)
		pfree(works);
}

/* All rows of a window whose steps are all added up. */
static void
emit_sum(CsWindow *w, CsBatchContext *batch, CsSpan span)
{
	CsAssembly *a = cs_assembly_begin(w, batch->state, 1024);

	cs_assembly_add(a, CS_BUCKET_OF(span.start, CS_BUCKET_SUM));
	(void) cs_assembly_emit(a, batch, span, true);
	cs_window_forget_notes(w, batch->state, span);
}

static void
pass_family(CsWindow *w, CsBatchContext *batch, const Family *family, TimestampTz wm, TimestampTz retired)
{
	CsGrid	   *panes = &w->assign.pane;
	TimestampTz end = cs_grid_next(&w->assign.whole, family->start);
	TimestampTz pane = family->first;
	int			all = PG_INT32_MAX;

	/* What is retired is written: go on behind it. */
	if (w->retired != CS_WM_NONE && w->retired != CS_WM_DONE)
		pane = Max(pane, cs_grid_floor(panes, w->retired + CS_USECS_PER_MSEC));
	while (pane < end)
	{
		CsSpan span = {family->start, cs_grid_next(panes, pane)};

		if (!cs_is_passed(span.end, wm))
			break;
		if (cs_is_passed(span.end, retired))
		{
			add_up(w, batch->state, pane, family->start);
			emit_sum(w, batch, span);
		}
		else if (!cs_is_passed(span.end, w->op.closed))
			(void) cs_window_emit_all(w, batch, span);
		pane = span.end;
	}
	if (cs_is_passed(end, retired))
		(void) cs_cells_close(&w->op, &w->grouping, batch, CS_BUCKET_OF(family->start, CS_BUCKET_SUM), false, &all);
}

void
cs_cumulative_pass(CsWindow *w, CsBatchContext *batch, TimestampTz wm, TimestampTz retired)
{
	int		n;
	Family *list = families(w, batch->state, &n);

	for (int i = 0; i < n; i++)
		pass_family(w, batch, &list[i], wm, retired);
	pfree(list);
}
