/*
 * state/arena.c
 *	  Memory of committed entries; see arena.h.
 */
#include "postgres.h"

#include "state/arena.h"
#include "utils/memutils.h"

/* ---- blocks ---- */

void
cs_blocks_init(CsBlocks *blocks, MemoryContext context, CsRegion *region)
{
	memset(blocks, 0, sizeof(*blocks));
	blocks->context = context;
	blocks->region = region;
}

/* Room for one more in an array of blocks. */
static void
grow(MemoryContext context, char ***array, int n, int *capacity)
{
	if (n < *capacity)
		return;
	*capacity = Max(2 * *capacity, 16);
	*array =
		*array ? repalloc(*array, *capacity * sizeof(char *)) : MemoryContextAlloc(context, *capacity * sizeof(char *));
}

static char *
new_block(CsBlocks *blocks)
{
	char *block = blocks->region ? cs_region_take(blocks->region) : NULL;

	if (block)
		return block;
	grow(blocks->context, &blocks->own, blocks->nown, &blocks->own_capacity);
	block = MemoryContextAlloc(blocks->context, CS_BLOCK + CS_ARENA_ALIGN);
	blocks->own[blocks->nown++] = block;
	return (char *) TYPEALIGN(CS_ARENA_ALIGN, block);
}

void
cs_blocks_reserve(CsBlocks *blocks, int n)
{
	while (blocks->nspare < n)
	{
		grow(blocks->context, &blocks->spare, blocks->nspare, &blocks->capacity);
		blocks->spare[blocks->nspare] = new_block(blocks);
		blocks->nspare++;
	}
}

static char *
take_block(CsBlocks *blocks)
{
	return blocks->nspare > 0 ? blocks->spare[--blocks->nspare] : new_block(blocks);
}

void
cs_blocks_add_spare(CsBlocks *blocks, char *block)
{
	cs_region_clear(blocks->region, block);
	grow(blocks->context, &blocks->spare, blocks->nspare, &blocks->capacity);
	blocks->spare[blocks->nspare++] = block;
}

void
cs_blocks_drop_own(CsBlocks *blocks, char *block)
{
	int i = 0;

	while (i < blocks->nown && (char *) TYPEALIGN(CS_ARENA_ALIGN, blocks->own[i]) != block)
		i++;
	Assert(i < blocks->nown);
	pfree(blocks->own[i]);
	blocks->own[i] = blocks->own[--blocks->nown];
	if (blocks->nown == 0)
		pg_atomic_write_u32(&blocks->region->hides, 0);
}

void
cs_blocks_give_spare(CsBlocks *blocks)
{
	while (blocks->nspare > 0)
	{
		char *block = blocks->spare[--blocks->nspare];

		if (cs_block_of(block) >= 0)
			cs_region_give(blocks->region, block);
		else
			cs_blocks_drop_own(blocks, block);
	}
}

/* ---- pieces ---- */

void
cs_arena_init(CsArena *arena, CsBlocks *blocks, bool slots)
{
	memset(arena, 0, sizeof(*arena));
	arena->blocks = blocks;
	arena->slots = slots;
}

static void
add_block(CsArena *arena)
{
	arena->next = take_block(arena->blocks);
	arena->end = arena->next + CS_BLOCK;
	if (!arena->slots || arena->blocks->region == NULL)
		return;
	if (cs_block_of(arena->next) >= 0)
		cs_region_slots(arena->blocks->region, arena->next);
	else
		pg_atomic_write_u32(&arena->blocks->region->hides, 1);
}

void *
cs_arena_alloc(CsArena *arena, uint32 size, uint8 *class)
{
	void *piece;

	Assert(size <= CS_ARENA_LIMIT);
	*class = cs_arena_class(size);
	size = cs_arena_size(*class);
	piece = arena->freed[*class];
	if (piece)
	{
		memcpy(&arena->freed[*class], piece, sizeof(void *));
		arena->nfreed[*class]--;
		arena->used += size;
		return piece;
	}
	if ((Size) (arena->end - arena->next) < size)
		add_block(arena); /* may fail */
	arena->used += size;
	piece = arena->next;
	arena->next += size;
	return piece;
}

