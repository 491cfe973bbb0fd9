/*
 * worker/stream_worker.c
 *	  The process that runs one stream.
 *
 * It opens the stream's engine and runs batches, at most one each
 * commit_interval unless more is waiting; between batches it holds no
 * transaction and no lock but the engine's session lock on the stream, and
 * waits on its latch, the source's descriptor and the engine's deadline.
 *
 * Errors.  A transient one (its class says so) drops the batch and is tried
 * again with back-off.  A permanent one gets one more try with a fresh engine,
 * as a definition may have changed under it; if that fails too before a batch
 * commits, the slot says "failed" with the reason and the process ends; at
 * once where trying again is of no use; and after some tries even if batches
 * commit in between (one partition may be broken and the others be fine).
 * An error at COMMIT or while the state takes over what was committed leaves
 * an engine that nobody can trust: it goes, and a fresh one recovers.
 * After any error the stream is looked up again: if it, or the extension, is
 * gone or stopped, the process ends quietly.
 *
 * Ends.  The slot's "stop" ends it between batches with code 0; SIGTERM also
 * interrupts a batch.  One exit callback, registered before the slot is taken
 * and before the database is connected to, hence run after the transaction was
 * aborted, gives back the engine (its library threads must be gone before
 * exit() runs destructors) and then the slot.
 *
 * Locking: the slot's fields under the lock of slots.h.
 */
#include "worker/slots.h"

#include "core/clock.h"
#include "core/memory.h"
#include "core/progress.h"
#include "core/settings.h"
#include "core/sink.h"
#include "core/wait.h"
#include "engine/engine.h"
#include "worker/alerts.h"
#include "worker/host.h"
#include "worker/sink_worker.h"
#include "worker/worker.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SLEEP_MAX_MS 60000	   /* a net under lost wake-ups (a prepared transaction that produced) */
#define HEALTHY_AFTER_MS 60000 /* without an error: the back-off begins anew */
#define PAUSE_MIN_MS 10		   /* between batches that found nothing */
#define TRIES_BEFORE_REOPEN 3
#define INTERNAL_ERROR_TRIES 5
#define PERMANENT_ERROR_TRIES 6 /* with batches that commit in between */

typedef enum Verdict
{
	TRANSIENT,
	PERMANENT,
	HOPELESS
} Verdict;

static CsSlot *slot = NULL;
static uint32  my_generation;
static bool	   attached = false;

static MemoryContext worker_context; /* of this process: the engine's parent, copied errors */
static MemoryContext round_context;	 /* current outside transactions; reset before each batch, or sink's opening */
static CsEngine		*engine = NULL;
static MemoryContext sink_context = NULL; /* of a sink: what it has open */

static TimestampTz last_batch = 0; /* when the last batch ended */
/* When the last one that committed began, of those since it first read: the interval counts from there. */
static TimestampTz last_commit = 0;
static bool		   woken_in_batch = false; /* and has not looked yet why */
static TimestampTz last_error = 0;
static bool		   after_permanent = false; /* the last error was one, and no batch succeeded since */
static bool		   is_stopped = false;		/* the last error was a message at which the stream is to stop */
static int		   errors_in_a_row = 0;
static int		   permanent_errors = 0; /* since it was last healthy: batches that commit in between do not count */
static TimestampTz resumed = 0;			 /* when the last back-off ended */

/* ---- the slot ---- */

/*
 * Gives the slot back.  Whoever ends unasked is started again by the launcher,
 * after a while.
 */
static void
detach(void)
{
	cs_slots_lock();
	if (slot->generation == my_generation && slot->pid == MyProcPid)
	{
		slot->pid = 0;
		slot->latch = NULL;
		slot->has_progress = false;
		slot->problem[0] = slot->decode_problem[0] = '\0';
		slot->decode_workers = 0;
		slot->decode_restarts = 0;
		if (slot->state != CS_SLOT_FAILED && !slot->wanted)
			cs_slot_free(slot);
		else if (slot->state != CS_SLOT_FAILED && slot->stop)
			cs_slot_change(slot, CS_SLOT_WANTED);
		else if (slot->state != CS_SLOT_FAILED)
		{
			cs_slot_note_error(slot, ERRCODE_ADMIN_SHUTDOWN, "the worker ended unexpectedly", "See the server's log.");
			(void) cs_slot_back_off(slot);
			cs_slot_change(slot, CS_SLOT_BACKING_OFF);
		}
		if (cs_alerts_may_be() && slot->state != CS_SLOT_WANTED)
			cs_watch(MyDatabaseId, CS_WATCH_SOON_MS);
	}
	cs_wake_launcher();
	cs_slots_unlock();
	ConditionVariableBroadcast(&cs_workers->ended);
}

