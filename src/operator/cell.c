/*
 * operator/cell.c
 *	  Cells of windows and rollups: state, bytes, rows.
 *
 * No locking; memory: cells live in the batch's context, which must be the
 * current one wherever a cell is made or changed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "operator/cell.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

void
cs_grouping_compile(CsGrouping *g, const CsDefinition *def, const CsQueryParts *parts, AttrNumber place_attno)
{
	ListCell *lc;
	int		  i = 0;

	g->def = def;
	if (parts->filter)
	{
		g->has_filter = true;
		cs_expr_init(&g->filter, parts->filter);
	}
	g->ngroups = list_length(parts->groups);
	g->groups = palloc0(Max(g->ngroups, 1) * sizeof(CsExpr));
	g->hashers = palloc0(Max(g->ngroups, 1) * sizeof(CsHasher));
	foreach(lc, parts->groups)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		cs_expr_init(&g->groups[i], tle->expr);
		cs_hasher_init(&g->hashers[i], g->groups[i].type, g->groups[i].collation,
					   psprintf("group column \"%s\"", tle->resname));
		i++;
	}
	g->ms = cs_measures_compile(parts->measures, place_attno);
	g->scratch = cs_cell_make(g);
	cs_cell_patch_init(g);
}

CsGroupInput *
cs_grouping_inputs(CsGrouping *g, int n)
{
	CsGroupInput *inputs = palloc0(n * sizeof(CsGroupInput));
	Datum		 *values = palloc(n * (g->ngroups + 1) * sizeof(Datum));
	bool		 *isnull = palloc(n * (g->ngroups + 1) * sizeof(bool));
	CsInput		 *ms = palloc(n * (g->ms->n + 1) * sizeof(CsInput));

	for (int i = 0; i < n; i++)
	{
		inputs[i].values = values + i * g->ngroups;
		inputs[i].isnull = isnull + i * g->ngroups;
		inputs[i].inputs = ms + i * g->ms->n;
	}
	return inputs;
}

void
cs_grouping_evaluate(CsGrouping *g, CsBatchContext *batch, CsGroupInput *input)
{
	CsHash128 hashes[INDEX_MAX_KEYS];
	int		  pending = 0;

	input->take = false;
	if (g->has_filter && !cs_expr_true(&g->filter, batch->econtext))
		return;
	for (int i = 0; i < g->ngroups; i++)
	{
		input->values[i] = cs_expr_eval(&g->groups[i], batch->econtext, &input->isnull[i]);
		if (pending == INDEX_MAX_KEYS)
		{
			hashes[0] = cs_hash_bytes(hashes, sizeof(hashes));
			pending = 1;
		}
		hashes[pending++] = cs_hash_value(&g->hashers[i], input->values[i], input->isnull[i]);
	}
	input->key = cs_hash_bytes(hashes, pending * sizeof(CsHash128));
	cs_measures_evaluate(g->ms, batch, input->inputs);
	input->take = true;
}

CsCell *
cs_cell_make(CsGrouping *g)
{
	Size	states = cs_measures_size(g->ms);
	CsCell *cell = palloc(sizeof(CsCell) + states + g->ngroups * (sizeof(Datum) + sizeof(bool)));

	memset(cell, 0, sizeof(CsCell));
	cell->states = (CsMeasureState *) (cell + 1);
	cell->values = (Datum *) ((char *) cell->states + states);
	cell->isnull = (bool *) (cell->values + g->ngroups);
	cs_measures_init(g->ms, cell->states);
	memset(cell->values, 0, g->ngroups * (sizeof(Datum) + sizeof(bool)));
	return cell;
}

static void
read_cell(CsGrouping *g, CsState *state, CsCell *cell, CsReader r)
{
	uint8 flags;

	if (cs_get_u8(&r) != CS_CELL_VERSION)
		cs_reader_corrupt(&r, "it is of another version");
	flags = cs_get_u8(&r);
	cell->shown = (flags & CS_CELL_SHOWN) != 0;
	cell->stale = (flags & CS_CELL_STALE) != 0;
	cell->revision = (int32) cs_get_uint(&r);
	cell->rows = (int64) cs_get_uint(&r);
	for (int i = 0; i < g->ngroups; i++)
		cell->values[i] = cs_get_datum(&r, &cell->isnull[i], g->groups[i].stored, g->groups[i].typbyval);
	cs_measures_get(g->ms, state, cell->states, NULL, NULL, &r);
	cs_get_end(&r);
}

void
cs_cell_read(CsGrouping *g, CsState *state, CsCell *cell, const CsEntry *entry)
{
	read_cell(g, state, cell, cs_entry_reader(entry, g->def));
}

/* From the bytes that it stands at; they are pointed to from now on, so what they become next is put elsewhere. */
static void
read_work(CsGrouping *g, CsState *state, CsCell *cell, CsWork *work)
{
	if (work->image)
	{
		work->image_room = 0;
		read_cell(
			g, state, cell,
			(CsReader){.pos = work->image, .end = work->image + work->image_len, .key = &work->key, .def = g->def});
	}
	else if (work->base)
		cs_cell_read(g, state, cell, work->base);
}

