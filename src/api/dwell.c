/*
 * api/dwell.c
 *	  page_dwell(page, place): how long each page was looked at, up to the next
 *	  page view.
 *
 * The state holds the page views in order of their places, wherever they came
 * in, and what comes out depends on nothing else; so states of a session's
 * parts combine to the state of the whole.  Memory is bounded: kept are the
 * first VIEWS_MAX page views, and of those no more than PAGES_MAX bytes of
 * pages.  The first one beyond, the cut, is kept too: it ends the last page view before
 * it, and what lies behind it is shown as one stay without a page.  Combining two
 * states that are cut gives what all their page views would have given:
 * nothing behind the earlier cut can have been among the first.
 *
 * A row whose page is NULL is no page view, but a sign that the visitor was
 * still there: it ends the last one.
 *
 * A place begins with its time, see core/place.h; page_dwell(page, event_time)
 * makes places of times alone, and among equal ones the page decides.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/args.h"
#include "compat.h"
#include "core/mutant.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(clickstream_dwell_step);
PG_FUNCTION_INFO_V1(clickstream_dwell_time_step);
PG_FUNCTION_INFO_V1(clickstream_dwell_combine);
PG_FUNCTION_INFO_V1(clickstream_dwell_serialize);
PG_FUNCTION_INFO_V1(clickstream_dwell_deserialize);
PG_FUNCTION_INFO_V1(clickstream_dwell_final);
PG_FUNCTION_INFO_V1(clickstream_dwell_without_place);

#define VIEWS_MAX 1000
#define PAGES_MAX (64 * 1024)
#define TIME_SIZE ((int) sizeof(int64)) /* what a place begins with */

typedef struct View
{
	bytea *place;
	text  *page;
} View;

typedef struct Dwell
{
	MemoryContext context;
	int			  n, capacity; /* those that are kept */
	View		 *views;	   /* ascending */
	int64		  bytes;	   /* of their pages */
	View		  cut;		   /* the first of the others; place NULL: there are none */
	int64		  all;		   /* page views, those behind the cut included */
	TimestampTz	  last;		   /* newest page view */
	TimestampTz	  seen;		   /* newest row without a page; DT_NOBEGIN: none */
} Dwell;

/* Columns of type page_stay. */
enum
{
	STAY_PAGE,
	STAY_BEGAN,
	STAY_SECONDS,
	STAY_VIEWS,
	STAY_COLUMNS
};

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext cxt;

	if (!AggCheckCallContext(fcinfo, &cxt))
		elog(ERROR, "aggregate function called in non-aggregate context");
	return cxt;
}

static Dwell *
make_dwell(MemoryContext cxt)
{
	Dwell *d = MemoryContextAllocZero(cxt, sizeof(Dwell));

	d->context = cxt;
	d->last = d->seen = DT_NOBEGIN;
	return d;
}

static Dwell *
argument(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : (Dwell *) PG_GETARG_POINTER(i);
}

/* ---- places and pages ---- */

static int
compare_bytes(const void *a, const void *b)
{
	Size alen = VARSIZE_ANY_EXHDR(a);
	Size blen = VARSIZE_ANY_EXHDR(b);
	int	 result = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(alen, blen));

	return result != 0 ? result : (alen > blen) - (alen < blen);
}

static int
compare_views(const View *a, const View *b)
{
	int result = compare_bytes(a->place, b->place);

	return result != 0 ? result : compare_bytes(a->page, b->page);
}

static TimestampTz
time_of(const bytea *place)
{
	uint64 bits;

	memcpy(&bits, VARDATA_ANY(place), TIME_SIZE);
	return (TimestampTz) (pg_ntoh64(bits) ^ (UINT64CONST(1) << 63));
}

static void *
copy_bytes(const void *bytes)
{
	return memcpy(palloc(VARSIZE_ANY(bytes)), bytes, VARSIZE_ANY(bytes));
}

static void
free_view(View *view)
{
	pfree(view->place);
	pfree(view->page);
}

/* ---- adding ---- */

/* What is behind a view is not kept: it is the first of those. */
static void
cut_at(Dwell *d, View view)
{
	if (d->cut.place != NULL)
		free_view(&d->cut);
	d->cut = view;
}

/* The last one kept is kept no longer. */
static void
drop_last(Dwell *d)
{
	View view = d->views[--d->n];

	d->bytes -= VARSIZE_ANY_EXHDR(view.page);
	cut_at(d, view);
}

/* Put a copy of a view where it belongs; the current context is the state's. */
static void
keep(Dwell *d, const View *view)
{
	int at = d->n;

	if (d->cut.place != NULL && compare_views(view, &d->cut) > 0)
		return;
	while (at > 0 && !CS_MUTANT(UNSORTED_APPLY) && compare_views(&d->views[at - 1], view) > 0)
		at--;
	if (d->n == d->capacity)
	{
		d->capacity = d->capacity ? d->capacity * 2 : 4;
		d->views = d->views ? repalloc(d->views, d->capacity * sizeof(View)) : palloc(d->capacity * sizeof(View));
	}
	memmove(&d->views[at + 1], &d->views[at], (d->n - at) * sizeof(View));
	d->views[at].place = copy_bytes(view->place);
	d->views[at].page = copy_bytes(view->page);
	d->bytes += VARSIZE_ANY_EXHDR(view->page);
	d->n++;
	while (d->n > VIEWS_MAX || d->bytes > PAGES_MAX)
		drop_last(d);
}

