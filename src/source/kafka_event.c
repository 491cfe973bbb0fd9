/*
 * source/kafka_event.c
 *	  What the library tells us: log lines, errors, statistics.
 *
 * The library has no "broker is back" event, and its errors do not say which
 * partitions they touch: an idle connection that a broker closed looks like a
 * broken one.  So errors supply the words, and the statistics (once a second)
 * supply the truth: each partition's broker must be up and must have spoken
 * within the last seconds.  Only then can a partition be "at its end"; an
 * unreachable broker never is, since the idle rule builds upon it.
 *
 * Errors of one partition or topic are of two kinds.  Some mend themselves
 * (the library goes on trying): they are problems.  The others are faults,
 * remembered here and raised by the next poll(), when the messages that came
 * before have been dealt with.
 *
 * Main thread only.  The event in hand is kept in the source, so that an
 * error while it is read does not lose it.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "source/kafka_internal.h"

/* How long the raise of a lost offset may ask the broker what it has, in ms. */
#define FAULT_ASK_MS 1000

/* After assign() the library needs a moment to find the leaders: that is no problem yet, in ms. */
#define ASSIGN_GRACE_MS 3000

/* Events taken in one go, so that a flood of log lines cannot hold us. */
#define EVENTS_MAX 1000

void
cs_kafka_set_problem(KafkaSource *source, const char *text)
{
	if (text != source->problem)
		cs_kafka_copy_text(source->problem, text, sizeof(source->problem));
	source->has_problem = true;
}

/* A request got no answer in time: the library's reason says more, if it gave one. */
void
cs_kafka_no_answer(KafkaSource *source, const char *what, rd_kafka_resp_err_t code)
{
	char text[KAFKA_TEXT];

	cs_kafka_serve_events(source);
	snprintf(text, sizeof(text), "no answer to the request for %s: %s", what, rd_kafka_err2str(code));
	cs_kafka_set_problem(source, source->last_error[0] ? source->last_error : text);
}

/* The newest words on the brokers; that all are down says less than what brought them down, which came before. */
static void
keep_words(KafkaSource *source, rd_kafka_resp_err_t code, const char *text)
{
	if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || source->last_error[0] == '\0')
		cs_kafka_explain(source->last_error, text, sizeof(source->last_error));
}

static bool
is_access_error(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR__SSL:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
			return true;
		default:
			return false;
	}
}

/* What the library mends by trying again. */
static bool
is_transient_error(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__RESOLVE:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
		case RD_KAFKA_RESP_ERR__RETRY:
		case RD_KAFKA_RESP_ERR__INTR:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
		case RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED:
		case RD_KAFKA_RESP_ERR_UNKNOWN:
			return true;
		default:
			return is_access_error(code);
	}
}

/* A topic or partition that is not there. */
static bool
is_missing_error(int code)
{
	return code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION ||
		   code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

/* The group serves lag tools only: its troubles are none of ours. */
static bool
is_group_error(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_INVALID_GROUP_ID:
		case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
		case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
		case RD_KAFKA_RESP_ERR__WAIT_COORD:
			return true;
		default:
			return false;
	}
}

/* Set the flags of one partition, or of all of a topic if id is -1. */
static void
mark_refused(KafkaSource *source, int topic, int32 id)
{
	for (int i = 0; i < source->npartitions; i++)
	{
		KafkaPartition *p = &source->partitions[i];

		if (p->partition->topic == topic && (id < 0 || p->partition->id == id))
		{
			p->is_refused = true;
			p->partition->at_end = false;
		}
	}
}

static void
mark_unreachable(KafkaSource *source)
{
	for (int i = 0; i < source->npartitions; i++)
	{
		source->partitions[i].is_reachable = false;
		source->partitions[i].partition->at_end = false;
	}
}

static bool
any_reachable(const KafkaSource *source)
{
	for (int i = 0; i < source->npartitions; i++)
		if (source->partitions[i].is_reachable)
			return true;
	return false;
}

/*
 * An error that came with the messages.  topic is the index of its topic, or
 * -1 for one that concerns no topic.
 */
