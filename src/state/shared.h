/*
 * state/shared.h
 *	  What readers see: the open state as of a commit, in their own memory.
 */
#ifndef CS_STATE_SHARED_H
#define CS_STATE_SHARED_H

#include "state/state.h"

/*
 * Fill a reader's state, in which the definitions he asks for are registered:
 * what is open for a snapshot that sees commit_number as the stream's last
 * commit.  Out of the shared memory of the stream's worker if that has
 * it still, and then each entry has its newest committed bytes; out of the
 * log, under the snapshot, otherwise.  CsEntry.changed is the commit that an
 * entry's bytes are of.
 */
extern void cs_state_read(CsState *state, const CsStream *stream, const CsLogPosition *position, int64 commit_number,
						  Snapshot snapshot);

#endif
