/*
 * operator/cell.h
 *	  Cells: groups by time bucket with their measures; what windows and
 *	  rollups are made of.
 */
#ifndef CS_OPERATOR_CELL_H
#define CS_OPERATOR_CELL_H

#include "operator/assign.h"
#include "operator/expression.h"
#include "operator/measure.h"
#include "operator/operator.h"

/* Group columns and measures, compiled. */
typedef struct CsGrouping
{
	const CsDefinition *def;
	bool				has_filter;
	CsExpr				filter;
	int					ngroups;
	CsExpr			   *groups;
	CsHasher		   *hashers;
	CsMeasures		   *ms;
	CsAssigner		   *assign;	  /* of windows; NULL: a bucket is as long as the definition's size */
	struct CsCell	   *scratch;  /* for cells that are read and then not needed any more */
	bool				is_plain; /* no measure is a generic aggregate, whose failure would have to be kept */
	bool				patches;  /* and nothing depends on an event's place or is late: see cell_patch.c */
	StringInfoData		patch;	  /* bytes being made */
} CsGrouping;

typedef struct CsCell CsCell;

/* One event (or source row) as evaluated for a grouping; in chunk memory. */
typedef struct CsGroupInput
{
	bool		  take;
	CsHash128	  key;
	Datum		 *values; /* of the group columns */
	bool		 *isnull;
	CsInput		 *inputs;
	const CsCell *announced; /* its cell, as far as the batch had it when it was announced; only a hint */
} CsGroupInput;

/* A cell as a batch works on it. */
struct CsCell
{
	bool			shown;	 /* it has a row */
	bool			stale;	 /* its row lags behind */
	bool			touched; /* by an event of this batch; not stored */
	int32			revision;
	int64			rows; /* events in it */
	Datum		   *values;
	bool		   *isnull;
	CsMeasureState *states;
};

/* Its bytes: version, flags, revision, events, group columns, measures. */
#define CS_CELL_VERSION 2

enum
{
	CS_CELL_SHOWN = 1,
	CS_CELL_STALE = 2,
	CS_CELL_BIG_SETS = 4 /* something lies outside of the entry */
};

/*
 * Buckets are numbered by their start's microseconds plus one, because
 * bucket 0 means "no bucket" to the state, and starts are whole milliseconds.
 */
#define CS_BUCKET(start) ((start) + 1)
#define CS_BUCKET_START(bucket) ((bucket) -1)

/* Compile the parts; in the current context. */
extern void cs_grouping_compile(CsGrouping *g, const CsDefinition *def, const CsQueryParts *parts,
								AttrNumber place_attno);
/* Arrays for n inputs, in the current context. */
extern CsGroupInput *cs_grouping_inputs(CsGrouping *g, int n);
/* Evaluate the slot in batch->econtext; may raise. */
extern void cs_grouping_evaluate(CsGrouping *g, CsBatchContext *batch, CsGroupInput *input);

/* The work of a group's cell in a bucket.  Beyond limit groups: that of the rest, and *input becomes NULL. */
extern CsWork *cs_cell_find(CsState *state, int32 definition_id, int64 bucket, const CsGroupInput **input, int64 limit);
/* Its cell, made if missing; marked dirty. */
extern CsCell *cs_cell_open(CsGrouping *g, CsState *state, CsWork *work, const CsGroupInput *input);
/* Both. */
extern CsCell *cs_cell_get(CsGrouping *g, CsState *state, int32 definition_id, int64 bucket, const CsGroupInput *input,
						   int64 limit);
/* Decode a work's cell, if it is not yet. */
extern CsCell *cs_cell_of(CsGrouping *g, CsState *state, CsWork *work);
/* To look at it: as it is decoded already, or read into scratch; of the work or, without one, of the entry. */
extern CsCell *cs_cell_peek(CsGrouping *g, CsState *state, CsCell *scratch, const CsEntry *entry, CsWork *work);
/* An empty cell; and one filled from an entry's bytes, which it goes on pointing to. */
extern CsCell *cs_cell_make(CsGrouping *g);
extern void	   cs_cell_read(CsGrouping *g, CsState *state, CsCell *cell, const CsEntry *entry);
/* Raise if it cannot be read. */
extern void cs_cell_check(CsGrouping *g, CsState *state, const CsEntry *entry);
extern void cs_cell_put(CsGrouping *g, CsState *state, CsCell *cell, StringInfo buf);
extern void cs_cell_delete(CsGrouping *g, CsState *state, CsWork *work);

