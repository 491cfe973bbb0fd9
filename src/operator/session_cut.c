/*
 * operator/session_cut.c
 *	  Which event belongs to which session: merging, cutting, waiting, closing.
 *
 * Ordinary sessions merge an event at once with whatever lies within the gap
 * of it, in whatever order events arrive.
 *
 * max_length cuts a session at the first event in place order that lies more
 * than max_length after the start.  Only an event for which that is open yet
 * waits in the entry: one later than min(earliest open start, line) +
 * max_length, because a start may still move back to the line, and open
 * sessions may still be bridged.  It is decided when the line has passed it.
 * A waiting event is kept as a session of its own and merged like one.
 *
 * split_on and end_when depend on which event comes next, so with them every
 * event waits until the line has passed it, and events are decided one by one
 * in place order.  One behind the line is late.
 *
 * split_at_midnight needs no waiting: to which local day an event belongs is
 * known from the event, and sessions of two days never merge.
 *
 * The line is the watermark less allowed_lateness: nothing behind it changes.
 * What it has passed is retired before an event of its key is applied, so an
 * event never joins a retired session, wherever the batch ends.
 */
#include "postgres.h"

#include "core/local_day.h"
#include "operator/session.h"
#include "utils/datum.h"

/* ---- arrays of sessions ---- */

CsSession *
cs_session_slot(CsSession **array, int *n, int *capacity)
{
	if (*n == *capacity)
	{
		*capacity = *capacity ? *capacity * 2 : 2;
		*array = *array ? repalloc_huge(*array, *capacity * sizeof(CsSession)) : palloc(*capacity * sizeof(CsSession));
	}
	memset(&(*array)[*n], 0, sizeof(CsSession));
	return &(*array)[(*n)++];
}

CsMeasureState *
cs_session_states(CsSessions *s)
{
	CsMeasureState *states = palloc(Max(cs_measures_size(s->ms), 1));

	cs_measures_init(s->ms, states);
	return states;
}

static void
remove_session(CsVisitor *v, int i)
{
	memmove(&v->sessions[i], &v->sessions[i + 1], (v->n - i - 1) * sizeof(CsSession));
	v->n--;
}

/* Something opens (+1) or is gone (-1) that starts then: rollups ask. */
static inline void
watch(CsSessions *s, const CsVisitor *v, TimestampTz start, int delta)
{
	if (s->op.feeds_rollup && !v->is_copy)
		cs_open_starts_change(s->starts, start, delta);
}

/* A session from the given slot contents, put where its start belongs; its index. */
static int
insert_session(CsSessions *s, CsVisitor *v, const CsSession *session)
{
	int i;

	cs_session_slot(&v->sessions, &v->n, &v->capacity);
	for (i = v->n - 1; i > 0 && cs_place_cmp(&session->first, &v->sessions[i - 1].first) < 0; i--)
		v->sessions[i] = v->sessions[i - 1];
	v->sessions[i] = *session;
	watch(s, v, session->first.time, +1);
	return i;
}

/* ---- distances ---- */

/* Do two times lie in one local day, if midnight splits? */
static bool
same_day(CsSessions *s, TimestampTz a, TimestampTz b)
{
	if (s->zone == NULL)
		return true;
	if (a < s->day_start || a >= s->day_end)
		cs_local_day(s->zone, a, &s->day_start, &s->day_end);
	return b >= s->day_start && b < s->day_end;
}

static inline bool
within_gap(CsSessions *s, const CsSession *session, TimestampTz t)
{
	return session->cut == CS_SESSION_OPEN && cs_session_touches(s, session, t) && same_day(s, t, session->first.time);
}

/* Is t before a session that begins at a cut, and within the gap of it? */
static bool
before_cut(CsSessions *s, const CsVisitor *v, TimestampTz t)
{
	for (int i = 0; i < v->n; i++)
	{
		TimestampTz start = v->sessions[i].first.time;

		if (v->sessions[i].fixed_start && t < start && start - t <= s->op.def->gap && same_day(s, t, start))
			return true;
	}
	return false;
}

