/*
 * api/aggregates.c
 *	  first(x, place) and last(x, place): the value of the event whose place
 *	  comes first or last, NULL included.
 *
 * The state is the value with its place.  It holds how the value's type is
 * stored, not which type it is, so that serialised states survive a dump;
 * the aggregate's own signature says the type.  Values and places are kept
 * detoasted, so a state never points into a table.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "api/args.h"
#include "libpq/pqformat.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(clickstream_first_step);
PG_FUNCTION_INFO_V1(clickstream_last_step);
PG_FUNCTION_INFO_V1(clickstream_first_combine);
PG_FUNCTION_INFO_V1(clickstream_last_combine);
PG_FUNCTION_INFO_V1(clickstream_place_serialize);
PG_FUNCTION_INFO_V1(clickstream_place_deserialize);
PG_FUNCTION_INFO_V1(clickstream_place_final);
PG_FUNCTION_INFO_V1(clickstream_without_place);

typedef struct PlaceState
{
	bytea *place;
	bool   isnull;
	bool   typbyval;
	int16  typlen;
	Datum  value;
} PlaceState;

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext cxt;

	if (!AggCheckCallContext(fcinfo, &cxt))
		elog(ERROR, "aggregate function called in non-aggregate context");
	return cxt;
}

/* Below, equal or above zero: as bytea compares. */
static int
compare_places(const bytea *a, const bytea *b)
{
	Size alen = VARSIZE_ANY_EXHDR(a);
	Size blen = VARSIZE_ANY_EXHDR(b);
	int	 result = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(alen, blen));

	return result != 0 ? result : (alen > blen) - (alen < blen);
}

static bytea *
copy_bytes(const bytea *bytes)
{
	bytea *copy = palloc(VARSIZE_ANY(bytes));

	memcpy(copy, bytes, VARSIZE_ANY(bytes));
	return copy;
}

/* Copy a value of the state's type into the current context. */
static Datum
copy_value(const PlaceState *state, Datum value, bool isnull)
{
	if (isnull)
		return (Datum) 0;
	if (state->typlen == -1)
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	return datumCopy(value, state->typbyval, state->typlen);
}

/* Make value at place the state's; what it held is freed. */
static void
take(PlaceState *state, bytea *place, Datum value, bool isnull)
{
	if (state->place != NULL)
		pfree(state->place);
	if (!state->isnull && !state->typbyval)
		pfree(DatumGetPointer(state->value));
	state->place = copy_bytes(place);
	state->isnull = isnull;
	state->value = copy_value(state, value, isnull);
}

