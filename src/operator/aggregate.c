/*
 * operator/aggregate.c
 *	  PostgreSQL's aggregates outside of the executor, through pg_aggregate.
 *
 * What nodeAgg.c does for a query, for a state that outlives it: transition
 * on one event, combine, serialize, deserialize, final.  Each event is first
 * made a partial state of its own and then combined; so an error of the
 * transition leaves the kept state untouched and belongs to that event.
 *
 * Functions that ask for their aggregate context get a made-up AggState whose
 * context is the batch's memory.
 *
 * What is stored has a checksum of its own where its functions believe it:
 * a deserialization function checks that it has bytes enough, and nothing of
 * what they say (digits of a numeric, say, may be any number).
 *
 * Guarding.  A combine or final function must not take the batch down.  One
 * of PostgreSQL's own (language internal, built in) computes in memory only:
 * catching its error needs no subtransaction.  Any other runs in one.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "core/errors.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "operator/measure.h"
#include "parser/parse_agg.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

typedef struct AggFunction
{
	Oid				 oid;
	FmgrInfo		 info;
	bool			 strict;
	bool			 builtin;
	int				 nargs;
	FunctionCallInfo fcinfo;
} AggFunction;

struct CsAggregate
{
	char	   *name;
	Node	   *aggstate;
	Oid			collation;
	int			nargs;
	Oid			transtype;
	int16		translen;
	bool		transbyval;
	int16		stored; /* of what is stored: cs_stored_form() */
	bool		init_isnull;
	Datum		init;
	AggFunction trans;
	AggFunction combine;
	AggFunction serial; /* oid 0: the state is stored as it is */
	AggFunction deserial;
	AggFunction final; /* oid 0: the state is the result */
	int16		result_len;
	bool		result_byval;
};

/* ---- compiling ---- */

static void
init_function(CsAggregate *agg, AggFunction *f, Oid oid, int nargs, Expr *expr)
{
	HeapTuple	 tuple;
	Form_pg_proc proc;

	f->oid = oid;
	f->nargs = nargs;
	if (!OidIsValid(oid))
		return;
	fmgr_info(oid, &f->info);
	fmgr_info_set_expr((Node *) expr, &f->info);
	f->strict = f->info.fn_strict;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	f->builtin = proc->prolang == INTERNALlanguageId && oid < FirstNormalObjectId;
	ReleaseSysCache(tuple);
	f->fcinfo = palloc(SizeForFunctionCallInfo(nargs));
	InitFunctionCallInfoData(*f->fcinfo, &f->info, nargs, agg->collation, agg->aggstate, NULL);
}

static void
refuse(Aggref *aggref, const char *why, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("aggregate %s cannot be kept as a measure", format_procedure(aggref->aggfnoid)),
					errdetail_internal("%s", why), errhint("%s", hint)));
}

static void
check_aggref(Aggref *aggref, Form_pg_aggregate form)
{
	if (form->aggkind != AGGKIND_NORMAL)
		refuse(aggref, "It is an ordered-set or hypothetical-set aggregate: it needs all values at once.",
			   "Keep an event log and ask it on demand, or use an approximate aggregate that can be combined.");
	if (aggref->aggorder != NIL)
		refuse(aggref, "ORDER BY within an aggregate needs all values at once.",
			   "Use first(x) or last(x) for the first or last value by event order.");
	if (aggref->aggdistinct != NIL)
		refuse(aggref, "DISTINCT is supported for count only.", "Use count(DISTINCT x).");
	if (!OidIsValid(form->aggcombinefn))
		refuse(aggref, "It has no combine function, so partial results cannot be merged.",
			   "Use an aggregate that supports parallel aggregation.");
	if (form->aggtranstype == INTERNALOID && (!OidIsValid(form->aggserialfn) || !OidIsValid(form->aggdeserialfn)))
		refuse(aggref, "Its state is internal and has no serialization functions, so it cannot be stored.",
			   "Use an aggregate whose state can be serialized.");
}

