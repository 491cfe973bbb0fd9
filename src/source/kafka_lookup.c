/*
 * source/kafka_lookup.c
 *	  Questions that wait for a broker: which partitions, from which offset.
 *
 * The library's calls cannot be interrupted, so each wait is cut into slices
 * with a look at interrupts between them; the slices grow, so that a slow
 * broker's answer fits into one of them.  What the library hands us is kept
 * in the source while it is read, so that an error does not lose it.
 *
 * Main thread only, no locks.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "source/kafka_internal.h"

#define SLICE_FIRST_MS 250
#define SLICE_MAX_MS 4000

/* What a question may take at least, when earlier ones were not answered in their time: of a source that reads less. */
#define SLOW_MAX_MS 2000
#define SLOW_READING_MAX_MS 1000

/* A wait that ends at a point in time, in growing slices. */
typedef struct Patience
{
	TimestampTz deadline;
	int			slice;
} Patience;

static Patience
patience(const KafkaSource *source, int timeout_ms)
{
	int		 ms = Max(timeout_ms, source->slow_ms);
	Patience result = {TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms),
					   Max(SLICE_FIRST_MS, source->slow_ms)}; /* a slow one's answer fits into the first slice */

	return result;
}

/*
 * A broker that is further away than the time it was given would never be
 * heard: it gets more the next time.  While something is read that holds up
 * commits, so then it does not get as much.
 */
static void
be_patient(KafkaSource *source, int timeout_ms)
{
	int max = source->npartitions > 0 ? SLOW_READING_MAX_MS : SLOW_MAX_MS;

	source->slow_ms = Max(source->slow_ms, Min(Max(timeout_ms, source->slow_ms) * 2, max));
}

/* Length of the next slice in ms, 0 when the time is over. */
static int
next_slice(Patience *wait)
{
	int64 left = (wait->deadline - GetCurrentTimestamp()) / CS_USECS_PER_MSEC;
	int	  slice = wait->slice;

	CHECK_FOR_INTERRUPTS();
	wait->slice = Min(wait->slice * 2, SLICE_MAX_MS);
	return (int) Max(Min(left, slice), 0);
}

static bool
is_worth_retry(rd_kafka_resp_err_t code)
{
	switch (code)
	{
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__IN_PROGRESS:
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__WAIT_CACHE:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
			return true;
		default:
			return false;
	}
}

static void
drop_metadata(KafkaSource *source)
{
	if (source->metadata)
		rd_kafka_metadata_destroy(source->metadata);
	source->metadata = NULL;
}

static void
drop_list(KafkaSource *source)
{
	if (source->list)
		rd_kafka_topic_partition_list_destroy(source->list);
	source->list = NULL;
}

static rd_kafka_resp_err_t
ask_metadata(KafkaSource *source, int topic, Patience *wait)
{
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
	rd_kafka_topic_t   *only = topic < 0 ? NULL : source->topics[topic];
	int					slice;

	drop_metadata(source);
	while ((slice = next_slice(wait)) > 0)
	{
		code = rd_kafka_metadata(source->rk, only == NULL, only, &source->metadata, slice);
		cs_kafka_serve_events(source);
		if (!is_worth_retry(code))
			break;
	}
	return code;
}

rd_kafka_resp_err_t
cs_kafka_ask_metadata(KafkaSource *source, int topic, int timeout_ms)
{
	Patience			wait = patience(source, timeout_ms);
	rd_kafka_resp_err_t code = ask_metadata(source, topic, &wait);

	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		be_patient(source, timeout_ms);
	return code;
}

/*
 * The broker does not know the topic.  If it did once, it may only have been
 * started again a moment ago: then this is a problem first, an error later.
 */
