/*
 * source/kafka_producer.c
 *	  Sending rows of an outbox to a topic; see kafka_producer.h.
 *
 * A transaction of Kafka's holds a few thousand rows.  In it the position in the
 * outbox is committed as the offset of partition 0 of the topic in a
 * consumer group that nobody joins: the group's coordinator takes part in the
 * transaction, so rows and position are there together or not at all.  (A marker
 * message in the topic would be seen by its readers, and could be found only by
 * reading the ends of all partitions.)
 *
 * Two clients: the producer, and a consumer without assignment, which knows how
 * to ask without making a topic, and for the group's offset.
 *
 * Steps of a transaction: begun, queued row by row, flushed, position, committed;
 * what went wrong on the way is aborted.  Each call of cs_producer_send() goes on
 * where the last one stopped.
 *
 * Main thread only, but for kafka_tell.c; the library's callbacks come from our own calls.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/sink.h"
#include "source/kafka_internal.h"
#include "source/kafka_options.h"
#include "source/kafka_producer.h"

/* Of each message: the sink's id and the row's position in its outbox. */
#define ID_HEADER "clickstream.id"

/* How long one call of the library may wait, in ms: interrupts are looked at in between. */
#define SLICE_MS 200

/* What a question may take when earlier ones were not answered in their time: a broker may be far away. */
#define SLOW_MAX_MS 2000

/* A step that gets no further for so long is a problem worth showing. */
#define SILENCE_MS 5000

/* By then the broker has given the transaction up (transaction.timeout.ms), and the call that waits for it may never end. */
#define TELL_PATIENCE_MS 90000

typedef enum Step
{
	STEP_IDLE,
	STEP_QUEUE,
	STEP_FLUSH,
	STEP_POSITION,
	STEP_COMMIT,
	STEP_ABORT
} Step;

struct CsProducer
{
	const CsSink *sink;
	CsStream	 *target; /* what the clients are made for */
	KafkaSource	 *client;
	KafkaSource	 *asker;
	bool		  has_begun;
	Step		  step;
	TimestampTz	  moved;	 /* when the step was last seen to get further, or it was asked why not */
	int			  slow_ms;	 /* a question was not answered in half of this */
	int			  queued;	 /* of the rows */
	int			  delivered; /* of the rows: the broker has them */
	bool		  has_problem;
	/* why messages of this transaction were refused, and the largest of them; written by the callback */
	rd_kafka_resp_err_t refused;
	int64				refused_position; /* in the outbox; 0: none */
	size_t				refused_bytes;
	char				refused_key[KAFKA_TEXT];
	/* to be given back */
	rd_kafka_error_t				*error;
	rd_kafka_topic_partition_list_t *list;
	KafkaTelling					*telling;
	MemoryContextCallback			 callback;
};

/* ---- life ---- */

static void
give_back(CsProducer *p)
{
	if (p->error)
		rd_kafka_error_destroy(p->error);
	if (p->list)
		rd_kafka_topic_partition_list_destroy(p->list);
	p->error = NULL;
	p->list = NULL;
}

/* Called before the clients' own: registered later. */
static void
give_back_callback(void *arg)
{
	CsProducer *p = arg;

	give_back(p);
	if (p->telling && !cs_kafka_end_telling(p->telling))
		cs_kafka_leave_client(p->client);
	p->telling = NULL;
}

/* The stream that clients are made for: a source's, with the sink's topic, and a group of its own. */
static CsStream *
target_of(const CsSink *sink)
{
	CsStream *target = palloc0(sizeof(CsStream));
	int		  n;
	CsOption *options = cs_kafka_options_parse(sink->options, &n);

	target->name = sink->name;
	target->brokers = sink->brokers;
	target->ntopics = 1;
	target->topics = palloc(sizeof(char *));
	target->topics[0] = sink->topic;
	target->options = palloc((n + 1) * sizeof(CsOption));
	for (int i = 0; i < n; i++)
	{
		if (strcmp(options[i].name, "group.id") != 0 && strcmp(options[i].name, "isolation.level") != 0)
			target->options[target->noptions++] = options[i];
	}
	target->options[target->noptions].name = "group.id";
	target->options[target->noptions++].value = psprintf("clickstream-sink-%s", sink->producer_id);
	return target;
}