void
cs_kafka_message_error(KafkaSource *source, const rd_kafka_message_t *message, int topic)
{
	char  text[KAFKA_TEXT];
	int32 id = topic >= 0 ? message->partition : -1;

	if (topic < 0 && is_group_error(message->err))
		return;
	if (topic >= 0 && cs_kafka_check_lost(source, cs_kafka_find_partition(source, topic, id), message->err))
		return;
	cs_kafka_explain(text, rd_kafka_message_errstr(message), sizeof(text));
	if (is_transient_error(message->err) || topic < 0 || (source->stream->pattern && is_missing_error(message->err)))
	{
		strlcpy(source->last_error, text, sizeof(source->last_error));
		if (is_access_error(message->err) && topic >= 0)
			mark_refused(source, topic, id);
		cs_kafka_set_problem(source, text);
		return;
	}
	if (source->fault.code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	source->fault.code = message->err;
	source->fault.topic = topic;
	source->fault.partition = id;
	strlcpy(source->fault.text, text, sizeof(source->fault.text));
}

/*
 * The library reports a topic or partition that vanished neither as a message
 * nor as an event, but only to this callback.  It is called by our own calls
 * that take from the consumer's queue, hence on the main thread, but inside
 * the library: so it must not raise, and only remembers.
 */
void
cs_kafka_error_callback(rd_kafka_t *rk, int code, const char *text, void *opaque)
{
	KafkaSource *source = opaque;

	(void) rk;
	/* With a pattern topics may go: that is seen in the metadata. */
	if (!is_missing_error(code) || source->stream->pattern)
	{
		keep_words(source, code, text);
		return;
	}
	if (source->fault.code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	source->fault.code = code;
	source->fault.topic = source->fault.partition = -1;
	cs_kafka_copy_text(source->fault.text, text, sizeof(source->fault.text));
}

/*
 * The offset we want is not there.  Ask the broker what is, so that whoever
 * reads the error need not: the stream ends here anyway, a second is allowed.
 * The numbers stand in the message, which is what stat_stream shows.
 */
static void
raise_lost_offset(KafkaSource *source, const KafkaFault *fault, const char *topic)
{
	KafkaPartition *p = cs_kafka_find_partition(source, fault->topic, fault->partition);
	int64			low;
	int64			high;
	long long		wanted = p ? p->position : -1;
	char		   *what =
		psprintf("offset %lld of topic \"%s\", partition %d, is not on the broker", wanted, topic, fault->partition);

	if (p == NULL || !cs_kafka_watermarks(source, p->partition, &low, &high, FAULT_ASK_MS))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("%s", what),
						errdetail("The broker said: %s", fault->text),
						errhint("Retention removed messages that were never read, or the topic was made anew.  Use "
								"clickstream.reset() to begin again from an offset that exists.")));
	if (wanted < low)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s: it begins at %lld, %lld offsets are missing", what, (long long) low, low - wanted),
			 errdetail("The broker holds offsets from %lld up to, not including, %lld.", (long long) low,
					   (long long) high),
			 errhint("Retention removed them before they were read.  clickstream.seek('%s', %d, %lld, '%s') goes on "
					 "without them, clickstream.reset() begins again.",
					 source->stream->name, fault->partition, (long long) low, topic)));
	if (wanted <= high)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("offset %lld of topic \"%s\", partition %d, was not on the broker a moment ago, and is now",
						wanted, topic, fault->partition),
				 errdetail("The broker holds offsets from %lld up to, not including, %lld.", (long long) low,
						   (long long) high),
				 errhint(
					 "Messages before it may have been replaced by others: the topic was made anew, or brokers have "
					 "lost messages.  clickstream.start() goes on, clickstream.reset() begins again.")));
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("%s: it ends at %lld, %lld offsets are missing", what, (long long) high, wanted - high),
		 errdetail("The broker holds offsets from %lld up to, not including, %lld.", (long long) low, (long long) high),
		 errhint("The topic was made anew, or brokers have lost messages.  clickstream.reset() begins again from an "
				 "offset that exists.")));
}

/* A message that the library refuses.  All before it is committed, so the partition stands at it. */
static void
raise_unreadable(KafkaSource *source, const KafkaFault *fault, const char *topic)
{
	KafkaPartition *p = cs_kafka_find_partition(source, fault->topic, fault->partition);

	ereport(
		ERROR,
		(errcode(ERRCODE_DATA_CORRUPTED), errmsg("could not read topic \"%s\", partition %d", topic, fault->partition),
		 errdetail("librdkafka reported %s: %s", rd_kafka_err2name(fault->code), fault->text),
		 p ? errhint("Messages from offset %lld on may be damaged or larger than the client accepts.  "
					 "clickstream.skip_message('%s', %d, %lld, '%s') passes over one, clickstream.seek() over several.",
					 (long long) p->partition->next_offset, source->stream->name, fault->partition,
					 (long long) p->partition->next_offset, topic)
		   : 0));
}

