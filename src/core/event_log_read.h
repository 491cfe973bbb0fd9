/*
 * core/event_log_read.h
 *	  Reading an event log back: for repairing results from it.
 *
 * Rows come as arrays of the event relation's columns (place is left NULL:
 * it follows from the others) and the event's class.  They live until the
 * callback returns.
 *
 * By SPI, as whoever is the current user: the stream's owner, whose table it
 * is, in the engine.
 */
#ifndef CS_CORE_EVENT_LOG_READ_H
#define CS_CORE_EVENT_LOG_READ_H

#include "core/definition.h"

typedef void (*CsLogRow)(const Datum *values, const bool *isnull, CsClass class, void *arg);

/* Events with from <= event_time < to, in no order; the callback may run subtransactions. */
extern void cs_event_log_scan(Oid log, const CsStream *stream, TimestampTz from, TimestampTz to, CsLogRow row,
							  void *arg);

/* The event of an offset; false if the log does not hold it. */
extern bool cs_event_log_find(Oid log, const CsStream *stream, const char *topic, int32 partition, int64 offset,
							  CsLogRow row, void *arg);

/* First event of a partition that the log holds and that was not late; false if there is none. */
extern bool cs_event_log_first(Oid log, const char *topic, int32 partition, int64 *offset, TimestampTz *time);

/* An event that was late is used now. */
extern void cs_event_log_mark_used(Oid log, const char *topic, int32 partition, int64 offset);

#endif
