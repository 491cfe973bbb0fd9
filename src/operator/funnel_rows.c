/*
 * operator/funnel_rows.c
 *	  Attempts become rows.
 *
 * An attempt that has ended for good is written once, and forgotten.  Where
 * rows are shown before (emit 'changes', allowed_lateness, a silent topic) they
 * are computed on a copy of the key's attempts, with its waiting events, as of
 * the watermark, and of a silent topic as of later; compared with what the key
 * has shown, of which the entry remembers a hash; and written, changed or
 * deleted.  One way for all of them: what is shown follows from the entry and
 * the moment, not from how the entry came about.
 *
 * revision counts how often a row changed after it had said closed_reason: what
 * it says, or whether it is closed.  Becoming final, or 'idle' becoming what the
 * watermark says, is no revision.
 *
 * A row that was shown as 'idle' is not taken back when the topic speaks again:
 * it stays as it is until the watermark has passed something that changes it.
 *
 * No locking; memory: the batch's.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "operator/funnel_entry.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Columns before the breakdown's, between these and the steps' times, and after them. */
typedef enum FunnelColumn
{
	COLUMN_ATTEMPT_ID,
	COLUMN_KEY,
	COLUMN_GROUPS
} FunnelColumn;

typedef enum FunnelTail
{
	TAIL_DURATION,
	TAIL_IS_CONVERSION,
	TAIL_STARTED_AT,
	TAIL_CLOSED_REASON,
	TAIL_IS_FINAL,
	TAIL_REVISION,
	TAIL_COLUMNS
} FunnelTail;

static const char *const reason_words[] = {NULL,		 "conversion",	 "expired", "broken", "excluded",
										   "max_length", "max_attempts", "idle",	"finish"};

StaticAssertDecl(lengthof(reason_words) == CS_FUNNEL_REASONS, "each reason needs its word");

static inline int
level_column(const CsFunnelOperator *op)
{
	return COLUMN_GROUPS + op->ngroups;
}

void
cs_funnel_columns(CsFunnelOperator *op, const CsDefinition *def, Query *query)
{
	CsOperator *base = &op->base;
	int			n = 0;
	ListCell   *lc;

	cs_operator_column(base, "attempt_id", TEXTOID, -1, DEFAULT_COLLATION_OID, true);
	foreach(lc, query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, lc);
		int			 group = n - 1 - def->nsteps - op->nexclusions;

		if (n == 0)
			cs_operator_column(base, target->resname, TEXTOID, -1, DEFAULT_COLLATION_OID, false);
		if (group >= 0)
			cs_operator_column(base, target->resname, op->groups[group].type, op->groups[group].typmod,
							   op->groups[group].collation, false);
		n++;
	}
	cs_operator_column(base, "level", INT4OID, -1, InvalidOid, false);
	for (int i = 0; i < def->nsteps; i++)
		cs_operator_column(base, psprintf("%s_time", def->steps[i]), TIMESTAMPTZOID, -1, InvalidOid, false);
	cs_operator_column(base, "funnel_duration_seconds", INT8OID, -1, InvalidOid, false);
	cs_operator_column(base, "is_conversion", BOOLOID, -1, InvalidOid, false);
	cs_operator_column(base, "started_at", TIMESTAMPTZOID, -1, InvalidOid, false);
	cs_operator_column(base, "closed_reason", TEXTOID, -1, DEFAULT_COLLATION_OID, false);
	cs_operator_column(base, "is_final", BOOLOID, -1, InvalidOid, false);
	cs_operator_column(base, "revision", INT4OID, -1, InvalidOid, false);
}

/* ---- a row ---- */

/* What an exclusion has spoilt shows how far it came, but counts as nothing; unordered it begins anew. */
static int
steps_shown(const CsFunnelRule *rule, const CsFunnel *f)
{
	if (rule->mode == CS_FUNNEL_UNORDERED)
		return f->excluded ? 0 : rule->nsteps;
	return f->level;
}

static int64
duration_of(const CsFunnelRule *rule, const CsFunnel *f)
{
	int64 first = PG_INT64_MAX;
	int64 last = PG_INT64_MIN;

	for (int i = 0; i < steps_shown(rule, f); i++)
	{
		if (f->best[i] == CS_FUNNEL_SKIPPED)
			continue;
		first = Min(first, f->best[i]);
		last = Max(last, f->best[i]);
	}
	return last - first;
}

