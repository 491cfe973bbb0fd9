/*
 * core/bound_view.c
 *	  A definition's view over other rows.
 *
 * No SPI: the tree goes through rewriter, planner and executor as it is.
 */
#include "core/bound_view.h"

#include "access/relation.h"
#include "compat.h"
#include "core/catalog.h"
#include "core/definition.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

/* The SELECT, analysed. */
static Query *
rows_query(const char *rows)
{
	List  *parsed = pg_parse_query(rows);
	Query *query;

	if (list_length(parsed) != 1)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("rows must be given as one SELECT")));
	query = parse_analyze_fixedparams(linitial_node(RawStmt, parsed), rows, NULL, 0, NULL);
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->utilityStmt != NULL)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("rows must be given as one SELECT")));
	return query;
}

/* They must be what the relation has: the view's Vars go by number and type. */
static void
check_columns(const Query *rows, Oid relation)
{
	Relation  rel = relation_open(relation, AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);
	ListCell *lc;
	int		  n = 0;

	foreach(lc, rows->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resjunk)
			continue;
		if (n >= desc->natts ||
			(!TupleDescAttr(desc, n)->attisdropped && exprType((Node *) tle->expr) != TupleDescAttr(desc, n)->atttypid))
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("column %d of the rows is not as in \"%s\"", n + 1, RelationGetRelationName(rel))));
		n++;
	}
	if (n != desc->natts)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("the rows have %d columns, \"%s\" has %d", n,
																   RelationGetRelationName(rel), desc->natts)));
	relation_close(rel, AccessShareLock);
}

static Query *
bind(Oid view, const char *rows)
{
	Query		  *query;
	RangeTblEntry *rte;
	Query		  *subquery = rows_query(rows);

	if (get_rel_relkind(view) != RELKIND_VIEW)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a view", get_rel_name(view))));
	query = cs_definition_query(view);
	rte = query->rtable ? rt_fetch(1, query->rtable) : NULL;
	if (rte == NULL || rte->rtekind != RTE_RELATION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("view \"%s\" is not that of a definition", get_rel_name(view))));
	check_columns(subquery, rte->relid);
	cs_rte_forget_relation(query, rte);
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = subquery;
	AcquireRewriteLocks(query, true, false);
	return query;
}

static void
check_result(const Query *query, TupleDesc expected)
{
	TupleDesc desc = ExecCleanTypeFromTL(query->targetList);
	bool	  same = desc->natts == expected->natts;

	for (int i = 0; same && i < desc->natts; i++)
		same = TupleDescAttr(desc, i)->atttypid == TupleDescAttr(expected, i)->atttypid;
	if (!same)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("the list of columns is not that of the view")));
}

static Oid
owner_of(Oid relation)
{
	Relation rel = relation_open(relation, AccessShareLock);
	Oid		 owner = rel->rd_rel->relowner;

	relation_close(rel, AccessShareLock);
	return owner;
}

static void
run(Oid view, const char *rows, TupleDesc expected, Tuplestorestate *result)
{
	Query		 *query = bind(view, rows);
	DestReceiver *dest = CreateDestReceiver(DestTuplestore);
	PlannedStmt	 *plan;
	QueryDesc	 *desc;

	check_result(query, expected);
	plan = pg_plan_query(linitial_node(Query, pg_rewrite_query(query)), rows, CURSOR_OPT_PARALLEL_OK, NULL);
	SetTuplestoreDestReceiverParams(dest, result, CurrentMemoryContext, false, NULL, NULL);
	desc = CreateQueryDesc(plan, rows, GetActiveSnapshot(), InvalidSnapshot, dest, NULL, NULL, 0);
	ExecutorStart(desc, 0);
	cs_executor_run(desc);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
}

void
cs_bound_view_run(Oid view, const char *rows, TupleDesc expected, Tuplestorestate *result)
{
	Oid		   owner = owner_of(view);
	CsIdentity saved;

	if (!has_privs_of_role(GetUserId(), owner))
	{
		run(view, rows, expected, result);
		return;
	}
	cs_identity_enter(&saved, owner, true);
	SetUserIdAndSecContext(owner, saved.sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	run(view, rows, expected, result);
	cs_identity_leave(&saved);
}
