/*
 * source/source.h
 *	  Where messages come from: the interface of Kafka and the local topic.
 *
 * A source reads partitions from given offsets and never stores positions
 * itself: the engine does, in the transaction that holds the results.
 *
 * Errors.  Transient trouble (broker away) is not an error: poll() returns
 * nothing and problem() says why.  What cannot mend itself (offset out of
 * range, topic gone or re-created, authentication refused by configuration)
 * is raised by ereport(ERROR) with a hint, from poll() or refresh(), never
 * out of a library callback.
 *
 * Memory: the source lives in the context given to open(), and registers a
 * reset callback there that gives back what the library holds, so deleting
 * the context is enough to close it, also after an error.
 */
#ifndef CS_SOURCE_SOURCE_H
#define CS_SOURCE_SOURCE_H

#include "core/definition.h"
#include "core/types.h"

/* Headers of one message, names and values together, in bytes: jsonb of more would be near its own limits. */
#define CS_HEADERS_MAX ((size_t) 16 * 1024 * 1024)

typedef struct CsSource CsSource;

/* What list() has seen beside the partitions, of a stream with a pattern. */
typedef struct CsTopicNews
{
	int	   nfound;
	char **found;	/* topics that match and that the stream does not know, sorted */
	bool  *is_gone; /* by topic that it knows */
} CsTopicNews;

typedef struct CsSourceOps
{
	const char *name; /* "kafka" or "local" */

	/* Connect.  Returns at once: nothing here waits for a broker. */
	CsSource *(*open)(const CsStream *stream, MemoryContext cxt);

	/*
	 * These partitions have been read before: a topic of theirs that is
	 * missing is not a slip of the pen, and may come back.
	 */
	void (*remember)(CsSource *source, CsPartition **partitions, int n);

	/*
	 * List the partitions that exist now: topic and id are set, and
	 * end_offset where known.  *n entries, palloc'd in the current context.
	 * Waits at most timeout_ms for metadata; returns NULL and sets problem()
	 * when the broker did not answer.  Raises if a topic does not exist.
	 */
	CsPartition *(*list)(CsSource *source, int *n, int timeout_ms);

	/* Of the last list(), if the stream has a pattern; until the next one. */
	const CsTopicNews *(*news)(CsSource *source);

	/*
	 * Resolve the first offset of a partition that was never read, by the
	 * stream's start_from.  is_first_time is true when the stream itself has
	 * never run; a partition found later starts at its beginning.  False
	 * when the broker did not answer within timeout_ms (problem() says why).
	 */
	bool (*start_offset)(CsSource *source, CsPartition *partition, bool is_first_time, int timeout_ms);

	/*
	 * Read these partitions from their next_offset on; replaces any earlier
	 * assignment and drops what is queued.  Where last_offset is known the
	 * message there is looked at again: if it is another one, poll() raises.
	 * The pointers stay valid until the next assign().
	 */
	void (*assign)(CsSource *source, CsPartition **partitions, int n);

	/*
	 * Up to max messages, in offset order within each partition; waits up to
	 * timeout_ms for the first one only.  Sets at_end and end_offset of
	 * partitions.  Does not touch next_offset.
	 */
	int (*poll)(CsSource *source, CsMessage *messages, int max, int timeout_ms);

	/*
	 * Do not read this partition (paused is set in it too), or read it again
	 * from behind the last message delivered.  Never between poll() and
	 * release().  An assign() pauses nobody.
	 */
	void (*pause)(CsSource *source, CsPartition *partition, bool paused);

	/* Give back the memory of the messages of the last poll(). */
	void (*release)(CsSource *source);

	/* File descriptor that becomes readable when poll() may have something; -1 none. */
	int (*poll_fd)(CsSource *source);

	/*
	 * Headers of a message as jsonb ({"name": "value"}), or NULL if it has
	 * none, or more than CS_HEADERS_MAX bytes of them; *length: how many.  It
	 * may be the message's own, until release().
	 */
	Jsonb *(*headers)(CsSource *source, const CsMessage *message, size_t *length);

	/* Tell the broker's group where we are, for lag tools.  Best effort. */
	void (*committed)(CsSource *source, CsPartition **partitions, int n);

	/* Why nothing comes, or NULL.  Valid until the next call. */
	const char *(*problem)(CsSource *source);

	/*
	 * Has what it was opened with changed (a password's file)?  Then another
	 * one should be opened, and take its place.
	 */
	bool (*is_outdated)(CsSource *source);

	/*
	 * No other one could be opened: this one stays as it is, until something
	 * changes again.  False if it does not work either.
	 */
	bool (*keep)(CsSource *source);
} CsSourceOps;

/* First member of every source's own struct. */
struct CsSource
{
	const CsSourceOps *ops;
};

/* checksum.c: what says that a message read again is the one that was read before. */
extern uint32 cs_message_checksum(const CsMessage *message);

/* start.c: the first offset by start_offsets, of a partition that has low up to, not including, high. */
extern int64 cs_start_given(const CsStream *stream, const CsPartition *partition, int64 low, int64 high);

extern const CsSourceOps cs_kafka_source;
extern const CsSourceOps cs_local_source;

/* The source that fits the stream: Kafka when it names brokers. */
static inline const CsSourceOps *
cs_source_for(const CsStream *stream)
{
	return stream->brokers ? &cs_kafka_source : &cs_local_source;
}

#endif
