/*
 * compat.h
 *	  Every difference between PostgreSQL versions that we meet, in one place.
 *
 * Version 15 is what the code is written for; for a later one, what is new
 * there is named here and used by the older way's name or the other way
 * round, so that no other file asks for PG_VERSION_NUM.
 */
#ifndef CS_COMPAT_H
#define CS_COMPAT_H

#include "postgres.h"

#include "nodes/pg_list.h"

#if PG_VERSION_NUM < 150000
#error "clickstream needs PostgreSQL 15 or later"
#endif

/* Up to 15, a view's range table begins with the entries OLD and NEW. */
#if PG_VERSION_NUM < 160000
#define CS_VIEW_HIDDEN_ENTRIES 2
#else
#define CS_VIEW_HIDDEN_ENTRIES 0
#endif

/* From 17 on, PostgreSQL's own: a loop that declares its variable. */
#ifndef foreach_ptr
#define foreach_ptr(type, var, lst)                                                                                 \
	for (ForEachState var##__state = {(lst), 0}; var##__state.l != NIL && var##__state.i >= 0; var##__state.i = -1) \
		for (type *var = NULL; var##__state.i < var##__state.l->length &&                                           \
							   (var = (type *) var##__state.l->elements[var##__state.i].ptr_value, true);           \
			 var##__state.i++)
#endif

#endif
