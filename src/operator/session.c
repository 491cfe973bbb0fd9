/*
 * operator/session.c
 *	  Sessions: events of a key that follow each other within a gap.
 *
 * An entry is a key's open sessions (one, now and then two) with their
 * measures.  An event merges at once with whatever lies within the gap of it,
 * in whatever order events arrive; ordinary sessions hold no events.
 *
 * max_length cuts a session at the first event in place order that lies more
 * than max_length after the start.  Only an event for which that is open yet
 * waits in the entry: one later than min(earliest open start, wm) +
 * max_length, because a start may still move back to the watermark, and open
 * sessions may still be bridged.  It is decided when wm has passed it.  A
 * waiting event is kept as a session of its own and merged like one.
 *
 * A session is final when wm >= last event + gap - 1 ms.  Sessions that the
 * watermark has passed are closed before an event of their key is applied, so
 * an event never joins a final session, wherever the batch ends.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "operator/measure.h"
#include "operator/open_starts.h"
#include "operator/operator.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define SESSION_VERSION 1

enum
{
	SESSION_FIXED_START = 1
};

typedef struct Session
{
	CsPlace			first;
	CsPlace			last;
	bool			fixed_start; /* it begins at a cut: nothing earlier joins it */
	CsMeasureState *states;
} Session;

/* A key's entry as a batch works on it. */
typedef struct Visitor
{
	Datum		name; /* text */
	int			n, capacity;
	Session	   *sessions; /* by start */
	int			nwaiting, waiting_capacity;
	Session	   *waiting;	 /* single events, in no order */
	TimestampTz waiting_min; /* earliest of them, CS_WM_DONE none */
} Visitor;

typedef struct SessionInput
{
	bool	  take;
	CsHash128 key;
	Datum	  name;
	CsInput	 *inputs;
} SessionInput;

typedef struct CsSessions
{
	CsOperator	  op;
	bool		  has_filter;
	CsExpr		  filter;
	CsExpr		  key;
	bool		  key_is_visitor; /* hashed once for all definitions */
	CsMeasures	 *ms;
	SessionInput *inputs;
	CsOpenStarts *starts;
} CsSessions;

/* ---- compiling ---- */

static void
session_columns(CsSessions *s, const char *key_name)
{
	CsOperator *op = &s->op;

	cs_operator_column(op, "session_id", TEXTOID, -1, DEFAULT_COLLATION_OID, true);
	cs_operator_column(op, key_name, TEXTOID, -1, DEFAULT_COLLATION_OID, false);
	cs_operator_column(op, "session_start", TIMESTAMPTZOID, -1, InvalidOid, false);
	cs_operator_column(op, "session_end", TIMESTAMPTZOID, -1, InvalidOid, false);
	for (int i = 0; i < s->ms->noutputs; i++)
	{
		CsOutput *out = &s->ms->outputs[i];

		cs_operator_column(op, out->name, out->type, out->typmod, out->collation, false);
	}
	cs_operator_column(op, "closed_reason", TEXTOID, -1, DEFAULT_COLLATION_OID, false);
	cs_operator_column(op, "is_final", BOOLOID, -1, InvalidOid, false);
	cs_operator_column(op, "revision", INT4OID, -1, InvalidOid, false);
}

static CsOperator *
session_create(const CsStream *stream, const CsDefinition *def, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CsSessions	 *s = palloc0(sizeof(CsSessions));
	CsQueryParts  parts;
	TargetEntry	 *key;

	s->op.ops = &cs_session_ops;
	s->op.stream = stream;
	s->op.def = def;
	s->op.needed = palloc0(stream->event_desc->natts * sizeof(bool));
	s->op.closed = CS_WM_NONE;
	s->op.emit_at = CS_WM_DONE;
	cs_query_parts(def, &parts);
	key = linitial_node(TargetEntry, parts.query->targetList);
	cs_operator_needs(&s->op, (Node *) key);
	cs_operator_needs(&s->op, (Node *) parts.filter);
	cs_operator_needs(&s->op, (Node *) parts.measures);
	if (parts.filter)
	{
		s->has_filter = true;
		cs_expr_init(&s->filter, parts.filter);
	}
	cs_expr_init(&s->key, key->expr);
	s->key_is_visitor = s->key.attno == cs_system_attno(stream, CS_SYS_VISITOR);
	s->ms = cs_measures_compile(parts.measures, cs_system_attno(stream, CS_SYS_PLACE));
	s->op.measure_errors = &s->ms->errors;
	s->starts = cs_open_starts_create(cxt);
	session_columns(s, key->resname);
	MemoryContextSwitchTo(old);
	return &s->op;
}

