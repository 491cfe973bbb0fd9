/*
 * source/kafka.c
 *	  Kafka as a source of messages, through librdkafka.
 *
 * Partitions are assigned by us with the offsets that our tables hold; the
 * library stores no position, commits nothing by itself, and reports a lost
 * offset instead of jumping over it.  The consumer group is only written to,
 * for tools that show lag.
 *
 * Messages stay the library's until release(): what the engine gets are
 * pointers into them.  Whatever the library holds is given back by
 * close_source(), from the memory context's reset callback, or when the
 * process exits with a source open: threads of the library must not run while
 * the C library takes the process down.
 *
 * A wake-up is a byte in a pipe that the library writes when a queue turns
 * from empty to not empty.  poll() reads the pipe empty before it looks at the
 * queues, and writes a byte itself when it leaves something behind, so that
 * the descriptor is readable as long as there is something to fetch.
 *
 * Threads and locks: the library's threads have all signals blocked and touch
 * nothing of PostgreSQL's.  Everything arrives through queues that the main
 * thread reads; the one callback is called by that reading.  The list of open sources is
 * read and written by the main thread only.
 */
#include "postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/wait.h"
#include "source/kafka_internal.h"
#include "source/kafka_options.h"

/* Messages taken from the library between two looks at interrupts. */
#define TAKE_MAX 10000

/* How often the high watermarks of quiet partitions are looked at, in µs. */
#define ENDS_INTERVAL (100 * CS_USECS_PER_MSEC)

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

/* ---- open and close ---- */

static void
destroy_held(KafkaSource *source)
{
	for (int i = 0; i < source->nheld; i++)
		rd_kafka_message_destroy(source->held[i]);
	source->nheld = 0;
}

static void
destroy_in_flight(KafkaSource *source)
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
	destroy_held(source);
	destroy_in_flight(source);
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
		source->has_pipe = false; /* its threads may still write there */
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