static void
worker_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	engine = NULL;
	MemoryContextSwitchTo(TopMemoryContext);
	if (worker_context != NULL)
		MemoryContextDelete(worker_context);
	worker_context = round_context = NULL;
	cs_host_use(NULL);
	if (attached)
		detach();
	attached = false;
}

/* False: this registration was given up, or its stream stopped, meanwhile. */
static bool
attach(int index)
{
	Oid database = InvalidOid;

	memcpy(&my_generation, MyBgworkerEntry->bgw_extra, sizeof(my_generation));
	slot = &cs_workers->slots[index];
	before_shmem_exit(worker_exit, (Datum) 0);
	cs_slots_lock();
	if (slot->generation == my_generation && slot->state == CS_SLOT_STARTING && slot->pid == 0)
	{
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->problem[0] = '\0';
		attached = true;
		if (!slot->stop)
			database = slot->database;
	}
	cs_slots_unlock();
	return OidIsValid(database);
}

/* Its state, and the source's problem, as seen after a batch. */
static void
show_state(CsSlotState state, const char *problem)
{
	cs_slots_lock();
	strlcpy(slot->problem, problem ? problem : "", sizeof(slot->problem));
	if (!slot->stop)
		cs_slot_change(slot, state);
	cs_slots_unlock();
}

static void
show_decode_workers(int n, int64 restarts, const char *why)
{
	cs_slots_lock();
	slot->decode_workers = n;
	slot->decode_restarts = restarts;
	strlcpy(slot->decode_problem, why, sizeof(slot->decode_problem));
	cs_slots_unlock();
}

static bool
is_asked_to_end(void)
{
	bool stop;

	LWLockAcquire(cs_workers->lock, LW_SHARED);
	stop = slot->stop;
	LWLockRelease(cs_workers->lock);
	return stop;
}

/* End for good: the stream is stopped, dropped, or without extension. */
static void
leave(const char *why)
{
	cs_slots_lock();
	if (!slot->stop) /* held: it comes again, and looks again */
		slot->wanted = false;
	cs_slots_unlock();
	ereport(DEBUG1, (errmsg_internal("clickstream worker ends: %s", why)));
	proc_exit(0);
}

/* What others want of this process, and being asked to end: between batches. */
static void
handle_interrupts(void)
{
	if (is_asked_to_end())
		proc_exit(0);
	cs_host_interrupts();
}

/* ---- the engine's host ---- */

static void
host_report(const CsProgress *progress)
{
	int64	second = GetCurrentTimestamp() / USECS_PER_SEC;
	CsRate *rate = &slot->rate[second % CS_RATE_SECONDS];

	cs_slots_lock();
	slot->progress = *progress;
	slot->has_progress = true;
	if (rate->second != second)
		*rate = (CsRate){second, 0};
	rate->messages += progress->messages;
	cs_slots_unlock();
}

/*
 * Being asked to end waits for the end of the batch, which is now.  Whatever
 * else wakes it is looked at after the batch, as what comes while it works.
 */
static bool
host_pause(int ms)
{
	bool ends;

	woken_in_batch |= (cs_wait(-1, ms) & WL_LATCH_SET) != 0;
	CHECK_FOR_INTERRUPTS();
	ends = woken_in_batch && is_asked_to_end();
	return !ends;
}

static const CsHost host = {.begin = cs_host_begin,
							.commit = cs_host_commit,
							.report = host_report,
							.wake_sink = cs_worker_wake_sink,
							.pause = host_pause,
							.shares = true,
							.helped = true};

/* ---- waiting ---- */

