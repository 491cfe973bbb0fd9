/*
 * state/arena.h
 *	  Memory of committed entries: pieces of few sizes, without headers.
 *
 * A live stream has a million entries of some hundred bytes, each rewritten
 * when it is touched.  PostgreSQL's allocation sets would round each up to a
 * power of two and put 16 bytes before it; here sizes are an eighth apart, and
 * who holds a piece remembers its class, which one byte holds.
 *
 * What is longer than the greatest class is cut into a chain of pieces
 * (CsChain), because blocks of shared memory are all one can have.
 *
 * Pieces are cut from blocks: of the stream's region in shared memory if it has
 * one (pool.h), as long as that gives any; the process's own otherwise.  Freed
 * pieces are kept for others of their class; blocks go back when the state goes,
 * or when it holds too many (compact.c).
 * cs_blocks_reserve() takes blocks ahead, so that what follows finds them.
 *
 * Locking: what knows of blocks and pieces is private to the process; what
 * lies in them is its owner's matter.
 */
#ifndef CS_STATE_ARENA_H
#define CS_STATE_ARENA_H

#include "postgres.h"

#include "port/pg_bitutils.h"
#include "state/pool.h"

#define CS_ARENA_CLASSES 56
#define CS_ARENA_LARGE 255	/* class of what is a chain */
#define CS_ARENA_ALIGN 128	/* of blocks: pieces of that size are on cache lines of their own */
#define CS_ARENA_LIMIT 8192 /* greatest piece of a class */

/* A state's blocks. */
typedef struct CsBlocks
{
	MemoryContext context; /* of the process's own ones */
	CsRegion	 *region;  /* NULL: there are no others */
	char		**spare;   /* taken, not yet used */
	int			  nspare;
	int			  capacity;
	char		**own; /* those of the process */
	int			  nown;
	int			  own_capacity;
} CsBlocks;

typedef struct CsArena
{
	CsBlocks *blocks;
	bool	  slots; /* of CsEntry, which readers walk over */
	int64	  used;	 /* bytes of the pieces that are given out */
	char	 *next;	 /* rest of the newest block */
	char	 *end;
	void	 *freed[CS_ARENA_CLASSES]; /* lists, by the pieces' first bytes */
	int32	  nfreed[CS_ARENA_CLASSES];
} CsArena;

/* A piece of something large; the first that is missing in it is at its end. */
typedef struct CsChain
{
	struct CsChain *next;
	char			bytes[CS_ARENA_LIMIT - sizeof(void *)];
} CsChain;

#define CS_CHAIN_BYTES (CS_ARENA_LIMIT - sizeof(void *))

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

extern void cs_blocks_init(CsBlocks *blocks, MemoryContext context, CsRegion *region);
/* From now on this many are there, whatever happens. */
extern void cs_blocks_reserve(CsBlocks *blocks, int n);

/* The region's block is empty: it is taken next.  The process's own is empty: it goes. */
extern void cs_blocks_add_spare(CsBlocks *blocks, char *block);
extern void cs_blocks_drop_own(CsBlocks *blocks, char *block);
/* Those that are not used go back to the pool. */
extern void cs_blocks_give_spare(CsBlocks *blocks);

extern void	 cs_arena_init(CsArena *arena, CsBlocks *blocks, bool slots);
extern void *cs_arena_alloc(CsArena *arena, uint32 size, uint8 *class); /* at most CS_ARENA_LIMIT */
extern void	 cs_arena_free(CsArena *arena, void *piece, uint8 class);

/* Freed pieces for which keep is false are not given out any more, nor is the rest of the newest block if that is so of it. */
extern void cs_arena_forget(CsArena *arena, bool (*keep)(const void *piece, void *arg), void *arg);
extern void cs_arena_visit_freed(const CsArena *arena, void (*visit)(const void *piece, uint8 class, void *arg),
								 void		   *arg);
/* Is there a piece of that class, without another block? */
extern bool cs_arena_has(const CsArena *arena, uint8 class);
/* A copy of a piece that was forgotten with all that is in its block. */
extern void *cs_arena_move(CsArena *arena, const void *piece, uint8 class);

/* Blocks to be cut for n bytes in pieces, beyond what the newest one has left. */
extern int cs_arena_blocks_for(const CsArena *arena, Size bytes);

/* Write bytes over a chain, making it longer or shorter; NULL: none yet. */
extern CsChain *cs_chain_write(CsArena *arena, CsChain *chain, const char *data, uint32 len);
extern void		cs_chain_free(CsArena *arena, CsChain *chain);
extern void		cs_chain_read(const CsChain *chain, char *data, uint32 len);

static inline uint32
cs_chain_pieces(uint32 len)
{
	return (len + CS_CHAIN_BYTES - 1) / CS_CHAIN_BYTES;
}

/* May what is of a class hold size bytes, without wasting half? */
static inline bool
cs_arena_fits(uint8 class, uint32 size)
{
	return class != CS_ARENA_LARGE && size <= cs_arena_size(class) && size >= cs_arena_size(class) / 2;
}

#endif
