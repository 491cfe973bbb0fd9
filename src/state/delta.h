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

/* Apply the delta in r, all of it, to base; out is emptied first. */
extern void cs_delta_apply(CsReader *r, const char *base, uint32 base_len, StringInfo out);

#endif
