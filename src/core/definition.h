/*
 * core/definition.h
 *	  What the catalog says of a stream and its definitions, as C structs.
 *
 * cs_stream_load() and cs_definitions_load() read the tables
 * clickstream.stream and clickstream.definition and compile nothing: the
 * expressions stay Query trees, taken from the definitions' views by
 * cs_definition_query().  Everything is allocated in the given context and
 * lives as long as it.
 *
 * May use SPI.  Callers hold no locks of ours.
 */
#ifndef CS_CORE_DEFINITION_H
#define CS_CORE_DEFINITION_H

#include "core/types.h"

#include "nodes/parsenodes.h"
#include "utils/jsonb.h"

typedef enum CsKind
{
	CS_KIND_SESSION = 's',
	CS_KIND_WINDOW = 'w',
	CS_KIND_FUNNEL = 'f',
	CS_KIND_ROLLUP = 'r',
	CS_KIND_EVENT_LOG = 'l'
} CsKind;

typedef enum CsStart
{
	CS_START_EARLIEST,
	CS_START_LATEST,
	CS_START_TIMESTAMP,
	CS_START_OFFSETS
} CsStart;

typedef struct CsOption
{
	char *name;
	char *value;
} CsOption;

typedef struct CsStream
{
	int32		stream_id;
	char	   *name;
	Oid			owner;
	char	   *brokers; /* NULL: the local topic */
	char	   *pattern; /* of topics; NULL: they are named */
	int			ntopics;
	char	  **topics;			/* sorted by name; of a pattern: in the order in which they were found */
	int32	   *topic_ranks;	/* of a pattern: the place of each by name; core/topics.h */
	bool	   *topic_is_first; /* of a pattern: found by the stream's first look */
	bool	   *topic_is_gone;	/* of a pattern: no longer there */
	int			nwanted;		/* 0: all partitions */
	int32	   *wanted;			/* of each topic, these only */
	CsStart		start_from;
	TimestampTz start_time;		 /* for CS_START_TIMESTAMP */
	Jsonb	   *start_offsets;	 /* for CS_START_OFFSETS: see source/start.c */
	int64		watermark_delay; /* µs */
	int64		idle_timeout;	 /* µs */
	int64		max_future;		 /* µs, -1 off */
	int64		max_drift;		 /* µs, -1 off */
	int64		dedupe_horizon;	 /* µs */
	Jsonb	   *mapping;		 /* NULL: the preset as it is */
	char	   *preset;
	int			noptions;
	CsOption   *options;	   /* librdkafka properties, checked against the list */
	bool		stop_on_error; /* on_error => 'stop' */
	int			decode_workers;
	bool		enabled;
	char	   *time_zone;		/* pinned at creation */
	Oid			event_relation; /* view over the event columns */
	Oid			stream_view;	/* visitor, filter, dedupe_by over event_relation */
	TupleDesc	event_desc;		/* of event_relation */
	int			nextra;
	Oid			log_relation[2]; /* the two halves of the state log */
	Oid			spill_relation;
} CsStream;

typedef enum CsEmit
{
	CS_EMIT_CHANGES = 'c',
	CS_EMIT_CLOSED = 'x'
} CsEmit;

/* How the steps of a funnel must follow each other. */
typedef enum CsMode
{
	CS_MODE_ORDERED = 'o',
	CS_MODE_STRICT = 's',
	CS_MODE_UNORDERED = 'u'
} CsMode;

#define CS_MAX_STEPS 32
#define CS_MAX_EXCLUSIONS 32

/* What must not come between two steps, numbered from 1; its condition is in the view. */
typedef struct CsExclusion
{
	int from, to;
} CsExclusion;

typedef enum CsWindowForm
{
	CS_WINDOW_TUMBLING,
	CS_WINDOW_HOPPING,
	CS_WINDOW_CUMULATIVE
} CsWindowForm;

