/*
 * engine/feed.c
 *	  A source with decode workers: the applier's side; see feed.h.
 *
 * It wraps the Kafka source, which lists partitions, finds first offsets and
 * tells the broker's group, and which reads the partitions that no helper
 * reads: all of them while there is no room for helpers.
 *
 * A helper that ends unasked is started again, at once the first time, then
 * with back-off.  Meanwhile its partitions are shared out among the others.
 *
 * Locking: see feed.h.  Everything here belongs to the stream's worker.
 */
#include "postgres.h"

#include "core/settings.h"
#include "core/wait.h"
#include "engine/feed_internal.h"
#include "engine/packed.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define BUSY_WAIT_MS 100 /* for helpers that have messages in hand */
#define OWN_POLL_INTERVAL_MS 100
#define PREFETCH 8 /* messages ahead */

/* ---- sharing partitions out ---- */

/* A new generation, from where the engine is. */
static void
publish(CsHelper *helper)
{
	CsFeed *feed = helper->feed;
	uint64	generation = pg_atomic_read_u64(&feed->generation);

	pg_atomic_write_u64(&feed->generation, generation + 1);
	pg_write_barrier();
	feed->npartitions = helper->npartitions;
	for (int i = 0; i < helper->npartitions; i++)
	{
		CsPartition *p = helper->partitions[i];

		p->at_end = false;
		feed->partitions[i].topic = p->topic;
		feed->partitions[i].id = p->id;
		feed->partitions[i].offset = p->next_offset;
		feed->partitions[i].last_offset = p->last_offset;
		feed->partitions[i].last_checksum = p->last_checksum;
		pg_atomic_write_u32(&feed->partitions[i].pauses, p->paused);
	}
	pg_write_barrier();
	pg_atomic_write_u64(&feed->generation, generation + 2);
	helper->generation = generation + 2;
	helper->parcel = NULL;
	helper->left = 0;
	helper->problem[0] = '\0';
	cs_helper_wake(helper);
}

static CsHelper *
reader_of(CsFeedSource *source, int i, int nserving)
{
	for (int h = 0; nserving > 0 && h < source->nhelpers; h++)
	{
		CsHelper *helper = &source->helpers[h];

		if (helper->serves && i-- % nserving == 0)
			return helper->npartitions < CS_FEED_PARTITIONS ? helper : NULL;
	}
	return NULL;
}

static void
share_out(CsFeedSource *source)
{
	int nserving = 0;

	cs_stash_forget(source);
	source->nown = 0;
	for (int h = 0; h < source->nhelpers; h++)
	{
		nserving += source->helpers[h].serves;
		source->helpers[h].npartitions = 0;
	}
	for (int i = 0; i < source->npartitions; i++)
	{
		CsHelper *helper = reader_of(source, i % Max(nserving, 1), nserving);

		if (helper != NULL)
			helper->partitions[helper->npartitions++] = source->partitions[i];
		else
			source->own[source->nown++] = source->partitions[i];
	}
	source->inner->ops->assign(source->inner, source->own, source->nown);
	for (int i = 0; i < source->nown; i++)
	{
		if (source->own[i]->paused)
			source->inner->ops->pause(source->inner, source->own[i], true);
	}
	for (int h = 0; h < source->nhelpers; h++)
	{
		if (source->helpers[h].feed != NULL)
			publish(&source->helpers[h]);
	}
}

/* The next parcel of this generation; false: there is none. */
static bool
receive(CsHelper *helper)
{
	void		 *data;
	Size		  size;
	shm_mq_result result;

	while ((result = shm_mq_receive(helper->queue, &size, &data, true)) == SHM_MQ_SUCCESS)
	{
		const CsParcel *parcel = data;

		helper->spoke = true;
		if (parcel->generation != helper->generation)
			continue;
		helper->parcel = parcel;
		helper->left = parcel->nevents;
		helper->places = (const Size *) ((const char *) parcel + parcel->events);
		return true;
	}
	helper->gone |= result == SHM_MQ_DETACHED;
	return false;
}

/* Start those that are missing, if it is time for it and they would have something to do. */
static void
start_missing(CsFeedSource *source, bool serves)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < Min(source->nhelpers, source->npartitions); i++)
	{
		CsHelper *helper = &source->helpers[i];

		if (helper->feed != NULL || helper->retry_at > now || !cs_helper_start(source, i))
			continue;
		helper->serves = serves;
		publish(helper); /* of no partition yet: the word that it sends says that it could read */
	}
}

/*
 * Between two polls: somebody who ended is replaced.  His partitions are the
 * others' until the new one has opened the stream and says so, which may take
 * long (a lock) or never happen.
 */