/* Is the next session one that began within the gap of this one's end, but on another day? */
static bool
next_is_tomorrow(CsSessions *s, const CsVisitor *v, int i)
{
	TimestampTz last = v->sessions[i].last.time;
	TimestampTz next;

	if (s->zone == NULL || i + 1 >= v->n)
		return false;
	next = v->sessions[i + 1].first.time;
	return next - last <= s->op.def->gap && !same_day(s, last, next);
}

CsSessionReason
cs_session_ending(CsSessions *s, const CsVisitor *v, int i, TimestampTz *at)
{
	const CsSession *session = &v->sessions[i];

	*at = session->cut_at;
	if (session->cut != CS_SESSION_OPEN)
		return session->cut;
	*at = cs_session_last_moment(s, session);
	return session->midnight || next_is_tomorrow(s, v, i) ? CS_SESSION_SPLIT : CS_SESSION_GAP;
}

/* ---- merging ---- */

/* Widen a session to take in another one or an event; its start is watched by rollups. */
static void
widen(CsSessions *s, const CsVisitor *v, CsSession *session, const CsSession *by)
{
	if (cs_place_cmp(&by->first, &session->first) < 0)
	{
		if (by->first.time != session->first.time)
		{
			watch(s, v, session->first.time, -1);
			watch(s, v, by->first.time, +1);
		}
		session->first = by->first;
	}
	if (cs_place_cmp(&by->last, &session->last) > 0)
	{
		session->last = by->last;
		session->split = by->split;
	}
	session->midnight |= by->midnight; /* a later end is only nearer to midnight */
}

/* Session j goes into session i. */
static void
absorb(CsSessions *s, CsState *state, CsVisitor *v, int i, int j)
{
	CsSession *from = &v->sessions[j];

	cs_measures_merge(s->ms, state, v->sessions[i].states, from->states);
	if (!v->is_copy)
		cs_measures_drop(s->ms, state, from->states);
	watch(s, v, from->first.time, -1);
	widen(s, v, &v->sessions[i], from);
	remove_session(v, j);
}

/*
 * The session that an event at t belongs to, those it bridges made one; -1 if
 * none.  Sessions are ordered by start.
 */
static int
find_session(CsSessions *s, CsState *state, CsVisitor *v, TimestampTz t)
{
	for (int i = 0; i < v->n; i++)
	{
		if (!within_gap(s, &v->sessions[i], t))
			continue;
		while (i + 1 < v->n && within_gap(s, &v->sessions[i + 1], t) && !v->sessions[i + 1].fixed_start)
			absorb(s, state, v, i, i + 1);
		return i;
	}
	return -1;
}

/* ---- ending ---- */

/* Behind the line: the row's last version is written, and the session leaves the state. */
static void
retire(CsSessions *s, CsBatchContext *batch, CsVisitor *v, int i, CsSessionReason reason)
{
	CsSession *session = &v->sessions[i];

	v->keeps = true;
	cs_session_retire_row(s, batch, v, session, reason);
	cs_measures_drop(s->ms, batch->state, session->states);
	watch(s, v, session->first.time, -1);
	if (i > 0 && next_is_tomorrow(s, v, i - 1))
		v->sessions[i - 1].midnight = true; /* it may end later, and must remember why */
	remove_session(v, i);
}

/* Session i ends here whatever comes; a copy keeps it, to be shown. */
static void
end_session(CsSessions *s, CsBatchContext *batch, CsVisitor *v, int i, CsSessionReason reason, TimestampTz at)
{
	if (!v->is_copy)
	{
		retire(s, batch, v, i, reason);
		return;
	}
	v->sessions[i].cut = reason;
	v->sessions[i].cut_at = at;
}

static void
retire_ended(CsSessions *s, CsBatchContext *batch, CsVisitor *v, int i, TimestampTz line)
{
	TimestampTz		at;
	CsSessionReason reason = cs_session_ending(s, v, i, &at);

	retire(s, batch, v, i, reason == CS_SESSION_GAP && line == CS_WM_DONE ? CS_SESSION_FINISH : reason);
}

/* ---- waiting for a decision ---- */

/* The latest time at which no cut can fall any more. */
static TimestampTz
undisputed(const CsSessions *s, const CsVisitor *v, TimestampTz line)
{
	if (s->in_order)
		return CS_WM_NONE;
	return cs_session_undisputed(s, v->n > 0 ? v->sessions[0].first.time : line, line);
}

