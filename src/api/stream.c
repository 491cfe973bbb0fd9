/*
 * api/stream.c
 *	  create_stream, alter_stream, drop_stream, start, stop, reset.
 *
 * Everything is checked before a row is written, and the broker is asked
 * last, with a short time limit, while the row can still go with an error.
 */
#include "api/define.h"

#include "api/sink.h"
#include "catalog/pg_type.h"
#include "core/backfill.h"
#include "core/ddl.h"
#include "core/settings.h"
#include "core/topics.h"
#include "decode/decode.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "operator/expression.h"
#include "pgtime.h"
#include "source/kafka_options.h"
#include "source/source.h"
#include "state/state.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(clickstream_create_stream);
PG_FUNCTION_INFO_V1(clickstream_alter_stream);
PG_FUNCTION_INFO_V1(clickstream_drop_stream);
PG_FUNCTION_INFO_V1(clickstream_start);
PG_FUNCTION_INFO_V1(clickstream_stop);
PG_FUNCTION_INFO_V1(clickstream_reset);
PG_FUNCTION_INFO_V1(clickstream_is_preloaded);

/* How long create_stream() waits for the broker. */
#define CHECK_TIMEOUT_MS 5000

/* Longest pattern of topics, in bytes. */
#define PATTERN_MAX 1000

/* Longest name of a stream; it is the topic of a local one. */
#define NAME_LENGTH_MAX 63

#define DELAY_MAX (INT64CONST(366) * USECS_PER_DAY)

/* Arguments of create_stream(), in order. */
enum
{
	A_NAME,
	A_BROKERS,
	A_TOPIC,
	A_START_FROM,
	A_START_TIME,
	A_START_OFFSETS,
	A_WATERMARK_DELAY,
	A_IDLE_TIMEOUT,
	A_MAX_FUTURE,
	A_MAX_DRIFT,
	A_VISITOR,
	A_PRESET,
	A_MAPPING,
	A_EXTRA_COLUMNS,
	A_FILTER,
	A_DEDUPE_BY,
	A_DEDUPE_HORIZON,
	A_OPTIONS,
	A_ON_ERROR,
	A_RETENTION,
	A_CHECK_BROKER,
	A_IF_NOT_EXISTS,
	A_PARTITIONS,
	A_DECODE_WORKERS
};

static const char *const on_error_words[] = {"dead_letter", "stop", NULL};
static const char *const start_words[] = {"earliest", "latest", "timestamp", "offsets", NULL};

static void
check_stream_name(const char *name)
{
	size_t length = strlen(name);

	if (length > NAME_LENGTH_MAX ||
		strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") != length)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("invalid name of a stream: \"%s\"", name),
						errhint("Use up to %d letters, digits, underscores, dots and hyphens.", NAME_LENGTH_MAX)));
}

/* "0" or "12", and not "012", "-1" or what is no partition's number. */
static bool
is_partition_number(const char *text, int32 *id)
{
	size_t length = strlen(text);

	if (length == 0 || length > 9 || strspn(text, "0123456789") != length || (text[0] == '0' && length > 1))
		return false;
	*id = atoi(text);
	return true;
}

static bool
is_one_of(int32 id, ArrayType *partitions)
{
	Datum *ids;
	int	   n;

	deconstruct_array(partitions, INT4OID, sizeof(int32), true, TYPALIGN_INT, &ids, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		if (DatumGetInt32(ids[i]) == id)
			return true;
	}
	return false;
}

/* Is this one of the topics, separated by commas, or matched by their pattern? */
static bool
is_topic(const char *name, size_t length, const char *topics)
{
	if (topics[0] == CS_PATTERN_MARK)
		return cs_pattern_matches(topics, pnstrdup(name, length));
	for (const char *topic = topics; topic != NULL; topic = strchr(topic, ','))
	{
		topic += topic[0] == ',';
		if (strcspn(topic, ",") == length && memcmp(topic, name, length) == 0)
			return true;
	}
	return false;
}

/* A name in start_offsets that fits nothing would be a partition that begins elsewhere than was meant. */
static void
check_start_name(const char *name, const char *topics, ArrayType *partitions)
{
	const char *slash = strrchr(name, '/');
	int32		id;

	if (strcmp(name, "*") == 0)
		return;
	if (!is_partition_number(slash ? slash + 1 : name, &id))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("start_offsets names no partition: \"%s\"", name),
				 errhint("A name is a partition's number, topic/number, or \"*\" for all others.")));
	if (slash && !is_topic(name, slash - name, topics))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("start_offsets names a topic that is not read: \"%s\"", name),
						errdetail("The stream reads %s.", topics)));
	if (partitions && !is_one_of(id, partitions))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("start_offsets names a partition that is not read: \"%s\"", name),
						errhint("It must be among the partitions of the stream.")));
}

