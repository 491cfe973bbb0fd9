/*
 * operator/operator.c
 *	  The registry of operators and what they share.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "operator/expression.h"
#include "operator/operator.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"

const CsOperatorOps *
cs_operator_ops(CsKind kind)
{
	switch (kind)
	{
		case CS_KIND_SESSION:
			return &cs_session_ops;
		case CS_KIND_WINDOW:
			return &cs_window_ops;
		case CS_KIND_FUNNEL:
			return &cs_funnel_ops;
		case CS_KIND_ROLLUP:
			return &cs_rollup_ops;
		case CS_KIND_EVENT_LOG:
			return NULL; /* no definition: it has no state and judges nothing */
	}
	elog(ERROR, "definition of unknown kind %d", (int) kind);
}

/* A column of the function that says which windows hold an event; users' expressions have no such. */
static bool
is_of_window(const TargetEntry *tle)
{
	return IsA(tle->expr, Var) && ((Var *) tle->expr)->varno == 2;
}

void
cs_query_parts(const CsDefinition *def, CsQueryParts *parts)
{
	ListCell *lc;
	bool	  first = true;

	memset(parts, 0, sizeof(*parts));
	parts->query = cs_definition_query(def->view);
	parts->filter = (Expr *) parts->query->jointree->quals;
	foreach(lc, parts->query->targetList)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (tle->resjunk)
			continue;
		if (first || is_of_window(tle))
			first = false;
		else if (tle->ressortgroupref != 0 &&
				 get_sortgroupref_clause_noerr(tle->ressortgroupref, parts->query->groupClause))
			parts->groups = lappend(parts->groups, tle);
		else
			parts->measures = lappend(parts->measures, tle);
	}
}

void
cs_operator_needs(CsOperator *op, Node *node)
{
	cs_expr_columns(node, op->needed, op->stream->event_desc->natts);
}

void
cs_operator_column(CsOperator *op, const char *name, Oid type, int32 typmod, Oid collation, bool is_key)
{
	CsColumn *c;

	op->columns = op->columns ? repalloc(op->columns, (op->ncolumns + 1) * sizeof(CsColumn)) : palloc(sizeof(CsColumn));
	c = &op->columns[op->ncolumns++];
	c->name = pstrdup(name);
	c->type = type;
	c->typmod = typmod;
	c->collation = collation;
	c->is_key = is_key;
}

AttrNumber
cs_system_attno(const CsStream *stream, CsSystemColumn column)
{
	return (AttrNumber) (CS_SEED_COLUMNS + stream->nextra + (int) column);
}

int
cs_operator_column_number(const CsOperator *op, const char *name)
{
	for (int i = 0; i < op->ncolumns; i++)
	{
		if (strcmp(op->columns[i].name, name) == 0)
			return i;
	}
	elog(ERROR, "definition %d has no column %s", op->def->definition_id, name);
}
