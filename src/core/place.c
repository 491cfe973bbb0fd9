/*
 * core/place.c
 *	  Encoding of places; see place.h.
 */
#include "postgres.h"

#include "compat.h"
#include "core/place.h"
#include "port/pg_bswap.h"

static char *
put_int64(char *to, int64 value)
{
	uint64 bits = pg_hton64((uint64) value ^ (UINT64CONST(1) << 63));

	return (char *) memcpy(to, &bits, sizeof(bits)) + sizeof(bits);
}

static char *
put_int32(char *to, int32 value)
{
	uint32 bits = pg_hton32((uint32) value ^ ((uint32) 1 << 31));

	return (char *) memcpy(to, &bits, sizeof(bits)) + sizeof(bits);
}

Datum
cs_place_encode(TimestampTz time, const char *topic, int32 partition, int64 offset)
{
	Size   topic_size = strlen(topic) + 1;
	Size   size = VARHDRSZ + sizeof(int64) + topic_size + sizeof(int32) + sizeof(int64);
	bytea *result = palloc(size);
	char  *to = VARDATA(result);

	SET_VARSIZE(result, size);
	to = put_int64(to, time);
	to = (char *) memcpy(to, topic, topic_size) + topic_size;
	to = put_int32(to, partition);
	(void) put_int64(to, offset);
	return PointerGetDatum(result);
}
