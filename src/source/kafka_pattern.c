/*
 * source/kafka_pattern.c
 *	  Which topics a stream's pattern matches now.
 *
 * The broker is asked for all its topics, and the pattern is matched here:
 * PostgreSQL's regular expressions, which whoever writes one knows.  What is
 * found that the stream does not know yet, and what is no longer there, is news
 * for the engine, which keeps both in its tables.
 *
 * A topic that is missing may only be one that a broker which has just been
 * started does not know yet: it is waited for, unless that was done before.
 *
 * Main thread only, no locks.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/topics.h"
#include "source/kafka_internal.h"

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Remember a topic that the stream does not know. */
static void
note_found(KafkaSource *source, const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(source->cxt);
	CsTopicNews	 *news = &source->news;

	if (news->found == NULL)
		news->found = palloc(sizeof(char *));
	else
		news->found = repalloc(news->found, (news->nfound + 1) * sizeof(char *));
	news->found[news->nfound++] = pstrdup(name);
	MemoryContextSwitchTo(old);
}

static void
forget_found(CsTopicNews *news)
{
	for (int i = 0; i < news->nfound; i++)
		pfree(news->found[i]);
	news->nfound = 0;
}

/* A topic that the stream knows is not there.  False: it is waited for, which is a problem. */
static bool
note_missing(KafkaSource *source, int topic)
{
	TimestampTz now = GetCurrentTimestamp();
	char		text[KAFKA_TEXT];

	if (source->missing_since[topic] == 0)
		source->missing_since[topic] = now;
	if (!source->was_seen[topic] || source->news.is_gone[topic] ||
		now - source->missing_since[topic] >= KAFKA_MISSING_PATIENCE * CS_USECS_PER_MSEC)
	{
		source->news.is_gone[topic] = true;
		return true;
	}
	snprintf(text, sizeof(text), "the broker does not know topic %s at the moment", source->stream->topics[topic]);
	cs_kafka_set_problem(source, text);
	return false;
}

/* Partitions of the topics that match and are known, from source->metadata; false: no answer that could be used. */
static bool
look_through(KafkaSource *source, CsPartition **result, int *n)
{
	const CsStream *stream = source->stream;
	bool		   *is_there = palloc0(sizeof(bool) * (stream->ntopics + 1));
	int				nmatching = 0;

	forget_found(&source->news);
	for (int i = 0; i < source->metadata->topic_cnt; i++)
	{
		const struct rd_kafka_metadata_topic *answer = &source->metadata->topics[i];
		int									  topic;

		if (!cs_pattern_matches(stream->pattern, answer->topic))
			continue;
		nmatching++;
		topic = cs_stream_topic_index(stream, answer->topic);
		if (topic < 0 && answer->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			note_found(source, answer->topic);
		if (topic < 0)
			continue;
		if (!cs_kafka_topic_is_well(source, topic, answer))
			return false;
		is_there[topic] = true;
		source->news.is_gone[topic] = false;
		*result = cs_kafka_append_partitions(source, topic, answer, *result, n);
	}
	for (int i = 0; i < stream->ntopics; i++)
		if (!is_there[i] && !note_missing(source, i))
			return false;
	source->matches_nothing = nmatching == 0;
	qsort(source->news.found, source->news.nfound, sizeof(char *), compare_names);
	pfree(is_there);
	return true;
}

CsPartition *
cs_kafka_list_matching(KafkaSource *source, int *n, int timeout_ms)
{
	CsPartition		   *result = palloc(sizeof(CsPartition));
	rd_kafka_resp_err_t code = cs_kafka_ask_metadata(source, -1, timeout_ms);
	bool				is_good = code == RD_KAFKA_RESP_ERR_NO_ERROR && source->metadata != NULL;

	*n = 0;
	if (!is_good)
		cs_kafka_no_answer(source, "its topics", code);
	else
		is_good = look_through(source, &result, n);
	cs_kafka_destroy_in_flight(source);
	if (is_good)
		return result;
	*n = 0;
	return NULL;
}

const CsTopicNews *
cs_kafka_news(CsSource *base)
{
	return &((KafkaSource *) base)->news;
}
