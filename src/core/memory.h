/*
 * core/memory.h
 *	  Advice to the C library and the kernel about a worker's memory.
 *
 * A stream's state is hundreds of megabytes that are read in no order, and a
 * batch takes and gives back tens of megabytes each second.  Keeping freed
 * memory spares page faults; large pages spare misses of the address cache.
 * Only a stream's worker does this, which has the process to itself.  Where the
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

/*
 * Shared memory that all processes have which are started later: a mapping of
 * its own, not of the server's segment, because large pages can lie only where
 * an address is a multiple of their size, and because a second view of the
 * segment would keep the whole of it alive in a process that outlives it.  To
 * be called as the server starts; what it was given before a restart after a
 * crash is gone then.  Ends the start where there is no room.
 * With huge_pages it is of pages that were set aside for the server, if enough are left.
 */
extern char *cs_memory_map_shared(Size size);
/*
 * A piece of such memory is about to be filled: if a large page begins in it,
 * let that be one.  Systems that are told to give shared memory no large
 * pages by themselves, as most are, give them to who asks.
 */
extern void cs_memory_enlarge(char *piece, Size size);

#endif
