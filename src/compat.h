/*
 * compat.h
 *	  Every difference between PostgreSQL versions that we meet, in one place.
 *
 * Version 15 is what the code is written for; for a later one, what is new
 * there is named here and used by the older way's name or the other way
 * round, so that no other file asks for PG_VERSION_NUM.  A function that got
 * another argument keeps its name: a macro of that name adds the argument.
 */
#ifndef CS_COMPAT_H
#define CS_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "nodes/pg_list.h"
#include "optimizer/optimizer.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/regproc.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM < 150000
#error "clickstream needs PostgreSQL 15 or later"
#endif

/* ---- new in 16 ---- */

/* Up to 15, a view's range table begins with the entries OLD and NEW. */
#if PG_VERSION_NUM < 160000
#define CS_VIEW_HIDDEN_ENTRIES 2
#else
#define CS_VIEW_HIDDEN_ENTRIES 0
#endif

#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#include "varatt.h"

/* One pair of functions for all kinds of objects. */
#define pg_proc_aclcheck(proc, role, mode) object_aclcheck(ProcedureRelationId, proc, role, mode)
#define pg_database_ownercheck(database, role) object_ownercheck(DatabaseRelationId, database, role)
#define pg_extension_ownercheck(extension, role) object_ownercheck(ExtensionRelationId, extension, role)

/* Errors are raised unless the caller asks for them softly. */
#define stringToQualifiedNameList(string) stringToQualifiedNameList(string, NULL)
#define DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tzp) \
	DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tzp, &(DateTimeErrorExtra){0})

/* MERGE and BRIN. */
#define EvalPlanQualInit(epq, estate, plan, auxrowmarks, param) \
	EvalPlanQualInit(epq, estate, plan, auxrowmarks, param, NIL)
#define ExecInsertIndexTuples(info, slot, estate, update, no_error, conflict, arbiters) \
	ExecInsertIndexTuples(info, slot, estate, update, no_error, conflict, arbiters, false)
#endif

/* Update a row that nobody else changes; do the indexes need entries of its new version? */
static inline bool
cs_table_tuple_update(Relation rel, ItemPointer tid, TupleTableSlot *slot, Snapshot snapshot)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;

	simple_table_tuple_update(rel, tid, slot, snapshot, &indexes);
	return indexes != TU_None;
#else
	bool indexes;

	simple_table_tuple_update(rel, tid, slot, snapshot, &indexes);
	return indexes;
#endif
}

/* What a check hook hands to its assign hook is freed by PostgreSQL: by free() up to 15, then by guc_free(). */
#if PG_VERSION_NUM >= 160000
#define cs_guc_alloc(size) guc_malloc(LOG, size)
#define cs_guc_free guc_free
#else
#define cs_guc_alloc malloc
#define cs_guc_free free
#endif

/*
 * A range table of one relation whose columns "updated" are written.  From 16
 * on what may be done with a relation stands apart from its entry; from 18 on
 * the executor is told which entries were not pruned.
 */
static inline void
cs_init_range_table(EState *estate, RangeTblEntry *rte, Bitmapset *updated)
{
#if PG_VERSION_NUM >= 160000
	List *permissions = NIL;

	addRTEPermissionInfo(&permissions, rte)->updatedCols = updated;
#if PG_VERSION_NUM >= 180000
	ExecInitRangeTable(estate, list_make1(rte), permissions, bms_make_singleton(1));
#else
	ExecInitRangeTable(estate, list_make1(rte), permissions);
#endif
#else
	rte->updatedCols = updated;
	ExecInitRangeTable(estate, list_make1(rte));
#endif
}

/* The entry of a query's first relation becomes one of something else: nothing is checked about the relation. */
static inline void
cs_rte_forget_relation(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	query->rteperminfos = NIL;
	rte->perminfoindex = 0;
#else
	(void) query;
	rte->requiredPerms = 0;
	rte->checkAsUser = InvalidOid;
	rte->selectedCols = NULL;
#endif
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->inh = false;
}

/* ---- new in 17 ---- */

/* A loop that declares its variable. */
#ifndef foreach_ptr
#define foreach_ptr(type, var, lst)                                                                                 \
	for (ForEachState var##__state = {(lst), 0}; var##__state.l != NIL && var##__state.i >= 0; var##__state.i = -1) \
		for (type *var = NULL; var##__state.i < var##__state.l->length &&                                           \
							   (var = (type *) var##__state.l->elements[var##__state.i].ptr_value, true);           \
			 var##__state.i++)
#endif

#if PG_VERSION_NUM >= 170000
#define LockHeldByMe(tag, mode) LockHeldByMe(tag, mode, false)
#endif

/* ---- new in 18 ---- */

/* EXPLAIN ANALYZE counts searches of indexes. */
#if PG_VERSION_NUM >= 180000
#define index_beginscan(heap, index, snapshot, nkeys, norderbys) \
	index_beginscan(heap, index, snapshot, NULL, nkeys, norderbys)
#endif

/* A deferrable primary key is found only when asked for. */
#if PG_VERSION_NUM >= 180000
#define RelationGetPrimaryKeyIndex(rel) RelationGetPrimaryKeyIndex(rel, false)
#endif

/* Columns that are grouped by hide behind a range table entry of their own, always the last. */
static inline void
cs_flatten_groups(Query *query)
{
#if PG_VERSION_NUM >= 180000
	if (!query->hasGroupRTE)
		return;
	query->targetList = (List *) flatten_group_exprs(NULL, query, (Node *) query->targetList);
	query->rtable = list_delete_last(query->rtable);
	query->hasGroupRTE = false;
#else
	(void) query;
#endif
}

/* A query that was started is run to its end, once. */
static inline void
cs_executor_run(QueryDesc *desc)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(desc, ForwardScanDirection, 0);
#else
	ExecutorRun(desc, ForwardScanDirection, 0, true);
#endif
}

/* What C11 has, and stands first in a declaration. */
#ifndef pg_noreturn
#define pg_noreturn __attribute__((noreturn))
#endif

/* What a setting's check hook hands to its assign hook: guc.c frees it. */
#if PG_VERSION_NUM >= 160000
#define cs_guc_malloc(size) guc_malloc(LOG, size)
#else
#define cs_guc_malloc(size) malloc(size)
#endif

#endif