/* Its position in the outbox, out of the header that queue_row() has given it; 0: it has none. */
static int64
position_of(const rd_kafka_message_t *message)
{
	rd_kafka_headers_t *headers;
	const void		   *id;
	const char		   *slash;
	size_t				size;

	if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
		rd_kafka_header_get_last(headers, ID_HEADER, &id, &size) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	slash = strchr(id, '/'); /* the library keeps a zero byte behind a header's value */
	return slash ? strtoll(slash + 1, NULL, 10) : 0;
}

/* Of a batch that is too large all messages are refused: the largest one is it. */
static void
note_refused(CsProducer *p, const rd_kafka_message_t *message)
{
	p->refused = message->err;
	if (p->refused_position > 0 && message->len <= p->refused_bytes)
		return;
	p->refused_position = position_of(message);
	p->refused_bytes = message->len;
	snprintf(p->refused_key, sizeof(p->refused_key), "%.*s", (int) Min(message->key_len, sizeof(p->refused_key)),
			 (const char *) message->key);
}

/* The library has come to an end with a message. */
static void
on_sent(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	CsProducer *p = message->_private;

	(void) rk;
	(void) opaque;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		p->delivered++;
	else if (message->err != RD_KAFKA_RESP_ERR__PURGE_QUEUE && message->err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
		note_refused(p, message);
}

/* The partitions are of no interest, and nobody resets the context of whoever asks time and again. */
static bool
finds_topic(CsSource *asker, int timeout_ms)
{
	int			 n;
	CsPartition *partitions = cs_kafka_list(asker, &n, timeout_ms); /* raises where the topic is not */

	if (partitions == NULL)
		return false;
	pfree(partitions);
	return true;
}

CsProducer *
cs_producer_open(const CsSink *sink, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CsProducer	 *p = palloc0(sizeof(CsProducer));

	p->sink = sink;
	p->target = target_of(sink);
	p->asker = (KafkaSource *) cs_kafka_open(p->target, cxt);
	p->client = cs_kafka_open_producer(p->target,
									   sink->transactional ? psprintf("clickstream-sink-%s", sink->producer_id) : NULL,
									   on_sent, cxt);
	p->callback.func = give_back_callback;
	p->callback.arg = p;
	MemoryContextRegisterResetCallback(cxt, &p->callback);
	MemoryContextSwitchTo(old);
	return p;
}

const char *
cs_producer_check(const CsSink *sink, int timeout_ms)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "clickstream sink check", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CsSource	 *asker = cs_kafka_open(target_of(sink), cxt);
	const char	 *problem = NULL;

	if (!finds_topic(asker, timeout_ms))
		problem = asker->ops->problem(asker) ? asker->ops->problem(asker) : "";
	MemoryContextSwitchTo(old);
	if (problem)
		problem = pstrdup(problem);
	MemoryContextDelete(cxt);
	return problem;
}

void
cs_producer_serve(CsProducer *p)
{
	(void) rd_kafka_poll(p->client->rk, 0);
	cs_kafka_serve_events(p->client);
	cs_kafka_serve_events(p->asker);
}

bool
cs_producer_is_outdated(CsProducer *p)
{
	return cs_kafka_files_changed(p->client);
}

const char *
cs_producer_problem(CsProducer *p)
{
	return p->has_problem ? p->client->problem : NULL;
}

/* ---- errors ---- */

/* A right that the broker's user lacks, in words; or NULL. */
static const char *
lacks(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
			return "the user may not write to the topic: allow him Describe, Read and Write";
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
			return "the user may not keep the sink's position: allow him Read on the group clickstream-sink-...";
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
			return "the user may not use transactions: allow him Describe and Write on the transactional id "
				   "clickstream-sink-...";
		default:
			return NULL;
	}
}

/* The brokers' newest words say more than a call that has come back. */
static void
set_problem(CsProducer *p, rd_kafka_resp_err_t code, const char *text)
{
	const char *words = lacks(code);

	if (words == NULL)
		words = p->client->last_error[0] ? p->client->last_error : text;
	p->has_problem = true;
	cs_kafka_set_problem(p->client, words);
}

static void
set_well(CsProducer *p)
{
	p->has_problem = p->client->has_problem = false;
	p->client->last_error[0] = '\0';
}

/* What no try mends: the message, or our right to send it. */
static bool
is_hopeless(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
			return true;
		default:
			return false;
	}
}

