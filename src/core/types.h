/*
 * core/types.h
 *	  Types that every room of the house shares: places, keys, partitions,
 *	  events.
 *
 * Times are TimestampTz: microseconds since 2000-01-01 UTC.  Rules that
 * involve the end of a window use its last millisecond (semantics, first
 * paragraph), hence CS_USECS_PER_MSEC.
 *
 * Nothing here is in shared memory; all of it belongs to one backend.
 */
#ifndef CS_CORE_TYPES_H
#define CS_CORE_TYPES_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/tuptable.h"

#define CS_USECS_PER_MSEC INT64CONST(1000)

/* The millisecond in which a moment lies. */
static inline int64
cs_floor_msec(int64 t)
{
	int64 rest = t % CS_USECS_PER_MSEC;

	return t - (rest < 0 ? rest + CS_USECS_PER_MSEC : rest);
}

/* Watermark before anything was read, and after finish(). */
#define CS_WM_NONE PG_INT64_MIN
#define CS_WM_DONE PG_INT64_MAX

/*
 * The columns of an event, in the order of the event relation.  The
 * seed's fourteen come first, then the stream's extra columns, then the
 * system columns counted from the end of the extra ones, then those of
 * lookups (core/lookup.h).
 */
#define CS_SEED_COLUMNS 14
#define CS_ATT_EVENT_TIME 13 /* attribute number, 1-based */
#define CS_ATT_PROPERTIES 14

typedef enum CsSystemColumn
{
	CS_SYS_TOPIC = 1, /* text */
	CS_SYS_PARTITION, /* integer */
	CS_SYS_OFFSET,	  /* bigint, named message_offset */
	CS_SYS_KEY,		  /* text, named message_key */
	CS_SYS_TIMESTAMP, /* timestamptz, named message_timestamp */
	CS_SYS_HEADERS,	  /* jsonb, named message_headers */
	CS_SYS_PLACE,	  /* bytea, see cs_place_encode() */
	CS_SYS_VISITOR,	  /* text, named effective_user_id */
	CS_SYS_COLUMNS = CS_SYS_VISITOR
} CsSystemColumn;

/*
 * Place of an event: the promise's total order.  topic is the index of the
 * topic in the stream's list, which is sorted by name, so that comparing
 * indexes compares names; only where a stream has found topics on its way
 * (core/place.h) their names are looked at.
 */
typedef struct CsPlace
{
	TimestampTz time;
	int32		topic;
	int32		partition;
	int64		offset;
} CsPlace;

extern int cs_topic_cmp(int32 a, int32 b);

static inline int
cs_place_cmp(const CsPlace *a, const CsPlace *b)
{
	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	if (a->topic != b->topic)
		return cs_topic_cmp(a->topic, b->topic);
	if (a->partition != b->partition)
		return a->partition < b->partition ? -1 : 1;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return 0;
}

/* 128-bit hash.  Two values with the same hash are taken as the same. */
typedef struct CsHash128
{
	uint64 lo;
	uint64 hi;
} CsHash128;

/*
 * The order of column group_key, and of the spill table's index: who reads or
 * writes in it finds the pages of an index one after the other.
 */
static inline int
cs_hash_cmp(const CsHash128 *a, const CsHash128 *b)
{
	if (a->hi != b->hi)
		return a->hi < b->hi ? -1 : 1;
	return a->lo < b->lo ? -1 : a->lo > b->lo;
}

/*
 * Key of one state entry: which definition, which time bucket (a window
 * cell's slide start; 0 for sessions and funnels), whose.
 */
typedef struct CsKey
{
	uint32	  def;
	uint32	  pad; /* always 0: keys are compared as bytes */
	int64	  bucket;
	CsHash128 who;
} CsKey;

/* Class of a consumed offset in the ledger; see semantics, section 6. */
typedef enum CsClass
{
	CS_CLASS_FILTERED = 0,
	CS_CLASS_LATE,
	CS_CLASS_USED,
	CS_CLASS_DUPLICATE,
	CS_CLASS_DEAD,
	CS_CLASS_EMPTY,
	CS_CLASS_SKIPPED,
	CS_CLASS_COUNT
} CsClass;