static void
check_start_names(Jsonb *offsets, const char *topics, ArrayType *partitions)
{
	JsonbIterator	  *it = JsonbIteratorInit(&offsets->root);
	JsonbIteratorToken token;
	JsonbValue		   value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			check_start_name(pnstrdup(value.val.string.val, value.val.string.len), topics, partitions);
	}
}

/* start_offsets must be an object of whole numbers; below 0 they count from the end. */
static void
check_start_offsets(Jsonb *offsets)
{
	JsonbIterator	  *it = JsonbIteratorInit(&offsets->root);
	JsonbIteratorToken token;
	JsonbValue		   value;
	bool			   good = JB_ROOT_IS_OBJECT(offsets) && JB_ROOT_COUNT(offsets) > 0;

	while (good && (token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char *number;

		if (token != WJB_VALUE)
			continue;
		good = value.type == jbvNumeric;
		if (!good)
			break;
		number = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
		number += number[0] == '-';
		good = strspn(number, "0123456789") == strlen(number) && strlen(number) < 19;
	}
	if (!good)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("start_offsets is not a set of offsets"),
			 errhint(
				 "Write it as in {\"0\": 1201, \"1\": 0, \"*\": -100}: the offset for each partition, below 0 from the end, "
				 "\"*\" for all others.")));
}

/* Where to start, and what must come with it. */
static void
check_start(const char *start_from, const TimestampTz *start_time, Jsonb *start_offsets)
{
	cs_check_word(start_from, "start_from", start_words);
	if ((strcmp(start_from, "timestamp") == 0) != (start_time != NULL))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						start_time ? errmsg("start_time does not go with start_from \"%s\"", start_from)
								   : errmsg("start_from \"timestamp\" needs start_time"),
						errhint("Give start_from => 'timestamp', start_time => '2024-06-01 00:00+00', or neither.")));
	if ((strcmp(start_from, "offsets") == 0) != (start_offsets != NULL))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						start_offsets ? errmsg("start_offsets does not go with start_from \"%s\"", start_from)
									  : errmsg("start_from \"offsets\" needs start_offsets"),
						errhint("Give start_from => 'offsets', start_offsets => '{\"0\": 1201}', or neither.")));
	if (start_time && TIMESTAMP_NOT_FINITE(*start_time))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("start_time must be finite")));
	if (start_offsets)
		check_start_offsets(start_offsets);
}

static char *
check_pattern(const char *pattern)
{
	if (strlen(pattern) > PATTERN_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a pattern of topics has at most %d characters", PATTERN_MAX)));
	cs_pattern_validate(pattern);
	return pstrdup(pattern);
}

/* "b , a" as "b,a", each name checked; a pattern as it is. */
static char *
check_topics(const char *topics)
{
	StringInfoData result;
	char		  *copy = pstrdup(topics);

	if (topics[0] == CS_PATTERN_MARK)
		return check_pattern(topics);
	initStringInfo(&result);
	for (char *topic = strtok(copy, ", \t\n"); topic; topic = strtok(NULL, ", \t\n"))
	{
		cs_kafka_topic_validate(topic);
		appendStringInfo(&result, "%s%s", result.len > 0 ? "," : "", topic);
	}
	if (result.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("topic must be given"),
				 errhint("Give topic => 'name', several names separated by commas, or a pattern as '^web\\..*'.")));
	return result.data;
}

/* The topics to read; a local stream's is its name. */
static char *
check_source(const char *name, const char *brokers, const char *topic, Jsonb *options, const Interval *retention)
{
	if (brokers != NULL)
	{
		cs_kafka_brokers_validate(brokers);
		cs_kafka_options_validate(options, false);
		if (retention != NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("retention is for local topics only"),
							errdetail("A broker keeps its topics by its own rules.")));
		return check_topics(topic ? topic : "");
	}
	if (topic != NULL || options != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s needs brokers", topic ? "topic" : "options"),
				 errdetail("Without brokers a stream reads its built-in local topic."),
				 errhint("Give brokers => 'host:9092'.")));
	return pstrdup(name);
}

