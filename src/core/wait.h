/*
 * core/wait.h
 *	  Waiting for the latch, a descriptor or the time, whichever comes first.
 *
 * Takes no locks.  What interrupts mean is the caller's to say.
 */
#ifndef CS_CORE_WAIT_H
#define CS_CORE_WAIT_H

#include "postgres.h"

#include "storage/latch.h"

/* fd -1: none.  Resets the latch if it was set; returns what WaitLatch() does. */
extern int cs_wait(int fd, long timeout_ms);

#endif