static void
look_after_helpers(CsFeedSource *source)
{
	bool changed = false;
	bool missing = false;

	for (int i = 0; i < source->nhelpers; i++)
	{
		CsHelper *helper = &source->helpers[i];

		if (helper->feed != NULL && !helper->serves && receive(helper))
			helper->serves = changed = true;
		if (helper->feed != NULL && cs_helper_has_ended(helper))
		{
			changed |= helper->serves;
			cs_helper_note_failure(source, helper);
			cs_helper_let_go(helper);
		}
		missing |= helper->feed == NULL && i < source->npartitions;
	}
	if (missing)
		start_missing(source, false);
	else
		source->why[0] = '\0';
	if (changed)
		share_out(source);
}

static void
feed_assign(CsSource *base, CsPartition **partitions, int n)
{
	CsFeedSource *source = (CsFeedSource *) base;
	MemoryContext old = MemoryContextSwitchTo(source->cxt);
	bool		  is_first;

	if (n > source->npartitions)
	{
		Size size = n * sizeof(CsPartition *);

		source->partitions = source->partitions ? repalloc(source->partitions, size) : palloc(size);
		source->own = source->own ? repalloc(source->own, size) : palloc(size);
		for (int i = 0; i < source->nhelpers; i++)
		{
			CsHelper *helper = &source->helpers[i];

			helper->partitions = helper->partitions ? repalloc(helper->partitions, size) : palloc(size);
			helper->stashes =
				helper->stashes ? repalloc(helper->stashes, n * sizeof(dlist_head)) : palloc(n * sizeof(dlist_head));
		}
	}
	memcpy(source->partitions, partitions, n * sizeof(CsPartition *));
	source->npartitions = n;
	is_first = !source->assigned;
	source->assigned = true;
	source->has_taken = source->has_fault = false;
	for (int i = 0; i < source->nhelpers; i++)
		source->helpers[i].lent = false;
	start_missing(source,
				  is_first); /* the first time they are waited for: who opened the stream just now was not kept */
	share_out(source);
	MemoryContextSwitchTo(old);
}

/* ---- poll ---- */

/* All of its messages are handed out: what else does it say? */
static void
finish_parcel(CsFeedSource *source, CsHelper *helper)
{
	const CsParcel	 *parcel = helper->parcel;
	const CsFeedMark *marks = (const CsFeedMark *) ((const char *) parcel + parcel->marks);

	for (int i = 0; parcel->marks != 0 && i < helper->npartitions; i++)
	{
		CsPartition *p = helper->partitions[i];

		if (marks[i].end_offset >= 0)
			p->end_offset = marks[i].end_offset;
		p->at_end = marks[i].at_end && !cs_stash_takes(helper, i);
	}
	if (parcel->problem != 0)
		strlcpy(helper->problem, (const char *) parcel + parcel->problem, sizeof(helper->problem));
	if (parcel->error != 0)
	{
		source->fault = *(const CsFeedError *) ((const char *) parcel + parcel->error);
		source->has_fault = true;
	}
	helper->parcel = NULL;
}

static int
hand_out(CsFeedSource *source, CsHelper *helper, CsMessage *messages, int max)
{
	const char *parcel = (const char *) helper->parcel;
	int			n = 0;

	for (; helper->left > 0 && n < max; helper->left--, helper->places++)
	{
		const CsPackedEvent *packed = (const CsPackedEvent *) (parcel + *helper->places);
		int					 i = cs_packed_partition(packed);

		if (helper->left > PREFETCH)
			cs_packed_prefetch_head((const CsPackedEvent *) (parcel + helper->places[PREFETCH]));
		if (cs_stash_takes(helper, i))
		{
			cs_stash_add(source, helper, packed);
			continue;
		}
		messages[n].partition = helper->partitions[i];
		messages[n].partition->at_end = false;
		cs_packed_message(packed, &messages[n++]);
	}
	return n;
}

/* A parcel's messages stay where they are until release(), so no second one is received before. */
static int
take_of(CsFeedSource *source, CsHelper *helper, CsMessage *messages, int max)
{
	int n = 0;

	while (helper->serves && n < max && !source->has_fault)
	{
		if (helper->parcel == NULL && (helper->lent || !receive(helper)))
			break;
		n += hand_out(source, helper, messages + n, max - n);
		helper->lent |= n > 0;
		if (helper->left == 0)
			finish_parcel(source, helper);
	}
	return n;
}

static int
take_own(CsFeedSource *source, CsMessage *messages, int max)
{
	int n = source->inner->ops->poll(source->inner, messages, max, 0);

	source->inner_polled_at = GetCurrentTimestamp();
	for (int i = 0; i < n; i++)
		messages[i].packed = NULL;
	return n;
}

