/*
 * operator/funnel.c
 *	  Funnels: a key's events, as they meet steps, become attempts.
 *
 * An entry is one key's funnel (operator/funnel_entry.h).  An event waits until
 * the watermark has reached its time; then everything that stands before it is
 * there too, so waiting events are applied in place order, in groups of equal
 * time, and no group is ever split by arrival.  An event whose time the
 * watermark had reached before it arrived is late.
 *
 * With allowed_lateness the line that this is about is the watermark less the
 * allowed lateness: events wait so much longer, and attempts end for good by that line.
 * What the attempts look like as of the watermark is shown from a copy, which
 * is made anew whenever the watermark passes something, or a late event comes.
 *
 * Waiting events are appended as they come and sorted once, when some are
 * applied: a key with a million of them costs n log n.
 *
 * An attempt ends by conversion, when wm or the key's next event is later than
 * what could still extend its latest chain ('expired'), when no chain is left
 * ('broken', mode strict), when an exclusion spoils it ('excluded'), when it
 * would become longer than max_length, or by finish().  Nobody's chain lasts longer
 * than `within`, so max_length only ever cuts keys that begin anew all the
 * time, and those must be cut for their row to appear at all.  Which of 'expired' and 'max_length' it
 * is follows from the attempt's own times, not from what noticed the end.
 *
 * How many open attempts start when is kept beside the state, for rollups
 * (operator/open_starts.h).
 *
 * No locking: all of it belongs to the process that runs the stream.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "operator/funnel_entry.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

StaticAssertDecl(CS_MAX_STEPS <= CS_FUNNEL_MAX_STEPS, "steps of a definition must fit a mask");

/* Everything up to here is applied for good when the watermark stands at wm. */
static inline TimestampTz
settled_line(const CsFunnelOperator *op, TimestampTz wm)
{
	if (wm == CS_WM_NONE || wm == CS_WM_DONE)
		return wm;
	return wm - op->base.def->lateness;
}

/* ---- what rollups ask ---- */

/*
 * A bucket whose last millisecond has not settled may get an attempt yet.
 * Times finer than that: an event that waits behind the line may lie in it.
 */
static bool
funnel_open_starts_in(CsOperator *base, TimestampTz start, TimestampTz end)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;
	TimestampTz		  line = settled_line(op, op->settled);

	if (line < end - CS_USECS_PER_MSEC)
		return true;
	if (line < end - 1 && op->state && cs_state_next_due(op->state, base->def->definition_id, line) < end)
		return true;
	return cs_open_starts_in(op->starts, start, end);
}

static TimestampTz
funnel_open_starts_first(CsOperator *op)
{
	return cs_open_starts_first(((CsFunnelOperator *) op)->starts);
}

static void
funnel_end_batch(CsOperator *base, bool committed)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;

	cs_open_starts_end_batch(op->starts, committed);
	if (committed && op->looked_ahead)
	{
		CsFunnelLaters old = op->laters;

		op->laters = op->laters_next;
		op->laters_next = old;
	}
	op->laters_next.n = 0;
	op->looked_ahead = false;
	if (!committed)
		op->stale.n = op->stale_committed;
	else if (op->stale_shown > 0)
	{
		op->stale.n -= op->stale_shown;
		memmove(op->stale.items, op->stale.items + op->stale_shown, sizeof(CsFunnelLater) * op->stale.n);
	}
	op->stale_committed = op->stale.n;
	op->stale_shown = 0;
	base->stale = op->stale.n > 0;
	if (committed)
	{
		op->emit_before = base->emit_at;
		op->pass_before = op->pass_left;
	}
	else
	{
		base->emit_at = op->emit_before;
		op->pass_left = op->pass_before;
	}
}

/* When the watermark has something to settle here: an event that waits, or an attempt's end. */
static TimestampTz
settling_due(const CsFunnelOperator *op, const CsFunnelWork *w)
{
	TimestampTz due = w->nwaiting > 0 ? w->earliest : CS_WM_DONE;

	due = Min(due, cs_funnel_next_end(op, &w->open));
	return due == CS_WM_DONE ? due : cs_funnel_later(due, op->base.def->lateness);
}

