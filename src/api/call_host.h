/*
 * api/call_host.h
 *	  Host of an engine that does its work within the transaction of the call.
 */
#ifndef CS_API_CALL_HOST_H
#define CS_API_CALL_HOST_H

#include "engine/engine.h"

/* Batches see what came before them in this transaction; nothing is committed but by the caller. */
extern const CsHost cs_call_host;

#endif
