/*
 * core/view.c
 *	  Making the view of a definition out of SQL pieces that users give.
 *
 * Positions.  All pieces stand one behind the other in one source text, and
 * each is parsed with as many blanks before it as there are bytes before it
 * there: so the locations in every tree are right for the whole source, and
 * one analysis of the tree built of all pieces reports positions from which
 * the callback finds piece and place.  What remains to convert are
 * characters (errors) to bytes (locations).
 *
 * Identity.  The analysis that judges runs as the stream's owner.  The view
 * is made by the extension's owner, because it lies in our schema, and is
 * then given to the stream's.
 */
#include "core/view.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/view.h"
#include "compat.h"
#include "core/catalog.h"
#include "core/ddl.h"
#include "core/definition.h"
#include "core/lookup.h"
#include "core/view_check.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parse_node.h"
#include "parser/parse_target.h"
#include "parser/parse_type.h"
#include "parser/parser.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* What a user gave, or (label NULL) a part of ours. */
typedef struct Piece
{
	const char *label;
	const char *text;
	int			base; /* where it begins in the source, in bytes */
	int			len;
} Piece;

struct CsView
{
	const char			*what;
	const char *const	*reserved;
	int					 rules;
	StringInfoData		 source;
	List				*pieces;
	Piece				*parsing; /* being parsed; NULL: the source as a whole is analysed */
	SelectStmt			*select;
	List				*checks; /* of CsColumnCheck, one for each column */
	List				*lookups;
	ErrorContextCallback callback;
};

/* The piece that holds a byte of the source, or NULL. */
static Piece *
find_piece(CsView *view, int byte)
{
	foreach_ptr(Piece, piece, view->pieces)
	{
		if (byte >= piece->base && byte <= piece->base + piece->len)
			return piece;
	}
	return NULL;
}

/*
 * The piece at a position of the source, which becomes one in the piece:
 * both in characters, from 1.
 */
static Piece *
locate(CsView *view, int *position)
{
	const char *c = view->source.data;
	Piece	   *piece;

	for (int i = 1; i < *position && *c; i++)
		c += pg_mblen(c);
	piece = find_piece(view, c - view->source.data);
	if (piece != NULL)
		*position = pg_mbstrlen_with_len(piece->text, (c - view->source.data) - piece->base) + 1;
	return piece;
}

/* What may help with a column that does not exist and stands at c: PostgreSQL knows neither lookups nor what was meant. */
static void
hint_column(CsView *view, const char *c)
{
	const char *end = c;

	if (*c == '"' && (end = strchr(c + 1, '"')) != NULL && end[1] != '.')
	{
		errhint("Text is written in single quotes: '%.*s'. Double quotes are for names.", (int) (end - c - 1), c + 1);
		return;
	}
	for (end = c; IS_HIGHBIT_SET(*end) || isalnum((unsigned char) *end) || *end == '_' || *end == '$'; end++)
		;
	foreach_ptr(CsLookup, lookup, view->lookups)
	{
		const char *column = downcase_identifier(c, end - c, false, false);

		if (end > c && cs_lookup_attno(lookup, column) != InvalidAttrNumber)
		{
			errhint("Perhaps you meant to reference the column \"%s.%s\".", lookup->name, column);
			return;
		}
	}
}

/* The byte at a position in a piece, in characters from 1. */
static const char *
piece_at(const Piece *piece, int position)
{
	const char *c = piece->text;

	while (--position > 0 && *c)
		c += pg_mblen(c);
	return c;
}

/* Turn a position in the source into one in the user's piece. */
static void
error_callback(void *arg)
{
	CsView *view = arg;
	int		position = geterrposition();
	Piece  *piece = view->parsing;

	if (position > 0)
	{
		errposition(0);
		if (piece != NULL)
			position -= piece->base; /* what is before it are blanks, or text of ours, in ASCII */
		else
			piece = locate(view, &position);
	}
	if (position > 0 && piece != NULL && piece->label != NULL)
	{
		internalerrposition(Min(position, pg_mbstrlen(piece->text) + 1));
		internalerrquery(piece->text);
		if (geterrcode() == ERRCODE_UNDEFINED_COLUMN)
			hint_column(view, piece_at(piece, position));
		errcontext("%s of %s", piece->label, view->what);
	}
	else
		errcontext("definition of %s", view->what);
}

int
cs_view_position(CsView *view, int location)
{
	if (location < 0)
		return 0;
	return errposition(pg_mbstrlen_with_len(view->source.data, location) + 1);
}

/* Append a piece to the source. */
static Piece *
add_piece(CsView *view, const char *label, const char *text)
{
	Piece *piece = palloc(sizeof(Piece));

	piece->label = label;
	piece->text = text;
	piece->base = view->source.len;
	piece->len = strlen(text);
	view->pieces = lappend(view->pieces, piece);
	appendStringInfo(&view->source, "%s\n", text);
	return piece;
}

