/*
 * api/process.c
 *	  CALL process, CALL finish, advance_watermark(), CALL wait_for: moving a
 *	  stream on, or waiting until it has moved.
 *
 * process() and finish() run the engine in the calling session, one
 * transaction a batch, so they are procedures outside transaction blocks; they
 * need no preloading.  A stream that a worker runs is refused by process();
 * finish() lets the worker do it and waits.
 *
 * The engine's context hangs under TopMemoryContext, because it outlives
 * transactions.  It is deleted after an error, and, by a callback that is
 * registered once a session, when the session ends in the middle: a library's
 * threads must be gone before exit() runs its destructors.
 *
 * wait_for() takes the topic's ends once, from a source that resolves 'latest'
 * for each partition, and compares them with the positions that are committed.
 * Where it may it commits first, so that no old snapshot is held while waiting.
 */
#include "postgres.h"

#include "core/definition.h"
#include "core/ledger.h"
#include "core/procedure.h"
#include "core/progress.h"
#include "core/wait.h"
#include "engine/engine.h"
#include "source/source.h"
#include "worker/worker.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include <limits.h>

#define POLL_MS 50
#define METADATA_SLICE_MS 250 /* asking a broker, between looks at interrupts */
#define IDLE_WAIT_MS 1000	  /* for messages that are on their way */
#define STOP_PATIENCE_MS 30000
#define PROBLEM_PATIENCE_MS 30000 /* a broker that does not answer */
#define PROBLEM_NOTICE_MS 2000	  /* after so long it is told what is waited for */

PG_FUNCTION_INFO_V1(clickstream_process);
PG_FUNCTION_INFO_V1(clickstream_finish);
PG_FUNCTION_INFO_V1(clickstream_advance_watermark);
PG_FUNCTION_INFO_V1(clickstream_wait_for);

/* The engine that this session runs, if any, lives here. */
static MemoryContext run_context = NULL;
static int64		 run_consumed;

/* ---- arguments ---- */

/* The stream, if the caller is a member of its owner. */
static CsStream *
stream_argument(FunctionCallInfo fcinfo, int i)
{
	CsStream *stream;

	if (PG_ARGISNULL(i))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("stream must not be null")));
	stream = cs_stream_load_by_name(text_to_cstring(PG_GETARG_TEXT_PP(i)), CurrentMemoryContext);
	if (!has_privs_of_role(GetUserId(), stream->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of stream \"%s\"", stream->name)));
	return stream;
}

/* ---- waiting ---- */

static void
wait_a_moment(int fd, int timeout_ms)
{
	(void) cs_wait(fd, timeout_ms);
	CHECK_FOR_INTERRUPTS();
}

/* ---- running the engine here ---- */

static void
drop_run(void)
{
	MemoryContext dropping = run_context;

	run_context = NULL;
	if (dropping != NULL)
		MemoryContextDelete(dropping);
}

static void
drop_run_at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	MemoryContextSwitchTo(TopMemoryContext); /* we may be in what goes */
	drop_run();
}

static void
make_run_context(void)
{
	static bool registered = false;

	if (!registered)
		before_shmem_exit(drop_run_at_exit, (Datum) 0);
	registered = true;
	drop_run();
	run_context = AllocSetContextCreate(TopMemoryContext, "clickstream process", ALLOCSET_DEFAULT_SIZES);
}

static void
count_consumed(const CsProgress *progress)
{
	run_consumed += progress->messages;
}

static const CsHost host = {.begin = cs_procedure_begin,
							.commit = cs_procedure_commit,
							.report = count_consumed,
							.wake_sink = cs_worker_wake_sink};

/* A worker that was told to stop is given time to end. */
static void
refuse_if_worker_runs(const CsStream *stream)
{
	if (cs_worker_is_running(stream->stream_id, NULL, NULL) ||
		!cs_worker_wait_stopped(stream->stream_id, STOP_PATIENCE_MS))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("stream \"%s\" is run by a worker", stream->name),
						errhint("CALL clickstream.wait_for() waits for it; clickstream.stop() stops it.")));
}

