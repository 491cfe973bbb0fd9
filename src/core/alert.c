/*
 * core/alert.c
 *	  Catalog and evaluation of alerts; see alert.h.
 *
 * The query is kept as text, with the search_path that it was given under: a
 * view would make it a dependency, so that no table it reads could be dropped
 * without it.  An alert whose table is gone is disabled instead, and says why.
 */
#include "core/alert.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/plancache.h"
#include "utils/timestamp.h"

/* A payload of NOTIFY may have nearly 8000 bytes. */
#define DETAIL_MAX 7000

#define ALERT_QUERY                                                                                                  \
	"SELECT alert_id, stream_id, name, query, search_path, hold_for, channel, holds_since, alert_event_id, failures" \
	" FROM clickstream.alert_definition WHERE "

static char *
text_of(HeapTuple tuple, int column, MemoryContext cxt)
{
	bool  isnull;
	Datum value = SPI_getbinval(tuple, SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : MemoryContextStrdup(cxt, TextDatumGetCString(value));
}

static int64
interval_usec(const Interval *span)
{
	return span->time + span->day * USECS_PER_DAY;
}

static CsAlert *
read_alert(HeapTuple tuple, MemoryContext cxt)
{
	TupleDesc desc = SPI_tuptable->tupdesc;
	CsAlert	 *alert = MemoryContextAllocZero(cxt, sizeof(CsAlert));
	bool	  isnull;
	Datum	  since;
	Datum	  event;

	alert->id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
	alert->stream_id = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	alert->name = text_of(tuple, 3, cxt);
	alert->query = text_of(tuple, 4, cxt);
	alert->path = text_of(tuple, 5, cxt);
	alert->hold_for = interval_usec(DatumGetIntervalP(SPI_getbinval(tuple, desc, 6, &isnull)));
	alert->channel = text_of(tuple, 7, cxt);
	since = SPI_getbinval(tuple, desc, 8, &isnull);
	alert->since = isnull ? DT_NOBEGIN : DatumGetTimestampTz(since);
	event = SPI_getbinval(tuple, desc, 9, &isnull);
	alert->event_id = isnull ? 0 : DatumGetInt64(event);
	alert->failures = DatumGetInt32(SPI_getbinval(tuple, desc, 10, &isnull));
	return alert;
}

static List *
load(const char *condition, Oid type, Datum value, MemoryContext cxt)
{
	CsIdentity	  frame;
	List		 *result = NIL;
	MemoryContext old;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args(psprintf(ALERT_QUERY "%s ORDER BY alert_id", condition), 1, &type, &value, NULL, true, 0);
	old = MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < SPI_processed; i++)
		result = lappend(result, read_alert(SPI_tuptable->vals[i], cxt));
	MemoryContextSwitchTo(old);
	SPI_finish();
	cs_identity_leave(&frame);
	return result;
}

List *
cs_alerts_load(int32 stream_id, MemoryContext cxt)
{
	return load("enabled AND stream_id = $1", INT4OID, Int32GetDatum(stream_id), cxt);
}

CsAlert *
cs_alert_find(const char *name, MemoryContext cxt)
{
	List *found = load("name = $1", TEXTOID, CStringGetTextDatum(name), cxt);

	return found == NIL ? NULL : linitial(found);
}