/* ---- committed entries, after recovery ---- */

static void
work_free(CsFunnelWork *w)
{
	if (w->waiting)
		pfree(w->waiting);
	pfree(w);
}

static TimestampTz
funnel_due_of(void *arg, const CsEntry *entry)
{
	const CsFunnelOperator *op = arg;
	CsFunnelWork		   *w = cs_funnel_work_decode(op, entry);
	TimestampTz				due = settling_due(op, w);

	/* something may have to be shown before: looking too early does no harm */
	if (op->revises)
		due = Min(Min(due, w->earliest), cs_funnel_next_end(op, &w->open));
	work_free(w);
	return due;
}

static void
count_recovered(CsEntry *entry, void *arg)
{
	CsFunnelOperator *op = arg;
	CsFunnelWork	 *w = cs_funnel_work_decode(op, entry);

	for (int i = 0; i < w->open.n; i++)
		cs_open_starts_load(op->starts, w->open.slots[i].funnel->started);
	if (w->is_stale)
		cs_funnel_laters_add(op, &op->stale, CS_WM_NONE, entry->key.who);
	work_free(w);
}

static void
funnel_recovered(CsOperator *base, CsState *state)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;

	cs_open_starts_clear(op->starts);
	op->stale.n = 0;
	cs_state_walk(state, base->def->definition_id, count_recovered, op);
	op->stale_committed = op->stale.n;
	op->pass_left = op->pass_before = 0;
	base->stale = op->stale.n > 0;
	op->wm = op->settled = base->closed;
}

static void
funnel_check(CsOperator *base, CsState *state, const CsEntry *entry)
{
	(void) state;
	(void) cs_funnel_work_decode((CsFunnelOperator *) base, entry);
}

static void
funnel_show(CsOperator *base, CsState *state, const CsEntry *entry, CsShowRow row, void *arg)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;

	(void) state;
	cs_funnel_show_open(op, cs_funnel_work_decode(op, entry), row, arg);
}

/* ---- the watermark moves ---- */

typedef struct Settling
{
	CsBatchContext *batch;
	CsFunnelWork   *w;
} Settling;

static void
count_opened(CsFunnelWalk *walk, const CsFunnelSlot *slot)
{
	cs_open_starts_change(walk->op->starts, slot->funnel->started, 1);
}

static void
write_ended(CsFunnelWalk *walk, const CsFunnelSlot *slot, CsFunnelReason reason)
{
	Settling *s = walk->arg;

	cs_funnel_emit_final(walk->op, s->batch, s->w, slot, reason);
	cs_open_starts_change(walk->op->starts, slot->funnel->started, -1);
}

/* Apply for good what lies before the line. */
static void
settle_events(CsFunnelWalk *walk, CsFunnelWork *w, TimestampTz line)
{
	int64 done;

	if (w->earliest > line)
		return;
	cs_funnel_sort(w);
	done = cs_funnel_walk_events(walk, w, 0, line);
	w->nwaiting -= done;
	if (w->nwaiting > 0)
		memmove(w->waiting, w->waiting + done, w->nwaiting * sizeof(CsFunnelWaiting));
	w->earliest = CS_WM_DONE;
	for (int64 i = 0; i < w->nwaiting; i++)
		w->earliest = Min(w->earliest, w->waiting[i].place.time);
}

/* Show the rows of a key that may still change; returns when they may be different. */
static TimestampTz
show(CsFunnelOperator *op, CsBatchContext *batch, CsWork *work, CsFunnelLook *look)
{
	CsFunnelWork *w = work->work;
	bool		  was_stale = w->is_stale;
	TimestampTz	  next = cs_funnel_show_rows(op, batch, w, look);

	if (w->keeps)
		cs_work_keep(work);
	op->rewrote |= look->rewrote;
	if (w->is_stale && !was_stale)
		cs_funnel_laters_add(op, &op->stale, CS_WM_NONE, work->key.who);
	return next;
}

