/*
 * operator/open_starts.h
 *	  How many open things of an operator start when: what a rollup asks
 *	  before it calls a bucket final.
 *
 * Follows each change of a batch at once; cs_open_starts_end_batch() keeps the
 * changes or takes them back.  Derived from the entries, so rebuilt by
 * cs_open_starts_clear() and cs_open_starts_load() after recovery.
 */
#ifndef CS_OPERATOR_OPEN_STARTS_H
#define CS_OPERATOR_OPEN_STARTS_H

#include "core/types.h"

typedef struct CsOpenStarts CsOpenStarts;

extern CsOpenStarts *cs_open_starts_create(MemoryContext cxt);
extern void			 cs_open_starts_clear(CsOpenStarts *starts);
/* A committed entry has something open that starts then. */
extern void cs_open_starts_load(CsOpenStarts *starts, TimestampTz start);
/* This batch opened (+1) or closed (-1) something. */
extern void cs_open_starts_change(CsOpenStarts *starts, TimestampTz start, int delta);
extern void cs_open_starts_end_batch(CsOpenStarts *starts, bool committed);
/* Nothing open starts before that: it is the minute of the first start; CS_WM_DONE: nothing is open. */
extern TimestampTz cs_open_starts_first(CsOpenStarts *starts);
/* Does anything open start in [start, end)? */
extern bool cs_open_starts_in(CsOpenStarts *starts, TimestampTz start, TimestampTz end);

#endif
