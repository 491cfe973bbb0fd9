/*
 * operator/measure.c
 *	  Measures of windows, sessions and rollups: evaluating, keeping, merging.
 *
 * See measure.h.  No locking, no catalog access after compilation.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "core/errors.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "operator/measure.h"
#include "optimizer/tlist.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

/* ---- compiling ---- */

static bool
is_integer_like(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == DATEOID || type == TIMESTAMPOID ||
		   type == TIMESTAMPTZOID;
}

/* Is it clickstream.first / last over the event's place? */
static bool
is_by_place(Aggref *aggref, const char *name, AttrNumber place_attno)
{
	char *namespace;
	TargetEntry *place;

	if (list_length(aggref->args) != 2 || place_attno == 0)
		return false;
	if (strcmp(name, "first") != 0 && strcmp(name, "last") != 0)
		return false;
	namespace = get_namespace_name(get_func_namespace(aggref->aggfnoid));
	place = lsecond_node(TargetEntry, aggref->args);
	return namespace && strcmp(namespace, "clickstream") == 0 && IsA(place->expr, Var) &&
		   ((Var *) place->expr)->varno == 1 && ((Var *) place->expr)->varattno == place_attno;
}

/* Which of our own code fits the aggregate. */
static CsMeasureKind
measure_kind(Aggref *aggref, AttrNumber place_attno)
{
	char *name = get_func_name(aggref->aggfnoid);
	bool  builtin = get_func_namespace(aggref->aggfnoid) == PG_CATALOG_NAMESPACE;
	Oid	  arg = aggref->args ? exprType((Node *) linitial_node(TargetEntry, aggref->args)->expr) : InvalidOid;

	if (is_by_place(aggref, name, place_attno))
		return strcmp(name, "first") == 0 ? CS_MEASURE_FIRST : CS_MEASURE_LAST;
	if (!builtin || aggref->aggorder != NIL || aggref->aggkind != 'n')
		return CS_MEASURE_GENERIC;
	if (strcmp(name, "count") == 0)
		return aggref->aggdistinct ? CS_MEASURE_DISTINCT : CS_MEASURE_COUNT;
	if (aggref->aggdistinct != NIL)
		return CS_MEASURE_GENERIC; /* which refuses it */
	if (strcmp(name, "sum") == 0 && (arg == INT2OID || arg == INT4OID))
		return CS_MEASURE_SUM;
	if (strcmp(name, "min") == 0 && is_integer_like(arg))
		return CS_MEASURE_MIN;
	if (strcmp(name, "max") == 0 && is_integer_like(arg))
		return CS_MEASURE_MAX;
	return CS_MEASURE_GENERIC;
}

/* Its argument must have a hash function, which it would find out only at the first event. */
static void
check_approx(Aggref *aggref)
{
	char *namespace = get_namespace_name(get_func_namespace(aggref->aggfnoid));
	Expr	*arg = aggref->args ? linitial_node(TargetEntry, aggref->args)->expr : NULL;
	CsHasher hasher;

	if (namespace && strcmp(namespace, "clickstream") == 0 &&
		strcmp(get_func_name(aggref->aggfnoid), "approx_count_distinct") == 0)
		cs_hasher_init(&hasher, exprType((Node *) arg), exprCollation((Node *) arg),
					   "the argument of approx_count_distinct");
}

static void
compile_measure(CsMeasures *ms, CsMeasure *m, Aggref *aggref)
{
	ListCell *lc;

	m->kind = measure_kind(aggref, ms->place_attno);
	m->result_type = aggref->aggtype;
	get_typlenbyval(aggref->aggtype, &m->result_len, &m->result_byval);
	if (m->kind == CS_MEASURE_GENERIC)
	{
		check_approx(aggref);
		m->aggregate = cs_aggregate_compile(aggref, ms->aggstate);
	}
	if (aggref->aggfilter)
	{
		m->has_filter = true;
		cs_expr_init(&m->filter, aggref->aggfilter);
	}
	m->args = palloc0(Max(list_length(aggref->args), 1) * sizeof(CsExpr));
	foreach(lc, aggref->args)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		cs_expr_init(&m->args[m->nargs++], tle->expr);
	}
	if (m->kind == CS_MEASURE_FIRST || m->kind == CS_MEASURE_LAST)
		m->nargs = 1;
	if (m->kind == CS_MEASURE_DISTINCT)
		cs_hasher_init(&m->hasher, m->args[0].type,
					   exprCollation((Node *) linitial_node(TargetEntry, aggref->args)->expr),
					   "the argument of count(DISTINCT)");
}

typedef struct ReplaceContext
{
	List *aggrefs;
} ReplaceContext;

