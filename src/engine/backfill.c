/*
 * engine/backfill.c
 *	  A definition with a history: filled from the event log, or without one from
 *	  the topic (history.c), or a rollup from its source table, while the others
 *	  go on.
 *
 * A filling definition takes no part in what is live.  Each batch, before it reads
 * messages, runs some history through it: events in the order in which they
 * came, each with the watermark that it met, into the same state and tables, in the
 * batch's transaction.  So the definition is at any commit what it would have
 * been when those events came, whatever crashes; its own watermark follows.
 * What is too much to be closed in one batch is closed in the next ones, before the definition
 * takes more events; its row says up to which watermark.
 * When the log holds no more, which then ends exactly where this batch begins to
 * read, the definition joins: from that message on it is live.
 *
 * From the topic one definition is filled after the other, because each reads by a
 * connection of its own.
 *
 * A rollup is filled bucket by bucket from its source table, once that is not filling
 * itself: buckets not yet made leave out what is live.
 *
 * More history goes through than messages in one batch, so it comes to an end.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "core/fault.h"
#include "core/settings.h"
#include "engine/backfill.h"
#include "engine/dedupe.h"
#include "engine/replay.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define HISTORY_PER_BATCH \
	20000		   /* events of the log in one transaction, and twice as many as the last one had messages */
#define PIECE 4096 /* read from the log at once */
#define BUCKETS_PER_BATCH 100
#define SPAN_MIN 16 /* commits looked through at once */
#define SPAN_MAX 65536

/* A piece of history on its way. */
typedef struct Filling
{
	CsEngine	 *e;
	CsStage		 *stage;
	CsMessage	 *messages;
	int			  n; /* events in e->events */
	int64		  taken;
	bool		  stopped; /* more is to be closed than in one batch: what comes now is for a later one */
	CsLogMark	  last;
	TimestampTz	  watermark;
	MemoryContext context;
} Filling;

/* ---- life ---- */

/* In a transaction; before counts and recovered(). */
void
cs_backfill_load(CsEngine *e)
{
	int			   n;
	CsBackfillRow *rows = cs_backfills_load(e->stream->stream_id, &n);

	for (int i = 0; i < n; i++)
	{
		for (int s = 0; s < e->nstages; s++)
		{
			CsStage *stage = &e->stages[s];

			if (stage->op->def->definition_id != rows[i].definition_id)
				continue;
			stage->backfill = palloc0(sizeof(CsBackfill));
			stage->backfill->row = stage->backfill->committed = rows[i];
			stage->backfill->span = SPAN_MIN;
			if (rows[i].from_topic)
			{
				stage->backfill->history = cs_history_load(e, stage);
				cs_dedupe_register(e, CS_DEDUPE_OF(rows[i].definition_id));
			}
		}
	}
}

static CsStage *
source_of(const CsEngine *e, const CsStage *stage)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].op == stage->op->source)
			return &e->stages[i];
	}
	return NULL;
}

TimestampTz
cs_backfill_watermark(const CsEngine *e, const CsStage *stage, TimestampTz live)
{
	const CsStage *source = stage->op->def->kind == CS_KIND_ROLLUP ? source_of(e, stage) : stage;

	return source && cs_stage_fills(source) ? source->backfill->row.watermark : live;
}

bool
cs_backfill_reads_log(const CsStage *stage)
{
	return cs_stage_fills(stage) && stage->backfill->history == NULL;
}

bool
cs_backfill_counts(const CsStage *stage, const CsMessage *message, int64 since)
{
	if (cs_stage_fills(stage) && stage->backfill->history)
		return cs_history_holds(stage->backfill->history, message);
	return message->offset >= since;
}

void
cs_backfill_note_retried(CsEngine *e, const CsStage *stage, const bool *hidden)
{
	if (!cs_stage_fills(stage) || stage->backfill->history == NULL)
		return;
	for (int i = 0; i < e->nevents; i++)
	{
		const CsMessage *m = e->events[i].message;
		CsPassedOver	 place = {m->partition->topic, m->partition->id, m->offset, m->offset + 1};

		/* Also what the stream has left out: the topic has the message as it was. */
		if (e->events[i].class != CS_CLASS_DEAD && !hidden[i] && !cs_history_has_passed(stage->backfill->history, m))
			cs_passed_over_insert(e->stream, stage->op->def->definition_id, &place);
	}
}

bool
cs_backfill_remains(const CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (cs_stage_fills(&e->stages[i]))
			return true;
	}
	return false;
}

