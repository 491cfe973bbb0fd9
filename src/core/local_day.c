/*
 * core/local_day.c
 *	  Days of a time zone, with its changes of the clock.
 *
 * Where a clock is put back over midnight (St. John's did so until 2011) the
 * local date is the new one, the old one and the new one again.  Days are
 * intervals all the same: from midnight to midnight, so the date that a clock
 * shows may differ from the day's for as long as the clock is ambiguous.
 *
 * No locking, no catalog access.
 */
#include "postgres.h"

#include "core/local_day.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

pg_tz *
cs_time_zone(const char *name)
{
	return pg_tzset(name);
}

/* Midnight at which a local date (as a Julian day) begins. */
static TimestampTz
midnight(pg_tz *zone, int day)
{
	struct pg_tm tm = {0};
	TimestampTz	 result;
	int			 offset;

	j2date(day, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	offset = DetermineTimeZoneOffset(&tm, zone);
	if (tm2timestamp(&tm, 0, &offset, &result) != 0)
		return day < POSTGRES_EPOCH_JDATE ? DT_NOBEGIN : DT_NOEND;
	return result;
}

void
cs_local_day(pg_tz *zone, TimestampTz moment, TimestampTz *start, TimestampTz *end)
{
	struct pg_tm tm;
	fsec_t		 fsec;
	int			 offset, day;

	if (timestamp2tm(moment, &offset, &tm, &fsec, NULL, zone) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	day = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday);
	*start = midnight(zone, day);
	*end = midnight(zone, day + 1);
	if (moment < *start)
	{
		*end = *start;
		*start = midnight(zone, day - 1);
	}
	else if (moment >= *end)
	{
		*start = *end;
		*end = midnight(zone, day + 2);
	}
}
