/*
 * engine/history.h
 *	  A definition's history, read from the topic a second time.
 */
#ifndef CS_ENGINE_HISTORY_H
#define CS_ENGINE_HISTORY_H

#include "engine/internal.h"

typedef struct CsHistory CsHistory;

/* Where the definition's history stands, as committed; in a transaction, before recovery. */
extern CsHistory *cs_history_load(CsEngine *e, CsStage *stage);
/* Up to about max messages through the definition; true: all up to where the stream stands has gone through. */
extern bool cs_history_run(CsEngine *e, CsStage *stage, int64 max);
extern void cs_history_store(CsEngine *e, CsHistory *h);
extern void cs_history_committed(CsHistory *h);
/* Back to what is committed. */
extern void cs_history_abort(CsHistory *h);
/* The engine's own positions are back in place, also where an error has ended a run; before anything else of an abort. */
extern void cs_history_leave(CsEngine *e, CsHistory *h);
/* Has history come by the message's place? */
extern bool cs_history_has_passed(const CsHistory *h, const CsMessage *message);
/* Is the message's place history's?  Not those from before its beginning; until that is known, the time decides. */
extern bool cs_history_holds(const CsHistory *h, const CsMessage *message);
/* It has joined: give back what was needed to read. */
extern void cs_history_close(CsHistory *h);
/* Becomes readable when there may be more; -1: nothing is open. */
extern int cs_history_poll_fd(const CsHistory *h);
/* Why nothing comes, or NULL. */
extern const char *cs_history_problem(const CsHistory *h);

#endif