static int
ms_until(TimestampTz now, TimestampTz then)
{
	if (then == CS_WM_DONE)
		return SLEEP_MAX_MS;
	return (int) Min(TimestampDifferenceMilliseconds(now, then), SLEEP_MAX_MS);
}

/* Wait for the latch, and the descriptor if there is one; what woke us. */
static int
wait_once(int fd, int timeout_ms)
{
	int rc = cs_wait(fd, timeout_ms);

	handle_interrupts();
	return rc;
}

/* A reload may change it. */
static TimestampTz
next_batch(void)
{
	return Max(TimestampTzPlusMilliseconds(last_commit, cs_commit_interval),
			   TimestampTzPlusMilliseconds(last_batch, PAUSE_MIN_MS));
}

/*
 * Until commit_interval has passed since the last commit, what arrives is left
 * to gather, so the descriptor is not looked at (it would stay readable); a
 * wake-up is remembered.
 */
static void
wait_for_work(void)
{
	bool woken = woken_in_batch;
	int	 ms;

	woken_in_batch = false;
	(void) pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, "waiting for messages");
	while ((ms = ms_until(GetCurrentTimestamp(), next_batch())) > 0)
		woken |= (wait_once(-1, ms) & WL_LATCH_SET) != 0;
	if (!woken)
		(void) wait_once(cs_engine_poll_fd(engine),
						 ms_until(cs_now(), Min(cs_engine_deadline(engine), cs_alerts_deadline())));
}

/* Start() says "try again now" by clearing restart_at. */
static void
wait_back_off(void)
{
	pgstat_report_activity(STATE_IDLE, "backing off after an error");
	for (;;)
	{
		TimestampTz until;
		int			ms;

		LWLockAcquire(cs_workers->lock, LW_SHARED);
		until = slot->restart_at;
		LWLockRelease(cs_workers->lock);
		ms = ms_until(GetCurrentTimestamp(), until);
		if (ms <= 0)
			return;
		(void) wait_once(-1, ms);
	}
}

/* ---- running ---- */

/* A slot with a negative number is a sink's. */
static bool
runs_sink(void)
{
	return slot->stream_id < 0;
}

/* Is there still something to run?  An error here says nothing: the engine will meet it too. */
static bool
is_still_wanted(void)
{
	volatile bool wanted = true;
	MemoryContext old = CurrentMemoryContext;

	PG_TRY();
	{
		Oid owner = InvalidOid;

		cs_host_begin();
		wanted = OidIsValid(get_extension_oid("clickstream", true)) &&
				 (runs_sink() ? cs_sink_is_enabled(-slot->stream_id, &owner)
							  : cs_stream_is_enabled(slot->stream_id, &owner));
		cs_host_commit();
		cs_slots_lock();
		slot->owner = owner;
		cs_slots_unlock();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return wanted;
}

static void
close_engine(void)
{
	CsEngine	 *closing = engine;
	MemoryContext sink = sink_context;

	sink_context = NULL;
	if (sink != NULL)
		MemoryContextDelete(sink);

	engine = NULL;
	if (closing == NULL)
		return;
	cs_engine_close(closing);
	show_decode_workers(0, 0, "");
}

static void
open_engine(void)
{
	char *name;

	MemoryContextSwitchTo(round_context);
	pgstat_report_activity(STATE_RUNNING, "opening the stream");
	engine = cs_engine_open(slot->stream_id, &host, false, worker_context);
	name = psprintf("clickstream: %s", cs_engine_stream(engine)->name);
	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_SESSION);
	pfree(name);
	cs_slots_lock();
	if (slot->state == CS_SLOT_STARTING)
		cs_slot_change(slot, CS_SLOT_RUNNING);
	cs_slots_unlock();
}

/*
 * A batch went without an error: those of long ago no longer count, and if it
 * committed something, those of just now neither.  (One that found nothing yet
 * may only have been too early to meet the error again.)
 */
