/*
 * engine/feed_helper.c
 *	  Decode workers as processes: started, let go, found to have ended; see feed.h.
 *
 * Whatever there is too little of (memory, segments, slots), nothing is raised:
 * the stream goes on without, says so, and tries again.
 *
 * Locking: see feed.h.
 */
#include "postgres.h"

#include "engine/feed_internal.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define NO_ROOM_RETRY_MS 2000 /* between two looks whether there is room for another process */
#define BACK_OFF_MS 1000	  /* doubles up to */
#define BACK_OFF_MAX_MS 60000
#define HEALTHY_AFTER_MS 60000 /* a helper that lived so long has not failed */

void
cs_helper_wake(CsHelper *helper)
{
	PGPROC *process = shm_mq_get_sender(shm_mq_get_queue(helper->queue));

	if (process != NULL)
		SetLatch(&process->procLatch);
}

/* It sees "stop" when it next looks; the signal takes it out of whatever it is computing (worker/decode_worker.c). */
void
cs_helper_let_go(CsHelper *helper)
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
	helper->serves = helper->spoke = helper->gone = helper->lent = false;
	helper->problem[0] = '\0';
	helper->npartitions = 0;
}

/* Of a try that failed the owner's release takes back what there is; a segment that was made outlives transactions. */
static dsm_segment *
create_pinned(ResourceOwner owner)
{
	dsm_segment *segment;

	CurrentResourceOwner = owner;
	segment = dsm_create(CS_FEED_SIZE, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (segment != NULL)
		dsm_pin_mapping(segment);
	return segment;
}

/* It has no parent, as one of a process without transactions. */
static void
give_up_owner(ResourceOwner owner)
{
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_LOCKS, false, true);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_AFTER_LOCKS, false, true);
	ResourceOwnerDelete(owner);
}

/*
 * A segment, or NULL and why not.  This may be called where interrupts are held
 * (the engine assigns anew after an error), and an error lets go of them.
 */
static dsm_segment *
make_segment(CsFeedSource *source)
{
	ResourceOwner before = CurrentResourceOwner;
	ResourceOwner owner = ResourceOwnerCreate(NULL, "clickstream decode worker");
	uint32		  interrupts_held = InterruptHoldoffCount;
	uint32		  cancels_held = QueryCancelHoldoffCount;
	dsm_segment *volatile segment = NULL;

	PG_TRY();
	{
		segment = create_pinned(owner);
		if (segment == NULL)
			strlcpy(source->why, "Every segment of dynamic shared memory is in use.", sizeof(source->why));
	}
	PG_CATCH();
	{
		ErrorData *error;

		InterruptHoldoffCount = interrupts_held;
		QueryCancelHoldoffCount = cancels_held;
		MemoryContextSwitchTo(source->cxt);
		error = CopyErrorData();
		FlushErrorState();
		strlcpy(source->why, error->message, sizeof(source->why));
		FreeErrorData(error);
	}
	PG_END_TRY();
	CurrentResourceOwner = before;
	give_up_owner(owner);
	return segment;
}

static bool
register_helper(CsFeedSource *source, CsHelper *helper)
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
init_feed(CsFeedSource *source, int number, CsFeed *feed)
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
		pg_atomic_init_u32(&feed->partitions[i].pauses, 0);
}

bool
cs_helper_start(CsFeedSource *source, int i)
{
	CsHelper	 *helper = &source->helpers[i];
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
	helper->queue = shm_mq_attach(queue, helper->segment, NULL);
	helper->started_at = GetCurrentTimestamp();
	helper->generation = 0;
	started = register_helper(source, helper);
	if (started)
		shm_mq_set_handle(helper->queue, helper->handle);
	else
		cs_helper_let_go(helper);
	MemoryContextSwitchTo(old);
	return started;
}

bool
cs_helper_has_ended(CsHelper *helper)
{
	pid_t pid;

	return helper->gone || GetBackgroundWorkerPid(helper->handle, &pid) == BGWH_STOPPED;
}

void
cs_helper_note_failure(CsFeedSource *source, CsHelper *helper)
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
