/*
 * sink/table.c
 *	  Rows into a table of the user, without SQL: result tables, dead letters,
 *	  late events.
 *
 * What the user hung on the table works as for his own statements: row
 * triggers, constraints, generated columns, defaults of columns he added, any
 * kind of index, publications.  It is the path of logical replication's apply
 * (executor/execReplication.c), with what that looks up for each row looked up
 * once a batch: indexes, the scan of the key's index and its operators, default
 * expressions, slots.
 *
 * Many rows of a batch are new, so a table on which nothing can look at a
 * single insert (no insert trigger, no generated column, no volatile default)
 * has its new rows gathered and written as COPY writes them: a thousand rows or
 * 64 kB at a time, a page's worth under one WAL record.  The rows are pointers
 * to the caller's Datums, which live until the batch ends.  A small bit map of
 * key hashes says whether a key that is to be updated may be among them; only
 * then they are flushed early.
 *
 * A row to be updated is looked for where it was last seen (row_places.h), then
 * by the key's index.
 *
 * Locking: RowExclusiveLock on the table and its indexes until the transaction
 * ends.  A row found by its key is not locked before it is updated: the finder
 * waits for whoever is changing it, and if somebody changes it in the
 * microseconds between, PostgreSQL raises, and the batch is run again.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/hio.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "compat.h"
#include "core/value_bytes.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "sink/row_places.h"
#include "sink/sink.h"
#include "sink/table_check.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define BUFFER_ROWS 1000
#define BUFFER_BYTES (64 * 1024)
#define KEY_BITS 16384 /* of the map of buffered keys; a power of two */

struct CsTable
{
	Relation	   rel;
	int			   ncolumns;
	AttrNumber	  *attnums; /* of our columns */
	EState		  *estate;
	ResultRelInfo *info;
	EPQState	   epq;
	bool		   fires_after; /* AFTER triggers are queued */
	bool		   written;		/* by the present command */

	TupleTableSlot *slot;	  /* the row to be written */
	TupleTableSlot *found;	  /* the row that was there */
	TupleTableSlot *last;	  /* row last written, or NULL */
	bool			replaced; /* the last row written stands for, or deletes, the one in found */

	/* finding a row by its key */
	Relation	  index; /* belongs to info */
	int			  nkeys;
	int			 *key_columns; /* our column of each of the index's */
	bool		 *key_hashed;  /* those of which equal values have equal bytes */
	ScanKeyData	 *scan_keys;
	IndexScanDesc scan; /* made when first needed */
	SnapshotData  dirty;
	CsRowPlaces	 *places;	  /* NULL: not remembered */
	BlockNumber	  nblocks;	  /* places behind it are not believed */
	uint64		  place_hash; /* of the key that was looked for last */

	/* the user's own columns */
	int			 ndefaults;
	ExprContext *default_context; /* of its own: values of gathered rows must outlive other rows' work */
	AttrNumber	*default_attnums;
	ExprState  **defaults;

	/* new rows gathered */
	bool			 gathers;
	TupleTableSlot **buffer;
	int				 nbuffered;
	int				 nslots;		/* made so far */
	uint64			*buffer_hashes; /* of keys */
	Size			 buffered_bytes;
	BulkInsertState	 bulk;
	uint64			 key_map[KEY_BITS / 64];
};

/* ---- opening ---- */

static void
make_executor(CsTable *table)
{
	EState		  *estate = CreateExecutorState();
	MemoryContext  old = MemoryContextSwitchTo(estate->es_query_cxt);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	Relation	   rel = table->rel;
	Bitmapset	  *updated = NULL;

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	/* what UPDATE OF triggers and generated columns go by */
	for (int i = 0; i < table->ncolumns; i++)
		updated = bms_add_member(updated, table->attnums[i] - FirstLowInvalidHeapAttributeNumber);
	cs_init_range_table(estate, rte, updated);

	table->estate = estate;
	table->info = makeNode(ResultRelInfo);
	InitResultRelInfo(table->info, rel, 1, NULL, 0);
	estate->es_opened_result_relations = lappend(estate->es_opened_result_relations, table->info);
	ExecOpenIndices(table->info, false);
	EvalPlanQualInit(&table->epq, estate, NULL, NIL, -1);
	table->slot = table_slot_create(rel, &estate->es_tupleTable);
	table->found = table_slot_create(rel, &estate->es_tupleTable);
	MemoryContextSwitchTo(old);
}