static Datum
init_value(HeapTuple tuple, Oid transtype, bool *isnull)
{
	Oid	  input, ioparam;
	Datum init = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, isnull);

	if (*isnull)
		return (Datum) 0;
	getTypeInputInfo(transtype, &input, &ioparam);
	return OidInputFunctionCall(input, TextDatumGetCString(init), ioparam, -1);
}

static void
compile_functions(CsAggregate *agg, Aggref *aggref, Form_pg_aggregate form, Oid *inputs, int ninputs)
{
	Expr *expr;
	Oid	  pair[2] = {agg->transtype, agg->transtype};
	int	  final_args = 1 + (form->aggfinalextra ? ninputs : 0);

	build_aggregate_transfn_expr(inputs, ninputs, 0, aggref->aggvariadic, agg->transtype, aggref->inputcollid,
								 form->aggtransfn, InvalidOid, &expr, NULL);
	init_function(agg, &agg->trans, form->aggtransfn, 1 + ninputs, expr);
	build_aggregate_transfn_expr(pair, 1, 0, false, agg->transtype, aggref->inputcollid, form->aggcombinefn, InvalidOid,
								 &expr, NULL);
	init_function(agg, &agg->combine, form->aggcombinefn, 2, expr);
	if (agg->transtype == INTERNALOID)
	{
		build_aggregate_serialfn_expr(form->aggserialfn, &expr);
		init_function(agg, &agg->serial, form->aggserialfn, 1, expr);
		build_aggregate_deserialfn_expr(form->aggdeserialfn, &expr);
		init_function(agg, &agg->deserial, form->aggdeserialfn, 2, expr);
	}
	if (OidIsValid(form->aggfinalfn))
	{
		build_aggregate_finalfn_expr(inputs, final_args, agg->transtype, aggref->aggtype, aggref->inputcollid,
									 form->aggfinalfn, &expr);
		init_function(agg, &agg->final, form->aggfinalfn, final_args, expr);
	}
}

CsAggregate *
cs_aggregate_compile(Aggref *aggref, Node *aggstate)
{
	CsAggregate		 *agg = palloc0(sizeof(CsAggregate));
	HeapTuple		  tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	Form_pg_aggregate form = (Form_pg_aggregate) GETSTRUCT(tuple);
	Oid				  inputs[FUNC_MAX_ARGS];
	int				  ninputs;
	AclResult		  acl = pg_proc_aclcheck(aggref->aggfnoid, GetUserId(), ACL_EXECUTE);

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_AGGREGATE, get_func_name(aggref->aggfnoid));
	check_aggref(aggref, form);
	ninputs = get_aggregate_argtypes(aggref, inputs);
	agg->name = get_func_name(aggref->aggfnoid);
	agg->aggstate = aggstate;
	agg->collation = aggref->inputcollid;
	agg->nargs = ninputs;
	agg->transtype = resolve_aggregate_transtype(aggref->aggfnoid, form->aggtranstype, inputs, ninputs);
	get_typlenbyval(agg->transtype, &agg->translen, &agg->transbyval);
	agg->stored = agg->transtype == INTERNALOID ? CS_STORED_CHECKED : cs_stored_form(agg->transtype);
	get_typlenbyval(aggref->aggtype, &agg->result_len, &agg->result_byval);
	agg->init = init_value(tuple, agg->transtype, &agg->init_isnull);
	compile_functions(agg, aggref, form, inputs, ninputs);
	ReleaseSysCache(tuple);
	return agg;
}

/* ---- running ---- */

static Datum
copy_state(CsAggregate *agg, Datum value)
{
	/* An internal state is a pointer that only its functions understand. */
	if (agg->transtype == INTERNALOID)
		return value;
	return datumCopy(value, agg->transbyval, agg->translen);
}

