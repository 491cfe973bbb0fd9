/*
 * state/codec.c
 *	  Writers and the checking reader of state bytes.
 *
 * See codec.h.  No locking: works on the caller's memory.
 */
#include "postgres.h"

#include "core/mutant.h"
#include "fmgr.h"
#include "port/pg_crc32c.h"
#include "state/codec.h"

/* Longest varlena kept with a one-byte header: 126 bytes and the header. */
#define SHORT_MAX (VARATT_SHORT_MAX - VARHDRSZ_SHORT)

enum
{
	DATUM_NULL,
	DATUM_VALUE,
	DATUM_SHORT,
	DATUM_CHECKED
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

static pg_crc32c
checksum(const char *data, size_t len)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
	return crc;
}

static void
put_varlena(StringInfo buf, struct varlena *v, bool checked)
{
	size_t len;

	if (VARATT_IS_COMPRESSED(v) || VARATT_IS_EXTERNAL(v))
		v = pg_detoast_datum_packed(v);
	len = VARSIZE_ANY_EXHDR(v);
	if (checked)
	{
		pg_crc32c sum = checksum(VARDATA_ANY(v), len);

		cs_put_u8(buf, DATUM_CHECKED);
		cs_put_raw(buf, &sum, sizeof(sum));
		cs_put_bytes(buf, VARDATA_ANY(v), len);
		if (CS_MUTANT(DAMAGE_VALUE) && len > 0)
			buf->data[buf->len - 1] ^= 1;
	}
	else if (len <= SHORT_MAX)
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
}

void
cs_put_datum(StringInfo buf, Datum value, bool isnull, int16 stored, bool typbyval)
{
	if (isnull)
	{
		cs_put_u8(buf, DATUM_NULL);
		return;
	}
	if (stored == -1 || stored == CS_STORED_CHECKED)
	{
		put_varlena(buf, (struct varlena *) DatumGetPointer(value), stored == CS_STORED_CHECKED);
		return;
	}
	cs_put_u8(buf, DATUM_VALUE);
	if (typbyval)
		cs_put_int(buf, (int64) value);
	else if (stored == -2)
		cs_put_bytes(buf, DatumGetCString(value), strlen(DatumGetCString(value)) + 1);
	else
		cs_put_raw(buf, DatumGetPointer(value), stored);
}

static Datum
get_varlena(CsReader *r, uint8 how)
{
	size_t			len;
	const char	   *data;
	const char	   *sum = NULL;
	struct varlena *v;

	if (how == DATUM_SHORT)
	{
		/* a pointer to a TOAST table has such a header, too */
		if (r->pos >= r->end || !VARATT_IS_SHORT(r->pos) || VARATT_IS_EXTERNAL(r->pos))
			cs_reader_corrupt(r, "a value has no header");
		return PointerGetDatum(cs_get_raw(r, VARSIZE_SHORT(r->pos)));
	}
	if (how == DATUM_CHECKED)
		sum = cs_get_raw(r, sizeof(pg_crc32c));
	data = cs_get_bytes(r, &len);
	if (sum)
	{
		pg_crc32c is = checksum(data, len);

		if (memcmp(sum, &is, sizeof(is)) != 0)
			cs_reader_corrupt(r, "a value is not what its checksum is of");
	}
	v = palloc(len + VARHDRSZ);
	SET_VARSIZE(v, len + VARHDRSZ);
	memcpy(VARDATA(v), data, len);
	return PointerGetDatum(v);
}

/* How the next value is stored; what its type cannot be stored like is refused. */
static uint8
get_form(CsReader *r, int16 stored)
{
	uint8 how = cs_get_u8(r);
	bool  fits = how == DATUM_NULL;

	if (stored == CS_STORED_CHECKED)
		fits |= how == DATUM_CHECKED;
	else
		fits |= how == DATUM_VALUE || (how == DATUM_SHORT && stored == -1);
	if (!fits)
		cs_reader_corrupt(r, "a value is of no known form");
	return how;
}

Datum
cs_get_datum(CsReader *r, bool *isnull, int16 stored, bool typbyval)
{
	uint8		how = get_form(r, stored);
	const char *data;
	char	   *copy;
	size_t		len;

	*isnull = how == DATUM_NULL;
	if (how == DATUM_NULL)
		return (Datum) 0;
	if (stored == -1 || stored == CS_STORED_CHECKED)
		return get_varlena(r, how);
	if (typbyval)
		return (Datum) cs_get_int(r);
	if (stored == -2)
	{
		data = cs_get_bytes(r, &len);
		if (len == 0 || data[len - 1] != '\0')
			cs_reader_corrupt(r, "a string has no end");
		return CStringGetDatum(data);
	}

	/* A copy, because fixed-length types may ask for alignment; and a damaged name has an end, too. */
	copy = palloc(stored + 1);
	memcpy(copy, cs_get_raw(r, stored), stored);
	copy[stored] = '\0';
	return PointerGetDatum(copy);
}

void
cs_skip_datum(CsReader *r, int16 stored, bool typbyval)
{
	uint8  how = get_form(r, stored);
	size_t len;

	if (how == DATUM_NULL)
		return;
	if (how == DATUM_CHECKED)
		(void) cs_get_raw(r, sizeof(pg_crc32c));
	if (how == DATUM_SHORT)
		(void) cs_get_raw(r, r->pos < r->end && VARATT_IS_SHORT(r->pos) ? VARSIZE_SHORT(r->pos) : SIZE_MAX);
	else if (typbyval)
		(void) cs_get_uint(r);
	else if (stored < 0)
		(void) cs_get_bytes(r, &len);
	else
		(void) cs_get_raw(r, stored);
}
