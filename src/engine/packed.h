/*
 * engine/packed.h
 *	  A message that a decode worker has dealt with, as bytes without pointers:
 *	  the event with its columns, visitor and hashes, or why it is dead, and the
 *	  message itself, for dead letters and whoever reads its key.
 *
 * Every place in it is a number of bytes from its begin, which lies as palloc()
 * would have it.  Both sides run the same library on the same machine, so it
 * has no version.
 */
#ifndef CS_ENGINE_PACKED_H
#define CS_ENGINE_PACKED_H

#include "engine/internal.h"

#include "lib/stringinfo.h"

/* Append len bytes where palloc() could have put them; where that is.  len of 0 is fine. */
extern Size cs_packed_append(StringInfo buffer, const void *data, Size len);

/* Append a message; its place.  partition: its number among those that the decode worker reads; letter: of a dead one. */
extern Size cs_packed_add(const CsEngine *e, StringInfo buffer, int partition, const CsEvent *event,
						  const CsDeadLetter *letter);

/* How long it is; its partition. */
extern Size cs_packed_size(const CsPackedEvent *packed);
extern int	cs_packed_partition(const CsPackedEvent *packed);

/* It will be read soon; its columns sooner: the head must be there by then. */
extern void cs_packed_prefetch_head(const CsPackedEvent *packed);
extern void cs_packed_prefetch_columns(const CsPackedEvent *packed);

/* The message in it, but for its partition; sources of messages that are not packed leave "packed" NULL. */
extern void cs_packed_message(const CsPackedEvent *packed, CsMessage *message);
/* Its headers, copied to the current context, or NULL; *length as CsSourceOps.headers() has it. */
extern Jsonb *cs_packed_headers(const CsPackedEvent *packed, size_t *length);

/*
 * Columns, time, class, visitor and hashes into the event; what is not by value
 * stays where it is.  False: it is dead, for these reasons.
 */
extern bool cs_packed_read(const CsEngine *e, const CsPackedEvent *packed, CsEvent *event, const char **cause,
						   const char **error, int *sqlerrcode);

#endif
