/*
 * core/lookup_table.c
 *	  The table that a stream keeps in step with an upsert topic, in our
 *	  catalog.  One stream, one table, no definitions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "core/ddl.h"
#include "core/lookup.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* In the current context. */
static CsLookupTable *
read_row(HeapTuple tuple, TupleDesc desc)
{
	CsLookupTable *target = palloc0(sizeof(CsLookupTable));
	bool		   isnull;
	Datum		  *names;

	target->table = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
	target->key = TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &isnull));
	deconstruct_array(DatumGetArrayTypePCopy(SPI_getbinval(tuple, desc, 3, &isnull)), TEXTOID, -1, false, TYPALIGN_INT,
					  &names, NULL, &target->ncolumns);
	target->columns = palloc(target->ncolumns * sizeof(char *));
	for (int i = 0; i < target->ncolumns; i++)
		target->columns[i] = TextDatumGetCString(names[i]);
	return target;
}

/* NULL: there is none. */
static CsLookupTable *
find(int32 stream_id, MemoryContext cxt)
{
	Oid			   type = INT4OID;
	Datum		   value = Int32GetDatum(stream_id);
	CsLookupTable *target = NULL;
	CsIdentity	   saved;

	cs_identity_enter(&saved, cs_extension_owner(), true);
	SPI_connect();
	if (SPI_execute_with_args("SELECT table_oid::pg_catalog.oid, key, columns FROM clickstream.lookup_table"
							  " WHERE stream_id = $1",
							  1, &type, &value, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the table of stream %d", stream_id);
	if (SPI_processed > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);

		target = read_row(SPI_tuptable->vals[0], SPI_tuptable->tupdesc);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	cs_identity_leave(&saved);
	return target;
}

CsLookupTable *
cs_lookup_table_load(int32 stream_id, MemoryContext cxt)
{
	CsLookupTable *target = find(stream_id, cxt);
	MemoryContext  old;

	if (target == NULL)
		return NULL;
	if (get_rel_name(target->table) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table that the stream fills was dropped"),
						errhint("Drop the stream with clickstream.drop_stream(), and make the lookup again.")));
	old = MemoryContextSwitchTo(cxt);
	target->name = cs_relation_name(target->table);
	MemoryContextSwitchTo(old);
	return target;
}

Oid
cs_lookup_table_of(int32 stream_id)
{
	CsLookupTable *target = find(stream_id, CurrentMemoryContext);

	return target ? target->table : InvalidOid;
}

void
cs_lookup_table_check_type(const char *column, Oid type)
{
	if (get_typtype(type) == TYPTYPE_DOMAIN)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" is of domain %s", column, format_type_be(type)),
				 errdetail("The constraints of a domain could not be kept where a message leaves the column out."),
				 errhint("Give it type %s, and the table a constraint.", format_type_be(getBaseType(type)))));
}

void
cs_lookup_table_insert(int32 stream_id, Oid table, const char *key, List *columns)
{
	Datum	 *names = palloc(list_length(columns) * sizeof(Datum));
	CsValue	  values[4];
	ListCell *cell;
	int		  n = 0;

	foreach(cell, columns)
		names[n++] = CStringGetTextDatum(lfirst(cell));
	values[0] = cs_value_int("stream_id", stream_id);
	values[1] = cs_value_oid("table_oid", REGCLASSOID, table);
	values[2] = cs_value_text("key", key);
	values[3] = cs_value_array("columns", TEXTOID, names, n);
	cs_catalog_insert("lookup_table", values, lengthof(values));
}
