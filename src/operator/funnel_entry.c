/*
 * operator/funnel_entry.c
 *	  A key's funnel as bytes, and back.
 *
 * Times are kept as distances from the attempt's first event; what a
 * definition cannot have (exclusions, a breakdown, rows that are shown before
 * they are final) costs no byte.
 *
 * No locking.
 */
#include "postgres.h"

#include "operator/funnel_entry.h"
#include "utils/memutils.h"

#define FUNNEL_VERSION 3

/* Flags of an entry. */
enum
{
	FUNNEL_SHOWN = 1, /* rows are shown */
	FUNNEL_STALE = 2  /* and one lags behind */
};

#define SHOWN_CLOSED 0x80 /* beside the reason of a shown row */

CsFunnelWork *
cs_funnel_work_make(const CsFunnelOperator *op, const char *key, size_t key_len)
{
	Size		  header = MAXALIGN(sizeof(CsFunnelWork));
	Size		  slot = MAXALIGN(sizeof(CsFunnelSlot));
	Size		  size = op->ngroups == 0 ? cs_funnel_size(&op->rule) : 0;
	char		 *memory = palloc(header + slot + size + key_len);
	CsFunnelWork *w = (CsFunnelWork *) memory;

	memset(w, 0, header + slot);
	w->earliest = CS_WM_DONE;
	if (op->ngroups == 0)
	{
		/* all that there can be, without another allocation */
		w->open.capacity = 1;
		w->open.slots = (CsFunnelSlot *) (memory + header);
		w->open.slots[0].funnel = cs_funnel_init(memory + header + slot, &op->rule);
	}
	memcpy(memory + header + slot + size, key, key_len);
	w->key = memory + header + slot + size;
	w->key_len = key_len;
	return w;
}

CsFunnelGroup *
cs_funnel_group_copy(const CsFunnelGroup *group)
{
	Size		   size = offsetof(CsFunnelGroup, bytes) + group->len;
	CsFunnelGroup *copy = palloc(size);

	memcpy(copy, group, size);
	return copy;
}

/* ---- writing ---- */

static void
put_group(StringInfo buf, const CsFunnelGroup *group)
{
	cs_put_u8(buf, group ? 1 : 0);
	if (group == NULL)
		return;
	appendBinaryStringInfo(buf, (const char *) &group->hash, sizeof(CsHash128));
	cs_put_bytes(buf, group->bytes, group->len);
}

static inline void
put_step(StringInfo buf, int64 time, int64 started)
{
	cs_put_int(buf, time == CS_FUNNEL_SKIPPED ? CS_FUNNEL_SKIPPED : time - started);
}

static void
put_chains(const CsFunnelOperator *op, StringInfo buf, const CsFunnel *f)
{
	cs_put_uint(buf, f->known);
	if (op->nexclusions > 0)
		cs_put_uint(buf, f->tainted);
	for (int k = 1; k <= op->rule.nsteps; k++)
		for (int i = 0; i < k && cs_funnel_knows(f, k); i++)
			put_step(buf, cs_funnel_chain(&op->rule, f, k)[i], f->started);
	if (op->rule.optional == 0)
		return;
	cs_put_uint(buf, f->full_known);
	for (int k = 1; k <= op->rule.nsteps; k++)
		for (int i = 0; i < k && (f->full_known & CS_FUNNEL_BIT(k)) != 0; i++)
			put_step(buf, cs_funnel_full(&op->rule, f, k)[i], f->started);
}

static void
put_held(StringInfo buf, const CsFunnel *f)
{
	cs_put_uint(buf, f->nheld);
	for (int i = 0; i < f->nheld; i++)
	{
		cs_put_int(buf, f->held[i].time - f->started);
		cs_put_uint(buf, f->held[i].steps);
	}
}

static void
put_slot(const CsFunnelOperator *op, StringInfo buf, const CsFunnelSlot *slot)
{
	const CsFunnel *f = slot->funnel;
	bool			unordered = op->rule.mode == CS_FUNNEL_UNORDERED;

	if (op->ngroups > 0)
		put_group(buf, slot->group);
	cs_put_place(buf, &slot->first);
	cs_put_uint(buf, f->level);
	if (op->nexclusions > 0)
		cs_put_u8(buf, f->excluded ? 1 : 0);
	for (int i = 0; i < (unordered ? op->rule.nsteps : f->level); i++)
		put_step(buf, f->best[i], f->started);
	if (unordered)
		put_held(buf, f);
	else
		put_chains(op, buf, f);
}

static void
put_shown(StringInfo buf, const CsFunnelShown *shown)
{
	cs_put_place(buf, &shown->first);
	appendBinaryStringInfo(buf, (const char *) &shown->content, sizeof(uint64));
	cs_put_uint(buf, (uint64) shown->revision);
	cs_put_u8(buf, (uint8) (shown->reason | (shown->was_closed ? SHOWN_CLOSED : 0)));
}

