/*
 * operator/funnel_core.c
 *	  The exact one-pass funnel algorithm, mode "ordered".
 *
 * For each level k the chain with the latest start is kept.  A group of events
 * of equal time t extends every chain from a snapshot of what was before the
 * group: from the chain of level a (a = 0: a new chain that starts at t) to
 * a+1, a+2, ... as long as each further step gets an event of the group of its
 * own.  Whether it does is a bipartite matching of steps and events, grown by
 * one augmenting path per step: conditions may overlap, and an event that
 * meets two of them must be free to move.  A path exists iff the steps so far
 * and the new one can all be matched, so the greedy order loses nothing.
 *
 * Going down from a = n-1 to 0 makes the snapshot free: chain a is read before
 * any extension of a lower chain writes it, and extensions of higher ones
 * write above it only.  Letting step 1 overwrite start[1] first would lose
 * chains (steps a, a, c; a at 2, a and c at 6: level 3).
 *
 * Strictness.  With strict_increase a chain takes one step per group, so a
 * group is no more than the union of its masks.
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

/*
 * The events of a group that can matter: of each step at most nsteps, for no
 * matching needs more, so at most nsteps * nsteps in all.
 */
#define MAX_KEPT (CS_FUNNEL_MAX_STEPS * CS_FUNNEL_MAX_STEPS)

typedef struct Group
{
	int	   n;
	uint32 any; /* union of all masks */
	uint32 masks[MAX_KEPT];
	int8   owner[MAX_KEPT];	  /* step index an event is used for, -1 none */
	uint32 visit;			  /* number of the present search */
	uint32 visited[MAX_KEPT]; /* search that last looked at the event */
} Group;

size_t
cs_funnel_size(int nsteps)
{
	return MAXALIGN(sizeof(CsFunnel)) + sizeof(int64) * nsteps * (nsteps + 1);
}

CsFunnel *
cs_funnel_init(void *memory, int nsteps)
{
	CsFunnel *f = (CsFunnel *) memory;

	f->best = (int64 *) ((char *) memory + MAXALIGN(sizeof(CsFunnel)));
	f->chains = f->best + nsteps;
	cs_funnel_reset(f);
	return f;
}

void
cs_funnel_reset(CsFunnel *f)
{
	f->level = 0;
	f->open = false;
	f->converted = false;
	f->started = 0;
}

/* Times go up to the type's end, so a sum stops there. */
static int64
later(int64 t, int64 length)
{
	return t > PG_INT64_MAX - length ? PG_INT64_MAX : t + length;
}

/* start[1] + within: starts of longer chains are never later. */
static int64
expiry(const CsFunnelRule *rule, const CsFunnel *f)
{
	return later(cs_funnel_chain(rule, f, 1)[0], rule->within);
}

int64
cs_funnel_last_moment(const CsFunnelRule *rule, const CsFunnel *f)
{
	return Min(expiry(rule, f), later(f->started, rule->max_length));
}

bool
cs_funnel_expires(const CsFunnelRule *rule, const CsFunnel *f)
{
	return expiry(rule, f) <= later(f->started, rule->max_length);
}

/* Can a chain of level a go on at t?  Sets where it started. */
static bool
can_extend(const CsFunnelRule *rule, const CsFunnel *f, int a, int64 t, int64 *start)
{
	if (a > f->level)
		return false;
	*start = a == 0 ? t : cs_funnel_chain(rule, f, a)[0];
	return *start >= t || t <= later(*start, rule->within);
}

/* The chain of level a reached levels up to j at t. */
static void
extend(const CsFunnelRule *rule, CsFunnel *f, int a, int j, int64 start, int64 t, int *reached)
{
	for (int k = a + 1; k <= j; k++)
	{
		int64 *chain = cs_funnel_chain(rule, f, k);

		/* levels above f->level are known only if a higher chain of this group got there */
		if (k <= *reached && chain[0] >= start)
			continue;
		if (a > 0)
			memcpy(chain, cs_funnel_chain(rule, f, a), sizeof(int64) * a);
		for (int i = a; i < k; i++)
			chain[i] = t;
	}
	*reached = Max(*reached, j);
}

/* The group is over: remember what a new highest level looks like. */
static void
note_level(const CsFunnelRule *rule, CsFunnel *f, int reached)
{
	if (reached <= f->level)
		return;
	f->level = reached;
	memcpy(f->best, cs_funnel_chain(rule, f, reached), sizeof(int64) * reached);
	f->converted = reached == rule->nsteps;
}

/* A chain advances by one step: one event alone, or a group whose times must differ. */
static void
take_mask(const CsFunnelRule *rule, CsFunnel *f, int64 t, uint32 mask)
{
	int	  reached = f->level;
	int64 start;

	for (int a = rule->nsteps - 1; a >= 0; a--)
		if ((mask & ((uint32) 1 << a)) != 0 && can_extend(rule, f, a, t, &start))
			extend(rule, f, a, a + 1, start, t, &reached);
	note_level(rule, f, reached);
}

