/*
 * core/live_view.c
 *	  Views <table>_live: the rows of a result table and what is open,
 *	  together, each session, window or attempt once.
 *
 * A row of the table whose key is open too is left out: what is open is
 * fresher.  Open rows are read once, into a materialised CTE, because both
 * halves of the UNION must mean the same.  Conditions on the view go into both
 * halves; those on the table use its indexes.
 *
 * The view is an ordinary one of the owner's, with columns typed as the
 * table's: open_rows() returns what its column list says.  It runs with the
 * reader's own rights (security_invoker) and everybody may read it: so it
 * shows what the table shows to those who may SELECT the table, and nobody
 * has to grant twice.
 *
 * It goes with the table (automatic dependency, which a dump does not keep:
 * afterwards DROP TABLE asks for CASCADE, and drop_session() and kin still know
 * the view) and with the extension.  Users may rename, replace or drop it.
 */
#include "core/live_view.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "commands/comment.h"
#include "commands/defrem.h"
#include "core/catalog.h"
#include "core/definition.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static char *
view_name(const char *table)
{
	return makeObjectName(table, NULL, "live");
}

static bool
reads_table(Node *node, void *arg)
{
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, reads_table, arg);
	foreach(cell, ((Query *) node)->rtable)
		if (lfirst_node(RangeTblEntry, cell)->relid == *(Oid *) arg)
			return true;
	return query_tree_walker((Query *) node, reads_table, arg, 0);
}

/* Is it a view of that table?  A restore without data leaves one, for instance. */
static bool
is_view_of(Oid view, Oid table)
{
	return OidIsValid(view) && OidIsValid(table) && get_rel_relkind(view) == RELKIND_VIEW &&
		   reads_table((Node *) cs_definition_query(view), &table);
}

void
cs_live_view_check(const char *table, const char *what)
{
	Oid	  schema;
	Oid	  view;
	char *name;
	char *table_name;

	cs_relation_place(table, &schema, &table_name);
	name = view_name(table_name);
	view = get_relname_relid(name, schema);
	if (!OidIsValid(view) || is_view_of(view, get_relname_relid(table_name, schema)))
		return;
	ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE),
					errmsg("relation \"%s\" exists already in schema \"%s\"", name, get_namespace_name(schema)),
					errdetail("The view of that name is to show the rows of %s together with what is open.", what),
					errhint("Rename that relation, or give the definition another name.")));
}

/* "prefix.a, prefix.b, …" */
static void
append_columns(StringInfo command, const char *prefix, const CsResultColumn *columns, int n)
{
	for (int i = 0; i < n; i++)
		appendStringInfo(command, "%s%s.%s", i > 0 ? ", " : "", prefix, quote_identifier(columns[i].name));
}

static void
append_key_match(StringInfo command, const CsResultColumn *columns, int n)
{
	const char *separator = "";

	for (int i = 0; i < n; i++)
	{
		const char *name = quote_identifier(columns[i].name);

		if (!columns[i].is_key)
			continue;
		appendStringInfo(command, "%so.%s = t.%s", separator, name, name);
		separator = " AND ";
	}
}

static char *
view_command(const char *view, const char *table, const CsResultColumn *columns, int n)
{
	StringInfoData command;

	initStringInfo(&command);
	appendStringInfo(&command, "CREATE VIEW %s WITH (security_invoker = true) AS WITH open AS MATERIALIZED (SELECT ",
					 view);
	append_columns(&command, "o", columns, n);
	appendStringInfo(&command, " FROM " CS_SCHEMA ".open_rows(%s::pg_catalog.regclass) AS o(",
					 quote_literal_cstr(table));
	for (int i = 0; i < n; i++)
		appendStringInfo(&command, "%s%s %s", i > 0 ? ", " : "", quote_identifier(columns[i].name),
						 cs_type_name(columns[i].type, columns[i].typmod, columns[i].collation));
	appendStringInfoString(&command, ")) SELECT ");
	append_columns(&command, "t", columns, n);
	appendStringInfo(&command, " FROM %s AS t WHERE NOT EXISTS (SELECT FROM open AS o WHERE ", table);
	append_key_match(&command, columns, n);
	appendStringInfoString(&command, ") UNION ALL SELECT ");
	append_columns(&command, "o", columns, n);
	appendStringInfoString(&command, " FROM open AS o");
	return command.data;
}

static void
depend_on_table(Oid view, Oid table)
{
	ObjectAddress dependent;
	ObjectAddress referenced;

	ObjectAddressSet(dependent, RelationRelationId, view);
	ObjectAddressSet(referenced, RelationRelationId, table);
	recordDependencyOn(&dependent, &referenced, DEPENDENCY_AUTO);
}

Oid
cs_live_view_create(Oid table, Oid owner, const CsResultColumn *columns, int n)
{
	char *name = view_name(get_rel_name(table));
	Oid	  schema = get_rel_namespace(table);
	char *qualified = quote_qualified_identifier(get_namespace_name(schema), name);
	Oid	  view;

	cs_live_view_drop(get_relname_relid(name, schema), table); /* left of an earlier definition; see the check */
	cs_execute_as(owner, view_command(qualified, cs_relation_name(table), columns, n));
	cs_execute_as(owner, psprintf("GRANT SELECT ON %s TO PUBLIC", qualified));
	CommandCounterIncrement();
	view = get_relname_relid(name, schema);
	depend_on_table(view, table);
	cs_depend_on_extension(view);
	CreateComments(view, RelationRelationId, 0,
				   psprintf("the rows of %s and what is open, together; for those who may read %s",
							cs_relation_name(table), cs_relation_name(table)));
	for (int i = 0; i < n; i++)
		if (columns[i].comment)
			CreateComments(view, RelationRelationId, get_attnum(view, columns[i].name), columns[i].comment);
	CommandCounterIncrement();
	return view;
}

void
cs_live_view_drop(Oid view, Oid table)
{
	/* After a restore the number of one that was gone may be somebody else's. */
	if (is_view_of(view, table))
		cs_relation_drop(view);
}
