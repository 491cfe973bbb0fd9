/*
 * source/kafka_client.c
 *	  The library's client: made with our properties and the stream's, and given
 *	  back whole.
 *
 * Whatever the library holds is given back by close_source(), from the memory
 * context's reset callback, or when the process exits with a source open:
 * threads of the library must not run while the C library takes the process
 * down.
 *
 * The library's threads have all signals blocked and touch nothing of
 * PostgreSQL's.  The list of open sources is read and written by the main
 * thread only.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "core/settings.h"
#include "source/kafka_internal.h"
#include "source/kafka_options.h"

/* A broker answers a fetch within fetch.wait.max.ms; this much more (ms) is patience. */
#define SILENCE_SLACK_MS 3000

/* How long the library may take to end its threads, in seconds. */
#define DESTROY_PATIENCE_S 3

/* Largest answer to one fetch, in bytes, if the queue's memory allows it. */
#define FETCH_MAX_BYTES (50 * 1024 * 1024)
#define FETCH_MIN_BYTES (1024 * 1024)

/* Bounds of queued.max.messages.kbytes in the library. */
#define QUEUE_KBYTES_MAX 2097151

static dlist_head open_sources = DLIST_STATIC_INIT(open_sources);
static bool		  exit_registered = false;

void
cs_kafka_destroy_held(KafkaSource *source)
{
	for (int i = 0; i < source->nheld; i++)
		rd_kafka_message_destroy(source->held[i]);
	source->nheld = 0;
}

void
cs_kafka_destroy_in_flight(KafkaSource *source)
{
	if (source->event)
		rd_kafka_event_destroy(source->event);
	source->event = NULL;
	if (source->metadata)
		rd_kafka_metadata_destroy(source->metadata);
	source->metadata = NULL;
	if (source->list)
		rd_kafka_topic_partition_list_destroy(source->list);
	source->list = NULL;
}

static void
destroy_queue(rd_kafka_queue_t **queue)
{
	if (*queue == NULL)
		return;
	rd_kafka_queue_io_event_enable(*queue, -1, NULL, 0);
	rd_kafka_queue_destroy(*queue);
	*queue = NULL;
}

/*
 * Stop fetching and empty the queues: what lies in them keeps partitions, and
 * through them broker threads, alive, and destroying the client would wait
 * for those for ever.
 */
static void
stop_fetching(KafkaSource *source)
{
	rd_kafka_message_t *message[64];
	rd_kafka_event_t   *event;
	ssize_t				n;

	if (source->rk == NULL || source->consumer_queue == NULL)
		return;
	(void) rd_kafka_assign(source->rk, NULL);
	while ((n = rd_kafka_consume_batch_queue(source->consumer_queue, 0, message, lengthof(message))) > 0)
		for (ssize_t i = 0; i < n; i++)
			rd_kafka_message_destroy(message[i]);
	while ((event = rd_kafka_queue_poll(source->main_queue, 0)) != NULL)
		rd_kafka_event_destroy(event);
}

static void
end_at_once(int code, void *arg)
{
	(void) arg;
	_exit(code);
}

/* Threads that were left alone must not see what exit() does to libraries: this comes first, and is the last. */
static void
spare_threads(void)
{
	static bool is_registered = false;

	if (!is_registered)
		(void) on_exit(end_at_once, NULL);
	is_registered = true;
}

static void *
destroy_client(void *rk)
{
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return NULL;
}

/*
 * Destroy the client, but not at any price: librdkafka 2.0.2 never returns
 * when an assigned topic vanished from the metadata meanwhile, and a process
 * that cannot be interrupted is worse than a leak.  So a thread that touches
 * nothing else does it, and is left alone if it takes too long.  False then.
 */
static bool
destroy_client_in_time(rd_kafka_t *rk)
{
	pthread_t		thread;
	sigset_t		all;
	sigset_t		old;
	struct timespec limit;
	int				result;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	result = pthread_create(&thread, NULL, destroy_client, rk);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (result != 0)
		return false;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += DESTROY_PATIENCE_S;
	if (pthread_timedjoin_np(thread, NULL, &limit) == 0)
		return true;
	pthread_detach(thread);
	return false;
}