/* Numbers of partitions, each once. */
static void
check_partitions(const char *brokers, ArrayType *partitions)
{
	Datum *ids;
	bool  *nulls;
	int	   n;
	bool   good;

	if (brokers == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("partitions needs brokers"),
						errdetail("A stream reads all of its built-in local topic.")));
	deconstruct_array(partitions, INT4OID, sizeof(int32), true, TYPALIGN_INT, &ids, &nulls, &n);
	good = n > 0;
	for (int i = 0; i < n; i++)
	{
		good &= !nulls[i] && DatumGetInt32(ids[i]) >= 0;
		for (int j = 0; j < i; j++)
			good &= ids[i] != ids[j];
	}
	if (!good)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("partitions is not a set of partitions"),
						errhint("Write it as in '{0,1,2}'; without it all are read.")));
}

static void
check_decode_workers(const char *brokers, int n)
{
	if (n < 0 || n > CS_DECODE_WORKERS_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("decode_workers must be between 0 and %d", CS_DECODE_WORKERS_MAX)));
	if (n > 0 && brokers == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("decode_workers needs brokers"),
						errdetail("Messages of a local topic are read within the transaction that applies them.")));
}

static void
check_times(FunctionCallInfo fcinfo, int watermark_delay, int idle_timeout, int max_future, int max_drift,
			int retention)
{
	if (!PG_ARGISNULL(watermark_delay))
		cs_span(PG_GETARG_INTERVAL_P(watermark_delay), "watermark_delay", 0, DELAY_MAX);
	if (!PG_ARGISNULL(idle_timeout))
		cs_span(PG_GETARG_INTERVAL_P(idle_timeout), "idle_timeout", CS_USECS_PER_MSEC, DELAY_MAX);
	if (!PG_ARGISNULL(max_future))
		cs_span(PG_GETARG_INTERVAL_P(max_future), "max_future", 0, DELAY_MAX);
	if (!PG_ARGISNULL(max_drift))
		cs_span(PG_GETARG_INTERVAL_P(max_drift), "max_drift", USECS_PER_SEC, DELAY_MAX);
	if (!PG_ARGISNULL(retention))
		cs_span(PG_GETARG_INTERVAL_P(retention), "retention", CS_USECS_PER_MSEC, 100 * DELAY_MAX);
}

/* Values of dedupe_by must be comparable by hash. */
static void
check_dedupe(Oid stream_view)
{
	TargetEntry *entry = lthird(cs_definition_query(stream_view)->targetList);
	CsHasher	 hasher;

	cs_hasher_init(&hasher, exprType((Node *) entry->expr), exprCollation((Node *) entry->expr), "dedupe_by");
}

/* Relations of a new stream. */
typedef struct StreamRelations
{
	Oid event_relation;
	Oid stream_view;
	Oid logs[2];
	Oid spill;
} StreamRelations;

static void
create_relations(FunctionCallInfo fcinfo, const char *name, int32 stream_id, StreamRelations *relations)
{
	Oid		owner = GetUserId();
	char   *extra_columns = cs_arg_text(fcinfo, A_EXTRA_COLUMNS);
	char   *dedupe_by = cs_arg_text(fcinfo, A_DEDUPE_BY);
	List   *extra = NIL;
	CsView *view =
		cs_view_begin(psprintf("stream \"%s\"", name), psprintf("SELECT FROM " CS_SCHEMA ".event_%d e", stream_id),
					  cs_event_columns(), CS_VIEW_NO_AGGREGATES | CS_VIEW_NO_VISITOR);

	if (extra_columns != NULL)
		extra = cs_view_columns(view, "extra_columns", extra_columns);
	relations->event_relation = cs_event_relation_create(stream_id, extra, owner);
	cs_view_add_text(view, "visitor", cs_arg_required(fcinfo, A_VISITOR, "visitor"), "effective_user_id", NULL, false);
	cs_view_add_boolean(view, "filter", cs_arg_text(fcinfo, A_FILTER), "filter");
	cs_view_add_value(view, "dedupe_by", dedupe_by, "dedupe_by");
	relations->stream_view = cs_view_create(view, psprintf("stream_%d_view", stream_id), owner);
	cs_view_end(view);
	if (dedupe_by != NULL)
		check_dedupe(relations->stream_view);
	cs_state_log_create(stream_id, relations->logs);
	relations->spill = cs_spill_create(stream_id);
}