static void
fill_groups(const CsFunnelOperator *op, const CsFunnelGroup *group, Datum *values, bool *isnull)
{
	CsReader r = {0};

	if (group == NULL)
		return;
	r.pos = group->bytes;
	r.end = group->bytes + group->len;
	for (int i = 0; i < op->ngroups; i++)
		values[i] = cs_get_datum(&r, &isnull[i], op->groups[i].stored, op->groups[i].typbyval);
}

static void
fill_key(const CsFunnelOperator *op, const CsPlace *first, Datum *values, bool *isnull)
{
	memset(isnull, true, sizeof(bool) * op->base.ncolumns);
	values[COLUMN_ATTEMPT_ID] = CStringGetTextDatum(cs_place_id(op->base.stream, first));
	isnull[COLUMN_ATTEMPT_ID] = false;
}

void
cs_funnel_row(const CsFunnelOperator *op, const CsFunnelWork *w, const CsFunnelSlot *slot, CsFunnelReason reason,
			  bool is_final, int32 revision, Datum *values, bool *isnull)
{
	const CsFunnel *f = slot->funnel;
	int				nsteps = op->rule.nsteps;
	int				level = level_column(op);
	Datum		   *tail = values + level + 1 + nsteps;
	bool		   *tail_null = isnull + level + 1 + nsteps;
	bool			converted = cs_funnel_is_conversion(&op->rule, f);

	fill_key(op, &slot->first, values, isnull);
	memset(isnull, false, sizeof(bool) * op->base.ncolumns);
	values[COLUMN_KEY] = PointerGetDatum(cstring_to_text_with_len(w->key, (int) w->key_len));
	fill_groups(op, slot->group, values + COLUMN_GROUPS, isnull + COLUMN_GROUPS);
	values[level] = Int32GetDatum(f->excluded ? 0 : f->level);
	for (int i = 0; i < nsteps; i++)
	{
		bool has_time = i < steps_shown(&op->rule, f) && f->best[i] != CS_FUNNEL_SKIPPED;

		isnull[level + 1 + i] = !has_time;
		values[level + 1 + i] = has_time ? TimestampTzGetDatum(f->best[i]) : (Datum) 0;
	}
	tail_null[TAIL_DURATION] = !converted;
	tail[TAIL_DURATION] = converted ? Int64GetDatum(duration_of(&op->rule, f) / USECS_PER_SEC) : (Datum) 0;
	tail[TAIL_IS_CONVERSION] = BoolGetDatum(converted);
	tail[TAIL_STARTED_AT] = TimestampTzGetDatum(f->started);
	tail_null[TAIL_CLOSED_REASON] = reason == CS_FUNNEL_OPEN;
	tail[TAIL_CLOSED_REASON] = reason != CS_FUNNEL_OPEN ? CStringGetTextDatum(reason_words[reason]) : (Datum) 0;
	tail[TAIL_IS_FINAL] = BoolGetDatum(is_final);
	tail[TAIL_REVISION] = Int32GetDatum(revision);
}

/* What the row says, as a hash. */
static uint64
content_of(const CsFunnelOperator *op, const CsFunnelSlot *slot)
{
	const CsFunnel *f = slot->funnel;
	StringInfoData	buf;
	CsHash128		hash;

	initStringInfo(&buf);
	cs_put_uint(&buf, f->level);
	cs_put_u8(&buf, f->excluded ? 1 : 0);
	appendBinaryStringInfo(&buf, (const char *) f->best, sizeof(int64) * steps_shown(&op->rule, f));
	hash = cs_hash_bytes(buf.data, buf.len);
	pfree(buf.data);
	return hash.lo;
}

