/*
 * worker/utility.c
 *	  Stops workers before commands that they would hold up.
 *
 * DROP DATABASE, CREATE DATABASE … TEMPLATE, ALTER DATABASE … RENAME and SET
 * TABLESPACE refuse to run while anybody is connected to the database; DROP
 * EXTENSION would wait for a batch to end.  The workers are held until the
 * transaction ends; afterwards the launcher starts them again where there is
 * still something to run, so a command that fails costs a pause.
 *
 * Only for users who may give the command: others get their error from
 * PostgreSQL without having stopped anything.
 */
#include "worker/utility.h"

#include "worker/worker.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

static ProcessUtility_hook_type next_hook = NULL;

static bool
may_create_databases(void)
{
	HeapTuple tuple;
	bool	  may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return may;
}

static bool
is_template(Oid database)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool template;

	if (!HeapTupleIsValid(tuple))
		return false;
	template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return template;
}

static void
hold_database(const char *name, bool as_template)
{
	Oid	 database = get_database_oid(name, true);
	bool owned;

	if (!OidIsValid(database))
		return;
	owned = pg_database_ownercheck(database, GetUserId());
	if (as_template ? may_create_databases() && (owned || is_template(database)) : owned)
		cs_worker_hold_database(database);
}

/* The value of an option of a database command, or NULL. */
static char *
option(List *options, const char *name)
{
	ListCell *lc;

	foreach(lc, options)
	{
		DefElem *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0 && def->arg != NULL)
			return defGetString(def);
	}
	return NULL;
}

static void
hold_for_drop_extension(DropStmt *stmt)
{
	Oid		  extension;
	ListCell *lc;

	if (stmt->removeType != OBJECT_EXTENSION)
		return;
	foreach(lc, stmt->objects)
	{
		if (strcmp(strVal(lfirst(lc)), "clickstream") != 0)
			continue;
		extension = get_extension_oid("clickstream", true);
		if (OidIsValid(extension) && pg_extension_ownercheck(extension, GetUserId()))
			cs_worker_hold_database(MyDatabaseId);
	}
}

static void
hold_for(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			hold_database(castNode(DropdbStmt, stmt)->dbname, false);
			break;
		case T_CreatedbStmt:
		{
			char *source = option(castNode(CreatedbStmt, stmt)->options, "template");

			hold_database(source ? source : "template1", true);
			break;
		}
		case T_RenameStmt:
			if (castNode(RenameStmt, stmt)->renameType == OBJECT_DATABASE)
				hold_database(castNode(RenameStmt, stmt)->subname, false);
			break;
		case T_AlterDatabaseStmt:
			if (option(castNode(AlterDatabaseStmt, stmt)->options, "tablespace"))
				hold_database(castNode(AlterDatabaseStmt, stmt)->dbname, false);
			break;
		case T_DropStmt:
			hold_for_drop_extension(castNode(DropStmt, stmt));
			break;
		default:
			break;
	}
}

static void
utility_hook(PlannedStmt *pstmt, const char *query, bool read_only_tree, ProcessUtilityContext context,
			 ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	hold_for(pstmt->utilityStmt);
	if (next_hook)
		next_hook(pstmt, query, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

void
cs_utility_init(void)
{
	next_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
}
