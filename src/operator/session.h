/*
 * operator/session.h
 *	  What the files of the session operator share: a key's entry as a batch
 *	  works on it.
 *
 * session.c compiles, evaluates and drives; session_cut.c decides which event
 * belongs to which session, and session_patch.c does the simplest case of it in
 * the entry's bytes; session_show.c says which rows there are and
 * writes them, session_emit.c when; session_codec.c turns entries into bytes
 * and back.
 *
 * No locking: private to the process that runs the stream.
 */
#ifndef CS_OPERATOR_SESSION_H
#define CS_OPERATOR_SESSION_H

#include "core/mutant.h"
#include "operator/measure.h"
#include "operator/open_starts.h"
#include "operator/operator.h"
#include "pgtime.h"

/* Columns of a definition's view beside the key and the measures. */
#define CS_SESSION_SPLIT_COLUMN "split_on"
#define CS_SESSION_END_COLUMN "end_when"

/* Why a session has ended; stored in entries. */
typedef enum CsSessionReason
{
	CS_SESSION_OPEN,
	CS_SESSION_GAP,
	CS_SESSION_MAX_LENGTH,
	CS_SESSION_SPLIT,	 /* split_on changed, or local midnight came */
	CS_SESSION_END_WHEN, /* its last event met end_when */
	CS_SESSION_IDLE,	 /* only shown so: the watermark has not passed it */
	CS_SESSION_FINISH
} CsSessionReason;

/* A session, or an event that waits: a session of its own. */
typedef struct CsSession
{
	CsPlace			first;
	CsPlace			last;
	bool			fixed_start; /* it begins at a cut: nothing earlier joins it */
	bool			ends;		 /* waiting event: it meets end_when */
	bool			midnight;	 /* a session of the next day, gone by now, began within the gap of its end */
	CsHash128		split;		 /* of the last event: hash of split_on's value */
	CsMeasureState *states;
	CsSessionReason cut;	/* in a copy: why it was cut, else CS_SESSION_OPEN */
	TimestampTz		cut_at; /* and by the event of which time */
} CsSession;

/* A row that is in the table and may still change. */
typedef struct CsShownRow
{
	CsPlace			first;		/* its session_id */
	CsSessionReason reason;		/* its closed_reason; CS_SESSION_OPEN: NULL */
	bool			was_closed; /* it has said closed_reason before: rewrites are revisions */
	int32			revision;
	uint64			print; /* of its values */
	bool			found; /* while rows are compared */
} CsShownRow;

/* A key's entry as a batch works on it. */
typedef struct CsVisitor
{
	Datum		name;
	int			n, capacity;
	CsSession  *sessions; /* by start */
	int			nwaiting, waiting_capacity;
	CsSession  *waiting;	 /* single events, in no order */
	TimestampTz waiting_min; /* earliest of them, CS_WM_DONE none */
	int			nshown, shown_capacity;
	CsShownRow *shown;	  /* by place */
	bool		compare;  /* rows may differ from what is shown: to be compared before the batch ends */
	TimestampTz show_due; /* next moment at which a row closes that stays revisable, CS_WM_DONE none */
	bool		is_copy;  /* nothing is written or counted for it */
	bool		keeps;	  /* a row that is not of an open session has changed: see cs_work_keep() */
} CsVisitor;

typedef struct CsSessionInput
{
	bool	  take;
	bool	  ends;
	CsHash128 key;
	CsHash128 split;
	Datum	  name;
	CsInput	 *inputs;
} CsSessionInput;