void
cs_arena_free(CsArena *arena, void *piece, uint8 class)
{
	arena->used -= cs_arena_size(class);
	arena->nfreed[class]++;
#ifdef USE_ASSERT_CHECKING
	if (!arena->slots)							   /* a reader may look at a slot that is free */
		memset(piece, 0x7f, cs_arena_size(class)); /* who still reads it shall notice */
#endif
	memcpy(piece, &arena->freed[class], sizeof(void *));
	arena->freed[class] = piece;
}

void
cs_arena_forget(CsArena *arena, bool (*keep)(const void *piece, void *arg), void *arg)
{
	for (int class = 0; class < CS_ARENA_CLASSES; class ++)
	{
		void *piece = arena->freed[class];
		void *next;

		arena->freed[class] = NULL;
		arena->nfreed[class] = 0;
		for (; piece; piece = next)
		{
			memcpy(&next, piece, sizeof(void *));
			if (!keep(piece, arg))
				continue;
			memcpy(piece, &arena->freed[class], sizeof(void *));
			arena->freed[class] = piece;
			arena->nfreed[class]++;
		}
	}
	if (arena->end && !keep(arena->end - 1, arg))
		arena->next = arena->end = NULL;
}

void
cs_arena_visit_freed(const CsArena *arena, void (*visit)(const void *piece, uint8 class, void *arg), void *arg)
{
	for (int class = 0; class < CS_ARENA_CLASSES; class ++)
	{
		const void *piece = arena->freed[class];

		while (piece)
		{
			visit(piece, (uint8) class, arg);
			memcpy(&piece, piece, sizeof(void *));
		}
	}
}

bool
cs_arena_has(const CsArena *arena, uint8 class)
{
	return arena->freed[class] || (Size) (arena->end - arena->next) >= cs_arena_size(class);
}

void *
cs_arena_move(CsArena *arena, const void *piece, uint8 class)
{
	uint32 size = cs_arena_size(class);
	uint8  same;
	void  *copy = cs_arena_alloc(arena, size, &same);

	Assert(same == class);
	memcpy(copy, piece, size);
	arena->used -= size;
	return copy;
}

int
cs_arena_blocks_for(const CsArena *arena, Size bytes)
{
	if (bytes + CS_ARENA_LIMIT <= (Size) (arena->end - arena->next) || bytes == 0)
		return 0;
	/* the newest block's rest, and each block's last bytes, may be of no use */
	return (int) (bytes / (CS_BLOCK - CS_ARENA_LIMIT)) + 1;
}

/* ---- chains ---- */

CsChain *
cs_chain_write(CsArena *arena, CsChain *chain, const char *data, uint32 len)
{
	CsChain	 *first = chain;
	CsChain **link = &first;
	uint8 class;

	while (len > 0)
	{
		uint32 piece = Min(len, (uint32) CS_CHAIN_BYTES);

		if (*link == NULL)
		{
			*link = cs_arena_alloc(arena, sizeof(CsChain), &class);
			(*link)->next = NULL;
		}
		memcpy((*link)->bytes, data, piece);
		link = &(*link)->next;
		data += piece;
		len -= piece;
	}
	cs_chain_free(arena, *link);
	*link = NULL;
	return first;
}

void
cs_chain_free(CsArena *arena, CsChain *chain)
{
	while (chain)
	{
		CsChain *next = chain->next;

		cs_arena_free(arena, chain, cs_arena_class(sizeof(CsChain)));
		chain = next;
	}
}

void
cs_chain_read(const CsChain *chain, char *data, uint32 len)
{
	for (; len > 0; chain = chain->next)
	{
		uint32 piece = Min(len, (uint32) CS_CHAIN_BYTES);

		memcpy(data, chain->bytes, piece);
		data += piece;
		len -= piece;
	}
}
