/*
 * sink/source_rows.c
 *	  Reading result tables back; see source_rows.h.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "core/ddl.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "sink/source_rows.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* All columns, each under its number: one that was dropped leaves a NULL. */
static char *
column_list(Oid table)
{
	StringInfoData list;
	Relation	   rel = table_open(table, AccessShareLock);

	initStringInfo(&list);
	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "",
						 att->attisdropped ? "NULL" : quote_identifier(NameStr(att->attname)));
	}
	table_close(rel, NoLock);
	return list.data;
}

void
cs_source_rows(Oid table, const char *column, TimestampTz start, TimestampTz end,
			   void (*row)(TupleTableSlot *row, void *arg), void *arg)
{
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2] = {TimestampTzGetDatum(start), TimestampTzGetDatum(end)};
	const char *name = quote_identifier(column);
	char	   *sql = psprintf("SELECT %s FROM %s WHERE %s OPERATOR(pg_catalog.>=) $1 AND %s OPERATOR(pg_catalog.<) $2"
									 " AND closed_reason IS NOT NULL",
							   column_list(table), cs_relation_name(table), name, name);
	MemoryContext context = CurrentMemoryContext;

	SPI_connect();
	if (SPI_execute_with_args(sql, 2, types, values, NULL, false, 0) == SPI_OK_SELECT && SPI_processed > 0)
	{
		TupleTableSlot *slot = MakeSingleTupleTableSlot(SPI_tuptable->tupdesc, &TTSOpsHeapTuple);
		MemoryContext	spi = MemoryContextSwitchTo(context);

		for (uint64 i = 0; i < SPI_processed; i++)
		{
			ExecStoreHeapTuple(SPI_tuptable->vals[i], slot, false);
			row(slot, arg);
		}
		MemoryContextSwitchTo(spi);
		ExecDropSingleTupleTableSlot(slot);
	}
	SPI_finish();
}

void
cs_rollup_revisions(Oid table, TimestampTz window_start, void (*row)(Datum group_key, int32 revision, void *arg),
					void *arg)
{
	Oid			  types[1] = {TIMESTAMPTZOID};
	Datum		  values[1] = {TimestampTzGetDatum(window_start)};
	char		 *sql = psprintf("SELECT group_key, revision FROM %s WHERE window_start OPERATOR(pg_catalog.=) $1",
								 cs_relation_name(table));
	MemoryContext context = CurrentMemoryContext;

	SPI_connect();
	if (SPI_execute_with_args(sql, 1, types, values, NULL, false, 0) == SPI_OK_SELECT)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool  isnull;
			Datum key = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
			int32 revision = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));

			row(key, revision, arg);
		}
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
}