static int
place_order(const void *a, const void *b)
{
	return cs_place_cmp(&((const CsSession *) a)->first, &((const CsSession *) b)->first);
}

/* Why the event, which lies within the gap of the session, cannot belong to it; CS_SESSION_OPEN if it can. */
static CsSessionReason
why_cut(const CsSessions *s, const CsSession *session, const CsSession *event)
{
	int64		max_length = s->op.def->max_length;
	TimestampTz t = event->first.time;

	if (max_length >= 0 && t > session->last.time && t - session->first.time > max_length)
		return CS_SESSION_MAX_LENGTH;
	if (s->has_split && (session->split.lo != event->split.lo || session->split.hi != event->split.hi))
		return CS_SESSION_SPLIT;
	return CS_SESSION_OPEN;
}

/* End the session that the event would prolong but must not; true if there was one. */
static bool
cut(CsSessions *s, CsBatchContext *batch, CsVisitor *v, const CsSession *event)
{
	if (s->op.def->max_length < 0 && !s->has_split)
		return false;
	for (int i = 0; i < v->n; i++)
	{
		CsSessionReason reason = why_cut(s, &v->sessions[i], event);

		if (reason != CS_SESSION_OPEN && within_gap(s, &v->sessions[i], event->first.time))
		{
			end_session(s, batch, v, i, reason, event->first.time);
			return true;
		}
	}
	return false;
}

/* Apply one waiting event whose turn has come; cuts where it has to. */
static void
decide(CsSessions *s, CsBatchContext *batch, CsVisitor *v, CsSession *event)
{
	bool is_cut = cut(s, batch, v, event);
	int	 i = find_session(s, batch->state, v, event->first.time);

	watch(s, v, event->first.time, -1);
	if (i >= 0)
	{
		cs_measures_merge(s->ms, batch->state, v->sessions[i].states, event->states);
		widen(s, v, &v->sessions[i], event);
		v->sessions[i].fixed_start |= is_cut;
	}
	else
	{
		event->fixed_start = is_cut;
		i = insert_session(s, v, event);
	}
	if (event->ends)
		end_session(s, batch, v, i, CS_SESSION_END_WHEN, event->first.time);
}

/* What ended before an event that is about to be decided is retired first, as it would have been then. */
static void
retire_before(CsSessions *s, CsBatchContext *batch, CsVisitor *v, TimestampTz line, TimestampTz t)
{
	for (int i = 0; i < v->n;)
	{
		if (cs_session_is_final(s, &v->sessions[i], Min(line, t - 1)) && !cs_session_touches(s, &v->sessions[i], t))
			retire_ended(s, batch, v, i, line);
		else
			i++;
	}
}

static void
decide_waiting(CsSessions *s, CsBatchContext *batch, CsVisitor *v, TimestampTz line)
{
	int decided = 0;

	if (!CS_MUTANT(UNSORTED_APPLY))
		qsort(v->waiting, v->nwaiting, sizeof(CsSession), place_order);
	while (decided < v->nwaiting)
	{
		CsSession  *event = &v->waiting[decided];
		TimestampTz t = event->first.time;

		if (!v->is_copy)
		{
			if (t > line && t > undisputed(s, v, line))
				break;
			retire_before(s, batch, v, line, t);
		}
		decide(s, batch, v, event);
		decided++;
	}
	memmove(v->waiting, v->waiting + decided, (v->nwaiting - decided) * sizeof(CsSession));
	v->nwaiting -= decided;
	v->waiting_min = v->nwaiting > 0 ? v->waiting[0].first.time : CS_WM_DONE;
}

/* Those the line has passed, unless an event waits that may belong to them; true if there were any. */
static bool
retire_passed(CsSessions *s, CsBatchContext *batch, CsVisitor *v, TimestampTz line)
{
	int before = v->n;

	for (int i = 0; i < v->n;)
	{
		if (cs_session_is_final(s, &v->sessions[i], line) && !cs_session_is_awaited(s, v, &v->sessions[i]))
			retire_ended(s, batch, v, i, line);
		else
			i++;
	}
	return v->n < before;
}

