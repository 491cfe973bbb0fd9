/*
 * source/local.c
 *	  The built-in local topic: messages that produce() wrote into a table.
 *
 * clickstream.local_message holds the messages, clickstream.local_partition
 * the first offset kept and the next one to be given out.  produce() numbers
 * under a lock that it keeps to the end of its transaction, so the messages of
 * a partition become visible in the order of their offsets: a gap is never a
 * message that is still to come, and reading up to next_offset under one
 * snapshot misses nothing.
 *
 * Everything runs inside the caller's transaction, by index scans on the
 * primary keys, without SPI: the tables are ours and their owner is not asked.
 * Each poll() takes the newest snapshot, not the caller's, which may be old.
 * poll() never waits: nothing could wake it.
 *
 * Locks: AccessShareLock on the two tables, for the time of a call.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "source/source.h"

/* An assigned partition. */
typedef struct LocalPartition
{
	CsPartition *partition;
	int64		 position; /* everything before it was delivered */
} LocalPartition;

typedef struct LocalSource
{
	CsSource		base;
	const CsStream *stream;
	MemoryContext	cxt;
	MemoryContext	messages; /* what poll() delivered, until release() */
	LocalPartition *partitions;
	int				npartitions;
	int				turn; /* partition that the next poll() begins with */
} LocalSource;

/* One of the two tables, open. */
typedef struct LocalTable
{
	Relation heap;
	Relation index; /* of the primary key */
	Snapshot snapshot;
} LocalTable;

/* Columns of local_partition that we read. */
typedef struct LocalRange
{
	int32 id;
	int64 first_offset;
	int64 next_offset;
} LocalRange;

/* Columns of local_message. */
typedef struct LocalColumns
{
	AttrNumber stream_id;
	AttrNumber partition;
	AttrNumber offset;
	AttrNumber key;
	AttrNumber payload;
	AttrNumber timestamp;
	AttrNumber headers;
} LocalColumns;

/* ---- tables ---- */

static void
open_table(LocalTable *table, const char *name, Snapshot snapshot)
{
	Oid index;

	Assert(IsTransactionState());
	table->heap = table_open(cs_own_relation(name), AccessShareLock);
	/* The list of indexes is read on first use only. */
	list_free(RelationGetIndexList(table->heap));
	index = table->heap->rd_pkindex;
	if (!OidIsValid(index))
		elog(ERROR, "table clickstream.%s has no primary key", name);
	table->index = index_open(index, AccessShareLock);
	table->snapshot = snapshot;
}

static void
close_table(LocalTable *table)
{
	index_close(table->index, AccessShareLock);
	table_close(table->heap, AccessShareLock);
}

static AttrNumber
column(const LocalTable *table, const char *name)
{
	AttrNumber result = get_attnum(RelationGetRelid(table->heap), name);

	if (result == InvalidAttrNumber)
		elog(ERROR, "table %s has no column %s", RelationGetRelationName(table->heap), name);
	return result;
}

/* Value of a column that is never NULL. */
static Datum
get(const LocalTable *table, HeapTuple tuple, AttrNumber attno)
{
	bool  isnull;
	Datum result = heap_getattr(tuple, attno, RelationGetDescr(table->heap), &isnull);

	if (isnull)
		elog(ERROR, "column %d of %s is null", attno, RelationGetRelationName(table->heap));
	return result;
}

static TimestampTz
get_timestamp(const LocalTable *table, HeapTuple tuple, const LocalColumns *columns)
{
	bool  isnull;
	Datum result = heap_getattr(tuple, columns->timestamp, RelationGetDescr(table->heap), &isnull);

	return isnull ? CS_WM_NONE : DatumGetTimestampTz(result);
}

static void
message_columns(const LocalTable *table, LocalColumns *columns)
{
	columns->stream_id = column(table, "stream_id");
	columns->partition = column(table, "partition");
	columns->offset = column(table, "message_offset");
	columns->key = column(table, "message_key");
	columns->payload = column(table, "payload");
	columns->timestamp = column(table, "message_timestamp");
	columns->headers = column(table, "headers");
}

/* Messages of a partition from an offset on, in order. */
static SysScanDesc
scan_messages(const LocalTable *table, const LocalColumns *columns, int32 stream_id, int32 partition, int64 offset)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], columns->stream_id, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(stream_id));
	ScanKeyInit(&keys[1], columns->partition, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(partition));
	ScanKeyInit(&keys[2], columns->offset, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(offset));
	return systable_beginscan_ordered(table->heap, table->index, table->snapshot, 3, keys);
}