/* Parse a piece; prefix and suffix are text of ours around it. */
static SelectStmt *
parse_piece(CsView *view, Piece *piece, RawParseMode mode, const char *prefix, const char *suffix)
{
	char *text = psprintf("%*s%s%s%s", piece->base - (int) strlen(prefix), "", prefix, piece->text, suffix);
	List *statements;
	Node *statement;

	view->parsing = piece;
	statements = raw_parser(text, mode);
	if (list_length(statements) != 1)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s is not an expression", piece->label)));
	statement = linitial_node(RawStmt, statements)->stmt;
	view->parsing = NULL;
	if (!IsA(statement, SelectStmt))
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s is not an expression", piece->label)));
	return (SelectStmt *) statement;
}

/* Anything in it but a list of columns? */
static bool
has_other_clauses(const SelectStmt *select)
{
	return select->distinctClause || select->intoClause || select->whereClause || select->groupClause ||
		   select->havingClause || select->windowClause || select->valuesLists || select->sortClause ||
		   select->limitOffset || select->limitCount || select->lockingClause || select->withClause ||
		   select->op != SETOP_NONE;
}

/* A user's list of expressions. */
static List *
parse_list(CsView *view, const char *label, const char *text)
{
	Piece	   *piece = add_piece(view, label, text);
	SelectStmt *select = parse_piece(view, piece, RAW_PARSE_PLPGSQL_EXPR, "", "");

	if (has_other_clauses(select) || select->fromClause)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s may hold expressions only", label),
						errdetail("It has a clause such as DISTINCT, FROM, WHERE or ORDER BY."),
						cs_view_position(view, piece->base)));
	if (select->targetList == NIL)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s is empty", label)));
	foreach_ptr(ResTarget, target, select->targetList)
	{
		if (IsA(target->val, ColumnRef) && IsA(llast(((ColumnRef *) target->val)->fields), A_Star))
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("\"*\" cannot be used in %s", label),
							errhint("Name the columns."), cs_view_position(view, target->location)));
	}
	cs_view_rewrite_places(view, (Node *) select, view->rules);
	return select->targetList;
}

/* A user's single expression. */
static ResTarget *
parse_one(CsView *view, const char *label, const char *text)
{
	List	  *targets = parse_list(view, label, text);
	ResTarget *second;

	if (list_length(targets) > 1)
	{
		second = lsecond(targets);
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s must be one expression", label),
						cs_view_position(view, second->location)));
	}
	return linitial(targets);
}

/* Refuse a name that a column has already, or that is kept for ours. */
static void
check_name(CsView *view, const char *name, const char *hint, int location)
{
	for (const char *const *r = view->reserved; r && *r; r++)
		if (strcmp(*r, name) == 0)
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column name \"%s\" is taken", name),
							errdetail("There is a column of that name in any case."), errhint("%s", hint),
							cs_view_position(view, location)));
	foreach_ptr(CsColumnCheck, check, view->checks)
	{
		if (strcmp(check->name, name) == 0)
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column name \"%s\" is used twice", name),
							errhint("%s", hint), cs_view_position(view, location)));
	}
}

/* Add a column to the view; takes over the target. */
static CsColumnCheck *
add_column(CsView *view, const char *label, ResTarget *target, const char *name, bool grouped)
{
	CsColumnCheck *check = palloc0(sizeof(CsColumnCheck));

	check->name = pstrdup(name);
	check->label = label;
	check->location = target->location;
	target->name = pstrdup(name);
	target->indirection = NIL;
	view->select->targetList = lappend(view->select->targetList, target);
	view->checks = lappend(view->checks, check);
	if (grouped)
		cs_view_group_by(view, list_length(view->checks));
	return check;
}

static const char name_hint[] = "Give another name with AS.";

/* The name a column gets: given with AS, else the column's or function's; NULL if it has none. */
static const char *
own_name(const ResTarget *target)
{
	const char *name = target->name ? target->name : FigureColname(target->val);

	return strcmp(name, "?column?") == 0 ? NULL : name;
}

/* Our own SELECT and FROM. */
static void
add_frame(CsView *view, const char *frame)
{
	Piece	   *piece = add_piece(view, NULL, frame);
	SelectStmt *select = parse_piece(view, piece, RAW_PARSE_DEFAULT, "", "");
	List	   *targets = select->targetList;

	view->select = select;
	select->targetList = NIL;
	foreach_ptr(ResTarget, target, targets)
		add_column(view, NULL, target, own_name(target), false);
}

