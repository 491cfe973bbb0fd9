/*
 * api/sink.c
 *	  create_sink, alter_sink, drop_sink, start_sink, stop_sink, reset_sink.
 *
 * A sink belongs to its stream's owner.  Whoever changes one touches the stream's
 * row, so that its engine is opened again and knows; the sink's own process is
 * held where its settings or position change under it.
 *
 * All that can be wrong is found before anything is made: the table, the
 * options, and, unless check_broker is false, the topic on its broker.
 */
#include "api/define.h"

#include "api/sink.h"
#include "core/clock.h"
#include "core/ddl.h"
#include "core/sink.h"
#include "engine/engine.h"
#include "sink/sink.h"
#include "source/kafka_options.h"
#include "source/kafka_producer.h"
#include "worker/worker.h"

#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

PG_FUNCTION_INFO_V1(clickstream_create_sink);
PG_FUNCTION_INFO_V1(clickstream_alter_sink);
PG_FUNCTION_INFO_V1(clickstream_drop_sink);
PG_FUNCTION_INFO_V1(clickstream_start_sink);
PG_FUNCTION_INFO_V1(clickstream_stop_sink);
PG_FUNCTION_INFO_V1(clickstream_reset_sink);

#define LIMIT_MIN 1
#define LIMIT_MAX INT64CONST(1000000000)
#define CHECK_TIMEOUT_MS 10000

/* Arguments of create_sink(), in order. */
enum
{
	A_NAME,
	A_SOURCE,
	A_TOPIC,
	A_BROKERS,
	A_OPTIONS,
	A_EMIT,
	A_TRANSACTIONAL,
	A_OUTBOX_LIMIT,
	A_BACKFILL,
	A_CHECK_BROKER,
	A_IF_NOT_EXISTS
};

/* ---- checks ---- */

static void
check_name(const char *name)
{
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME), errmsg("name of a sink must have 1 to %d bytes", NAMEDATALEN - 1)));
}

static int64
check_limit(int64 limit)
{
	if (limit < LIMIT_MIN || limit > LIMIT_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("outbox_limit must be between %d and %lld rows", LIMIT_MIN, (long long) LIMIT_MAX)));
	return limit;
}

/* The definition whose rows are to be sent, for those who may. */
static CsDefinition *
source_definition(FunctionCallInfo fcinfo)
{
	CsDefinition *def;

	if (PG_ARGISNULL(A_SOURCE))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("source must be given")));
	def = cs_definition_load_by_table(PG_GETARG_OID(A_SOURCE), CurrentMemoryContext);
	if (def->kind == CS_KIND_EVENT_LOG)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("the event log \"%s\" cannot be sent by a sink", get_rel_name(def->table)),
						errhint("Its events are in the topic that they came from.")));
	return def;
}

/* Ask the broker for the topic; raises where it is not. */
static void
check_topic(const CsSink *sink)
{
	const char *problem = cs_producer_check(sink, CHECK_TIMEOUT_MS);

	if (problem)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("could not reach the broker \"%s\"", sink->brokers),
						problem[0] ? errdetail_internal("%s", problem) : 0,
						errhint("Check brokers and options; check_broker => false skips this check.")));
}

static void
check_target(const CsSink *sink, Jsonb *given, bool asks_broker)
{
	if (sink->brokers == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("brokers must be given"),
						errdetail("The stream reads a local topic and has none.")));
	cs_kafka_brokers_validate(sink->brokers);
	cs_kafka_topic_validate(sink->topic);
	cs_kafka_options_validate(given, true); /* those of the stream were, when they were given */
	if (asks_broker)
		check_topic(sink);
}

