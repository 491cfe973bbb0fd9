/*
 * operator/grid.c
 *	  Grids of points in time; see grid.h.
 *
 * A zone's clock is known by its stretches: between two changes it differs
 * from UTC by the same amount.  From UTC to the clock there is one answer;
 * the other way round there may be two (clocks put back) or none (put
 * forward), so points are always "the first moment at which ... or later".
 * That makes them ascend, whatever a zone has done: a change at midnight, half
 * an hour's change, a day left out (Samoa, 2011), all of which the tests have.
 * Two points may then be one moment; a cell of no length holds nothing.
 *
 * Nothing here raises.  No locking: private to the process.
 */
#include "postgres.h"

#include "operator/grid.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define SECONDS_BEFORE (INT64CONST(400) * SECS_PER_DAY) /* how far back a change is looked for */
#define WIDEST_OFFSET (36 * USECS_PER_HOUR)				/* further than any clock is from UTC */

static TimestampTz
from_seconds(pg_time_t seconds)
{
	return (seconds - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC;
}

static pg_time_t
to_seconds(TimestampTz t)
{
	return cs_floor_div(t, USECS_PER_SEC) + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}

/* The change of the clock after t: false if there is none. */
static bool
next_change(pg_tz *zone, pg_time_t t, pg_time_t *change, int64 *offset_before)
{
	long before = 0, after = 0;
	int	 before_dst, after_dst;
	int	 found = pg_next_dst_boundary(&t, &before, &before_dst, change, &after, &after_dst, zone);

	*offset_before = before * USECS_PER_SEC;
	return found == 1;
}

static void
find_stretch(pg_tz *zone, CsStretch *stretch, TimestampTz t)
{
	pg_time_t seconds = to_seconds(t);
	pg_time_t from = seconds - SECONDS_BEFORE;
	pg_time_t change;
	int64	  ignored;

	stretch->end = next_change(zone, seconds, &change, &stretch->offset) ? from_seconds(change) : CS_WM_DONE;
	while (next_change(zone, from, &change, &ignored) && change <= seconds)
		from = change;
	stretch->start = from_seconds(from);
}

static inline void
at_stretch(pg_tz *zone, CsStretch *stretch, TimestampTz t)
{
	if (t < stretch->start || t >= stretch->end)
		find_stretch(zone, stretch, t);
}

int64
cs_zone_shows(pg_tz *zone, CsStretch *stretch, TimestampTz t)
{
	at_stretch(zone, stretch, t);
	return t + stretch->offset;
}

TimestampTz
cs_zone_reaches(pg_tz *zone, CsStretch *stretch, int64 local)
{
	at_stretch(zone, stretch, local - WIDEST_OFFSET);
	for (;;)
	{
		TimestampTz t = Max(stretch->start, local - stretch->offset);

		if (t < stretch->end)
			return t;
		at_stretch(zone, stretch, stretch->end);
	}
}

void
cs_grid_init(CsGrid *grid, CsGridKind kind, int64 step, pg_tz *zone, TimestampTz origin)
{
	memset(grid, 0, sizeof(*grid));
	grid->kind = kind;
	grid->step = step;
	grid->zone = zone;
	grid->origin = kind == CS_GRID_FIXED ? origin : cs_zone_shows(zone, &grid->stretch, origin);
}

/* ---- days and months: points are numbered, the origin is point 0 ---- */

static int64
months_of(int64 local, int *day, int64 *time)
{
	int64 days = cs_floor_div(local, USECS_PER_DAY);
	int	  y, m;

	j2date((int) days + POSTGRES_EPOCH_JDATE, &y, &m, day);
	*time = local - days * USECS_PER_DAY;
	return (int64) y * MONTHS_PER_YEAR + m - 1;
}

/* What the clock shows at point i. */
static int64
local_of(const CsGrid *grid, int64 i)
{
	int	  y, m, day;
	int64 time, month;

	if (grid->kind == CS_GRID_DAYS)
		return grid->origin + i * grid->step * USECS_PER_DAY;
	month = months_of(grid->origin, &day, &time) + i * grid->step;
	y = (int) cs_floor_div(month, MONTHS_PER_YEAR);
	m = (int) (month - (int64) y * MONTHS_PER_YEAR) + 1;
	day = Min(day, day_tab[isleap(y)][m - 1]);
	return (int64) (date2j(y, m, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY + time;
}

static TimestampTz
point(CsGrid *grid, int64 i)
{
	return cs_zone_reaches(grid->zone, &grid->stretch, local_of(grid, i));
}

/* Number of the last point that is not after t. */
static int64
number_at(CsGrid *grid, TimestampTz t)
{
	int64 local = cs_zone_shows(grid->zone, &grid->stretch, t);
	int64 i, time;
	int	  day;

	if (grid->kind == CS_GRID_DAYS)
		i = cs_floor_div(local - grid->origin, grid->step * USECS_PER_DAY);
	else
		i = cs_floor_div(months_of(local, &day, &time) - months_of(grid->origin, &day, &time), grid->step);
	while (local_of(grid, i) > local)
		i--;
	while (point(grid, i + 1) <= t)
		i++;
	return i;
}

/* ---- clock ---- */

static int64
clock_multiple(const CsGrid *grid, int64 local)
{
	return grid->origin + cs_floor_div(local - grid->origin, grid->step) * grid->step;
}

static TimestampTz
clock_floor(CsGrid *grid, TimestampTz t)
{
	for (;;)
	{
		int64	  multiple = clock_multiple(grid, cs_zone_shows(grid->zone, &grid->stretch, t));
		CsStretch now = grid->stretch;

		if (multiple - now.offset >= now.start)
			return multiple - now.offset;

		/* It comes before the stretch: did the clock jump over it? */
		t = now.start - 1;
		at_stretch(grid->zone, &grid->stretch, t);
		if (now.offset > grid->stretch.offset && multiple >= now.start + grid->stretch.offset)
			return now.start;
	}
}

static TimestampTz
clock_next(CsGrid *grid, TimestampTz t)
{
	for (;;)
	{
		int64		multiple = clock_multiple(grid, cs_zone_shows(grid->zone, &grid->stretch, t)) + grid->step;
		TimestampTz next = multiple - grid->stretch.offset;
		TimestampTz end = grid->stretch.end;

		if (next < end)
			return next;
		if (clock_floor(grid, end) == end)
			return end;
		t = end;
	}
}

/* ---- any ---- */

TimestampTz
cs_grid_floor(CsGrid *grid, TimestampTz t)
{
	if (grid->kind == CS_GRID_FIXED)
		return grid->origin + cs_floor_div(t - grid->origin, grid->step) * grid->step;
	/* No event is beyond (window_evaluate()), but a watermark may be: there sums overflow. */
	t = Min(Max(t, MIN_TIMESTAMP + CS_GRID_MARGIN), END_TIMESTAMP - CS_GRID_MARGIN);
	if (t < grid->first || t >= grid->end)
	{
		grid->first = grid->kind == CS_GRID_CLOCK ? clock_floor(grid, t) : point(grid, number_at(grid, t));
		grid->end = cs_grid_next(grid, grid->first);
	}
	return grid->first;
}

TimestampTz
cs_grid_next(CsGrid *grid, TimestampTz from)
{
	int64 i;

	if (grid->kind == CS_GRID_FIXED)
		return from + grid->step;
	if (grid->kind == CS_GRID_CLOCK)
		return clock_next(grid, from);
	i = number_at(grid, from);
	while (point(grid, ++i) <= from)
		;
	return point(grid, i);
}

TimestampTz
cs_grid_after(CsGrid *grid, TimestampTz from, int64 n)
{
	if (grid->kind == CS_GRID_FIXED)
		return from + n * grid->step;
	if (grid->kind != CS_GRID_CLOCK)
		return point(grid, number_at(grid, from) + n);
	while (n-- > 0)
		from = clock_next(grid, from);
	return from;
}