/*
 * Give back everything that the library holds, in the order it asks for:
 * what refers to the client first, the client, the pipe its threads write to.
 * Must not raise, and must not look at child contexts: they are gone.
 */
static void
close_source(void *arg)
{
	KafkaSource *source = arg;

	if (!source->is_open)
		return;
	source->is_open = false;
	dlist_delete(&source->node);
	cs_kafka_destroy_held(source);
	cs_kafka_destroy_in_flight(source);
	stop_fetching(source);
	destroy_queue(&source->consumer_queue);
	destroy_queue(&source->main_queue);
	destroy_queue(&source->log_queue);
	for (int i = 0; source->topics && i < source->stream->ntopics; i++)
		if (source->topics[i])
			rd_kafka_topic_destroy(source->topics[i]);
	source->topics = NULL;
	if (source->conf)
		rd_kafka_conf_destroy(source->conf);
	source->conf = NULL;
	if (source->rk && !destroy_client_in_time(source->rk))
	{
		source->has_pipe = false; /* its threads may still write there */
		spare_threads();
	}
	source->rk = NULL;
	if (source->has_pipe)
	{
		close(source->pipe[0]);
		close(source->pipe[1]);
		ReleaseExternalFD();
		ReleaseExternalFD();
		source->has_pipe = false;
	}
}

/* A thread that nobody can end is inside of the client: it stays, and what refers to it, as the process's leak. */
void
cs_kafka_leave_client(KafkaSource *source)
{
	source->log_queue = NULL;
	source->rk = NULL;
	spare_threads();
}

static void
close_at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	while (!dlist_is_empty(&open_sources))
		close_source(dlist_container(KafkaSource, node, dlist_head_node(&open_sources)));
}

/* An empty source whose clean-up is in place before there is anything to clean. */
static KafkaSource *
make_source(const CsStream *stream, MemoryContext cxt)
{
	KafkaSource *source = MemoryContextAllocZero(cxt, sizeof(KafkaSource));

	source->base.ops = &cs_kafka_source;
	source->stream = stream;
	source->cxt = cxt;
	source->scratch = AllocSetContextCreate(cxt, "clickstream Kafka statistics", ALLOCSET_DEFAULT_SIZES);
	source->missing_since = MemoryContextAllocZero(cxt, sizeof(TimestampTz) * stream->ntopics);
	source->was_seen = MemoryContextAllocZero(cxt, sizeof(bool) * stream->ntopics);
	source->news.is_gone = MemoryContextAllocZero(cxt, sizeof(bool) * (stream->ntopics + 1));
	for (int i = 0; stream->pattern && i < stream->ntopics; i++)
		source->news.is_gone[i] = stream->topic_is_gone[i];
	source->was_listed = MemoryContextAllocZero(cxt, sizeof(bool) * stream->ntopics);
	source->topics = MemoryContextAllocZero(cxt, sizeof(rd_kafka_topic_t *) * stream->ntopics);
	if (!exit_registered)
	{
		on_proc_exit(close_at_exit, (Datum) 0);
		exit_registered = true;
	}
	source->callback.func = close_source;
	source->callback.arg = source;
	dlist_push_tail(&open_sources, &source->node);
	source->is_open = true;
	MemoryContextRegisterResetCallback(cxt, &source->callback);
	return source;
}

static void
make_pipe(KafkaSource *source)
{
	if (pipe(source->pipe) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create a pipe: %m")));
	source->has_pipe = true;
	ReserveExternalFD();
	ReserveExternalFD();
	for (int i = 0; i < 2; i++)
		if (fcntl(source->pipe[i], F_SETFL, O_NONBLOCK) < 0 || fcntl(source->pipe[i], F_SETFD, FD_CLOEXEC) < 0)
			ereport(ERROR, (errcode_for_socket_access(), errmsg("could not set up a pipe: %m")));
}

/* Set one property of ours; a version that does not know an optional one goes without. */
static void
set_property(KafkaSource *source, const char *name, const char *value, bool is_optional)
{
	char				text[KAFKA_TEXT];
	rd_kafka_conf_res_t result = rd_kafka_conf_set(source->conf, name, value, text, sizeof(text));

	if (result == RD_KAFKA_CONF_OK || is_optional)
		return;
	cs_kafka_copy_text(text, text, sizeof(text));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("could not set librdkafka property \"%s\"", name),
					errdetail("librdkafka %s: %s", rd_kafka_version_str(), text)));
}

