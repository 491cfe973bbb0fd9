/*
 * core/wait.c
 *	  Waiting for the latch, a descriptor or the time.
 */
#include "core/wait.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "utils/wait_event.h"

int
cs_wait(int fd, long timeout_ms)
{
	int events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	int rc;

	if (fd >= 0)
		rc = WaitLatchOrSocket(MyLatch, events | WL_SOCKET_READABLE, fd, timeout_ms, PG_WAIT_EXTENSION);
	else
		rc = WaitLatch(MyLatch, events, timeout_ms, PG_WAIT_EXTENSION);
	if (rc & WL_LATCH_SET)
		ResetLatch(MyLatch);
	return rc;
}
