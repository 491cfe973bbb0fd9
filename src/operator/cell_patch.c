/*
 * operator/cell_patch.c
 *	  Cells that are changed in their bytes: by an event that is counted, and
 *	  when their rows have been shown.
 *
 * Most cells that a batch touches see one event in it, and each is written again
 * some seconds later because its row has been.  As with sessions
 * (session_patch.c), to decode the cell for that, change it and serialise it
 * again touches several times the memory of its bytes; so the old bytes are copied to
 * new ones with the change in them, and what differs is known at once.  What is not
 * as simple is left to the other way, which begins with whichever bytes the
 * work has.  Where assertions are on, each change is compared with it.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "operator/cell.h"

void
cs_cell_patch_init(CsGrouping *g)
{
	initStringInfo(&g->patch);
	g->is_plain = cs_measures_can_patch(g->ms, true);
	g->patches = g->def->lateness == 0 && cs_measures_can_patch(g->ms, false);
}

/* The bytes that the work stands at, if there are any, and in one piece. */
static bool
open_bytes(const CsGrouping *g, const CsWork *work, CsReader *r)
{
	const char *data;
	uint32		len;

	if (work->work || work->deleted)
		return false;
	if (work->image)
	{
		data = work->image;
		len = work->image_len;
	}
	else if (work->base && work->base_class != CS_ENTRY_CHAINED)
	{
		data = work->base->data;
		len = work->base_len;
	}
	else
		return false;
	*r = (CsReader){.pos = data, .end = data + len, .key = &work->key, .def = g->def};
	return true;
}

static void
set_bytes(CsGrouping *g, CsState *state, CsWork *work, const CsCopies *copies)
{
	if (work->image)
		cs_work_set_image(state, work, g->patch.data, (uint32) g->patch.len);
	else
		cs_work_set_copy(state, work, g->patch.data, (uint32) g->patch.len, copies);
}

#ifdef USE_ASSERT_CHECKING
/* The cell by the other way, as it was; and as it is then: the same bytes?  What points to the old ones lives no longer than that. */
static CsCell *
check_begin(CsGrouping *g, CsState *state, CsWork *work)
{
	uint32	room = work->image_room;
	CsCell *cell = cs_cell_peek(g, state, cs_cell_make(g), NULL, work);

	work->image_room = room;
	return cell;
}

static void
check_end(CsGrouping *g, CsState *state, CsCell *cell)
{
	StringInfoData buf;

	initStringInfo(&buf);
	cs_cell_put(g, state, cell, &buf);
	Assert(buf.len == g->patch.len && memcmp(buf.data, g->patch.data, buf.len) == 0);
	pfree(buf.data);
}
#endif

static bool
patch_event(CsGrouping *g, CsReader *r, const CsGroupInput *input, CsCopies *copies)
{
	StringInfo	buf = &g->patch;
	uint8		flags;
	const char *kept;

	if (cs_get_u8(r) != CS_CELL_VERSION)
		return false;
	flags = cs_get_u8(r);
	if ((flags & CS_CELL_BIG_SETS) != 0)
		return false;
	cs_put_u8(buf, CS_CELL_VERSION);
	cs_put_u8(buf, flags | CS_CELL_STALE);
	kept = r->pos;
	(void) cs_get_uint(r); /* revision */
	cs_put_copy(buf, copies, kept, r->pos - kept);
	cs_put_uint(buf, cs_get_uint(r) + 1);
	kept = r->pos;
	for (int i = 0; i < g->ngroups; i++)
		cs_skip_datum(r, g->groups[i].stored, g->groups[i].typbyval);
	cs_put_copy(buf, copies, kept, r->pos - kept);
	return cs_measures_patch(g->ms, input->inputs, NULL, NULL, r, buf, copies) && r->pos == r->end;
}

bool
cs_cell_patch(CsGrouping *g, CsState *state, CsWork *work, const CsGroupInput *input)
{
	CsReader r;
	CsCopies copies;

	if (!g->patches || !open_bytes(g, work, &r))
		return false;
	copies.base = r.pos;
	copies.n = 0;
	resetStringInfo(&g->patch);
	cs_put_room(&g->patch, (r.end - r.pos) + 64);
	if (!patch_event(g, &r, input, &copies))
		return false;
#ifdef USE_ASSERT_CHECKING
	{
		CsCell *cell = check_begin(g, state, work);

		cell->stale = true;
		cell->rows++;
		cs_measures_add(g->ms, cell->states, input->inputs, NULL); /* no places: see cs_cell_patch_init() */
		check_end(g, state, cell);
	}
#endif
	set_bytes(g, state, work, &copies);
	return true;
}

bool
cs_cell_patch_shown(CsGrouping *g, CsState *state, CsWork *work)
{
	StringInfo buf = &g->patch;
	CsReader   r;
	CsCopies   copies;

	if (!g->is_plain || !open_bytes(g, work, &r) || r.end - r.pos < 2)
		return false;
	copies.base = r.pos;
	copies.n = 0;
	resetStringInfo(buf);
	cs_put_room(buf, r.end - r.pos);
	cs_put_copy(buf, &copies, r.pos, 1);
	cs_put_u8(buf, (r.pos[1] & CS_CELL_BIG_SETS) | CS_CELL_SHOWN);
	cs_put_copy(buf, &copies, r.pos + 2, r.end - r.pos - 2);
#ifdef USE_ASSERT_CHECKING
	{
		CsCell *cell = check_begin(g, state, work);

		cell->shown = true;
		cell->stale = false;
		check_end(g, state, cell);
	}
#endif
	set_bytes(g, state, work, &copies);
	return true;
}
