/*
 * worker/decode_worker.c
 *	  The process that fetches and decodes for a stream's worker: a shell around
 *	  engine/feeder.c.  What it is for and how it is told what to do: engine/feed.h.
 *
 * Errors are the applier's to judge: they are sent to it, and this process
 * waits for what it says.  One that cannot be sent (there is no engine yet)
 * ends the process; the applier notices, and starts another one.
 *
 * Ends when the applier says so or is gone, quietly: it then gets a SIGTERM,
 * which only cancels what it is computing.  A SIGTERM of anybody else ends it
 * as it does any other background worker.
 */
#include "worker/slots.h"

#include "core/memory.h"
#include "core/settings.h"
#include "engine/feed.h"
#include "worker/host.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

static MemoryContext worker_context;
static CsFeed *volatile my_feed = NULL; /* while it is there */

static bool
is_let_go(void)
{
	return pg_atomic_read_u32(&my_feed->stop) != 0;
}

static void
handle_term(SIGNAL_ARGS)
{
	if (my_feed != NULL && is_let_go())
		StatementCancelHandler(postgres_signal_arg);
	else
		die(postgres_signal_arg);
}

static const CsHost host = {.begin = cs_host_begin, .commit = cs_host_commit};

/* The library's threads must be gone before exit() runs destructors. */
static void
worker_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	my_feed = NULL;
	MemoryContextSwitchTo(TopMemoryContext);
	if (worker_context != NULL)
		MemoryContextDelete(worker_context);
	worker_context = NULL;
	cs_host_use(NULL);
}

/* As the stream's worker has them; its queue of messages is shared out among the helpers. */
static void
adopt_settings(const CsFeed *feed)
{
	char *share = psprintf("%dkB", Max(cs_queue_memory / Max(feed->nhelpers, 1), CS_QUEUE_MEMORY_MIN));

	SetConfigOption("clickstream.queue_memory", share, PGC_SIGHUP, PGC_S_OVERRIDE);
	pfree(share);
}

static void
show_name(const CsFeed *feed, const CsFeeder *feeder)
{
	char *name = psprintf("clickstream: %s, decode worker %d", cs_feeder_stream(feeder)->name, feed->number);

	SetConfigOption("application_name", name, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_activity(STATE_RUNNING, "decoding messages");
	pfree(name);
}

/* In PG_CATCH.  What the applier will say is not said here, but for those who look for it. */
static ErrorData *
absorb_error(void)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	error_context_stack = NULL;
	MemoryContextSwitchTo(worker_context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(worker_context);
	RESUME_INTERRUPTS();
	return error;
}

static bool
step(CsFeeder *feeder)
{
	ErrorData *volatile error = NULL;
	volatile bool goes_on = true;

	PG_TRY();
	{
		cs_host_interrupts();
		goes_on = cs_feeder_step(feeder);
	}
	PG_CATCH();
	{
		error = absorb_error();
	}
	PG_END_TRY();
	if (error != NULL)
	{
		goes_on = cs_feeder_failed(feeder, error);
		FreeErrorData(error);
	}
	return goes_on;
}

/* NULL: it is not needed any more. */
static CsFeeder *
open_feeder(CsFeed *feed, shm_mq_handle *queue)
{
	CsFeeder *volatile feeder = NULL;

	PG_TRY();
	{
		feeder = cs_feeder_open(feed, queue, &host, worker_context);
	}
	PG_CATCH();
	{
		if (!is_let_go())
			PG_RE_THROW();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	return feeder;
}

static void
run(CsFeed *feed, shm_mq_handle *queue)
{
	CsFeeder *feeder = open_feeder(feed, queue);

	if (feeder == NULL)
		return;
	show_name(feed, feeder);
	while (step(feeder))
		(void) pgstat_report_stat(false);
}

void
cs_decode_worker_main(Datum arg)
{
	dsm_segment *segment;
	CsFeed		*feed;
	shm_mq		*queue;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	ConfigReloadPending = true; /* one that came before was ignored, as PostgreSQL starts background workers */
	pqsignal(SIGTERM, handle_term);
	before_shmem_exit(worker_exit, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0); /* whoever asked for it has gone */
	feed = dsm_segment_address(segment);
	my_feed = feed;
	queue = cs_feed_queue(feed);
	shm_mq_set_sender(queue, MyProc);
	if (is_let_go())
		proc_exit(0);
	HOLD_CANCEL_INTERRUPTS();
	BackgroundWorkerInitializeConnectionByOid(feed->database, InvalidOid, 0);
	RESUME_CANCEL_INTERRUPTS();
	cs_worker_settings();
	cs_memory_init();
	worker_context = AllocSetContextCreate(TopMemoryContext, "clickstream decode worker", ALLOCSET_DEFAULT_SIZES);
	cs_host_use(worker_context);
	MemoryContextSwitchTo(worker_context);
	adopt_settings(feed);
	run(feed, shm_mq_attach(queue, segment, NULL));
	proc_exit(0);
}
