/*
 * state/pool.c
 *	  Blocks of shared memory and the regions that hold them; see pool.h.
 */
#include "postgres.h"

#include "core/memory.h"
#include "core/settings.h"
#include "miscadmin.h"
#include "state/pool.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#define TRANCHE "clickstream_state"
#define SPARE 2		   /* blocks that are lent only: for slots and for bytes, */
#define SPARE_SHARE 16 /* and not more than one in so many */

CsPool *cs_pool = NULL;

/* ---- the server's start ---- */

static int32
count_blocks(void)
{
#ifdef EXEC_BACKEND
	return 0; /* a process does not have what its parent mapped: each worker keeps memory of its own */
#else
	return (int32) ((Size) cs_state_memory * 1024 / CS_BLOCK);
#endif
}

static Size
head_size(void)
{
	Size size = MAXALIGN(sizeof(CsPool));

	size = add_size(size, MAXALIGN(mul_size(cs_max_workers, sizeof(CsRegion))));
	return add_size(size, MAXALIGN(mul_size(count_blocks(), sizeof(CsBlockInfo))));
}

void
cs_pool_request(void)
{
	RequestAddinShmemSpace(head_size());
	RequestNamedLWLockTranche(TRANCHE, 1 + CS_POOL_PARTITIONS);
}

/* Nothing of the blocks is touched here: untouched pages cost nothing. */
static void
make_pool(void)
{
	char *at = (char *) cs_pool;

	memset(cs_pool, 0, head_size());
	cs_pool->locks = GetNamedLWLockTranche(TRANCHE);
	cs_pool->nregions = cs_max_workers;
	cs_pool->nblocks = cs_pool->nfree = count_blocks();
	cs_pool->regions = (CsRegion *) (at + MAXALIGN(sizeof(CsPool)));
	cs_pool->blocks =
		(CsBlockInfo *) ((char *) cs_pool->regions + MAXALIGN(mul_size(cs_max_workers, sizeof(CsRegion))));
	cs_pool->base = cs_memory_map_shared(mul_size(count_blocks(), CS_BLOCK));
	for (int32 i = 0; i < cs_pool->nblocks; i++)
		cs_pool->blocks[i].next = i + 1 < cs_pool->nblocks ? i + 1 : -1;
	for (int32 i = 0; i < cs_pool->nregions; i++)
	{
		CsRegion *region = &cs_pool->regions[i];

		pg_atomic_init_u32(&region->is_open, 0);
		pg_atomic_init_u32(&region->moves, 0);
		pg_atomic_init_u32(&region->hides, 0);
		pg_atomic_init_u64(&region->publishing, 0);
		pg_atomic_init_u64(&region->published, 0);
		pg_atomic_init_u64(&region->readable_from, 0);
	}
}

void
cs_pool_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	cs_pool = ShmemInitStruct("clickstream state", head_size(), &found);
	if (!found)
		make_pool();
	LWLockRelease(AddinShmemInitLock);
}

/* ---- a region's worker ---- */

static int32
number_of(const CsRegion *region)
{
	return (int32) (region - cs_pool->regions);
}

CsRegion *
cs_region_begin(int32 stream_id)
{
	CsRegion *region = NULL;

	if (cs_pool == NULL)
		return NULL;
	LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
	for (int32 i = 0; i < cs_pool->nregions && region == NULL; i++)
	{
		if (!cs_pool->regions[i].in_use)
			region = &cs_pool->regions[i];
	}
	if (region)
	{
		region->in_use = true;
		region->owner = MyProc;
		region->database = MyDatabaseId;
		region->stream_id = stream_id;
		region->generation++;
		pg_atomic_write_u32(&region->hides, 0);
		if (pg_atomic_read_u32(&region->moves) % 2) /* its last worker has died in the middle of a move */
			pg_atomic_fetch_add_u32(&region->moves, 1);
		region->slots = -1;
		region->nblocks = region->wants = 0;
		memset(&region->facts, 0, sizeof(region->facts));
		cs_pool->nactive++;
	}
	LWLockRelease(cs_pool_lock());
	return region;
}

void
cs_region_open(CsRegion *region, int64 commit_number)
{
	pg_atomic_write_u64(&region->readable_from, (uint64) commit_number);
	pg_atomic_write_u64(&region->publishing, (uint64) commit_number);
	pg_atomic_write_u64(&region->published, (uint64) commit_number);
	pg_write_barrier();
	pg_atomic_write_u32(&region->is_open, 1);
}

