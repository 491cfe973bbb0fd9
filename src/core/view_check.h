/*
 * core/view_check.h
 *	  What the expressions of a definition may not be.  Inside of view.c's
 *	  business only.
 */
#ifndef CS_CORE_VIEW_CHECK_H
#define CS_CORE_VIEW_CHECK_H

#include "core/view.h"

/* What is known of one column of a view under construction. */
typedef struct CsColumnCheck
{
	const char *name;
	const char *label;		/* of the piece that gave it; NULL: ours */
	int			location;	/* in the source */
	bool		is_boolean; /* must be */
} CsColumnCheck;

/* errposition() for a location of the source. */
extern int cs_view_position(CsView *view, int location);

/* In a raw tree: first(x) becomes clickstream.first(x, e.place), last likewise. */
extern void cs_view_rewrite_places(CsView *view, Node *raw, int rules);

/* In a raw tree: a column of a lookup becomes that of the event relation which holds it. */
extern void cs_view_rewrite_lookups(CsView *view, Node *raw, List *lookups);

/* Raise for whatever the analysed query of a view may not hold; checks: one for each column. */
extern void cs_view_check(CsView *view, Query *query, List *checks, int rules);

#endif
