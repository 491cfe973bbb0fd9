/*
 * worker/pending.c
 *	  start, stop, wake and hold: what a transaction asks of the workers.
 *
 * start, stop and wake are noted and done right after COMMIT, when the worker
 * can see what the transaction wrote.  A subtransaction that rolls back takes
 * its notes with it.  hold acts at once and lasts until the transaction ends,
 * whichever way it does: a subtransaction that rolls back keeps its holds.
 *
 * The notes live in TopMemoryContext, as they are read when the transaction's
 * memory may be gone; nothing is allocated after COMMIT.
 */
#include "worker/pending.h"

#include "worker/slots.h"
#include "worker/worker.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define HOLD_PATIENCE_MS 30000

typedef enum What
{
	START,
	STOP,
	WAKE,
	WATCH,
	HOLD
} What;

typedef struct Note
{
	What  what;
	int	  level; /* of the subtransaction it belongs to */
	Oid	  database;
	int32 stream_id;
	bool  held; /* HOLD: the slot counts it */
} Note;

static List *notes = NIL;

static Note *
add_note(What what, Oid database, int32 stream_id)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	Note		 *note = palloc(sizeof(Note));

	*note = (Note){what, GetCurrentTransactionNestLevel(), database, stream_id, false};
	notes = lappend(notes, note);
	MemoryContextSwitchTo(old);
	return note;
}

static void
forget_notes(void)
{
	list_free_deep(notes);
	notes = NIL;
}

static void
release_hold(Oid database, int32 stream_id)
{
	CsSlot *slot;

	cs_slots_lock();
	slot = cs_slot_find(database, stream_id);
	if (slot != NULL && slot->holds > 0)
		slot->holds--;
	cs_wake_launcher();
	cs_slots_unlock();
}

/* Notes are done in the order they were made; holds are released last. */
static void
do_notes(bool committed)
{
	ListCell *lc;

	foreach(lc, notes)
	{
		Note *note = lfirst(lc);

		if (committed && note->what == START)
			cs_slot_want(note->database, note->stream_id, true);
		else if (committed && note->what == STOP)
			cs_slot_unwant(note->database, note->stream_id);
		else if (committed && note->what == WAKE)
			cs_slot_wake(note->database, note->stream_id);
		else if (committed && note->what == WATCH)
			cs_watch_soon(note->database);
	}
	foreach(lc, notes)
	{
		Note *note = lfirst(lc);

		if (note->what == HOLD && note->held)
			release_hold(note->database, note->stream_id);
	}
	forget_notes();
}

/* A prepared transaction commits without telling us: only wake-ups may get lost. */
static void
refuse_prepare(void)
{
	ListCell *lc;

	foreach(lc, notes)
	{
		What what = ((Note *) lfirst(lc))->what;

		if (what != WAKE && what != WATCH)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("cannot PREPARE a transaction that started or stopped a stream")));
	}
}

static void
at_xact_end(XactEvent event, void *arg)
{
	(void) arg;
	if (notes == NIL)
		return;
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		do_notes(event == XACT_EVENT_COMMIT);
	else if (event == XACT_EVENT_PREPARE)
		forget_notes();
	else if (event == XACT_EVENT_PRE_PREPARE)
		refuse_prepare();
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int		  level;
	ListCell *lc;

	(void) mine;
	(void) parent;
	(void) arg;
	if (notes == NIL || (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB))
		return;
	level = GetCurrentTransactionNestLevel();
	foreach(lc, notes)
	{
		Note *note = lfirst(lc);

		if (note->level < level)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB || note->what == HOLD)
			note->level = level - 1;
		else
		{
			notes = foreach_delete_current(notes, lc);
			pfree(note);
		}
	}
}

void
cs_pending_init(void)
{
	RegisterXactCallback(at_xact_end, NULL);
	RegisterSubXactCallback(at_subxact_end, NULL);
}

void
cs_worker_start(int32 stream_id)
{
	if (!cs_worker_available())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("clickstream workers are not available"),
				 errdetail("The library \"clickstream\" was not loaded when the server started."),
				 errhint(
					 "Add \"clickstream\" to shared_preload_libraries in postgresql.conf and restart the server, or "
					 "run the stream in a session by CALL clickstream.process().")));
	(void) add_note(START, MyDatabaseId, stream_id);
}

void
cs_worker_stop(int32 stream_id)
{
	if (cs_worker_available())
		(void) add_note(STOP, MyDatabaseId, stream_id);
}

/* Once a transaction is enough, however many messages it produces. */
void
cs_worker_wake(int32 stream_id)
{
	ListCell *lc;

	if (!cs_worker_available())
		return;
	foreach(lc, notes)
	{
		Note *note = lfirst(lc);

		if (note->what == WAKE && note->stream_id == stream_id && note->level <= GetCurrentTransactionNestLevel())
			return;
	}
	(void) add_note(WAKE, MyDatabaseId, stream_id);
}

