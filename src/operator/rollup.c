/*
 * operator/rollup.c
 *	  Rollups: windows over the closed rows of sessions or funnels.
 *
 * A rollup is fed with the rows that its source operator emits, bucketed by
 * the column that says when they started.  Its measures are kept as partial
 * aggregates, as a window's cells are; no row of the source is read again.
 *
 * A bucket is final when wm >= end - 1 ms and nothing that is still open in the
 * source starts in it.  A bucket without state that the watermark has passed
 * already may have been final before: it is made from the source table, so
 * that a row which starts there after all (an event behind the watermark
 * moved a session's start back) leaves the bucket right.
 *
 * Rows of the source are only ever inserted, as long as sessions and funnels
 * show their rows when closed.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "access/table.h"
#include "operator/cell.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

typedef struct CsRollup
{
	CsOperator		op;
	CsGrouping		grouping;
	AttrNumber		start_attno; /* of the source table */
	TupleTableSlot *slot;		 /* a source row as the source table has it */
	bool			stale_before;
	TimestampTz		emit_before, closed_before;
} CsRollup;

/* The source table's layout, and where its start column is. */
static void
read_layout(CsRollup *r, Oid source)
{
	Relation rel = table_open(source, AccessShareLock);

	r->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(rel)), &TTSOpsHeapTuple);
	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), r->op.def->start_column) == 0)
			r->start_attno = att->attnum;
	}
	if (r->start_attno == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("table \"%s\" has no column \"%s\"", RelationGetRelationName(rel), r->op.def->start_column)));
	table_close(rel, AccessShareLock);
}

static CsOperator *
rollup_create(const CsStream *stream, const CsDefinition *def, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CsRollup	 *r = palloc0(sizeof(CsRollup));
	CsQueryParts  parts;

	r->op.ops = &cs_rollup_ops;
	r->op.stream = stream;
	r->op.def = def;
	r->op.needed = palloc0(stream->event_desc->natts * sizeof(bool)); /* it reads no events */
	r->op.closed = r->closed_before = CS_WM_NONE;
	r->op.emit_at = r->emit_before = CS_WM_DONE;
	cs_query_parts(def, &parts);
	read_layout(r, linitial_node(RangeTblEntry, parts.query->rtable)->relid);
	cs_grouping_compile(&r->grouping, &parts, 0);
	cs_cell_columns(&r->op, &r->grouping, &parts);
	MemoryContextSwitchTo(old);
	return &r->op;
}

static TimestampTz
row_start(const CsRollup *r, TupleTableSlot *row)
{
	bool  isnull;
	Datum start = slot_getattr(row, r->start_attno, &isnull);

	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s is null", r->op.def->start_column)));
	return DatumGetTimestampTz(start);
}

/* Evaluate the row in the econtext's slot, then (add) add it to its cell. */
static void
take_slot(CsRollup *r, CsBatchContext *batch, TimestampTz start, bool add)
{
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	CsGroupInput *input = cs_grouping_inputs(&r->grouping, 1);
	CsPlace		  place = {.time = start};
	CsCell		 *cell;

	cs_grouping_evaluate(&r->grouping, batch, input);
	if (input->take && add)
	{
		cell = cs_cell_get(&r->grouping, batch->state, r->op.def->definition_id,
						   CS_BUCKET(cs_slide_start(start, r->op.def->size, r->op.def->origin)), input,
						   r->op.def->group_limit);
		cell->stale = true;
		cell->rows++;
		r->op.stale = true;
		cs_measures_add(r->grouping.ms, cell->states, input->inputs, &place);
		r->op.used++;
	}
	MemoryContextSwitchTo(old);
}

static void
take_from(CsRollup *r, CsBatchContext *batch, TupleTableSlot *slot, bool add)
{
	TupleTableSlot *events = batch->econtext->ecxt_scantuple;
	TimestampTz		start = row_start(r, slot);

	slot_getallattrs(slot); /* expressions read its arrays */
	batch->econtext->ecxt_scantuple = slot;
	r->grouping.ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	PG_TRY();
	{
		take_slot(r, batch, start, add);
	}
	PG_FINALLY();
	{
		batch->econtext->ecxt_scantuple = events;
	}
	PG_END_TRY();
}

void
cs_rollup_take(CsOperator *op, CsBatchContext *batch, HeapTuple row)
{
	CsRollup *r = (CsRollup *) op;

	take_from(r, batch, ExecStoreHeapTuple(row, r->slot, false), true);
}

