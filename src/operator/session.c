/*
 * operator/session.c
 *	  Sessions: events of a key that follow each other within a gap.
 *
 * An entry is a key's open sessions (one, now and then two) with their
 * measures, the events that wait for a decision, and the rows in the table
 * that may still change.  See session.h for the other files.
 *
 * A session is closed when wm >= last event + gap - 1 ms, and retired when
 * that has passed by allowed_lateness: its last row is written and it leaves
 * the state.  Between the two its row is shown, and late events change it.
 *
 * Ordinary sessions (no split_on or end_when, no allowed_lateness, shown when
 * closed) hold no events and remember no rows.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "core/local_day.h"
#include "lib/stringinfo.h"
#include "operator/session.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- compiling ---- */

static void
session_columns(CsSessions *s, const char *key_name)
{
	CsOperator *op = &s->op;

	cs_operator_column(op, "session_id", TEXTOID, -1, DEFAULT_COLLATION_OID, true);
	cs_operator_column(op, key_name, s->key.type, s->key.typmod, s->key.collation, false);
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
	s->typlen = palloc(op->ncolumns * sizeof(int16));
	s->typbyval = palloc(op->ncolumns * sizeof(bool));
	for (int i = 0; i < op->ncolumns; i++)
		get_typlenbyval(op->columns[i].type, &s->typlen[i], &s->typbyval[i]);
}

/* split_on and end_when: group columns of the view, by these names. */
static void
compile_options(CsSessions *s, const CsQueryParts *parts)
{
	ListCell *lc;

	foreach(lc, parts->groups)
	{
		TargetEntry *tle = lfirst_node(TargetEntry, lc);

		if (strcmp(tle->resname, CS_SESSION_SPLIT_COLUMN) == 0)
		{
			s->has_split = true;
			cs_expr_init(&s->split, tle->expr);
			cs_hasher_init(&s->split_hasher, s->split.type, s->split.collation, "split_on");
		}
		else
		{
			Assert(strcmp(tle->resname, CS_SESSION_END_COLUMN) == 0);
			s->has_end = true;
			cs_expr_init(&s->end, tle->expr);
		}
		cs_operator_needs(&s->op, (Node *) tle);
	}
	s->in_order = s->has_split || s->has_end;
	if (s->op.def->time_zone)
		s->zone = cs_time_zone(s->op.def->time_zone);
}

static void
compile_key(CsSessions *s, TargetEntry *key)
{
	cs_expr_init(&s->key, key->expr);
	cs_operator_needs(&s->op, (Node *) key);
	s->key_is_visitor = s->key.attno == cs_system_attno(s->op.stream, CS_SYS_VISITOR);
	if (!s->key_is_visitor)
		cs_hasher_init(&s->key_hasher, s->key.type, s->key.collation, "the key");
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
	s->op.emit_at = s->emit_before = CS_WM_DONE;
	s->ahead_of = CS_WM_NONE;
	cs_query_parts(def, &parts);
	key = linitial_node(TargetEntry, parts.query->targetList);
	compile_key(s, key);
	compile_options(s, &parts);
	cs_operator_needs(&s->op, (Node *) parts.filter);
	cs_operator_needs(&s->op, (Node *) parts.measures);
	if (parts.filter)
	{
		s->has_filter = true;
		cs_expr_init(&s->filter, parts.filter);
	}
	s->ms = cs_measures_compile(parts.measures, cs_system_attno(stream, CS_SYS_PLACE));
	s->op.measure_errors = &s->ms->errors;
	s->starts = cs_open_starts_create(cxt);
	session_columns(s, key->resname);
	cs_session_patch_init(s);
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

	s->inputs = palloc0(n * sizeof(CsSessionInput));
	for (int i = 0; i < n; i++)
		s->inputs[i].inputs = inputs + i * s->ms->n;
	MemoryContextSwitchTo(old);
}

/* What cuts sessions.  NULL is a value like any other: IS DISTINCT FROM. */
static void
evaluate_options(CsSessions *s, CsBatchContext *batch, CsSessionInput *in)
{
	if (s->has_split)
	{
		bool  isnull;
		Datum value = cs_expr_eval(&s->split, batch->econtext, &isnull);

		in->split = cs_hash_value(&s->split_hasher, value, isnull);
	}
	in->ends = s->has_end && cs_expr_true(&s->end, batch->econtext);
}

static void
evaluate_key(CsSessions *s, CsSessionInput *in, const CsEvent *event, Datum value)
{
	in->name = value;
	if (s->key_is_visitor)
	{
		in->key = event->visitor_hash;
		return;
	}
	if (s->key.typlen == -1)
		in->name = PointerGetDatum(cs_packed(value));
	in->key = cs_hash_value(&s->key_hasher, in->name, false);
}

static void
session_evaluate(CsOperator *op, CsBatchContext *batch, const CsEvent *event, int i)
{
	CsSessions	   *s = (CsSessions *) op;
	CsSessionInput *in = &s->inputs[i];
	bool			isnull;
	Datum			key;

	in->take = false;
	if (s->has_filter && !cs_expr_true(&s->filter, batch->econtext))
		return;
	key = cs_expr_eval(&s->key, batch->econtext, &isnull);
	if (isnull)
	{
		op->null_visitors++;
		return;
	}
	evaluate_key(s, in, event, key);
	if (s->in_order)
		evaluate_options(s, batch, in);
	cs_measures_evaluate(s->ms, batch, in->inputs);
	in->take = true;
}

