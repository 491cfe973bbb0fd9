/*
 * state/state.c
 *	  Committed entries, the overlay of a batch, and timers.
 *
 * Entries are found by key in one hash table for all definitions.  An entry
 * that a batch touches points to its CsWork; works of keys without an entry
 * are in a hash table of their own.  Timers are lists of entries by whole
 * second, ordered by a heap: an entry is queued at the earliest due time it
 * had; when it comes up and is due later, it is queued again.  So an event
 * that only prolongs a session costs no timer work.
 *
 * What a batch takes out of the timers, because it is due or was changed, is
 * put back at its end, by publish as by abort.  No locking: private to the process.
 */
#include "postgres.h"

#include "core/memory.h"
#include "state/delta.h"
#define CS_DEFINE_KEYSET /* the hash table of keys is compiled here */
#include "state/internal.h"
#include "state/spill.h"
#include "utils/memutils.h"

#define BATCH_PIECE (64 * 1024)

static int
timer_cmp(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	int64 sa = pairingheap_const_container(CsTimer, heap_node, a)->second;
	int64 sb = pairingheap_const_container(CsTimer, heap_node, b)->second;

	(void) arg;
	return sa < sb ? 1 : sa > sb ? -1 : 0; /* the heap's first is its greatest */
}

static HTAB *
make_table(CsState *state, const char *name, Size entry)
{
	HASHCTL ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(int64);
	ctl.entrysize = entry;
	ctl.hcxt = state->context;
	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

CsState *
cs_state_create(MemoryContext parent, MemoryContext batch)
{
	MemoryContext context = AllocSetContextCreate(parent, "clickstream state", ALLOCSET_DEFAULT_SIZES);
	CsState		 *state = MemoryContextAllocZero(context, sizeof(CsState));

	state->context = context;
	state->batch = batch;
	cs_blocks_init(&state->blocks, context, NULL);
	cs_arena_init(&state->entry_pieces, &state->blocks, true);
	cs_arena_init(&state->data_pieces, &state->blocks, false);
	cs_gone_init(&state->gone);
	state->entries = keyset_create(context, CS_KEYSET_LEAST, NULL);
	state->works = keyset_create(context, CS_KEYSET_LEAST, NULL);
	state->sets = make_table(state, "clickstream sets", sizeof(CsBigSet));
	state->set_changes_tail = &state->set_changes;
	for (int h = 0; h < lengthof(state->half); h++)
		dlist_init(&state->half[h]);
	for (int h = 0; h < lengthof(state->half_sets); h++)
		dlist_init(&state->half_sets[h]);
	state->round = 1;
	state->part = CS_PART_WHOLE;
	state->log.copied = true;
	state->log.copied_xid = InvalidFullTransactionId;
	state->log.next_set_id = 1;
	state->log_next = state->log;
	return state;
}

static void
end_region(void *arg)
{
	CsState *state = arg;

	cs_region_end(state->region);
}

void
cs_state_share(CsState *state, int32 stream_id)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(state->context, sizeof(MemoryContextCallback));

	state->region = state->blocks.region = cs_region_begin(stream_id);
	if (state->region == NULL)
		return;
	callback->func = end_region;
	callback->arg = state;
	MemoryContextRegisterResetCallback(state->context, callback);
}

void
cs_state_open_to_readers(CsState *state, int64 commit_number)
{
	if (state->region == NULL)
		return;
	cs_region_open(state->region, commit_number);
	state->readable = true;
	state->commit = commit_number;
}

bool
cs_state_is_broken(const CsState *state)
{
	return state->is_publishing;
}

CsDefState *
cs_def_state(CsState *state, int32 definition_id)
{
	if (state->last_def && state->last_def->definition_id == definition_id)
		return state->last_def;
	for (int i = 0; i < state->ndefs; i++)
	{
		if (state->defs[i].definition_id == definition_id)
			return state->last_def = &state->defs[i];
	}
	return NULL;
}

static CsDefState *
def_must(CsState *state, int32 definition_id)
{
	CsDefState *def = cs_def_state(state, definition_id);

	if (def == NULL)
		elog(ERROR, "definition %d has no state", definition_id);
	return def;
}

