/*
 * core/retention.h
 *	  Old rows of result tables go; see retention.c.
 */
#ifndef CS_CORE_RETENTION_H
#define CS_CORE_RETENTION_H

#include "core/definition.h"

/* Column of a result table that says when a row started. */
extern const char *cs_retention_column(CsKind kind);

/* Delete final rows of a definition that started before, at most limit; how many. */
extern int64 cs_retention_delete(const CsStream *stream, const CsDefinition *def, TimestampTz before, int64 limit);

#endif