typedef struct CsSessions
{
	CsOperator		op;
	bool			has_filter;
	CsExpr			filter;
	CsExpr			key;
	bool			key_is_visitor; /* hashed once for all definitions */
	CsHasher		key_hasher;
	bool			has_split, has_end;
	bool			in_order; /* split_on or end_when: every event waits for the watermark */
	CsExpr			split, end;
	CsHasher		split_hasher;
	pg_tz		   *zone;				/* of the midnights that split, or NULL */
	TimestampTz		day_start, day_end; /* the local day asked for last */
	CsMeasures	   *ms;
	bool			patches; /* an event may be put into an entry's bytes as they are: session_patch.c */
	StringInfoData	patch;
	CsSessionInput *inputs;
	CsOpenStarts   *starts;
	int16		   *typlen; /* of the result's columns */
	bool		   *typbyval;
	struct HTAB	   *stale;	   /* emit changes: keys with rows to be rewritten; NULL if none can be */
	CsKey		   *rewritten; /* of those, the ones that this batch has rewritten; batch memory */
	int				nrewritten;
	bool			may_rewrite;				  /* this batch may rewrite open rows: */
	bool			rewrites;					  /* now, and not in the pass over those that have waited */
	bool			has_written;				  /* and has */
	bool			passing;					  /* the pass goes on */
	bool			passing_before, stale_before; /* this, op.stale, and op.emit_at as of the last commit */
	TimestampTz		emit_before;
	struct HTAB	   *ahead;		  /* entries with rows that close later than what was previewed */
	TimestampTz		ahead_of;	  /* moment as of which `ahead` was filled */
	bool			ahead_lost;	  /* a batch that looked failed: look at all entries again */
	bool			looked_ahead; /* this batch has */
} CsSessions;

/* wm shifted by a span; -infinity and +infinity stay what they are. */
static inline TimestampTz
cs_session_shift(TimestampTz wm, int64 span)
{
	return wm == CS_WM_NONE || wm == CS_WM_DONE ? wm : wm + span;
}

/* The line behind which nothing changes any more: the watermark less allowed_lateness. */
static inline TimestampTz
cs_session_line(const CsSessions *s, TimestampTz wm)
{
	return cs_session_shift(wm, -s->op.def->lateness);
}

/* The watermark at which a session that gets no further event is closed. */
static inline TimestampTz
cs_session_last_moment(const CsSessions *s, const CsSession *session)
{
	return session->last.time + s->op.def->gap - (CS_MUTANT(END_NOT_LAST_MS) ? 0 : CS_USECS_PER_MSEC);
}

static inline bool
cs_session_is_final(const CsSessions *s, const CsSession *session, TimestampTz line)
{
	return line != CS_WM_NONE && cs_session_last_moment(s, session) <= line;
}

/*
 * Does an event wait that may belong to a session that the line has passed?
 * One at exactly the gap's end, while the line is in the last millisecond before.
 */
static inline bool
cs_session_is_awaited(const CsSessions *s, const CsVisitor *v, const CsSession *session)
{
	return v->nwaiting > 0 && v->waiting_min <= session->last.time + s->op.def->gap;
}

/* Does t lie within the gap of the session? */
static inline bool
cs_session_touches(const CsSessions *s, const CsSession *session, TimestampTz t)
{
	int64 gap = s->op.def->gap - (CS_MUTANT(GAP_EXCLUSIVE) ? 1 : 0);

	if (t < session->first.time)
		return !session->fixed_start && session->first.time - t <= gap;
	return t - session->last.time <= gap;
}

/*
 * The latest time at which no cut can fall any more, the earliest open session
 * having that start: min(start, line) + max_length.  Not with split_on or end_when.
 */
static inline TimestampTz
cs_session_undisputed(const CsSessions *s, TimestampTz start, TimestampTz line)
{
	TimestampTz from = Min(start, line);

	if (s->op.def->max_length < 0 || from == CS_WM_DONE)
		return CS_WM_DONE;
	return from == CS_WM_NONE ? CS_WM_NONE : from + s->op.def->max_length;
}

/* ---- session_cut.c: which event belongs to which session ---- */

extern CsSession	  *cs_session_slot(CsSession **array, int *n, int *capacity);
extern CsMeasureState *cs_session_states(CsSessions *s);
/* An event goes into a session, or waits; false: it is late. */
extern bool cs_session_add(CsSessions *s, CsBatchContext *batch, CsVisitor *v, const CsEvent *event,
						   const CsSessionInput *in);