bool
cs_aggregate_one(CsAggregate *agg, const Datum *args, const bool *argnulls, Datum *state, bool *isnull)
{
	FunctionCallInfo fcinfo = agg->trans.fcinfo;

	if (agg->trans.strict)
	{
		for (int i = 0; i < agg->nargs; i++)
			if (argnulls[i])
				return false;
		if (agg->init_isnull)
		{
			/* The first value becomes the state, as in nodeAgg.c. */
			*state = copy_state(agg, args[0]);
			*isnull = false;
			return true;
		}
	}
	fcinfo->args[0].value = agg->init_isnull ? (Datum) 0 : copy_state(agg, agg->init);
	fcinfo->args[0].isnull = agg->init_isnull;
	for (int i = 0; i < agg->nargs; i++)
	{
		fcinfo->args[i + 1].value = args[i];
		fcinfo->args[i + 1].isnull = argnulls[i];
	}
	fcinfo->isnull = false;
	*state = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;

	/* It may have handed back a piece of its input, which does not live as long. */
	if (!*isnull && !agg->transbyval && agg->transtype != INTERNALOID)
		*state = copy_state(agg, *state);
	return true;
}

/* Call a function whose failure must not take the batch down; false if it raised. */
static bool
call_guarded(AggFunction *f, Datum *result, bool *isnull)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	f->fcinfo->isnull = false;
	if (!f->builtin)
		BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		*result = FunctionCallInvoke(f->fcinfo);
		*isnull = f->fcinfo->isnull;
		if (!f->builtin)
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (cs_error_is_servers(geterrcode()))
			PG_RE_THROW();
		FlushErrorState();
		if (!f->builtin)
			RollbackAndReleaseCurrentSubTransaction();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return ok;
}

static void
set_arg(AggFunction *f, int i, Datum value, bool isnull)
{
	f->fcinfo->args[i].value = isnull ? (Datum) 0 : value;
	f->fcinfo->args[i].isnull = isnull;
}

static void
deserialize(CsAggregate *agg, CsMeasureState *st)
{
	MemoryContext context = CurrentMemoryContext;

	agg->deserial.fcinfo->isnull = false;
	PG_TRY();
	{
		st->value = FunctionCallInvoke(agg->deserial.fcinfo);
		st->isnull = agg->deserial.fcinfo->isnull;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (cs_error_is_servers(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("stored state is damaged: aggregate %s does not take it: %s", agg->name, error->message),
						errhint(CS_DAMAGE_HINT)));
	}
	PG_END_TRY();
}

/*
 * Bring a stored state to life.  That its bytes are what was stored is known
 * by their checksum; so if the aggregate does not take them it is another one
 * than it was, and a NULL would hide what is lost.
 */
static void
wake(CsAggregate *agg, CsMeasureState *st)
{
	if (!st->serial)
		return;
	st->serial = false;
	if (st->isnull)
		return;
	if (!OidIsValid(agg->deserial.oid))
	{
		st->value = copy_state(agg, st->value); /* combine may write into it */
		return;
	}
	set_arg(&agg->deserial, 0, st->value, false);
	set_arg(&agg->deserial, 1, (Datum) 0, false);
	deserialize(agg, st);
}

void
cs_aggregate_examine(CsAggregate *agg, CsMeasureState *st)
{
	if (st->has && !st->broken)
		wake(agg, st);
}

static bool
fail(CsMeasureState *st)
{
	st->broken = true;
	return false;
}

bool
cs_aggregate_combine(CsAggregate *agg, CsMeasureState *dst, Datum src, bool src_isnull)
{
	bool isnull;

	if (dst->broken)
		return true;
	if (!dst->has)
	{
		dst->has = true;
		dst->serial = false;
		dst->isnull = src_isnull;
		dst->value = src_isnull ? (Datum) 0 : src;
		return true;
	}
	wake(agg, dst);
	if (agg->combine.strict)
	{
		if (src_isnull)
			return true;
		if (dst->isnull)
		{
			dst->value = copy_state(agg, src); /* the next combine may write into it */
			dst->isnull = false;
			return true;
		}
	}
	set_arg(&agg->combine, 0, dst->value, dst->isnull);
	set_arg(&agg->combine, 1, src, src_isnull);
	if (!call_guarded(&agg->combine, &dst->value, &isnull))
		return fail(dst);
	dst->isnull = isnull;
	return true;
}

