/*
 * state/reserve.c
 *	  What publication will take is there before COMMIT.
 *
 * After COMMIT nothing may fail.  While works are logged (log.c) the pieces
 * are counted that their images will need, those of freed pieces left aside;
 * then blocks are taken for what freed pieces do not cover.  It is never
 * too little; what was too much is there for the next batch.
 *
 * Nor may reading back fail half way: what one entry takes is there before
 * anything changes (cs_reserve_entry()).
 *
 * No locking of its own.
 */
#include "postgres.h"

#include "state/internal.h"

static void
need(CsState *state, uint32 len)
{
	if (len > CS_ARENA_LIMIT)
		state->needs[cs_arena_class(sizeof(CsChain))] += (int32) cs_chain_pieces(len);
	else
		state->needs[cs_arena_class(len)]++;
}

void
cs_reserve_work(CsState *state, const CsWork *work)
{
	const CsEntry *base = work->base;
	bool		   moves = base && work->leaves_copy && state->readable;

	if (base == NULL || moves)
		state->needs_slots++;
	if (base == NULL || moves || !cs_arena_fits(work->base_class, work->image_len))
		need(state, work->image_len);
}

/* A new or growing set: its first piece made anew, or pieces added to its chain. */
static void
reserve_sets(CsState *state)
{
	for (CsSetChange *c = state->set_changes; c; c = c->next)
	{
		if (c->drop)
			continue;
		state->needs[cs_arena_class(sizeof(CsChain))] += (int32) ((c->n + c->nraw) / CS_SET_PIECE) + 2;
		state->needs_slots++;
	}
}

void
cs_reserve_entry(CsState *state, CsDefState *def, const CsKey *key, uint32 len, TimestampTz due)
{
	CsArena *arena = &state->data_pieces;
	Size	 bytes = 0;

	if (len > CS_ARENA_LIMIT)
		bytes = (Size) cs_chain_pieces(len) * sizeof(CsChain);
	else if (!cs_arena_has(arena, cs_arena_class(len)))
		bytes = cs_arena_size(cs_arena_class(len));
	cs_blocks_reserve(&state->blocks,
					  cs_arena_blocks_for(arena, bytes) +
						  (cs_arena_has(&state->entry_pieces, cs_arena_class(sizeof(CsEntry))) ? 0 : 1));
	if (key->bucket != 0)
		(void) cs_bucket_of(def, key->bucket, true);
	else if (due != CS_WM_DONE)
		(void) cs_timer_of(def, due);
}

void
cs_reserve(CsState *state)
{
	Size bytes = 0;
	Size slots;

	reserve_sets(state);
	slots = Max(state->needs_slots - state->entry_pieces.nfreed[cs_arena_class(sizeof(CsEntry))], 0) * CS_SLOT;
	for (int i = 0; i < CS_ARENA_CLASSES; i++)
		bytes += (Size) Max(state->needs[i] - state->data_pieces.nfreed[i], 0) * cs_arena_size((uint8) i);
	cs_blocks_reserve(&state->blocks, cs_arena_blocks_for(&state->data_pieces, bytes) +
										  cs_arena_blocks_for(&state->entry_pieces, slots));
	memset(state->needs, 0, sizeof(state->needs));
	state->needs_slots = 0;
}