/* Two sinks that send the same keys into one topic would overwrite each other's rows. */
static void
check_topic_is_free(const CsSink *sink)
{
	ListCell *cell;

	foreach(cell, cs_sinks_load(sink->stream_id, CurrentMemoryContext))
	{
		const CsSink *other = lfirst(cell);

		if (strcmp(other->topic, sink->topic) == 0 && strcmp(other->brokers, sink->brokers) == 0)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
							errmsg("sink \"%s\" sends to topic \"%s\" already", other->name, sink->topic),
							errhint("Give each sink a topic of its own.")));
	}
}

/* ---- rows that are there ---- */

/* SELECT key, value: as the engine makes them (engine/outbox.c).  With stars, as a column may be named k or t. */
static char *
rows_query(Oid table, bool final_only)
{
	StringInfoData query;
	Relation	   rel = relation_open(table, AccessShareLock);
	Relation	   index = relation_open(RelationGetPrimaryKeyIndex(rel), AccessShareLock);

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT (SELECT pg_catalog.row_to_json(k.*) FROM (SELECT ");
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), index->rd_index->indkey.values[i] - 1);

		appendStringInfo(&query, "%st.%s", i > 0 ? ", " : "", quote_identifier(NameStr(att->attname)));
	}
	appendStringInfo(&query, ") AS k), pg_catalog.row_to_json(t.*) FROM %s AS t%s", cs_relation_name(table),
					 final_only ? " WHERE t.is_final" : "");
	relation_close(index, NoLock);
	relation_close(rel, NoLock);
	return query.data;
}

/*
 * Each row is to be sent, by a batch or by us.  So the snapshot must be of now; and
 * no batch may be in flight, of a slow worker or of process(), whose rows it lacks
 * and which does not know of the sink: see cs_engine_keep_out() in the callers.
 */
static void
check_snapshot(bool refills)
{
	if (refills && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rows for a sink can be read in isolation level READ COMMITTED only"),
				 errdetail("The snapshot of this transaction may lack rows that batches have written meanwhile."),
				 errhint("Say backfill => false, or use that isolation level.")));
}

/* With the settings that the engine has: nobody runs the stream. */
static void
refill(const CsSink *sink, const CsDefinition *def, const CsStream *stream)
{
	static const char *const settings[][2] = {{"IntervalStyle", "postgres"},
											  {"DateStyle", "ISO, YMD"},
											  {"bytea_output", "hex"},
											  {"extra_float_digits", "1"}};
	int						 nest = NewGUCNestLevel();

	(void) set_config_option("TimeZone", stream->time_zone, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	(void) cs_outbox_refill(sink->sink_id, rows_query(def->table, sink->final_only), stream->owner);
	AtEOXact_GUC(false, nest);
}

/* ---- making ---- */

static void
insert(const CsSink *sink, const char *brokers, Jsonb *options)
{
	CsValue values[] = {
		cs_value_int("sink_id", sink->sink_id),
		cs_value_int("stream_id", sink->stream_id),
		cs_value_int("definition_id", sink->definition_id),
		cs_value_text("name", sink->name),
		cs_value_text("topic", sink->topic),
		cs_value_text("brokers", brokers),
		cs_value_jsonb("options", options),
		cs_value_bool("final_only", sink->final_only),
		cs_value_bool("transactional", sink->transactional),
		cs_value_bigint("outbox_limit", sink->outbox_limit),
	};

	cs_catalog_insert("sink", values, lengthof(values));
	cs_sink_begin(sink->sink_id);
}

static bool
exists_already(FunctionCallInfo fcinfo, const char *name)
{
	if (cs_sink_find(name, CurrentMemoryContext) == NULL)
		return false;
	if (!cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("sink \"%s\" exists already", name)));
	ereport(NOTICE, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("sink \"%s\" exists already, skipping", name)));
	return true;
}

