/*
 * state/spill.h
 *	  Committed entries that are not in memory but in the spill table.
 *
 * A committed entry's newest form is in exactly one place, and CsEntry.half
 * says in which: in a half of the log, or in the spill table (CS_HALF_TABLE).
 * Of the latter only the key is in memory, in the index (spill_index.h), but for
 * those that a batch needs: its guests, until it ends (guest.c).  An entry of the
 * table that a batch changes has its row updated, or comes home: then its row
 * goes, in the same transaction that logs its image.  One that leaves memory gets
 * a row, and a mark into the log that says so if that knows it; a batch's new
 * entries may go there at once.
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
#include "state/spill_table.h"

/* What a state keeps for its spill table. */
typedef struct CsSpill
{
	Oid		   relation;
	int64	   count;	/* entries in the table that are not in memory */
	int64	   nguests; /* those that are, for this batch */
	int64	   loaded;	/* bytes of sets read back by this batch: these stay in the state's memory */
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

/* Bytes that may be damaged are not asked. */
static inline bool
cs_spill_is_marked(const CsState *state, const CsDefState *def, const CsEntry *entry)
{
	return def->is_marked && !state->lenient && def->is_marked(entry);
}

/* damage.c: that row cannot be read. */
pg_noreturn extern void cs_spill_corrupt(CsState *state, const CsSpillRow *row);
/* The log has that entry, too. */
pg_noreturn extern void cs_spill_doubled(CsState *state, const CsKey *key);

/* ---- guests: guest.c ---- */

/* An entry whose newest form is in the table, and which is not in memory or about to leave it. */
extern void cs_spill_index_entry(CsState *state, CsDefState *def, const CsEntry *entry);
/* A row of a key that the index has. */
extern void cs_guest_take_in(CsState *state, CsDefState *def, const CsSpillRow *row, TimestampTz due);
/* It is an entry of the state from here on, or deleted. */
extern void cs_guest_remove(CsState *state, CsDefState *def, CsEntry *guest);
/* Its row, but for the bytes, if that is damaged; NULL: it is not. */
extern const CsSpillRow *cs_guest_damage(const CsEntry *entry);
/* Where its row lies, if that is known: else not valid. */
extern ItemPointerData cs_guest_tid(const CsEntry *guest);
/* The batch has ended: those that are left are in the table only. */
extern void cs_guests_leave(CsState *state);
/* After a commit: give back memory of what found them, and spilled ones. */
extern void cs_guests_left(CsState *state);

static inline int64
cs_spilled(const CsDefState *def)
{
	return def->spilled ? cs_spill_index_count(def->spilled) : 0;
}

/* ---- eviction: evict.c ---- */

/* Has it changed an entry of the table? */
static inline bool
cs_work_is_guests(const CsWork *work)
{
	return work->base && work->base_half == CS_HALF_TABLE;
}

static inline bool
cs_work_is_unchanged(const CsWork *work)
{
	return work->base_len == work->image_len && memcmp(cs_entry_bytes(work->base), work->image, work->image_len) == 0;
}

/* While a batch is logged. */
struct LogWriter;
typedef struct CsEviction
{
	CsState			 *state;
	struct LogWriter *log;
	CsSpillWriter	 *writer; /* opened when the first row is written or deleted */
	int64			  commit_number;
} CsEviction;

/* Will memory perhaps not do for what the batch has made?  Asked before it is logged. */
extern bool cs_evict_is_tight(const CsState *state);
/*
 * What leaves memory: entries that the batch has not changed get their rows,
 * and where it is tight, works that do not stay are told so (CsWork.spills).
 * There the batch's images must be known.
 */
extern void cs_evict_choose(CsEviction *e, bool tight);
/* The row of a work that spills. */
extern void cs_evict_work(CsEviction *e, const CsWork *work);
/* A work whose entry lies in the table is deleted, or does not spill. */
extern void cs_evict_forget_row(CsEviction *e, const CsWork *work);
/* The rest of the table's changes. */
extern void cs_evict_end(CsEviction *e);
extern void cs_evict_publish(CsState *state);
extern void cs_evict_abort(CsState *state);

/* log.c: marks that what the log has said of it up to here is in the table. */
extern void cs_log_spilled(struct LogWriter *log, const CsKey *key);
extern void cs_log_set_spilled(struct LogWriter *log, uint64 id);

#endif
