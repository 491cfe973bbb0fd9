/*
 * engine/feeder.c
 *	  A decode worker's work: from Kafka to parcels in a queue; see feed.h.
 *
 * It has an engine without lock, state and positions, of which it uses the
 * decoder, the stream's expressions and the first step of a chunk.  That step
 * runs in a transaction as the stream's owner, as in the applier; what waits
 * (for messages, for room in the queue) does so outside of transactions.
 *
 * No locks.
 */
#include "postgres.h"

#include "core/fault.h"
#include "core/wait.h"
#include "engine/feed.h"
#include "engine/packed.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define WAIT_MS 1000			   /* a net under lost wake-ups */
#define KEEP_MAX (4 * 1024 * 1024) /* a longer buffer is given back */

struct CsFeeder
{
	CsFeed		  *feed;
	shm_mq_handle *queue;
	CsEngine	  *e;
	CsPartition	  *partitions; /* of the assignment */
	CsFeed		  *copy;	   /* of what the applier has assigned */
	uint32		  *pauses;	   /* of each, as the applier had counted when the source was told */
	uint64		   generation; /* 0: nothing was assigned yet */
	bool		   failed;	   /* in this generation */
	StringInfoData parcel;
	CsParcel	   head;

	/* As the applier was told last, in this generation. */
	bool		told;
	CsFeedMark *marks;
	char		problem[512];
};

const CsStream *
cs_feeder_stream(const CsFeeder *feeder)
{
	return feeder->e->stream;
}

static int32
version_now(int32 stream_id, const CsHost *host)
{
	CsControl control;

	host->begin();
	cs_control_load(stream_id, &control);
	host->commit();
	return control.exists ? control.version : -1;
}

/* What it compiles must be what the applier has: the version before and after says so.  NULL: it is not. */
static CsEngine *
open_engine(const CsFeed *feed, const CsHost *host, MemoryContext parent)
{
	CsEngine *e;

	if (version_now(feed->stream_id, host) != feed->version)
		return NULL;
	e = cs_engine_open_decoder(feed->stream_id, host, parent);
	if (version_now(feed->stream_id, host) == feed->version)
		return e;
	cs_engine_close(e);
	return NULL;
}

CsFeeder *
cs_feeder_open(CsFeed *feed, shm_mq_handle *queue, const CsHost *host, MemoryContext parent)
{
	CsEngine	 *e = open_engine(feed, host, parent);
	MemoryContext old;
	CsFeeder	 *feeder;

	if (e == NULL)
		return NULL;
	CS_FAULT(FEEDER_OPENED);
	old = MemoryContextSwitchTo(e->context);
	feeder = palloc0(sizeof(CsFeeder));
	feeder->feed = feed;
	feeder->queue = queue;
	feeder->e = e;
	feeder->partitions = palloc0(CS_FEED_PARTITIONS * sizeof(CsPartition));
	feeder->copy = palloc(sizeof(CsFeed));
	feeder->pauses = palloc0(CS_FEED_PARTITIONS * sizeof(uint32));
	feeder->marks = palloc0(CS_FEED_PARTITIONS * sizeof(CsFeedMark));
	e->partitions = palloc0(CS_FEED_PARTITIONS * sizeof(CsPartition *));
	for (int i = 0; i < CS_FEED_PARTITIONS; i++)
		e->partitions[i] = &feeder->partitions[i];
	initStringInfo(&feeder->parcel);
	e->source_context = AllocSetContextCreate(e->context, "clickstream source", ALLOCSET_DEFAULT_SIZES);
	e->source = cs_source_for(e->stream)->open(e->stream, e->source_context);
	MemoryContextSwitchTo(old);
	return feeder;
}

/* ---- what the applier says ---- */

/* The segment as it is; false: an assignment is being written, and whoever does it wakes us when it is done. */
static bool
copy_assignment(CsFeeder *feeder, uint64 generation)
{
	pg_read_barrier();
	memcpy(feeder->copy, feeder->feed, sizeof(CsFeed));
	pg_read_barrier();
	return pg_atomic_read_u64(&feeder->feed->generation) == generation;
}

