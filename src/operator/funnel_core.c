/*
 * operator/funnel_core.c
 *	  The exact one-pass funnel algorithm, modes "ordered" and "strict".
 *
 * For each level k the chain with the latest start is kept.  A group of events
 * of equal time t extends every chain from a snapshot of what was before the
 * group: from the chain of level a (a = 0: a new chain that starts at t) to
 * a+1, a+2, ... as long as each further step gets an event of the group of its
 * own (operator/funnel_match.c).
 *
 * Going down from a = n-1 to 0 makes the snapshot free: chain a is read before
 * any extension of a lower chain writes it, and extensions of higher ones
 * write above it only.  Letting step 1 overwrite start[1] first would lose
 * chains (steps a, a, c; a at 2, a and c at 6: level 3).
 *
 * Optional steps.  A chain of level j comes from one of level j-1, or from a
 * lower one if all steps between are optional: from the one that started
 * latest, of equal ones from the longest.  What is shown is another chain where
 * there is one that got as far at the same time and left out less: of each level
 * the chain from the level before it, as long as that is within the time, else
 * from a lower one.
 *
 * Exclusions.  An event that meets one taints the chains it holds for, unless
 * they have gone on already.  A tainted chain goes no further; but if it would
 * have, and nobody else got as far, that is the attempt's level, and the
 * attempt is excluded.  Among different events of one time an exclusion has no
 * effect: there is an order in which it does no harm.
 *
 * Strictness.  With strict_increase a chain takes one step per group, so a
 * group is no more than the union of its masks.  In mode "strict" events are
 * taken one by one in place order, and a chain that an event does not extend
 * is gone.
 *
 * Ties and conversion.  Equal times may be used in whatever order helps, so a
 * group is looked at as a whole.  If the attempt converts, it takes the
 * shortest prefix of the group, in place order, that lets it; what follows in
 * place order begins afresh, as a group of its own at the same time.  That
 * depends on content only, never on arrival, and is MATCH_RECOGNIZE's "skip
 * past last row" wherever times differ.  The prefix is found by doubling and
 * halving, so a group of a million events that converts half a million times
 * costs n log n.
 *
 * No locks, no memory, no errors.
 */
#include "postgres.h"

#include "operator/funnel_core.h"
#include "port/pg_bitutils.h"

size_t
cs_funnel_size(const CsFunnelRule *rule)
{
	size_t size = MAXALIGN(sizeof(CsFunnel)) + sizeof(int64) * rule->nsteps;

	if (rule->mode == CS_FUNNEL_UNORDERED)
		return size + sizeof(CsFunnelHeld) * (CS_FUNNEL_HELD_MAX(rule->nsteps) + 1);
	return size + sizeof(int64) * rule->nsteps * rule->nsteps * (rule->optional != 0 ? 2 : 1);
}

CsFunnel *
cs_funnel_init(void *memory, const CsFunnelRule *rule)
{
	CsFunnel *f = (CsFunnel *) memory;

	f->best = (int64 *) ((char *) memory + MAXALIGN(sizeof(CsFunnel)));
	f->chains = rule->mode == CS_FUNNEL_UNORDERED ? NULL : f->best + rule->nsteps;
	f->held = rule->mode == CS_FUNNEL_UNORDERED ? (CsFunnelHeld *) (f->best + rule->nsteps) : NULL;
	cs_funnel_reset(f);
	return f;
}

void
cs_funnel_copy(const CsFunnelRule *rule, CsFunnel *dst, const CsFunnel *src)
{
	memcpy(dst, src, cs_funnel_size(rule));
	dst->best = (int64 *) ((char *) dst + MAXALIGN(sizeof(CsFunnel)));
	dst->chains = src->chains ? dst->best + rule->nsteps : NULL;
	dst->held = src->held ? (CsFunnelHeld *) (dst->best + rule->nsteps) : NULL;
}