void
cs_state_register(CsState *state, int32 definition_id, const char *name, CsSerialize serialize, void *op)
{
	CsDefState	 *def;
	MemoryContext old = MemoryContextSwitchTo(state->context);

	state->last_def = NULL;
	state->defs =
		state->defs ? repalloc(state->defs, (state->ndefs + 1) * sizeof(CsDefState)) : palloc(sizeof(CsDefState));
	def = &state->defs[state->ndefs++];
	memset(def, 0, sizeof(*def));
	def->definition_id = definition_id;
	def->name = name;
	def->serialize = serialize;
	def->op = op;
	def->buckets = make_table(state, "clickstream buckets", sizeof(CsBucket));
	def->timers = make_table(state, "clickstream timers", sizeof(CsTimer));
	def->timer_heap = pairingheap_allocate(timer_cmp, NULL);
	MemoryContextSwitchTo(old);
}

void
cs_state_register_due(CsState *state, int32 definition_id, CsDueOf due_of)
{
	def_must(state, definition_id)->due_of = due_of;
}

void
cs_state_register_marks(CsState *state, int32 definition_id, CsIsMarked is_marked)
{
	def_must(state, definition_id)->is_marked = is_marked;
}

/* ---- committed entries ---- */

CsEntry *
cs_state_peek(CsState *state, const CsKey *key)
{
	CsKeyRef *ref = keyset_lookup(state->entries, key);

	if (ref)
		return (CsEntry *) ref->key;
	return state->spill && state->spill->count > 0 ? cs_spill_fetch(state, key) : NULL;
}

CsBucket *
cs_bucket_of(CsDefState *def, int64 bucket, bool create)
{
	bool	  found;
	CsBucket *b = def->last_bucket;

	if (b && b->bucket == bucket)
		return b;
	b = hash_search(def->buckets, &bucket, create ? HASH_ENTER : HASH_FIND, &found);
	if (b == NULL)
		return NULL;
	if (!found)
	{
		dlist_init(&b->entries);
		b->new_works = NULL;
		b->nentries = b->nnew = b->nspilled = b->nmarked = 0;
	}
	def->last_bucket = b;
	return b;
}

CsTimer *
cs_timer_of(CsDefState *def, TimestampTz due)
{
	int64	 second = cs_second_of(due);
	bool	 found;
	CsTimer *timer = hash_search(def->timers, &second, HASH_ENTER, &found);

	if (!found)
	{
		dlist_init(&timer->entries);
		pairingheap_add(def->timer_heap, &timer->heap_node);
	}
	return timer;
}

/* Queue the entry at its due time, unless it stands at that or an earlier second. */
void
cs_timer_set(CsState *state, CsDefState *def, CsEntry *entry)
{
	int64 second = cs_second_of(entry->due);

	(void) state;
	if (entry->due == CS_WM_DONE || entry->key.bucket != 0)
		return;
	if (entry->queued != CS_WM_DONE)
	{
		if (entry->queued <= second)
			return;
		cs_timer_leave(def, entry);
	}
	dlist_push_tail(&cs_timer_of(def, entry->due)->entries, &entry->list_node);
	entry->queued = second;
}

bool
cs_timer_move(CsState *state, CsDefState *def, CsEntry *entry)
{
	if (entry->due != CS_WM_DONE && cs_second_of(entry->due) <= entry->queued)
		return false;
	if (entry->due != CS_WM_DONE)
		(void) cs_timer_of(def, entry->due); /* where there is no memory for it, the entry stays where it is */
	dlist_delete(&entry->list_node);
	entry->queued = CS_WM_DONE;
	cs_timer_set(state, def, entry);
	return true;
}

/* A second in which nothing is due any more goes: what is spilled of a month would leave a million of them. */
void
cs_timer_leave(CsDefState *def, CsEntry *entry)
{
	CsTimer *timer;

	if (entry->queued == CS_WM_DONE)
		return;
	dlist_delete(&entry->list_node);
	timer = hash_search(def->timers, &entry->queued, HASH_FIND, NULL);
	entry->queued = CS_WM_DONE;
	if (timer == NULL || !dlist_is_empty(&timer->entries))
		return;
	pairingheap_remove(def->timer_heap, &timer->heap_node);
	hash_search(def->timers, &timer->second, HASH_REMOVE, NULL);
}

/* ---- the overlay ---- */

void *
cs_batch_alloc(CsState *state, Size size)
{
	char *result;

	size = MAXALIGN(size);
	if ((Size) (state->batch_end - state->batch_next) < size)
	{
		if (size > BATCH_PIECE / 8)
			return MemoryContextAllocHuge(state->batch, size);
		state->batch_next = MemoryContextAlloc(state->batch, BATCH_PIECE);
		state->batch_end = state->batch_next + BATCH_PIECE;
	}
	result = state->batch_next;
	state->batch_next += size;
	return result;
}

