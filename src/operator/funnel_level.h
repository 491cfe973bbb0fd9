/*
 * operator/funnel_level.h
 *	  How far did a key come in a funnel: stored events, ClickHouse's rules.
 *
 * The answer of ClickHouse's windowFunnel, mode by mode, for the aggregate
 * window_funnel().  Rows are fed one by one in order of time:
 *
 *	cs_level_init(&level, nsteps, within, modes);
 *	for each row, until it returns false:
 *		cs_level_feed(&level, time, mask)
 *	cs_level_result(&level)
 *
 * Rows of equal time are gathered and looked at together, for ClickHouse sorts
 * what they meet by condition.  In which order they come matters only to
 * DEDUPLICATION with ONCE, which ask which row took a step first.
 *
 * Allocates nothing, raises nothing, locks nothing; test/unit runs it without
 * a server.
 */
#ifndef CS_OPERATOR_FUNNEL_LEVEL_H
#define CS_OPERATOR_FUNNEL_LEVEL_H

#include "postgres.h"

#include "operator/funnel_core.h"

/* ClickHouse's modes, which go together in any combination; REENTRY needs ORDER. */
#define CS_LEVEL_DEDUPLICATION 0x01 /* a step met again ends it */
#define CS_LEVEL_ORDER 0x02			/* a row that is not the next step ends it */
#define CS_LEVEL_INCREASE 0x04		/* steps have different times */
#define CS_LEVEL_ONCE 0x08			/* a row is one step only */
#define CS_LEVEL_REENTRY 0x10		/* with ORDER: a step that comes too early is passed over */

/* Rows of one time that can matter to mode ONCE: of each step one more than a chain can use. */
#define CS_LEVEL_MAX_KEPT (CS_FUNNEL_MAX_STEPS * (CS_FUNNEL_MAX_STEPS + 1))

/* Bytes of a CsFunnel of mode ordered. */
#define CS_LEVEL_MEMORY (MAXALIGN(sizeof(CsFunnel)) + sizeof(int64) * CS_FUNNEL_MAX_STEPS * (CS_FUNNEL_MAX_STEPS + 1))

typedef struct CsLevel
{
	CsFunnelRule rule;
	int			 modes;
	int			 level; /* a chain has got there, in time or not any more */
	bool		 over;	/* nothing that comes changes it */

	/* rows of one time */
	bool   any;
	int64  time;
	bool   blank; /* one meets no condition */
	uint32 steps; /* conditions that are met, ... */
	uint32 again; /* ... and by more than one row */

	/* without ONCE: of each level the chain that was made last */
	int64 start[CS_FUNNEL_MAX_STEPS];
	int64 last[CS_FUNNEL_MAX_STEPS];

	/* with ONCE: the streaming funnel's chains, and the rows of one time */
	CsFunnel	 *funnel;
	int			  n;
	int			  count[CS_FUNNEL_MAX_STEPS];
	CsFunnelEvent rows[CS_LEVEL_MAX_KEPT];
	int64		  memory[CS_LEVEL_MEMORY / sizeof(int64)];
} CsLevel;

extern void cs_level_init(CsLevel *level, int nsteps, int64 within, int modes);
extern int	cs_level_result(CsLevel *level);

/* ---- called by cs_level_feed() ---- */

extern void cs_level_close(CsLevel *level);
extern void cs_level_keep(CsLevel *level, uint32 mask);

/* A row, not earlier than the one before it.  False: no further one is needed. */
static inline bool
cs_level_feed(CsLevel *level, int64 time, uint32 mask)
{
	if (!level->any || time != level->time)
	{
		if (level->any)
			cs_level_close(level);
		if (level->over)
			return false;
		level->any = true;
		level->time = time;
	}
	level->blank |= mask == 0;
	level->again |= level->steps & mask;
	level->steps |= mask;
	if ((level->modes & CS_LEVEL_ONCE) != 0)
		cs_level_keep(level, mask);
	return true;
}

#endif
