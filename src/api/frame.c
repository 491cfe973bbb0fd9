/*
 * api/frame.c
 *	  The part of a view that windows and rollups share.
 */
#include "api/frame.h"

#include "catalog/pg_type.h"

/* Columns that windows and rollups make themselves. */
static const char *const reserved[] = {"window_start", "window_end", "group_key", "is_final",
									   "revision",	   "is_rest",	 NULL};

static char *
literal(int64 usec)
{
	Interval span = {.time = usec % USECS_PER_DAY, .day = usec / USECS_PER_DAY};

	return quote_literal_cstr(DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&span))));
}

CsView *
cs_window_view_begin(const CsDraft *draft, const char *relation, const char *time_column, const char *condition,
					 int rules)
{
	char   *origin = DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(draft->def.origin)));
	char   *frame = psprintf("SELECT w.window_start AS window_start FROM %s e, LATERAL " CS_SCHEMA
							 ".window_starts(e.%s, %s::pg_catalog.interval, %s::pg_catalog.interval, "
							   "%s::pg_catalog.timestamptz) AS w(window_start)%s",
							 relation, time_column, literal(draft->def.size), literal(draft->def.slide),
							 quote_literal_cstr(origin), condition);
	CsView *view = cs_view_begin(draft->what, frame, reserved, rules);

	cs_view_group_by(view, 1);
	return view;
}

void
cs_window_view_add(CsView *view, const char *group_by, const char *measures, const char *filter)
{
	if (group_by != NULL)
		cs_view_add_list(view, "group_by", group_by, true);
	cs_view_add_list(view, "measures", measures, false);
	cs_view_add_filter(view, "filter", filter);
}

TimestampTz
cs_arg_origin(FunctionCallInfo fcinfo, int i)
{
	if (PG_ARGISNULL(i) || TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(i)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("origin must be a point in time")));
	return PG_GETARG_TIMESTAMPTZ(i);
}

void
cs_check_milliseconds(int64 usec, const char *name)
{
	if (usec % CS_USECS_PER_MSEC != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be whole milliseconds", name)));
}
