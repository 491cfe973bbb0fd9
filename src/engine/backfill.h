/*
 * engine/backfill.h
 *	  Definitions that are being filled with history.
 */
#ifndef CS_ENGINE_BACKFILL_H
#define CS_ENGINE_BACKFILL_H

#include "core/backfill.h"
#include "engine/history.h"
#include "engine/internal.h"

typedef struct CsBackfill
{
	CsBackfillRow row; /* this transaction included */
	CsBackfillRow committed;
	bool		  moved;
	bool		  joined;  /* in this transaction */
	int64		  span;	   /* commits looked through at once */
	CsHistory	 *history; /* it is read from the topic; NULL: from the event log, or the source's table */
} CsBackfill;

/* Is the definition left out of what is live? */
static inline bool
cs_stage_fills(const CsStage *stage)
{
	return stage->backfill != NULL && !stage->backfill->joined;
}

extern void cs_backfill_load(CsEngine *e);
/* Some history, before the batch's messages. */
extern void cs_backfill_run(CsEngine *e);
extern bool cs_backfill_reads_log(const CsStage *stage);
/* Does a definition that is live, or reads the topic, count a message that comes again?  It counts from since on. */
extern bool cs_backfill_counts(const CsStage *stage, const CsMessage *message, int64 since);
/* What of the chunk's messages is yet to come as history from the topic has been used now, if not hidden. */
extern void cs_backfill_note_retried(CsEngine *e, const CsStage *stage, const bool *hidden);
extern bool cs_backfill_remains(const CsEngine *e);
/* The topic's history that is being read; NULL: none is.  One at a time. */
extern CsHistory *cs_backfill_reading(const CsEngine *e);
/* Where an error may have ended a run: the engine's own positions are in place. */
extern void cs_backfill_leave(CsEngine *e);
/* Where the watermark stands for a definition: live, unless it or what it reads is being filled. */
extern TimestampTz cs_backfill_watermark(const CsEngine *e, const CsStage *stage, TimestampTz live);
/* Does a rollup take live rows of a bucket? */
extern bool cs_backfill_reaches(const CsStage *rollup, TimestampTz start);

extern void cs_backfill_store_all(CsEngine *e);
extern void cs_backfill_committed(CsEngine *e);
extern void cs_backfill_abort(CsEngine *e);

/*
 * For who runs history: close what a watermark at wm passes.  False: more than
 * a batch may close; the next ones do that, and until then it takes no events.
 */
extern bool cs_backfill_advance(CsEngine *e, CsStage *stage, TimestampTz wm);
/* The same for who cannot wait: all that is left of all definitions. */
extern void cs_backfill_close_all(CsEngine *e);

static inline bool
cs_backfill_is_closing(const CsStage *stage)
{
	return cs_stage_fills(stage) && stage->backfill->row.closing > stage->backfill->row.watermark;
}
/* Has the batch taken enough memory? */
extern bool cs_backfill_is_full(const CsEngine *e);

/* rollup_feed.c: make the bucket that holds start; *end is its end.  How many rows it has. */
extern int64 cs_rollup_fill(CsEngine *e, CsStage *rollup, CsStage *source, TimestampTz start, TimestampTz *end);

#endif
