/*
 * sink/source_rows.h
 *	  Reading result tables back, for rollups whose bucket is made anew.
 *
 * By SPI, as the current user, who owns the tables; sees this batch's rows
 * once they are flushed.
 */
#ifndef CS_SINK_SOURCE_ROWS_H
#define CS_SINK_SOURCE_ROWS_H

#include "core/types.h"

/* Call row for each row of the table with column in [start, end) that is closed. */
extern void cs_source_rows(Oid table, const char *column, TimestampTz start, TimestampTz end,
						   void (*row)(TupleTableSlot *row, void *arg), void *arg);

/* Call row with group_key and revision of each row that the rollup's table has for a window. */
extern void cs_rollup_revisions(Oid table, TimestampTz										   window_start,
								void (*row)(Datum group_key, int32 revision, void *arg), void *arg);

#endif
