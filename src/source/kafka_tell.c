/*
 * source/kafka_tell.c
 *	  The position of a sink into the producer's transaction.
 *
 * rd_kafka_send_offsets_to_transaction() does not keep to its timeout while the
 * group's coordinator is away, and a process that cannot be interrupted could be
 * stopped by kill -9 only.  So a thread makes this one call, and we look now and then
 * whether it has come back.  It touches its own arguments, which are in the C library's
 * memory, the client, and nothing of PostgreSQL's.
 *
 * A thread that is left alone keeps its arguments, and the client under it, for good:
 * nobody may destroy that client then.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "utils/timestamp.h"

#include "source/kafka_internal.h"

/* What the library is asked to keep to, in ms; it does while brokers answer. */
#define TELL_MS 30000

struct KafkaTelling
{
	pthread_t							thread;
	TimestampTz							since;
	rd_kafka_t						   *rk;
	rd_kafka_topic_partition_list_t	   *list;
	rd_kafka_consumer_group_metadata_t *group;
	rd_kafka_error_t				   *error; /* what came of it */
};

static void *
tell(void *arg)
{
	KafkaTelling *telling = arg;

	telling->error = rd_kafka_send_offsets_to_transaction(telling->rk, telling->list, telling->group, TELL_MS);
	return NULL;
}

static void
give_back(KafkaTelling *telling)
{
	rd_kafka_topic_partition_list_destroy(telling->list);
	rd_kafka_consumer_group_metadata_destroy(telling->group);
	free(telling);
}

/* NULL: there is no memory, or no thread to be had now. */
KafkaTelling *
cs_kafka_tell(rd_kafka_t *rk, const char *group, const char *topic, int64 position, const char *metadata)
{
	KafkaTelling			   *telling = calloc(1, sizeof(KafkaTelling));
	rd_kafka_topic_partition_t *at;
	sigset_t					all;
	sigset_t					old;
	int							result;

	if (telling == NULL)
		return NULL;
	telling->since = GetCurrentTimestamp();
	telling->rk = rk;
	telling->list = rd_kafka_topic_partition_list_new(1);
	at = rd_kafka_topic_partition_list_add(telling->list, topic, 0);
	at->offset = position;
	at->metadata = strdup(metadata); /* the list's */
	at->metadata_size = strlen(metadata);
	telling->group = rd_kafka_consumer_group_metadata_new(group);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	result = pthread_create(&telling->thread, NULL, tell, telling);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (result == 0)
		return telling;
	give_back(telling);
	return NULL;
}

/* Has it come back?  Then *error is the caller's, and telling is gone. */
bool
cs_kafka_has_told(KafkaTelling *telling, int timeout_ms, rd_kafka_error_t **error)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_nsec += (long) timeout_ms * 1000000;
	limit.tv_sec += limit.tv_nsec / 1000000000;
	limit.tv_nsec %= 1000000000;
	if (pthread_timedjoin_np(telling->thread, NULL, &limit) != 0)
		return false;
	*error = telling->error;
	give_back(telling);
	return true;
}

bool
cs_kafka_tells_since(const KafkaTelling *telling, int ms)
{
	return TimestampDifferenceExceeds(telling->since, GetCurrentTimestamp(), ms);
}

/* False: the thread is left alone, and its client must be, too. */
bool
cs_kafka_end_telling(KafkaTelling *telling)
{
	rd_kafka_error_t *error;

	if (!cs_kafka_has_told(telling, 0, &error))
	{
		pthread_detach(telling->thread);
		return false;
	}
	if (error)
		rd_kafka_error_destroy(error);
	return true;
}