/*
 * The stream's partitions and their ranges, under a snapshot, in the current
 * context; *n is their number.
 */
static LocalRange *
read_ranges(const LocalSource *source, Snapshot snapshot, int *n)
{
	LocalTable	table;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int			size = 8;
	LocalRange *result = palloc(sizeof(LocalRange) * size);
	AttrNumber	id;
	AttrNumber	first;
	AttrNumber	next;

	*n = 0;
	open_table(&table, "local_partition", snapshot);
	id = column(&table, "partition");
	first = column(&table, "first_offset");
	next = column(&table, "next_offset");
	ScanKeyInit(&key, column(&table, "stream_id"), BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(source->stream->stream_id));
	scan = systable_beginscan_ordered(table.heap, table.index, snapshot, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		if (*n == size)
			result = repalloc(result, sizeof(LocalRange) * (size *= 2));
		result[*n].id = DatumGetInt32(get(&table, tuple, id));
		result[*n].first_offset = DatumGetInt64(get(&table, tuple, first));
		result[*n].next_offset = DatumGetInt64(get(&table, tuple, next));
		(*n)++;
	}
	systable_endscan_ordered(scan);
	close_table(&table);
	return result;
}

static const LocalRange *
find_range(const LocalRange *ranges, int n, int32 id)
{
	for (int i = 0; i < n; i++)
		if (ranges[i].id == id)
			return &ranges[i];
	return NULL;
}

/* ---- the interface ---- */

static CsSource *
local_open(const CsStream *stream, MemoryContext cxt)
{
	LocalSource *source = MemoryContextAllocZero(cxt, sizeof(LocalSource));

	source->base.ops = &cs_local_source;
	source->stream = stream;
	source->cxt = cxt;
	source->messages = AllocSetContextCreate(cxt, "clickstream local messages", ALLOCSET_DEFAULT_SIZES);
	return &source->base;
}

static CsPartition *
local_list(CsSource *base, int *n, int timeout_ms)
{
	LocalSource *source = (LocalSource *) base;
	Snapshot	 snapshot = RegisterSnapshot(GetLatestSnapshot());
	LocalRange	*ranges = read_ranges(source, snapshot, n);
	CsPartition *result = palloc0(sizeof(CsPartition) * Max(*n, 1));

	(void) timeout_ms;
	UnregisterSnapshot(snapshot);
	for (int i = 0; i < *n; i++)
	{
		result[i].topic = 0;
		result[i].id = ranges[i].id;
		result[i].end_offset = ranges[i].next_offset;
	}
	pfree(ranges);
	return result;
}

/* Offset of the first message at or after the stream's start_time; the end if there is none. */
static int64
offset_for_time(const LocalSource *source, const LocalRange *range, Snapshot snapshot)
{
	LocalTable	 table;
	LocalColumns columns;
	SysScanDesc	 scan;
	HeapTuple	 tuple;
	int64		 result = range->next_offset;

	open_table(&table, "local_message", snapshot);
	message_columns(&table, &columns);
	scan = scan_messages(&table, &columns, source->stream->stream_id, range->id, range->first_offset);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (get_timestamp(&table, tuple, &columns) < source->stream->start_time)
			continue;
		result = DatumGetInt64(get(&table, tuple, columns.offset));
		break;
	}
	systable_endscan_ordered(scan);
	close_table(&table);
	return result;
}

static int64
first_offset(const LocalSource *source, const CsPartition *partition, const LocalRange *range, CsStart start,
			 Snapshot snapshot)
{
	switch (start)
	{
		case CS_START_LATEST:
			return range->next_offset;
		case CS_START_TIMESTAMP:
			return offset_for_time(source, range, snapshot);
		case CS_START_OFFSETS:
			return cs_start_given(source->stream, partition, range->first_offset, range->next_offset);
		case CS_START_EARLIEST:
			break;
	}
	return range->first_offset;
}

