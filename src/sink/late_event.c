/*
 * sink/late_event.c
 *	  Events that came too late for a definition, into
 *	  clickstream.late_event_data.
 *
 * Written by own_rows.c.
 */
#include "postgres.h"

#include "sink/own_rows.h"
#include "sink/sink.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const columns[] = {"stream_id",	"definition_id", "topic",	"partition",  "message_offset",
									  "event_time", "lateness",		 "payload", "arrived_at", "watermark"};

static Datum
lateness_interval(int64 usec)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = usec;
	return IntervalPGetDatum(interval);
}

static void
fill(const void *item, TimestampTz now, Datum *values, bool *isnull)
{
	const CsLateEvent *event = item;

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
	values[9] = TimestampTzGetDatum(event->watermark);
}

void
cs_late_events_write(List *events)
{
	cs_own_rows_write("late_event_data", lengthof(columns), columns, fill, events);
}