/* Aggrefs become columns of the slot of aggregate results; equal ones share one. */
static Node *
replace_aggrefs(Node *node, ReplaceContext *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref))
	{
		Aggref	 *aggref = (Aggref *) node;
		int		  i = 0;
		ListCell *lc;

		foreach(lc, context->aggrefs)
		{
			if (equal(lfirst(lc), aggref))
				break;
			i++;
		}
		if (lc == NULL)
			context->aggrefs = lappend(context->aggrefs, aggref);
		return (Node *) makeVar(1, i + 1, aggref->aggtype, -1, aggref->aggcollid, 0);
	}
	if (IsA(node, Var))
		ereport(ERROR,
				(errcode(ERRCODE_GROUPING_ERROR), errmsg("a measure may use columns only inside of an aggregate")));
	return expression_tree_mutator(node, replace_aggrefs, context);
}

static void
compile_output(CsOutput *out, TargetEntry *tle, ReplaceContext *context)
{
	Node *node = replace_aggrefs((Node *) tle->expr, context);

	out->name = pstrdup(tle->resname);
	out->type = exprType(node);
	out->typmod = exprTypmod((Node *) tle->expr);
	out->collation = exprCollation((Node *) tle->expr);
	out->measure = -1;
	if (IsA(node, Var))
		out->measure = ((Var *) node)->varattno - 1;
	else
		out->expr = cs_expr_compile((Expr *) node);
}

static TupleTableSlot *
make_results_slot(List *aggrefs)
{
	TupleDesc desc = CreateTemplateTupleDesc(Max(list_length(aggrefs), 1));
	int		  i = 0;
	ListCell *lc;

	if (aggrefs == NIL)
		TupleDescInitEntry(desc, 1, NULL, INT4OID, -1, 0);
	foreach(lc, aggrefs)
	{
		Aggref *aggref = lfirst_node(Aggref, lc);

		TupleDescInitEntry(desc, ++i, NULL, aggref->aggtype, -1, 0);
		TupleDescInitEntryCollation(desc, i, aggref->aggcollid);
	}
	return MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
}

CsMeasures *
cs_measures_compile(List *targets, AttrNumber place_attno)
{
	CsMeasures	  *ms = palloc0(sizeof(CsMeasures));
	AggState	  *aggstate = makeNode(AggState);
	ReplaceContext context = {NIL};
	ListCell	  *lc;
	int			   i = 0;

	ms->place_attno = place_attno;
	ms->aggcontext = makeNode(ExprContext);
	aggstate->curaggcontext = ms->aggcontext;
	ms->aggstate = (Node *) aggstate;
	ms->outputs = palloc0(Max(list_length(targets), 1) * sizeof(CsOutput));
	foreach(lc, targets)
		compile_output(&ms->outputs[ms->noutputs++], lfirst_node(TargetEntry, lc), &context);
	ms->n = list_length(context.aggrefs);
	ms->measures = palloc0(Max(ms->n, 1) * sizeof(CsMeasure));
	foreach(lc, context.aggrefs)
	{
		compile_measure(ms, &ms->measures[i], lfirst_node(Aggref, lc));
		ms->ndistinct += ms->measures[i++].kind == CS_MEASURE_DISTINCT;
	}
	ms->results = make_results_slot(context.aggrefs);
	ms->econtext = CreateStandaloneExprContext();
	ms->econtext->ecxt_scantuple = ms->results;
	return ms;
}

/* ---- events ---- */

static void
evaluate_generic(CsMeasures *ms, CsMeasure *m, CsBatchContext *batch, CsInput *in)
{
	Datum		  args[FUNC_MAX_ARGS];
	bool		  nulls[FUNC_MAX_ARGS];
	MemoryContext old;

	for (int i = 0; i < m->nargs; i++)
		args[i] = cs_expr_eval(&m->args[i], batch->econtext, &nulls[i]);
	ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	old = MemoryContextSwitchTo(batch->batch);
	in->take = cs_aggregate_one(m->aggregate, args, nulls, &in->value, &in->isnull);
	MemoryContextSwitchTo(old);
}

void
cs_measures_evaluate(CsMeasures *ms, CsBatchContext *batch, CsInput *inputs)
{
	for (int i = 0; i < ms->n; i++)
	{
		CsMeasure *m = &ms->measures[i];
		CsInput	  *in = &inputs[i];

		in->take = !m->has_filter || cs_expr_true(&m->filter, batch->econtext);
		if (!in->take || m->nargs == 0)
			continue;
		if (m->kind == CS_MEASURE_GENERIC)
		{
			evaluate_generic(ms, m, batch, in);
			continue;
		}
		in->value = cs_expr_eval(&m->args[0], batch->econtext, &in->isnull);
		if (in->isnull && m->kind != CS_MEASURE_FIRST && m->kind != CS_MEASURE_LAST)
			in->take = false;
		else if (m->kind == CS_MEASURE_DISTINCT)
			in->hash = cs_hash_value(&m->hasher, in->value, false);
	}
}

