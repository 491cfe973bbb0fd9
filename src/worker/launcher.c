/*
 * worker/launcher.c
 *	  The launcher: starts what is wanted, looks after what it started.
 *
 * It is connected to shared catalogs only, so that it holds up no DROP
 * DATABASE.  After the server's start it looks once into each database that
 * can be connected to, by a short-lived probe (probe.c), one at a time; from
 * then on start() announces itself.  It waits on its latch; nothing is polled
 * but workers that were asked to end and have not, and alerts of streams that
 * do not run, by a watcher (watch.c).
 *
 * If it dies the postmaster starts it again; slots and workers live on, and
 * registrations it no longer has a handle of are given up after a minute.
 */
#include "worker/slots.h"

#include "core/settings.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define SLEEP_MAX_MS 60000
#define STOP_PATIENCE_MS 2000 /* between asking a worker to end and its SIGTERM */
#define NO_ROOM_RETRY_MS 5000
#define LOST_AFTER_MS 60000 /* a registration without handle */

/* Handles of what this launcher registered, by slot; NULL where it has none. */
static BackgroundWorkerHandle **handles;

/* Databases still to be looked into, those whose alerts are, and the probe or watcher that runs. */
static List					  *unprobed = NIL;
static List					  *unwatched = NIL;
static BackgroundWorkerHandle *probe = NULL;

static bool warned_no_room = false;

static void
launcher_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	cs_slots_lock();
	if (cs_workers->launcher_pid == MyProcPid)
	{
		cs_workers->launcher_pid = 0;
		cs_workers->launcher_latch = NULL;
	}
	cs_slots_unlock();
}

static void
launcher_attach(void)
{
	before_shmem_exit(launcher_exit, (Datum) 0);
	cs_slots_lock();
	cs_workers->launcher_pid = MyProcPid;
	cs_workers->launcher_latch = MyLatch;
	cs_slots_unlock();
	handles = MemoryContextAllocZero(TopMemoryContext, sizeof(*handles) * cs_workers->nslots);
}

/* ---- databases ---- */