CsCell *
cs_cell_peek(CsGrouping *g, CsState *state, CsCell *scratch, const CsEntry *entry, CsWork *work)
{
	if (work && work->work)
		return work->work;
	if (work)
		read_work(g, state, scratch, work);
	else
		cs_cell_read(g, state, scratch, entry);
	return scratch;
}

void
cs_cell_check(CsGrouping *g, CsState *state, const CsEntry *entry)
{
	CsCell *cell = cs_cell_make(g);

	cs_cell_read(g, state, cell, entry);
	cs_measures_examine(g->ms, cell->states);
}

/* Of a work that is not decoded. */
static uint8
flags_of(const CsWork *work)
{
	if (work->image)
		return (uint8) work->image[1];
	return work->base && work->base->len > 1 ? (uint8) cs_entry_head(work->base)[1] : 0;
}

bool
cs_cell_is_stale(const CsWork *work)
{
	return work->work ? ((const CsCell *) work->work)->stale : (flags_of(work) & CS_CELL_STALE) != 0;
}

bool
cs_cell_is_shown(const CsWork *work)
{
	return work->work ? ((const CsCell *) work->work)->shown : (flags_of(work) & CS_CELL_SHOWN) != 0;
}

bool
cs_cell_is_marked(const CsEntry *entry)
{
	CsWork work = {.base = (CsEntry *) entry};

	return cs_cell_is_stale(&work);
}

void
cs_cell_put(CsGrouping *g, CsState *state, CsCell *cell, StringInfo buf)
{
	cs_put_u8(buf, CS_CELL_VERSION);
	cs_put_u8(buf, (cell->shown ? CS_CELL_SHOWN : 0) | (cell->stale ? CS_CELL_STALE : 0) |
					   (cs_measures_have_big_sets(g->ms, cell->states) ? CS_CELL_BIG_SETS : 0));
	cs_put_uint(buf, (uint32) cell->revision);
	cs_put_uint(buf, (uint64) cell->rows);
	for (int i = 0; i < g->ngroups; i++)
		cs_put_datum(buf, cell->values[i], cell->isnull[i], g->groups[i].stored, g->groups[i].typbyval);
	cs_measures_put(g->ms, state, cell->states, NULL, NULL, buf);
}

CsCell *
cs_cell_of(CsGrouping *g, CsState *state, CsWork *work)
{
	CsCell *cell = work->work;

	if (cell)
		return cell;
	cell = cs_cell_make(g);
	read_work(g, state, cell, work);
	work->work = cell;
	work->image = work->delta = NULL; /* to be made anew */
	return cell;
}

/* A group's first event in its bucket brings the values of the group columns. */
static void
fill_groups(CsGrouping *g, CsCell *cell, const CsGroupInput *input)
{
	for (int i = 0; i < g->ngroups; i++)
	{
		cell->isnull[i] = !input || input->isnull[i];
		if (!cell->isnull[i])
			cell->values[i] = datumCopy(input->values[i], g->groups[i].typbyval, g->groups[i].typlen);
	}
}

/* Has the batch made it, and nothing yet is in it? */
static inline bool
is_new(const CsWork *work)
{
	return work->base == NULL && work->work == NULL;
}

