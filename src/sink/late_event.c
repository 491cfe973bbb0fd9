/*
 * sink/late_event.c
 *	  Events that came too late for a definition, into
 *	  clickstream.late_event_data.
 *
 * Written in the batch's transaction, as its results are.
 *
 * Locking: as cs_table_open().
 */
#include "postgres.h"

#include "core/clock.h"
#include "sink/sink.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const columns[] = {"stream_id",	"definition_id", "topic",	"partition", "message_offset",
									  "event_time", "lateness",		 "payload", "arrived_at"};

static Datum
lateness_interval(int64 usec)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = usec;
	return IntervalPGetDatum(interval);
}

static void
fill(const CsLateEvent *event, TimestampTz now, Datum *values, bool *isnull)
{
	memset(isnull, 0, sizeof(bool) * lengthof(columns));
	values[0] = Int32GetDatum(event->stream_id);
	values[1] = Int32GetDatum(event->definition_id);
	values[2] = CStringGetTextDatum(event->topic);
	values[3] = Int32GetDatum(event->partition);
	values[4] = Int64GetDatum(event->offset);
	values[5] = TimestampTzGetDatum(event->event_time);
	values[6] = lateness_interval(event->lateness);
	isnull[7] = event->payload == NULL;
	values[7] = event->payload ? PointerGetDatum(cstring_to_text_with_len(event->payload, (int) event->payload_len))
							   : (Datum) 0;
	values[8] = TimestampTzGetDatum(now);
}

void
cs_late_events_write(CsLateEvent **events, int n)
{
	Datum		values[lengthof(columns)];
	bool		isnull[lengthof(columns)];
	CsTable	   *table;
	TimestampTz now;

	if (n == 0)
		return;
	now = cs_now();
	table = cs_table_open(cs_own_relation("late_event_data"), lengthof(columns), columns, 0, NULL, InvalidOid);
	for (int i = 0; i < n; i++)
	{
		fill(events[i], now, values, isnull);
		cs_table_insert(table, values, isnull);
	}
	cs_table_close(table);
}
