/*
 * operator/rollup.c
 *	  Rollups: windows over the closed rows of sessions or funnels.
 *
 * A rollup is fed with the rows that its source operator emits, bucketed by
 * the column that says when they started.  Its measures are kept as partial
 * aggregates, as a window's cells are; as long as rows only come, no row of the
 * source is read again.
 *
 * A row that counted and changes, or goes, cannot be taken out of a partial
 * aggregate: the buckets of its old and its new version are made anew from
 * the source table, in the same transaction (engine/rollup_feed.c leads).  A
 * change of columns that the rollup does not read is none.
 *
 * A bucket is final when wm >= end - 1 ms and nothing that the source still
 * holds (open, shown while silent, or revisable) starts in it.  A bucket without
 * state that the watermark has passed already may have been final before: it
 * is made anew, too, when a row falls into it after all (an event behind the
 * watermark moved a session's start back).  So that a bucket has either all of
 * its state or none, it becomes final in one commit, however little a batch is
 * to close; and what has passed it is asked of the last commit's watermark, since that
 * may have closed it, and left others to the next commits, or to the next process.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "operator/cell.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

typedef struct CsRollup
{
	CsOperator		op;
	CsGrouping		grouping;
	TimestampTz		open_from;	  /* start of the first bucket that is open, since advance(); CS_WM_NONE: none */
	AttrNumber		start_attno;  /* of the source table */
	AttrNumber		reason_attno; /* closed_reason */
	bool		   *reads;		  /* columns of the source table that the rollup reads: */
	int				nreads;		  /* of those that it had when the stream was loaded */
	TupleTableSlot *slot;		  /* a source row as the source table has it in this transaction */
	bool			stale_before;
	TimestampTz		emit_before, closed_before;
	CsStalePass		pass, pass_before; /* rows that lag behind */
} CsRollup;

static AttrNumber
source_column(TupleDesc desc, const char *table, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return att->attnum;
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("table \"%s\" has no column \"%s\"", table, name)));
}

/* The source table's layout: where its start and its reason are, and what the rollup reads of it. */
static void
read_layout(CsRollup *r, const CsQueryParts *parts)
{
	Relation  rel = table_open(linitial_node(RangeTblEntry, parts->query->rtable)->relid, AccessShareLock);
	TupleDesc desc = RelationGetDescr(rel);

	r->start_attno = source_column(desc, RelationGetRelationName(rel), r->op.def->start_column);
	r->reason_attno = source_column(desc, RelationGetRelationName(rel), "closed_reason");
	r->nreads = desc->natts;
	r->reads = palloc0(desc->natts * sizeof(bool));
	r->reads[r->start_attno - 1] = true;
	cs_expr_columns((Node *) parts->filter, r->reads, desc->natts);
	cs_expr_columns((Node *) parts->groups, r->reads, desc->natts);
	cs_expr_columns((Node *) parts->measures, r->reads, desc->natts);
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
	r->op.closed = r->closed_before = r->open_from = CS_WM_NONE;
	r->op.emit_at = r->emit_before = CS_WM_DONE;
	cs_query_parts(def, &parts);
	read_layout(r, &parts);
	cs_grouping_compile(&r->grouping, def, &parts, 0);
	r->op.measure_errors = &r->grouping.ms->errors;
	cs_cell_columns(&r->op, &r->grouping, &parts);
	MemoryContextSwitchTo(old);
	return &r->op;
}

/* Users may add columns, and drop theirs: a row may be looked at with its own layout only. */
void
cs_rollup_layout(CsOperator *op, TupleDesc desc)
{
	((CsRollup *) op)->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(desc), &TTSOpsHeapTuple);
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
		r->op.stale = r->pass.again = true;
		cs_measures_add(r->grouping.ms, cell->states, input->inputs, &place);
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
cs_rollup_is_past(CsOperator *op, CsBatchContext *batch, TimestampTz start, TimestampTz end, TimestampTz wm)
{
	return is_passed(end, wm) && cs_state_bucket_count(batch->state, op->def->definition_id, CS_BUCKET(start)) == 0;
}

