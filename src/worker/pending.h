/*
 * worker/pending.h
 *	  What this transaction asked of the workers, done at its end.
 */
#ifndef CS_WORKER_PENDING_H
#define CS_WORKER_PENDING_H

#include "postgres.h"

extern void cs_pending_init(void);

#endif