/* Decide waiting events that the line has passed, and retire what ends before it. */
extern void cs_session_settle(CsSessions *s, CsBatchContext *batch, CsVisitor *v, TimestampTz line);
/* A copy in which no event waits: each is decided as if nothing more came. */
extern CsVisitor *cs_session_decided_copy(CsSessions *s, CsState *state, const CsVisitor *v);
/* Why and when session i closes if nothing more comes. */
extern CsSessionReason cs_session_ending(CsSessions *s, const CsVisitor *v, int i, TimestampTz *at);

/* ---- session_patch.c: events that only prolong the one open session ---- */

/* Can the definition's entries be changed that way?  Once it is compiled. */
extern void cs_session_patch_init(CsSessions *s);
/* Put the event into the work's bytes, the work being set to be due; false if it is for cs_session_add(). */
extern bool cs_session_patch(CsSessions *s, CsBatchContext *batch, CsWork *work, const CsEvent *event,
							 const CsSessionInput *in);

/* ---- session_show.c: rows ---- */

/* A session's values; isnull is all false before.  reason CS_SESSION_OPEN: NULL. */
extern void cs_session_values(CsSessions *s, const CsVisitor *v, CsSession *session, CsSessionReason reason,
							  Datum *values, bool *isnull);
/* Write the last version of a session's row. */
extern CsShownRow *cs_session_shown_slot(CsVisitor *v, const CsPlace *first);
extern void		   cs_session_retire_row(CsSessions *s, CsBatchContext *batch, CsVisitor *v, CsSession *session,
										 CsSessionReason reason);
/*
 * Compare what is shown with what is to be shown as of that moment, and write
 * what differs.  True if the entry has changed; *next: when the next row closes.
 */
extern bool cs_session_compare(CsSessions *s, CsBatchContext *batch, CsWork *work, TimestampTz wm, TimestampTz as_of,
							   TimestampTz *next);

/* For readers: the sessions of an entry that are open. */
extern void cs_session_show(CsOperator *op, CsState *state, const CsEntry *entry, CsShowRow row, void *arg);

/* ---- session_emit.c: when open rows are rewritten, and what a silent topic shows ---- */

extern void		   cs_session_begin_rewrite(CsSessions *s, CsBatchContext *batch);
extern void		   cs_session_rewrite(CsSessions *s, CsBatchContext *batch, TimestampTz wm, int max);
extern void		   cs_session_end_rewrite(CsSessions *s, bool committed);
extern void		   cs_session_note_stale(CsSessions *s, const CsKey *key);
extern TimestampTz cs_session_preview(CsOperator *op, CsBatchContext *batch, TimestampTz after, TimestampTz as_of,
									  int max);
extern TimestampTz cs_session_preview_due(CsOperator *op, CsState *state, TimestampTz after);

/* Does every change of the entry have to be compared with what is shown? */
static inline bool
cs_session_must_compare(const CsSessions *s, const CsVisitor *v)
{
	return v->nshown > 0 || s->op.def->emit == CS_EMIT_CHANGES || (s->op.def->lateness > 0 && v->nwaiting > 0);
}

/* ---- session_codec.c: bytes ---- */

extern CsVisitor  *cs_session_visitor(CsSessions *s, CsState *state, CsWork *work);
extern CsVisitor  *cs_session_decode(CsSessions *s, CsState *state, const CsKey *key, const char *data, uint32 len);
extern CsVisitor  *cs_session_read(CsSessions *s, CsState *state, const CsEntry *entry);
extern void		   cs_session_check(CsOperator *op, CsState *state, const CsEntry *entry);
extern void		   cs_session_recovered(CsOperator *op, CsState *state);
extern void		   cs_session_serialize(void *op, CsState *state, CsWork *work, StringInfo buf);
extern TimestampTz cs_session_due_of(void *op, const CsEntry *entry);
/* Heads without flags, that is without shown rows: go past it; write one. */
extern bool cs_session_head_is_plain(CsReader *r);
extern void cs_session_put_plain_head(StringInfo buf, TimestampTz due);
/* Go past a session's flags: 0, not 0 if it has one event, -1 if there are others. */
extern int cs_session_plain_flags(CsReader *r);
/* After its sessions changed: the entry is kept, with its due time, or goes. */
extern void cs_session_update(CsSessions *s, CsState *state, CsWork *work);

#endif
