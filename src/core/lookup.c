/*
 * core/lookup.c
 *	  Lookups in the catalog, their columns and views.
 */
#include "core/lookup.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/comment.h"
#include "core/catalog.h"
#include "core/ddl.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* ---- the catalog ---- */

/* Of a column's name in the event relation, its number. */
static AttrNumber
event_attno(const CsStream *stream, const char *name)
{
	TupleDesc desc = stream->event_desc;

	for (int i = 0; i < desc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return (AttrNumber) (i + 1);
	return InvalidAttrNumber;
}

static void
read_columns(const CsStream *stream, CsLookup *lookup, Datum array)
{
	Datum *names;

	deconstruct_array(DatumGetArrayTypePCopy(array), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &lookup->ncolumns);
	lookup->columns = palloc(lookup->ncolumns * sizeof(char *));
	lookup->attnos = palloc(lookup->ncolumns * sizeof(AttrNumber));
	for (int i = 0; i < lookup->ncolumns; i++)
	{
		lookup->columns[i] = TextDatumGetCString(names[i]);
		lookup->attnos[i] = event_attno(stream, cs_lookup_column(lookup->name, lookup->columns[i]));
		if (lookup->attnos[i] == InvalidAttrNumber)
			elog(ERROR, "column \"%s\" of lookup \"%s\" is not in the event relation", lookup->columns[i],
				 lookup->name);
	}
}

/* In the current context. */
static CsLookup *
read_lookup(const CsStream *stream, HeapTuple tuple, TupleDesc desc)
{
	CsLookup *lookup = palloc(sizeof(CsLookup));
	bool	  isnull;

	lookup->stream_id = stream->stream_id;
	lookup->lookup_id = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
	lookup->name = TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &isnull));
	lookup->rows_view = DatumGetObjectId(SPI_getbinval(tuple, desc, 3, &isnull));
	lookup->key_view = DatumGetObjectId(SPI_getbinval(tuple, desc, 4, &isnull));
	lookup->source = DatumGetObjectId(SPI_getbinval(tuple, desc, 5, &isnull));
	lookup->key = TextDatumGetCString(SPI_getbinval(tuple, desc, 6, &isnull));
	read_columns(stream, lookup, SPI_getbinval(tuple, desc, 7, &isnull));
	return lookup;
}

List *
cs_lookups_load(const CsStream *stream, MemoryContext cxt)
{
	Oid		   type = INT4OID;
	Datum	   value = Int32GetDatum(stream->stream_id);
	List	  *result = NIL;
	CsIdentity saved;

	cs_identity_enter(&saved, cs_extension_owner(), true);
	SPI_connect();
	if (SPI_execute_with_args(
			"SELECT lookup_id, name, rows_view::pg_catalog.oid, key_view::pg_catalog.oid,"
			" source::pg_catalog.oid, key, columns FROM clickstream.lookup WHERE stream_id = $1 ORDER BY lookup_id",
			1, &type, &value, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the lookups of stream %d", stream->stream_id);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		result = lappend(result, read_lookup(stream, SPI_tuptable->vals[i], SPI_tuptable->tupdesc));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	cs_identity_leave(&saved);
	return result;
}

CsLookup *
cs_lookup_find(List *lookups, const char *name)
{
	ListCell *cell;

	foreach(cell, lookups)
	{
		CsLookup *lookup = lfirst(cell);

		if (strcmp(lookup->name, name) == 0)
			return lookup;
	}
	return NULL;
}

AttrNumber
cs_lookup_attno(const CsLookup *lookup, const char *column)
{
	for (int i = 0; i < lookup->ncolumns; i++)
		if (strcmp(lookup->columns[i], column) == 0)
			return lookup->attnos[i];
	return InvalidAttrNumber;
}

char *
cs_lookup_column(const char *lookup, const char *column)
{
	return psprintf("%s_%s", lookup, column);
}

/* ---- columns ---- */

/* A column of a relation, by name; a copy in the current context. */
static FormData_pg_attribute
attribute_of(Oid relation, const char *name)
{
	HeapTuple			  tuple = SearchSysCacheAttName(relation, name);
	FormData_pg_attribute att;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "column \"%s\" of relation %u is gone", name, relation);
	att = *(Form_pg_attribute) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	return att;
}

bool
cs_lookup_same_type(const FormData_pg_attribute *a, const FormData_pg_attribute *b)
{
	return a->atttypid == b->atttypid && a->atttypmod == b->atttypmod && a->attcollation == b->attcollation;
}

static char *
type_of(const FormData_pg_attribute *att)
{
	return cs_type_name(att->atttypid, att->atttypmod, att->attcollation);
}

static void
check_type(Oid relation, const char *what, const char *name, const FormData_pg_attribute *att)
{
	FormData_pg_attribute there = attribute_of(relation, name);

	if (!cs_lookup_same_type(&there, att))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column \"%s\" of the %s is taken", name, what),
						errdetail("It is of type %s; the lookup needs one of type %s.", type_of(&there), type_of(att)),
						errhint("Give the lookup another name, or leave the column out of columns.")));
}

/* A column that is there can only be one that a lookup made which is gone. */
static void
check_free(const CsStream *stream, const char *lookup, AttrNumber attno, const char *name)
{
	ListCell *cell;

	if (attno <= CS_SEED_COLUMNS + stream->nextra + CS_SYS_COLUMNS)
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column \"%s\" of the event is taken", name),
						errdetail("It is the event's own."),
						errhint("Give the lookup another name, or leave the column out of columns.")));
	foreach(cell, cs_lookups_load(stream, CurrentMemoryContext))
	{
		const CsLookup *other = lfirst(cell);

		for (int i = 0; i < other->ncolumns; i++)
			if (other->attnos[i] == attno && strcmp(other->name, lookup) != 0)
				ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column \"%s\" of the event is taken", name),
								errdetail("It is that of lookup \"%s\".", other->name),
								errhint("Give the lookup another name, or leave the column out of columns.")));
	}
}

