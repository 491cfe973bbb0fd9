/*
 * core/ddl.c
 *	  Relations that definitions bring with them.
 *
 * Plain statements, run as the role to which the result belongs, so that
 * PostgreSQL checks that role's rights, fires event triggers and so on as if
 * the user had typed them.
 */
#include "core/ddl.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "commands/comment.h"
#include "commands/extension.h"
#include "compat.h"
#include "core/catalog.h"
#include "core/definition.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Columns of the event relation, beside the extra ones; see CsSystemColumn. */
static const struct
{
	const char *name;
	const char *type;
	const char *comment;
} event_columns[] = {
	{"user_id", "text", "who, when known"},
	{"anonymous_id", "text", "device or browser"},
	{"event_type", "text", "page_view, click, purchase and so on"},
	{"page_url", "text", "address of the page"},
	{"page_title", "text", "title of the page"},
	{"referrer_url", "text", "where the visitor came from"},
	{"utm_source", "text", "campaign's source"},
	{"utm_medium", "text", "campaign's medium"},
	{"utm_campaign", "text", "campaign's name"},
	{"device_type", "text", "desktop, mobile, tablet"},
	{"browser", "text", "name of the browser"},
	{"country", "text", "country of the visitor"},
	{"event_time", "timestamptz", "when it happened"},
	{"event_properties", "jsonb", "everything else"},
	{"topic", "text", "topic of the message"},
	{"partition", "int4", "partition of the message"},
	{"message_offset", "int8", "offset of the message in its partition"},
	{"message_key", "text", "key of the message"},
	{"message_timestamp", "timestamptz", "the message's own timestamp"},
	{"message_headers", "jsonb", "headers of the message"},
	{"place", "bytea", "the event's place in the order of the stream, for first() and last()"},
	{"effective_user_id", "text", "the visitor: value of the stream's visitor expression"},
};

StaticAssertDecl(lengthof(event_columns) == CS_SEED_COLUMNS + CS_SYS_COLUMNS, "one entry for each column");

static RangeVar *
parse_name(const char *name)
{
	RangeVar *relation = makeRangeVarFromNameList(stringToQualifiedNameList(name));

	if (relation->catalogname != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("improper table name: %s", name),
						errhint("Give 'table' or 'schema.table'.")));
	return relation;
}

Oid
cs_relation_find(const char *name)
{
	return RangeVarGetRelid(parse_name(name), NoLock, true);
}

void
cs_relation_place(const char *name, Oid *schema, char **relname)
{
	RangeVar *relation = parse_name(name);
	Oid		  relid = RangeVarGetRelid(relation, NoLock, true);

	*schema = OidIsValid(relid) ? get_rel_namespace(relid) : RangeVarGetCreationNamespace(relation);
	*relname = relation->relname;
}

char *
cs_relation_new_name(const char *name)
{
	RangeVar *relation = parse_name(name);
	Oid		  nsp = RangeVarGetCreationNamespace(relation);

	if (isAnyTempNamespace(nsp))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION), errmsg("a result table cannot be temporary")));
	return quote_qualified_identifier(get_namespace_name(nsp), relation->relname);
}

char *
cs_relation_bare_name(Oid relid)
{
	char *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid),
						errdetail("It was dropped at this moment.")));
	return name;
}

char *
cs_relation_name(Oid relid)
{
	char *name = cs_relation_bare_name(relid);

	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

char *
cs_collation_name(Oid collation)
{
	HeapTuple tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	char	 *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	name = quote_qualified_identifier(get_namespace_name(((Form_pg_collation) GETSTRUCT(tuple))->collnamespace),
									  NameStr(((Form_pg_collation) GETSTRUCT(tuple))->collname));
	ReleaseSysCache(tuple);
	return name;
}

/* COLLATE …, where it is not the type's own; else nothing. */
static char *
collate_clause(Oid type, Oid collation)
{
	if (!OidIsValid(collation) || collation == get_typcollation(type))
		return "";
	return psprintf(" COLLATE %s", cs_collation_name(collation));
}

char *
cs_type_name(Oid type, int32 typmod, Oid collation)
{
	char *name = format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);

	return psprintf("%s%s", name, collate_clause(type, collation));
}

