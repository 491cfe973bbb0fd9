/*
 * core/event_log_read.h
 *	  Reading an event log back: for repairing results from it.
 *
 * Rows come as arrays of the event relation's columns (place is left NULL:
 * it follows from the others) and what the log says beside them.  They live
 * until the callback returns.
 *
 * By SPI, as whoever is the current user: the stream's owner, whose table it
 * is, in the engine.
 */
#ifndef CS_CORE_EVENT_LOG_READ_H
#define CS_CORE_EVENT_LOG_READ_H

#include "core/definition.h"

/* Where a row stands in the order in which events came. */
typedef struct CsLogMark
{
	int64 commit_number;
	int32 arrival;
} CsLogMark;

/* What the log says of an event. */
typedef struct CsLogged
{
	CsClass class;
	CsLogMark	mark;
	bool		seen;	   /* by the definitions: not filtered by the stream, no duplicate */
	TimestampTz watermark; /* of the stream, when it came; CS_WM_NONE, CS_WM_DONE possible */
} CsLogged;

typedef void (*CsLogRow)(const Datum *values, const bool *isnull, const CsLogged *logged, void *arg);

/* Events with from <= event_time < to, in no order; the callback may run subtransactions. */
extern void cs_event_log_scan(Oid log, const CsStream *stream, TimestampTz from, TimestampTz to, CsLogRow row,
							  void *arg);

/*
 * Events in the order in which they came: those behind a mark, up to and with
 * a commit, and with from <= event_time < to; at most max of them (0: all).
 * How many.
 */
extern int64 cs_event_log_in_order(Oid log, const CsStream *stream, CsLogMark after, int64 upto, TimestampTz from,
								   TimestampTz to, int64 max, CsLogRow row, void *arg);

/* The event of an offset; false if the log does not hold it. */
extern bool cs_event_log_find(Oid log, const CsStream *stream, const char *topic, int32 partition, int64 offset,
							  CsLogRow row, void *arg);

/* First event of a partition that the log holds and that was not late; false if there is none. */
extern bool cs_event_log_first(Oid log, const char *topic, int32 partition, int64 *offset, TimestampTz *time);

/* An event that was late is used now. */
extern void cs_event_log_mark_used(Oid log, const char *topic, int32 partition, int64 offset);

#endif
