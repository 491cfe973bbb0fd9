/*
 * operator/session_show.c
 *	  Rows of sessions: which there are to be, and writing those that differ.
 *
 * A session that is retired gets its last row, is_final.  Other rows are in
 * the table only where they may still change: within allowed_lateness, of a
 * silent topic, or with emit => 'changes'.  The entry remembers those, each by
 * its session_id with a fingerprint of its values.  Whoever changes such an
 * entry, or the moment as of which rows are shown, has them compared: new and
 * changed rows are written, rows whose session_id is gone are deleted.
 *
 * What is compared is computed as if nothing more came: from the sessions
 * themselves, or where events wait, from a copy in which they are decided.  So
 * showing never moves the state.
 *
 * revision counts how often a row changed after it had said closed_reason:
 * its values, or whether it is closed.  Becoming final, or 'idle' becoming
 * what the watermark says, is no revision.  A row whose session was shown
 * under another session_id before goes on counting from there.
 */
#include "postgres.h"

#include "operator/session.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const reason_words[] = {NULL, "gap", "max_length", "split", "end_when", "idle", "finish"};

void
cs_session_values(CsSessions *s, const CsVisitor *v, CsSession *session, CsSessionReason reason, Datum *values,
				  bool *isnull)
{
	CsOperator *op = &s->op;
	int			c = 0;

	values[c++] = CStringGetTextDatum(cs_place_id(op->stream, &session->first));
	values[c++] = v->name;
	values[c++] = TimestampTzGetDatum(session->first.time);
	values[c++] = TimestampTzGetDatum(session->last.time + op->def->gap);
	cs_measures_result(s->ms, session->states, values + c, isnull + c);
	c += s->ms->noutputs;
	isnull[c] = reason == CS_SESSION_OPEN;
	values[c++] = reason == CS_SESSION_OPEN ? (Datum) 0 : CStringGetTextDatum(reason_words[reason]);
	values[c++] = BoolGetDatum(false);
	values[c++] = Int32GetDatum(0);
	Assert(c == op->ncolumns);
}

/* A row about to be written. */
typedef struct NewRow
{
	Datum *values;
	bool  *isnull;
	uint64 print;
} NewRow;

static NewRow
make_row(CsSessions *s, CsVisitor *v, CsSession *session, CsSessionReason reason)
{
	NewRow row = {palloc(s->op.ncolumns * sizeof(Datum)), palloc0(s->op.ncolumns * sizeof(bool)), 0};

	cs_session_values(s, v, session, reason, row.values, row.isnull);
	return row;
}

/* Fingerprint of everything but closed_reason, is_final and revision. */
static void
take_print(CsSessions *s, NewRow *row)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < s->op.ncolumns - 3; i++)
	{
		cs_put_u8(&buf, row->isnull[i]);
		cs_put_datum(&buf, row->values[i], row->isnull[i], s->typlen[i], s->typbyval[i]);
	}
	row->print = cs_hash_bytes(buf.data, (size_t) buf.len).lo;
	pfree(buf.data);
}

static void
write_row(CsSessions *s, CsBatchContext *batch, NewRow *row, CsRowAction action, bool is_final, int32 revision)
{
	row->values[s->op.ncolumns - 2] = BoolGetDatum(is_final);
	row->values[s->op.ncolumns - 1] = Int32GetDatum(revision);
	batch->emitter->row(batch->emitter, &s->op, action, row->values, row->isnull);
}

static void
delete_row(CsSessions *s, CsBatchContext *batch, const CsPlace *first)
{
	Datum *values = palloc0(s->op.ncolumns * sizeof(Datum));
	bool  *isnull = palloc(s->op.ncolumns * sizeof(bool));

	memset(isnull, true, s->op.ncolumns * sizeof(bool));
	values[0] = CStringGetTextDatum(cs_place_id(s->op.stream, first));
	isnull[0] = false;
	batch->emitter->row(batch->emitter, &s->op, CS_ROW_DELETE, values, isnull);
}

/* ---- what is shown ---- */