/* With the pool's lock held. */
static void
push_free(CsRegion *region, int32 block)
{
	cs_pool->blocks[block].next = cs_pool->free;
	cs_pool->free = block;
	cs_pool->nfree++;
	region->nblocks--;
}

/* From here on no reader looks into the block. */
static void
disown(int32 block)
{
	LWLockAcquire(cs_block_lock(block), LW_EXCLUSIVE);
	cs_pool->blocks[block].region = 0;
	cs_pool->blocks[block].nslots = 0;
	LWLockRelease(cs_block_lock(block));
}

void
cs_region_end(CsRegion *region)
{
	int32 mine = number_of(region) + 1;

	pg_atomic_write_u32(&region->is_open, 0);
	for (int32 i = 0; i < cs_pool->nblocks; i++)
	{
		if (cs_pool->blocks[i].region != mine)
			continue;
		disown(i);
		LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
		push_free(region, i);
		LWLockRelease(cs_pool_lock());
	}
	LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
	region->in_use = false;
	cs_pool->nactive--;
	LWLockRelease(cs_pool_lock());
}

/* ---- division; with the pool's lock held ---- */

static int32
spare(void)
{
	return Min(SPARE, cs_pool->nblocks / SPARE_SHARE);
}

/* Blocks that are free to be kept. */
static int32
available(void)
{
	return Max(cs_pool->nfree - spare(), 0);
}

static int32
share(void)
{
	return (cs_pool->nblocks - spare()) / Max(cs_pool->nactive, 1);
}

/* Blocks that others lack of their shares, and have asked for. */
static int32
others_want(const CsRegion *region)
{
	int32 wants = 0;

	for (int32 i = 0; i < cs_pool->nregions; i++)
	{
		const CsRegion *other = &cs_pool->regions[i];

		if (other != region && other->in_use)
			wants += Min(other->wants, Max(share() - other->nblocks, 0));
	}
	return wants;
}

/* Blocks that it may hold: its share, or more as long as nobody lacks them. */
static int32
allowance(const CsRegion *region)
{
	return Max(share(), region->nblocks + available() - others_want(region));
}

static int32
pop_free(CsRegion *region)
{
	int32 block = cs_pool->free;

	cs_pool->free = cs_pool->blocks[block].next;
	cs_pool->nfree--;
	cs_pool->blocks[block].region = number_of(region) + 1;
	cs_pool->blocks[block].nslots = 0;
	region->nblocks++;
	return block;
}

/* ---- blocks that come and go ---- */

static char *
address_of(int32 block)
{
	if (block < 0)
		return NULL;
	cs_memory_enlarge(cs_block_address(block), CS_BLOCK);
	return cs_block_address(block);
}

char *
cs_region_take(CsRegion *region)
{
	int32 block = -1;

	LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
	if (available() > 0 && region->nblocks < allowance(region))
		block = pop_free(region);
	else
		region->wants++;
	LWLockRelease(cs_pool_lock());
	return address_of(block);
}

char *
cs_region_lend(CsRegion *region)
{
	int32 block = -1;

	LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
	if (cs_pool->nfree > 0)
		block = pop_free(region);
	LWLockRelease(cs_pool_lock());
	return address_of(block);
}

/* With the pool's lock held. */
static void
unlist_slots(CsRegion *region, int32 block)
{
	int32 *link = &region->slots;

	while (*link >= 0 && *link != block)
		link = &cs_pool->blocks[*link].next;
	if (*link == block)
		*link = cs_pool->blocks[block].next;
}

void
cs_region_give(CsRegion *region, char *address)
{
	int32 block = cs_block_of(address);

	disown(block);
	LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
	unlist_slots(region, block);
	push_free(region, block);
	LWLockRelease(cs_pool_lock());
}

void
cs_region_clear(CsRegion *region, char *address)
{
	int32 block = cs_block_of(address);

	LWLockAcquire(cs_block_lock(block), LW_EXCLUSIVE);
	cs_pool->blocks[block].nslots = 0;
	LWLockRelease(cs_block_lock(block));
	LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
	unlist_slots(region, block);
	LWLockRelease(cs_pool_lock());
}

void
cs_region_slots(CsRegion *region, char *address)
{
	int32 block = cs_block_of(address);

	LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
	cs_pool->blocks[block].next = region->slots;
	region->slots = block;
	LWLockRelease(cs_pool_lock());
}

