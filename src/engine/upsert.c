/*
 * engine/upsert.c
 *	  A stream that keeps a table in step with an upsert topic.
 *
 * It is a stream without events: source, positions, ledger, dead letters and
 * worker are those of every other, and only what stands between decoding and
 * the table is here.
 */
#include "postgres.h"

#include "access/attnum.h"
#include "decode/upsert.h"
#include "engine/upsert.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* What a message of the chunk says. */
typedef struct Row
{
	CsUpsertAction action;
	Datum		  *values; /* in the batch's memory: the table may gather rows */
	bool		  *isnull;
	bool		  *keeps;
} Row;

struct CsUpsert
{
	const CsLookupTable *target;
	const CsStream		*stream;
	CsUpsertDecoder		*decoder;
	int					 key;
	Oid					*types; /* of the columns, as the decoder makes their values */
	int32				*typmods;
	CsTable				*table; /* open for this batch, or NULL */
	Row					*rows;	/* of the chunk */
};

/* The columns as the table has them now. */
static CsUpsertColumn *
table_columns(const CsLookupTable *target, Oid *types, int32 *typmods)
{
	CsUpsertColumn *columns = palloc(target->ncolumns * sizeof(CsUpsertColumn));

	for (int i = 0; i < target->ncolumns; i++)
	{
		AttrNumber att = get_attnum(target->table, target->columns[i]);

		if (att == InvalidAttrNumber)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%s\" of %s is gone", target->columns[i], target->name),
							errhint("Add it again, and clickstream.reset() the stream that fills the table.")));
		columns[i].name = target->columns[i];
		get_atttypetypmodcoll(target->table, att, &columns[i].type, &columns[i].typmod, &(Oid){InvalidOid});
		cs_lookup_table_check_type(columns[i].name, columns[i].type);
		types[i] = columns[i].type;
		typmods[i] = columns[i].typmod;
	}
	return columns;
}

CsUpsert *
cs_upsert_open(const CsStream *stream, const CsLookupTable *target)
{
	CsUpsert	   *upsert = palloc0(sizeof(CsUpsert));
	CsUpsertColumn *columns;

	upsert->target = target;
	upsert->stream = stream;
	upsert->types = palloc(target->ncolumns * sizeof(Oid));
	upsert->typmods = palloc(target->ncolumns * sizeof(int32));
	columns = table_columns(target, upsert->types, upsert->typmods);
	while (upsert->key < target->ncolumns - 1 && strcmp(target->columns[upsert->key], target->key) != 0)
		upsert->key++;
	upsert->decoder = cs_upsert_decoder_create(columns, target->ncolumns, upsert->key);
	return upsert;
}

/* Locked until the batch ends, so that its columns stay what the decoder takes them for. */
static void
open_table(CsUpsert *upsert)
{
	if (upsert->table != NULL)
		return;
	upsert->table =
		cs_table_open(upsert->target->table, upsert->target->ncolumns, (const char *const *) upsert->target->columns, 1,
					  &upsert->key, upsert->stream->owner);
	cs_table_check_types(upsert->table, upsert->types, upsert->typmods);
}

void
cs_upsert_begin_chunk(CsEngine *e, int n)
{
	MemoryContext old = MemoryContextSwitchTo(e->batch);

	open_table(e->upsert);
	MemoryContextSwitchTo(old);
	e->upsert->rows = palloc0(n * sizeof(Row));
}

void
cs_upsert_step(CsEngine *e, void *arg, int i)
{
	CsUpsert	 *upsert = e->upsert;
	CsEvent		 *event = &e->events[i];
	Row			 *row = &upsert->rows[i];
	int			  n = upsert->target->ncolumns;
	MemoryContext old = MemoryContextSwitchTo(e->batch);

	(void) arg;
	event->place.time = event->message->timestamp != CS_WM_NONE ? event->message->timestamp : e->ctx.now;
	row->values = palloc0(n * sizeof(Datum));
	row->isnull = palloc(n * sizeof(bool));
	row->keeps = palloc(n * sizeof(bool));
	row->action = CS_UPSERT_NOTHING; /* should it raise */
	row->action = cs_upsert_decode(upsert->decoder, event->message, row->values, row->isnull, row->keeps);
	if (row->action != CS_UPSERT_NOTHING)
		event->class = CS_CLASS_USED;
	MemoryContextSwitchTo(old);
}

/* What the sender does not know stays as it is. */
static void
keep_values(CsUpsert *upsert, Row *row)
{
	TupleTableSlot *there = NULL;
	bool			looked = false;

	for (int i = 0; i < upsert->target->ncolumns; i++)
	{
		int16 typlen;
		bool  typbyval;
		Datum value;

		if (!row->keeps[i])
			continue;
		if (!looked)
			there = cs_table_find(upsert->table, row->values, row->isnull);
		looked = true;
		row->isnull[i] = true;
		if (there == NULL)
			continue;
		value = cs_table_value(upsert->table, there, i, &row->isnull[i]);
		get_typlenbyval(upsert->types[i], &typlen, &typbyval);
		if (!row->isnull[i])
			row->values[i] = datumCopy(value, typbyval, typlen);
	}
}

void
cs_upsert_apply(CsEngine *e)
{
	CsUpsert	 *upsert = e->upsert;
	MemoryContext old = MemoryContextSwitchTo(e->batch);

	for (int i = 0; i < e->nevents; i++)
	{
		Row *row = &upsert->rows[i];

		if (row->action == CS_UPSERT_NOTHING)
			continue;
		if (row->action == CS_UPSERT_DELETE)
		{
			(void) cs_table_delete(upsert->table, row->values, row->isnull);
			continue;
		}
		keep_values(upsert, row);
		cs_table_upsert(upsert->table, row->values, row->isnull);
	}
	MemoryContextSwitchTo(old);
}

void
cs_upsert_end(CsUpsert *upsert)
{
	if (upsert->table)
		cs_table_close(upsert->table);
	upsert->table = NULL;
}

void
cs_upsert_abort(CsUpsert *upsert)
{
	upsert->table = NULL;
}