/* Bring one key's funnel to the watermark. */
static void
settle(CsFunnelOperator *op, CsBatchContext *batch, CsWork *work, bool rewrite, bool finish)
{
	CsFunnelWork *w = cs_funnel_work_of(op, batch, work, NULL, 0);
	Settling	  s = {batch, w};
	CsFunnelWalk  walk = {.op = op, .open = &w->open, .opened = count_opened, .ended = write_ended, .arg = &s};
	TimestampTz	  line = settled_line(op, op->wm);
	MemoryContext old = MemoryContextSwitchTo(batch->batch);

	settle_events(&walk, w, line);
	cs_funnel_walk_end(&walk, line, finish);
	MemoryContextSwitchTo(old);
	work->due = settling_due(op, w);
	if (w->keeps)
		cs_work_keep(work);
	if (op->revises || w->nshown > 0)
	{
		CsFunnelLook look = {.wm = op->wm, .as_of = CS_WM_NONE, .rewrite = rewrite};

		work->due = Min(work->due, show(op, batch, work, &look));
	}
	if (w->open.n > 0 || w->nwaiting > 0)
		cs_work_dirty(batch->state, work);
	else if (!work->deleted)
		cs_work_delete(batch->state, work);
}

/*
 * Rows that lag behind since their rewriting was put off, of max keys; what
 * changes before the pass is through waits for the next one.
 */
static void
show_stale(CsFunnelOperator *op, CsBatchContext *batch, int max)
{
	int n;

	if (op->pass_left == 0)
		op->pass_left = op->stale.n;
	n = Min(op->pass_left, max);
	for (int i = 0; i < n; i++)
	{
		CsKey		 key = {.def = (uint32) op->base.def->definition_id, .who = op->stale.items[i].who};
		CsEntry		*entry = cs_state_peek(batch->state, &key);
		CsFunnelLook look = {.wm = op->wm, .as_of = CS_WM_NONE, .rewrite = true};
		CsWork		*work;

		work = entry ? cs_state_open(batch->state, entry) : NULL;
		if (work == NULL || work->deleted)
			continue;
		if (work->due <= op->wm)
		{
			/* another part of this closing settles it; shown now, it would be 'expired', and remain so when finish() ends it */
			cs_funnel_laters_add(op, &op->stale, CS_WM_NONE, key.who);
			continue;
		}
		(void) cs_funnel_work_of(op, batch, work, NULL, 0);
		(void) show(op, batch, work, &look);
		cs_work_dirty(batch->state, work);
	}
	op->stale_shown = n;
	op->pass_left -= n;
}

static bool
funnel_advance(CsOperator *base, CsBatchContext *batch, TimestampTz wm, int max, bool closed_by_finish)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;
	bool			  changes = base->def->emit == CS_EMIT_CHANGES;
	bool			  rewrite = !batch->catching_up && (base->emit_at == CS_WM_DONE || batch->now >= base->emit_at);
	bool			  goes_on = op->pass_left > 0;
	int				  n;
	bool			  more;
	CsWork			**works = cs_state_due(batch->state, base->def->definition_id, wm, max, &n, &more);

	op->wm = wm;
	op->settled = more ? base->closed : wm;
	op->state = batch->state;
	op->rewrote = false;
	for (int i = 0; i < n; i++)
		settle(op, batch, works[i], rewrite && !goes_on, closed_by_finish);
	if (changes && rewrite)
	{
		show_stale(op, batch, max);
		if (op->pass_left > 0)
			base->emit_at = batch->now; /* the rest follows at once */
		else
			base->emit_at = op->rewrote || goes_on ? batch->now + base->def->emit_interval : CS_WM_DONE;
	}
	if (changes)
		base->stale = op->stale_shown < op->stale.n;
	return !more;
}

/* ---- a silent topic ---- */

/* Has the silence been looked at before?  Then what was found out for later moments holds. */
static inline bool
goes_on(const CsFunnelOperator *op, TimestampTz after)
{
	return after > op->wm;
}

static TimestampTz
funnel_preview_due(CsOperator *base, CsState *state, TimestampTz after)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;
	TimestampTz		  due = cs_state_next_due(state, base->def->definition_id, after);

	for (int i = 0; i < op->laters.n && goes_on(op, after); i++)
		if (op->laters.items[i].moment > after)
			due = Min(due, op->laters.items[i].moment);
	return due;
}