TimestampTz
cs_rollup_open_from(const CsOperator *op)
{
	return ((const CsRollup *) op)->open_from;
}

bool
cs_rollup_bucket(CsOperator *op, HeapTuple row, TimestampTz *start, TimestampTz *end)
{
	CsRollup *r = (CsRollup *) op;

	if (heap_attisnull(row, r->reason_attno, r->slot->tts_tupleDescriptor))
		return false;
	*start = cs_slide_start(row_start(r, ExecStoreHeapTuple(row, r->slot, false)), op->def->size, op->def->origin);
	*end = *start + op->def->size;
	return true;
}

bool
cs_rollup_same(CsOperator *op, HeapTuple a, HeapTuple b)
{
	CsRollup *r = (CsRollup *) op;
	TupleDesc desc = r->slot->tts_tupleDescriptor;

	for (int i = 0; i < r->nreads; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		bool			  null_a, null_b;
		Datum			  value_a, value_b;

		if (!r->reads[i])
			continue;
		value_a = heap_getattr(a, i + 1, desc, &null_a);
		value_b = heap_getattr(b, i + 1, desc, &null_b);
		if (null_a != null_b || (!null_a && !datum_image_eq(value_a, value_b, att->attbyval, att->attlen)))
			return false;
	}
	return true;
}

/* ---- a bucket made anew ---- */

static void
empty_cell(CsRollup *r, CsBatchContext *batch, CsWork *work)
{
	CsCell *cell = cs_cell_of(&r->grouping, batch->state, work);

	cs_measures_drop(r->grouping.ms, batch->state, cell->states);
	cs_measures_init(r->grouping.ms, cell->states);
	cell->rows = 0;
	cell->stale = true;
	cs_work_dirty(batch->state, work);
}