/*
 * Rows come all the time and few of them change their kind, so statistics need
 * not follow each tenth of growth, as by default: a fifth is when VACUUM comes
 * for what was added.  Where each row is written some ten times while it grows,
 * and each counts as a change, as many as there are rows are a tenth of growth.
 */
static const char *const storage[] = {
	[CS_REWRITING_NEVER] = "autovacuum_analyze_scale_factor = 0.2",
	[CS_REWRITING_LATE] = "autovacuum_analyze_scale_factor = 0.2, fillfactor = 50",
	[CS_REWRITING_EACH] = "autovacuum_analyze_scale_factor = 1, fillfactor = 50",
};

static Oid
create_table(const char *qualified, Oid owner, const CsResultColumn *columns, int n, CsRewriting rewriting)
{
	StringInfoData command;
	const char	  *separator = "";

	initStringInfo(&command);
	appendStringInfo(&command, "CREATE TABLE %s (", qualified);
	for (int i = 0; i < n; i++)
		appendStringInfo(&command, "%s %s, ", quote_identifier(columns[i].name),
						 cs_type_name(columns[i].type, columns[i].typmod, columns[i].collation));
	appendStringInfoString(&command, "PRIMARY KEY (");
	for (int i = 0; i < n; i++)
		if (columns[i].is_key)
		{
			appendStringInfo(&command, "%s%s", separator, quote_identifier(columns[i].name));
			separator = ", ";
		}
	appendStringInfo(&command, ")) WITH (%s)", storage[rewriting]);
	cs_execute_as(owner, command.data);
	return cs_relation_find(qualified);
}

/* Raise: the table that exists cannot be taken. */
pg_noreturn static void
refuse_table(Relation rel, const char *difference)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_TABLE),
			 errmsg("table \"%s\" exists already and does not fit", RelationGetRelationName(rel)),
			 errdetail_internal("%s", difference), errhint("Give the definition another name, or drop the table.")));
}

static void
compare_column(Relation rel, Form_pg_attribute att, const CsResultColumn *column)
{
	const char *name = NameStr(att->attname);

	if (strcmp(name, column->name) != 0)
		refuse_table(rel, psprintf("It has column \"%s\" where \"%s\" is needed.", name, column->name));
	if (att->atttypid != column->type || att->atttypmod != column->typmod || att->attcollation != column->collation)
		refuse_table(rel, psprintf("Its column \"%s\" is of type %s where %s is needed.", name,
								   cs_type_name(att->atttypid, att->atttypmod, att->attcollation),
								   cs_type_name(column->type, column->typmod, column->collation)));
	if (att->attgenerated != '\0' || att->attidentity != '\0')
		refuse_table(rel, psprintf("Its column \"%s\" is generated.", name));
}

/* The key columns must be the primary key, in order or not. */
static void
compare_key(Relation rel, const CsResultColumn *columns, int n)
{
	Bitmapset *key = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	int		   nkeys = 0;

	for (int i = 0; i < n; i++)
	{
		AttrNumber att = get_attnum(RelationGetRelid(rel), columns[i].name);

		if (!columns[i].is_key)
			continue;
		nkeys++;
		if (!bms_is_member(att - FirstLowInvalidHeapAttributeNumber, key))
			refuse_table(rel, psprintf("Its primary key does not hold column \"%s\".", columns[i].name));
	}
	if (bms_num_members(key) != nkeys)
		refuse_table(rel, "Its primary key has more columns than needed.");
}

