/*
 * worker/host.h
 *	  What all background workers that have an engine, or ask tables, do
 *	  between their steps.
 */
#ifndef CS_WORKER_HOST_H
#define CS_WORKER_HOST_H

#include "postgres.h"

/*
 * The current context outside of transactions from here on, as far as
 * cs_host_commit() leaves one: not the top one, where things would pile up.
 * NULL: as PostgreSQL leaves it.
 */
extern void cs_host_use(MemoryContext context);

/* A transaction with a snapshot; CsHost's begin and commit. */
extern void cs_host_begin(void);
extern void cs_host_commit(void);

/* Signals, settings, invalidations: for a moment without a transaction. */
extern void cs_host_interrupts(void);

#endif