static void
take_assignment(CsFeeder *feeder)
{
	CsEngine *e = feeder->e;

	e->npartitions = feeder->copy->npartitions;
	for (int i = 0; i < e->npartitions; i++)
	{
		const CsFeedPartition *given = &feeder->copy->partitions[i];

		feeder->partitions[i] = (CsPartition){.topic = given->topic,
											  .id = given->id,
											  .next_offset = given->offset,
											  .last_offset = given->last_offset,
											  .last_checksum = given->last_checksum,
											  .end_offset = -1};
		feeder->pauses[i] = 0;
	}
	e->source->ops->assign(e->source, e->partitions, e->npartitions);
}

static void
follow_assignment(CsFeeder *feeder)
{
	uint64 generation = pg_atomic_read_u64(&feeder->feed->generation);

	if (generation == feeder->generation || generation % 2 == 1 || !copy_assignment(feeder, generation))
		return;
	feeder->generation = generation;
	feeder->failed = false;
	feeder->told = false;
	feeder->problem[0] = '\0';
	take_assignment(feeder);
}

/* The applier hears of each change, also of one that was taken back before it was seen: it knows nothing of ends then. */
static void
follow_pauses(CsFeeder *feeder)
{
	CsSource *source = feeder->e->source;

	for (int i = 0; i < feeder->e->npartitions; i++)
	{
		CsPartition *p = &feeder->partitions[i];
		uint32		 pauses = pg_atomic_read_u32(&feeder->feed->partitions[i].pauses);

		if (pauses == feeder->pauses[i])
			continue;
		feeder->pauses[i] = pauses;
		feeder->told = false;
		if (p->paused == pauses % 2)
			continue;
		p->paused = pauses % 2;
		p->at_end = false;
		source->ops->pause(source, p, p->paused);
	}
}

/* ---- parcels ---- */

static void
begin_parcel(CsFeeder *feeder)
{
	if (feeder->parcel.maxlen > KEEP_MAX)
	{
		MemoryContext old = MemoryContextSwitchTo(feeder->e->context);

		pfree(feeder->parcel.data);
		initStringInfo(&feeder->parcel);
		MemoryContextSwitchTo(old);
	}
	resetStringInfo(&feeder->parcel);
	memset(&feeder->head, 0, sizeof(feeder->head));
	feeder->head.generation = feeder->generation;
	(void) cs_packed_append(&feeder->parcel, NULL, sizeof(CsParcel));
}

/* Marks, and the source's problem. */
static void
add_news(CsFeeder *feeder)
{
	const char *problem = feeder->e->source->ops->problem(feeder->e->source);

	for (int i = 0; i < feeder->e->npartitions; i++)
	{
		feeder->marks[i].end_offset = feeder->partitions[i].end_offset;
		feeder->marks[i].at_end = feeder->partitions[i].at_end;
	}
	strlcpy(feeder->problem, problem ? problem : "", sizeof(feeder->problem));
	feeder->head.marks = cs_packed_append(&feeder->parcel, feeder->marks, feeder->e->npartitions * sizeof(CsFeedMark));
	feeder->head.problem = cs_packed_append(&feeder->parcel, feeder->problem, strlen(feeder->problem) + 1);
	feeder->told = true;
}

static bool
is_news(const CsFeeder *feeder)
{
	const char *problem = feeder->e->source->ops->problem(feeder->e->source);

	if (!feeder->told || strncmp(problem ? problem : "", feeder->problem, sizeof(feeder->problem) - 1) != 0)
		return true;
	for (int i = 0; i < feeder->e->npartitions; i++)
	{
		if (feeder->marks[i].end_offset != feeder->partitions[i].end_offset ||
			feeder->marks[i].at_end != feeder->partitions[i].at_end)
			return true;
	}
	return false;
}

/* Waits for room; false: nobody is there to read it.  Half a parcel would spoil the queue: it cannot be cancelled. */
static bool
send_parcel(CsFeeder *feeder)
{
	shm_mq_result result;

	memcpy(feeder->parcel.data, &feeder->head, sizeof(CsParcel));
	HOLD_CANCEL_INTERRUPTS();
	result = shm_mq_send(feeder->queue, feeder->parcel.len, feeder->parcel.data, false, true);
	RESUME_CANCEL_INTERRUPTS();
	return result == SHM_MQ_SUCCESS;
}

/* ---- messages ---- */