/* Rows are kept by place: the first of them that does not lie before it. */
static int
shown_position(const CsVisitor *v, const CsPlace *first)
{
	int low = 0;
	int high = v->nshown;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (cs_place_cmp(&v->shown[middle].first, first) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static CsShownRow *
find_shown(const CsVisitor *v, const CsPlace *first)
{
	int i = shown_position(v, first);

	return i < v->nshown && cs_place_cmp(&v->shown[i].first, first) == 0 ? &v->shown[i] : NULL;
}

CsShownRow *
cs_session_shown_slot(CsVisitor *v, const CsPlace *first)
{
	int i = shown_position(v, first);

	if (v->nshown == v->shown_capacity)
	{
		v->shown_capacity = v->shown_capacity ? v->shown_capacity * 2 : 2;
		v->shown = v->shown ? repalloc_huge(v->shown, v->shown_capacity * sizeof(CsShownRow))
							: palloc(v->shown_capacity * sizeof(CsShownRow));
	}
	memmove(&v->shown[i + 1], &v->shown[i], (v->nshown - i) * sizeof(CsShownRow));
	v->nshown++;
	memset(&v->shown[i], 0, sizeof(CsShownRow));
	v->shown[i].first = *first;
	return &v->shown[i];
}

static void
remove_shown(CsVisitor *v, CsShownRow *row)
{
	v->nshown--;
	memmove(row, row + 1, (v->shown + v->nshown - row) * sizeof(CsShownRow));
}

/* Count on from rows that were closed and are this session now, under another id. */
static void
inherit(const CsVisitor *v, const CsSession *session, CsShownRow *row)
{
	for (int i = shown_position(v, &session->first); i < v->nshown; i++)
	{
		const CsShownRow *other = &v->shown[i];

		if (cs_place_cmp(&other->first, &session->last) > 0)
			break;
		if (other == row || !other->was_closed)
			continue;
		row->was_closed = true;
		row->revision = Max(row->revision, other->revision + 1);
	}
}

static bool
is_revision(const CsShownRow *row, CsSessionReason reason, uint64 print)
{
	return row->was_closed && (print != row->print || (reason == CS_SESSION_OPEN) != (row->reason == CS_SESSION_OPEN));
}

/* ---- the last version ---- */

void
cs_session_retire_row(CsSessions *s, CsBatchContext *batch, CsVisitor *v, CsSession *session, CsSessionReason reason)
{
	CsShownRow	fresh = {.first = session->first};
	CsShownRow *shown = find_shown(v, &session->first);
	NewRow		row;

	/* What the watermark had closed before finish() was called stays closed by that. */
	if (shown && reason == CS_SESSION_FINISH && shown->reason != CS_SESSION_OPEN && shown->reason != CS_SESSION_IDLE)
		reason = shown->reason;
	row = make_row(s, v, session, reason);
	if (shown == NULL)
	{
		inherit(v, session, &fresh);
		write_row(s, batch, &row, CS_ROW_INSERT, true, fresh.revision);
		return;
	}
	take_print(s, &row);
	write_row(s, batch, &row, CS_ROW_UPSERT, true, shown->revision + is_revision(shown, reason, row.print));
	remove_shown(v, shown);
}

/* ---- comparing ---- */

typedef struct Comparison
{
	CsSessions	   *s;
	CsBatchContext *batch;
	CsVisitor	   *v;	  /* whose rows are shown */
	CsVisitor	   *rows; /* whose sessions are the rows: v, or a copy */
	const CsKey	   *key;
	bool			changed;
} Comparison;

static void
insert_shown(Comparison *c, CsSession *session, CsSessionReason reason)
{
	CsShownRow *shown = cs_session_shown_slot(c->v, &session->first);
	NewRow		row = make_row(c->s, c->rows, session, reason);

	take_print(c->s, &row);
	shown->found = true;
	inherit(c->v, session, shown);
	write_row(c->s, c->batch, &row, CS_ROW_INSERT, false, shown->revision);
	shown->reason = reason;
	shown->was_closed |= reason != CS_SESSION_OPEN;
	shown->print = row.print;
	c->v->keeps |= reason != CS_SESSION_OPEN;
	c->changed = true;
}

static void
compare_shown(Comparison *c, CsShownRow *shown, CsSession *session, CsSessionReason reason)
{
	CsSessions *s = c->s;
	bool		growing = reason == CS_SESSION_OPEN && shown->reason == CS_SESSION_OPEN;
	NewRow		row;

	shown->found = true;
	if (growing && !s->rewrites)
	{
		if (s->op.def->emit == CS_EMIT_CHANGES)
			cs_session_note_stale(s, c->key);
		return;
	}
	row = make_row(s, c->rows, session, reason);
	take_print(s, &row);
	/* What was shown as idle stays so until it goes on: nothing is taken back. */
	if (row.print == shown->print &&
		(reason == shown->reason || (reason == CS_SESSION_OPEN && shown->reason == CS_SESSION_IDLE)))
		return;
	shown->revision += is_revision(shown, reason, row.print);
	write_row(s, c->batch, &row, CS_ROW_UPSERT, false, shown->revision);
	shown->reason = reason;
	shown->was_closed |= reason != CS_SESSION_OPEN;
	shown->print = row.print;
	s->has_written |= growing;
	c->v->keeps |= !growing;
	c->changed = true;
}

static void
delete_vanished(Comparison *c)
{
	for (int i = 0; i < c->v->nshown;)
	{
		CsShownRow *shown = &c->v->shown[i];

		if (shown->found)
		{
			shown->found = false;
			i++;
			continue;
		}
		c->v->keeps |= shown->reason != CS_SESSION_OPEN;
		delete_row(c->s, c->batch, &shown->first);
		remove_shown(c->v, shown);
		c->changed = true;
	}
}

bool
cs_session_compare(CsSessions *s, CsBatchContext *batch, CsWork *work, TimestampTz wm, TimestampTz as_of,
				   TimestampTz *next)
{
	CsVisitor  *v = work->work;
	Comparison	c = {s, batch, v, v, &work->key, v->compare};
	TimestampTz show_due = CS_WM_DONE;

	*next = CS_WM_DONE;
	if (v->nwaiting > 0)
		c.rows = cs_session_decided_copy(s, batch->state, v);
	for (int i = 0; i < c.rows->n; i++)
	{
		CsSession	   *session = &c.rows->sessions[i];
		CsShownRow	   *shown = find_shown(v, &session->first);
		TimestampTz		at;
		CsSessionReason reason = cs_session_ending(s, c.rows, i, &at);

		if (at > wm)
		{
			reason = at <= as_of ? CS_SESSION_IDLE : CS_SESSION_OPEN;
			show_due = Min(show_due, at);
		}
		if (at > as_of)
			*next = Min(*next, at);
		if (shown)
			compare_shown(&c, shown, session, reason);
		else if (reason != CS_SESSION_OPEN || s->op.def->emit == CS_EMIT_CHANGES)
			insert_shown(&c, session, reason);
	}
	delete_vanished(&c);
	c.changed |= v->show_due != show_due && s->op.def->lateness > 0;
	v->show_due = show_due;
	v->compare = false;
	return c.changed;
}

/* ---- for readers ---- */

/* A session's row as it would be written now; false: it has been closed, though its row may still change. */
static bool
open_row(CsSessions *s, CsVisitor *v, CsVisitor *rows, CsSession *session, NewRow *row)
{
	const CsShownRow *shown = find_shown(v, &session->first);
	CsShownRow		  fresh = {.first = session->first};
	CsSessionReason	  reason = CS_SESSION_OPEN;
	int32			  revision;

	*row = make_row(s, rows, session, reason);
	if (shown == NULL)
	{
		inherit(v, session, &fresh);
		revision = fresh.revision;
	}
	else
	{
		take_print(s, row);
		if (row->print == shown->print && shown->reason != CS_SESSION_OPEN)
			reason = shown->reason;
		revision = shown->revision + is_revision(shown, reason, row->print);
	}
	if (reason == CS_SESSION_IDLE)
	{
		row->isnull[s->op.ncolumns - 3] = false;
		row->values[s->op.ncolumns - 3] = CStringGetTextDatum(reason_words[reason]);
	}
	row->values[s->op.ncolumns - 1] = Int32GetDatum(revision);
	return reason == CS_SESSION_OPEN || reason == CS_SESSION_IDLE;
}

void
cs_session_show(CsOperator *op, CsState *state, const CsEntry *entry, CsShowRow row, void *arg)
{
	CsSessions *s = (CsSessions *) op;
	CsVisitor  *v = cs_session_read(s, state, entry);
	CsVisitor  *rows = v->nwaiting > 0 ? cs_session_decided_copy(s, state, v) : v;

	for (int i = 0; i < rows->n; i++)
	{
		TimestampTz at;
		NewRow		values;

		(void) cs_session_ending(s, rows, i, &at);
		if (at <= op->closed || !open_row(s, v, rows, &rows->sessions[i], &values))
			continue;
		row(arg, &(CsOpenRow){values.values, values.isnull, at, v->nwaiting});
	}
}
