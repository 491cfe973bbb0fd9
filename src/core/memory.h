/*
 * core/memory.h
 *	  Advice to the C library and the kernel about a worker's memory.
 *
 * A stream's state is hundreds of megabytes that are read in no order, and a
 * batch takes and gives back tens of megabytes each second.  Keeping freed
 * memory spares page faults; large pages spare misses of the address cache.
 * Only a stream's worker does this: it has the process to itself.  Where the
 * system does not know the advice, nothing happens.
 */
#ifndef CS_CORE_MEMORY_H
#define CS_CORE_MEMORY_H

#include "postgres.h"

/* Once, when the worker starts. */
extern void cs_memory_init(void);
/* Now and then: the heap may have grown. */
extern void cs_memory_advise_heap(void);
/* A large array that stays.  Does nothing unless cs_memory_init() was called. */
extern void cs_memory_advise(void *data, Size size);

#endif
