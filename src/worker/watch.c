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
 * A watcher that cannot connect ends without a report: then the pause is
 * doubled, up to ten minutes.
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
#include "worker/host.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
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
		free->unreported = 0;
		free->complained = false;
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

int
cs_watch_pause_ms(CsWatch *watch)
{
	int pause = Min(CS_WATCH_MS << Min(watch->unreported, 10), CS_WATCH_MAX_MS);

	watch->unreported++;
	return pause;
}

void
cs_watch_report(Oid database)
{
	cs_slots_lock();
	for (int i = 0; i < CS_WATCHES_MAX; i++)
	{
		CsWatch *watch = &cs_workers->watches[i];

		if (watch->database != database)
			continue;
		watch->unreported = 0;
		watch->at = Min(watch->at, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CS_WATCH_MS));
	}
	cs_slots_unlock();
}

/* Is there, or is there no more, something to be said?  Whether it was said before. */
static bool
set_complained(Oid database, bool complained)
{
	bool before = false;

	cs_slots_lock();
	for (int i = 0; i < CS_WATCHES_MAX; i++)
	{
		CsWatch *watch = &cs_workers->watches[i];

		if (watch->database != database)
			continue;
		before = watch->complained;
		watch->complained = complained;
	}
	cs_slots_unlock();
	return before;
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

static const CsHost host = {.begin = cs_host_begin, .commit = cs_host_commit};

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

	cs_host_begin();
	if (OidIsValid(get_extension_oid("clickstream", true)))
		found = cs_alerts_streams(watch_context);
	cs_host_commit();
	foreach(lc, found)
		if (!is_attended(lfirst_int(lc)))
			streams = lappend_int(streams, lfirst_int(lc));
	return streams;
}

static void
evaluate_of(int32 stream_id)
{
	CsStream *stream;

	cs_host_begin();
	stream = cs_stream_load_by_id(stream_id, watch_context);
	cs_host_commit();
	cs_alerts_run(stream, &host, true);
}

/* One that cannot be loaded is no reason to leave out the others; false, and the log says so once. */
static bool
evaluate_guarded(int32 stream_id, bool log)
{
	volatile bool done = false;

	PG_TRY();
	{
		evaluate_of(stream_id);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error;

		HOLD_INTERRUPTS();
		error_context_stack = NULL;
		MemoryContextSwitchTo(watch_context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		MemoryContextSwitchTo(watch_context);
		RESUME_INTERRUPTS();
		if (log)
			ereport(LOG, (errmsg("the alerts of stream %d, which does not run, cannot be evaluated: %s", stream_id,
								 error->message)));
	}
	PG_END_TRY();
	return done;
}

static void
evaluate_all(Oid database, const List *streams)
{
	bool	  fine = true;
	bool	  log = !set_complained(database, true);
	ListCell *lc;

	foreach(lc, streams)
		fine &= evaluate_guarded(lfirst_int(lc), log);
	if (fine)
		(void) set_complained(database, false);
}

void
cs_watch_main(Datum arg)
{
	Oid	   database = DatumGetObjectId(arg);
	uint32 asked = asked_so_far(database);
	List  *streams;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	cs_worker_settings();
	watch_context = AllocSetContextCreate(TopMemoryContext, "clickstream watcher", ALLOCSET_DEFAULT_SIZES);
	cs_host_use(watch_context);
	MemoryContextSwitchTo(watch_context);
	pgstat_report_activity(STATE_RUNNING, "evaluating alerts of streams that do not run");

	streams = unattended_streams();
	evaluate_all(database, streams);
	cs_watch_report(database);
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