static void
preview_work(CsFunnelOperator *op, CsBatchContext *batch, CsWork *work, TimestampTz as_of)
{
	CsFunnelLook look = {.wm = op->wm, .as_of = as_of, .rewrite = true};
	TimestampTz	 next;

	(void) cs_funnel_work_of(op, batch, work, NULL, 0);
	next = show(op, batch, work, &look);
	if (look.changed)
		cs_work_dirty(batch->state, work);
	if (next != CS_WM_DONE)
		cs_funnel_laters_add(op, &op->laters_next, next, work->key.who);
}

static TimestampTz
funnel_preview(CsOperator *base, CsBatchContext *batch, TimestampTz after, TimestampTz as_of, int max)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;
	TimestampTz		  upto;
	int				  n;
	CsWork			**works = cs_state_preview(batch->state, base->def->definition_id, after, as_of, max, &n, &upto);

	op->looked_ahead = true;
	op->laters_next.n = 0;
	for (int i = 0; i < n; i++)
		preview_work(op, batch, works[i], upto);
	for (int i = 0; i < op->laters.n && goes_on(op, after); i++)
	{
		CsFunnelLater *later = &op->laters.items[i];
		CsKey		   key = {.def = (uint32) base->def->definition_id, .who = later->who};
		CsEntry		  *entry = cs_state_peek(batch->state, &key);

		if (later->moment > upto)
			cs_funnel_laters_add(op, &op->laters_next, later->moment, later->who);
		else if (entry)
			preview_work(op, batch, cs_state_open(batch->state, entry), upto);
	}
	return upto;
}

/* ---- events ---- */

static void
funnel_begin_chunk(CsOperator *base, CsBatchContext *batch, int n)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;

	(void) batch;
	if (n > op->chunk_capacity)
	{
		if (op->chunk)
			pfree(op->chunk);
		op->chunk = NULL;
		op->chunk_capacity = 0;
		op->chunk = MemoryContextAllocHuge(op->context, sizeof(CsFunnelInput) * n);
		op->chunk_capacity = n;
	}
	memset(op->chunk, 0, sizeof(CsFunnelInput) * n);
}

/* The values of the breakdown; in the current context. */
static CsFunnelGroup *
evaluate_group(CsFunnelOperator *op, ExprContext *econtext)
{
	StringInfoData buf;
	CsFunnelGroup *group;
	CsHash128	   hash = {0};

	initStringInfo(&buf);
	for (int i = 0; i < op->ngroups; i++)
	{
		bool  isnull;
		Datum value = cs_expr_eval(&op->groups[i], econtext, &isnull);

		hash = cs_hash_combine(hash, cs_hash_value(&op->hashers[i], value, isnull));
		cs_put_datum(&buf, value, isnull, op->groups[i].stored, op->groups[i].typbyval);
	}
	group = palloc(offsetof(CsFunnelGroup, bytes) + buf.len);
	group->hash = hash;
	group->len = buf.len;
	memcpy(group->bytes, buf.data, buf.len);
	return group;
}

static CsFunnelEvent
evaluate_conditions(CsFunnelOperator *op, ExprContext *econtext)
{
	CsFunnelEvent meets = {0};

	for (int k = 0; k < op->rule.nsteps; k++)
		if (cs_expr_true(&op->steps[k], econtext))
			meets.steps |= (uint32) 1 << k;
	for (int k = 0; k < op->nexclusions; k++)
		if (cs_expr_true(&op->exclusions[k], econtext))
			meets.taints |= op->taints[k];
	return meets;
}

