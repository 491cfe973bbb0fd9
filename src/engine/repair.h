/*
 * engine/repair.h
 *	  Late events put into results, by making what they touch again from the
 *	  event log.
 *
 *	apply_late.c		the transaction: what is applied, what is counted
 *	repair_windows.c	windows: rows of (window, group)
 *	repair_keys.c		sessions, funnels: what a key did between two pauses
 *
 * Only what is closed for good is touched: then the stream's own state holds
 * nothing of it, and nothing but rows has to change.  A late event for which
 * that cannot be said is refused, with the reason.
 */
#ifndef CS_ENGINE_REPAIR_H
#define CS_ENGINE_REPAIR_H

#include "core/event_log_read.h"
#include "core/letters.h"
#include "engine/replay.h"
#include "utils/hsearch.h"

/* A late event of the definition that was not applied before. */
typedef struct CsLate
{
	CsLateRow row;
	int		  topic;	/* index, -1: no longer the stream's */
	bool	  selected; /* asked for */
	bool	  found;	/* in the event log */
	CsClass class;
	CsReplayEvent event;
	CsHash128	  key;	   /* whose it is; sessions and funnels */
	const char	 *refused; /* why not, or NULL */
} CsLate;

typedef struct CsRepair
{
	CsEngine	 *e;
	CsStage		 *stage;
	CsReplay	 *replay;
	Oid			  log;
	MemoryContext context; /* of the whole repair */
	CsLate		 *lates;   /* by event time */
	int			  nlates;
	HTAB		 *by_place; /* of lates */
	TimestampTz	  settled;	/* what ended by then is closed and cannot change any more */
	TimestampTz	  horizon;	/* the log may lack events from before */
	TimestampTz	  deleted;	/* rows that start before may have been deleted by retention */
	bool		  trimmed;	/* late events that were not applied are not known any more */
} CsRepair;

/* Why what rows may be missing of is left alone. */
#define CS_REPAIR_DELETED "rows as old as what it belongs to may have been deleted by retention"
/* Why what the definition may not have counted is left alone. */
#define CS_REPAIR_TRIMMED "other late events of what it belongs to may have been trimmed"

/* The late event of a place, or NULL. */
extern CsLate *cs_repair_find(CsRepair *r, const CsPlace *place);
/* Is the event, if the definition's expressions take it, in the results, or to be?  Unsure: it may be a trimmed late event. */
extern bool cs_repair_takes(CsRepair *r, const CsPlace *place, const CsLogged *logged, bool *unsure);
/* Is it to be applied, and nothing has come in between? */
static inline bool
cs_late_is_open(const CsLate *late)
{
	return late->selected && late->refused == NULL;
}

/*
 * Write a row as the replay made it, if the table has it otherwise or not at
 * all; its revision is one more than that of the row that was there, and at
 * least revision.
 */
extern void cs_repair_write(CsRepair *r, const CsReplayRow *row, int32 revision);
/* Delete the row with this key (values as the operator's columns). */
extern void cs_repair_delete(CsRepair *r, Datum *values, bool *isnull);
/* Revision of the row with this key; -1 if there is none. */
extern int32 cs_repair_revision(CsRepair *r, Datum *values, bool *isnull);

/*
 * Set a repair up: the definition's late events that are not applied, of which
 * those in [from, to) are asked for; or (applied) all, of which those that are
 * applied are asked for: as if they were to be applied again.
 */
extern void cs_repair_begin(CsRepair *r, CsEngine *e, CsStage *stage, CsReplay *replay);
extern void cs_repair_load(CsRepair *r, bool applied, TimestampTz from, TimestampTz to);

typedef void (*CsRepairedRow)(CsRepair *r, const CsReplayRow *row, void *arg);
/* Make the rows of windows that late events belong to. */
extern void cs_repair_windows_make(CsRepair *r, CsRepairedRow row, void *arg);
extern void cs_repair_windows(CsRepair *r);
extern void cs_repair_keys(CsRepair *r);

#endif
