/*
 * operator/funnel_core.h
 *	  The funnel algorithm: which step did a key reach, and when.
 *
 * Knows nothing of streams, state or SQL: it is fed one key's events as masks
 * (bit k-1 of steps: the event meets the condition of step k) in groups of
 * equal time, oldest first.  The stream's funnels and the aggregates over
 * stored rows share it.
 *
 * One attempt at a time.  An attempt opens at an event of step 1 (unordered:
 * of any step) when none is open, and ends when it converts, when its latest
 * chain can no longer be extended, or at a greatest length.  The caller asks
 * cs_funnel_last_moment() before each group, ends the attempt if the group is
 * later, then lets cs_funnel_take() eat the group:
 *
 *	if (f->open && t > cs_funnel_last_moment(rule, f))
 *		show the attempt; cs_funnel_reset(f)
 *	for (i = 0; i < n; )
 *		i += cs_funnel_take(rule, f, t, events + i, n - i, &opener)
 *		if (f->end != CS_FUNNEL_GOES_ON)
 *			show the attempt; cs_funnel_reset(f)
 *
 * Allocates nothing, raises nothing, locks nothing; needs postgres.h for
 * types only, so that test/unit can run it without a server.
 */
#ifndef CS_OPERATOR_FUNNEL_CORE_H
#define CS_OPERATOR_FUNNEL_CORE_H

#include "postgres.h"

#include "core/mutant.h"

#define CS_FUNNEL_MAX_STEPS 32 /* a mask is 32 bits */

typedef enum CsFunnelMode
{
	CS_FUNNEL_ORDERED,	/* steps one after the other, anything between them */
	CS_FUNNEL_STRICT,	/* steps are consecutive events */
	CS_FUNNEL_UNORDERED /* all steps within the time, in any order */
} CsFunnelMode;

/* What the funnel asks for; times in one unit, whatever it is. */
typedef struct CsFunnelRule
{
	int			 nsteps; /* 1 .. CS_FUNNEL_MAX_STEPS */
	CsFunnelMode mode;
	int64		 within;		  /* t_k - t_1 <= within: the bound is inclusive; an exclusive one is one unit less */
	int64		 max_length;	  /* an attempt takes no event later than its first + this */
	uint32		 optional;		  /* bit k-1: a chain may leave step k out; never step 1; ordered and strict only */
	bool		 strict_increase; /* steps of a chain must have different times */
} CsFunnelRule;

/*
 * An event.  taints: bit k-1 says that it meets an exclusion that holds for
 * chains which have reached level k and not gone on; unordered: any bit, for
 * exclusions hold throughout.
 */
typedef struct CsFunnelEvent
{
	uint32 steps;
	uint32 taints;
} CsFunnelEvent;

/* Why cs_funnel_take() stopped: not GOES_ON means that the attempt is over. */
typedef enum CsFunnelEnd
{
	CS_FUNNEL_GOES_ON,
	CS_FUNNEL_CONVERTED,
	CS_FUNNEL_BROKEN,  /* strict: no chain is left */
	CS_FUNNEL_EXCLUDED /* unordered: an exclusion ended it */
} CsFunnelEnd;

/* Unordered: an event that a chain may still need. */
typedef struct CsFunnelHeld
{
	int64  time;
	uint32 steps;
} CsFunnelHeld;

#define CS_FUNNEL_SKIPPED PG_INT64_MIN /* a step that a chain left out: it has no time */

/*
 * The attempt of one key.
 *
 * Ordered and strict: chain(k)[0 .. k-1] are the step times of the chain that
 * reached level k and started latest of all that did: chain(k)[0] is the exact
 * algorithm's start[k].  A later start can do whatever an earlier one can, so
 * no other chain needs to be kept.  known says for which k there is one.
 * A tainted chain has met an exclusion and goes no further.
 *
 * Where steps are optional, full(k) is beside it: the chain of level k that
 * leaves out as few as it can, kept for showing only (full_known).
 *
 * Unordered: held are the events of the last `within`, oldest first; when they
 * are more than CS_FUNNEL_HELD_MAX() those go whose lack no level can feel.
 *
 * best[0 .. level-1] are the step times as they were after the group in which
 * the highest level was first reached: what the row shows; unordered:
 * best[0 .. nsteps-1], SKIPPED where a step is missing.  The level counts a
 * tainted chain too, by one step more; excluded says that it was one.
 */
typedef struct CsFunnel
{
	int			  level; /* furthest step of the attempt (unordered: most steps); 0: none open */
	bool		  open;	 /* an attempt is open */
	bool		  excluded;
	CsFunnelEnd	  end; /* show it, then cs_funnel_reset() */
	uint32		  known, tainted, full_known;
	int64		  started; /* time of its first event */
	int64		 *best;	   /* [nsteps] */
	int64		 *chains;  /* [nsteps][nsteps], see cs_funnel_chain(); twice if steps are optional */
	int			  nheld;
	CsFunnelHeld *held; /* [CS_FUNNEL_HELD_MAX(nsteps) + 1] */
} CsFunnel;

/* No level needs more than nsteps events of each step; the shown times are the earliest ones of so many. */
#define CS_FUNNEL_HELD_MAX(nsteps) Max((nsteps) * (nsteps), 256)

#define CS_FUNNEL_BIT(level) ((uint32) 1 << ((level) -1))