/* Every database that can be connected to, in the launcher's own memory. */
static List *
list_databases(void)
{
	List		 *list = NIL;
	Relation	  rel;
	TableScanDesc scan;
	HeapTuple	  tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext	 old;

		if (!form->datallowconn)
			continue;
		old = MemoryContextSwitchTo(TopMemoryContext);
		list = lappend_oid(list, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return list;
}

typedef enum DatabaseState
{
	DATABASE_GONE,
	DATABASE_CLOSED, /* ALLOW_CONNECTIONS false */
	DATABASE_OPEN
} DatabaseState;

static DatabaseState
database_state(Oid database)
{
	DatabaseState state = DATABASE_GONE;
	HeapTuple	  tuple;

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		state = ((Form_pg_database) GETSTRUCT(tuple))->datallowconn ? DATABASE_OPEN : DATABASE_CLOSED;
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	return state;
}

/* ---- registering processes ---- */

static bool
register_process(const char *function, const char *name, const char *type, Datum arg, const void *extra,
				 size_t extra_len, BackgroundWorkerHandle **handle)
{
	BackgroundWorker bgw = {0};
	MemoryContext	 old = MemoryContextSwitchTo(TopMemoryContext);
	bool			 done;

	bgw.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	bgw.bgw_start_time = BgWorkerStart_RecoveryFinished;
	bgw.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(bgw.bgw_library_name, "clickstream", sizeof(bgw.bgw_library_name));
	strlcpy(bgw.bgw_function_name, function, sizeof(bgw.bgw_function_name));
	strlcpy(bgw.bgw_name, name, sizeof(bgw.bgw_name));
	strlcpy(bgw.bgw_type, type, sizeof(bgw.bgw_type));
	bgw.bgw_main_arg = arg;
	bgw.bgw_notify_pid = MyProcPid;
	if (extra)
		memcpy(bgw.bgw_extra, extra, Min(extra_len, sizeof(bgw.bgw_extra)));
	done = RegisterDynamicBackgroundWorker(&bgw, handle);
	MemoryContextSwitchTo(old);
	return done;
}

static void
warn_no_room(void)
{
	if (!warned_no_room)
		ereport(WARNING, (errmsg("no background worker slot is free for clickstream"),
						  errhint("Raise max_worker_processes, and restart the server.")));
	warned_no_room = true;
}

/* ---- probing ---- */

/* Is there one?  Those that cannot be connected to are left out. */
static bool
next_database(List **list)
{
	while (*list != NIL && database_state(linitial_oid(*list)) != DATABASE_OPEN)
		*list = list_delete_first(*list);
	return *list != NIL;
}

/* One step: collect a probe or watcher that ended, start the next.  False: come back in NO_ROOM_RETRY_MS. */
static bool
probe_step(void)
{
	pid_t		pid;
	List	  **list;
	const char *what;
	char		name[BGW_MAXLEN];
	char		type[BGW_MAXLEN];

	if (probe != NULL)
	{
		if (GetBackgroundWorkerPid(probe, &pid) != BGWH_STOPPED)
			return true;
		pfree(probe);
		probe = NULL;
	}
	list = next_database(&unprobed) ? &unprobed : next_database(&unwatched) ? &unwatched : NULL;
	if (unprobed == NIL)
	{
		cs_slots_lock();
		cs_workers->probed = true;
		cs_slots_unlock();
	}
	if (list == NULL)
		return true;
	what = list == &unprobed ? "probe" : "watcher";
	snprintf(type, sizeof(type), "clickstream %s", what);
	snprintf(name, sizeof(name), "clickstream %s of database %u", what, linitial_oid(*list));
	if (!register_process(list == &unprobed ? "cs_probe_main" : "cs_watch_main", name, type,
						  ObjectIdGetDatum(linitial_oid(*list)), NULL, 0, &probe))
	{
		warn_no_room();
		return false;
	}
	*list = list_delete_first(*list);
	return true;
}

/* At the server's start, and when streams that found no slot may find one now. */
static void
plan_probes(void)
{
	bool needed = false;

	cs_slots_lock();
	if (!cs_workers->probed)
		needed = unprobed == NIL && probe == NULL;
	else if (cs_workers->overflow)
	{
		for (int i = 0; i < cs_workers->nslots && !needed; i++)
			needed = cs_workers->slots[i].state == CS_SLOT_FREE;
		if (needed)
			cs_workers->overflow = cs_workers->probed = false;
	}
	cs_slots_unlock();
	if (needed)
		unprobed = list_databases();
}

/* Databases whose watcher is due; ms until the next one is. */
static int
plan_watchers(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			sleep = SLEEP_MAX_MS;
	Oid			due[CS_WATCHES_MAX];
	int			n = 0;
	bool		all;

	cs_slots_lock();
	all = cs_workers->watch_all;
	cs_workers->watch_all = false;
	for (int i = 0; i < CS_WATCHES_MAX; i++)
	{
		CsWatch *watch = &cs_workers->watches[i];

		if (!OidIsValid(watch->database))
			continue;
		if (watch->at <= now)
		{
			due[n++] = watch->database;
			watch->at = TimestampTzPlusMilliseconds(now, cs_watch_pause_ms(watch));
		}
		sleep = Min(sleep, (int) TimestampDifferenceMilliseconds(now, watch->at) + 1);
	}
	cs_slots_unlock();
	if (all && unwatched == NIL)
		unwatched = list_databases();
	for (int i = 0; i < n; i++)
	{
		DatabaseState state = database_state(due[i]);
		MemoryContext old;

		if (state != DATABASE_OPEN)
		{
			if (state == DATABASE_GONE)
				cs_watch_forget(due[i]);
			else
				cs_watch_report(due[i]); /* it may be opened: looked at again */
			continue;
		}
		old = MemoryContextSwitchTo(TopMemoryContext);
		unwatched = list_append_unique_oid(unwatched, due[i]);
		MemoryContextSwitchTo(old);
	}
	return sleep;
}

/* ---- stream workers ---- */

static int
count_workers(void)
{
	int n = 0;

	for (int i = 0; i < cs_workers->nslots; i++)
		n += cs_slot_is_busy(&cs_workers->slots[i]);
	return n;
}

static bool
is_startable(const CsSlot *slot)
{
	return !cs_slot_is_busy(slot) && slot->holds == 0 &&
		   (slot->state == CS_SLOT_WANTED || slot->state == CS_SLOT_NO_WORKER || slot->state == CS_SLOT_BACKING_OFF);
}

/* With the lock held.  It waits, and says for which limit. */
static void
no_room(CsSlot *slot, const char *limit)
{
	if (slot->state != CS_SLOT_NO_WORKER)
		cs_watch(slot->database, CS_WATCH_SOON_MS);
	cs_slot_change(slot, CS_SLOT_NO_WORKER);
	strlcpy(slot->problem, limit, sizeof(slot->problem));
}

/* Registered under this generation, or back to "no worker" when there is no room. */
static bool
start_worker(int i)
{
	CsSlot	   *slot = &cs_workers->slots[i];
	uint32		generation;
	Oid			database;
	int32		stream_id;
	char		name[BGW_MAXLEN];
	bool		done;
	const char *what;

	cs_slots_lock();
	if (!is_startable(slot))
	{
		cs_slots_unlock();
		return true;
	}
	generation = ++slot->generation;
	database = slot->database;
	stream_id = slot->stream_id;
	slot->stop = slot->terminated = false;
	slot->started_at = GetCurrentTimestamp();
	cs_slot_change(slot, CS_SLOT_STARTING); /* its problem stays: cs_slot_shown_state() */
	cs_slots_unlock();

	what = stream_id < 0 ? "clickstream sink" : "clickstream stream";
	snprintf(name, sizeof(name), "%s %d of database %u", what, abs(stream_id), database);
	done = register_process("cs_stream_worker_main", name, what, Int32GetDatum(i), &generation, sizeof(generation),
							&handles[i]);
	if (!done)
		handles[i] = NULL;
	cs_slots_lock();
	if (slot->state == CS_SLOT_STARTING && slot->generation == generation && slot->pid == 0)
	{
		if (done)
			slot->problem[0] = '\0';
		else
			no_room(slot, "Every background worker slot of the server is in use: raise max_worker_processes.");
	}
	cs_slots_unlock();
	if (!done)
		warn_no_room();
	return done;
}

/* Free the slots of databases that are gone: a worker could not even connect. */
static bool
drop_if_homeless(int i)
{
	CsSlot *slot = &cs_workers->slots[i];
	Oid		database = slot->database;

	if (database_state(database) != DATABASE_GONE)
		return false;
	cs_slots_lock();
	if (slot->database == database && !cs_slot_is_busy(slot))
		cs_slot_free(slot);
	cs_slots_unlock();
	return true;
}

/* Start all that are due; ms until the next one is. */
static int
start_due(void)
{
	int			sleep = SLEEP_MAX_MS;
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < cs_workers->nslots; i++)
	{
		CsSlot *slot = &cs_workers->slots[i];
		bool	startable;
		bool	room;
		long	wait;

		cs_slots_lock();
		startable = is_startable(slot);
		wait = TimestampDifferenceMilliseconds(now, slot->restart_at);
		room = count_workers() < cs_max_workers;
		if (startable && wait <= 0 && !room)
			no_room(slot, "As many streams are running as clickstream.max_workers says: stop one, or raise it.");
		cs_slots_unlock();
		if (!startable || (wait <= 0 && !room))
			continue;
		if (wait > 0)
			sleep = Min(sleep, (int) Min(wait + 1, SLEEP_MAX_MS));
		else if (!drop_if_homeless(i) && !start_worker(i))
			return Min(sleep, NO_ROOM_RETRY_MS);
	}
	return sleep;
}