Datum
clickstream_create_sink(PG_FUNCTION_ARGS)
{
	static const char *const words[] = {"changes", "final", NULL};
	CsSink					 sink = {.name = cs_arg_required(fcinfo, A_NAME, "name"),
									 .topic = cs_arg_required(fcinfo, A_TOPIC, "topic"),
									 .transactional = cs_arg_bool(fcinfo, A_TRANSACTIONAL, true)};
	char					*emit = cs_arg_required(fcinfo, A_EMIT, "emit");
	bool					 refills = cs_arg_bool(fcinfo, A_BACKFILL, false);
	char					*brokers = cs_arg_text(fcinfo, A_BROKERS);
	Jsonb					*options = cs_arg_jsonb(fcinfo, A_OPTIONS);
	CsDefinition			*def = source_definition(fcinfo);
	CsStream				*stream = cs_definition_stream(def);

	check_name(sink.name);
	cs_check_word(emit, "emit", words);
	if (exists_already(fcinfo, sink.name))
		PG_RETURN_VOID();
	if (PG_ARGISNULL(A_OUTBOX_LIMIT))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("outbox_limit must be given")));
	check_snapshot(refills);
	sink.outbox_limit = check_limit(PG_GETARG_INT64(A_OUTBOX_LIMIT));
	sink.final_only = strcmp(emit, "final") == 0;
	sink.stream_id = stream->stream_id;
	sink.definition_id = def->definition_id;
	sink.brokers = brokers ? brokers : stream->brokers;
	sink.options = options ? options : brokers ? NULL : cs_stream_options(stream->stream_id);
	sink.producer_id = "check";
	check_target(&sink, options, cs_arg_bool(fcinfo, A_CHECK_BROKER, true));
	check_topic_is_free(&sink);
	cs_worker_hold(stream->stream_id);
	sink.sink_id = cs_catalog_next_id("sink", "sink_id");
	insert(&sink, brokers, options);
	if (refills)
	{
		cs_engine_keep_out(stream->stream_id);
		refill(&sink, def, stream);
	}
	if (cs_worker_available())
		cs_worker_start(-sink.sink_id);
	PG_RETURN_VOID();
}

/* ---- changing ---- */

/*
 * The sink of that name, its stream touched, for those who may change it; NULL: there is
 * none.  The touch waits for whoever changes the stream, and he may have dropped the
 * sink, or have made one of the same name, even of another stream: it is looked up again.
 */
static CsSink *
lock_sink(const char *name)
{
	int32	touched = 0; /* no stream has this number */
	CsSink *sink;

	while ((sink = cs_sink_find(name, CurrentMemoryContext)) != NULL && sink->stream_id != touched)
	{
		cs_stream_touch(cs_stream_load_by_id(sink->stream_id, CurrentMemoryContext));
		touched = sink->stream_id;
	}
	return sink;
}

static CsSink *
sink_argument(FunctionCallInfo fcinfo)
{
	char   *name = cs_arg_required(fcinfo, 0, "name");
	CsSink *sink = lock_sink(name);

	if (sink == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("sink \"%s\" does not exist", name),
						errhint("Sinks are made by clickstream.create_sink() and listed in clickstream.stat_sink.")));
	return sink;
}

static CsDefinition *
definition_of(const CsSink *sink)
{
	ListCell *cell;

	foreach(cell, cs_definitions_load(sink->stream_id, CurrentMemoryContext))
	{
		CsDefinition *def = lfirst(cell);

		if (def->definition_id == sink->definition_id)
			return def;
	}
	elog(ERROR, "definition %d of sink \"%s\" is gone", sink->definition_id, sink->name);
}

