/*
 * engine/history.c
 *	  A definition's history, read from the topic a second time.
 *
 * Where there is no event log, the history of a definition is what the topic
 * still holds in front of the stream's positions.  A second source reads it,
 * from the earliest offset on, with positions, a watermark and a memory of
 * duplicates of its own, and each chunk goes through the same steps as live
 * messages do, for this definition alone, in the stream's own transactions.
 * To those steps the history's positions stand in the place of the engine's
 * (enter(), leave()).
 *
 * It goes in rounds.  A round's target is where the stream stood as it began;
 * when all partitions are there, and the stream has moved on, the next round
 * has less to do.  The last one is so short that the batch waits a moment for
 * it: then history ends exactly where this batch begins to read.
 *
 * Messages that are open dead letters of the stream history passes over, whatever
 * they would be by now: retry_dead_letters() brings them, once.  What else cannot
 * be decoded, as it stands in the topic, becomes the definition's dead letter.
 * What seek() and skip_message() have passed over history passes over, too.  What
 * retention has deleted, or has gone with its topic, is counted, and said.
 *
 * A topic does not say when its messages were read.  So the watermark here is
 * that of the content, in the order in which this source delivers it, and never
 * beyond the stream's own.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "core/backfill.h"
#include "core/clock.h"
#include "core/fault.h"
#include "engine/backfill.h"
#include "engine/dedupe.h"
#include "engine/history.h"
#include "engine/lookup.h"
#include "engine/passed_over.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define ASK_MS 2000			/* for a broker that is to say where a partition begins */
#define MEET_MESSAGES 20000 /* no more than this missing: the batch waits for them */
#define MEET_MS 500			/* but not longer than this */

/* A partition as history reads it. */
typedef struct Past
{
	CsPartition		p;		/* position and watermark; the counts are the stream's own.  First member */
	CsPartition	   *live;	/* the stream's */
	int64			target; /* of this round: what is from there on is not history yet */
	int64			first;
	int64			gone; /* messages that were deleted before they could be read */
	CsPassedOver	met;  /* of the messages in hand, from the first to the last */
	CsBackfillPlace committed;
	bool			is_stored;
} Past;

/* What stands in the engine while history does not. */
typedef struct Present
{
	CsSource	 *source;
	CsPartition **partitions;
	int			  npartitions;
	CsMessage	 *messages;
	TimestampTz	  watermark;
	TimestampTz	  ceiling;
} Present;

struct CsHistory
{
	int32		  definition_id;
	const char	 *name;
	TimestampTz	  from; /* nothing that came before, or CS_WM_NONE: all */
	MemoryContext context;
	MemoryContext source_context;
	CsStream	  stream; /* as the engine's */
	CsSource	 *source; /* NULL: not open */
	char		  problem[512];
	int			  n;
	Past		**pasts;
	CsPartition **partitions; /* &pasts[i]->p */
	bool		  assigned;	  /* the source reads this round */
	bool		  lost;		  /* an offset was not there any more */
	bool		  silent;	  /* and the broker did not say where it begins */
	CsMessage	 *messages;
	int			  npassed;
	CsPassedOver *passed; /* what seek() has left out; in order */
	bool		  entered;
	Present		  present;
};

/* ---- life ---- */

static Past *
add_past(CsHistory *h, const CsBackfillPlace *place)
{
	MemoryContext old = MemoryContextSwitchTo(h->context);
	Past		 *past = palloc0(sizeof(Past));
	int			  n = h->n + 1;

	past->p.topic = place->topic;
	past->p.id = place->partition;
	past->p.next_offset = past->p.stored_offset = past->target = place->next_offset;
	past->p.end_offset = past->p.last_offset =
		-1; /* whether it is still that topic the stream's own reading finds out */
	past->p.max_time = past->p.last_event_time = place->max_time;
	past->p.last_spoke = past->p.moved_at = cs_now();
	past->first = place->first_offset;
	past->gone = place->gone;
	past->committed = *place;
	h->pasts = h->pasts ? repalloc(h->pasts, n * sizeof(Past *)) : palloc(sizeof(Past *));
	h->partitions = h->partitions ? repalloc(h->partitions, n * sizeof(CsPartition *)) : palloc(sizeof(CsPartition *));
	h->pasts[h->n] = past;
	h->partitions[h->n] = &past->p;
	h->n = n;
	MemoryContextSwitchTo(old);
	return past;
}

