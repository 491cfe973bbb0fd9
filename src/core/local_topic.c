/*
 * core/local_topic.c
 *	  Writing the built-in local topic of streams without brokers.
 *
 * Offsets come from local_partition, by an UPDATE that locks the row: not
 * from a sequence, whose numbers become visible out of order.  produce() is
 * called once a message, so its statements are planned once a session.
 */
#include "core/local_topic.h"

#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A statement that is planned at its first use and kept. */
typedef struct Statement
{
	const char *text;
	int			nargs;
	Oid			types[6];
	SPIPlanPtr	plan;
} Statement;

static Statement find_stream = {
	"SELECT stream_id, owner::pg_catalog.oid, brokers IS NULL, retention FROM clickstream.stream WHERE name = $1",
	1,
	{TEXTOID},
	NULL};

static Statement next_offset = {
	"INSERT INTO clickstream.local_partition AS p (stream_id, partition, next_offset) VALUES ($1, $2, 1) "
	"ON CONFLICT (stream_id, partition) DO UPDATE SET next_offset = p.next_offset + 1 RETURNING next_offset - 1",
	2,
	{INT4OID, INT4OID},
	NULL};

static Statement insert_message = {
	"INSERT INTO clickstream.local_message (stream_id, partition, message_offset, message_key, payload, "
	"message_timestamp) VALUES ($1, $2, $3, $4, $5, $6)",
	6,
	{INT4OID, INT4OID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
	NULL};

/*
 * From the front only, so that what is kept is one range: up to the first
 * message that was not consumed or is young enough.
 */
static Statement trim_messages = {
	"WITH bound AS ("
	"  SELECT l.partition, least(p.next_offset, coalesce((SELECT min(m.message_offset)"
	"    FROM clickstream.local_message m WHERE m.stream_id = $1 AND m.partition = l.partition"
	"    AND m.message_timestamp >= $2), l.next_offset)) AS upto"
	"  FROM clickstream.local_partition l JOIN clickstream.stream s USING (stream_id)"
	"  JOIN clickstream.partition p ON p.stream_id = $1 AND p.topic = s.topic AND p.partition = l.partition"
	"  WHERE l.stream_id = $1), "
	"moved AS ("
	"  UPDATE clickstream.local_partition l SET first_offset = b.upto FROM bound b"
	"  WHERE l.stream_id = $1 AND l.partition = b.partition AND l.first_offset < b.upto) "
	"DELETE FROM clickstream.local_message m USING bound b "
	"WHERE m.stream_id = $1 AND m.partition = b.partition AND m.message_offset < b.upto",
	2,
	{INT4OID, TIMESTAMPTZOID},
	NULL};

/* Run a statement as the extension's owner, inside of SPI. */
static void
run(Statement *statement, Datum *values, const char *nulls, int expected)
{
	CsIdentity saved;
	int		   result;

	cs_identity_enter(&saved, cs_extension_owner(), true);
	if (statement->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(statement->text, statement->nargs, statement->types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\"", statement->text);
		statement->plan = plan;
	}
	result = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	if (result != expected)
		elog(ERROR, "unexpected result of \"%s\": %s", statement->text, SPI_result_code_string(result));
	cs_identity_leave(&saved);
}

static Datum
result(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

/* The retention of the row found, copied out of SPI's memory. */
static Interval *
found_retention(void)
{
	bool	  isnull;
	Datum	  value = result(4, &isnull);
	Interval *copy;

	if (isnull)
		return NULL;
	copy = SPI_palloc(sizeof(Interval));
	*copy = *DatumGetIntervalP(value);
	return copy;
}

CsLocalStream
cs_local_find(const char *name)
{
	CsLocalStream stream;
	Datum		  value = CStringGetTextDatum(name);
	bool		  isnull;

	SPI_connect();
	run(&find_stream, &value, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("stream \"%s\" does not exist", name)));
	if (!DatumGetBool(result(3, &isnull)))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("stream \"%s\" has no local topic", name),
						errdetail("It reads its messages from a broker.")));
	stream.stream_id = DatumGetInt32(result(1, &isnull));
	stream.owner = DatumGetObjectId(result(2, &isnull));
	stream.retention = found_retention();
	SPI_finish();
	return stream;
}

int64
cs_local_append(int32 stream_id, int32 partition, const char *key, const char *payload, TimestampTz timestamp)
{
	Datum values[6] = {Int32GetDatum(stream_id), Int32GetDatum(partition)};
	char  nulls[7] = "      ";
	int64 offset;
	bool  isnull;

	SPI_connect();
	run(&next_offset, values, NULL, SPI_OK_INSERT_RETURNING);
	offset = DatumGetInt64(result(1, &isnull));
	values[2] = Int64GetDatum(offset);
	nulls[3] = key ? ' ' : 'n';
	values[3] = key ? CStringGetTextDatum(key) : (Datum) 0;
	nulls[4] = payload ? ' ' : 'n';
	values[4] = payload ? CStringGetTextDatum(payload) : (Datum) 0;
	values[5] = TimestampTzGetDatum(timestamp);
	run(&insert_message, values, nulls, SPI_OK_INSERT);
	SPI_finish();
	return offset;
}

int64
cs_local_trim(int32 stream_id, TimestampTz before)
{
	Datum values[2] = {Int32GetDatum(stream_id), TimestampTzGetDatum(before)};
	int64 n;

	SPI_connect();
	run(&trim_messages, values, NULL, SPI_OK_DELETE);
	n = SPI_processed;
	SPI_finish();
	return n;
}