static bool
is_empty(Oid relid, Oid owner)
{
	CsIdentity saved;
	bool	   empty;

	cs_identity_enter(&saved, owner, true);
	SPI_connect();
	if (SPI_execute(psprintf("SELECT FROM %s LIMIT 1", cs_relation_name(relid)), false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look into table \"%s\"", get_rel_name(relid));
	empty = SPI_processed == 0;
	SPI_finish();
	cs_identity_leave(&saved);
	return empty;
}

static void
adopt_table(Oid relid, Oid owner, const CsResultColumn *columns, int n)
{
	Relation  rel = relation_open(relid, ShareRowExclusiveLock);
	TupleDesc desc = RelationGetDescr(rel);
	int		  i = 0;

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition)
		refuse_table(rel, "It is not an ordinary table.");
	if (rel->rd_rel->relowner != owner)
		refuse_table(rel, "It belongs to another role than the stream.");
	for (int a = 0; a < desc->natts; a++)
	{
		if (TupleDescAttr(desc, a)->attisdropped)
			continue;
		if (i >= n)
			refuse_table(rel, psprintf("It has a column \"%s\" that is not needed.",
									   NameStr(TupleDescAttr(desc, a)->attname)));
		compare_column(rel, TupleDescAttr(desc, a), &columns[i++]);
	}
	if (i < n)
		refuse_table(rel, psprintf("It lacks column \"%s\".", columns[i].name));
	compare_key(rel, columns, n);
	if (!is_empty(relid, owner))
		refuse_table(rel, "It holds rows.");
	relation_close(rel, NoLock);
}

Oid
cs_result_table(const char *name, Oid owner, const char *comment, CsResultColumn *columns, int n, CsRewriting rewriting)
{
	Oid relid = cs_relation_find(name);

	if (OidIsValid(relid))
		adopt_table(relid, owner, columns, n);
	else
		relid = create_table(cs_relation_new_name(name), owner, columns, n, rewriting);
	CreateComments(relid, RelationRelationId, 0, comment);
	for (int i = 0; i < n; i++)
		if (columns[i].comment)
			CreateComments(relid, RelationRelationId, get_attnum(relid, columns[i].name), columns[i].comment);
	CommandCounterIncrement();
	return relid;
}

void
cs_index_column(Oid table, const char *column, Oid owner)
{
	Relation   rel = table_open(table, AccessShareLock);
	AttrNumber att = get_attnum(table, column);
	bool	   found = false;
	ListCell  *cell;

	foreach(cell, RelationGetIndexList(rel))
	{
		HeapTuple	  tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

		if (index->indkey.values[0] == att && index->indisvalid && heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
			found = true;
		ReleaseSysCache(tuple);
	}
	table_close(rel, NoLock);
	if (!found)
		cs_execute_as(owner, psprintf("CREATE INDEX ON %s (%s)", cs_relation_name(table), quote_identifier(column)));
}

void
cs_relation_drop(Oid relid)
{
	ObjectAddress address;

	if (!OidIsValid(relid) || get_rel_name(relid) == NULL)
		return;
	ObjectAddressSet(address, RelationRelationId, relid);
	performDeletion(&address, DROP_RESTRICT, 0);
	CommandCounterIncrement();
}

/*
 * A relation of ours goes with DROP EXTENSION, which leaves the schema and
 * whatever is in it: ids begin anew with the next CREATE EXTENSION.
 */
void
cs_depend_on_extension(Oid relid)
{
	ObjectAddress relation;
	ObjectAddress extension;

	ObjectAddressSet(relation, RelationRelationId, relid);
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid(CS_SCHEMA, false));
	recordDependencyOn(&relation, &extension, DEPENDENCY_AUTO_EXTENSION);
}

const char *const *
cs_event_columns(void)
{
	static const char *names[lengthof(event_columns) + 1];

	for (int i = 0; i < lengthof(event_columns); i++)
		names[i] = event_columns[i].name;
	return names;
}

static void
append_event_columns(StringInfo command, int from, int to)
{
	for (int i = from; i < to; i++)
		appendStringInfo(command, "%sNULL::pg_catalog.%s AS %s", i > 0 ? ", " : "", event_columns[i].type,
						 event_columns[i].name);
}

/* Types were checked by cs_view_columns(). */
static void
append_extra_columns(StringInfo command, List *extra)
{
	foreach_ptr(ColumnDef, column, extra)
	{
		Oid	  type;
		int32 typmod;
		Oid	  collation;

		typenameTypeIdAndMod(NULL, column->typeName, &type, &typmod);
		collation = GetColumnDefCollation(NULL, column, type);
		appendStringInfo(command, ", CAST(NULL AS %s)%s AS %s", cs_type_name(type, typmod, InvalidOid),
						 collate_clause(type, collation), quote_identifier(column->colname));
	}
}