CsHistory *
cs_backfill_reading(const CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (cs_stage_fills(&e->stages[i]) && e->stages[i].backfill->history)
			return e->stages[i].backfill->history;
	}
	return NULL;
}

void
cs_backfill_leave(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].backfill && e->stages[i].backfill->history)
			cs_history_leave(e, e->stages[i].backfill->history);
	}
}

void
cs_backfill_store_all(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		CsBackfill *b = e->stages[i].backfill;

		if (b && b->joined)
			cs_backfill_delete(e->stream->stream_id, b->row.definition_id);
		else if (b && b->moved)
		{
			cs_backfill_store(&b->row);
			if (b->history)
				cs_history_store(e, b->history);
		}
	}
}

void
cs_backfill_committed(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		CsBackfill *b = e->stages[i].backfill;

		if (b == NULL)
			continue;
		b->committed = b->row;
		b->moved = false;
		if (b->history)
			cs_history_committed(b->history);
		if (b->joined)
			e->stages[i].backfill = NULL;
		if (b->joined && b->history)
			cs_history_close(b->history);
	}
	e->backfilled = false;
}

void
cs_backfill_abort(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		CsBackfill *b = e->stages[i].backfill;

		if (b == NULL)
			continue;
		b->row = b->committed;
		b->moved = b->joined = false;
		if (b->history)
			cs_history_abort(b->history);
	}
	e->backfilled = false;
}

/* ---- events ---- */

static CsPartition *
partition_of(const CsEngine *e, const CsPlace *place)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		if (e->partitions[i]->topic == place->topic && e->partitions[i]->id == place->partition)
			return e->partitions[i];
	}
	return NULL;
}

/* So much as a batch may close of what a watermark at wm passes; false: more is left. */
static bool
advance_to(CsEngine *e, CsStage *stage, TimestampTz wm, bool finish)
{
	CsBackfill	 *b = stage->backfill;
	MemoryContext old = MemoryContextSwitchTo(e->batch);
	bool		  done = stage->op->ops->advance(stage->op, &e->ctx, wm, cs_closings_at_once(e), finish);

	b->moved |= !done || wm > b->row.watermark;
	if (done)
		b->row.watermark = wm;
	MemoryContextSwitchTo(old);
	return done;
}

bool
cs_backfill_advance(CsEngine *e, CsStage *stage, TimestampTz wm)
{
	CsBackfill *b = stage->backfill;
	TimestampTz content = wm == CS_WM_DONE ? cs_watermark_content(e) : CS_WM_NONE;

	/* Where it stays there may still be rows to write again: of an event that came late, but not too late. */
	wm = Max(wm, b->row.watermark);
	if (wm == CS_WM_NONE || b->row.watermark == CS_WM_DONE)
		return true;
	b->row.closing = wm;
	/* First what the content itself has closed: that has another reason than finish(). */
	if (content > b->row.watermark && !advance_to(e, stage, content, false))
		return false;
	return advance_to(e, stage, wm, wm == CS_WM_DONE);
}

/* What earlier batches have left; false: it is not all. */
static bool
close_left(CsEngine *e, CsStage *stage)
{
	return !cs_backfill_is_closing(stage) || cs_backfill_advance(e, stage, stage->backfill->row.closing);
}

/* How far that has come: for recovery and readers. */
static void
note_closing(CsEngine *e, CsStage *stage)
{
	const CsOperatorOps *ops = stage->op->ops;

	if (ops->note_closing && cs_stage_fills(stage))
		ops->note_closing(stage->op, &e->ctx, cs_backfill_is_closing(stage));
}

void
cs_backfill_close_all(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (!cs_backfill_is_closing(&e->stages[i]))
			continue;
		while (!close_left(e, &e->stages[i]))
			CHECK_FOR_INTERRUPTS();
		note_closing(e, &e->stages[i]);
	}
}

static void
apply_piece(Filling *f)
{
	CsEngine	 *e = f->e;
	MemoryContext old = MemoryContextSwitchTo(e->chunk);

	e->nevents = f->n;
	if (f->n > 0)
		cs_chunk_run_stage(e, f->stage);
	for (int i = 0; i < f->n; i++)
		e->events[i].message->partition->counts_changed = true;
	cs_unpoint_slot(e);
	e->nevents = 0;
	f->n = 0;
	MemoryContextSwitchTo(old);
	MemoryContextReset(e->chunk);
	e->events = NULL;
	f->stopped = !cs_backfill_advance(e, f->stage, f->watermark);
}