/*
 * All that the line decides.  A session that is gone holds no decision back any
 * more, so it goes on until nothing is left to do: what a second call would do
 * must not depend on whether there was one, at the end of a batch.
 */
void
cs_session_settle(CsSessions *s, CsBatchContext *batch, CsVisitor *v, TimestampTz line)
{
	do
	{
		if (v->nwaiting > 0 && v->waiting_min <= Max(line, undisputed(s, v, line)))
			decide_waiting(s, batch, v, line);
	} while (retire_passed(s, batch, v, line) && v->nwaiting > 0);
}

static void
copy_sessions(CsSessions *s, CsSession **to, int *n, int *capacity, const CsSession *from, int nfrom)
{
	for (int i = 0; i < nfrom; i++)
	{
		CsSession *session = cs_session_slot(to, n, capacity);

		*session = from[i];
		session->states = cs_session_states(s);
		cs_measures_copy(s->ms, session->states, from[i].states);
	}
}

CsVisitor *
cs_session_decided_copy(CsSessions *s, CsState *state, const CsVisitor *v)
{
	CsVisitor	  *copy = palloc0(sizeof(CsVisitor));
	CsBatchContext batch = {.state = state};

	copy->name = v->name;
	copy->is_copy = true;
	copy_sessions(s, &copy->sessions, &copy->n, &copy->capacity, v->sessions, v->n);
	copy_sessions(s, &copy->waiting, &copy->nwaiting, &copy->waiting_capacity, v->waiting, v->nwaiting);
	decide_waiting(s, &batch, copy, CS_WM_DONE);
	return copy;
}

/* ---- events ---- */

static void
wait_for_decision(CsSessions *s, CsVisitor *v, const CsEvent *event, const CsSessionInput *in)
{
	CsSession *slot = cs_session_slot(&v->waiting, &v->nwaiting, &v->waiting_capacity);

	slot->first = slot->last = event->place;
	slot->split = in->split;
	slot->ends = in->ends;
	slot->states = cs_session_states(s);
	cs_measures_add(s->ms, slot->states, in->inputs, &event->place);
	v->waiting_min = Min(v->waiting_min, event->place.time);
	watch(s, v, event->place.time, +1);
}

/* Merge an event about which nothing is open; false if it is late. */
static bool
add_at_once(CsSessions *s, CsBatchContext *batch, CsVisitor *v, const CsEvent *event, const CsInput *inputs,
			TimestampTz line)
{
	CsSession fresh = {.first = event->place, .last = event->place};
	int		  i;

	if (CS_MUTANT(LATE_BY_EVENT) && cs_session_is_final(s, &fresh, line))
		return false;
	fresh.fixed_start = cut(s, batch, v, &fresh); /* behind the line it does not wait, but is no exception */
	i = find_session(s, batch->state, v, event->place.time);
	if (i >= 0)
	{
		cs_measures_add(s->ms, v->sessions[i].states, inputs, &event->place);
		widen(s, v, &v->sessions[i], &fresh);
		v->sessions[i].fixed_start |= fresh.fixed_start;
		return true;
	}
	if (cs_session_is_final(s, &fresh, line) || before_cut(s, v, event->place.time))
		return false;
	fresh.states = cs_session_states(s);
	cs_measures_add(s->ms, fresh.states, inputs, &event->place);
	insert_session(s, v, &fresh);
	return true;
}

bool
cs_session_add(CsSessions *s, CsBatchContext *batch, CsVisitor *v, const CsEvent *event, const CsSessionInput *in)
{
	TimestampTz t = event->place.time;
	TimestampTz line = cs_session_line(s, event->watermark);

	cs_session_settle(s, batch, v, line);
	/* Equal keys may look different (1.0, 1.00): an entry of which nothing is left is a new one, whether or not a batch has ended. */
	if (v->n == 0 && v->nwaiting == 0)
		v->name = datumCopy(in->name, s->key.typbyval, s->key.typlen);
	if (line != CS_WM_NONE && t <= line)
		return !s->in_order && add_at_once(s, batch, v, event, in->inputs, line);
	if (t <= undisputed(s, v, line))
		return add_at_once(s, batch, v, event, in->inputs, line);
	wait_for_decision(s, v, event, in);
	return true;
}
