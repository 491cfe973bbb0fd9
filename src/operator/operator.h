/*
 * operator/operator.h
 *	  The interface of sessions, windows, funnels and rollups.
 *
 * An operator is pure: no SPI, no Kafka, no locks, no clock.  It sees chunks
 * of events, keeps state through state/state.h and hands result rows to the
 * emitter it is given.
 *
 * Phases.  evaluate() runs expressions and single-event transitions of one
 * event; it may raise, and what it raises belongs to that event and this
 * definition.  apply() is our own code over what evaluate() left and cannot
 * fail.  advance() closes what the watermark has passed.
 *
 * To add an operator: write its CsOperatorOps, name it in cs_operator_ops().
 */
#ifndef CS_OPERATOR_OPERATOR_H
#define CS_OPERATOR_OPERATOR_H

#include "common/int.h"
#include "core/definition.h"
#include "core/types.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "state/state.h"

typedef struct CsOperator CsOperator;

/* What is done with a result row. */
typedef enum CsRowAction
{
	CS_ROW_INSERT, /* the key is known to be new */
	CS_ROW_UPSERT, /* it may be there */
	CS_ROW_DELETE  /* only the key columns are set */
} CsRowAction;

/*
 * Where rows go.  values/isnull follow the operator's columns; Datums must
 * live in batch memory until the batch ends.
 */
typedef struct CsEmitter
{
	void (*row)(struct CsEmitter *emitter, CsOperator *op, CsRowAction action, Datum *values, bool *isnull);
	/* An event is late for this definition. */
	void (*late)(struct CsEmitter *emitter, CsOperator *op, CsEvent *event, int64 lateness_usec);
} CsEmitter;

/* What a batch lends its operators. */
typedef struct CsBatchContext
{
	CsState		   *state;
	CsEmitter	   *emitter;
	MemoryContext	batch;		 /* reset when the batch ends */
	MemoryContext	chunk;		 /* reset after each chunk */
	TupleTableSlot *slot;		 /* virtual; the event's columns during evaluate() */
	ExprContext	   *econtext;	 /* ecxt_scantuple = slot; per-tuple memory = chunk */
	TimestampTz		now;		 /* clock at the batch's begin */
	bool			catching_up; /* rewrites may wait */
} CsBatchContext;

/* Result columns an operator produces, in order. */
typedef struct CsColumn
{
	char *name;
	Oid	  type;
	int32 typmod;
	Oid	  collation;
	bool  is_key; /* part of the primary key */
} CsColumn;

/* One thing that is open, for readers. */
typedef struct CsOpenRow
{
	Datum	   *values; /* of the operator's columns: the row as it would be written now */
	bool	   *isnull;
	TimestampTz ends; /* a watermark this far ends it if nothing more comes; CS_WM_DONE: what ends it has been read */
	int64		waiting; /* events of its key that the watermark has not reached */
} CsOpenRow;

typedef void (*CsShowRow)(void *arg, const CsOpenRow *row);