/* ---- evaluating ---- */

static void
session_begin_chunk(CsOperator *op, CsBatchContext *batch, int n)
{
	CsSessions	 *s = (CsSessions *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->chunk);
	CsInput		 *inputs = palloc(n * (s->ms->n + 1) * sizeof(CsInput));

	s->inputs = palloc0(n * sizeof(SessionInput));
	for (int i = 0; i < n; i++)
		s->inputs[i].inputs = inputs + i * s->ms->n;
	MemoryContextSwitchTo(old);
}

static void
session_evaluate(CsOperator *op, CsBatchContext *batch, const CsEvent *event, int i)
{
	CsSessions	 *s = (CsSessions *) op;
	SessionInput *in = &s->inputs[i];
	bool		  isnull;

	in->take = false;
	if (s->has_filter && !cs_expr_true(&s->filter, batch->econtext))
		return;
	in->name = cs_expr_eval(&s->key, batch->econtext, &isnull);
	if (isnull)
	{
		op->null_visitors++;
		return;
	}
	if (s->key_is_visitor)
		in->key = event->visitor_hash;
	else
	{
		struct varlena *v = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(in->name));

		in->name = PointerGetDatum(v);
		in->key = cs_hash_bytes(VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
	}
	cs_measures_evaluate(s->ms, batch, in->inputs);
	in->take = true;
}

static void
session_reject(CsOperator *op, int i)
{
	((CsSessions *) op)->inputs[i].take = false;
	op->errors++;
}

/* ---- an entry's sessions ---- */

static inline TimestampTz
last_moment(const CsSessions *s, const Session *session)
{
	return session->last.time + s->op.def->gap - CS_USECS_PER_MSEC;
}

static inline bool
is_final(const CsSessions *s, const Session *session, TimestampTz wm)
{
	return wm != CS_WM_NONE && last_moment(s, session) <= wm;
}

static Session *
add_slot(Session **array, int *n, int *capacity)
{
	if (*n == *capacity)
	{
		*capacity = *capacity ? *capacity * 2 : 2;
		*array = *array ? repalloc_huge(*array, *capacity * sizeof(Session)) : palloc(*capacity * sizeof(Session));
	}
	memset(&(*array)[*n], 0, sizeof(Session));
	return &(*array)[(*n)++];
}

static void
remove_session(Visitor *v, int i)
{
	memmove(&v->sessions[i], &v->sessions[i + 1], (v->n - i - 1) * sizeof(Session));
	v->n--;
}

static void
emit_session(CsSessions *s, CsBatchContext *batch, Visitor *v, Session *session, const char *reason)
{
	CsOperator *op = &s->op;
	Datum	   *values = palloc(op->ncolumns * sizeof(Datum));
	bool	   *isnull = palloc0(op->ncolumns * sizeof(bool));
	int			c = 0;

	values[c++] = CStringGetTextDatum(cs_place_id(op->stream, &session->first));
	values[c++] = v->name;
	values[c++] = TimestampTzGetDatum(session->first.time);
	values[c++] = TimestampTzGetDatum(session->last.time + op->def->gap);
	cs_measures_result(s->ms, session->states, values + c, isnull + c);
	c += s->ms->noutputs;
	values[c++] = CStringGetTextDatum(reason);
	values[c++] = BoolGetDatum(true);
	values[c++] = Int32GetDatum(0);
	batch->emitter->row(batch->emitter, op, CS_ROW_INSERT, values, isnull);
}

static void
close_session(CsSessions *s, CsBatchContext *batch, Visitor *v, int i, const char *reason)
{
	Session *session = &v->sessions[i];

	emit_session(s, batch, v, session, reason);
	cs_measures_drop(s->ms, batch->state, session->states);
	cs_open_starts_change(s->starts, session->first.time, -1);
	remove_session(v, i);
}

/* Widen a session to take in [first, last]; its start is watched by rollups. */
static void
widen(CsSessions *s, Session *session, const CsPlace *first, const CsPlace *last)
{
	if (cs_place_cmp(first, &session->first) < 0)
	{
		if (first->time != session->first.time)
		{
			cs_open_starts_change(s->starts, session->first.time, -1);
			cs_open_starts_change(s->starts, first->time, +1);
		}
		session->first = *first;
	}
	if (cs_place_cmp(last, &session->last) > 0)
		session->last = *last;
}

