/*
 * operator/funnel_core.h
 *	  The funnel algorithm: which step did a key reach, and when.
 *
 * Knows nothing of streams, state or SQL: it is fed one key's events as step
 * masks (bit k-1 set: the event meets the condition of step k) in groups of
 * equal time, oldest first.  The stream's funnels and the aggregates over
 * stored rows share it.
 *
 * One attempt at a time.  An attempt opens at an event of step 1 when none is
 * open, and ends when it converts, when its latest chain can no longer be
 * extended, or at a greatest length.  The caller asks cs_funnel_last_moment()
 * before each group, ends the attempt if the group is later, then lets
 * cs_funnel_take() eat the group:
 *
 *	if (f->open && t > cs_funnel_last_moment(rule, f))
 *		show the attempt; cs_funnel_reset(f)
 *	for (i = 0; i < n; )
 *		i += cs_funnel_take(rule, f, t, masks + i, n - i, &opener)
 *		if (f->converted)
 *			show the attempt; cs_funnel_reset(f)
 *
 * Allocates nothing, raises nothing, locks nothing; needs postgres.h for
 * types only, so that test/unit can run it without a server.
 */
#ifndef CS_OPERATOR_FUNNEL_CORE_H
#define CS_OPERATOR_FUNNEL_CORE_H

#include "postgres.h"

#define CS_FUNNEL_MAX_STEPS 32 /* a mask is 32 bits */

/* What the funnel asks for; times in one unit, whatever it is. */
typedef struct CsFunnelRule
{
	int	  nsteps;		   /* 1 .. CS_FUNNEL_MAX_STEPS */
	int64 within;		   /* t_k - t_1 <= within: the bound is inclusive */
	int64 max_length;	   /* an attempt takes no event later than its first + this */
	bool  strict_increase; /* steps of a chain must have different times */
} CsFunnelRule;

/*
 * The attempt of one key.
 *
 * chain(k)[0 .. k-1] are the step times of the chain that reached level k and
 * started latest of all that did: chain(k)[0] is the exact algorithm's
 * start[k].  A later start can do whatever an earlier one can, so no other
 * chain needs to be kept.  Known for k = 1 .. level, as each chain of level k
 * was one of level k-1; hence start[1] >= start[2] >= ...
 *
 * best[0 .. level-1] are the step times as they were after the group in which
 * the highest level was first reached: what the row shows.
 */
typedef struct CsFunnel
{
	int	   level;	  /* most steps any chain of the attempt reached; 0: none open */
	bool   open;	  /* an attempt is open */
	bool   converted; /* it reached the last step: show it, then cs_funnel_reset() */
	int64  started;	  /* time of its first event */
	int64 *best;	  /* [nsteps] */
	int64 *chains;	  /* [nsteps][nsteps], see cs_funnel_chain() */
} CsFunnel;

/* Times of the chain of level k, 1-based. */
static inline int64 *
cs_funnel_chain(const CsFunnelRule *rule, const CsFunnel *f, int k)
{
	return f->chains + (size_t) (k - 1) * rule->nsteps;
}

/* Bytes of a CsFunnel with its arrays; cs_funnel_init() makes one of MAXALIGNed memory of that size. */
extern size_t	 cs_funnel_size(int nsteps);
extern CsFunnel *cs_funnel_init(void *memory, int nsteps);

/* No attempt is open. */
extern void cs_funnel_reset(CsFunnel *f);

/* Latest time an event may have and still belong to the open attempt. */
extern int64 cs_funnel_last_moment(const CsFunnelRule *rule, const CsFunnel *f);

/* Would the open attempt end because nothing can extend it (else: because of its length)? */
extern bool cs_funnel_expires(const CsFunnelRule *rule, const CsFunnel *f);

/*
 * Apply n events (at least one) of one time t, in place order; together with
 * earlier calls of the same t they are the whole group.  The open attempt, if
 * any, must reach t.  Returns how many of them were taken: all, unless the
 * attempt converted, which takes the shortest prefix that suffices; the rest
 * belongs to the next attempt.  *opener is the index of the event that opened
 * an attempt, or -1.
 */
extern int cs_funnel_take(const CsFunnelRule *rule, CsFunnel *f, int64 t, const uint32 *masks, int n, int *opener);

#endif
