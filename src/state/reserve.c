/*
 * state/reserve.c
 *	  What publication will take is there before COMMIT.
 *
 * After COMMIT nothing may fail.  While works are logged (log.c) the pieces
 * are counted that their images will need, those of freed pieces left aside;
 * then blocks are taken for what freed pieces do not cover.  It is never
 * too little; what was too much is there for the next batch.
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
	const CsEntry *base = work->base_half == CS_HALF_TABLE ? NULL : work->base; /* a guest's memory is the batch's */
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
