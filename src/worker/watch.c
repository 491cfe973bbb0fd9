/*
 * worker/watch.c
 *	  Alerts of streams that no worker runs: stopped, failed, backing off.
 *
 * "No events for a minute" is true of a stream that has stopped, too, and just
 * then somebody should be told.  So the launcher looks after such alerts: every
 * ten seconds a short-lived process, the watcher, connects to the database
 * and evaluates those of all its streams that are not running.
 *
 * Which databases: a list in shared memory.  A database is put on it where a
 * worker ends or fails, where an alert is made, and by the probe after the
 * server's start.  The watcher takes it off when it finds that no such alert
 * is left, unless it was put there again meanwhile ("asked" has moved on).
 * If there are more databases than the list has room for, all are looked into.
 *
 * A stream that is running may stop being so at any moment, and one that is not
 * may start: then its worker and the watcher evaluate the same alert, once.
 * Whoever writes the outcome down locks the alert's row and looks whether it
 * is as it was (cs_alert_lock()).
 *
 * In a copied database streams are not at home, and neither are their alerts.
 */
#include "worker/alerts.h"
#include "worker/slots.h"

#include "core/alert.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* ---- the list ---- */

void
cs_watch(Oid database, int delay_ms)
{
	TimestampTz at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay_ms);
	CsWatch	   *free = NULL;

	for (int i = 0; i < CS_WATCHES_MAX; i++)
	{
		CsWatch *watch = &cs_workers->watches[i];

		if (watch->database == database)
		{
			watch->asked++;
			watch->at = Min(watch->at, at);
			cs_wake_launcher();
			return;
		}
		if (!OidIsValid(watch->database) && free == NULL)
			free = watch;
	}
	if (free != NULL)
	{
		free->database = database;
		free->asked++;
		free->at = at;
	}
	else
		cs_workers->watch_all = true;
	cs_wake_launcher();
}

void
cs_watch_soon(Oid database)
{
	cs_slots_lock();
	cs_watch(database, CS_WATCH_SOON_MS);
	cs_slots_unlock();
}

void
cs_watch_forget(Oid database)
{
	cs_slots_lock();
	for (int i = 0; i < CS_WATCHES_MAX; i++)
		if (cs_workers->watches[i].database == database)
			cs_workers->watches[i].database = InvalidOid;
	cs_slots_unlock();
}

static uint32
asked_so_far(Oid database)
{
	uint32 asked = 0;

	cs_slots_lock();
	for (int i = 0; i < CS_WATCHES_MAX; i++)
		if (cs_workers->watches[i].database == database)
			asked = cs_workers->watches[i].asked;
	cs_slots_unlock();
	return asked;
}

static void
take_off(Oid database, uint32 asked)
{
	cs_slots_lock();
	for (int i = 0; i < CS_WATCHES_MAX; i++)
	{
		CsWatch *watch = &cs_workers->watches[i];

		if (watch->database == database && watch->asked == asked)
			watch->database = InvalidOid;
	}
	cs_slots_unlock();
}

/* ---- the watcher ---- */

static MemoryContext watch_context;

static void
host_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
host_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(watch_context);
}

static const CsHost host = {.begin = host_begin, .commit = host_commit};

/* Does its worker see to its alerts? */
static bool
is_attended(int32 stream_id)
{
	CsSlot *slot;
	bool	attended;

	cs_slots_lock();
	slot = cs_slot_find(MyDatabaseId, stream_id);
	attended = slot != NULL && (slot->state == CS_SLOT_RUNNING || slot->state == CS_SLOT_WAITING);
	cs_slots_unlock();
	return attended;
}

/* Of the streams of this database that have alerts those without a worker. */
static List *
unattended_streams(void)
{
	List	 *streams = NIL;
	List	 *found = NIL;
	ListCell *lc;

	host_begin();
	if (OidIsValid(get_extension_oid("clickstream", true)))
		found = cs_alerts_streams(watch_context);
	host_commit();
	foreach(lc, found)
		if (!is_attended(lfirst_int(lc)))
			streams = lappend_int(streams, lfirst_int(lc));
	return streams;
}

static void
evaluate_of(int32 stream_id)
{
	CsStream *stream;

	host_begin();
	stream = cs_stream_load_by_id(stream_id, watch_context);
	host_commit();
	cs_alerts_run(stream, &host, true);
}

void
cs_watch_main(Datum arg)
{
	Oid		  database = DatumGetObjectId(arg);
	uint32	  asked = asked_so_far(database);
	List	 *streams;
	ListCell *lc;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	cs_worker_settings();
	watch_context = AllocSetContextCreate(TopMemoryContext, "clickstream watcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(watch_context);
	pgstat_report_activity(STATE_RUNNING, "evaluating alerts of streams that do not run");

	streams = unattended_streams();
	foreach(lc, streams)
		evaluate_of(lfirst_int(lc));
	if (streams == NIL)
		take_off(database, asked);
	proc_exit(0);
}

/* Are there alerts in this database that nobody sees to yet?  In the probe's transaction. */
bool
cs_watch_is_needed(void)
{
	return cs_alerts_streams(CurrentMemoryContext) != NIL;
}