/* Session j goes into session i. */
static void
absorb(CsSessions *s, CsBatchContext *batch, Visitor *v, int i, int j)
{
	Session *from = &v->sessions[j];

	cs_measures_merge(s->ms, batch->state, v->sessions[i].states, from->states);
	cs_measures_drop(s->ms, batch->state, from->states);
	cs_open_starts_change(s->starts, from->first.time, -1);
	widen(s, &v->sessions[i], &from->first, &from->last);
	remove_session(v, j);
}

static bool
within_gap(const CsSessions *s, const Session *session, TimestampTz t)
{
	if (t < session->first.time)
		return !session->fixed_start && session->first.time - t <= s->op.def->gap;
	return t - session->last.time <= s->op.def->gap;
}

/*
 * The session that an event at t belongs to, those it bridges made one; -1 if
 * none.  Sessions are ordered by start.
 */
static int
find_session(CsSessions *s, CsBatchContext *batch, Visitor *v, TimestampTz t)
{
	for (int i = 0; i < v->n; i++)
	{
		if (!within_gap(s, &v->sessions[i], t))
			continue;
		while (i + 1 < v->n && within_gap(s, &v->sessions[i + 1], t) && !v->sessions[i + 1].fixed_start)
			absorb(s, batch, v, i, i + 1);
		return i;
	}
	return -1;
}

/* A session from the given slot contents, put where its start belongs. */
static void
insert_session(CsSessions *s, Visitor *v, const Session *session)
{
	int i;

	add_slot(&v->sessions, &v->n, &v->capacity);
	for (i = v->n - 1; i > 0 && cs_place_cmp(&session->first, &v->sessions[i - 1].first) < 0; i--)
		v->sessions[i] = v->sessions[i - 1];
	v->sessions[i] = *session;
	cs_open_starts_change(s->starts, session->first.time, +1);
}

static CsMeasureState *
make_states(CsSessions *s)
{
	CsMeasureState *states = palloc(Max(s->ms->n, 1) * sizeof(CsMeasureState));

	cs_measures_init(s->ms, states);
	return states;
}

/* ---- waiting for a decision on max_length ---- */

/* The latest time at which no cut can fall any more: min(earliest open start, wm) + max_length. */
static TimestampTz
undisputed(const CsSessions *s, const Visitor *v, TimestampTz wm)
{
	TimestampTz from = v->n > 0 ? Min(v->sessions[0].first.time, wm) : wm;

	if (s->op.def->max_length < 0 || from == CS_WM_DONE)
		return CS_WM_DONE;
	return from == CS_WM_NONE ? CS_WM_NONE : from + s->op.def->max_length;
}

static int
place_order(const void *a, const void *b)
{
	return cs_place_cmp(&((const Session *) a)->first, &((const Session *) b)->first);
}

/* Close the session that an event at t would prolong beyond max_length; true if there was one. */
static bool
cut(CsSessions *s, CsBatchContext *batch, Visitor *v, TimestampTz t)
{
	int64 max_length = s->op.def->max_length;

	for (int i = 0; max_length >= 0 && i < v->n; i++)
	{
		Session *session = &v->sessions[i];

		if (t > session->last.time && t - session->first.time > max_length && within_gap(s, session, t))
		{
			close_session(s, batch, v, i, "max_length");
			return true;
		}
	}
	return false;
}

/* Apply one waiting event whose turn has come; cuts where it has to. */
static void
decide(CsSessions *s, CsBatchContext *batch, Visitor *v, Session *event)
{
	bool is_cut = cut(s, batch, v, event->first.time);
	int	 i = find_session(s, batch, v, event->first.time);

	if (i >= 0)
	{
		cs_measures_merge(s->ms, batch->state, v->sessions[i].states, event->states);
		widen(s, &v->sessions[i], &event->first, &event->last);
		v->sessions[i].fixed_start |= is_cut;
		return;
	}
	event->fixed_start = is_cut;
	insert_session(s, v, event);
}