Oid
cs_event_relation_create(int32 stream_id, List *extra, Oid owner)
{
	char		  *name = psprintf("event_%d", stream_id);
	StringInfoData command;
	Oid			   relid;

	initStringInfo(&command);
	appendStringInfo(&command, "CREATE VIEW " CS_SCHEMA ".%s AS SELECT ", name);
	append_event_columns(&command, 0, CS_SEED_COLUMNS);
	append_extra_columns(&command, extra);
	append_event_columns(&command, CS_SEED_COLUMNS, lengthof(event_columns));
	appendStringInfoString(&command, " WHERE false");
	cs_execute_as(InvalidOid, command.data);
	cs_execute_as(InvalidOid, psprintf("ALTER VIEW " CS_SCHEMA ".%s OWNER TO %s", name,
									   quote_identifier(GetUserNameFromId(owner, false))));
	relid = cs_own_relation(name);
	cs_depend_on_extension(relid);
	CreateComments(relid, RelationRelationId, 0, "columns of a stream's events; expressions of definitions read them");
	for (int i = 0; i < lengthof(event_columns); i++)
		CreateComments(relid, RelationRelationId, get_attnum(relid, event_columns[i].name), event_columns[i].comment);
	foreach_ptr(ColumnDef, column, extra)
		CreateComments(relid, RelationRelationId, get_attnum(relid, column->colname), "extra column of the stream");
	CommandCounterIncrement();
	return relid;
}

void
cs_state_log_create(int32 stream_id, Oid relids[2])
{
	for (int half = 0; half < 2; half++)
	{
		char *name = psprintf("state_log_%d_%c", stream_id, 'a' + half);

		cs_execute_as(InvalidOid, psprintf("CREATE TABLE " CS_SCHEMA ".%s (commit_number bigint NOT NULL, "
										   "seq integer NOT NULL, data bytea NOT NULL) "
										   "WITH (autovacuum_enabled = off)",
										   name));
		/* A row fits a page; TOAST would cost an index. */
		cs_execute_as(InvalidOid, psprintf("ALTER TABLE " CS_SCHEMA ".%s ALTER COLUMN data SET STORAGE PLAIN", name));
		cs_execute_as(InvalidOid, psprintf("COMMENT ON TABLE " CS_SCHEMA ".%s IS 'state log of stream %d, half %d'",
										   name, stream_id, half + 1));
		relids[half] = cs_own_relation(name);
		cs_depend_on_extension(relids[half]);
	}
}

/*
 * Rows come, change and go all the time, and are found by the key alone: so
 * pages have room for a changed row beside its old form; VACUUM comes early, and
 * leaves no page that holds nothing but what the index still points to, or the
 * table would not get smaller; and nobody needs statistics.
 */
Oid
cs_spill_create(int32 stream_id)
{
	char *name = psprintf("state_spill_%d", stream_id);
	Oid	  relid;

	cs_execute_as(
		InvalidOid,
		psprintf(
			"CREATE TABLE " CS_SCHEMA ".%s (definition integer NOT NULL, bucket bigint NOT NULL, "
			"who uuid NOT NULL, piece integer NOT NULL, pieces integer NOT NULL, "
			"commit_number bigint NOT NULL, data bytea NOT NULL, "
			"PRIMARY KEY (definition, bucket, who, piece)) "
			"WITH (fillfactor = 85, vacuum_index_cleanup = on, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.1, "
			"autovacuum_analyze_threshold = 2147483647)",
			name));
	cs_execute_as(InvalidOid, psprintf("ALTER TABLE " CS_SCHEMA ".%s ALTER COLUMN data SET STORAGE PLAIN", name));
	cs_execute_as(InvalidOid,
				  psprintf("COMMENT ON TABLE " CS_SCHEMA ".%s IS 'open state of stream %d that has no room in memory'",
						   name, stream_id));
	relid = cs_own_relation(name);
	cs_depend_on_extension(relid);
	return relid;
}

void
cs_relation_truncate(Oid relid, Oid role)
{
	cs_execute_as(role, psprintf("TRUNCATE %s", cs_relation_name(relid)));
}