Size
cs_measures_size(const CsMeasures *ms)
{
	return ms->n * sizeof(CsMeasureState) + ms->ndistinct * sizeof(CsSet);
}

void
cs_measures_init(CsMeasures *ms, CsMeasureState *states)
{
	CsSet *sets = (CsSet *) (states + ms->n);

	memset(states, 0, cs_measures_size(ms));
	for (int i = 0; i < ms->n; i++)
	{
		states[i].isnull = true;
		if (ms->measures[i].kind == CS_MEASURE_DISTINCT)
			states[i].set = sets++;
	}
}

static void
take_value(const CsExpr *expr, CsMeasureState *st, Datum value, bool isnull, const CsPlace *place)
{
	st->has = true;
	st->place = *place;
	st->isnull = isnull;
	st->value = isnull ? (Datum) 0 : datumCopy(value, expr->typbyval, expr->typlen);
}

void
cs_measure_add_number(CsMeasureState *st, CsMeasureKind kind, int64 value)
{
	if (!st->has)
		st->n = value;
	else if (kind == CS_MEASURE_MIN)
		st->n = Min(st->n, value);
	else if (kind == CS_MEASURE_MAX)
		st->n = Max(st->n, value);
	else if (pg_add_s64_overflow(st->n, value, &st->n))
		st->broken = true;
	st->has = true;
}

void
cs_measures_add(CsMeasures *ms, CsMeasureState *states, const CsInput *inputs, const CsPlace *place)
{
	for (int i = 0; i < ms->n; i++)
	{
		CsMeasure	   *m = &ms->measures[i];
		CsMeasureState *st = &states[i];
		const CsInput  *in = &inputs[i];

		if (!in->take)
			continue;
		switch (m->kind)
		{
			case CS_MEASURE_COUNT:
				st->n++;
				break;
			case CS_MEASURE_DISTINCT:
				cs_set_add(st->set, in->hash);
				break;
			case CS_MEASURE_SUM:
			case CS_MEASURE_MIN:
			case CS_MEASURE_MAX:
				cs_measure_add_number(st, m->kind, cs_measure_int(&m->args[0], in->value));
				break;
			case CS_MEASURE_FIRST:
				if (!st->has || cs_place_cmp(place, &st->place) < 0)
					take_value(&m->args[0], st, in->value, in->isnull, place);
				break;
			case CS_MEASURE_LAST:
				if (!st->has || cs_place_cmp(place, &st->place) > 0)
					take_value(&m->args[0], st, in->value, in->isnull, place);
				break;
			case CS_MEASURE_GENERIC:
				if (!cs_aggregate_combine(m->aggregate, st, in->value, in->isnull))
					ms->errors++;
				break;
		}
	}
}

void
cs_measures_prefetch(const CsMeasures *ms, const CsMeasureState *states, const CsInput *inputs, bool members)
{
	for (int i = 0; i < ms->n; i++)
	{
		if (ms->measures[i].kind != CS_MEASURE_DISTINCT || !inputs[i].take)
			continue;
		if (members)
			cs_set_prefetch_member(states[i].set, inputs[i].hash);
		else
			cs_set_prefetch_slot(states[i].set, inputs[i].hash);
	}
}

void
cs_measures_merge(CsMeasures *ms, CsState *state, CsMeasureState *dst, CsMeasureState *src)
{
	ms->aggcontext->ecxt_per_tuple_memory = CurrentMemoryContext;
	for (int i = 0; i < ms->n; i++)
	{
		CsMeasure	   *m = &ms->measures[i];
		CsMeasureState *d = &dst[i];
		CsMeasureState *s = &src[i];

		switch (m->kind)
		{
			case CS_MEASURE_COUNT:
				d->n += s->n;
				break;
			case CS_MEASURE_DISTINCT:
				cs_set_union(state, d->set, s->set);
				break;
			case CS_MEASURE_SUM:
			case CS_MEASURE_MIN:
			case CS_MEASURE_MAX:
				d->broken |= s->broken;
				if (s->has)
					cs_measure_add_number(d, m->kind, s->n);
				break;
			case CS_MEASURE_FIRST:
				if (s->has && (!d->has || cs_place_cmp(&s->place, &d->place) < 0))
					take_value(&m->args[0], d, s->value, s->isnull, &s->place);
				break;
			case CS_MEASURE_LAST:
				if (s->has && (!d->has || cs_place_cmp(&s->place, &d->place) > 0))
					take_value(&m->args[0], d, s->value, s->isnull, &s->place);
				break;
			case CS_MEASURE_GENERIC:
				if (!cs_aggregate_merge(m->aggregate, d, s))
					ms->errors++;
				break;
		}
	}
}

