/*
 * operator/running.c
 *	  Hopping windows carried from slide to slide; see running.h.
 *
 * Two tables: groups, with their totals; and members, each value of a
 * distinct count of a group with the last slide in which it was seen.  A
 * value leaves with a slide if that was the last one, and a group knows how
 * many do: nothing is looked up when a slide leaves.  Members that have left
 * stay in the table, and count as not there, until it fills: then it is
 * swept, in the order of memory, or it grows where that would free little.
 * Both tables live in a context of their own and are dropped as a whole.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "core/memory.h"
#include "miscadmin.h"
#include "operator/running.h"
#include "operator/window.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#define MEMBERS_AT_ONCE 16
#define MIN_HOPS 3	   /* with fewer slides a window, merging is as cheap */
#define SWEPT_FILL 0.7 /* a table so full is swept ... */
#define SWEPT_SHARE 8  /* ... if one of so many members has left */

/* Values that were seen in this slide last. */
typedef struct LastSeen
{
	int32 slide;
	int32 values;
} LastSeen;

/* A measure of a group. */
typedef struct Total
{
	int64	  n;
	LastSeen *seen; /* distinct: the oldest slide first */
	int		  nseen;
	int		  room;
} Total;

typedef struct RunningGroup
{
	CsHash128 key;
	uint32	  hash;
	char	  status;
	int32	  ncells;
	Datum	 *values; /* of the group columns */
	bool	 *isnull;
	Total	 *totals; /* by measure */
} RunningGroup;

typedef struct Member
{
	CsHash128 key;	/* of group, measure and value */
	int32	  last; /* slide, counted from the carried window's epoch */
	char	  status;
} Member;

static inline uint32
hash_of(CsHash128 key)
{
	return (uint32) (key.lo >> 32);
}

#define SAME(a, b) ((a).lo == (b).lo && (a).hi == (b).hi)

#define SH_PREFIX rgroups
#define SH_ELEMENT_TYPE RunningGroup
#define SH_KEY_TYPE CsHash128
#define SH_KEY key
#define SH_HASH_KEY(tb, k) hash_of(k)
#define SH_EQUAL(tb, a, b) SAME(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

#define SH_PREFIX rmembers
#define SH_ELEMENT_TYPE Member
#define SH_KEY_TYPE CsHash128
#define SH_KEY key
#define SH_HASH_KEY(tb, k) hash_of(k)
#define SH_EQUAL(tb, a, b) SAME(a, b)
#define SH_USE_NONDEFAULT_ALLOCATOR
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Millions of members are looked up in no order: on large pages, from the first touch on. */
static inline void *
rmembers_allocate(rmembers_hash *members, Size size)
{
	void *data = MemoryContextAllocHuge(members->ctx, size);

	cs_memory_advise(data, size);
	return memset(data, 0, size);
}

static inline void
rmembers_free(rmembers_hash *members, void *data)
{
	(void) members;
	pfree(data);
}

struct CsRunning
{
	CsWindow	  *w;
	CsGrouping	  *g;
	MemoryContext  parent;
	MemoryContext  cxt;	 /* NULL: nothing is carried */
	TimestampTz	   next; /* start of the window that is carried, less its last slide */
	TimestampTz	   epoch;
	rgroups_hash  *groups;
	rmembers_hash *members;
	int64		   live; /* members that have not left */
	int32		   gone; /* the newest slide that has left */
	CsCell		  *scratch;
	CsState		  *state;
	int32		   slide; /* being added or taken away: a number that no other has */
	bool		   leaving;
	CsPart		   left; /* groups of the carried window whose rows are not written; a whole one is not begun */
};

CsRunning *
cs_running_create(CsWindow *w, MemoryContext cxt)
{
	CsGrouping *g = &w->grouping;
	CsRunning  *r;

	if (w->assign.form != CS_WINDOW_HOPPING || w->assign.panes < MIN_HOPS)
		return NULL;
	for (int i = 0; i < g->ms->n; i++)
	{
		CsMeasureKind kind = g->ms->measures[i].kind;

		if (kind != CS_MEASURE_COUNT && kind != CS_MEASURE_DISTINCT)
			return NULL;
	}
	r = MemoryContextAllocZero(cxt, sizeof(CsRunning));
	r->w = w;
	r->g = g;
	r->parent = cxt;
	return r;
}

