/*
 * worker/alerts.h
 *	  The alerts of a stream: of the one that this process runs, or of those
 *	  that nobody runs (watch.c); see alerts.c.
 */
#ifndef CS_WORKER_ALERTS_H
#define CS_WORKER_ALERTS_H

#include "engine/engine.h"

/* Between batches, outside of transactions: evaluate those that are due.  Raises nothing of an alert's. */
extern void cs_alerts_run(const CsStream *stream, const CsHost *host, bool committed);
/* When they want to be run even if nothing is committed; CS_WM_DONE: never. */
extern TimestampTz cs_alerts_deadline(void);
/* False: the stream is known to have none. */
extern bool cs_alerts_may_be(void);

#endif
