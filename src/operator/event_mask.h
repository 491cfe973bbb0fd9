/*
 * operator/event_mask.h
 *	  What the aggregates over stored rows keep of a row: twelve bytes.
 */
#ifndef CS_OPERATOR_EVENT_MASK_H
#define CS_OPERATOR_EVENT_MASK_H

#include "postgres.h"

typedef struct CsEventMask
{
	int64  time;
	uint32 mask; /* bit k-1: it meets condition k */
} pg_attribute_packed() CsEventMask;

#endif