/* Events from `first` on, until the parcel is full; the next one. */
static int
pack_events(CsFeeder *feeder, int first, ListCell **letter)
{
	CsEngine *e = feeder->e;
	Size	  places[CS_CHUNK_MESSAGES];
	int		  i = first;

	for (; i < e->nevents && feeder->parcel.len < (int) CS_FEED_PARCEL; i++)
	{
		const CsEvent *event = &e->events[i];
		CsPartition	  *p = event->message->partition;
		CsDeadLetter  *dead = NULL;

		if (event->class == CS_CLASS_DEAD)
		{
			dead = lfirst(*letter);
			*letter = lnext(e->dead, *letter);
		}
		places[i - first] = cs_packed_add(e, &feeder->parcel, (int) (p - feeder->partitions), event, dead);
		p->next_offset = event->message->offset + 1;
	}
	feeder->head.nevents = i - first;
	feeder->head.events = cs_packed_append(&feeder->parcel, places, feeder->head.nevents * sizeof(Size));
	return i;
}

static void
forget_chunk(CsFeeder *feeder)
{
	CsEngine *e = feeder->e;

	cs_unpoint_slot(e);
	e->dead = NIL;
	e->stop_at = NULL;
	MemoryContextReset(e->chunk);
	MemoryContextReset(e->batch);
	e->source->ops->release(e->source);
}

static void
decode_messages(CsEngine *e, int n)
{
	MemoryContextSwitchTo(e->chunk);
	cs_chunk_decode(e, n);
}

/* Mostly one parcel; more of them if messages are long. */
static bool
send_messages(CsFeeder *feeder, int n)
{
	CsEngine	 *e = feeder->e;
	MemoryContext old = CurrentMemoryContext;
	ListCell	 *letter;
	int			  next = 0;
	bool		  sent = true;

	cs_engine_in_transaction(e, decode_messages, n);
	CS_FAULT(FEEDER_DECODED);
	MemoryContextSwitchTo(e->chunk);
	letter = list_head(e->dead);
	while (next < n && sent)
	{
		begin_parcel(feeder);
		next = pack_events(feeder, next, &letter);
		if (next == n)
			add_news(feeder);
		sent = send_parcel(feeder);
		CS_FAULT(FEEDER_SENT);
	}
	forget_chunk(feeder);
	MemoryContextSwitchTo(old);
	return sent;
}

static bool
send_news(CsFeeder *feeder)
{
	begin_parcel(feeder);
	add_news(feeder);
	return send_parcel(feeder);
}

/* ---- the work ---- */

bool
cs_feeder_step(CsFeeder *feeder)
{
	CsEngine *e = feeder->e;
	int		  n;

	if (pg_atomic_read_u32(&feeder->feed->stop) != 0)
		return false;
	follow_assignment(feeder);
	if (feeder->failed || feeder->generation == 0)
	{
		(void) cs_wait(-1, WAIT_MS);
		return true;
	}
	follow_pauses(feeder);
	e->source->ops->committed(e->source, NULL, 0); /* what was sent is the applier's: a fault may be raised now */
	n = e->source->ops->poll(e->source, e->messages, CS_CHUNK_MESSAGES, 0);
	pg_atomic_write_u32(&feeder->feed->busy, n > 0);
	if (n > 0)
	{
		CS_FAULT(FEEDER_FETCHED);
		return send_messages(feeder, n);
	}
	if (is_news(feeder))
		return send_news(feeder);
	(void) cs_wait(e->source->ops->poll_fd(e->source), WAIT_MS);
	return true;
}

/* Copy as much as there is room for; whole characters do not matter to a reader of errors. */
static void
copy_text(char *target, const char *text, Size size)
{
	int len = text == NULL ? 0 : pg_mbcliplen(text, (int) strlen(text), (int) size - 1);

	memcpy(target, text ? text : "", len);
	target[len] = '\0';
}

bool
cs_feeder_failed(CsFeeder *feeder, const ErrorData *error)
{
	CsFeedError copy = {0};

	if (pg_atomic_read_u32(&feeder->feed->stop) != 0)
		return false;
	feeder->failed = true;
	pg_atomic_write_u32(&feeder->feed->busy, 0);
	feeder->e->econtext->ecxt_scantuple = feeder->e->slot;
	forget_chunk(feeder);
	copy.sqlerrcode = error->sqlerrcode;
	copy_text(copy.message, error->message, sizeof(copy.message));
	copy_text(copy.detail, error->detail, sizeof(copy.detail));
	copy_text(copy.hint, error->hint, sizeof(copy.hint));
	begin_parcel(feeder);
	feeder->head.error = cs_packed_append(&feeder->parcel, &copy, sizeof(copy));
	return send_parcel(feeder);
}
