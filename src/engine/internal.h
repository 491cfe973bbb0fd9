/*
 * engine/internal.h
 *	  What the files of this folder share: the insides of CsEngine.
 *
 *	engine.c	open, close, the batch as a whole
 *	chunk.c		messages to events: decode, evaluate, apply
 *	dedupe.c	dedupe_by
 *	lookup.c	columns of lookups
 *	upsert.c	messages into the table of a lookup
 *	watermark.c	the stream's watermark, idle partitions
 *	align.c		partitions far ahead of the others wait
 *	positions.c	partitions: which there are, where reading begins
 *	topics.c	topics of a pattern: found, and gone
 *	closing.c	what the watermark closes
 *	counts.c	what each definition made of each partition's messages
 *	write.c		rows of operators into tables, rollups, the batch's end
 *	backfill.c	definitions that are being filled with history
 *	history.c	the same, from the topic
 *	hosts.c		what hosts ask between batches
 *	outbox.c	rows that sinks are to send
 *	retry.c		dead letters run through the stream again
 *	feed.c		decode workers: the applier's side; feed_helper.c: their processes;
 *				feed_stash.c: what came of partitions that wait
 *	feeder.c	decode workers: their side
 *	packed.c	what they send
 */
#ifndef CS_ENGINE_INTERNAL_H
#define CS_ENGINE_INTERNAL_H

#include "core/ledger.h"
#include "decode/decode.h"
#include "engine/engine.h"
#include "operator/expression.h"
#include "operator/operator.h"
#include "sink/row_places.h"
#include "sink/sink.h"
#include "source/source.h"
#include "storage/lock.h"

#define CS_CHUNK_MESSAGES 1024		 /* messages decoded and applied together */
#define CS_CLOSINGS_PER_BATCH 100000 /* entries that each operator closes in one transaction, if all have room */
#define CS_CLOSINGS_MIN 64			 /* but so many in any case */

/* A row that a source of rollups has emitted in this batch. */
typedef struct CsSourceRow
{
	Datum			   *values; /* of the operator's columns */
	HeapTuple			old;	/* what it stands for, or NULL: it is new */
	HeapTuple			tuple;	/* as the table has it: the user's columns, what his triggers made of it; NULL: gone */
	struct CsSourceRow *next;
} CsSourceRow;

/* A lookup and what the engine keeps for it: engine/lookup.c. */
typedef struct CsLookupStage CsLookupStage;
typedef struct CsUpsert		 CsUpsert; /* engine/upsert.c */

/* An operator and what the engine keeps for it. */
typedef struct CsStage
{
	CsOperator		   *op;
	CsTable			   *table; /* open for this batch, or NULL */
	const char		  **column_names;
	int					nkeys;
	int				   *keys;
	CsRowPlaces			places; /* where rows of the table lie */
	CsSourceRow		   *rows;	/* of this batch, for rollups */
	CsSourceRow		  **rows_tail;
	struct CsStageSink *sinks;	  /* to which its rows go; outbox.c */
	TupleDesc			key_desc; /* of their keys, once there was one */
	TimestampTz previewed;		 /* its rows are shown as of up to here since the last message; CS_WM_NONE not at all */
	TimestampTz previewed_next;	 /* as this batch leaves it; CS_WM_NONE as it was */
	struct CsBackfill *backfill; /* it is being filled with history; NULL: it is live; engine/backfill.h */
	CsEffort		   effort;	 /* this transaction included */
	CsEffort		   committed_effort;
} CsStage;

struct CsEngine
{
	MemoryContext	   context;
	MemoryContext	   batch;
	MemoryContext	   chunk;
	const CsHost	  *host;
	CsStream		  *stream;
	int32			   version;	 /* of the stream, when loaded */
	bool			   examines; /* some entries may be damaged */
	bool			   stale;
	Oid				   only; /* the table whose definition is loaded alone; InvalidOid: all are */
	LOCKTAG			   lock;
	CsState			  *state;
	int				   nstages;
	CsStage			  *stages;
	CsSource		  *source;
	MemoryContext	   source_context;
	CsDecoder		  *decoder;
	bool			  *needed;	  /* event columns that anything reads */
	CsUpsert		  *upsert;	  /* it fills the table of a lookup; NULL: it does not */
	struct CsEventLog *event_log; /* NULL: none */
	int32			   event_log_id;
	Oid				   event_log_table;
	int64			   event_log_retention; /* µs, -1 keep */

	/* stream-level expressions */
	CsExpr			visitor;
	bool			has_filter;
	CsExpr			filter;
	bool			has_dedupe;
	CsExpr			dedupe;
	CsHasher		dedupe_hasher;
	int				nlookups; /* of which a column is needed */
	CsLookupStage **lookups;
	TupleTableSlot *slot;
	Datum		   *slot_values; /* the slot's own arrays */
	bool		   *slot_isnull;
	ExprContext	   *econtext;
	Datum		   *topic_names; /* text */