/* Keep of the events what a matching may need. */
static void
group_fill(const CsFunnelRule *rule, Group *group, const uint32 *masks, int n)
{
	int	   count[CS_FUNNEL_MAX_STEPS] = {0};
	uint32 wanted = rule->nsteps == 32 ? PG_UINT32_MAX : ((uint32) 1 << rule->nsteps) - 1;

	group->n = 0;
	group->any = 0;
	group->visit = 0;
	for (int i = 0; i < n && wanted != 0; i++)
	{
		/* an event all of whose steps have enough others could always be replaced by one of them */
		if ((masks[i] & wanted) == 0)
			continue;
		group->masks[group->n] = masks[i];
		group->visited[group->n++] = 0;
		group->any |= masks[i];
		for (int k = 0; k < rule->nsteps; k++)
			if ((masks[i] & ((uint32) 1 << k)) != 0 && ++count[k] >= rule->nsteps)
				wanted &= ~((uint32) 1 << k);
	}
}

/* Find an event for the step, moving other steps to other events if need be. */
static bool
augment(Group *group, int step)
{
	for (int i = 0; i < group->n; i++)
	{
		if ((group->masks[i] & ((uint32) 1 << step)) == 0 || group->visited[i] == group->visit)
			continue;
		group->visited[i] = group->visit;
		if (group->owner[i] < 0 || augment(group, group->owner[i]))
		{
			group->owner[i] = (int8) step;
			return true;
		}
	}
	return false;
}

/* The highest level a chain of level a reaches with the group. */
static int
group_reach(const CsFunnelRule *rule, Group *group, int a)
{
	int k;

	if ((group->any & ((uint32) 1 << a)) == 0)
		return a;
	memset(group->owner, -1, group->n);
	for (k = a; k < rule->nsteps; k++)
	{
		group->visit++;
		if (!augment(group, k))
			break;
	}
	return k;
}

/* Would the first n events convert the attempt? */
static bool
converts(const CsFunnelRule *rule, const CsFunnel *f, int64 t, const uint32 *masks, int n)
{
	Group group;
	int64 start;

	group_fill(rule, &group, masks, n);
	for (int a = rule->nsteps - 1; a >= 0; a--)
		if (can_extend(rule, f, a, t, &start) && group_reach(rule, &group, a) == rule->nsteps)
			return true;
	return false;
}

/* Length of the shortest prefix that converts the attempt, or n if none does. */
static int
shortest_conversion(const CsFunnelRule *rule, const CsFunnel *f, int64 t, const uint32 *masks, int n)
{
	uint32 last = (uint32) 1 << (rule->nsteps - 1);
	int	   low = 0; /* does not convert */
	int	   high;	/* does, once found */
	int	   i;

	/* without the last step nothing does */
	for (i = 0; i < n && (masks[i] & last) == 0; i++)
		;
	if (i == n)
		return n;
	for (high = i + 1; !converts(rule, f, t, masks, high); high = (int) Min((int64) high * 2, n))
	{
		if (high == n)
			return n;
		low = high;
	}
	while (high - low > 1)
	{
		int middle = low + (high - low) / 2;

		if (converts(rule, f, t, masks, middle))
			high = middle;
		else
			low = middle;
	}
	return high;
}

/* A group of several events, of which a chain may take more than one. */
static int
take_group(const CsFunnelRule *rule, CsFunnel *f, int64 t, const uint32 *masks, int n)
{
	Group group;
	int	  reached = f->level;
	int64 start;

	n = shortest_conversion(rule, f, t, masks, n);
	group_fill(rule, &group, masks, n);
	for (int a = rule->nsteps - 1; a >= 0; a--)
		if (can_extend(rule, f, a, t, &start))
			extend(rule, f, a, group_reach(rule, &group, a), start, t, &reached);
	note_level(rule, f, reached);
	return n;
}

/*
 * The same with strict_increase.  The first event of the last step converts,
 * if anything does, for only the chain before the group counts.
 */
static int
take_strict(const CsFunnelRule *rule, CsFunnel *f, int64 t, const uint32 *masks, int n)
{
	uint32 any = 0;
	uint32 last = (uint32) 1 << (rule->nsteps - 1);
	int64  start;
	bool   ready = can_extend(rule, f, rule->nsteps - 1, t, &start);
	int	   i;

	for (i = 0; i < n; i++)
	{
		any |= masks[i];
		if (ready && (masks[i] & last) != 0)
		{
			i++;
			break;
		}
	}
	take_mask(rule, f, t, any);
	return i;
}

int
cs_funnel_take(const CsFunnelRule *rule, CsFunnel *f, int64 t, const uint32 *masks, int n, int *opener)
{
	*opener = -1;
	if (!f->open)
	{
		int i;

		for (i = 0; i < n && (masks[i] & 1) == 0; i++)
			;
		if (i == n)
			return n; /* nobody is on the way, and nobody begins */
		*opener = i;
		f->open = true;
		f->started = t;
	}
	if (n == 1)
	{
		take_mask(rule, f, t, masks[0]);
		return 1;
	}
	return rule->strict_increase ? take_strict(rule, f, t, masks, n) : take_group(rule, f, t, masks, n);
}