static CsWork *
make_work(CsState *state, const CsKey *key, CsEntry *base)
{
	CsWork *work = memset(cs_batch_alloc(state, sizeof(CsWork)), 0, sizeof(CsWork));

	work->key = *key;
	work->base = base;
	work->due = base ? base->due : CS_WM_DONE;
	if (base)
	{
		work->base_len = base->len;
		work->base_half = base->half;
		work->base_class = base->data_class;
	}
	work->next = state->all_works;
	state->all_works = work;
	state->nworks++;
	return work;
}

CsWork *
cs_state_open(CsState *state, CsEntry *entry)
{
	if (entry->work == NULL)
		entry->work = make_work(state, &entry->key, entry);
	return entry->work;
}

CsWork *
cs_state_get(CsState *state, const CsKey *key)
{
	CsEntry	 *entry = cs_state_peek(state, key);
	bool	  found;
	CsKeyRef *ref;
	CsWork	 *work;

	if (entry)
		return cs_state_open(state, entry);
	ref = keyset_insert(state->works, key, &found);
	if (found)
		return (CsWork *) ref->key;
	work = make_work(state, key, NULL);
	ref->key = &work->key;
	if (key->bucket != 0)
	{
		CsBucket *b = cs_bucket_of(def_must(state, (int32) key->def), key->bucket, true);

		work->next_new = b->new_works;
		b->new_works = work;
		b->nnew++;
	}
	return work;
}

bool
cs_state_look(CsState *state, const CsKey *key, const CsEntry **entry, CsWork **work)
{
	CsEntry	 *found = cs_state_peek(state, key);
	CsKeyRef *ref;

	*entry = found;
	*work = NULL;
	if (found)
	{
		*work = found->work;
		return *work == NULL || !(*work)->deleted;
	}
	ref = keyset_lookup(state->works, key);
	if (ref)
		*work = (CsWork *) ref->key;
	return *work && (*work)->dirty && !(*work)->deleted;
}

void
cs_work_dirty(CsState *state, CsWork *work)
{
	CsDefState *def;

	if (work->dirty)
	{
		if (work->deleted)
		{
			work->deleted = false;
			cs_def_state(state, (int32) work->key.def)->new_count++;
		}
		return;
	}
	def = def_must(state, (int32) work->key.def);
	work->dirty = true;
	if (def->ndirty == def->dirty_capacity)
	{
		def->dirty_capacity = def->dirty_capacity ? def->dirty_capacity * 2 : 256;
		def->dirty = def->dirty ? repalloc_huge(def->dirty, def->dirty_capacity * sizeof(CsDirty))
								: MemoryContextAlloc(state->batch, def->dirty_capacity * sizeof(CsDirty));
	}
	def->dirty[def->ndirty++] = (CsDirty){work, work->base};
	if (work->base == NULL)
		def->new_count++;
}

#define IMAGE_SPARE 40 /* the next changes of it find room too */

void
cs_work_set_image(CsState *state, CsWork *work, const char *data, uint32 len)
{
	if (work->image == NULL || len > work->image_room)
	{
		work->image_room = len + IMAGE_SPARE;
		work->image = cs_batch_alloc(state, work->image_room);
	}
	memcpy(work->image, data, len);
	work->image_len = len;
	work->delta = NULL;
	cs_work_dirty(state, work);
}