/* Raise the remembered fault, if there is one. */
void
cs_kafka_raise_fault(KafkaSource *source)
{
	KafkaFault	fault = source->fault;
	const char *topic;

	if (fault.code == RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	source->fault.code = RD_KAFKA_RESP_ERR_NO_ERROR;
	topic = fault.topic >= 0 ? source->stream->topics[fault.topic] : "";
	switch (fault.code)
	{
		case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
			raise_lost_offset(source, &fault, topic);
			break;
		case KAFKA_MADE_ANEW:
			cs_kafka_raise_anew(source, &fault, topic);
			break;
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
							fault.topic < 0 ? errmsg("a topic or partition of the stream is no longer on the broker")
							: fault.partition < 0 ? errmsg("topic \"%s\" is no longer on the broker", topic)
												  : errmsg("topic \"%s\", partition %d, is no longer on the broker",
														   topic, fault.partition),
							errdetail("The broker said: %s", fault.text),
							errhint("Make the topic again and use clickstream.reset(), or drop the stream.")));
			break;
		case RD_KAFKA_RESP_ERR__FATAL:
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE), errmsg("the Kafka client cannot go on: %s", fault.text)));
			break;
		default:
			raise_unreadable(source, &fault, topic);
	}
}

static void
on_log(KafkaSource *source)
{
	const char *facility;
	const char *text;
	int			level;
	char		copy[KAFKA_TEXT];

	if (rd_kafka_event_log(source->event, &facility, &text, &level) != 0)
		return;
	cs_kafka_copy_text(copy, text, sizeof(copy));
	ereport(DEBUG1, (errmsg_internal("librdkafka, level %d: %s", level, copy)));
}

/* An error of the client as a whole: words for problem(), never raised but when fatal. */
static void
on_error(KafkaSource *source)
{
	rd_kafka_resp_err_t code = rd_kafka_event_error(source->event);
	char				text[KAFKA_TEXT];

	cs_kafka_copy_text(text, rd_kafka_event_error_string(source->event), sizeof(text));
	if (code == RD_KAFKA_RESP_ERR__FATAL)
	{
		source->fault.code = code;
		source->fault.topic = source->fault.partition = -1;
		strlcpy(source->fault.text, text, sizeof(source->fault.text));
		return;
	}
	if (is_group_error(code))
		return;
	if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		mark_unreachable(source);
	keep_words(source, code, rd_kafka_event_error_string(source->event));
	if (!any_reachable(source))
		cs_kafka_set_problem(source, source->last_error);
}

static JsonbContainer *
stats_object(JsonbContainer *parent, const char *name)
{
	JsonbValue	buffer;
	JsonbValue *value = parent ? getKeyJsonValueFromContainer(parent, name, strlen(name), &buffer) : NULL;

	return value && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data) ? value->val.binary.data
																							  : NULL;
}

static int64
stats_number(JsonbContainer *parent, const char *name, int64 otherwise)
{
	JsonbValue	buffer;
	JsonbValue *value = parent ? getKeyJsonValueFromContainer(parent, name, strlen(name), &buffer) : NULL;

	if (value == NULL || value->type != jbvNumeric)
		return otherwise;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
}

static bool
stats_is_text(JsonbContainer *parent, const char *name, const char *text)
{
	JsonbValue	buffer;
	JsonbValue *value = getKeyJsonValueFromContainer(parent, name, strlen(name), &buffer);

	return value && value->type == jbvString && value->val.string.len == (int) strlen(text) &&
		   memcmp(value->val.string.val, text, value->val.string.len) == 0;
}

/* Is this entry of "brokers" up, and did it speak lately? */
static bool
broker_is_well(const KafkaSource *source, JsonbContainer *broker)
{
	int64 silent = stats_number(broker, "rxidle", -1); /* µs */

	return stats_is_text(broker, "state", "UP") && silent >= 0 && silent < source->silence_limit * INT64CONST(1000);
}

/*
 * Is the broker of this number well?  -1 asks for any.  The coordinator's
 * entry ("logical") is a second connection, which stands idle most of the time.
 */
