/*
 * operator/session_codec.c
 *	  Bytes of a key's sessions, and what follows from them after recovery.
 *
 * Head: version and flags; the earliest moment at which the line (watermark
 * less allowed_lateness) changes something; with allowed_lateness also the
 * moment at which the watermark closes the next row.  So allowed_lateness can
 * be altered: when an entry is due is computed when it is read.
 *
 * An ordinary entry has no waiting events and no rows that are shown; both
 * together cost it one byte.
 */
#include "postgres.h"

#include "operator/session.h"
#include "utils/memutils.h"

/* Version in the low bits of the first byte, flags above. */
enum
{
	ENTRY_VERSION = 3,
	ENTRY_VERSION_MASK = 0x0f,
	ENTRY_COMPARE = 0x10,
	ENTRY_HAS_SHOW_DUE = 0x20
};

enum
{
	SESSION_FIXED_START = 0x01,
	SESSION_ENDS = 0x02,
	SESSION_HAS_SPLIT = 0x04,
	SESSION_ONE_EVENT = 0x08, /* last = first, not stored */
	SESSION_MIDNIGHT = 0x10
};

/* ---- when an entry is due ---- */

/* The earliest moment at which the line decides or retires something. */
static TimestampTz
line_due(const CsSessions *s, const CsVisitor *v)
{
	TimestampTz due = v->waiting_min;

	/* With no session open the first waiting event is decided as soon as line + max_length reaches it. */
	if (v->n == 0 && v->nwaiting > 0 && !s->in_order)
		due -= s->op.def->max_length;
	for (int i = 0; i < v->n; i++)
	{
		if (!cs_session_is_awaited(s, v, &v->sessions[i]))
			due = Min(due, cs_session_last_moment(s, &v->sessions[i]));
	}
	return due;
}

static TimestampTz
entry_due(const CsSessions *s, TimestampTz line_due, TimestampTz show_due, bool compare)
{
	if (compare)
		return CS_WM_NONE; /* at once: in this batch's advance() */
	if (s->op.def->lateness == 0)
		return line_due;
	return Min(cs_session_shift(line_due, s->op.def->lateness), show_due);
}

void
cs_session_update(CsSessions *s, CsState *state, CsWork *work)
{
	CsVisitor *v = work->work;

	cs_work_dirty(state, work);
	if (v->keeps)
		cs_work_keep(work);
	if (v->n == 0 && v->nwaiting == 0 && v->nshown == 0)
	{
		cs_work_delete(state, work);
		return;
	}
	v->compare |= v->n == 0 && v->nwaiting == 0;
	if (s->op.def->lateness > 0 && v->nwaiting == 0 && v->nshown == 0)
		v->show_due = line_due(s, v);
	work->due = entry_due(s, line_due(s, v), v->show_due, v->compare);
}

/* ---- writing ---- */

static void
put_session(CsSessions *s, CsState *state, CsSession *session, StringInfo buf)
{
	bool  one = cs_place_cmp(&session->first, &session->last) == 0;
	uint8 flags = 0;

	flags |= session->fixed_start ? SESSION_FIXED_START : 0;
	flags |= session->ends ? SESSION_ENDS : 0;
	flags |= s->has_split ? SESSION_HAS_SPLIT : 0;
	flags |= one ? SESSION_ONE_EVENT : 0;
	flags |= session->midnight ? SESSION_MIDNIGHT : 0;
	cs_put_u8(buf, flags);
	cs_put_place(buf, &session->first);
	if (!one)
		cs_put_place(buf, &session->last);
	if (s->has_split)
		appendBinaryStringInfo(buf, (char *) &session->split, sizeof(session->split));
	cs_measures_put(s->ms, state, session->states, &session->first, &session->last, buf);
}

static void
put_shown(const CsShownRow *row, StringInfo buf)
{
	cs_put_place(buf, &row->first);
	cs_put_u8(buf, (uint8) (row->reason << 1 | row->was_closed));
	cs_put_uint(buf, (uint64) row->revision);
	appendBinaryStringInfo(buf, (const char *) &row->print, sizeof(row->print));
}

