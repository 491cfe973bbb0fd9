/*
 * engine/passed_over.h
 *	  Ranges of offsets that history passes over, in order: is a message in one?
 *
 * No two of them overlap: each offset is passed over once, by whoever.
 */
#ifndef CS_ENGINE_PASSED_OVER_H
#define CS_ENGINE_PASSED_OVER_H

#include "core/backfill.h"

extern void cs_passed_over_sort(CsPassedOver *ranges, int n);
extern bool cs_passed_over_has(const CsPassedOver *ranges, int n, const CsMessage *message);

#endif
