/*
 * core/letters.h
 *	  Dead letters and late events as a table that must not grow for ever.
 *
 * What is deleted stays counted in clickstream.trimmed_letter, so that audit()
 * can still prove that every one was kept as long as it was to be.
 *
 * By SPI, as the extension's owner; callers have checked that the user may.
 */
#ifndef CS_CORE_LETTERS_H
#define CS_CORE_LETTERS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* Delete those of a stream that arrived before then, at most so many of each kind; how many. */
extern int64 cs_letters_trim(int32 stream_id, TimestampTz before, int64 limit);

/* An event that came too late for a definition. */
typedef struct CsLateRow
{
	int64		id;
	char	   *topic;
	int32		partition;
	int64		offset;
	TimestampTz event_time;
} CsLateRow;

/* Those of a definition that were applied, or those that were not, by event time; *n of them in the current context. */
extern CsLateRow *cs_late_rows(int32 definition_id, bool applied, int *n);

/* Have late events of a definition been trimmed that were not applied? */
extern bool cs_late_rows_trimmed(int32 definition_id);

/* They are in the definition's results now. */
extern void cs_late_rows_applied(const int64 *ids, int n, TimestampTz now);

#endif