/* From now on the stream may run in this database. */
static void
settle(int32 stream_id)
{
	CsValue values[] = {cs_value_int("stream_id", stream_id), cs_value_oid("database_oid", OIDOID, MyDatabaseId)};

	(void) cs_catalog_delete("stream_home", "stream_id", stream_id);
	cs_catalog_insert("stream_home", values, lengthof(values));
}

static void
insert_stream(FunctionCallInfo fcinfo, const char *name, int32 stream_id, const char *topic, const char *start_from,
			  const StreamRelations *relations)
{
	TimestampTz start_time = PG_ARGISNULL(A_START_TIME) ? 0 : PG_GETARG_TIMESTAMPTZ(A_START_TIME);
	Datum		logs[2] = {ObjectIdGetDatum(relations->logs[0]), ObjectIdGetDatum(relations->logs[1])};
	CsValue		values[] = {
			cs_value_int("stream_id", stream_id),
			cs_value_text("name", name),
			cs_value_oid("owner", REGROLEOID, GetUserId()),
			cs_value_text("brokers", cs_arg_text(fcinfo, A_BROKERS)),
			cs_value_text("topic", topic),
			cs_value_text("start_from", start_from),
			cs_value_time("start_time", PG_ARGISNULL(A_START_TIME) ? NULL : &start_time),
			cs_value_jsonb("start_offsets", cs_arg_jsonb(fcinfo, A_START_OFFSETS)),
			cs_value_interval("watermark_delay", cs_arg_required_interval(fcinfo, A_WATERMARK_DELAY, "watermark_delay")),
			cs_value_interval("idle_timeout", cs_arg_required_interval(fcinfo, A_IDLE_TIMEOUT, "idle_timeout")),
			cs_value_interval("max_future", cs_arg_interval(fcinfo, A_MAX_FUTURE)),
			cs_value_interval("max_drift", cs_arg_interval(fcinfo, A_MAX_DRIFT)),
			cs_value_text("visitor", cs_arg_text(fcinfo, A_VISITOR)),
			cs_value_text("preset", cs_arg_required(fcinfo, A_PRESET, "preset")),
			cs_value_jsonb("mapping", cs_arg_jsonb(fcinfo, A_MAPPING)),
			cs_value_text("extra_columns", cs_arg_text(fcinfo, A_EXTRA_COLUMNS)),
			cs_value_text("filter", cs_arg_text(fcinfo, A_FILTER)),
			cs_value_text("dedupe_by", cs_arg_text(fcinfo, A_DEDUPE_BY)),
			cs_value_interval("dedupe_horizon", cs_arg_required_interval(fcinfo, A_DEDUPE_HORIZON, "dedupe_horizon")),
			cs_value_jsonb("options", cs_arg_jsonb(fcinfo, A_OPTIONS)),
			cs_value_text("on_error", cs_arg_text(fcinfo, A_ON_ERROR)),
			cs_value_int("decode_workers", PG_ARGISNULL(A_DECODE_WORKERS) ? 0 : PG_GETARG_INT32(A_DECODE_WORKERS)),
			cs_value_interval("retention", cs_arg_interval(fcinfo, A_RETENTION)),
			cs_value_text("time_zone", pg_get_timezone_name(session_timezone)),
			cs_value_oid("event_relation", REGCLASSOID, relations->event_relation),
			cs_value_oid("stream_view", REGCLASSOID, relations->stream_view),
			cs_value_array("log_relations", REGCLASSOID, logs, 2),
			cs_value_oid("spill_relation", REGCLASSOID, relations->spill),
	};
	CsValue progress[] = {cs_value_int("stream_id", stream_id), cs_value_int("state_format", CS_STATE_FORMAT)};
	CsValue partition[] = {progress[0], cs_value_int("partition", 0)};

	cs_catalog_insert("stream", values, lengthof(values));
	if (!PG_ARGISNULL(A_PARTITIONS))
	{
		Datum  *ids;
		int		n;
		CsValue wanted;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(A_PARTITIONS), INT4OID, sizeof(int32), true, TYPALIGN_INT, &ids, NULL,
						  &n);
		wanted = cs_value_array("partitions", INT4OID, ids, n);
		cs_catalog_update("stream", "stream_id", stream_id, &wanted, 1);
	}
	settle(stream_id);
	cs_catalog_insert("progress", progress, lengthof(progress));
	if (PG_ARGISNULL(A_BROKERS))
		cs_catalog_insert("local_partition", partition, 2);
}

