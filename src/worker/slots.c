/*
 * worker/slots.c
 *	  The slots in shared memory: finding, changing, asking for a start or an
 *	  end.  States and locking are told in slots.h.
 *
 * Nothing here raises while the lock is held, and nothing allocates: part of
 * it runs right after COMMIT, where nothing may fail.
 */
#include "worker/slots.h"

#include "core/settings.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include <signal.h>

#define TRANCHE "clickstream"
#define BACK_OFF_MAX_MS 60000
#define CHANGES_MAX 16

typedef struct Change
{
	Oid			database;
	int32		stream_id;
	CsSlotState from;
	CsSlotState to;
} Change;

CsWorkerShared *cs_workers = NULL;

/* What this process changed since it took the lock. */
static Change changes[CHANGES_MAX];
static int	  nchanges = 0;

/* As users see it, and in the log. */
static const struct
{
	const char *shown;
	const char *logged;
} state_names[] = {
	[CS_SLOT_FREE] = {"stopped", "free"},
	[CS_SLOT_WANTED] = {"starting", "wanted"},
	[CS_SLOT_NO_WORKER] = {"no worker slot", "no worker"},
	[CS_SLOT_STARTING] = {"starting", "starting"},
	[CS_SLOT_RUNNING] = {"running", "running"},
	[CS_SLOT_WAITING] = {"waiting for broker", "waiting"},
	[CS_SLOT_BACKING_OFF] = {"backing off", "backing off"},
	[CS_SLOT_STOPPING] = {"stopping", "stopping"},
	[CS_SLOT_FAILED] = {"failed", "failed"},
};

CsSlotState
cs_slot_shown_state(const CsSlot *slot)
{
	return slot->state == CS_SLOT_STARTING && slot->pid == 0 && slot->problem[0] != '\0' ? CS_SLOT_NO_WORKER
																						 : slot->state;
}

const char *
cs_slot_state_name(CsSlotState state)
{
	return state_names[state].shown;
}

/* ---- shared memory ---- */

static int
slots_count(void)
{
	return cs_max_workers + CS_SLOTS_SPARE;
}

Size
cs_slots_size(void)
{
	return add_size(offsetof(CsWorkerShared, slots), mul_size(slots_count(), sizeof(CsSlot)));
}

void
cs_slots_request(void)
{
	RequestAddinShmemSpace(cs_slots_size());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

void
cs_slots_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	cs_workers = ShmemInitStruct("clickstream workers", cs_slots_size(), &found);
	if (!found)
	{
		memset(cs_workers, 0, cs_slots_size());
		cs_workers->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		cs_workers->nslots = slots_count();
		ConditionVariableInit(&cs_workers->ended);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
cs_slots_lock(void)
{
	LWLockAcquire(cs_workers->lock, LW_EXCLUSIVE);
	nchanges = 0;
}

void
cs_slots_unlock(void)
{
	int n = nchanges;

	LWLockRelease(cs_workers->lock);
	for (int i = 0; i < n; i++)
		elog(DEBUG1, "clickstream stream %d of database %u: %s -> %s", changes[i].stream_id, changes[i].database,
			 state_names[changes[i].from].logged, state_names[changes[i].to].logged);
}

/* ---- with the lock held ---- */

CsSlot *
cs_slot_find(Oid database, int32 stream_id)
{
	for (int i = 0; i < cs_workers->nslots; i++)
	{
		CsSlot *slot = &cs_workers->slots[i];

		if (slot->state != CS_SLOT_FREE && slot->stream_id == stream_id && slot->database == database)
			return slot;
	}
	return NULL;
}

/* The one setter of a slot's state. */
void
cs_slot_change(CsSlot *slot, CsSlotState state)
{
	Assert(LWLockHeldByMeInMode(cs_workers->lock, LW_EXCLUSIVE));
	if (slot->state == state)
		return;
	if (nchanges < CHANGES_MAX)
		changes[nchanges++] = (Change){slot->database, slot->stream_id, slot->state, state};
	slot->state = state;
}

void
cs_slot_free(CsSlot *slot)
{
	Assert(slot->pid == 0);
	cs_slot_change(slot, CS_SLOT_FREE);
	slot->wanted = slot->stop = false;
	if (cs_workers->overflow)
		cs_wake_launcher();
}

bool
cs_slot_is_busy(const CsSlot *slot)
{
	return slot->pid != 0 || slot->state == CS_SLOT_STARTING;
}

void
cs_slot_ask_to_end(CsSlot *slot, bool terminate)
{
	if (!slot->stop)
		slot->stop_at = GetCurrentTimestamp();
	slot->stop = true;
	if (slot->pid != 0)
	{
		cs_slot_change(slot, CS_SLOT_STOPPING);
		SetLatch(slot->latch);
		if (terminate)
		{
			kill(slot->pid, SIGTERM);
			slot->terminated = true;
		}
	}
	cs_wake_launcher();
}

/* The delay doubles up to a minute; jitter keeps streams that failed together apart. */
int
cs_slot_back_off(CsSlot *slot)
{
	double ms = cs_restart_delay;

	for (int i = 0; i < slot->failures && ms < BACK_OFF_MAX_MS; i++)
		ms *= 2;
	ms = Min(ms, BACK_OFF_MAX_MS) * (0.75 + 0.5 * pg_prng_double(&pg_global_prng_state));
	slot->failures++;
	slot->restart_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) ms);
	return (int) ms;
}

