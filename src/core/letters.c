/*
 * core/letters.c
 *	  Old dead letters and late events go; those that are applied after all.
 */
#include "core/letters.h"

#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "core/definition.h"
#include "core/types.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

CsLateRow *
cs_late_rows(int32 definition_id, bool applied, int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			  types[2] = {INT4OID, BOOLOID};
	Datum		  values[2] = {Int32GetDatum(definition_id), BoolGetDatum(applied)};
	CsIdentity	  frame;
	CsLateRow	 *rows;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args("SELECT late_event_id, topic, partition, message_offset, event_time"
						  " FROM clickstream.late_event_data WHERE definition_id = $1 AND (applied_at IS NOT NULL) = $2"
						  " ORDER BY event_time, late_event_id",
						  2, types, values, NULL, true, 0);
	*n = (int) SPI_processed;
	rows = MemoryContextAllocHuge(caller, Max(*n, 1) * sizeof(CsLateRow));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool	  isnull;

		rows[i].id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		rows[i].topic = MemoryContextStrdup(caller, TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &isnull)));
		rows[i].partition = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
		rows[i].offset = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
		rows[i].event_time = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 5, &isnull));
	}
	SPI_finish();
	cs_identity_leave(&frame);
	return rows;
}

bool
cs_late_rows_trimmed(int32 definition_id)
{
	Oid		   types[1] = {INT4OID};
	Datum	   values[1] = {Int32GetDatum(definition_id)};
	CsIdentity frame;
	bool	   trimmed;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args("SELECT FROM clickstream.trimmed_letter WHERE definition_id = $1 AND late > 0", 1, types,
						  values, NULL, true, 1);
	trimmed = SPI_processed > 0;
	SPI_finish();
	cs_identity_leave(&frame);
	return trimmed;
}

void
cs_late_rows_applied(const int64 *ids, int n, TimestampTz now)
{
	Oid		   types[2] = {INT8ARRAYOID, TIMESTAMPTZOID};
	Datum	  *elements = palloc(Max(n, 1) * sizeof(Datum));
	Datum	   values[2];
	CsIdentity frame;

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(ids[i]);
	values[0] = PointerGetDatum(construct_array(elements, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = TimestampTzGetDatum(now);
	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args("UPDATE clickstream.late_event_data SET applied_at = $2 WHERE late_event_id = ANY ($1)", 2,
						  types, values, NULL, false, 0);
	SPI_finish();
	cs_identity_leave(&frame);
}

/* A bytea's bytes in a context; NULL stays NULL. */
static char *
copy_bytes(HeapTuple tuple, TupleDesc desc, int column, MemoryContext cxt, size_t *len)
{
	bool			isnull;
	Datum			value = SPI_getbinval(tuple, desc, column, &isnull);
	struct varlena *bytes;
	char		   *copy;

	*len = 0;
	if (isnull)
		return NULL;
	bytes = PG_DETOAST_DATUM_PACKED(value);
	*len = VARSIZE_ANY_EXHDR(bytes);
	copy = MemoryContextAllocHuge(cxt, *len + 1);
	memcpy(copy, VARDATA_ANY(bytes), *len);
	return copy;
}

#define LETTERS                                                                                           \
	"SELECT d.dead_letter_id, d.topic, d.partition, d.message_offset, d.message_timestamp, d.arrived_at," \
	" d.message_key, coalesce(pg_catalog.convert_to(m.payload, 'UTF8'), d.payload), d.headers"            \
	" FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS m(id, payload)"                    \
	" JOIN clickstream.dead_letter_data d ON d.dead_letter_id OPERATOR(pg_catalog.=) m.id"                \
	" WHERE d.stream_id OPERATOR(pg_catalog.=) $1 AND d.definition_id IS NULL AND d.outcome IS NULL"      \
	" ORDER BY d.topic, d.partition, d.message_offset FOR UPDATE OF d"

static void
read_letter(HeapTuple tuple, TupleDesc desc, MemoryContext cxt, CsLetter *letter)
{
	bool  isnull;
	Datum value;

	memset(letter, 0, sizeof(CsLetter));
	letter->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	letter->topic = MemoryContextStrdup(cxt, TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &isnull)));
	letter->partition = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	letter->offset = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
	value = SPI_getbinval(tuple, desc, 5, &isnull);
	letter->timestamp = isnull ? CS_WM_NONE : DatumGetTimestampTz(value);
	letter->arrived_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 6, &isnull));
	letter->key = copy_bytes(tuple, desc, 7, cxt, &letter->key_len);
	letter->payload = copy_bytes(tuple, desc, 8, cxt, &letter->payload_len);
	value = SPI_getbinval(tuple, desc, 9, &isnull);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		letter->headers = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(old);
	}
}