/* Kafka's client in this process is asked before or after the helpers; if it reads nothing itself, now and then. */
static int
take(CsFeedSource *source, CsMessage *messages, int max)
{
	bool own_first = source->nown > 0 ||
					 TimestampDifferenceExceeds(source->inner_polled_at, GetCurrentTimestamp(), OWN_POLL_INTERVAL_MS);
	int own = own_first ? take_own(source, messages, max) : 0;
	int n = own;

	if (source->nstashed > 0)
		n += cs_stash_hand_out(source, messages + n, max - n);
	source->turn++;
	for (int i = 0; i < source->nhelpers && n < max; i++)
		n += take_of(source, &source->helpers[(source->turn + i) % source->nhelpers], messages + n, max - n);
	source->has_taken |= n > own;
	return n == 0 && !own_first ? take_own(source, messages, max) : n;
}

static bool
somebody_is_busy(const CsFeedSource *source)
{
	for (int i = 0; i < source->nhelpers; i++)
	{
		const CsHelper *helper = &source->helpers[i];

		if (helper->feed != NULL && !helper->gone && pg_atomic_read_u32(&helper->feed->busy) != 0)
			return true;
	}
	return false;
}

/*
 * Raised when all that came before it is committed; by others' assignment it
 * is forgotten, and the helper meets it again.
 */
static bool
meets_fault(CsFeedSource *source)
{
	CsFeedError *fault = &source->fault;

	if (!source->has_fault)
		return false;
	if (!source->has_taken)
	{
		source->has_fault = false;
		ereport(ERROR, (errcode(fault->sqlerrcode), errmsg_internal("%s", fault->message),
						fault->detail[0] != '\0' ? errdetail_internal("%s", fault->detail) : 0,
						fault->hint[0] != '\0' ? errhint("%s", fault->hint) : 0,
						errcontext("decode worker of stream \"%s\"", source->stream->name)));
	}
	SetLatch(MyLatch); /* come again */
	return true;
}

/*
 * While helpers have messages in hand, an empty queue is no reason to end the
 * batch: the next parcel is as good as here.
 */
static int
feed_poll(CsSource *base, CsMessage *messages, int max, int timeout_ms)
{
	CsFeedSource *source = (CsFeedSource *) base;
	TimestampTz	  begun = GetCurrentTimestamp();
	bool		  waited = false;
	int			  n;

	look_after_helpers(source);
	if (meets_fault(source))
		return 0;
	while ((n = take(source, messages, max)) == 0 && !source->has_fault)
	{
		long left = (somebody_is_busy(source) ? Max(timeout_ms, BUSY_WAIT_MS) : timeout_ms) -
					(long) TimestampDifferenceMilliseconds(begun, GetCurrentTimestamp());

		if (left <= 0)
			break;
		(void) cs_wait(source->nown > 0 ? source->inner->ops->poll_fd(source->inner) : -1, left);
		waited = true;
		CHECK_FOR_INTERRUPTS();
	}
	if (waited)
		SetLatch(MyLatch); /* it may have been set for another reason */
	if (n == 0)
		(void) meets_fault(source);
	return n;
}

static void
feed_release(CsSource *base)
{
	CsFeedSource *source = (CsFeedSource *) base;

	source->inner->ops->release(source->inner);
	cs_stash_release(source);
	for (int i = 0; i < source->nhelpers; i++)
		source->helpers[i].lent = false;
}

/* ---- pause ---- */

static void
feed_pause(CsSource *base, CsPartition *partition, bool paused)
{
	CsFeedSource *source = (CsFeedSource *) base;

	partition->paused = paused;
	for (int h = 0; h < source->nhelpers; h++)
	{
		CsHelper *helper = &source->helpers[h];

		for (int i = 0; i < helper->npartitions; i++)
		{
			if (helper->partitions[i] != partition)
				continue;
			cs_stash_tell(helper, i);
			return;
		}
	}
	source->inner->ops->pause(source->inner, partition, paused);
}

/* ---- the rest is mostly Kafka's ---- */

static CsSource *
inner_of(CsSource *base)
{
	return ((CsFeedSource *) base)->inner;
}

static void
feed_remember(CsSource *base, CsPartition **partitions, int n)
{
	inner_of(base)->ops->remember(inner_of(base), partitions, n);
}

static const CsTopicNews *
feed_news(CsSource *base)
{
	return inner_of(base)->ops->news(inner_of(base));
}

static bool
feed_keep(CsSource *base)
{
	return inner_of(base)->ops->keep(inner_of(base));
}

static CsPartition *
feed_list(CsSource *base, int *n, int timeout_ms)
{
	return inner_of(base)->ops->list(inner_of(base), n, timeout_ms);
}

