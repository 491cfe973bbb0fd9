/*
 * api/local_topic.c
 *	  produce, trim_local_topic: the built-in topic of streams without brokers.
 */
#include "api/args.h"

#include "core/clock.h"
#include "core/local_topic.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(clickstream_produce);
PG_FUNCTION_INFO_V1(clickstream_trim_local_topic);

/* produce() trims by the stream's retention once in so many messages. */
#define TRIM_EVERY 4096

static CsLocalStream
find_own(const char *name)
{
	CsLocalStream stream = cs_local_find(name);

	if (!has_privs_of_role(GetUserId(), stream.owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of stream \"%s\"", name)));
	return stream;
}

static int64
trim(int32 stream_id, Interval *keep)
{
	return cs_local_trim(stream_id, cs_now() - cs_span(keep, "keep", 0, PG_INT64_MAX / 4));
}

Datum
clickstream_produce(PG_FUNCTION_ARGS)
{
	CsLocalStream stream = find_own(cs_arg_required(fcinfo, 0, "stream"));
	int32		  partition = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3);
	TimestampTz	  timestamp = PG_ARGISNULL(4) ? cs_now() : PG_GETARG_TIMESTAMPTZ(4);
	Jsonb		 *headers = PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5);
	int64		  offset;

	if (partition < 0 || partition > CS_LOCAL_PARTITION_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("partition must be from 0 to %d", CS_LOCAL_PARTITION_MAX),
						errhint("Partitions of a local topic come into being with their first message.")));
	if (TIMESTAMP_NOT_FINITE(timestamp))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("message_timestamp must be finite")));
	if (headers != NULL && !JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("headers must be a JSON object")));
	offset = cs_local_append(stream.stream_id, partition, cs_arg_text(fcinfo, 2), cs_arg_text(fcinfo, 1), timestamp,
							 headers);
	if (stream.retention != NULL && offset % TRIM_EVERY == TRIM_EVERY - 1)
		(void) trim(stream.stream_id, stream.retention);
	cs_worker_wake(stream.stream_id);
	PG_RETURN_INT64(offset);
}

Datum
clickstream_trim_local_topic(PG_FUNCTION_ARGS)
{
	CsLocalStream stream = find_own(cs_arg_required(fcinfo, 0, "stream"));

	PG_RETURN_INT64(trim(stream.stream_id, cs_arg_required_interval(fcinfo, 1, "keep")));
}
