/*
 * core/view_check.c
 *	  What the expressions of a definition may not be.
 *
 * An expression is run once for each event, possibly again after a crash,
 * and its answer must be the same each time: so nothing volatile, no clock,
 * no session.  It is run outside of a query: so no sub-queries, no window
 * functions, no sets, no rows as a whole.  Everything is refused here, when
 * the definition is made, at the place where it stands.
 */
#include "core/view_check.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "core/catalog.h"
#include "core/lookup.h"
#include "core/types.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"

typedef struct Walk
{
	CsView *view;
	int		rules;
	int		natts; /* of the event relation, to know its last column */
	Node   *node;  /* whose functions are being looked at */
} Walk;

/* Is this a call of first(x), last(x) or page_dwell(x), ours or unqualified? */
static bool
is_place_call(const FuncCall *call)
{
	const char *name = strVal(llast(call->funcname));

	if (strcmp(name, "first") != 0 && strcmp(name, "last") != 0 && strcmp(name, "page_dwell") != 0)
		return false;
	if (list_length(call->funcname) == 2 && strcmp(strVal(linitial(call->funcname)), CS_SCHEMA) != 0)
		return false;
	return list_length(call->funcname) <= 2 && list_length(call->args) == 1 && call->over == NULL &&
		   !call->func_variadic && !call->agg_within_group;
}

static bool
rewrite_walker(Node *node, Walk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncCall) && is_place_call((FuncCall *) node))
	{
		FuncCall  *call = (FuncCall *) node;
		ColumnRef *place = makeNode(ColumnRef);

		if (walk->rules & CS_VIEW_NO_PLACE)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("%s() cannot be used here", strVal(llast(call->funcname))),
							errdetail("Rows of a table have no place in a stream."),
							errhint("Use min() or max() of a column."), cs_view_position(walk->view, call->location)));
		place->fields = list_make2(makeString("e"), makeString("place"));
		place->location = call->location;
		call->funcname = list_make2(makeString(CS_SCHEMA), llast(call->funcname));
		call->args = lappend(call->args, place);
	}
	return raw_expression_tree_walker(node, rewrite_walker, walk);
}

void
cs_view_rewrite_places(CsView *view, Node *raw, int rules)
{
	Walk walk = {.view = view, .rules = rules};

	(void) rewrite_walker(raw, &walk);
}

/* lookup.column, or NULL if it is something else. */
static CsLookup *
lookup_of(const ColumnRef *ref, List *lookups)
{
	if (list_length(ref->fields) != 2 || !IsA(linitial(ref->fields), String))
		return NULL;
	return cs_lookup_find(lookups, strVal(linitial(ref->fields)));
}

typedef struct LookupWalk
{
	CsView *view;
	List   *lookups;
} LookupWalk;

static void
rewrite_lookup(LookupWalk *walk, ColumnRef *ref, const CsLookup *lookup)
{
	const char *column = IsA(llast(ref->fields), String) ? strVal(llast(ref->fields)) : "*";

	if (cs_lookup_attno(lookup, column) == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("lookup \"%s\" has no column \"%s\"", lookup->name, column),
				 errhint("Table clickstream.lookup lists the columns of lookups."),
				 cs_view_position(walk->view, ref->location)));
	ref->fields = list_make2(makeString("e"), makeString(cs_lookup_column(lookup->name, column)));
}

static bool
lookups_walker(Node *node, LookupWalk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
	{
		const CsLookup *lookup = lookup_of((ColumnRef *) node, walk->lookups);

		if (lookup != NULL)
			rewrite_lookup(walk, (ColumnRef *) node, lookup);
		return false;
	}
	return raw_expression_tree_walker(node, lookups_walker, walk);
}

void
cs_view_rewrite_lookups(CsView *view, Node *raw, List *lookups)
{
	LookupWalk walk = {view, lookups};

	(void) lookups_walker(raw, &walk);
}

pg_noreturn static void
refuse(Walk *walk, const char *what, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s cannot be used in a definition", what),
			 detail ? errdetail_internal("%s", detail) : 0, cs_view_position(walk->view, exprLocation(walk->node))));
}

/* Stable functions whose answer depends on the clock or the session. */
static bool
is_clock_or_session(Oid function)
{
	switch (function)
	{
		case F_NOW:
		case F_TRANSACTION_TIMESTAMP:
		case F_STATEMENT_TIMESTAMP:
		case F_AGE_TIMESTAMP:
		case F_AGE_TIMESTAMPTZ:
		case F_CURRENT_USER:
		case F_SESSION_USER:
		case F_CURRENT_SCHEMA:
		case F_CURRENT_SCHEMAS:
		case F_CURRENT_DATABASE:
		case F_CURRENT_SETTING_TEXT:
		case F_CURRENT_SETTING_TEXT_BOOL:
		case F_PG_BACKEND_PID:
			return true;
		default:
			return false;
	}
}

