/*
 * api/lookup.c
 *	  create_lookup, alter_lookup, drop_lookup: columns of a table or view for
 *	  the definitions of a stream.
 */
#include "api/define.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "core/ddl.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "operator/expression.h"
#include "operator/operator.h"
#include "parser/parse_coerce.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(clickstream_create_lookup);
PG_FUNCTION_INFO_V1(clickstream_alter_lookup);
PG_FUNCTION_INFO_V1(clickstream_drop_lookup);

/* Arguments of create_lookup(), in order. */
enum
{
	A_NAME,
	A_STREAM,
	A_KEY,
	A_SOURCE,
	A_EVENT_KEY,
	A_COLUMNS,
	A_IF_NOT_EXISTS
};

/* A lookup being made. */
typedef struct Draft
{
	CsStream *stream;
	char	 *name;
	Oid		  source;
	char	 *key;	   /* column of the source */
	List	 *columns; /* names */
} Draft;

/* ---- the source ---- */

/* The last part of what may be a qualified name. */
static char *
last_name(const char *name)
{
	List *names = stringToQualifiedNameList(name);

	return strVal(llast(names));
}

/* "e" is the event, "w" the window, in the views of definitions. */
static void
check_name(const char *name)
{
	if (strcmp(name, "e") == 0 || strcmp(name, "w") == 0)
		ereport(ERROR, (errcode(ERRCODE_RESERVED_NAME), errmsg("a lookup cannot be called \"%s\"", name),
						errhint("Give another name, and what it reads as source.")));
}

static Oid
find_source(const char *name)
{
	Oid relid = cs_relation_find(name);

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation \"%s\" does not exist", name),
						errhint("A lookup reads a table or view of this database.")));
	return relid;
}

/* Is there an index by which no two rows can have the same key? */
static bool
has_unique_key(Relation rel, AttrNumber key)
{
	ListCell *cell;
	bool	  found = false;

	foreach(cell, RelationGetIndexList(rel))
	{
		HeapTuple	  tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

		found |= index->indisunique && index->indisvalid && index->indnkeyatts == 1 && index->indkey.values[0] == key &&
				 heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
		ReleaseSysCache(tuple);
	}
	return found;
}

static CsStream *
lock_stream(const char *name)
{
	CsStream *stream = cs_stream_load_by_name(name, CurrentMemoryContext);

	cs_stream_touch(stream);
	return stream;
}

/* A kind of relation that can be read, and whose key is unique where that can be known. */
static void
check_source(const Draft *draft)
{
	Relation   rel = relation_open(draft->source, AccessShareLock);
	char	   kind = rel->rd_rel->relkind;
	AttrNumber key = get_attnum(draft->source, draft->key);

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE && kind != RELKIND_VIEW &&
		kind != RELKIND_MATVIEW && kind != RELKIND_FOREIGN_TABLE)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not a table or view", RelationGetRelationName(rel))));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is temporary", RelationGetRelationName(rel)),
						errdetail("The stream's worker does not see it.")));
	if (key <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of \"%s\" does not exist", draft->key, RelationGetRelationName(rel)),
						errhint("key names the column by which rows are found.")));
	if (kind != RELKIND_VIEW && kind != RELKIND_FOREIGN_TABLE && !has_unique_key(rel, key))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
						errmsg("column \"%s\" of \"%s\" is not unique", draft->key, RelationGetRelationName(rel)),
						errdetail("An event could have several rows of the lookup."),
						errhint("Make a primary key or a unique index of that column alone, or a view that returns one "
								"row for each key.")));
	relation_close(rel, NoLock);
}

static List *
all_columns(Oid source)
{
	Relation rel = relation_open(source, AccessShareLock);
	List	*columns = NIL;

	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (!att->attisdropped)
			columns = lappend(columns, pstrdup(NameStr(att->attname)));
	}
	relation_close(rel, NoLock);
	return columns;
}

/* 'email, plan_type', each a column of the source and named once. */
static List *
given_columns(Oid source, const char *text)
{
	List	 *columns = NIL;
	List	 *result = NIL;
	ListCell *cell;

	if (!SplitIdentifierString(pstrdup(text), ',', &columns) || columns == NIL)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("columns must be a list of names"),
						errhint("Write it as in 'email, plan_type'; without it all columns are taken.")));
	foreach(cell, columns)
	{
		char *column = lfirst(cell);

		if (get_attnum(source, column) <= 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%s\" of \"%s\" does not exist", column, get_rel_name(source))));
		if (list_member(result, makeString(column)))
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column name \"%s\" is used twice", column)));
		result = lappend(result, makeString(column));
	}
	return columns;
}