void
cs_running_forget(CsRunning *r)
{
	if (r->cxt)
		MemoryContextDelete(r->cxt);
	r->cxt = NULL;
}

static void
begin_at(CsRunning *r, TimestampTz start)
{
	MemoryContext old;

	cs_running_forget(r);
	r->cxt = AllocSetContextCreate(r->parent, "clickstream hopping window", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(r->cxt);
	r->groups = rgroups_create(r->cxt, 1024, NULL);
	r->members = rmembers_create(r->cxt, 8192, NULL);
	r->live = 0;
	r->gone = -1;
	r->next = r->epoch = start;
	r->left = CS_PART_WHOLE;
	MemoryContextSwitchTo(old);
}

/* ---- slides coming and leaving ---- */

static void
fill_group(CsRunning *r, RunningGroup *group, const CsCell *cell)
{
	MemoryContext old = MemoryContextSwitchTo(r->cxt);
	int			  n = r->g->ngroups;

	group->ncells = 0;
	group->values = palloc0(Max(n, 1) * sizeof(Datum));
	group->isnull = palloc0(Max(n, 1) * sizeof(bool));
	group->totals = palloc0(Max(r->g->ms->n, 1) * sizeof(Total));
	for (int i = 0; i < n; i++)
	{
		group->isnull[i] = cell->isnull[i];
		if (!cell->isnull[i])
			group->values[i] = datumCopy(cell->values[i], r->g->groups[i].typbyval, r->g->groups[i].typlen);
	}
	MemoryContextSwitchTo(old);
}

static void
drop_group(CsRunning *r, RunningGroup *group)
{
	for (int i = 0; i < r->g->ngroups; i++)
	{
		if (!group->isnull[i] && !r->g->groups[i].typbyval)
			pfree(DatumGetPointer(group->values[i]));
	}
	for (int i = 0; i < r->g->ms->n; i++)
	{
		if (group->totals[i].seen)
			pfree(group->totals[i].seen);
	}
	pfree(group->values);
	pfree(group->isnull);
	pfree(group->totals);
	rgroups_delete(r->groups, group->key);
}

/* Of a slide that has not left.  An error leaves the batch undone and the window to be carried anew. */
static LastSeen *
seen_in(Total *total, int32 slide)
{
	int low = 0;
	int high = total->nseen - 1;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (total->seen[middle].slide < slide)
			low = middle + 1;
		else
			high = middle;
	}
	if (low >= total->nseen || total->seen[low].slide != slide)
		elog(ERROR, "a hopping window does not have the slide in which a value was seen");
	return &total->seen[low];
}

/* The slide that comes has values of it. */
static LastSeen *
begin_slide(CsRunning *r, Total *total)
{
	if (total->nseen == total->room)
	{
		total->room = Max(total->room * 2, 4);
		total->seen = total->seen ? repalloc(total->seen, total->room * sizeof(LastSeen))
								  : MemoryContextAlloc(r->cxt, total->room * sizeof(LastSeen));
	}
	total->seen[total->nseen] = (LastSeen){.slide = r->slide};
	return &total->seen[total->nseen++];
}

/* Values seen last in the slide that leaves. */
static void
end_slide(CsRunning *r, Total *total)
{
	if (total->nseen == 0 || total->seen[0].slide != r->slide)
		return;
	total->n -= total->seen[0].values;
	r->live -= total->seen[0].values;
	total->nseen--;
	memmove(total->seen, total->seen + 1, total->nseen * sizeof(LastSeen));
}

/*
 * In one walk over memory; to delete one after the other would move what stands
 * behind each of them again and again.  Members stand in the order of the slots
 * that their hashes mean, so each goes to its own, or behind what has gone
 * before it.  No run of members goes over an empty slot: the walk begins there.
 */