/* The old bytes are at hand now; when the batch is logged they would have to be fetched from memory again. */
void
cs_work_set_copy(CsState *state, CsWork *work, const char *data, uint32 len, const CsCopies *copies)
{
	StringInfo buf = &state->delta;

	cs_work_set_image(state, work, data, len);
	if (buf->data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(state->context);

		initStringInfo(buf);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(buf);
	if (!cs_delta_put_copies(buf, copies, work->base_len, data, len, len))
		return;
	work->delta = memcpy(cs_batch_alloc(state, buf->len), buf->data, buf->len);
	work->delta_len = (uint32) buf->len;
}

void
cs_work_delete(CsState *state, CsWork *work)
{
	cs_work_dirty(state, work);
	work->deleted = true;
	cs_def_state(state, (int32) work->key.def)->new_count--;
}

int64
cs_state_count(CsState *state, int32 definition_id)
{
	CsDefState *def = def_must(state, definition_id);

	return def->count + def->new_count + cs_spilled(def);
}

int64
cs_state_bytes(CsState *state)
{
	return state->bytes;
}

/* ---- what is due ---- */

static void
remember_popped(CsState *state, CsEntry *entry)
{
	if (state->npopped == state->popped_capacity)
	{
		state->popped_capacity = state->popped_capacity ? state->popped_capacity * 2 : 256;
		state->popped = state->popped ? repalloc_huge(state->popped, state->popped_capacity * sizeof(CsEntry *))
									  : MemoryContextAlloc(state->batch, state->popped_capacity * sizeof(CsEntry *));
	}
	state->popped[state->npopped++] = entry;
}

typedef struct DueList
{
	CsState *state;
	CsWork **works;
	int		 n, max, capacity;
} DueList;

static void
due_add(DueList *list, CsWork *work)
{
	if (work->due_round == list->state->due_round)
		return;
	work->due_round = list->state->due_round;
	if (list->n == list->capacity)
	{
		list->capacity = list->capacity ? list->capacity * 2 : 256;
		list->works = list->works ? repalloc_huge(list->works, list->capacity * sizeof(CsWork *))
								  : MemoryContextAlloc(list->state->batch, list->capacity * sizeof(CsWork *));
	}
	list->works[list->n++] = work;
}

/*
 * Take what is due of the first timer; false if max was reached.  What is not
 * due yet stays or moves to its second: a second call in the same batch, with a
 * later limit, must find it.
 */
static bool
pop_timer(DueList *list, CsDefState *def, CsTimer *timer, TimestampTz limit)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &timer->entries)
	{
		CsEntry *entry = dlist_container(CsEntry, list_node, iter.cur);
		bool	 dirty = entry->work && entry->work->dirty;

		if (list->n >= list->max)
			return false;
		if (!dirty && entry->due > limit)
		{
			(void) cs_timer_move(list->state, def, entry);
			continue;
		}
		remember_popped(list->state, entry); /* first, as it may fail */
		dlist_delete(&entry->list_node);
		entry->queued = CS_WM_DONE;
		if (!dirty)
			due_add(list, cs_state_open(list->state, entry));
	}
	return true;
}

CsWork **
cs_state_due(CsState *state, int32 definition_id, TimestampTz limit, int max, int *n, bool *more)
{
	CsDefState *def = def_must(state, definition_id);
	DueList		list = {.state = state, .max = max};

	*more = cs_spill_load_due(state, def, limit, max);
	state->due_round++;
	while (!pairingheap_is_empty(def->timer_heap))
	{
		CsTimer *timer = pairingheap_container(CsTimer, heap_node, pairingheap_first(def->timer_heap));

		if (limit != CS_WM_DONE && timer->second > cs_second_of(limit))
			break;
		if (!pop_timer(&list, def, timer, limit))
		{
			*more = true;
			break;
		}
		if (!dlist_is_empty(&timer->entries))
			break; /* the limit lies in this second */
		pairingheap_remove_first(def->timer_heap);
		hash_search(def->timers, &timer->second, HASH_REMOVE, NULL);
	}
	for (int64 i = def->ndirty - 1; i >= 0; i--)
	{
		CsWork *work = def->dirty[i].work;

		if (work->deleted || work->due > limit)
			continue;
		if (list.n >= max)
		{
			*more = true;
			break;
		}
		due_add(&list, work);
	}
	*n = list.n;
	return list.works;
}

/* ---- buckets ---- */

