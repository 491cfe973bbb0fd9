/*
 * operator/expression.h
 *	  Expressions of definitions, taken from their views' Query trees and run
 *	  by PostgreSQL's executor over a virtual slot; and hashing of their values.
 */
#ifndef CS_OPERATOR_EXPRESSION_H
#define CS_OPERATOR_EXPRESSION_H

#include "core/types.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "utils/uuid.h"

/* Compile an expression over range table entry 1; plans it first.  In the current context. */
extern ExprState *cs_expr_compile(Expr *expr);

/*
 * An ExprState, or faster where the expression is no more than a column:
 * attno > 0 reads the slot directly.
 */
typedef struct CsExpr
{
	AttrNumber attno;
	ExprState *state;
	Oid		   type;
	int32	   typmod;
	Oid		   collation;
	int16	   typlen;
	int16	   stored; /* cs_stored_form() */
	bool	   typbyval;

	/*
	 * A condition that begins with simple tests, as most do: the rest of it
	 * does not matter where one of them fails, and mostly there is no rest.
	 */
	int			   ntests;
	bool		   tests_are_all;
	struct CsTest *tests;
} CsExpr;

extern void cs_expr_init(CsExpr *expr, Expr *node);

/* How entries hold values of the type: "stored" of cs_put_datum(). */
extern int16 cs_stored_form(Oid type);

static inline Datum
cs_expr_eval(const CsExpr *expr, ExprContext *econtext, bool *isnull)
{
	TupleTableSlot *slot = econtext->ecxt_scantuple;

	if (expr->attno > 0)
	{
		*isnull = slot->tts_isnull[expr->attno - 1];
		return slot->tts_values[expr->attno - 1];
	}
	return ExecEvalExpr(expr->state, econtext, isnull);
}

/* True iff the qualification holds (NULL counts as false). */
extern bool cs_expr_true(const CsExpr *expr, ExprContext *econtext);

/* pg_detoast_datum_packed() without the call, where there is nothing to do: as with all that events bring. */
static inline struct varlena *
cs_packed(Datum value)
{
	struct varlena *v = (struct varlena *) DatumGetPointer(value);

	return VARATT_IS_COMPRESSED(v) || VARATT_IS_EXTERNAL(v) ? pg_detoast_datum_packed(v) : v;
}

/* Mark in needed[] which columns of range table entry 1 the node reads. */
extern void cs_expr_columns(Node *node, bool *needed, int natts);

/* Equality-respecting 128-bit hash of a type's values. */
typedef struct CsHasher
{
	enum
	{
		CS_HASH_TEXT,  /* bytes of a varlena, deterministic collation */
		CS_HASH_VALUE, /* by-value type whose bits are its identity */
		CS_HASH_FIXED, /* fixed-length by-reference type whose bytes are its identity */
		CS_HASH_PROC   /* the type's own extended hash function, twice */
	} how;
	int16	 typlen;
	Oid		 collation;
	FmgrInfo proc;
} CsHasher;

/* Raises ERRCODE_UNDEFINED_FUNCTION if the type cannot be hashed; what is used in the message. */
extern void		 cs_hasher_init(CsHasher *hasher, Oid type, Oid collation, const char *what);
extern CsHash128 cs_hash_value(CsHasher *hasher, Datum value, bool isnull);
extern CsHash128 cs_hash_bytes(const void *data, size_t len);
extern CsHash128 cs_hash_combine(CsHash128 a, CsHash128 b);

/* hash as a uuid Datum, palloc'd in the current context: group_key. */
extern Datum cs_hash_uuid(CsHash128 hash);
/* And back. */
extern CsHash128 cs_uuid_hash(const pg_uuid_t *uuid);

#endif
