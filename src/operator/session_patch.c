/*
 * operator/session_patch.c
 *	  Events that only prolong the one open session: put into the entry's
 *	  bytes as they are.
 *
 * In live traffic nearly each event of a batch is of another visitor, and all
 * that it does to his entry is to move the end of his open session and to count.  To
 * decode the entry for that, change it and serialise it again touches ten
 * times the memory of its bytes.  So such an event is applied while the old bytes
 * are copied to new ones.  Whatever is not as simple as that is left to the
 * other way, which begins with whichever bytes the work has: both give the same
 * bytes, and where assertions are on each patch is compared with the other way.
 *
 * Simple is: one session and nothing else in the entry, the event behind its
 * end, within its gap, and not cut off; measures whose states are small.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "operator/session.h"

/* An entry of one session, as far as it has to be understood. */
typedef struct Patch
{
	CsReader	r;	  /* behind the places: at the measures */
	const char *name; /* and what follows it up to the session's flags */
	const char *first_place;
	const char *last_place; /* = first_place if there was one event */
	const char *measures;
	CsSession	session;
	CsCopies	copies;
} Patch;

void
cs_session_patch_init(CsSessions *s)
{
	const CsDefinition *def = s->op.def;

	initStringInfo(&s->patch);
	s->patches = !s->in_order && s->zone == NULL && def->lateness == 0 && def->emit != CS_EMIT_CHANGES &&
				 cs_measures_can_patch(s->ms, true);
}

/* Read up to the measures; false if the entry is not of the simple kind. */
static bool
open_patch(const CsSessions *s, Patch *p, const CsKey *key, const char *data, uint32 len)
{
	int flags;

	memset(&p->session, 0, sizeof(p->session));
	p->r = (CsReader){.pos = data, .end = data + len, .key = key, .def = s->op.def};
	if (!cs_session_head_is_plain(&p->r))
		return false;
	p->name = p->r.pos;
	cs_skip_datum(&p->r, s->key.stored, s->key.typbyval);
	if (cs_get_uint(&p->r) != 1)
		return false;
	flags = cs_session_plain_flags(&p->r);
	if (flags < 0)
		return false;
	p->first_place = p->r.pos;
	cs_get_place(&p->r, &p->session.first);
	p->session.last = p->session.first;
	p->last_place = p->first_place;
	if (flags == 0)
	{
		p->last_place = p->r.pos;
		cs_get_place(&p->r, &p->session.last);
	}
	p->measures = p->r.pos;
	return true;
}

/* Would cs_session_add() do no more than move the session's end?  Its decisions in its order. */
static bool
only_prolongs(const CsSessions *s, const CsSession *session, const CsEvent *event)
{
	TimestampTz t = event->place.time;
	TimestampTz line = cs_session_line(s, event->watermark);
	int64		max_length = s->op.def->max_length;

	if (cs_place_cmp(&event->place, &session->last) <= 0 || cs_session_is_final(s, session, line))
		return false;
	if ((line == CS_WM_NONE || t > line) && t > cs_session_undisputed(s, session->first.time, line))
		return false;
	if (max_length >= 0 && t - session->first.time > max_length)
		return false;
	return cs_session_touches(s, session, t);
}

#ifdef USE_ASSERT_CHECKING
/* The same by the other way. */
static void
check_patch(CsSessions *s, CsBatchContext *batch, const CsKey *key, const char *data, uint32 len, const CsEvent *event,
			const CsSessionInput *in)
{
	CsVisitor	  *v = cs_session_decode(s, batch->state, key, data, len);
	CsWork		   work = {.work = v};
	StringInfoData buf;

	v->is_copy = true; /* what rollups ask of is counted once */
	Assert(cs_session_add(s, batch, v, event, in));
	initStringInfo(&buf);
	cs_session_serialize(s, batch->state, &work, &buf);
	Assert(buf.len == s->patch.len && memcmp(buf.data, s->patch.data, buf.len) == 0);
	pfree(buf.data);
}
#endif

bool
cs_session_patch(CsSessions *s, CsBatchContext *batch, CsWork *work, const CsEvent *event, const CsSessionInput *in)
{
	const char *data = work->image ? work->image : cs_entry_head(work->base);
	uint32		len = work->image ? work->image_len : work->base->len;
	StringInfo	buf = &s->patch;
	Patch		p;
	TimestampTz due;

	if (work->image == NULL && work->base->data_class == CS_ENTRY_CHAINED)
		return false;
	if (work->deleted || !open_patch(s, &p, &work->key, data, len) || !only_prolongs(s, &p.session, event))
		return false;
	resetStringInfo(buf);
	cs_put_room(buf, len + 64);
	due = event->place.time + (cs_session_last_moment(s, &p.session) - p.session.last.time);
	cs_session_put_plain_head(buf, due);
	p.copies.base = data;
	p.copies.n = 0;
	cs_put_copy(buf, &p.copies, p.name, p.first_place - 1 - p.name); /* the flags are one byte, and none is set now */
	cs_put_u8(buf, 0);
	cs_put_copy(buf, &p.copies, p.first_place,
				(p.last_place > p.first_place ? p.last_place : p.measures) - p.first_place);
	cs_put_place(buf, &event->place);
	if (!cs_measures_patch(s->ms, in->inputs, p.last_place, p.measures, &p.r, buf, &p.copies))
		return false;
	if (p.r.end - p.r.pos != 1 || *p.r.pos != 0) /* waiting events or rows */
		return false;
	cs_put_u8(buf, 0);
#ifdef USE_ASSERT_CHECKING
	check_patch(s, batch, &work->key, data, len, event, in);
#endif
	if (work->image == NULL)
		cs_work_set_copy(batch->state, work, buf->data, (uint32) buf->len, &p.copies);
	else
		cs_work_set_image(batch->state, work, buf->data, (uint32) buf->len);
	work->due = due;
	return true;
}