void
cs_session_serialize(void *op, CsState *state, CsWork *work, StringInfo buf)
{
	CsSessions *s = op;
	CsVisitor  *v = work->work;
	bool		has_show_due = s->op.def->lateness > 0;

	cs_put_u8(buf,
			  (uint8) (ENTRY_VERSION | (v->compare ? ENTRY_COMPARE : 0) | (has_show_due ? ENTRY_HAS_SHOW_DUE : 0)));
	cs_put_int(buf, line_due(s, v));
	if (has_show_due)
		cs_put_int(buf, v->show_due);
	cs_put_datum(buf, v->name, false, s->key.stored, s->key.typbyval);
	cs_put_uint(buf, (uint64) v->n);
	for (int i = 0; i < v->n; i++)
		put_session(s, state, &v->sessions[i], buf);
	cs_put_uint(buf, (uint64) v->nwaiting << 1 | (v->nshown > 0));
	for (int i = 0; i < v->nwaiting; i++)
		put_session(s, state, &v->waiting[i], buf);
	if (v->nshown == 0)
		return;
	cs_put_uint(buf, (uint64) v->nshown);
	for (int i = 0; i < v->nshown; i++)
		put_shown(&v->shown[i], buf);
}

/* ---- what session_patch.c must know ---- */

bool
cs_session_head_is_plain(CsReader *r)
{
	if (cs_get_u8(r) != ENTRY_VERSION)
		return false;
	(void) cs_get_int(r);
	return true;
}

void
cs_session_put_plain_head(StringInfo buf, TimestampTz due)
{
	cs_put_u8(buf, ENTRY_VERSION);
	cs_put_int(buf, due);
}

int
cs_session_plain_flags(CsReader *r)
{
	uint8 flags = cs_get_u8(r);

	return (flags & ~SESSION_ONE_EVENT) == 0 ? flags : -1;
}

/* ---- reading ---- */

static void
get_session(CsSessions *s, CsState *state, CsReader *r, CsSession *session)
{
	uint8 flags = cs_get_u8(r);

	session->fixed_start = (flags & SESSION_FIXED_START) != 0;
	session->ends = (flags & SESSION_ENDS) != 0;
	session->midnight = (flags & SESSION_MIDNIGHT) != 0;
	cs_get_place(r, &session->first);
	session->last = session->first;
	if (!(flags & SESSION_ONE_EVENT))
		cs_get_place(r, &session->last);
	if (flags & SESSION_HAS_SPLIT)
		memcpy(&session->split, cs_get_raw(r, sizeof(session->split)), sizeof(session->split));
	session->states = cs_session_states(s);
	cs_measures_get(s->ms, state, session->states, &session->first, &session->last, r);
}

static void
get_sessions(CsSessions *s, CsState *state, CsReader *r, uint64 count, CsSession **array, int *n, int *capacity)
{
	if (count > (uint64) (r->end - r->pos))
		cs_reader_corrupt(r, "it holds more sessions than bytes");
	for (uint64 i = 0; i < count; i++)
		get_session(s, state, r, cs_session_slot(array, n, capacity));
}

static void
get_shown(CsReader *r, CsVisitor *v)
{
	uint64 count = cs_get_uint(r);

	if (count > (uint64) (r->end - r->pos))
		cs_reader_corrupt(r, "it holds more rows than bytes");
	for (uint64 i = 0; i < count; i++)
	{
		CsPlace		first;
		CsShownRow *row;
		uint8		flags;

		cs_get_place(r, &first);
		row = cs_session_shown_slot(v, &first);
		flags = cs_get_u8(r);
		if (flags >> 1 > CS_SESSION_FINISH)
			cs_reader_corrupt(r, "a row is closed by no known reason");
		row->reason = (CsSessionReason) (flags >> 1);
		row->was_closed = (flags & 1) != 0;
		row->revision = (int32) cs_get_uint(r);
		memcpy(&row->print, cs_get_raw(r, sizeof(row->print)), sizeof(row->print));
	}
}

typedef struct Head
{
	bool		compare;
	TimestampTz line_due;
	TimestampTz show_due;
} Head;

static Head
get_head(CsReader *r)
{
	uint8 first = cs_get_u8(r);
	Head  head = {.compare = (first & ENTRY_COMPARE) != 0};

	if ((first & ENTRY_VERSION_MASK) != ENTRY_VERSION)
		cs_reader_corrupt(r, "it is of another version");
	head.line_due = head.show_due = cs_get_int(r);
	if (first & ENTRY_HAS_SHOW_DUE)
		head.show_due = cs_get_int(r);
	return head;
}