static void
raise_refused(CsProducer *p, rd_kafka_resp_err_t code, const char *words)
{
	char  text[KAFKA_TEXT];
	char  key[KAFKA_TEXT];
	char *row = p->refused_position > 0 ? psprintf("row %lld ", (long long) p->refused_position) : "";

	cs_kafka_copy_text(text, lacks(code) ? lacks(code) : words, sizeof(text));
	cs_kafka_copy_text(key, p->refused_key, sizeof(key));
	ereport(ERROR,
			(errcode(is_hopeless(code) ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_CONNECTION_FAILURE),
			 errmsg("could not send %sto topic \"%s\": %s", row, p->sink->topic, text),
			 row[0] ? errdetail("Its key is %s, its value has %zu bytes.", key, p->refused_bytes) : 0,
			 errhint("Nothing is lost: rows wait in the outbox.  When the cause is gone, clickstream.start_sink('%s') "
					 "goes on.",
					 p->sink->name)));
}

/*
 * Fenced: the broker has given our transaction up, as we were out of its reach for longer
 * than it may take, and it does not say that; or another producer has begun with our
 * transactional.id, of a copy of this database or of a process thought dead, whose
 * question may have lain at the broker for long.  Whether another has sent a fresh producer
 * sees by the broker's position, and that alone decides: so this is no error for good.
 */
static void
raise_fatal(CsProducer *p, rd_kafka_resp_err_t code, const char *words)
{
	char text[KAFKA_TEXT];
	bool is_fenced = code == RD_KAFKA_RESP_ERR__FENCED || code == RD_KAFKA_RESP_ERR_PRODUCER_FENCED ||
					 code == RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;

	cs_kafka_copy_text(text, lacks(code) ? lacks(code) : words, sizeof(text));
	if (!is_fenced)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("the Kafka client cannot go on: %s", text)));
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_EXCEPTION),
			 errmsg("the broker takes nothing more from this producer of sink \"%s\"", p->sink->name),
			 errdetail("The broker said: %s", text),
			 errhint("It was out of reach for more than a minute, or a copy of this database sends, too.  A fresh "
					 "producer goes on, if no other has sent.")));
}

/*
 * An error of a call that may be called again.  Does nothing but take note, or
 * raises; the transaction may have to be aborted.
 */
static void
note_error(CsProducer *p, rd_kafka_error_t *error)
{
	rd_kafka_resp_err_t code;

	give_back(p);
	p->error = error; /* for whoever cleans up */
	code = rd_kafka_error_code(error);
	if (rd_kafka_error_is_fatal(error)) /* of an abort it is not the cause */
		raise_fatal(p, code, p->step == STEP_ABORT ? p->client->problem : rd_kafka_error_string(error));
	if (rd_kafka_error_txn_requires_abort(error))
	{
		set_problem(p, code, rd_kafka_error_string(error));
		p->step = STEP_ABORT;
	}
	else if (rd_kafka_error_is_retriable(error) || code == RD_KAFKA_RESP_ERR__TIMED_OUT ||
			 code == RD_KAFKA_RESP_ERR__IN_PROGRESS || code == RD_KAFKA_RESP_ERR__CONFLICT)
	{
		if (code != RD_KAFKA_RESP_ERR__TIMED_OUT || p->client->last_error[0])
			set_problem(p, code, rd_kafka_error_string(error));
	}
	else
		raise_refused(p, code, rd_kafka_error_string(error));
	give_back(p);
}

/* ---- where the broker stands ---- */

bool
cs_producer_begin(CsProducer *p, int timeout_ms)
{
	rd_kafka_error_t *error;

	if (!p->sink->transactional || p->has_begun)
		return true;
	error = rd_kafka_init_transactions(p->client->rk, timeout_ms);
	cs_producer_serve(p);
	if (error)
	{
		note_error(p, error);
		if (!p->has_problem)
			set_problem(p, RD_KAFKA_RESP_ERR__TIMED_OUT, "no answer to the request for a transaction's coordinator");
		return false;
	}
	p->has_begun = true;
	set_well(p);
	return true;
}