/* ---- the key ---- */

/* The expression over the event; it cannot read what lookups make. */
static Oid
create_key_view(const Draft *draft, int32 lookup_id, const char *event_key)
{
	CsStream *stream = draft->stream;
	int		  natts = stream->event_desc->natts;
	bool	 *reads = palloc0(natts * sizeof(bool));
	CsView	 *view = cs_view_begin(psprintf("lookup \"%s\"", draft->name),
								   psprintf("SELECT FROM " CS_SCHEMA ".event_%d e", stream->stream_id), NULL,
								   CS_VIEW_NO_AGGREGATES | CS_VIEW_NO_PLACE);
	Oid		  relid;

	cs_view_add_value(view, "event_key", event_key, "event_key");
	relid = cs_view_create(view, psprintf("lookup_%d_view", lookup_id), stream->owner);
	cs_view_end(view);
	cs_expr_columns((Node *) cs_definition_query(relid)->targetList, reads, natts);
	for (int i = cs_system_attno(stream, CS_SYS_VISITOR); i < natts; i++)
		if (reads[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_REFERENCE), errmsg("event_key cannot read the column of a lookup"),
					 errhint("Join both tables in a view, and make that the source.")));
	return relid;
}

/* As the engine will compile it; the types must fit. */
static void
check_key(const Draft *draft, Oid key_view)
{
	TargetEntry *entry = linitial_node(TargetEntry, cs_definition_query(key_view)->targetList);
	Oid			 type = exprType((Node *) entry->expr);
	Oid			 wanted = getBaseType(get_atttype(draft->source, get_attnum(draft->source, draft->key)));

	if (!can_coerce_type(1, &type, &wanted, COERCION_IMPLICIT))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("event_key is of type %s, column \"%s\" of \"%s\" of type %s", format_type_be(type), draft->key,
						get_rel_name(draft->source), format_type_be(wanted)),
				 errhint("Give an event_key with a cast. An event for which it raises an error is a dead letter, "
						 "so let it be NULL for one that has no such key.")));
}

static void
ignore_row(Datum key, const Datum *values, const bool *isnull, void *arg)
{
	(void) key;
	(void) values;
	(void) isnull;
	(void) arg;
}

/* Read nothing, as the worker will read: rights and operators are judged now. */
static void
try_to_read(const CsStream *stream, const char *name)
{
	CsLookup	   *lookup;
	CsLookupReader *reader;
	CsHasher		hasher;
	Oid				type;
	Oid				collation;
	CsIdentity		saved;

	stream = cs_stream_load_by_id(stream->stream_id, CurrentMemoryContext);
	lookup = cs_lookup_find(cs_lookups_load(stream, CurrentMemoryContext), name);
	cs_identity_enter(&saved, stream->owner, true);
	reader = cs_lookup_reader_create(stream, lookup);
	cs_lookup_reader_key(reader, &type, &collation);
	cs_hasher_init(&hasher, type, collation, psprintf("the key of lookup \"%s\"", name));
	cs_lookup_read(reader, NULL, 0, ignore_row, NULL);
	cs_identity_leave(&saved);
}

/* ---- create ---- */

static Oid
event_log_of(const CsStream *stream)
{
	ListCell *cell;

	foreach(cell, cs_definitions_load(stream->stream_id, CurrentMemoryContext))
	{
		const CsDefinition *def = lfirst(cell);

		if (def->kind == CS_KIND_EVENT_LOG)
			return def->table;
	}
	return InvalidOid;
}

static CsValue
names_value(List *columns)
{
	Datum	 *names = palloc(list_length(columns) * sizeof(Datum));
	ListCell *cell;
	int		  n = 0;

	foreach(cell, columns)
		names[n++] = CStringGetTextDatum(lfirst(cell));
	return cs_value_array("columns", TEXTOID, names, n);
}

static void
insert(const Draft *draft, int32 lookup_id, const char *event_key, Oid rows_view, Oid key_view)
{
	CsValue values[] = {cs_value_int("lookup_id", lookup_id),
						cs_value_int("stream_id", draft->stream->stream_id),
						cs_value_text("name", draft->name),
						cs_value_oid("source", REGCLASSOID, draft->source),
						cs_value_text("key", draft->key),
						cs_value_text("event_key", event_key),
						names_value(draft->columns),
						cs_value_oid("rows_view", REGCLASSOID, rows_view),
						cs_value_oid("key_view", REGCLASSOID, key_view)};

	cs_catalog_insert("lookup", values, lengthof(values));
}

