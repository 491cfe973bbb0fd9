/*
 * api/place.c
 *	  place(): an event's place in its stream as bytes that sort like it; see
 *	  core/place.h.
 */
#include "postgres.h"

#include "api/args.h"
#include "core/place.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(clickstream_place);

Datum
clickstream_place(PG_FUNCTION_ARGS)
{
	return cs_place_encode(PG_GETARG_TIMESTAMPTZ(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_INT32(2),
						   PG_GETARG_INT64(3));
}