/* Close what wm has passed, and decide waiting events, in the order of time. */
static void
settle(CsSessions *s, CsBatchContext *batch, Visitor *v, TimestampTz wm, const char *reason)
{
	int decided = 0;

	if (v->nwaiting > 0 && v->waiting_min <= Max(wm, undisputed(s, v, wm)))
	{
		qsort(v->waiting, v->nwaiting, sizeof(Session), place_order);
		while (decided < v->nwaiting)
		{
			Session *event = &v->waiting[decided];

			if (event->first.time > wm && event->first.time > undisputed(s, v, wm))
				break;
			/* What ended before it is closed first, as it would have been then. */
			for (int i = v->n - 1; i >= 0; i--)
			{
				if (is_final(s, &v->sessions[i], Min(wm, event->first.time - 1)) &&
					!within_gap(s, &v->sessions[i], event->first.time))
					close_session(s, batch, v, i, reason);
			}
			decide(s, batch, v, event);
			decided++;
		}
		memmove(v->waiting, v->waiting + decided, (v->nwaiting - decided) * sizeof(Session));
		v->nwaiting -= decided;
		v->waiting_min = v->nwaiting > 0 ? v->waiting[0].first.time : CS_WM_DONE;
	}
	for (int i = 0; i < v->n;)
	{
		if (is_final(s, &v->sessions[i], wm))
			close_session(s, batch, v, i, reason);
		else
			i++;
	}
}

/* ---- events ---- */

static void
wait_for_decision(CsSessions *s, Visitor *v, const CsEvent *event, const CsInput *inputs)
{
	Session *slot = add_slot(&v->waiting, &v->nwaiting, &v->waiting_capacity);

	slot->first = slot->last = event->place;
	slot->states = make_states(s);
	cs_measures_add(s->ms, slot->states, inputs, &event->place);
	v->waiting_min = Min(v->waiting_min, event->place.time);
}

static void
late(CsSessions *s, CsBatchContext *batch, CsEvent *event)
{
	TimestampTz moment = event->place.time + s->op.def->gap - CS_USECS_PER_MSEC;

	s->op.late++;
	cs_event_mark(event, CS_CLASS_LATE);
	batch->emitter->late(batch->emitter, &s->op, event,
						 event->watermark == CS_WM_DONE ? 0 : Max(event->watermark - moment, 0));
}

/* Is t before a session that begins at a cut, and within the gap of it? */
static bool
before_cut(const CsSessions *s, const Visitor *v, TimestampTz t)
{
	for (int i = 0; i < v->n; i++)
	{
		TimestampTz start = v->sessions[i].first.time;

		if (v->sessions[i].fixed_start && t < start && start - t <= s->op.def->gap)
			return true;
	}
	return false;
}

static bool
apply_to_visitor(CsSessions *s, CsBatchContext *batch, Visitor *v, CsEvent *event, const CsInput *inputs)
{
	TimestampTz t = event->place.time;
	TimestampTz wm = event->watermark;
	Session		fresh = {.first = event->place, .last = event->place};
	int			i;

	settle(s, batch, v, wm, wm == CS_WM_DONE ? "finish" : "gap");
	if (t > undisputed(s, v, wm) && (wm == CS_WM_NONE || t > wm))
	{
		wait_for_decision(s, v, event, inputs);
		return true;
	}
	fresh.fixed_start = cut(s, batch, v, t); /* behind wm it does not wait, but is no exception */
	i = find_session(s, batch, v, t);
	if (i >= 0)
	{
		cs_measures_add(s->ms, v->sessions[i].states, inputs, &event->place);
		widen(s, &v->sessions[i], &event->place, &event->place);
		v->sessions[i].fixed_start |= fresh.fixed_start;
		return true;
	}
	if (is_final(s, &fresh, wm) || before_cut(s, v, t))
		return false;
	fresh.states = make_states(s);
	cs_measures_add(s->ms, fresh.states, inputs, &event->place);
	insert_session(s, v, &fresh);
	return true;
}

static TimestampTz
visitor_due(const CsSessions *s, const Visitor *v)
{
	TimestampTz due = v->waiting_min;

	/* With no session open the first waiting event is decided as soon as wm + max_length reaches it. */
	if (v->n == 0 && v->nwaiting > 0)
		due -= s->op.def->max_length;
	for (int i = 0; i < v->n; i++)
		due = Min(due, last_moment(s, &v->sessions[i]));
	return due;
}

static Visitor *visitor_of(CsSessions *s, CsState *state, CsWork *work);

/* After its sessions changed: the entry is kept, with its due time, or goes. */
static void
update_work(CsSessions *s, CsBatchContext *batch, CsWork *work)
{
	Visitor *v = work->work;

	cs_work_dirty(batch->state, work);
	work->due = visitor_due(s, v);
	if (v->n == 0 && v->nwaiting == 0)
		cs_work_delete(batch->state, work);
}