static void
note_success(bool committed)
{
	const char *problem = cs_engine_problem(engine);
	const char *why;
	int64		restarts;
	int			decode_workers = cs_engine_decode_workers(engine, &restarts, &why);
	bool		healthy =
		last_error != 0 && TimestampDifferenceExceeds(Max(last_error, resumed), last_batch, HEALTHY_AFTER_MS);

	if (committed || healthy)
	{
		errors_in_a_row = 0;
		after_permanent = false;
	}
	show_state(problem ? CS_SLOT_WAITING : CS_SLOT_RUNNING, problem);
	show_decode_workers(decode_workers, restarts, why);
	if (healthy)
	{
		last_error = 0;
		permanent_errors = 0;
		cs_slots_lock();
		slot->failures = 0;
		cs_slots_unlock();
	}
}

/* Batches until something has to be loaded again. */
static void
run_batches(void)
{
	for (;;)
	{
		CsOutcome	outcome;
		TimestampTz begun;

		handle_interrupts();
		MemoryContextReset(round_context);
		MemoryContextSwitchTo(round_context);
		pgstat_report_activity(STATE_RUNNING, "applying messages");
		begun = GetCurrentTimestamp();
		outcome = cs_engine_batch(engine, 0);
		last_batch = GetCurrentTimestamp();
		if (outcome != CS_BATCH_IDLE && cs_engine_has_read(engine))
			last_commit = begun;
		note_success(outcome != CS_BATCH_IDLE);
		if (cs_engine_is_stale(engine))
			return;
		cs_alerts_run(cs_engine_stream(engine), &host, outcome != CS_BATCH_IDLE);
		if (outcome != CS_BATCH_MORE)
			wait_for_work();
	}
}

/* ---- errors ---- */

/*
 * Classes that may mend themselves: connection, authorization (the file of a
 * secret), rollback (deadlock, serialization), transaction state (a server made
 * read-only), resources, object state (locks), intervention, system.  Internal errors may be races
 * (a tuple concurrently updated) or bugs: some tries.  An offset that is gone
 * from the topic (a state, but not of a lock) comes back by no try at all, nor
 * does a message become another one at which the stream is to stop.
 */
static Verdict
judge(int sqlstate)
{
	static const int transient[] = {MAKE_SQLSTATE('0', '8', '0', '0', '0'), MAKE_SQLSTATE('2', '5', '0', '0', '0'),
									MAKE_SQLSTATE('2', '8', '0', '0', '0'), MAKE_SQLSTATE('4', '0', '0', '0', '0'),
									MAKE_SQLSTATE('5', '3', '0', '0', '0'), MAKE_SQLSTATE('5', '5', '0', '0', '0'),
									MAKE_SQLSTATE('5', '7', '0', '0', '0'), MAKE_SQLSTATE('5', '8', '0', '0', '0')};

	if (sqlstate == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE || is_stopped)
		return HOPELESS;
	for (int i = 0; i < lengthof(transient); i++)
		if (ERRCODE_TO_CATEGORY(sqlstate) == transient[i])
			return TRANSIENT;
	if (sqlstate == ERRCODE_INTERNAL_ERROR && errors_in_a_row < INTERNAL_ERROR_TRIES)
		return TRANSIENT;
	return PERMANENT;
}

/* In PG_CATCH: report, clean up, and keep sqlstate and message in the slot. */
static int
absorb_error(void)
{
	ErrorData *error;
	int		   sqlstate;

	HOLD_INTERRUPTS();
	error_context_stack = NULL;
	MemoryContextSwitchTo(worker_context);
	EmitErrorReport();
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(worker_context);
	(void) pgstat_report_stat(true);

	sqlstate = error->sqlerrcode;
	cs_slots_lock();
	cs_slot_note_error(slot, sqlstate, error->message ? error->message : "", error->hint ? error->hint : "");
	cs_slots_unlock();
	FreeErrorData(error);
	is_stopped = engine != NULL && cs_engine_is_stopped(engine);
	if (engine != NULL && cs_engine_is_behind(engine))
		close_engine();
	else if (engine != NULL)
		cs_engine_abort(engine);
	else
		close_engine();
	RESUME_INTERRUPTS();
	return sqlstate;
}

