/*
 * engine/examine.h
 *	  Entries of a stream's state that cannot be read, and giving them up.
 */
#ifndef CS_ENGINE_EXAMINE_H
#define CS_ENGINE_EXAMINE_H

#include "engine/engine.h"
#include "state/state.h"

/* An entry that cannot be read. */
typedef struct CsDamage
{
	Oid			table; /* of its definition; InvalidOid: a value remembered for dedupe_by */
	CsKey		key;
	bool		is_set; /* a distinct set that no entry has: no key */
	uint32		bytes;
	const char *problem; /* the error */
	const char *loss;	 /* what goes with it */
} CsDamage;

typedef void (*CsDamageResult)(const CsDamage *damage, void *arg);

/*
 * In a transaction of the caller's own, which holds the stream's worker: read
 * every entry of the stream's state, report those that cannot be read, and
 * (discard) give these up, in a commit of the stream.
 */
extern void cs_engine_examine(int32 stream_id, const CsHost *host, bool discard, CsDamageResult result, void *arg);

/* The part of it between begin and store; engine/examine.c.  Returns how many there are. */
extern int cs_examine_run(CsEngine *e, bool discard, CsDamageResult result, void *arg);

#endif