/* alter_sink(name, brokers, options, outbox_limit, check_broker): NULL leaves it as it is. */
Datum
clickstream_alter_sink(PG_FUNCTION_ARGS)
{
	CsSink *sink = sink_argument(fcinfo);
	CsValue values[3];
	int		n = 0;

	if (!PG_ARGISNULL(1))
		values[n++] = cs_value_text("brokers", cs_arg_text(fcinfo, 1));
	if (!PG_ARGISNULL(2))
		values[n++] = cs_value_jsonb("options", cs_arg_jsonb(fcinfo, 2));
	if (!PG_ARGISNULL(3))
		values[n++] = cs_value_bigint("outbox_limit", check_limit(PG_GETARG_INT64(3)));
	if (n == 0)
		PG_RETURN_VOID();
	cs_worker_hold(-sink->sink_id);
	(void) cs_catalog_update("sink", "sink_id", sink->sink_id, values, n);
	CommandCounterIncrement();
	if (!PG_ARGISNULL(1) || !PG_ARGISNULL(2))
		check_target(cs_sink_find(sink->name, CurrentMemoryContext), cs_arg_jsonb(fcinfo, 2),
					 cs_arg_bool(fcinfo, 4, true));
	PG_RETURN_VOID();
}

/* What they inherit from their stream has changed: their processes begin anew with it. */
void
cs_sinks_hold(int32 stream_id)
{
	ListCell *cell;

	foreach(cell, cs_sinks_load(stream_id, CurrentMemoryContext))
		cs_worker_hold(-((CsSink *) lfirst(cell))->sink_id);
}

void
cs_sink_drop(int32 sink_id)
{
	cs_worker_hold(-sink_id);
	cs_worker_stop(-sink_id);
	cs_sink_delete(sink_id);
}

void
cs_sinks_drop_of(int32 stream_id, int32 definition_id)
{
	ListCell *cell;

	foreach(cell, cs_sinks_load(stream_id, CurrentMemoryContext))
	{
		const CsSink *sink = lfirst(cell);

		if (sink->definition_id == definition_id)
			cs_sink_drop(sink->sink_id);
	}
}

Datum
clickstream_drop_sink(PG_FUNCTION_ARGS)
{
	char		 *name = cs_arg_required(fcinfo, 0, "name");
	const CsSink *sink = cs_arg_bool(fcinfo, 1, false) ? lock_sink(name) : sink_argument(fcinfo);

	if (sink == NULL)
		ereport(NOTICE, (errmsg("sink \"%s\" does not exist, skipping", name)));
	else
		cs_sink_drop(sink->sink_id);
	PG_RETURN_VOID();
}

static void
set_enabled(const CsSink *sink, bool enabled)
{
	CsValue value = cs_value_bool("enabled", enabled);

	(void) cs_catalog_update("sink", "sink_id", sink->sink_id, &value, 1);
}

Datum
clickstream_start_sink(PG_FUNCTION_ARGS)
{
	CsSink *sink = sink_argument(fcinfo);

	set_enabled(sink, true);
	cs_worker_start(-sink->sink_id);
	PG_RETURN_VOID();
}

Datum
clickstream_stop_sink(PG_FUNCTION_ARGS)
{
	CsSink *sink = sink_argument(fcinfo);

	set_enabled(sink, false);
	cs_worker_stop(-sink->sink_id);
	PG_RETURN_VOID();
}

/* reset_sink(name, backfill) */
Datum
clickstream_reset_sink(PG_FUNCTION_ARGS)
{
	CsSink	 *sink = sink_argument(fcinfo);
	CsStream *stream = cs_stream_load_by_id(sink->stream_id, CurrentMemoryContext);
	bool	  refills = cs_arg_bool(fcinfo, 1, true);

	check_snapshot(refills);
	cs_worker_hold(stream->stream_id);
	cs_worker_hold(-sink->sink_id);
	cs_engine_keep_out(stream->stream_id); /* before any row that a batch waits for is locked */
	cs_sink_reset(sink->sink_id);
	if (refills)
		refill(sink, definition_of(sink), stream);
	if (sink->enabled && cs_worker_available())
		cs_worker_start(-sink->sink_id);
	PG_RETURN_VOID();
}

/* The stream is to run in this database: so are its sinks. */
void
cs_sinks_start_of(int32 stream_id)
{
	ListCell *cell;

	foreach(cell, cs_sinks_enabled(stream_id))
		cs_worker_start(-lfirst_int(cell));
}
