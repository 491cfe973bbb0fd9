/*
 * core/event_log.h
 *	  The table of an event log and its partitions, one for each day of
 *	  arrival (UTC).
 *
 * Partitions are made as tables of their own and then attached, which does
 * not block readers; dropping an old one needs the parent to itself for a
 * moment, so whoever calls cs_event_log_expire() sets a lock_timeout.
 * Uses SPI.
 */
#ifndef CS_CORE_EVENT_LOG_H
#define CS_CORE_EVENT_LOG_H

#include "core/definition.h"

/*
 * Make the partitioned table: the stream's columns but place, then class
 * text, arrived_at timestamptz, and how it came: commit_number bigint, arrival
 * integer, watermark timestamptz.  With today's and tomorrow's partition.
 */
extern Oid cs_event_log_create(const char *name, const CsStream *stream, TimestampTz now);

/* The partition for rows that arrive then, made if it is not there. */
extern Oid cs_event_log_partition(Oid log, Oid owner, TimestampTz arrived_at);

/* The same, or InvalidOid: there is none. */
extern Oid cs_event_log_partition_find(Oid log, TimestampTz arrived_at);

/* Drop partitions whose last row arrived before then; how many. */
extern int cs_event_log_expire(Oid log, Oid owner, TimestampTz before);

/* A class as the log's column has it. */
extern const char *cs_class_name(CsClass class);

#endif
