/*
 * sink/own_rows.h
 *	  Writing a list of things as rows of one of our own tables; private to
 *	  this folder.
 */
#ifndef CS_SINK_OWN_ROWS_H
#define CS_SINK_OWN_ROWS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* Set the columns of a row; isnull comes in as all false. */
typedef void (*CsFillRow)(const void *item, TimestampTz now, Datum *values, bool *isnull);

extern void cs_own_rows_write(const char *relation, int ncolumns, const char *const *columns, CsFillRow fill,
							  List *items);

#endif
