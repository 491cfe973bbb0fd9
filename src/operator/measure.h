/*
 * operator/measure.h
 *	  Measures: PostgreSQL's aggregates, run outside of the executor.
 *
 * A measure is an expression over aggregates, as a target of the definition's
 * view.  Any aggregate that can be combined and serialised works.  The state
 * of a measure is a partial aggregate; states of cells and sessions are merged
 * with the aggregate's combine function.
 *
 * count, count(DISTINCT), sum of integers, min and max of integers and times,
 * first and last by place have code of their own, because a profile of the
 * seed's pipeline is made of them; the rest goes through pg_aggregate.
 * measure.c evaluates, keeps and merges, measure_codec.c turns states into
 * bytes and back.
 *
 * Errors: cs_measures_evaluate() may raise (the event's and definition's
 * fault).  Everything after it does not: a combine or final function that
 * fails makes that measure NULL from then on, and is counted in errors.  Only
 * stored state that its aggregate does not take back raises: it is damaged.
 */
#ifndef CS_OPERATOR_MEASURE_H
#define CS_OPERATOR_MEASURE_H

#include "operator/expression.h"
#include "operator/operator.h"
#include "state/delta.h"

typedef enum CsMeasureKind
{
	CS_MEASURE_COUNT,	 /* count(*), count(x) */
	CS_MEASURE_DISTINCT, /* count(DISTINCT x) */
	CS_MEASURE_SUM,		 /* sum(smallint), sum(integer) */
	CS_MEASURE_MIN,		 /* of integers, dates, timestamps */
	CS_MEASURE_MAX,
	CS_MEASURE_FIRST, /* by place */
	CS_MEASURE_LAST,
	CS_MEASURE_GENERIC /* any other, through pg_aggregate */
} CsMeasureKind;

struct CsAggregate; /* functions of a generic aggregate */

typedef struct CsMeasure
{
	CsMeasureKind		kind;
	bool				has_filter;
	CsExpr				filter;
	int					nargs;
	CsExpr			   *args;
	CsHasher			hasher; /* distinct */
	struct CsAggregate *aggregate;
	Oid					result_type;
	int16				result_len;
	bool				result_byval;
} CsMeasure;

/* One measure's share of one event, as evaluate() leaves it. */
typedef struct CsInput
{
	bool	  take; /* FILTER holds and strict rules let it in */
	bool	  isnull;
	Datum	  value; /* generic: the partial state of this event alone */
	CsHash128 hash;	 /* distinct */
} CsInput;

/* State of one measure while a batch works on it. */
typedef struct CsMeasureState
{
	int64	n;		/* count, sum, min, max */
	Datum	value;	/* first, last; generic: partial state */
	CsPlace place;	/* first, last */
	CsSet  *set;	/* distinct */
	bool	has;	/* anything came in */
	bool	isnull; /* of value */
	bool	serial; /* generic: value is still in stored form */
	bool	broken; /* a combine function failed: NULL for good */
} CsMeasureState;

/* One output column: an aggregate as it is, or an expression over aggregates. */
typedef struct CsOutput
{
	char	  *name;
	Oid		   type;
	int32	   typmod;
	Oid		   collation;
	int		   measure; /* index, or -1: expr over the aggregates' results */
	ExprState *expr;
} CsOutput;

typedef struct CsMeasures
{
	int				n;
	CsMeasure	   *measures;
	int				ndistinct; /* of them */
	int				noutputs;
	CsOutput	   *outputs;
	TupleTableSlot *results; /* values of the aggregates, for expressions over them */
	ExprContext	   *econtext;
	Node		   *aggstate; /* what aggregate functions are told they run in */
	ExprContext	   *aggcontext;
	AttrNumber		place_attno; /* of the event relation; 0 where there is none */
	int64			errors;
} CsMeasures;

/*
 * Compile the targets (List of TargetEntry) in the current context.
 * place_attno: column of the event relation that holds the place.  Raises for
 * aggregates that cannot be kept: with a reason.
 */
extern CsMeasures *cs_measures_compile(List *targets, AttrNumber place_attno);

/* Evaluate one event into inputs[n].  Results live in batch memory.  May raise. */
extern void cs_measures_evaluate(CsMeasures *ms, CsBatchContext *batch, CsInput *inputs);