/* The draft is checked. */
static void
make(const Draft *draft, const char *event_key)
{
	int32 lookup_id = cs_catalog_next_id("lookup", "lookup_id");
	Oid	  rows_view;
	Oid	  key_view;

	key_view = create_key_view(draft, lookup_id, event_key ? event_key : quote_identifier(draft->key));
	check_key(draft, key_view);
	cs_lookup_add_columns(draft->stream, draft->name, draft->source, draft->columns, event_log_of(draft->stream));
	rows_view = cs_lookup_rows_create(draft->stream, lookup_id, draft->name, draft->source,
									  lcons(draft->key, list_copy(draft->columns)));
	insert(draft, lookup_id, event_key, rows_view, key_view);
	try_to_read(draft->stream, draft->name);
	cs_worker_wake(draft->stream->stream_id);
}

Datum
clickstream_create_lookup(PG_FUNCTION_ARGS)
{
	char *name = cs_arg_required(fcinfo, A_NAME, "name");
	char *source = cs_arg_text(fcinfo, A_SOURCE);
	char *columns = cs_arg_text(fcinfo, A_COLUMNS);
	Draft draft;

	draft.name = last_name(name);
	draft.stream = lock_stream(cs_arg_required(fcinfo, A_STREAM, "stream"));
	check_name(draft.name);
	cs_stream_check_events(draft.stream);
	if (cs_lookup_find(cs_lookups_load(draft.stream, CurrentMemoryContext), draft.name) != NULL)
	{
		if (!cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false))
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
							errmsg("lookup \"%s\" of stream \"%s\" exists already", draft.name, draft.stream->name),
							errhint("Drop it first, give another name, or say if_not_exists => true.")));
		ereport(NOTICE,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("lookup \"%s\" of stream \"%s\" exists already, skipping", draft.name, draft.stream->name)));
		PG_RETURN_VOID();
	}
	draft.key = cs_arg_required(fcinfo, A_KEY, "key");
	draft.source = find_source(source ? source : name);
	check_source(&draft);
	draft.columns = columns ? given_columns(draft.source, columns) : all_columns(draft.source);
	make(&draft, cs_arg_text(fcinfo, A_EVENT_KEY));
	PG_RETURN_VOID();
}

/* ---- alter, drop ---- */

/* The lookup that is named first, of the stream that is named second; NULL: there is none. */
static CsLookup *
lookup_argument(FunctionCallInfo fcinfo, CsStream **stream)
{
	char *name = last_name(cs_arg_required(fcinfo, 0, "name"));

	*stream = lock_stream(cs_arg_required(fcinfo, 1, "stream"));
	cs_definitions_prune((*stream)->stream_id);
	return cs_lookup_find(cs_lookups_load(*stream, CurrentMemoryContext), name);
}

pg_noreturn static void
refuse_unknown(FunctionCallInfo fcinfo, const CsStream *stream)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("stream \"%s\" has no lookup \"%s\"", stream->name, cs_arg_text(fcinfo, 0)),
					errhint("Table clickstream.lookup lists the lookups that there are.")));
}

/* The columns that the lookup has must be there, of the types they have. */
static void
check_same(const CsStream *stream, const CsLookup *lookup, Oid source)
{
	Relation rel = relation_open(source, AccessShareLock);

	for (int i = 0; i < lookup->ncolumns; i++)
	{
		AttrNumber		  attno = get_attnum(source, lookup->columns[i]);
		Form_pg_attribute ours = TupleDescAttr(stream->event_desc, lookup->attnos[i] - 1);
		Form_pg_attribute att;

		if (attno <= 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("column \"%s\" of \"%s\" does not exist",
																	  lookup->columns[i], get_rel_name(source))));
		att = TupleDescAttr(RelationGetDescr(rel), attno - 1);
		if (!cs_lookup_same_type(att, ours))
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("column \"%s\" of \"%s\" is of type %s where %s is needed", lookup->columns[i],
								   get_rel_name(source), cs_type_name(att->atttypid, att->atttypmod, att->attcollation),
								   cs_type_name(ours->atttypid, ours->atttypmod, ours->attcollation))));
	}
	relation_close(rel, NoLock);
}

