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
#include "engine/feed.h"
#include "engine/packed.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define BUSY_WAIT_MS 100	  /* for helpers that have messages in hand */
#define NO_ROOM_RETRY_MS 2000 /* between two looks whether there is room for another process */
#define BACK_OFF_MS 1000	  /* doubles up to */
#define BACK_OFF_MAX_MS 60000
#define HEALTHY_AFTER_MS 60000 /* a helper that lived so long has not failed */
#define OWN_POLL_INTERVAL_MS 100

typedef struct Helper
{
	/* NULL: there is no process. */
	CsFeed				   *feed;
	dsm_segment			   *segment;
	shm_mq_handle		   *queue;
	BackgroundWorkerHandle *handle;
	TimestampTz				started_at;
	int						failures; /* in a row */
	TimestampTz				retry_at;

	/* Its partitions. */
	uint64		  generation;
	int			  npartitions;
	CsPartition **partitions;

	/* What came from it, and was not handed out yet. */
	bool				 gone;	 /* the queue's other end */
	bool				 lent;	 /* the engine has messages of the parcel, until release() */
	const CsParcel		*parcel; /* NULL: none */
	const CsPackedEvent *next;
	int					 left;
	char				 problem[512];
} Helper;

typedef struct FeedSource
{
	CsSource			  base;
	MemoryContextCallback callback;
	MemoryContext		  cxt;
	const CsStream		 *stream;
	int32				  version;
	CsSource			 *inner; /* Kafka's */
	TimestampTz			  inner_polled_at;
	int					  nhelpers;
	Helper				 *helpers;
	int					  turn; /* who is asked first */
	bool				  assigned;
	int					  npartitions;
	CsPartition			**partitions; /* all */
	int					  nown;
	CsPartition			**own;		 /* those that inner reads */
	bool				  has_taken; /* messages of helpers, since the last commit or assignment */
	bool				  has_fault;
	CsFeedError			  fault;
	int64				  restarts; /* of helpers that ended unasked */
	char				  why[512]; /* why not all helpers run, or "" */
} FeedSource;

/* ---- processes ---- */

static void
wake(Helper *helper)
{
	PGPROC *process = shm_mq_get_sender(shm_mq_get_queue(helper->queue));

	if (process != NULL)
		SetLatch(&process->procLatch);
}

/* It sees "stop" when it next looks; the signal takes it out of whatever it is computing (worker/decode_worker.c). */
static void
let_go(Helper *helper)
{
	if (helper->feed == NULL)
		return;
	pg_atomic_write_u32(&helper->feed->stop, 1);
	if (helper->handle != NULL)
		TerminateBackgroundWorker(helper->handle);
	shm_mq_detach(helper->queue);
	dsm_detach(helper->segment);
	if (helper->handle != NULL)
		pfree(helper->handle);
	helper->feed = NULL;
	helper->segment = NULL;
	helper->queue = NULL;
	helper->handle = NULL;
	helper->parcel = NULL;
	helper->left = 0;
	helper->gone = helper->lent = false;
	helper->problem[0] = '\0';
	helper->npartitions = 0;
}

static void
close_feed(void *arg)
{
	FeedSource *source = arg;

	for (int i = 0; i < source->nhelpers; i++)
		let_go(&source->helpers[i]);
}

/* A segment of this process, or NULL and why not.  Without room in memory the stream goes on, too. */
static dsm_segment *
make_segment(FeedSource *source)
{
	MemoryContext old = MemoryContextSwitchTo(source->cxt);
	ResourceOwner owner = CurrentResourceOwner;
	dsm_segment *volatile segment = NULL;

	CurrentResourceOwner = NULL; /* it outlives transactions */
	PG_TRY();
	{
		segment = dsm_create(CS_FEED_SIZE, DSM_CREATE_NULL_IF_MAXSEGMENTS);
		if (segment == NULL)
			strlcpy(source->why, "Every segment of dynamic shared memory is in use.", sizeof(source->why));
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(source->cxt);
		error = CopyErrorData();
		FlushErrorState();
		strlcpy(source->why, error->message, sizeof(source->why));
		FreeErrorData(error);
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(old);
	return segment;
}

static bool
register_helper(FeedSource *source, Helper *helper)
{
	BackgroundWorker bgw = {0};

	bgw.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	bgw.bgw_start_time = BgWorkerStart_RecoveryFinished;
	bgw.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(bgw.bgw_library_name, "clickstream", sizeof(bgw.bgw_library_name));
	strlcpy(bgw.bgw_function_name, "cs_decode_worker_main", sizeof(bgw.bgw_function_name));
	snprintf(bgw.bgw_name, sizeof(bgw.bgw_name), "clickstream decode worker %d of stream %d of database %u",
			 helper->feed->number, source->stream->stream_id, MyDatabaseId);
	strlcpy(bgw.bgw_type, "clickstream decode", sizeof(bgw.bgw_type));
	bgw.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(helper->segment));
	bgw.bgw_notify_pid = MyProcPid;
	if (RegisterDynamicBackgroundWorker(&bgw, &helper->handle))
		return true;
	helper->handle = NULL;
	strlcpy(source->why, "Every background worker slot of the server is in use: raise max_worker_processes.",
			sizeof(source->why));
	return false;
}