CsView *
cs_view_begin(const char *what, const char *frame, const char *const *reserved, int rules)
{
	CsView *view = palloc0(sizeof(CsView));

	view->what = what;
	view->reserved = reserved;
	view->rules = rules;
	initStringInfo(&view->source);
	view->callback.callback = error_callback;
	view->callback.arg = view;
	view->callback.previous = error_context_stack;
	error_context_stack = &view->callback;
	add_frame(view, frame);
	return view;
}

void
cs_view_end(CsView *view)
{
	error_context_stack = view->callback.previous;
}

void
cs_view_use_lookups(CsView *view, List *lookups)
{
	view->lookups = lookups;
}

int
cs_view_add_list(CsView *view, const char *label, const char *text, bool grouped)
{
	List *targets = parse_list(view, label, text);

	foreach_ptr(ResTarget, target, targets)
	{
		const char *name = own_name(target);

		if (name == NULL)
			ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("an expression in %s has no name", label),
							errhint("Write it as \"expression AS name\"."), cs_view_position(view, target->location)));
		check_name(view, name, name_hint, target->location);
		add_column(view, label, target, name, grouped);
	}
	return list_length(targets);
}

/* (expression)::text */
static Node *
cast_to_text(Node *expression, int location)
{
	TypeCast *cast = makeNode(TypeCast);

	cast->arg = expression;
	cast->typeName = makeTypeNameFromNameList(list_make2(makeString("pg_catalog"), makeString("text")));
	cast->typeName->location = location;
	cast->location = location;
	return (Node *) cast;
}

const char *
cs_view_add_text(CsView *view, const char *label, const char *text, const char *name, const char *fallback,
				 bool grouped)
{
	ResTarget *target = parse_one(view, label, text);

	if (name == NULL)
	{
		name = fallback;
		if (target->name || IsA(target->val, ColumnRef))
			name = own_name(target);
		check_name(view, name, name_hint, target->location);
	}
	target->val = cast_to_text(target->val, target->location);
	return add_column(view, label, target, name, grouped)->name;
}

void
cs_view_add_key(CsView *view, const char *label, const char *text, const char *fallback)
{
	ResTarget  *target = parse_one(view, label, text);
	const char *name = fallback;

	if (target->name || IsA(target->val, ColumnRef))
		name = own_name(target);
	check_name(view, name, name_hint, target->location);
	add_column(view, label, target, name, true);
}

bool
cs_view_has_column(CsView *view, const char *name)
{
	foreach_ptr(CsColumnCheck, check, view->checks)
	{
		if (strcmp(check->name, name) == 0)
			return true;
	}
	return false;
}

void
cs_view_add_value(CsView *view, const char *label, const char *text, const char *name)
{
	if (text == NULL)
	{
		label = NULL;
		text = "NULL::pg_catalog.text";
	}
	add_column(view, label, parse_one(view, label, text), name, false);
}

void
cs_view_add_boolean(CsView *view, const char *label, const char *text, const char *name)
{
	if (text == NULL)
	{
		label = NULL;
		text = "NULL::pg_catalog.bool";
	}
	add_column(view, label, parse_one(view, label, text), name, false)->is_boolean = true;
}

void
cs_view_add_filter(CsView *view, const char *label, const char *text)
{
	SelectStmt *select = view->select;
	Node	   *condition;

	if (text == NULL)
		return;
	condition = parse_one(view, label, text)->val;
	if (select->whereClause != NULL)
		condition = (Node *) makeBoolExpr(AND_EXPR, list_make2(select->whereClause, condition), -1);
	select->whereClause = condition;
}

void
cs_view_group_by(CsView *view, int n)
{
	CsColumnCheck *check = list_nth(view->checks, n - 1);
	A_Const		  *ordinal = makeNode(A_Const);

	ordinal->val.ival.type = T_Integer;
	ordinal->val.ival.ival = n;
	ordinal->location = check->location;
	view->select->groupClause = lappend(view->select->groupClause, ordinal);
}

/* One column of a column list: its type must exist and be able to hold a value. */
static void
check_column_type(CsView *view, ParseState *pstate, ColumnDef *column)
{
	Oid	  type;
	int32 typmod;

	typenameTypeIdAndMod(pstate, column->typeName, &type, &typmod);
	if (column->typeName->setof || get_typtype(type) == TYPTYPE_PSEUDO)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("column \"%s\" cannot have type %s", column->colname, format_type_be(type)),
						cs_view_position(view, column->typeName->location)));
	(void) GetColumnDefCollation(pstate, column, type);
}

/* No other column before it in the list has its name. */
static void
check_not_repeated(CsView *view, List *columns, ColumnDef *column)
{
	foreach_ptr(ColumnDef, other, columns)
	{
		if (other == column)
			return;
		if (strcmp(other->colname, column->colname) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column name \"%s\" is used twice", column->colname),
					 cs_view_position(view, column->location)));
	}
}

