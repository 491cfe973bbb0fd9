/*
 * engine/apply_late.h
 *	  apply_late(): late events of a definition go into its results.
 */
#ifndef CS_ENGINE_APPLY_LATE_H
#define CS_ENGINE_APPLY_LATE_H

#include "core/letters.h"
#include "engine/engine.h"

/* What became of one: applied, or refused for a reason. */
typedef void (*CsLateResult)(const CsLateRow *late, const char *refused, void *arg);

/*
 * In a transaction of the caller's own, which holds the stream's worker: apply
 * the definition's late events with from <= event_time < to.
 */
extern void cs_engine_apply_late(int32 stream_id, const CsHost *host, Oid table, TimestampTz from, TimestampTz to,
								 CsLateResult result, void *arg);

#endif
