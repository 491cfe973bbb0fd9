/*
 * state/shared.c
 *	  Reading the open state of a stream that another process runs.
 *
 * The reader knows by his snapshot which commit is the last for him.  He
 * waits until that one is published and walks over the slots of the stream's
 * region: what he takes is what was open then (state.h, CsEntry), in the bytes
 * that are newest now.  Entries first, sets then: a set has all members that
 * the entry's bytes speak of, and maybe more.
 *
 * What the snapshot sees in the spill table comes to that; where both have an
 * entry (the worker has read it back) memory has its newer bytes.
 *
 * Meanwhile the worker goes on.  Nothing is handed out before it is sure that
 * all was there: the region is still the same, no slot was moved, and nothing
 * was freed that his commit needs.  Where it is not, where bytes lie in
 * memory of the worker's own, and where nothing runs, the log is read.
 *
 * Locking: the lock of a block, shared, for CS_READ_SLOTS slots or one piece
 * of a set; nothing is held in between.
 */
#include "postgres.h"

#include "core/mutant.h"
#include "core/wait.h"
#include "miscadmin.h"
#include "state/internal.h"
#include "state/shared.h"
#include "state/spill.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define CS_READ_SLOTS 64  /* looked at while a lock is held */
#define WAIT_MAX_MS 10000 /* for a commit to be published: it takes milliseconds */
#define WAIT_STEP_MS 2
#define TRIES 3

#define FOUND_MAX (16 * 1024 * 1024) /* bytes copied while a lock is held, about */

/* A set that was seen; its slot may have become another's meanwhile. */
typedef struct SeenSet
{
	CsEntry *slot;
	CsKey	 key;
} SeenSet;

typedef struct Reading
{
	CsState		  *state;
	CsRegion	  *region;
	uint32		   generation;
	int64		   commit;
	uint32		   moves;	 /* of the region, when reading began */
	CsSlotKind	   kind;	 /* that is looked for */
	bool		   is_whole; /* false: something cannot be read from here */
	StringInfoData found;	 /* slots, each followed by its bytes */
	SeenSet		  *sets;
	int			   nsets;
	int			   capacity;
} Reading;

/* The slots may be read: no other use of the block has begun, and what was found stays.  With the block's lock held. */
static bool
is_ours(Reading *r, int32 block)
{
	return pg_atomic_read_u32(&r->region->moves) == r->moves &&
		   cs_pool->blocks[block].region == (int32) (r->region - cs_pool->regions) + 1 &&
		   r->region->generation == r->generation;
}

static bool
is_visible(const Reading *r, const CsEntry *slot)
{
	if (r->kind == CS_HOLDS_ENTRY && !cs_part_has(r->state->part, &slot->key.who))
		return false;
	if (slot->kind != r->kind || cs_def_state(r->state, (int32) slot->key.def) == NULL)
		return false;
	/* An entry that is seen may have newer bytes, and those a set that is newer. */
	if (slot->since > r->commit && r->kind == CS_HOLDS_ENTRY && !CS_MUTANT(SINCE_IGNORED))
		return false;
	return !slot->is_gone || r->commit < slot->gone;
}

/* Is all of it in shared memory? */
static bool
is_shared(const CsEntry *slot)
{
	const CsChain *chain = (const CsChain *) slot->data;

	if (slot->data == NULL || cs_block_of(slot->data) < 0)
		return false;
	if (slot->data_class != CS_ENTRY_CHAINED)
		return true;
	while ((chain = chain->next) != NULL)
		if (cs_block_of(chain) < 0)
			return false;
	return true;
}

static void
take_entry(Reading *r, const CsEntry *slot)
{
	if (!is_shared(slot))
	{
		r->is_whole = false;
		return;
	}
	appendBinaryStringInfoNT(&r->found, (const char *) slot, sizeof(CsEntry));
	enlargeStringInfo(&r->found, (int) slot->len);
	if (slot->data_class == CS_ENTRY_CHAINED)
		cs_chain_read((const CsChain *) slot->data, r->found.data + r->found.len, slot->len);
	else
		memcpy(r->found.data + r->found.len, slot->data, slot->len);
	r->found.len += (int) slot->len;
}

static void
take_set(Reading *r, CsEntry *slot)
{
	if (r->nsets == r->capacity)
	{
		r->capacity = Max(2 * r->capacity, 64);
		r->sets =
			r->sets ? repalloc_huge(r->sets, r->capacity * sizeof(SeenSet)) : palloc(r->capacity * sizeof(SeenSet));
	}
	r->sets[r->nsets++] = (SeenSet){slot, slot->key};
}

/* Some slots of a block, copied while its lock is held. */
static int32
take_slots(Reading *r, int32 block, int32 from)
{
	int32 to = 0;

	LWLockAcquire(cs_block_lock(block), LW_SHARED);
	if (!is_ours(r, block))
		r->is_whole = false;
	else
		to = Min(from + CS_READ_SLOTS, cs_pool->blocks[block].nslots);
	for (; from < to && r->found.len < FOUND_MAX; from++)
	{
		CsEntry *slot = (CsEntry *) (cs_block_address(block) + from * CS_SLOT);

		if (!is_visible(r, slot))
			continue;
		if (r->kind == CS_HOLDS_ENTRY)
			take_entry(r, slot);
		else
			take_set(r, slot);
	}
	LWLockRelease(cs_block_lock(block));
	return from;
}

