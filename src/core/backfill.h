/*
 * core/backfill.h
 *	  Rows of clickstream.backfill: definitions that are being filled with
 *	  history, and how far each is.
 *
 * A row is made with its definition, moves on in the transactions of the
 * stream's batches, and is deleted by the one in which the definition joins the live
 * stream.  By SPI, as the extension's owner.
 */
#ifndef CS_CORE_BACKFILL_H
#define CS_CORE_BACKFILL_H

#include "core/definition.h"
#include "core/event_log_read.h"

typedef struct CsBackfillRow
{
	int32		definition_id;
	CsLogMark	mark;		/* the log is done up to here; commit_number -1: not begun */
	TimestampTz watermark;	/* where the definition's watermark stands: everything up to here is closed */
	TimestampTz closing;	/* later than that: what this passes is being closed, and no events are taken */
	TimestampTz bucket;		/* rollup: buckets before this are made; CS_WM_NONE: not begun */
	int64		done;		/* events, of a rollup rows */
	int32		log_id;		/* definition of the log that it reads; 0: none */
	bool		from_topic; /* it reads the topic; neither: a rollup, from its source */
	TimestampTz from; /* of each partition, the first message of this time or later begins it; CS_WM_NONE: the first */
} CsBackfillRow;

/* Where history that is read from the topic stands in a partition. */
typedef struct CsBackfillPlace
{
	int			topic; /* index into CsStream.topics */
	int32		partition;
	int64		first_offset; /* it begins here */
	int64		next_offset;
	int64		gone;	  /* messages that the topic did not hold any more */
	TimestampTz max_time; /* as CsPartition's */
} CsBackfillPlace;

/* Offsets that seek() or skip_message() has passed over, or that were used already. */
typedef struct CsPassedOver
{
	int	  topic;
	int32 partition;
	int64 first_offset;
	int64 next_offset;
} CsPassedOver;

/*
 * A definition is made that is to be filled: from total events of a log, or (log NULL) rows of its source; from:
 * as in CsBackfillRow.
 */
extern void cs_backfill_insert(int32 stream_id, int32 definition_id, int64 total, const CsDefinition *log,
							   TimestampTz from);
/* The same, from the topic. */
extern void cs_backfill_insert_topic(int32 stream_id, int32 definition_id, TimestampTz from);
/* Those of a definition; *n of them in the current context. */
extern CsBackfillPlace *cs_backfill_places_load(const CsStream *stream, int32 definition_id, int *n);
extern void cs_backfill_place_store(const CsStream *stream, int32 definition_id, const CsBackfillPlace *place);
/* Those that a definition's history passes over, as all do or it alone. */
extern CsPassedOver *cs_passed_over_load(const CsStream *stream, int32 definition_id, int *n);
/* Where in a range the stream has open dead letters of whole messages: history passes over these, too. */
extern CsPassedOver *cs_passed_over_letters(const CsStream *stream, const CsPassedOver *among, int *n);
/* definition_id 0: no history takes them. */
extern void cs_passed_over_insert(const CsStream *stream, int32 definition_id, const CsPassedOver *range);
/* How many rows there are in a table that count into rollups. */
extern int64 cs_backfill_count_rows(Oid table, Oid owner);
/* How many events there are in a log, of from or later (CS_WM_NONE: all). */
extern int64 cs_backfill_count_events(Oid log, Oid owner, TimestampTz from);
/* Those of a stream; *n of them in the current context. */
extern CsBackfillRow *cs_backfills_load(int32 stream_id, int *n);
/*
 * Lock the stream's row in share until the transaction ends, so that no definition that is to be
 * filled is made meanwhile; true: none is there.  Without wait also false where the lock is not had at once.
 */
extern bool cs_backfill_exclude(int32 stream_id, bool wait);
extern void cs_backfill_store(const CsBackfillRow *row);
/* It has joined, or is gone; definition_id 0: all of the stream. */
extern void cs_backfill_delete(int32 stream_id, int32 definition_id);

/* First offset of a partition that the log holds, of messages of from or later (CS_WM_NONE: all); -1 if there is none. */
extern int64 cs_event_log_first_offset(Oid log, const char *topic, int32 partition, TimestampTz from);
/* Number of the first commit with a message of from or later; -1 if there is none. */
extern int64 cs_event_log_first_commit(Oid log, TimestampTz from);

/* Start of the first row at or after a moment that counts into rollups; CS_WM_DONE: none. */
extern TimestampTz cs_source_next_start(Oid table, const char *column, TimestampTz from);

#endif
