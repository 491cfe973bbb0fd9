/*
 * engine/feed.h
 *	  Decode workers: processes that fetch and decode a stream's messages for
 *	  the one that applies them.
 *
 * The stream's worker is the applier: it owns order, state, positions, ledger
 * and the one transaction.  A stream with decode_workers has a source (feed.c)
 * that starts helpers and shares the partitions out among them.  A helper
 * (feeder.c) reads its partitions from Kafka, runs the first step of a chunk
 * over the messages (decode, stream filter, visitor, hashes), and sends them
 * packed (packed.h) through a queue of its own, in parcels.  The applier gets
 * them from poll() as it gets Kafka's own, and takes columns and hashes from
 * them instead of making them.
 *
 * Nothing is stored by a helper, so nothing is lost with one.  Where it reads
 * is told by an assignment, with a generation; parcels of another generation
 * are thrown away.  Whenever the engine assigns (a batch was aborted, there are
 * new partitions), a helper has ended or another one can read, there is a new
 * generation, from the offsets up to which the applier has consumed.  A pause
 * is none: what has come of the partition is kept, and is what comes first when
 * it goes on (feed_stash.c).  Definitions and the stream's columns are
 * compiled for one version of the stream: a change of it ends the engine, its
 * feed and the helpers with it.
 *
 * What a helper cannot do is said in its parcels, in order: an error is raised
 * by the applier's poll() once all that came before it is committed.
 *
 * Memory: CS_FEED_QUEUE of dynamic shared memory for each helper, a parcel
 * (CS_FEED_PARCEL, or one message) on either side, as much of partitions that
 * are paused, and the helper's part of clickstream.queue_memory.  A full queue makes the helper wait, and Kafka's
 * client in it.
 *
 * Locking: none.  The segment's fields say who writes them; the queue is
 * PostgreSQL's (shm_mq).
 */
#ifndef CS_ENGINE_FEED_H
#define CS_ENGINE_FEED_H

#include "engine/internal.h"

#include "port/atomics.h"
#include "storage/dsm.h"
#include "storage/shm_mq.h"

#define CS_FEED_QUEUE ((Size) 4 * 1024 * 1024)
#define CS_FEED_PARCEL ((Size) 1024 * 1024) /* no further message is added to one that is longer */
#define CS_FEED_PARTITIONS 1024				/* that one helper reads at most */

typedef struct CsFeedPartition
{
	int32			 topic;
	int32			 id;
	int64			 offset;	  /* where to begin */
	int64			 last_offset; /* of the message consumed before, and its checksum: see CsPartition */
	uint32			 last_checksum;
	pg_atomic_uint32 pauses; /* odd: it is not to be read; counted up by the applier at any time */
} CsFeedPartition;

/* In the segment's begin; the queue lies behind it. */
typedef struct CsFeed
{
	/* Set before the helper starts. */
	Oid	  database;
	int32 stream_id;
	int32 version;
	int	  number; /* of nhelpers, from 1 */
	int	  nhelpers;

	pg_atomic_uint32 stop; /* by the applier: end */
	pg_atomic_uint32 busy; /* by the helper: it has messages that it has not sent */

	/* By the applier; odd while it writes what follows. */
	pg_atomic_uint64 generation;
	int				 npartitions;
	CsFeedPartition	 partitions[CS_FEED_PARTITIONS];
} CsFeed;

#define CS_FEED_SIZE (MAXALIGN(sizeof(CsFeed)) + CS_FEED_QUEUE)

static inline void *
cs_feed_queue(CsFeed *feed)
{
	return (char *) feed + MAXALIGN(sizeof(CsFeed));
}

/* What the helper knows of a partition behind the parcel's messages. */
typedef struct CsFeedMark
{
	int64 end_offset;
	bool  at_end;
} CsFeedMark;

/* Why it cannot go on in this generation: the fields of an error. */
typedef struct CsFeedError
{
	int	 sqlerrcode;
	char message[512];
	char detail[1024]; /* "": none */
	char hint[512];
} CsFeedError;

/* Head of a parcel.  Places count from its begin, 0: none. */
typedef struct CsParcel
{
	uint64 generation;
	int	   nevents;
	Size   events;	/* of each the place of its CsPackedEvent, which are one behind the other */
	Size   marks;	/* CsFeedMark of each partition, or none */
	Size   problem; /* text; "": there is none */
	Size   error;	/* CsFeedError */
} CsParcel;

/* ---- feed.c, in the stream's worker ---- */

/* The engine's source: the stream's own, or one with decode workers. */
extern CsSource *cs_feed_source(CsEngine *e, MemoryContext cxt);
extern bool		 cs_feed_is(const CsSource *source); /* of decode workers; may be NULL */
/* How many read; restarts: how often one had ended unasked since the source was opened; why: they are not all, or "". */
extern int cs_feed_status(CsSource *source, int64 *restarts, const char **why);

/* ---- feeder.c, in a helper ---- */

typedef struct CsFeeder CsFeeder;

/* NULL: it is not needed any more. */
extern CsFeeder *cs_feeder_open(CsFeed *feed, shm_mq_handle *queue, const CsHost *host, MemoryContext parent);
/* Fetch, decode and send what there is, or wait for something.  False: it is to end. */
extern bool cs_feeder_step(CsFeeder *feeder);
/* After an error, outside of a transaction: tell the applier, and wait for what it says.  False: it is to end. */
extern bool			   cs_feeder_failed(CsFeeder *feeder, const ErrorData *error);
extern const CsStream *cs_feeder_stream(const CsFeeder *feeder);

#endif
