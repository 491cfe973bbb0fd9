/*
 * engine/event_log.h
 *	  Writing every decoded event into the stream's event log.
 */
#ifndef CS_ENGINE_EVENT_LOG_H
#define CS_ENGINE_EVENT_LOG_H

#include "engine/internal.h"

typedef struct CsEventLog CsEventLog;

/* In the current context.  All event columns will be needed. */
extern CsEventLog *cs_event_log_open(const CsStream *stream, const CsDefinition *def);
/* Write the chunk's decoded events, with their classes. */
extern void cs_event_log_write(CsEngine *e, CsEventLog *log);
/*
 * Write event i of the chunk, of a message that came then, into that day's
 * partition.  False if that one is gone, with all that came with it.  In an
 * engine that writes no others.
 */
extern bool cs_event_log_write_belated(CsEngine *e, CsEventLog *log, int i, TimestampTz arrived_at);
/* The batch ends: write what is buffered, and drop partitions past retention now and then. */
extern void cs_event_log_end(CsEngine *e, CsEventLog *log);
extern void cs_event_log_abort(CsEventLog *log);

#endif