void
cs_worker_wake_sink(int32 sink_id)
{
	cs_worker_wake(-sink_id);
}

void
cs_worker_watch(void)
{
	if (cs_worker_available())
		(void) add_note(WATCH, MyDatabaseId, 0);
}

/* ---- stopping now ---- */

static bool
is_meant(const CsSlot *slot, Oid database, int32 stream_id)
{
	return slot->state != CS_SLOT_FREE && slot->database == database &&
		   (stream_id == 0 || slot->stream_id == stream_id);
}

static bool
any_busy(Oid database, int32 stream_id)
{
	bool busy = false;

	LWLockAcquire(cs_workers->lock, LW_SHARED);
	for (int i = 0; i < cs_workers->nslots && !busy; i++)
		busy = is_meant(&cs_workers->slots[i], database, stream_id) && cs_slot_is_busy(&cs_workers->slots[i]);
	LWLockRelease(cs_workers->lock);
	return busy;
}

/* stream_id 0: all of the database */
static bool
wait_until_ended(Oid database, int32 stream_id, int timeout_ms)
{
	TimestampTz start = GetCurrentTimestamp();
	bool		busy;

	ConditionVariablePrepareToSleep(&cs_workers->ended);
	while ((busy = any_busy(database, stream_id)))
	{
		if (timeout_ms >= 0 && TimestampDifferenceExceeds(start, GetCurrentTimestamp(), timeout_ms))
			break;
		(void) ConditionVariableTimedSleep(&cs_workers->ended, 100, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return !busy;
}

/*
 * The note is made before the slot is held, so that nothing that goes wrong
 * between can leave it held.
 */
static void
hold(Oid database, int32 stream_id)
{
	int	   n = 0;
	int32 *ids;

	if (!cs_worker_available())
		return;
	ids = palloc(sizeof(int32) * cs_workers->nslots);
	LWLockAcquire(cs_workers->lock, LW_SHARED);
	for (int i = 0; i < cs_workers->nslots; i++)
		if (is_meant(&cs_workers->slots[i], database, stream_id))
			ids[n++] = cs_workers->slots[i].stream_id;
	LWLockRelease(cs_workers->lock);
	for (int i = 0; i < n; i++)
	{
		Note   *note = add_note(HOLD, database, ids[i]);
		CsSlot *slot;

		cs_slots_lock();
		slot = cs_slot_find(database, ids[i]);
		if (slot != NULL)
		{
			slot->holds++;
			note->held = true;
			if (cs_slot_is_busy(slot))
				cs_slot_ask_to_end(slot, true);
		}
		cs_slots_unlock();
	}
	pfree(ids);
	if (n > 0 && !wait_until_ended(database, stream_id, HOLD_PATIENCE_MS))
		ereport(WARNING, (errmsg("a clickstream worker has not ended yet")));
}

void
cs_worker_hold(int32 stream_id)
{
	hold(MyDatabaseId, stream_id);
}

void
cs_worker_hold_database(Oid database)
{
	hold(database, 0);
}

bool
cs_worker_wait_stopped(int32 stream_id, int timeout_ms)
{
	return !cs_worker_available() || wait_until_ended(MyDatabaseId, stream_id, timeout_ms);
}

bool
cs_worker_is_running(int32 stream_id, const char **state, char **error)
{
	CsSlot		copy = {.state = CS_SLOT_FREE};
	const char *name;

	if (cs_worker_available())
	{
		CsSlot *slot;

		LWLockAcquire(cs_workers->lock, LW_SHARED);
		slot = cs_slot_find(MyDatabaseId, stream_id);
		if (slot != NULL)
			copy = *slot;
		LWLockRelease(cs_workers->lock);
	}
	name = cs_slot_state_name(cs_slot_shown_state(&copy));
	if (state)
		*state = name;
	if (error)
		*error = copy.error_at != 0 ? pstrdup(copy.error) : copy.problem[0] != '\0' ? pstrdup(copy.problem) : NULL;
	return copy.state != CS_SLOT_FREE && copy.state != CS_SLOT_FAILED && copy.wanted;
}

bool
cs_worker_has_shown(int32 stream_id, int64 commit_number)
{
	CsSlot *slot;
	bool	shown = true;

	if (!cs_worker_available())
		return true;
	LWLockAcquire(cs_workers->lock, LW_SHARED);
	slot = cs_slot_find(MyDatabaseId, stream_id);
	if (slot != NULL && slot->pid != 0 &&
		(slot->state == CS_SLOT_STARTING || slot->state == CS_SLOT_RUNNING || slot->state == CS_SLOT_WAITING))
		shown = slot->has_progress && slot->progress.shown_commit >= commit_number;
	LWLockRelease(cs_workers->lock);
	return shown;
}
