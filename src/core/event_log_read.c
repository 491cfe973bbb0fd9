/*
 * core/event_log_read.c
 *	  Reading an event log back.
 *
 * A scan fetches by cursor, a thousand rows at a time, so that a log of any
 * size can be gone through.
 */
#include "core/event_log_read.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/ddl.h"
#include "core/event_log.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FETCH_ROWS 1000
#define OWN_COLUMNS 4 /* class, commit_number, arrival, watermark */

/* Compared in place: this is done for every event of a scan, in memory that lives as long as it does. */
static CsClass
class_of(Datum value)
{
	const text *flat = DatumGetTextPP(value); /* itself, being so short */
	size_t		len = VARSIZE_ANY_EXHDR(flat);

	for (int i = 0; i < CS_CLASS_COUNT; i++)
	{
		const char *name = cs_class_name((CsClass) i);

		if (strlen(name) == len && memcmp(name, VARDATA_ANY(flat), len) == 0)
			return (CsClass) i;
	}
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("unknown class \"%s\" in an event log", TextDatumGetCString(value))));
}

/* "SELECT <the event relation's columns>, <the log's own> FROM <log> WHERE " */
static char *
select_from(Oid log, const CsStream *stream)
{
	TupleDesc	   desc = stream->event_desc;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < desc->natts; i++)
	{
		bool is_place = i == CS_SEED_COLUMNS + stream->nextra + CS_SYS_PLACE - 1;

		appendStringInfo(&sql, "%s, ", is_place ? "NULL" : quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
	}
	appendStringInfo(&sql, "class, commit_number, arrival, watermark FROM %s WHERE ", cs_relation_name(log));
	return sql.data;
}

/* The log's own columns, which come behind the event's. */
static CsLogged
logged_of(const Datum *own, const bool *isnull)
{
	CsLogged logged;

	logged.class = isnull[0] ? CS_CLASS_USED : class_of(own[0]);
	logged.mark.commit_number = DatumGetInt64(own[1]);
	logged.mark.arrival = DatumGetInt32(own[2]);
	logged.seen = !isnull[3];
	logged.watermark = isnull[3] ? CS_WM_NONE : DatumGetTimestampTz(own[3]);
	return logged;
}

/* Hand out the rows in SPI_tuptable, in the caller's memory context. */
static void
hand_out(const CsStream *stream, MemoryContext caller, CsLogRow row, void *arg)
{
	int			   natts = stream->event_desc->natts;
	SPITupleTable *table = SPI_tuptable;
	uint64		   n = SPI_processed;
	Datum		  *values = palloc((natts + OWN_COLUMNS) * sizeof(Datum));
	bool		  *isnull = palloc((natts + OWN_COLUMNS) * sizeof(bool));

	for (uint64 i = 0; i < n; i++)
	{
		CsLogged	  logged;
		MemoryContext spi;

		heap_deform_tuple(table->vals[i], table->tupdesc, values, isnull);
		logged = logged_of(values + natts, isnull + natts);
		spi = MemoryContextSwitchTo(caller);
		row(values, isnull, &logged, arg);
		MemoryContextSwitchTo(spi);
	}
	pfree(values);
	pfree(isnull);
	SPI_freetuptable(table);
}

/* Rows of a query, at most max of them (0: all); how many. */
static int64
fetch(const CsStream *stream, const char *sql, int nargs, Oid *types, Datum *values, int64 max, CsLogRow row, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	int64		  n = 0;
	Portal		  portal;

	SPI_connect();
	portal = SPI_cursor_open_with_args(NULL, sql, nargs, types, values, NULL, true, CURSOR_OPT_NO_SCROLL);
	while (max == 0 || n < max)
	{
		SPI_cursor_fetch(portal, true, max == 0 ? FETCH_ROWS : (long) Min(max - n, FETCH_ROWS));
		if (SPI_processed == 0)
			break;
		n += (int64) SPI_processed;
		hand_out(stream, caller, row, arg);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	SPI_finish();
	return n;
}

#define IN_PERIOD "event_time OPERATOR(pg_catalog.>=) $1 AND event_time OPERATOR(pg_catalog.<) $2"

void
cs_event_log_scan(Oid log, const CsStream *stream, TimestampTz from, TimestampTz to, CsLogRow row, void *arg)
{
	Oid	  types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(from), TimestampTzGetDatum(to)};

	(void) fetch(stream, psprintf("%s" IN_PERIOD, select_from(log, stream)), 2, types, values, 0, row, arg);
}

