/*
 * engine/retry.c
 *	  Dead letters of whole messages run through the stream again.
 *
 * A transaction of the stream without messages of its source: the letters
 * take the way of a batch's messages, each at its own place (partition and
 * offset) and event time, into the state as it is now.  Offsets, watermark
 * and idle partitions stay: a message that was mended must not move what the
 * topic's content has decided.  So an event is late where the watermark has
 * passed it, and apply_late() does the rest.
 *
 * Each definition counts it once.  In the ledger the offset moves from dead to
 * what it became.  A definition that was made after the message was read does
 * not see it, as it does not see its neighbours.  The event log gets the event
 * as come with this commit, into the partition of the day when the message
 * came, so that it goes with its neighbours; where that one is gone, it does
 * not get it.  So a definition that is being filled with history, which is
 * never further than the last commit, meets it there, and is passed by here;
 * one that is filled from the topic takes it now, and its history passes over it.
 *
 * The engine is of no use afterwards: it has not published what it stored.
 */
#include "postgres.h"

#include "core/event_log.h"
#include "engine/backfill.h"
#include "engine/dedupe.h"
#include "engine/event_log.h"
#include "engine/internal.h"
#include "engine/lookup.h"
#include "engine/retry.h"
#include "miscadmin.h"
#include "utils/memutils.h"

static CsPartition *
find_partition(const CsEngine *e, const CsLetter *letter)
{
	int topic = cs_stream_topic_index(e->stream, letter->topic);

	for (int i = 0; i < e->npartitions; i++)
	{
		if (e->partitions[i]->topic == topic && e->partitions[i]->id == letter->partition)
			return e->partitions[i];
	}
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("stream \"%s\" does not read partition %s/%d any more", e->stream->name, letter->topic,
						   letter->partition),
					errhint("Leave its dead letters out by the filter.")));
}

static void
fill_message(const CsEngine *e, const CsLetter *letter, CsMessage *message)
{
	memset(message, 0, sizeof(CsMessage));
	message->partition = find_partition(e, letter);
	message->offset = letter->offset;
	message->timestamp = letter->timestamp;
	message->payload = letter->payload;
	message->payload_len = letter->payload_len;
	message->key = letter->key;
	message->key_len = letter->key_len;
	message->foreign = letter->headers;
}

/*
 * What the letters of this chunk died of again, or NULL: they are there
 * already, and no new ones are written.  e->dead has them behind the first
 * ndead, in the order of the events.
 */
static const CsDeadLetter **
take_dead(CsEngine *e, int ndead)
{
	const CsDeadLetter **dead = palloc0(e->nevents * sizeof(CsDeadLetter *));
	int					 next = ndead;

	for (int i = 0; i < e->nevents; i++)
	{
		if (e->events[i].class == CS_CLASS_DEAD)
			dead[i] = list_nth(e->dead, next++);
	}
	e->dead = list_truncate(e->dead, ndead);
	e->stop_at = NULL;
	return dead;
}

/* Over those events that came when it was there. */
static void
run_definition(CsEngine *e, int stage)
{
	bool *hidden = palloc0(e->nevents * sizeof(bool));

	for (int i = 0; i < e->nevents; i++)
	{
		CsEvent *event = &e->events[i];

		hidden[i] = !event->skip && !cs_backfill_counts(&e->stages[stage], event->message,
														event->message->partition->counts[stage].since);
		event->skip |= hidden[i];
	}
	cs_chunk_run_stage(e, &e->stages[stage]);
	cs_backfill_note_retried(e, &e->stages[stage], hidden);
	for (int i = 0; i < e->nevents; i++)
	{
		if (hidden[i])
			e->events[i].skip = false;
	}
	pfree(hidden);
}

static void
log_events(CsEngine *e, const CsLetter *letters)
{
	for (int i = 0; i < e->nevents; i++)
	{
		CsEvent *event = &e->events[i];
		CsCount *count = &event->message->partition->counts[e->nstages];

		if (event->class == CS_CLASS_DEAD || event->class == CS_CLASS_EMPTY || event->message->offset < count->since)
			continue;
		if (cs_event_log_write_belated(e, e->event_log, i, letters[i].arrived_at))
			count->used++;
	}
}

static void
account(CsEngine *e)
{
	for (int i = 0; i < e->nevents; i++)
	{
		CsPartition *p = e->events[i].message->partition;
		CsClass class = (CsClass) e->events[i].class;

		p->ledger[CS_CLASS_DEAD]--;
		p->ledger[class]++;
		p->repaired += class == CS_CLASS_USED;
		p->counts_changed = true;
	}
}

static void
store_outcomes(CsEngine *e, const CsLetter *letters, const CsDeadLetter **dead, CsRetryResult result, void *arg)
{
	for (int i = 0; i < e->nevents; i++)
	{
		CsClass class = (CsClass) e->events[i].class;

		if (dead[i])
			cs_letter_dead_again(&letters[i], dead[i]->cause, dead[i]->error, dead[i]->sqlstate, e->ctx.now);
		else
			cs_letter_repaired(&letters[i], cs_class_name(class), e->ctx.now);
		result(&letters[i], class, dead[i] ? dead[i]->error : NULL, arg);
	}
}

static void
run_chunk(CsEngine *e, CsLetter *letters, int n, CsRetryResult result, void *arg)
{
	MemoryContext		 old = MemoryContextSwitchTo(e->chunk);
	int					 ndead = list_length(e->dead);
	const CsDeadLetter **dead;

	for (int i = 0; i < n; i++)
		fill_message(e, &letters[i], &e->messages[i]);
	cs_chunk_decode(e, n);
	dead = take_dead(e, ndead);
	for (int i = 0; i < n; i++)
		e->events[i].watermark = e->watermark;
	cs_dedupe_run(e);
	cs_lookups_fill(e);
	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].op->def->kind != CS_KIND_ROLLUP && !cs_backfill_reads_log(&e->stages[i]))
			run_definition(e, i);
	}
	if (e->event_log)
		log_events(e, letters);
	account(e);
	store_outcomes(e, letters, dead, result, arg);
	e->batch_messages += n;
	cs_unpoint_slot(e);
	MemoryContextSwitchTo(old);
	MemoryContextReset(e->chunk);
}

typedef struct Retry
{
	CsLetter	 *letters;
	int			  n;
	CsRetryResult result;
	void		 *arg;
} Retry;

static void
run(CsEngine *e, void *arg)
{
	Retry *retry = arg;

	if (e->upsert)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("dead letters of a lookup's topic cannot be retried"),
				 errdetail("The row may have changed since."),
				 errhint("Have it sent again, or clickstream.reset() the stream to read the topic anew.")));
	for (int done = 0; done < retry->n; done += CS_CHUNK_MESSAGES)
	{
		CHECK_FOR_INTERRUPTS();
		run_chunk(e, retry->letters + done, Min(retry->n - done, CS_CHUNK_MESSAGES), retry->result, retry->arg);
	}
	e->batch_messages = 0; /* none was read: the log's retention is for batches to look after */
}

void
cs_engine_retry(int32 stream_id, const CsHost *host, CsLetter *letters, int n, CsRetryResult result, void *arg)
{
	Retry retry = {letters, n, result, arg};

	cs_engine_repair(stream_id, host, run, &retry);
}