int64
cs_region_budget(const CsRegion *region)
{
	int32 blocks;

	LWLockAcquire(cs_pool_lock(), LW_SHARED);
	blocks = allowance(region);
	LWLockRelease(cs_pool_lock());
	return (int64) blocks * (int64) CS_BLOCK;
}

int32
cs_region_excess(const CsRegion *region)
{
	int32 excess;

	LWLockAcquire(cs_pool_lock(), LW_SHARED);
	excess = Max(region->nblocks - allowance(region), -available());
	LWLockRelease(cs_pool_lock());
	return excess;
}

int32 *
cs_region_all_blocks(const CsRegion *region, int *n)
{
	int32 *blocks = palloc(Max(cs_pool->nblocks, 1) * sizeof(int32));

	*n = 0;
	LWLockAcquire(cs_pool_lock(), LW_SHARED);
	for (int32 i = 0; i < cs_pool->nblocks; i++)
		if (cs_pool->blocks[i].region == number_of(region) + 1)
			blocks[(*n)++] = i;
	LWLockRelease(cs_pool_lock());
	return blocks;
}

void
cs_region_facts(CsRegion *region, const CsMemoryFacts *facts)
{
	bool lacks_more;

	LWLockAcquire(cs_pool_lock(), LW_EXCLUSIVE);
	lacks_more = facts->own_bytes > region->facts.own_bytes && region->nblocks < share();
	region->facts = *facts;
	region->facts.shared_bytes = region->nblocks * (int64) CS_BLOCK;
	region->wants = (int32) (facts->own_bytes / (int64) CS_BLOCK);
	LWLockRelease(cs_pool_lock());
	if (lacks_more)
		cs_region_wake(region, false);
}

/* A latch that is set of a process that is gone, or is another's by now, wakes somebody once for nothing. */
void
cs_region_wake(const CsRegion *region, bool lacking)
{
	LWLockAcquire(cs_pool_lock(), LW_SHARED);
	for (int32 i = 0; i < cs_pool->nregions; i++)
	{
		const CsRegion *other = &cs_pool->regions[i];

		if (other != region && other->in_use && (lacking ? other->wants > 0 : other->nblocks > share()))
			SetLatch(&other->owner->procLatch);
	}
	LWLockRelease(cs_pool_lock());
}

/* ---- others ---- */

CsRegion *
cs_region_find(int32 stream_id, uint32 *generation)
{
	CsRegion *found = NULL;

	if (cs_pool == NULL)
		return NULL;
	LWLockAcquire(cs_pool_lock(), LW_SHARED);
	for (int32 i = 0; i < cs_pool->nregions && found == NULL; i++)
	{
		CsRegion *region = &cs_pool->regions[i];

		if (region->in_use && region->stream_id == stream_id && region->database == MyDatabaseId)
			found = region;
	}
	if (found)
		*generation = found->generation;
	LWLockRelease(cs_pool_lock());
	return found;
}

bool
cs_region_is(const CsRegion *region, uint32 generation)
{
	bool is;

	LWLockAcquire(cs_pool_lock(), LW_SHARED);
	is = region->in_use && region->generation == generation &&
		 pg_atomic_read_u32((pg_atomic_uint32 *) &region->is_open) != 0;
	LWLockRelease(cs_pool_lock());
	return is;
}

int32 *
cs_region_blocks(const CsRegion *region, int *n)
{
	int32 *blocks = palloc(Max(cs_pool->nblocks, 1) * sizeof(int32));

	*n = 0;
	LWLockAcquire(cs_pool_lock(), LW_SHARED);
	for (int32 i = region->in_use ? region->slots : -1; i >= 0; i = cs_pool->blocks[i].next)
		blocks[(*n)++] = i;
	LWLockRelease(cs_pool_lock());
	return blocks;
}

CsMemoryFacts *
cs_regions_facts(int32 **stream_ids, int *n)
{
	int			   nregions = cs_pool ? cs_pool->nregions : 0;
	CsMemoryFacts *facts = palloc(Max(nregions, 1) * sizeof(CsMemoryFacts));

	*stream_ids = palloc(Max(nregions, 1) * sizeof(int32));
	*n = 0;
	if (nregions == 0)
		return facts;
	LWLockAcquire(cs_pool_lock(), LW_SHARED);
	for (int i = 0; i < nregions; i++)
	{
		const CsRegion *region = &cs_pool->regions[i];

		if (!region->in_use || region->database != MyDatabaseId)
			continue;
		(*stream_ids)[*n] = region->stream_id;
		facts[(*n)++] = region->facts;
	}
	LWLockRelease(cs_pool_lock());
	return facts;
}