CsVisitor *
cs_session_decode(CsSessions *s, CsState *state, const CsKey *key, const char *data, uint32 len)
{
	CsVisitor *v = palloc0(sizeof(CsVisitor));
	CsReader   r = {.pos = data, .end = data + len, .key = key, .def = s->op.def};
	Head	   head = get_head(&r);
	uint64	   rest;
	bool	   isnull;

	v->compare = head.compare;
	v->show_due = head.show_due;
	v->name = cs_get_datum(&r, &isnull, s->key.stored, s->key.typbyval);
	if (isnull)
		cs_reader_corrupt(&r, "it has no key");
	if (s->key.typlen == -1)
	{
		r.name = VARDATA_ANY(DatumGetPointer(v->name));
		r.name_len = VARSIZE_ANY_EXHDR(DatumGetPointer(v->name));
	}
	get_sessions(s, state, &r, cs_get_uint(&r), &v->sessions, &v->n, &v->capacity);
	rest = cs_get_uint(&r);
	get_sessions(s, state, &r, rest >> 1, &v->waiting, &v->nwaiting, &v->waiting_capacity);
	v->waiting_min = CS_WM_DONE;
	for (int i = 0; i < v->nwaiting; i++)
		v->waiting_min = Min(v->waiting_min, v->waiting[i].first.time);
	if (rest & 1)
		get_shown(&r, v);
	cs_get_end(&r);
	return v;
}

CsVisitor *
cs_session_read(CsSessions *s, CsState *state, const CsEntry *entry)
{
	return cs_session_decode(s, state, &entry->key, cs_entry_bytes(entry), entry->len);
}

CsVisitor *
cs_session_visitor(CsSessions *s, CsState *state, CsWork *work)
{
	CsVisitor *v = work->work;

	if (v == NULL)
	{
		if (work->image)
			v = cs_session_decode(s, state, &work->key, work->image, work->image_len);
		else if (work->base)
			v = cs_session_read(s, state, work->base);
		else
		{
			v = palloc0(sizeof(CsVisitor));
			v->waiting_min = v->show_due = CS_WM_DONE;
		}
		work->work = v;
		work->image = NULL;
	}
	return v;
}

TimestampTz
cs_session_due_of(void *op, const CsEntry *entry)
{
	CsReader r = cs_entry_reader(entry, ((CsSessions *) op)->op.def);
	Head	 head = get_head(&r);

	return entry_due(op, head.line_due, head.show_due, head.compare);
}

void
cs_session_check(CsOperator *op, CsState *state, const CsEntry *entry)
{
	CsSessions *s = (CsSessions *) op;
	CsVisitor  *v = cs_session_read(s, state, entry);

	for (int i = 0; i < v->n; i++)
		cs_measures_examine(s->ms, v->sessions[i].states);
	for (int i = 0; i < v->nwaiting; i++)
		cs_measures_examine(s->ms, v->waiting[i].states);
}

/* ---- after recovery ---- */

typedef struct LoadContext
{
	CsSessions	 *s;
	CsState		 *state;
	MemoryContext context;
} LoadContext;

static void
load_starts(LoadContext *load, const CsEntry *entry)
{
	CsSessions	 *s = load->s;
	MemoryContext old = MemoryContextSwitchTo(load->context);
	CsVisitor	 *v = cs_session_read(s, load->state, entry);

	for (int i = 0; i < v->n; i++)
		cs_open_starts_load(s->starts, v->sessions[i].first.time);
	for (int i = 0; i < v->nwaiting; i++)
		cs_open_starts_load(s->starts, v->waiting[i].first.time);
	MemoryContextSwitchTo(old);
	MemoryContextReset(load->context);
}

static void
load_entry(CsEntry *entry, void *arg)
{
	LoadContext *load = arg;

	if (load->s->op.feeds_rollup)
		load_starts(load, entry);
	if (load->s->op.def->emit == CS_EMIT_CHANGES)
		cs_session_note_stale(load->s, &entry->key);
}

void
cs_session_recovered(CsOperator *op, CsState *state)
{
	LoadContext load = {(CsSessions *) op, state, NULL};

	cs_open_starts_clear(load.s->starts);
	if (op->feeds_rollup || op->def->emit == CS_EMIT_CHANGES)
	{
		load.context =
			AllocSetContextCreate(CurrentMemoryContext, "clickstream session starts", ALLOCSET_DEFAULT_SIZES);
		cs_state_walk(state, op->def->definition_id, load_entry, &load);
		MemoryContextDelete(load.context);
	}
	load.s->stale_before = op->stale;
	load.s->emit_before = op->emit_at;
}