/* A registration whose process ended before it took its slot, or never began. */
static void
find_lost(int i, TimestampTz now)
{
	CsSlot *slot = &cs_workers->slots[i];
	pid_t	pid;
	bool	lost;

	if (handles[i] != NULL && GetBackgroundWorkerPid(handles[i], &pid) == BGWH_STOPPED)
	{
		pfree(handles[i]);
		handles[i] = NULL;
		lost = true;
	}
	else
		lost = handles[i] == NULL && TimestampDifferenceExceeds(slot->started_at, now, LOST_AFTER_MS);
	if (!lost)
		return;
	cs_slots_lock();
	if (slot->state == CS_SLOT_STARTING && slot->pid == 0)
	{
		slot->generation++; /* should it begin after all */
		if (slot->wanted)
		{
			cs_slot_note_error(slot, ERRCODE_CANNOT_CONNECT_NOW, "the worker did not start", "See the server's log.");
			(void) cs_slot_back_off(slot);
			cs_slot_change(slot, CS_SLOT_BACKING_OFF);
		}
		else
			cs_slot_free(slot);
	}
	cs_slots_unlock();
	ConditionVariableBroadcast(&cs_workers->ended);
}

/* Look after processes; ms until it should be done again. */
static int
look_after(void)
{
	int			sleep = SLEEP_MAX_MS;
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < cs_workers->nslots; i++)
	{
		CsSlot *slot = &cs_workers->slots[i];

		find_lost(i, now);
		cs_slots_lock();
		if (slot->state == CS_SLOT_STARTING)
			sleep = Min(sleep, 1000);
		if (slot->stop && slot->pid != 0 && !slot->terminated)
		{
			if (TimestampDifferenceExceeds(slot->stop_at, now, STOP_PATIENCE_MS))
				cs_slot_ask_to_end(slot, true);
			sleep = Min(sleep, STOP_PATIENCE_MS);
		}
		cs_slots_unlock();
	}
	return sleep;
}

/* ---- main ---- */

static void
launcher_signals(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	ConfigReloadPending = true; /* one that came before was ignored, as PostgreSQL starts background workers */
	pqsignal(SIGTERM, die);
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();
}

static void
launcher_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
cs_launcher_main(Datum arg)
{
	(void) arg;
	launcher_signals();
	launcher_attach();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("clickstream launcher");

	for (;;)
	{
		int sleep;

		launcher_interrupts();
		sleep = look_after();
		plan_probes();
		sleep = Min(sleep, plan_watchers());
		if (!probe_step())
			sleep = Min(sleep, NO_ROOM_RETRY_MS);
		sleep = Min(sleep, start_due());
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, sleep, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
