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
 * pointers into them.
 *
 * A wake-up is a byte in a pipe that the library writes when a queue turns
 * from empty to not empty.  poll() reads the pipe empty before it looks at the
 * queues, and writes a byte itself when it leaves something behind, so that
 * the descriptor is readable as long as there is something to fetch.
 *
 * Threads and locks: the library's threads have all signals blocked and touch
 * nothing of PostgreSQL's.  Everything arrives through queues that the main
 * thread reads; the one callback is called by that reading.
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
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
	cs_kafka_destroy_held((KafkaSource *) base);
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
		source->partitions[i].is_checked = cs_kafka_check_begins(partitions[i]);
	}
	qsort(source->partitions, n, sizeof(KafkaPartition), compare_partitions);
	source->npartitions = n;
	source->assigned_at = GetCurrentTimestamp();
}

/* Tell the library where each partition goes on: one message early where that one is to be checked. */
static void
assign_positions(KafkaSource *source)
{
	rd_kafka_resp_err_t code;

	cs_kafka_destroy_in_flight(source);
	source->reassigns = false;
	source->list = rd_kafka_topic_partition_list_new(Max(source->npartitions, 1));
	for (int i = 0; i < source->npartitions; i++)
	{
		KafkaPartition *p = &source->partitions[i];

		rd_kafka_topic_partition_list_add(source->list, source->stream->topics[p->partition->topic], p->partition->id)
			->offset = p->is_checked ? p->partition->last_offset : p->position;
	}
	/* An empty assignment first: what is queued from the earlier one is dropped even where the offsets agree. */
	code = rd_kafka_assign(source->rk, NULL);
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR && source->npartitions > 0)
		code = rd_kafka_assign(source->rk, source->list);
	(void) rd_kafka_resume_partitions(source->rk, source->list); /* those paused in the earlier one */
	cs_kafka_destroy_in_flight(source);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("could not assign partitions: %s", rd_kafka_err2str(code))));
}

static void
kafka_assign(CsSource *base, CsPartition **partitions, int n)
{
	KafkaSource *source = (KafkaSource *) base;

	cs_kafka_destroy_held(source);
	source->fault.code = RD_KAFKA_RESP_ERR_NO_ERROR;
	source->has_taken = false;
	remember_partitions(source, partitions, n);
	assign_positions(source);
}

/* A partition begins elsewhere than it was told: all are assigned where they are, and those that waited wait again. */
static void
reassign(KafkaSource *source)
{
	cs_kafka_judge_lost(source);
	if (source->fault.code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return; /* its raise is followed by an assignment */
	assign_positions(source);
	for (int i = 0; i < source->npartitions; i++)
		if (source->partitions[i].partition->paused)
			cs_kafka_pause(&source->base, source->partitions[i].partition, true);
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
	p->partition->at_end = p->end >= 0 && p->position >= p->end && p->is_reachable && !p->is_refused &&
						   !p->partition->paused && p->short_since == 0;
}

static void
refresh_ends(KafkaSource *source)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now - source->ends_read_at < ENDS_INTERVAL && now >= source->ends_read_at)
		return;
	source->ends_read_at = now;
	for (int i = 0; i < source->npartitions; i++)
	{
		refresh_end(source, &source->partitions[i]);
		cs_kafka_check_again(source, &source->partitions[i], now);
	}
}

/*
 * The end of a partition is where the library says it is: with transactions
 * or compaction that lies beyond the last message.
 */
static void
on_end_of_partition(KafkaSource *source, KafkaPartition *p, int64 offset)
{
	if (p->is_checked && !cs_kafka_check_end(source, p, offset))
		return;
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
 * false if it was something else and is used up.  What comes behind a fault is
 * not taken, or the message that is at fault would be passed over: the fault's
 * raise is followed by an assignment, which brings it again.
 */
static bool
accept_message(KafkaSource *source, Run *run, rd_kafka_message_t *message, CsMessage *target)
{
	KafkaPartition *p;

	if (source->fault.code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	find_run(source, run, message);
	p = run->partition;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && p != NULL && (p->is_checked || message->offset >= p->position))
	{
		fill_message(target, message, p);
		if (p->is_checked && !cs_kafka_check_message(source, p, message, target))
			return false;
		if (message->offset < p->position)
			return false;
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

/*
 * Is there a fault?  It is raised when all that came before it is committed:
 * raised earlier it would undo that, and again each time it is tried.
 */
static bool
meets_fault(KafkaSource *source)
{
	if (source->fault.code == RD_KAFKA_RESP_ERR_NO_ERROR)
		return false;
	if (!source->has_taken)
		cs_kafka_raise_fault(source);
	return true;
}

static int
kafka_poll(CsSource *base, CsMessage *messages, int max, int timeout_ms)
{
	KafkaSource *source = (KafkaSource *) base;
	TimestampTz	 deadline = timeout_ms > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms) : 0;
	int			 n;

	if (meets_fault(source))
	{
		wake_up(source);
		return 0;
	}
	do
	{
		drain_pipe(source);
		cs_kafka_serve_events(source);
		n = take(source, messages, max);
		if (source->reassigns && source->fault.code == RD_KAFKA_RESP_ERR_NO_ERROR)
			reassign(source);
	} while (n == 0 && source->fault.code == RD_KAFKA_RESP_ERR_NO_ERROR && timeout_ms > 0 &&
			 wait_for_something(source, deadline));
	refresh_ends(source);
	cs_kafka_nudge(source);
	source->has_taken |= n > 0;
	if (n == 0)
		(void) meets_fault(source);
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

	source->has_taken = false;
	if (n == 0)
		return;
	cs_kafka_destroy_in_flight(source);
	source->list = rd_kafka_topic_partition_list_new(n);
	for (int i = 0; i < n; i++)
		if (!partitions[i]->is_gone)
			rd_kafka_topic_partition_list_add(source->list, source->stream->topics[partitions[i]->topic],
											  partitions[i]->id)
				->offset = partitions[i]->next_offset;
	(void) rd_kafka_commit(source->rk, source->list, 1);
	cs_kafka_destroy_in_flight(source);
}

static bool
kafka_is_outdated(CsSource *base)
{
	return ((KafkaSource *) base)->is_outdated;
}

static bool
kafka_keep(CsSource *base)
{
	KafkaSource *source = (KafkaSource *) base;

	if (source->has_problem)
		return false;
	cs_kafka_files_keep(source);
	source->is_outdated = false;
	return true;
}

static void
kafka_remember(CsSource *base, CsPartition **partitions, int n)
{
	KafkaSource *source = (KafkaSource *) base;

	for (int i = 0; i < n; i++)
		source->was_seen[partitions[i]->topic] = true;
}

static const char *
kafka_problem(CsSource *base)
{
	KafkaSource *source = (KafkaSource *) base;

	if (source->has_problem)
		return source->problem;
	return source->matches_nothing ? "no topic of the broker matches the pattern" : NULL;
}

const CsSourceOps cs_kafka_source = {
	.name = "kafka",
	.open = cs_kafka_open,
	.remember = kafka_remember,
	.list = cs_kafka_list,
	.news = cs_kafka_news,
	.start_offset = cs_kafka_start_offset,
	.assign = kafka_assign,
	.poll = kafka_poll,
	.pause = cs_kafka_pause,
	.release = kafka_release,
	.poll_fd = kafka_poll_fd,
	.headers = cs_kafka_headers,
	.committed = kafka_committed,
	.problem = kafka_problem,
	.is_outdated = kafka_is_outdated,
	.keep = kafka_keep,
};
