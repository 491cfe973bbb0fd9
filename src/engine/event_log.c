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
#include "engine/event_log.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

struct CsEventLog
{
	const CsDefinition *def;
	const CsStream	   *stream;
	int					ncolumns; /* event columns but place, class, arrived_at */
	const char		  **columns;
	AttrNumber		   *attnos; /* of the event relation; 0 for the last two */
	int64				day;	/* of partition */
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
	log->columns = palloc((desc->natts + 2) * sizeof(char *));
	log->attnos = palloc0((desc->natts + 2) * sizeof(AttrNumber));
	for (int i = 0; i < desc->natts; i++)
	{
		if (i + 1 == place)
			continue; /* follows from the others */
		log->columns[log->ncolumns] = pstrdup(NameStr(TupleDescAttr(desc, i)->attname));
		log->attnos[log->ncolumns++] = (AttrNumber) (i + 1);
	}
	log->columns[log->ncolumns++] = "class";
	log->columns[log->ncolumns++] = "arrived_at";
	return log;
}

/* Today's partition, open for the batch. */
static CsTable *
open_partition(CsEventLog *log, TimestampTz now)
{
	int64 day = now / USECS_PER_DAY;

	if (log->table)
		return log->table;
	if (day != log->day || !OidIsValid(log->partition))
	{
		log->partition = cs_event_log_partition(log->def->table, log->stream->owner, now);
		(void) cs_event_log_partition(log->def->table, log->stream->owner, now + USECS_PER_DAY);
		log->day = day;
	}
	log->table = cs_table_open(log->partition, log->ncolumns, log->columns, 0, NULL, log->stream->owner);
	return log->table;
}

void
cs_event_log_write(CsEngine *e, CsEventLog *log)
{
	MemoryContext old = MemoryContextSwitchTo(e->batch);
	CsTable		 *table = open_partition(log, e->ctx.now);

	for (int i = 0; i < e->nevents; i++)
	{
		CsEvent *event = &e->events[i];
		Datum	*values;
		bool	*isnull;

		if (event->class == CS_CLASS_DEAD || event->class == CS_CLASS_EMPTY)
			continue;
		values = palloc(log->ncolumns * sizeof(Datum));
		isnull = palloc0(log->ncolumns * sizeof(bool));
		for (int c = 0; c < log->ncolumns - 2; c++)
		{
			AttrNumber		  attno = log->attnos[c];
			Form_pg_attribute att = TupleDescAttr(e->stream->event_desc, attno - 1);

			isnull[c] = event->isnull[attno - 1];
			if (!isnull[c])
				values[c] = datumCopy(event->values[attno - 1], att->attbyval, att->attlen);
		}
		values[log->ncolumns - 2] = CStringGetTextDatum(cs_class_name((CsClass) event->class));
		values[log->ncolumns - 1] = TimestampTzGetDatum(e->ctx.now);
		cs_table_insert(table, values, isnull);
	}
	MemoryContextSwitchTo(old);
}

void
cs_event_log_end(CsEngine *e, CsEventLog *log)
{
	int64 day = e->ctx.now / USECS_PER_DAY;

	if (log->table)
		cs_table_close(log->table);
	log->table = NULL;
	if (log->def->retention > 0 && log->expired_day != day && e->batch_messages > 0)
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
