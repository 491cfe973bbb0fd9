/*
 * engine/retry.h
 *	  Dead letters run through the stream again.
 */
#ifndef CS_ENGINE_RETRY_H
#define CS_ENGINE_RETRY_H

#include "core/letters.h"
#include "engine/engine.h"

/* What became of one: a class, and why it is still dead, or NULL. */
typedef void (*CsRetryResult)(const CsLetter *letter, CsClass class, const char *reason, void *arg);

/*
 * In a transaction of the caller's own, which holds the stream's worker: run
 * these letters through the stream, each as the message it was, with the
 * payload that it has now.
 */
extern void cs_engine_retry(int32 stream_id, const CsHost *host, CsLetter *letters, int n, CsRetryResult result,
							void *arg);

#endif