/* floor((t - origin) / slide) * slide + origin */
extern TimestampTz cs_slide_start(TimestampTz t, int64 slide, TimestampTz origin);

/*
 * Append the result columns: window_start, window_end, groups, measures,
 * is_final, revision, is_rest, group_key.  Of cumulative windows many have
 * one start: there window_end is part of the key.
 */
extern void cs_cell_columns(CsOperator *op, CsGrouping *g, const CsQueryParts *parts);
/* Emit a cell's row. */
extern void cs_cell_emit(CsOperator *op, CsGrouping *g, CsBatchContext *batch, CsRowAction action, TimestampTz start,
						 TimestampTz end, CsHash128 key, CsCell *cell, bool is_final);
/* Delete the row of a group. */
extern void cs_cell_gone(CsOperator *op, CsBatchContext *batch, TimestampTz start, CsHash128 key);
/* Write the row of a cell that is a window of its own, not yet final. */
extern void cs_cell_show(CsOperator *op, CsGrouping *g, CsBatchContext *batch, CsWork *work);
/* Emit the final rows of a bucket's cells (emit), and forget them: *left of them at most, which becomes less; false if there are more. */
extern bool cs_cells_close(CsOperator *op, CsGrouping *g, CsBatchContext *batch, int64 bucket, bool emit, int *left);
/* Insert rows of the batch's cells that have none yet and end after that; CS_WM_NONE: all. */
extern void cs_cells_show_new(CsOperator *op, CsGrouping *g, CsBatchContext *batch, TimestampTz after);
/* For readers (window_show.c): each cell that `closed` has not passed. */
extern void cs_cells_show_open(CsOperator *op, CsGrouping *g, CsState *state, MemoryContext scratch, TimestampTz closed,
							   CsShowRow row, void *arg);
/* Where a cell that is a window of its own ends. */
extern TimestampTz cs_cell_end(CsOperator *op, CsGrouping *g, TimestampTz start);
/* CS_WM_NONE: whatever it is. */
extern bool cs_cell_ends_after(CsOperator *op, CsGrouping *g, const CsKey *key, TimestampTz after);
/* Is the row of a work's cell behind, has it one at all?  Without decoding it. */
extern bool cs_cell_is_stale(const CsWork *work);
extern bool cs_cell_is_shown(const CsWork *work);
/* What the state is told to be marked: a committed cell's row lags behind. */
extern bool cs_cell_is_marked(const CsEntry *entry);
/* Works in the order of their rows' primary key. */
extern void cs_cell_sort(CsWork **works, int n);

/* ---- stale.c: rows that lag behind, some with each batch ---- */

/* How far the rewriting that an emit_interval has brought is. */
typedef struct CsStalePass
{
	uint64 from;  /* groups before are done, by their keys; 0: it has not begun */
	bool   again; /* some row has come to lag behind since it began */
} CsStalePass;

/*
 * Keys of cells that lag behind, in order: about `wanted` of those that the
 * pass comes to next, each group with all that it has in buckets that are taken
 * (NULL: all).  The pass moves behind them, to 0 at the end.  Palloc'd.
 */
extern CsKey *cs_stale_keys(CsState *state, int32 definition_id, bool (*takes)(int64 bucket), CsStalePass *pass,
							int64 wanted, int64 *n);
/* Write about `max` rows of cells that are windows of their own, if they end after that; false: the pass goes on. */
extern bool cs_cells_show_stale(CsOperator *op, CsGrouping *g, CsBatchContext *batch, CsStalePass *pass, int64 max,
								TimestampTz after);
/* The pass has written what this batch may: what the operator waits for now. */
extern void cs_stale_note(CsOperator *op, CsBatchContext *batch, const CsStalePass *pass);

/* ---- cell_patch.c: in a work's bytes; false, and nothing has changed: it must be decoded ---- */

extern void cs_cell_patch_init(CsGrouping *g);
/* An event more. */
extern bool cs_cell_patch(CsGrouping *g, CsState *state, CsWork *work, const CsGroupInput *input);
/* Its row is there, and does not lag behind. */
extern bool cs_cell_patch_shown(CsGrouping *g, CsState *state, CsWork *work);

#endif
