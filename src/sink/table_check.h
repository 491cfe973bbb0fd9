/*
 * sink/table_check.h
 *	  What a table must be for us to write to it; each refusal by name, with a
 *	  hint.
 */
#ifndef CS_SINK_TABLE_CHECK_H
#define CS_SINK_TABLE_CHECK_H

#include "postgres.h"

#include "compat.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

/* Open with RowExclusiveLock; owner as for cs_table_open(). */
extern Relation cs_table_check_open(Oid relid, Oid owner);
/* The column's number. */
extern AttrNumber cs_table_check_column(Relation rel, const char *name);
/* typmod: NULL: any. */
extern void cs_table_check_type(Relation rel, AttrNumber attnum, Oid type, const int32 *typmod);
/* No deferrable unique or exclusion constraint; its indexes are open. */
extern void				cs_table_check_deferrable(const ResultRelInfo *info);
pg_noreturn extern void cs_table_no_key(Relation rel);

#endif
