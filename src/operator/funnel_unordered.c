/*
 * operator/funnel_unordered.c
 *	  The funnel algorithm, mode "unordered": all steps within the time.
 *
 * The level is the most steps that the events of any stretch of length
 * `within` can fill, each event one.  So the events of the last `within` are
 * held, and each event asks for a matching of steps and held events
 * (operator/funnel_match.c).  Most events cannot raise the level, which the
 * union of the held masks shows at once.
 *
 * With strict_increase events of one time are one: together they fill one step.
 *
 * An exclusion ends the attempt: what was collected does not count, unless the
 * stretch that reached the level was over before.
 *
 * No locks, no memory, no errors.
 */
#include "postgres.h"

#include "operator/funnel_core.h"

/* Drop what is too old to be in one stretch with t. */
static void
forget_old(const CsFunnelRule *rule, CsFunnel *f, int64 t)
{
	int old = 0;

	while (old < f->nheld && !cs_funnel_reaches(rule, f->held[old].time, t))
		old++;
	f->nheld -= old;
	memmove(f->held, f->held + old, sizeof(CsFunnelHeld) * f->nheld);
}

/*
 * One too many is held: drop the second oldest or a later one of which each
 * step has nsteps newer ones; there is one, for only nsteps of each step can
 * be otherwise.  The oldest stays if it can: it may be the one to show.
 */
static void
make_room(const CsFunnelRule *rule, CsFunnel *f)
{
	int	   count[CS_FUNNEL_MAX_STEPS] = {0};
	uint32 full = 0;
	int	   drop = 0;

	for (int i = f->nheld - 1; i >= 0; i--)
	{
		uint32 steps = f->held[i].steps;

		if ((steps & ~full) == 0 && (i > 0 || drop == 0))
			drop = i;
		for (int k = 0; k < rule->nsteps; k++)
			if ((steps & ((uint32) 1 << k)) != 0 && ++count[k] >= rule->nsteps)
				full |= (uint32) 1 << k;
	}
	f->nheld--;
	memmove(f->held + drop, f->held + drop + 1, sizeof(CsFunnelHeld) * (f->nheld - drop));
}

static void
hold(const CsFunnelRule *rule, CsFunnel *f, int64 t, uint32 steps)
{
	if (rule->strict_increase && f->nheld > 0 && f->held[f->nheld - 1].time == t)
	{
		f->held[f->nheld - 1].steps |= steps;
		return;
	}
	f->held[f->nheld++] = (CsFunnelHeld){t, steps};
	if (f->nheld > CS_FUNNEL_HELD_MAX(rule->nsteps))
		make_room(rule, f);
}

/*
 * What is held, for a matching: of events with the same mask no more than it
 * has steps are needed, and the oldest are shown.  Returns the time of each.
 */
static void
match_held(const CsFunnelRule *rule, const CsFunnel *f, CsFunnelMatch *match, int64 *times)
{
	int	   count[CS_FUNNEL_MAX_STEPS] = {0};
	uint32 full = 0;

	cs_funnel_match_clear(match);
	for (int i = 0; i < f->nheld; i++)
	{
		uint32 steps = f->held[i].steps;

		if ((steps & ~full) == 0)
			continue;
		times[match->n] = f->held[i].time;
		cs_funnel_match_add(match, steps);
		for (int k = 0; k < rule->nsteps; k++)
			if ((steps & ((uint32) 1 << k)) != 0 && ++count[k] >= rule->nsteps)
				full |= (uint32) 1 << k;
	}
}

/* Can the held events fill more steps than any before? */
static void
raise_level(const CsFunnelRule *rule, CsFunnel *f)
{
	CsFunnelMatch match;
	int64		  times[CS_FUNNEL_MAX_KEPT];
	uint32		  any = 0;
	int			  level = 0;

	for (int i = 0; i < f->nheld; i++)
		any |= f->held[i].steps;
	if (__builtin_popcount(any) <= f->level)
		return;
	match_held(rule, f, &match, times);
	for (int k = 0; k < rule->nsteps; k++)
		level += cs_funnel_match_step(&match, k);
	if (level <= f->level)
		return;
	f->level = level;
	for (int k = 0; k < rule->nsteps; k++)
		f->best[k] = CS_FUNNEL_SKIPPED;
	for (int i = 0; i < match.n; i++)
		if (match.owner[i] >= 0)
			f->best[match.owner[i]] = times[i];
	if (level == rule->nsteps)
		f->end = CS_FUNNEL_CONVERTED;
}

/* The earliest step shown: where the stretch of the level begins. */
static int64
best_start(const CsFunnelRule *rule, const CsFunnel *f)
{
	int64 start = PG_INT64_MAX;

	for (int k = 0; k < rule->nsteps; k++)
		if (f->best[k] != CS_FUNNEL_SKIPPED)
			start = Min(start, f->best[k]);
	return start;
}

int
cs_funnel_take_unordered(const CsFunnelRule *rule, CsFunnel *f, int64 t, const CsFunnelEvent *events, int n,
						 int *opener)
{
	bool exclude = cs_funnel_all_equal(events, n);

	for (int i = 0; i < n; i++)
	{
		if (events[i].taints != 0 && exclude && f->open)
		{
			/* the event itself comes again, and may open the next attempt */
			f->excluded = cs_funnel_reaches(rule, best_start(rule, f), t);
			f->end = CS_FUNNEL_EXCLUDED;
			return i;
		}
		if (events[i].steps == 0)
			continue;
		if (!f->open)
		{
			*opener = i;
			f->open = true;
			f->started = t;
		}
		forget_old(rule, f, t);
		hold(rule, f, t, events[i].steps);
		raise_level(rule, f);
		if (f->end != CS_FUNNEL_GOES_ON)
			return i + 1;
	}
	return n;
}
