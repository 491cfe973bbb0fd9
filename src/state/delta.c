/*
 * state/delta.c
 *	  What makes one run of bytes out of another: copies of the old one, and
 *	  what is new between them.
 *
 * delta = checksum of the result (2 bytes), its length, then until that is
 *		   reached: length of new bytes and these; how far the old bytes are
 *		   skipped, counted from where they were left, the new bytes taken as
 *		   replacements (so mostly 0); length of the copy
 *
 * It knows nothing of what the bytes mean.  Most changes of an entry replace
 * some bytes by as many, put in a member of a set, or are the last one before
 * a common end: three places to look at first.  What none of them finds for a
 * while is looked for in an index of every fourth place of the old bytes.  Time
 * is linear in both lengths.
 *
 * The checksum is there because a delta on anything but the bytes it was made
 * of gives garbage, mostly of a plausible length.
 *
 * No locking: the index is private to the process, and used by one call.
 */
#include "postgres.h"

#include "core/mutant.h"
#include "port/pg_crc32c.h"
#include "state/delta.h"
#include "utils/memutils.h"

#define WORD 4			  /* bytes that are compared to find a copy */
#define WORTH 6			  /* shortest copy that pays where the old bytes are skipped */
#define MEMBER 16		  /* bytes of a member of a set */
#define PATIENCE 24		  /* new bytes before the index is asked */
#define INDEX_STEP 4	  /* one place in so many is indexed, */
#define INDEX_PLACES 4096 /* but no more than these */

typedef struct Delta
{
	StringInfo	buf;
	int			limit; /* of buf->len */
	const char *base;
	uint32		base_len;
	const char *data;
	uint32		len;
	uint32		at;		 /* of data: what is before it is in the delta */
	uint32		base_at; /* where the last copy ended */
	int			bits;	 /* of the index; 0: not made yet */
} Delta;

static uint32 places[INDEX_PLACES * 2]; /* place + 1 of a word of base, by its hash */