static void
funnel_evaluate(CsOperator *base, CsBatchContext *batch, const CsEvent *event, int i)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;
	CsFunnelInput	 *e = &op->chunk[i];
	CsFunnelEvent	  meets;
	MemoryContext	  old;
	Datum			  key;
	bool			  isnull;
	text			 *t;
	char			 *copy;

	(void) event;
	if (op->has_filter && !cs_expr_true(&op->filter, batch->econtext))
		return;
	key = cs_expr_eval(&op->key, batch->econtext, &isnull);
	if (isnull)
	{
		base->null_visitors++;
		return;
	}
	meets = evaluate_conditions(op, batch->econtext);
	/* strict: whatever else there is breaks a chain */
	if (meets.steps == 0 && meets.taints == 0 && op->rule.mode != CS_FUNNEL_STRICT)
		return;

	old = MemoryContextSwitchTo(batch->chunk);
	t = DatumGetTextPP(key);
	e->key_len = VARSIZE_ANY_EXHDR(t);
	copy = palloc(e->key_len + 1);
	memcpy(copy, VARDATA_ANY(t), e->key_len);
	e->key = copy;
	e->hash = cs_hash_bytes(e->key, e->key_len);
	e->meets = meets;
	if (op->ngroups > 0 && (op->rule.mode == CS_FUNNEL_UNORDERED ? meets.steps != 0 : (meets.steps & 1) != 0))
		e->group = evaluate_group(op, batch->econtext);
	e->take = true;
	MemoryContextSwitchTo(old);
}

static void
funnel_reject(CsOperator *base, int i)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;

	memset(&op->chunk[i], 0, sizeof(CsFunnelInput));
}

static void
grow_waiting(CsBatchContext *batch, CsFunnelWork *w)
{
	int64 capacity = Max(w->capacity * 2, 4);

	w->waiting = w->waiting ? repalloc_huge(w->waiting, capacity * sizeof(CsFunnelWaiting))
							: MemoryContextAlloc(batch->batch, capacity * sizeof(CsFunnelWaiting));
	w->capacity = capacity;
}

/* Let an event wait in its key's entry. */
static void
add_waiting(CsFunnelOperator *op, CsBatchContext *batch, const CsFunnelInput *e, const CsEvent *event)
{
	CsKey				 key = {.def = (uint32) op->base.def->definition_id, .who = e->hash};
	CsWork				*work = cs_state_get(batch->state, &key);
	CsFunnelWork		*w = cs_funnel_work_of(op, batch, work, e->key, e->key_len);
	const CsFunnelGroup *group = NULL;
	TimestampTz			 due;

	if (w->nwaiting == w->capacity)
		grow_waiting(batch, w);
	if (e->group)
	{
		MemoryContext old = MemoryContextSwitchTo(batch->batch);

		group = cs_funnel_group_copy(e->group);
		MemoryContextSwitchTo(old);
	}
	w->waiting[w->nwaiting++] = (CsFunnelWaiting){event->place, e->meets, group};
	w->earliest = Min(w->earliest, event->place.time);
	due = settling_due(op, w);
	if (op->revises)
		due = Min(Min(due, work->due), event->place.time); /* as of then something is to be shown */
	work->due = due;
	cs_work_dirty(batch->state, work); /* revives one deleted by this batch */
}

static bool
funnel_key_of(CsOperator *base, int i, CsHash128 *key)
{
	const CsFunnelInput *e = &((CsFunnelOperator *) base)->chunk[i];

	*key = e->hash;
	return e->take;
}

/* Have what is spilled of the chunk's keys read together. */
static void
fetch_spilled(CsFunnelOperator *op, CsState *state, const CsEvent *events, int n)
{
	CsKey key = {.def = (uint32) op->base.def->definition_id};

	if (!cs_state_has_spilled(state, op->base.def->definition_id))
		return;
	for (int i = 0; i < n; i++)
	{
		key.who = op->chunk[i].hash;
		if (!events[i].skip && op->chunk[i].take)
			cs_state_want(state, &key);
	}
	cs_state_fetch_wanted(state);
}

/* Announce event i + ahead to the state; see cs_state_prefetch_slot(). */
static inline void
prefetch(CsFunnelOperator *op, CsState *state, int i, int n, int ahead, void (*announce)(CsState *, const CsKey *))
{
	CsKey key = {.def = (uint32) op->base.def->definition_id};

	if (i + ahead < n && op->chunk[i + ahead].take)
	{
		key.who = op->chunk[i + ahead].hash;
		announce(state, &key);
	}
}

