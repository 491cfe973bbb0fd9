/*
 * core/ledger.c
 *	  Offsets, watermarks and the ledger of a stream in its tables.
 *
 * See ledger.h.  Plans are saved for the life of the backend; a change of the
 * tables' definition replans them by PostgreSQL's own means.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "core/ledger.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/*
 * Become the extension's owner and connect; undone by leave().  With a narrow
 * search_path, whatever the caller's is or an owner's trigger has made of it:
 * else his operators would run with the extension owner's rights.
 */
static void
enter(CsIdentity *frame)
{
	cs_identity_enter(frame, cs_extension_owner(), true);
	SPI_connect();
}

static void
leave(const CsIdentity *frame)
{
	SPI_finish();
	cs_identity_leave(frame);
}

static SPIPlanPtr
saved_plan(SPIPlanPtr *plan, const char *sql, int nargs, const Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr p = SPI_prepare(sql, nargs, (Oid *) types);

		if (p == NULL || SPI_keepplan(p) != 0)
			elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
		*plan = p;
	}
	return *plan;
}

static Datum
column(int row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

/* A watermark in a table: NULL is none, infinity is the end. */
static TimestampTz
get_time(int row, int col)
{
	bool  isnull;
	Datum value = column(row, col, &isnull);

	return isnull ? CS_WM_NONE : DatumGetTimestampTz(value);
}

static int64
get_int(int row, int col)
{
	bool isnull;

	return DatumGetInt64(column(row, col, &isnull));
}

static bool
get_bool(int row, int col)
{
	bool isnull;

	return DatumGetBool(column(row, col, &isnull));
}

static void
put_time(Datum *value, char *null, TimestampTz t)
{
	*null = t == CS_WM_NONE ? 'n' : ' ';
	*value = TimestampTzGetDatum(t);
}

/* ---- arrays of numbers: some for each definition ---- */

/* The array in a column as numbers, palloc'd in cxt; *n of them. */
static int64 *
get_numbers(int row, int col, MemoryContext cxt, int *n)
{
	bool	   isnull;
	Datum	   value = column(row, col, &isnull);
	ArrayType *array;
	int64	  *numbers;

	*n = 0;
	if (isnull)
		return NULL;
	array = DatumGetArrayTypeP(value);
	*n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	numbers = MemoryContextAlloc(cxt, Max(*n, 1) * sizeof(int64));
	memcpy(numbers, ARR_DATA_PTR(array), *n * sizeof(int64));
	return numbers;
}

static Datum
numbers_datum(const void *numbers, Size size)
{
	int	   n = (int) (size / sizeof(int64));
	Datum *values = palloc(Max(n, 1) * sizeof(Datum));

	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum(((const int64 *) numbers)[i]);
	return PointerGetDatum(construct_array(values, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* ---- progress ---- */

void
cs_progress_load(int32 stream_id, CsProgressRow *row)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = {INT4OID};
	Datum			  value = Int32GetDatum(stream_id);
	MemoryContext	  caller = CurrentMemoryContext;
	CsIdentity		  frame;
	bool			  isnull;
	Datum			  xid;
	int				  n;

	enter(&frame);
	SPI_execute_plan(saved_plan(&plan,
								"SELECT commit_number, watermark, closed, advanced, finished, log_half::bigint,"
								" log_copied, log_copied_xid, next_set_id, shown, by_definition, state_format::bigint"
								" FROM clickstream.progress"
								" WHERE stream_id = $1",
								1, types),
					 &value, NULL, true, 1);
	if (SPI_processed != 1)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("stream %d does not exist", stream_id)));
	row->commit_number = get_int(0, 1);
	row->watermark = get_time(0, 2);
	row->closed = get_time(0, 3);
	row->advanced = get_time(0, 4);
	row->finished = get_bool(0, 5);
	row->log_half = (int) get_int(0, 6);
	row->log_copied = get_bool(0, 7);
	xid = column(0, 8, &isnull);
	row->log_copied_xid = isnull ? InvalidFullTransactionId : DatumGetFullTransactionId(xid);
	row->next_set_id = get_int(0, 9);
	row->shown = get_time(0, 10);
	row->efforts = (CsEffort *) get_numbers(0, 11, caller, &n);
	row->nefforts = n / (int) (sizeof(CsEffort) / sizeof(int64));
	row->state_format = (int) get_int(0, 12);
	leave(&frame);
}

static void
someone_else(void)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("another process has moved this stream on"),
					errdetail("What is stored is not what this process stored last."),
					errhint("This process starts again from what is stored.")));
}

