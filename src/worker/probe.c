/*
 * worker/probe.c
 *	  A short-lived process that looks into one database for streams that
 *	  shall run, and asks for their workers; and for alerts, which somebody has
 *	  to look after (watch.c).
 *
 * The launcher cannot do it itself: a process can connect to one database
 * only.  It holds no lock after its one transaction and ends with code 0.
 */
#include "worker/slots.h"

#include "core/progress.h"
#include "core/sink.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"

void
cs_probe_main(Datum arg)
{
	bool	  has_extension;
	List	 *streams;
	ListCell *lc;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	has_extension = OidIsValid(get_extension_oid("clickstream", true));
	streams = has_extension ? cs_enabled_streams() : NIL;
	foreach(lc, streams)
		cs_slot_want(MyDatabaseId, lfirst_int(lc), false);
	if (has_extension)
		foreach(lc, cs_sinks_enabled(0))
			cs_slot_want(MyDatabaseId, -lfirst_int(lc), false);
	if (has_extension && cs_watch_is_needed())
		cs_watch_soon(MyDatabaseId);
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}
