/*
 * worker/host.c
 *	  Transactions and interrupts of background workers; see host.h.
 *
 * No locking.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/sinval.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "worker/host.h"

static MemoryContext between;

void
cs_host_use(MemoryContext context)
{
	between = context;
}

void
cs_host_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
cs_host_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (between != NULL)
		MemoryContextSwitchTo(between);
	(void) pgstat_report_stat(false);
}

void
cs_host_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
}