/* For check_functions_in_node. */
static bool
check_function(Oid function, void *arg)
{
	Walk *walk = arg;

	if (is_clock_or_session(function))
		refuse(walk, psprintf("function %s", format_procedure(function)),
			   "Its result depends on the clock or the session, not on the event.");
	if (func_volatile(function) == PROVOLATILE_VOLATILE)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("volatile function %s cannot be used in a definition", format_procedure(function)),
						errdetail("An expression must give the same result whenever it is run for the same event."),
						errhint("If the function does that, declare it IMMUTABLE or STABLE."),
						cs_view_position(walk->view, exprLocation(walk->node))));
	return false;
}

static void
check_var(Walk *walk, const Var *var)
{
	if (var->varno != 1 && var->varlevelsup == 0)
		refuse(walk, "the start of the window", "Expressions see the columns of the event only.");
	if (var->varattno == 0)
		refuse(walk, "a row as a whole", NULL);
	if (var->varattno < 0)
		refuse(walk, "a system column", NULL);
	if ((walk->rules & CS_VIEW_NO_VISITOR) && var->varattno == walk->natts)
		ereport(ERROR, (errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
						errmsg("column \"effective_user_id\" cannot be used in the definition of a stream"),
						errdetail("It is the value of the stream's visitor expression."),
						errhint("Write that expression instead."), cs_view_position(walk->view, var->location)));
}

/* Kinds of nodes that no definition may hold. */
static void
check_kind(Walk *walk)
{
	Node *node = walk->node;

	switch (nodeTag(node))
	{
		case T_SubLink:
		case T_Query:
			refuse(walk, "a sub-query", NULL);
		case T_WindowFunc:
			refuse(walk, "a window function", NULL);
		case T_GroupingFunc:
			refuse(walk, "GROUPING()", NULL);
		case T_SQLValueFunction:
			refuse(walk, "CURRENT_DATE, CURRENT_TIME, CURRENT_USER and their like",
				   "Their result depends on the clock or the session, not on the event.");
		case T_NextValueExpr:
			refuse(walk, "nextval()", NULL);
		case T_FuncExpr:
			if (((FuncExpr *) node)->funcretset)
				refuse(walk, "a set-returning function", NULL);
			break;
		case T_OpExpr:
			if (((OpExpr *) node)->opretset)
				refuse(walk, "a set-returning operator", NULL);
			break;
		case T_Aggref:
			if (walk->rules & CS_VIEW_NO_AGGREGATES)
				refuse(walk, "an aggregate", "The expression is one of a single event.");
			break;
		case T_Var:
			check_var(walk, (Var *) node);
			break;
		default:
			break;
	}
}

static bool
check_walker(Node *node, Walk *walk)
{
	if (node == NULL)
		return false;
	if (IsA(node, TargetEntry) || IsA(node, List))
		return expression_tree_walker(node, check_walker, walk);
	walk->node = node;
	check_kind(walk);
	(void) check_functions_in_node(node, check_function, walk);
	return expression_tree_walker(node, check_walker, walk);
}

/* The type of a column: boolean if it must be, and never a pseudo-type. */
static void
check_type(CsView *view, const TargetEntry *entry, const CsColumnCheck *check)
{
	Oid type = exprType((Node *) entry->expr);

	if (check->is_boolean && type != BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s must be type boolean, not type %s", check->label, format_type_be(type)),
				 errhint("Write a condition, such as event_type = 'click'."), cs_view_position(view, check->location)));
	if (get_typtype(type) == TYPTYPE_PSEUDO)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("column \"%s\" cannot have type %s", check->name, format_type_be(type)),
						cs_view_position(view, check->location)));
}

void
cs_view_check(CsView *view, Query *query, List *checks, int rules)
{
	RangeTblEntry *entry = linitial(query->rtable);
	Walk		   walk = {.view = view, .rules = rules, .natts = list_length(entry->eref->colnames)};
	ListCell	  *target;
	ListCell	  *check;

	Assert(list_length(query->targetList) == list_length(checks));
	forboth(target, query->targetList, check, checks)
	{
		CsColumnCheck *column = lfirst(check);

		if (column->label == NULL)
			continue;
		(void) check_walker((Node *) ((TargetEntry *) lfirst(target))->expr, &walk);
		check_type(view, lfirst(target), column);
	}
	(void) check_walker(query->jointree->quals, &walk);
}
