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
#include "utils/jsonb.h"

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

/* A message that could not be used, and that may be now. */
typedef struct CsLetter
{
	int64		id;
	char	   *topic;
	int32		partition;
	int64		offset;
	TimestampTz timestamp; /* the message's, or CS_WM_NONE */
	TimestampTz arrived_at;
	char	   *key; /* bytes; NULL: none */
	size_t		key_len;
	char	   *payload; /* bytes; NULL: none */
	size_t		payload_len;
	Jsonb	   *headers;
} CsLetter;

/*
 * The dead letters with these numbers (an int8 array) that are the stream's,
 * of whole messages, and still dead: by place, *n of them in the current
 * context, locked.  payloads (a text array beside ids) are what they shall
 * have instead; NULL: what they had.
 */
extern CsLetter *cs_letters_load(int32 stream_id, Datum ids, Datum payloads, int *n);

/* A letter was run again, and is none any more: what became of it. */
extern void cs_letter_repaired(const CsLetter *letter, const char *outcome, TimestampTz now);
/* It was, and is dead again, of this. */
extern void cs_letter_dead_again(const CsLetter *letter, const char *cause, const char *error, const char *sqlstate,
								 TimestampTz now);

/* Those of a definition that were applied, or those that were not, by event time; *n of them in the current context. */
extern CsLateRow *cs_late_rows(int32 definition_id, bool applied, int *n);

/* Have late events of a definition been trimmed that were not applied? */
extern bool cs_late_rows_trimmed(int32 definition_id);

/* They are in the definition's results now. */
extern void cs_late_rows_applied(const int64 *ids, int n, TimestampTz now);

#endif