static bool
local_start_offset(CsSource *base, CsPartition *partition, bool is_first_time, int timeout_ms)
{
	LocalSource		 *source = (LocalSource *) base;
	Snapshot		  snapshot = RegisterSnapshot(GetLatestSnapshot());
	int				  n;
	LocalRange		 *ranges = read_ranges(source, snapshot, &n);
	const LocalRange *range = find_range(ranges, n, partition->id);

	(void) timeout_ms;
	partition->next_offset = 0;
	if (range)
	{
		partition->next_offset = first_offset(source, partition, range,
											  is_first_time ? source->stream->start_from : CS_START_EARLIEST, snapshot);
		partition->end_offset = range->next_offset;
	}
	UnregisterSnapshot(snapshot);
	pfree(ranges);
	return true;
}

static void
local_release(CsSource *base)
{
	MemoryContextReset(((LocalSource *) base)->messages);
}

static void
local_assign(CsSource *base, CsPartition **partitions, int n)
{
	LocalSource *source = (LocalSource *) base;

	local_release(base);
	if (source->partitions)
		pfree(source->partitions);
	source->npartitions = 0;
	source->partitions = MemoryContextAllocZero(source->cxt, sizeof(LocalPartition) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		partitions[i]->at_end = false;
		source->partitions[i].partition = partitions[i];
		source->partitions[i].position = partitions[i]->next_offset;
	}
	source->npartitions = n;
	source->turn = 0;
}

/*
 * Bytes of a column that may be NULL, copied; text in UTF-8, as a message
 * from Kafka would be.
 */
static const char *
copy_bytes(const LocalTable *table, HeapTuple tuple, AttrNumber attno, size_t *length)
{
	TupleDesc		desc = RelationGetDescr(table->heap);
	bool			isnull;
	Datum			datum = heap_getattr(tuple, attno, desc, &isnull);
	struct varlena *value;
	char		   *bytes;

	*length = 0;
	if (isnull)
		return NULL;
	value = PG_DETOAST_DATUM_COPY(datum);
	bytes = VARDATA(value);
	*length = VARSIZE(value) - VARHDRSZ;
	if (TupleDescAttr(desc, attno - 1)->atttypid == TEXTOID && GetDatabaseEncoding() != PG_UTF8)
	{
		char *converted = pg_server_to_any(bytes, (int) *length, PG_UTF8);

		/* Converted text is a string; what needed no conversion is not ended by a zero byte. */
		if (converted != bytes)
			*length = strlen(converted);
		bytes = converted;
	}
	return bytes;
}

/* NULL if there are none, as with nearly all. */
static Jsonb *
copy_headers(const LocalTable *table, HeapTuple tuple, AttrNumber attno)
{
	bool  isnull;
	Datum headers = heap_getattr(tuple, attno, RelationGetDescr(table->heap), &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(headers);
}

static void
fill_message(const LocalTable *table, const LocalColumns *columns, HeapTuple tuple, CsPartition *partition,
			 CsMessage *message)
{
	message->partition = partition;
	message->offset = DatumGetInt64(get(table, tuple, columns->offset));
	message->timestamp = get_timestamp(table, tuple, columns);
	message->payload = copy_bytes(table, tuple, columns->payload, &message->payload_len);
	message->key = copy_bytes(table, tuple, columns->key, &message->key_len);
	message->foreign = copy_headers(table, tuple, columns->headers);
}

/*
 * Up to max messages of one partition.  Fewer than max: there are no more
 * under this snapshot.
 */
static int
read_partition(LocalSource *source, const LocalTable *table, const LocalColumns *columns, LocalPartition *p,
			   CsMessage *messages, int max)
{
	MemoryContext caller = CurrentMemoryContext;
	SysScanDesc	  scan = scan_messages(table, columns, source->stream->stream_id, p->partition->id, p->position);
	HeapTuple	  tuple;
	int			  n = 0;

	while (n < max && (tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(source->messages);
		fill_message(table, columns, tuple, p->partition, &messages[n]);
		MemoryContextSwitchTo(caller);
		p->position = messages[n].offset + 1;
		n++;
	}
	systable_endscan_ordered(scan);
	return n;
}

/*
 * Compare where we stand with what there is.  Messages that retention took
 * before they were read, or a topic that begins anew, are never jumped over.
 */
static void
check_range(const LocalSource *source, LocalPartition *p, const LocalRange *range)
{
	if (range && p->position >= range->first_offset && p->position <= range->next_offset)
		return;
	if (range == NULL && p->position == 0)
		return;
	if (range == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("partition %d of the local topic \"%s\" is gone", p->partition->id, source->stream->name),
				 errhint("Use clickstream.reset() to begin again.")));
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("offset %lld of the local topic \"%s\", partition %d, is not there", (long long) p->position,
						   source->stream->name, p->partition->id),
					errdetail("The topic holds offsets from %lld up to, not including, %lld.",
							  (long long) range->first_offset, (long long) range->next_offset),
					errhint("Use clickstream.reset() to begin again from an offset that exists.")));
}

