/*
 * core/lazy_jsonb.c
 *	  A jsonb value that is made when somebody looks at it; see lazy_jsonb.h.
 *
 * No locks.
 */
#include "core/lazy_jsonb.h"

static Size
flat_size(ExpandedObjectHeader *header)
{
	CsLazyJsonb *lazy = (CsLazyJsonb *) header;

	if (lazy->made == NULL)
		lazy->made = lazy->make(lazy, header->eoh_context);
	return VARSIZE(lazy->made);
}

/* Asked for the size before. */
static void
flatten_into(ExpandedObjectHeader *header, void *result, Size size)
{
	memcpy(result, ((CsLazyJsonb *) header)->made, size);
}

static const ExpandedObjectMethods methods = {flat_size, flatten_into};

Datum
cs_lazy_jsonb_init(CsLazyJsonb *lazy, CsLazyMake make, CsLazyMember member)
{
	EOH_init_header(&lazy->header, &methods, CurrentMemoryContext);
	lazy->make = make;
	lazy->member = member;
	lazy->made = NULL;
	return EOHPGetRODatum(&lazy->header);
}

const CsLazyJsonb *
cs_lazy_jsonb_of(Datum value)
{
	const ExpandedObjectHeader *header;

	if (!VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value)))
		return NULL;
	header = DatumGetEOHP(value);
	return header->eoh_methods == &methods ? (const CsLazyJsonb *) header : NULL;
}
