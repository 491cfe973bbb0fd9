/*
 * core/backfill.c
 *	  Definitions that are being filled with history, in our catalog.
 *
 * Who makes one holds the stream's row until it commits, so who drops history
 * locks that row in share before it asks whether any is there.
 */
#include "core/backfill.h"

#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "core/ddl.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static void
run(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls)
{
	CsIdentity frame;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args(sql, nargs, (Oid *) types, (Datum *) values, nulls, false, 0);
	SPI_finish();
	cs_identity_leave(&frame);
}

void
cs_backfill_insert(int32 stream_id, int32 definition_id, int64 total, const CsDefinition *log, TimestampTz from)
{
	static const Oid types[] = {INT4OID, INT4OID, INT8OID, OIDOID, INT4OID, TIMESTAMPTZOID};
	Datum			 values[] = {Int32GetDatum(stream_id),
								 Int32GetDatum(definition_id),
								 Int64GetDatum(total),
								 ObjectIdGetDatum(log ? log->table : InvalidOid),
								 Int32GetDatum(log ? log->definition_id : 0),
								 TimestampTzGetDatum(from)};

	/* What the log has had until now; what it gets from now on is history, too. */
	run("INSERT INTO clickstream.backfill (stream_id, definition_id, total, logged, log_id, from_time) SELECT $1, $2, $3,"
		" (SELECT sum(q.used) FROM clickstream.stat_definition_partition q WHERE q.definition::oid = $4), nullif($5, 0), $6",
		6, types, values, from == CS_WM_NONE ? "     n" : NULL);
}

void
cs_backfill_insert_topic(int32 stream_id, int32 definition_id, TimestampTz from)
{
	static const Oid types[] = {INT4OID, INT4OID, TIMESTAMPTZOID};
	Datum			 values[] = {Int32GetDatum(stream_id), Int32GetDatum(definition_id), TimestampTzGetDatum(from)};

	run("INSERT INTO clickstream.backfill (stream_id, definition_id, from_topic, total, from_time)"
		" VALUES ($1, $2, true, 0, $3)",
		3, types, values, from == CS_WM_NONE ? "  n" : NULL);
}

static TimestampTz
get_time(HeapTuple tuple, TupleDesc desc, int column)
{
	bool  isnull;
	Datum value = SPI_getbinval(tuple, desc, column, &isnull);

	return isnull ? CS_WM_NONE : DatumGetTimestampTz(value);
}

CsBackfillRow *
cs_backfills_load(int32 stream_id, int *n)
{
	MemoryContext  caller = CurrentMemoryContext;
	Oid			   types[] = {INT4OID};
	Datum		   values[] = {Int32GetDatum(stream_id)};
	CsIdentity	   frame;
	CsBackfillRow *rows;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args(
		"SELECT definition_id, commit_number, arrival, watermark, bucket, done, coalesce(log_id, 0),"
		" from_topic, from_time, closing"
		" FROM clickstream.backfill b WHERE stream_id = $1 AND EXISTS (SELECT FROM clickstream.definition d"
		" WHERE d.definition_id = b.definition_id)", /* its table may have been dropped by hand */
		1, types, values, NULL, true, 0);
	*n = (int) SPI_processed;
	rows = MemoryContextAlloc(caller, Max(*n, 1) * sizeof(CsBackfillRow));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool	  isnull;

		rows[i].definition_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		rows[i].mark.commit_number = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
		rows[i].mark.arrival = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
		rows[i].watermark = get_time(tuple, desc, 4);
		rows[i].bucket = get_time(tuple, desc, 5);
		rows[i].done = DatumGetInt64(SPI_getbinval(tuple, desc, 6, &isnull));
		rows[i].log_id = DatumGetInt32(SPI_getbinval(tuple, desc, 7, &isnull));
		rows[i].from_topic = DatumGetBool(SPI_getbinval(tuple, desc, 8, &isnull));
		rows[i].from = get_time(tuple, desc, 9);
		rows[i].closing = get_time(tuple, desc, 10);
	}
	SPI_finish();
	cs_identity_leave(&frame);
	return rows;
}

bool
cs_backfill_exclude(int32 stream_id, bool wait)
{
	int n;

	if (!cs_stream_share(stream_id, wait))
		return false;
	PushActiveSnapshot(GetTransactionSnapshot()); /* sees what we may have waited for */
	pfree(cs_backfills_load(stream_id, &n));
	PopActiveSnapshot();
	return n == 0;
}

