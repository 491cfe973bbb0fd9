/*
 * operator/expression.c
 *	  Compiling and running expressions of definitions; hashing values.
 *
 * Expressions come analysed from a view's Query, where the event relation is
 * range table entry 1, and are run on a virtual slot as scan tuple.  No
 * locking, no catalog access after compilation but what the expressions do.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "operator/expression.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/pg_locale.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

ExprState *
cs_expr_compile(Expr *expr)
{
	return ExecInitExpr(expression_planner(copyObject(expr)), NULL);
}

/* Is it column = 'text' in a collation in which equal is of the same bytes?  The executor's texteq() then is memcmp(). */
static bool
is_text_equality(const Expr *node, const Var **var, const Const **value)
{
	const OpExpr *op = (const OpExpr *) node;
	const Node	 *left;
	const Node	 *right;

	if (!IsA(node, OpExpr) || get_opcode(op->opno) != F_TEXTEQ || !get_collation_isdeterministic(op->inputcollid))
		return false;
	left = linitial(op->args);
	right = lsecond(op->args);
	*var = (const Var *) (IsA(left, Var) ? left : right);
	*value = (const Const *) (IsA(left, Var) ? right : left);
	return IsA(*var, Var) && IsA(*value, Const) && (*var)->varattno > 0 && !(*value)->constisnull;
}

static void
init_guard(CsExpr *expr, Expr *node)
{
	const Var	   *var;
	const Const	   *value;
	struct varlena *text;

	expr->guard_is_all = !is_andclause(node);
	if (!expr->guard_is_all)
		node = linitial(((BoolExpr *) node)->args);
	if (!is_text_equality(node, &var, &value))
		return;
	text = PG_DETOAST_DATUM_COPY(value->constvalue);
	expr->guard_attno = var->varattno;
	expr->guard_text = VARDATA(text);
	expr->guard_len = VARSIZE(text) - VARHDRSZ;
}

void
cs_expr_init(CsExpr *expr, Expr *node)
{
	memset(expr, 0, sizeof(*expr));
	expr->type = exprType((Node *) node);
	expr->typmod = exprTypmod((Node *) node);
	expr->collation = exprCollation((Node *) node);
	get_typlenbyval(expr->type, &expr->typlen, &expr->typbyval);
	while (IsA(node, RelabelType))
		node = ((RelabelType *) node)->arg;
	if (IsA(node, Var) && ((Var *) node)->varattno > 0)
		expr->attno = ((Var *) node)->varattno;
	else
	{
		node = expression_planner(copyObject(node));
		expr->state = ExecInitExpr(node, NULL);
		init_guard(expr, node);
	}
}

typedef enum Guard
{
	GUARD_FAILS,
	GUARD_HOLDS,
	GUARD_UNKNOWN
} Guard;

static inline Guard
check_guard(const CsExpr *expr, const TupleTableSlot *slot)
{
	const struct varlena *text;

	if (expr->guard_attno == 0 || slot->tts_nvalid < expr->guard_attno)
		return GUARD_UNKNOWN;
	if (slot->tts_isnull[expr->guard_attno - 1])
		return GUARD_FAILS;
	text = (const struct varlena *) DatumGetPointer(slot->tts_values[expr->guard_attno - 1]);
	if (VARATT_IS_EXTERNAL(text) || VARATT_IS_COMPRESSED(text))
		return GUARD_UNKNOWN;
	if (VARSIZE_ANY_EXHDR(text) != expr->guard_len || memcmp(VARDATA_ANY(text), expr->guard_text, expr->guard_len) != 0)
		return GUARD_FAILS;
	return GUARD_HOLDS;
}

bool
cs_expr_true(const CsExpr *expr, ExprContext *econtext)
{
	bool  isnull;
	Datum value;

	switch (check_guard(expr, econtext->ecxt_scantuple))
	{
		case GUARD_FAILS:
			return false;
		case GUARD_HOLDS:
			if (expr->guard_is_all)
				return true;
			break;
		case GUARD_UNKNOWN:
			break;
	}
	value = cs_expr_eval(expr, econtext, &isnull);
	return !isnull && DatumGetBool(value);
}

typedef struct ColumnsContext
{
	bool *needed;
	int	  natts;
} ColumnsContext;

/* first(x, place) and last(x, place) are computed without a look at the place column. */
static bool
is_by_place(Aggref *aggref)
{
	char *namespace = get_namespace_name(get_func_namespace(aggref->aggfnoid));
	char *name = get_func_name(aggref->aggfnoid);

	return list_length(aggref->args) == 2 && namespace && strcmp(namespace, "clickstream") == 0 &&
		   (strcmp(name, "first") == 0 || strcmp(name, "last") == 0);
}

