/*
 * state/delta.h
 *	  What makes one run of bytes out of another.
 *
 * An entry that an event touches changes in a few places: a count, a place, a
 * member more, another page.  The delta is what the state log gets of it.
 */
#ifndef CS_STATE_DELTA_H
#define CS_STATE_DELTA_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "state/codec.h"

/*
 * Append to buf what makes data out of base.  False, and buf as it was, if
 * that takes limit bytes or more.
 */
extern bool cs_delta_put(StringInfo buf, const char *base, uint32 base_len, const char *data, uint32 len, uint32 limit);

/*
 * The same by one who has made data out of base himself, and knows what he has
 * copied: nothing is looked for.
 */
typedef struct CsCopy
{
	uint32 at;	 /* of data */
	uint32 from; /* of base */
	uint32 n;
} CsCopy;

#define CS_COPIES 24

typedef struct CsCopies
{
	const char *base;
	int			n;
	CsCopy		copies[CS_COPIES]; /* in the order of both; what is not here counts as new */
} CsCopies;

/* Put bytes that lie in base. */
static inline void
cs_put_copy(StringInfo buf, CsCopies *c, const char *old, size_t n)
{
	CsCopy *last = c->n > 0 ? &c->copies[c->n - 1] : NULL;
	uint32	from = (uint32) (old - c->base);

	if (last && last->at + last->n == (uint32) buf->len && last->from + last->n == from)
		last->n += (uint32) n;
	else if (n > 0 && c->n < CS_COPIES)
		c->copies[c->n++] = (CsCopy){(uint32) buf->len, from, (uint32) n};
	cs_put_raw(buf, old, n);
}

extern bool cs_delta_put_copies(StringInfo buf, const CsCopies *copies, uint32 base_len, const char *data, uint32 len,
								uint32 limit);

/* Read how many bytes the delta in r makes; then make them of base, in out, reading r to its end. */
extern uint32 cs_delta_length(CsReader *r, uint16 *sum);
extern void	  cs_delta_apply(CsReader *r, const char *base, uint32 base_len, char *out, uint32 len, uint16 sum);

#endif
