/*
 * operator/window.h
 *	  What the files of windows share.
 *
 *	window.c		the operator: events, the order of closing and showing
 *	window_rows.c	rows put together from cells; revisions of rows
 *	window_show.c	rows of open windows, for readers
 *	hopping.c		closing and showing windows that share cells
 *	cumulative.c	windows that grow from step to step
 *	running.c		hopping windows carried from slide to slide
 *	closing.c		closings that take more than one batch
 *
 * A window closes when the watermark passes its last millisecond: its row is
 * written.  allowed_lateness after that it is retired: nothing changes the row
 * any more.  Without allowed_lateness both are one moment.
 *
 * Buckets of the state: cells by their pane; of cumulative windows what has
 * been added up, by where the windows start; notes of rows that were
 * changed after they had closed; and how far a closing has come.  Starts are whole milliseconds, so that the
 * kinds are told apart by the microseconds.
 */
#ifndef CS_OPERATOR_WINDOW_H
#define CS_OPERATOR_WINDOW_H

#include "core/mutant.h"
#include "operator/cell.h"
#include "operator/running.h"

typedef enum CsBucketKind
{
	CS_BUCKET_PANE = 1, /* CS_BUCKET(start of the pane) */
	CS_BUCKET_SUM,		/* cumulative: of the panes that are retired; start of the windows */
	CS_BUCKET_NOTE,		/* start of a hopping, end of a cumulative window */
	CS_BUCKET_CLOSING	/* how far a closing has come; of time 0 */
} CsBucketKind;

#define CS_BUCKET_OF(time, kind) ((time) + (kind))

static inline CsBucketKind
cs_bucket_kind(int64 bucket)
{
	return (CsBucketKind) (bucket - cs_floor_div(bucket, CS_USECS_PER_MSEC) * CS_USECS_PER_MSEC);
}

static inline TimestampTz
cs_bucket_time(int64 bucket)
{
	return bucket - cs_bucket_kind(bucket);
}

/* Has the bucket cells? */
static inline bool
cs_bucket_has_cells(int64 bucket)
{
	CsBucketKind kind = cs_bucket_kind(bucket);

	return kind == CS_BUCKET_PANE || kind == CS_BUCKET_SUM;
}

/* A closing that is not finished. */
typedef struct CsClosing
{
	TimestampTz wm;		  /* the watermark that is being passed; CS_WM_NONE: there is none */
	CsSpan		span;	  /* the window whose rows are being written: those before it are */
	bool		is_added; /* cumulative: its step has been added to the sum */
	uint64		from;	  /* the part of its groups that is not written begins there */
} CsClosing;

/* How far the rows are shown of a topic that is silent. */
typedef struct CsPreviewed
{
	CsSpan span; /* windows before this one */
	uint64 from; /* and of it the groups before this part */
} CsPreviewed;

#define CS_PREVIEWED_NONE ((CsPreviewed){{DT_NOBEGIN, DT_NOBEGIN}, 0})

/* What a reader knows of all groups, also while it has the state of some. */
typedef struct CsSurvey
{
	CsClosing closing;
	int64	 *buckets; /* cumulative: all there are, in order */
	int		  n;
} CsSurvey;

typedef struct CsWindow
{
	CsOperator	  op;
	CsGrouping	  grouping;
	CsAssigner	  assign;
	bool		  has_distinct;
	CsGroupInput *inputs;	/* of the chunk */
	CsRunning  *running[2]; /* hopping: carries a window on to the next, of those that close [0] and are retired [1] */
	TimestampTz retired;	/* everything up to here is retired; op.closed: closed */
	CsClosing	closing, closing_before;
	bool		is_marked, marked_before;	   /* the state has an entry that says how far it has come */
	bool		has_rest, had_rest_before;	   /* something that is over may be there yet */
	TimestampTz closed_before, retired_before; /* as of the last commit */
	bool		stale_before, midway_before;
	TimestampTz emit_before;
	CsStalePass pass, pass_before; /* rows that lag behind */
	int64		promised;		   /* entries that events have closed or will close in this batch, at most */
	TimestampTz promised_upto;	   /* in the chunk: the last such event's watermark */
	CsPreviewed previewed, previewed_before;
	CsSurvey   *survey; /* readers by parts */
} CsWindow;

/* Has a watermark passed the window's last millisecond? */
static inline bool
cs_is_passed(TimestampTz end, TimestampTz wm)
{
	return wm != CS_WM_NONE && end - (CS_MUTANT(END_NOT_LAST_MS) ? 0 : CS_USECS_PER_MSEC) <= wm;
}

/* What is retired when the watermark stands at wm. */
static inline TimestampTz
cs_retired_at(const CsDefinition *def, TimestampTz wm)
{
	if (wm == CS_WM_NONE || wm == CS_WM_DONE || def->lateness == 0)
		return wm;
	return wm < PG_INT64_MIN + 1 + def->lateness ? CS_WM_NONE : wm - def->lateness;
}

/* In the order in which windows close. */
static inline int
cs_span_cmp(const CsSpan *a, const CsSpan *b)
{
	if (a->end != b->end)
		return a->end < b->end ? -1 : 1;
	return a->start < b->start ? -1 : a->start > b->start;
}

