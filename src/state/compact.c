/*
 * state/compact.c
 *	  Blocks are emptied and given back, when a stream holds more of them than
 *	  it may.
 *
 * Another stream that has begun lacks its share; this one has evicted what is
 * over its own (evict.c), but what was freed by that lies all over its blocks.
 * So after a commit those with the least in them are emptied: what lives there
 * moves into pieces that are free elsewhere, or into blocks that were emptied
 * just before.  So does what lies in memory of the worker's own, because the
 * pool had no block at that time; it comes first.
 *
 * A worker that is idle does not commit.  So who has come to lack blocks wakes
 * those that have too many, and who has given some wakes those that lack them
 * (cs_region_wake()); whoever is woken looks again until that is settled
 * (cs_state_wants_round()), or until nothing comes of it.
 *
 * It costs a walk over all entries, so it waits until it is worth it, and moves
 * a bounded number of blocks at a time.  That can be interrupted by an error
 * anywhere: each move leaves the state whole, and a block that was not emptied
 * is looked at again the next time.
 *
 * What is moved takes free pieces elsewhere, blocks emptied just before, and to
 * begin with those that the pool keeps for this (cs_region_lend()); never memory
 * of the worker's own.  If that comes to an end, so does the move.
 *
 * Locking: a slot's block's lock for each pointer that changes.  Readers would
 * miss a slot that has moved, or see it twice: region->moves is odd meanwhile,
 * and tells them to wait and to begin again (shared.c).  What is kept for readers only is given up before.
 */
#include "postgres.h"

#include "state/budget.h"
#include "state/internal.h"
#include "utils/memutils.h"

#define QUOTA_MIN 16   /* blocks emptied at once, of shared and of own ones each: so many, */
#define QUOTA_MAX 256  /* at most, */
#define QUOTA_SHARE 16 /* or one in so many of all */
#define WORTH 16	   /* one in so many of its blocks: then at once */
#define PATIENCE 16	   /* rounds after which one block is worth it: commits, or looks of a worker that is idle */
#define FUTILE 32	   /* rounds that it waits longer when nothing came of it */

#define FULL (CS_BLOCK - CS_ARENA_LIMIT) /* bytes that pieces of any sizes find in a block, at least */
#define KINDS (CS_ARENA_CLASSES + 1)	 /* of pieces: the classes of bytes, and */
#define KIND_SLOT CS_ARENA_CLASSES		 /* slots */

typedef struct BlockUse
{
	char *address;
	int32 rank; /* among those that are to be emptied; -1 */
	bool  is_own;
	int64 bytes;	   /* of pieces that are in use */
	int32 used[KINDS]; /* pieces in use */
	int32 free[KINDS]; /* and freed */
} BlockUse;

/* Something that has a piece in a block that is to be emptied. */
typedef struct Piece
{
	int32	  rank;
	CsEntry	 *slot;
	CsBigSet *set; /* NULL: an entry's */
} Piece;

typedef struct Compaction
{
	CsState	  *state;
	BlockUse  *blocks; /* by address */
	int		   n;
	int		   nown;
	BlockUse **victims; /* in the order of their ranks */
	int		   nvictims;
	int		   nshared;		  /* of them */
	int64	   demand[KINDS]; /* pieces of victims */
	int64	   supply[KINDS]; /* free ones of other shared blocks */
	Piece	  *pieces;
	int64	   npieces;
	int64	   capacity;
	bool	   of_slots; /* what is gathered, else bytes */
} Compaction;

/* ---- blocks ---- */

static int
address_cmp(const void *a, const void *b)
{
	const char *x = ((const BlockUse *) a)->address;
	const char *y = ((const BlockUse *) b)->address;

	return x < y ? -1 : x > y;
}

static char *
own_address(const CsBlocks *blocks, int i)
{
	return (char *) TYPEALIGN(CS_ARENA_ALIGN, blocks->own[i]);
}

static void
list_blocks(Compaction *c)
{
	CsBlocks *blocks = &c->state->blocks;
	int		  n;
	int32	 *shared = cs_region_all_blocks(blocks->region, &n);

	c->nown = blocks->nown;
	c->n = n + c->nown;
	c->blocks = palloc0(Max(c->n, 1) * sizeof(BlockUse));
	for (int i = 0; i < c->n; i++)
	{
		c->blocks[i].is_own = i >= n;
		c->blocks[i].address = i < n ? cs_block_address(shared[i]) : own_address(blocks, i - n);
		c->blocks[i].rank = -1;
	}
	qsort(c->blocks, c->n, sizeof(BlockUse), address_cmp);
	pfree(shared);
}