void
cs_funnel_reset(CsFunnel *f)
{
	f->level = 0;
	f->open = false;
	f->excluded = false;
	f->end = CS_FUNNEL_GOES_ON;
	f->known = 0;
	f->tainted = 0;
	f->full_known = 0;
	f->started = 0;
	f->nheld = 0;
}

/*
 * Where the chain that started latest did.  Ordered: at level 1, for starts of
 * longer chains are never later; strict: the lowest that is left.
 */
static int64
latest_start(const CsFunnelRule *rule, const CsFunnel *f)
{
	int64 start = f->started;

	if (rule->mode == CS_FUNNEL_UNORDERED)
		return f->held[f->nheld - 1].time;
	if (cs_funnel_knows(f, 1))
		return cs_funnel_chain(rule, f, 1)[0];
	for (int k = 2; k <= rule->nsteps; k++)
		if (cs_funnel_knows(f, k))
			start = Max(start, cs_funnel_chain(rule, f, k)[0]);
	return start;
}

static int64
expiry(const CsFunnelRule *rule, const CsFunnel *f)
{
	return cs_funnel_later(latest_start(rule, f), rule->within);
}

int64
cs_funnel_last_moment(const CsFunnelRule *rule, const CsFunnel *f)
{
	return Min(expiry(rule, f), cs_funnel_later(f->started, rule->max_length));
}

bool
cs_funnel_expires(const CsFunnelRule *rule, const CsFunnel *f)
{
	return expiry(rule, f) <= cs_funnel_later(f->started, rule->max_length);
}

bool
cs_funnel_is_conversion(const CsFunnelRule *rule, const CsFunnel *f)
{
	int last = rule->nsteps;

	while ((rule->optional & CS_FUNNEL_BIT(last)) != 0)
		last--;
	return !f->excluded && f->level >= last;
}

bool
cs_funnel_all_equal(const CsFunnelEvent *events, int n)
{
	for (int i = 1; i < n; i++)
		if (events[i].steps != events[0].steps || events[i].taints != events[0].taints)
			return false;
	return true;
}

/* What a group, or an event, has come to. */
typedef struct Reach
{
	int	   level;					   /* highest level a chain got to */
	uint32 full;					   /* levels that a full chain got to */
	int	   tainted;					   /* highest level a tainted chain would have got to, ... */
	int64  times[CS_FUNNEL_MAX_STEPS]; /* ... and its step times: it may be overwritten before they are needed */
} Reach;

/* The chain of level a takes the steps of done (bits from a on) at t, the last one being j. */
static void
write_chain(const CsFunnelRule *rule, CsFunnel *f, int a, int j, uint32 done, int64 start, int64 t, Reach *reach)
{
	int64 *chain = cs_funnel_chain(rule, f, j);

	/* in strict mode the old chain is over in any case */
	if (cs_funnel_knows(f, j) && chain[0] >= start && rule->mode != CS_FUNNEL_STRICT)
		return;
	if (a > 0)
		memcpy(chain, cs_funnel_chain(rule, f, a), sizeof(int64) * a);
	for (int i = a; i < j; i++)
		chain[i] = (done & ((uint32) 1 << i)) != 0 ? t : CS_FUNNEL_SKIPPED;
	f->known |= CS_FUNNEL_BIT(j);
	f->tainted &= ~CS_FUNNEL_BIT(j);
	reach->level = Max(reach->level, j);
}

/* A tainted chain of level a would have taken step j. */
static void
note_tainted(const CsFunnelRule *rule, const CsFunnel *f, int a, int j, int64 t, Reach *reach)
{
	const int64 *chain = cs_funnel_chain(rule, f, a);

	if (j <= reach->tainted)
		return;
	if (rule->mode != CS_FUNNEL_STRICT && cs_funnel_knows(f, j) && cs_funnel_chain(rule, f, j)[0] == chain[0])
		return; /* it has been there, before it was tainted */
	reach->tainted = j;
	memcpy(reach->times, chain, sizeof(int64) * a);
	for (int i = a; i < j; i++)
		reach->times[i] = i == j - 1 ? t : CS_FUNNEL_SKIPPED;
}