/* What this file depends on. */
static void
set_musts(KafkaSource *source)
{
	set_property(source, "bootstrap.servers", source->stream->brokers, false);
	set_property(source, "enable.auto.commit", "false", false);
	set_property(source, "enable.auto.offset.store", "false", false);
	set_property(source, "auto.offset.reset", "error", false);
	set_property(source, "enable.partition.eof", "true", false);
	set_property(source, "allow.auto.create.topics", "false", false);
	set_property(source, "log.queue", "true", false);
	set_property(source, "statistics.interval.ms", "1000", false);
	/* A full queue stops fetching for a second: let it hold more than a second's work, bounded by bytes. */
	set_number(source, "queued.min.messages", 1000000);
	set_number(source, "queued.max.messages.kbytes", Min(Max(cs_queue_memory, 1), QUEUE_KBYTES_MAX));
	set_property(source, "fetch.queue.backoff.ms", "10", true);
	set_property(source, "enable.metrics.push", "false", true);
	/* Builds without SSL or SASL do not know these. */
	set_property(source, "ssl.endpoint.identification.algorithm", "https", true);
	set_property(source, "sasl.kerberos.kinit.cmd", "", true);
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
make_client(KafkaSource *source)
{
	char	 text[KAFKA_TEXT] = "";
	sigset_t all;
	sigset_t old;

	rd_kafka_conf_set_opaque(source->conf, source);
	rd_kafka_conf_set_error_cb(source->conf, cs_kafka_error_callback);
	rd_kafka_conf_set_events(source->conf, RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	source->rk = rd_kafka_new(RD_KAFKA_CONSUMER, source->conf, text, sizeof(text));
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (source->rk == NULL)
	{
		cs_kafka_copy_text(text, text, sizeof(text));
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("could not make a Kafka client: %s", text),
						errhint("Look at the options of stream \"%s\".", source->stream->name)));
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

static CsSource *
kafka_open(const CsStream *stream, MemoryContext cxt)
{
	KafkaSource *source;

	cs_kafka_brokers_validate(stream->brokers);
	for (int i = 0; i < stream->ntopics; i++)
		cs_kafka_topic_validate(stream->topics[i]);
	source = make_source(stream, cxt);
	make_pipe(source);
	source->conf = rd_kafka_conf_new();
	set_defaults(source);
	cs_kafka_options_apply(source->conf, stream->options, stream->noptions);
	set_musts(source);
	read_silence_limit(source);
	make_client(source);
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

/* ---- assignment ---- */

static int
compare_places(int topic_a, int32 id_a, int topic_b, int32 id_b)
{
	if (topic_a != topic_b)
		return topic_a < topic_b ? -1 : 1;
	return id_a < id_b ? -1 : id_a > id_b ? 1 : 0;
}

static int
compare_partitions(const void *a, const void *b)
{
	const CsPartition *x = ((const KafkaPartition *) a)->partition;
	const CsPartition *y = ((const KafkaPartition *) b)->partition;

	return compare_places(x->topic, x->id, y->topic, y->id);
}

KafkaPartition *
cs_kafka_find_partition(KafkaSource *source, int topic, int32 id)
{
	int low = 0;
	int high = source->npartitions - 1;

	while (low <= high)
	{
		int				middle = (low + high) / 2;
		KafkaPartition *p = &source->partitions[middle];
		int				order = compare_places(topic, id, p->partition->topic, p->partition->id);

		if (order == 0)
			return p;
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return NULL;
}

static void
kafka_release(CsSource *base)
{
	destroy_held((KafkaSource *) base);
}

/* Our own table of what is assigned. */
static void
remember_partitions(KafkaSource *source, CsPartition **partitions, int n)
{
	if (source->partitions)
		pfree(source->partitions);
	source->npartitions = 0;
	source->partitions = MemoryContextAllocZero(source->cxt, sizeof(KafkaPartition) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		partitions[i]->at_end = false;
		source->partitions[i].partition = partitions[i];
		source->partitions[i].position = partitions[i]->next_offset;
		source->partitions[i].end = -1;
	}
	qsort(source->partitions, n, sizeof(KafkaPartition), compare_partitions);
	source->npartitions = n;
	source->assigned_at = GetCurrentTimestamp();
}

static void
kafka_assign(CsSource *base, CsPartition **partitions, int n)
{
	KafkaSource		   *source = (KafkaSource *) base;
	rd_kafka_resp_err_t code;

	destroy_held(source);
	destroy_in_flight(source);
	source->fault.code = RD_KAFKA_RESP_ERR_NO_ERROR;
	remember_partitions(source, partitions, n);
	source->list = rd_kafka_topic_partition_list_new(Max(n, 1));
	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(source->list, source->stream->topics[partitions[i]->topic], partitions[i]->id)
			->offset = partitions[i]->next_offset;
	/* An empty assignment first: what is queued from the earlier one is dropped even where the offsets agree. */
	code = rd_kafka_assign(source->rk, NULL);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR && n > 0)
		code = rd_kafka_assign(source->rk, source->list);
	(void) rd_kafka_resume_partitions(source->rk, source->list); /* those paused in the earlier one */
	destroy_in_flight(source);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("could not assign partitions: %s", rd_kafka_err2str(code))));
}

/* ---- poll ---- */

static void
drain_pipe(KafkaSource *source)
{
	char buffer[64];

	while (read(source->pipe[0], buffer, sizeof(buffer)) == (ssize_t) sizeof(buffer))
		;
}

static void
wake_up(KafkaSource *source)
{
	/* A full pipe wakes up just as well. */
	if (write(source->pipe[1], "w", 1) < 0)
		return;
}

static TimestampTz
message_timestamp(const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;
	int64					  ms = rd_kafka_message_timestamp(message, &type);
	int64					  usecs;

	/* The number is what some producer wrote: anything at all. */
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || ms < 0 || ms > PG_INT64_MAX / CS_USECS_PER_MSEC)
		return CS_WM_NONE;
	usecs = ms * CS_USECS_PER_MSEC - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	return IS_VALID_TIMESTAMP(usecs) ? usecs : CS_WM_NONE;
}