static void
topic_is_missing(KafkaSource *source, int topic)
{
	TimestampTz now = GetCurrentTimestamp();
	const char *name = source->stream->topics[topic];
	char		text[KAFKA_TEXT];

	if (source->missing_since[topic] == 0)
		source->missing_since[topic] = now;
	drop_metadata(source);
	if (!source->was_seen[topic])
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("topic \"%s\" does not exist", name),
						errdetail("Brokers asked: %s.", source->stream->brokers),
						errhint("Make the topic first, or correct the stream's topic.")));
	if (now - source->missing_since[topic] >= KAFKA_MISSING_PATIENCE * CS_USECS_PER_MSEC)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("topic \"%s\" is no longer on the broker", name),
						errhint("Make the topic again and use clickstream.reset(), or drop the stream.")));
	snprintf(text, sizeof(text), "the broker does not know topic %s at the moment", name);
	cs_kafka_set_problem(source, text);
}

bool
cs_kafka_topic_is_well(KafkaSource *source, int topic, const struct rd_kafka_metadata_topic *answer)
{
	char text[KAFKA_TEXT];
	char words[KAFKA_TEXT];

	switch (answer->err)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			source->missing_since[topic] = 0;
			source->was_seen[topic] = true;
			source->was_listed[topic] = true;
			return true;
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
			topic_is_missing(source, topic);
			return false;
		default:
			cs_kafka_explain(words, rd_kafka_err2str(answer->err), sizeof(words));
			snprintf(text, sizeof(text), "topic %s: %.400s", source->stream->topics[topic], words);
			cs_kafka_set_problem(source, text);
			return false;
	}
}

/* Does the stream read this partition of its topics? */
static bool
is_wanted(const CsStream *stream, int32 id)
{
	for (int i = 0; i < stream->nwanted; i++)
		if (stream->wanted[i] == id)
			return true;
	return stream->nwanted == 0;
}

/* The partitions that the stream names must be there, as its topics must. */
static void
check_wanted(const KafkaSource *source, int topic)
{
	const CsStream						 *stream = source->stream;
	const struct rd_kafka_metadata_topic *answer = &source->metadata->topics[0];

	for (int i = 0; i < stream->nwanted; i++)
		if (stream->wanted[i] >= answer->partition_cnt)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("topic \"%s\" has no partition %d", stream->topics[topic], stream->wanted[i]),
					 errdetail_plural("It has %d partition, numbered from 0.", "It has %d partitions, numbered from 0.",
									  answer->partition_cnt, answer->partition_cnt)));
}

CsPartition *
cs_kafka_append_partitions(KafkaSource *source, int topic, const struct rd_kafka_metadata_topic *answer,
						   CsPartition *result, int *n)
{
	int count = answer->partition_cnt;

	result =
		result ? repalloc(result, sizeof(CsPartition) * (*n + count + 1)) : palloc(sizeof(CsPartition) * (count + 1));
	for (int i = 0; i < count; i++)
	{
		CsPartition *p = &result[*n];
		int64		 low;
		int64		 high;

		if (!is_wanted(source->stream, answer->partitions[i].id))
			continue;
		(*n)++;
		memset(p, 0, sizeof(*p));
		p->topic = topic;
		p->id = answer->partitions[i].id;
		p->end_offset = -1;
		if (rd_kafka_get_watermark_offsets(source->rk, source->stream->topics[topic], p->id, &low, &high) ==
				RD_KAFKA_RESP_ERR_NO_ERROR &&
			high >= 0)
			p->end_offset = high;
	}
	return result;
}

CsPartition *
cs_kafka_list(CsSource *base, int *n, int timeout_ms)
{
	KafkaSource *source = (KafkaSource *) base;
	Patience	 wait = patience(source, timeout_ms);
	CsPartition *result = NULL;

	if (source->stream->pattern)
		return cs_kafka_list_matching(source, n, timeout_ms);
	*n = 0;
	for (int topic = 0; topic < source->stream->ntopics; topic++)
	{
		rd_kafka_resp_err_t code = ask_metadata(source, topic, &wait);
		bool				is_first = !source->was_listed[topic];

		if (code != RD_KAFKA_RESP_ERR_NO_ERROR || source->metadata == NULL || source->metadata->topic_cnt != 1)
		{
			be_patient(source, timeout_ms);
			cs_kafka_no_answer(source, "the topic's partitions", code);
			*n = 0;
			return NULL;
		}
		if (!cs_kafka_topic_is_well(source, topic, &source->metadata->topics[0]))
		{
			drop_metadata(source);
			*n = 0;
			return NULL;
		}
		if (is_first)
			check_wanted(source, topic);
		result = cs_kafka_append_partitions(source, topic, &source->metadata->topics[0], result, n);
		drop_metadata(source);
	}
	return result;
}

