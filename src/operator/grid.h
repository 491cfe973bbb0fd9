/*
 * operator/grid.h
 *	  Points in time that follow each other by a rule: every so many
 *	  microseconds, or as a time zone's clock and calendar go.
 *
 * A grid cuts time into cells: from a point to the next one.  floor is the
 * point at or before a time.
 *
 *	fixed	origin and every step from there
 *	clock	whenever the zone's clock comes to a multiple of step, also when it
 *			comes to it a second time (clocks put back) or jumps over it
 *	days	the first moment at which the zone's clock shows the origin's time
 *			of day, or later, of every step-th day
 *	months	the same of every step-th month; the origin's day, or the month's
 *			last one where there is none such
 */
#ifndef CS_OPERATOR_GRID_H
#define CS_OPERATOR_GRID_H

#include "core/types.h"
#include "pgtime.h"

/* So far from the ends of time any sum of a time and a window's length is a time. */
#define CS_GRID_MARGIN (INT64CONST(1100) * USECS_PER_DAY)

/* A stretch of time in which the zone's clock differs from UTC by the same amount; µs. */
typedef struct CsStretch
{
	TimestampTz start, end; /* [start, end) */
	int64		offset;		/* what the clock shows less UTC */
} CsStretch;

typedef enum CsGridKind
{
	CS_GRID_FIXED,
	CS_GRID_CLOCK,
	CS_GRID_DAYS,
	CS_GRID_MONTHS
} CsGridKind;

typedef struct CsGrid
{
	CsGridKind	kind;
	int64		step;		/* µs; of days or months: how many */
	TimestampTz origin;		/* a point, as the zone's clock shows it; fixed: as it is */
	pg_tz	   *zone;		/* NULL if fixed */
	CsStretch	stretch;	/* the one asked for last */
	TimestampTz first, end; /* the cell asked for last */
} CsGrid;

/* zone NULL: fixed.  origin is an ordinary point in time. */
extern void cs_grid_init(CsGrid *grid, CsGridKind kind, int64 step, pg_tz *zone, TimestampTz origin);
/* What the zone's clock shows at t, and the first moment at which it shows local or later. */
extern int64	   cs_zone_shows(pg_tz *zone, CsStretch *stretch, TimestampTz t);
extern TimestampTz cs_zone_reaches(pg_tz *zone, CsStretch *stretch, int64 local);

/* The last point that is not after t; the first one after a point; the one n steps after a point. */
extern TimestampTz cs_grid_floor(CsGrid *grid, TimestampTz t);
extern TimestampTz cs_grid_next(CsGrid *grid, TimestampTz point);
extern TimestampTz cs_grid_after(CsGrid *grid, TimestampTz point, int64 n);

static inline int64
cs_floor_div(int64 a, int64 b)
{
	int64 q = a / b;

	return a % b < 0 ? q - 1 : q;
}

#endif