typedef struct CsOperatorOps
{
	CsKind kind;

	/*
	 * Compile a definition; everything in cxt.  Raises for what cannot be
	 * computed (see cs_measures_compile); so it serves as validation too.
	 */
	CsOperator *(*create)(const CsStream *stream, const CsDefinition *def, MemoryContext cxt);

	/* Get ready for a chunk of n events. */
	void (*begin_chunk)(CsOperator *op, CsBatchContext *batch, int n);
	/* Evaluate event i of the chunk; its columns are in batch->slot.  May raise. */
	void (*evaluate)(CsOperator *op, CsBatchContext *batch, const CsEvent *event, int i);
	/* Event i raised: it does not count here. */
	void (*reject)(CsOperator *op, int i);
	/*
	 * After evaluate(): whose event i is, as the entries' keys have it; false:
	 * it takes no part.  For repairs by key.  NULL: entries are not by key
	 * (windows).
	 */
	bool (*key_of)(CsOperator *op, int i, CsHash128 *key);
	/*
	 * Asked of the events of a chunk in their order, before any of it is applied:
	 * would apply() have to close more for this one than is left of max
	 * entries in the batch?  Then it must wait until advance() has closed what
	 * its watermark passes.  before: so many events of the chunk come before it.
	 * NULL: apply() closes nothing.
	 */
	bool (*must_wait)(CsOperator *op, CsState *state, TimestampTz time, TimestampTz watermark, int before, int64 max);
	/* Apply the chunk in order; marks each event used or late. */
	void (*apply)(CsOperator *op, CsBatchContext *batch, CsEvent *events, int n);

	/*
	 * The watermark stands at wm: close what it has passed, emit rows that
	 * are to be shown.  At most max entries; false when more are due.
	 * closed_by_finish says that finish() moved it (closed_reason).
	 */
	bool (*advance)(CsOperator *op, CsBatchContext *batch, TimestampTz wm, int max, bool closed_by_finish);
	/*
	 * All operators have advanced; left: not all of them have finished, so that
	 * what is stored as closed lags behind.  Store what this one needs to know
	 * of that when it is recovered.  May be NULL.
	 */
	void (*note_closing)(CsOperator *op, CsBatchContext *batch, bool left);

	/*
	 * The topic is silent (every partition at its end, for idle_timeout):
	 * show rows as if the watermark stood at as_of, which lies behind it.
	 * Computed on copies of the entries, waiting events included; rows get
	 * closed_reason 'idle' where the watermark itself has not passed them,
	 * and is_final false.  Of the state only the memory of what is shown
	 * changes.  Everything up to `after` was shown since the last message.
	 * About max entries; returns the moment up to which all is shown now,
	 * as_of unless there is more.  NULL: rows are shown anyway.
	 */
	TimestampTz (*preview)(CsOperator *op, CsBatchContext *batch, TimestampTz after, TimestampTz as_of, int max);
	/* The next moment later than `after` as of which preview() has something to show; CS_WM_DONE none. */
	TimestampTz (*preview_due)(CsOperator *op, CsState *state, TimestampTz after);

	/* After COMMIT or ROLLBACK: make what this batch changed outside the state final, or forget it. */
	void (*end_batch)(CsOperator *op, bool committed);

	/* State entries of this operator. */
	CsSerialize serialize;
	CsDueOf		due_of;
	CsIsMarked	is_marked; /* may be NULL: cells whose rows lag behind, for cs_state_visit_marked() */
	/* After recovery: rebuild what is derived from entries.  May be NULL. */
	void (*recovered)(CsOperator *op, CsState *state);

	/*
	 * Readers: one row for each thing that is open, which is what op->closed
	 * has not closed.  Reads only.  Either what one entry holds (show), or,
	 * where rows are put together from several, all there is (show_all).
	 * Rows and what they point to live in the current context; show_all()
	 * resets the one it is given from time to time.
	 *
	 * The state may be a part of the keys, each with all of its entries.  Then
	 * survey() has seen the parts before the first show_all(), in their
	 * order: it takes note of what rows of all parts depend on.  False: the
	 * other parts have nothing of that.  NULL: nothing does.
	 */
	bool (*survey)(CsOperator *op, CsState *state);
	void (*show)(CsOperator *op, CsState *state, const CsEntry *entry, CsShowRow row, void *arg);
	void (*show_all)(CsOperator *op, CsState *state, MemoryContext scratch, CsShowRow row, void *arg);

	/* Read an entry to its end; raises ERRCODE_DATA_CORRUPTED, with the entry named, if it cannot be read. */
	void (*check)(CsOperator *op, CsState *state, const CsEntry *entry);
	/* The entry is lost: delete the row that would be in the way of a new one's.  NULL: there is none. */
	void (*lost)(CsOperator *op, CsBatchContext *batch, const CsKey *key);
	/* What is lost with an entry, in words. */
	const char *loss;
	/* Nothing else knows what the entry says, and without it rows would be wrong; NULL: there is none such. */
	bool (*is_vital)(const CsKey *key);

	/*
	 * Does anything open start in [start, end)?  Asked by rollups over this
	 * operator, this batch's changes included.  NULL where never asked.
	 * Not asked unless feeds_rollup.
	 */
	bool (*open_starts_in)(CsOperator *op, TimestampTz start, TimestampTz end);
	/* Nothing open starts before that; CS_WM_DONE: nothing is open.  Asked alike. */
	TimestampTz (*open_starts_first)(CsOperator *op);
} CsOperatorOps;