static void
apply_event(CsSessions *s, CsBatchContext *batch, CsEvent *event, SessionInput *in)
{
	CsKey	 key = {.def = (uint32) s->op.def->definition_id, .who = in->key};
	CsWork	*work = cs_state_get(batch->state, &key);
	Visitor *v = visitor_of(s, batch->state, work);

	if (v->name == (Datum) 0)
		v->name = datumCopy(in->name, false, -1);
	if (apply_to_visitor(s, batch, v, event, in->inputs))
	{
		s->op.used++;
		cs_event_mark(event, CS_CLASS_USED);
	}
	else
		late(s, batch, event);
	update_work(s, batch, work);
}

/* Announce event i + ahead to the state; see cs_state_prefetch_slot(). */
static inline void
prefetch(CsSessions *s, CsState *state, int i, int n, int ahead, void (*announce)(CsState *, const CsKey *))
{
	CsKey key = {.def = (uint32) s->op.def->definition_id};

	if (i + ahead < n && s->inputs[i + ahead].take)
	{
		key.who = s->inputs[i + ahead].key;
		announce(state, &key);
	}
}

static void
session_apply(CsOperator *op, CsBatchContext *batch, CsEvent *events, int n)
{
	CsSessions	 *s = (CsSessions *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);

	s->ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	for (int i = 0; i < n; i++)
	{
		prefetch(s, batch->state, i, n, CS_PREFETCH_SLOT, cs_state_prefetch_slot);
		prefetch(s, batch->state, i, n, CS_PREFETCH_ENTRY, cs_state_prefetch_entry);
		if (!events[i].skip && s->inputs[i].take)
			apply_event(s, batch, &events[i], &s->inputs[i]);
	}
	MemoryContextSwitchTo(old);
}