CsHistory *
cs_history_load(CsEngine *e, CsStage *stage)
{
	MemoryContext	 context = AllocSetContextCreate(e->context, "clickstream history", ALLOCSET_DEFAULT_SIZES);
	MemoryContext	 old = MemoryContextSwitchTo(context);
	CsHistory		*h = palloc0(sizeof(CsHistory));
	int				 n;
	CsBackfillPlace *places = cs_backfill_places_load(e->stream, stage->op->def->definition_id, &n);

	h->context = context;
	h->definition_id = stage->op->def->definition_id;
	h->name = stage->op->def->name;
	h->from = stage->backfill->row.from;
	h->stream = *e->stream;
	h->stream.start_from = h->from == CS_WM_NONE ? CS_START_EARLIEST : CS_START_TIMESTAMP;
	h->stream.start_time = h->from;
	h->messages = palloc(CS_CHUNK_MESSAGES * sizeof(CsMessage));
	h->passed = cs_passed_over_load(e->stream, h->definition_id, &h->npassed);
	cs_passed_over_sort(h->passed, h->npassed);
	for (int i = 0; i < n; i++)
		add_past(h, &places[i])->is_stored = true;
	MemoryContextSwitchTo(old);
	return h;
}

static void
close_source(CsHistory *h)
{
	MemoryContext closing = h->source_context;

	h->source = NULL;
	h->source_context = NULL;
	h->assigned = false;
	if (closing)
		MemoryContextDelete(closing);
}

void
cs_history_close(CsHistory *h)
{
	close_source(h);
	MemoryContextDelete(h->context);
}

int
cs_history_poll_fd(const CsHistory *h)
{
	return h->source ? h->source->ops->poll_fd(h->source) : -1;
}

const char *
cs_history_problem(const CsHistory *h)
{
	return h->problem[0] ? h->problem : NULL;
}

static CsBackfillPlace
place_of(const Past *past)
{
	return (CsBackfillPlace){.topic = past->p.topic,
							 .partition = past->p.id,
							 .first_offset = past->first,
							 .next_offset = past->p.next_offset,
							 .gone = past->gone,
							 .max_time = past->p.max_time};
}

static bool
is_moved(const Past *past)
{
	return !past->is_stored || past->p.next_offset != past->committed.next_offset || past->gone != past->committed.gone;
}

void
cs_history_store(CsEngine *e, CsHistory *h)
{
	for (int i = 0; i < h->n; i++)
	{
		CsBackfillPlace place = place_of(h->pasts[i]);

		if (is_moved(h->pasts[i]))
			cs_backfill_place_store(e->stream, h->definition_id, &place);
	}
}

void
cs_history_committed(CsHistory *h)
{
	for (int i = 0; i < h->n; i++)
	{
		h->pasts[i]->committed = place_of(h->pasts[i]);
		h->pasts[i]->is_stored = true;
	}
}

void
cs_history_abort(CsHistory *h)
{
	for (int i = 0; i < h->n; i++)
	{
		Past *past = h->pasts[i];

		if (is_moved(past))
			h->assigned = false; /* read again from there */
		past->p.next_offset = past->committed.next_offset;
		past->p.max_time = past->p.last_event_time = past->committed.max_time;
		past->gone = past->committed.gone;
	}
}

/* ---- in the place of the engine's positions ---- */

static void
enter(CsEngine *e, CsHistory *h, TimestampTz watermark)
{
	h->present = (Present){e->source, e->partitions, e->npartitions, e->messages, e->watermark, e->ceiling};
	e->source = h->source;
	e->partitions = h->partitions;
	e->npartitions = h->n;
	e->messages = h->messages;
	e->watermark = watermark;
	e->ceiling = h->present.watermark;
	e->dedupe_definition = CS_DEDUPE_OF(h->definition_id);
	h->entered = true;
}

