/*
 * core/local_day.h
 *	  Days of a time zone, with its changes of the clock.
 */
#ifndef CS_CORE_LOCAL_DAY_H
#define CS_CORE_LOCAL_DAY_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "pgtime.h"

/* The time zone of that name, or NULL if there is none. */
extern pg_tz *cs_time_zone(const char *name);

/*
 * The local day that a moment lies in: [start, end), midnight to midnight, 23
 * to 25 hours as a rule.  Midnight is what PostgreSQL makes of
 * 'YYYY-MM-DD 00:00' AT TIME ZONE zone: where the clock jumps over it, the
 * moment of the jump; where it is read twice, the second reading.
 */
extern void cs_local_day(pg_tz *zone, TimestampTz moment, TimestampTz *start, TimestampTz *end);

#endif
