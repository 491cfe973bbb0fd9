/*
 * core/value_bytes.c
 *	  Of which types equal values have equal bytes.
 */
#include "core/value_bytes.h"

#include "catalog/pg_type.h"
#include "utils/lsyscache.h"

CsValueBytes
cs_value_bytes(Oid type, Oid collation)
{
	switch (getBaseType(type))
	{
		case BOOLOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return CS_BYTES_OF_DATUM;
		case UUIDOID:
			return CS_BYTES_FIXED;
		case BYTEAOID:
			return CS_BYTES_VARLENA;
		case TEXTOID:
		case VARCHAROID:
			return !OidIsValid(collation) || get_collation_isdeterministic(collation) ? CS_BYTES_VARLENA
																					  : CS_BYTES_DIFFER;
		default:
			return CS_BYTES_DIFFER;
	}
}