static int
column_of(const CsTable *table, AttrNumber attnum)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (table->attnums[i] == attnum)
			return i;
	return -1;
}

/* Expressions for the columns that are not ours.  True if one is volatile, sequences aside. */
static bool
make_defaults(CsTable *table)
{
	TupleDesc desc = RelationGetDescr(table->rel);
	bool	  is_volatile = false;

	table->default_context = CreateExprContext(table->estate);
	table->default_attnums = palloc(sizeof(AttrNumber) * desc->natts);
	table->defaults = palloc(sizeof(ExprState *) * desc->natts);
	for (AttrNumber attnum = 1; attnum <= desc->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);
		Expr			 *expr;

		if (att->attisdropped || att->attgenerated || column_of(table, attnum) >= 0)
			continue;
		expr = (Expr *) build_column_default(table->rel, attnum);
		if (expr == NULL)
			continue;
		expr = expression_planner(expr);
		is_volatile = is_volatile || contain_volatile_functions_not_nextval((Node *) expr);
		table->default_attnums[table->ndefaults] = attnum;
		table->defaults[table->ndefaults++] = ExecInitExpr(expr, NULL);
	}
	return is_volatile;
}

/* Is it a unique index on exactly the key columns?  Sets key_columns in the index's order. */
static bool
index_fits(CsTable *table, Relation index, int nkeys, const int *key_columns)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || form->indnkeyatts != nkeys || index->rd_rel->relam != BTREE_AM_OID ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < nkeys; i++)
	{
		int column = column_of(table, form->indkey.values[i]);
		int k;

		for (k = 0; k < nkeys && key_columns[k] != column; k++)
			;
		if (column < 0 || k == nkeys)
			return false;
		table->key_columns[i] = column;
	}
	return true;
}

static void
find_key_index(CsTable *table, int nkeys, const int *key_columns)
{
	ResultRelInfo *info = table->info;

	table->nkeys = nkeys;
	if (nkeys == 0)
		return;
	table->key_columns = palloc(sizeof(int) * nkeys);
	for (int i = 0; i < info->ri_NumIndices && table->index == NULL; i++)
		if (index_fits(table, info->ri_IndexRelationDescs[i], nkeys, key_columns))
			table->index = info->ri_IndexRelationDescs[i];
	if (table->index == NULL)
		cs_table_no_key(table->rel);

	table->scan_keys = palloc0(sizeof(ScanKeyData) * nkeys);
	table->key_hashed = palloc(sizeof(bool) * nkeys);
	for (int i = 0; i < nkeys; i++)
	{
		Oid column_type =
			TupleDescAttr(RelationGetDescr(table->rel), table->index->rd_index->indkey.values[i] - 1)->atttypid;
		Oid type = table->index->rd_opcintype[i];
		Oid op = get_opfamily_member(table->index->rd_opfamily[i], type, type, BTEqualStrategyNumber);

		if (!OidIsValid(op))
			elog(ERROR, "index %s has no equality for its column %d", RelationGetRelationName(table->index), i + 1);
		ScanKeyInit(&table->scan_keys[i], i + 1, BTEqualStrategyNumber, get_opcode(op), (Datum) 0);
		table->scan_keys[i].sk_collation = table->index->rd_indcollation[i];
		table->key_hashed[i] = cs_value_bytes(column_type, table->index->rd_indcollation[i]) != CS_BYTES_DIFFER;
	}
}

static bool
may_gather(const CsTable *table, bool has_volatile_default)
{
	TriggerDesc *triggers = table->rel->trigdesc;
	TupleConstr *constr = RelationGetDescr(table->rel)->constr;

	if (triggers &&
		(triggers->trig_insert_before_row || triggers->trig_insert_after_row || triggers->trig_insert_instead_row))
		return false;
	if (constr && constr->has_generated_stored)
		return false;
	return !has_volatile_default;
}

