/*
 * operator/funnel.c
 *	  Funnels: a key's events, as they meet steps, become attempts.
 *
 * An entry is one key's funnel: the events that wait for the watermark, and
 * the open attempt if there is one (operator/funnel_core.h).  An event waits
 * until the watermark has reached its time; then everything that stands before
 * it is there too, so waiting events are applied in place order, in groups of
 * equal time, and no group is ever split by arrival.  An event whose time the
 * watermark had reached before it arrived is late.
 *
 * Waiting events are appended as they come and sorted once, when some are
 * applied: a key with a million of them costs n log n.
 *
 * An attempt ends by conversion, when wm or the key's next event is later than
 * what could still extend its latest chain ('expired'), when it would become
 * longer than max_length, or by finish().  Nobody's chain lasts longer
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

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "operator/expression.h"
#include "operator/funnel_core.h"
#include "operator/open_starts.h"
#include "operator/operator.h"
#include "state/codec.h"
#include "state/state.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FUNNEL_VERSION 1 /* of an entry's bytes */
#define FUNNEL_OPEN 0x01 /* flag of an entry: an attempt is open */

StaticAssertDecl(CS_MAX_STEPS <= CS_FUNNEL_MAX_STEPS, "steps of a definition must fit a mask");

/* Columns before the steps' times, and after them. */
typedef enum FunnelColumn
{
	COLUMN_ATTEMPT_ID,
	COLUMN_KEY,
	COLUMN_LEVEL,
	COLUMN_FIRST_STEP
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

/* What evaluate() leaves for apply(). */
typedef struct ChunkEvent
{
	uint32		mask; /* steps it meets; 0: not for us */
	uint32		key_len;
	const char *key; /* chunk memory */
	CsHash128	hash;
} ChunkEvent;

typedef struct WaitingEvent
{
	CsPlace place;
	uint32	mask;
} WaitingEvent;

/* Decoded form of an entry; in batch memory. */
typedef struct FunnelWork
{
	const char	 *key;
	size_t		  key_len;
	int64		  nwaiting, capacity;
	WaitingEvent *waiting;	/* in any order */
	TimestampTz	  earliest; /* of those that wait */
	CsPlace		  first;	/* of the open attempt */
	CsFunnel	 *funnel;
} FunnelWork;

typedef struct FunnelOperator
{
	CsOperator	  base;
	MemoryContext context;
	CsFunnelRule  rule;
	bool		  has_filter;
	CsExpr		  filter;
	CsExpr		  key;
	CsExpr		  steps[CS_MAX_STEPS];
	ChunkEvent	 *chunk;
	int			  chunk_capacity;
	CsOpenStarts *starts;
} FunnelOperator;

static bool
funnel_open_starts_in(CsOperator *base, TimestampTz start, TimestampTz end)
{
	return cs_open_starts_in(((FunnelOperator *) base)->starts, start, end);
}

static void
funnel_end_batch(CsOperator *base, bool committed)
{
	cs_open_starts_end_batch(((FunnelOperator *) base)->starts, committed);
}

/* ---- entries as bytes ---- */

static FunnelWork *
work_make(const FunnelOperator *op, const char *key, size_t key_len)
{
	Size		header = MAXALIGN(sizeof(FunnelWork));
	Size		size = cs_funnel_size(op->rule.nsteps);
	char	   *memory = palloc(header + size + key_len);
	FunnelWork *w = (FunnelWork *) memory;

	memset(w, 0, sizeof(FunnelWork));
	w->earliest = CS_WM_DONE;
	w->funnel = cs_funnel_init(memory + header, op->rule.nsteps);
	memcpy(memory + header + size, key, key_len);
	w->key = memory + header + size;
	w->key_len = key_len;
	return w;
}

static void
funnel_serialize(void *arg, CsState *state, CsWork *work, StringInfo buf)
{
	const FunnelOperator *op = arg;
	const FunnelWork	 *w = work->work;
	const CsFunnel		 *f = w->funnel;

	(void) state;
	cs_put_u8(buf, FUNNEL_VERSION);
	cs_put_u8(buf, f->open ? FUNNEL_OPEN : 0);
	cs_put_bytes(buf, w->key, w->key_len);
	if (f->open)
	{
		cs_put_place(buf, &w->first);
		cs_put_uint(buf, f->level);
		for (int k = 1; k <= f->level; k++)
			for (int i = 0; i < k; i++)
				cs_put_int(buf, cs_funnel_chain(&op->rule, f, k)[i] - f->started);
		for (int i = 0; i < f->level; i++)
			cs_put_int(buf, f->best[i] - f->started);
	}
	cs_put_uint(buf, w->nwaiting);
	for (int64 i = 0; i < w->nwaiting; i++)
	{
		cs_put_place(buf, &w->waiting[i].place);
		cs_put_uint(buf, w->waiting[i].mask);
	}
}

static void
decode_attempt(const FunnelOperator *op, CsReader *r, FunnelWork *w)
{
	CsFunnel *f = w->funnel;
	uint64	  level;

	cs_get_place(r, &w->first);
	level = cs_get_uint(r);
	if (level < 1 || level > (uint64) op->rule.nsteps)
		cs_codec_corrupt("level of a funnel");
	f->open = true;
	f->level = (int) level;
	f->started = w->first.time;
	for (int k = 1; k <= f->level; k++)
		for (int i = 0; i < k; i++)
			cs_funnel_chain(&op->rule, f, k)[i] = f->started + cs_get_int(r);
	for (int i = 0; i < f->level; i++)
		f->best[i] = f->started + cs_get_int(r);
}

static void
decode_waiting(const FunnelOperator *op, CsReader *r, FunnelWork *w)
{
	uint64 n = cs_get_uint(r);

	if (n > (uint64) (r->end - r->pos))
		cs_codec_corrupt("number of waiting events");
	if (n == 0)
		return;
	w->nwaiting = (int64) n;
	w->capacity = w->nwaiting + 8;
	w->waiting = MemoryContextAllocHuge(CurrentMemoryContext, w->capacity * sizeof(WaitingEvent));
	for (int64 i = 0; i < w->nwaiting; i++)
	{
		uint64 mask;

		cs_get_place(r, &w->waiting[i].place);
		mask = cs_get_uint(r);
		if (mask >> op->rule.nsteps != 0)
			cs_codec_corrupt("steps of a waiting event");
		w->waiting[i].mask = (uint32) mask;
		w->earliest = Min(w->earliest, w->waiting[i].place.time);
	}
}

/* In the current context. */
static FunnelWork *
work_decode(const FunnelOperator *op, const CsEntry *entry)
{
	CsReader	r = {entry->data, entry->data + entry->len};
	uint8		flags;
	const char *key;
	size_t		key_len;
	FunnelWork *w;

	if (cs_get_u8(&r) != FUNNEL_VERSION)
		cs_codec_corrupt("version of a funnel");
	flags = cs_get_u8(&r);
	if ((flags & ~FUNNEL_OPEN) != 0)
		cs_codec_corrupt("flags of a funnel");
	key = cs_get_bytes(&r, &key_len);
	w = work_make(op, key, key_len);
	if (flags & FUNNEL_OPEN)
		decode_attempt(op, &r, w);
	decode_waiting(op, &r, w);
	return w;
}

/* The decoded form of an overlay entry; key is needed for a new one only. */
static FunnelWork *
work_of(const FunnelOperator *op, CsBatchContext *batch, CsWork *work, const char *key, size_t key_len)
{
	if (work->work == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(batch->batch);

		work->work = work->base ? work_decode(op, work->base) : work_make(op, key, key_len);
		MemoryContextSwitchTo(old);
	}
	return work->work;
}

/* When the watermark has something to do here: an event that waits, or the attempt's end. */
static TimestampTz
work_due(const FunnelOperator *op, const FunnelWork *w)
{
	TimestampTz due = w->nwaiting > 0 ? w->earliest : CS_WM_DONE;

	if (w->funnel->open)
	{
		/* "no moment" is CS_WM_DONE: even the last attempt of all time must have one */
		int64 last = Min(cs_funnel_last_moment(&op->rule, w->funnel), CS_WM_DONE - 2);

		due = Min(due, last + 1);
	}
	return due;
}

/* ---- committed entries, after recovery ---- */

static TimestampTz
funnel_due_of(void *arg, const CsEntry *entry)
{
	const FunnelOperator *op = arg;
	FunnelWork			 *w = work_decode(op, entry);
	TimestampTz			  due = work_due(op, w);

	if (w->waiting)
		pfree(w->waiting);
	pfree(w);
	return due;
}

static void
count_recovered(CsEntry *entry, void *arg)
{
	FunnelOperator *op = arg;
	FunnelWork	   *w = work_decode(op, entry);

	if (w->funnel->open)
		cs_open_starts_load(op->starts, w->funnel->started);
	if (w->waiting)
		pfree(w->waiting);
	pfree(w);
}

static void
funnel_recovered(CsOperator *base, CsState *state)
{
	FunnelOperator *op = (FunnelOperator *) base;

	cs_open_starts_clear(op->starts);
	cs_state_walk(state, base->def->definition_id, count_recovered, op);
}

/* ---- rows ---- */

/* The row of the open attempt; reason NULL while it is open.  In the current context. */
static void
fill_row(const FunnelOperator *op, const FunnelWork *w, const char *reason, Datum *values, bool *isnull)
{
	const CsFunnel *f = w->funnel;
	int				nsteps = op->rule.nsteps;
	Datum		   *tail = values + COLUMN_FIRST_STEP + nsteps;
	bool		   *tail_null = isnull + COLUMN_FIRST_STEP + nsteps;

	memset(isnull, 0, sizeof(bool) * op->base.ncolumns);
	values[COLUMN_ATTEMPT_ID] = CStringGetTextDatum(cs_place_id(op->base.stream, &w->first));
	values[COLUMN_KEY] = PointerGetDatum(cstring_to_text_with_len(w->key, (int) w->key_len));
	values[COLUMN_LEVEL] = Int32GetDatum(f->level);
	for (int i = 0; i < nsteps; i++)
	{
		isnull[COLUMN_FIRST_STEP + i] = i >= f->level;
		values[COLUMN_FIRST_STEP + i] = i < f->level ? TimestampTzGetDatum(f->best[i]) : (Datum) 0;
	}

	tail_null[TAIL_DURATION] = !f->converted;
	tail[TAIL_DURATION] = f->converted ? Int64GetDatum((f->best[nsteps - 1] - f->best[0]) / USECS_PER_SEC) : (Datum) 0;
	tail[TAIL_IS_CONVERSION] = BoolGetDatum(f->converted);
	tail[TAIL_STARTED_AT] = TimestampTzGetDatum(f->started);
	tail_null[TAIL_CLOSED_REASON] = reason == NULL;
	tail[TAIL_CLOSED_REASON] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	tail[TAIL_IS_FINAL] = BoolGetDatum(reason != NULL);
	tail[TAIL_REVISION] = Int32GetDatum(0);
}

/* The open attempt ends: its row is written, and the key starts afresh. */
static void
end_attempt(FunnelOperator *op, CsBatchContext *batch, FunnelWork *w, const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	Datum		 *values = palloc(sizeof(Datum) * op->base.ncolumns);
	bool		 *isnull = palloc(sizeof(bool) * op->base.ncolumns);

	fill_row(op, w, reason, values, isnull);
	MemoryContextSwitchTo(old);
	batch->emitter->row(batch->emitter, &op->base, CS_ROW_INSERT, values, isnull);
	cs_open_starts_change(op->starts, w->funnel->started, -1);
	cs_funnel_reset(w->funnel);
}

static void
end_in_time(FunnelOperator *op, CsBatchContext *batch, FunnelWork *w)
{
	end_attempt(op, batch, w, cs_funnel_expires(&op->rule, w->funnel) ? "expired" : "max_length");
}

static void
funnel_show(CsOperator *base, CsState *state, const CsEntry *entry, void (*row)(void *arg, Datum *values, bool *isnull),
			void *arg)
{
	FunnelOperator *op = (FunnelOperator *) base;
	FunnelWork	   *w = work_decode(op, entry);

	(void) state;
	if (w->funnel->open)
	{
		Datum *values = palloc(sizeof(Datum) * base->ncolumns);
		bool  *isnull = palloc(sizeof(bool) * base->ncolumns);

		fill_row(op, w, NULL, values, isnull);
		row(arg, values, isnull);
	}
}

/* ---- the watermark passes waiting events ---- */

static int
waiting_cmp(const void *a, const void *b)
{
	return cs_place_cmp(&((const WaitingEvent *) a)->place, &((const WaitingEvent *) b)->place);
}

/* Apply all events of one time, in place order. */
static void
apply_group(FunnelOperator *op, CsBatchContext *batch, FunnelWork *w, const WaitingEvent *events, int n)
{
	CsFunnel   *f = w->funnel;
	TimestampTz t = events[0].place.time;
	uint32		one = events[0].mask;
	uint32	   *masks = &one;

	if (n > 1)
	{
		masks = MemoryContextAllocHuge(batch->batch, sizeof(uint32) * n);
		for (int i = 0; i < n; i++)
			masks[i] = events[i].mask;
	}
	if (f->open && t > cs_funnel_last_moment(&op->rule, f))
		end_in_time(op, batch, w);
	for (int i = 0; i < n;)
	{
		int opener;
		int taken = cs_funnel_take(&op->rule, f, t, masks + i, n - i, &opener);

		if (opener >= 0)
		{
			w->first = events[i + opener].place;
			cs_open_starts_change(op->starts, t, 1);
		}
		i += taken;
		if (f->converted)
			end_attempt(op, batch, w, "conversion");
	}
	if (n > 1)
		pfree(masks);
}

/*
 * Apply what the watermark has reached.  A group of equal time is complete
 * then: another event of it would be late.
 */
static void
apply_waiting(FunnelOperator *op, CsBatchContext *batch, FunnelWork *w, TimestampTz wm)
{
	int64 done = 0;
	int64 end;

	if (w->earliest > wm)
		return;
	if (w->nwaiting > 1)
		qsort(w->waiting, w->nwaiting, sizeof(WaitingEvent), waiting_cmp);
	for (; done < w->nwaiting && w->waiting[done].place.time <= wm; done = end)
	{
		for (end = done + 1; end < w->nwaiting && w->waiting[end].place.time == w->waiting[done].place.time; end++)
			;
		apply_group(op, batch, w, w->waiting + done, (int) (end - done));
	}
	w->nwaiting -= done;
	memmove(w->waiting, w->waiting + done, w->nwaiting * sizeof(WaitingEvent));
	w->earliest = w->nwaiting > 0 ? w->waiting[0].place.time : CS_WM_DONE;
}

/* Bring one key's funnel to the watermark. */
static void
settle(FunnelOperator *op, CsBatchContext *batch, CsWork *work, TimestampTz wm, bool closed_by_finish)
{
	FunnelWork *w = work_of(op, batch, work, NULL, 0);
	CsFunnel   *f = w->funnel;

	apply_waiting(op, batch, w, wm);
	if (f->open && (closed_by_finish || wm > cs_funnel_last_moment(&op->rule, f)))
	{
		if (closed_by_finish)
			end_attempt(op, batch, w, "finish");
		else
			end_in_time(op, batch, w);
	}
	work->due = work_due(op, w);
	if (f->open || w->nwaiting > 0)
		cs_work_dirty(batch->state, work);
	else if (!work->deleted)
		cs_work_delete(batch->state, work);
}

static bool
funnel_advance(CsOperator *base, CsBatchContext *batch, TimestampTz wm, int max, bool closed_by_finish)
{
	FunnelOperator *op = (FunnelOperator *) base;
	int				n;
	bool			more;
	CsWork		  **works = cs_state_due(batch->state, base->def->definition_id, wm, max, &n, &more);

	for (int i = 0; i < n; i++)
		settle(op, batch, works[i], wm, closed_by_finish);
	return !more;
}

/* ---- events ---- */

static void
funnel_begin_chunk(CsOperator *base, CsBatchContext *batch, int n)
{
	FunnelOperator *op = (FunnelOperator *) base;

	(void) batch;
	if (n > op->chunk_capacity)
	{
		if (op->chunk)
			pfree(op->chunk);
		op->chunk = NULL;
		op->chunk_capacity = 0;
		op->chunk = MemoryContextAllocHuge(op->context, sizeof(ChunkEvent) * n);
		op->chunk_capacity = n;
	}
	memset(op->chunk, 0, sizeof(ChunkEvent) * n);
}

static void
funnel_evaluate(CsOperator *base, CsBatchContext *batch, const CsEvent *event, int i)
{
	FunnelOperator *op = (FunnelOperator *) base;
	ChunkEvent	   *e = &op->chunk[i];
	uint32			mask = 0;
	MemoryContext	old;
	Datum			key;
	bool			isnull;
	text		   *t;
	char		   *copy;

	(void) event;
	if (op->has_filter && !cs_expr_true(&op->filter, batch->econtext))
		return;
	key = cs_expr_eval(&op->key, batch->econtext, &isnull);
	if (isnull)
	{
		base->null_visitors++;
		return;
	}
	for (int k = 0; k < op->rule.nsteps; k++)
		if (cs_expr_true(&op->steps[k], batch->econtext))
			mask |= (uint32) 1 << k;
	if (mask == 0)
		return;

	old = MemoryContextSwitchTo(batch->chunk);
	t = DatumGetTextPP(key);
	e->key_len = VARSIZE_ANY_EXHDR(t);
	copy = palloc(e->key_len + 1);
	memcpy(copy, VARDATA_ANY(t), e->key_len);
	e->key = copy;
	e->hash = cs_hash_bytes(e->key, e->key_len);
	e->mask = mask;
	MemoryContextSwitchTo(old);
}

static void
funnel_reject(CsOperator *base, int i)
{
	FunnelOperator *op = (FunnelOperator *) base;

	memset(&op->chunk[i], 0, sizeof(ChunkEvent));
}

/* Let an event wait in its key's entry. */
static void
add_waiting(FunnelOperator *op, CsBatchContext *batch, const ChunkEvent *e, const CsPlace *place)
{
	CsKey		key = {.def = (uint32) op->base.def->definition_id, .who = e->hash};
	CsWork	   *work = cs_state_get(batch->state, &key);
	FunnelWork *w = work_of(op, batch, work, e->key, e->key_len);

	if (w->nwaiting == w->capacity)
	{
		int64 capacity = Max(w->capacity * 2, 4);

		w->waiting = w->waiting ? repalloc_huge(w->waiting, capacity * sizeof(WaitingEvent))
								: MemoryContextAlloc(batch->batch, capacity * sizeof(WaitingEvent));
		w->capacity = capacity;
	}
	w->waiting[w->nwaiting++] = (WaitingEvent){*place, e->mask};
	w->earliest = Min(w->earliest, place->time);
	work->due = work_due(op, w);
	cs_work_dirty(batch->state, work); /* revives one deleted by this batch */
}

static void
funnel_apply(CsOperator *base, CsBatchContext *batch, CsEvent *events, int n)
{
	FunnelOperator *op = (FunnelOperator *) base;

	for (int i = 0; i < n; i++)
	{
		const ChunkEvent *e = &op->chunk[i];
		CsEvent			 *event = &events[i];

		if (event->skip)
			continue;
		if (e->mask == 0)
			continue;
		if (event->place.time <= event->watermark)
		{
			base->late++;
			cs_event_mark(event, CS_CLASS_LATE);
			batch->emitter->late(batch->emitter, base, event, event->watermark - event->place.time);
			continue;
		}
		add_waiting(op, batch, e, &event->place);
		base->used++;
		cs_event_mark(event, CS_CLASS_USED);
	}
}

/* ---- compilation ---- */

static void
set_column(CsColumn *column, char *name, Oid type, bool is_key)
{
	column->name = name;
	column->type = type;
	column->typmod = -1;
	column->collation = type == TEXTOID ? DEFAULT_COLLATION_OID : InvalidOid;
	column->is_key = is_key;
}

static void
make_columns(FunnelOperator *op, const CsDefinition *def, char *key_name)
{
	CsColumn *c = palloc0(sizeof(CsColumn) * (COLUMN_FIRST_STEP + def->nsteps + TAIL_COLUMNS));

	op->base.columns = c;
	op->base.ncolumns = COLUMN_FIRST_STEP + def->nsteps + TAIL_COLUMNS;
	set_column(&c[COLUMN_ATTEMPT_ID], "attempt_id", TEXTOID, true);
	set_column(&c[COLUMN_KEY], key_name, TEXTOID, false);
	set_column(&c[COLUMN_LEVEL], "level", INT4OID, false);
	for (int i = 0; i < def->nsteps; i++)
		set_column(&c[COLUMN_FIRST_STEP + i], psprintf("%s_time", def->steps[i]), TIMESTAMPTZOID, false);
	c += COLUMN_FIRST_STEP + def->nsteps;
	set_column(&c[TAIL_DURATION], "funnel_duration_seconds", INT8OID, false);
	set_column(&c[TAIL_IS_CONVERSION], "is_conversion", BOOLOID, false);
	set_column(&c[TAIL_STARTED_AT], "started_at", TIMESTAMPTZOID, false);
	set_column(&c[TAIL_CLOSED_REASON], "closed_reason", TEXTOID, false);
	set_column(&c[TAIL_IS_FINAL], "is_final", BOOLOID, false);
	set_column(&c[TAIL_REVISION], "revision", INT4OID, false);
}

/* Compile the view: first target the key, then the steps; its WHERE is the filter. */
static void
compile(FunnelOperator *op, const CsDefinition *def, int natts)
{
	Query	 *query = cs_definition_query(def->view);
	Node	 *quals = query->jointree->quals;
	char	 *key_name = NULL;
	int		  n = 0;
	ListCell *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *target = lfirst_node(TargetEntry, lc);

		if (target->resjunk)
			continue;
		if (n > def->nsteps)
			elog(ERROR, "view of funnel %s has more columns than steps", def->name);
		cs_expr_init(n == 0 ? &op->key : &op->steps[n - 1], target->expr);
		cs_expr_columns((Node *) target->expr, op->base.needed, natts);
		if (n++ == 0)
			key_name = pstrdup(target->resname);
	}
	if (n != def->nsteps + 1)
		elog(ERROR, "view of funnel %s has %d columns for %d steps", def->name, n, def->nsteps);
	if (op->key.type != TEXTOID)
		elog(ERROR, "key of funnel %s is not text", def->name);
	op->has_filter = quals != NULL;
	if (quals)
	{
		cs_expr_init(&op->filter, (Expr *) quals);
		cs_expr_columns(quals, op->base.needed, natts);
	}
	make_columns(op, def, key_name);
}

static CsOperator *
funnel_create(const CsStream *stream, const CsDefinition *def, MemoryContext cxt)
{
	MemoryContext	old = MemoryContextSwitchTo(cxt);
	FunnelOperator *op = palloc0(sizeof(FunnelOperator));
	int				natts = stream->event_desc->natts;

	if (def->nsteps < 1 || def->nsteps > CS_MAX_STEPS || def->within < 0 || def->within > CS_WITHIN_MAX)
		elog(ERROR, "funnel %s is out of range", def->name);
	op->base.ops = &cs_funnel_ops;
	op->base.stream = stream;
	op->base.def = def;
	op->base.needed = palloc0(sizeof(bool) * natts);
	op->context = cxt;
	op->rule.nsteps = def->nsteps;
	op->rule.within = def->within;
	op->rule.strict_increase = def->strict_increase;
	op->rule.max_length = def->max_length >= 0 ? def->max_length : CS_WITHIN_MAX;
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
	.apply = funnel_apply,
	.advance = funnel_advance,
	.end_batch = funnel_end_batch,
	.serialize = funnel_serialize,
	.due_of = funnel_due_of,
	.recovered = funnel_recovered,
	.show = funnel_show,
	.open_starts_in = funnel_open_starts_in,
};
