/*
 * operator/funnel_match.c
 *	  Which steps can events fill, if each fills one: a bipartite matching of
 *	  steps and events, grown by one augmenting path per step.
 *
 * Conditions of steps may overlap, and an event that meets two of them must be
 * free to move.  A path exists iff the steps so far and the new one can all be
 * matched, so taking steps one after the other loses nothing.
 *
 * No locks, no memory, no errors.
 */
#include "postgres.h"

#include "operator/funnel_core.h"

void
cs_funnel_match_fill(CsFunnelMatch *match, int nsteps, const CsFunnelEvent *events, int n)
{
	int	   count[CS_FUNNEL_MAX_STEPS] = {0};
	uint32 wanted = nsteps == 32 ? PG_UINT32_MAX : ((uint32) 1 << nsteps) - 1;

	cs_funnel_match_clear(match);
	for (int i = 0; i < n && wanted != 0; i++)
	{
		uint32 mask = events[i].steps;

		/* an event all of whose steps have enough others could always be replaced by one of them */
		if ((mask & wanted) == 0)
			continue;
		cs_funnel_match_add(match, mask);
		for (int k = 0; k < nsteps; k++)
			if ((mask & ((uint32) 1 << k)) != 0 && ++count[k] >= nsteps)
				wanted &= ~((uint32) 1 << k);
	}
}

void
cs_funnel_match_reset(CsFunnelMatch *match)
{
	memset(match->owner, -1, match->n);
}

static bool
augment(CsFunnelMatch *match, int step)
{
	uint32 bit = (uint32) 1 << step;

	/* one that is free, the earliest; else one whose step can move */
	for (int i = 0; i < match->n; i++)
	{
		if ((match->masks[i] & bit) != 0 && match->owner[i] < 0)
		{
			match->owner[i] = (int8) step;
			return true;
		}
	}
	for (int i = 0; i < match->n; i++)
	{
		if ((match->masks[i] & bit) == 0 || match->visited[i] == match->visit)
			continue;
		match->visited[i] = match->visit;
		if (augment(match, match->owner[i]))
		{
			match->owner[i] = (int8) step;
			return true;
		}
	}
	return false;
}

bool
cs_funnel_match_step(CsFunnelMatch *match, int step)
{
	match->visit++;
	return augment(match, step);
}