/* ---- window_rows.c ---- */

/* Write a window's row of one group, with its revision; after it closed, for rows that may be there already. */
extern void cs_window_row(CsWindow *w, CsBatchContext *batch, CsSpan span, CsHash128 who, CsCell *cell, bool is_final);
/* A row that has closed changes. */
extern void	 cs_window_revise(CsWindow *w, CsState *state, CsSpan span, CsHash128 who);
extern int32 cs_note_read(const CsDefinition *def, const CsEntry *entry);
extern void	 cs_note_put(const CsWork *work, StringInfo buf);

/* Cells put together by group. */
typedef struct CsAssembly CsAssembly;
extern CsAssembly		 *cs_assembly_begin(CsWindow *w, CsState *state, int64 ngroups);
extern void				  cs_assembly_add(CsAssembly *a, int64 bucket, CsPart part);
extern void				  cs_assembly_add_one(CsAssembly *a, int64 bucket, CsHash128 who);
/* Write the rows in the order of their key; then it is gone.  Returns how many. */
extern int64 cs_assembly_emit(CsAssembly *a, CsBatchContext *batch, CsSpan span, bool is_final);

/* Rows to be written again: windows and groups. */
typedef struct CsRowList CsRowList;
extern CsRowList		*cs_rows_begin(void);
extern void				 cs_rows_add(CsRowList *rows, CsSpan span, CsHash128 who);
/* Write each once. */
extern void cs_rows_emit(CsRowList *rows, CsWindow *w, CsBatchContext *batch);

/* ---- hopping.c: hopping and cumulative windows ---- */

/* Close and retire, up to w->closing.wm; see window.c.  So many entries as are left; false: that was not all. */
extern bool cs_hopping_pass(CsWindow *w, CsBatchContext *batch, TimestampTz retired, int64 *left);
/*
 * So many rows at most are written when the watermark moves from one place to
 * another, after so many more events.
 */
extern int64 cs_windows_weight(CsWindow *w, CsState *state, TimestampTz from, TimestampTz upto, int events);
/* Delete what is over; the same. */
extern bool cs_windows_tidy(CsWindow *w, CsBatchContext *batch, int64 *left);
/* Late events of this batch: write the rows that had closed before once more. */
extern void cs_windows_revise(CsWindow *w, CsBatchContext *batch, TimestampTz retired);
/* emit 'changes': about so many rows of open windows that lag behind. */
extern void cs_windows_show_stale(CsWindow *w, CsBatchContext *batch, int64 max);
/* Windows that have cells and whose last millisecond lies in (after, upto]; in the order of their ends, palloc'd. */
extern CsSpan *cs_windows_between(CsWindow *w, CsState *state, TimestampTz after, TimestampTz upto, int *n);
/* The last millisecond of the window that ends first behind a moment; CS_WM_DONE none. */
extern TimestampTz cs_windows_next_end(CsWindow *w, CsState *state, TimestampTz after);
/* Where a window's cells begin: those of retired panes of a cumulative one are in its sum. */
extern TimestampTz cs_window_first_pane(CsWindow *w, CsSpan span);
/* Rows of a window that is not retired, from all its cells of a part of the groups.  Returns how many. */
extern int64 cs_window_emit_part(CsWindow *w, CsBatchContext *batch, CsSpan span, CsPart part);
/* The same of the groups from there on, which moves; false: more than are left. */
extern bool cs_window_emit_rest(CsWindow *w, CsBatchContext *batch, CsSpan span, uint64 *from, int64 *left);

/*
 * Of cumulative windows only those that have begun to differ are shown: up to
 * the end of the newest pane that has a cell.  buckets: all there are; bucket:
 * one of those whose windows are asked about.
 */
extern TimestampTz cs_windows_differ_until(CsWindow *w, const int64 *buckets, int n, int64 bucket);

/* ---- window_show.c ---- */

extern bool cs_window_survey(CsOperator *op, CsState *state);
extern void cs_window_show_all(CsOperator *op, CsState *state, MemoryContext scratch, CsShowRow row, void *arg);

/* ---- cumulative.c ---- */

extern bool cs_cumulative_pass(CsWindow *w, CsBatchContext *batch, TimestampTz retired, int64 *left);

/* ---- closing.c ---- */

/* From now on the watermark is being passed, if none is. */
extern void cs_closing_begin(CsWindow *w, TimestampTz wm);
extern void cs_closing_end(CsWindow *w);
/* The batch ends, and the stream's closing with it or not: the state says how far this operator's has come. */
extern void cs_closing_store(CsOperator *op, CsBatchContext *batch, bool left);
/* The live works of a part of a bucket, those that are wanted or (NULL) all, in the order of their groups; palloc'd. */
extern CsWork **cs_works_of_part(CsState *state, int32 definition_id, int64 bucket, CsPart part,
								 bool (*wanted)(const CsWork *work), int64 *n);
/* As the state says, w->op.closed too. */
extern void cs_closing_recover(CsWindow *w, CsState *state);
extern void cs_closing_put(const CsWork *work, StringInfo buf);
extern void cs_closing_check(const CsDefinition *def, const CsEntry *entry);

#endif