#define BEHIND_MARK                                                                              \
	" AND commit_number OPERATOR(pg_catalog.>=) $3 AND commit_number OPERATOR(pg_catalog.<=) $5" \
	" AND (commit_number OPERATOR(pg_catalog.>) $3 OR arrival OPERATOR(pg_catalog.>) $4)"        \
	" ORDER BY commit_number, arrival"

int64
cs_event_log_in_order(Oid log, const CsStream *stream, CsLogMark after, int64 upto, TimestampTz from, TimestampTz to,
					  int64 max, CsLogRow row, void *arg)
{
	Oid	  types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT4OID, INT8OID};
	Datum values[] = {TimestampTzGetDatum(from), TimestampTzGetDatum(to), Int64GetDatum(after.commit_number),
					  Int32GetDatum(after.arrival), Int64GetDatum(upto)};

	return fetch(stream, psprintf("%s" IN_PERIOD BEHIND_MARK, select_from(log, stream)), 5, types, values, max, row,
				 arg);
}

#define ONE_OFFSET                                                                 \
	"topic OPERATOR(pg_catalog.=) $1 AND partition OPERATOR(pg_catalog.=) $2 AND " \
	"message_offset OPERATOR(pg_catalog.=) $3"

bool
cs_event_log_find(Oid log, const CsStream *stream, const char *topic, int32 partition, int64 offset, CsLogRow row,
				  void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			  types[3] = {TEXTOID, INT4OID, INT8OID};
	Datum		  values[3] = {CStringGetTextDatum(topic), Int32GetDatum(partition), Int64GetDatum(offset)};
	bool		  found;

	SPI_connect();
	SPI_execute_with_args(psprintf("%s" ONE_OFFSET, select_from(log, stream)), 3, types, values, NULL, true, 1);
	found = SPI_processed > 0;
	if (found)
		hand_out(stream, caller, row, arg);
	SPI_finish();
	return found;
}

bool
cs_event_log_first(Oid log, const char *topic, int32 partition, int64 *offset, TimestampTz *time)
{
	Oid	  types[2] = {TEXTOID, INT4OID};
	Datum values[2] = {CStringGetTextDatum(topic), Int32GetDatum(partition)};
	bool  found;
	bool  isnull;

	SPI_connect();
	SPI_execute_with_args(psprintf("SELECT message_offset, event_time FROM %s WHERE topic OPERATOR(pg_catalog.=) $1"
								   " AND partition OPERATOR(pg_catalog.=) $2 AND class OPERATOR(pg_catalog.<>) 'late'"
								   " ORDER BY message_offset LIMIT 1",
								   cs_relation_name(log)),
						  2, types, values, NULL, true, 1);
	found = SPI_processed > 0;
	if (found)
	{
		*offset = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		*time = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_finish();
	return found;
}

void
cs_event_log_mark_used(Oid log, const char *topic, int32 partition, int64 offset)
{
	Oid	  types[3] = {TEXTOID, INT4OID, INT8OID};
	Datum values[3] = {CStringGetTextDatum(topic), Int32GetDatum(partition), Int64GetDatum(offset)};

	SPI_connect();
	SPI_execute_with_args(psprintf("UPDATE %s SET class = 'used' WHERE " ONE_OFFSET
								   " AND class OPERATOR(pg_catalog.=) 'late'",
								   cs_relation_name(log)),
						  3, types, values, NULL, false, 0);
	SPI_finish();
}