List *
cs_alerts_streams(MemoryContext cxt)
{
	CsIdentity	  frame;
	List		 *result = NIL;
	MemoryContext old;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute("SELECT DISTINCT a.stream_id FROM clickstream.alert_definition a"
				" JOIN clickstream.stream_home h USING (stream_id)"
				" JOIN pg_catalog.pg_database d ON d.oid = h.database_oid"
				" WHERE a.enabled AND d.datname = pg_catalog.current_database() ORDER BY a.stream_id",
				true, 0);
	old = MemoryContextSwitchTo(cxt);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;

		result =
			lappend_int(result, DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	cs_identity_leave(&frame);
	return result;
}

/* ---- the query ---- */

/* Its own lines, so that a comment at its end does no harm. */
static char *
first_row(const char *query)
{
	return psprintf("SELECT pg_catalog.to_jsonb(alert_row)::pg_catalog.text FROM (\n%s\n) AS alert_row LIMIT 1", query);
}

char *
cs_alert_evaluate(const CsAlert *alert, Oid owner)
{
	CsIdentity	  frame;
	MemoryContext caller = CurrentMemoryContext;
	char		 *result = NULL;
	bool		  read_only = XactReadOnly; /* an error puts it back */

	cs_identity_enter(&frame, owner, true);
	XactReadOnly = true;
	(void) set_config_option("search_path", alert->path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	if (SPI_execute(first_row(alert->query), true, 1) == SPI_OK_SELECT && SPI_processed > 0)
		result = text_of(SPI_tuptable->vals[0], 1, caller);
	SPI_finish();
	XactReadOnly = read_only;
	cs_identity_leave(&frame);
	return result;
}

List *
cs_alert_validate(const char *query)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext old;
	List		 *relations;
	SPIPlanPtr	  plan;

	SPI_connect();
	plan = SPI_prepare(first_row(query), 0, NULL);
	if (plan == NULL || !SPI_is_cursor_plan(plan) || list_length(SPI_plan_get_plan_sources(plan)) != 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("query must be one SELECT"),
						errhint("Give a query that returns a row as long as the alert is to be on.")));
	old = MemoryContextSwitchTo(caller);
	relations = list_copy(((CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan)))->relationOids);
	MemoryContextSwitchTo(old);
	SPI_finish();
	return relations;
}

CsStream *
cs_alert_stream_of(List *relations, MemoryContext cxt)
{
	int32	  found = 0;
	ListCell *cell;

	foreach(cell, relations)
	{
		CsDefinition *def = cs_definition_find(lfirst_oid(cell), cxt);

		if (def == NULL || def->stream_id == found)
			continue;
		if (found != 0)
			return NULL;
		found = def->stream_id;
	}
	return found == 0 ? NULL : cs_stream_load_by_id(found, cxt);
}

/* ---- what changes ---- */

static void
set(const CsAlert *alert, const CsValue *values, int n)
{
	cs_catalog_update("alert_definition", "alert_id", alert->id, values, n);
}

/* what: begin, end, failed.  A detail that is too long for a payload is left out: it is in the history. */
static void
tell(const CsAlert *alert, const char *stream, const char *what, const char *detail, TimestampTz now)
{
	Oid	  types[6] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID};
	Datum values[6];
	char  nulls[7] = "      ";

	if (alert->channel == NULL)
		return;
	values[0] = CStringGetTextDatum(alert->channel);
	values[1] = CStringGetTextDatum(alert->name);
	values[2] = CStringGetTextDatum(stream);
	values[3] = CStringGetTextDatum(what);
	values[4] = TimestampTzGetDatum(now);
	values[5] = detail ? CStringGetTextDatum(detail) : (Datum) 0;
	if (detail == NULL || strlen(detail) > DETAIL_MAX)
		nulls[5] = 'n';
	SPI_connect();
	SPI_execute_with_args("SELECT pg_catalog.pg_notify($1, pg_catalog.json_build_object('alert', $2, 'stream', $3,"
						  " 'event', $4, 'at', $5, 'detail', $6::pg_catalog.json)::pg_catalog.text)",
						  6, types, values, nulls, false, 0);
	SPI_finish();
}

bool
cs_alert_lock(const CsAlert *alert)
{
	Oid	  types[3] = {INT4OID, TIMESTAMPTZOID, INT8OID};
	Datum values[3] = {Int32GetDatum(alert->id), TimestampTzGetDatum(alert->since), Int64GetDatum(alert->event_id)};
	CsIdentity frame;
	bool	   found;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args(
		"SELECT FROM clickstream.alert_definition WHERE alert_id = $1 AND enabled"
		" AND coalesce(holds_since, '-infinity') = $2 AND coalesce(alert_event_id, 0) = $3 FOR UPDATE",
		3, types, values, NULL, false, 0);
	found = SPI_processed == 1;
	SPI_finish();
	cs_identity_leave(&frame);
	return found;
}

void
cs_alert_set_since(CsAlert *alert, TimestampTz since)
{
	CsValue value = cs_value_time("holds_since", since == DT_NOBEGIN ? NULL : &since);

	set(alert, &value, 1);
	alert->since = since;
}