/* Metadata of the committed offset: the token in decimals. */
static void
read_position(const rd_kafka_topic_partition_t *at, CsBrokerPosition *position)
{
	char text[32] = "";

	position->known = at->offset >= 0;
	position->position = at->offset;
	position->token = 0;
	if (at->metadata == NULL)
		return;
	memcpy(text, at->metadata, Min(at->metadata_size, sizeof(text) - 1));
	position->token = strtoll(text, NULL, 10);
}

bool
cs_producer_position(CsProducer *p, CsBrokerPosition *position, int timeout_ms)
{
	rd_kafka_resp_err_t code;

	position->known = false;
	if (!finds_topic((CsSource *) p->asker, timeout_ms))
	{
		set_problem(p,
					strstr(p->asker->problem, "Topic authorization failed")
						? RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
						: RD_KAFKA_RESP_ERR__TIMED_OUT,
					p->asker->problem);
		return false;
	}
	if (!p->sink->transactional)
		return true;
	give_back(p);
	p->list = rd_kafka_topic_partition_list_new(1);
	(void) rd_kafka_topic_partition_list_add(p->list, p->sink->topic, 0);
	code = rd_kafka_committed(p->asker->rk, p->list, Max(timeout_ms, p->slow_ms));
	if (code == RD_KAFKA_RESP_ERR__TIMED_OUT)
		p->slow_ms = Min(Max(timeout_ms, p->slow_ms) * 2, SLOW_MAX_MS);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		code = p->list->elems[0].err;
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
			raise_refused(p, code, rd_kafka_err2str(code));
		set_problem(p, code, rd_kafka_err2str(code));
		return false;
	}
	read_position(&p->list->elems[0], position);
	give_back(p);
	set_well(p);
	return true;
}

/* ---- sending ---- */

/* False: the library's queue is full. */
static bool
queue_row(CsProducer *p, const CsOutboxRow *row)
{
	char			   *key = pg_server_to_any(row->key, (int) strlen(row->key), PG_UTF8);
	char			   *value = row->value ? pg_server_to_any(row->value, (int) strlen(row->value), PG_UTF8) : NULL;
	char				id[64];
	rd_kafka_resp_err_t code;

	snprintf(id, sizeof(id), "%s/" INT64_FORMAT, p->sink->producer_id, row->position);
	code = rd_kafka_producev(p->client->rk, RD_KAFKA_V_TOPIC(p->sink->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							 RD_KAFKA_V_KEY(key, strlen(key)), RD_KAFKA_V_VALUE(value, value ? strlen(value) : 0),
							 RD_KAFKA_V_HEADER(ID_HEADER, id, -1), RD_KAFKA_V_OPAQUE(p), RD_KAFKA_V_END);
	if (key != row->key)
		pfree(key);
	if (value && value != row->value)
		pfree(value);
	if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return false;
	if (code == RD_KAFKA_RESP_ERR__FATAL)
		raise_fatal(p, rd_kafka_fatal_error(p->client->rk, NULL, 0), rd_kafka_err2str(code));
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		p->refused = code;
		p->step = STEP_ABORT;
		set_problem(p, code, rd_kafka_err2str(code));
	}
	return true;
}

static void
queue_rows(CsProducer *p, const CsOutboxRow *rows, int n)
{
	while (p->step == STEP_QUEUE && p->queued < n)
	{
		if (!queue_row(p, &rows[p->queued]))
		{
			(void) rd_kafka_poll(p->client->rk, SLICE_MS);
			return;
		}
		p->queued++;
	}
	if (p->step == STEP_QUEUE)
		p->step = STEP_FLUSH;
}

/* All have come to an end, good or bad. */
static void
flush_rows(CsProducer *p, int timeout_ms)
{
	if (rd_kafka_flush(p->client->rk, Min(timeout_ms, SLICE_MS)) != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (p->client->last_error[0])
			set_problem(p, RD_KAFKA_RESP_ERR__TIMED_OUT, "");
		return;
	}
	/* Without a refusal the transaction has failed before: its next call says why. */
	if (p->refused != RD_KAFKA_RESP_ERR_NO_ERROR || (p->delivered < p->queued && !p->sink->transactional))
	{
		set_problem(p, p->refused, p->refused ? rd_kafka_err2str(p->refused) : "messages were not delivered");
		p->step = STEP_ABORT;
	}
	else
		p->step = p->sink->transactional ? STEP_POSITION : STEP_COMMIT;
}