/* Ask the broker for the topics: a mistake shall be seen now, not in a log. */
static void
check_broker(const CsStream *stream)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "clickstream broker check", ALLOCSET_SMALL_SIZES);
	CsSource	 *source = cs_source_for(stream)->open(stream, cxt);
	int			  n;

	if (source->ops->list(source, &n, CHECK_TIMEOUT_MS) == NULL)
	{
		const char *problem = source->ops->problem(source);

		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE), errmsg("could not reach the broker \"%s\"", stream->brokers),
				 problem ? errdetail_internal("%s", problem) : 0,
				 errhint("Check brokers and options; check_broker => false skips this check.")));
	}
	if (stream->pattern && n == 0 && source->ops->news(source)->nfound == 0)
		ereport(NOTICE, (errmsg("no topic of the broker matches the pattern \"%s\" yet", stream->pattern),
						 errdetail("Those that come are found while the stream runs.")));
	MemoryContextDelete(cxt);
}

Datum
clickstream_create_stream(PG_FUNCTION_ARGS)
{
	char		   *name = cs_arg_required(fcinfo, A_NAME, "name");
	char		   *brokers = cs_arg_text(fcinfo, A_BROKERS);
	char		   *start_from = cs_arg_text(fcinfo, A_START_FROM);
	TimestampTz		start_time = PG_ARGISNULL(A_START_TIME) ? 0 : PG_GETARG_TIMESTAMPTZ(A_START_TIME);
	StreamRelations relations;
	CsStream	   *stream;
	char		   *topic;
	int32			stream_id;

	check_stream_name(name);
	stream = cs_stream_find(name, CurrentMemoryContext);
	if (stream != NULL && !cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("stream \"%s\" exists already", name),
						errhint("Drop it first, give another name, or say if_not_exists => true.")));
	if (stream != NULL)
	{
		ereport(NOTICE, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("stream \"%s\" exists already, skipping", name)));
		PG_RETURN_INT32(stream->stream_id);
	}
	if (start_from == NULL)
		start_from = brokers ? "latest" : "earliest";
	topic = check_source(name, brokers, cs_arg_text(fcinfo, A_TOPIC), cs_arg_jsonb(fcinfo, A_OPTIONS),
						 cs_arg_interval(fcinfo, A_RETENTION));
	if (!PG_ARGISNULL(A_PARTITIONS))
		check_partitions(brokers, PG_GETARG_ARRAYTYPE_P(A_PARTITIONS));
	check_start(start_from, PG_ARGISNULL(A_START_TIME) ? NULL : &start_time, cs_arg_jsonb(fcinfo, A_START_OFFSETS));
	if (!PG_ARGISNULL(A_START_OFFSETS))
		check_start_names(cs_arg_jsonb(fcinfo, A_START_OFFSETS), topic,
						  PG_ARGISNULL(A_PARTITIONS) ? NULL : PG_GETARG_ARRAYTYPE_P(A_PARTITIONS));
	if (!PG_ARGISNULL(A_DECODE_WORKERS))
		check_decode_workers(brokers, PG_GETARG_INT32(A_DECODE_WORKERS));
	check_times(fcinfo, A_WATERMARK_DELAY, A_IDLE_TIMEOUT, A_MAX_FUTURE, A_MAX_DRIFT, A_RETENTION);
	cs_span(cs_arg_required_interval(fcinfo, A_DEDUPE_HORIZON, "dedupe_horizon"), "dedupe_horizon", 0, DELAY_MAX);
	cs_check_word(cs_arg_text(fcinfo, A_ON_ERROR), "on_error", on_error_words);

	stream_id = cs_catalog_next_id("stream", "stream_id");
	create_relations(fcinfo, name, stream_id, &relations);
	insert_stream(fcinfo, name, stream_id, topic, start_from, &relations);
	stream = cs_stream_load_by_id(stream_id, CurrentMemoryContext);
	cs_decoder_validate(stream->preset, stream->mapping, stream->event_desc, stream->nextra);
	if (brokers != NULL && cs_arg_bool(fcinfo, A_CHECK_BROKER, true))
		check_broker(stream);
	PG_RETURN_INT32(stream_id);
}

/* Arguments of alter_stream(), in order. */
enum
{
	B_NAME,
	B_WATERMARK_DELAY,
	B_IDLE_TIMEOUT,
	B_MAX_FUTURE,
	B_MAX_DRIFT,
	B_BROKERS,
	B_OPTIONS,
	B_ON_ERROR,
	B_RETENTION,
	B_CHECK_BROKER,
	B_PRESET,
	B_MAPPING,
	B_DECODE_WORKERS,
	B_REFUSED
};

