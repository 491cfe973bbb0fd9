/*
 * operator/assign.c
 *	  Which windows hold a point in time; see assign.h.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "operator/assign.h"

#define SECONDS_STEP USECS_PER_SEC /* changes of clocks are whole seconds */

bool
cs_length_of(const Interval *interval, bool calendar, CsLength *length)
{
	int64 days = interval->day + interval->time / USECS_PER_DAY;
	int64 time = interval->time % USECS_PER_DAY;

	if (!calendar && interval->month == 0)
	{
		length->kind = CS_GRID_FIXED;
		length->n = interval->time + (int64) interval->day * USECS_PER_DAY;
		return length->n > 0;
	}
	if (interval->month != 0)
	{
		length->kind = CS_GRID_MONTHS;
		length->n = interval->month;
		return interval->month > 0 && interval->day == 0 && interval->time == 0;
	}
	if (days != 0)
	{
		length->kind = CS_GRID_DAYS;
		length->n = days;
		return days > 0 && time == 0;
	}
	length->kind = CS_GRID_CLOCK;
	length->n = time;
	return time > 0 && USECS_PER_DAY % time == 0 && time % SECONDS_STEP == 0;
}

bool
cs_lengths_fit(CsWindowForm form, const CsLength *size, const CsLength *pane)
{
	if (size->kind == pane->kind)
		return size->n >= pane->n && size->n % pane->n == 0;

	/* To date: windows that begin with a day or a month, and grow by parts of a day or by days. */
	if (form != CS_WINDOW_CUMULATIVE || size->kind == CS_GRID_FIXED || pane->kind == CS_GRID_FIXED)
		return false;
	if (size->kind == CS_GRID_MONTHS && pane->kind == CS_GRID_DAYS)
		return pane->n == 1;
	return size->kind > pane->kind;
}

pg_tz *
cs_definition_zone(const CsDefinition *def)
{
	if (def->time_zone != NULL)
		return pg_tzset(def->time_zone);
	if (def->size_given.month != 0 || def->slide_given.month != 0)
		return pg_tzset("UTC");
	return NULL;
}

void
cs_assigner_init(CsAssigner *a, const CsDefinition *def)
{
	pg_tz	*zone = cs_definition_zone(def);
	CsLength size, pane;

	memset(a, 0, sizeof(*a));
	if (!cs_length_of(&def->size_given, zone != NULL, &size) || !cs_length_of(&def->slide_given, zone != NULL, &pane))
		elog(ERROR, "size and slide of %s fit no calendar", def->name);
	a->form = def->form;
	a->size = size.n;
	a->slide = pane.n;
	a->origin = def->origin;
	a->plain = zone == NULL && def->form != CS_WINDOW_CUMULATIVE;
	a->panes = size.n / pane.n;
	cs_grid_init(&a->pane, pane.kind, pane.n, zone, def->origin);
	if (def->form == CS_WINDOW_CUMULATIVE)
		cs_grid_init(&a->whole, size.kind, size.n, zone, def->origin);
	a->last.start = a->last.end = CS_WM_NONE;
}

TimestampTz
cs_assigned_end(CsAssigner *a, TimestampTz start)
{
	if (a->plain)
		return start + a->size;
	if (a->form == CS_WINDOW_HOPPING)
		return cs_grid_after(&a->pane, start, a->panes);
	return cs_grid_next(&a->pane, start);
}

/* Where the first window that holds the pane begins. */
static TimestampTz
first_holder(CsAssigner *a, TimestampTz pane)
{
	TimestampTz start = pane;

	for (int64 i = 1; i < a->panes; i++)
	{
		TimestampTz before = cs_grid_floor(&a->pane, start - 1);

		if (cs_assigned_end(a, before) <= pane)
			break;
		start = before;
	}
	return start;
}

void
cs_assign_slow(CsAssigner *a, TimestampTz t, CsPane *pane)
{
	pane->start = cs_grid_floor(&a->pane, t);
	pane->end = cs_grid_next(&a->pane, pane->start);
	pane->first_end = pane->last_end = pane->end;
	pane->whole = pane->start;
	if (a->form == CS_WINDOW_HOPPING)
	{
		pane->first_end = cs_assigned_end(a, first_holder(a, pane->start));
		pane->last_end = cs_assigned_end(a, pane->start);
	}
	else if (a->form == CS_WINDOW_CUMULATIVE)
	{
		pane->whole = cs_grid_floor(&a->whole, pane->start);
		pane->last_end = cs_grid_next(&a->whole, pane->whole);
	}
	a->last = *pane;
}

/* Room for one more. */
static CsSpan *
add_span(CsSpan *spans, int *n, TimestampTz start, TimestampTz end)
{
	if (spans == NULL)
		spans = palloc(16 * sizeof(CsSpan));
	else if (*n >= 16 && (*n & (*n - 1)) == 0)
		spans = repalloc_huge(spans, 2 * (Size) *n * sizeof(CsSpan));
	spans[*n].start = start;
	spans[(*n)++].end = end;
	return spans;
}

static void
reverse(CsSpan *spans, int n)
{
	for (int i = 0; i < n / 2; i++)
	{
		CsSpan span = spans[i];

		spans[i] = spans[n - 1 - i];
		spans[n - 1 - i] = span;
	}
}

CsSpan *
cs_assigned_windows(CsAssigner *a, TimestampTz start, int *n)
{
	CsSpan *spans = NULL;
	CsPane	pane;

	*n = 0;
	cs_assign(a, start, &pane);
	if (a->form == CS_WINDOW_CUMULATIVE)
	{
		for (TimestampTz end = pane.end; end <= pane.last_end; end = cs_grid_next(&a->pane, end))
			spans = add_span(spans, n, pane.whole, end);
		return spans;
	}
	for (int64 i = 0; i < a->panes; i++)
	{
		TimestampTz end = cs_assigned_end(a, start);

		if (end <= pane.start)
			break;
		spans = add_span(spans, n, start, end);
		start = a->plain ? start - a->slide : cs_grid_floor(&a->pane, start - 1);
	}
	reverse(spans, *n);
	return spans;
}

CsSpan *
cs_assigned_windows_in(CsAssigner *a, TimestampTz pane, TimestampTz after, TimestampTz upto, int *n)
{
	CsSpan	   *spans = NULL;
	TimestampTz end = pane + a->slide;

	if (!a->plain)
		return cs_assigned_windows(a, pane, n);
	*n = 0;
	if (after == CS_WM_DONE)
		return NULL;
	if (after > end)
		end += (after - end) / a->slide * a->slide;
	for (; end <= pane + a->size && (upto == CS_WM_DONE || end <= upto + CS_USECS_PER_MSEC); end += a->slide)
		spans = add_span(spans, n, end - a->size, end);
	return spans;
}
