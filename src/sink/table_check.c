/*
 * sink/table_check.c
 *	  Refusals of tables that the sink cannot write to as the user expects.
 *
 * Rows are written one by one below SQL, once a batch, by one process.  What
 * would then silently not happen, or happen at COMMIT where an error can no
 * longer be laid to a table, is refused here: row-level security, deferrable
 * constraints and triggers, statement triggers, transition tables.
 *
 * Locking: takes RowExclusiveLock on the table.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "sink/table_check.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static char *
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel));
}

static void
check_kind(Relation rel)
{
	const char *kind;

	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
			return;
		case RELKIND_PARTITIONED_TABLE:
			kind = "a partitioned table";
			break;
		case RELKIND_FOREIGN_TABLE:
			kind = "a foreign table";
			break;
		default:
			kind = "not a table";
			break;
	}
	ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("cannot write results to %s", qualified_name(rel)),
					errdetail("It is %s.", kind), errhint("A result table must be an ordinary table.")));
}

static void
check_owner(Relation rel, Oid owner)
{
	if (!OidIsValid(owner) || rel->rd_rel->relowner == owner)
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("table %s does not belong to the owner of the stream", qualified_name(rel)),
					errdetail("It belongs to %s; its triggers would run with the rights of %s.",
							  GetUserNameFromId(rel->rd_rel->relowner, true), GetUserNameFromId(owner, true)),
					errhint("Use ALTER TABLE ... OWNER TO.")));
}

/* Does the trigger fire for us? */
static bool
is_enabled(const Trigger *trigger)
{
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return trigger->tgenabled == TRIGGER_FIRES_ON_REPLICA || trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
	return trigger->tgenabled == TRIGGER_FIRES_ON_ORIGIN || trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
}

static void
check_trigger(Relation rel, const Trigger *trigger)
{
	if (!is_enabled(trigger))
		return;
	if (trigger->tgdeferrable)
	{
		char *name = OidIsValid(trigger->tgconstraint) ? get_constraint_name(trigger->tgconstraint) : trigger->tgname;

		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("constraint \"%s\" on result table %s is deferrable", name, qualified_name(rel)),
						errdetail("An error that comes at COMMIT could not be told from others."),
						errhint("Make it NOT DEFERRABLE.")));
	}
	if (!TRIGGER_FOR_ROW(trigger->tgtype) &&
		(trigger->tgtype & (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE)) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("trigger \"%s\" on result table %s fires for statements", trigger->tgname, qualified_name(rel)),
				 errdetail("Rows are written without statements, so it would never fire."),
				 errhint("Make it FOR EACH ROW.")));
	if (trigger->tgoldtable || trigger->tgnewtable)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("trigger \"%s\" on result table %s uses transition tables", trigger->tgname,
						qualified_name(rel)),
				 errdetail("Rows are written without statements, so there are none."), errhint("Use OLD and NEW.")));
}

Relation
cs_table_check_open(Oid relid, Oid owner)
{
	Relation rel = try_relation_open(relid, RowExclusiveLock);

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("result table with OID %u does not exist", relid),
						errhint("Drop its definition, or reset the stream.")));
	check_kind(rel);
	check_owner(rel, owner);
	if (rel->rd_rel->relrowsecurity)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("row-level security is enabled on result table %s", qualified_name(rel)),
						errhint("Use ALTER TABLE ... DISABLE ROW LEVEL SECURITY, and a view with conditions.")));
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
		check_trigger(rel, &rel->trigdesc->triggers[i]);
	return rel;
}

AttrNumber
cs_table_check_column(Relation rel, const char *name)
{
	TupleDesc desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || strcmp(NameStr(att->attname), name) != 0)
			continue;
		if (att->attgenerated)
			ereport(ERROR, (errcode(ERRCODE_GENERATED_ALWAYS),
							errmsg("column \"%s\" of result table %s is generated", name, qualified_name(rel)),
							errhint("It must be an ordinary column: results are written to it.")));
		return att->attnum;
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("column \"%s\" of result table %s does not exist", name, qualified_name(rel)),
					errhint("Results are written to it. Add it again, or drop the definition and make it anew.")));
}

static char *
type_name(Oid type, const int32 *typmod)
{
	return typmod ? format_type_with_typemod(type, *typmod) : format_type_be(type);
}

void
cs_table_check_type(Relation rel, AttrNumber attnum, Oid type, const int32 *typmod)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

	if (att->atttypid == type && (typmod == NULL || att->atttypmod == *typmod))
		return;
	ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
					errmsg("column \"%s\" of result table %s has type %s, but its values have type %s",
						   NameStr(att->attname), qualified_name(rel),
						   type_name(att->atttypid, typmod ? &att->atttypmod : NULL), type_name(type, typmod)),
					errhint("Give it its type back, or drop the definition and make it anew.")));
}

void
cs_table_check_deferrable(const ResultRelInfo *info)
{
	for (int i = 0; i < info->ri_NumIndices; i++)
	{
		Relation index = info->ri_IndexRelationDescs[i];

		if (index->rd_index->indimmediate)
			continue;
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("constraint \"%s\" on result table %s is deferrable", RelationGetRelationName(index),
							   qualified_name(info->ri_RelationDesc)),
						errdetail("An error that comes at COMMIT could not be told from others."),
						errhint("Make it NOT DEFERRABLE.")));
	}
}

void
cs_table_no_key(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("result table %s has lost its primary key", qualified_name(rel)),
			 errdetail("Rows that change are found by it."),
			 errhint("Make the primary key again, as the definition made it.")));
}
