/*
 * core/clock.c
 *	  The clock, or what clickstream.mock_clock says instead.
 *
 * The setting is read when it is set, not when the clock is asked, and
 * without raising: settings may be assigned where no error can be.
 */
#include "core/clock.h"

#include "compat.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

/* What stands in for the clock, while is_mocked. */
static TimestampTz mock_time;
static bool		   is_mocked = false;

TimestampTz
cs_now(void)
{
	return is_mocked ? mock_time : GetCurrentTimestamp();
}

/* A date with a time as timestamptz reads it, but not 'now' and kin. */
static bool
read_time(const char *text, TimestampTz *result)
{
	char		 work[MAXDATELEN + MAXDATEFIELDS];
	char		*field[MAXDATEFIELDS];
	int			 ftype[MAXDATEFIELDS];
	int			 nf;
	int			 dtype;
	int			 tz;
	fsec_t		 fsec;
	struct pg_tm tm;

	if (ParseDateTime(text, work, sizeof(work), field, ftype, MAXDATEFIELDS, &nf) != 0)
		return false;
	if (DecodeDateTime(field, ftype, nf, &dtype, &tm, &fsec, &tz) != 0 || dtype != DTK_DATE)
		return false;
	return tm2timestamp(&tm, fsec, &tz, result) == 0;
}

bool
cs_clock_check(char **newval, void **extra, GucSource source)
{
	TimestampTz *parsed;

	(void) source;
	if (*newval == NULL || (*newval)[0] == '\0')
		return true;
	parsed = cs_guc_alloc(sizeof(TimestampTz));
	if (parsed == NULL)
		return false;
	if (!read_time(*newval, parsed))
	{
		cs_guc_free(parsed);
		GUC_check_errdetail("It must be a date and time, such as 2024-06-01 12:00:00+00, or empty.");
		return false;
	}
	*extra = parsed;
	return true;
}

void
cs_clock_assign(const char *newval, void *extra)
{
	(void) newval;
	is_mocked = extra != NULL;
	if (is_mocked)
		mock_time = *(TimestampTz *) extra;
}
