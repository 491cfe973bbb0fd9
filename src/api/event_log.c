/*
 * api/event_log.c
 *	  create_event_log, alter_event_log, drop_event_log.
 */
#include "api/define.h"

#include "core/clock.h"
#include "core/event_log.h"

PG_FUNCTION_INFO_V1(clickstream_create_event_log);
PG_FUNCTION_INFO_V1(clickstream_alter_event_log);
PG_FUNCTION_INFO_V1(clickstream_drop_event_log);

/* Partitions are days: nothing shorter can be kept. */
#define RETENTION_MIN USECS_PER_DAY
#define RETENTION_MAX (INT64CONST(36600) * USECS_PER_DAY)

/* Arguments of create_event_log(), in order. */
enum
{
	A_NAME,
	A_STREAM,
	A_RETENTION,
	A_IF_NOT_EXISTS
};

/* One stream has one log. */
static void
check_only_one(const CsStream *stream)
{
	ListCell *cell;

	foreach(cell, cs_definitions_load(stream->stream_id, CurrentMemoryContext))
	{
		CsDefinition *other = lfirst(cell);

		if (other->kind == CS_KIND_EVENT_LOG)
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
							errmsg("stream \"%s\" has an event log already: %s", stream->name, other->name)));
	}
}

Datum
clickstream_create_event_log(PG_FUNCTION_ARGS)
{
	char	 *name = cs_arg_required(fcinfo, A_NAME, "name");
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, A_STREAM, "stream"), CurrentMemoryContext);
	Interval *retention = cs_arg_interval(fcinfo, A_RETENTION);
	CsDraft	  draft;
	Oid		  table = cs_draft_begin(&draft, CS_KIND_EVENT_LOG, "event log", name, stream,
									 cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false));

	if (OidIsValid(table))
		PG_RETURN_OID(table);
	check_only_one(stream);
	if (retention != NULL)
		cs_span(retention, "retention", RETENTION_MIN, RETENTION_MAX);
	cs_draft_value(&draft, cs_value_interval("retention", retention));
	table = cs_event_log_create(name, stream, cs_now());
	cs_draft_insert(&draft, table);
	PG_RETURN_OID(table);
}

Datum
clickstream_alter_event_log(PG_FUNCTION_ARGS)
{
	CsDefinition *def = cs_definition_argument(fcinfo, CS_KIND_EVENT_LOG, "event log");
	CsValue		  value;

	if (!PG_ARGISNULL(1))
	{
		cs_span(PG_GETARG_INTERVAL_P(1), "retention", RETENTION_MIN, RETENTION_MAX);
		value = cs_value_interval("retention", PG_GETARG_INTERVAL_P(1));
	}
	cs_definition_alter(def, &value, PG_ARGISNULL(1) ? 0 : 1);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_event_log(PG_FUNCTION_ARGS)
{
	return cs_drop_by_name(fcinfo, CS_KIND_EVENT_LOG, "event log");
}