static inline uint32
word_at(const char *p)
{
	uint32 word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline uint32
slot_of(const Delta *d, uint32 word)
{
	return (word * 2654435761u) >> (32 - d->bits);
}

/* The later of two equal words is found: it is more likely to be near. */
static void
make_index(Delta *d)
{
	uint32 step = Max(INDEX_STEP, d->base_len / INDEX_PLACES + 1);

	d->bits = 6;
	while ((uint32) 1 << d->bits < d->base_len / step * 2)
		d->bits++;
	memset(places, 0, sizeof(uint32) << d->bits);
	for (uint32 i = 0; i + WORD <= d->base_len; i += step)
		places[slot_of(d, word_at(d->base + i))] = i + 1;
}

static inline uint64
long_at(const char *p)
{
	uint64 word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline uint32
same_bytes(const char *a, const char *b, uint32 max)
{
	uint32 n = 0;

	while (n + sizeof(uint64) <= max && long_at(a + n) == long_at(b + n))
		n += sizeof(uint64);
	while (n < max && a[n] == b[n])
		n++;
	return n;
}

/* The same before a and b. */
static inline uint32
same_bytes_back(const char *a, const char *b, uint32 max)
{
	uint32 n = 0;

	while (n + sizeof(uint64) <= max && long_at(a - n - sizeof(uint64)) == long_at(b - n - sizeof(uint64)))
		n += sizeof(uint64);
	while (n < max && a[-1 - (int64) n] == b[-1 - (int64) n])
		n++;
	return n;
}

/* New bytes up to place at of data, then n bytes copied from a place of base. */
static void
put_step(Delta *d, uint32 at, uint32 from, uint32 n)
{
	uint32 fresh = at - d->at;

	cs_put_bytes(d->buf, d->data + d->at, fresh);
	d->at = at;
	if (n == 0)
		return;
	cs_put_int(d->buf, (int64) from - (int64) d->base_at - (CS_MUTANT(DELTA_SKIP) ? 0 : fresh));
	cs_put_uint(d->buf, n);
	d->at += n;
	d->base_at = from + n;
}

/* Does base go on at a place as data does at its own?  How far. */
static inline uint32
match(const Delta *d, uint32 at, int64 place)
{
	if (place < 0 || place + WORD > d->base_len || word_at(d->base + place) != word_at(d->data + at))
		return 0;
	return WORD + same_bytes(d->base + place + WORD, d->data + at + WORD,
							 Min(d->base_len - (uint32) place, d->len - at) - WORD);
}

/* What the index knows. */
static uint32
find_indexed(Delta *d, uint32 at, int64 *from)
{
	uint32 n;

	if (d->bits == 0)
		make_index(d);
	*from = (int64) places[slot_of(d, word_at(d->data + at))] - 1;
	n = match(d, at, *from);
	if (n == 0)
		return 0;
	return n + same_bytes_back(d->base + *from, d->data + at, Min((uint32) *from, at - d->at)) >= WORTH ? n : 0;
}

/* A copy for what begins at place at of data; its length, 0 if there is none. */
static inline uint32
find_copy(Delta *d, uint32 at, int64 *from)
{
	uint32 fresh = at - d->at;
	uint32 n;

	*from = (int64) d->base_at + fresh;
	if ((n = match(d, at, *from)) > 0)
		return n;
	*from -= MEMBER;
	if ((n = match(d, at, *from)) > 0)
		return n;
	*from = (int64) d->base_len - (d->len - at);
	if ((n = match(d, at, *from)) > 0)
		return n;
	return fresh >= PATIENCE ? find_indexed(d, at, from) : 0;
}

/* What is between the common beginning and the common end; false if it grows too long. */
static bool
put_middle(Delta *d, uint32 end)
{
	uint32 at = d->at;

	while (at + WORD <= end)
	{
		int64  from;
		uint32 n = find_copy(d, at, &from);
		uint32 back;

		if (n == 0)
		{
			at++;
			continue;
		}
		back = same_bytes_back(d->base + from, d->data + at, Min((uint32) from, at - d->at));
		put_step(d, at - back, (uint32) from - back, n + back);
		at = d->at;
		if (d->buf->len >= d->limit)
			return false;
	}
	return d->buf->len + (int64) (d->len - d->at) < d->limit + (int64) (d->len - end);
}

static uint16
checksum(const char *data, uint32 len)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
	return (uint16) crc;
}

/* False, and buf as it was, if the delta has become too long. */
static bool
end_delta(Delta *d, int begin)
{
	if (d->buf->len < d->limit)
		return true;
	d->buf->len = begin;
	d->buf->data[begin] = '\0';
	return false;
}

/* Between two copies bytes are replaced, mostly by as many, of which those at both ends are often as they were. */
bool
cs_delta_put_copies(StringInfo buf, const CsCopies *copies, uint32 base_len, const char *data, uint32 len, uint32 limit)
{
	int	   begin = buf->len;
	uint16 sum = checksum(data, len);
	Delta  d = {
		 .buf = buf, .limit = begin + (int) limit, .base = copies->base, .base_len = base_len, .data = data, .len = len};
	CsCopy now = {0, 0, 0};

	cs_put_raw(buf, &sum, sizeof(sum));
	cs_put_uint(buf, len);
	for (int i = 0; i <= copies->n; i++)
	{
		CsCopy next = i < copies->n ? copies->copies[i] : (CsCopy){len, base_len, 0};
		uint32 gap = Min(next.at - (now.at + now.n), next.from - (now.from + now.n));
		uint32 head = same_bytes(d.base + now.from + now.n, data + now.at + now.n, gap);
		uint32 tail = same_bytes_back(d.base + next.from, data + next.at, gap - head);

		now.n += head;
		next = (CsCopy){next.at - tail, next.from - tail, next.n + tail};
		if (now.at + now.n == next.at && now.from + now.n == next.from)
			now.n += next.n;
		else
		{
			if (now.n >= WORD)
				put_step(&d, now.at, now.from, now.n);
			now = next;
		}
	}
	if (now.n > 0)
		put_step(&d, now.at, now.from, now.n);
	if (d.at < len)
		put_step(&d, len, base_len, 0);
	return end_delta(&d, begin);
}

bool
cs_delta_put(StringInfo buf, const char *base, uint32 base_len, const char *data, uint32 len, uint32 limit)
{
	int	   begin = buf->len;
	uint32 shorter = Min(base_len, len);
	uint32 head = same_bytes(base, data, shorter);
	uint32 tail = same_bytes_back(base + base_len, data + len, shorter - head);
	uint16 sum = checksum(data, len);
	Delta  d = {.buf = buf, .limit = begin + (int) limit, .base = base, .base_len = base_len, .data = data, .len = len};
	bool   fits;

	cs_put_raw(buf, &sum, sizeof(sum));
	cs_put_uint(buf, len);
	if (head > 0)
		put_step(&d, 0, 0, head);
	fits = put_middle(&d, len - tail);
	if (fits && d.at < len)
	{
		uint32 rest = Min(tail, len - d.at); /* a copy may have run into the end */

		put_step(&d, len - rest, base_len - rest, rest);
	}
	else if (!fits)
		d.limit = begin;
	return end_delta(&d, begin);
}

uint32
cs_delta_length(CsReader *r, uint16 *sum)
{
	uint64 len;

	memcpy(sum, cs_get_raw(r, sizeof(*sum)), sizeof(*sum));
	len = cs_get_uint(r);
	if (len > MaxAllocSize / 2)
		cs_reader_corrupt(r, "a changed entry is too long");
	return (uint32) len;
}

void
cs_delta_apply(CsReader *r, const char *base, uint32 base_len, char *out, uint32 len, uint16 sum)
{
	uint32 at = 0;
	uint32 base_at = 0;

	while (at < len)
	{
		size_t		fresh;
		const char *bytes = cs_get_bytes(r, &fresh);
		int64		from;
		uint64		n;

		if (fresh > len - at)
			cs_reader_corrupt(r, "a change makes an entry longer than it says");
		memcpy(out + at, bytes, fresh);
		at += (uint32) fresh;
		if (at == len)
			break;
		from = cs_get_int(r);
		n = cs_get_uint(r);
		if (n == 0 || n > len - at)
			cs_reader_corrupt(r, "a change makes an entry longer than it says");
		if (from < -(int64) MaxAllocSize || from > (int64) MaxAllocSize)
			cs_reader_corrupt(r, "a change copies what is not there");
		from += (int64) base_at + (int64) fresh;
		if (from < 0 || n > base_len || from > (int64) (base_len - n))
			cs_reader_corrupt(r, "a change copies what is not there");
		memcpy(out + at, base + from, n);
		at += (uint32) n;
		base_at = (uint32) (from + (int64) n);
	}
	if (r->pos != r->end || checksum(out, len) != sum)
		cs_reader_corrupt(r, "a change does not fit the entry that it changes");
}