void
cs_history_leave(CsEngine *e, CsHistory *h)
{
	if (!h->entered)
		return;
	e->source = h->present.source;
	e->partitions = h->present.partitions;
	e->npartitions = h->present.npartitions;
	e->messages = h->present.messages;
	e->watermark = h->present.watermark;
	e->ceiling = h->present.ceiling;
	e->dedupe_definition = DEDUPE_DEFINITION;
	h->entered = false;
}

/* ---- where it begins, and what is gone ---- */

static void
note_problem(CsHistory *h)
{
	const char *problem = h->source->ops->problem(h->source);

	if (problem)
		snprintf(h->problem, sizeof(h->problem), "history of %s: %s", h->name, problem);
	else
		h->problem[0] = '\0';
}

/* The first offset that a partition has, or that history is to have of it; false: the broker did not say. */
static bool
ask_offset(CsHistory *h, const CsPartition *p, bool wanted, int64 *offset)
{
	CsPartition probe = {.topic = p->topic, .id = p->id, .end_offset = -1};

	if (!h->source->ops->start_offset(h->source, &probe, wanted, ASK_MS))
	{
		note_problem(h);
		return false;
	}
	*offset = probe.next_offset;
	return true;
}

static bool
first_there(CsHistory *h, const CsPartition *p, int64 *offset)
{
	return ask_offset(h, p, false, offset);
}

/* Where history begins, and how many messages before it the topic does not hold any more. */
static bool
find_beginning(CsHistory *h, const CsPartition *live, int64 *first, int64 *gone)
{
	int64 there = live->next_offset; /* of a topic that is gone */

	*first = *gone = there;
	if (live->is_gone)
		return true;
	if (!first_there(h, live, &there) || (h->from != CS_WM_NONE && !ask_offset(h, live, true, first)))
		return false;
	*first = h->from == CS_WM_NONE ? there : Max(*first, there);
	*first = Min(*first, live->next_offset);
	*gone = *first > there ? 0 : *first;
	return true;
}

static void
say_gone(const CsHistory *h, const Past *past, int64 n)
{
	ereport(MyBackendType == B_BG_WORKER ? LOG : NOTICE,
			(errmsg_plural("history of \"%s\" lacks %lld message of topic \"%s\", partition %d",
						   "history of \"%s\" lacks %lld messages of topic \"%s\", partition %d", (unsigned long) n,
						   h->name, (long long) n, h->stream.topics[past->p.topic], past->p.id),
			 past->live->is_gone ? errdetail("The topic is gone.")
								 : errdetail("The topic does not hold them any more; it begins at offset %lld.",
											 (long long) past->p.next_offset)));
}

/* Nothing before offset is there: go on from there. */
static bool
pass_over_gone(CsHistory *h, Past *past, int64 offset)
{
	int64 n = offset - past->p.next_offset;

	if (n <= 0)
		return false;
	past->p.next_offset = offset;
	past->gone += n;
	say_gone(h, past, n);
	return true;
}

static Past *
begin_partition(CsHistory *h, CsPartition *live, int64 first, int64 gone)
{
	CsBackfillPlace place = {.topic = live->topic, .partition = live->id, .gone = gone};
	Past		   *past;

	place.first_offset = place.next_offset = first;
	/* A partition of which nothing is left holds the watermark where the stream has it. */
	place.max_time = place.first_offset == live->next_offset ? live->max_time : CS_WM_NONE;
	past = add_past(h, &place);
	past->live = live;
	if (past->gone > 0)
		say_gone(h, past, past->gone);
	return past;
}

static Past *
past_of(const CsHistory *h, const CsPartition *live)
{
	for (int i = 0; i < h->n; i++)
	{
		if (h->pasts[i]->p.topic == live->topic && h->pasts[i]->p.id == live->id)
			return h->pasts[i];
	}
	return NULL;
}

bool
cs_history_has_passed(const CsHistory *h, const CsMessage *message)
{
	const Past *past = past_of(h, message->partition);

	return past != NULL && message->offset < past->p.next_offset;
}

bool
cs_history_holds(const CsHistory *h, const CsMessage *message)
{
	const Past *past = past_of(h, message->partition);

	return past ? message->offset >= past->first : message->timestamp >= h->from;
}