CsTable *
cs_table_open(Oid relid, int ncolumns, const char *const *columns, int nkeys, const int *key_columns, Oid owner)
{
	CsTable		 *table = palloc0(sizeof(CsTable));
	MemoryContext old;

	table->rel = cs_table_check_open(relid, owner);
	table->ncolumns = ncolumns;
	table->attnums = palloc(sizeof(AttrNumber) * ncolumns);
	for (int i = 0; i < ncolumns; i++)
		table->attnums[i] = cs_table_check_column(table->rel, columns[i]);
	make_executor(table);

	old = MemoryContextSwitchTo(table->estate->es_query_cxt);
	cs_table_check_deferrable(table->info);
	find_key_index(table, nkeys, key_columns);
	table->gathers = may_gather(table, make_defaults(table));
	MemoryContextSwitchTo(old);

	/* after everything that may refuse: it must be balanced by close() */
	table->fires_after = table->rel->trigdesc != NULL;
	if (table->fires_after)
		AfterTriggerBeginQuery();
	return table;
}

void
cs_table_remember_rows(CsTable *table, CsRowPlaces *places)
{
	/* The table may grow from here on, but is not truncated: that would need a stronger lock than ours allows. */
	table->places = places;
	table->nblocks = RelationGetNumberOfBlocks(table->rel);
}

void
cs_table_check_types(CsTable *table, const Oid *types, const int32 *typmods)
{
	for (int i = 0; i < table->ncolumns; i++)
		cs_table_check_type(table->rel, table->attnums[i], types[i], typmods ? &typmods[i] : NULL);
}

/* ---- gathered rows ---- */

/*
 * Equal keys have equal hashes.  Columns whose equal values may have other
 * bytes (numeric, citext) are left out: keys that differ in them alone count as
 * one, so that gathered rows are written before any of them is looked for.
 */
static uint64
key_hash(const CsTable *table, const Datum *values, const bool *isnull)
{
	TupleDesc desc = RelationGetDescr(table->rel);
	uint64	  hash = 0;

	for (int i = 0; i < table->nkeys; i++)
	{
		int				  column = table->key_columns[i];
		Form_pg_attribute att = TupleDescAttr(desc, table->attnums[column] - 1);
		Datum			  value = values[column];

		if (isnull[column] || !table->key_hashed[i])
			continue;
		if (att->attbyval)
			hash = hash_bytes_extended((unsigned char *) &value, sizeof(value), hash);
		else if (att->attlen == -1)
			hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(DatumGetPointer(value)),
									   VARSIZE_ANY_EXHDR(DatumGetPointer(value)), hash);
		else
			hash = hash_bytes_extended((unsigned char *) DatumGetPointer(value),
									   datumGetSize(value, false, att->attlen), hash);
	}
	return hash;
}

/* Where the key's bit is in the map. */
static inline uint32
key_bit(uint64 hash)
{
	return (uint32) (hash & (KEY_BITS - 1));
}

/*
 * COPY's ring of buffers is for loads that nobody looks at soon, and makes the
 * writer flush WAL each 16 MB; these rows are read and updated at once.  What
 * is wanted is the pin on the page that is being filled.
 */
static BulkInsertState
bulk_state(void)
{
	BulkInsertState bulk = GetBulkInsertState();

	FreeAccessStrategy(bulk->strategy);
	bulk->strategy = NULL;
	return bulk;
}

