/*
 * state/arena.c
 *	  Memory of committed entries; see arena.h.
 */
#include "postgres.h"

#include "state/arena.h"
#include "utils/memutils.h"

#define BLOCK (256 * 1024)

void
cs_arena_init(CsArena *arena, MemoryContext context)
{
	memset(arena, 0, sizeof(*arena));
	arena->context = context;
}

static void
add_block(CsArena *arena)
{
	char *block = MemoryContextAlloc(arena->context, BLOCK + CS_ARENA_ALIGN);

	arena->next = (char *) TYPEALIGN(CS_ARENA_ALIGN, block);
	arena->end = arena->next + BLOCK;
}

void *
cs_arena_alloc(CsArena *arena, uint32 size, uint8 *class)
{
	void *piece;

	*class = cs_arena_class(size);
	if (*class == CS_ARENA_LARGE)
	{
		piece = MemoryContextAllocHuge(arena->context, size);
		arena->used += (int64) GetMemoryChunkSpace(piece);
		return piece;
	}
	arena->used += cs_arena_size(*class);
	piece = arena->freed[*class];
	if (piece)
	{
		memcpy(&arena->freed[*class], piece, sizeof(void *));
		return piece;
	}
	size = cs_arena_size(*class);
	if ((Size) (arena->end - arena->next) < size)
		add_block(arena);
	piece = arena->next;
	arena->next += size;
	return piece;
}

void
cs_arena_free(CsArena *arena, void *piece, uint8 class)
{
	if (class == CS_ARENA_LARGE)
	{
		arena->used -= (int64) GetMemoryChunkSpace(piece);
		pfree(piece);
		return;
	}
	arena->used -= cs_arena_size(class);
#ifdef USE_ASSERT_CHECKING
	memset(piece, 0x7f, cs_arena_size(class)); /* who still reads it shall notice */
#endif
	memcpy(piece, &arena->freed[class], sizeof(void *));
	arena->freed[class] = piece;
}
