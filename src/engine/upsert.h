/*
 * engine/upsert.h
 *	  A stream that keeps a table in step with an upsert topic: the table of a
 *	  lookup.  Beside operators and instead of them.
 *
 * Messages become rows (decode/upsert.h) and are written one after the other
 * as they come, in the batch's transaction: so the table has what the topic
 * says up to the offsets that are committed, exactly once.  There is no
 * state, and no event: time and watermark are those of the messages.
 */
#ifndef CS_ENGINE_UPSERT_H
#define CS_ENGINE_UPSERT_H

#include "core/lookup.h"
#include "engine/internal.h"

extern CsUpsert *cs_upsert_open(const CsStream *stream, const CsLookupTable *target);

/* For cs_guarded_loop(): message i of the chunk into a row. */
extern void cs_upsert_begin_chunk(CsEngine *e, int n);
extern void cs_upsert_step(CsEngine *e, void *arg, int i);
/* Write the chunk's rows. */
extern void cs_upsert_apply(CsEngine *e);

/* The batch ends, so or so. */
extern void cs_upsert_end(CsUpsert *upsert);
extern void cs_upsert_abort(CsUpsert *upsert);

#endif
