/*
 * engine/dedupe.h
 *	  dedupe_by: events whose expression has a value that was seen before, no
 *	  longer ago than dedupe_horizon in event time behind the watermark.
 */
#ifndef CS_ENGINE_DEDUPE_H
#define CS_ENGINE_DEDUPE_H

#include "engine/internal.h"

#define DEDUPE_DEFINITION 0 /* no definition has this id */
/* Nor this one: values that a definition's own history has brought. */
#define CS_DEDUPE_OF(definition_id) ((definition_id) | (1 << 30))

/* Tell the state of our entries under that id; before recovery. */
extern void cs_dedupe_register(CsEngine *e, int32 definition_id);
/* The chunk's events in order of arrival: later copies become duplicates.  By e->dedupe_definition, as all from here. */
extern void cs_dedupe_run(CsEngine *e);
/* Raise if an entry cannot be read. */
extern void cs_dedupe_check(const CsEntry *entry);
/* Forget values whose horizon is over. */
extern void cs_dedupe_advance(CsEngine *e);
/* Forget all values under an id. */
extern void cs_dedupe_forget(CsEngine *e, int32 definition_id);

#endif