/* Nothing comes although the end is not reached: raises if that has a reason and lasts. */
static void
wait_for_messages(CsEngine *engine, TimestampTz *problem_since, bool *told)
{
	const char *problem = cs_engine_problem(engine);
	TimestampTz now = GetCurrentTimestamp();

	if (problem == NULL)
		*problem_since = 0;
	else if (*problem_since == 0)
		*problem_since = now;
	else if (TimestampDifferenceExceeds(*problem_since, now, PROBLEM_PATIENCE_MS))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not read the topic of stream \"%s\"", cs_engine_stream(engine)->name),
				 errdetail("%s", problem),
				 errhint("Check the broker, and brokers and options of the stream. What was committed stays; CALL the "
						 "procedure again to go on.")));
	else if (!*told && TimestampDifferenceExceeds(*problem_since, now, PROBLEM_NOTICE_MS))
	{
		ereport(NOTICE, (errmsg("waiting for the broker of stream \"%s\"", cs_engine_stream(engine)->name),
						 errdetail("%s", problem)));
		*told = true;
	}
	wait_a_moment(cs_engine_poll_fd(engine), IDLE_WAIT_MS);
}

/*
 * Batches to the end of the topic (and until everything is closed, after
 * finish()), or until max messages (-1: no limit) were consumed.  False if the
 * definitions changed: the engine has to be opened again.
 */
static bool
run_batches(CsEngine *engine, int64 max, bool until_closed)
{
	const CsStream *stream = cs_engine_stream(engine);
	TimestampTz		problem_since = 0;
	bool			told = false;

	while (max < 0 || run_consumed < max)
	{
		CsOutcome outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = cs_engine_batch(engine, max < 0 ? 0 : max - run_consumed);
		if (cs_engine_is_stale(engine))
			return false;
		if (outcome == CS_BATCH_MORE)
			continue;
		if (cs_engine_at_end(engine) && !(until_closed && !cs_progress_is_closed(stream->stream_id)))
			return true;
		if (outcome != CS_BATCH_IDLE)
			continue;
		if (stream->brokers == NULL)
			return true; /* nothing is ever on its way in a local topic */
		wait_for_messages(engine, &problem_since, &told);
	}
	return true;
}

/* Open, run, close; whatever happens nothing is left behind. */
static bool
run_once(int32 stream_id, int64 max, bool until_closed)
{
	volatile bool done = false;

	make_run_context();
	PG_TRY();
	{
		CsEngine *engine = cs_engine_open(stream_id, &host, false, run_context);

		done = run_batches(engine, max, until_closed);
		cs_engine_close(engine);
	}
	PG_FINALLY();
	{
		drop_run();
	}
	PG_END_TRY();
	return done;
}

static void
run_stream(int32 stream_id, int64 max, bool until_closed)
{
	run_consumed = 0;
	while (!run_once(stream_id, max, until_closed))
		;
}

/* CALL process(stream text, max_messages bigint) */
Datum
clickstream_process(PG_FUNCTION_ARGS)
{
	CsStream *stream;
	int64	  max = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT64(1);

	cs_procedure_require_commit(fcinfo, "process");
	if (!PG_ARGISNULL(1) && max < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("max_messages must not be negative")));
	stream = stream_argument(fcinfo, 0);
	refuse_if_worker_runs(stream);
	cs_procedure_enter();
	run_stream(stream->stream_id, max, false);
	cs_procedure_leave();
	PG_RETURN_VOID();
}

/* ---- waiting for the worker ---- */

/* Raise if the stream's worker has given up: nothing will come. */
static void
check_failed(const CsStream *stream)
{
	const char *state;
	char	   *error;

	cs_worker_is_running(stream->stream_id, &state, &error);
	if (strcmp(state, "failed") == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("stream \"%s\" has failed", stream->name), error ? errdetail("%s", error) : 0,
						errhint("When the cause is gone, start it again by clickstream.start().")));
}

static int
timeout_hint(const char *state)
{
	if (strcmp(state, "stopped") == 0)
		return errhint("Start it by clickstream.start().");
	return errhint("View clickstream.stat_stream shows whether it moves on; if it does, give more time.");
}