static void
install_found(Reading *r)
{
	const char *pos = r->found.data;
	const char *end = pos + r->found.len;
	CsEntry		slot;

	while (pos < end)
	{
		memcpy(&slot, pos, sizeof(slot));
		pos += sizeof(slot);
		r->state->commit = slot.changed;
		cs_entry_install(r->state, cs_def_state(r->state, (int32) slot.key.def), &slot.key, pos, slot.len, 0,
						 CS_WM_DONE);
		pos += slot.len;
	}
	resetStringInfo(&r->found);
}

static void
read_block(Reading *r, int32 block)
{
	int32 from = 0;
	int32 to;

	while (r->is_whole && (to = take_slots(r, block, from)) > from)
	{
		install_found(r);
		from = to;
		CHECK_FOR_INTERRUPTS();
	}
}

/* One piece of a set's members; how many it has of them. */
static int64
copy_piece(Reading *r, const SeenSet *seen, int64 done, CsChain **piece, CsHash128 *members)
{
	CsEntry *slot = seen->slot;
	int32	 block = cs_block_of(slot);
	int64	 n = 0;

	LWLockAcquire(cs_block_lock(block), LW_SHARED);
	if (!is_ours(r, block) || slot->kind != CS_HOLDS_SET || slot->key.bucket != seen->key.bucket)
		r->is_whole = false;
	else if (slot->len > done)
	{
		*piece = done == 0 ? (CsChain *) slot->data : (*piece)->next;
		r->is_whole = cs_block_of(*piece) >= 0;
		n = Min(slot->len - done, CS_SET_PIECE);
		if (r->is_whole)
			memcpy(members, (*piece)->bytes, n * sizeof(CsHash128));
	}
	LWLockRelease(cs_block_lock(block));
	return r->is_whole ? n : 0;
}

static void
read_set(Reading *r, const SeenSet *seen, CsHash128 *members)
{
	CsChain *piece = NULL;
	int64	 done = 0;
	int64	 n;

	while ((n = copy_piece(r, seen, done, &piece, members)) > 0)
	{
		cs_bigset_add(r->state, (int32) seen->key.def, (uint64) seen->key.bucket, (const char *) members, n, 0);
		done += n;
		CHECK_FOR_INTERRUPTS();
		if (n < CS_SET_PIECE)
			break;
	}
}

/* Until the region has what the snapshot has, and nothing is moved in it; false: it is not to be expected. */
static bool
wait_published(Reading *r)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WAIT_MAX_MS);

	while (cs_region_is(r->region, r->generation))
	{
		r->moves = pg_atomic_read_u32(&r->region->moves);
		if ((int64) pg_atomic_read_u64(&r->region->published) >= r->commit && r->moves % 2 == 0)
			return true;
		if (GetCurrentTimestamp() > end)
			return false;
		(void) cs_wait(-1, WAIT_STEP_MS);
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

static void
read_blocks(Reading *r, CsSlotKind kind)
{
	int	   n;
	int32 *blocks = cs_region_blocks(r->region, &n);

	r->kind = kind;
	for (int i = 0; i < n && r->is_whole; i++)
		read_block(r, blocks[i]);
	pfree(blocks);
}

static bool
try_read(Reading *r)
{
	CsHash128 *members = palloc(CS_SET_PIECE * sizeof(CsHash128));

	r->nsets = 0;
	r->is_whole = pg_atomic_read_u32(&r->region->hides) == 0;
	pg_read_barrier();
	read_blocks(r, CS_HOLDS_ENTRY);
	read_blocks(r, CS_HOLDS_SET);
	for (int i = 0; i < r->nsets && r->is_whole; i++)
		read_set(r, &r->sets[i], members);
	pg_read_barrier();
	pfree(members);
	return r->is_whole && cs_region_is(r->region, r->generation) && pg_atomic_read_u32(&r->region->moves) == r->moves &&
		   pg_atomic_read_u32(&r->region->hides) == 0 &&
		   (int64) pg_atomic_read_u64(&r->region->readable_from) <= r->commit;
}

/* False: the state is as empty as it was. */
static bool
read_shared(CsState *state, int32 stream_id, int64 commit_number)
{
	Reading r = {.state = state, .commit = commit_number};
	bool	done = false;

	r.region = cs_region_find(stream_id, &r.generation);
	if (r.region == NULL)
		return false;
	initStringInfo(&r.found);
	for (int i = 0; i < TRIES && !done && wait_published(&r); i++)
	{
		if (pg_atomic_read_u64(&r.region->readable_from) > (uint64) commit_number)
			break;
		done = try_read(&r);
		if (!done)
			cs_state_clear(state);
	}
	pfree(r.found.data);
	return done;
}

void
cs_state_read(CsState *state, const CsStream *stream, const CsLogPosition *position, int64 commit_number,
			  Snapshot snapshot)
{
	bool shared = read_shared(state, stream->stream_id, commit_number);

	elog(DEBUG1, "clickstream stream %d: open state of commit " INT64_FORMAT " read from %s", stream->stream_id,
		 commit_number, shared ? "shared memory" : "its log");
	if (shared)
	{
		state->is_copy = true;
		cs_spill_attach(state, stream);
		cs_spill_recover(state, snapshot);
	}
	else
		cs_state_recover(state, stream, position, snapshot);
}