/* The current context must be the batch's for all of these. */
/* Of nothing yet; states are of cs_measures_size() bytes, so that what an event touches lies together. */
extern Size cs_measures_size(const CsMeasures *ms);
extern void cs_measures_init(CsMeasures *ms, CsMeasureState *states);
extern void cs_measures_add(CsMeasures *ms, CsMeasureState *states, const CsInput *inputs, const CsPlace *place);
/*
 * An event that is later than all others, in the bytes of cs_measures_put()
 * (with first and last, which it now is): false if that cannot be done there.
 * old_last: the bytes, up to old_end, of the place that was the last.  copies:
 * what of the old bytes is there again.  Where events come in any order (not
 * by_place) nothing is to depend on their places.
 */
extern bool cs_measures_can_patch(const CsMeasures *ms, bool by_place);
extern bool cs_measures_patch(const CsMeasures *ms, const CsInput *inputs, const char *old_last, const char *old_end,
							  CsReader *r, StringInfo buf, CsCopies *copies);
/* One more number for a sum, minimum or maximum. */
extern void cs_measure_add_number(CsMeasureState *st, CsMeasureKind kind, int64 value);

/* An integer-like Datum as the number that it is. */
static inline int64
cs_measure_int(const CsExpr *expr, Datum value)
{
	switch (expr->typlen)
	{
		case 2:
			return DatumGetInt16(value);
		case 4:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

/* Announce what an event will look up in large sets: first the slots, some events later the members. */
extern void cs_measures_prefetch(const CsMeasures *ms, const CsMeasureState *states, const CsInput *inputs,
								 bool members);
extern void cs_measures_merge(CsMeasures *ms, CsState *state, CsMeasureState *dst, CsMeasureState *src);
/* A copy to show, which merging does not carry back: dst is as cs_measures_init() left it. */
extern void cs_measures_copy(CsMeasures *ms, CsMeasureState *dst, CsMeasureState *src);
extern void cs_measures_result(CsMeasures *ms, CsMeasureState *states, Datum *values, bool *isnull);
/* Drop what lies outside of the entry (large sets); before the entry goes. */
extern void cs_measures_drop(CsMeasures *ms, CsState *state, CsMeasureState *states);

/* Raise ERRCODE_DATA_CORRUPTED now if an aggregate does not take its state; else that comes when it is needed. */
extern void cs_measures_examine(CsMeasures *ms, CsMeasureState *states);

/* Is there anything for cs_measures_drop() to drop? */
extern bool cs_measures_have_big_sets(const CsMeasures *ms, const CsMeasureState *states);

/*
 * Bytes; get() reads into states that cs_measures_init() has made, once or
 * again and again.  first/last may be NULL; a place equal to one of them is stored as
 * a mark.
 */
extern void cs_measures_put(CsMeasures *ms, CsState *state, CsMeasureState *states, const CsPlace *first,
							const CsPlace *last, StringInfo buf);
extern void cs_measures_get(CsMeasures *ms, CsState *state, CsMeasureState *states, const CsPlace *first,
							const CsPlace *last, CsReader *r);

/* ---- aggregate.c: any combinable aggregate ---- */

typedef struct CsAggregate CsAggregate;

extern CsAggregate *cs_aggregate_compile(Aggref *aggref, Node *aggstate);
/* State of one event; false if strictness leaves it out.  May raise. */
extern bool cs_aggregate_one(CsAggregate *agg, const Datum *args, const bool *argnulls, Datum *state, bool *isnull);
/* *dst := combine(*dst, src); dst_has says whether dst holds anything.  False if it failed. */
extern bool cs_aggregate_combine(CsAggregate *agg, CsMeasureState *dst, Datum src, bool src_isnull);
extern bool cs_aggregate_merge(CsAggregate *agg, CsMeasureState *dst, CsMeasureState *src);
extern bool cs_aggregate_final(CsAggregate *agg, CsMeasureState *st, Datum *value, bool *isnull);
/* Wake a stored state. */
extern void cs_aggregate_examine(CsAggregate *agg, CsMeasureState *st);
extern bool cs_aggregate_put(CsAggregate *agg, CsMeasureState *st, StringInfo buf);
extern void cs_aggregate_get(CsAggregate *agg, CsMeasureState *st, CsReader *r);

#endif
