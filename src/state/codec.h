/*
 * state/codec.h
 *	  Bytes of state entries and log records: little writers and a reader
 *	  that checks what it reads.
 *
 * Numbers are LEB128 varints (signed ones zigzag), so that small counts and
 * lengths cost a byte.  A reader that runs past its end, or meets what it
 * does not know, raises ERRCODE_DATA_CORRUPTED; it never reads outside.  Bytes
 * of an entry are read through cs_entry_reader(): then the message says which
 * entry it is, and what to do.
 */
#ifndef CS_STATE_CODEC_H
#define CS_STATE_CODEC_H

#include "postgres.h"

#include "compat.h"
#include "core/definition.h"
#include "core/types.h"
#include "lib/stringinfo.h"

typedef struct CsReader
{
	const char *pos;
	const char *end;
	/* of an entry's bytes, for messages: */
	const CsKey				*key;  /* NULL: these are not an entry's */
	const CsDefinition		*def;  /* whose it is, if known by now */
	const char				*name; /* what the key is a hash of, as read, if it is a text */
	size_t					 name_len;
	const struct CsLogPlace *place; /* of a record of the log: its rows */
} CsReader;

/* Where it is one entry, or a few. */
#define CS_DAMAGE_HINT                                        \
	"clickstream.damaged_state() shows what cannot be read; " \
	"clickstream.discard_damaged_state() gives it up, then the stream can go on."

/* Where it is the log. */
#define CS_LOG_DAMAGE_HINT                                                                      \
	"A row of the state log cannot be given up alone: go back to a backup, or begin anew with " \
	"clickstream.reset()."

/* Neither an entry's nor a row's. */
pg_noreturn extern void cs_codec_corrupt(const char *what);
/* What is read is damaged: of an entry, say which. */
pg_noreturn extern void cs_reader_corrupt(const CsReader *r, const char *what);
/* A key, as messages show it. */
extern const char *cs_key_text(const CsKey *key);
/* Everything has been read: raise if bytes are left. */
extern void cs_get_end(const CsReader *r);

extern void cs_put_place(StringInfo buf, const CsPlace *place);

/* Inline, because a commit writes some hundred numbers for each event. */
static inline void
cs_put_room(StringInfo buf, size_t n)
{
	if (unlikely((size_t) (buf->maxlen - buf->len) <= n))
		enlargeStringInfo(buf, (int) Min(n, PG_INT32_MAX)); /* raises where that is too much */
}

static inline void
cs_put_raw(StringInfo buf, const void *data, size_t len)
{
	cs_put_room(buf, len);
	memcpy(buf->data + buf->len, data, len);
	buf->len += (int) len;
}

static inline void
cs_put_uint(StringInfo buf, uint64 value)
{
	char *p;

	cs_put_room(buf, 10);
	p = buf->data + buf->len;
	while (value >= 0x80)
	{
		*p++ = (char) (value | 0x80);
		value >>= 7;
	}
	*p++ = (char) value;
	buf->len = (int) (p - buf->data);
}

/* length, then bytes */
static inline void
cs_put_bytes(StringInfo buf, const void *data, size_t len)
{
	cs_put_uint(buf, len);
	cs_put_raw(buf, data, len);
}

static inline void
cs_put_u8(StringInfo buf, uint8 value)
{
	cs_put_room(buf, 1);
	buf->data[buf->len++] = (char) value;
}

static inline void
cs_put_int(StringInfo buf, int64 value)
{
	cs_put_uint(buf, ((uint64) value << 1) ^ (uint64) (value >> 63));
}

static inline uint8
cs_get_u8(CsReader *r)
{
	if (unlikely(r->pos >= r->end))
		cs_reader_corrupt(r, "it ends early");
	return (uint8) *r->pos++;
}

static inline uint64
cs_get_uint(CsReader *r)
{
	uint64 value = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8 byte = cs_get_u8(r);

		value |= (uint64) (byte & 0x7f) << shift;
		if (byte < 0x80)
			return value;
	}
	cs_reader_corrupt(r, "a number is too long");
}

extern const char *cs_get_bytes(CsReader *r, size_t *len);
extern const char *cs_get_raw(CsReader *r, size_t len);
extern void		   cs_get_place(CsReader *r, CsPlace *place);

static inline int64
cs_get_int(CsReader *r)
{
	uint64 v = cs_get_uint(r);

	return (int64) (v >> 1) ^ -(int64) (v & 1);
}

/*
 * A Datum as flat bytes.  Varlenas are stored detoasted; one of up to 126
 * bytes is stored with its one-byte header and read back in place, without a
 * copy, so it lives as long as the bytes do.  Longer ones are palloc'd.
 *
 * PostgreSQL's functions believe what most varlenas say of their own inside:
 * the offsets of a jsonb, the dimensions of an array, the state of an
 * aggregate.  Damaged, these would make the server read where nothing is.  So
 * "stored" is the type's length, or CS_STORED_CHECKED for such a type: then
 * the bytes have a checksum, and are always palloc'd.
 */
#define CS_STORED_CHECKED (-3)

extern void	 cs_put_datum(StringInfo buf, Datum value, bool isnull, int16 stored, bool typbyval);
extern Datum cs_get_datum(CsReader *r, bool *isnull, int16 stored, bool typbyval);
/* Go past one without reading it. */
extern void cs_skip_datum(CsReader *r, int16 stored, bool typbyval);

#endif
