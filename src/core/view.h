/*
 * core/view.h
 *	  Making the view of a definition out of SQL pieces that users give.
 *
 * begin, add pieces, create, end.  Each piece is parsed alone, so that it
 * can be no more than what it is meant to be: no piece can close a bracket
 * that it has not opened, or bring a clause of its own.  The trees, not the
 * texts, are put together.  Between begin and end an error callback turns
 * every position that the parser or we report into one inside the user's
 * own piece.
 *
 * No SPI of its own.  The new view is locked until the transaction ends.
 */
#ifndef CS_CORE_VIEW_H
#define CS_CORE_VIEW_H

#include "postgres.h"

#include "nodes/parsenodes.h"

typedef struct CsView CsView;

/* What a definition's expressions may not be, beyond what none may. */
typedef enum CsViewRule
{
	CS_VIEW_NO_AGGREGATES = 1 << 0,
	CS_VIEW_NO_VISITOR = 1 << 1, /* effective_user_id cannot be read: it is being defined */
	CS_VIEW_NO_PLACE = 1 << 2	 /* first(), last(), page_dwell() of one argument cannot be used: rows have no place */
} CsViewRule;

/*
 * Begin a view.  what names the definition in errors ("window "x"").  frame
 * is our own SELECT … FROM …, whose relation is named e; its columns come
 * first.  reserved: names that no column may have, ending with NULL.
 */
extern CsView *cs_view_begin(const char *what, const char *frame, const char *const *reserved, int rules);
extern void	   cs_view_end(CsView *view);
/* Pieces may name columns of these lookups (core/lookup.h), as lookup.column. */
extern void cs_view_use_lookups(CsView *view, List *lookups);

/*
 * Add columns from a list such as 'page_url, lower(x) AS y'; grouped: group
 * by them too.  Returns how many.
 */
extern int cs_view_add_list(CsView *view, const char *label, const char *text, bool grouped);

/*
 * Add one column.  name NULL: its own, or else fallback.  Returns the name.
 */
extern const char *cs_view_add_text(CsView *view, const char *label, const char *text, const char *name,
									const char *fallback, bool grouped);
/* The column that a definition's rows belong to, grouped, with its own name or else fallback. */
extern void cs_view_add_key(CsView *view, const char *label, const char *text, const char *fallback);
/* label NULL: the text is ours. */
extern void cs_view_add_value(CsView *view, const char *label, const char *text, const char *name);
extern bool cs_view_has_column(CsView *view, const char *name);
/* It must be boolean.  text NULL: the constant NULL. */
extern void cs_view_add_boolean(CsView *view, const char *label, const char *text, const char *name);

/* Rows must pass this too.  NULL: nothing to add. */
extern void cs_view_add_filter(CsView *view, const char *label, const char *text);

/* Group by the n-th column, counted from 1. */
extern void cs_view_group_by(CsView *view, int n);

/*
 * Parse a column list such as 'plan text, cart_value numeric': a List of
 * ColumnDef whose types are known to exist.  reserved as above.
 */
extern List *cs_view_columns(CsView *view, const char *label, const char *text);

/*
 * Check everything as the owner, with the current search_path, and create
 * view clickstream.<name> that belongs to them.
 */
extern Oid cs_view_create(CsView *view, const char *name, Oid owner);

/* After create: the source text of a column that a piece gave, or NULL. */
extern char *cs_view_column_text(CsView *view, const char *column);

#endif