static void
sweep_members(CsRunning *r)
{
	rmembers_hash *members = r->members;
	uint32		   begin = 0;
	uint64		   next = 1; /* slots are counted from that empty one */

	while (members->data[begin].status == rmembers_SH_IN_USE)
		begin++;
	for (uint64 i = 1; i < members->size; i++)
	{
		Member *member = &members->data[(begin + i) & members->sizemask];
		Member *to;

		if (member->status != rmembers_SH_IN_USE)
			continue;
		if (member->last <= r->gone)
		{
			member->status = rmembers_SH_EMPTY;
			members->members--;
			continue;
		}
		next = Max(next, (hash_of(member->key) - begin) & members->sizemask);
		Assert(next <= i);
		to = &members->data[(begin + next++) & members->sizemask];
		if (to != member)
		{
			*to = *member;
			member->status = rmembers_SH_EMPTY;
		}
		CHECK_FOR_INTERRUPTS();
	}
}

/* What was moved must be where it is looked for. */
static void
check_members(CsRunning *r)
{
#ifdef USE_ASSERT_CHECKING
	for (uint64 i = 0; i < r->members->size; i++)
	{
		Member *member = &r->members->data[i];

		Assert(member->status != rmembers_SH_IN_USE || rmembers_lookup(r->members, member->key) == member);
	}
#else
	(void) r;
#endif
}

/* Before n more: those that have left make room if they are many; else the table grows by itself. */
static void
make_room(CsRunning *r, int64 n)
{
	int64 members = r->members->members;

	if (members + n > r->members->size * SWEPT_FILL && (members - r->live) * SWEPT_SHARE > members)
	{
		sweep_members(r);
		check_members(r);
	}
}

/* Members are looked up some at a time, with their slots on their way from memory. */
typedef struct MemberVisit
{
	CsRunning *r;
	CsHash128  prefix; /* of the group and measure */
	Total	  *total;
	LastSeen  *seen; /* of the slide that comes */
	int		   n;
	CsHash128  keys[MEMBERS_AT_ONCE];
} MemberVisit;

static void
add_member(MemberVisit *visit, CsHash128 key)
{
	CsRunning *r = visit->r;
	bool	   found;
	Member	  *member = rmembers_insert(r->members, key, &found);

	if (found && member->last > r->gone)
		seen_in(visit->total, member->last)->values--;
	else
	{
		visit->total->n++;
		r->live++;
	}
	member->last = r->slide;
	visit->seen->values++;
}

static void
add_members(MemberVisit *visit)
{
	for (int i = 0; i < visit->n; i++)
		add_member(visit, visit->keys[i]);
	visit->n = 0;
}

static void
visit_member(CsHash128 value, void *arg)
{
	MemberVisit	  *visit = arg;
	rmembers_hash *members = visit->r->members;
	CsHash128	   key = cs_hash_combine(visit->prefix, value);

	__builtin_prefetch(&members->data[hash_of(key) & members->sizemask], 1);
	visit->keys[visit->n++] = key;
	if (visit->n == MEMBERS_AT_ONCE)
		add_members(visit);
}

static void
move_measure(CsRunning *r, RunningGroup *group, int i, CsMeasureState *st)
{
	Total	   *total = &group->totals[i];
	MemberVisit visit;

	if (r->g->ms->measures[i].kind == CS_MEASURE_COUNT)
		total->n += r->leaving ? -st->n : st->n;
	else if (r->leaving)
		end_slide(r, total);
	else
	{
		visit.r = r;
		visit.prefix = group->key;
		visit.prefix.hi ^= (uint64) (i + 1) * UINT64CONST(0x9E3779B97F4A7C15);
		visit.total = total;
		visit.seen = begin_slide(r, total);
		visit.n = 0;
		make_room(r, cs_set_count(st->set));
		cs_set_visit(st->set, visit_member, &visit);
		add_members(&visit);
	}
}

static void
move_cell(const CsKey *key, const CsEntry *entry, CsWork *work, void *arg)
{
	CsRunning	 *r = arg;
	CsCell		 *cell;
	RunningGroup *group;
	bool		  found = true;

	cell = cs_cell_peek(r->g, r->state, r->scratch, entry, work);
	group = r->leaving ? rgroups_lookup(r->groups, key->who) : rgroups_insert(r->groups, key->who, &found);
	if (group == NULL)
		return;
	if (!found)
		fill_group(r, group, cell);
	group->ncells += r->leaving ? -1 : 1;
	for (int i = 0; i < r->g->ms->n; i++)
		move_measure(r, group, i, &cell->states[i]);
	if (group->ncells == 0)
		drop_group(r, group);
}

