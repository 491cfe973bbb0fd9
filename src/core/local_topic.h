/*
 * core/local_topic.h
 *	  Writing the built-in local topic of streams without brokers.
 *
 * Uses SPI.  cs_local_append() locks the partition's row until the
 * transaction ends: so messages become visible in the order of their
 * offsets, and one open producer holds up the next on the same partition.
 */
#ifndef CS_CORE_LOCAL_TOPIC_H
#define CS_CORE_LOCAL_TOPIC_H

#include "core/definition.h"

#define CS_LOCAL_PARTITION_MAX 1023

/* What produce() must know of a stream. */
typedef struct CsLocalStream
{
	int32	  stream_id;
	Oid		  owner;
	Interval *retention; /* NULL: for ever */
} CsLocalStream;

/* Raises if the stream does not exist or reads a broker. */
extern CsLocalStream cs_local_find(const char *name);

/* Append a message; key, payload and headers may be NULL.  Returns its offset. */
extern int64 cs_local_append(int32 stream_id, int32 partition, const char *key, const char *payload,
							 TimestampTz timestamp, Jsonb *headers);

/* Delete messages that were consumed and are older than a point in time; how many. */
extern int64 cs_local_trim(int32 stream_id, TimestampTz before);

#endif