/* Remember what a new highest level looks like; of equal ones an untainted replaces a tainted. */
static void
note_level(const CsFunnelRule *rule, CsFunnel *f, const Reach *reach)
{
	if (reach->level > f->level || (reach->level > 0 && reach->level == f->level && f->excluded))
	{
		f->level = reach->level;
		f->excluded = false;
		memcpy(f->best,
			   (reach->full & CS_FUNNEL_BIT(f->level)) != 0 ? cs_funnel_full(rule, f, f->level)
															: cs_funnel_chain(rule, f, f->level),
			   sizeof(int64) * f->level);
		if (f->level == rule->nsteps)
			f->end = CS_FUNNEL_CONVERTED;
	}
	if (reach->tainted > f->level || (reach->tainted > 0 && reach->tainted == f->level && f->excluded))
	{
		f->level = reach->tainted;
		f->excluded = true;
		memcpy(f->best, reach->times, sizeof(int64) * f->level);
	}
}

/* ---- one event ---- */

/* Has the chain of level k gone on?  Then a chain of a higher level has its start.  Strict: it would not be here. */
static bool
has_gone_on(const CsFunnelRule *rule, const CsFunnel *f, int k)
{
	int64 start = cs_funnel_chain(rule, f, k)[0];

	for (int j = k + 1; j <= rule->nsteps && rule->mode != CS_FUNNEL_STRICT; j++)
	{
		if (cs_funnel_knows(f, j) && cs_funnel_chain(rule, f, j)[0] == start)
			return true;
		if ((rule->optional & CS_FUNNEL_BIT(j)) == 0)
			break;
	}
	return false;
}

/* An exclusion at t. */
static void
taint(const CsFunnelRule *rule, CsFunnel *f, int64 t, uint32 levels)
{
	f->full_known &= ~levels; /* it shows only what no exclusion has touched */
	for (uint32 left = levels & f->known & ~f->tainted; left != 0; left &= left - 1)
	{
		int k = pg_rightmost_one_pos32(left) + 1;

		if (!cs_funnel_reaches(rule, cs_funnel_chain(rule, f, k)[0], t) || has_gone_on(rule, f, k))
			continue;
		f->tainted |= CS_FUNNEL_BIT(k);
		if (f->level == k && cs_funnel_reaches(rule, f->best[0], t))
			f->excluded = true;
	}
}

/* The level of the chain that takes step j at t; -1 if none does. */
static int
find_source(const CsFunnelRule *rule, const CsFunnel *f, int j, int64 t, int64 *start, Reach *reach)
{
	int	  source = -1;
	int64 s;

	for (int a = j - 1;; a--)
	{
		if (cs_funnel_can_extend(rule, f, a, t, &s))
		{
			if (a > 0 && (f->tainted & CS_FUNNEL_BIT(a)) != 0)
				note_tainted(rule, f, a, j, t, reach);
			else if (source < 0 || s > *start)
			{
				source = a;
				*start = s;
			}
		}
		if (a == 0 || (rule->optional & CS_FUNNEL_BIT(a)) == 0)
			return source;
	}
}

static bool
can_extend_full(const CsFunnelRule *rule, const CsFunnel *f, int a, int64 t)
{
	const int64 *chain = cs_funnel_full(rule, f, a);

	if ((f->full_known & CS_FUNNEL_BIT(a)) == 0 || (rule->strict_increase && chain[a - 1] >= t))
		return false;
	return cs_funnel_reaches(rule, chain[0], t);
}

/*
 * The same for the chains that leave out few.  Returns the levels reached; in
 * strict mode the others are gone.
 */