static BlockUse *
block_of(const Compaction *c, const void *piece)
{
	int low = 0;
	int high = c->n - 1;

	while (low < high)
	{
		int middle = (low + high + 1) / 2;

		if (c->blocks[middle].address <= (const char *) piece)
			low = middle;
		else
			high = middle - 1;
	}
	return &c->blocks[low];
}

/* ---- pieces ---- */

typedef void (*Visit)(Compaction *c, const void *piece, uint8 class, CsEntry *slot, CsBigSet *set);

/* A slot's bytes, piece by piece. */
static void
visit_bytes(Compaction *c, CsEntry *slot, CsBigSet *set, Visit visit)
{
	const CsChain *chain = (const CsChain *) slot->data;
	uint8 class = slot->data_class == CS_ENTRY_CHAINED ? cs_arena_class(sizeof(CsChain)) : slot->data_class;

	if (slot->data == NULL)
		return;
	visit(c, chain, class, slot, set);
	if (set == NULL && slot->data_class != CS_ENTRY_CHAINED)
		return;
	while ((chain = chain->next) != NULL)
		visit(c, chain, cs_arena_class(sizeof(CsChain)), slot, set);
}

static void
visit_slot(Compaction *c, CsEntry *slot, CsBigSet *set, Visit visit)
{
	if (c->of_slots)
		visit(c, slot, cs_arena_class(sizeof(CsEntry)), slot, set);
	else
		visit_bytes(c, slot, set, visit);
}

/* All slots, or all bytes. */
static void
visit_all(Compaction *c, bool slots, Visit visit)
{
	CsState		   *state = c->state;
	HASH_SEQ_STATUS scan;
	CsBigSet	   *set;

	c->of_slots = slots;
	for (int h = 0; h < lengthof(state->half); h++)
	{
		dlist_iter iter;

		dlist_foreach(iter, &state->half[h])
			visit_slot(c, dlist_container(CsEntry, half_node, iter.cur), NULL, visit);
	}
	hash_seq_init(&scan, state->sets);
	while ((set = hash_seq_search(&scan)) != NULL)
		if (set->slot)
			visit_slot(c, set->slot, set, visit);
}

static void
count_piece(Compaction *c, const void *piece, uint8 class, CsEntry *slot, CsBigSet *set)
{
	BlockUse *block = block_of(c, piece);

	(void) slot;
	(void) set;
	block->used[c->of_slots ? KIND_SLOT : class]++;
	block->bytes += cs_arena_size(class);
}

static void
count_free(const void *piece, uint8 class, void *arg)
{
	Compaction *c = arg;
	BlockUse   *block = block_of(c, piece);
	int			kind = c->of_slots ? KIND_SLOT : class;

	block->free[kind]++;
	if (!block->is_own)
		c->supply[kind]++;
}

/* What is in use, and what is free. */
static void
count_all(Compaction *c)
{
	CsState *state = c->state;

	visit_all(c, true, count_piece);
	cs_arena_visit_freed(&state->entry_pieces, count_free, c);
	visit_all(c, false, count_piece);
	cs_arena_visit_freed(&state->data_pieces, count_free, c);
}

static void
gather_piece(Compaction *c, const void *piece, uint8 class, CsEntry *slot, CsBigSet *set)
{
	int32 rank = block_of(c, piece)->rank;

	(void) class;
	if (rank < 0)
		return;
	if (c->npieces == c->capacity)
	{
		c->capacity = Max(1024, 2 * c->capacity);
		c->pieces = c->pieces ? repalloc_huge(c->pieces, c->capacity * sizeof(Piece))
							  : MemoryContextAllocHuge(CurrentMemoryContext, c->capacity * sizeof(Piece));
	}
	c->pieces[c->npieces++] = (Piece){rank, slot, set};
}

/* ---- choosing ---- */