/*
 * The offset that stands for a time, or for RD_KAFKA_OFFSET_BEGINNING or _END;
 * -1 if there is none.  The library has a question for both ends, too, but that
 * one heeds no timeout where a broker takes it and says nothing.
 */
static rd_kafka_resp_err_t
ask_offset(KafkaSource *source, const CsPartition *partition, int64 when, int64 *offset, Patience *wait)
{
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
	int					slice;

	while ((slice = next_slice(wait)) > 0)
	{
		drop_list(source);
		source->list = rd_kafka_topic_partition_list_new(1);
		rd_kafka_topic_partition_list_add(source->list, source->stream->topics[partition->topic], partition->id)
			->offset = when;
		code = rd_kafka_offsets_for_times(source->rk, source->list, slice);
		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			code = source->list->elems[0].err;
		*offset = Max(source->list->elems[0].offset, -1);
		cs_kafka_serve_events(source);
		if (!is_worth_retry(code))
			break;
	}
	drop_list(source);
	return code;
}

/* Lowest offset of a partition, and the one after its last.  False: no answer. */
bool
cs_kafka_watermarks(KafkaSource *source, const CsPartition *partition, int64 *low, int64 *high, int timeout_ms)
{
	Patience			wait = patience(source, timeout_ms);
	rd_kafka_resp_err_t code = ask_offset(source, partition, RD_KAFKA_OFFSET_BEGINNING, low, &wait);

	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		wait = patience(source, timeout_ms); /* it speaks: its second answer gets as long as the first */
		code = ask_offset(source, partition, RD_KAFKA_OFFSET_END, high, &wait);
	}
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	be_patient(source, timeout_ms);
	cs_kafka_no_answer(source, "a partition's first and last offset", code);
	return false;
}

/* First millisecond of the epoch that is not before t. */
static int64
epoch_ms(TimestampTz t)
{
	int64 usecs = t + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	if (usecs < 0)
		return 0;
	return (usecs + CS_USECS_PER_MSEC - 1) / CS_USECS_PER_MSEC;
}

/* Offset of the first message at or after start_time; *offset is -1 if there is none. */
static bool
offset_for_time(KafkaSource *source, const CsPartition *partition, int64 *offset, int timeout_ms)
{
	Patience			wait = patience(source, timeout_ms);
	rd_kafka_resp_err_t code = ask_offset(source, partition, epoch_ms(source->stream->start_time), offset, &wait);

	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	be_patient(source, timeout_ms);
	cs_kafka_no_answer(source, "the offset of a time", code);
	return false;
}

bool
cs_kafka_start_offset(CsSource *base, CsPartition *partition, bool is_first_time, int timeout_ms)
{
	KafkaSource *source = (KafkaSource *) base;
	CsStart		 start = is_first_time ? source->stream->start_from : CS_START_EARLIEST;
	TimestampTz	 deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	int64		 low;
	int64		 high;
	int64		 offset = -1;

	if (start == CS_START_TIMESTAMP)
	{
		if (!offset_for_time(source, partition, &offset, timeout_ms))
			return false;
		/* No message is that new: all that come are. */
		if (offset < 0)
			start = CS_START_LATEST;
		timeout_ms = (int) Max((deadline - GetCurrentTimestamp()) / CS_USECS_PER_MSEC, 1);
	}
	if (offset < 0)
	{
		if (!cs_kafka_watermarks(source, partition, &low, &high, timeout_ms))
			return false;
		offset = start == CS_START_LATEST	 ? high
				 : start == CS_START_OFFSETS ? cs_start_given(source->stream, partition, low, high)
											 : low;
		partition->end_offset = high;
	}
	partition->next_offset = offset;
	return true;
}