/* The definition counts from where its history begins: also where the batch that began it was undone. */
static void
count_from_first(const Past *past, int stage)
{
	CsCount *count = &past->live->counts[stage];

	if (count->since <= past->first)
		return;
	count->since = past->first;
	past->live->counts_changed = true;
}

/* A topic of a pattern may be gone, or there again; what is gone holds the watermark where the stream has it. */
static void
follow_gone(CsHistory *h, Past *past)
{
	const CsPartition *live = past->live;

	if (live->is_gone && pass_over_gone(h, past, live->next_offset))
		past->p.max_time = Max(past->p.max_time, live->max_time);
	if (past->p.is_gone != live->is_gone)
		h->assigned = false;
	past->p.is_gone = live->is_gone;
}

/* Each of the stream's partitions has a past, which counts where the stream does. */
static bool
meet_partitions(CsEngine *e, CsStage *stage, CsHistory *h)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *live = e->partitions[i];
		Past		*past = past_of(h, live);
		int64		 first;
		int64		 gone;

		if (past == NULL)
		{
			if (!find_beginning(h, live, &first, &gone))
				return false;
			past = begin_partition(h, live, first, gone);
			h->assigned = false;
		}
		past->live = live;
		past->p.counts = live->counts;
		past->p.ncounts = live->ncounts;
		count_from_first(past, (int) (stage - e->stages));
		follow_gone(h, past);
	}
	return true;
}

/* Retention may be quicker than we are; true: it was somewhere.  *silent: the broker did not say. */
static bool
go_on_behind_gone(CsHistory *h, bool *silent)
{
	bool moved = false;

	*silent = false;
	for (int i = 0; i < h->n; i++)
	{
		Past *past = h->pasts[i];
		int64 first;

		if (past->p.next_offset >= past->live->next_offset)
			continue;
		if (first_there(h, &past->p, &first))
			moved |= pass_over_gone(h, past, Min(first, past->live->next_offset));
		else
		{
			*silent = true; /* it would not say of the others either */
			break;
		}
	}
	if (moved)
		h->assigned = false;
	return moved;
}

static bool
prepare(CsEngine *e, CsStage *stage, CsHistory *h)
{
	bool silent;

	if (h->source && h->source->ops->is_outdated(h->source))
		close_source(h);
	if (h->source == NULL)
	{
		close_source(h); /* what one has left that could not be opened */
		h->source_context = AllocSetContextCreate(h->context, "clickstream source", ALLOCSET_DEFAULT_SIZES);
		h->source = cs_source_for(&h->stream)->open(&h->stream, h->source_context);
	}
	h->problem[0] = '\0';
	if (!meet_partitions(e, stage, h))
		return false;
	if (h->stream.brokers == NULL)
		(void) go_on_behind_gone(h, &silent); /* a look at a table; of a broker it is asked when something is missing */
	return true;
}

/* ---- rounds ---- */

static int64
remaining(const CsHistory *h)
{
	int64 n = 0;

	for (int i = 0; i < h->n; i++)
		n += Max(h->pasts[i]->target - h->pasts[i]->p.next_offset, 0);
	return n;
}

/* Up to where the stream stands now, as a round that is not over yet; false: history is there. */
static bool
begin_round(CsHistory *h)
{
	for (int i = 0; i < h->n; i++)
		h->pasts[i]->target = h->pasts[i]->live->next_offset;
	h->assigned = false;
	return remaining(h) > 0;
}

/*
 * What the source says of ends is of the topic's; here a partition ends at its
 * target.  Offsets before it that hold no message (marks of transactions,
 * compaction) are passed when the topic's own end is there.
 */
static void
note_ends(CsHistory *h)
{
	for (int i = 0; i < h->n; i++)
	{
		CsPartition *p = &h->pasts[i]->p;

		if (p->at_end && p->end_offset >= h->pasts[i]->target)
			p->next_offset = Max(p->next_offset, h->pasts[i]->target);
		p->at_end = p->next_offset >= h->pasts[i]->target;
		p->idle = p->at_end && cs_watermark_is_idle(h->pasts[i]->live);
	}
}

