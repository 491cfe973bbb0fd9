/*
 * state/pool.h
 *	  Blocks of shared memory, and the regions of running streams that
 *	  hold them.
 *
 * clickstream.state_memory is taken at the server's start and cut into equal
 * blocks.  It is mapped at one address in all processes, so a pointer into a
 * block means the same everywhere; pages that nobody touched are not resident.
 * Large ones are used where the system has any (core/memory.h).
 *
 * A region belongs to one running stream, whose worker alone writes in it.
 * Others read the slots (CsEntry) in its blocks of slots, and what these point
 * to.  A region's life:
 *
 *	  free --cs_region_begin()--> filling (the worker recovers) --
 *	  cs_region_open()--> open --cs_region_end(): closed, or the process
 *	  exits--> free
 *
 * Only an open region is read.  "publishing" and "published" are commit
 * numbers: they differ while the worker takes over what it has committed.
 * Whoever opens a stream makes a new region out of the log, whatever became
 * of the one before.
 *
 * Division.  Each region may have the blocks that are free and, in any case, its
 * share: all blocks divided by the number of regions.  One that was refused a
 * block while it has less than its share says so in "wants"; others then may
 * hold no more than leaves room for that, evict, and give back what they have
 * too much (compact.c).  To move what is left in these takes a block or two
 * more to begin with: so the pool keeps some, which are lent for that only.
 *
 * Locking: one LWLock for the lists and counts; CS_POOL_PARTITIONS LWLocks for
 * the content of slots, a block's by its number.  A worker holds the latter
 * exclusively for one slot, a reader shared for CS_READ_SLOTS of them.  While
 * one of the latter is held the former may be taken, never the reverse.
 */
#ifndef CS_STATE_POOL_H
#define CS_STATE_POOL_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#define CS_BLOCK ((Size) 256 * 1024)
#define CS_POOL_PARTITIONS 64
#define CS_SLOT 128 /* bytes of a slot: two cache lines */

/* What the worker says of its memory after each commit, for stat_memory. */
typedef struct CsMemoryFacts
{
	int64 budget;		/* bytes it may hold */
	int64 used;			/* bytes it holds */
	int64 entries;		/* committed entries in memory */
	int64 set_bytes;	/* of used: big distinct sets */
	int64 index_bytes;	/* of used: what finds entries */
	int64 kept_bytes;	/* of used: gone, kept for readers */
	int64 own_bytes;	/* blocks of its own, for want of shared ones */
	int64 shared_bytes; /* blocks of the pool */
	int64 spilled;		/* keys in the spill table */
	int64 spill_bytes;	/* of used: what finds those */
	int64 batch_bytes;	/* the last batch's overlay */
} CsMemoryFacts;

typedef struct CsRegion
{
	/* lock of the pool */
	bool		   in_use;
	Oid			   database;
	int32		   stream_id;
	uint32		   generation; /* counts uses */
	int32		   slots;	   /* first block of slots, -1 none */
	int32		   nblocks;
	int32		   wants; /* blocks that it was refused */
	struct PGPROC *owner; /* its worker */
	CsMemoryFacts  facts;
	/* written by the worker, read by all */
	pg_atomic_uint32 is_open;
	pg_atomic_uint32 hides;			/* slots may lie in memory of the worker's own, where readers do not see them */
	pg_atomic_uint32 moves;			/* slots are being moved if it is odd, and were if it has changed */
	pg_atomic_uint64 publishing;	/* commit number */
	pg_atomic_uint64 published;		/* commit number */
	pg_atomic_uint64 readable_from; /* oldest commit number that a reader may ask for */
} CsRegion;

/* A block's entry in the directory. */
typedef struct CsBlockInfo
{
	int32 next;	  /* in the free list, or the region's list of slots; lock of the pool */
	int32 region; /* its number + 1, 0 free; changed with the pool's lock and the block's */
	int32 nslots; /* slots in use, from the first; the block's lock */
} CsBlockInfo;

typedef struct CsPool
{
	LWLockPadded *locks; /* the pool's, then those of the blocks */
	char		 *base;	 /* of the first block */
	int32		  nblocks;
	int32		  free; /* first free block, -1 none */
	int32		  nfree;
	int32		  nregions; /* room for */
	int32		  nactive;
	CsRegion	 *regions;
	CsBlockInfo	 *blocks;
} CsPool;

/* NULL: the library was not preloaded. */
extern CsPool *cs_pool;

extern void cs_pool_request(void);
extern void cs_pool_startup(void);

/* The block that something lies in, -1: none of the pool's. */
static inline int32
cs_block_of(const void *pointer)
{
	Size at = (Size) ((const char *) pointer - cs_pool->base);

	return (const char *) pointer >= cs_pool->base && at < cs_pool->nblocks * CS_BLOCK ? (int32) (at / CS_BLOCK) : -1;
}

static inline char *
cs_block_address(int32 block)
{
	return cs_pool->base + block * CS_BLOCK;
}

static inline LWLock *
cs_pool_lock(void)
{
	return &cs_pool->locks[0].lock;
}

/* The lock of the slots in a block. */
static inline LWLock *
cs_block_lock(int32 block)
{
	return &cs_pool->locks[1 + block % CS_POOL_PARTITIONS].lock;
}

/* ---- of a region's worker ---- */

/* A region for this stream of this database; NULL if there is none to be had. */
extern CsRegion *cs_region_begin(int32 stream_id);
/* Readers may come: it holds what commit_number has left. */
extern void cs_region_open(CsRegion *region, int64 commit_number);
extern void cs_region_end(CsRegion *region);
/* A block, or NULL: there is none for this region now. */
extern char *cs_region_take(CsRegion *region);
/* One more than it may have, to move others' content to; it gives back as many before long.  NULL: there is none. */
extern char *cs_region_lend(CsRegion *region);
extern void	 cs_region_give(CsRegion *region, char *block);
/* Nothing is in the block any more; the region keeps it. */
extern void cs_region_clear(CsRegion *region, char *block);
/* Slots begin in this block. */
extern void cs_region_slots(CsRegion *region, char *block);
/* Bytes that it may have now. */
extern int64 cs_region_budget(const CsRegion *region);
/* Blocks that it holds and should not; if that is less than none, those that it could have, too. */
extern int32 cs_region_excess(const CsRegion *region);
/* All of its blocks, palloc'd. */
extern int32 *cs_region_all_blocks(const CsRegion *region, int *n);
extern void	  cs_region_facts(CsRegion *region, const CsMemoryFacts *facts);
/* Wake the workers of others: that lack blocks, or that have more than their share. */
extern void cs_region_wake(const CsRegion *region, bool lacking);

/* ---- of others ---- */

/* The region of a stream of this database, or NULL; *generation tells uses apart. */
extern CsRegion *cs_region_find(int32 stream_id, uint32 *generation);
/* Is it still that one, and open? */
extern bool cs_region_is(const CsRegion *region, uint32 generation);
/* What the workers of this database have said last; palloc'd, with the streams' ids. */
extern CsMemoryFacts *cs_regions_facts(int32 **stream_ids, int *n);
/* The blocks of its slots, palloc'd. */
extern int32 *cs_region_blocks(const CsRegion *region, int *n);

#endif