void
cs_backfill_store(const CsBackfillRow *row)
{
	static const Oid types[] = {INT4OID, INT8OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID};
	Datum			 values[] = {Int32GetDatum(row->definition_id), Int64GetDatum(row->mark.commit_number),
								 Int32GetDatum(row->mark.arrival),	TimestampTzGetDatum(row->watermark),
								 TimestampTzGetDatum(row->bucket),	Int64GetDatum(row->done),
								 TimestampTzGetDatum(row->closing)};
	char			 nulls[] = "       ";

	nulls[3] = row->watermark == CS_WM_NONE ? 'n' : ' ';
	nulls[4] = row->bucket == CS_WM_NONE ? 'n' : ' ';
	nulls[6] = row->closing == CS_WM_NONE ? 'n' : ' ';
	run("UPDATE clickstream.backfill SET commit_number = $2, arrival = $3, watermark = $4, bucket = $5, done = $6,"
		" closing = $7, begun_at = coalesce(begun_at, now()), moved_at = clock_timestamp() WHERE definition_id = $1",
		7, types, values, nulls);
}

void
cs_backfill_delete(int32 stream_id, int32 definition_id)
{
	static const Oid types[] = {INT4OID, INT4OID};
	Datum			 values[] = {Int32GetDatum(stream_id), Int32GetDatum(definition_id)};

	run("DELETE FROM clickstream.backfill WHERE stream_id = $1 AND $2 IN (0, definition_id)", 2, types, values, NULL);
	run("DELETE FROM clickstream.backfill_partition WHERE stream_id = $1 AND $2 IN (0, definition_id)", 2, types,
		values, NULL);
	run("DELETE FROM clickstream.passed_over WHERE stream_id = $1 AND $2 IN (0, definition_id)", 2, types, values,
		NULL);
}

/* ---- from the topic ---- */

/* Rows of a query about a stream, each an item of size bytes, in the current context; *n of them. */
static void *
load(const char *sql, int nargs, const Datum *values, Size size, bool (*read)(const CsStream *, int row, void *item),
	 const CsStream *stream, int *n)
{
	static const Oid types[] = {INT4OID, INT4OID, TEXTOID, INT8OID, INT8OID};
	MemoryContext	 caller = CurrentMemoryContext;
	CsIdentity		 frame;
	char			*items;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args(sql, nargs, (Oid *) types, (Datum *) values, NULL, true, 0);
	items = MemoryContextAlloc(caller, Max(SPI_processed, 1) * size);
	*n = 0;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		if (read(stream, (int) i, items + *n * size))
			(*n)++;
	}
	SPI_finish();
	cs_identity_leave(&frame);
	return items;
}

static Datum
column(int row, int i, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, i, isnull);
}

static bool
read_place(const CsStream *stream, int row, void *item)
{
	CsBackfillPlace *place = item;
	bool			 isnull;

	place->topic = cs_stream_topic_index(stream, TextDatumGetCString(column(row, 1, &isnull)));
	place->partition = DatumGetInt32(column(row, 2, &isnull));
	place->first_offset = DatumGetInt64(column(row, 3, &isnull));
	place->next_offset = DatumGetInt64(column(row, 4, &isnull));
	place->gone = DatumGetInt64(column(row, 5, &isnull));
	place->max_time = get_time(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 6);
	return place->topic >= 0;
}

CsBackfillPlace *
cs_backfill_places_load(const CsStream *stream, int32 definition_id, int *n)
{
	Datum values[] = {Int32GetDatum(definition_id)};

	return load("SELECT topic, partition, first_offset, next_offset, gone, max_time FROM clickstream.backfill_partition"
				" WHERE definition_id = $1 ORDER BY topic, partition",
				1, values, sizeof(CsBackfillPlace), read_place, stream, n);
}

