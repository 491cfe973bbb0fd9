/*
 * engine/replay.h
 *	  One definition over events of the event log, beside the stream.
 *
 * A replay has an operator of its own, compiled from the same definition, and
 * a state that is thrown away: the same code that made the results makes them
 * again.  Rounds follow each other: begin, add events, close, look at the rows.
 *
 * A round of which all is kept (apply_late.c) is small, and nothing is late in
 * it.  A round as the events came (recompute.c) goes through any number of
 * them: each is judged by the watermark that there was, what is late is left
 * out, and what is over is forgotten by cs_replay_settle().
 *
 * Uses the engine's slot, expression context and chunk memory, so no chunk of
 * the stream can run in between.
 */
#ifndef CS_ENGINE_REPLAY_H
#define CS_ENGINE_REPLAY_H

#include "engine/internal.h"

typedef struct CsReplay CsReplay;

/* An event as the log has it; what an operator does not read is left out. */
typedef struct CsReplayEvent
{
	CsPlace		place;
	TimestampTz timestamp; /* the message's, or CS_WM_NONE */
	TimestampTz watermark; /* of the stream when it came; CS_WM_NONE: it is not late */
	bool		unsure;	   /* of a repair: it may have been late for the definition */
	bool		has_visitor;
	CsHash128	visitor_hash;
	Datum	   *values; /* by attribute */
	bool	   *isnull;
} CsReplayEvent;

/* A row that the operator has handed out. */
typedef struct CsReplayRow
{
	Datum			   *values;
	bool			   *isnull;
	struct CsReplayRow *next;
} CsReplayRow;

/* Is this row wanted?  Others are not kept. */
typedef bool (*CsReplayWants)(CsReplay *replay, Datum *values, bool *isnull, void *arg);

/* The definition of a result table; raises if the stream has none. */
extern CsStage *cs_replay_stage(CsEngine *e, Oid table);
/* The event log, for which detail says why it is needed; raises if there is none, or a large closing goes on. */
extern Oid cs_replay_log(const CsEngine *e, const char *detail);

/* Lives in the current context. */
extern CsReplay *cs_replay_create(CsEngine *e, CsStage *stage);

/* From when on the log is sure to hold what the definition counted; CS_WM_NONE: all of it, CS_WM_DONE: nothing. */
extern TimestampTz cs_replay_horizon(const CsReplay *replay);
/* Has the definition, being there by then, seen this offset? */
extern bool cs_replay_counts(const CsReplay *replay, const CsPlace *place);

/* Of a row of the log. */
extern CsPlace cs_logged_place(const CsStream *stream, const Datum *values);
/* An event out of a row of the log, with the needed columns, in the current context. */
extern void cs_logged_event(const CsStream *stream, const bool *needed, CsReplayEvent *event, const Datum *values,
							const bool *isnull);

/* The same for a replay's stream and columns. */
extern CsPlace cs_replay_place(const CsReplay *replay, const Datum *values);

extern void cs_replay_event(CsReplay *replay, CsReplayEvent *event, const Datum *values, const bool *isnull);

/* Copies in the current context. */
extern CsReplayEvent cs_replay_copy_event(CsReplay *replay, const CsReplayEvent *event);
extern CsReplayRow	*cs_replay_copy(CsReplay *replay, const CsReplayRow *row);

/* Evaluate n events only: takes[i] says whether keys[i] takes part; errors[i] (or NULL) is set to what it
 * raised. */
extern void cs_replay_keys(CsReplay *replay, const CsReplayEvent *events, int n, bool *takes, CsHash128 *keys,
						   char **errors);

extern void cs_replay_begin(CsReplay *replay, CsReplayWants wants, void *arg);
/* The same for a round as events came: wants is asked about rows that are written, not those that are deleted. */
extern void cs_replay_begin_as_it_was(CsReplay *replay, CsReplayWants wants, void *arg);
/* True: with this one a chunk was full, and has been applied. */
extern bool cs_replay_add(CsReplay *replay, const CsReplayEvent *event);
/* Apply what was added, close what a watermark at wm closes, and forget it. */
extern void cs_replay_settle(CsReplay *replay, TimestampTz wm);
/*
 * Close what a watermark at wm closes, and then, if finish, what is open yet.
 * False if something is left that is open or can still change.
 */
extern bool cs_replay_close(CsReplay *replay, TimestampTz wm, bool finish);
/* The rows of this round, until the next begin. */
extern CsReplayRow *cs_replay_rows(CsReplay *replay);

#endif