static void
init_feed(FeedSource *source, int number, CsFeed *feed)
{
	memset(feed, 0, sizeof(CsFeed));
	feed->database = MyDatabaseId;
	feed->stream_id = source->stream->stream_id;
	feed->version = source->version;
	feed->number = number;
	feed->nhelpers = source->nhelpers;
	pg_atomic_init_u32(&feed->stop, 0);
	pg_atomic_init_u32(&feed->busy, 0);
	pg_atomic_init_u64(&feed->generation, 0);
	for (int i = 0; i < CS_FEED_PARTITIONS; i++)
		pg_atomic_init_u32(&feed->partitions[i].paused, 0);
}

static bool
start_helper(FeedSource *source, int i)
{
	Helper		 *helper = &source->helpers[i];
	MemoryContext old = MemoryContextSwitchTo(source->cxt);
	shm_mq		 *queue;
	bool		  started;

	helper->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NO_ROOM_RETRY_MS);
	helper->segment = make_segment(source);
	if (helper->segment == NULL)
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	helper->feed = dsm_segment_address(helper->segment);
	init_feed(source, i + 1, helper->feed);
	queue = shm_mq_create(cs_feed_queue(helper->feed), CS_FEED_QUEUE);
	shm_mq_set_receiver(queue, MyProc);
	started = register_helper(source, helper);
	helper->queue = shm_mq_attach(queue, helper->segment, helper->handle);
	helper->started_at = GetCurrentTimestamp();
	helper->generation = 0;
	if (!started)
		let_go(helper);
	MemoryContextSwitchTo(old);
	return started;
}

static bool
has_ended(Helper *helper)
{
	pid_t pid;

	return helper->gone || GetBackgroundWorkerPid(helper->handle, &pid) == BGWH_STOPPED;
}

static void
note_failure(FeedSource *source, Helper *helper)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		pause = 0;

	if (TimestampDifferenceExceeds(helper->started_at, now, HEALTHY_AFTER_MS))
		helper->failures = 0;
	if (helper->failures > 0)
		pause = Min((int64) BACK_OFF_MS << Min(helper->failures - 1, 10), BACK_OFF_MAX_MS);
	helper->failures++;
	source->restarts++;
	helper->retry_at = TimestampTzPlusMilliseconds(now, pause);
	snprintf(source->why, sizeof(source->why),
			 "Decode worker %d ended unexpectedly and is started again; see the server's log.", helper->feed->number);
}

/* Has it come so far that messages can be expected? */
static bool
is_at_work(const Helper *helper)
{
	return helper->feed != NULL && shm_mq_get_sender(shm_mq_get_queue(helper->queue)) != NULL;
}

/* ---- sharing partitions out ---- */

/* A new generation, from where the engine is. */
static void
publish(Helper *helper)
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
		pg_atomic_write_u32(&feed->partitions[i].paused, p->paused);
	}
	pg_write_barrier();
	pg_atomic_write_u64(&feed->generation, generation + 2);
	helper->generation = generation + 2;
	helper->parcel = NULL;
	helper->left = 0;
	helper->problem[0] = '\0';
	wake(helper);
}

static Helper *
reader_of(FeedSource *source, int i, int nlive)
{
	for (int h = 0; nlive > 0 && h < source->nhelpers; h++)
	{
		Helper *helper = &source->helpers[h];

		if (helper->feed != NULL && i-- % nlive == 0)
			return helper->npartitions < CS_FEED_PARTITIONS ? helper : NULL;
	}
	return NULL;
}