static void
set_number(KafkaSource *source, const char *name, int64 value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long) value);
	set_property(source, name, text, false);
}

/* What a stream's options may override. */
static void
set_defaults(KafkaSource *source)
{
	char *group = psprintf("clickstream-%s", source->stream->name);
	int64 queue_bytes = (int64) cs_queue_memory * 1024;

	set_property(source, "group.id", group, false);
	set_property(source, "client.id", "clickstream", false);
	set_property(source, "isolation.level", "read_committed", false);
	set_property(source, "check.crcs", "true", false);
	set_property(source, "socket.keepalive.enable", "true", false);
	/* A trickle is fetched ten times a second, not message by message: each fetch costs both sides. */
	set_number(source, "fetch.wait.max.ms", 100);
	set_number(source, "fetch.min.bytes", 100000);
	set_number(source, "fetch.error.backoff.ms", 100);
	set_number(source, "reconnect.backoff.max.ms", 5000);
	set_number(source, "fetch.max.bytes", Min(FETCH_MAX_BYTES, Max(queue_bytes, FETCH_MIN_BYTES)));
	pfree(group);
}

static bool
has_mechanism(const CsStream *stream)
{
	for (int i = 0; i < stream->noptions; i++)
		if (strcmp(stream->options[i].name, "sasl.mechanism") == 0 ||
			strcmp(stream->options[i].name, "sasl.mechanisms") == 0)
			return true;
	return false;
}

/* What a client of any kind is made with, whatever the options say. */
static void
set_safety(KafkaSource *source)
{
	set_property(source, "bootstrap.servers", source->stream->brokers, false);
	set_property(source, "log.queue", "true", false);
	set_property(source, "enable.metrics.push", "false", true);
	/* Builds without SSL or SASL do not know these. */
	set_property(source, "ssl.endpoint.identification.algorithm", "https", true);
	set_property(source, "enable.ssl.certificate.verification", "true", true);
	set_property(source, "enable.sasl.oauthbearer.unsecure.jwt", "false", true);
	set_property(source, "sasl.oauthbearer.method", "oidc", true);
	/* The library's own choice of a mechanism would be GSSAPI, which runs this command through a shell. */
	if (!has_mechanism(source->stream))
		set_property(source, "sasl.mechanisms", "PLAIN", true);
	set_property(source, "sasl.kerberos.min.time.before.relogin", "0", true);
	set_property(source, "sasl.kerberos.kinit.cmd", ":", true);
}

/* What a consumer depends on. */
static void
set_musts(KafkaSource *source)
{
	set_safety(source);
	set_property(source, "enable.auto.commit", "false", false);
	set_property(source, "enable.auto.offset.store", "false", false);
	set_property(source, "auto.offset.reset", "error", false);
	set_property(source, "enable.partition.eof", "true", false);
	set_property(source, "allow.auto.create.topics", "false", false);
	set_property(source, "statistics.interval.ms", "1000", false);
	/* A full queue stops fetching for a second: let it hold more than a second's work, bounded by bytes. */
	set_number(source, "queued.min.messages", 1000000);
	set_number(source, "queued.max.messages.kbytes", Min(Max(cs_queue_memory, 1), QUEUE_KBYTES_MAX));
	set_property(source, "fetch.queue.backoff.ms", "10", true);
}

static void
read_silence_limit(KafkaSource *source)
{
	char   text[32];
	size_t size = sizeof(text);

	source->silence_limit = SILENCE_SLACK_MS;
	if (rd_kafka_conf_get(source->conf, "fetch.wait.max.ms", text, &size) == RD_KAFKA_CONF_OK)
		source->silence_limit += atoi(text);
}

/*
 * Make the client.  Its threads inherit our signal mask, and a signal that one
 * of them took would run PostgreSQL's handler there: so all are blocked.
 */