void
cs_progress_store(int32 stream_id, const CsProgressRow *row)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = {INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT2OID,
								 BOOLOID, XID8OID, INT8OID,		   TIMESTAMPTZOID, INT8ARRAYOID};
	Datum			  values[10];
	char			  nulls[10] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
	CsIdentity		  frame;

	values[0] = Int32GetDatum(stream_id);
	values[1] = Int64GetDatum(row->commit_number);
	put_time(&values[2], &nulls[2], row->watermark);
	put_time(&values[3], &nulls[3], row->closed);
	values[4] = Int16GetDatum((int16) row->log_half);
	values[5] = BoolGetDatum(row->log_copied);
	values[6] = FullTransactionIdGetDatum(row->log_copied_xid);
	nulls[6] = FullTransactionIdIsValid(row->log_copied_xid) ? ' ' : 'n';
	values[7] = Int64GetDatum(row->next_set_id);
	put_time(&values[8], &nulls[8], row->shown);
	values[9] = numbers_datum(row->efforts, row->nefforts * sizeof(CsEffort));
	enter(&frame);
	SPI_execute_plan(saved_plan(&plan,
								"UPDATE clickstream.progress SET commit_number = $2, watermark = $3, closed = $4,"
								" log_half = $5, log_copied = $6, log_copied_xid = $7, next_set_id = $8, shown = $9,"
								" by_definition = $10, committed_at = clock_timestamp()"
								" WHERE stream_id = $1 AND commit_number = $2 - 1",
								10, types),
					 values, nulls, false, 0);
	if (SPI_processed != 1)
		someone_else();
	leave(&frame);
}

TimestampTz
cs_deleted_before(int32 definition_id)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = {INT4OID};
	Datum			  value = Int32GetDatum(definition_id);
	TimestampTz		  before = CS_WM_NONE;
	CsIdentity		  frame;

	enter(&frame);
	/* not read only: what was committed since this transaction began is to be seen */
	SPI_execute_plan(saved_plan(&plan, "SELECT deleted_before FROM clickstream.definition WHERE definition_id = $1", 1,
								types),
					 &value, NULL, false, 1);
	if (SPI_processed == 1)
		before = get_time(0, 1);
	leave(&frame);
	return before;
}

void
cs_control_load(int32 stream_id, CsControl *control)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = {INT4OID};
	Datum			  value = Int32GetDatum(stream_id);
	CsIdentity		  frame;

	memset(control, 0, sizeof(*control));
	enter(&frame);
	SPI_execute_plan(saved_plan(&plan,
								"SELECT s.enabled, s.version::bigint +"
								" CASE WHEN s.brokers IS NOT NULL AND pg_catalog.starts_with(s.topic, '^') THEN"
								" (SELECT count(*) FROM clickstream.stream_topic t WHERE t.stream_id = s.stream_id)"
								" ELSE 0 END, p.advanced, p.finished FROM clickstream.stream s"
								" JOIN clickstream.progress p USING (stream_id) WHERE stream_id = $1",
								1, types),
					 &value, NULL, true, 1);
	if (SPI_processed == 1)
	{
		control->exists = true;
		control->enabled = get_bool(0, 1);
		control->version = (int32) get_int(0, 2);
		control->advanced = get_time(0, 3);
		control->finished = get_bool(0, 4);
	}
	leave(&frame);
}

/* ---- partitions ---- */

static CsPartition *
read_partition(const CsStream *stream, int row, MemoryContext cxt)
{
	CsPartition *p;
	char		*topic = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1);
	int			 index = cs_stream_topic_index(stream, topic);
	int			 n;
	bool		 isnull;

	if (index < 0)
		return NULL; /* a topic that the stream no longer names */
	p = MemoryContextAllocZero(cxt, sizeof(CsPartition));
	p->topic = index;
	p->id = (int32) get_int(row, 2);
	p->next_offset = p->stored_offset = get_int(row, 3);
	p->end_offset = -1;
	(void) column(row, 21, &isnull);
	p->last_end = isnull ? -1 : get_int(row, 21);
	p->max_time = get_time(row, 4);
	p->last_event_time = get_time(row, 5);
	p->idle = p->shown_idle = get_bool(row, 6);
	p->ledger[CS_CLASS_USED] = get_int(row, 7);
	p->ledger[CS_CLASS_FILTERED] = get_int(row, 8);
	p->ledger[CS_CLASS_LATE] = get_int(row, 9);
	p->ledger[CS_CLASS_DUPLICATE] = get_int(row, 10);
	p->ledger[CS_CLASS_DEAD] = get_int(row, 11);
	p->ledger[CS_CLASS_EMPTY] = get_int(row, 12);
	p->ledger[CS_CLASS_SKIPPED] = get_int(row, 13);
	p->last_spoke = get_time(row, 14);
	p->moved_at = get_time(row, 16);
	p->repaired = get_int(row, 17);
	p->paused = get_bool(row, 18);
	(void) column(row, 19, &isnull);
	p->last_offset = isnull ? -1 : get_int(row, 19);
	p->last_checksum = isnull ? 0 : (uint32) get_int(row, 20);
	p->counts = (CsCount *) get_numbers(row, 15, cxt, &n);
	p->ncounts = n / (int) (sizeof(CsCount) / sizeof(int64));
	return p;
}

