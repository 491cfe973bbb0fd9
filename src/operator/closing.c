/*
 * operator/closing.c
 *	  Where the closing of windows stands, when it takes more than one batch.
 *
 * Rows of windows that share cells are put together from cells that stay, so
 * nothing in these says which rows are written.  A window of a million groups is
 * written in parts, some with each batch; meanwhile the operator is midway: the
 * stream reads no messages (engine.c), the watermark that is being passed stays
 * the one it was, and so the rows are those of one batch that had done it all.
 * What is over is deleted afterwards, in parts too.
 *
 * How far it has come is committed with the rows, as an entry of the state under
 * a bucket of its own: after a crash it goes on there.  The entry is also there
 * when this operator has finished and others of the stream have not, because
 * then the stream's own mark (clickstream.progress, closed) is behind.  It goes
 * when that is not so.
 *
 * No locking: private to the process.
 */
#include "postgres.h"

#include "operator/window.h"

#define CLOSING_VERSION 1

/* An entry's decoded form. */
typedef struct Mark
{
	TimestampTz closed;
	CsClosing	closing;
} Mark;

typedef struct Gathering
{
	CsState *state;
	bool (*wanted)(const CsWork *work);
	CsWork **works;
	int64	 n, capacity;
} Gathering;

static void
gather(const CsKey *key, const CsEntry *entry, CsWork *work, void *arg)
{
	Gathering *g = arg;
	CsWork	   committed = {.base = (CsEntry *) entry};

	(void) key;
	if (g->wanted && !g->wanted(work ? work : &committed))
		return;
	if (g->n == g->capacity)
	{
		g->capacity = g->capacity ? g->capacity * 2 : 256;
		g->works = g->works ? repalloc_huge(g->works, g->capacity * sizeof(CsWork *))
							: MemoryContextAllocHuge(CurrentMemoryContext, g->capacity * sizeof(CsWork *));
	}
	g->works[g->n++] = work ? work : cs_state_open(g->state, (CsEntry *) entry);
}

CsWork **
cs_works_of_part(CsState *state, int32 definition_id, int64 bucket, CsPart part, bool (*wanted)(const CsWork *work),
				 int64 *n)
{
	Gathering g = {.state = state, .wanted = wanted};

	cs_state_visit_part(state, definition_id, bucket, part, gather, &g);
	cs_cell_sort(g.works, (int) g.n);
	*n = g.n;
	return g.works;
}

static CsKey
mark_key(const CsWindow *w)
{
	CsKey key = {.def = (uint32) w->op.def->definition_id, .bucket = CS_BUCKET_OF(0, CS_BUCKET_CLOSING)};

	return key;
}

void
cs_closing_put(const CsWork *work, StringInfo buf)
{
	const Mark *mark = work->work;

	cs_put_u8(buf, CLOSING_VERSION);
	cs_put_int(buf, mark->closed);
	cs_put_int(buf, mark->closing.wm);
	cs_put_int(buf, mark->closing.span.start);
	cs_put_int(buf, mark->closing.span.end);
	cs_put_u8(buf, mark->closing.is_added);
	cs_put_uint(buf, mark->closing.from);
}

static Mark
read_mark(const CsDefinition *def, const CsEntry *entry)
{
	CsReader r = cs_entry_reader(entry, def);
	Mark	 mark;

	if (cs_get_u8(&r) != CLOSING_VERSION)
		cs_reader_corrupt(&r, "it is of another version");
	mark.closed = cs_get_int(&r);
	mark.closing.wm = cs_get_int(&r);
	mark.closing.span.start = cs_get_int(&r);
	mark.closing.span.end = cs_get_int(&r);
	mark.closing.is_added = cs_get_u8(&r) != 0;
	mark.closing.from = cs_get_uint(&r);
	cs_get_end(&r);
	return mark;
}

void
cs_closing_check(const CsDefinition *def, const CsEntry *entry)
{
	(void) read_mark(def, entry);
}

void
cs_closing_begin(CsWindow *w, TimestampTz wm)
{
	if (w->closing.wm == CS_WM_NONE)
		w->closing = (CsClosing){.wm = wm, .span = {DT_NOBEGIN, DT_NOBEGIN}};
	w->op.midway = true;
}

void
cs_closing_end(CsWindow *w)
{
	w->closing = (CsClosing){.wm = CS_WM_NONE};
	w->op.midway = false;
}

void
cs_closing_store(CsOperator *op, CsBatchContext *batch, bool left)
{
	CsWindow *w = (CsWindow *) op;
	CsKey	  key = mark_key(w);
	CsWork	 *work;
	Mark	 *mark;

	if (w->assign.form == CS_WINDOW_TUMBLING || (!left && !w->is_marked)) /* cells of the former go with their rows */
		return;
	work = cs_state_get(batch->state, &key);
	w->is_marked = left;
	if (!left)
	{
		cs_work_delete(batch->state, work);
		return;
	}
	mark = MemoryContextAlloc(batch->batch, sizeof(Mark));
	mark->closed = op->closed;
	mark->closing = w->closing;
	work->work = mark;
	cs_work_keep(work); /* of readers of earlier commits each has the one that goes with its cells */
	cs_work_dirty(batch->state, work);
}

void
cs_closing_recover(CsWindow *w, CsState *state)
{
	CsKey		   key = mark_key(w);
	const CsEntry *entry = cs_state_peek(state, &key);
	Mark		   mark;

	cs_closing_end(w);
	w->is_marked = entry != NULL;
	if (entry == NULL)
		return;
	mark = read_mark(w->op.def, entry);
	w->op.closed = Max(w->op.closed, mark.closed);
	w->closing = mark.closing;
	w->op.midway = mark.closing.wm != CS_WM_NONE;
	w->has_rest = true;
}
