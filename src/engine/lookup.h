/*
 * engine/lookup.h
 *	  Columns of lookups in the events of a chunk.
 *
 * An event has the values that its lookups' sources had when its batch began:
 * all reads of a batch are under one snapshot, and what was read is kept until
 * the batch ends, in its memory, which bounds the batch (CsEngine.batch).
 * Nothing is kept from one batch to the next.
 */
#ifndef CS_ENGINE_LOOKUP_H
#define CS_ENGINE_LOOKUP_H

#include "engine/internal.h"

/* Compile the stream's lookups of which anything reads a column; marks what their keys need. */
extern void cs_lookups_compile(CsEngine *e);

/* The batch begins: nothing is known. */
extern void cs_lookups_begin(CsEngine *e);
/* A chunk of n events. */
extern void cs_lookups_begin_chunk(CsEngine *e, int n);
/* The keys of the event in the slot; may raise. */
extern void cs_lookups_keys(CsEngine *e, const CsEvent *event);
/* Read what the chunk's events want to know, and put it into them. */
extern void cs_lookups_fill(CsEngine *e);

#endif