/* Bring end_offset up to what the library last heard, and at_end with it. */
static void
refresh_end(KafkaSource *source, KafkaPartition *p)
{
	int64 low;
	int64 high;

	if (rd_kafka_get_watermark_offsets(source->rk, source->stream->topics[p->partition->topic], p->partition->id, &low,
									   &high) == RD_KAFKA_RESP_ERR_NO_ERROR &&
		high >= 0)
		p->end = high;
	if (p->end >= 0)
		p->partition->end_offset = p->end;
	p->partition->at_end =
		p->end >= 0 && p->position >= p->end && p->is_reachable && !p->is_refused && !p->partition->paused;
}

static void
refresh_ends(KafkaSource *source)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now - source->ends_read_at < ENDS_INTERVAL && now >= source->ends_read_at)
		return;
	source->ends_read_at = now;
	for (int i = 0; i < source->npartitions; i++)
		refresh_end(source, &source->partitions[i]);
}

/*
 * The end of a partition is where the library says it is: with transactions
 * or compaction that lies beyond the last message.
 */
static void
on_end_of_partition(KafkaSource *source, KafkaPartition *p, int64 offset)
{
	p->position = Max(p->position, offset);
	p->is_reachable = true;
	p->is_refused = false;
	refresh_end(source, p);
}

static void
fill_message(CsMessage *target, rd_kafka_message_t *message, KafkaPartition *p)
{
	target->partition = p->partition;
	target->offset = message->offset;
	target->timestamp = message_timestamp(message);
	target->payload = message->payload;
	target->payload_len = message->payload ? message->len : 0;
	target->key = message->key;
	target->key_len = message->key ? message->key_len : 0;
	target->foreign = message;
}

static int
topic_index(const KafkaSource *source, const rd_kafka_message_t *message)
{
	const char *name;

	if (message->rkt == NULL)
		return -1;
	name = rd_kafka_topic_name(message->rkt);
	for (int i = 0; i < source->stream->ntopics; i++)
		if (strcmp(source->stream->topics[i], name) == 0)
			return i;
	return -1;
}

/* A run of messages from one partition: looked up once. */
typedef struct Run
{
	rd_kafka_topic_t *rkt;
	int32			  id;
	int				  topic;
	KafkaPartition	 *partition;
} Run;

static void
find_run(KafkaSource *source, Run *run, const rd_kafka_message_t *message)
{
	if (run->rkt != NULL && run->rkt == message->rkt && run->id == message->partition)
		return;
	run->rkt = message->rkt;
	run->id = message->partition;
	run->topic = topic_index(source, message);
	run->partition = run->topic >= 0 ? cs_kafka_find_partition(source, run->topic, run->id) : NULL;
}

/*
 * Look at one thing that the library delivered.  True if it is a message,
 * false if it was something else and is used up.
 */
static bool
accept_message(KafkaSource *source, Run *run, rd_kafka_message_t *message, CsMessage *target)
{
	KafkaPartition *p;

	find_run(source, run, message);
	p = run->partition;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && p != NULL && message->offset >= p->position)
	{
		fill_message(target, message, p);
		p->position = message->offset + 1;
		p->is_reachable = true;
		p->is_refused = false;
		p->partition->at_end = false;
		return true;
	}
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
	{
		if (p != NULL)
			on_end_of_partition(source, p, message->offset);
	}
	else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		cs_kafka_message_error(source, message, run->topic);
	return false;
}

/* Room for n more pointers. */
static void
grow_held(KafkaSource *source, int n)
{
	Size size;

	if (source->nheld + n <= source->held_size)
		return;
	size = Max((Size) source->held_size * 2, (Size) source->nheld + n);
	if (source->held == NULL)
		source->held = MemoryContextAllocHuge(source->cxt, sizeof(rd_kafka_message_t *) * size);
	else
		source->held = repalloc_huge(source->held, sizeof(rd_kafka_message_t *) * size);
	source->held_size = (int) size;
}

/*
 * What the queue has now, at most max things; *taken says how many there
 * were, the ones that are no messages included.
 */