static int
int64_cmp(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

int64 *
cs_state_buckets(CsState *state, int32 definition_id, int *n)
{
	CsDefState	   *def = def_must(state, definition_id);
	int64		   *result = MemoryContextAlloc(state->batch, (hash_get_num_entries(def->buckets) + 1) * sizeof(int64));
	HASH_SEQ_STATUS scan;
	CsBucket	   *b;

	*n = 0;
	hash_seq_init(&scan, def->buckets);
	while ((b = hash_seq_search(&scan)) != NULL)
	{
		if (b->nentries > 0 || b->new_works || b->nspilled > 0)
			result[(*n)++] = b->bucket;
	}
	qsort(result, *n, sizeof(int64), int64_cmp);
	return result;
}

CsWork **
cs_state_some(CsState *state, int32 definition_id, int64 bucket, int max, int *n, bool *more)
{
	CsDefState *def = def_must(state, definition_id);
	CsBucket   *b = cs_bucket_of(def, bucket, false);
	CsWork	  **result;
	dlist_iter	iter;

	*n = 0;
	*more = false;
	if (b == NULL)
		return NULL;
	cs_spill_load_some(state, def, b, max);
	*more = b->nspilled > 0;
	result = MemoryContextAllocHuge(state->batch, Max(Min(b->nentries + b->nnew, max), 1) * sizeof(CsWork *));
	dlist_foreach(iter, &b->entries)
	{
		CsEntry *entry = dlist_container(CsEntry, list_node, iter.cur);

		if (entry->work && entry->work->deleted)
			continue;
		if (*n == max)
		{
			*more = true;
			return result;
		}
		result[(*n)++] = cs_state_open(state, entry);
	}
	for (CsWork *work = b->new_works; work; work = work->next_new)
	{
		if (!work->dirty || work->deleted)
			continue;
		if (*n == max)
		{
			*more = true;
			return result;
		}
		result[(*n)++] = work;
	}
	return result;
}

CsWork **
cs_state_bucket(CsState *state, int32 definition_id, int64 bucket, int *n)
{
	CsDefState *def = def_must(state, definition_id);
	CsBucket   *b = cs_bucket_of(def, bucket, false);
	bool		more;

	if (b)
		cs_spill_load_bucket(state, def, b);
	return cs_state_some(state, definition_id, bucket, PG_INT32_MAX, n, &more);
}

/* What of a part of a bucket is in memory. */
static void
visit_resident(CsBucket *b, CsPart part, CsVisit visit, void *arg)
{
	dlist_iter iter;

	dlist_foreach(iter, &b->entries)
	{
		CsEntry *entry = dlist_container(CsEntry, list_node, iter.cur);

		if (cs_part_has(part, &entry->key.who) && (entry->work == NULL || !entry->work->deleted))
			visit(&entry->key, entry, entry->work, arg);
	}
	for (CsWork *work = b->new_works; work; work = work->next_new)
	{
		if (cs_part_has(part, &work->key.who) && work->dirty && !work->deleted)
			visit(&work->key, NULL, work, arg);
	}
}

void
cs_state_visit_bucket(CsState *state, int32 definition_id, int64 bucket, CsVisit visit, void *arg)
{
	CsDefState *def = def_must(state, definition_id);
	CsBucket   *b = cs_bucket_of(def, bucket, false);

	if (b == NULL)
		return;
	cs_spill_load_bucket(state, def, b);
	visit_resident(b, CS_PART_WHOLE, visit, arg);
}

void
cs_state_visit_part(CsState *state, int32 definition_id, int64 bucket, CsPart part, CsVisit visit, void *arg)
{
	CsDefState *def = def_must(state, definition_id);
	CsBucket   *b = cs_bucket_of(def, bucket, false);

	if (b == NULL)
		return;
	cs_spill_load_part(state, def, b, part);
	visit_resident(b, part, visit, arg);
}

void
cs_state_visit_marked(CsState *state, int32 definition_id, int64 bucket, CsPart part, CsVisit visit, void *arg)
{
	CsDefState *def = def_must(state, definition_id);
	CsBucket   *b = cs_bucket_of(def, bucket, false);

	if (b == NULL)
		return;
	cs_spill_load_marked(state, def, b, part);
	visit_resident(b, part, visit, arg);
}

int64
cs_state_spilled_marks(CsState *state, int32 definition_id, int64 bucket)
{
	CsBucket *b = cs_bucket_of(def_must(state, definition_id), bucket, false);

	return b ? b->nmarked : 0;
}

CsWork **
cs_state_dirty(CsState *state, int32 definition_id, int *n)
{
	CsDefState *def = def_must(state, definition_id);
	CsWork	  **result = MemoryContextAllocHuge(state->batch, Max(def->ndirty, 1) * sizeof(CsWork *));

	*n = 0;
	for (int64 i = def->ndirty - 1; i >= 0; i--)
	{
		if (!def->dirty[i].work->deleted)
			result[(*n)++] = def->dirty[i].work;
	}
	return result;
}

int64
cs_state_bucket_count(CsState *state, int32 definition_id, int64 bucket)
{
	CsBucket *b = cs_bucket_of(def_must(state, definition_id), bucket, false);

	return b ? b->nentries + b->nnew + b->nspilled : 0;
}

void
cs_state_take_part(CsState *state, CsPart part)
{
	state->part = part;
}

void
cs_state_be_lenient(CsState *state)
{
	state->lenient = true;
}

void
cs_entry_check(CsState *state, const CsEntry *entry)
{
	const CsSpillRow *damage = cs_guest_damage(entry);

	if (damage)
		cs_spill_corrupt(state, damage);
}

void
cs_state_walk(CsState *state, int32 definition_id, void (*visit)(CsEntry *entry, void *arg), void *arg)
{
	for (int h = 0; h < lengthof(state->half); h++)
	{
		dlist_iter iter;

		dlist_foreach(iter, &state->half[h])
		{
			CsEntry *entry = dlist_container(CsEntry, half_node, iter.cur);

			if ((int32) entry->key.def == definition_id)
				visit(entry, arg);
		}
	}
	cs_spill_walk(state, def_must(state, definition_id), visit, arg);
	state->round++; /* sets that were looked at are not in use for that */
}
