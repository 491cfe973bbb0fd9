/*
 * operator/window_rows.c
 *	  Rows of windows that are made of several cells: put together by group,
 *	  written, and revised.
 *
 * Such a row is nowhere in the state: it is the sum of its cells.  What has to
 * be kept of it is how often it was changed after it had closed, which is
 * rare; then a note holds that, under the row's window and group, until the
 * window is retired.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "operator/window.h"

#define NOTE_VERSION 1

static inline uint32
group_hash(CsHash128 key)
{
	return (uint32) (key.lo >> 32);
}

/* A group seen in one cell only is taken as that cell is; from its second cell on it has a merged one. */
typedef struct RowGroup
{
	CsHash128	   key;
	uint32		   hash;
	char		   status;
	const CsEntry *entry; /* of the only cell so far: its entry, or ... */
	CsWork		  *work;  /* ... its work */
	CsCell		  *merged;
} RowGroup;

#define SH_PREFIX groups
#define SH_ELEMENT_TYPE RowGroup
#define SH_KEY_TYPE CsHash128
#define SH_KEY key
#define SH_HASH_KEY(tb, k) group_hash(k)
#define SH_EQUAL(tb, a, b) ((a).lo == (b).lo && (a).hi == (b).hi)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct CsAssembly
{
	CsWindow	*w;
	CsState		*state;
	groups_hash *groups;
	CsCell		*scratch; /* for cells that are merged and then not needed any more */
};

/* ---- notes ---- */

static CsKey
note_key(CsWindow *w, CsSpan span, CsHash128 who)
{
	CsKey key = {.def = (uint32) w->op.def->definition_id, .who = who};

	key.bucket = CS_BUCKET_OF(w->assign.form == CS_WINDOW_CUMULATIVE ? span.end : span.start, CS_BUCKET_NOTE);
	return key;
}

int32
cs_note_read(const CsDefinition *def, const CsEntry *entry)
{
	CsReader r = cs_entry_reader(entry, def);
	int32	 revision;

	if (cs_get_u8(&r) != NOTE_VERSION)
		cs_reader_corrupt(&r, "it is of another version");
	revision = (int32) cs_get_uint(&r);
	cs_get_end(&r);
	return revision;
}

/* A note's decoded form is its revision alone. */
static int32 *
note_of(const CsDefinition *def, CsWork *work)
{
	int32 *revision = work->work;

	if (revision == NULL)
	{
		work->work = revision = palloc0(sizeof(int32));
		if (work->base)
			*revision = cs_note_read(def, work->base);
	}
	return revision;
}

void
cs_note_put(const CsWork *work, StringInfo buf)
{
	cs_put_u8(buf, NOTE_VERSION);
	cs_put_uint(buf, (uint32) * (int32 *) work->work);
}

void
cs_window_revise(CsWindow *w, CsState *state, CsSpan span, CsHash128 who)
{
	CsKey	key = note_key(w, span, who);
	CsWork *work = cs_state_get(state, &key);

	++*note_of(w->op.def, work);
	cs_work_dirty(state, work);
}

static int32
revision_of(CsWindow *w, CsState *state, CsSpan span, CsHash128 who)
{
	CsKey		   key = note_key(w, span, who);
	const CsEntry *entry;
	CsWork		  *work;

	if (cs_state_bucket_count(state, w->op.def->definition_id, key.bucket) == 0 ||
		!cs_state_look(state, &key, &entry, &work))
		return 0;
	return *note_of(w->op.def, work ? work : cs_state_get(state, &key));
}

/* ---- a row ---- */

void
cs_window_row(CsWindow *w, CsBatchContext *batch, CsSpan span, CsHash128 who, CsCell *cell, bool is_final)
{
	bool may_be_there = w->op.def->emit == CS_EMIT_CHANGES || cs_is_passed(span.end, w->op.shown) ||
						cs_is_passed(span.end, w->op.closed);

	cell->revision = w->op.def->lateness == 0 ? 0 : revision_of(w, batch->state, span, who);
	cs_cell_emit(&w->op, &w->grouping, batch, may_be_there ? CS_ROW_UPSERT : CS_ROW_INSERT, span.start, span.end, who,
				 cell, is_final);
}

/* ---- cells put together ---- */

CsAssembly *
cs_assembly_begin(CsWindow *w, CsState *state, int64 ngroups)
{
	CsAssembly *a = palloc0(sizeof(CsAssembly));

	a->w = w;
	a->state = state;
	a->groups = groups_create(CurrentMemoryContext, (uint32) ngroups, NULL);
	a->scratch = cs_cell_make(&w->grouping);
	return a;
}

/* The cell of an entry or work, for a moment. */
static CsCell *
peek_cell(CsAssembly *a, const CsEntry *entry, CsWork *work)
{
	return cs_cell_peek(&a->w->grouping, a->state, a->scratch, entry, work);
}

static void
merge_into(CsAssembly *a, RowGroup *group, CsCell *cell)
{
	CsGrouping *g = &a->w->grouping;

	if (group->merged == NULL)
	{
		group->merged = cs_cell_make(g);
		memcpy(group->merged->values, cell->values, g->ngroups * sizeof(Datum));
		memcpy(group->merged->isnull, cell->isnull, g->ngroups * sizeof(bool));
	}
	cs_measures_merge(g->ms, a->state, group->merged->states, cell->states);
}