List *
cs_partitions_load(const CsStream *stream, MemoryContext cxt)
{
	static SPIPlanPtr plan = NULL;
	static const Oid  types[] = {INT4OID};
	Datum			  value = Int32GetDatum(stream->stream_id);
	List			 *result = NIL;
	CsIdentity		  frame;

	enter(&frame);
	SPI_execute_plan(
		saved_plan(
			&plan,
			"SELECT topic, partition::bigint, next_offset, max_time, last_event_time, idle, used,"
			" filtered, late, duplicate, dead, empty, skipped, spoke_at, by_definition, moved_at, repaired, paused,"
			" last_offset, last_checksum, end_offset"
			" FROM clickstream.partition"
			" WHERE stream_id = $1 ORDER BY topic, partition",
			1, types),
		&value, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		CsPartition	 *p = read_partition(stream, (int) i, cxt);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		if (p)
			result = lappend(result, p);
		MemoryContextSwitchTo(old);
	}
	leave(&frame);
	return result;
}

#define INSERT_PARTITION                                                                                  \
	"INSERT INTO clickstream.partition (stream_id, topic, partition, next_offset, end_offset, max_time,"  \
	" last_event_time, idle, used, filtered, late, duplicate, dead, empty, skipped, start_offset,"        \
	" spoke_at, by_definition, moved_at, repaired, paused, last_offset, last_checksum)"                   \
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20," \
	" $21, $22, $23)"
#define UPDATE_PARTITION                                                                                                             \
	"UPDATE clickstream.partition SET next_offset = $4, end_offset = coalesce($5, end_offset), max_time = $6, last_event_time = $7," \
	" idle = $8, used = $9, filtered = $10, late = $11, duplicate = $12, dead = $13, empty = $14, skipped = $15,"                    \
	" spoke_at = $17, by_definition = $18, moved_at = $19, repaired = $20, paused = $21,"                                            \
	" last_offset = $22, last_checksum = $23"                                                                                        \
	" WHERE stream_id = $1 AND topic = $2 AND partition = $3 AND next_offset = $16"

void
cs_partition_store(const CsStream *stream, CsPartition *p)
{
	static SPIPlanPtr	 insert_plan = NULL;
	static SPIPlanPtr	 update_plan = NULL;
	static const Oid	 types[] = {INT4OID,		TEXTOID, INT4OID, INT8OID, INT8OID,		   TIMESTAMPTZOID,
									TIMESTAMPTZOID, BOOLOID, INT8OID, INT8OID, INT8OID,		   INT8OID,
									INT8OID,		INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8ARRAYOID,
									TIMESTAMPTZOID, INT8OID, BOOLOID, INT8OID, INT8OID};
	static const CsClass order[] = {CS_CLASS_USED, CS_CLASS_FILTERED, CS_CLASS_LATE,   CS_CLASS_DUPLICATE,
									CS_CLASS_DEAD, CS_CLASS_EMPTY,	  CS_CLASS_SKIPPED};
	Datum				 values[23];
	char				 nulls[23];
	CsIdentity			 frame;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int32GetDatum(stream->stream_id);
	values[1] = CStringGetTextDatum(stream->topics[p->topic]);
	values[2] = Int32GetDatum(p->id);
	values[3] = Int64GetDatum(p->next_offset);
	values[4] = Int64GetDatum(p->end_offset);
	nulls[4] = p->end_offset < 0 ? 'n' : ' ';
	put_time(&values[5], &nulls[5], p->max_time);
	put_time(&values[6], &nulls[6], p->last_event_time);
	values[7] = BoolGetDatum(p->shown_idle);
	for (int i = 0; i < (int) lengthof(order); i++)
		values[8 + i] = Int64GetDatum(p->ledger[order[i]]);
	values[15] = Int64GetDatum(p->stored_offset);
	put_time(&values[16], &nulls[16], p->last_spoke);
	values[17] = numbers_datum(p->counts, p->ncounts * sizeof(CsCount));
	put_time(&values[18], &nulls[18], p->moved_at);
	values[19] = Int64GetDatum(p->repaired);
	values[20] = BoolGetDatum(p->paused);
	values[21] = Int64GetDatum(p->last_offset);
	values[22] = Int64GetDatum(p->last_checksum);
	nulls[21] = nulls[22] = p->last_offset < 0 ? 'n' : ' ';
	enter(&frame);
	SPI_execute_plan(p->is_new ? saved_plan(&insert_plan, INSERT_PARTITION, 23, types)
							   : saved_plan(&update_plan, UPDATE_PARTITION, 23, types),
					 values, nulls, false, 0);
	if (SPI_processed != 1)
		someone_else();
	leave(&frame);
}