static bool
session_advance(CsOperator *op, CsBatchContext *batch, TimestampTz wm, int max, bool finish)
{
	CsSessions	 *s = (CsSessions *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	int			  n;
	bool		  more;
	CsWork		**works = cs_state_due(batch->state, op->def->definition_id, wm, max, &n, &more);

	s->ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	for (int i = 0; i < n; i++)
	{
		settle(s, batch, visitor_of(s, batch->state, works[i]), wm, finish ? "finish" : "gap");
		update_work(s, batch, works[i]);
	}
	if (!more)
		op->closed = wm;
	MemoryContextSwitchTo(old);
	return !more;
}

static void
session_end_batch(CsOperator *op, bool committed)
{
	cs_open_starts_end_batch(((CsSessions *) op)->starts, committed);
}

/* ---- state ---- */

static void
put_session(CsSessions *s, CsState *state, Session *session, StringInfo buf)
{
	cs_put_u8(buf, session->fixed_start ? SESSION_FIXED_START : 0);
	cs_put_place(buf, &session->first);
	cs_put_place(buf, &session->last);
	cs_measures_put(s->ms, state, session->states, &session->first, &session->last, buf);
}

static void
session_serialize(void *op, CsState *state, CsWork *work, StringInfo buf)
{
	CsSessions *s = op;
	Visitor	   *v = work->work;

	cs_put_u8(buf, SESSION_VERSION);
	cs_put_int(buf, work->due);
	cs_put_datum(buf, v->name, false, -1, false);
	cs_put_uint(buf, (uint64) v->n);
	for (int i = 0; i < v->n; i++)
		put_session(s, state, &v->sessions[i], buf);
	cs_put_uint(buf, (uint64) v->nwaiting);
	for (int i = 0; i < v->nwaiting; i++)
		put_session(s, state, &v->waiting[i], buf);
}

static void
get_sessions(CsSessions *s, CsState *state, CsReader *r, Session **array, int *n, int *capacity)
{
	uint64 count = cs_get_uint(r);

	if (count > (uint64) (r->end - r->pos))
		cs_codec_corrupt("an entry holds more sessions than bytes");
	for (uint64 i = 0; i < count; i++)
	{
		Session *session = add_slot(array, n, capacity);

		session->fixed_start = (cs_get_u8(r) & SESSION_FIXED_START) != 0;
		cs_get_place(r, &session->first);
		cs_get_place(r, &session->last);
		session->states = make_states(s);
		cs_measures_get(s->ms, state, session->states, &session->first, &session->last, r);
	}
}

static TimestampTz
read_header(CsReader *r)
{
	if (cs_get_u8(r) != SESSION_VERSION)
		cs_codec_corrupt("a visitor's sessions are of another version");
	return cs_get_int(r);
}

static Visitor *
read_visitor(CsSessions *s, CsState *state, const CsEntry *entry)
{
	Visitor *v = palloc0(sizeof(Visitor));
	CsReader r = {entry->data, entry->data + entry->len};
	bool	 isnull;

	read_header(&r);
	v->name = cs_get_datum(&r, &isnull, -1, false);
	get_sessions(s, state, &r, &v->sessions, &v->n, &v->capacity);
	get_sessions(s, state, &r, &v->waiting, &v->nwaiting, &v->waiting_capacity);
	v->waiting_min = CS_WM_DONE;
	for (int i = 0; i < v->nwaiting; i++)
		v->waiting_min = Min(v->waiting_min, v->waiting[i].first.time);
	return v;
}

static Visitor *
visitor_of(CsSessions *s, CsState *state, CsWork *work)
{
	Visitor *v = work->work;

	if (v == NULL)
	{
		if (work->base)
			v = read_visitor(s, state, work->base);
		else
		{
			v = palloc0(sizeof(Visitor));
			v->waiting_min = CS_WM_DONE;
		}
		work->work = v;
	}
	return v;
}

static TimestampTz
session_due_of(void *op, const CsEntry *entry)
{
	CsReader r = {entry->data, entry->data + entry->len};

	(void) op;
	return read_header(&r);
}

typedef struct LoadContext
{
	CsSessions	 *s;
	CsState		 *state;
	MemoryContext context;
} LoadContext;

static void
load_starts(CsEntry *entry, void *arg)
{
	LoadContext	 *load = arg;
	MemoryContext old = MemoryContextSwitchTo(load->context);
	Visitor		 *v = read_visitor(load->s, load->state, entry);

	for (int i = 0; i < v->n; i++)
		cs_open_starts_load(load->s->starts, v->sessions[i].first.time);
	MemoryContextSwitchTo(old);
	MemoryContextReset(load->context);
}

static void
session_recovered(CsOperator *op, CsState *state)
{
	LoadContext load = {(CsSessions *) op, state, NULL};

	load.context = AllocSetContextCreate(CurrentMemoryContext, "clickstream session starts", ALLOCSET_DEFAULT_SIZES);
	cs_open_starts_clear(load.s->starts);
	cs_state_walk(state, op->def->definition_id, load_starts, &load);
	MemoryContextDelete(load.context);
}

static void
session_show(CsOperator *op, CsState *state, const CsEntry *entry, void (*row)(void *arg, Datum *values, bool *isnull),
			 void *arg)
{
	CsSessions *s = (CsSessions *) op;
	Visitor	   *v = read_visitor(s, state, entry);
	Datum	   *values = palloc0(op->ncolumns * sizeof(Datum));
	bool	   *isnull = palloc0(op->ncolumns * sizeof(bool));

	for (int i = 0; i < v->n; i++)
	{
		Session *session = &v->sessions[i];

		values[0] = CStringGetTextDatum(cs_place_id(op->stream, &session->first));
		values[1] = v->name;
		values[2] = TimestampTzGetDatum(session->first.time);
		values[3] = TimestampTzGetDatum(session->last.time + op->def->gap);
		cs_measures_result(s->ms, session->states, values + 4, isnull + 4);
		isnull[op->ncolumns - 3] = true;
		values[op->ncolumns - 2] = BoolGetDatum(false);
		values[op->ncolumns - 1] = Int32GetDatum(0);
		row(arg, values, isnull);
	}
}

static bool
session_open_starts_in(CsOperator *op, TimestampTz start, TimestampTz end)
{
	return cs_open_starts_in(((CsSessions *) op)->starts, start, end);
}

const CsOperatorOps cs_session_ops = {
	.kind = CS_KIND_SESSION,
	.create = session_create,
	.begin_chunk = session_begin_chunk,
	.evaluate = session_evaluate,
	.reject = session_reject,
	.apply = session_apply,
	.advance = session_advance,
	.end_batch = session_end_batch,
	.serialize = session_serialize,
	.due_of = session_due_of,
	.recovered = session_recovered,
	.show = session_show,
	.open_starts_in = session_open_starts_in,
};