static uint32
take_full(const CsFunnelRule *rule, CsFunnel *f, int64 t, uint32 mask)
{
	uint32 written = 0;

	for (uint32 left = mask; left != 0;)
	{
		int	   j = pg_leftmost_one_pos32(left) + 1;
		int64 *chain = cs_funnel_full(rule, f, j);
		int	   a = j - 1;

		left &= ~CS_FUNNEL_BIT(j);
		while (a > 0 && !can_extend_full(rule, f, a, t) && (rule->optional & CS_FUNNEL_BIT(a)) != 0)
			a--;
		if (a > 0 && !can_extend_full(rule, f, a, t))
			continue;
		/* ordered: of one start the first is kept */
		if (rule->mode != CS_FUNNEL_STRICT && (f->full_known & CS_FUNNEL_BIT(j)) != 0 &&
			chain[0] == (a > 0 ? cs_funnel_full(rule, f, a)[0] : t))
			continue;
		if (a > 0)
			memcpy(chain, cs_funnel_full(rule, f, a), sizeof(int64) * a);
		for (int i = a; i < j; i++)
			chain[i] = i == j - 1 ? t : CS_FUNNEL_SKIPPED;
		f->full_known |= CS_FUNNEL_BIT(j);
		written |= CS_FUNNEL_BIT(j);
	}
	if (rule->mode == CS_FUNNEL_STRICT)
		f->full_known &= written;
	return written;
}

/* Each chain advances by one step: one event alone, or a group whose times must differ. */
static void
take_mask(const CsFunnelRule *rule, CsFunnel *f, int64 t, uint32 mask)
{
	Reach  reach;
	uint32 written = 0;

	reach.level = reach.tainted = 0; /* times need no zeroes */
	reach.full = rule->optional != 0 ? take_full(rule, f, t, mask) : 0;

	for (uint32 left = mask; left != 0;)
	{
		int	  j = pg_leftmost_one_pos32(left) + 1;
		int64 start = t;
		int	  source = find_source(rule, f, j, t, &start, &reach);

		if (source >= 0)
		{
			write_chain(rule, f, source, j, CS_FUNNEL_BIT(j), start, t, &reach);
			written |= CS_FUNNEL_BIT(j);
		}
		left &= ~CS_FUNNEL_BIT(j);
	}
	note_level(rule, f, &reach);
	if (rule->mode == CS_FUNNEL_STRICT)
	{
		f->known &= written;
		f->tainted &= written;
		if (f->known == 0 && f->end == CS_FUNNEL_GOES_ON)
			f->end = CS_FUNNEL_BROKEN;
	}
}

/* The same for what nearly all events are: nothing optional, nothing tainted, times that differ. */
static inline void
take_plain(const CsFunnelRule *rule, CsFunnel *f, int64 t, uint32 mask)
{
	int reached = 0;

	for (uint32 left = mask & ((f->known << 1) | 1); left != 0;)
	{
		int	   j = pg_leftmost_one_pos32(left) + 1;
		int64 *chain = cs_funnel_chain(rule, f, j);
		int64 *from = chain - rule->nsteps;
		int64  start = j == 1 ? t : from[0];

		left ^= CS_FUNNEL_BIT(j);
		if ((j > 1 && !cs_funnel_reaches(rule, start, t)) || (cs_funnel_knows(f, j) && chain[0] >= start))
			continue;
		for (int i = 0; i < j - 1; i++)
			chain[i] = from[i];
		chain[j - 1] = t;
		f->known |= CS_FUNNEL_BIT(j);
		reached = Max(reached, j);
	}
	if (reached <= f->level)
		return;
	f->level = reached;
	memcpy(f->best, cs_funnel_chain(rule, f, reached), sizeof(int64) * reached);
	if (reached == rule->nsteps)
		f->end = CS_FUNNEL_CONVERTED;
}

static inline void
take_one(const CsFunnelRule *rule, CsFunnel *f, int64 t, const CsFunnelEvent *event)
{
	if (rule->mode == CS_FUNNEL_ORDERED && rule->optional == 0 && !rule->strict_increase &&
		(event->taints | f->tainted) == 0 && !f->excluded)
	{
		take_plain(rule, f, t, event->steps);
		return;
	}
	if (event->taints != 0)
		taint(rule, f, t, event->taints);
	take_mask(rule, f, t, event->steps);
}

