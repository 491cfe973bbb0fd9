/*
 * core/local_topic.c
 *	  Writing the built-in local topic of streams without brokers.
 *
 * Offsets come from local_partition, whose row a transaction locks with its
 * first message: not from a sequence, whose numbers become visible out of
 * order.  From then on the transaction counts by itself and stores the count
 * just before it commits; one UPDATE a message would make each slower than
 * the one before, since versions of a row cannot go before its transaction.
 * A subtransaction that rolls back may take messages and the lock with it, so
 * then we lock and count anew, unless nothing is left that was written.
 * Statements are planned once a session.
 */
#include "core/local_topic.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Where this transaction is in a partition. */
typedef struct Cursor
{
	int32			 stream_id;
	int32			 partition;
	bool			 locked; /* else next must be asked for again */
	int64			 next;
	SubTransactionId first; /* the outermost one that has written, or was to */
	struct Cursor	*other;
} Cursor;

/* In the top transaction's memory. */
static Cursor *cursors = NULL;

/* A statement that is planned at its first use and kept. */
typedef struct Statement
{
	const char *text;
	int			nargs;
	Oid			types[7];
	SPIPlanPtr	plan;
} Statement;

static Statement find_stream = {
	"SELECT stream_id, owner::pg_catalog.oid, brokers IS NULL, retention FROM clickstream.stream WHERE name = $1",
	1,
	{TEXTOID},
	NULL};

static Statement add_partition = {
	"INSERT INTO clickstream.local_partition (stream_id, partition) VALUES ($1, $2) ON CONFLICT DO NOTHING",
	2,
	{INT4OID, INT4OID},
	NULL};

/* What others wrote shows in next_offset; what this transaction did so far, in its messages. */
static Statement lock_partition = {
	"SELECT greatest(p.next_offset, (SELECT max(m.message_offset) + 1 FROM clickstream.local_message m "
	"WHERE m.stream_id = $1 AND m.partition = $2)) "
	"FROM clickstream.local_partition p WHERE p.stream_id = $1 AND p.partition = $2 FOR UPDATE",
	2,
	{INT4OID, INT4OID},
	NULL};

static Statement store_offset = {"UPDATE clickstream.local_partition SET next_offset = $3 "
								 "WHERE stream_id = $1 AND partition = $2 AND next_offset < $3",
								 3,
								 {INT4OID, INT4OID, INT8OID},
								 NULL};

static Statement insert_message = {
	"INSERT INTO clickstream.local_message (stream_id, partition, message_offset, message_key, payload, "
	"message_timestamp, headers) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	7,
	{INT4OID, INT4OID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, JSONBOID},
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

/* Lock the cursor's partition and see where it is, inside of SPI; false if there is none. */
static bool
cursor_lock(Cursor *cursor)
{
	Datum values[2] = {Int32GetDatum(cursor->stream_id), Int32GetDatum(cursor->partition)};
	bool  isnull;

	run(&lock_partition, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return false;
	cursor->next = DatumGetInt64(result(1, &isnull));
	cursor->locked = true;
	return true;
}

/* The same, with a new partition where there is none. */
static void
cursor_begin(Cursor *cursor)
{
	Datum values[2] = {Int32GetDatum(cursor->stream_id), Int32GetDatum(cursor->partition)};

	if (cursor_lock(cursor))
		return;
	run(&add_partition, values, NULL, SPI_OK_INSERT);
	if (!cursor_lock(cursor))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("stream with id %d was dropped", cursor->stream_id)));
}

static Cursor *
cursor_find(int32 stream_id, int32 partition)
{
	Cursor *cursor;

	for (cursor = cursors; cursor; cursor = cursor->other)
		if (cursor->stream_id == stream_id && cursor->partition == partition)
			return cursor;
	cursor = MemoryContextAllocZero(TopTransactionContext, sizeof(Cursor));
	cursor->stream_id = stream_id;
	cursor->partition = partition;
	cursor->first = GetCurrentSubTransactionId();
	cursor->other = cursors;
	cursors = cursor;
	return cursor;
}

/* Store the counts: the transaction is about to commit. */
static void
store_cursors(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	for (Cursor *cursor = cursors; cursor; cursor = cursor->other)
	{
		Datum values[3] = {Int32GetDatum(cursor->stream_id), Int32GetDatum(cursor->partition)};

		/* A subtransaction rolled back since: count what is left. */
		if (!cursor->locked && !cursor_lock(cursor))
			continue;
		values[2] = Int64GetDatum(cursor->next);
		run(&store_offset, values, NULL, SPI_OK_UPDATE);
	}
	SPI_finish();
	PopActiveSnapshot();
}

static void
at_transaction(XactEvent event, void *arg)
{
	(void) arg;
	if (cursors == NULL)
		return;
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		store_cursors();
	else
		cursors = NULL;
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	(void) arg;
	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (Cursor **link = &cursors; *link;)
	{
		Cursor *cursor = *link;

		if (event == SUBXACT_EVENT_ABORT_SUB && cursor->first == mine)
		{
			*link = cursor->other;
			continue;
		}
		if (event == SUBXACT_EVENT_ABORT_SUB)
			cursor->locked = false;
		else if (cursor->first == mine)
			cursor->first = parent;
		link = &cursor->other;
	}
}

static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(at_transaction, NULL);
	RegisterSubXactCallback(at_subtransaction, NULL);
	registered = true;
}

int64
cs_local_append(int32 stream_id, int32 partition, const char *key, const char *payload, TimestampTz timestamp,
				Jsonb *headers)
{
	Datum	values[7] = {Int32GetDatum(stream_id), Int32GetDatum(partition)};
	char	nulls[8] = "       ";
	Cursor *cursor;

	register_callbacks();
	SPI_connect();
	cursor = cursor_find(stream_id, partition);
	if (!cursor->locked)
		cursor_begin(cursor);
	values[2] = Int64GetDatum(cursor->next);
	nulls[3] = key ? ' ' : 'n';
	values[3] = key ? CStringGetTextDatum(key) : (Datum) 0;
	nulls[4] = payload ? ' ' : 'n';
	values[4] = payload ? CStringGetTextDatum(payload) : (Datum) 0;
	values[5] = TimestampTzGetDatum(timestamp);
	nulls[6] = headers ? ' ' : 'n';
	values[6] = JsonbPGetDatum(headers);
	run(&insert_message, values, nulls, SPI_OK_INSERT);
	SPI_finish();
	return cursor->next++;
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