/* What came before the time that history is to begin with is not, whenever it was logged. */
static bool
is_wanted(const Filling *f, const CsPartition *p, int64 offset)
{
	return f->stage->backfill->row.from == CS_WM_NONE || offset >= p->counts[f->stage - f->e->stages].since;
}

static void
take_event(const Datum *values, const bool *isnull, const CsLogged *logged, void *arg)
{
	Filling		 *f = arg;
	CsEngine	 *e = f->e;
	CsPlace		  place = cs_logged_place(e->stream, values);
	CsPartition	 *p = partition_of(e, &place);
	CsReplayEvent copy;
	CsEvent		 *event;
	CsMessage	 *message;
	MemoryContext old;
	bool		  wanted;

	if (f->stopped)
		return;
	wanted = logged->seen && p != NULL && is_wanted(f, p, place.offset);
	if (wanted && cs_stage_must_wait(e, f->stage, place.time, logged->watermark, f->n))
	{
		f->watermark = Max(f->watermark, logged->watermark);
		apply_piece(f);
		f->stopped = true;
		return;
	}
	f->last = logged->mark;
	f->taken++;
	if (!wanted)
		return;
	old = MemoryContextSwitchTo(e->chunk);
	if (e->events == NULL)
		e->events = palloc(CS_CHUNK_MESSAGES * sizeof(CsEvent));
	cs_logged_event(e->stream, e->needed, &copy, values, isnull);
	message = &f->messages[f->n];
	event = &e->events[f->n++];
	*message = (CsMessage){.partition = p, .offset = place.offset, .timestamp = copy.timestamp};
	*event = (CsEvent){.message = message,
					   .place = place,
					   .watermark = logged->watermark,
					   .has_visitor = copy.has_visitor,
					   .visitor_hash = copy.visitor_hash,
					   .values = copy.values,
					   .isnull = copy.isnull};
	f->watermark = Max(f->watermark, logged->watermark);
	MemoryContextSwitchTo(old);
	if (f->n == CS_CHUNK_MESSAGES)
		apply_piece(f);
}

/* Nothing before it is wanted; if nothing is, it is behind the last one. */
static int64
first_commit(const CsEngine *e, TimestampTz from)
{
	int64 commit = cs_event_log_first_commit(e->event_log_table, from);

	return commit < 0 ? e->stored.commit_number + 1 : commit;
}

/*
 * The definition counts from the first offset on that the log holds, and that it is to have.  With a time to begin at, that
 * may lie behind what has been logged since the definition was made: it has waited for a closing.
 */
static void
begin_counting(CsEngine *e, CsStage *stage)
{
	TimestampTz from = stage->backfill->row.from;

	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];
		CsCount		*count = &p->counts[stage - e->stages];
		int64		 first = cs_event_log_first_offset(e->event_log_table, e->stream->topics[p->topic], p->id, from);

		if (from != CS_WM_NONE)
			count->since = first >= 0 ? first : p->next_offset; /* nothing is read yet: what is logged lies below it */
		else if (first >= 0)
			count->since = Min(first, count->since);
		p->counts_changed = true;
	}
	stage->backfill->row.mark = (CsLogMark){from == CS_WM_NONE ? 0 : first_commit(e, from), -1};
}

/* Up to max events of the log through the definition; false: the log holds no more. */
static bool
fill_piece(Filling *f, int64 max, int64 *n)
{
	CsEngine   *e = f->e;
	CsBackfill *b = f->stage->backfill;
	int64		newest = e->stored.commit_number;
	int64		upto = Min(b->row.mark.commit_number + b->span, newest);

	if (b->row.mark.commit_number > newest)
		return false;
	f->last = b->row.mark;
	f->taken = 0;
	*n = cs_event_log_in_order(e->event_log_table, e->stream, b->row.mark, upto, DT_NOBEGIN, DT_NOEND, max, take_event,
							   f);
	if (!f->stopped)
		apply_piece(f);
	b->row.done += f->taken;
	b->moved = true;
	if (f->taken >= max || f->taken < *n)
	{
		b->row.mark = f->last;
		b->span = Max(b->span / 2, 1);
		return true;
	}
	b->row.mark = (CsLogMark){upto + 1, -1}; /* all of upto is done */
	b->span = Min(b->span * 2, SPAN_MAX);
	return upto < newest;
}