/* One by one, in place order: mode strict, and equal events of which one may be an exclusion to the next. */
static int
take_each(const CsFunnelRule *rule, CsFunnel *f, int64 t, const CsFunnelEvent *events, int n, int i)
{
	for (; i < n; i++)
	{
		take_one(rule, f, t, &events[i]);
		if (f->end != CS_FUNNEL_GOES_ON)
			return i + 1;
	}
	return n;
}

/* ---- several events of one time ---- */

/* The steps that the matching fills. */
static uint32
matched(const CsFunnelMatch *match)
{
	uint32 done = 0;

	for (int i = 0; i < match->n; i++)
		if (match->owner[i] >= 0)
			done |= (uint32) 1 << match->owner[i];
	return done;
}

/*
 * The chain of level a, extended to level j: what match fills, j last, and of
 * the optional steps between as many as there are events for, earliest first.
 */
static void
write_group(const CsFunnelRule *rule, CsFunnel *f, CsFunnelMatch *match, int a, int j, int64 start, int64 t,
			Reach *reach)
{
	for (int k = a; k < j - 1; k++)
		if ((rule->optional & ((uint32) 1 << k)) != 0)
			(void) cs_funnel_match_step(match, k);
	write_chain(rule, f, a, j, matched(match), start, t, reach);
}

/* Extend the chain of level a by the group as far as it goes. */
static void
extend(const CsFunnelRule *rule, CsFunnel *f, CsFunnelMatch *match, int a, int64 start, int64 t, Reach *reach)
{
	CsFunnelMatch trial;

	cs_funnel_match_reset(match);
	for (int k = a; k < rule->nsteps; k++)
	{
		bool is_optional = (rule->optional & ((uint32) 1 << k)) != 0;

		if (!is_optional && !cs_funnel_match_step(match, k))
			return;
		if (rule->optional == 0)
			write_chain(rule, f, a, k + 1, PG_UINT32_MAX, start, t, reach);
		else
		{
			trial = *match;
			if (!is_optional || cs_funnel_match_step(&trial, k))
				write_group(rule, f, &trial, a, k + 1, start, t, reach);
		}
	}
}

/* The chain of level a is tainted: note which steps it would have taken. */
static void
extend_tainted(const CsFunnelRule *rule, const CsFunnel *f, const CsFunnelMatch *match, int a, int64 t, Reach *reach)
{
	for (int j = a + 1; j <= rule->nsteps; j++)
	{
		if ((match->any & CS_FUNNEL_BIT(j)) != 0)
			note_tainted(rule, f, a, j, t, reach);
		if ((rule->optional & CS_FUNNEL_BIT(j)) == 0)
			return;
	}
}

/* Can the chain of level a convert by the group? */
static bool
converts_from(const CsFunnelRule *rule, CsFunnelMatch *match, int a)
{
	cs_funnel_match_reset(match);
	for (int k = a; k < rule->nsteps; k++)
	{
		bool may_skip = (rule->optional & ((uint32) 1 << k)) != 0 && k < rule->nsteps - 1;

		if (!may_skip && !cs_funnel_match_step(match, k))
			return false;
	}
	return true;
}

/* Would the first n events convert the attempt? */
static bool
converts(const CsFunnelRule *rule, const CsFunnel *f, int64 t, const CsFunnelEvent *events, int n)
{
	CsFunnelMatch match;
	int64		  start;

	cs_funnel_match_fill(&match, rule->nsteps, events, n);
	for (int a = rule->nsteps - 1; a >= 0; a--)
	{
		if (a > 0 && (f->tainted & CS_FUNNEL_BIT(a)) != 0)
			continue;
		if (cs_funnel_can_extend(rule, f, a, t, &start) && converts_from(rule, &match, a))
			return true;
	}
	return false;
}

