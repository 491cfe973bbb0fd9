/*
 * api/call_host.c
 *	  Begin and commit of batches for functions that run an engine inside
 *	  their own transaction: apply_late, retry_dead_letters, damaged_state.
 *	  process() commits (process.c), verify() only looks (verify.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/call_host.h"
#include "utils/snapmgr.h"
#include "worker/worker.h"

static void
begin(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommandCounterIncrement();
}

const CsHost cs_call_host = {.begin = begin, .commit = commit, .wake_sink = cs_worker_wake_sink};
