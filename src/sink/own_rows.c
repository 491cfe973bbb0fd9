/*
 * sink/own_rows.c
 *	  Rows into one of our own tables, as dead letters and late events are
 *	  written: in the batch's transaction, stamped with our clock, so that
 *	  tests can set it.
 *
 * Locking: as cs_table_open().
 */
#include "postgres.h"

#include "core/clock.h"
#include "sink/own_rows.h"
#include "sink/sink.h"

void
cs_own_rows_write(const char *relation, int ncolumns, const char *const *columns, CsFillRow fill, List *items)
{
	Datum	   *values = palloc(ncolumns * sizeof(Datum));
	bool	   *isnull = palloc(ncolumns * sizeof(bool));
	CsTable	   *table;
	TimestampTz now;
	ListCell   *lc;

	if (items == NIL)
		return;
	now = cs_now();
	table = cs_table_open(cs_own_relation(relation), ncolumns, columns, 0, NULL, InvalidOid);
	foreach(lc, items)
	{
		memset(isnull, 0, ncolumns * sizeof(bool));
		fill(lfirst(lc), now, values, isnull);
		cs_table_insert(table, values, isnull);
	}
	cs_table_close(table);
}