static void
funnel_apply(CsOperator *base, CsBatchContext *batch, CsEvent *events, int n)
{
	CsFunnelOperator *op = (CsFunnelOperator *) base;

	fetch_spilled(op, batch->state, events, n);
	for (int i = 0; i < n; i++)
	{
		const CsFunnelInput *e = &op->chunk[i];
		CsEvent				*event = &events[i];
		TimestampTz			 line;

		prefetch(op, batch->state, i, n, CS_PREFETCH_SLOT, cs_state_prefetch_slot);
		prefetch(op, batch->state, i, n, CS_PREFETCH_ENTRY, cs_state_prefetch_entry);
		if (event->skip)
			continue;
		if (!e->take)
			continue;
		line = settled_line(op, event->watermark);
		if (event->place.time <= line)
		{
			cs_event_mark(event, CS_CLASS_LATE);
			batch->emitter->late(batch->emitter, base, event, cs_lateness(line, event->place.time));
			continue;
		}
		add_waiting(op, batch, e, event);
		cs_event_mark(event, CS_CLASS_USED);
	}
}

/* ---- compilation ---- */

/* The view's columns: key, steps, exclusions, breakdown; its WHERE is the filter. */
static void
compile_target(CsFunnelOperator *op, const CsDefinition *def, const TargetEntry *target, int n)
{
	int step = n - 1;
	int exclusion = step - def->nsteps;
	int group = exclusion - def->nexclusions;

	if (n == 0)
		cs_expr_init(&op->key, target->expr);
	else if (exclusion < 0)
		cs_expr_init(&op->steps[step], target->expr);
	else if (group < 0)
		cs_expr_init(&op->exclusions[exclusion], target->expr);
	else
	{
		cs_expr_init(&op->groups[group], target->expr);
		cs_hasher_init(&op->hashers[group], op->groups[group].type, op->groups[group].collation,
					   psprintf("breakdown \"%s\"", target->resname));
	}
}

static Node *
condition_of(const Query *query, int n)
{
	return (Node *) list_nth_node(TargetEntry, query->targetList, n)->expr;
}

/* Does each event that meets the one meet the other, as far as PostgreSQL can prove? */
static bool
implies(const Query *query, int n, int other)
{
	List *clauses = make_ands_implicit((Expr *) eval_const_expressions(NULL, copyObject(condition_of(query, n))));
	List *wanted = make_ands_implicit((Expr *) eval_const_expressions(NULL, copyObject(condition_of(query, other))));

	return equal(clauses, wanted) || predicate_implied_by(wanted, clauses, false);
}

/* Conditions that leave a step or an exclusion without any meaning. */
static void
check_conditions(const CsDefinition *def, const Query *query)
{
	for (int k = 0; k + 1 < def->nsteps; k++)
	{
		bool next_is_optional = (def->optional_steps & ((uint32) 1 << (k + 1))) != 0;

		if ((def->optional_steps & ((uint32) 1 << k)) != 0 && !next_is_optional && implies(query, 1 + k, 2 + k))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("optional step \"%s\" is the same as step \"%s\" behind it", def->steps[k],
								   def->steps[k + 1]),
							errdetail("Each event that could fill it fills the step behind it.")));
	}
	for (int i = 0; i < def->nexclusions; i++)
		for (int k = def->exclusions[i].from; k <= def->exclusions[i].to; k++)
			if (implies(query, k, 1 + def->nsteps + i))
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
								errmsg("exclusion %d is met by every event of step \"%s\"", i + 1, def->steps[k - 1]),
								errhint("An exclusion must be something else than the steps between which it holds.")));
}

/* Levels at which a chain is between two steps; optional steps before the first may have been left out. */
static uint32
taints_of(const CsDefinition *def, const CsExclusion *exclusion)
{
	uint32 levels = 0;
	int	   from = exclusion->from;

	while (from > 1 && (def->optional_steps & ((uint32) 1 << (from - 1))) != 0)
		from--;
	for (int level = from; level < exclusion->to; level++)
		levels |= (uint32) 1 << (level - 1);
	return levels;
}