void
cs_table_flush(CsTable *table)
{
	EState		  *estate = table->estate;
	ResultRelInfo *info = table->info;
	MemoryContext  old;

	if (table->nbuffered == 0)
		return;
	if (table->bulk == NULL)
	{
		old = MemoryContextSwitchTo(estate->es_query_cxt);
		table->bulk = bulk_state();
		MemoryContextSwitchTo(old);
	}

	/* both leak there */
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
	table_multi_insert(table->rel, table->buffer, table->nbuffered, GetCurrentCommandId(true), 0, table->bulk);
	for (int i = 0; i < table->nbuffered; i++)
	{
		ResetPerTupleExprContext(estate);
		if (info->ri_NumIndices > 0)
			(void) ExecInsertIndexTuples(info, table->buffer[i], estate, false, false, NULL, NIL);
		if (table->nkeys > 0)
			cs_row_places_note(table->places, table->buffer_hashes[i], &table->buffer[i]->tts_tid);
		ExecClearTuple(table->buffer[i]);
	}
	MemoryContextSwitchTo(old);
	ResetPerTupleExprContext(estate);
	ResetExprContext(table->default_context);
	table->nbuffered = 0;
	table->buffered_bytes = 0;
	table->last = NULL;
	table->written = true;
	if (table->nkeys > 0)
		memset(table->key_map, 0, sizeof(table->key_map));
}

/* Rows with this key, if any, are in the table. */
static void
flush_key(CsTable *table, uint64 hash)
{
	uint32 bit = key_bit(hash);

	if (table->nbuffered > 0 && (table->key_map[bit / 64] & (UINT64CONST(1) << (bit % 64))) != 0)
		cs_table_flush(table);
}

/* Put our columns into a slot. */
static void
set_columns(const CsTable *table, TupleTableSlot *slot, const Datum *values, const bool *isnull)
{
	for (int i = 0; i < table->ncolumns; i++)
	{
		slot->tts_values[table->attnums[i] - 1] = values[i];
		slot->tts_isnull[table->attnums[i] - 1] = isnull[i];
	}
}

/* A new row: our columns, defaults, NULL. */
static void
fill_slot(CsTable *table, TupleTableSlot *slot, const Datum *values, const bool *isnull)
{
	int natts = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	if (natts > table->ncolumns)
	{
		memset(slot->tts_values, 0, sizeof(Datum) * natts);
		memset(slot->tts_isnull, true, sizeof(bool) * natts);
	}
	set_columns(table, slot, values, isnull);
	for (int i = 0; i < table->ndefaults; i++)
	{
		int a = table->default_attnums[i] - 1;

		slot->tts_values[a] =
			ExecEvalExprSwitchContext(table->defaults[i], table->default_context, &slot->tts_isnull[a]);
	}
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(table->rel);
}

static Size
row_bytes(const CsTable *table, const Datum *values, const bool *isnull)
{
	TupleDesc desc = RelationGetDescr(table->rel);
	Size	  size = 0;

	for (int i = 0; i < table->ncolumns; i++)
	{
		int16 len = TupleDescAttr(desc, table->attnums[i] - 1)->attlen;

		if (!isnull[i])
			size += len == -1 ? VARSIZE_ANY(DatumGetPointer(values[i])) : len > 0 ? (Size) len : 8;
	}
	return size;
}

static TupleTableSlot *
next_buffer_slot(CsTable *table)
{
	if (table->nbuffered == table->nslots)
	{
		MemoryContext old = MemoryContextSwitchTo(table->estate->es_query_cxt);

		if (table->buffer == NULL)
		{
			table->buffer = palloc(sizeof(TupleTableSlot *) * BUFFER_ROWS);
			table->buffer_hashes = palloc(sizeof(uint64) * BUFFER_ROWS);
		}
		table->buffer[table->nslots++] = table_slot_create(table->rel, &table->estate->es_tupleTable);
		MemoryContextSwitchTo(old);
	}
	return table->buffer[table->nbuffered];
}

