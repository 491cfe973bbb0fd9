/*
 * operator/assign.h
 *	  Which windows hold a point in time.
 *
 * Windows are made of panes, cells of a grid: a tumbling window is one pane, a
 * hopping window begins at each pane and is several long, cumulative windows
 * begin at the points of a coarser grid, one ending with each pane, up to the
 * next such point.  An event lies in one pane; all windows that hold the pane
 * hold the event.
 *
 * The same for the operator and for what the definitions' views say
 * (window_starts(), cumulative_windows()).
 */
#ifndef CS_OPERATOR_ASSIGN_H
#define CS_OPERATOR_ASSIGN_H

#include "core/definition.h"
#include "operator/grid.h"

typedef struct CsSpan
{
	TimestampTz start, end;
} CsSpan;

/* A pane, and the first and last end of the windows that hold it. */
typedef struct CsPane
{
	TimestampTz start, end;
	TimestampTz first_end, last_end;
	TimestampTz whole; /* cumulative: where its windows start */
} CsPane;

typedef struct CsAssigner
{
	CsWindowForm form;
	bool		 plain;		  /* tumbling or hopping, of fixed length: plain arithmetic */
	int64		 size, slide; /* plain: µs */
	TimestampTz	 origin;	  /* plain */
	int64		 panes;		  /* hopping: in a window */
	CsGrid		 pane;
	CsGrid		 whole; /* cumulative */
	CsPane		 last;	/* the pane asked for last; not if plain */
} CsAssigner;

/* How the lengths of a definition are to be understood. */
typedef struct CsLength
{
	CsGridKind kind;
	int64	   n; /* µs, days or months */
} CsLength;

/* False: it mixes months, days and parts of days, or is no part of a day, where a calendar is to be followed. */
extern bool cs_length_of(const Interval *interval, bool calendar, CsLength *length);
/* Do panes of one length fit windows of the other? */
extern bool cs_lengths_fit(CsWindowForm form, const CsLength *size, const CsLength *pane);
/* The zone whose clock and calendar a definition follows; NULL if its lengths are fixed. */
extern pg_tz *cs_definition_zone(const CsDefinition *def);

extern void cs_assigner_init(CsAssigner *a, const CsDefinition *def);
extern void cs_assign_slow(CsAssigner *a, TimestampTz t, CsPane *pane);
/* The windows that hold a pane, in the order of their ends; palloc'd. */
extern CsSpan *cs_assigned_windows(CsAssigner *a, TimestampTz pane, int *n);
/* Of them those whose ends lie in (after, upto], and perhaps some more: quick where there are many. */
extern CsSpan *cs_assigned_windows_in(CsAssigner *a, TimestampTz pane, TimestampTz after, TimestampTz upto, int *n);
/* The pane's end; the end of a tumbling or hopping window; cumulative: where the window starts. */
extern TimestampTz cs_assigned_end(CsAssigner *a, TimestampTz start);

static inline TimestampTz
cs_assigned_pane(CsAssigner *a, TimestampTz t)
{
	int64 r;

	if (!a->plain)
		return cs_grid_floor(&a->pane, t);
	r = (t - a->origin) % a->slide;
	return t - (r < 0 ? r + a->slide : r);
}

static inline void
cs_assign(CsAssigner *a, TimestampTz t, CsPane *pane)
{
	if (a->plain)
	{
		pane->start = cs_assigned_pane(a, t);
		pane->end = pane->first_end = pane->start + a->slide;
		pane->last_end = pane->start + a->size;
	}
	else if (t >= a->last.start && t < a->last.end)
		*pane = a->last;
	else
		cs_assign_slow(a, t, pane);
}

#endif
