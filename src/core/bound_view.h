/*
 * core/bound_view.h
 *	  A definition's view over other rows than those it was made over.
 *
 * The view's Query is taken from the catalog, and the relation it reads is
 * replaced by a subquery; no text is put together out of the definition's.
 * Where the caller has the rights of the view's owner both run as the owner,
 * restricted, as in a batch: a superuser does not lend his rights to functions in
 * the owner's expressions.  Others run them as themselves, as with any view.
 */
#ifndef CS_CORE_BOUND_VIEW_H
#define CS_CORE_BOUND_VIEW_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "utils/tuplestore.h"

/*
 * Run the view over the rows of a SELECT, whose columns must be those of the
 * relation that the view reads; into the tuplestore, under the active
 * snapshot.  Raises if the view's columns are not of expected's types.
 */
extern void cs_bound_view_run(Oid view, const char *rows, TupleDesc expected, Tuplestorestate *result);

#endif