	/* where we are */
	CsProgressRow stored; /* as committed */
	bool		  behind; /* a COMMIT may have happened that the state has not taken over */
	TimestampTz	  watermark;
	TimestampTz	  ceiling;			 /* the watermark is never beyond this; CS_WM_DONE, but see history.c */
	int32		  dedupe_definition; /* under which dedupe_by remembers */
	int			  npartitions;
	CsPartition **partitions; /* the assignment; copies of committed in committed[] */
	CsPartition	 *committed;
	bool		  never_ran;
	bool		  assigned;
	TimestampTz	  begun;		/* by the true clock: this batch */
	TimestampTz	  next_refresh; /* clock: look for partitions */
	bool		  polled_empty; /* the last poll returned nothing */
	bool		  catching_up;
	bool		  has_read;		/* messages, since it was opened */
	int64		  reported;		/* commit number that the host knows of; -1: none */
	int64		  shown_commit; /* and as of which rows were not held back, see CsProgress */
	bool		  closings_left;
	TimestampTz	  previewed_rows; /* of this batch: rows as of up to here may be there */
	bool		  previews_left;  /* of this batch: to the next one */
	TimestampTz	  preview_again;  /* clock: not before; a preview commits no oftener than messages do */
	char		  problem[512];

	/* the batch */
	CsBatchContext	 ctx;
	CsEmitter		 emitter;
	CsMessage		*messages;
	CsEvent			*events;
	int				 nevents;
	uint8			 classes[CS_CHUNK_MESSAGES]; /* of the events, while a definition is applied */
	int64			 batch_messages;
	int64			 batch_bytes; /* memory that it took */
	int64			 total;
	int64			 last_messages; /* of the last batch that committed */
	bool			 is_filling;	/* the event log runs, not messages */
	bool			 backfilled;	/* this batch has run some */
	List			*dead;			/* CsDeadLetter* */
	CsDeadLetter	*stop_at;		/* the batch's first one of a whole message */
	bool			 is_stopped;	/* the batch raised for it, as on_error => 'stop' demands */
	const CsMessage *ends_before;	/* a message that is for the next batch: it must wait (chunk.c) */
	List			*late;			/* CsLateEvent* */
	int				 guc_nest;
};

/*
 * engine.c: one transaction of the stream beside its batches, in a transaction
 * of the caller's own which holds the stream's worker.
 */
typedef void (*CsRepairStep)(CsEngine *e, void *arg);
extern void cs_engine_repair(int32 stream_id, const CsHost *host, CsRepairStep step, void *arg);

/* hosts.c: rows that change are held back no longer. */
extern bool cs_engine_rows_are_due(CsEngine *e);

/* engine.c: without lock, state and source, for a decode worker. */
extern CsEngine *cs_engine_open_decoder(int32 stream_id, const CsHost *host, MemoryContext parent);
/* In a transaction as the stream's owner. */
extern void cs_engine_in_transaction(CsEngine *e, void (*step)(CsEngine *e, int n), int n);

/* chunk.c */
extern void cs_chunk_run(CsEngine *e, int n);
/*
 * Its steps: events of the first n of e->messages, decoded; the watermark as of
 * each, to the one that must wait, for the definition that gets them (NULL: all
 * that are live; ndead: how many dead letters there were before); one definition
 * over the events.
 */
extern void cs_chunk_decode(CsEngine *e, int n);
extern void cs_chunk_watermarks(CsEngine *e, CsStage *only, int ndead);
/* The dead letters that decoding has made are the definition's: what is the stream's was passed over. */
extern void cs_chunk_claim_dead(CsEngine *e, int32 definition_id, int nbefore);
/* Of n messages those from the one on that must wait are to be read again. */
extern void cs_chunk_give_back(CsEngine *e, int n);
/* Must an event wait until the definition has closed what its watermark passes? */
extern bool cs_stage_must_wait(CsEngine *e, CsStage *stage, TimestampTz time, TimestampTz watermark, int before);
extern void cs_chunk_run_stage(CsEngine *e, CsStage *stage);
extern void cs_engine_compile_stream(CsEngine *e);
/* The event's columns into the slot that expressions read; and out of it. */
extern void cs_point_slot(CsEngine *e, const CsEvent *event);
extern void cs_unpoint_slot(CsEngine *e);
typedef void (*CsStep)(CsEngine *e, void *arg, int i);
typedef void (*CsFailed)(CsEngine *e, void *arg, int i, ErrorData *error);
/* Run step for i in [0, n) in subtransactions; one that raises goes to failed, and the rest goes on. */
extern void cs_guarded_loop(CsEngine *e, int n, CsStep step, CsFailed failed, void *arg);
extern void cs_dead_letter_add(CsEngine *e, const CsEvent *event, int32 definition_id, const char *cause,
							   const char *error, int sqlerrcode);

