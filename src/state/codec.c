/*
 * state/codec.c
 *	  Writers and the checking reader of state bytes.
 *
 * See codec.h.  No locking: works on the caller's memory.
 */
#include "postgres.h"

#include "fmgr.h"
#include "state/codec.h"

/* Longest varlena kept with a one-byte header: 126 bytes and the header. */
#define SHORT_MAX (VARATT_SHORT_MAX - VARHDRSZ_SHORT)

enum
{
	DATUM_NULL,
	DATUM_VALUE,
	DATUM_SHORT
};

void
cs_get_end(const CsReader *r)
{
	if (r->pos != r->end)
		cs_reader_corrupt(r, "something follows its end");
}

void
cs_put_place(StringInfo buf, const CsPlace *place)
{
	cs_put_int(buf, place->time);
	cs_put_uint(buf, (uint32) place->topic);
	cs_put_uint(buf, (uint32) place->partition);
	cs_put_int(buf, place->offset);
}

const char *
cs_get_raw(CsReader *r, size_t len)
{
	const char *data = r->pos;

	if ((size_t) (r->end - r->pos) < len)
		cs_reader_corrupt(r, "it ends early");
	r->pos += len;
	return data;
}

const char *
cs_get_bytes(CsReader *r, size_t *len)
{
	*len = cs_get_uint(r);
	return cs_get_raw(r, *len);
}

void
cs_get_place(CsReader *r, CsPlace *place)
{
	place->time = cs_get_int(r);
	place->topic = (int32) cs_get_uint(r);
	place->partition = (int32) cs_get_uint(r);
	place->offset = cs_get_int(r);
}

void
cs_put_datum(StringInfo buf, Datum value, bool isnull, int16 typlen, bool typbyval)
{
	if (isnull)
	{
		cs_put_u8(buf, DATUM_NULL);
		return;
	}
	if (typlen == -1)
	{
		struct varlena *v = (struct varlena *) DatumGetPointer(value);
		size_t			len;

		if (VARATT_IS_COMPRESSED(v) || VARATT_IS_EXTERNAL(v))
			v = pg_detoast_datum_packed(v);
		len = VARSIZE_ANY_EXHDR(v);
		if (len <= SHORT_MAX)
		{
			char header;

			SET_VARSIZE_SHORT(&header, len + VARHDRSZ_SHORT);
			cs_put_u8(buf, DATUM_SHORT);
			cs_put_u8(buf, (uint8) header);
			cs_put_raw(buf, VARDATA_ANY(v), len);
		}
		else
		{
			cs_put_u8(buf, DATUM_VALUE);
			cs_put_bytes(buf, VARDATA_ANY(v), len);
		}
		return;
	}
	cs_put_u8(buf, DATUM_VALUE);
	if (typbyval)
		cs_put_int(buf, (int64) value);
	else if (typlen == -2)
		cs_put_bytes(buf, DatumGetCString(value), strlen(DatumGetCString(value)) + 1);
	else
		cs_put_raw(buf, DatumGetPointer(value), typlen);
}

static Datum
get_varlena(CsReader *r, uint8 how)
{
	size_t			len;
	const char	   *data;
	struct varlena *v;

	if (how == DATUM_SHORT)
	{
		/* a pointer to a TOAST table has such a header, too */
		if (r->pos >= r->end || !VARATT_IS_SHORT(r->pos) || VARATT_IS_EXTERNAL(r->pos))
			cs_reader_corrupt(r, "a value has no header");
		return PointerGetDatum(cs_get_raw(r, VARSIZE_SHORT(r->pos)));
	}
	data = cs_get_bytes(r, &len);
	v = palloc(len + VARHDRSZ);
	SET_VARSIZE(v, len + VARHDRSZ);
	memcpy(VARDATA(v), data, len);
	return PointerGetDatum(v);
}

Datum
cs_get_datum(CsReader *r, bool *isnull, int16 typlen, bool typbyval)
{
	uint8		how = cs_get_u8(r);
	const char *data;
	size_t		len;

	*isnull = how == DATUM_NULL;
	if (how == DATUM_NULL)
		return (Datum) 0;
	if (how != DATUM_VALUE && !(how == DATUM_SHORT && typlen == -1))
		cs_reader_corrupt(r, "a value is of no known form");
	if (typlen == -1)
		return get_varlena(r, how);
	if (typbyval)
		return (Datum) cs_get_int(r);
	if (typlen == -2)
	{
		data = cs_get_bytes(r, &len);
		if (len == 0 || data[len - 1] != '\0')
			cs_reader_corrupt(r, "a string has no end");
		return CStringGetDatum(data);
	}

	/* A copy, because fixed-length types may ask for alignment. */
	data = memcpy(palloc(typlen), cs_get_raw(r, typlen), typlen);
	return PointerGetDatum(data);
}

void
cs_skip_datum(CsReader *r, int16 typlen, bool typbyval)
{
	uint8  how = cs_get_u8(r);
	size_t len;

	if (how == DATUM_NULL)
		return;
	if (how == DATUM_SHORT && typlen == -1)
		(void) cs_get_raw(r, r->pos < r->end && VARATT_IS_SHORT(r->pos) ? VARSIZE_SHORT(r->pos) : SIZE_MAX);
	else if (how != DATUM_VALUE)
		cs_codec_corrupt("a value is of no known form");
	else if (typbyval)
		(void) cs_get_uint(r);
	else if (typlen < 0)
		(void) cs_get_bytes(r, &len);
	else
		(void) cs_get_raw(r, typlen);
}
