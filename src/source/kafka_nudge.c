/*
 * source/kafka_nudge.c
 *	  The library fetches as soon as there is room for it.
 *
 * Where its queue is full, the thread of a broker sleeps.  Since 2.2 it looks
 * again after fetch.queue.backoff.ms; before, only when it is woken by something
 * to send, or after a second.  A stream that is far behind uses up what the
 * queue holds in less than that, and would wait for the rest of it.  So while
 * brokers have more than is queued each is asked something cheap, ten times a
 * second: where its partitions end.  The answer is of no interest.
 */
#include "postgres.h"

#include "core/mutant.h"
#include "source/kafka_internal.h"
#include "utils/timestamp.h"

#define WAKES_BY_ITSELF 0x02020000		   /* the library's version */
#define INTERVAL (100 * CS_USECS_PER_MSEC) /* of questions */
#define WORTH_IT 10000					   /* messages that are not queued yet */
#define PATIENCE_MS 1					   /* with the answer; zero is not promised to ask at all */

static int64
not_queued(const KafkaSource *source)
{
	int64 n = -(int64) rd_kafka_queue_length(source->consumer_queue);

	for (int i = 0; i < source->npartitions; i++)
	{
		const KafkaPartition *p = &source->partitions[i];

		if (!p->partition->paused)
			n += Max(p->end - p->position, 0);
	}
	return n;
}

void
cs_kafka_nudge(KafkaSource *source)
{
	TimestampTz						 now = GetCurrentTimestamp();
	rd_kafka_topic_partition_list_t *list;

	if ((now - source->nudged_at < INTERVAL && now >= source->nudged_at) || CS_MUTANT(NO_NUDGES))
		return;
	source->nudged_at = now;
	if (rd_kafka_version() >= WAKES_BY_ITSELF || not_queued(source) < WORTH_IT)
		return;
	list = rd_kafka_topic_partition_list_new(source->npartitions);
	for (int i = 0; i < source->npartitions; i++)
	{
		const KafkaPartition *p = &source->partitions[i];

		if (!p->partition->paused && p->position < p->end)
			rd_kafka_topic_partition_list_add(list, source->stream->topics[p->partition->topic], p->partition->id)
				->offset = RD_KAFKA_OFFSET_END;
	}
	(void) rd_kafka_offsets_for_times(source->rk, list, PATIENCE_MS);
	rd_kafka_topic_partition_list_destroy(list);
}
