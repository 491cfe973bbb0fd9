/*
 * api/seek.c
 *	  seek and skip_message: going on behind messages that are not to be used.
 *
 * Only forwards: what is behind has been counted, and would be counted twice.
 * And only to where the topic is: a slip of the pen beyond its end could not be
 * taken back.  The offsets passed over are "skipped" in the ledger.
 *
 * Locks: the stream's row; its worker is held until the transaction ends.
 */
#include "api/define.h"

#include "core/backfill.h"
#include "core/ledger.h"
#include "miscadmin.h"
#include "source/source.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(clickstream_seek);
PG_FUNCTION_INFO_V1(clickstream_skip_message);

/* How long to wait for the broker to say what it has. */
#define BOUNDS_TIMEOUT_MS 10000

/* The position that is meant; topic may be NULL if there is only one of that number. */
static CsPartition *
find_position(const CsStream *stream, int32 id, const char *topic)
{
	CsPartition *found = NULL;
	ListCell	*cell;

	/* What the worker committed until it was held, not what the caller's snapshot knows. */
	PushActiveSnapshot(GetLatestSnapshot());
	foreach(cell, cs_partitions_load(stream, CurrentMemoryContext))
	{
		CsPartition *p = lfirst(cell);

		if (p->id != id || (topic && strcmp(stream->topics[p->topic], topic) != 0))
			continue;
		if (found)
			ereport(ERROR, (errcode(ERRCODE_AMBIGUOUS_PARAMETER),
							errmsg("stream \"%s\" reads partition %d of several topics", stream->name, id),
							errhint("Give the topic, too.")));
		found = p;
	}
	PopActiveSnapshot();
	if (found == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("stream \"%s\" has read no partition %s%s%d", stream->name, topic ? topic : "",
							   topic ? "/" : "", id),
						errhint("Where a stream begins is said by start_from and start_offsets, also of reset().")));
	return found;
}

/* Is the topic, one of a pattern, no longer there?  Then what is left of it is its end, as it was last seen. */
static bool
is_gone(const CsStream *stream, const CsPartition *p, CsSource *source)
{
	int n;

	return stream->pattern && source->ops->list(source, &n, BOUNDS_TIMEOUT_MS) != NULL &&
		   source->ops->news(source)->is_gone[p->topic] && p->last_end > p->next_offset;
}

/* The offsets that the topic has now: from *low up to, not including, *high. */
static void
find_bounds(const CsStream *stream, const CsPartition *p, int64 *low, int64 *high)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "clickstream seek", ALLOCSET_SMALL_SIZES);
	CsStream	 *earliest = MemoryContextAlloc(cxt, sizeof(CsStream));
	CsPartition	  probe = *p;
	CsSource	 *source;

	*earliest = *stream;
	earliest->start_from = CS_START_EARLIEST;
	source = cs_source_for(earliest)->open(earliest, cxt);
	if (is_gone(stream, p, source))
	{
		*low = p->next_offset;
		*high = p->last_end;
		MemoryContextDelete(cxt);
		return;
	}
	if (!source->ops->start_offset(source, &probe, true, BOUNDS_TIMEOUT_MS))
	{
		const char *problem = source->ops->problem(source);

		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE), errmsg("could not ask the broker what partition %d has", p->id),
				 problem ? errdetail_internal("%s", problem) : 0));
	}
	*low = probe.next_offset;
	*high = probe.end_offset;
	MemoryContextDelete(cxt);
}

/* Go on at offset, which is not before the next one. */
static void
move_to(const CsStream *stream, CsPartition *p, int64 offset)
{
	int64 low;
	int64 high;

	find_bounds(stream, p, &low, &high);
	if (offset > high || offset < low)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("offset %lld is not in topic \"%s\", partition %d", (long long) offset,
							   stream->topics[p->topic], p->id),
						errdetail("It can be moved from %lld to any offset from %lld to %lld.",
								  (long long) p->next_offset, (long long) Max(low, p->next_offset), (long long) high)));
	/* A definition that reads its history from the topic shall pass over these, too. */
	if (offset > p->next_offset)
		cs_passed_over_insert(stream, 0, &(CsPassedOver){p->topic, p->id, p->next_offset, offset});
	p->ledger[CS_CLASS_SKIPPED] += offset - p->next_offset;
	p->next_offset = offset;
	p->last_offset = -1; /* what the topic holds before is of no interest any more */
	cs_partition_store(stream, p);
}

/* The stream, its worker held, and the position; arguments 0 to 3 are stream, partition, offset, topic. */
static CsPartition *
open_position(FunctionCallInfo fcinfo, CsStream **stream, int64 *offset)
{
	*stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "stream"), CurrentMemoryContext);
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("partition and message_offset must be given")));
	*offset = PG_GETARG_INT64(2);
	cs_stream_touch(*stream);
	cs_worker_hold((*stream)->stream_id);
	return find_position(*stream, PG_GETARG_INT32(1), cs_arg_text(fcinfo, 3));
}

/* seek(stream text, partition integer, message_offset bigint, topic text) */
Datum
clickstream_seek(PG_FUNCTION_ARGS)
{
	CsStream	*stream;
	int64		 offset;
	CsPartition *p = open_position(fcinfo, &stream, &offset);
	int64		 before = p->next_offset;

	if (offset < before)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cannot go back from offset %lld to %lld", (long long) before, (long long) offset),
						errdetail("The messages between have been used, and would be counted twice."),
						errhint("clickstream.reset() empties the results and begins again.")));
	move_to(stream, p, offset);
	PG_RETURN_INT64(offset - before);
}

/* skip_message(stream text, partition integer, message_offset bigint, topic text) */
Datum
clickstream_skip_message(PG_FUNCTION_ARGS)
{
	CsStream	*stream;
	int64		 offset;
	CsPartition *p = open_position(fcinfo, &stream, &offset);

	if (offset != p->next_offset)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						offset < p->next_offset
							? errmsg("offset %lld of partition %d has been read already", (long long) offset, p->id)
							: errmsg("offset %lld of partition %d has not been reached", (long long) offset, p->id),
						errdetail("The next one is %lld.", (long long) p->next_offset),
						errhint("clickstream.seek() passes over several.")));
	move_to(stream, p, offset + 1);
	PG_RETURN_VOID();
}