/* The emptiest first. */
static int
bytes_cmp(const void *a, const void *b)
{
	const BlockUse *x = *(BlockUse *const *) a;
	const BlockUse *y = *(BlockUse *const *) b;

	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Those of one sort, the emptiest first. */
static BlockUse **
sort_blocks(const Compaction *c, bool own, int n)
{
	BlockUse **sorted = palloc(Max(n, 1) * sizeof(BlockUse *));
	int		   at = 0;

	for (int i = 0; i < c->n; i++)
		if (c->blocks[i].is_own == own)
			sorted[at++] = &c->blocks[i];
	Assert(at == n);
	qsort(sorted, n, sizeof(BlockUse *), bytes_cmp);
	return sorted;
}

/* A block is to be emptied (1), or is not after all (-1). */
static void
count_victim(Compaction *c, const BlockUse *block, int sign)
{
	for (int i = 0; i < KINDS; i++)
	{
		c->demand[i] += sign * block->used[i];
		if (!block->is_own)
			c->supply[i] -= sign * block->free[i];
	}
	c->nshared += block->is_own ? 0 : sign;
}

static int
blocks_for(int64 bytes, Size each)
{
	return (int) ((bytes + (int64) each - 1) / (int64) each);
}

/* Shared blocks that come free, less those that it takes. */
static int
gain(const Compaction *c)
{
	int64 bytes = 0;

	for (int i = 0; i < KIND_SLOT; i++)
		bytes += Max(c->demand[i] - c->supply[i], 0) * (int64) cs_arena_size((uint8) i);
	return c->nshared - blocks_for(bytes, FULL) -
		   blocks_for(Max(c->demand[KIND_SLOT] - c->supply[KIND_SLOT], 0) * CS_SLOT, CS_BLOCK);
}

/*
 * The emptiest of the shared ones, until there is no excess; then those of its
 * own, as long as there is none.  False if that is of no use.
 */
static bool
choose(Compaction *c, int excess)
{
	int		   quota = Min(QUOTA_MAX, Max(QUOTA_MIN, c->n / QUOTA_SHARE));
	int		   nshared = c->n - c->nown;
	BlockUse **shared = sort_blocks(c, false, nshared);
	BlockUse **own = sort_blocks(c, true, c->nown);
	int		   nown = 0;

	nshared = Min(nshared, quota);
	for (;;)
	{
		if (gain(c) >= excess)
		{
			if (nown == Min(c->nown, quota))
				break;
			count_victim(c, own[nown], 1);
			if (gain(c) >= excess)
			{
				nown++;
				continue;
			}
			count_victim(c, own[nown], -1);
		}
		if (c->nshared == nshared || shared[c->nshared]->bytes >= (int64) FULL)
			break;
		count_victim(c, shared[c->nshared], 1);
	}
	/* Own ones last: what is moved out of the others leaves blocks for them. */
	c->victims = palloc(Max(c->n, 1) * sizeof(BlockUse *));
	for (int i = 0; i < c->nshared + nown; i++)
	{
		c->victims[i] = i < c->nshared ? shared[i] : own[i - c->nshared];
		c->victims[i]->rank = i;
	}
	c->nvictims = c->nshared + nown;
	return nown > 0 || gain(c) > 0;
}

/* ---- moving ---- */

/* Neither in a block that is emptied, nor in one of the worker's own: those are emptied before long. */
static bool
is_free_to_use(const void *piece, void *arg)
{
	const BlockUse *block = block_of(arg, piece);

	return block->rank < 0 && !block->is_own;
}

/* Is there a piece to move to, in shared memory? */
static bool
have_room(Compaction *c, CsArena *arena, uint8 class)
{
	CsBlocks *blocks = &c->state->blocks;
	char	 *lent;

	if (cs_arena_has(arena, class) || blocks->nspare > 0)
		return true;
	lent = cs_region_lend(blocks->region);
	if (lent)
		cs_blocks_add_spare(blocks, lent);
	return lent != NULL;
}

static int
piece_cmp(const void *a, const void *b)
{
	return ((const Piece *) a)->rank - ((const Piece *) b)->rank;
}

static inline bool
is_in_victim(const Compaction *c, const void *piece)
{
	const BlockUse *block = block_of(c, piece);

	return (const char *) piece < block->address + CS_BLOCK && block->rank >= 0;
}

static bool
move_slot(Compaction *c, const Piece *owner)
{
	if (!have_room(c, &c->state->entry_pieces, cs_arena_class(sizeof(CsEntry))))
		return false;
	cs_slot_move(c->state, owner->slot, owner->set);
	return true;
}

/* The bytes of a slot that lie in blocks that are emptied; false: not all, for want of room. */
static bool
move_bytes(Compaction *c, const Piece *owner)
{
	CsEntry *slot = owner->slot;
	bool	 is_chain = owner->set || slot->data_class == CS_ENTRY_CHAINED;
	uint8	 last = cs_arena_class(sizeof(CsChain));
	uint8 class = slot->data_class == CS_ENTRY_CHAINED ? last : slot->data_class;
	char **link = &slot->data;

	for (int i = 0; *link; i++)
	{
		if (is_in_victim(c, *link))
		{
			char *piece;

			if (!have_room(c, &c->state->data_pieces, class))
				return false;
			piece = cs_arena_move(&c->state->data_pieces, *link, class);
			cs_slot_set_link(c->state, slot, link, piece);
			if (owner->set)
				owner->set->pieces[i] = (CsChain *) piece;
		}
		if (!is_chain)
			break;
		link = (char **) &((CsChain *) *link)->next;
		class = last;
	}
	return true;
}

/* The block holds nothing: others may move into it. */
static void
emptied(Compaction *c, BlockUse *block)
{
	CsBlocks *blocks = &c->state->blocks;

	block->rank = -1;
	if (block->is_own)
		cs_blocks_drop_own(blocks, block->address);
	else
		cs_blocks_add_spare(blocks, block->address);
}

/* False: it had to stop. */
static bool
empty_victims(Compaction *c, bool slots)
{
	int64 i = 0;

	c->npieces = 0;
	visit_all(c, slots, gather_piece);
	if (c->npieces > 0)
		qsort(c->pieces, c->npieces, sizeof(Piece), piece_cmp);
	while (i < c->npieces)
	{
		int32 rank = c->pieces[i].rank;

		for (; i < c->npieces && c->pieces[i].rank == rank; i++)
			if (!(slots ? move_slot(c, &c->pieces[i]) : move_bytes(c, &c->pieces[i])))
				return false;
		emptied(c, c->victims[rank]);
	}
	return true;
}

static void
empty(Compaction *c)
{
	CsState *state = c->state;

	cs_arena_forget(&state->entry_pieces, is_free_to_use, c);
	cs_arena_forget(&state->data_pieces, is_free_to_use, c);
	for (int i = 0; i < c->nvictims; i++)
		if (c->victims[i]->bytes == 0)
			emptied(c, c->victims[i]);
	(void) (empty_victims(c, true) && empty_victims(c, false));
	cs_blocks_give_spare(&state->blocks);
}

static pg_noinline void
empty_while_readers_wait(Compaction *c)
{
	pg_atomic_uint32 *moves = &c->state->region->moves;

	pg_atomic_fetch_add_u32(moves, 1);
	PG_TRY();
	{
		empty(c);
	}
	PG_CATCH();
	{
		pg_atomic_fetch_add_u32(moves, 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
	pg_atomic_fetch_add_u32(moves, 1);
}

/* Would it need fewer blocks than it has? */
static bool
takes_too_many(const CsState *state)
{
	const CsBlocks *blocks = &state->blocks;
	int64			live = state->entry_pieces.used + state->data_pieces.used;

	return blocks_for(live, FULL) < blocks->region->nblocks + blocks->nown;
}

/* Is it worth it now? */
static bool
is_worth_it(const CsState *state, int excess)
{
	const CsBlocks *blocks = &state->blocks;
	int				goal = excess > 0 ? excess : blocks->nown;

	if (goal <= 0 || state->rounds < state->compacted + PATIENCE / 4 || !takes_too_many(state))
		return false;
	return goal >= blocks->region->nblocks / WORTH || state->rounds >= state->compacted + PATIENCE;
}

/* What can be moved is looked for, and moved. */
static void
compact(CsState *state)
{
	Compaction c = {.state = state};

	cs_state_forget_kept(state);
	cs_blocks_give_spare(&state->blocks);
	list_blocks(&c);
	count_all(&c);
	if (choose(&c, cs_region_excess(state->region)))
		empty_while_readers_wait(&c);
}

bool
cs_state_wants_round(const CsState *state)
{
	int32 excess;

	if (!state->readable || state->rounds < state->compacted)
		return false;
	if (cs_state_is_over_budget(state))
		return true;
	excess = cs_region_excess(state->region);
	return (excess > 0 || (excess < 0 && state->blocks.nown > 0)) && takes_too_many(state);
}

bool
cs_state_give_back(CsState *state)
{
	MemoryContext context;
	MemoryContext old;
	int32		  held;
	bool		  gave;

	state->rounds++;
	if (!state->readable || state->is_publishing || !is_worth_it(state, cs_region_excess(state->region)))
		return false;
	state->compacted = state->rounds;
	held = state->region->nblocks + 2 * state->blocks.nown; /* one of its own that becomes a shared one counts, too */
	context = AllocSetContextCreate(state->context, "clickstream compaction", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	PG_TRY();
	{
		compact(state);
	}
	PG_FINALLY();
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
	}
	PG_END_TRY();
	gave = state->region->nblocks + 2 * state->blocks.nown < held;
	if (gave)
		cs_region_wake(state->region, true);
	else
		state->compacted += FUTILE;
	return gave;
}