void
cs_funnel_serialize(void *arg, CsState *state, CsWork *work, StringInfo buf)
{
	const CsFunnelOperator *op = arg;
	const CsFunnelWork	   *w = work->work;

	(void) state;
	cs_put_u8(buf, FUNNEL_VERSION);
	cs_put_u8(buf, (w->nshown > 0 ? FUNNEL_SHOWN : 0) | (w->is_stale ? FUNNEL_STALE : 0));
	cs_put_bytes(buf, w->key, w->key_len);
	cs_put_uint(buf, w->open.n);
	for (int i = 0; i < w->open.n; i++)
		put_slot(op, buf, &w->open.slots[i]);
	cs_put_uint(buf, w->nwaiting);
	for (int64 i = 0; i < w->nwaiting; i++)
	{
		cs_put_place(buf, &w->waiting[i].place);
		cs_put_uint(buf, w->waiting[i].meets.steps);
		if (op->nexclusions > 0)
			cs_put_uint(buf, w->waiting[i].meets.taints);
		if (op->ngroups > 0)
			put_group(buf, w->waiting[i].group);
	}
	if (w->nshown > 0)
		cs_put_uint(buf, w->nshown);
	for (int i = 0; i < w->nshown; i++)
		put_shown(buf, &w->shown[i]);
}

/* ---- reading ---- */

static int64
get_count(CsReader *r, const char *what)
{
	uint64 n = cs_get_uint(r);

	if (n > (uint64) (r->end - r->pos))
		cs_reader_corrupt(r, what);
	return (int64) n;
}

static uint32
get_mask(const CsFunnelOperator *op, CsReader *r)
{
	uint64 mask = cs_get_uint(r);

	if (mask >> op->rule.nsteps != 0)
		cs_reader_corrupt(r, "it knows steps that the funnel has not");
	return (uint32) mask;
}

/* They are read when a row is shown: what is wrong with them is found here, where the key is known. */
static void
check_values(const CsFunnelOperator *op, const CsReader *r, const char *bytes, size_t len)
{
	CsReader values = *r;
	bool	 isnull;

	values.pos = bytes;
	values.end = bytes + len;
	for (int i = 0; i < op->ngroups; i++)
		(void) cs_get_datum(&values, &isnull, op->groups[i].stored, op->groups[i].typbyval);
	cs_get_end(&values);
}

static const CsFunnelGroup *
get_group(const CsFunnelOperator *op, CsReader *r)
{
	CsFunnelGroup *group;
	const char	  *hash;
	const char	  *bytes;
	size_t		   len;

	if (cs_get_u8(r) == 0)
		return NULL;
	hash = cs_get_raw(r, sizeof(CsHash128));
	bytes = cs_get_bytes(r, &len);
	check_values(op, r, bytes, len);
	group = palloc(offsetof(CsFunnelGroup, bytes) + len);
	memcpy(&group->hash, hash, sizeof(CsHash128));
	group->len = (uint32) len;
	memcpy(group->bytes, bytes, len);
	return group;
}

static inline int64
get_step(CsReader *r, int64 started)
{
	int64 distance = cs_get_int(r);

	return distance == CS_FUNNEL_SKIPPED ? CS_FUNNEL_SKIPPED : started + distance;
}

static void
get_chains(const CsFunnelOperator *op, CsReader *r, CsFunnel *f)
{
	f->known = get_mask(op, r);
	if (op->nexclusions > 0)
		f->tainted = get_mask(op, r);
	for (int k = 1; k <= op->rule.nsteps; k++)
		for (int i = 0; i < k && cs_funnel_knows(f, k); i++)
			cs_funnel_chain(&op->rule, f, k)[i] = get_step(r, f->started);
	if (op->rule.optional == 0)
		return;
	f->full_known = get_mask(op, r);
	for (int k = 1; k <= op->rule.nsteps; k++)
		for (int i = 0; i < k && (f->full_known & CS_FUNNEL_BIT(k)) != 0; i++)
			cs_funnel_full(&op->rule, f, k)[i] = get_step(r, f->started);
}

static void
get_held(const CsFunnelOperator *op, CsReader *r, CsFunnel *f)
{
	int64 n = get_count(r, "it holds more events than bytes");

	if (n < 1 || n > CS_FUNNEL_HELD_MAX(op->rule.nsteps))
		cs_reader_corrupt(r, "it holds too many events");
	f->nheld = (int) n;
	for (int i = 0; i < f->nheld; i++)
	{
		f->held[i].time = f->started + cs_get_int(r);
		f->held[i].steps = get_mask(op, r);
	}
}