typedef struct CsDefinition
{
	int32		 definition_id;
	int32		 stream_id;
	CsKind		 kind;
	char		*name;		 /* qualified name of the table, for messages */
	Oid			 table;		 /* the result table */
	Oid			 view;		 /* its view over the event relation or source table */
	Oid			 live_view;	 /* the result and what is open, together; InvalidOid or a number of nothing: none */
	CsWindowForm form;		 /* window */
	int64		 size;		 /* window, rollup: µs; a month counts as 30 days, a day as 24 hours */
	int64		 slide;		 /* window: µs; = size for tumbling, the step of cumulative ones */
	Interval	 size_given; /* window: size and slide as they were given; see operator/assign.h */
	Interval	 slide_given;
	char	   *time_zone; /* window: whose clock and calendar it follows; session: split at its midnights; NULL: not */
	TimestampTz origin;	   /* window, rollup */
	int64		gap;	   /* session: µs */
	int64		max_length;		  /* session, funnel attempt: µs, -1 none */
	int64		within;			  /* funnel: µs */
	bool		strict_increase;  /* funnel */
	CsMode		mode;			  /* funnel */
	bool		within_exclusive; /* funnel */
	uint32		optional_steps;	  /* funnel: bit k-1 */
	int			nexclusions;
	CsExclusion exclusions[CS_MAX_EXCLUSIONS];
	int			nsteps;
	char	  **steps; /* names of the steps */
	CsEmit		emit;
	int64		emit_interval;	/* µs */
	int64		group_limit;	/* window: groups per window */
	int32		source_id;		/* rollup: definition it reads */
	char	   *start_column;	/* rollup: column of the source that assigns the bucket */
	int64		lateness;		/* session, window, funnel: allowed_lateness, µs */
	int64		retention;		/* µs, -1 keep */
	char	   *notify_channel; /* told once a batch that wrote; NULL: not */
	TimestampTz deleted_before; /* final rows that start before may have been deleted; DT_NOBEGIN: none */
} CsDefinition;

/* Range of one setting: everything from outside is capped. */
#define CS_WITHIN_MAX (INT64CONST(366) * USECS_PER_DAY)
#define CS_SIZE_MAX (INT64CONST(366) * USECS_PER_DAY)
#define CS_SIZE_MIN CS_USECS_PER_MSEC
#define CS_GROUP_LIMIT_DEFAULT 1000000

/* The stream by name or id; raises ERRCODE_UNDEFINED_OBJECT if missing. */
extern CsStream *cs_stream_load_by_id(int32 stream_id, MemoryContext cxt);
extern CsStream *cs_stream_load_by_name(const char *name, MemoryContext cxt);
/* The columns of its events anew; raises if they are lost meanwhile. */
extern void cs_stream_load_events(CsStream *stream);
/* The same, but NULL if missing. */
extern CsStream *cs_stream_find(const char *name, MemoryContext cxt);
extern CsStream *cs_stream_find_by_id(int32 stream_id, MemoryContext cxt);

/* All definitions of a stream in the order they were made.  List of CsDefinition*. */
extern List *cs_definitions_load(int32 stream_id, MemoryContext cxt);

/* One definition by its result table; raises if the table is not ours. */
extern CsDefinition *cs_definition_load_by_table(Oid table, MemoryContext cxt);
/* The same, but NULL if it is not. */
extern CsDefinition *cs_definition_find(Oid table, MemoryContext cxt);

/*
 * Delete the definitions of a stream whose table or view was dropped by its
 * owner, with what is left of them in our schema.
 */
extern void cs_definitions_prune(int32 stream_id);

/*
 * The analysed, unplanned Query of a view of ours (a copy in the current
 * context).  Range table entry 1 is the event relation or source table.
 */
extern Query *cs_definition_query(Oid view);

/* OIDs of our own tables, looked up in schema clickstream. */
extern Oid cs_own_relation(const char *name);

/* Role that owns the extension: who our own tables belong to. */
extern Oid cs_extension_owner(void);

/* Index of topic in the stream, or -1. */
extern int cs_stream_topic_index(const CsStream *stream, const char *topic);

/* Text of "topic/partition/offset": session_id and attempt_id. */
extern char *cs_place_id(const CsStream *stream, const CsPlace *place);

#endif