/*
 * Merge src into dst and leave src as it is.  The first source must not
 * become dst's own state, because combine functions write into that.
 */
bool
cs_aggregate_merge(CsAggregate *agg, CsMeasureState *dst, CsMeasureState *src)
{
	if (src->broken)
		return fail(dst);
	if (!src->has || dst->broken)
		return true;
	if (dst->has)
	{
		wake(agg, src);
		return cs_aggregate_combine(agg, dst, src->value, src->isnull);
	}
	dst->has = true;
	dst->isnull = src->isnull;
	dst->value = src->value;
	dst->serial = src->serial;
	if (src->serial || src->isnull)
		return true;
	if (!OidIsValid(agg->serial.oid))
	{
		dst->value = copy_state(agg, src->value);
		return true;
	}
	set_arg(&agg->serial, 0, src->value, false);
	dst->serial = true;
	return call_guarded(&agg->serial, &dst->value, &dst->isnull) || fail(dst);
}

/* Of an empty state too: count-like aggregates have a result then. */
bool
cs_aggregate_final(CsAggregate *agg, CsMeasureState *st, Datum *value, bool *isnull)
{
	CsMeasureState empty;

	*isnull = true;
	*value = (Datum) 0;
	if (st->broken)
		return true;
	if (!st->has)
	{
		memset(&empty, 0, sizeof(empty));
		empty.isnull = agg->init_isnull;
		empty.value = agg->init_isnull ? (Datum) 0 : copy_state(agg, agg->init);
		st = &empty;
	}
	wake(agg, st);
	if (!OidIsValid(agg->final.oid))
	{
		*value = st->value;
		*isnull = st->isnull;
		return true;
	}
	if (agg->final.strict && (st->isnull || agg->final.nargs > 1))
		return true;
	set_arg(&agg->final, 0, st->value, st->isnull);
	for (int i = 1; i < agg->final.nargs; i++)
		set_arg(&agg->final, i, (Datum) 0, true);
	if (!call_guarded(&agg->final, value, isnull))
		return fail(st);
	if (!*isnull && !agg->result_byval)
		*value = datumCopy(*value, agg->result_byval, agg->result_len);
	return true;
}

enum
{
	STORED_EMPTY,
	STORED_NULL,
	STORED_VALUE,
	STORED_BROKEN
};

bool
cs_aggregate_put(CsAggregate *agg, CsMeasureState *st, StringInfo buf)
{
	bool  serial = st->serial && OidIsValid(agg->serial.oid);
	Datum value = st->value;
	bool  isnull = st->isnull;
	bool  ok = true;

	if (st->has && !st->broken && !isnull && !serial && OidIsValid(agg->serial.oid))
	{
		set_arg(&agg->serial, 0, value, false);
		if (!call_guarded(&agg->serial, &value, &isnull))
			ok = fail(st);
	}
	if (st->broken)
		cs_put_u8(buf, STORED_BROKEN);
	else if (!st->has)
		cs_put_u8(buf, STORED_EMPTY);
	else if (isnull)
		cs_put_u8(buf, STORED_NULL);
	else
	{
		cs_put_u8(buf, STORED_VALUE);
		cs_put_datum(buf, value, false, agg->stored, agg->stored >= 0 && agg->transbyval);
	}
	return ok;
}

void
cs_aggregate_get(CsAggregate *agg, CsMeasureState *st, CsReader *r)
{
	uint8 how = cs_get_u8(r);

	st->broken = how == STORED_BROKEN;
	st->has = how == STORED_NULL || how == STORED_VALUE;
	st->isnull = how != STORED_VALUE;
	st->serial = true;
	if (how > STORED_BROKEN)
		cs_reader_corrupt(r, "an aggregate's state is of no known form");
	if (how != STORED_VALUE)
		return;
	st->value = cs_get_datum(r, &st->isnull, agg->stored, agg->stored >= 0 && agg->transbyval);
	if (st->isnull)
		cs_reader_corrupt(r, "an aggregate's state is not there");
}