static void
fail(void)
{
	const char *what = runs_sink() ? "sink" : "stream";
	const char *start = runs_sink() ? "start_sink" : "start";

	cs_slots_lock();
	slot->problem[0] = '\0';
	if (slot->hint[0] == '\0')
		snprintf(slot->hint, sizeof(slot->hint), "When the cause is gone, start the %s again by clickstream.%s().",
				 what, start);
	if (!slot->stop)
	{
		slot->wanted = false; /* at once: whoever sees the state may start it again before this process has ended */
		cs_slot_change(slot, CS_SLOT_FAILED);
	}
	cs_slots_unlock();
	ereport(LOG,
			(errmsg("clickstream %s %d stopped after an error that cannot mend itself", what, abs(slot->stream_id)),
			 errhint("When the cause is gone, start it again by clickstream.%s().", start)));
	proc_exit(0);
}

/* After an error: end, fail, or wait until it may be tried again. */
static void
recover(int sqlstate)
{
	Verdict verdict = judge(sqlstate);

	errors_in_a_row++;
	last_error = GetCurrentTimestamp();
	if (!is_still_wanted())
		leave("the stream is gone or stopped");
	permanent_errors += verdict == PERMANENT;
	if (verdict == HOPELESS || (verdict == PERMANENT && after_permanent) || permanent_errors >= PERMANENT_ERROR_TRIES)
		fail();
	after_permanent = verdict == PERMANENT;
	if (verdict == PERMANENT || errors_in_a_row >= TRIES_BEFORE_REOPEN)
		close_engine();

	cs_slots_lock();
	(void) cs_slot_back_off(slot);
	if (!slot->stop)
		cs_slot_change(slot, CS_SLOT_BACKING_OFF);
	if (cs_alerts_may_be())
		cs_watch(MyDatabaseId, CS_WATCH_SOON_MS);
	cs_slots_unlock();
	wait_back_off();
	resumed = GetCurrentTimestamp();
}

/* ---- a sink ---- */

static void
show_problem(const char *problem)
{
	show_state(problem ? CS_SLOT_WAITING : CS_SLOT_RUNNING, problem);
}

static void
wait_ms(int timeout_ms)
{
	(void) wait_once(-1, timeout_ms);
}

/* Errors of before no longer count. */
static void
sink_went_well(void)
{
	errors_in_a_row = 0;
	after_permanent = false;
	last_error = 0;
	permanent_errors = 0;
	cs_slots_lock();
	slot->failures = 0;
	cs_slots_unlock();
}

static void
run_sink(void)
{
	static const CsSinkFrame frame = {.host = &host,
									  .interrupts = handle_interrupts,
									  .show = show_problem,
									  .wait = wait_ms,
									  .went_well = sink_went_well};

	MemoryContextReset(round_context);
	sink_context = AllocSetContextCreate(worker_context, "clickstream sink", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(sink_context);
	pgstat_report_activity(STATE_RUNNING, "opening the sink");
	cs_sink_run(-slot->stream_id, &frame, sink_context);
	MemoryContextSwitchTo(round_context); /* what was current goes with the sink */
}

/* ---- main ---- */

static void
run(void)
{
	volatile int sqlstate = 0;

	PG_TRY();
	{
		if (runs_sink())
			run_sink();
		else
		{
			if (engine == NULL)
				open_engine();
			run_batches();
		}
		close_engine();
	}
	PG_CATCH();
	{
		sqlstate = absorb_error();
	}
	PG_END_TRY();
	if (sqlstate != 0)
		recover(sqlstate);
	else if (!is_still_wanted())
		leave("the stream is gone or stopped");
}

void
cs_worker_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	} settings[] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"lock_timeout", "10s"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"session_replication_role", "origin"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i].name, settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
}

void
cs_stream_worker_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	ConfigReloadPending = true; /* one that came before was ignored, as PostgreSQL starts background workers */
	pqsignal(SIGTERM, die);
	if (!attach(DatumGetInt32(arg)))
		proc_exit(0);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, 0);
	cs_worker_settings();
	cs_memory_init();
	worker_context = AllocSetContextCreate(TopMemoryContext, "clickstream worker", ALLOCSET_DEFAULT_SIZES);
	round_context = AllocSetContextCreate(worker_context, "clickstream round", ALLOCSET_SMALL_SIZES);
	cs_host_use(round_context);
	MemoryContextSwitchTo(worker_context);

	if (!is_still_wanted())
		leave("the stream is gone or stopped");
	for (;;)
		run();
}
