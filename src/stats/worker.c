/*
 * stats/worker.c
 *	  stat_worker(): what shared memory knows of a stream's worker.
 *
 * View stat_stream joins it with the tables.  It answers for one stream of
 * this database, always with one row, so that a stream without a slot has a
 * state too.  What went wrong is shown to members of the stream's owner and to
 * those who may read all statistics; the owner is the one the slot knows, not
 * one that the caller could name.
 *
 * Locking: the slot is copied under the lock of worker/slots.h, shared.
 */
#include "postgres.h"

#include "worker/slots.h"
#include "worker/worker.h"

#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(clickstream_stat_worker);

enum
{
	COL_STATE,
	COL_PID,
	COL_LAG,
	COL_RATE,
	COL_LAST_ERROR,
	COL_LAST_HINT,
	COL_LAST_ERROR_SQLSTATE,
	COL_LAST_ERROR_AT,
	COL_PROBLEM,
	COL_STATE_ENTRIES,
	COL_STATE_BYTES,
	COL_DECODE_WORKERS,
	COL_DECODE_PROBLEM,
	COL_DECODE_RESTARTS,
	COLUMNS
};

typedef struct Row
{
	Datum values[COLUMNS];
	bool  isnull[COLUMNS];
} Row;

static void
put(Row *row, int column, Datum value)
{
	row->values[column] = value;
	row->isnull[column] = false;
}

/* A copy of the stream's slot; false: it has none. *probed: every database was looked into. */
static bool
copy_slot(int32 stream_id, CsSlot *copy, bool *probed)
{
	CsSlot *slot;

	LWLockAcquire(cs_workers->lock, LW_SHARED);
	*probed = cs_workers->probed;
	slot = cs_slot_find(MyDatabaseId, stream_id);
	if (slot != NULL)
		*copy = *slot;
	LWLockRelease(cs_workers->lock);
	return slot != NULL;
}

/* Messages a second over the complete seconds that the slot remembers. */
static double
events_per_second(const CsSlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		second = now / USECS_PER_SEC;
	int64		oldest = Max(second - (CS_RATE_SECONDS - 1), slot->started_at / USECS_PER_SEC);
	int64		messages = 0;

	for (int i = 0; i < CS_RATE_SECONDS; i++)
		if (slot->rate[i].second >= oldest && slot->rate[i].second < second)
			messages += slot->rate[i].messages;
	return second > oldest ? (double) messages / (double) (second - oldest) : 0;
}

static bool
may_see_errors(Oid owner)
{
	Oid admin = get_role_oid("clickstream_admin", true);

	return (OidIsValid(owner) && has_privs_of_role(GetUserId(), owner)) ||
		   has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
		   (OidIsValid(admin) && has_privs_of_role(GetUserId(), admin));
}

static void
put_errors(Row *row, const CsSlot *slot)
{
	if (slot->error_at != 0)
	{
		put(row, COL_LAST_ERROR, CStringGetTextDatum(slot->error));
		if (slot->hint[0] != '\0')
			put(row, COL_LAST_HINT, CStringGetTextDatum(slot->hint));
		put(row, COL_LAST_ERROR_SQLSTATE, CStringGetTextDatum(unpack_sql_state(slot->sqlstate)));
		put(row, COL_LAST_ERROR_AT, TimestampTzGetDatum(slot->error_at));
	}
}

static void
put_progress(Row *row, const CsSlot *slot)
{
	if (slot->progress.lag >= 0)
		put(row, COL_LAG, Int64GetDatum(slot->progress.lag));
	put(row, COL_STATE_ENTRIES, Int64GetDatum(slot->progress.state_entries));
	put(row, COL_STATE_BYTES, Int64GetDatum(slot->progress.state_bytes));
}

static void
put_slot(Row *row, const CsSlot *slot)
{
	CsSlotState state = cs_slot_shown_state(slot);
	bool		may_see;

	put(row, COL_STATE, CStringGetTextDatum(cs_slot_state_name(state)));
	if (slot->pid != 0)
	{
		put(row, COL_PID, Int32GetDatum(slot->pid));
		put(row, COL_RATE, Float8GetDatum(events_per_second(slot)));
		put(row, COL_DECODE_WORKERS, Int32GetDatum(slot->decode_workers));
		put(row, COL_DECODE_RESTARTS, Int64GetDatum(slot->decode_restarts));
	}
	if (slot->has_progress)
		put_progress(row, slot);
	may_see = may_see_errors(slot->owner);
	if (may_see)
		put_errors(row, slot);
	if (may_see && slot->decode_problem[0] != '\0')
		put(row, COL_DECODE_PROBLEM, CStringGetTextDatum(slot->decode_problem));
	/* that there is no room is no secret, and no worker has said yet who the owner is */
	if (slot->problem[0] != '\0' && (may_see || state == CS_SLOT_NO_WORKER))
		put(row, COL_PROBLEM, CStringGetTextDatum(slot->problem));
}

/* stat_worker(stream_id integer, enabled boolean) */
Datum
clickstream_stat_worker(PG_FUNCTION_ARGS)
{
	int32	  stream_id = PG_GETARG_INT32(0);
	bool	  enabled = PG_GETARG_BOOL(1);
	CsSlot	  slot;
	bool	  probed = false;
	bool	  available = cs_worker_available();
	TupleDesc desc;
	Row		  row;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);
	memset(row.values, 0, sizeof(row.values));
	memset(row.isnull, true, sizeof(row.isnull));
	if (available && copy_slot(stream_id, &slot, &probed))
		put_slot(&row, &slot);
	else if (enabled && available && !RecoveryInProgress())
		put(&row, COL_STATE, CStringGetTextDatum(cs_slot_state_name(probed ? CS_SLOT_NO_WORKER : CS_SLOT_WANTED)));
	else
		put(&row, COL_STATE, CStringGetTextDatum(cs_slot_state_name(CS_SLOT_FREE)));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, row.values, row.isnull)));
}
