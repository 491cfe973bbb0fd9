/*
 * api/window.c
 *	  create_window, alter_window, drop_window: tumbling, hopping and
 *	  cumulative, of fixed length or as a calendar goes.
 */
#include "api/define.h"
#include "api/frame.h"
#include "operator/assign.h"

PG_FUNCTION_INFO_V1(clickstream_create_window);
PG_FUNCTION_INFO_V1(clickstream_alter_window);
PG_FUNCTION_INFO_V1(clickstream_drop_window);

/* Most windows that one event can lie in. */
#define SLIDES_MAX 10000

/* 2000-01-03, a Monday, as the zone's clock shows it. */
#define FIRST_MONDAY (2 * USECS_PER_DAY)

/* Arguments of create_window(), in order. */
enum
{
	A_NAME,
	A_STREAM,
	A_SIZE,
	A_MEASURES,
	A_SLIDE,
	A_STEP,
	A_GROUP_BY,
	A_FILTER,
	A_TIME_ZONE,
	A_ORIGIN,
	A_ALLOWED_LATENESS,
	A_EMIT,
	A_EMIT_INTERVAL,
	A_GROUP_LIMIT,
	A_IF_NOT_EXISTS,
	A_BACKFILL,
	A_BACKFILL_FROM
};

static const char calendar_hint[] =
	"Give whole months ('1 month'), whole days ('1 day', '7 days'), or hours, minutes or "
	"seconds of which a day is a multiple ('1 hour', '15 minutes').";

/* The definition's zone, where it names one that exists. */
static void
fill_time_zone(FunctionCallInfo fcinfo, CsDefinition *def)
{
	pg_tz *zone;

	def->time_zone = cs_arg_text(fcinfo, A_TIME_ZONE);
	if (def->time_zone == NULL)
		return;
	zone = pg_tzset(def->time_zone);
	if (zone == NULL || !pg_tz_acceptable(zone))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("time_zone \"%s\" is not recognized", def->time_zone),
				 errhint("Give a name of pg_timezone_names, such as 'Europe/Berlin' or 'UTC'.")));
	def->time_zone = pstrdup(pg_get_timezone_name(zone));
}

/* One of the lengths: months are taken where a calendar is followed; µs, a month as 30 days. */
static CsLength
take_length(const Interval *interval, const char *name, bool calendar, int64 *usec)
{
	CsLength length;
	Interval rough = *interval;

	if (calendar)
	{
		rough.day += rough.month * DAYS_PER_MONTH;
		rough.month = 0;
	}
	*usec = cs_span(&rough, name, CS_SIZE_MIN, CS_SIZE_MAX);
	cs_check_milliseconds(*usec, name);
	if (!cs_length_of(interval, calendar, &length))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must be whole months, whole days, or a part of a day", name),
						errdetail("With time_zone, or with months, windows follow clock and calendar."),
						errhint("%s", calendar_hint)));
	return length;
}

/* Slide or step, whichever there is, and size. */
static void
check_fit(const CsDefinition *def, const CsLength *size, const CsLength *pane)
{
	const char *name = def->form == CS_WINDOW_CUMULATIVE ? "step" : "slide";

	if (!cs_lengths_fit(def->form, size, pane) && size->kind != pane->kind)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("size and %s do not fit each other", name),
				 errdetail("Days and months have no fixed length: one is not a whole number of the other."),
				 def->form == CS_WINDOW_CUMULATIVE
					 ? errhint("Give a step of the same unit as size, or a smaller one: '1 day' or a part of a day "
							   "for months, a part of a day for days.")
					 : errhint("Give both in months, both in days, or both as parts of a day; or leave out time_zone "
							   "for windows of fixed length.")));
	if (!cs_lengths_fit(def->form, size, pane))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must divide size", name),
						def->form == CS_WINDOW_CUMULATIVE
							? errhint("Give a size that is a whole number of steps, such as size => '1 day', "
									  "step => '1 hour'.")
							: errhint("Give a size that is a whole number of slides, such as size => '15 minutes', "
									  "slide => '1 minute'.")));
	if (def->size / def->slide > SLIDES_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is too short for this size", name),
						errdetail("Each event would lie in " INT64_FORMAT " windows; the most is %d.",
								  def->size / def->slide, SLIDES_MAX)));
}