CsLetter *
cs_letters_load(int32 stream_id, Datum ids, Datum payloads, int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			  types[3] = {INT4OID, INT8ARRAYOID, TEXTARRAYOID};
	Datum		  values[3] = {Int32GetDatum(stream_id), ids, payloads};
	CsIdentity	  frame;
	CsLetter	 *letters;
	int			  found;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args(LETTERS, 3, types, values, NULL, false, 0);
	found = (int) SPI_processed;
	letters = MemoryContextAllocHuge(caller, Max(found, 1) * sizeof(CsLetter));
	*n = 0;
	for (int i = 0; i < found; i++)
	{
		read_letter(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, caller, &letters[*n]);
		if (*n == 0 || letters[*n].id != letters[*n - 1].id) /* a number that was given twice is one letter */
			(*n)++;
	}
	SPI_finish();
	cs_identity_leave(&frame);
	return letters;
}

void
cs_letter_repaired(const CsLetter *letter, const char *outcome, TimestampTz now)
{
	Oid		   types[3] = {INT8OID, TEXTOID, TIMESTAMPTZOID};
	Datum	   values[3] = {Int64GetDatum(letter->id), CStringGetTextDatum(outcome), TimestampTzGetDatum(now)};
	CsIdentity frame;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args("UPDATE clickstream.dead_letter_data SET outcome = $2, retried_at = $3"
						  " WHERE dead_letter_id = $1",
						  3, types, values, NULL, false, 0);
	SPI_finish();
	cs_identity_leave(&frame);
}

void
cs_letter_dead_again(const CsLetter *letter, const char *cause, const char *error, const char *sqlstate,
					 TimestampTz now)
{
	Oid		   types[5] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum	   values[5] = {Int64GetDatum(letter->id), CStringGetTextDatum(cause), CStringGetTextDatum(error),
							CStringGetTextDatum(sqlstate), TimestampTzGetDatum(now)};
	CsIdentity frame;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args("UPDATE clickstream.dead_letter_data"
						  " SET cause = $2, error = $3, sqlstate = $4, retried_at = $5 WHERE dead_letter_id = $1",
						  5, types, values, NULL, false, 0);
	SPI_finish();
	cs_identity_leave(&frame);
}

#define TRIM                                                                                                        \
	"WITH d AS (DELETE FROM clickstream.dead_letter_data l WHERE l.dead_letter_id = ANY (ARRAY("                    \
	"SELECT o.dead_letter_id FROM clickstream.dead_letter_data o WHERE o.stream_id = $1 AND o.arrived_at < $2"      \
	" LIMIT $3)) RETURNING coalesce(l.definition_id, 0) AS definition_id, l.topic, l.partition, 0 AS late,"         \
	" (l.outcome IS NULL)::int AS dead),"                                                                           \
	" e AS (DELETE FROM clickstream.late_event_data l WHERE l.late_event_id = ANY (ARRAY("                          \
	"SELECT o.late_event_id FROM clickstream.late_event_data o WHERE o.stream_id = $1 AND o.arrived_at < $2"        \
	" LIMIT $3)) RETURNING l.definition_id, l.topic, l.partition, (l.applied_at IS NULL)::int AS late, 0 AS dead)," \
	" a AS (SELECT * FROM d UNION ALL SELECT * FROM e),"                                                            \
	" i AS (INSERT INTO clickstream.trimmed_letter AS t (stream_id, definition_id, topic, partition, late, dead)"   \
	" SELECT $1, a.definition_id, a.topic, a.partition, sum(a.late), sum(a.dead) FROM a GROUP BY 2, 3, 4"           \
	" ON CONFLICT (stream_id, definition_id, topic, partition)"                                                     \
	" DO UPDATE SET late = t.late + excluded.late, dead = t.dead + excluded.dead) SELECT count(*) FROM a"

int64
cs_letters_trim(int32 stream_id, TimestampTz before, int64 limit)
{
	Oid		   types[3] = {INT4OID, TIMESTAMPTZOID, INT8OID};
	Datum	   values[3] = {Int32GetDatum(stream_id), TimestampTzGetDatum(before), Int64GetDatum(limit)};
	CsIdentity frame;
	bool	   isnull;
	int64	   n;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	if (SPI_execute_with_args(TRIM, 3, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not trim the letters of stream %d", stream_id);
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	cs_identity_leave(&frame);
	return n;
}