struct CsOperator
{
	const CsOperatorOps *ops;
	const CsStream		*stream;
	const CsDefinition	*def;
	int					 ncolumns;
	CsColumn			*columns;
	bool				*needed;		 /* attributes of the event relation it reads, natts of it */
	int64				 null_visitors;	 /* events without visitor or key; what else apply() marks, the engine counts */
	int64				*measure_errors; /* combine and final functions that failed, or NULL */
	CsOperator			*source;		 /* rollup: the operator it reads rows of */
	bool				 feeds_rollup;	 /* rollups read its rows; set by the engine before recovered() */
	TimestampTz			 closed;		 /* everything up to here is closed; set by the engine from what is stored */
	TimestampTz			 shown;			 /* rows as of up to here may have been shown by preview(); set by the engine */
	bool		midway; /* rows of some windows are written in part: it must get no events until advance() is through */
	bool		is_behind; /* the last commit left closings to later ones; set by the engine before recovered() */
	bool		stale;	   /* some row lags behind its state */
	TimestampTz emit_at;   /* clock time at which rows are to be rewritten, CS_WM_DONE none */
};

extern const CsOperatorOps cs_session_ops;
extern const CsOperatorOps cs_window_ops;
extern const CsOperatorOps cs_funnel_ops;
extern const CsOperatorOps cs_rollup_ops;

extern const CsOperatorOps *cs_operator_ops(CsKind kind);

/* ---- rollups: rollup.c ---- */

/*
 * Rows are those of the source table, as it has them.  A row counts while its
 * closed_reason is not NULL.
 */

/*
 * What the source table's rows look like, in whatever follows in this
 * transaction, which has it locked; to be told before any row is given.  What it
 * makes lies in the current context.
 */
extern void cs_rollup_layout(CsOperator *op, TupleDesc desc);
/* Start and end of the row's bucket; false if the row does not count. */
extern bool cs_rollup_bucket(CsOperator *op, HeapTuple row, TimestampTz *start, TimestampTz *end);
/* Do two versions of a row give the rollup the same? */
extern bool cs_rollup_same(CsOperator *op, HeapTuple a, HeapTuple b);
/* Add a row to its bucket's cell; may raise, and then nothing has changed. */
extern void cs_rollup_take(CsOperator *op, CsBatchContext *batch, HeapTuple row);
/* Raises if the row could not be taken; changes nothing. */
extern void cs_rollup_check(CsOperator *op, CsBatchContext *batch, HeapTuple row);
/* Is the bucket one that the watermark (wm) of the last commit has passed and that has no state?  Then its rows may be final. */
extern bool cs_rollup_is_past(CsOperator *op, CsBatchContext *batch, TimestampTz start, TimestampTz end,
							  TimestampTz wm);
/* Start of the first bucket that is open since advance(), be it one without rows that may get some; CS_WM_NONE: none is. */
extern TimestampTz cs_rollup_open_from(const CsOperator *op);
/*
 * A bucket made anew: begin, then cs_rollup_take() with each row that counts,
 * then, if it was past, cs_rollup_was_shown() with each row of the rollup's
 * table (whose revision goes up), then end, which deletes the rows of groups
 * that nothing is left of.
 */
extern void cs_rollup_remake_begin(CsOperator *op, CsBatchContext *batch, TimestampTz start);
extern void cs_rollup_was_shown(CsOperator *op, CsBatchContext *batch, TimestampTz start, Datum group_key,
								int32 revision);
extern void cs_rollup_remake_end(CsOperator *op, CsBatchContext *batch, TimestampTz start);

/* ---- what operators share: operator.c ---- */

/*
 * How much too late an event is, µs: so far the line that it met (the watermark less allowed_lateness) was behind the last one at
 * which it would have been taken.  0 where all is closed for good.
 */
static inline int64
cs_lateness(TimestampTz line, TimestampTz last)
{
	int64 by;

	if (line == CS_WM_DONE)
		return 0;
	if (pg_sub_s64_overflow(line, last, &by))
		return line > last ? PG_INT64_MAX : 0;
	return Max(by, 0);
}

/* The parts of a definition's view: filter (or NULL), grouping targets, targets with aggregates. */
typedef struct CsQueryParts
{
	Query *query;
	Expr  *filter;
	List  *groups;	 /* TargetEntry; without the first target (window_start or key) and window_end */
	List  *measures; /* TargetEntry */
} CsQueryParts;

extern void cs_query_parts(const CsDefinition *def, CsQueryParts *parts);
/* Mark in op->needed what the parts (and other nodes) read of the event relation. */
extern void cs_operator_needs(CsOperator *op, Node *node);
/* Append a result column. */
extern void cs_operator_column(CsOperator *op, const char *name, Oid type, int32 typmod, Oid collation, bool is_key);
/* Which of the result columns has that name. */
extern int cs_operator_column_number(const CsOperator *op, const char *name);
/* Column number of an event relation's system column. */
extern AttrNumber cs_system_attno(const CsStream *stream, CsSystemColumn column);

#endif
