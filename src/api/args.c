/*
 * api/args.c
 *	  Checks of arguments that many functions share.
 */
#include "api/args.h"

#include "common/int.h"
#include "compat.h"
#include "core/types.h"

pg_noreturn static void
missing(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must be given", name)));
}

char *
cs_arg_required(FunctionCallInfo fcinfo, int i, const char *name)
{
	char *value = cs_arg_text(fcinfo, i);

	if (value == NULL || value[0] == '\0')
		missing(name);
	return value;
}

Interval *
cs_arg_required_interval(FunctionCallInfo fcinfo, int i, const char *name)
{
	if (PG_ARGISNULL(i))
		missing(name);
	return PG_GETARG_INTERVAL_P(i);
}

/* µs as a person would write it. */
static char *
span_text(int64 usec)
{
	Interval span = {.time = usec % USECS_PER_DAY, .day = usec / USECS_PER_DAY};

	return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&span)));
}

int64
cs_span(const Interval *span, const char *name, int64 min, int64 max)
{
	int64 usec;

	if (span->month != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s cannot hold months or years", name),
						errdetail("They are not always equally long."), errhint("Give it in days or less.")));
	if (pg_mul_s64_overflow(span->day, USECS_PER_DAY, &usec) || pg_add_s64_overflow(usec, span->time, &usec))
		ereport(ERROR, (errcode(ERRCODE_INTERVAL_FIELD_OVERFLOW), errmsg("%s is out of range", name),
						errhint("Give an interval such as '30 minutes'.")));
	if (usec < min && min > 0 && usec <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be greater than zero", name),
						errhint("Give an interval such as '30 minutes'.")));
	if (usec < min || usec > max)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must be from %s to %s", name, span_text(min), span_text(max)),
						errdetail("It is %s.", span_text(usec)), errhint("Give an interval in this range.")));
	return usec;
}

void
cs_check_word(const char *value, const char *name, const char *const *words)
{
	StringInfoData list;

	for (int i = 0; value && words[i]; i++)
		if (strcmp(words[i], value) == 0)
			return;
	initStringInfo(&list);
	for (int i = 0; words[i]; i++)
		appendStringInfo(&list, "%s'%s'", i > 0 ? ", " : "", words[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s cannot be \"%s\"", name, value ? value : "NULL"),
			 errhint("It is one of %s.", list.data)));
}

int64
cs_arg_max_rows(FunctionCallInfo fcinfo, int i)
{
	if (PG_ARGISNULL(i))
		return PG_INT64_MAX;
	if (PG_GETARG_INT64(i) <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("max_rows must be greater than zero")));
	return PG_GETARG_INT64(i);
}