/* What there is was run through it: from this batch's messages on it is live, if all is closed. */
static void
join_live(CsEngine *e, CsStage *stage)
{
	if (!cs_backfill_advance(e, stage, e->stored.closed))
		return;
	if (stage->backfill->history)
		cs_dedupe_forget(e, CS_DEDUPE_OF(stage->op->def->definition_id));
	stage->backfill->joined = true;
	stage->previewed = CS_WM_NONE;
}

bool
cs_backfill_is_full(const CsEngine *e)
{
	Size bytes = MemoryContextMemAllocated(e->batch, true);

	return cs_state_is_crowded(e->state, (int64) bytes);
}

static void
fill(CsEngine *e, CsStage *stage, int64 budget)
{
	Filling f = {.e = e, .stage = stage};
	bool	more = true;

	if (e->event_log_id != stage->backfill->row.log_id) /* none, or another one that was made since */
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("\"%s\" is being filled from the event log, which is gone", stage->op->def->name),
						errhint("Drop the definition.")));
	if (stage->backfill->row.mark.commit_number < 0)
		begin_counting(e, stage);
	e->is_filling = true;
	e->events = NULL; /* those of the last chunk are gone */
	f.messages = MemoryContextAlloc(e->batch, CS_CHUNK_MESSAGES * sizeof(CsMessage));
	f.watermark = stage->backfill->row.watermark;
	do
	{
		int64 n = 0;

		more = fill_piece(&f, Min(budget, PIECE), &n);
		budget -= Max(n, 1);
		CS_FAULT(HISTORY);
		CHECK_FOR_INTERRUPTS();
	} while (more && budget > 0 && !f.stopped && !cs_backfill_is_full(e));
	e->is_filling = false;
	if (!more && !f.stopped)
		join_live(e, stage);
}

/* reading: the topic's history whose turn it is. */
static void
fill_events(CsEngine *e, CsStage *stage, const CsHistory *reading, int64 budget)
{
	const CsHistory *history = stage->backfill->history;

	if (!close_left(e, stage))
		return;
	if (history == NULL)
		fill(e, stage, budget);
	else if (history == reading && cs_history_run(e, stage, budget) && !cs_backfill_is_closing(stage))
		join_live(e, stage);
}

/* ---- buckets ---- */

static void
fill_rollup(CsEngine *e, CsStage *stage)
{
	const CsDefinition *def = stage->op->def;
	CsStage			   *source = source_of(e, stage);
	CsBackfill		   *b = stage->backfill;
	TimestampTz			from = b->row.bucket == CS_WM_NONE ? DT_NOBEGIN : b->row.bucket;

	if (source->backfill != NULL)
		return; /* not in the batch in which it joins either: its rows are not all in the table yet */
	for (int i = 0; i < BUCKETS_PER_BATCH && (i == 0 || !cs_backfill_is_full(e)); i++)
	{
		TimestampTz start = cs_source_next_start(source->op->def->table, def->start_column, from);

		if (start == CS_WM_DONE)
		{
			b->joined = true;
			return;
		}
		b->row.done += cs_rollup_fill(e, stage, source, start, &from);
		b->row.bucket = from;
		b->moved = true;
		CS_FAULT(HISTORY);
		CHECK_FOR_INTERRUPTS();
	}
}

bool
cs_backfill_reaches(const CsStage *rollup, TimestampTz start)
{
	const CsBackfill *b = rollup->backfill;

	return !cs_stage_fills(rollup) || (b->row.bucket != CS_WM_NONE && start < b->row.bucket);
}

/* ---- a batch's part ---- */

void
cs_backfill_run(CsEngine *e)
{
	int64		  budget = Max(Min((int64) HISTORY_PER_BATCH, INT64CONST(4) * cs_batch_messages), 2 * e->last_messages);
	bool		  catching_up = e->ctx.catching_up;
	CsHistory	 *reading = cs_backfill_reading(e);
	MemoryContext old = MemoryContextSwitchTo(e->batch);

	if (e->closings_left)
	{
		MemoryContextSwitchTo(old);
		return; /* first what the others have to close: then everything up to the watermark is closed */
	}
	e->ctx.catching_up = true; /* rewrites wait */
	for (int i = 0; i < e->nstages; i++)
	{
		CsStage *stage = &e->stages[i];

		if (!cs_stage_fills(stage))
			continue;
		if (stage->op->def->kind == CS_KIND_ROLLUP)
			fill_rollup(e, stage);
		else
			fill_events(e, stage, reading, budget);
		note_closing(e, stage);
		e->backfilled |= stage->backfill->moved || stage->backfill->joined;
	}
	e->ctx.catching_up = catching_up;
	MemoryContextSwitchTo(old);
}