static bool
node_is_well(const KafkaSource *source, JsonbContainer *brokers, int64 node)
{
	JsonbIterator	  *iterator;
	JsonbIteratorToken token;
	JsonbValue		   value;

	if (brokers == NULL)
		return false;
	iterator = JsonbIteratorInit(brokers);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		JsonbContainer *broker;

		if (token != WJB_VALUE || value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
			continue;
		broker = value.val.binary.data;
		if (stats_is_text(broker, "source", "logical"))
			continue;
		if (node >= 0 && stats_number(broker, "nodeid", -1) != node)
			continue;
		if (node >= 0 ? broker_is_well(source, broker) : stats_is_text(broker, "state", "UP"))
			return true;
	}
	return false;
}

/* Number of the broker that a partition is read from, -1 none. */
static int64
partition_node(JsonbContainer *topics, const char *topic, int32 id)
{
	char			name[16];
	JsonbContainer *partitions = stats_object(stats_object(topics, topic), "partitions");

	snprintf(name, sizeof(name), "%d", id);
	return stats_number(stats_object(partitions, name), "broker", -1);
}

/*
 * A partition is cut off: its words are the newest error, or else we name it.
 */
static void
report_cut_off(KafkaSource *source, const char *topic, int32 id, int64 node)
{
	char text[KAFKA_TEXT];

	if (source->last_error[0] != '\0')
	{
		cs_kafka_set_problem(source, source->last_error);
		return;
	}
	if (!TimestampDifferenceExceeds(source->assigned_at, GetCurrentTimestamp(), ASSIGN_GRACE_MS))
		return;
	if (node < 0)
		snprintf(text, sizeof(text), "topic %s, partition %d, has no leader", topic, id);
	else
		snprintf(text, sizeof(text), "broker %lld of topic %s, partition %d, does not answer", (long long) node, topic,
				 id);
	cs_kafka_set_problem(source, text);
}

static void
judge_partitions(KafkaSource *source, Jsonb *statistics)
{
	JsonbContainer *brokers = stats_object(&statistics->root, "brokers");
	JsonbContainer *topics = stats_object(&statistics->root, "topics");
	bool			all_well = source->npartitions > 0 || node_is_well(source, brokers, -1);

	for (int i = 0; i < source->npartitions; i++)
	{
		KafkaPartition *p = &source->partitions[i];
		const char	   *topic = source->stream->topics[p->partition->topic];
		int64			node = partition_node(topics, topic, p->partition->id);

		if (p->partition->paused)
			continue; /* nothing is asked of its broker */
		p->is_reachable = node >= 0 && node_is_well(source, brokers, node);
		if (!p->is_reachable)
		{
			p->partition->at_end = false;
			if (all_well)
				report_cut_off(source, topic, p->partition->id, node);
		}
		all_well &= p->is_reachable && !p->is_refused && p->short_since == 0;
	}
	if (all_well)
	{
		source->has_problem = false;
		source->last_error[0] = '\0';
	}
}

static void
on_statistics(KafkaSource *source)
{
	MemoryContext old = MemoryContextSwitchTo(source->scratch);
	const char	 *text = rd_kafka_event_stats(source->event);

	judge_partitions(source, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text))));
	MemoryContextSwitchTo(old);
	MemoryContextReset(source->scratch);
	source->is_outdated |= cs_kafka_files_changed(source);
}

static void
serve_queue(KafkaSource *source, rd_kafka_queue_t *queue)
{
	for (int i = 0; i < EVENTS_MAX && (source->event = rd_kafka_queue_poll(queue, 0)) != NULL; i++)
	{
		switch (rd_kafka_event_type(source->event))
		{
			case RD_KAFKA_EVENT_LOG:
				on_log(source);
				break;
			case RD_KAFKA_EVENT_ERROR:
				on_error(source);
				break;
			case RD_KAFKA_EVENT_STATS:
				on_statistics(source);
				break;
			default:
				break;
		}
		rd_kafka_event_destroy(source->event);
		source->event = NULL;
	}
}

void
cs_kafka_serve_events(KafkaSource *source)
{
	if (source->event)
	{
		/* An error interrupted us with this one in hand. */
		rd_kafka_event_destroy(source->event);
		source->event = NULL;
	}
	serve_queue(source, source->log_queue);
	if (source->main_queue)
		serve_queue(source, source->main_queue);
}