/* One row; place NULL: it has none, and does not count. */
static Datum
step(FunctionCallInfo fcinfo, bytea *place)
{
	MemoryContext cxt = aggregate_context(fcinfo);
	Dwell		 *d = argument(fcinfo, 0);
	MemoryContext old;
	View		  view = {place, NULL};

	if (place != NULL)
	{
		if (d == NULL)
			d = make_dwell(cxt);
		if (PG_ARGISNULL(1))
			d->seen = Max(d->seen, time_of(place));
		else
		{
			view.page = PG_GETARG_TEXT_PP(1);
			old = MemoryContextSwitchTo(d->context);
			keep(d, &view);
			MemoryContextSwitchTo(old);
			d->all++;
			d->last = Max(d->last, time_of(place));
		}
	}
	if (d == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(d);
}

Datum
clickstream_dwell_step(PG_FUNCTION_ARGS)
{
	bytea *place = PG_ARGISNULL(2) ? NULL : PG_GETARG_BYTEA_PP(2);

	if (place != NULL && (VARSIZE_ANY_EXHDR(place) < TIME_SIZE || TIMESTAMP_NOT_FINITE(time_of(place))))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("this is no place of an event"),
						errhint("Use clickstream.place(event_time, topic, partition, message_offset).")));
	return step(fcinfo, place);
}

Datum
clickstream_dwell_time_step(PG_FUNCTION_ARGS)
{
	union
	{
		char  data[VARHDRSZ + TIME_SIZE];
		int32 align;
	} place;
	int64 bits;

	if (PG_ARGISNULL(2))
		return step(fcinfo, NULL);
	if (TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(2)))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("event_time must be finite")));
	bits = pg_hton64((uint64) PG_GETARG_TIMESTAMPTZ(2) ^ (UINT64CONST(1) << 63));
	SET_VARSIZE(&place, sizeof(place.data));
	memcpy(VARDATA(&place), &bits, TIME_SIZE);
	return step(fcinfo, (bytea *) &place);
}

/* The second state stays as it is. */
Datum
clickstream_dwell_combine(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = aggregate_context(fcinfo);
	Dwell		 *a = argument(fcinfo, 0);
	const Dwell	 *b = argument(fcinfo, 1);
	MemoryContext old;

	if (a == NULL && b == NULL)
		PG_RETURN_NULL();
	if (a == NULL)
		a = make_dwell(cxt);
	if (b == NULL)
		PG_RETURN_POINTER(a);
	old = MemoryContextSwitchTo(a->context);
	for (int i = 0; i < b->n; i++)
		keep(a, &b->views[i]);
	if (b->cut.place != NULL && (a->cut.place == NULL || compare_views(&b->cut, &a->cut) < 0))
	{
		View cut = {copy_bytes(b->cut.place), copy_bytes(b->cut.page)};

		while (a->n > 0 && compare_views(&a->views[a->n - 1], &cut) > 0)
			drop_last(a);
		cut_at(a, cut);
	}
	MemoryContextSwitchTo(old);
	a->all += b->all;
	a->last = Max(a->last, b->last);
	a->seen = Max(a->seen, b->seen);
	PG_RETURN_POINTER(a);
}

/* ---- bytes ---- */

