/*
 * engine/engine.h
 *	  One stream running in this process: batches that are transactions.
 *
 * Used by the stream's worker and by CALL process().  The host supplies how a
 * transaction begins and ends; the engine never does it itself otherwise.
 *
 * Life: open (inside no transaction of the engine's own: it uses the host's
 * begin/commit), then batch() again and again, then delete the memory context
 * it was given (or close()).  If batch() raises, the caller aborts its
 * transaction and calls cs_engine_abort() before the next batch(), or throws
 * the engine away.
 *
 * Locking: open takes a session-level lock on the stream so that two
 * processes never run the same stream; close or the context's end gives it back.
 */
#ifndef CS_ENGINE_ENGINE_H
#define CS_ENGINE_ENGINE_H

#include "core/definition.h"

typedef struct CsEngine CsEngine;

/* Facts of one batch, for views and for who waits. */
typedef struct CsProgress
{
	int64		messages;  /* consumed by this batch */
	int64		total;	   /* since the engine was opened */
	int64		lag;	   /* messages behind the end of the topic, -1 unknown */
	TimestampTz watermark; /* CS_WM_NONE, CS_WM_DONE possible */
	TimestampTz committed_at;
	int64		commit_number;
	int64		state_entries;
	int64		state_bytes;
	int64		shown_commit; /* the last one whose rows are all shown; -1: none */
} CsProgress;

typedef struct CsHost
{
	void (*begin)(void);						/* start a transaction with an active snapshot */
	void (*commit)(void);						/* commit it */
	void (*report)(const CsProgress *progress); /* after a commit, and where there is news without; may be NULL */
	void (*wake_sink)(int32 sink_id);			/* this transaction has rows for a sink; may be NULL */
	bool (*pause)(int ms); /* in a transaction; false: the batch shall end.  NULL: it never waits */
	bool shares;		   /* committed state is for readers in shared memory */
	bool helped;		   /* decode workers may be started */
} CsHost;

typedef enum CsOutcome
{
	CS_BATCH_MORE, /* committed something, and more is waiting: call again at once */
	CS_BATCH_DONE, /* committed something, nothing more at the moment */
	CS_BATCH_IDLE  /* nothing to do: no transaction was committed */
} CsOutcome;

/*
 * Load the stream, compile its definitions, recover its state, take its
 * lock (raises ERRCODE_OBJECT_IN_USE if another process has it and !wait).
 */
extern CsEngine *cs_engine_open(int32 stream_id, const CsHost *host, bool wait, MemoryContext parent);

/* Nobody runs the stream until the transaction ends: waits for who does, be it inside of a call. */
extern void cs_engine_keep_out(int32 stream_id);

/*
 * One batch: take what the source has (at most max_messages, <= 0 for the
 * settings' limit), apply, write, commit, publish.  Waits for messages only
 * where the stream is far behind and the host can pause, up to commit_interval.
 */
extern CsOutcome cs_engine_batch(CsEngine *engine, int64 max_messages);

/* After an error in batch(): drop the overlay, read again from the last commit. */
extern void cs_engine_abort(CsEngine *engine);
extern void cs_engine_close(CsEngine *engine);

/* Readable when messages may be there; -1: none (local topic). */
extern int cs_engine_poll_fd(CsEngine *engine);
/* Clock time at which batch() should be called even if nothing arrives; CS_WM_DONE never. */
extern TimestampTz cs_engine_deadline(CsEngine *engine);
/* Why nothing comes ("broker … refused"), or NULL. */
extern const char *cs_engine_problem(CsEngine *engine);
/* After an error: may it lag behind a COMMIT?  Then close it, without abort(): the tables know. */
extern bool cs_engine_is_behind(CsEngine *engine);
/* After an error: was it a message that cannot be used, and on_error => 'stop'?  Trying again does not mend that. */
extern bool cs_engine_is_stopped(CsEngine *engine);
/* Did definitions change since it was opened?  Then it should be opened again. */
extern bool cs_engine_is_stale(CsEngine *engine);
/* False: it has only looked where to begin. */
extern bool cs_engine_has_read(CsEngine *engine);
/* Everything that is in the topic now has been read (for process()). */
extern bool cs_engine_at_end(CsEngine *engine);

extern const CsStream *cs_engine_stream(CsEngine *engine);

/* Decode workers that read; how often one was started again; if they are fewer than asked for, why ("": no reason). */
extern int cs_engine_decode_workers(CsEngine *engine, int64 *restarts, const char **why);

#endif