static void
share_out(FeedSource *source)
{
	int nlive = 0;

	source->nown = 0;
	for (int h = 0; h < source->nhelpers; h++)
	{
		nlive += source->helpers[h].feed != NULL;
		source->helpers[h].npartitions = 0;
	}
	for (int i = 0; i < source->npartitions; i++)
	{
		Helper *helper = reader_of(source, i % Max(nlive, 1), nlive);

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

/* Start those that are missing, if it is time for it and they would have something to do; true if one was started. */
static bool
start_missing(FeedSource *source)
{
	bool		started = false;
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < Min(source->nhelpers, source->npartitions); i++)
	{
		if (source->helpers[i].feed == NULL && source->helpers[i].retry_at <= now)
			started |= start_helper(source, i);
	}
	return started;
}

/* Between two polls: somebody who ended is replaced. */
static void
look_after_helpers(FeedSource *source)
{
	bool changed = false;
	bool missing = false;

	for (int i = 0; i < source->nhelpers; i++)
	{
		Helper *helper = &source->helpers[i];

		if (helper->feed != NULL && has_ended(helper))
		{
			note_failure(source, helper);
			let_go(helper);
			changed = true;
		}
		missing |= helper->feed == NULL && i < source->npartitions;
	}
	if (!missing)
		source->why[0] = '\0';
	else
		changed |= start_missing(source);
	if (changed)
		share_out(source);
}

static void
feed_assign(CsSource *base, CsPartition **partitions, int n)
{
	FeedSource	 *source = (FeedSource *) base;
	MemoryContext old = MemoryContextSwitchTo(source->cxt);

	if (n > source->npartitions)
	{
		Size size = n * sizeof(CsPartition *);

		source->partitions = source->partitions ? repalloc(source->partitions, size) : palloc(size);
		source->own = source->own ? repalloc(source->own, size) : palloc(size);
		for (int i = 0; i < source->nhelpers; i++)
		{
			Helper *helper = &source->helpers[i];

			helper->partitions = helper->partitions ? repalloc(helper->partitions, size) : palloc(size);
		}
	}
	memcpy(source->partitions, partitions, n * sizeof(CsPartition *));
	source->npartitions = n;
	source->assigned = true;
	source->has_taken = source->has_fault = false;
	for (int i = 0; i < source->nhelpers; i++)
		source->helpers[i].lent = false;
	(void) start_missing(source);
	share_out(source);
	MemoryContextSwitchTo(old);
}

/* ---- poll ---- */

/* The next parcel of this generation; false: there is none. */
static bool
receive(Helper *helper)
{
	void		 *data;
	Size		  size;
	shm_mq_result result;

	while ((result = shm_mq_receive(helper->queue, &size, &data, true)) == SHM_MQ_SUCCESS)
	{
		const CsParcel *parcel = data;

		if (parcel->generation != helper->generation)
			continue;
		helper->parcel = parcel;
		helper->left = parcel->nevents;
		helper->next = (const CsPackedEvent *) ((const char *) parcel + parcel->events);
		return true;
	}
	helper->gone |= result == SHM_MQ_DETACHED;
	return false;
}

/* All of its messages are handed out: what else does it say? */
static void
finish_parcel(FeedSource *source, Helper *helper)
{
	const CsParcel	 *parcel = helper->parcel;
	const CsFeedMark *marks = (const CsFeedMark *) ((const char *) parcel + parcel->marks);

	for (int i = 0; parcel->marks != 0 && i < helper->npartitions; i++)
	{
		CsPartition *p = helper->partitions[i];

		if (marks[i].end_offset >= 0)
			p->end_offset = marks[i].end_offset;
		p->at_end = marks[i].at_end && !p->paused;
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

/* Of a partition that is paused nothing is handed out: it is read again from there when it goes on. */
static int
hand_out(Helper *helper, CsMessage *messages, int max)
{
	int n = 0;

	for (; helper->left > 0 && n < max; helper->left--)
	{
		CsPartition *p = helper->partitions[cs_packed_partition(helper->next)];

		if (!p->paused)
		{
			messages[n].partition = p;
			cs_packed_message(helper->next, &messages[n++]);
			p->at_end = false;
		}
		helper->next = (const CsPackedEvent *) ((const char *) helper->next + cs_packed_size(helper->next));
	}
	return n;
}

/* A parcel's messages stay where they are until release(), so no second one is received before. */
static int
take_of(FeedSource *source, Helper *helper, CsMessage *messages, int max)
{
	int n = 0;

	while (helper->feed != NULL && n < max && !source->has_fault)
	{
		if (helper->parcel == NULL && (helper->lent || !receive(helper)))
			break;
		n += hand_out(helper, messages + n, max - n);
		helper->lent |= n > 0;
		if (helper->left == 0)
			finish_parcel(source, helper);
	}
	return n;
}

static int
take_own(FeedSource *source, CsMessage *messages, int max)
{
	int n = source->inner->ops->poll(source->inner, messages, max, 0);

	source->inner_polled_at = GetCurrentTimestamp();
	for (int i = 0; i < n; i++)
		messages[i].packed = NULL;
	return n;
}

/* Kafka's client in this process is asked before or after the helpers; if it reads nothing itself, now and then. */
static int
take(FeedSource *source, CsMessage *messages, int max)
{
	bool own_first = source->nown > 0 ||
					 TimestampDifferenceExceeds(source->inner_polled_at, GetCurrentTimestamp(), OWN_POLL_INTERVAL_MS);
	int own = own_first ? take_own(source, messages, max) : 0;
	int n = own;

	source->turn++;
	for (int i = 0; i < source->nhelpers && n < max; i++)
		n += take_of(source, &source->helpers[(source->turn + i) % source->nhelpers], messages + n, max - n);
	source->has_taken |= n > own;
	return n == 0 && !own_first ? take_own(source, messages, max) : n;
}

static bool
somebody_is_busy(const FeedSource *source)
{
	for (int i = 0; i < source->nhelpers; i++)
	{
		const Helper *helper = &source->helpers[i];

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
meets_fault(FeedSource *source)
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
	FeedSource *source = (FeedSource *) base;
	TimestampTz begun = GetCurrentTimestamp();
	bool		waited = false;
	int			n;

	look_after_helpers(source);
	if (meets_fault(source))
		return 0;
	while ((n = take(source, messages, max)) == 0 && !source->has_fault)
	{
		long left = (somebody_is_busy(source) ? Max(timeout_ms, BUSY_WAIT_MS) : timeout_ms) -
					(long) TimestampDifferenceMilliseconds(begun, GetCurrentTimestamp());

		if (left <= 0)
			break;
		(void) cs_wait(-1, left);
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
	FeedSource *source = (FeedSource *) base;

	source->inner->ops->release(source->inner);
	for (int i = 0; i < source->nhelpers; i++)
		source->helpers[i].lent = false;
}

/* ---- pause ---- */

static bool
pause_at(Helper *helper, CsPartition *partition)
{
	for (int i = 0; helper->feed != NULL && i < helper->npartitions; i++)
	{
		if (helper->partitions[i] != partition)
			continue;
		if (partition->paused)
		{
			pg_atomic_write_u32(&helper->feed->partitions[i].paused, 1);
			wake(helper);
		}
		else
			publish(helper); /* what came of it meanwhile was thrown away */
		return true;
	}
	return false;
}

static void
feed_pause(CsSource *base, CsPartition *partition, bool paused)
{
	FeedSource *source = (FeedSource *) base;

	partition->paused = paused;
	for (int i = 0; i < source->nhelpers; i++)
	{
		if (pause_at(&source->helpers[i], partition))
			return;
	}
	source->inner->ops->pause(source->inner, partition, paused);
}

/* ---- the rest is mostly Kafka's ---- */

static CsSource *
inner_of(CsSource *base)
{
	return ((FeedSource *) base)->inner;
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
	FeedSource *source = (FeedSource *) base;

	source->has_taken = false;
	source->inner->ops->committed(source->inner, partitions, n);
}

/* Whose connection serves only to ask may lose it without harm. */
static const char *
feed_problem(CsSource *base)
{
	FeedSource *source = (FeedSource *) base;
	bool		helped = false;

	for (int i = 0; i < source->nhelpers; i++)
	{
		Helper *helper = &source->helpers[i];

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

CsSource *
cs_feed_source(CsEngine *e, MemoryContext cxt)
{
	CsSource   *inner = cs_source_for(e->stream)->open(e->stream, cxt);
	FeedSource *source;
	int			nhelpers = helpers_wanted(e);

	if (nhelpers == 0)
		return inner;
	source = MemoryContextAllocZero(cxt, sizeof(FeedSource));
	source->base.ops = &feed_source;
	source->cxt = cxt;
	source->stream = e->stream;
	source->version = e->version;
	source->inner = inner;
	source->nhelpers = nhelpers;
	source->helpers = MemoryContextAllocZero(cxt, source->nhelpers * sizeof(Helper));
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
	FeedSource *source = (FeedSource *) base;
	int			n = 0;

	*why = "";
	*restarts = 0;
	if (!cs_feed_is(base))
		return 0;
	*restarts = source->restarts;
	for (int i = 0; i < source->nhelpers; i++)
		n += is_at_work(&source->helpers[i]);
	*why = source->why;
	if (source->assigned && source->npartitions < source->nhelpers && source->why[0] == '\0')
		*why = "There are fewer partitions than decode workers.";
	return n;
}
