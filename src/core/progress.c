/*
 * core/progress.c
 *	  Short queries over stream, partition and progress, as the extension's
 *	  owner (catalog.h says how).
 */
#include "core/progress.h"

#include "core/catalog.h"
#include "core/definition.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* From begin to end: the owner's identity, and where results go. */
typedef struct OwnScope
{
	CsIdentity	  identity;
	MemoryContext caller;
} OwnScope;

static void
own_begin(OwnScope *scope)
{
	scope->caller = CurrentMemoryContext;
	cs_identity_enter(&scope->identity, cs_extension_owner(), true);
	SPI_connect();
}

static void
own_end(OwnScope *scope)
{
	SPI_finish();
	cs_identity_leave(&scope->identity);
}

/* One query with up to two parameters: $1 the stream, $2 a time. */
static void
own_query(const char *query, int nargs, int32 stream_id, TimestampTz time, bool read_only)
{
	Oid	  types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum values[2] = {Int32GetDatum(stream_id), TimestampTzGetDatum(time)};
	int	  rc = SPI_execute_with_args(query, nargs, types, values, NULL, read_only, 0);

	if (rc < 0)
		elog(ERROR, "query on the catalog failed: %s", SPI_result_code_string(rc));
}

/* Column of row i of the result. */
static Datum
cell(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

List *
cs_enabled_streams(void)
{
	OwnScope scope;
	List	*list = NIL;

	own_begin(&scope);
	own_query("SELECT s.stream_id FROM clickstream.stream s JOIN clickstream.stream_home h USING (stream_id)"
			  " JOIN pg_catalog.pg_database d ON d.oid = h.database_oid"
			  " WHERE s.enabled AND d.datname = pg_catalog.current_database() ORDER BY s.stream_id",
			  0, 0, 0, false);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		  isnull;
		int32		  id = DatumGetInt32(cell(i, 1, &isnull));
		MemoryContext spi = MemoryContextSwitchTo(scope.caller);

		list = lappend_int(list, id);
		MemoryContextSwitchTo(spi);
	}
	own_end(&scope);
	return list;
}

bool
cs_stream_is_enabled(int32 stream_id, Oid *owner)
{
	OwnScope scope;
	bool	 enabled = false;

	own_begin(&scope);
	own_query(
		"SELECT s.owner::pg_catalog.oid, s.enabled AND d.oid IS NOT NULL"
		" FROM clickstream.stream s LEFT JOIN clickstream.stream_home h USING (stream_id)"
		" LEFT JOIN pg_catalog.pg_database d ON d.oid = h.database_oid AND d.datname = pg_catalog.current_database()"
		" WHERE s.stream_id = $1",
		1, stream_id, 0, false);
	if (SPI_processed == 1)
	{
		bool isnull;

		*owner = DatumGetObjectId(cell(0, 1, &isnull));
		enabled = DatumGetBool(cell(0, 2, &isnull));
	}
	own_end(&scope);
	return enabled;
}

void
cs_progress_finish(int32 stream_id)
{
	OwnScope scope;

	own_begin(&scope);
	own_query("INSERT INTO clickstream.progress (stream_id, finished) VALUES ($1, true)"
			  " ON CONFLICT (stream_id) DO UPDATE SET finished = true",
			  1, stream_id, 0, false);
	own_end(&scope);
}

bool
cs_progress_is_closed(int32 stream_id)
{
	OwnScope scope;
	bool	 closed;

	own_begin(&scope);
	PushActiveSnapshot(GetLatestSnapshot());
	own_query("SELECT FROM clickstream.progress g WHERE g.stream_id = $1 AND g.finished AND g.closed = 'infinity'", 1,
			  stream_id, 0, true);
	PopActiveSnapshot();
	closed = SPI_processed > 0;
	own_end(&scope);
	return closed;
}

void
cs_progress_advance(int32 stream_id, const char *stream, TimestampTz watermark)
{
	OwnScope scope;
	bool	 done;

	own_begin(&scope);
	own_query("INSERT INTO clickstream.progress AS g (stream_id, advanced) VALUES ($1, $2)"
			  " ON CONFLICT (stream_id) DO UPDATE SET advanced = excluded.advanced"
			  " WHERE NOT g.finished AND (g.advanced IS NULL OR g.advanced <= excluded.advanced)"
			  " AND (g.watermark IS NULL OR g.watermark <= excluded.advanced)",
			  2, stream_id, watermark, false);
	done = SPI_processed == 1;
	own_end(&scope);
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot move the watermark of stream \"%s\" back to %s", stream, timestamptz_to_str(watermark)),
				 errdetail("A watermark never goes back: what it has passed is closed."),
				 errhint("SELECT watermark FROM clickstream.stat_stream shows where it is.")));
}

CsPosition *
cs_positions(int32 stream_id, int *n)
{
	OwnScope	scope;
	CsPosition *positions;

	own_begin(&scope);
	PushActiveSnapshot(GetLatestSnapshot());
	own_query("SELECT p.topic, p.partition, p.next_offset FROM clickstream.partition p WHERE p.stream_id = $1", 1,
			  stream_id, 0, true);
	PopActiveSnapshot();
	*n = (int) SPI_processed;
	positions = MemoryContextAlloc(scope.caller, sizeof(CsPosition) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		bool isnull;

		positions[i].topic = MemoryContextStrdup(scope.caller, TextDatumGetCString(cell(i, 1, &isnull)));
		positions[i].partition = DatumGetInt32(cell(i, 2, &isnull));
		positions[i].next_offset = DatumGetInt64(cell(i, 3, &isnull));
	}
	own_end(&scope);
	return positions;
}