static void
assign(CsHistory *h)
{
	CsPartition **there = palloc(Max(h->n, 1) * sizeof(CsPartition *));
	int			  n = 0;

	for (int i = 0; i < h->n; i++)
	{
		h->partitions[i]->paused = false;
		if (!h->partitions[i]->is_gone)
			there[n++] = h->partitions[i];
	}
	h->source->ops->assign(h->source, there, n);
	pfree(there);
	note_ends(h);
}

/* ---- messages ---- */

typedef struct Poll
{
	CsHistory *h;
	int		   max;
	int		   timeout_ms;
	int		   n;
} Poll;

static void
poll_step(CsEngine *e, void *arg, int i)
{
	Poll *poll = arg;

	(void) e;
	(void) i;
	/* As if all before had been committed: that is when the source raises what it has met. */
	poll->h->source->ops->committed(poll->h->source, NULL, 0);
	poll->n = poll->h->source->ops->poll(poll->h->source, poll->h->messages, poll->max, poll->timeout_ms);
	CS_FAULT(HISTORY);
}

/*
 * An offset that is not there is no fault: retention was quicker.  If it was
 * not, it is one; while the broker does not say, that is not known.
 */
static void
poll_failed(CsEngine *e, void *arg, int i, ErrorData *error)
{
	CsHistory *h = ((Poll *) arg)->h;

	(void) e;
	(void) i;
	if (error->sqlerrcode != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
		ReThrowError(error);
	h->lost = go_on_behind_gone(h, &h->silent);
	if (!h->lost && !h->silent)
		ReThrowError(error);
}

/*
 * In a subtransaction, which an error of the source ends.  h->assigned comes
 * back when what was delivered is in the positions: an error before that, of
 * whatever kind, has it read again.
 */
static int
poll_source(CsEngine *e, CsHistory *h, int max, int timeout_ms)
{
	Poll poll = {.h = h, .max = max, .timeout_ms = timeout_ms};

	h->assigned = h->lost = h->silent = false;
	cs_guarded_loop(e, 1, poll_step, poll_failed, &poll);
	note_problem(h);
	return h->lost || h->silent ? 0 : poll.n;
}

static void
note_met(CsHistory *h, int n)
{
	for (int i = 0; i < h->n; i++)
	{
		const CsPartition *p = h->partitions[i];

		h->pasts[i]->met = (CsPassedOver){p->topic, p->id, PG_INT64_MAX, 0};
	}
	for (int i = 0; i < n; i++)
	{
		const CsMessage *m = &h->messages[i];
		CsPassedOver	*met = &((Past *) m->partition)->met;

		met->first_offset = Min(met->first_offset, m->offset);
		met->next_offset = Max(met->next_offset, m->offset + 1);
	}
}

/*
 * Where the stream has open dead letters from the first to the last of n
 * messages, in order; *nopen of them in batch memory.  They may be more than
 * messages: a topic that is compacted has lost some.
 */
static CsPassedOver *
open_letters(CsHistory *h, int n, int *nopen)
{
	CsPassedOver *open = palloc(sizeof(CsPassedOver));

	*nopen = 0;
	note_met(h, n);
	for (int i = 0; i < h->n; i++)
	{
		Past		 *past = h->pasts[i];
		CsPassedOver *found;
		int			  nfound;

		if (past->met.next_offset == 0 || past->live->ledger[CS_CLASS_DEAD] == 0)
			continue;
		found = cs_passed_over_letters(&h->stream, &past->met, &nfound);
		open = repalloc(open, (*nopen + nfound + 1) * sizeof(CsPassedOver));
		memcpy(open + *nopen, found, nfound * sizeof(CsPassedOver));
		*nopen += nfound;
		pfree(found);
	}
	cs_passed_over_sort(open, *nopen);
	return open;
}

/* Keep those that are history, and are to be used; how many. */
static int
sift(CsHistory *h, int n)
{
	TimestampTz	  now = cs_now();
	int			  kept = 0;
	int			  nopen;
	CsPassedOver *open = open_letters(h, n, &nopen);

	for (int i = 0; i < n; i++)
	{
		CsMessage *m = &h->messages[i];
		Past	  *past = (Past *) m->partition;

		past->p.last_spoke = now;
		past->p.next_offset = Max(past->p.next_offset, Min(m->offset + 1, past->target));
		if (m->offset < past->target && !cs_passed_over_has(h->passed, h->npassed, m) &&
			!cs_passed_over_has(open, nopen, m))
			h->messages[kept++] = *m;
	}
	pfree(open);
	return kept;
}

/* n messages to events, or those before one that must wait: false. */
static bool
decode(CsEngine *e, CsStage *stage, CsHistory *h, int n)
{
	int				 nbefore = list_length(e->dead);
	CsDeadLetter	*stop_at = e->stop_at;
	const CsMessage *ends_before = e->ends_before;

	cs_chunk_decode(e, n);
	e->stop_at = stop_at; /* history stops nobody */
	cs_chunk_watermarks(e, stage, nbefore);
	e->ends_before = ends_before;
	cs_chunk_claim_dead(e, h->definition_id, nbefore);
	return e->nevents == n;
}

/* The first n messages through the definition, or those before one that must wait: false. */
static bool
apply(CsEngine *e, CsStage *stage, CsHistory *h, int n)
{
	MemoryContext old = MemoryContextSwitchTo(e->chunk);
	bool		  all = decode(e, stage, h, n);

	if (!all)
		cs_chunk_give_back(e, n);
	cs_dedupe_run(e);
	cs_lookups_fill(e);
	if (e->nevents > 0)
		cs_chunk_run_stage(e, stage);
	for (int i = 0; i < e->nevents; i++)
		((Past *) h->messages[i].partition)->live->counts_changed = true;
	cs_unpoint_slot(e);
	e->nevents = 0;
	MemoryContextSwitchTo(old);
	MemoryContextReset(e->chunk);
	e->events = NULL;
	return all;
}

/* What the watermark has passed; false: more than a batch may close. */
static bool
close_passed(CsEngine *e, CsStage *stage)
{
	MemoryContext old = MemoryContextSwitchTo(e->batch);
	bool		  done;

	cs_watermark_recompute(e);
	done = cs_backfill_advance(e, stage, e->watermark);
	cs_dedupe_advance(e);
	MemoryContextSwitchTo(old);
	return done;
}

static int
patience(const CsHistory *h, TimestampTz since)
{
	if (remaining(h) > MEET_MESSAGES)
		return 0;
	return (int) TimestampDifferenceMilliseconds(GetCurrentTimestamp(), since + MEET_MS * CS_USECS_PER_MSEC);
}

/* Rounds and chunks until the stream is met (true), enough is done, or nothing comes. */
static bool
run_rounds(CsEngine *e, CsStage *stage, CsHistory *h, int64 max)
{
	TimestampTz begun = GetCurrentTimestamp();

	for (;;)
	{
		int	 n;
		bool waits = false;

		if (remaining(h) == 0 && !begin_round(h))
			return true;
		if (max <= 0 || cs_backfill_is_full(e))
			return false;
		if (!h->assigned)
			assign(h);
		(void) cs_align_run(e);
		n = poll_source(e, h, (int) Min(max, CS_CHUNK_MESSAGES), patience(h, begun));
		max -= Max(n, 1);
		if (!h->lost && !h->silent)
		{
			int kept = sift(h, n);

			if (kept > 0)
				waits = !apply(e, stage, h, kept);
			if (!waits)
				note_ends(h);
			h->source->ops->release(h->source);
			h->assigned = !waits;
		}
		if (!close_passed(e, stage) || waits || h->silent ||
			(n == 0 && remaining(h) > 0 && !h->lost && !cs_align_run(e)))
			return false;
		CHECK_FOR_INTERRUPTS();
	}
}

bool
cs_history_run(CsEngine *e, CsStage *stage, int64 max)
{
	CsHistory	 *h = stage->backfill->history;
	MemoryContext old = MemoryContextSwitchTo(e->batch);
	bool		  met = false;

	if (e->assigned && prepare(e, stage, h))
	{
		enter(e, h, stage->backfill->row.watermark);
		met = run_rounds(e, stage, h, max);
		cs_history_leave(e, h);
	}
	for (int i = 0; i < h->n; i++)
		stage->backfill->moved |= is_moved(h->pasts[i]);
	MemoryContextSwitchTo(old);
	return met;
}