void
cs_rollup_check(CsOperator *op, CsBatchContext *batch, HeapTuple row)
{
	CsRollup *r = (CsRollup *) op;

	take_from(r, batch, ExecStoreHeapTuple(row, r->slot, false), false);
}

static inline bool
is_passed(TimestampTz end, TimestampTz wm)
{
	return wm != CS_WM_NONE && end - CS_USECS_PER_MSEC <= wm;
}

bool
cs_rollup_needs_reload(CsOperator *op, CsBatchContext *batch, HeapTuple row, TimestampTz *start, TimestampTz *end)
{
	CsRollup *r = (CsRollup *) op;

	*start = cs_slide_start(row_start(r, ExecStoreHeapTuple(row, r->slot, false)), op->def->size, op->def->origin);
	*end = *start + op->def->size;
	return is_passed(*end, op->closed) &&
		   cs_state_bucket_count(batch->state, op->def->definition_id, CS_BUCKET(*start)) == 0;
}

void
cs_rollup_reload(CsOperator *op, CsBatchContext *batch, TupleTableSlot *row)
{
	take_from((CsRollup *) op, batch, row, true);
}

void
cs_rollup_reloaded(CsOperator *op, CsBatchContext *batch, TimestampTz start, Datum group_key, int32 old_revision)
{
	CsRollup	 *r = (CsRollup *) op;
	CsKey		  key = {.def = (uint32) op->def->definition_id, .bucket = CS_BUCKET(start)};
	pg_uuid_t	 *uuid = DatumGetUUIDP(group_key);
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	CsCell		 *cell;
	CsWork		 *work;

	key.who = cs_uuid_hash(uuid);
	work = cs_state_get(batch->state, &key);
	if (work->work != NULL)
	{
		cell = cs_cell_of(&r->grouping, batch->state, work);
		cell->shown = true;
		cell->revision = old_revision + 1;
	}
	MemoryContextSwitchTo(old);
}

static bool
rollup_advance(CsOperator *op, CsBatchContext *batch, TimestampTz wm, int max, bool finish)
{
	CsRollup	 *r = (CsRollup *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	bool		  rewrite = !batch->catching_up && (op->emit_at == CS_WM_DONE || batch->now >= op->emit_at);
	int			  n;
	int64		 *buckets = cs_state_buckets(batch->state, op->def->definition_id, &n);

	(void) max;
	(void) finish;
	r->grouping.ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	for (int i = 0; i < n; i++)
	{
		TimestampTz start = CS_BUCKET_START(buckets[i]);
		TimestampTz end = start + op->def->size;

		if (is_passed(end, wm) && !op->source->ops->open_starts_in(op->source, start, end))
			cs_cells_close(op, &r->grouping, batch, buckets[i], true);
	}
	op->closed = Max(op->closed, wm);
	if (!r->op.stale && batch->now >= op->emit_at)
		op->emit_at = CS_WM_DONE; /* the next change may be shown at once */
	if (r->op.stale && op->def->emit == CS_EMIT_CHANGES)
	{
		if (rewrite)
		{
			cs_cells_show_stale(op, &r->grouping, batch);
			r->op.stale = false;
			op->emit_at = batch->now + op->def->emit_interval;
		}
		else
			cs_cells_show_new(op, &r->grouping, batch);
	}
	MemoryContextSwitchTo(old);
	return true;
}

static void
rollup_end_batch(CsOperator *op, bool committed)
{
	CsRollup *r = (CsRollup *) op;

	if (committed)
	{
		r->closed_before = op->closed;
		r->stale_before = r->op.stale;
		r->emit_before = op->emit_at;
		return;
	}
	op->closed = r->closed_before;
	r->op.stale = r->stale_before;
	op->emit_at = r->emit_before;
}

static void
rollup_serialize(void *op, CsState *state, CsWork *work, StringInfo buf)
{
	cs_cell_put(&((CsRollup *) op)->grouping, state, work->work, buf);
}

static void
rollup_recovered(CsOperator *op, CsState *state)
{
	CsRollup *r = (CsRollup *) op;

	r->closed_before = op->closed;
	r->op.stale = r->stale_before = cs_state_count(state, op->def->definition_id) > 0;
}

const CsOperatorOps cs_rollup_ops = {
	.kind = CS_KIND_ROLLUP,
	.create = rollup_create,
	.advance = rollup_advance,
	.end_batch = rollup_end_batch,
	.serialize = rollup_serialize,
	.recovered = rollup_recovered,
};