/* As given, else where windows are usually counted from: weeks from a Monday. */
static TimestampTz
window_origin(FunctionCallInfo fcinfo, const CsDefinition *def, const CsLength *size)
{
	pg_tz	 *zone = cs_definition_zone(def);
	CsStretch stretch = {0};
	bool	  weeks = size->kind == CS_GRID_DAYS && size->n % 7 == 0;

	if (!PG_ARGISNULL(A_ORIGIN))
		return cs_arg_origin(fcinfo, A_ORIGIN);
	if (zone == NULL)
		return (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
	return cs_zone_reaches(zone, &stretch, weeks ? FIRST_MONDAY : 0);
}

/* Size, slide or step, zone and origin, and that they fit. */
static void
fill_times(FunctionCallInfo fcinfo, CsDraft *draft)
{
	CsDefinition *def = &draft->def;
	Interval	 *size = cs_arg_required_interval(fcinfo, A_SIZE, "size");
	Interval	 *pane = size;
	CsLength	  size_length, pane_length;
	bool		  calendar;

	if (!PG_ARGISNULL(A_SLIDE) && !PG_ARGISNULL(A_STEP))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("slide and step cannot be given together"),
						errhint("With slide windows are hopping, with step cumulative.")));
	if (!PG_ARGISNULL(A_SLIDE) || !PG_ARGISNULL(A_STEP))
		pane = PG_GETARG_INTERVAL_P(PG_ARGISNULL(A_STEP) ? A_SLIDE : A_STEP);
	fill_time_zone(fcinfo, def);
	def->size_given = *size;
	def->slide_given = *pane;
	calendar = cs_definition_zone(def) != NULL;
	size_length = take_length(size, "size", calendar, &def->size);
	pane_length = take_length(pane, PG_ARGISNULL(A_STEP) ? "slide" : "step", calendar, &def->slide);
	def->form = def->size == def->slide ? CS_WINDOW_TUMBLING : CS_WINDOW_HOPPING;
	if (!PG_ARGISNULL(A_STEP))
		def->form = CS_WINDOW_CUMULATIVE;
	check_fit(def, &size_length, &pane_length);
	def->origin = window_origin(fcinfo, def, &size_length);
	cs_draft_value(draft, cs_value_interval("size", size));
	cs_draft_value(draft, cs_value_interval(PG_ARGISNULL(A_STEP) ? "slide" : "step", pane));
	cs_draft_value(draft, cs_value_time("origin", &def->origin));
	cs_draft_value(draft, cs_value_text("time_zone", def->time_zone));
}

static void
fill_lateness(FunctionCallInfo fcinfo, CsDraft *draft)
{
	Interval none = {0};

	if (PG_ARGISNULL(A_ALLOWED_LATENESS))
		return;
	if (DatumGetInt32(
			DirectFunctionCall2(interval_cmp, PG_GETARG_DATUM(A_ALLOWED_LATENESS), IntervalPGetDatum(&none))) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("allowed_lateness cannot be negative"),
				 errhint("Give how long late events may still change a window that is over, '0' for not at all.")));
	draft->def.lateness = cs_span(PG_GETARG_INTERVAL_P(A_ALLOWED_LATENESS), "allowed_lateness", 0, CS_SIZE_MAX);
	cs_draft_value(draft, cs_value_interval("allowed_lateness", PG_GETARG_INTERVAL_P(A_ALLOWED_LATENESS)));
}

static int64
group_limit(FunctionCallInfo fcinfo, int i)
{
	int64 limit = PG_GETARG_INT64(i);

	if (limit < 1 || limit > INT64CONST(1000000000))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("group_limit must be from 1 to 1000000000"),
						errhint("It bounds the groups that one window keeps apart; the rest share a row.")));
	return limit;
}

