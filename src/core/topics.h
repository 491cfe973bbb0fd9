/*
 * core/topics.h
 *	  Topics that a stream with a pattern has found, and their order.
 *
 * A place in the state holds the number of its topic.  Where a stream names its
 * topics these are numbered by name, once and for all.  With a pattern topics
 * come on the way: a new one gets the next number, whatever its name, and
 * clickstream.stream_topic keeps it.  Places are compared by name all the same,
 * by the rank of each number; so results do not depend on when a topic was found.
 *
 * The ranks are those of the stream that this process is at work for: whoever
 * runs operators says which by cs_topics_use().  Streams without a pattern have
 * none: their numbers are the ranks.
 */
#ifndef CS_CORE_TOPICS_H
#define CS_CORE_TOPICS_H

#include "core/definition.h"

/* Which ranks count; returns those that did, for cs_topics_use_again(). */
typedef struct CsTopicRanks
{
	const int32 *ranks; /* by number; NULL: a number is its rank */
	int			 n;
} CsTopicRanks;

extern CsTopicRanks cs_topics_use(const CsStream *stream);
extern void			cs_topics_use_again(CsTopicRanks ranks);

/* A pattern begins with this; a name cannot. */
#define CS_PATTERN_MARK '^'

/* Raise unless it is a regular expression. */
extern void cs_pattern_validate(const char *pattern);
/* Does it match?  Topics of Kafka's own ("__consumer_offsets") never do. */
extern bool cs_pattern_matches(const char *pattern, const char *topic);

/*
 * Give numbers to topics found, in this order.  Those of a stream's first look are
 * read from where the stream begins, later ones from their beginning.
 */
extern void cs_topics_add(const CsStream *stream, char **names, int n);
/* Is a topic gone, or there again? */
extern void cs_topic_note(const CsStream *stream, int topic, bool is_gone);

#endif
