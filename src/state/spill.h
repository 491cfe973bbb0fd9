/*
 * state/spill.h
 *	  Committed entries that are not in memory but in the spill table.
 *
 * A committed entry's newest form is in exactly one place, and CsEntry.half
 * says in which: in a half of the log, or in the spill table (CS_HALF_TABLE).
 * Of the latter those that are in memory as well were read back and have not
 * changed since; of all others only the key is in memory, in the index
 * (spill_index.h).  To change an entry that lies in the table takes its row away,
 * in the same transaction that logs the change; to evict one that lies in the
 * log writes a row, and a mark into the log that says so.
 *
 * So a reader's snapshot sees an entry once: where it lay at that commit.
 *
 * Distinct sets go on their own: as a set only grows, its members up to
 * on_table lie in the table, and those behind in the log.
 */
#ifndef CS_STATE_SPILL_H
#define CS_STATE_SPILL_H

#include "state/internal.h"
#include "state/spill_index.h"

/* What a state keeps for its spill table. */
typedef struct CsSpill
{
	Oid		   relation;
	int64	   count;	/* entries in the table that are not in memory */
	int64	   loaded;	/* bytes read back by this batch */
	bool	   warned;	/* that memory does not suffice */
	CsEntry	 **victims; /* leave memory when this batch commits */
	int64	   nvictims, victims_capacity;
	CsBigSet **set_victims;
	int		   nset_victims, set_victims_capacity;
	CsKey	  *wanted; /* to be read together */
	int		   nwanted, wanted_capacity;
	int32	  *orphans; /* values of column definition that no definition has any more */
	int		   norphans;
} CsSpill;

/* ---- reading back: spill.c ---- */

extern void		   cs_spill_attach(CsState *state, const CsStream *stream);
extern CsEntry	  *cs_spill_fetch(CsState *state, const CsKey *key);
extern void		   cs_spill_load_bucket(CsState *state, CsDefState *def, CsBucket *bucket);
extern void		   cs_spill_load_part(CsState *state, CsDefState *def, CsBucket *bucket, CsPart part);
extern void		   cs_spill_load_some(CsState *state, CsDefState *def, CsBucket *bucket, int64 max);
extern void		   cs_spill_load_marked(CsState *state, CsDefState *def, CsBucket *bucket, CsPart part);
extern bool		   cs_spill_load_due(CsState *state, CsDefState *def, TimestampTz limit, int max);
extern TimestampTz cs_spill_load_between(CsState *state, CsDefState *def, TimestampTz after, TimestampTz limit,
										 int max);
extern TimestampTz cs_spill_next_due(CsDefState *def, TimestampTz after);
extern void		   cs_spill_walk(CsState *state, CsDefState *def, void (*visit)(CsEntry *entry, void *arg), void *arg);
/* Have a set's members in memory. */
extern void cs_spill_load_set(CsBigSet *set);
/* After the log was folded: what lies in the table, and nowhere in it. */
extern void cs_spill_recover(CsState *state, Snapshot snapshot);
/* Memory of the index. */
extern int64 cs_spill_bytes(const CsState *state);
/* An entry whose newest form is in the table, and which is not in memory or about to leave it. */
extern void cs_spill_index_entry(CsState *state, CsDefState *def, const CsEntry *entry);

static inline int64
cs_spilled(const CsDefState *def)
{
	return def->spilled ? cs_spill_index_count(def->spilled) : 0;
}

/* ---- eviction: evict.c ---- */

/* While the batch is logged: rows of what has changed go, rows of what is evicted come. */
struct LogWriter;
extern void cs_evict_log(CsState *state, struct LogWriter *log, int64 commit_number);
extern void cs_evict_publish(CsState *state);
extern void cs_evict_abort(CsState *state);

/* log.c: marks that what the log has said of it up to here is in the table. */
extern void cs_log_spilled(struct LogWriter *log, const CsKey *key);
extern void cs_log_set_spilled(struct LogWriter *log, uint64 id);

#endif