void
cs_slot_note_error(CsSlot *slot, int sqlstate, const char *message, const char *hint)
{
	slot->sqlstate = sqlstate;
	slot->error_at = GetCurrentTimestamp();
	strlcpy(slot->error, message, sizeof(slot->error));
	strlcpy(slot->hint, hint, sizeof(slot->hint));
}

void
cs_wake_launcher(void)
{
	if (cs_workers->launcher_latch != NULL)
		SetLatch(cs_workers->launcher_latch);
}

static CsSlot *
take_free_slot(Oid database, int32 stream_id)
{
	for (int i = 0; i < cs_workers->nslots; i++)
	{
		CsSlot *slot = &cs_workers->slots[i];
		uint32	generation = slot->generation;

		if (slot->state != CS_SLOT_FREE)
			continue;
		memset(slot, 0, sizeof(*slot));
		slot->generation = generation;
		slot->database = database;
		slot->stream_id = stream_id;
		return slot;
	}
	return NULL;
}

/* ---- take the lock themselves ---- */

/*
 * anew: somebody said start(), so an earlier failure is forgotten; the probe
 * at the server's start leaves one alone.
 */
void
cs_slot_want(Oid database, int32 stream_id, bool anew)
{
	CsSlot *slot;

	cs_slots_lock();
	slot = cs_slot_find(database, stream_id);
	if (slot == NULL)
		slot = take_free_slot(database, stream_id);
	if (slot == NULL)
		cs_workers->overflow = true;
	else if (slot->state == CS_SLOT_FREE || anew)
	{
		slot->wanted = true;
		slot->failures = 0;
		slot->restart_at = 0;
		if (!cs_slot_is_busy(slot))
		{
			slot->error_at = 0;
			slot->stop = false;
			cs_slot_change(slot, CS_SLOT_WANTED);
		}
		else if (slot->state == CS_SLOT_FAILED)
		{
			slot->error_at = 0; /* forgotten at once, though its process is still ending */
			cs_slot_ask_to_end(slot, false);
		}
		else if (slot->latch != NULL)
			SetLatch(slot->latch); /* it may be backing off */
	}
	cs_wake_launcher();
	cs_slots_unlock();
}

void
cs_slot_unwant(Oid database, int32 stream_id)
{
	CsSlot *slot;

	cs_slots_lock();
	slot = cs_slot_find(database, stream_id);
	if (slot != NULL)
	{
		slot->wanted = false;
		if (cs_slot_is_busy(slot))
			cs_slot_ask_to_end(slot, false);
		else
			cs_slot_free(slot);
	}
	cs_slots_unlock();
}

void
cs_slot_wake(Oid database, int32 stream_id)
{
	CsSlot *slot;

	LWLockAcquire(cs_workers->lock, LW_SHARED);
	slot = cs_slot_find(database, stream_id);
	if (slot != NULL && slot->pid != 0)
		SetLatch(slot->latch);
	LWLockRelease(cs_workers->lock);
}