/* Arguments of alter_stream() from B_REFUSED on, which it has to say why not. */
static const char *const fixed[] = {"topic",		 "start_from", "start_time", "start_offsets",  "visitor",
									"extra_columns", "filter",	   "dedupe_by",	 "dedupe_horizon", "partitions"};

static void
check_alter(FunctionCallInfo fcinfo, const CsStream *stream)
{
	check_times(fcinfo, B_WATERMARK_DELAY, B_IDLE_TIMEOUT, B_MAX_FUTURE, B_MAX_DRIFT, B_RETENTION);
	if (!PG_ARGISNULL(B_ON_ERROR))
		cs_check_word(cs_arg_text(fcinfo, B_ON_ERROR), "on_error", on_error_words);
	if (stream->brokers == NULL && (!PG_ARGISNULL(B_BROKERS) || !PG_ARGISNULL(B_OPTIONS)))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("stream \"%s\" reads its local topic and cannot be given brokers", stream->name),
						errhint("Make another stream.")));
	if (stream->brokers != NULL && !PG_ARGISNULL(B_RETENTION))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("retention is for local topics only")));
	if (!PG_ARGISNULL(B_BROKERS))
		cs_kafka_brokers_validate(cs_arg_text(fcinfo, B_BROKERS));
	cs_kafka_options_validate(cs_arg_jsonb(fcinfo, B_OPTIONS), false);
	if (!PG_ARGISNULL(B_DECODE_WORKERS))
	{
		check_decode_workers(stream->brokers, PG_GETARG_INT32(B_DECODE_WORKERS));
		if (PG_GETARG_INT32(B_DECODE_WORKERS) > 0)
			cs_stream_check_events(stream);
	}
	if (!PG_ARGISNULL(B_PRESET) || !PG_ARGISNULL(B_MAPPING))
		cs_decoder_validate(PG_ARGISNULL(B_PRESET) ? stream->preset : cs_arg_text(fcinfo, B_PRESET),
							PG_ARGISNULL(B_MAPPING) ? stream->mapping : cs_arg_jsonb(fcinfo, B_MAPPING),
							stream->event_desc, stream->nextra);
}

Datum
clickstream_alter_stream(PG_FUNCTION_ARGS)
{
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, B_NAME, "name"), CurrentMemoryContext);
	CsValue	  values[12];
	int		  n = 0;

	cs_stream_touch(stream);
	for (int i = 0; i < lengthof(fixed); i++)
		cs_refuse_change(fcinfo, B_REFUSED + i, fixed[i], "stream");
	check_alter(fcinfo, stream);
	if (!PG_ARGISNULL(B_WATERMARK_DELAY))
		values[n++] = cs_value_interval("watermark_delay", PG_GETARG_INTERVAL_P(B_WATERMARK_DELAY));
	if (!PG_ARGISNULL(B_IDLE_TIMEOUT))
		values[n++] = cs_value_interval("idle_timeout", PG_GETARG_INTERVAL_P(B_IDLE_TIMEOUT));
	if (!PG_ARGISNULL(B_MAX_FUTURE))
		values[n++] = cs_value_interval("max_future", PG_GETARG_INTERVAL_P(B_MAX_FUTURE));
	if (!PG_ARGISNULL(B_MAX_DRIFT))
		values[n++] = cs_value_interval("max_drift", PG_GETARG_INTERVAL_P(B_MAX_DRIFT));
	if (!PG_ARGISNULL(B_BROKERS))
		values[n++] = cs_value_text("brokers", cs_arg_text(fcinfo, B_BROKERS));
	if (!PG_ARGISNULL(B_OPTIONS))
		values[n++] = cs_value_jsonb("options", PG_GETARG_JSONB_P(B_OPTIONS));
	if (!PG_ARGISNULL(B_ON_ERROR))
		values[n++] = cs_value_text("on_error", cs_arg_text(fcinfo, B_ON_ERROR));
	if (!PG_ARGISNULL(B_DECODE_WORKERS))
		values[n++] = cs_value_int("decode_workers", PG_GETARG_INT32(B_DECODE_WORKERS));
	if (!PG_ARGISNULL(B_RETENTION))
		values[n++] = cs_value_interval("retention", PG_GETARG_INTERVAL_P(B_RETENTION));
	if (!PG_ARGISNULL(B_PRESET))
		values[n++] = cs_value_text("preset", cs_arg_text(fcinfo, B_PRESET));
	if (!PG_ARGISNULL(B_MAPPING))
		values[n++] = cs_value_jsonb("mapping", PG_GETARG_JSONB_P(B_MAPPING));
	if (n > 0)
		cs_catalog_update("stream", "stream_id", stream->stream_id, values, n);
	if (!PG_ARGISNULL(B_BROKERS) || !PG_ARGISNULL(B_OPTIONS))
		cs_sinks_hold(stream->stream_id);
	if ((!PG_ARGISNULL(B_BROKERS) || !PG_ARGISNULL(B_OPTIONS)) && cs_arg_bool(fcinfo, B_CHECK_BROKER, true))
		check_broker(cs_stream_load_by_id(stream->stream_id, CurrentMemoryContext));
	cs_worker_wake(stream->stream_id);
	PG_RETURN_VOID();
}

