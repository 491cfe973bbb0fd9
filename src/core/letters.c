/*
 * core/letters.c
 *	  Old dead letters and late events go.
 */
#include "core/letters.h"

#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "core/definition.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#define TRIM                                                                                                      \
	"WITH d AS (DELETE FROM clickstream.dead_letter_data l WHERE l.stream_id = $1 AND l.arrived_at < $2"          \
	" RETURNING coalesce(l.definition_id, 0) AS definition_id, l.topic, l.partition, 0 AS late, 1 AS dead),"      \
	" e AS (DELETE FROM clickstream.late_event_data l WHERE l.stream_id = $1 AND l.arrived_at < $2"               \
	" RETURNING l.definition_id, l.topic, l.partition, (l.applied_at IS NULL)::int AS late, 0 AS dead),"          \
	" a AS (SELECT * FROM d UNION ALL SELECT * FROM e),"                                                          \
	" i AS (INSERT INTO clickstream.trimmed_letter AS t (stream_id, definition_id, topic, partition, late, dead)" \
	" SELECT $1, a.definition_id, a.topic, a.partition, sum(a.late), sum(a.dead) FROM a GROUP BY 2, 3, 4"         \
	" ON CONFLICT (stream_id, definition_id, topic, partition)"                                                   \
	" DO UPDATE SET late = t.late + excluded.late, dead = t.dead + excluded.dead) SELECT count(*) FROM a"

int64
cs_letters_trim(int32 stream_id, TimestampTz before)
{
	Oid		   types[2] = {INT4OID, TIMESTAMPTZOID};
	Datum	   values[2] = {Int32GetDatum(stream_id), TimestampTzGetDatum(before)};
	CsIdentity frame;
	bool	   isnull;
	int64	   n;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	if (SPI_execute_with_args(TRIM, 2, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not trim the letters of stream %d", stream_id);
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	cs_identity_leave(&frame);
	return n;
}
