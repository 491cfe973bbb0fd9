/*
 * core/lazy_jsonb.h
 *	  A jsonb value that is made when somebody looks at it.
 *
 * To PostgreSQL it is an expanded object: every function that takes a jsonb
 * detoasts its argument, datumCopy() and heap_form_tuple() flatten it, and all
 * of them get a jsonb like any other.  Who knows of it can ask for a member's
 * text without that: operator/expression.c.
 *
 * Belongs to one process and to the memory context that it was made in.
 */
#ifndef CS_CORE_LAZY_JSONB_H
#define CS_CORE_LAZY_JSONB_H

#include "postgres.h"

#include "utils/expandeddatum.h"
#include "utils/jsonb.h"

typedef struct CsLazyJsonb CsLazyJsonb;

/* What object ->> key is. */
typedef enum CsLazyFound
{
	CS_LAZY_NULL,
	CS_LAZY_TEXT,
	CS_LAZY_OTHER /* text of something that is no string: ask the jsonb */
} CsLazyFound;

/* The real value, in that context. */
typedef Jsonb *(*CsLazyMake)(CsLazyJsonb *lazy, MemoryContext context);
/* A member's text; of the object's memory. */
typedef CsLazyFound (*CsLazyMember)(const CsLazyJsonb *lazy, const char *key, uint32 key_len, const char **text,
									uint32 *len);

struct CsLazyJsonb
{
	ExpandedObjectHeader header;
	CsLazyMake			 make;
	CsLazyMember		 member;
	Jsonb				*made; /* once somebody has looked */
};

/* Fill the head of an object that lies in the current context; the Datum to hand out. */
extern Datum cs_lazy_jsonb_init(CsLazyJsonb *lazy, CsLazyMake make, CsLazyMember member);
/* The object behind a varlena, or NULL: it is a jsonb of the usual kind. */
extern const CsLazyJsonb *cs_lazy_jsonb_of(Datum value);

#endif