/*
 * Our tables have no foreign keys: pg_restore with several jobs would fill
 * them in any order.
 */
static void
drop_stream(CsStream *stream)
{
	static const char *const tables[] = {"stream_home",	  "partition",			"progress",		   "local_partition",
										 "local_message", "dead_letter_data",	"late_event_data", "trimmed_letter",
										 "backfill",	  "backfill_partition", "passed_over",	   "definition",
										 "lookup",		  "lookup_table",		"stream"};
	List					*definitions;
	ListCell				*cell;

	cs_worker_hold(stream->stream_id);
	cs_worker_stop(stream->stream_id);
	cs_definitions_prune(stream->stream_id);
	definitions = cs_definitions_load(stream->stream_id, CurrentMemoryContext);
	/* Newest first: a rollup goes before what it reads. */
	for (int i = list_length(definitions) - 1; i >= 0; i--)
		cs_definition_drop(list_nth(definitions, i));
	if (stream->event_desc != NULL)
		foreach(cell, cs_lookups_load(stream, CurrentMemoryContext))
			cs_lookup_drop(lfirst(cell));
	cs_catalog_delete("stream_topic", "stream_id", stream->stream_id);
	cs_relation_drop(cs_lookup_table_of(stream->stream_id));
	for (int i = 0; i < lengthof(tables); i++)
		cs_catalog_delete(tables[i], "stream_id", stream->stream_id);
	cs_relation_drop(stream->stream_view);
	cs_relation_drop(stream->event_relation);
	cs_relation_drop(stream->log_relation[0]);
	cs_relation_drop(stream->log_relation[1]);
	cs_relation_drop(stream->spill_relation);
}

/* The stream of that name, touched; NULL: there is none, or none any more. */
static CsStream *
lock_by_name(const char *name)
{
	CsStream *stream;

	while ((stream = cs_stream_find(name, CurrentMemoryContext)) != NULL && !cs_stream_try_touch(stream))
		;
	return stream;
}

Datum
clickstream_drop_stream(PG_FUNCTION_ARGS)
{
	char	 *name = cs_arg_required(fcinfo, 0, "name");
	CsStream *stream = lock_by_name(name);

	if (stream == NULL && !cs_arg_bool(fcinfo, 1, false))
		(void) cs_stream_load_by_name(name, CurrentMemoryContext); /* raises */
	if (stream == NULL)
		ereport(NOTICE, (errmsg("stream \"%s\" does not exist, skipping", name)));
	else
		drop_stream(stream);
	PG_RETURN_VOID();
}

/* In a database that was restored or copied nothing runs until here. */
Datum
clickstream_start(PG_FUNCTION_ARGS)
{
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "name"), CurrentMemoryContext);
	CsValue	  enabled = cs_value_bool("enabled", true);

	cs_stream_touch(stream);
	cs_worker_start(stream->stream_id);
	cs_catalog_update("stream", "stream_id", stream->stream_id, &enabled, 1);
	settle(stream->stream_id);
	cs_sinks_start_of(stream->stream_id);
	PG_RETURN_VOID();
}

Datum
clickstream_stop(PG_FUNCTION_ARGS)
{
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "name"), CurrentMemoryContext);
	CsValue	  enabled = cs_value_bool("enabled", false);

	cs_stream_touch(stream);
	cs_worker_stop(stream->stream_id);
	cs_catalog_update("stream", "stream_id", stream->stream_id, &enabled, 1);
	PG_RETURN_VOID();
}