static void
make_client(KafkaSource *source, rd_kafka_type_t type)
{
	char	 text[KAFKA_TEXT] = "";
	sigset_t all;
	sigset_t old;

	rd_kafka_conf_set_opaque(source->conf, source);
	rd_kafka_conf_set_error_cb(source->conf, cs_kafka_error_callback);
	/* A producer's errors come to the callback: its calls wait, and serve the queue meanwhile. */
	rd_kafka_conf_set_events(source->conf, type == RD_KAFKA_PRODUCER
											   ? RD_KAFKA_EVENT_LOG
											   : RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	source->rk = rd_kafka_new(type, source->conf, text, sizeof(text));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (source->rk == NULL)
	{
		cs_kafka_copy_text(text, text, sizeof(text));
		/* With a file among them, whoever mends it need not start the stream: see kafka_secrets.c. */
		ereport(ERROR,
				(errcode(source->files ? ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION : ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("could not make a Kafka client: %s", text),
				 errhint("Look at the options of stream \"%s\"%s.", source->stream->name,
						 source->files ? ", and at the files that they name" : "")));
	}
	source->conf = NULL; /* the client's now */
}

static void
make_queues(KafkaSource *source)
{
	source->log_queue = rd_kafka_queue_new(source->rk);
	rd_kafka_set_log_queue(source->rk, source->log_queue);
	source->main_queue = rd_kafka_queue_get_main(source->rk);
	source->consumer_queue = rd_kafka_queue_get_consumer(source->rk);
	if (source->consumer_queue == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"group.id\" cannot be empty")));
	rd_kafka_queue_io_event_enable(source->main_queue, source->pipe[1], "m", 1);
	rd_kafka_queue_io_event_enable(source->consumer_queue, source->pipe[1], "c", 1);
}

CsSource *
cs_kafka_open(const CsStream *stream, MemoryContext cxt)
{
	KafkaSource *source;

	cs_kafka_brokers_validate(stream->brokers);
	for (int i = 0; i < stream->ntopics; i++)
		cs_kafka_topic_validate(stream->topics[i]);
	source = make_source(stream, cxt);
	make_pipe(source);
	source->conf = rd_kafka_conf_new();
	set_defaults(source);
	cs_kafka_options_apply(source, RD_KAFKA_CONSUMER);
	set_musts(source);
	read_silence_limit(source);
	make_client(source, RD_KAFKA_CONSUMER);
	make_queues(source);
	for (int i = 0; i < stream->ntopics; i++)
	{
		source->topics[i] = rd_kafka_topic_new(source->rk, stream->topics[i], NULL);
		if (source->topics[i] == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("could not use topic \"%s\": %s", stream->topics[i],
								   rd_kafka_err2str(rd_kafka_last_error()))));
	}
	return &source->base;
}

/*
 * A client that sends: sent is told of each message by the library, when its
 * queue is served.  transactional_id NULL: no transactions.
 */
KafkaSource *
cs_kafka_open_producer(const CsStream *stream, const char *transactional_id, KafkaSent sent, MemoryContext cxt)
{
	KafkaSource *source = make_source(stream, cxt);

	source->conf = rd_kafka_conf_new();
	set_property(source, "client.id", "clickstream", false);
	set_property(source, "socket.keepalive.enable", "true", false);
	set_property(source, "reconnect.backoff.max.ms", "5000", false);
	set_property(source, "compression.type", "lz4", true);
	set_property(source, "partitioner", "murmur2_random", false); /* as Java's clients have it */
	set_property(source, "linger.ms", "5", false);
	cs_kafka_options_apply(source, RD_KAFKA_PRODUCER);
	set_safety(source);
	set_property(source, "enable.idempotence", "true", false);
	set_property(source, "message.timeout.ms", "60000", false);
	/* The topic says how large a message may be, and of the compressed one: the library's limit would be another. */
	set_property(source, "message.max.bytes", "1000000000", false);
	if (transactional_id)
	{
		set_property(source, "transactional.id", transactional_id, false);
		set_property(source, "transaction.timeout.ms", "60000", false);
	}
	rd_kafka_conf_set_dr_msg_cb(source->conf, sent);
	make_client(source, RD_KAFKA_PRODUCER);
	source->log_queue = rd_kafka_queue_new(source->rk);
	rd_kafka_set_log_queue(source->rk, source->log_queue);
	return source;
}
