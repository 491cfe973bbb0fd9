/*
 * core/sink.c
 *	  Catalog of sinks, and their outbox; see sink.h.
 */
#include "core/sink.h"

#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* From begin to end: the owner's identity, and where results go. */
typedef struct Scope
{
	CsIdentity	  identity;
	MemoryContext caller;
} Scope;

static void
begin(Scope *scope)
{
	scope->caller = CurrentMemoryContext;
	cs_identity_enter(&scope->identity, cs_extension_owner(), true);
	SPI_connect();
}

static void
end(Scope *scope)
{
	SPI_finish();
	cs_identity_leave(&scope->identity);
}

static void
run(const char *query, int nargs, Oid *types, Datum *values)
{
	int rc = SPI_execute_with_args(query, nargs, types, values, NULL, false, 0);

	if (rc < 0)
		elog(ERROR, "query on sinks failed: %s", SPI_result_code_string(rc));
}

static Datum
cell(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

static char *
text_cell(uint64 row, int column, MemoryContext cxt)
{
	bool  isnull;
	Datum value = cell(row, column, &isnull);

	return isnull ? NULL : MemoryContextStrdup(cxt, TextDatumGetCString(value));
}

/* ---- the catalog ---- */

#define SINKS                                                                                                                  \
	"SELECT k.sink_id, k.stream_id, k.definition_id, k.name, k.topic, coalesce(k.brokers, s.brokers),"                         \
	" coalesce(k.options, CASE WHEN k.brokers IS NULL THEN s.options END), k.final_only, k.transactional,"                     \
	" k.enabled, k.outbox_limit, k.producer_id::pg_catalog.text"                                                               \
	" FROM clickstream.sink k JOIN clickstream.stream s USING (stream_id) JOIN clickstream.definition d USING (definition_id)" \
	" WHERE "

static CsSink *
read_sink(uint64 row, MemoryContext cxt)
{
	CsSink *sink = MemoryContextAllocZero(cxt, sizeof(CsSink));
	bool	isnull;
	Datum	options;

	sink->sink_id = DatumGetInt32(cell(row, 1, &isnull));
	sink->stream_id = DatumGetInt32(cell(row, 2, &isnull));
	sink->definition_id = DatumGetInt32(cell(row, 3, &isnull));
	sink->name = text_cell(row, 4, cxt);
	sink->topic = text_cell(row, 5, cxt);
	sink->brokers = text_cell(row, 6, cxt);
	options = cell(row, 7, &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		sink->options = DatumGetJsonbPCopy(options);
		MemoryContextSwitchTo(old);
	}
	sink->final_only = DatumGetBool(cell(row, 8, &isnull));
	sink->transactional = DatumGetBool(cell(row, 9, &isnull));
	sink->enabled = DatumGetBool(cell(row, 10, &isnull));
	sink->outbox_limit = DatumGetInt64(cell(row, 11, &isnull));
	sink->producer_id = text_cell(row, 12, cxt);
	return sink;
}

static List *
load(const char *condition, Oid type, Datum value, MemoryContext cxt)
{
	Scope		  scope;
	List		 *result = NIL;
	MemoryContext spi;

	begin(&scope);
	run(psprintf(SINKS "%s ORDER BY k.sink_id", condition), 1, &type, &value);
	spi = MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < SPI_processed; i++)
		result = lappend(result, read_sink(i, cxt));
	MemoryContextSwitchTo(spi);
	end(&scope);
	return result;
}

List *
cs_sinks_load(int32 stream_id, MemoryContext cxt)
{
	return load("k.stream_id = $1", INT4OID, Int32GetDatum(stream_id), cxt);
}

CsSink *
cs_sink_find(const char *name, MemoryContext cxt)
{
	List *found = load("k.name = $1", TEXTOID, CStringGetTextDatum(name), cxt);

	return found == NIL ? NULL : linitial(found);
}

#define HAS_TABLE " EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = "

CsSink *
cs_sink_load(int32 sink_id, MemoryContext cxt)
{
	List *found = load("k.sink_id = $1 AND" HAS_TABLE "d.table_oid)", INT4OID, Int32GetDatum(sink_id), cxt);

	return found == NIL ? NULL : linitial(found);
}

Jsonb *
cs_stream_options(int32 stream_id)
{
	Oid	   type = INT4OID;
	Datum  value = Int32GetDatum(stream_id);
	Jsonb *result = NULL;
	Scope  scope;

	begin(&scope);
	run("SELECT options FROM clickstream.stream WHERE stream_id = $1 AND options IS NOT NULL", 1, &type, &value);
	if (SPI_processed == 1)
	{
		bool		  isnull;
		Datum		  options = cell(0, 1, &isnull);
		MemoryContext spi = MemoryContextSwitchTo(scope.caller);

		result = DatumGetJsonbPCopy(options);
		MemoryContextSwitchTo(spi);
	}
	end(&scope);
	return result;
}