CsWork *
cs_cell_find(CsState *state, int32 definition_id, int64 bucket, const CsGroupInput **input, int64 limit)
{
	CsKey	key = {.def = (uint32) definition_id, .bucket = bucket, .who = (*input)->key};
	CsWork *work = cs_state_get(state, &key);

	if (!is_new(work) || cs_state_bucket_count(state, definition_id, bucket) <= limit)
		return work;

	/* Too many groups: this one falls into the rest, whose key is all zeros. */
	memset(&key.who, 0, sizeof(key.who));
	*input = NULL;
	return cs_state_get(state, &key);
}

CsCell *
cs_cell_open(CsGrouping *g, CsState *state, CsWork *work, const CsGroupInput *input)
{
	bool	fill = is_new(work);
	CsCell *cell = cs_cell_of(g, state, work);

	if (fill)
		fill_groups(g, cell, input);
	cs_work_dirty(state, work);
	return cell;
}

CsCell *
cs_cell_get(CsGrouping *g, CsState *state, int32 definition_id, int64 bucket, const CsGroupInput *input, int64 limit)
{
	CsWork *work = cs_cell_find(state, definition_id, bucket, &input, limit);

	return cs_cell_open(g, state, work, input);
}

void
cs_cell_delete(CsGrouping *g, CsState *state, CsWork *work)
{
	/* Most cells keep everything in their bytes: then there is no need to decode them. */
	if (work->work || (work->base && (cs_entry_head(work->base)[1] & CS_CELL_BIG_SETS) != 0))
		cs_measures_drop(g->ms, state, cs_cell_of(g, state, work)->states);
	cs_work_delete(state, work);
}

TimestampTz
cs_slide_start(TimestampTz t, int64 slide, TimestampTz origin)
{
	int64 d = t - origin;
	int64 r = d % slide;

	return t - (r < 0 ? r + slide : r);
}

void
cs_cell_columns(CsOperator *op, CsGrouping *g, const CsQueryParts *parts)
{
	ListCell *lc;

	cs_operator_column(op, "window_start", TIMESTAMPTZOID, -1, InvalidOid, true);
	cs_operator_column(op, "window_end", TIMESTAMPTZOID, -1, InvalidOid, op->def->form == CS_WINDOW_CUMULATIVE);
	foreach(lc, parts->groups)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);
		CsExpr		*expr = &g->groups[foreach_current_index(lc)];

		cs_operator_column(op, tle->resname, expr->type, expr->typmod, expr->collation, false);
	}
	for (int i = 0; i < g->ms->noutputs; i++)
	{
		CsOutput *out = &g->ms->outputs[i];

		cs_operator_column(op, out->name, out->type, out->typmod, out->collation, false);
	}
	cs_operator_column(op, "is_final", BOOLOID, -1, InvalidOid, false);
	cs_operator_column(op, "revision", INT4OID, -1, InvalidOid, false);
	cs_operator_column(op, "is_rest", BOOLOID, -1, InvalidOid, false);
	cs_operator_column(op, "group_key", UUIDOID, -1, InvalidOid, true);
}

void
cs_cell_emit(CsOperator *op, CsGrouping *g, CsBatchContext *batch, CsRowAction action, TimestampTz start,
			 TimestampTz end, CsHash128 key, CsCell *cell, bool is_final)
{
	Datum *values = palloc(op->ncolumns * sizeof(Datum));
	bool  *isnull = palloc0(op->ncolumns * sizeof(bool));
	int	   c = 0;

	values[c++] = TimestampTzGetDatum(start);
	values[c++] = TimestampTzGetDatum(end);
	memcpy(values + c, cell->values, g->ngroups * sizeof(Datum));
	memcpy(isnull + c, cell->isnull, g->ngroups * sizeof(bool));
	c += g->ngroups;
	cs_measures_result(g->ms, cell->states, values + c, isnull + c);
	c += g->ms->noutputs;
	values[c++] = BoolGetDatum(is_final);
	values[c++] = Int32GetDatum(cell->revision);
	values[c++] = BoolGetDatum(key.lo == 0 && key.hi == 0);
	values[c++] = cs_hash_uuid(key);
	batch->emitter->row(batch->emitter, op, action, values, isnull);
}

