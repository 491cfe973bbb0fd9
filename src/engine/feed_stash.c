/*
 * engine/feed_stash.c
 *	  What helpers have sent of partitions that are paused (engine/align.c); see feed.h.
 *
 * A pause must not disturb a helper's other partitions: assigned anew they
 * would not be known to be at their ends for a moment, for which moment others
 * wait, and so on for ever.  So the helper is told to stop, what it had sent by
 * then is kept here, and is handed out first when the partition goes on; only
 * then is the helper told to read on.  That bounds it: it is no more than
 * was on the way at one time, about CS_FEED_QUEUE for each helper.
 *
 * Locking: see feed.h.
 */
#include "postgres.h"

#include "engine/feed_internal.h"
#include "engine/packed.h"
#include "utils/memutils.h"

/* A packed event, which lies behind it. */
typedef struct Stashed
{
	dlist_node node;
} Stashed;

StaticAssertDecl(sizeof(Stashed) % MAXIMUM_ALIGNOF == 0, "a packed event lies as palloc() would have it");

bool
cs_stash_takes(const CsHelper *helper, int partition)
{
	return helper->partitions[partition]->paused || !dlist_is_empty(&helper->stashes[partition]);
}

void
cs_stash_add(CsFeedSource *source, CsHelper *helper, const CsPackedEvent *packed)
{
	Size	 size = cs_packed_size(packed);
	Stashed *stashed = MemoryContextAllocHuge(source->stash, sizeof(Stashed) + size);

	memcpy(stashed + 1, packed, size);
	dlist_push_tail(&helper->stashes[cs_packed_partition(packed)], &stashed->node);
	source->nstashed++;
}

void
cs_stash_tell(CsHelper *helper, int partition)
{
	pg_atomic_uint32 *pauses = &helper->feed->partitions[partition].pauses;

	if (cs_stash_takes(helper, partition) == pg_atomic_read_u32(pauses) % 2)
		return;
	pg_atomic_fetch_add_u32(pauses, 1);
	cs_helper_wake(helper);
}

static int
hand_out(CsFeedSource *source, CsHelper *helper, int partition, CsMessage *messages, int max)
{
	CsPartition *p = helper->partitions[partition];
	dlist_head	*stash = &helper->stashes[partition];
	int			 n = 0;

	if (p->paused || dlist_is_empty(stash))
		return 0;
	for (; n < max && !dlist_is_empty(stash); n++)
	{
		dlist_node *node = dlist_pop_head_node(stash);

		messages[n].partition = p;
		cs_packed_message((const CsPackedEvent *) (dlist_container(Stashed, node, node) + 1), &messages[n]);
		dlist_push_tail(&source->spent, node);
		source->nstashed--;
	}
	cs_stash_tell(helper, partition);
	return n;
}

int
cs_stash_hand_out(CsFeedSource *source, CsMessage *messages, int max)
{
	int n = 0;

	for (int h = 0; h < source->nhelpers && source->nstashed > 0; h++)
	{
		CsHelper *helper = &source->helpers[h];

		for (int i = 0; i < helper->npartitions && n < max; i++)
			n += hand_out(source, helper, i, messages + n, max - n);
	}
	return n;
}

void
cs_stash_release(CsFeedSource *source)
{
	while (!dlist_is_empty(&source->spent))
		pfree(dlist_container(Stashed, node, dlist_pop_head_node(&source->spent)));
}

void
cs_stash_forget(CsFeedSource *source)
{
	MemoryContextReset(source->stash);
	dlist_init(&source->spent);
	source->nstashed = 0;
	for (int h = 0; h < source->nhelpers; h++)
	{
		for (int i = 0; i < source->npartitions; i++)
			dlist_init(&source->helpers[h].stashes[i]);
	}
}