List *
cs_view_columns(CsView *view, const char *label, const char *text)
{
	static const char prefix[] = "SELECT FROM f() AS (";
	ParseState		 *pstate = make_parsestate(NULL);
	RangeFunction	 *range = NULL;
	SelectStmt		 *select;
	Piece			 *piece;

	(void) add_piece(view, NULL, prefix);
	piece = add_piece(view, label, text);
	select = parse_piece(view, piece, RAW_PARSE_DEFAULT, prefix, "\n)");
	if (list_length(select->fromClause) == 1 && IsA(linitial(select->fromClause), RangeFunction))
		range = linitial(select->fromClause);
	if (range == NULL || range->coldeflist == NIL || select->targetList || has_other_clauses(select))
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s must be a list of names and types", label),
						errhint("Write it as in 'plan text, cart_value numeric'.")));
	pstate->p_sourcetext = view->source.data;
	foreach_ptr(ColumnDef, column, range->coldeflist)
	{
		check_name(view, column->colname, "Give the column another name.", column->location);
		check_column_type(view, pstate, column);
		check_not_repeated(view, range->coldeflist, column);
	}
	free_parsestate(pstate);
	return range->coldeflist;
}

/* Analyse columns of the view as the stream's owner would, and refuse what a definition may not hold. */
static void
judge_columns(CsView *view, Oid owner, List *targets, List *checks)
{
	SelectStmt *select = copyObject(view->select);
	RawStmt	   *raw = makeNode(RawStmt);
	CsIdentity	saved;
	Query	   *query;

	select->targetList = targets;
	raw->stmt = (Node *) select;
	cs_identity_enter(&saved, owner, false);
	query = parse_analyze_fixedparams(raw, view->source.data, NULL, 0, NULL);
	cs_identity_leave(&saved);
	cs_flatten_groups(query);
	cs_view_check(view, query, checks, view->rules);
}

/*
 * Where no aggregate may stand each column is looked at alone first: beside
 * others PostgreSQL would take the aggregate for right, and them for wrong.
 */
static void
judge(CsView *view, Oid owner)
{
	for (int i = 0; (view->rules & CS_VIEW_NO_AGGREGATES) && i < list_length(view->checks); i++)
		judge_columns(view, owner, list_make1(copyObject(list_nth(view->select->targetList, i))),
					  list_make1(list_nth(view->checks, i)));
	judge_columns(view, owner, copyObject(view->select->targetList), view->checks);
}

Oid
cs_view_create(CsView *view, const char *name, Oid owner)
{
	ViewStmt	 *stmt = makeNode(ViewStmt);
	CsIdentity	  saved;
	ObjectAddress address;

	/* Not before all columns have their names: lookup.column gives one that is called column. */
	cs_view_rewrite_lookups(view, (Node *) view->select, view->lookups);
	judge(view, owner);
	stmt->view = makeRangeVar(CS_SCHEMA, pstrdup(name), -1);
	stmt->query = (Node *) view->select;
	stmt->withCheckOption = NO_CHECK_OPTION;
	cs_identity_enter(&saved, cs_extension_owner(), false);
	address = DefineView(stmt, view->source.data, 0, 0);
	cs_identity_leave(&saved);
	CommandCounterIncrement();
	cs_execute_as(InvalidOid, psprintf("ALTER VIEW " CS_SCHEMA ".%s OWNER TO %s", quote_identifier(name),
									   quote_identifier(GetUserNameFromId(owner, false))));
	cs_execute_as(InvalidOid, psprintf("COMMENT ON VIEW " CS_SCHEMA ".%s IS %s", quote_identifier(name),
									   quote_literal_cstr(psprintf("expressions of %s", view->what))));
	cs_depend_on_extension(address.objectId);
	return address.objectId;
}

char *
cs_view_column_text(CsView *view, const char *column)
{
	for (int i = 0; i < list_length(view->checks); i++)
	{
		CsColumnCheck *check = list_nth(view->checks, i);
		CsColumnCheck *next = i + 1 < list_length(view->checks) ? list_nth(view->checks, i + 1) : NULL;
		Piece		  *piece = find_piece(view, check->location);
		int			   end;

		if (check->label == NULL || piece == NULL || strcmp(check->name, column) != 0)
			continue;
		end = piece->base + piece->len;
		if (next != NULL && next->location > check->location && next->location < end)
			end = next->location;
		while (end > check->location && strchr(", \t\r\n", view->source.data[end - 1]))
			end--;
		return pnstrdup(view->source.data + check->location, end - check->location);
	}
	return NULL;
}