static bool
columns_walker(Node *node, ColumnsContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref) && is_by_place((Aggref *) node))
	{
		columns_walker((Node *) ((Aggref *) node)->aggfilter, context);
		return columns_walker(linitial(((Aggref *) node)->args), context);
	}
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if (var->varno != 1 || var->varlevelsup != 0)
			return false;
		if (var->varattno > 0 && var->varattno <= context->natts)
			context->needed[var->varattno - 1] = true;
		else if (var->varattno == 0)
			memset(context->needed, true, context->natts); /* the whole row */
		return false;
	}
	return expression_tree_walker(node, columns_walker, context);
}

void
cs_expr_columns(Node *node, bool *needed, int natts)
{
	ColumnsContext context = {needed, natts};

	columns_walker(node, &context);
}

/* ---- hashing ---- */

static bool
bits_are_identity(Oid type)
{
	switch (type)
	{
		case BOOLOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return true;
		default:
			return false;
	}
}

void
cs_hasher_init(CsHasher *hasher, Oid type, Oid collation, const char *what)
{
	Oid				base = getBaseType(type);
	TypeCacheEntry *typcache;

	memset(hasher, 0, sizeof(*hasher));
	hasher->collation = collation;
	hasher->typlen = get_typlen(base);
	if (base == BYTEAOID || ((base == TEXTOID || base == VARCHAROID) &&
							 (!OidIsValid(collation) || get_collation_isdeterministic(collation))))
		hasher->how = CS_HASH_TEXT;
	else if (bits_are_identity(base))
		hasher->how = CS_HASH_VALUE;
	else if (base == UUIDOID)
		hasher->how = CS_HASH_FIXED;
	else
	{
		typcache = lookup_type_cache(base, TYPECACHE_HASH_EXTENDED_PROC_FINFO);
		if (!OidIsValid(typcache->hash_extended_proc))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
							errmsg("%s is of type %s, whose values cannot be hashed", what, format_type_be(type)),
							errhint("Cast it to a type that can be compared for equality, for example text.")));
		hasher->how = CS_HASH_PROC;
		fmgr_info_copy(&hasher->proc, &typcache->hash_extended_proc_finfo, CurrentMemoryContext);
	}
}

CsHash128
cs_hash_bytes(const void *data, size_t len)
{
	XXH128_hash_t h = XXH3_128bits(data, len);

	return (CsHash128){h.low64, h.high64};
}

CsHash128
cs_hash_value(CsHasher *hasher, Datum value, bool isnull)
{
	if (isnull)
		return (CsHash128){UINT64CONST(0x6E756C6C), 0};
	switch (hasher->how)
	{
		case CS_HASH_TEXT:
		{
			struct varlena *v = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(value));

			return cs_hash_bytes(VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
		}
		case CS_HASH_VALUE:
			return cs_hash_bytes(&value, sizeof(value));
		case CS_HASH_FIXED:
			return cs_hash_bytes(DatumGetPointer(value), hasher->typlen);
		case CS_HASH_PROC:
			break;
	}

	/* Two seeds make 128 bits of a type's own 64-bit hash. */
	return (CsHash128){
		DatumGetUInt64(FunctionCall2Coll(&hasher->proc, hasher->collation, value, UInt64GetDatum(0x636C69636BULL))),
		DatumGetUInt64(FunctionCall2Coll(&hasher->proc, hasher->collation, value, UInt64GetDatum(0x73747265616DULL)))};
}

CsHash128
cs_hash_combine(CsHash128 a, CsHash128 b)
{
	uint64 parts[4] = {a.lo, a.hi, b.lo, b.hi};

	return cs_hash_bytes(parts, sizeof(parts));
}

Datum
cs_hash_uuid(CsHash128 hash)
{
	pg_uuid_t *uuid = palloc(sizeof(pg_uuid_t));

	/* Big-endian, so that the value does not depend on the machine. */
	for (int i = 0; i < 8; i++)
	{
		uuid->data[i] = (unsigned char) (hash.hi >> (56 - 8 * i));
		uuid->data[8 + i] = (unsigned char) (hash.lo >> (56 - 8 * i));
	}
	return UUIDPGetDatum(uuid);
}

CsHash128
cs_uuid_hash(const pg_uuid_t *uuid)
{
	CsHash128 hash = {0, 0};

	for (int i = 0; i < 8; i++)
	{
		hash.hi = hash.hi << 8 | uuid->data[i];
		hash.lo = hash.lo << 8 | uuid->data[8 + i];
	}
	return hash;
}