static void
get_slot(const CsFunnelOperator *op, CsReader *r, CsFunnelWork *w)
{
	const CsFunnelGroup *group = op->ngroups > 0 ? get_group(op, r) : NULL;
	CsFunnelSlot		*slot = cs_funnel_slot_add(op, &w->open, group);
	CsFunnel			*f = slot->funnel;
	bool				 unordered = op->rule.mode == CS_FUNNEL_UNORDERED;
	uint64				 level;

	cs_get_place(r, &slot->first);
	level = cs_get_uint(r);
	if (level < 1 || level > (uint64) op->rule.nsteps)
		cs_reader_corrupt(r, "an attempt has a level that the funnel has not");
	f->open = true;
	f->level = (int) level;
	f->started = slot->first.time;
	if (op->nexclusions > 0)
		f->excluded = cs_get_u8(r) != 0;
	for (int i = 0; i < (unordered ? op->rule.nsteps : f->level); i++)
		f->best[i] = get_step(r, f->started);
	if (unordered)
		get_held(op, r, f);
	else
		get_chains(op, r, f);
}

static void
get_waiting(const CsFunnelOperator *op, CsReader *r, CsFunnelWork *w)
{
	w->nwaiting = get_count(r, "more events wait than it has bytes");
	if (w->nwaiting == 0)
		return;
	w->capacity = w->nwaiting + 8;
	w->waiting = MemoryContextAllocHuge(CurrentMemoryContext, w->capacity * sizeof(CsFunnelWaiting));
	for (int64 i = 0; i < w->nwaiting; i++)
	{
		CsFunnelWaiting *e = &w->waiting[i];

		cs_get_place(r, &e->place);
		e->meets.steps = get_mask(op, r);
		e->meets.taints = op->nexclusions > 0 ? get_mask(op, r) : 0;
		e->group = op->ngroups > 0 ? get_group(op, r) : NULL;
		w->earliest = Min(w->earliest, e->place.time);
	}
}

static void
get_shown(CsReader *r, CsFunnelWork *w)
{
	w->nshown = (int) get_count(r, "more rows are shown than it has bytes");
	w->shown = palloc(sizeof(CsFunnelShown) * w->nshown);
	for (int i = 0; i < w->nshown; i++)
	{
		CsFunnelShown *s = &w->shown[i];
		uint8		   reason;

		cs_get_place(r, &s->first);
		memcpy(&s->content, cs_get_raw(r, sizeof(uint64)), sizeof(uint64));
		s->revision = (int32) cs_get_uint(r);
		s->is_wanted = s->is_gone = false;
		reason = cs_get_u8(r);
		s->was_closed = (reason & SHOWN_CLOSED) != 0;
		s->reason = (CsFunnelReason) (reason & ~SHOWN_CLOSED);
		if (s->reason >= CS_FUNNEL_REASONS)
			cs_reader_corrupt(r, "a row is closed by no known reason");
	}
}

CsFunnelWork *
cs_funnel_work_decode(const CsFunnelOperator *op, const CsEntry *entry)
{
	CsReader	  r = cs_entry_reader(entry, op->base.def);
	uint8		  flags;
	const char	 *key;
	size_t		  key_len;
	CsFunnelWork *w;
	int64		  nslots;

	if (cs_get_u8(&r) != FUNNEL_VERSION)
		cs_reader_corrupt(&r, "it is of another version");
	flags = cs_get_u8(&r);
	if ((flags & ~(FUNNEL_SHOWN | FUNNEL_STALE)) != 0)
		cs_reader_corrupt(&r, "it has flags of no known meaning");
	key = cs_get_bytes(&r, &key_len);
	r.name = key;
	r.name_len = key_len;
	w = cs_funnel_work_make(op, key, key_len);
	w->is_stale = (flags & FUNNEL_STALE) != 0;
	nslots = get_count(&r, "it has more attempts than bytes");
	if (nslots > (op->ngroups > 0 ? CS_FUNNEL_MAX_ATTEMPTS : 1))
		cs_reader_corrupt(&r, "it has more attempts than there can be");
	for (int64 i = 0; i < nslots; i++)
		get_slot(op, &r, w);
	get_waiting(op, &r, w);
	if (flags & FUNNEL_SHOWN)
		get_shown(&r, w);
	cs_get_end(&r);
	return w;
}

CsFunnelWork *
cs_funnel_work_of(const CsFunnelOperator *op, CsBatchContext *batch, CsWork *work, const char *key, size_t key_len)
{
	if (work->work == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(batch->batch);

		work->work = work->base ? cs_funnel_work_decode(op, work->base) : cs_funnel_work_make(op, key, key_len);
		MemoryContextSwitchTo(old);
	}
	return work->work;
}

void
cs_funnel_laters_add(CsFunnelOperator *op, CsFunnelLaters *laters, TimestampTz moment, CsHash128 who)
{
	if (laters->n == laters->capacity)
	{
		int capacity = Max(laters->capacity * 2, 64);

		laters->items = laters->items ? repalloc_huge(laters->items, capacity * sizeof(CsFunnelLater))
									  : MemoryContextAllocHuge(op->context, capacity * sizeof(CsFunnelLater));
		laters->capacity = capacity;
	}
	laters->items[laters->n++] = (CsFunnelLater){moment, who};
}
