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
/* The batch ends: write what is buffered, and drop partitions past retention now and then. */
extern void cs_event_log_end(CsEngine *e, CsEventLog *log);
extern void cs_event_log_abort(CsEventLog *log);

#endif