static void
gather(CsTable *table, const Datum *values, const bool *isnull)
{
	TupleTableSlot *slot;

	/* before the row, not after it: the slot of the last row stays readable */
	if (table->nbuffered == BUFFER_ROWS || table->buffered_bytes >= BUFFER_BYTES)
		cs_table_flush(table);
	slot = next_buffer_slot(table);
	fill_slot(table, slot, values, isnull);
	ResetPerTupleExprContext(table->estate);
	if (RelationGetDescr(table->rel)->constr)
		ExecConstraints(table->info, slot, table->estate);
	if (table->rel->rd_rel->relispartition)
		(void) ExecPartitionCheck(table->info, slot, table->estate, true);
	table->buffered_bytes += row_bytes(table, values, isnull);
	if (table->nkeys > 0)
	{
		uint64 hash = key_hash(table, values, isnull);
		uint32 bit = key_bit(hash);

		table->buffer_hashes[table->nbuffered] = hash;
		table->key_map[bit / 64] |= UINT64CONST(1) << (bit % 64);
	}
	table->nbuffered++;
	table->last = slot;
}

/* ---- single rows ---- */

/* Does the row in table->found have this key? */
static bool
has_key(CsTable *table, const Datum *values)
{
	for (int i = 0; i < table->nkeys; i++)
	{
		AttrNumber		  attnum = table->attnums[table->key_columns[i]];
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(table->rel), attnum - 1);
		bool			  isnull;
		Datum			  value = slot_getattr(table->found, attnum, &isnull);

		if (isnull || !datum_image_eq(value, values[table->key_columns[i]], att->attbyval, att->attlen))
			return false;
	}
	return true;
}

/* The row, if it is where it was seen last and nobody is at it. */
static bool
find_in_place(CsTable *table, const Datum *values)
{
	ItemPointer tid = cs_row_places_find(table->places, table->place_hash);

	if (tid == NULL || ItemPointerGetBlockNumber(tid) >= table->nblocks)
		return false;
	InitDirtySnapshot(table->dirty);
	if (!table_tuple_fetch_row_version(table->rel, tid, &table->dirty, table->found))
		return false;
	if (TransactionIdIsValid(table->dirty.xmin) || TransactionIdIsValid(table->dirty.xmax) || !has_key(table, values))
	{
		ExecClearTuple(table->found);
		return false;
	}
	ExecMaterializeSlot(table->found); /* gives back the pin */
	return true;
}

/*
 * The row with this key, into table->found.  As RelationFindReplTupleByIndex:
 * a dirty snapshot, waiting for whoever is at the row.
 */
static bool
find_row(CsTable *table, const Datum *values, const bool *isnull)
{
	if (table->nkeys == 0)
		elog(ERROR, "table %s was opened without a key", RelationGetRelationName(table->rel));
	table->place_hash = key_hash(table, values, isnull);
	flush_key(table, table->place_hash);
	if (table->written)
	{
		/* a command cannot change what it made itself */
		CommandCounterIncrement();
		table->written = false;
	}
	for (int i = 0; i < table->nkeys; i++)
	{
		if (isnull[table->key_columns[i]])
			return false;
		table->scan_keys[i].sk_argument = values[table->key_columns[i]];
	}
	if (find_in_place(table, values))
		return true;
	if (table->scan == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(table->estate->es_query_cxt);

		InitDirtySnapshot(table->dirty);
		table->scan = index_beginscan(table->rel, table->index, &table->dirty, table->nkeys, 0);
		MemoryContextSwitchTo(old);
	}

	for (;;)
	{
		TransactionId xwait;
		bool		  found;

		index_rescan(table->scan, table->scan_keys, table->nkeys, NULL, 0);
		found = index_getnext_slot(table->scan, ForwardScanDirection, table->found);
		if (found)
			ExecMaterializeSlot(table->found);
		/* gives back the pins, which would stop VACUUM until the batch ends */
		index_rescan(table->scan, table->scan_keys, table->nkeys, NULL, 0);
		if (!found)
			return false;
		xwait = TransactionIdIsValid(table->dirty.xmin) ? table->dirty.xmin : table->dirty.xmax;
		if (!TransactionIdIsValid(xwait))
			return true;
		XactLockTableWait(xwait, NULL, NULL, XLTW_None);
	}
}

/* The executor leaves crumbs: let them fall where the next row sweeps. */
static MemoryContext
begin_row(CsTable *table)
{
	ResetPerTupleExprContext(table->estate);
	return MemoryContextSwitchTo(GetPerTupleMemoryContext(table->estate));
}