static void
check_ranges(LocalSource *source, Snapshot snapshot)
{
	int			n;
	LocalRange *ranges = read_ranges(source, snapshot, &n);

	for (int i = 0; i < source->npartitions; i++)
	{
		LocalPartition	 *p = &source->partitions[i];
		const LocalRange *range = find_range(ranges, n, p->partition->id);

		check_range(source, p, range);
		p->partition->end_offset = range ? range->next_offset : 0;
		p->partition->at_end = p->position >= p->partition->end_offset && !p->partition->paused;
	}
	pfree(ranges);
}

static bool
is_open(const LocalPartition *p)
{
	return !p->partition->at_end && !p->partition->paused;
}

/*
 * One round over the partitions that have more, each getting its share of
 * what is left, so that none runs far ahead of the others.
 */
static int
read_round(LocalSource *source, const LocalTable *table, const LocalColumns *columns, CsMessage *messages, int max)
{
	int open = 0;
	int n = 0;
	int share;

	for (int i = 0; i < source->npartitions; i++)
		open += is_open(&source->partitions[i]);
	if (open == 0)
		return 0;
	share = Max(max / open, 1);
	for (int i = 0; i < source->npartitions && n < max; i++)
	{
		LocalPartition *p = &source->partitions[(source->turn + i) % source->npartitions];
		int				wanted = Min(share, max - n);
		int				got;

		if (!is_open(p))
			continue;
		got = read_partition(source, table, columns, p, messages + n, wanted);
		n += got;
		if (got < wanted)
			p->position = Max(p->position, p->partition->end_offset);
		p->partition->at_end = p->position >= p->partition->end_offset;
	}
	source->turn = (source->turn + 1) % source->npartitions;
	return n;
}

static int
local_poll(CsSource *base, CsMessage *messages, int max, int timeout_ms)
{
	LocalSource *source = (LocalSource *) base;
	Snapshot	 snapshot = RegisterSnapshot(GetLatestSnapshot());
	LocalTable	 table;
	LocalColumns columns;
	int			 n = 0;
	int			 got;

	(void) timeout_ms;
	check_ranges(source, snapshot);
	open_table(&table, "local_message", snapshot);
	message_columns(&table, &columns);
	while (n < max && (got = read_round(source, &table, &columns, messages + n, max - n)) > 0)
		n += got;
	close_table(&table);
	UnregisterSnapshot(snapshot);
	return n;
}

static int
local_poll_fd(CsSource *base)
{
	(void) base;
	return -1;
}

static Jsonb *
local_headers(CsSource *base, const CsMessage *message, size_t *length)
{
	(void) base;
	*length = message->foreign ? VARSIZE(message->foreign) : 0;
	return message->foreign;
}

static void
local_committed(CsSource *base, CsPartition **partitions, int n)
{
	(void) base;
	(void) partitions;
	(void) n;
}

static const char *
local_problem(CsSource *base)
{
	(void) base;
	return NULL;
}

/* Its flag is all that is looked at. */
static void
local_pause(CsSource *base, CsPartition *partition, bool paused)
{
	(void) base;
	(void) partition;
	(void) paused;
}

static bool
local_is_outdated(CsSource *base)
{
	(void) base;
	return false;
}

static bool
local_keep(CsSource *base)
{
	(void) base;
	return true;
}

static const CsTopicNews *
local_news(CsSource *base)
{
	(void) base;
	return NULL; /* a local stream has one topic */
}

static void
local_remember(CsSource *base, CsPartition **partitions, int n)
{
	(void) base;
	(void) partitions;
	(void) n;
}

const CsSourceOps cs_local_source = {
	.name = "local",
	.open = local_open,
	.remember = local_remember,
	.news = local_news,
	.list = local_list,
	.start_offset = local_start_offset,
	.assign = local_assign,
	.poll = local_poll,
	.pause = local_pause,
	.release = local_release,
	.poll_fd = local_poll_fd,
	.headers = local_headers,
	.committed = local_committed,
	.problem = local_problem,
	.is_outdated = local_is_outdated,
	.keep = local_keep,
};
