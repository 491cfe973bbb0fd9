/*
 * operator/running.h
 *	  A hopping window carried from one slide to the next.
 *
 * Where all measures are counts and distinct counts, the next window is this one less the slide that leaves plus the slide that comes:
 * a value seen costs one look, not one in each window that it lies in.  What
 * is carried is derived from the cells, never stored, and made anew from
 * them whenever it does not fit: after recovery, an abort, a gap in the data,
 * or a change of a slide that it holds already.
 */
#ifndef CS_OPERATOR_RUNNING_H
#define CS_OPERATOR_RUNNING_H

#include "operator/cell.h"

typedef struct CsRunning CsRunning;
struct CsWindow;

/* NULL if the measures do not allow it, or the windows have too few slides for it to pay. */
extern CsRunning *cs_running_create(struct CsWindow *w, MemoryContext cxt);
/* A slide that is complete was changed, or the batch was aborted. */
extern void cs_running_forget(CsRunning *running);
/*
 * Emit rows of a window, of groups from a part on, and as many as are left;
 * true: it was the last, and all is ready for the next window.
 */
extern bool cs_running_emit(CsRunning *running, CsBatchContext *batch, CsSpan span, bool is_final, uint64 *from,
							int64 *left);

#endif