static CsFunnelShown *
find_shown(CsFunnelWork *w, const CsPlace *first)
{
	int low = 0;
	int high = w->nshown;

	while (low < high)
	{
		int middle = low + (high - low) / 2;
		int cmp = cs_place_cmp(&w->shown[middle].first, first);

		if (cmp == 0)
			return w->shown[middle].is_gone ? NULL : &w->shown[middle];
		if (cmp < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static void
write_row(CsFunnelOperator *op, CsBatchContext *batch, CsFunnelWork *w, const CsFunnelSlot *slot, CsFunnelReason reason,
		  bool is_final, int32 revision, CsRowAction action)
{
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	Datum		 *values = palloc(sizeof(Datum) * op->base.ncolumns);
	bool		 *isnull = palloc(sizeof(bool) * op->base.ncolumns);

	cs_funnel_row(op, w, slot, reason, is_final, revision, values, isnull);
	MemoryContextSwitchTo(old);
	w->keeps |= reason != CS_FUNNEL_OPEN;
	batch->emitter->row(batch->emitter, &op->base, action, values, isnull);
}

static void
delete_row(CsFunnelOperator *op, CsBatchContext *batch, const CsPlace *first)
{
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	Datum		 *values = palloc0(sizeof(Datum) * op->base.ncolumns);
	bool		 *isnull = palloc(sizeof(bool) * op->base.ncolumns);

	fill_key(op, first, values, isnull);
	MemoryContextSwitchTo(old);
	batch->emitter->row(batch->emitter, &op->base, CS_ROW_DELETE, values, isnull);
}

static bool
is_revision(const CsFunnelShown *shown, CsFunnelReason reason, uint64 content)
{
	return shown->was_closed &&
		   (content != shown->content || (reason == CS_FUNNEL_OPEN) != (shown->reason == CS_FUNNEL_OPEN));
}

void
cs_funnel_emit_final(CsFunnelOperator *op, CsBatchContext *batch, CsFunnelWork *w, const CsFunnelSlot *slot,
					 CsFunnelReason reason)
{
	CsFunnelShown *shown = w->nshown > 0 ? find_shown(w, &slot->first) : NULL;

	if (shown == NULL)
	{
		write_row(op, batch, w, slot, reason, true, 0, CS_ROW_INSERT);
		return;
	}
	/* What the watermark had closed before finish() was called stays closed by that. */
	if (reason == CS_FUNNEL_FINISH && shown->reason != CS_FUNNEL_OPEN && shown->reason != CS_FUNNEL_IDLE)
		reason = shown->reason;
	write_row(op, batch, w, slot, reason, true, shown->revision + is_revision(shown, reason, content_of(op, slot)),
			  CS_ROW_UPSERT);
	shown->is_gone = true; /* cs_funnel_show_rows() takes it off the list */
}

/* ---- rows that may still change ---- */

/* A row that is to be there. */
typedef struct Wanted
{
	CsFunnelSlot   slot; /* with a funnel of its own */
	CsFunnelReason reason;
	uint64		   content;
	bool		   keep; /* as it is shown, whatever that is */
} Wanted;

typedef enum Phase
{
	AS_OF_WATERMARK, /* ends have their own reasons */
	SILENT,			 /* ends are 'idle' */
	AHEAD			 /* looks for attempts whose rows were shown as of later */
} Phase;

typedef struct Showing
{
	CsFunnelOperator *op;
	CsFunnelWork	 *w;
	Phase			  phase;
	int				  n, capacity;
	Wanted			 *wanted;
} Showing;

static void
slot_copy(const CsFunnelOperator *op, CsFunnelSlot *dst, const CsFunnelSlot *src)
{
	*dst = *src;
	dst->funnel = palloc(cs_funnel_size(&op->rule));
	cs_funnel_copy(&op->rule, dst->funnel, src->funnel);
}

static CsFunnelSlots
slots_copy(const CsFunnelOperator *op, const CsFunnelSlots *src)
{
	CsFunnelSlots copy = {.n = src->n, .capacity = Max(src->n, 1)};

	copy.slots = palloc0(sizeof(CsFunnelSlot) * copy.capacity);
	for (int i = 0; i < src->n; i++)
		slot_copy(op, &copy.slots[i], &src->slots[i]);
	return copy;
}

static void
want(Showing *s, const CsFunnelSlot *slot, CsFunnelReason reason, bool keep)
{
	Wanted		  *wanted;
	CsFunnelShown *shown = find_shown(s->w, &slot->first);

	if (shown)
		shown->is_wanted = true;
	if (s->n == s->capacity)
	{
		s->capacity = Max(s->capacity * 2, 4);
		s->wanted =
			s->wanted ? repalloc(s->wanted, s->capacity * sizeof(Wanted)) : palloc(s->capacity * sizeof(Wanted));
	}
	wanted = &s->wanted[s->n++];
	slot_copy(s->op, &wanted->slot, slot);
	wanted->reason = reason;
	wanted->content = content_of(s->op, slot);
	wanted->keep = keep;
}

/* An attempt that the watermark has not reached, but whose row was shown as of later: it stays. */
static void
want_ahead(Showing *s, const CsFunnelSlot *slot)
{
	const CsFunnelShown *shown = find_shown(s->w, &slot->first);

	if (shown != NULL && !shown->is_wanted)
		want(s, slot, CS_FUNNEL_OPEN, true);
}

static void
note_end(CsFunnelWalk *walk, const CsFunnelSlot *slot, CsFunnelReason reason)
{
	Showing *s = walk->arg;

	if (s->phase == AHEAD)
		want_ahead(s, slot);
	else
		want(s, slot, s->phase == SILENT ? CS_FUNNEL_IDLE : reason, false);
}

/* Attempts that are open as of the moment. */
static void
want_open(Showing *s, const CsFunnelSlots *open)
{
	for (int i = 0; i < open->n; i++)
	{
		const CsFunnelSlot *slot = &open->slots[i];

		if (s->op->base.def->emit == CS_EMIT_CHANGES || find_shown(s->w, &slot->first) != NULL)
			want(s, slot, CS_FUNNEL_OPEN, false);
	}
}

/* Let the waiting events pass that the watermark has not reached, for rows that were shown as of later. */
static void
look_ahead(Showing *s, const CsFunnelSlots *now, int64 from)
{
	CsFunnelSlots ahead = slots_copy(s->op, now);
	CsFunnelWalk  walk = {.op = s->op, .open = &ahead, .ended = note_end, .arg = s};

	s->phase = AHEAD;
	(void) cs_funnel_walk_events(&walk, s->w, from, CS_WM_DONE);
	for (int i = 0; i < ahead.n; i++)
		want_ahead(s, &ahead.slots[i]);
}

static void
gather(Showing *s, const CsFunnelLook *look, TimestampTz *next)
{
	CsFunnelSlots open = slots_copy(s->op, &s->w->open);
	CsFunnelWalk  walk = {.op = s->op, .open = &open, .ended = note_end, .arg = s};
	int64		  at;

	cs_funnel_sort(s->w);
	s->phase = AS_OF_WATERMARK;
	at = cs_funnel_walk_events(&walk, s->w, 0, look->wm);
	cs_funnel_walk_end(&walk, look->wm, false);
	if (look->as_of != CS_WM_NONE)
	{
		s->phase = SILENT;
		at = cs_funnel_walk_events(&walk, s->w, at, look->as_of);
		cs_funnel_walk_end(&walk, look->as_of, false);
	}
	*next = cs_funnel_next_end(s->op, &open);
	if (at < s->w->nwaiting)
		*next = Min(*next, s->w->waiting[at].place.time);
	want_open(s, &open);
	if (s->w->nshown > 0 && at < s->w->nwaiting)
		look_ahead(s, &open, at);
}

/* Bring the row of one attempt to what is wanted, and say what it shows then. */
static CsFunnelShown
bring(Showing *s, CsBatchContext *batch, const Wanted *wanted, CsFunnelLook *look)
{
	const CsFunnelShown *shown = find_shown(s->w, &wanted->slot.first);
	CsFunnelReason		 reason = wanted->reason;
	CsFunnelShown		 result = {.first = wanted->slot.first,
								   .content = wanted->content,
								   .reason = reason,
								   .was_closed = reason != CS_FUNNEL_OPEN};

	if (shown == NULL)
	{
		write_row(s->op, batch, s->w, &wanted->slot, reason, false, 0, CS_ROW_INSERT);
		look->changed = true;
		return result;
	}
	/* What was shown as idle stays so until it goes on: nothing is taken back. */
	if (wanted->keep || (shown->content == wanted->content &&
						 (reason == shown->reason || (reason == CS_FUNNEL_OPEN && shown->reason == CS_FUNNEL_IDLE))))
		return *shown;
	if (reason == CS_FUNNEL_OPEN && shown->reason == CS_FUNNEL_OPEN)
	{
		if (!look->rewrite)
		{
			s->w->is_stale = true;
			return *shown;
		}
		look->rewrote = true;
	}
	s->w->keeps |= shown->reason != CS_FUNNEL_OPEN;
	result.was_closed |= shown->was_closed;
	result.revision = shown->revision + is_revision(shown, reason, wanted->content);
	write_row(s->op, batch, s->w, &wanted->slot, reason, false, result.revision, CS_ROW_UPSERT);
	look->changed = true;
	return result;
}

/* Rows that have become final leave the list of those that may change. */
static void
drop_gone(CsFunnelWork *w)
{
	int n = 0;

	for (int i = 0; i < w->nshown; i++)
	{
		if (w->shown[i].is_gone)
			continue;
		w->shown[n] = w->shown[i];
		w->shown[n++].is_wanted = false;
	}
	w->nshown = n;
}

static int
shown_cmp(const void *a, const void *b)
{
	return cs_place_cmp(&((const CsFunnelShown *) a)->first, &((const CsFunnelShown *) b)->first);
}

TimestampTz
cs_funnel_show_rows(CsFunnelOperator *op, CsBatchContext *batch, CsFunnelWork *w, CsFunnelLook *look)
{
	MemoryContext  old = MemoryContextSwitchTo(batch->batch);
	Showing		   s = {.op = op, .w = w};
	CsFunnelShown *shown;
	TimestampTz	   next;

	w->is_stale = false;
	drop_gone(w);
	gather(&s, look, &next);
	shown = palloc(sizeof(CsFunnelShown) * Max(s.n, 1));
	for (int i = 0; i < s.n; i++)
		shown[i] = bring(&s, batch, &s.wanted[i], look);
	for (int i = 0; i < w->nshown; i++)
	{
		if (w->shown[i].is_wanted)
			continue;
		w->keeps |= w->shown[i].reason != CS_FUNNEL_OPEN;
		delete_row(op, batch, &w->shown[i].first);
		look->changed = true;
	}
	if (s.n > 1)
		qsort(shown, s.n, sizeof(CsFunnelShown), shown_cmp);
	w->nshown = s.n;
	w->shown = shown;
	MemoryContextSwitchTo(old);
	return next;
}

/* ---- for readers ---- */

typedef struct Reading
{
	CsFunnelOperator *op;
	CsFunnelWork	 *w;
	int64			  waiting;
	CsShowRow		  row;
	void			 *arg;
} Reading;

/* An attempt that the watermark has not closed; nothing if its row says that it has been. */
static void
show_open(Reading *r, const CsFunnelSlot *slot)
{
	const CsFunnelShown *shown = find_shown(r->w, &slot->first);
	uint64				 content = content_of(r->op, slot);
	CsFunnelReason		 reason = CS_FUNNEL_OPEN;
	int32				 revision = 0;
	CsFunnelSlots		 alone = {.n = 1, .capacity = 1, .slots = (CsFunnelSlot *) slot};
	CsOpenRow			 out;

	if (shown)
	{
		if (shown->content == content)
			reason = shown->reason;
		if (reason != CS_FUNNEL_OPEN && reason != CS_FUNNEL_IDLE)
			return;
		revision = shown->revision + is_revision(shown, reason, content);
	}
	out.values = palloc(sizeof(Datum) * r->op->base.ncolumns);
	out.isnull = palloc(sizeof(bool) * r->op->base.ncolumns);
	cs_funnel_row(r->op, r->w, slot, reason, false, revision, out.values, out.isnull);
	out.ends = slot->funnel->open ? cs_funnel_next_end(r->op, &alone) : CS_WM_DONE;
	out.waiting = r->waiting;
	r->row(r->arg, &out);
}

static void
skip_ended(CsFunnelWalk *walk, const CsFunnelSlot *slot, CsFunnelReason reason)
{
	(void) walk;
	(void) slot;
	(void) reason;
}

/* What waits ends it: once the watermark is there, it is closed. */
static void
show_ended(CsFunnelWalk *walk, const CsFunnelSlot *slot, CsFunnelReason reason)
{
	(void) reason;
	show_open(walk->arg, slot);
}

void
cs_funnel_show_open(CsFunnelOperator *op, CsFunnelWork *w, CsShowRow row, void *arg)
{
	CsFunnelSlots open = slots_copy(op, &w->open);
	Reading		  r = {.op = op, .w = w, .row = row, .arg = arg};
	CsFunnelWalk  walk = {.op = op, .open = &open, .ended = skip_ended, .arg = &r};
	int64		  at;

	cs_funnel_sort(w);
	at = cs_funnel_walk_events(&walk, w, 0, op->base.closed);
	cs_funnel_walk_end(&walk, op->base.closed, false);
	r.waiting = w->nwaiting - at;
	walk.ended = show_ended;
	(void) cs_funnel_walk_events(&walk, w, at, CS_WM_DONE);
	for (int i = 0; i < open.n; i++)
		show_open(&r, &open.slots[i]);
}