#define AT_HOME                                                                                          \
	" FROM clickstream.sink k JOIN clickstream.stream s USING (stream_id) JOIN clickstream.definition e" \
	" USING (definition_id) JOIN clickstream.stream_home h ON h.stream_id = k.stream_id"                 \
	" JOIN pg_catalog.pg_database d ON d.oid = h.database_oid"                                           \
	" WHERE k.enabled AND d.datname = pg_catalog.current_database() AND" HAS_TABLE "e.table_oid)"

List *
cs_sinks_enabled(int32 stream_id)
{
	Oid	  type = INT4OID;
	Datum value = Int32GetDatum(stream_id);
	List *result = NIL;
	Scope scope;

	begin(&scope);
	run("SELECT k.sink_id" AT_HOME " AND ($1 = 0 OR k.stream_id = $1) ORDER BY k.sink_id", 1, &type, &value);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		  isnull;
		MemoryContext spi = MemoryContextSwitchTo(scope.caller);

		result = lappend_int(result, DatumGetInt32(cell(i, 1, &isnull)));
		MemoryContextSwitchTo(spi);
	}
	end(&scope);
	return result;
}

bool
cs_sink_is_enabled(int32 sink_id, Oid *owner)
{
	Oid	  type = INT4OID;
	Datum value = Int32GetDatum(sink_id);
	bool  enabled;
	Scope scope;

	begin(&scope);
	run("SELECT s.owner::pg_catalog.oid" AT_HOME " AND k.sink_id = $1", 1, &type, &value);
	enabled = SPI_processed == 1;
	if (enabled)
	{
		bool isnull;

		*owner = DatumGetObjectId(cell(0, 1, &isnull));
	}
	end(&scope);
	return enabled;
}

void
cs_sink_begin(int32 sink_id)
{
	CsValue id = cs_value_int("sink_id", sink_id);

	cs_catalog_insert("sink_end", &id, 1);
	cs_catalog_insert("sink_sent", &id, 1);
}

/*
 * sink_end first: a batch that has taken room for its rows is waited for, and a
 * later one finds none to take.  So the next command sees all rows there are.
 */
void
cs_sink_delete(int32 sink_id)
{
	static const char *const tables[] = {"sink_end", "outbox", "sink_sent", "sink"};

	for (int i = 0; i < lengthof(tables); i++)
		cs_catalog_delete(tables[i], "sink_id", sink_id);
}

/* Those whose table somebody has dropped by DROP TABLE. */
#define PRUNE                                                                                               \
	"WITH k AS (DELETE FROM clickstream.sink k WHERE k.stream_id = $1 AND NOT EXISTS"                       \
	" (SELECT FROM clickstream.definition d WHERE d.definition_id = k.definition_id) RETURNING k.sink_id)," \
	" e AS (DELETE FROM clickstream.sink_end e USING k WHERE e.sink_id = k.sink_id),"                       \
	" s AS (DELETE FROM clickstream.sink_sent s USING k WHERE s.sink_id = k.sink_id)"                       \
	" DELETE FROM clickstream.outbox o USING k WHERE o.sink_id = k.sink_id"

void
cs_sinks_prune(int32 stream_id)
{
	Oid	  type = INT4OID;
	Datum value = Int32GetDatum(stream_id);
	Scope scope;

	begin(&scope);
	run(PRUNE, 1, &type, &value);
	end(&scope);
}

#define RESTART                                                                                                 \
	"WITH e AS (UPDATE clickstream.sink_end SET lost = 0, lost_since = NULL, next_position = next_position + 1" \
	" WHERE sink_id = $1 RETURNING next_position),"                                                             \
	" o AS (DELETE FROM clickstream.outbox WHERE sink_id = $1)"                                                 \
	" UPDATE clickstream.sink_sent SET position = e.next_position - 1, token = 0 FROM e WHERE sink_id = $1"

void
cs_sink_reset(int32 sink_id)
{
	Oid	  type = INT4OID;
	Datum value = Int32GetDatum(sink_id);
	Scope scope;

	begin(&scope);
	run(RESTART, 1, &type, &value);
	end(&scope);
}

/* ---- the outbox ---- */