static void
compile(CsFunnelOperator *op, const CsDefinition *def, int natts)
{
	Query	 *query = cs_definition_query(def->view);
	Node	 *quals = query->jointree->quals;
	int		  n = 0;
	ListCell *lc;

	op->nexclusions = def->nexclusions;
	op->ngroups = list_length(query->targetList) - 1 - def->nsteps - def->nexclusions;
	if (op->ngroups < 0)
		elog(ERROR, "view of funnel %s has %d columns for %d steps", def->name, list_length(query->targetList),
			 def->nsteps);
	op->groups = palloc0(sizeof(CsExpr) * Max(op->ngroups, 1));
	op->hashers = palloc0(sizeof(CsHasher) * Max(op->ngroups, 1));
	foreach(lc, query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, lc);

		compile_target(op, def, target, n++);
		cs_expr_columns((Node *) target->expr, op->base.needed, natts);
	}
	if (op->key.type != TEXTOID)
		elog(ERROR, "key of funnel %s is not text", def->name);
	for (int i = 0; i < def->nexclusions; i++)
		op->taints[i] = taints_of(def, &def->exclusions[i]);
	op->has_filter = quals != NULL;
	if (quals)
	{
		cs_expr_init(&op->filter, (Expr *) quals);
		cs_expr_columns(quals, op->base.needed, natts);
	}
	check_conditions(def, query);
	cs_funnel_columns(op, def, query);
}

static CsFunnelMode
rule_mode(const CsDefinition *def)
{
	switch (def->mode)
	{
		case CS_MODE_STRICT:
			return CS_FUNNEL_STRICT;
		case CS_MODE_UNORDERED:
			return CS_FUNNEL_UNORDERED;
		case CS_MODE_ORDERED:
			break;
	}
	return CS_FUNNEL_ORDERED;
}

static CsOperator *
funnel_create(const CsStream *stream, const CsDefinition *def, MemoryContext cxt)
{
	MemoryContext	  old = MemoryContextSwitchTo(cxt);
	CsFunnelOperator *op = palloc0(sizeof(CsFunnelOperator));
	int				  natts = stream->event_desc->natts;

	if (def->nsteps < 1 || def->nsteps > CS_MAX_STEPS || def->within < 0 || def->within > CS_WITHIN_MAX)
		elog(ERROR, "funnel %s is out of range", def->name);
	op->base.ops = &cs_funnel_ops;
	op->base.stream = stream;
	op->base.def = def;
	op->base.needed = palloc0(sizeof(bool) * natts);
	op->base.emit_at = op->emit_before = CS_WM_DONE;
	op->wm = op->settled = CS_WM_NONE;
	op->context = cxt;
	op->rule.nsteps = def->nsteps;
	op->rule.mode = rule_mode(def);
	op->rule.optional = def->optional_steps;
	op->rule.within = def->within - (def->within_exclusive ? 1 : 0); /* times are whole microseconds */
	op->rule.strict_increase = def->strict_increase;
	op->rule.max_length = def->max_length >= 0 ? def->max_length : CS_WITHIN_MAX;
	op->revises = def->lateness > 0 || def->emit == CS_EMIT_CHANGES;
	op->starts = cs_open_starts_create(cxt);
	compile(op, def, natts);
	MemoryContextSwitchTo(old);
	return &op->base;
}

const CsOperatorOps cs_funnel_ops = {
	.kind = CS_KIND_FUNNEL,
	.create = funnel_create,
	.begin_chunk = funnel_begin_chunk,
	.evaluate = funnel_evaluate,
	.reject = funnel_reject,
	.key_of = funnel_key_of,
	.apply = funnel_apply,
	.advance = funnel_advance,
	.preview = funnel_preview,
	.preview_due = funnel_preview_due,
	.end_batch = funnel_end_batch,
	.serialize = cs_funnel_serialize,
	.due_of = funnel_due_of,
	.recovered = funnel_recovered,
	.show = funnel_show,
	.check = funnel_check,
	.loss =
		"the open attempts of the key, and its events that waited; rows of them that are not final stay as they are",
	.open_starts_in = funnel_open_starts_in,
	.open_starts_first = funnel_open_starts_first,
};
