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

static char *
interval_literal(const Interval *span)
{
	return quote_literal_cstr(DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(span))));
}

/* "window_starts(…) AS w(window_start)", or what else says which windows hold the time. */
static char *
windows_call(const CsDefinition *def, const char *time)
{
	char *origin =
		quote_literal_cstr(DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(def->origin))));
	char *zone = def->time_zone ? quote_literal_cstr(def->time_zone) : pstrdup("NULL");

	if (def->form == CS_WINDOW_CUMULATIVE)
		return psprintf(CS_SCHEMA ".cumulative_windows(%s, %s::pg_catalog.interval, %s::pg_catalog.interval, "
								  "%s::pg_catalog.timestamptz, %s::pg_catalog.text) AS w(window_start, window_end)",
						time, interval_literal(&def->size_given), interval_literal(&def->slide_given), origin, zone);
	if (def->time_zone != NULL || def->size_given.month != 0)
		return psprintf(CS_SCHEMA ".window_starts(%s, %s::pg_catalog.interval, %s::pg_catalog.interval, "
								  "%s::pg_catalog.timestamptz, %s::pg_catalog.text) AS w(window_start)",
						time, interval_literal(&def->size_given), interval_literal(&def->slide_given), origin, zone);
	return psprintf(CS_SCHEMA ".window_starts(%s, %s::pg_catalog.interval, %s::pg_catalog.interval, "
							  "%s::pg_catalog.timestamptz) AS w(window_start)",
					time, literal(def->size), literal(def->slide), origin);
}

CsView *
cs_window_view_begin(const CsDraft *draft, const char *relation, const char *time_column, const char *condition,
					 int rules)
{
	bool	cumulative = draft->def.form == CS_WINDOW_CUMULATIVE;
	char   *frame = psprintf("SELECT w.window_start AS window_start%s FROM %s e, LATERAL %s%s",
							 cumulative ? ", w.window_end AS window_end" : "", relation,
							 windows_call(&draft->def, psprintf("e.%s", time_column)), condition);
	CsView *view = cs_view_begin(draft->what, frame, reserved, rules);

	cs_view_group_by(view, 1);
	if (cumulative)
		cs_view_group_by(view, 2);
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
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("origin must be a point in time"),
						errhint("Give a time at which some window begins, such as '2024-01-01 06:00+01'.")));
	cs_check_milliseconds(PG_GETARG_TIMESTAMPTZ(i), "origin");
	return PG_GETARG_TIMESTAMPTZ(i);
}

void
cs_check_milliseconds(int64 usec, const char *name)
{
	if (usec % CS_USECS_PER_MSEC != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be whole milliseconds", name)));
}