static void
session_reject(CsOperator *op, int i)
{
	((CsSessions *) op)->inputs[i].take = false;
}

static bool
session_key_of(CsOperator *op, int i, CsHash128 *key)
{
	const CsSessionInput *in = &((CsSessions *) op)->inputs[i];

	*key = in->key;
	return in->take;
}

/* ---- applying ---- */

/* Its last chance was alone in a session. */
static void
late(CsSessions *s, CsBatchContext *batch, CsEvent *event)
{
	TimestampTz moment = cs_session_shift(event->place.time, s->in_order ? 0 : s->op.def->gap - CS_USECS_PER_MSEC);

	cs_event_mark(event, CS_CLASS_LATE);
	batch->emitter->late(batch->emitter, &s->op, event, cs_lateness(cs_session_line(s, event->watermark), moment));
}

static void
apply_event(CsSessions *s, CsBatchContext *batch, CsEvent *event, CsSessionInput *in)
{
	CsKey	   key = {.def = (uint32) s->op.def->definition_id, .who = in->key};
	CsWork	  *work = cs_state_get(batch->state, &key);
	CsVisitor *v;

	if (s->patches && work->work == NULL && work->base && cs_session_patch(s, batch, work, event, in))
	{
		cs_event_mark(event, CS_CLASS_USED);
		return;
	}
	v = cs_session_visitor(s, batch->state, work);
	if (cs_session_add(s, batch, v, event, in))
		cs_event_mark(event, CS_CLASS_USED);
	else
		late(s, batch, event);
	v->compare |= cs_session_must_compare(s, v);
	cs_session_update(s, batch->state, work);
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

/* Have what is spilled of the chunk's keys read together. */
static void
fetch_spilled(CsSessions *s, CsState *state, const CsEvent *events, int n)
{
	CsKey key = {.def = (uint32) s->op.def->definition_id};

	if (!cs_state_has_spilled(state, s->op.def->definition_id))
		return;
	for (int i = 0; i < n; i++)
	{
		key.who = s->inputs[i].key;
		if (!events[i].skip && s->inputs[i].take)
			cs_state_want(state, &key);
	}
	cs_state_fetch_wanted(state);
}

static void
session_apply(CsOperator *op, CsBatchContext *batch, CsEvent *events, int n)
{
	CsSessions	 *s = (CsSessions *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);

	s->ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	fetch_spilled(s, batch->state, events, n);
	for (int i = 0; i < n; i++)
	{
		prefetch(s, batch->state, i, n, CS_PREFETCH_SLOT, cs_state_prefetch_slot);
		prefetch(s, batch->state, i, n, CS_PREFETCH_ENTRY, cs_state_prefetch_entry);
		if (!events[i].skip && s->inputs[i].take)
			apply_event(s, batch, &events[i], &s->inputs[i]);
	}
	MemoryContextSwitchTo(old);
}

/* ---- the watermark has moved ---- */

static void
advance_entry(CsSessions *s, CsBatchContext *batch, CsWork *work, TimestampTz wm)
{
	CsVisitor  *v = cs_session_visitor(s, batch->state, work);
	TimestampTz next;

	cs_session_settle(s, batch, v, cs_session_line(s, wm));
	if (v->compare || s->op.def->lateness > 0 || cs_session_must_compare(s, v))
		(void) cs_session_compare(s, batch, work, wm, wm, &next);
	cs_session_update(s, batch->state, work);
}

static bool
session_advance(CsOperator *op, CsBatchContext *batch, TimestampTz wm, int max, bool finish)
{
	CsSessions	 *s = (CsSessions *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	int			  n;
	bool		  more;
	CsWork		**works = cs_state_due(batch->state, op->def->definition_id, wm, max, &n, &more);

	(void) finish; /* only that moves the watermark to +infinity */
	s->ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	cs_session_begin_rewrite(s, batch);
	for (int i = 0; i < n; i++)
		advance_entry(s, batch, works[i], wm);
	cs_session_rewrite(s, batch, wm, max);
	if (!more)
		op->closed = wm;
	MemoryContextSwitchTo(old);
	return !more;
}

static void
session_end_batch(CsOperator *op, bool committed)
{
	cs_session_end_rewrite((CsSessions *) op, committed);
	cs_open_starts_end_batch(((CsSessions *) op)->starts, committed);
}

static bool
session_open_starts_in(CsOperator *op, TimestampTz start, TimestampTz end)
{
	return cs_open_starts_in(((CsSessions *) op)->starts, start, end);
}

static TimestampTz
session_open_starts_first(CsOperator *op)
{
	return cs_open_starts_first(((CsSessions *) op)->starts);
}

const CsOperatorOps cs_session_ops = {
	.kind = CS_KIND_SESSION,
	.create = session_create,
	.begin_chunk = session_begin_chunk,
	.evaluate = session_evaluate,
	.reject = session_reject,
	.key_of = session_key_of,
	.apply = session_apply,
	.advance = session_advance,
	.preview = cs_session_preview,
	.preview_due = cs_session_preview_due,
	.end_batch = session_end_batch,
	.serialize = cs_session_serialize,
	.due_of = cs_session_due_of,
	.recovered = cs_session_recovered,
	.show = cs_session_show,
	.check = cs_session_check,
	.loss =
		"the open sessions of the key, and its events that waited; rows of them that are not final stay as they are",
	.open_starts_in = session_open_starts_in,
	.open_starts_first = session_open_starts_first,
};
