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
#include "core/lazy_jsonb.h"
#include "core/value_bytes.h"
#include "executor/executor.h"
#include "mb/pg_wchar.h"
#include "nodes/nodeFuncs.h"
#include "operator/expression.h"
#include "optimizer/optimizer.h"
#include "state/codec.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

ExprState *
cs_expr_compile(Expr *expr)
{
	return ExecInitExpr(expression_planner(copyObject(expr)), NULL);
}

/* ---- simple tests ---- */

/*
 * What is compared byte by byte, without the executor: column = 'text',
 * column LIKE '%text%' (or with one of the two signs, or none), and
 * column ->> 'key' = 'text' of a jsonb that has not been made yet.
 */
typedef struct CsTest
{
	enum
	{
		TEST_EQUAL,
		TEST_PREFIX,
		TEST_SUFFIX,
		TEST_INSIDE,
		TEST_MEMBER
	} kind;
	AttrNumber	attno;
	uint32		len;
	uint32		key_len;
	const char *text;
	const char *key; /* of the member */
} CsTest;

typedef enum CsVerdict
{
	CS_FAILS,
	CS_HOLDS,
	CS_UNKNOWN
} CsVerdict;

static const char *
const_bytes(const Const *value, uint32 *len)
{
	struct varlena *text = PG_DETOAST_DATUM_COPY(value->constvalue);

	*len = VARSIZE(text) - VARHDRSZ;
	return VARDATA(text);
}

static bool
is_column(const Node *node)
{
	return IsA(node, Var) && ((const Var *) node)->varattno > 0;
}

static bool
is_text_const(const Node *node)
{
	return IsA(node, Const) && ((const Const *) node)->consttype == TEXTOID && !((const Const *) node)->constisnull;
}

/* The operator's two arguments, if its function is that one, and bytes decide: equal means of the same bytes. */
static bool
is_operator(const Node *node, Oid function, const Node **left, const Node **right)
{
	const OpExpr *op = (const OpExpr *) node;

	if (!IsA(node, OpExpr) || get_opcode(op->opno) != function)
		return false;
	*left = linitial(op->args);
	*right = lsecond(op->args);
	return function == F_JSONB_OBJECT_FIELD_TEXT ||
		   (OidIsValid(op->inputcollid) && get_collation_isdeterministic(op->inputcollid));
}

/* Is it column ->> 'key'? */
static bool
init_member(CsTest *test, const Node *node)
{
	const Node *column;
	const Node *key;

	if (!is_operator(node, F_JSONB_OBJECT_FIELD_TEXT, &column, &key) || !is_column(column) || !is_text_const(key))
		return false;
	test->attno = ((const Var *) column)->varattno;
	test->key = const_bytes((const Const *) key, &test->key_len);
	test->kind = TEST_MEMBER;
	return true;
}

static bool
init_equal(CsTest *test, const Node *left, const Node *right)
{
	if (!is_text_const(right))
	{
		const Node *swap = left;

		left = right;
		right = swap;
	}
	if (!is_text_const(right))
		return false;
	test->text = const_bytes((const Const *) right, &test->len);
	test->kind = TEST_EQUAL;
	if (!is_column(left))
		return init_member(test, left);
	test->attno = ((const Var *) left)->varattno;
	return true;
}

/* A pattern that is text with a % before or behind it; in other multibyte encodings half a character could match. */
static bool
init_like(CsTest *test, const Node *left, const Node *right)
{
	bool before, behind;

	if (!is_column(left) || !is_text_const(right))
		return false;
	if (pg_database_encoding_max_length() > 1 && GetDatabaseEncoding() != PG_UTF8)
		return false;
	test->attno = ((const Var *) left)->varattno;
	test->text = const_bytes((const Const *) right, &test->len);
	before = test->len > 0 && test->text[0] == '%';
	test->text += before ? 1 : 0;
	test->len -= before ? 1 : 0;
	behind = test->len > 0 && test->text[test->len - 1] == '%';
	test->len -= behind ? 1 : 0;
	for (uint32 i = 0; i < test->len; i++)
	{
		if (strchr("%_\\", test->text[i]) != NULL)
			return false;
	}
	test->kind = before ? (behind ? TEST_INSIDE : TEST_SUFFIX) : (behind ? TEST_PREFIX : TEST_EQUAL);
	return true;
}

static bool
init_test(CsTest *test, const Node *node)
{
	const Node *left;
	const Node *right;

	memset(test, 0, sizeof(*test));
	if (is_operator(node, F_TEXTEQ, &left, &right))
		return init_equal(test, left, right);
	return is_operator(node, F_TEXTLIKE, &left, &right) && init_like(test, left, right);
}

static void
init_tests(CsExpr *expr, Expr *node)
{
	List	 *nodes = is_andclause(node) ? ((BoolExpr *) node)->args : list_make1(node);
	ListCell *lc;

	expr->tests = palloc(list_length(nodes) * sizeof(CsTest));
	foreach(lc, nodes)
	{
		if (!init_test(&expr->tests[expr->ntests], lfirst(lc)))
			return;
		expr->ntests++;
	}
	expr->tests_are_all = true;
}