static void
send_position(CsProducer *p, int64 position, int64 token)
{
	rd_kafka_error_t *error;
	char			  text[32];

	snprintf(text, sizeof(text), INT64_FORMAT, token);
	if (p->telling == NULL)
		p->telling = cs_kafka_tell(p->client->rk, p->target->options[p->target->noptions - 1].value, p->sink->topic,
								   position, text);
	if (p->telling == NULL)
	{
		set_problem(p, RD_KAFKA_RESP_ERR__TIMED_OUT, "could not start a thread");
		(void) rd_kafka_poll(p->client->rk, SLICE_MS);
		return;
	}
	if (!cs_kafka_has_told(p->telling, SLICE_MS, &error))
	{
		if (cs_kafka_tells_since(p->telling, TELL_PATIENCE_MS))
			ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
							errmsg("the broker has not answered for %d seconds", TELL_PATIENCE_MS / 1000),
							errdetail("It was to take the position of sink \"%s\".", p->sink->name)));
		return;
	}
	p->telling = NULL;
	if (error)
		note_error(p, error);
	else
		p->step = p->delivered < p->queued ? STEP_ABORT : STEP_COMMIT;
}

static CsSending
commit(CsProducer *p, int timeout_ms)
{
	rd_kafka_error_t *error = p->sink->transactional ? rd_kafka_commit_transaction(p->client->rk, timeout_ms) : NULL;

	if (error)
	{
		note_error(p, error);
		return CS_SENDING;
	}
	p->step = STEP_IDLE;
	set_well(p);
	return CS_SENT;
}

/* Then all begins again, unless what was refused will be again. */
static CsSending
abort_all(CsProducer *p, int timeout_ms)
{
	rd_kafka_error_t   *error = NULL;
	rd_kafka_resp_err_t refused = p->refused;

	if (p->sink->transactional)
		error = rd_kafka_abort_transaction(p->client->rk, timeout_ms);
	else
		(void) rd_kafka_purge(p->client->rk, RD_KAFKA_PURGE_F_QUEUE);
	(void) rd_kafka_poll(p->client->rk, 0);
	if (error)
	{
		note_error(p, error);
		p->step = STEP_ABORT;
		return CS_SENDING;
	}
	p->step = STEP_IDLE;
	if (is_hopeless(refused))
		raise_refused(p, refused, rd_kafka_err2str(refused));
	return CS_SEND_ABORTED;
}

static void
begin(CsProducer *p)
{
	rd_kafka_error_t *error = p->sink->transactional ? rd_kafka_begin_transaction(p->client->rk) : NULL;

	p->queued = p->delivered = 0;
	p->refused = RD_KAFKA_RESP_ERR_NO_ERROR;
	p->refused_position = 0;
	if (error)
		note_error(p, error);
	else
		p->step = STEP_QUEUE;
}

/* It gets no further.  That the topic is gone the library says only after minutes: raises then. */
static void
ask_why(CsProducer *p)
{
	if (!finds_topic((CsSource *) p->asker, SLICE_MS))
		set_problem(p, RD_KAFKA_RESP_ERR__TIMED_OUT, p->asker->problem);
	else if (!p->has_problem)
		set_problem(p, RD_KAFKA_RESP_ERR__TIMED_OUT, "the broker does not answer");
}

CsSending
cs_producer_send(CsProducer *p, const CsOutboxRow *rows, int n, int64 position, int64 token, int timeout_ms)
{
	Step	  step = p->step;
	int		  delivered = p->delivered;
	CsSending outcome = CS_SENDING;

	cs_producer_serve(p);
	switch (step)
	{
		case STEP_IDLE:
			begin(p);
			break;
		case STEP_QUEUE:
			queue_rows(p, rows, n);
			break;
		case STEP_FLUSH:
			flush_rows(p, timeout_ms);
			break;
		case STEP_POSITION:
			send_position(p, position, token);
			break;
		case STEP_COMMIT:
			outcome = commit(p, timeout_ms);
			break;
		case STEP_ABORT:
			outcome = abort_all(p, timeout_ms);
			break;
	}
	if (p->step != step || p->delivered != delivered || p->moved == 0)
		p->moved = GetCurrentTimestamp();
	else if (TimestampDifferenceExceeds(p->moved, GetCurrentTimestamp(), SILENCE_MS))
	{
		ask_why(p);
		p->moved = GetCurrentTimestamp();
	}
	return outcome;
}