/* What the lookup shall be; others of a lookup's columns come behind those that it has. */
static void
draft_alter(FunctionCallInfo fcinfo, const CsLookup *lookup, Draft *draft)
{
	List	 *added = NIL;
	ListCell *cell;

	draft->name = lookup->name;
	draft->source = PG_ARGISNULL(2) ? lookup->source : find_source(cs_arg_text(fcinfo, 2));
	if (get_rel_name(draft->source) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("the source of lookup \"%s\" was dropped", lookup->name), errhint("Give source.")));
	draft->key = PG_ARGISNULL(3) ? lookup->key : cs_arg_text(fcinfo, 3);
	draft->columns = NIL;
	check_source(draft);
	check_same(draft->stream, lookup, draft->source);
	check_key(draft, lookup->key_view);
	if (!PG_ARGISNULL(4))
		added = given_columns(draft->source, cs_arg_text(fcinfo, 4));
	for (int i = 0; i < lookup->ncolumns; i++)
		draft->columns = lappend(draft->columns, lookup->columns[i]);
	foreach(cell, added)
	{
		if (cs_lookup_attno(lookup, lfirst(cell)) == InvalidAttrNumber)
			draft->columns = lappend(draft->columns, lfirst(cell));
	}
}

Datum
clickstream_alter_lookup(PG_FUNCTION_ARGS)
{
	Draft	  draft;
	CsLookup *lookup = lookup_argument(fcinfo, &draft.stream);
	CsValue	  values[4];

	if (lookup == NULL)
		refuse_unknown(fcinfo, draft.stream);
	draft_alter(fcinfo, lookup, &draft);
	cs_lookup_add_columns(draft.stream, draft.name, draft.source, list_copy_tail(draft.columns, lookup->ncolumns),
						  event_log_of(draft.stream));
	cs_relation_drop(lookup->rows_view);
	values[0] = cs_value_oid("rows_view", REGCLASSOID,
							 cs_lookup_rows_create(draft.stream, lookup->lookup_id, lookup->name, draft.source,
												   lcons(draft.key, list_copy(draft.columns))));
	values[1] = cs_value_oid("source", REGCLASSOID, draft.source);
	values[2] = cs_value_text("key", draft.key);
	values[3] = names_value(draft.columns);
	cs_catalog_update("lookup", "lookup_id", lookup->lookup_id, values, lengthof(values));
	try_to_read(draft.stream, lookup->name);
	cs_worker_wake(draft.stream->stream_id);
	PG_RETURN_VOID();
}

/* Raise if a definition reads one of its columns. */
static void
check_unused(const CsStream *stream, const CsLookup *lookup)
{
	bool	 *reads = palloc0(stream->event_desc->natts * sizeof(bool));
	ListCell *cell;

	foreach(cell, cs_definitions_load(stream->stream_id, CurrentMemoryContext))
	{
		const CsDefinition *def = lfirst(cell);
		const Query		   *query;

		if (def->kind == CS_KIND_EVENT_LOG || def->kind == CS_KIND_ROLLUP)
			continue;
		memset(reads, false, stream->event_desc->natts * sizeof(bool));
		query = cs_definition_query(def->view);
		cs_expr_columns((Node *) query->targetList, reads, stream->event_desc->natts);
		cs_expr_columns(query->jointree->quals, reads, stream->event_desc->natts);
		for (int i = 0; i < lookup->ncolumns; i++)
			if (reads[lookup->attnos[i] - 1])
				ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
								errmsg("cannot drop lookup \"%s\" because %s reads its column \"%s\"", lookup->name,
									   def->name, lookup->columns[i]),
								errhint("Drop that definition first.")));
	}
}

Datum
clickstream_drop_lookup(PG_FUNCTION_ARGS)
{
	CsStream *stream;
	CsLookup *lookup = lookup_argument(fcinfo, &stream);

	if (lookup == NULL && !cs_arg_bool(fcinfo, 2, false))
		refuse_unknown(fcinfo, stream);
	if (lookup == NULL)
	{
		ereport(NOTICE, (errmsg("stream \"%s\" has no lookup \"%s\", skipping", stream->name, cs_arg_text(fcinfo, 0))));
		PG_RETURN_VOID();
	}
	check_unused(stream, lookup);
	cs_lookup_drop(lookup);
	cs_worker_wake(stream->stream_id);
	PG_RETURN_VOID();
}
