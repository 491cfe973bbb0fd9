/*
 * state/budget.h
 *	  How much memory a state may hold, and how much it holds.
 *
 * clickstream.state_memory is one number for the server.  Whoever makes room
 * (eviction) compares the two after each commit, and before it takes more.
 * Both cost a few instructions.
 */
#ifndef CS_STATE_BUDGET_H
#define CS_STATE_BUDGET_H

#include "state/state.h"

/* Bytes that this state may hold now; may change with each call, as other streams come and go. */
extern int64 cs_state_budget(const CsState *state);
/*
 * Bytes that it holds: entries, their bytes, distinct sets, and what finds
 * them (hash index, timers).  The overlay of a batch is not in it, nor what
 * is kept for readers only.
 */
extern int64 cs_state_used(const CsState *state);

/* Does it hold more than it may, and can that be helped?  A commit then evicts, even if nothing else is to be written. */
extern bool cs_state_is_over_budget(const CsState *state);
/* Give up what is kept for readers if it is too much. */
extern void cs_state_bound_kept(CsState *state);
/* Give up all of it: readers of older commits read the log. */
extern void cs_state_forget_kept(CsState *state);
/*
 * After publication, or when there was nothing to commit: if another stream
 * lacks blocks that this one has too much, free some, as far as it is worth it
 * now; compact.c.  True: it holds less, or more of it is shared.
 */
extern bool cs_state_give_back(CsState *state);
/* Something is left to be evicted or given back: commit or call that again soon, even if there is nothing else to do. */
extern bool cs_state_wants_round(const CsState *state);
/* For stat_memory. */
extern void cs_state_report_memory(CsState *state, int64 entries, int64 batch_bytes);

#endif