/* direction 1: later places win; -1: earlier ones. */
static Datum
step(FunctionCallInfo fcinfo, int direction)
{
	MemoryContext cxt = aggregate_context(fcinfo);
	PlaceState	 *state = PG_ARGISNULL(0) ? NULL : (PlaceState *) PG_GETARG_POINTER(0);
	MemoryContext old;
	bytea		 *place;

	if (!PG_ARGISNULL(2))
	{
		place = PG_GETARG_BYTEA_PP(2);
		old = MemoryContextSwitchTo(cxt);
		if (state == NULL)
		{
			state = palloc0(sizeof(PlaceState));
			state->isnull = true;
			get_typlenbyval(get_fn_expr_argtype(fcinfo->flinfo, 1), &state->typlen, &state->typbyval);
		}
		if (state->place == NULL || compare_places(place, state->place) * direction > 0)
			take(state, place, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
		MemoryContextSwitchTo(old);
	}
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

Datum
clickstream_first_step(PG_FUNCTION_ARGS)
{
	return step(fcinfo, -1);
}

Datum
clickstream_last_step(PG_FUNCTION_ARGS)
{
	return step(fcinfo, 1);
}

/* The first state takes over from the second, which stays as it is. */
static Datum
combine(FunctionCallInfo fcinfo, int direction)
{
	MemoryContext cxt = aggregate_context(fcinfo);
	PlaceState	 *a = PG_ARGISNULL(0) ? NULL : (PlaceState *) PG_GETARG_POINTER(0);
	PlaceState	 *b = PG_ARGISNULL(1) ? NULL : (PlaceState *) PG_GETARG_POINTER(1);
	MemoryContext old = MemoryContextSwitchTo(cxt);

	if (a == NULL && b != NULL)
	{
		a = palloc0(sizeof(PlaceState));
		a->isnull = true;
		a->typlen = b->typlen;
		a->typbyval = b->typbyval;
	}
	if (b != NULL && (a->place == NULL || compare_places(b->place, a->place) * direction > 0))
		take(a, b->place, b->value, b->isnull);
	MemoryContextSwitchTo(old);
	if (a == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(a);
}

Datum
clickstream_first_combine(PG_FUNCTION_ARGS)
{
	return combine(fcinfo, -1);
}

Datum
clickstream_last_combine(PG_FUNCTION_ARGS)
{
	return combine(fcinfo, 1);
}

/* Bytes of a value that is not NULL. */
static void
send_value(StringInfo buf, PlaceState *state)
{
	if (state->typbyval)
		pq_sendint64(buf, (int64) state->value);
	else
	{
		Size size = datumGetSize(state->value, false, state->typlen);

		pq_sendint32(buf, size);
		pq_sendbytes(buf, DatumGetPointer(state->value), size);
	}
}

Datum
clickstream_place_serialize(PG_FUNCTION_ARGS)
{
	PlaceState	  *state = (PlaceState *) PG_GETARG_POINTER(0);
	StringInfoData buf;

	(void) aggregate_context(fcinfo);
	pq_begintypsend(&buf);
	pq_sendint32(&buf, VARSIZE_ANY_EXHDR(state->place));
	pq_sendbytes(&buf, VARDATA_ANY(state->place), VARSIZE_ANY_EXHDR(state->place));
	pq_sendint16(&buf, state->typlen);
	pq_sendint8(&buf, state->typbyval);
	pq_sendint8(&buf, state->isnull);
	if (!state->isnull)
		send_value(&buf, state);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

static Datum
receive_value(StringInfo buf, const PlaceState *state)
{
	int	  size;
	char *value;

	if (state->typbyval)
		return (Datum) pq_getmsgint64(buf);
	size = pq_getmsgint(buf, 4);
	value = palloc(Max(size, 1));
	memcpy(value, pq_getmsgbytes(buf, size), size);
	return PointerGetDatum(value);
}

Datum
clickstream_place_deserialize(PG_FUNCTION_ARGS)
{
	bytea		  *bytes = PG_GETARG_BYTEA_PP(0);
	PlaceState	  *state = palloc0(sizeof(PlaceState));
	StringInfoData buf;
	int			   length;

	(void) aggregate_context(fcinfo);
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	length = pq_getmsgint(&buf, 4);
	state->place = palloc(VARHDRSZ + length);
	SET_VARSIZE(state->place, VARHDRSZ + length);
	memcpy(VARDATA(state->place), pq_getmsgbytes(&buf, length), length);
	state->typlen = (int16) pq_getmsgint(&buf, 2);
	state->typbyval = pq_getmsgbyte(&buf);
	state->isnull = pq_getmsgbyte(&buf);
	if (!state->isnull)
		state->value = receive_value(&buf, state);
	pq_getmsgend(&buf);
	pfree(buf.data);
	PG_RETURN_POINTER(state);
}

/* Further arguments only tell the result's type. */
Datum
clickstream_place_final(PG_FUNCTION_ARGS)
{
	PlaceState *state = PG_ARGISNULL(0) ? NULL : (PlaceState *) PG_GETARG_POINTER(0);

	(void) aggregate_context(fcinfo);
	if (state == NULL || state->isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state->value);
}

/* Transition function of first(x) and last(x), which definitions never get to. */
Datum
clickstream_without_place(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("first(x) and last(x) can be used in definitions only"),
			 errdetail("Only there is it known what comes first: the event's place in its stream."),
			 errhint("Elsewhere use first(x, place) or last(x, place), with "
					 "clickstream.place(event_time, topic, partition, message_offset).")));
}
