/*
 * engine/lookup.c
 *	  Columns of lookups in the events of a chunk.
 *
 * Keys are evaluated with the stream's own expressions, so that one that
 * raises makes its event dead as those do.  The rows are read when it is known
 * which events are filtered or duplicates, which nobody sees: all keys of the
 * chunk that the batch has not met yet, by one statement.
 *
 * What cannot be read ends the batch: no event is to blame.
 */
#include "postgres.h"

#include "core/lookup.h"
#include "engine/lookup.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* A key that the batch has met. */
typedef struct Met
{
	CsHash128 hash;
	Datum	 *values; /* of the lookup's columns; NULL: there is no row */
	bool	 *isnull;
} Met;

struct CsLookupStage
{
	CsLookup	   *lookup;
	CsLookupReader *reader; /* NULL: the source was dropped */
	CsExpr			key;
	CsHasher		hasher;
	int16		   *typlen; /* of the columns */
	bool		   *typbyval;

	/* the batch */
	HTAB		 *met; /* NULL: nothing yet */
	MemoryContext context;

	/* the chunk, by number of the event */
	Datum	  *keys;
	bool	  *isnull;
	CsHash128 *hashes;
};

/* ---- compiling ---- */

static bool
is_wanted(const CsEngine *e, const CsLookup *lookup)
{
	for (int i = 0; i < lookup->ncolumns; i++)
		if (e->needed[lookup->attnos[i] - 1])
			return true;
	return false;
}

/* The key's expression, as the type that the source has. */
static void
compile_key(CsEngine *e, CsLookupStage *stage)
{
	Query		*query = cs_definition_query(stage->lookup->key_view);
	TargetEntry *entry = linitial_node(TargetEntry, query->targetList);
	char		*what = psprintf("the key of lookup \"%s\"", stage->lookup->name);
	Oid			 type;
	Oid			 collation;
	Node		*node;

	cs_lookup_reader_key(stage->reader, &type, &collation);
	node = coerce_to_target_type(NULL, (Node *) entry->expr, exprType((Node *) entry->expr), type, -1,
								 COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);
	if (node == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("event_key is of type %s, but the key of lookup \"%s\" of type %s",
						format_type_be(exprType((Node *) entry->expr)), stage->lookup->name, format_type_be(type)),
				 errhint("Cast it, such that it is NULL for an event that has no such key: an event whose event_key "
						 "raises an error is a dead letter.")));
	cs_expr_columns(node, e->needed, e->stream->event_desc->natts);
	cs_expr_init(&stage->key, (Expr *) node);
	cs_hasher_init(&stage->hasher, type, collation, what);
}

static CsLookupStage *
compile(CsEngine *e, CsLookup *lookup)
{
	CsLookupStage *stage = palloc0(sizeof(CsLookupStage));

	stage->lookup = lookup;
	stage->reader = cs_lookup_reader_create(e->stream, lookup);
	stage->typlen = palloc(lookup->ncolumns * sizeof(int16));
	stage->typbyval = palloc(lookup->ncolumns * sizeof(bool));
	for (int i = 0; i < lookup->ncolumns; i++)
	{
		Form_pg_attribute att = TupleDescAttr(e->stream->event_desc, lookup->attnos[i] - 1);

		stage->typlen[i] = att->attlen;
		stage->typbyval[i] = att->attbyval;
	}
	if (stage->reader)
		compile_key(e, stage);
	return stage;
}

void
cs_lookups_compile(CsEngine *e)
{
	List	 *lookups = cs_lookups_load(e->stream, e->context);
	ListCell *cell;

	e->lookups = palloc(Max(list_length(lookups), 1) * sizeof(CsLookupStage *));
	foreach(cell, lookups)
	{
		if (is_wanted(e, lfirst(cell)))
			e->lookups[e->nlookups++] = compile(e, lfirst(cell));
	}
}

/* ---- keys ---- */

void
cs_lookups_begin(CsEngine *e)
{
	for (int i = 0; i < e->nlookups; i++)
		e->lookups[i]->met = NULL;
}

void
cs_lookups_begin_chunk(CsEngine *e, int n)
{
	for (int i = 0; i < e->nlookups; i++)
	{
		CsLookupStage *stage = e->lookups[i];

		stage->keys = palloc(n * sizeof(Datum));
		stage->isnull = palloc(n * sizeof(bool));
		stage->hashes = palloc(n * sizeof(CsHash128));
		memset(stage->isnull, true, n * sizeof(bool));
	}
}

