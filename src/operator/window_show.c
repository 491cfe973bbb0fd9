/*
 * operator/window_show.c
 *	  Windows and buckets of rollups that are open, for readers.
 *
 * Their rows are made by what makes the rows of the table: only the emitter
 * is another one, which hands them to the reader.  Of hopping windows each one
 * that holds an event is shown; of cumulative ones those that differ: up to
 * the newest step that holds an event.
 *
 * No locking; works on the reader's own state, which it does not change.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "operator/window.h"
#include "utils/timestamp.h"

/* Stands in for a batch. */
typedef struct Reading
{
	CsEmitter	   emitter; /* first: row() gets its address */
	CsBatchContext batch;
	CsOperator	  *op;
	CsGrouping	  *grouping;
	MemoryContext  scratch;
	CsShowRow	   row;
	void		  *arg;
} Reading;

static void
hand_over(CsEmitter *emitter, CsOperator *op, CsRowAction action, Datum *values, bool *isnull)
{
	Reading	 *r = (Reading *) emitter;
	CsOpenRow row = {.values = values, .isnull = isnull};

	(void) op;
	(void) action;
	row.ends = DatumGetTimestampTz(values[1]) - CS_USECS_PER_MSEC;
	r->row(r->arg, &row);
}

static void
begin(Reading *r, CsOperator *op, CsGrouping *grouping, CsState *state, MemoryContext scratch)
{
	r->emitter.row = hand_over;
	r->op = op;
	r->grouping = grouping;
	r->scratch = scratch;
	r->batch.state = state;
	r->batch.emitter = &r->emitter;
}

/* ---- cells that are windows of their own ---- */

static void
show_cell(const CsKey *key, const CsEntry *entry, CsWork *work, void *arg)
{
	Reading		 *r = arg;
	TimestampTz	  start = CS_BUCKET_START(key->bucket);
	MemoryContext old = MemoryContextSwitchTo(r->scratch);
	CsCell		 *cell = cs_cell_make(r->grouping);

	(void) work;
	cs_cell_read(r->grouping, r->batch.state, cell, entry);
	cs_cell_emit(r->op, r->grouping, &r->batch, CS_ROW_UPSERT, start, cs_cell_end(r->op, r->grouping, start), key->who,
				 cell, false);
	MemoryContextSwitchTo(old);
	MemoryContextReset(r->scratch);
	CHECK_FOR_INTERRUPTS();
}

void
cs_cells_show_open(CsOperator *op, CsGrouping *grouping, CsState *state, MemoryContext scratch, TimestampTz closed,
				   CsShowRow row, void *arg)
{
	Reading r = {.row = row, .arg = arg};
	int		n;
	int64  *buckets = cs_state_buckets(state, op->def->definition_id, &n);

	begin(&r, op, grouping, state, scratch);
	for (int i = 0; i < n; i++)
	{
		if (!cs_is_passed(cs_cell_end(op, grouping, CS_BUCKET_START(buckets[i])), closed))
			cs_state_visit_bucket(state, op->def->definition_id, buckets[i], show_cell, &r);
	}
	pfree(buckets);
}

/* ---- windows that share cells ---- */

static void
show_span(Reading *r, CsWindow *w, CsSpan span)
{
	MemoryContext old = MemoryContextSwitchTo(r->scratch);

	(void) cs_window_emit_part(w, &r->batch, span, CS_PART_WHOLE);
	MemoryContextSwitchTo(old);
	MemoryContextReset(r->scratch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Cumulative windows that a closing has got behind: all their rows are in the
 * table, and the sum has more than they had.  Those that are left, moved to
 * the front.
 */
static int
drop_written(const CsClosing *closing, CsSpan *spans, int n)
{
	int left = 0;

	for (int i = 0; i < n; i++)
	{
		bool is_before = spans[i].start < closing->span.start ||
						 (spans[i].start == closing->span.start && spans[i].end < closing->span.end);

		if (!is_before || !cs_is_passed(spans[i].end, closing->wm))
			spans[left++] = spans[i];
	}
	return left;
}

static void
show_spans(CsWindow *w, const CsSurvey *survey, CsState *state, MemoryContext scratch, CsShowRow row, void *arg)
{
	Reading r = {.row = row, .arg = arg};
	int		n;
	CsSpan *spans = cs_windows_between(w, state, w->op.closed, CS_WM_DONE, &n);

	if (w->assign.form == CS_WINDOW_CUMULATIVE)
		n = drop_written(&survey->closing, spans, n);
	begin(&r, &w->op, &w->grouping, state, scratch);
	for (int i = 0; i < n; i++)
	{
		bool is_first = i == 0 || spans[i - 1].start != spans[i].start;

		/* The first open one in any case: what was added to a sum may have no newer step. */
		if (is_first || spans[i].end <= cs_windows_differ_until(w, survey->buckets, survey->n,
																CS_BUCKET_OF(spans[i].start, CS_BUCKET_PANE)))
			show_span(&r, w, spans[i]);
	}
	if (spans)
		pfree(spans);
}

/* Add the buckets of some groups. */
static void
add_buckets(CsSurvey *survey, const int64 *buckets, int n)
{
	int64 *all = palloc((survey->n + n + 1) * sizeof(int64));
	int	   nall = 0;

	for (int i = 0, k = 0; i < survey->n || k < n;)
	{
		if (k == n || (i < survey->n && survey->buckets[i] < buckets[k]))
			all[nall++] = survey->buckets[i++];
		else
		{
			if (i < survey->n && survey->buckets[i] == buckets[k])
				i++;
			all[nall++] = buckets[k++];
		}
	}
	if (survey->buckets)
		pfree(survey->buckets);
	survey->buckets = all;
	survey->n = nall;
}

static void
survey_buckets(CsWindow *w, CsState *state, CsSurvey *survey)
{
	int	   n;
	int64 *buckets;

	if (w->assign.form != CS_WINDOW_CUMULATIVE)
		return;
	buckets = cs_state_buckets(state, w->op.def->definition_id, &n);
	add_buckets(survey, buckets, n);
	pfree(buckets);
}

/* A window that is being closed is open to readers until all of it is. */
static void
survey_closing(CsWindow *w, CsState *state, CsSurvey *survey)
{
	cs_closing_recover(w, state);
	survey->closing = w->closing;
	cs_closing_end(w);
	w->retired = cs_retired_at(w->op.def, w->op.closed);
}

/* The first part has the entry that says how far a closing has come: its key is 0. */
bool
cs_window_survey(CsOperator *op, CsState *state)
{
	CsWindow *w = (CsWindow *) op;

	if (w->survey == NULL)
	{
		w->survey = palloc0(sizeof(CsSurvey));
		survey_closing(w, state, w->survey);
	}
	survey_buckets(w, state, w->survey);
	return w->assign.form == CS_WINDOW_CUMULATIVE;
}

void
cs_window_show_all(CsOperator *op, CsState *state, MemoryContext scratch, CsShowRow row, void *arg)
{
	CsWindow *w = (CsWindow *) op;
	CsSurvey  own = {0};

	if (w->survey == NULL)
	{
		survey_closing(w, state, &own);
		survey_buckets(w, state, &own);
	}
	if (w->assign.form == CS_WINDOW_TUMBLING)
		cs_cells_show_open(op, &w->grouping, state, scratch, op->closed, row, arg);
	else
		show_spans(w, w->survey ? w->survey : &own, state, scratch, row, arg);
}
