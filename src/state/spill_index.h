/*
 * state/spill_index.h
 *	  The keys of one definition's spilled entries, and when each is due.
 *
 * Says without a look at the table that a key has nothing there, and which
 * spilled entry is due.  There are many times more of them than entries in
 * memory: 24 bytes each, in tables of their own that are mostly four fifths
 * full.
 *
 * A key is known by 128 bits: who, for entries without a bucket, which are the
 * only ones in timers; who and bucket mixed, for the others.
 *
 * No locking: private to the process.
 */
#ifndef CS_STATE_SPILL_INDEX_H
#define CS_STATE_SPILL_INDEX_H

#include "core/types.h"

typedef struct CsSpillIndex CsSpillIndex;

/* Without a bucket: whose entry is due, and when. */
typedef struct CsSpillDue
{
	CsHash128	who;
	TimestampTz due;
} CsSpillDue;

extern CsSpillIndex *cs_spill_index_create(MemoryContext cxt);
extern void			 cs_spill_index_add(CsSpillIndex *index, const CsKey *key, TimestampTz due);
/* It will be asked for soon. */
extern void cs_spill_index_prefetch(const CsSpillIndex *index, const CsKey *key);
/* Is the key there?  When is it due? */
extern bool cs_spill_index_has(const CsSpillIndex *index, const CsKey *key, TimestampTz *due);
extern void cs_spill_index_remove(CsSpillIndex *index, const CsKey *key);
/* Give back memory of what has gone. */
extern void	 cs_spill_index_shrink(CsSpillIndex *index);
extern int64 cs_spill_index_count(const CsSpillIndex *index);
extern int64 cs_spill_index_bytes(const CsSpillIndex *index);

/*
 * Those that are due by then, or whose due lies in (after, upto]: at most max of
 * them, palloc'd; *more says that there are others.  The caller reads them from
 * the table, which takes them out of the index.
 */
extern CsSpillDue *cs_spill_index_due(CsSpillIndex *index, TimestampTz upto, int max, int *n, bool *more);
extern CsSpillDue *cs_spill_index_between(CsSpillIndex *index, TimestampTz after, TimestampTz upto, int max, int *n,
										  bool *more);
/* The first due later than that, CS_WM_DONE if there is none. */
extern TimestampTz cs_spill_index_next(CsSpillIndex *index, TimestampTz after);
/* What a batch that failed was given by cs_spill_index_due() is given again. */
extern void cs_spill_index_end_batch(CsSpillIndex *index, bool committed);

#endif