void
cs_alert_clear_failures(CsAlert *alert)
{
	CsValue value = cs_value_int("failures", 0);

	set(alert, &value, 1);
	alert->failures = 0;
}

void
cs_alert_begin(CsAlert *alert, const char *stream, const char *detail, TimestampTz now)
{
	Oid		   types[3] = {INT4OID, TIMESTAMPTZOID, TEXTOID};
	Datum	   values[3] = {Int32GetDatum(alert->id), TimestampTzGetDatum(now), CStringGetTextDatum(detail)};
	CsIdentity frame;
	CsValue	   value;
	bool	   isnull;
	int64	   id;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	if (SPI_execute_with_args("INSERT INTO clickstream.alert_event_data (alert_id, began_at, detail)"
							  " VALUES ($1, $2, $3::pg_catalog.jsonb) RETURNING alert_event_id",
							  3, types, values, NULL, false, 0) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not write down alert \"%s\"", alert->name);
	id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	cs_identity_leave(&frame);
	value = cs_value_bigint("alert_event_id", id);
	set(alert, &value, 1);
	tell(alert, stream, "begin", detail, now);
	alert->event_id = id;
}

static void
close_event(CsAlert *alert, TimestampTz now)
{
	Oid		   types[2] = {INT8OID, TIMESTAMPTZOID};
	Datum	   values[2] = {Int64GetDatum(alert->event_id), TimestampTzGetDatum(now)};
	CsIdentity frame;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args("UPDATE clickstream.alert_event_data SET ended_at = $2 WHERE alert_event_id = $1", 2, types,
						  values, NULL, false, 0);
	SPI_finish();
	cs_identity_leave(&frame);
	alert->event_id = 0;
}

void
cs_alert_end(CsAlert *alert, const char *stream, TimestampTz now)
{
	CsValue values[] = {cs_value_time("holds_since", NULL), cs_value_oid("alert_event_id", INT8OID, InvalidOid)};

	close_event(alert, now);
	set(alert, values, lengthof(values));
	tell(alert, stream, "end", NULL, now);
	alert->since = DT_NOBEGIN;
}

void
cs_alert_note_error(CsAlert *alert, const char *stream, const char *message, const char *sqlstate, bool disable,
					TimestampTz now)
{
	CsValue values[] = {
		cs_value_text("last_error", message),
		cs_value_text("last_error_sqlstate", sqlstate),
		cs_value_time("last_error_at", &now),
		cs_value_int("failures", alert->failures),
		cs_value_bool("enabled", false),
		cs_value_time("holds_since", NULL),
		cs_value_oid("alert_event_id", INT8OID, InvalidOid),
	};
	StringInfoData detail;

	set(alert, values, disable ? lengthof(values) : 4);
	if (!disable)
		return;
	if (alert->event_id != 0)
		close_event(alert, now);
	alert->since = DT_NOBEGIN;
	initStringInfo(&detail);
	appendStringInfoString(&detail, "{\"error\": ");
	escape_json(&detail, message);
	appendStringInfoChar(&detail, '}');
	tell(alert, stream, "failed", detail.data, now);
}

int64
cs_alert_history_trim(int32 stream_id, TimestampTz before, int64 limit)
{
	Oid		   types[3] = {INT4OID, TIMESTAMPTZOID, INT8OID};
	Datum	   values[3] = {Int32GetDatum(stream_id), TimestampTzGetDatum(before), Int64GetDatum(limit)};
	CsIdentity frame;
	int64	   n;

	cs_identity_enter(&frame, cs_extension_owner(), true);
	SPI_connect();
	SPI_execute_with_args("DELETE FROM clickstream.alert_event_data WHERE alert_event_id = ANY (ARRAY("
						  "SELECT e.alert_event_id FROM clickstream.alert_event_data e"
						  " JOIN clickstream.alert_definition a USING (alert_id)"
						  " WHERE a.stream_id = $1 AND e.ended_at < $2 LIMIT $3))",
						  3, types, values, NULL, false, 0);
	n = (int64) SPI_processed;
	SPI_finish();
	cs_identity_leave(&frame);
	return n;
}