static int
take_chunk(KafkaSource *source, CsMessage *messages, int max, int *taken)
{
	rd_kafka_message_t **got;
	Run					 run = {NULL, -1, -1, NULL};
	ssize_t				 count;
	int					 kept = 0;

	grow_held(source, max);
	got = source->held + source->nheld;
	/* Time-out 0: it would wait for a full batch otherwise. */
	count = rd_kafka_consume_batch_queue(source->consumer_queue, 0, got, max);
	*taken = (int) Max(count, 0);
	for (int i = 0; i < *taken; i++)
	{
		rd_kafka_message_t *message = got[i];

		if (accept_message(source, &run, message, &messages[kept]))
			got[kept++] = message;
		else
		{
			/* The run's topic pointer is only good while a message keeps it. */
			run.rkt = NULL;
			rd_kafka_message_destroy(message);
		}
	}
	source->nheld += kept;
	return kept;
}

static int
take(KafkaSource *source, CsMessage *messages, int max)
{
	int n = 0;
	int taken;
	int wanted;

	do
	{
		wanted = Min(max - n, TAKE_MAX);
		n += take_chunk(source, messages + n, wanted, &taken);
		CHECK_FOR_INTERRUPTS();
	} while (n < max && taken == wanted);
	return n;
}

/*
 * Wait for the pipe.  False if it is time to go back to the caller: the time
 * is over, or the latch was set, which may mean anything.
 */
static bool
wait_for_something(KafkaSource *source, TimestampTz deadline)
{
	long left = (long) ((deadline - GetCurrentTimestamp() + CS_USECS_PER_MSEC - 1) / CS_USECS_PER_MSEC);
	int	 happened;

	if (left <= 0)
		return false;
	happened = cs_wait(source->pipe[0], left);
	if (happened & WL_LATCH_SET)
	{
		CHECK_FOR_INTERRUPTS();
		return false;
	}
	return (happened & WL_SOCKET_READABLE) != 0;
}

static int
kafka_poll(CsSource *base, CsMessage *messages, int max, int timeout_ms)
{
	KafkaSource *source = (KafkaSource *) base;
	TimestampTz	 deadline = timeout_ms > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms) : 0;
	int			 n;

	cs_kafka_raise_fault(source);
	do
	{
		drain_pipe(source);
		cs_kafka_serve_events(source);
		n = take(source, messages, max);
	} while (n == 0 && source->fault.code == RD_KAFKA_RESP_ERR_NO_ERROR && timeout_ms > 0 &&
			 wait_for_something(source, deadline));
	refresh_ends(source);
	if (n == 0)
		cs_kafka_raise_fault(source);
	if (source->fault.code != RD_KAFKA_RESP_ERR_NO_ERROR || rd_kafka_queue_length(source->consumer_queue) > 0)
		wake_up(source);
	return n;
}

static int
kafka_poll_fd(CsSource *base)
{
	return ((KafkaSource *) base)->pipe[0];
}

/* ---- small things ---- */

/* For lag tools only, hence no look at the result. */
static void
kafka_committed(CsSource *base, CsPartition **partitions, int n)
{
	KafkaSource *source = (KafkaSource *) base;

	if (n == 0)
		return;
	destroy_in_flight(source);
	source->list = rd_kafka_topic_partition_list_new(n);
	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(source->list, source->stream->topics[partitions[i]->topic], partitions[i]->id)
			->offset = partitions[i]->next_offset;
	(void) rd_kafka_commit(source->rk, source->list, 1);
	destroy_in_flight(source);
}

static const char *
kafka_problem(CsSource *base)
{
	KafkaSource *source = (KafkaSource *) base;

	return source->has_problem ? source->problem : NULL;
}

const CsSourceOps cs_kafka_source = {
	.name = "kafka",
	.open = kafka_open,
	.list = cs_kafka_list,
	.start_offset = cs_kafka_start_offset,
	.assign = kafka_assign,
	.poll = kafka_poll,
	.pause = cs_kafka_pause,
	.release = kafka_release,
	.poll_fd = kafka_poll_fd,
	.headers = cs_kafka_headers,
	.committed = kafka_committed,
	.problem = kafka_problem,
};