static void
raise_timeout(const CsStream *stream, int64 lag)
{
	const char *state;
	char	   *error;

	cs_worker_is_running(stream->stream_id, &state, &error);
	if (lag < 0)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED), errmsg("timeout while waiting for stream \"%s\"", stream->name),
				 errdetail("The topic's end is not known; the stream is %s%s%s.", state, error ? ": " : "",
						   error ? error : ""),
				 timeout_hint(state)));
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED), errmsg("timeout while waiting for stream \"%s\"", stream->name),
			 errdetail_plural("It is %lld message behind; it is %s%s%s.", "It is %lld messages behind; it is %s%s%s.",
							  (unsigned long) lag, (long long) lag, state, error ? ": " : "", error ? error : ""),
			 timeout_hint(state)));
}

static int
ms_left(TimestampTz deadline)
{
	if (deadline == CS_WM_DONE)
		return INT_MAX;
	return (int) Min(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline), INT_MAX);
}

/* The partitions that there are; a stream with a pattern may not know of some topics yet. */
static CsPartition *
list_partitions(CsSource *source, const CsStream *stream, int *n, TimestampTz deadline)
{
	CsPartition *result;

	while ((result = source->ops->list(source, n, METADATA_SLICE_MS)) == NULL && source->ops->problem(source) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (ms_left(deadline) <= 0)
			raise_timeout(stream, -1);
	}
	return result;
}

/*
 * The stream, and of a pattern all topics that match now: the worker gives each
 * its number, so that is waited for.
 */
static const CsStream *
with_its_topics(const CsStream *stream, TimestampTz deadline)
{
	int n;

	while (stream->pattern != NULL)
	{
		MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "clickstream topics", ALLOCSET_SMALL_SIZES);
		CsSource	 *source = cs_source_for(stream)->open(stream, cxt);
		bool		  is_all;

		(void) list_partitions(source, stream, &n, deadline);
		is_all = source->ops->news(source)->nfound == 0;
		MemoryContextDelete(cxt);
		if (is_all)
			break;
		check_failed(stream);
		if (ms_left(deadline) <= 0)
			raise_timeout(stream, -1);
		wait_a_moment(-1, POLL_MS);
		PushActiveSnapshot(GetLatestSnapshot());
		stream = cs_stream_load_by_id(stream->stream_id, CurrentMemoryContext);
		PopActiveSnapshot();
	}
	return stream;
}

/*
 * Where each partition ends now, as next_offset; *n of them.  The source lives
 * in the current context, which the caller deletes.
 */
static CsPartition *
topic_ends(const CsStream *stream, int *n, TimestampTz deadline)
{
	CsStream	*latest = palloc(sizeof(CsStream));
	CsSource	*source;
	CsPartition *ends;
	int			 left;

	*latest = *stream;
	latest->start_from = CS_START_LATEST;
	source = cs_source_for(latest)->open(latest, CurrentMemoryContext);
	ends = list_partitions(source, latest, n, deadline);
	for (int i = 0; i < *n; i++)
		while (!source->ops->start_offset(source, &ends[i], true, METADATA_SLICE_MS))
		{
			left = ms_left(deadline);
			if (left <= 0)
				raise_timeout(stream, -1);
			wait_a_moment(-1, Min(left, POLL_MS));
		}
	return ends;
}

/* Messages between what is committed and those ends. */
static int64
behind(const CsStream *stream, const CsPartition *ends, int nends)
{
	int			npositions;
	CsPosition *positions = cs_positions(stream->stream_id, &npositions);
	int64		lag = 0;

	for (int i = 0; i < nends; i++)
	{
		int64 next = 0;

		for (int j = 0; j < npositions; j++)
			if (positions[j].partition == ends[i].id && strcmp(positions[j].topic, stream->topics[ends[i].topic]) == 0)
				next = positions[j].next_offset;
		lag += Max(ends[i].next_offset - next, 0);
	}
	return lag;
}

/* Do rows show what was committed until now? */
static bool
is_shown(const CsStream *stream)
{
	CsProgressRow progress;

	PushActiveSnapshot(GetLatestSnapshot());
	cs_progress_load(stream->stream_id, &progress);
	PopActiveSnapshot();
	return cs_worker_has_shown(stream->stream_id, progress.commit_number);
}

