/*
 * sink/row_places.h
 *	  Where rows of a table lie, from batch to batch: hints.
 *
 * A row that grows is rewritten every few seconds, and its key's index would
 * be searched for it each time.  So whoever has written a row notes its place
 * under the hash of its key.  The place is a hint: another row may have taken
 * the note's slot, the user may have changed the row, VACUUM FULL may have
 * moved it.  What lies there is taken only if it is visible and has the key.
 *
 * No locking: private to the process that writes the table.
 */
#ifndef CS_SINK_ROW_PLACES_H
#define CS_SINK_ROW_PLACES_H

#include "postgres.h"

#include "storage/itemptr.h"

#define CS_ROW_PLACES 65536 /* a power of two: half a megabyte for a table whose rows are rewritten */

typedef struct CsRowPlace
{
	uint16			tag; /* of the key's hash, what the slot's number does not say */
	ItemPointerData tid; /* invalid: none is known */
} CsRowPlace;

typedef struct CsRowPlaces
{
	MemoryContext context;
	CsRowPlace	 *places; /* NULL until a row is looked for */
} CsRowPlaces;

static inline CsRowPlace *
cs_row_place(CsRowPlaces *p, uint64 hash)
{
	return &p->places[hash & (CS_ROW_PLACES - 1)];
}

static inline void
cs_row_places_note(CsRowPlaces *p, uint64 hash, ItemPointer tid)
{
	if (p && p->places)
		*cs_row_place(p, hash) = (CsRowPlace){(uint16) (hash >> 48), *tid};
}

/* NULL: not known. */
static inline ItemPointer
cs_row_places_find(CsRowPlaces *p, uint64 hash)
{
	CsRowPlace *place;

	if (p == NULL)
		return NULL;
	if (p->places == NULL) /* zeroed: no place is valid */
		p->places = MemoryContextAllocZero(p->context, CS_ROW_PLACES * sizeof(CsRowPlace));
	place = cs_row_place(p, hash);
	return place->tag == (uint16) (hash >> 48) && ItemPointerIsValid(&place->tid) ? &place->tid : NULL;
}

#endif
