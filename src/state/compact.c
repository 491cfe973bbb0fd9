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
 * It costs a walk over all entries, so it waits until it is worth it, and moves
 * a bounded number of blocks at a time.  That can be interrupted by an error
 * anywhere: each move leaves the state whole, and a block that was not emptied
 * is looked at again the next time.
 *
 * Locking: a slot's block's lock for each pointer that changes.  Readers would
 * miss a slot that has moved, or see it twice: region->moves is odd meanwhile,
 * and tells them to wait and to begin again (shared.c).  What is kept for readers only is given up before.
 */
#include "postgres.h"

#include "state/budget.h"
#include "state/internal.h"
#include "utils/memutils.h"

#define VICTIMS 256						/* blocks emptied at once, at most */
#define WORTH 16						/* one in so many of its blocks: then at once */
#define PATIENCE 16						/* commits after which one block is worth it */
#define FUTILE 32						/* commits that it waits longer when nothing came of it */
#define FILLED(n) ((int64) (n) / 8 * 7) /* bytes of n that pieces of different sizes use, at least */

typedef struct Block
{
	char *address;
	int64 live; /* bytes of pieces that are in use */
	int32 rank; /* among those that are to be emptied; -1 */
	bool  is_own;
} Block;

/* Something that has a piece in a block that is to be emptied. */
typedef struct Piece
{
	int32	  rank;
	CsEntry	 *slot;
	CsBigSet *set; /* NULL: an entry's */
} Piece;

typedef struct Compaction
{
	CsState *state;
	Block	*blocks; /* by address */
	int		 n;
	Block  **victims; /* in the order of their ranks */
	int		 nvictims;
	Piece	*pieces;
	int64	 npieces;
	int64	 capacity;
	bool	 of_slots; /* what is gathered, else bytes */
} Compaction;

/* ---- blocks ---- */

static int
address_cmp(const void *a, const void *b)
{
	const char *x = ((const Block *) a)->address;
	const char *y = ((const Block *) b)->address;

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

	c->n = n + blocks->nown;
	c->blocks = palloc0(Max(c->n, 1) * sizeof(Block));
	for (int i = 0; i < c->n; i++)
	{
		c->blocks[i].is_own = i >= n;
		c->blocks[i].address = i < n ? cs_block_address(shared[i]) : own_address(blocks, i - n);
		c->blocks[i].rank = -1;
	}
	qsort(c->blocks, c->n, sizeof(Block), address_cmp);
	pfree(shared);
}

static Block *
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
	(void) slot;
	(void) set;
	block_of(c, piece)->live += cs_arena_size(class);
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

static int
live_cmp(const void *a, const void *b)
{
	const Block *x = *(Block *const *) a;
	const Block *y = *(Block *const *) b;

	if (x->is_own != y->is_own)
		return x->is_own ? -1 : 1;
	return x->live < y->live ? -1 : x->live > y->live;
}

static void
add_victim(Compaction *c, Block *block)
{
	block->rank = c->nvictims;
	c->victims[c->nvictims++] = block;
}

/* Blocks that it takes to hold so many bytes. */
static int
blocks_for(int64 live)
{
	return (int) ((live + FILLED(CS_BLOCK) - 1) / FILLED(CS_BLOCK));
}

/* Those of its own, and the emptiest of the others, until there is no excess; false if that is of no use. */
static bool
choose(Compaction *c, int excess)
{
	int		nown = c->state->blocks.nown;
	Block **sorted = palloc(Max(c->n, 1) * sizeof(Block *));
	int64	live = 0;
	int		gain = 0;

	c->victims = palloc(Max(c->n, 1) * sizeof(Block *));
	for (int i = 0; i < c->n; i++)
		sorted[i] = &c->blocks[i];
	qsort(sorted, c->n, sizeof(Block *), live_cmp);
	for (int i = 0; i < c->n && c->nvictims < VICTIMS; i++)
	{
		if (i >= nown && (gain >= excess || sorted[i]->live >= FILLED(CS_BLOCK)))
			break;
		live += sorted[i]->live;
		add_victim(c, sorted[i]);
		gain = Max(i + 1 - nown, 0) - blocks_for(live);
	}
	return c->nvictims > 0 && (gain >= excess || gain > 0);
}

/* ---- moving ---- */

/* Not in a block that is emptied. */
static bool
is_free_to_use(const void *piece, void *arg)
{
	return block_of(arg, piece)->rank < 0;
}

static int
piece_cmp(const void *a, const void *b)
{
	return ((const Piece *) a)->rank - ((const Piece *) b)->rank;
}

static inline bool
is_in_victim(const Compaction *c, const void *piece)
{
	const Block *block = block_of(c, piece);

	return (const char *) piece < block->address + CS_BLOCK && block->rank >= 0;
}

/* The bytes of a slot that lie in blocks that are emptied. */
static void
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
			char *piece = cs_arena_move(&c->state->data_pieces, *link, class);

			cs_slot_set_link(c->state, slot, link, piece);
			if (owner->set)
				owner->set->pieces[i] = (CsChain *) piece;
		}
		if (!is_chain)
			break;
		link = (char **) &((CsChain *) *link)->next;
		class = last;
	}
}

/* The block holds nothing: others may move into it. */
static void
emptied(Compaction *c, Block *block)
{
	CsBlocks *blocks = &c->state->blocks;

	block->rank = -1;
	if (block->is_own)
		cs_blocks_drop_own(blocks, block->address);
	else
		cs_blocks_add_spare(blocks, block->address);
}

static void
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
		{
			if (slots)
				cs_slot_move(c->state, c->pieces[i].slot, c->pieces[i].set);
			else
				move_bytes(c, &c->pieces[i]);
		}
		emptied(c, c->victims[rank]);
	}
}

static void
empty(Compaction *c)
{
	CsState *state = c->state;

	cs_arena_forget(&state->entry_pieces, is_free_to_use, c);
	cs_arena_forget(&state->data_pieces, is_free_to_use, c);
	for (int i = 0; i < c->nvictims; i++)
		if (c->victims[i]->live == 0)
			emptied(c, c->victims[i]);
	empty_victims(c, true);
	empty_victims(c, false);
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

/* Is it worth it now? */
static bool
is_worth_it(const CsState *state, int excess)
{
	const CsBlocks *blocks = &state->blocks;
	int				goal = excess > 0 ? excess : blocks->nown;
	int64			live = state->entry_pieces.used + state->data_pieces.used;

	if (goal <= 0 || state->commit < state->compacted + PATIENCE / 4 ||
		blocks_for(live) >= blocks->region->nblocks + blocks->nown)
		return false;
	return goal >= blocks->region->nblocks / WORTH || state->commit >= state->compacted + PATIENCE;
}

/* What can be moved is looked for, and moved; false if nothing would come of it. */
static bool
compact(CsState *state)
{
	Compaction c = {.state = state};

	cs_state_forget_kept(state);
	cs_blocks_give_spare(&state->blocks);
	list_blocks(&c);
	visit_all(&c, true, count_piece);
	visit_all(&c, false, count_piece);
	if (!choose(&c, cs_region_excess(state->region)))
		return false;
	empty_while_readers_wait(&c);
	return true;
}

void
cs_state_give_back(CsState *state)
{
	MemoryContext context;
	MemoryContext old;

	if (!state->readable || state->is_publishing || !is_worth_it(state, cs_region_excess(state->region)))
		return;
	state->compacted = state->commit;
	context = AllocSetContextCreate(state->context, "clickstream compaction", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (!compact(state))
			state->compacted += FUTILE;
	}
	PG_FINALLY();
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
	}
	PG_END_TRY();
}