/* Until everything in the topic at this moment is committed, and shown (which is no reason for a timeout). */
static void
wait_until_consumed(const CsStream *stream, TimestampTz deadline)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "clickstream wait", ALLOCSET_DEFAULT_SIZES);
	MemoryContext polls = AllocSetContextCreate(cxt, "clickstream poll", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CsPartition	 *ends;
	int			  n;

	stream = with_its_topics(stream, deadline);
	PushActiveSnapshot(GetLatestSnapshot());
	ends = topic_ends(stream, &n, deadline);
	PopActiveSnapshot();
	MemoryContextSwitchTo(polls);
	for (;;)
	{
		int64 lag = behind(stream, ends, n);
		int	  left = ms_left(deadline);

		if (lag == 0 && (left <= 0 || is_shown(stream)))
			break;
		check_failed(stream);
		if (left <= 0)
			raise_timeout(stream, lag);
		wait_a_moment(-1, Min(left, POLL_MS));
		MemoryContextReset(polls);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Microseconds of an interval; months count 30 days, as in comparisons. */
static int64
interval_usec(const Interval *span)
{
	double usec = (double) span->time + ((double) span->month * DAYS_PER_MONTH + span->day) * (double) USECS_PER_DAY;

	return usec > (double) CS_WITHIN_MAX ? CS_WITHIN_MAX : (int64) usec;
}

/* CALL wait_for(stream text, timeout interval) */
Datum
clickstream_wait_for(PG_FUNCTION_ARGS)
{
	CsStream   *stream = stream_argument(fcinfo, 0);
	bool		commits = cs_procedure_can_commit(fcinfo);
	TimestampTz deadline = CS_WM_DONE;

	if (!PG_ARGISNULL(1))
	{
		int64 usec = interval_usec(PG_GETARG_INTERVAL_P(1));

		if (usec < 0)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("timeout must not be negative")));
		deadline = GetCurrentTimestamp() + usec;
	}
	if (commits)
	{
		cs_procedure_enter();
		cs_procedure_begin();
		cs_procedure_commit();
	}
	wait_until_consumed(stream, deadline);
	if (commits)
		cs_procedure_leave();
	PG_RETURN_VOID();
}

/* ---- moving the watermark ---- */

static void
set_finished(const CsStream *stream)
{
	cs_procedure_begin();
	cs_progress_finish(stream->stream_id);
	cs_worker_wake(stream->stream_id);
	cs_procedure_commit();
}

static void
wait_until_closed(const CsStream *stream)
{
	while (!cs_progress_is_closed(stream->stream_id))
	{
		check_failed(stream);
		if (!cs_worker_is_running(stream->stream_id, NULL, NULL))
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("stream \"%s\" was stopped before everything was closed", stream->name),
							errhint("CALL clickstream.finish() again, or start the stream: it goes on where it was.")));
		wait_a_moment(-1, POLL_MS);
	}
}

/*
 * CALL finish(stream text): first everything that is in the topic, then the
 * end.  The engine is opened again for the closing.
 */
Datum
clickstream_finish(PG_FUNCTION_ARGS)
{
	CsStream *stream;

	cs_procedure_require_commit(fcinfo, "finish");
	stream = stream_argument(fcinfo, 0);
	cs_procedure_enter();
	if (cs_worker_is_running(stream->stream_id, NULL, NULL))
	{
		cs_procedure_begin();
		cs_procedure_commit();
		wait_until_consumed(stream, CS_WM_DONE);
		set_finished(stream);
		wait_until_closed(stream);
	}
	else
	{
		refuse_if_worker_runs(stream);
		run_stream(stream->stream_id, -1, false);
		set_finished(stream);
		run_stream(stream->stream_id, -1, true);
	}
	cs_procedure_leave();
	PG_RETURN_VOID();
}

/* advance_watermark(stream text, ts timestamptz) returns void */
Datum
clickstream_advance_watermark(PG_FUNCTION_ARGS)
{
	CsStream   *stream = stream_argument(fcinfo, 0);
	TimestampTz ts;

	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the watermark must not be null")));
	ts = PG_GETARG_TIMESTAMPTZ(1);
	if (TIMESTAMP_NOT_FINITE(ts))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the watermark must be a finite time"),
						errhint("CALL clickstream.finish() says that nothing more comes.")));
	cs_progress_advance(stream->stream_id, stream->name, ts);
	cs_worker_wake(stream->stream_id);
	PG_RETURN_VOID();
}
