/*
 * core/progress.h
 *	  What workers and procedures read and change of the tables stream,
 *	  partition and progress.
 *
 * Every function runs one short query by SPI as the extension's owner with an
 * empty search_path, in the transaction of its caller, who has checked that
 * the user may.  Rows of partition and the rest of progress are the engine's.
 */
#ifndef CS_CORE_PROGRESS_H
#define CS_CORE_PROGRESS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* Ids of the enabled streams that were made or started in this database.  List of int. */
extern List *cs_enabled_streams(void);

/* Is the stream there, enabled and made or started in this database?  *owner is set if it is there. */
extern bool cs_stream_is_enabled(int32 stream_id, Oid *owner);

/* finish() was called: the engine closes everything once it is at the end. */
extern void cs_progress_finish(int32 stream_id);

/* Has everything been closed after finish()? */
extern bool cs_progress_is_closed(int32 stream_id);

/* Move the watermark by hand; raises if that were backwards. */
extern void cs_progress_advance(int32 stream_id, const char *stream, TimestampTz watermark);

/* Next offset of each partition that was read, as committed by now. */
typedef struct CsPosition
{
	char *topic;
	int32 partition;
	int64 next_offset;
} CsPosition;

/* *n entries in the current context. */
extern CsPosition *cs_positions(int32 stream_id, int *n);

#endif