static void
add_cell(const CsKey *key, const CsEntry *entry, CsWork *work, void *arg)
{
	CsAssembly *a = arg;
	bool		found;
	RowGroup   *group = groups_insert(a->groups, key->who, &found);

	if (!found)
	{
		group->entry = entry;
		group->work = work;
		group->merged = NULL;
		return;
	}
	if (group->merged == NULL)
		merge_into(a, group, peek_cell(a, group->entry, group->work));
	merge_into(a, group, peek_cell(a, entry, work));
}

void
cs_assembly_add(CsAssembly *a, int64 bucket, CsPart part)
{
	cs_state_visit_part(a->state, a->w->op.def->definition_id, bucket, part, add_cell, a);
}

void
cs_assembly_add_one(CsAssembly *a, int64 bucket, CsHash128 who)
{
	CsKey		   key = {.def = (uint32) a->w->op.def->definition_id, .bucket = bucket, .who = who};
	const CsEntry *entry;
	CsWork		  *work;

	if (cs_state_look(a->state, &key, &entry, &work))
		add_cell(&key, entry, work, a);
}

static int
group_cmp(const void *x, const void *y)
{
	return cs_hash_cmp(&(*(RowGroup *const *) x)->key, &(*(RowGroup *const *) y)->key);
}

int64
cs_assembly_emit(CsAssembly *a, CsBatchContext *batch, CsSpan span, bool is_final)
{
	RowGroup **sorted = MemoryContextAllocHuge(CurrentMemoryContext, Max(a->groups->members, 1) * sizeof(RowGroup *));
	RowGroup  *group;
	groups_iterator iter;
	int64			n = 0;

	groups_start_iterate(a->groups, &iter);
	while ((group = groups_iterate(a->groups, &iter)) != NULL)
		sorted[n++] = group;
	qsort(sorted, n, sizeof(RowGroup *), group_cmp);
	for (int64 i = 0; i < n; i++)
	{
		CsCell *cell = sorted[i]->merged;

		if (cell == NULL)
			cell = peek_cell(a, sorted[i]->entry, sorted[i]->work);
		cs_window_row(a->w, batch, span, sorted[i]->key, cell, is_final);
	}
	pfree(sorted);
	groups_destroy(a->groups);
	pfree(a);
	return n;
}

/* ---- rows to be written again ---- */

typedef struct Row
{
	CsSpan	  span;
	CsHash128 who;
} Row;

struct CsRowList
{
	Row	 *rows;
	int64 n, capacity;
};

CsRowList *
cs_rows_begin(void)
{
	return palloc0(sizeof(CsRowList));
}

void
cs_rows_add(CsRowList *list, CsSpan span, CsHash128 who)
{
	if (list->n == list->capacity)
	{
		list->capacity = list->capacity ? list->capacity * 2 : 64;
		list->rows = list->rows ? repalloc_huge(list->rows, list->capacity * sizeof(Row))
								: MemoryContextAllocHuge(CurrentMemoryContext, list->capacity * sizeof(Row));
	}
	list->rows[list->n].span = span;
	list->rows[list->n++].who = who;
}

static int
row_cmp(const void *x, const void *y)
{
	const Row *a = x;
	const Row *b = y;

	if (a->span.start != b->span.start)
		return a->span.start < b->span.start ? -1 : 1;
	if (a->span.end != b->span.end)
		return a->span.end < b->span.end ? -1 : 1;
	return cs_hash_cmp(&a->who, &b->who);
}

/* One row from the cells of its group. */
static void
emit_row(CsWindow *w, CsBatchContext *batch, const Row *row)
{
	CsAssembly *a = cs_assembly_begin(w, batch->state, 4);

	if (w->assign.form == CS_WINDOW_CUMULATIVE)
		cs_assembly_add_one(a, CS_BUCKET_OF(row->span.start, CS_BUCKET_SUM), row->who);
	for (TimestampTz pane = cs_window_first_pane(w, row->span); pane < row->span.end;
		 pane = cs_grid_next(&w->assign.pane, pane))
		cs_assembly_add_one(a, CS_BUCKET_OF(pane, CS_BUCKET_PANE), row->who);
	(void) cs_assembly_emit(a, batch, row->span, false);
}

void
cs_rows_emit(CsRowList *list, CsWindow *w, CsBatchContext *batch)
{
	if (list->n > 0)
		qsort(list->rows, list->n, sizeof(Row), row_cmp);
	for (int64 i = 0; i < list->n; i++)
	{
		if (i > 0 && row_cmp(&list->rows[i], &list->rows[i - 1]) == 0)
			continue;
		if (cs_is_passed(list->rows[i].span.end, w->op.closed))
			cs_window_revise(w, batch->state, list->rows[i].span, list->rows[i].who);
		emit_row(w, batch, &list->rows[i]);
	}
	if (list->rows)
		pfree(list->rows);
	pfree(list);
}