/* watermark.c */
extern void		   cs_watermark_event(CsEngine *e, CsPartition *p, TimestampTz time, TimestampTz message_time);
extern void		   cs_watermark_no_event(CsEngine *e, const CsPartition *p);
extern void		   cs_watermark_recompute(CsEngine *e);
extern TimestampTz cs_watermark_content(const CsEngine *e);
extern bool		   cs_watermark_idle(CsEngine *e, TimestampTz now);
/* Does it hold nothing, being silent and at its end? */
extern bool		   cs_watermark_is_idle(const CsPartition *p);
extern void		   cs_watermark_show_idle(CsEngine *e);
extern TimestampTz cs_watermark_idle_deadline(CsEngine *e);

/* preview.c */
extern void		   cs_preview_begin(CsEngine *e);
extern TimestampTz cs_preview_as_of(CsEngine *e);
extern void		   cs_preview_run(CsEngine *e, TimestampTz as_of);
extern void		   cs_preview_committed(CsEngine *e);
extern TimestampTz cs_preview_deadline(CsEngine *e);

/* consume.c */

/*
 * Read and apply until the source has nothing more for now, or the batch is
 * full: then true.  polled: so many messages are there already, -1 none.
 */
extern bool cs_consume(CsEngine *e, int64 max_messages, int polled);
/* Where nothing is in hand: the broker has much more than it has sent.  One that is not behind itself would have sent it. */
extern bool cs_is_far_behind(CsEngine *e);

/* closing.c */

/* How many entries an operator may close in one transaction. */
extern int cs_closings_at_once(const CsEngine *e);

/* Close what the watermark has passed and show what is to be shown; as_of: of a silent topic, see preview.c. */
extern void cs_close(CsEngine *e, bool finish, TimestampTz as_of);
/* Must no message come before more is closed? */
extern bool cs_closing_is_midway(const CsEngine *e);

/* counts.c */
extern void		cs_counts_load(CsEngine *e);
extern void		cs_counts_arrange(CsEngine *e, CsPartition *p);
extern void		cs_counts_store(CsEngine *e, CsProgressRow *row);
extern void		cs_counts_committed(CsEngine *e);
extern void		cs_counts_abort(CsEngine *e);
extern void		cs_counts_begin(CsEngine *e);
extern void		cs_counts_end(CsEngine *e, int stage);
extern void		cs_counts_logged(CsEngine *e);
extern void		cs_count_dead(CsEngine *e, const CsPartition *where, int32 definition_id);
extern void		cs_count_no_key(CsEngine *e, const CsEvent *event, int stage);
extern CsCount *cs_count_of(CsEngine *e, CsPartition *p, int32 definition_id);

/* align.c */
extern bool		   cs_align_run(CsEngine *e);
extern TimestampTz cs_align_deadline(const CsEngine *e);
extern void		   cs_align_forget(CsEngine *e);

/* positions.c */
extern void	 cs_positions_load(CsEngine *e);
extern bool	 cs_positions_refresh(CsEngine *e, int timeout_ms);
extern void	 cs_positions_rewind(CsEngine *e);
extern void	 cs_positions_reopen(CsEngine *e);
extern void	 cs_positions_give_back(CsEngine *e);
extern void	 cs_positions_committed(CsEngine *e);
extern void	 cs_positions_pass_gaps(CsEngine *e);
extern bool	 cs_positions_changed(CsEngine *e, int i);
extern int64 cs_positions_lag(CsEngine *e);
extern bool	 cs_positions_at_end(CsEngine *e);
extern void	 cs_positions_mark_gone(CsEngine *e, int i, bool is_gone);

/* topics.c */
extern bool cs_topics_take_news(CsEngine *e);

/* rollup_feed.c */
extern void cs_rollups_feed(CsEngine *e);

/* outbox.c */
extern void cs_outbox_load(CsEngine *e);
extern void cs_outbox_add(CsEngine *e, CsStage *stage, CsTable *table, bool gone, const Datum *values,
						  const bool *isnull);
extern void cs_outbox_end(CsEngine *e);
extern void cs_outbox_abort(CsEngine *e);

/* write.c */
extern CsTable *cs_stage_table(CsEngine *e, CsStage *stage);
extern void		cs_write_begin(CsEngine *e);
extern void		cs_write_end(CsEngine *e);
extern void		cs_write_abort(CsEngine *e);

#endif
