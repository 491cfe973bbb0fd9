/*
 * engine/event_log.c
 *	  The event log: a table of every decoded event, partitioned by the day of
 *	  arrival.  It is no definition: it judges nothing and has no state.
 *
 * Rows go straight into the day's partition, made ahead of time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/event_log.h"
#include "engine/backfill.h"
#include "engine/event_log.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Columns of the log behind those of an event. */
enum
{
	LOG_CLASS,
	LOG_ARRIVED_AT,
	LOG_COMMIT_NUMBER,
	LOG_ARRIVAL,
	LOG_WATERMARK,
	LOG_OWN_COLUMNS
};

static const char *const own_columns[LOG_OWN_COLUMNS] = {"class", "arrived_at", "commit_number", "arrival",
														 "watermark"};

struct CsEventLog
{
	const CsDefinition *def;
	const CsStream	   *stream;
	int					nevent;	  /* event columns but place */
	int					ncolumns; /* those and the log's own */
	const char		  **columns;
	AttrNumber		   *attnos; /* of the event columns, in the event relation */
	Datum			   *values; /* of the row that is being made */
	bool			   *isnull;
	Datum				class_names[CS_CLASS_COUNT];
	int64				day; /* of partition */
	Oid					partition;
	CsTable			   *table;		 /* open for this batch */
	int64				expired_day; /* day on which retention was looked after */
};

CsEventLog *
cs_event_log_open(const CsStream *stream, const CsDefinition *def)
{
	CsEventLog *log = palloc0(sizeof(CsEventLog));
	TupleDesc	desc = stream->event_desc;
	AttrNumber	place = cs_system_attno(stream, CS_SYS_PLACE);

	log->def = def;
	log->stream = stream;
	log->day = log->expired_day = -1;
	log->columns = palloc((desc->natts + LOG_OWN_COLUMNS) * sizeof(char *));
	log->attnos = palloc(desc->natts * sizeof(AttrNumber));
	for (int i = 0; i < desc->natts; i++)
	{
		if (i + 1 == place)
			continue; /* follows from the others */
		log->columns[log->nevent] = pstrdup(NameStr(TupleDescAttr(desc, i)->attname));
		log->attnos[log->nevent++] = (AttrNumber) (i + 1);
	}
	log->ncolumns = log->nevent;
	for (int i = 0; i < LOG_OWN_COLUMNS; i++)
		log->columns[log->ncolumns++] = own_columns[i];
	log->values = palloc(log->ncolumns * sizeof(Datum));
	log->isnull = palloc0(log->ncolumns * sizeof(bool));
	for (int i = 0; i < CS_CLASS_COUNT; i++)
		log->class_names[i] = CStringGetTextDatum(cs_class_name((CsClass) i));
	return log;
}

/* Today's partition, open for the batch. */
static void
open_partition(CsEventLog *log, TimestampTz now)
{
	int64 day = now / USECS_PER_DAY;

	if (log->table)
		return;
	if (day != log->day || !OidIsValid(log->partition))
	{
		log->partition = cs_event_log_partition(log->def->table, log->stream->owner, now);
		(void) cs_event_log_partition(log->def->table, log->stream->owner, now + USECS_PER_DAY);
		log->day = day;
	}
	log->table = cs_table_open(log->partition, log->ncolumns, log->columns, 0, NULL, log->stream->owner);
}

/* What became of event i of the chunk, and when it came. */
static void
fill_own(const CsEngine *e, const CsEventLog *log, int i, TimestampTz arrived_at)
{
	const CsEvent *event = &e->events[i];
	Datum		  *values = log->values + log->nevent;
	bool		  *isnull = log->isnull + log->nevent;

	values[LOG_CLASS] = log->class_names[event->class];
	values[LOG_ARRIVED_AT] = TimestampTzGetDatum(arrived_at);
	values[LOG_COMMIT_NUMBER] = Int64GetDatum(e->stored.commit_number + 1);
	values[LOG_ARRIVAL] = Int32GetDatum((int32) (e->batch_messages + i));
	values[LOG_WATERMARK] = TimestampTzGetDatum(event->watermark); /* none is -infinity, the end infinity */
	isnull[LOG_WATERMARK] = event->skip;
}

/* The row points to the event's own values, so it must be written before these go. */
static void
add_event(CsEngine *e, const CsEventLog *log, int i, TimestampTz arrived_at)
{
	const CsEvent *event = &e->events[i];

	for (int c = 0; c < log->nevent; c++)
	{
		log->values[c] = event->values[log->attnos[c] - 1];
		log->isnull[c] = event->isnull[log->attnos[c] - 1];
	}
	fill_own(e, log, i, arrived_at);
	cs_table_insert(log->table, log->values, log->isnull);
}

void
cs_event_log_write(CsEngine *e, CsEventLog *log)
{
	MemoryContext old = MemoryContextSwitchTo(e->batch);

	open_partition(log, e->ctx.now);
	for (int i = 0; i < e->nevents; i++)
	{
		if (e->events[i].class != CS_CLASS_DEAD && e->events[i].class != CS_CLASS_EMPTY)
			add_event(e, log, i, e->ctx.now);
	}
	cs_table_flush(log->table);
	MemoryContextSwitchTo(old);
}

bool
cs_event_log_write_belated(CsEngine *e, CsEventLog *log, int i, TimestampTz arrived_at)
{
	Oid			  partition = cs_event_log_partition_find(log->def->table, arrived_at);
	MemoryContext old;

	if (!OidIsValid(partition))
		return false;
	old = MemoryContextSwitchTo(e->batch);
	if (log->table && partition != log->partition)
	{
		cs_table_close(log->table);
		log->table = NULL;
	}
	if (log->table == NULL)
		log->table = cs_table_open(partition, log->ncolumns, log->columns, 0, NULL, log->stream->owner);
	log->partition = partition;
	add_event(e, log, i, arrived_at);
	cs_table_flush(log->table);
	MemoryContextSwitchTo(old);
	return true;
}

void
cs_event_log_end(CsEngine *e, CsEventLog *log)
{
	int64 day = e->ctx.now / USECS_PER_DAY;

	if (log->table)
		cs_table_close(log->table);
	log->table = NULL;
	/* Who makes a definition that wants the history may not have committed yet: it is tried again by the next batch. */
	if (log->def->retention > 0 && !cs_backfill_remains(e) && log->expired_day != day && e->batch_messages > 0 &&
		cs_backfill_exclude(log->stream->stream_id, false))
	{
		(void) cs_event_log_expire(log->def->table, log->stream->owner, e->ctx.now - log->def->retention);
		log->expired_day = day;
	}
}

void
cs_event_log_abort(CsEventLog *log)
{
	log->table = NULL;
	log->partition = InvalidOid; /* it may have been made by the transaction that is gone */
}