static inline bool
bytes_match(const CsTest *test, const char *s, uint32 len)
{
	if (test->kind == TEST_INSIDE)
		return memmem(s, len, test->text, test->len) != NULL;
	if (test->kind == TEST_EQUAL || test->kind == TEST_MEMBER ? len != test->len : len < test->len)
		return false;
	return memcmp(test->kind == TEST_SUFFIX ? s + len - test->len : s, test->text, test->len) == 0;
}

static CsVerdict
check_member(const CsTest *test, Datum value)
{
	const CsLazyJsonb *lazy = cs_lazy_jsonb_of(value);
	const char		  *text;
	uint32			   len;

	if (lazy == NULL)
		return CS_UNKNOWN;
	switch (lazy->member(lazy, test->key, test->key_len, &text, &len))
	{
		case CS_LAZY_NULL:
			return CS_FAILS;
		case CS_LAZY_TEXT:
			return bytes_match(test, text, len) ? CS_HOLDS : CS_FAILS;
		case CS_LAZY_OTHER:
			break;
	}
	return CS_UNKNOWN;
}

static inline CsVerdict
check_test(const CsTest *test, const TupleTableSlot *slot)
{
	const struct varlena *text;

	if (slot->tts_nvalid < test->attno)
		return CS_UNKNOWN;
	if (slot->tts_isnull[test->attno - 1])
		return CS_FAILS;
	if (test->kind == TEST_MEMBER)
		return check_member(test, slot->tts_values[test->attno - 1]);
	text = (const struct varlena *) DatumGetPointer(slot->tts_values[test->attno - 1]);
	if (VARATT_IS_EXTERNAL(text) || VARATT_IS_COMPRESSED(text))
		return CS_UNKNOWN;
	return bytes_match(test, VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text)) ? CS_HOLDS : CS_FAILS;
}

/* The tests one after the other, as AND does. */
static inline CsVerdict
check_tests(const CsExpr *expr, const TupleTableSlot *slot)
{
	for (int i = 0; i < expr->ntests; i++)
	{
		CsVerdict verdict = check_test(&expr->tests[i], slot);

		if (verdict != CS_HOLDS)
			return verdict;
	}
	return expr->tests_are_all ? CS_HOLDS : CS_UNKNOWN;
}

/* ---- compiling and running ---- */

/* Texts and byteas are any bytes: nobody believes what they say. */
int16
cs_stored_form(Oid type)
{
	Oid	  base = getBaseType(type);
	int16 typlen = get_typlen(base);

	if (typlen == -1 && base != TEXTOID && base != VARCHAROID && base != BPCHAROID && base != BYTEAOID)
		return CS_STORED_CHECKED;
	return typlen;
}

void
cs_expr_init(CsExpr *expr, Expr *node)
{
	memset(expr, 0, sizeof(*expr));
	expr->type = exprType((Node *) node);
	expr->typmod = exprTypmod((Node *) node);
	expr->collation = exprCollation((Node *) node);
	get_typlenbyval(expr->type, &expr->typlen, &expr->typbyval);
	expr->stored = cs_stored_form(expr->type);
	while (IsA(node, RelabelType))
		node = ((RelabelType *) node)->arg;
	if (IsA(node, Var) && ((Var *) node)->varattno > 0)
		expr->attno = ((Var *) node)->varattno;
	else
	{
		node = expression_planner(copyObject(node));
		expr->state = ExecInitExpr(node, NULL);
		init_tests(expr, node);
	}
}

bool
cs_expr_true(const CsExpr *expr, ExprContext *econtext)
{
	CsVerdict verdict = check_tests(expr, econtext->ecxt_scantuple);
	bool	  isnull;
	Datum	  value;

	if (verdict != CS_UNKNOWN)
		return verdict == CS_HOLDS;
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

void
cs_hasher_init(CsHasher *hasher, Oid type, Oid collation, const char *what)
{
	Oid				base = getBaseType(type);
	TypeCacheEntry *typcache;

	memset(hasher, 0, sizeof(*hasher));
	hasher->collation = collation;
	hasher->typlen = get_typlen(base);
	switch (cs_value_bytes(base, collation))
	{
		case CS_BYTES_OF_DATUM:
			hasher->how = CS_HASH_VALUE;
			return;
		case CS_BYTES_FIXED:
			hasher->how = CS_HASH_FIXED;
			return;
		case CS_BYTES_VARLENA:
			hasher->how = CS_HASH_TEXT;
			return;
		case CS_BYTES_DIFFER:
			break;
	}
	typcache = lookup_type_cache(base, TYPECACHE_HASH_EXTENDED_PROC_FINFO);
	if (!OidIsValid(typcache->hash_extended_proc))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("%s is of type %s, whose values cannot be hashed", what, format_type_be(type)),
						errhint("Cast it to a type that can be compared for equality, for example text.")));
	hasher->how = CS_HASH_PROC;
	fmgr_info_copy(&hasher->proc, &typcache->hash_extended_proc_finfo, CurrentMemoryContext);
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
			struct varlena *v = cs_packed(value);

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