/* Slides of a calendar are whole seconds long at least. */
static int32
slide_number(CsRunning *r, TimestampTz start)
{
	return (int32) ((start - r->epoch) / (r->w->assign.plain ? r->w->assign.slide : USECS_PER_SEC));
}

static void
move_slide(CsRunning *r, TimestampTz start, bool leaving)
{
	r->slide = slide_number(r, start);
	r->leaving = leaving;
	cs_state_visit_bucket(r->state, r->w->op.def->definition_id, CS_BUCKET(start), move_cell, r);
	if (leaving)
		r->gone = r->slide;
}

/* ---- rows ---- */

static int
group_cmp(const void *x, const void *y)
{
	const RunningGroup *a = *(RunningGroup *const *) x;
	const RunningGroup *b = *(RunningGroup *const *) y;

	return cs_hash_cmp(&a->key, &b->key);
}

/* The group's totals as a cell; its column values are copied, because the group may go before the row is written. */
static void
emit_group(CsRunning *r, CsBatchContext *batch, RunningGroup *group, CsCell *cell, CsSpan span, bool is_final)
{
	for (int i = 0; i < r->g->ngroups; i++)
	{
		cell->isnull[i] = group->isnull[i];
		if (!group->isnull[i])
			cell->values[i] = datumCopy(group->values[i], r->g->groups[i].typbyval, r->g->groups[i].typlen);
	}
	for (int i = 0; i < r->g->ms->n; i++)
	{
		CsMeasureState *st = &cell->states[i];

		st->n = group->totals[i].n;
		if (st->set)
			st->set->nbig = group->totals[i].n;
	}
	cs_window_row(r->w, batch, span, group->key, cell, is_final);
}

/* Some of what is left; how many. */
static int64
emit_groups(CsRunning *r, CsBatchContext *batch, CsSpan span, bool is_final, CsPart part)
{
	RunningGroup **sorted =
		MemoryContextAllocHuge(CurrentMemoryContext, Max(r->groups->members, 1) * sizeof(RunningGroup *));
	CsCell			*cell = cs_cell_make(r->g);
	rgroups_iterator iter;
	RunningGroup	*group;
	int				 n = 0;

	rgroups_start_iterate(r->groups, &iter);
	while ((group = rgroups_iterate(r->groups, &iter)) != NULL)
		if (cs_part_has(part, &group->key))
			sorted[n++] = group;
	qsort(sorted, n, sizeof(RunningGroup *), group_cmp);
	for (int i = 0; i < n; i++)
		emit_group(r, batch, sorted[i], cell, span, is_final);
	pfree(sorted);
	return n;
}

bool
cs_running_emit(CsRunning *r, CsBatchContext *batch, CsSpan span, bool is_final, uint64 *from, int64 *left)
{
	CsAssigner *assign = &r->w->assign;
	TimestampTz last = cs_grid_floor(&assign->pane, span.end - 1);

	r->state = batch->state;
	r->scratch = cs_cell_make(r->g);
	if (r->cxt == NULL || r->next != span.start || (r->left.first != 0 && r->left.first != *from))
	{
		begin_at(r, span.start);
		for (TimestampTz s = span.start; s < last; s = cs_grid_next(&assign->pane, s))
			move_slide(r, s, false);
	}
	if (r->left.first == 0)
		move_slide(r, last, false);
	for (r->left.first = *from; *left > 0;)
	{
		CsPart part = cs_part_from(r->left.first, r->groups->members, *left);

		*left -= emit_groups(r, batch, span, is_final, part) + 1;
		if (part.last == PG_UINT64_MAX)
		{
			move_slide(r, span.start, true);
			r->next = cs_grid_next(&assign->pane, span.start);
			r->left.first = 0;
			return true;
		}
		*from = r->left.first = part.last + 1;
	}
	return false;
}