/*
 * What one definition made of a partition's messages, since it was made.
 * Beside the ledger, which knows one class for each offset: an event may be
 * used here and late there.
 */
typedef struct CsCount
{
	int64 definition_id;
	int64 since; /* offset of the partition from which on the definition counts */
	int64 used;
	int64 late;
	int64 dead;
	int64 no_key; /* without visitor or key: neither used nor late */
} CsCount;

/*
 * One partition of a stream's topic: position, watermark, ledger.  The
 * engine owns it; the source writes only the fields marked "source".
 */
typedef struct CsPartition
{
	int			topic;					/* index into CsStream.topics */
	int32		id;						/* Kafka's partition number */
	int64		next_offset;			/* next offset to read; engine */
	int64		stored_offset;			/* what the table says: the fence; engine */
	int64		last_offset;			/* of the message consumed last, -1 none known; Kafka only */
	uint32		last_checksum;			/* of that message: cs_message_checksum() */
	int64		end_offset;				/* high watermark last seen, -1 unknown; source */
	int64		last_end;				/* what the table says of it, -1 nothing */
	bool		at_end;					/* everything up to end_offset was delivered; source */
	bool		is_new;					/* not yet in the table; engine */
	bool		idle;					/* was silent for idle_timeout at its end; engine/watermark.c */
	bool		shown_idle;				/* what the table says: it is, and is there now; engine */
	bool		paused;					/* too far ahead of the others; engine/align.c */
	bool		is_gone;				/* its topic is no longer there, and was read to its end; engine/topics.c */
	TimestampTz max_time;				/* max of min(event_time, message timestamp), or CS_WM_NONE */
	TimestampTz last_event_time;		/* newest event_time seen, or CS_WM_NONE */
	TimestampTz last_spoke;				/* clock when it last delivered or was opened */
	TimestampTz moved_at;				/* clock when max_time last moved, or it was found */
	int64		ledger[CS_CLASS_COUNT]; /* totals, this transaction included */
	int64		repaired;				/* offsets that are used only since they were applied again */
	int			ahead;					/* its events of this chunk that the watermark has not seen yet; engine */
	int			ncounts;				/* of counts; engine/counts.c */
	CsCount	   *counts;					/* by definition, this transaction included */
	CsCount	   *committed_counts;		/* as committed */
	bool		counts_changed;			/* since the last commit */
} CsPartition;

/* engine/packed.h */
typedef struct CsPackedEvent CsPackedEvent;

/*
 * A message as the source delivers it.  Memory belongs to the source and
 * lives until its release().
 */
typedef struct CsMessage
{
	CsPartition *partition;
	int64		 offset;
	TimestampTz	 timestamp; /* the message's own, or CS_WM_NONE */
	const char	*payload;	/* NULL: tombstone */
	size_t		 payload_len;
	const char	*key; /* NULL: none */
	size_t		 key_len;
	void		*foreign; /* source's own handle (headers) */

	/* Of a source with decode workers, and set by no other (engine/feed.h): what one made of it, NULL nothing. */
	const CsPackedEvent *packed;
} CsMessage;

/*
 * A decoded event.  values/isnull hold the seed's columns and the extra
 * ones that some expression needs; the rest stays NULL.  Datums live in
 * the chunk's memory.
 */
typedef struct CsEvent
{
	const CsMessage *message;
	CsPlace			 place;		/* place.time is the event time */
	TimestampTz		 watermark; /* the stream's, as it stood before this event */
	bool			 skip;		/* dead, filtered or duplicate: no definition sees it */
	uint8 class;				/* CsClass; operators raise it by cs_event_mark() */
	bool	  has_visitor;
	CsHash128 visitor_hash;
	bool	  has_dedupe; /* dedupe_by has a value for it */
	CsHash128 dedupe_hash;
	Datum	 *values;
	bool	 *isnull;
} CsEvent;

/* used beats late beats filtered */
static inline void
cs_event_mark(CsEvent *event, CsClass class)
{
	if (event->class < (uint8) class)
		event->class = (uint8) class;
}

#endif