/* Once rows were lost all others are, until reset_sink(): what is in the topic has no gap. */
#define TAKE                                                                                                            \
	"UPDATE clickstream.sink_end e SET"                                                                                 \
	" lost = e.lost + CASE WHEN x.is_full THEN $2 ELSE 0 END,"                                                          \
	" lost_since = CASE WHEN x.is_full THEN coalesce(e.lost_since, $3) END,"                                            \
	" next_position = e.next_position + CASE WHEN x.is_full THEN 0 ELSE $2 END"                                         \
	" FROM (SELECT n.sink_id, n.lost > 0 OR n.next_position - 1 - s.position + $2 > k.outbox_limit AS is_full"          \
	" FROM clickstream.sink_end n JOIN clickstream.sink_sent s USING (sink_id) JOIN clickstream.sink k USING (sink_id)" \
	" WHERE n.sink_id = $1) AS x"                                                                                       \
	" WHERE e.sink_id = x.sink_id RETURNING CASE WHEN x.is_full THEN 0 ELSE e.next_position - $2 END"

int64
cs_outbox_take(int32 sink_id, int64 n, TimestampTz now)
{
	Oid	  types[3] = {INT4OID, INT8OID, TIMESTAMPTZOID};
	Datum values[3] = {Int32GetDatum(sink_id), Int64GetDatum(n), TimestampTzGetDatum(now)};
	int64 first = 0;
	bool  isnull;
	Scope scope;

	begin(&scope);
	run(TAKE, 3, types, values);
	if (SPI_processed == 1)
		first = DatumGetInt64(cell(0, 1, &isnull));
	end(&scope);
	return first;
}

void
cs_sink_position(int32 sink_id, CsSinkPosition *position)
{
	Oid	  type = INT4OID;
	Datum value = Int32GetDatum(sink_id);
	bool  isnull;
	Scope scope;

	begin(&scope);
	run("SELECT e.next_position, s.position, s.token FROM clickstream.sink_end e"
		" JOIN clickstream.sink_sent s USING (sink_id) WHERE sink_id = $1",
		1, &type, &value);
	if (SPI_processed != 1)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the sink was dropped at this moment")));
	position->next = DatumGetInt64(cell(0, 1, &isnull));
	position->sent = DatumGetInt64(cell(0, 2, &isnull));
	position->token = DatumGetInt64(cell(0, 3, &isnull));
	end(&scope);
}

CsOutboxRow *
cs_outbox_read(int32 sink_id, int64 behind, int max, int64 bytes, int *n)
{
	Oid			 types[2] = {INT4OID, INT8OID};
	Datum		 values[2] = {Int32GetDatum(sink_id), Int64GetDatum(behind)};
	CsOutboxRow *rows = palloc(max * sizeof(CsOutboxRow));
	Scope		 scope;
	Portal		 portal;
	bool		 isnull;

	*n = 0;
	begin(&scope);
	portal = SPI_cursor_open_with_args(NULL,
									   "SELECT position, token, key, value FROM clickstream.outbox"
									   " WHERE sink_id = $1 AND position > $2 ORDER BY position",
									   2, types, values, NULL, true, CURSOR_OPT_NO_SCROLL);
	while (*n < max && bytes > 0)
	{
		SPI_cursor_fetch(portal, true, Min(max - *n, 100));
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed && bytes > 0; i++)
		{
			CsOutboxRow *row = &rows[(*n)++];

			row->sink_id = sink_id;
			row->position = DatumGetInt64(cell(i, 1, &isnull));
			row->token = DatumGetInt64(cell(i, 2, &isnull));
			row->key = text_cell(i, 3, scope.caller);
			row->value = text_cell(i, 4, scope.caller);
			bytes -= (int64) (strlen(row->key) + (row->value ? strlen(row->value) : 0));
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	end(&scope);
	return rows;
}

bool
cs_outbox_token(int32 sink_id, int64 position, int64 *token)
{
	Oid	  types[2] = {INT4OID, INT8OID};
	Datum values[2] = {Int32GetDatum(sink_id), Int64GetDatum(position)};
	bool  found;
	bool  isnull;
	Scope scope;

	begin(&scope);
	run("SELECT token FROM clickstream.outbox WHERE sink_id = $1 AND position = $2", 2, types, values);
	found = SPI_processed == 1;
	if (found)
		*token = DatumGetInt64(cell(0, 1, &isnull));
	end(&scope);
	return found;
}

#define SENT                                                                           \
	"WITH d AS (DELETE FROM clickstream.outbox WHERE sink_id = $1 AND position <= $2)" \
	" UPDATE clickstream.sink_sent SET position = $2, token = $3, sent_at = $4 WHERE sink_id = $1"

void
cs_outbox_sent(int32 sink_id, int64 position, int64 token, TimestampTz now)
{
	Oid	  types[4] = {INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum values[4] = {Int32GetDatum(sink_id), Int64GetDatum(position), Int64GetDatum(token), TimestampTzGetDatum(now)};
	Scope scope;

	begin(&scope);
	run(SENT, 4, types, values);
	end(&scope);
}
