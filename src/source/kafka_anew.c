/*
 * source/kafka_anew.c
 *	  Is it still the topic that we have read?
 *
 * A topic that was deleted and made anew begins at offset 0 again.  As long as
 * it is shorter than what we have read the broker says that our offset does
 * not exist.  Once it has grown past it, reading on would go unnoticed: the
 * messages before it are never read, those behind it are counted as if they
 * followed the old ones.  librdkafka 2.0 does not tell the topic's id.
 *
 * So each assignment begins one message early, at the one that was consumed
 * last: the first that comes must be that one, by its checksum.
 *
 *	it is					all is well
 *	it is another one		the topic was made anew: a fault
 *	a later one comes		that one is gone (compaction): no proof, we go on
 *	its offset is gone		the partition begins behind it: retention has removed it, so begin at the next
 *							one; it begins before it: the topic was made anew, or is about to be, and
 *							what is there by now is looked at, or a fault
 *	the partition ends there	it has lost messages that we have read: a fault, if it stays so
 *
 * A broker that has become the leader may take the messages that came last for
 * not yet replicated, although we have read them from the one before: it then
 * tells an end before them, until it has heard of the followers.
 *
 * Main thread only, no locks.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "source/kafka_internal.h"

/* How long the raise may ask the broker what it has, in ms. */
#define ASK_MS 1000

bool
cs_kafka_check_begins(const CsPartition *partition)
{
	return partition->last_offset >= 0 && partition->last_offset < partition->next_offset;
}

static void
note_fault(KafkaSource *source, const KafkaPartition *p, rd_kafka_resp_err_t code)
{
	source->fault.code = code;
	source->fault.topic = p->partition->topic;
	source->fault.partition = p->partition->id;
	source->fault.text[0] = '\0';
}

/* The first message of an assignment has come.  False: it shall not be used, nor any behind it. */
bool
cs_kafka_check_message(KafkaSource *source, KafkaPartition *p, const rd_kafka_message_t *message,
					   const CsMessage *as_ours)
{
	p->is_checked = false;
	p->short_since = 0;
	if (message->offset != p->partition->last_offset || cs_message_checksum(as_ours) == p->partition->last_checksum)
		return true;
	note_fault(source, p, KAFKA_MADE_ANEW);
	return false;
}

/* The partition has ended before a message has come.  False: it ends before what we have read, and is no end. */
bool
cs_kafka_check_end(KafkaSource *source, KafkaPartition *p, int64 end)
{
	char text[KAFKA_TEXT];

	p->is_checked = end <= p->partition->last_offset;
	if (!p->is_checked)
	{
		p->short_since = 0;
		return true;
	}
	if (p->short_since == 0)
		p->short_since = GetCurrentTimestamp();
	p->partition->at_end = false;
	snprintf(text, sizeof(text),
			 "topic %s, partition %d, ends at offset " INT64_FORMAT " at the moment, before what was read of it",
			 source->stream->topics[p->partition->topic], p->partition->id, end);
	cs_kafka_set_problem(source, text);
	return false;
}

/* Does it still end there?  The library does not say so twice. */
void
cs_kafka_check_again(KafkaSource *source, KafkaPartition *p, TimestampTz now)
{
	if (p->short_since == 0)
		return;
	if (!p->is_reachable || p->is_refused || p->partition->paused || p->end > p->partition->last_offset)
		p->short_since = now; /* nothing can come, or it is on its way */
	if (now - p->short_since < KAFKA_MISSING_PATIENCE * CS_USECS_PER_MSEC ||
		source->fault.code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	p->is_checked = false;
	p->short_since = 0;
	note_fault(source, p, RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE);
	snprintf(source->fault.text, sizeof(source->fault.text), "the partition ends before offset " INT64_FORMAT,
			 p->position);
}

/* An offset was not there.  True if it was the one of the message to be looked at: cs_kafka_judge_lost() says why. */
bool
cs_kafka_check_lost(KafkaSource *source, KafkaPartition *p, rd_kafka_resp_err_t code)
{
	if (p == NULL || !p->is_checked ||
		(code != RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET && code != RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE))
		return false;
	p->is_lost = true;
	source->reassigns = true;
	return true;
}

/*
 * Where retention has removed the message, the one behind it is the first.  In a topic that was empty a moment ago
 * it is not: what has come since is looked at, however much that is.
 */
static void
judge_lost(KafkaSource *source, KafkaPartition *p)
{
	int64 low;
	int64 high;

	p->is_lost = false;
	if (!cs_kafka_watermarks(source, p->partition, &low, &high, ASK_MS))
		return; /* it is asked for once more */
	if (low <= p->partition->last_offset && p->partition->last_offset < high)
		return;
	p->is_checked = false;
	p->short_since = 0;
	if (low > p->partition->last_offset)
		return;
	note_fault(source, p, RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE);
	snprintf(source->fault.text, sizeof(source->fault.text), "the partition ends at offset " INT64_FORMAT, high);
}

/* Before all are assigned anew.  May ask the broker. */
void
cs_kafka_judge_lost(KafkaSource *source)
{
	for (int i = 0; i < source->npartitions; i++)
	{
		if (source->partitions[i].is_lost && source->fault.code == RD_KAFKA_RESP_ERR_NO_ERROR)
			judge_lost(source, &source->partitions[i]);
	}
}

void
cs_kafka_raise_anew(KafkaSource *source, const KafkaFault *fault, const char *topic)
{
	KafkaPartition *p = cs_kafka_find_partition(source, fault->topic, fault->partition);
	int64			low = -1;
	int64			high = -1;
	bool			is_known = cs_kafka_watermarks(source, p->partition, &low, &high, ASK_MS);
	long long		next = p->position;

	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 is_known && low < next
			 ? errmsg("topic \"%s\", partition %d, was made anew: at offset %lld is another message than was read "
					  "there, %lld offsets before %lld were never read",
					  topic, fault->partition, (long long) p->partition->last_offset, next - (long long) low, next)
			 : errmsg("topic \"%s\", partition %d, was made anew: at offset %lld is another message than was read "
					  "there",
					  topic, fault->partition, (long long) p->partition->last_offset),
		 is_known ? errdetail("The broker holds offsets from %lld up to, not including, %lld.", (long long) low,
							  (long long) high)
				  : 0,
		 errhint("clickstream.reset() begins again with what the topic holds now.  clickstream.seek('%s', %d, %lld, "
				 "'%s') takes it for the old one's continuation, and goes on from there.",
				 source->stream->name, fault->partition, next, topic)));
}
