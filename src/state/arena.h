/*
 * state/arena.h
 *	  Memory of committed entries: pieces of few sizes, without headers.
 *
 * A live stream has a million entries of some hundred bytes, each rewritten
 * when it is touched.  PostgreSQL's allocation sets would round each up to a
 * power of two and put 16 bytes before it; here sizes are an eighth apart, and
 * who holds a piece remembers its class, which one byte holds.
 *
 * Freed pieces are kept for others of their class; blocks go back only with
 * the context.  No locking: private to the process.
 */
#ifndef CS_STATE_ARENA_H
#define CS_STATE_ARENA_H

#include "postgres.h"

#include "port/pg_bitutils.h"

#define CS_ARENA_CLASSES 56
#define CS_ARENA_LARGE 255	/* class of what has its own allocation */
#define CS_ARENA_ALIGN 128	/* of blocks: pieces of that size are on cache lines of their own */
#define CS_ARENA_LIMIT 8192 /* greatest piece of a class */

typedef struct CsArena
{
	MemoryContext context;
	int64		  used; /* bytes of the pieces that are given out */
	char		 *next; /* rest of the newest block */
	char		 *end;
	void		 *freed[CS_ARENA_CLASSES]; /* lists, by the pieces' first bytes */
} CsArena;

/* Up to 128 bytes in steps of 16, then eight classes for each doubling. */
static inline uint8
cs_arena_class(uint32 size)
{
	int log;

	if (size <= 128)
		return size <= 16 ? 0 : (uint8) ((size - 1) / 16);
	if (size > CS_ARENA_LIMIT)
		return CS_ARENA_LARGE;
	log = pg_leftmost_one_pos32(size - 1);
	return (uint8) (8 + (log - 7) * 8 + ((size - 1) >> (log - 3)) - 8);
}

static inline uint32
cs_arena_size(uint8 class)
{
	int log = 7 + (class - 8) / 8;

	if (class < 8)
		return (uint32) (class + 1) * 16;
	return (uint32) ((class & 7) + 9) << (log - 3);
}

extern void	 cs_arena_init(CsArena *arena, MemoryContext context);
extern void *cs_arena_alloc(CsArena *arena, uint32 size, uint8 *class);
extern void	 cs_arena_free(CsArena *arena, void *piece, uint8 class);

/* May what is of a class hold size bytes, without wasting half? */
static inline bool
cs_arena_fits(uint8 class, uint32 size)
{
	return class != CS_ARENA_LARGE && size <= cs_arena_size(class) && size >= cs_arena_size(class) / 2;
}

#endif
