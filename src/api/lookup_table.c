/*
 * api/lookup_table.c
 *	  The table of a lookup that follows an upsert topic.
 *
 * create_lookup() of that form is SQL: it makes a stream, which reads the
 * topic from its beginning, and calls this for the table.
 */
#include "api/define.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "core/ddl.h"
#include "parser/parse_type.h"

PG_FUNCTION_INFO_V1(clickstream_create_lookup_table);

static CsResultColumn
result_column(ColumnDef *column, const char *key)
{
	CsResultColumn result = {.name = column->colname, .is_key = strcmp(column->colname, key) == 0};

	typenameTypeIdAndMod(NULL, column->typeName, &result.type, &result.typmod);
	cs_lookup_table_check_type(result.name, result.type);
	result.collation = GetColumnDefCollation(NULL, column, result.type);
	return result;
}

/* The columns as given; the key, if it is not one of them, is text and comes first. */
static CsResultColumn *
table_columns(const char *name, int32 stream_id, const char *key, const char *columns, int *n)
{
	CsView		   *view = cs_view_begin(psprintf("lookup \"%s\"", name),
										 psprintf("SELECT FROM " CS_SCHEMA ".event_%d e", stream_id), NULL, 0);
	List		   *given = cs_view_columns(view, "columns", columns);
	CsResultColumn *result = palloc0((list_length(given) + 1) * sizeof(CsResultColumn));
	bool			has_key = false;
	ListCell	   *cell;

	*n = 0;
	foreach(cell, given)
		has_key |= strcmp(((ColumnDef *) lfirst(cell))->colname, key) == 0;
	if (!has_key)
		result[(*n)++] = (CsResultColumn){
			.name = pstrdup(key), .type = TEXTOID, .typmod = -1, .collation = DEFAULT_COLLATION_OID, .is_key = true};
	foreach(cell, given)
		result[(*n)++] = result_column(lfirst(cell), key);
	cs_view_end(view);
	return result;
}

/* It fills one table, from its beginning on. */
static void
check_stream(const CsStream *stream)
{
	if (cs_definitions_load(stream->stream_id, CurrentMemoryContext) != NIL ||
		cs_lookups_load(stream, CurrentMemoryContext) != NIL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("stream \"%s\" has definitions", stream->name),
						errdetail("A stream either reads events or keeps the table of a lookup."),
						errhint("Give the lookup another name.")));
	if (OidIsValid(cs_lookup_table_of(stream->stream_id)))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("stream \"%s\" has a table already", stream->name)));
}

Datum
clickstream_create_lookup_table(PG_FUNCTION_ARGS)
{
	char		   *name = cs_arg_required(fcinfo, 0, "name");
	CsStream	   *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 1, "stream"), CurrentMemoryContext);
	char		   *key = cs_arg_required(fcinfo, 2, "key");
	char		   *columns = cs_arg_required(fcinfo, 3, "columns");
	CsResultColumn *result;
	List		   *names = NIL;
	int				n;
	Oid				table;

	cs_stream_touch(stream);
	check_stream(stream);
	result = table_columns(name, stream->stream_id, key, columns, &n);
	for (int i = 0; i < n; i++)
		names = lappend(names, result[i].name);
	table = cs_result_table(name, stream->owner, psprintf("what topic %s says of each key", stream->topics[0]), result,
							n, CS_REWRITING_EACH);
	cs_lookup_table_insert(stream->stream_id, table, key, names);
	PG_RETURN_OID(table);
}
