/*
 * core/place.h
 *	  An event's place as bytes that sort like it: the event relation's column
 *	  place, and SQL's clickstream.place().
 *
 * Time, topic, partition, offset, so that comparing two places as bytes
 * compares them in that order: integers big-endian with the sign bit turned,
 * the topic's name ended by a zero byte, which no name holds.
 */
#ifndef CS_CORE_PLACE_H
#define CS_CORE_PLACE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* A bytea Datum, palloc'd in the current context. */
extern Datum cs_place_encode(TimestampTz time, const char *topic, int32 partition, int64 offset);

#endif
