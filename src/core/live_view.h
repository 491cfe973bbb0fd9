/*
 * core/live_view.h
 *	  Views <table>_live: the rows of a result table and what is open,
 *	  together.
 */
#ifndef CS_CORE_LIVE_VIEW_H
#define CS_CORE_LIVE_VIEW_H

#include "core/ddl.h"

/* Raise if the name of the live view of that table ('table' or 'schema.table') is taken by anything but a view of that table. */
extern void cs_live_view_check(const char *table, const char *what);
/* Make it, with the result's columns. */
extern Oid cs_live_view_create(Oid table, Oid owner, const CsResultColumn *columns, int n);
/* Drop it, if it is still the live view of that table. */
extern void cs_live_view_drop(Oid view, Oid table);

#endif
