/*
 * core/clock.h
 *	  The one place that reads the clock, so that tests can set it.
 *
 * clickstream.mock_clock, when set, is what cs_now() returns.  Only showing
 * (idle rule, emit intervals, rates) uses the clock; content decides the rest.
 */
#ifndef CS_CORE_CLOCK_H
#define CS_CORE_CLOCK_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/guc.h"

extern TimestampTz cs_now(void);

/* Hooks of the setting clickstream.mock_clock. */
extern bool cs_clock_check(char **newval, void **extra, GucSource source);
extern void cs_clock_assign(const char *newval, void *extra);

#endif
