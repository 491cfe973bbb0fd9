/*
 * core/value_bytes.h
 *	  Of which types equal values have equal bytes, and where those are.
 *
 * What is hashed or compared by its bytes asks here.  A numeric 1 and 1.0, a
 * citext, an interval, a text of a nondeterministic collation: equal values of
 * several forms.
 */
#ifndef CS_CORE_VALUE_BYTES_H
#define CS_CORE_VALUE_BYTES_H

#include "postgres.h"

typedef enum CsValueBytes
{
	CS_BYTES_DIFFER,   /* equal values may have other bytes; or it is not known */
	CS_BYTES_OF_DATUM, /* the Datum's own */
	CS_BYTES_FIXED,	   /* those it points to, as many as the type is long */
	CS_BYTES_VARLENA   /* a varlena's, without its header */
} CsValueBytes;

/* Of a type, or a domain over it; InvalidOid as collation: compared by bytes. */
extern CsValueBytes cs_value_bytes(Oid type, Oid collation);

#endif
