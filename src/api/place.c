/*
 * api/place.c
 *	  place(): an event's place in its stream as bytes that sort like it.
 *
 * Time, topic, partition, offset, so that comparing two places as bytes
 * compares them in that order: integers big-endian with the sign bit turned,
 * the topic's name ended by a zero byte, which no name holds.
 */
#include "postgres.h"

#include "api/args.h"
#include "port/pg_bswap.h"

PG_FUNCTION_INFO_V1(clickstream_place);

static char *
put_int64(char *to, int64 value)
{
	uint64 bits = pg_hton64((uint64) value ^ (UINT64CONST(1) << 63));

	memcpy(to, &bits, sizeof(bits));
	return to + sizeof(bits);
}

static char *
put_int32(char *to, int32 value)
{
	uint32 bits = pg_hton32((uint32) value ^ ((uint32) 1 << 31));

	memcpy(to, &bits, sizeof(bits));
	return to + sizeof(bits);
}

Datum
clickstream_place(PG_FUNCTION_ARGS)
{
	text  *topic = PG_GETARG_TEXT_PP(1);
	Size   topic_length = VARSIZE_ANY_EXHDR(topic);
	Size   size = VARHDRSZ + sizeof(int64) + topic_length + 1 + sizeof(int32) + sizeof(int64);
	bytea *result = palloc(size);
	char  *to = VARDATA(result);

	SET_VARSIZE(result, size);
	to = put_int64(to, PG_GETARG_TIMESTAMPTZ(0));
	memcpy(to, VARDATA_ANY(topic), topic_length);
	to += topic_length;
	*to++ = '\0';
	to = put_int32(to, PG_GETARG_INT32(2));
	(void) put_int64(to, PG_GETARG_INT64(3));
	PG_RETURN_BYTEA_P(result);
}
