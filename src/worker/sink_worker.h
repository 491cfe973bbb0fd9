/*
 * worker/sink_worker.h
 *	  What a process does for a sink; private to this folder.
 */
#ifndef CS_WORKER_SINK_WORKER_H
#define CS_WORKER_SINK_WORKER_H

#include "engine/engine.h"

/* What the process's frame (stream_worker.c) does for it. */
typedef struct CsSinkFrame
{
	const CsHost *host;
	void (*interrupts)(void);		   /* ends the process if it is to end */
	void (*show)(const char *problem); /* NULL: all is well */
	void (*wait)(int timeout_ms);	   /* on the latch */
	void (*went_well)(void);		   /* something was sent */
} CsSinkFrame;

/* Sends until something has to be loaded again, or raises; all it has lives in context. */
extern void cs_sink_run(int32 sink_id, const CsSinkFrame *frame, MemoryContext context);

#endif