void
cs_lookups_keys(CsEngine *e, const CsEvent *event)
{
	int at = (int) (event - e->events);

	for (int i = 0; i < e->nlookups; i++)
	{
		CsLookupStage *stage = e->lookups[i];

		if (stage->reader == NULL)
			continue;
		stage->keys[at] = cs_expr_eval(&stage->key, e->econtext, &stage->isnull[at]);
		stage->hashes[at] = cs_hash_value(&stage->hasher, stage->keys[at], stage->isnull[at]);
	}
}

/* ---- rows ---- */

static void
make_table(CsEngine *e, CsLookupStage *stage)
{
	HASHCTL ctl = {.keysize = sizeof(CsHash128), .entrysize = sizeof(Met)};

	stage->context = AllocSetContextCreate(e->batch, "clickstream lookup", ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = stage->context;
	stage->met = hash_create("clickstream lookup", CS_CHUNK_MESSAGES, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
take_row(Datum key, const Datum *values, const bool *isnull, void *arg)
{
	CsLookupStage *stage = arg;
	int			   n = stage->lookup->ncolumns;
	CsHash128	   hash = cs_hash_value(&stage->hasher, key, false);
	Met			  *met = hash_search(stage->met, &hash, HASH_FIND, NULL);
	MemoryContext  old;

	if (met == NULL)
		elog(ERROR, "lookup \"%s\" returned a key that was not asked for", stage->lookup->name);
	if (met->values != NULL)
		ereport(ERROR, (errcode(ERRCODE_CARDINALITY_VIOLATION),
						errmsg("lookup \"%s\" has more than one row for a key", stage->lookup->name),
						errhint("See to it that its view returns one row for each key, as DISTINCT ON does.")));
	old = MemoryContextSwitchTo(stage->context);
	met->values = palloc(n * sizeof(Datum) + 1);
	met->isnull = palloc(n * sizeof(bool) + 1);
	for (int i = 0; i < n; i++)
	{
		met->isnull[i] = isnull[i];
		if (isnull[i])
			met->values[i] = (Datum) 0;
		else if (stage->typlen[i] == -1) /* nothing may point into the source's table any more */
			met->values[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(values[i]));
		else
			met->values[i] = datumCopy(values[i], stage->typbyval[i], stage->typlen[i]);
	}
	MemoryContextSwitchTo(old);
}

static inline bool
asks(const CsEngine *e, const CsLookupStage *stage, int i)
{
	return !e->events[i].skip && !stage->isnull[i];
}

/* Read the rows of the keys that are new to the batch. */
static void
read_new(CsEngine *e, CsLookupStage *stage)
{
	Datum *keys = palloc(e->nevents * sizeof(Datum));
	int	   n = 0;

	for (int i = 0; i < e->nevents; i++)
	{
		Met *met;
		bool known;

		if (!asks(e, stage, i))
			continue;
		met = hash_search(stage->met, &stage->hashes[i], HASH_ENTER, &known);
		if (known)
			continue;
		met->values = NULL;
		keys[n++] = stage->keys[i];
	}
	if (n > 0)
		cs_lookup_read(stage->reader, keys, n, take_row, stage);
}

static void
fill(CsEngine *e, CsLookupStage *stage)
{
	const CsLookup *lookup = stage->lookup;

	for (int i = 0; i < e->nevents; i++)
	{
		CsEvent	  *event = &e->events[i];
		const Met *met;

		if (!asks(e, stage, i))
			continue;
		met = hash_search(stage->met, &stage->hashes[i], HASH_FIND, NULL);
		if (met->values == NULL)
			continue; /* the columns are NULL already */
		for (int c = 0; c < lookup->ncolumns; c++)
		{
			event->values[lookup->attnos[c] - 1] = met->values[c];
			event->isnull[lookup->attnos[c] - 1] = met->isnull[c];
		}
	}
}

void
cs_lookups_fill(CsEngine *e)
{
	for (int i = 0; i < e->nlookups; i++)
	{
		CsLookupStage *stage = e->lookups[i];

		if (stage->reader == NULL)
			cs_lookup_refuse_gone(stage->lookup);
		if (stage->met == NULL)
			make_table(e, stage);
		read_new(e, stage);
		fill(e, stage);
	}
}