/* Length of the shortest prefix that converts the attempt, or n if none does. */
static int
shortest_conversion(const CsFunnelRule *rule, const CsFunnel *f, int64 t, const CsFunnelEvent *events, int n)
{
	uint32 last = CS_FUNNEL_BIT(rule->nsteps);
	int	   low = 0; /* does not convert */
	int	   high;	/* does, once found */
	int	   i;

	/* without the last step nothing does */
	for (i = 0; i < n && (events[i].steps & last) == 0; i++)
		;
	if (i == n)
		return n;
	for (high = i + 1; !converts(rule, f, t, events, high); high = (int) Min((int64) high * 2, n))
	{
		if (high == n)
			return n;
		low = high;
	}
	while (high - low > 1)
	{
		int middle = low + (high - low) / 2;

		if (converts(rule, f, t, events, middle))
			high = middle;
		else
			low = middle;
	}
	return high;
}

/* A group of several events, of which a chain may take more than one. */
static int
take_group(const CsFunnelRule *rule, CsFunnel *f, int64 t, const CsFunnelEvent *events, int n)
{
	CsFunnelMatch match;
	Reach		  reach = {0};
	int64		  start;

	n = shortest_conversion(rule, f, t, events, n);
	cs_funnel_match_fill(&match, rule->nsteps, events, n);
	for (int i = rule->nsteps - 1; i >= 0; i--)
	{
		int a = CS_MUTANT(TIE_OVERWRITES) ? rule->nsteps - 1 - i : i;

		if (!cs_funnel_can_extend(rule, f, a, t, &start))
			continue;
		if (a > 0 && (f->tainted & CS_FUNNEL_BIT(a)) != 0)
			extend_tainted(rule, f, &match, a, t, &reach);
		else
			extend(rule, f, &match, a, start, t, &reach);
	}
	note_level(rule, f, &reach);
	if (rule->optional != 0)
	{
		/* a group's chains leave out as few as its events allow */
		memcpy(cs_funnel_full(rule, f, 1), f->chains, sizeof(int64) * rule->nsteps * rule->nsteps);
		f->full_known = f->known & ~f->tainted;
	}
	return n;
}

/*
 * The same with strict_increase.  The first event of the last step converts,
 * if anything does, for only the chains before the group count.
 */
static int
take_increasing(const CsFunnelRule *rule, CsFunnel *f, int64 t, const CsFunnelEvent *events, int n)
{
	uint32 any = 0;
	uint32 last = CS_FUNNEL_BIT(rule->nsteps);
	int64  start;
	Reach  reach = {.level = 0};
	bool   ready = find_source(rule, f, rule->nsteps, t, &start, &reach) >= 0;
	int	   i;

	for (i = 0; i < n; i++)
	{
		any |= events[i].steps;
		if (ready && (events[i].steps & last) != 0)
		{
			i++;
			break;
		}
	}
	take_mask(rule, f, t, any);
	return i;
}

int
cs_funnel_take(const CsFunnelRule *rule, CsFunnel *f, int64 t, const CsFunnelEvent *events, int n, int *opener)
{
	int first = 0;

	*opener = -1;
	if (rule->mode == CS_FUNNEL_UNORDERED)
		return cs_funnel_take_unordered(rule, f, t, events, n, opener);
	if (!f->open)
	{
		while (first < n && (events[first].steps & 1) == 0)
			first++;
		if (first == n)
			return n; /* nobody is on the way, and nobody begins */
		*opener = first;
		f->open = true;
		f->started = t;
	}
	if (n == 1)
	{
		take_one(rule, f, t, events);
		return 1;
	}
	if (rule->mode == CS_FUNNEL_STRICT)
		return take_each(rule, f, t, events, n, first);
	if (events[0].taints != 0 && cs_funnel_all_equal(events, n))
		return take_each(rule, f, t, events, n, 0);
	return rule->strict_increase ? take_increasing(rule, f, t, events, n) : take_group(rule, f, t, events, n);
}
