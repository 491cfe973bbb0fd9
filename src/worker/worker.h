/*
 * worker/worker.h
 *	  Processes that run streams: what the rest of the extension asks of them.
 *
 * A launcher (shared catalogs only) starts one worker per running stream and
 * starts it again with back-off.  Each known stream has a slot in shared
 * memory: worker/slots.h.
 *
 * Starting, stopping and waking act when the calling transaction commits, and
 * not at all if it, or the subtransaction of the call, rolls back.
 *
 * Without preloading there is no shared memory: cs_worker_available() is
 * false, start and hold raise or do nothing as said below.
 */
#ifndef CS_WORKER_WORKER_H
#define CS_WORKER_WORKER_H

#include "postgres.h"

/* Called by _PG_init after cs_settings_init(). */
extern void cs_worker_init(void);

/* Was the library preloaded, so that workers can run? */
extern bool cs_worker_available(void);

/* Run the stream (of this database) from commit on.  Raises with a hint if the library is not preloaded. */
extern void cs_worker_start(int32 stream_id);

/* Stop it at commit; its worker ends soon after.  Nothing to do without preloading. */
extern void cs_worker_stop(int32 stream_id);

/* Let the worker look for work at commit: something was produced or moved. */
extern void cs_worker_wake(int32 stream_id);

/*
 * Sinks have processes and slots as streams do, under the number -sink_id: so
 * all of this is for them, too.
 */
extern void cs_worker_wake_sink(int32 sink_id);

/* Look after this database's alerts from commit on, those of streams that nobody runs. */
extern void cs_worker_watch(void);

/*
 * Stop the stream's worker now, wait until it has ended, and keep it from
 * starting until this transaction ends.  For whoever is about to drop or
 * rewrite what the worker uses.  Call cs_worker_stop() too if it shall not
 * run again after COMMIT.
 */
extern void cs_worker_hold(int32 stream_id);

/* The same for all workers of a database. */
extern void cs_worker_hold_database(Oid database);

/*
 * Wait until no worker runs the stream; false after timeout_ms (-1: wait for
 * ever).  Stops nothing: call it after the commit that did.
 */
extern bool cs_worker_wait_stopped(int32 stream_id, int timeout_ms);

/*
 * Does a worker run, or is one going to run, this stream of this database?
 * *state is its state as stat_stream shows it, *error a palloc'd copy of its
 * last error or NULL; both pointers may be NULL.
 */
extern bool cs_worker_is_running(int32 stream_id, const char **state, char **error);

/*
 * Do rows show what was committed up to this commit?  A worker that catches up
 * holds rewrites back for a commit.  True where none is at work.
 */
extern bool cs_worker_has_shown(int32 stream_id, int64 commit_number);

#endif
