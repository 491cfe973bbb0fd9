/*
 * core/lookup_read.c
 *	  Reading a lookup's rows, by many keys at once.
 *
 * One prepared statement, which PostgreSQL plans again when something about
 * the source has changed, or another role's policies count.  Its plan is one for
 * any keys, from the first batch on: a plan for some hundred that are known would
 * read the whole table, at a size at which looking for each is much cheaper.
 */
#include "core/lookup.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_operator.h"
#include "compat.h"
#include "core/ddl.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

struct CsLookupReader
{
	const CsStream *stream;
	const CsLookup *lookup;
	Oid				key_type; /* a domain's base */
	Oid				array_type;
	Oid				collation;
	int16			typlen;
	bool			typbyval;
	char			typalign;
	char		   *statement;
	SPIPlanPtr		plan; /* NULL: not prepared yet */
};

static void
free_plan(void *arg)
{
	CsLookupReader *reader = arg;

	if (reader->plan)
		SPI_freeplan(reader->plan);
	reader->plan = NULL;
}

void
cs_lookup_refuse_gone(const CsLookup *lookup)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the source of lookup \"%s\" was dropped", lookup->name),
					errhint("Give it another one with clickstream.alter_lookup(), or drop what uses its columns and "
							"call clickstream.drop_lookup().")));
}

/* OPERATOR(schema.=) of the key's type. */
static char *
equality(Oid type, const char *lookup)
{
	TypeCacheEntry *cache = lookup_type_cache(type, TYPECACHE_EQ_OPR);
	HeapTuple		tuple;
	char		   *text;

	if (!OidIsValid(cache->eq_opr))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
						errmsg("the key of lookup \"%s\" is of type %s, which has no equality", lookup,
							   format_type_be(type))));
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(cache->eq_opr));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", cache->eq_opr);
	text = psprintf("OPERATOR(%s.%s)",
					quote_identifier(get_namespace_name(((Form_pg_operator) GETSTRUCT(tuple))->oprnamespace)),
					NameStr(((Form_pg_operator) GETSTRUCT(tuple))->oprname));
	ReleaseSysCache(tuple);
	return text;
}

/* Are the columns of the types that the event relation has? */
static bool
fits_event(const CsLookupReader *reader, TupleDesc desc)
{
	const CsLookup *lookup = reader->lookup;
	bool			same = desc->natts == lookup->ncolumns + 1;

	for (int i = 0; same && i < lookup->ncolumns; i++)
		same = cs_lookup_same_type(TupleDescAttr(desc, i + 1),
								   TupleDescAttr(reader->stream->event_desc, lookup->attnos[i] - 1));
	return same;
}

/* As long as nobody replaces the view by hand. */
static void
check_view(const CsLookupReader *reader, TupleDesc desc)
{
	if (!fits_event(reader, desc))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("the view of the rows of lookup \"%s\" is not as it was made", reader->lookup->name)));
}

/*
 * alter_lookup() makes the view anew, maybe while a batch waits for its lock,
 * which has seen to it already that nothing was changed: then the rows that
 * come are not those that this reader was made for.  The next try, of an engine
 * that knows the change, reads them.
 */
static void
check_rows(const CsLookupReader *reader, TupleDesc desc)
{
	Form_pg_attribute key = TupleDescAttr(desc, 0);

	if (!fits_event(reader, desc) || getBaseType(key->atttypid) != reader->key_type ||
		key->attcollation != reader->collation)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("lookup \"%s\" was altered at this moment", reader->lookup->name)));
}

/* By name: columns that were added meanwhile are behind them. */
static char *
make_statement(const CsLookupReader *reader)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, "SELECT c0");
	for (int i = 1; i <= reader->lookup->ncolumns; i++)
		appendStringInfo(&text, ", c%d", i);
	appendStringInfo(&text, " FROM %s WHERE c0 %s ANY ($1)", cs_relation_name(reader->lookup->rows_view),
					 equality(reader->key_type, reader->lookup->name));
	return text.data;
}

static void
read_key(CsLookupReader *reader, Form_pg_attribute key)
{
	reader->key_type = getBaseType(key->atttypid);
	reader->collation = key->attcollation;
	reader->array_type = get_array_type(reader->key_type);
	if (!OidIsValid(reader->array_type))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("the key of lookup \"%s\" is of type %s, of which there are no arrays",
							   reader->lookup->name, format_type_be(reader->key_type))));
	get_typlenbyvalalign(reader->key_type, &reader->typlen, &reader->typbyval, &reader->typalign);
}

CsLookupReader *
cs_lookup_reader_create(const CsStream *stream, const CsLookup *lookup)
{
	CsLookupReader		  *reader;
	MemoryContextCallback *callback;
	Relation			   rel = try_relation_open(lookup->rows_view, AccessShareLock);

	if (rel == NULL)
		return NULL;
	reader = palloc0(sizeof(CsLookupReader));
	callback = palloc0(sizeof(MemoryContextCallback));
	reader->stream = stream;
	reader->lookup = lookup;
	check_view(reader, RelationGetDescr(rel));
	read_key(reader, TupleDescAttr(RelationGetDescr(rel), 0));
	relation_close(rel, NoLock);
	reader->statement = make_statement(reader);
	callback->func = free_plan;
	callback->arg = reader;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return reader;
}

void
cs_lookup_reader_key(const CsLookupReader *reader, Oid *type, Oid *collation)
{
	*type = reader->key_type;
	*collation = reader->collation;
}

static void
prepare(CsLookupReader *reader)
{
	SPIPlanPtr plan = SPI_prepare_cursor(reader->statement, 1, &reader->array_type, CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", reader->statement, SPI_result_code_string(SPI_result));
	reader->plan = plan;
}

static void
context_callback(void *arg)
{
	errcontext("reading lookup \"%s\"", ((CsLookupReader *) arg)->lookup->name);
}

/* Hand out the rows in SPI_tuptable, in the caller's memory context. */
static void
hand_out(const CsLookupReader *reader, MemoryContext caller, CsLookupRow row, void *arg)
{
	int			  n = reader->lookup->ncolumns + 1;
	Datum		 *values = palloc(n * sizeof(Datum));
	bool		 *isnull = palloc(n * sizeof(bool));
	MemoryContext spi = MemoryContextSwitchTo(caller);

	check_rows(reader, SPI_tuptable->tupdesc);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, isnull);
		row(values[0], values + 1, isnull + 1, arg);
	}
	MemoryContextSwitchTo(spi);
}

void
cs_lookup_read(CsLookupReader *reader, Datum *keys, int n, CsLookupRow row, void *arg)
{
	MemoryContext		 caller = CurrentMemoryContext;
	ErrorContextCallback callback = {.callback = context_callback, .arg = reader, .previous = error_context_stack};
	Datum				 array;
	int					 result;

	error_context_stack = &callback;
	SPI_connect();
	if (reader->plan == NULL)
		prepare(reader);
	array =
		PointerGetDatum(construct_array(keys, n, reader->key_type, reader->typlen, reader->typbyval, reader->typalign));
	result = SPI_execute_plan(reader->plan, &array, NULL, true, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result of \"%s\": %s", reader->statement, SPI_result_code_string(result));
	hand_out(reader, caller, row, arg);
	SPI_finish();
	error_context_stack = callback.previous;
}