static bool
feed_start_offset(CsSource *base, CsPartition *partition, bool is_first_time, int timeout_ms)
{
	return inner_of(base)->ops->start_offset(inner_of(base), partition, is_first_time, timeout_ms);
}

static int
feed_poll_fd(CsSource *base)
{
	return inner_of(base)->ops->poll_fd(inner_of(base)); /* parcels set the latch */
}

static Jsonb *
feed_headers(CsSource *base, const CsMessage *message, size_t *length)
{
	return message->packed ? cs_packed_headers(message->packed, length)
						   : inner_of(base)->ops->headers(inner_of(base), message, length);
}

static void
feed_committed(CsSource *base, CsPartition **partitions, int n)
{
	CsFeedSource *source = (CsFeedSource *) base;

	source->has_taken = false;
	source->inner->ops->committed(source->inner, partitions, n);
}

/* Whose connection serves only to ask may lose it without harm. */
static const char *
feed_problem(CsSource *base)
{
	CsFeedSource *source = (CsFeedSource *) base;
	bool		  helped = false;

	for (int i = 0; i < source->nhelpers; i++)
	{
		CsHelper *helper = &source->helpers[i];

		if (helper->feed != NULL && helper->problem[0] != '\0')
			return helper->problem;
		helped |= helper->feed != NULL && helper->npartitions > 0;
	}
	return helped && source->nown == 0 ? NULL : source->inner->ops->problem(source->inner);
}

static bool
feed_is_outdated(CsSource *base)
{
	return inner_of(base)->ops->is_outdated(inner_of(base));
}

static const CsSourceOps feed_source = {
	.name = "kafka with decode workers",
	.remember = feed_remember,
	.list = feed_list,
	.news = feed_news,
	.start_offset = feed_start_offset,
	.assign = feed_assign,
	.poll = feed_poll,
	.pause = feed_pause,
	.release = feed_release,
	.poll_fd = feed_poll_fd,
	.headers = feed_headers,
	.committed = feed_committed,
	.problem = feed_problem,
	.is_outdated = feed_is_outdated,
	.keep = feed_keep,
};

/* None in a backend, which CALL process() would not leave with them; none where messages are rows of a table. */
static int
helpers_wanted(const CsEngine *e)
{
	int n = e->stream->decode_workers;

#ifdef CLICKSTREAM_MUTANTS
	n = Max(n, cs_force_decode_workers);
#endif
	return e->host->helped && e->stream->brokers != NULL && e->upsert == NULL ? n : 0;
}

static void
close_feed(void *arg)
{
	CsFeedSource *source = arg;

	for (int i = 0; i < source->nhelpers; i++)
		cs_helper_let_go(&source->helpers[i]);
}

CsSource *
cs_feed_source(CsEngine *e, MemoryContext cxt)
{
	CsSource	 *inner = cs_source_for(e->stream)->open(e->stream, cxt);
	CsFeedSource *source;
	int			  nhelpers = helpers_wanted(e);

	if (nhelpers == 0)
		return inner;
	source = MemoryContextAllocZero(cxt, sizeof(CsFeedSource));
	source->base.ops = &feed_source;
	source->cxt = cxt;
	source->stream = e->stream;
	source->version = e->version;
	source->inner = inner;
	source->nhelpers = nhelpers;
	source->helpers = MemoryContextAllocZero(cxt, source->nhelpers * sizeof(CsHelper));
	source->stash = AllocSetContextCreate(cxt, "clickstream stash", ALLOCSET_DEFAULT_SIZES);
	dlist_init(&source->spent);
	source->callback.func = close_feed;
	source->callback.arg = source;
	MemoryContextRegisterResetCallback(cxt, &source->callback);
	return &source->base;
}

bool
cs_feed_is(const CsSource *source)
{
	return source != NULL && source->ops == &feed_source;
}

int
cs_feed_status(CsSource *base, int64 *restarts, const char **why)
{
	CsFeedSource *source = (CsFeedSource *) base;
	int			  n = 0;
	bool		  some_start = false;

	*why = "";
	*restarts = 0;
	if (!cs_feed_is(base))
		return 0;
	*restarts = source->restarts;
	for (int i = 0; i < source->nhelpers; i++)
	{
		n += source->helpers[i].spoke;
		some_start |= source->helpers[i].feed != NULL && !source->helpers[i].spoke;
	}
	if (source->why[0] != '\0')
		*why = source->why;
	else if (some_start)
		*why = "Not all decode workers have begun to read yet; what they wait for is in pg_stat_activity.";
	else if (source->assigned && source->npartitions < source->nhelpers)
		*why = "There are fewer partitions than decode workers.";
	return n;
}
