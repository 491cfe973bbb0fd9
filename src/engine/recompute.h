/*
 * engine/recompute.h
 *	  A definition's final rows, made again from the event log.
 */
#ifndef CS_ENGINE_RECOMPUTE_H
#define CS_ENGINE_RECOMPUTE_H

#include "engine/engine.h"
#include "operator/operator.h"

/* Called first, once, with what the rows will be made of. */
typedef void (*CsRecomputeBegin)(const CsOperator *op, void *arg);
/* A final row, by the operator's columns; lives until this returns. */
typedef void (*CsRecomputedRow)(const Datum *values, const bool *isnull, void *arg);

/*
 * Rows of a session, window or funnel that start in [from, to); CS_WM_NONE and
 * CS_WM_DONE: as far as the log and the table reach.  Raises if they do not reach back
 * to from.  Under the active snapshot; takes no lock, writes nothing.
 */
extern void cs_engine_recompute(int32 stream_id, const CsHost *host, Oid table, TimestampTz from, TimestampTz to,
								CsRecomputeBegin begin, CsRecomputedRow row, void *arg);

/* From which start on rows can be made again; CS_WM_NONE: all, CS_WM_DONE: none. */
extern TimestampTz cs_engine_recompute_border(int32 stream_id, const CsHost *host, Oid table);

/* The part of it between begin and commit; engine/recompute.c. */
extern void		   cs_recompute_run(CsEngine *e, Oid table, TimestampTz from, TimestampTz to, CsRecomputeBegin begin,
									CsRecomputedRow row, void *arg);
extern TimestampTz cs_recompute_border(CsEngine *e, Oid table);

#endif
