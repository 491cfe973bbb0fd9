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

/* Delete those of a stream that arrived before then; how many. */
extern int64 cs_letters_trim(int32 stream_id, TimestampTz before);

#endif
