/*
 * core/sink.h
 *	  Sinks and their outbox: clickstream.sink, sink_end, sink_sent, outbox.
 *
 * Two processes write them and never the same row: the stream's batches append
 * to the outbox and move sink_end; the sink's process moves sink_sent and
 * deletes what is sent.  So neither waits for the other.
 *
 * By SPI, as the extension's owner, in the caller's transaction; callers have
 * checked that the user may.
 */
#ifndef CS_CORE_SINK_H
#define CS_CORE_SINK_H

#include "core/definition.h"

typedef struct CsSink
{
	int32  sink_id;
	int32  stream_id;
	int32  definition_id;
	char  *name;
	char  *topic;
	char  *brokers; /* its own or its stream's; NULL: none */
	Jsonb *options; /* the same */
	bool   final_only;
	bool   transactional;
	bool   enabled;
	int64  outbox_limit;
	char  *producer_id;
} CsSink;

/* A row of the outbox. */
typedef struct CsOutboxRow
{
	int32 sink_id;
	int64 position;
	int64 token; /* of the transaction that wrote it */
	char *key;	 /* in the server's encoding */
	char *value; /* NULL: the row is gone */
} CsOutboxRow;

/* How far a sink is. */
typedef struct CsSinkPosition
{
	int64 next;	 /* position of the next row that a batch writes */
	int64 sent;	 /* of the last row that is known to be in the topic; 0: none */
	int64 token; /* and its token */
} CsSinkPosition;

/* All sinks of a stream; one by its name, or its number, whose table is there: NULL if there is none.  In cxt. */
extern List	  *cs_sinks_load(int32 stream_id, MemoryContext cxt);
extern CsSink *cs_sink_find(const char *name, MemoryContext cxt);
extern CsSink *cs_sink_load(int32 sink_id, MemoryContext cxt);

/* The options of a stream, as they were given; NULL: none. */
extern Jsonb *cs_stream_options(int32 stream_id);

/* Numbers of the sinks that shall run in this database; of one stream, or of all (0). */
extern List *cs_sinks_enabled(int32 stream_id);
/* Shall it?  *owner of its stream. */
extern bool cs_sink_is_enabled(int32 sink_id, Oid *owner);

/* Rows in sink_end and sink_sent of a sink that was made. */
extern void cs_sink_begin(int32 sink_id);
/* All there is of one, also what a batch in flight has written. */
extern void cs_sink_delete(int32 sink_id);
/* Delete those of a stream whose definition is gone. */
extern void cs_sinks_prune(int32 stream_id);
/*
 * Forget what it has not sent, and what it has.  Positions go on; its own is
 * that of a row that there never was, with token 0.  The stream and the sink are held.
 */
extern void cs_sink_reset(int32 sink_id);

/*
 * Room for n more rows: position of the first one, or 0.  Then the outbox is
 * full, and the rows are counted as lost (or the sink is gone).
 */
extern int64 cs_outbox_take(int32 sink_id, int64 n, TimestampTz now);

extern void cs_sink_position(int32 sink_id, CsSinkPosition *position);
/* Up to max rows behind a position, in the current context, and no more than they are bytes together but for one row. */
extern CsOutboxRow *cs_outbox_read(int32 sink_id, int64 behind, int max, int64 bytes, int *n);
/* The token of one row; false: it is not there. */
extern bool cs_outbox_token(int32 sink_id, int64 position, int64 *token);
/* Rows up to here are in the topic. */
extern void cs_outbox_sent(int32 sink_id, int64 position, int64 token, TimestampTz now);

#endif