/* "CAST(NULL AS type) COLLATE … AS name", as append_extra_columns() in ddl.c has it. */
static void
append_null(StringInfo command, const FormData_pg_attribute *att, const char *name)
{
	appendStringInfo(command, "CAST(NULL AS %s)", cs_type_name(att->atttypid, att->atttypmod, InvalidOid));
	if (OidIsValid(att->attcollation) && att->attcollation != get_typcollation(att->atttypid))
		appendStringInfo(command, " COLLATE %s", cs_collation_name(att->attcollation));
	appendStringInfo(command, " AS %s", quote_identifier(name));
}

/* The event relation is made anew, with more columns behind those that it has. */
static void
extend_event_relation(const CsStream *stream, Oid source, const char *lookup, List *columns)
{
	StringInfoData command;
	TupleDesc	   desc = stream->event_desc;
	ListCell	  *cell;

	initStringInfo(&command);
	appendStringInfo(&command, "CREATE OR REPLACE VIEW %s AS SELECT ", cs_relation_name(stream->event_relation));
	for (int i = 0; i < desc->natts; i++)
	{
		appendStringInfoString(&command, i > 0 ? ", " : "");
		append_null(&command, TupleDescAttr(desc, i), NameStr(TupleDescAttr(desc, i)->attname));
	}
	foreach(cell, columns)
	{
		FormData_pg_attribute att = attribute_of(source, lfirst(cell));

		appendStringInfoString(&command, ", ");
		append_null(&command, &att, cs_lookup_column(lookup, lfirst(cell)));
	}
	appendStringInfoString(&command, " WHERE false");
	cs_execute_as(InvalidOid, command.data);
	foreach(cell, columns)
		CreateComments(stream->event_relation, RelationRelationId,
					   get_attnum(stream->event_relation, cs_lookup_column(lookup, lfirst(cell))),
					   psprintf("column %s of lookup %s", (char *) lfirst(cell), lookup));
	CommandCounterIncrement();
}

static void
extend_log(const CsStream *stream, Oid source, const char *lookup, const char *column, Oid log)
{
	FormData_pg_attribute att = attribute_of(source, column);
	char				 *name = cs_lookup_column(lookup, column);

	if (get_attnum(log, name) != InvalidAttrNumber)
	{
		check_type(log, "event log", name, &att);
		return;
	}
	cs_execute_as(stream->owner, psprintf("ALTER TABLE %s ADD COLUMN %s %s", cs_relation_name(log),
										  quote_identifier(name), type_of(&att)));
	CreateComments(log, RelationRelationId, get_attnum(log, name), psprintf("column %s of lookup %s", column, lookup));
}

void
cs_lookup_add_columns(const CsStream *stream, const char *lookup, Oid source, List *columns, Oid log)
{
	List	 *added = NIL;
	ListCell *cell;

	foreach(cell, columns)
	{
		FormData_pg_attribute att = attribute_of(source, lfirst(cell));
		char				 *name = cs_lookup_column(lookup, lfirst(cell));

		if (strlen(name) >= NAMEDATALEN)
			ereport(ERROR,
					(errcode(ERRCODE_NAME_TOO_LONG), errmsg("\"%s\" is too long for a column's name", name),
					 errdetail("A column of a lookup is named after both, in at most %d bytes.", NAMEDATALEN - 1),
					 errhint("Give the lookup a shorter name.")));
		if (event_attno(stream, name) == InvalidAttrNumber)
		{
			added = lappend(added, lfirst(cell));
			continue;
		}
		check_free(stream, lookup, event_attno(stream, name), name);
		check_type(stream->event_relation, "event", name, &att);
	}
	if (added != NIL)
		extend_event_relation(stream, source, lookup, added);
	if (OidIsValid(log))
		foreach(cell, columns)
			extend_log(stream, source, lookup, lfirst(cell), log);
}

/* ---- views ---- */

Oid
cs_lookup_rows_create(const CsStream *stream, int32 lookup_id, const char *lookup, Oid source, List *columns)
{
	char		  *view = psprintf(CS_SCHEMA ".lookup_%d_rows", lookup_id);
	StringInfoData command;
	ListCell	  *cell;
	Oid			   relid;
	int			   n = 0;

	initStringInfo(&command);
	appendStringInfo(&command, "CREATE VIEW %s AS SELECT ", view);
	foreach(cell, columns)
	{
		appendStringInfo(&command, "%ss.%s AS c%d", n > 0 ? ", " : "", quote_identifier(lfirst(cell)), n);
		n++;
	}
	appendStringInfo(&command, " FROM %s s", cs_relation_name(source));
	cs_execute_as(InvalidOid, command.data);
	cs_execute_as(InvalidOid, psprintf("ALTER VIEW %s OWNER TO %s", view,
									   quote_identifier(GetUserNameFromId(stream->owner, false))));
	relid = cs_relation_find(view);
	CreateComments(relid, RelationRelationId, 0, psprintf("rows of lookup %s of stream %s", lookup, stream->name));
	cs_depend_on_extension(relid);
	CommandCounterIncrement();
	return relid;
}

void
cs_lookup_drop(const CsLookup *lookup)
{
	cs_relation_drop(lookup->rows_view);
	cs_relation_drop(lookup->key_view);
	cs_catalog_delete("lookup", "lookup_id", lookup->lookup_id);
}