static void
send_bytes(StringInfo buf, const void *bytes)
{
	pq_sendint32(buf, VARSIZE_ANY_EXHDR(bytes));
	pq_sendbytes(buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

static void
send_view(StringInfo buf, const View *view)
{
	send_bytes(buf, view->place);
	send_bytes(buf, view->page);
}

Datum
clickstream_dwell_serialize(PG_FUNCTION_ARGS)
{
	Dwell		  *d = (Dwell *) PG_GETARG_POINTER(0);
	StringInfoData buf;

	(void) aggregate_context(fcinfo);
	pq_begintypsend(&buf);
	pq_sendint16(&buf, (uint16) d->n);
	pq_sendint8(&buf, d->cut.place != NULL);
	pq_sendint64(&buf, d->all);
	pq_sendint64(&buf, d->last);
	pq_sendint64(&buf, d->seen);
	for (int i = 0; i < d->n; i++)
		send_view(&buf, &d->views[i]);
	if (d->cut.place != NULL)
		send_view(&buf, &d->cut);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

pg_noreturn static void
damaged(void)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a state of page_dwell is damaged")));
}

static void *
receive_bytes(StringInfo buf)
{
	int			size = (int) pq_getmsgint(buf, 4);
	const char *data = pq_getmsgbytes(buf, size); /* which looks whether they are there */
	bytea	   *result = palloc(VARHDRSZ + size);

	SET_VARSIZE(result, VARHDRSZ + size);
	memcpy(VARDATA(result), data, size);
	return result;
}

static View
receive_view(StringInfo buf, const View *before)
{
	View view;

	view.place = receive_bytes(buf);
	view.page = receive_bytes(buf);
	if (VARSIZE_ANY_EXHDR(view.place) < TIME_SIZE || TIMESTAMP_NOT_FINITE(time_of(view.place)) ||
		(before && compare_views(before, &view) > 0) ||
		!pg_verifymbstr(VARDATA_ANY(view.page), VARSIZE_ANY_EXHDR(view.page), true))
		damaged();
	return view;
}

/* Each view is looked at: a state may come from a state log. */
Datum
clickstream_dwell_deserialize(PG_FUNCTION_ARGS)
{
	bytea		  *bytes = PG_GETARG_BYTEA_PP(0);
	Dwell		  *d = make_dwell(CurrentMemoryContext);
	StringInfoData buf;
	int			   n;
	bool		   is_cut;

	(void) aggregate_context(fcinfo);
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	n = (int) pq_getmsgint(&buf, 2);
	is_cut = pq_getmsgbyte(&buf) != 0;
	d->all = pq_getmsgint64(&buf);
	d->last = pq_getmsgint64(&buf);
	d->seen = pq_getmsgint64(&buf);
	if (n > VIEWS_MAX || d->all < n || is_cut != (d->all > n))
		damaged();
	d->views = palloc(Max(n, 1) * sizeof(View));
	d->capacity = Max(n, 1);
	for (; d->n < n; d->n++)
	{
		d->views[d->n] = receive_view(&buf, d->n > 0 ? &d->views[d->n - 1] : NULL);
		d->bytes += VARSIZE_ANY_EXHDR(d->views[d->n].page);
	}
	if (is_cut)
		d->cut = receive_view(&buf, n > 0 ? &d->views[n - 1] : NULL);
	pq_getmsgend(&buf);
	pfree(buf.data);
	PG_RETURN_POINTER(d);
}

/* ---- the result ---- */

/* end DT_NOBEGIN: not known. */
static Datum
make_stay(TupleDesc desc, const text *page, TimestampTz began, TimestampTz end, int64 views)
{
	Datum values[STAY_COLUMNS];
	bool  nulls[STAY_COLUMNS] = {false};

	values[STAY_PAGE] = PointerGetDatum(page);
	nulls[STAY_PAGE] = page == NULL;
	values[STAY_BEGAN] = TimestampTzGetDatum(began);
	nulls[STAY_SECONDS] = end == DT_NOBEGIN;
	values[STAY_SECONDS] = Float8GetDatum((double) ((uint64) end - (uint64) began) / USECS_PER_SEC);
	values[STAY_VIEWS] = Int64GetDatum(views);
	return heap_copy_tuple_as_datum(heap_form_tuple(desc, values, nulls), desc);
}

/* What a state gives: an array of page_stay. */
static ArrayType *
make_stays(const Dwell *d, Oid type)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);
	int			n = d->n + (d->cut.place != NULL);
	Datum	   *stays = palloc(n * sizeof(Datum));
	TimestampTz end = DT_NOBEGIN;

	if (desc->natts != STAY_COLUMNS)
		elog(ERROR, "type page_stay is not the one that this library was made for");
	if (d->cut.place != NULL)
	{
		TimestampTz began = time_of(d->cut.place);

		/* of the last one of all alone nobody knows when it ended */
		if (d->all - d->n > 1 || d->seen > began)
			end = Max(d->last, d->seen);
		stays[d->n] = make_stay(desc, NULL, began, end, d->all - d->n);
		end = began;
	}
	else if (d->seen > d->last)
		end = d->seen;
	for (int i = d->n - 1; i >= 0; i--)
	{
		TimestampTz began = time_of(d->views[i].place);

		stays[i] = make_stay(desc, d->views[i].page, began, end, 1);
		end = began;
	}
	return construct_array(stays, n, type, -1, false, TYPALIGN_DOUBLE);
}

Datum
clickstream_dwell_final(PG_FUNCTION_ARGS)
{
	const Dwell *d = argument(fcinfo, 0);
	Oid			 type = get_element_type(get_fn_expr_rettype(fcinfo->flinfo));

	(void) aggregate_context(fcinfo);
	if (d == NULL || d->all == 0)
		PG_RETURN_NULL();
	if (!OidIsValid(type))
		elog(ERROR, "result of page_dwell is no array");
	PG_RETURN_ARRAYTYPE_P(make_stays(d, type));
}

/* Transition function of page_dwell(page), which definitions never get to. */
Datum
clickstream_dwell_without_place(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("page_dwell(page) can be used in definitions only"),
					errdetail("Only there the event's time is known."),
					errhint("Elsewhere use page_dwell(page, event_time).")));
}