/* Times of the chain of level k, 1-based. */
static inline int64 *
cs_funnel_chain(const CsFunnelRule *rule, const CsFunnel *f, int k)
{
	return f->chains + (size_t) (k - 1) * rule->nsteps;
}

/* The same of the chain that leaves out few; only where steps are optional. */
static inline int64 *
cs_funnel_full(const CsFunnelRule *rule, const CsFunnel *f, int k)
{
	return cs_funnel_chain(rule, f, rule->nsteps + k);
}

static inline bool
cs_funnel_knows(const CsFunnel *f, int k)
{
	return (f->known & CS_FUNNEL_BIT(k)) != 0;
}

/* Bytes of a CsFunnel with its arrays; cs_funnel_init() makes one of MAXALIGNed memory of that size. */
extern size_t	 cs_funnel_size(const CsFunnelRule *rule);
extern CsFunnel *cs_funnel_init(void *memory, const CsFunnelRule *rule);
/* dst, made for the same rule, becomes the same as src. */
extern void cs_funnel_copy(const CsFunnelRule *rule, CsFunnel *dst, const CsFunnel *src);

/* No attempt is open. */
extern void cs_funnel_reset(CsFunnel *f);

/* Latest time an event may have and still belong to the open attempt. */
extern int64 cs_funnel_last_moment(const CsFunnelRule *rule, const CsFunnel *f);

/* Would the open attempt end because nothing can extend it (else: because of its length)? */
extern bool cs_funnel_expires(const CsFunnelRule *rule, const CsFunnel *f);

/* Was every step reached that is not optional? */
extern bool cs_funnel_is_conversion(const CsFunnelRule *rule, const CsFunnel *f);

/*
 * Apply n events (at least one) of one time t, in place order; together with
 * earlier calls of the same t they are the whole group.  The open attempt, if
 * any, must reach t.  Returns how many of them were taken: all, unless the
 * attempt ended, and one that converts takes the shortest prefix that
 * suffices; the rest belongs to the next attempt.  *opener is the index of the
 * event that opened an attempt, or -1.
 */
extern int cs_funnel_take(const CsFunnelRule *rule, CsFunnel *f, int64 t, const CsFunnelEvent *events, int n,
						  int *opener);

/* ---- between the files of the core ---- */

/* Do all events meet the same conditions?  Where they do not, exclusions have no effect. */
extern bool cs_funnel_all_equal(const CsFunnelEvent *events, int n);
extern int	cs_funnel_take_unordered(const CsFunnelRule *rule, CsFunnel *f, int64 t, const CsFunnelEvent *events, int n,
									 int *opener);

/* Times go up to the type's end, so a sum stops there. */
static inline int64
cs_funnel_later(int64 t, int64 length)
{
	return t > PG_INT64_MAX - length ? PG_INT64_MAX : t + length;
}

/* May a chain of this start take a step at t? */
static inline bool
cs_funnel_reaches(const CsFunnelRule *rule, int64 start, int64 t)
{
	int64 end = cs_funnel_later(start, rule->within);

	return t < end || (t == end && !CS_MUTANT(WITHIN_EXCLUSIVE));
}

/* The same of a chain whose newest step is of last. */
static inline bool
cs_funnel_may_step(const CsFunnelRule *rule, int64 start, int64 last, int64 t)
{
	return !(rule->strict_increase && last >= t) && (start >= t || cs_funnel_reaches(rule, start, t));
}

/* Is there a chain of level a that may take a step at t (0: a new one)?  Sets where it started. */
static inline bool
cs_funnel_can_extend(const CsFunnelRule *rule, const CsFunnel *f, int a, int64 t, int64 *start)
{
	const int64 *chain;

	*start = t;
	if (a == 0)
		return true;
	if (!cs_funnel_knows(f, a))
		return false;
	chain = cs_funnel_chain(rule, f, a);
	*start = chain[0];
	return cs_funnel_may_step(rule, chain[0], chain[a - 1], t);
}

/* ---- matching of steps and events: funnel_match.c ---- */

/*
 * The events of a group that can matter: of each step at most nsteps, for no
 * matching needs more, so at most nsteps * nsteps in all.
 */
#define CS_FUNNEL_MAX_KEPT (CS_FUNNEL_MAX_STEPS * CS_FUNNEL_MAX_STEPS)

typedef struct CsFunnelMatch
{
	int	   n;
	uint32 any; /* union of all masks */
	uint32 masks[CS_FUNNEL_MAX_KEPT];
	int8   owner[CS_FUNNEL_MAX_KEPT];	/* step index an event is used for, -1 none */
	uint32 visit;						/* number of the present search */
	uint32 visited[CS_FUNNEL_MAX_KEPT]; /* search that last looked at the event */
} CsFunnelMatch;

static inline void
cs_funnel_match_clear(CsFunnelMatch *match)
{
	match->n = 0;
	match->any = 0;
	match->visit = 0;
}

static inline void
cs_funnel_match_add(CsFunnelMatch *match, uint32 mask)
{
	match->masks[match->n] = mask;
	match->visited[match->n] = 0;
	match->owner[match->n++] = -1;
	match->any |= mask;
}

/* Keep of the events what a matching may need. */
extern void cs_funnel_match_fill(CsFunnelMatch *match, int nsteps, const CsFunnelEvent *events, int n);
/* No event is used. */
extern void cs_funnel_match_reset(CsFunnelMatch *match);
/* Find an event for the step (from 0), moving other steps to other events if need be. */
extern bool cs_funnel_match_step(CsFunnelMatch *match, int step);

#endif
