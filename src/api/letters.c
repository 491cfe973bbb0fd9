/*
 * api/letters.c
 *	  trim_letters(): old dead letters and late events go.
 */
#include "api/define.h"

#include "core/clock.h"
#include "core/letters.h"

PG_FUNCTION_INFO_V1(clickstream_trim_letters);

/* Longest time that may be named, in µs: about a hundred years. */
#define KEEP_MAX (INT64CONST(36600) * USECS_PER_DAY)

/* trim_letters(stream text, keep interval, max_rows bigint) returns bigint */
Datum
clickstream_trim_letters(PG_FUNCTION_ARGS)
{
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "stream"), CurrentMemoryContext);
	int64	  keep = cs_span(cs_arg_required_interval(fcinfo, 1, "keep"), "keep", 0, KEEP_MAX);

	cs_stream_check_owner(stream);
	PG_RETURN_INT64(cs_letters_trim(stream->stream_id, cs_now() - keep, cs_arg_max_rows(fcinfo, 2)));
}