void
cs_rollup_remake_begin(CsOperator *op, CsBatchContext *batch, TimestampTz start)
{
	CsRollup	 *r = (CsRollup *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	int			  n;
	CsWork		**works = cs_state_bucket(batch->state, op->def->definition_id, CS_BUCKET(start), &n);

	for (int i = 0; i < n; i++)
		empty_cell(r, batch, works[i]);
	op->stale = r->pass.again = true;
	MemoryContextSwitchTo(old);
}

void
cs_rollup_was_shown(CsOperator *op, CsBatchContext *batch, TimestampTz start, Datum group_key, int32 revision)
{
	CsRollup	 *r = (CsRollup *) op;
	CsKey		  key = {.def = (uint32) op->def->definition_id, .bucket = CS_BUCKET(start)};
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	CsWork		 *work;

	key.who = cs_uuid_hash(DatumGetUUIDP(group_key));
	work = cs_state_get(batch->state, &key);
	if (work->work != NULL)
	{
		CsCell *cell = cs_cell_of(&r->grouping, batch->state, work);

		cell->shown = true;
		cell->revision = revision + 1;
	}
	else
		cs_cell_gone(op, batch, start, key.who);
	MemoryContextSwitchTo(old);
}

void
cs_rollup_remake_end(CsOperator *op, CsBatchContext *batch, TimestampTz start)
{
	CsRollup	 *r = (CsRollup *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	int			  n;
	CsWork		**works = cs_state_bucket(batch->state, op->def->definition_id, CS_BUCKET(start), &n);

	for (int i = 0; i < n; i++)
	{
		CsCell *cell = cs_cell_of(&r->grouping, batch->state, works[i]);

		if (cell->rows > 0)
			continue;
		if (cell->shown)
			cs_cell_gone(op, batch, start, works[i]->key.who);
		cs_cell_delete(&r->grouping, batch->state, works[i]);
	}
	MemoryContextSwitchTo(old);
}

static void
show_changes(CsRollup *r, CsBatchContext *batch, int max)
{
	CsOperator *op = &r->op;
	bool		rewrite = !batch->catching_up && (op->emit_at == CS_WM_DONE || batch->now >= op->emit_at);
	bool		all = r->pass.from == 0;

	if (rewrite)
	{
		all &= cs_cells_show_stale(op, &r->grouping, batch, &r->pass, max, CS_WM_NONE);
		cs_stale_note(op, batch, &r->pass);
	}
	if (!rewrite || !all)
		cs_cells_show_new(op, &r->grouping, batch, CS_WM_NONE);
}

/* All of it.  Returns how many cells that were. */
static int
close_bucket(CsRollup *r, CsBatchContext *batch, int64 bucket)
{
	int left = PG_INT32_MAX;

	(void) cs_cells_close(&r->op, &r->grouping, batch, bucket, true, &left);
	return PG_INT32_MAX - left;
}

/*
 * From where on buckets are open, whether there is something in them or not:
 * something open starts there, or may yet, by an event that is not late.  Of
 * sessions that is one that comes up to a gap before what is open, or before
 * the line.
 */
static TimestampTz
first_open_start(const CsOperator *op, TimestampTz wm)
{
	const CsDefinition *source = op->source->def;
	TimestampTz			first = op->source->ops->open_starts_first(op->source);

	if (wm != CS_WM_NONE && wm != CS_WM_DONE)
		first = Min(first, wm - Max(source->lateness, 0));
	if (first == CS_WM_DONE)
		return CS_WM_NONE;
	return cs_slide_start(first - Max(source->gap, 0), op->def->size, op->def->origin);
}

static bool
rollup_advance(CsOperator *op, CsBatchContext *batch, TimestampTz wm, int max, bool finish)
{
	CsRollup	 *r = (CsRollup *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	int			  at_once = max;
	bool		  done = true;
	int			  n;
	int64		 *buckets = cs_state_buckets(batch->state, op->def->definition_id, &n);

	(void) finish;
	r->grouping.ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	r->open_from = first_open_start(op, wm);
	for (int i = 0; i < n; i++)
	{
		TimestampTz start = CS_BUCKET_START(buckets[i]);
		TimestampTz end = start + op->def->size;
		bool		is_over = is_passed(end, wm) && !op->source->ops->open_starts_in(op->source, start, end);

		if (is_over && max > 0)
		{
			max -= close_bucket(r, batch, buckets[i]);
			continue;
		}
		if (r->open_from == CS_WM_NONE || start < r->open_from)
			r->open_from = start;
		if (is_over)
		{
			done = false;
			break;
		}
	}
	if (done)
		op->closed = Max(op->closed, wm);
	if (!r->op.stale && batch->now >= op->emit_at)
		op->emit_at = CS_WM_DONE; /* the next change may be shown at once */
	if (op->stale && op->def->emit == CS_EMIT_CHANGES)
		show_changes(r, batch, at_once);
	MemoryContextSwitchTo(old);
	return done;
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
		r->pass_before = r->pass;
		return;
	}
	op->closed = r->closed_before;
	r->op.stale = r->stale_before;
	op->emit_at = r->emit_before;
	r->pass = r->pass_before;
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

static void
rollup_check(CsOperator *op, CsState *state, const CsEntry *entry)
{
	CsGrouping *grouping = &((CsRollup *) op)->grouping;

	cs_cell_check(grouping, state, entry);
}

static void
rollup_lost(CsOperator *op, CsBatchContext *batch, const CsKey *key)
{
	cs_cell_gone(op, batch, CS_BUCKET_START(key->bucket), key->who);
}

/* What is in the state is open: a session may be that starts in it. */
static void
rollup_show_all(CsOperator *op, CsState *state, MemoryContext scratch, CsShowRow row, void *arg)
{
	cs_cells_show_open(op, &((CsRollup *) op)->grouping, state, scratch, CS_WM_NONE, row, arg);
}

const CsOperatorOps cs_rollup_ops = {
	.kind = CS_KIND_ROLLUP,
	.create = rollup_create,
	.advance = rollup_advance,
	.end_batch = rollup_end_batch,
	.serialize = rollup_serialize,
	.is_marked = cs_cell_is_marked,
	.recovered = rollup_recovered,
	.show_all = rollup_show_all,
	.check = rollup_check,
	.lost = rollup_lost,
	.loss = "what the group had counted, and its row if that is not final",
};