void
cs_cell_gone(CsOperator *op, CsBatchContext *batch, TimestampTz start, CsHash128 key)
{
	Datum *values = palloc0(op->ncolumns * sizeof(Datum));
	bool  *isnull = palloc(op->ncolumns * sizeof(bool));

	memset(isnull, true, op->ncolumns * sizeof(bool));
	values[0] = TimestampTzGetDatum(start);
	values[op->ncolumns - 1] = cs_hash_uuid(key);
	isnull[0] = isnull[op->ncolumns - 1] = false;
	batch->emitter->row(batch->emitter, op, CS_ROW_DELETE, values, isnull);
}

static int
key_cmp(const void *a, const void *b)
{
	const CsKey *ka = &(*(CsWork *const *) a)->key;
	const CsKey *kb = &(*(CsWork *const *) b)->key;

	if (ka->bucket != kb->bucket)
		return ka->bucket < kb->bucket ? -1 : 1;
	return cs_hash_cmp(&ka->who, &kb->who);
}

void
cs_cell_sort(CsWork **works, int n)
{
	if (n > 1)
		qsort(works, n, sizeof(CsWork *), key_cmp);
}

/* ---- a bucket's rows ---- */

TimestampTz
cs_cell_end(CsOperator *op, CsGrouping *g, TimestampTz start)
{
	return g->assign ? cs_assigned_end(g->assign, start) : start + op->def->size;
}

bool
cs_cell_ends_after(CsOperator *op, CsGrouping *g, const CsKey *key, TimestampTz after)
{
	return after == CS_WM_NONE || cs_cell_end(op, g, CS_BUCKET_START(key->bucket)) > after;
}

bool
cs_cells_close(CsOperator *op, CsGrouping *g, CsBatchContext *batch, int64 bucket, bool emit, int *left)
{
	TimestampTz start = CS_BUCKET_START(bucket);
	TimestampTz end = emit ? cs_cell_end(op, g, start) : start;
	int			n;
	bool		more;
	CsWork	  **works = cs_state_some(batch->state, op->def->definition_id, bucket, *left, &n, &more);

	*left -= n;
	if (emit)
		cs_cell_sort(works, n);
	for (int i = 0; i < n; i++)
	{
		if (emit)
		{
			CsCell *cell = cs_cell_peek(g, batch->state, g->scratch, NULL, works[i]);

			cs_cell_emit(op, g, batch, cell->shown ? CS_ROW_UPSERT : CS_ROW_INSERT, start, end, works[i]->key.who, cell,
						 true);
		}
		cs_cell_delete(g, batch->state, works[i]);
	}
	if (works)
		pfree(works);
	return !more;
}

void
cs_cell_show(CsOperator *op, CsGrouping *g, CsBatchContext *batch, CsWork *work)
{
	TimestampTz start = CS_BUCKET_START(work->key.bucket);
	CsCell	   *cell =
		g->is_plain ? cs_cell_peek(g, batch->state, g->scratch, NULL, work) : cs_cell_of(g, batch->state, work);

	cs_cell_emit(op, g, batch, cell->shown ? CS_ROW_UPSERT : CS_ROW_INSERT, start, cs_cell_end(op, g, start),
				 work->key.who, cell, false);
	if (cs_cell_patch_shown(g, batch->state, work))
		return;
	cell = cs_cell_of(g, batch->state, work);
	cell->shown = true;
	cell->stale = false;
	cs_work_dirty(batch->state, work);
}

void
cs_cells_show_new(CsOperator *op, CsGrouping *g, CsBatchContext *batch, TimestampTz after)
{
	int		 n;
	CsWork **works = cs_state_dirty(batch->state, op->def->definition_id, &n);

	cs_cell_sort(works, n);
	for (int i = 0; i < n; i++)
	{
		if (!cs_cell_is_shown(works[i]) && cs_cell_ends_after(op, g, &works[i]->key, after))
			cs_cell_show(op, g, batch, works[i]);
	}
	pfree(works);
}