static char *
topics_of(const CsStream *stream)
{
	StringInfoData result;

	if (stream->pattern)
		return stream->pattern;
	initStringInfo(&result);
	for (int i = 0; i < stream->ntopics; i++)
		appendStringInfo(&result, "%s%s", i > 0 ? "," : "", stream->topics[i]);
	return result.data;
}

/* NULL: all are read. */
static ArrayType *
partitions_of(const CsStream *stream)
{
	Datum *ids = palloc(Max(stream->nwanted, 1) * sizeof(Datum));

	for (int i = 0; i < stream->nwanted; i++)
		ids[i] = Int32GetDatum(stream->wanted[i]);
	return stream->nwanted == 0 ? NULL
								: construct_array(ids, stream->nwanted, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

/* Where to begin again: as given, or as the stream was made. */
static void
reset_start(FunctionCallInfo fcinfo, const CsStream *stream)
{
	char	   *start_from = cs_arg_text(fcinfo, 1);
	TimestampTz start_time = PG_ARGISNULL(2) ? 0 : PG_GETARG_TIMESTAMPTZ(2);
	CsValue		values[3];

	if (start_from == NULL && PG_ARGISNULL(2) && PG_ARGISNULL(3))
		return;
	check_start(start_from, PG_ARGISNULL(2) ? NULL : &start_time, cs_arg_jsonb(fcinfo, 3));
	if (!PG_ARGISNULL(3))
		check_start_names(cs_arg_jsonb(fcinfo, 3), topics_of(stream), partitions_of(stream));
	values[0] = cs_value_text("start_from", start_from);
	values[1] = cs_value_time("start_time", PG_ARGISNULL(2) ? NULL : &start_time);
	values[2] = cs_value_jsonb("start_offsets", cs_arg_jsonb(fcinfo, 3));
	cs_catalog_update("stream", "stream_id", stream->stream_id, values, lengthof(values));
}

/* The progress row of a stream that has read nothing; commit numbers go on. */
static void
reset_progress(const CsStream *stream)
{
	CsValue values[] = {
		cs_value_time("watermark", NULL),
		cs_value_time("closed", NULL),
		cs_value_time("shown", NULL),
		cs_value_time("advanced", NULL),
		cs_value_time("looked_at", NULL),
		cs_value_bool("finished", false),
		cs_value_oid("log_copied_xid", XID8OID, InvalidOid),
		cs_value_bool("log_copied", true),
		cs_value_array("by_definition", INT8OID, NULL, 0),
		cs_value_int("state_format", CS_STATE_FORMAT),
	};

	cs_catalog_update("progress", "stream_id", stream->stream_id, values, lengthof(values));
}

Datum
clickstream_reset(PG_FUNCTION_ARGS)
{
	CsStream			*stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "name"), CurrentMemoryContext);
	CsValue				 nothing_deleted = cs_value_time("deleted_before", NULL);
	const CsLookupTable *target;
	ListCell			*cell;

	cs_stream_touch(stream);
	cs_worker_hold(stream->stream_id);
	cs_definitions_prune(stream->stream_id);
	reset_start(fcinfo, stream);
	foreach(cell, cs_definitions_load(stream->stream_id, CurrentMemoryContext))
		cs_relation_truncate(((CsDefinition *) lfirst(cell))->table, stream->owner);
	target = cs_lookup_table_load(stream->stream_id, CurrentMemoryContext);
	if (target)
		cs_relation_truncate(target->table, stream->owner);
	cs_catalog_update("definition", "stream_id", stream->stream_id, &nothing_deleted, 1);
	cs_relation_truncate(stream->log_relation[0], InvalidOid);
	cs_relation_truncate(stream->log_relation[1], InvalidOid);
	cs_relation_truncate(stream->spill_relation, InvalidOid);
	cs_backfill_delete(stream->stream_id, 0); /* all is read again, for all */
	cs_catalog_delete("partition", "stream_id", stream->stream_id);
	cs_catalog_delete("stream_topic", "stream_id", stream->stream_id);
	cs_catalog_delete("dead_letter_data", "stream_id", stream->stream_id);
	cs_catalog_delete("late_event_data", "stream_id", stream->stream_id);
	cs_catalog_delete("trimmed_letter", "stream_id", stream->stream_id);
	reset_progress(stream);
	PG_RETURN_VOID();
}

Datum
clickstream_is_preloaded(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_BOOL(cs_worker_available());
}