void
cs_measures_copy(CsMeasures *ms, CsMeasureState *dst, CsMeasureState *src)
{
	ms->aggcontext->ecxt_per_tuple_memory = CurrentMemoryContext;
	for (int i = 0; i < ms->n; i++)
	{
		CsMeasure *m = &ms->measures[i];
		CsSet	  *set = dst[i].set;

		if (m->kind == CS_MEASURE_GENERIC)
		{
			if (!cs_aggregate_merge(m->aggregate, &dst[i], &src[i]))
				ms->errors++;
			continue;
		}
		dst[i] = src[i]; /* values are never written to, only replaced */
		dst[i].set = set;
		if (set)
			cs_set_copy(set, src[i].set);
	}
}

void
cs_measures_examine(CsMeasures *ms, CsMeasureState *states)
{
	ms->aggcontext->ecxt_per_tuple_memory = CurrentMemoryContext;
	for (int i = 0; i < ms->n; i++)
	{
		if (ms->measures[i].kind == CS_MEASURE_GENERIC)
			cs_aggregate_examine(ms->measures[i].aggregate, &states[i]);
	}
}

/* ---- results ---- */

static Datum
int_datum(const CsMeasure *m, int64 value)
{
	switch (m->result_len)
	{
		case 2:
			return Int16GetDatum((int16) value);
		case 4:
			return Int32GetDatum((int32) value);
		default:
			return Int64GetDatum(value);
	}
}

static void
aggregate_result(CsMeasures *ms, CsMeasure *m, CsMeasureState *st, Datum *value, bool *isnull)
{
	*isnull = false;
	switch (m->kind)
	{
		case CS_MEASURE_COUNT:
			*value = Int64GetDatum(st->n);
			break;
		case CS_MEASURE_DISTINCT:
			*value = Int64GetDatum(cs_set_count(st->set));
			break;
		case CS_MEASURE_SUM:
		case CS_MEASURE_MIN:
		case CS_MEASURE_MAX:
			*isnull = !st->has || st->broken;
			*value = int_datum(m, st->n);
			break;
		case CS_MEASURE_FIRST:
		case CS_MEASURE_LAST:
			*isnull = st->isnull;
			*value = st->value;
			break;
		case CS_MEASURE_GENERIC:
			if (!cs_aggregate_final(m->aggregate, st, value, isnull))
				ms->errors++;
			break;
	}
}

/* An expression over aggregates may raise (a division by zero): then it is NULL. */
static void
guarded_output(CsMeasures *ms, CsOutput *out, Datum *value, bool *isnull)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		ms->econtext->ecxt_per_tuple_memory = context;
		*value = ExecEvalExpr(out->expr, ms->econtext, isnull);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (cs_error_is_servers(geterrcode()))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		*isnull = true;
		*value = (Datum) 0;
		ms->errors++;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

void
cs_measures_result(CsMeasures *ms, CsMeasureState *states, Datum *values, bool *isnull)
{
	TupleTableSlot *slot = ms->results;

	ms->aggcontext->ecxt_per_tuple_memory = CurrentMemoryContext;
	ExecClearTuple(slot);
	for (int i = 0; i < ms->n; i++)
		aggregate_result(ms, &ms->measures[i], &states[i], &slot->tts_values[i], &slot->tts_isnull[i]);
	ExecStoreVirtualTuple(slot);
	for (int i = 0; i < ms->noutputs; i++)
	{
		CsOutput *out = &ms->outputs[i];

		if (out->measure < 0)
			guarded_output(ms, out, &values[i], &isnull[i]);
		else
		{
			values[i] = slot->tts_values[out->measure];
			isnull[i] = slot->tts_isnull[out->measure];
		}
	}
	ExecClearTuple(slot);
}

void
cs_measures_drop(CsMeasures *ms, CsState *state, CsMeasureState *states)
{
	for (int i = 0; i < ms->n; i++)
	{
		if (ms->measures[i].kind == CS_MEASURE_DISTINCT)
			cs_set_drop(state, states[i].set);
	}
}

bool
cs_measures_have_big_sets(const CsMeasures *ms, const CsMeasureState *states)
{
	for (int i = 0; i < ms->n; i++)
	{
		/* one that is too large for the entry is a set of its own as soon as it is put */
		if (ms->measures[i].kind == CS_MEASURE_DISTINCT &&
			(states[i].set->id != 0 || cs_set_count(states[i].set) > CS_SET_INLINE))
			return true;
	}
	return false;
}
