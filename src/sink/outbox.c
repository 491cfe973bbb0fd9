/*
 * sink/outbox.c
 *	  Rows that sinks are to send, into clickstream.outbox.
 *
 * Written by own_rows.c.
 */
#include "postgres.h"

#include "core/catalog.h"
#include "core/clock.h"
#include "core/sink.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "port.h"
#include "sink/own_rows.h"
#include "sink/sink.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define REFILL_ROWS 1000

static const char *const columns[] = {"sink_id", "position", "token", "key", "value", "written_at"};

static void
fill(const void *item, TimestampTz now, Datum *values, bool *isnull)
{
	const CsOutboxRow *row = item;

	values[0] = Int32GetDatum(row->sink_id);
	values[1] = Int64GetDatum(row->position);
	values[2] = Int64GetDatum(row->token);
	values[3] = CStringGetTextDatum(row->key);
	isnull[4] = row->value == NULL;
	values[4] = row->value ? CStringGetTextDatum(row->value) : (Datum) 0;
	values[5] = TimestampTzGetDatum(now);
}

bool
cs_outbox_write(int32 sink_id, List *rows)
{
	int64	  token;
	int64	  position;
	ListCell *cell;

	if (rows == NIL)
		return false;
	if (!pg_strong_random(&token, sizeof(token)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not make a random number")));
	position = cs_outbox_take(sink_id, list_length(rows), cs_now());
	if (position == 0)
		return false;
	foreach(cell, rows)
	{
		CsOutboxRow *row = lfirst(cell);

		row->sink_id = sink_id;
		row->position = position++;
		row->token = Max(token & PG_INT64_MAX, 1); /* 0 is none */
	}
	cs_own_rows_write("outbox", lengthof(columns), columns, fill, rows);
	return true;
}

/* The next rows of the cursor; NIL: there are no more. */
static List *
fetch(Portal portal, MemoryContext context)
{
	List *rows = NIL;

	SPI_cursor_fetch(portal, true, REFILL_ROWS);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		CsOutboxRow *row = palloc(sizeof(CsOutboxRow));

		row->key = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		row->value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
		rows = lappend(rows, row);
	}
	SPI_freetuptable(SPI_tuptable);
	return rows;
}

int64
cs_outbox_refill(int32 sink_id, const char *query, Oid owner)
{
	MemoryContext context;
	CsIdentity	  frame;
	Portal		  portal;
	List		 *rows;
	int64		  n = 0;

	cs_identity_enter(&frame, owner, true);
	SPI_connect();
	context = AllocSetContextCreate(CurrentMemoryContext, "clickstream outbox", ALLOCSET_DEFAULT_SIZES);
	portal = SPI_cursor_open_with_args(NULL, query, 0, NULL, NULL, NULL, false, CURSOR_OPT_NO_SCROLL);
	while ((rows = fetch(portal, context)) != NIL)
	{
		CHECK_FOR_INTERRUPTS();
		n += list_length(rows);
		if (!cs_outbox_write(sink_id, rows))
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
							errmsg("the table has more rows than outbox_limit lets wait"),
							errhint("Raise outbox_limit, or say backfill => false.")));
		MemoryContextReset(context);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	cs_identity_leave(&frame);
	return n;
}