static void
fill(FunctionCallInfo fcinfo, CsDraft *draft)
{
	CsDefinition *def = &draft->def;

	fill_times(fcinfo, draft);
	fill_lateness(fcinfo, draft);
	cs_draft_emit(draft, cs_arg_text(fcinfo, A_EMIT), def->form == CS_WINDOW_TUMBLING ? "changes" : "closed",
				  cs_arg_required_interval(fcinfo, A_EMIT_INTERVAL, "emit_interval"));
	if (!PG_ARGISNULL(A_GROUP_LIMIT))
		def->group_limit = group_limit(fcinfo, A_GROUP_LIMIT);
	cs_draft_value(draft, cs_value_bigint("group_limit", def->group_limit));
	cs_draft_value(draft, cs_value_text("measures", cs_arg_text(fcinfo, A_MEASURES)));
	cs_draft_value(draft, cs_value_text("group_by", cs_arg_text(fcinfo, A_GROUP_BY)));
	cs_draft_value(draft, cs_value_text("filter", cs_arg_text(fcinfo, A_FILTER)));
	cs_draft_value(draft, cs_value_text("start_column", "window_start"));
}

Datum
clickstream_create_window(PG_FUNCTION_ARGS)
{
	char	 *name = cs_arg_required(fcinfo, A_NAME, "name");
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, A_STREAM, "stream"), CurrentMemoryContext);
	CsDraft	  draft;
	CsView	 *view;
	Oid		  table =
		cs_draft_begin(&draft, CS_KIND_WINDOW, "window", name, stream, cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false));

	if (OidIsValid(table))
		PG_RETURN_OID(table);
	cs_draft_backfill(&draft, fcinfo, A_BACKFILL, A_BACKFILL_FROM);
	fill(fcinfo, &draft);
	view = cs_window_view_begin(&draft, psprintf(CS_SCHEMA ".event_%d", stream->stream_id), "event_time", "", 0);
	cs_view_use_lookups(view, cs_lookups_load(stream, CurrentMemoryContext));
	cs_window_view_add(view, cs_arg_text(fcinfo, A_GROUP_BY), cs_arg_required(fcinfo, A_MEASURES, "measures"),
					   cs_arg_text(fcinfo, A_FILTER));
	PG_RETURN_OID(cs_draft_finish(&draft, view));
}

Datum
clickstream_alter_window(PG_FUNCTION_ARGS)
{
	CsDefinition *def = cs_definition_argument(fcinfo, CS_KIND_WINDOW, "window");
	CsValue		  values[2];
	int			  n = 0;

	if (!PG_ARGISNULL(1))
	{
		cs_span(PG_GETARG_INTERVAL_P(1), "emit_interval", 0, USECS_PER_DAY);
		values[n++] = cs_value_interval("emit_interval", PG_GETARG_INTERVAL_P(1));
	}
	if (!PG_ARGISNULL(2))
		values[n++] = cs_value_bigint("group_limit", group_limit(fcinfo, 2));
	cs_refuse_change(fcinfo, 3, "size", "window");
	cs_refuse_change(fcinfo, 4, "slide", "window");
	cs_refuse_change(fcinfo, 5, "measures", "window");
	cs_refuse_change(fcinfo, 6, "group_by", "window");
	cs_refuse_change(fcinfo, 7, "filter", "window");
	cs_refuse_change(fcinfo, 8, "emit", "window");
	cs_refuse_change(fcinfo, 9, "step", "window");
	cs_refuse_change(fcinfo, 10, "time_zone", "window");
	cs_refuse_change(fcinfo, 11, "origin", "window");
	cs_refuse_change(fcinfo, 12, "allowed_lateness", "window");
	cs_definition_alter(def, values, n);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_window(PG_FUNCTION_ARGS)
{
	return cs_drop_by_name(fcinfo, CS_KIND_WINDOW, "window");
}