static void
insert_single(CsTable *table, const Datum *values, const bool *isnull)
{
	MemoryContext old;

	ResetExprContext(table->default_context);
	fill_slot(table, table->slot, values, isnull);
	ItemPointerSetInvalid(&table->slot->tts_tid);
	old = begin_row(table);
	ExecSimpleRelationInsert(table->info, table->estate, table->slot);
	MemoryContextSwitchTo(old);
	table->written = true;
	/* a BEFORE trigger may have dropped it */
	table->last = ItemPointerIsValid(&table->slot->tts_tid) ? table->slot : NULL;
}

void
cs_table_insert(CsTable *table, Datum *values, bool *isnull)
{
	table->replaced = false;
	if (table->gathers)
		gather(table, values, isnull);
	else
		insert_single(table, values, isnull);
}

bool
cs_table_update(CsTable *table, Datum *values, bool *isnull)
{
	TupleTableSlot *slot = table->slot;
	TupleTableSlot *found = table->found;
	int				natts = slot->tts_tupleDescriptor->natts;
	MemoryContext	old;

	table->replaced = find_row(table, values, isnull);
	if (!table->replaced)
		return false;

	/* the user's own columns stay as they are */
	ExecClearTuple(slot);
	slot_getallattrs(found);
	memcpy(slot->tts_values, found->tts_values, sizeof(Datum) * natts);
	memcpy(slot->tts_isnull, found->tts_isnull, sizeof(bool) * natts);
	set_columns(table, slot, values, isnull);
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(table->rel);

	ItemPointerSetInvalid(&slot->tts_tid);
	EvalPlanQualSetSlot(&table->epq, found);
	old = begin_row(table);
	ExecSimpleRelationUpdate(table->info, table->estate, &table->epq, found, slot);
	MemoryContextSwitchTo(old);
	table->written = true;
	table->last = ItemPointerIsValid(&slot->tts_tid) ? slot : NULL;
	if (table->last)
		cs_row_places_note(table->places, table->place_hash, &slot->tts_tid);
	return true;
}

void
cs_table_upsert(CsTable *table, Datum *values, bool *isnull)
{
	if (!cs_table_update(table, values, isnull))
		cs_table_insert(table, values, isnull);
}

bool
cs_table_delete(CsTable *table, Datum *values, bool *isnull)
{
	MemoryContext old;

	table->replaced = find_row(table, values, isnull);
	if (!table->replaced)
		return false;
	EvalPlanQualSetSlot(&table->epq, table->found);
	old = begin_row(table);
	ExecSimpleRelationDelete(table->info, table->estate, &table->epq, table->found);
	MemoryContextSwitchTo(old);
	table->written = true;
	table->last = NULL;
	return true;
}

TupleTableSlot *
cs_table_slot(CsTable *table)
{
	return table->last;
}

TupleTableSlot *
cs_table_old_slot(CsTable *table)
{
	return table->replaced ? table->found : NULL;
}

TupleTableSlot *
cs_table_find(CsTable *table, Datum *values, bool *isnull)
{
	return find_row(table, values, isnull) ? table->found : NULL;
}

Datum
cs_table_value(CsTable *table, TupleTableSlot *row, int i, bool *isnull)
{
	return slot_getattr(row, table->attnums[i], isnull);
}

void
cs_table_close(CsTable *table)
{
	EState *estate = table->estate;

	cs_table_flush(table);
	if (table->bulk)
		FreeBulkInsertState(table->bulk);
	if (table->scan)
		index_endscan(table->scan);
	/* with several tables open this may fire another's triggers, or leave ours to it: each needs only its own rows */
	if (table->fires_after)
		AfterTriggerEndQuery(estate);
	EvalPlanQualEnd(&table->epq);
	ExecResetTupleTable(estate->es_tupleTable, false);
	ExecCloseResultRelations(estate); /* indexes, and what triggers opened */
	FreeExecutorState(estate);
	table_close(table->rel, NoLock);
	if (table->written)
		CommandCounterIncrement();
	pfree(table->attnums);
	pfree(table);
}
