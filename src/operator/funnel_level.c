/*
 * operator/funnel_level.c
 *	  ClickHouse's windowFunnel by the streaming funnel's means.
 *
 * ClickHouse makes an entry of each condition that a row meets, sorts them by
 * (time, condition), and goes through them.  So of equal times all of step 1
 * come before all of step 2, whichever rows they are of, and a row that meets
 * two conditions takes two steps.  Entries of one time and condition differ in
 * nothing that the answer depends on, except for whether there is a second
 * one: union and repeats of a group of equal time are all that is needed.
 *
 * For each level ClickHouse keeps the chain that was made last.  Its start is
 * the latest there is, as in the streaming funnel, but its last step is the
 * latest too, where the streaming funnel keeps the first of one start:
 * strict_increase answers a, b, b, c (1, 2, 3, 3) with 2, not 3.  That is
 * ClickHouse's answer, and so it is ours.
 *
 * With strict_once ClickHouse keeps every chain, each with the rows it has
 * used.  All that is asked of them is whether a level has one, so the latest
 * start is enough, and rows of a group are given to steps by matching: just
 * the streaming funnel, which does the work (cs_funnel_take()).  The strict
 * modes ask in addition what levels have been reached in the middle of a
 * group, in_group() answers.
 *
 * Reached levels stay reached when their chain is too old to go on, so level
 * alone says for which there is one: there are no gaps.
 */
#include "postgres.h"

#include "operator/funnel_level.h"
#include "port/pg_bitutils.h"

void
cs_level_init(CsLevel *level, int nsteps, int64 within, int modes)
{
	level->rule.nsteps = nsteps;
	level->rule.mode = CS_FUNNEL_ORDERED;
	level->rule.within = within;
	level->rule.max_length = PG_INT64_MAX;
	level->rule.optional = 0;
	level->rule.strict_increase = (modes & CS_LEVEL_INCREASE) != 0;
	level->modes = modes;
	level->level = 0;
	level->over = false;
	level->any = false;
	level->blank = false;
	level->steps = 0;
	level->again = 0;
	level->n = 0;
	if ((modes & CS_LEVEL_ONCE) != 0)
	{
		level->funnel = cs_funnel_init(level->memory, &level->rule);
		memset(level->count, 0, sizeof(level->count));
	}
}

/* A chain has got there. */
static void
reach(CsLevel *level, int reached)
{
	level->level = Max(level->level, reached);
	if (level->level == level->rule.nsteps)
		level->over = true;
}

/*
 * May step k (from 0) be looked at?  If not, and a strict mode says that
 * nothing may follow it, all is over.
 */
static bool
admit(CsLevel *level, int k)
{
	if (k == 0)
		return true;
	if ((level->modes & CS_LEVEL_DEDUPLICATION) != 0 && k < level->level)
	{
		level->over = true;
		return false;
	}
	if (k <= level->level)
		return true;
	if ((level->modes & CS_LEVEL_ORDER) != 0 && (level->modes & CS_LEVEL_REENTRY) == 0 && level->level > 0)
		level->over = true;
	return false;
}

/* ---- rows that may take many steps ---- */

static void
close_plain(CsLevel *level)
{
	int64 t = level->time;

	for (uint32 left = level->steps; left != 0 && !level->over; left &= left - 1)
	{
		int k = pg_rightmost_one_pos32(left);

		if (!admit(level, k))
			continue;
		if (k == 0)
			level->start[0] = t;
		else if (k <= level->level && cs_funnel_may_step(&level->rule, level->start[k - 1], level->last[k - 1], t))
			level->start[k] = level->start[k - 1];
		else
			continue;
		level->last[k] = t;
		reach(level, k + 1);
		/* the second one finds the step taken */
		if (k > 0 && (level->again & left & -left) != 0 && (level->modes & CS_LEVEL_DEDUPLICATION) != 0)
			level->over = true;
	}
}

/* ---- rows that are one step each ---- */

void
cs_level_keep(CsLevel *level, uint32 mask)
{
	bool needed = false;

	for (uint32 left = mask; left != 0; left &= left - 1)
		needed |= level->count[pg_rightmost_one_pos32(left)]++ <= level->rule.nsteps;
	if (needed)
		level->rows[level->n++] = (CsFunnelEvent){mask, 0};
}

/* Has a chain of level k + 1 come of the rows of this time? */
static bool
in_group(const CsLevel *level, int k)
{
	CsFunnelMatch match;
	int64		  start;

	cs_funnel_match_fill(&match, level->rule.nsteps, level->rows, level->n);
	if ((match.any & ((uint32) 1 << k)) == 0)
		return false;
	for (int a = k; a >= 0; a--)
	{
		int taken = a;

		if (a < k && level->rule.strict_increase)
			return false;
		if (!cs_funnel_can_extend(&level->rule, level->funnel, a, level->time, &start))
			continue;
		cs_funnel_match_reset(&match);
		while (taken <= k && cs_funnel_match_step(&match, taken))
			taken++;
		if (taken > k)
			return true;
	}
	return false;
}

/* The same without the last of the rows that meet condition k. */
static bool
in_group_but_one(CsLevel *level, int k)
{
	uint32 bit = (uint32) 1 << k;
	int	   i = level->n - 1;
	bool   result;

	while ((level->rows[i].steps & bit) == 0)
		i--;
	level->rows[i].steps ^= bit;
	result = in_group(level, k);
	level->rows[i].steps ^= bit;
	return result;
}

/* What the strict modes say of the entries of this time, one after the other. */
static void
judge_group(CsLevel *level)
{
	for (uint32 left = level->steps; left != 0 && !level->over; left &= left - 1)
	{
		int k = pg_rightmost_one_pos32(left);

		if (!admit(level, k) || k < level->level)
			continue;
		if (k == 0 || in_group(level, k))
			reach(level, k + 1);
		if (k > 0 && k < level->level && (level->again & left & -left) != 0 &&
			(level->modes & CS_LEVEL_DEDUPLICATION) != 0 && in_group_but_one(level, k))
			level->over = true;
	}
}

static void
close_once(CsLevel *level)
{
	CsFunnel *f = level->funnel;
	int		  opener;

	if (f->open && level->time > cs_funnel_last_moment(&level->rule, f))
		cs_funnel_reset(f);
	if ((level->modes & (CS_LEVEL_DEDUPLICATION | CS_LEVEL_ORDER)) != 0)
		judge_group(level);
	if (level->over || level->n == 0)
		return;
	(void) cs_funnel_take(&level->rule, f, level->time, level->rows, level->n, &opener);
	reach(level, f->level);
}

/* All rows of one time are there. */
void
cs_level_close(CsLevel *level)
{
	if (level->blank && level->level > 0 && (level->modes & CS_LEVEL_ORDER) != 0)
		level->over = true;
	else if ((level->modes & CS_LEVEL_ONCE) != 0)
	{
		close_once(level);
		level->n = 0;
		memset(level->count, 0, sizeof(level->count));
	}
	else
		close_plain(level);
	level->any = false;
	level->blank = false;
	level->steps = 0;
	level->again = 0;
}

int
cs_level_result(CsLevel *level)
{
	if (level->any && !level->over)
		cs_level_close(level);
	return level->level;
}