void
cs_backfill_place_store(const CsStream *stream, int32 definition_id, const CsBackfillPlace *place)
{
	static const Oid types[] = {INT4OID, INT4OID, TEXTOID, INT4OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum			 values[] = {Int32GetDatum(stream->stream_id),
								 Int32GetDatum(definition_id),
								 CStringGetTextDatum(stream->topics[place->topic]),
								 Int32GetDatum(place->partition),
								 Int64GetDatum(place->first_offset),
								 Int64GetDatum(place->next_offset),
								 Int64GetDatum(place->gone),
								 TimestampTzGetDatum(place->max_time)};
	char			 nulls[] = "        ";

	nulls[7] = place->max_time == CS_WM_NONE ? 'n' : ' ';
	run("INSERT INTO clickstream.backfill_partition (stream_id, definition_id, topic, partition, first_offset,"
		" next_offset, gone, max_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
		" ON CONFLICT (definition_id, topic, partition) DO UPDATE SET next_offset = excluded.next_offset,"
		" gone = excluded.gone, max_time = excluded.max_time",
		8, types, values, nulls);
}

static bool
read_passed_over(const CsStream *stream, int row, void *item)
{
	CsPassedOver *range = item;
	bool		  isnull;

	range->topic = cs_stream_topic_index(stream, TextDatumGetCString(column(row, 1, &isnull)));
	range->partition = DatumGetInt32(column(row, 2, &isnull));
	range->first_offset = DatumGetInt64(column(row, 3, &isnull));
	range->next_offset = DatumGetInt64(column(row, 4, &isnull));
	return range->topic >= 0;
}

CsPassedOver *
cs_passed_over_load(const CsStream *stream, int32 definition_id, int *n)
{
	Datum values[] = {Int32GetDatum(stream->stream_id), Int32GetDatum(definition_id)};

	return load("SELECT topic, partition, first_offset, next_offset FROM clickstream.passed_over WHERE stream_id = $1"
				" AND definition_id IN (0, $2) ORDER BY topic, partition, first_offset",
				2, values, sizeof(CsPassedOver), read_passed_over, stream, n);
}

CsPassedOver *
cs_passed_over_letters(const CsStream *stream, const CsPassedOver *among, int *n)
{
	Datum values[] = {Int32GetDatum(stream->stream_id), Int32GetDatum(among->partition),
					  CStringGetTextDatum(stream->topics[among->topic]), Int64GetDatum(among->first_offset),
					  Int64GetDatum(among->next_offset)};

	return load("SELECT topic, partition, message_offset, message_offset + 1 FROM clickstream.dead_letter_data"
				" WHERE stream_id = $1 AND partition = $2 AND topic = $3 AND message_offset >= $4"
				" AND message_offset < $5 AND definition_id IS NULL AND outcome IS NULL",
				5, values, sizeof(CsPassedOver), read_passed_over, stream, n);
}

void
cs_passed_over_insert(const CsStream *stream, int32 definition_id, const CsPassedOver *range)
{
	CsValue values[] = {
		cs_value_int("stream_id", stream->stream_id),		  cs_value_int("definition_id", definition_id),
		cs_value_text("topic", stream->topics[range->topic]), cs_value_int("partition", range->partition),
		cs_value_bigint("first_offset", range->first_offset), cs_value_bigint("next_offset", range->next_offset),
	};

	cs_catalog_insert("passed_over", values, lengthof(values));
}

/* The one value of a query that the owner of the table runs; NULL: *isnull. */
static Datum
ask(const char *sql, int nargs, Oid *types, Datum *values, bool *isnull)
{
	Datum result;

	SPI_connect();
	SPI_execute_with_args(sql, nargs, types, values, NULL, true, 1);
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull); /* by value */
	SPI_finish();
	return result;
}

static int64
count(const char *sql, int nargs, Oid *types, Datum *values, Oid owner)
{
	CsIdentity frame;
	bool	   isnull;
	Datum	   n;

	cs_identity_enter(&frame, owner, true);
	n = ask(sql, nargs, types, values, &isnull);
	cs_identity_leave(&frame);
	return DatumGetInt64(n);
}

int64
cs_backfill_count_rows(Oid table, Oid owner)
{
	return count(psprintf("SELECT pg_catalog.count(*) FROM %s WHERE closed_reason IS NOT NULL",
						  cs_relation_name(table)),
				 0, NULL, NULL, owner);
}

/* Messages of a time or later; without one it is true of all, also those that have none. */
#define OF_TIME "(message_timestamp OPERATOR(pg_catalog.>=) $1 OR $1 OPERATOR(pg_catalog.=) '-infinity')"

int64
cs_backfill_count_events(Oid log, Oid owner, TimestampTz from)
{
	Oid	  types[] = {TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(from)};

	return count(psprintf("SELECT pg_catalog.count(*) FROM %s WHERE " OF_TIME, cs_relation_name(log)), 1, types, values,
				 owner);
}

int64
cs_event_log_first_offset(Oid log, const char *topic, int32 partition, TimestampTz from)
{
	Oid	  types[] = {TIMESTAMPTZOID, TEXTOID, INT4OID};
	Datum values[] = {TimestampTzGetDatum(from), CStringGetTextDatum(topic), Int32GetDatum(partition)};
	bool  isnull;
	Datum offset = ask(psprintf("SELECT pg_catalog.min(message_offset) FROM %s WHERE topic OPERATOR(pg_catalog.=) $2"
								" AND partition OPERATOR(pg_catalog.=) $3 AND " OF_TIME,
								cs_relation_name(log)),
					   3, types, values, &isnull);

	return isnull ? -1 : DatumGetInt64(offset);
}

int64
cs_event_log_first_commit(Oid log, TimestampTz from)
{
	Oid	  types[] = {TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(from)};
	bool  isnull;
	Datum commit = ask(psprintf("SELECT pg_catalog.min(commit_number) FROM %s WHERE " OF_TIME, cs_relation_name(log)),
					   1, types, values, &isnull);

	return isnull ? -1 : DatumGetInt64(commit);
}

TimestampTz
cs_source_next_start(Oid table, const char *column, TimestampTz from)
{
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(from)};
	const char *name = quote_identifier(column);
	bool		isnull;
	Datum		start = ask(psprintf("SELECT pg_catalog.min(%s) FROM %s WHERE %s OPERATOR(pg_catalog.>=) $1"
										   " AND closed_reason IS NOT NULL",
									 name, cs_relation_name(table), name),
							1, types, values, &isnull);

	return isnull ? CS_WM_DONE : DatumGetTimestampTz(start);
}
