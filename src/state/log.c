/*
 * state/log.c
 *	  The state log: what a commit changed, appended.
 *
 * A commit's changes are a stream of records, cut into rows of just under a
 * page: (commit_number, seq, data), data = CRC-32C, then bytes of the stream.
 * A record is its length, an operation, and its body (record.h).
 *
 * An event changes little of an entry, and in live traffic nearly each event
 * is of another visitor.  So an entry whose image lies in the half that is
 * written gets a delta: what makes its new image out of the committed one
 * (delta.c).  An entry whose image lies in the other half is written whole, as
 * is what is new and what is copied forward: each half can be read alone.
 *
 * Two halves.  The one in use grows; when it has grown past a multiple of the
 * live state, the other (empty) one is taken into use and entries that are
 * not touched anyway are copied to it, some with each commit, a bounded number of
 * bytes.  When all is copied the older half is truncated, once no snapshot
 * can still need it: TRUNCATE is not MVCC-safe.  So a reader folds the older
 * half, then the newer one, under its own snapshot, and sees the state of the
 * newest commit that the snapshot sees (replay.c).
 *
 * Rows are appended at the end of the table (HEAP_INSERT_SKIP_FSM), so a scan
 * returns them in the order of commits.
 *
 * Locking: RowExclusiveLock on a half while a batch writes it; TRUNCATE only
 * where AccessExclusiveLock is had at once.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/xact.h"
#include "core/fault.h"
#include "core/mutant.h"
#include "core/settings.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "state/delta.h"
#include "state/record.h"
#include "state/spill.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#define ROW_BYTES 8000					 /* of data; a row then just fits a page */
#define HALF_FACTOR 3					 /* left when it is this many times the live state */
#define COPY_MIN (INT64CONST(256) << 10) /* bytes copied forward with each commit, at least */

typedef struct LogWriter
{
	Relation		rel;
	BulkInsertState bulk;
	StringInfoData	bytes;	/* of the stream, not yet in a row */
	StringInfoData	record; /* being made */
	int64			last_bucket;
	int64			commit_number;
	int32			seq;
	int64			written;
	bytea		   *row;
} LogWriter;

/* ---- writing ---- */

static void
write_row(LogWriter *w, const char *data, int len)
{
	Datum	  values[3];
	bool	  nulls[3] = {false, false, false};
	pg_crc32c crc = cs_row_checksum(data, len);
	HeapTuple tuple;

	SET_VARSIZE(w->row, VARHDRSZ + sizeof(crc) + len);
	memcpy(VARDATA(w->row), &crc, sizeof(crc));
	memcpy(VARDATA(w->row) + sizeof(crc), data, len);
	values[0] = Int64GetDatum(w->commit_number);
	values[1] = Int32GetDatum(w->seq++);
	values[2] = PointerGetDatum(w->row);
	tuple = heap_form_tuple(RelationGetDescr(w->rel), values, nulls);
	heap_insert(w->rel, tuple, GetCurrentCommandId(true), HEAP_INSERT_SKIP_FSM, w->bulk);
	w->written += tuple->t_len;
	heap_freetuple(tuple);
}

/* Write full rows; all of what is left if final. */
static void
flush_rows(LogWriter *w, bool final)
{
	int done = 0;

	while (w->bytes.len - done >= ROW_BYTES)
	{
		write_row(w, w->bytes.data + done, ROW_BYTES);
		done += ROW_BYTES;
	}
	if (final && w->bytes.len > done)
	{
		write_row(w, w->bytes.data + done, w->bytes.len - done);
		done = w->bytes.len;
	}
	if (done > 0)
	{
		memmove(w->bytes.data, w->bytes.data + done, w->bytes.len - done);
		w->bytes.len -= done;
	}
}

static StringInfo
begin_record(LogWriter *w, CsLogOp op)
{
	resetStringInfo(&w->record);
	cs_put_u8(&w->record, op);
	return &w->record;
}

static void
end_record(LogWriter *w)
{
	cs_put_bytes(&w->bytes, w->record.data, w->record.len);
	if (w->bytes.len >= 16 * ROW_BYTES)
		flush_rows(w, false);
}

static void
log_image(LogWriter *w, const CsKey *key, const char *data, uint32 len)
{
	StringInfo record = begin_record(w, CS_LOG_IMAGE);

	cs_put_key(record, key, &w->last_bucket);
	cs_put_bytes(record, data, len);
	end_record(w);
}

/* False if a delta is no shorter than the image. */
static bool
log_delta(LogWriter *w, const CsWork *work)
{
	StringInfo record = begin_record(w, CS_LOG_DELTA);
	int64	   bucket = w->last_bucket;

	cs_put_key(record, &work->key, &w->last_bucket);
	if (work->delta)
		cs_put_raw(record, work->delta, work->delta_len);
	else if (!cs_delta_put(record, cs_entry_bytes(work->base), work->base_len, work->image, work->image_len,
						   work->image_len))
	{
		w->last_bucket = bucket;
		return false;
	}
	end_record(w);
	return true;
}

void
cs_log_spilled(LogWriter *w, const CsKey *key)
{
	cs_put_key(begin_record(w, CS_LOG_SPILLED), key, &w->last_bucket);
	end_record(w);
}

void
cs_log_set_spilled(LogWriter *w, uint64 id)
{
	cs_put_uint(begin_record(w, CS_LOG_SET_SPILLED), id);
	end_record(w);
}

static void
log_deletion(LogWriter *w, CsEviction *e, const CsWork *work)
{
	if (cs_work_is_guests(work))
		cs_evict_forget_row(e, work);
	else if (work->base)
	{
		cs_put_key(begin_record(w, CS_LOG_DELETE), &work->key, &w->last_bucket);
		end_record(w);
	}
}

/* An entry as this batch leaves it. */
static void
log_work(LogWriter *w, CsEviction *e, CsWork *work, int half)
{
	bool has_base = work->base && work->base_half == half;

	if (cs_work_is_guests(work) && cs_work_is_unchanged(work))
		work->spills = true; /* its row is as it should be */
	if (work->spills)
	{
		cs_evict_work(e, work);
		return;
	}
	if (cs_work_is_guests(work))
		cs_evict_forget_row(e, work);
	if (has_base && work->delta == NULL && cs_work_is_unchanged(work))
		return;
	if (!has_base || !log_delta(w, work))
		log_image(w, &work->key, work->image, work->image_len);
}

static void
log_members(LogWriter *w, int32 definition_id, uint64 id, const char *members, int64 n)
{
	for (int64 done = 0; done < n; done += CS_SET_PIECE)
	{
		int64	   piece = Min(n - done, CS_SET_PIECE);
		StringInfo record = begin_record(w, CS_LOG_SET_ADD);

		cs_put_uint(record, (uint32) definition_id);
		cs_put_uint(record, id);
		cs_put_bytes(record, members + done * sizeof(CsHash128), piece * sizeof(CsHash128));
		end_record(w);
	}
}

/*
 * Announce what is read for a work that comes up soon: most was last touched
 * when its event was applied.  Its committed bytes are read where they have to
 * be compared, or decoded bytes of the work point into them.
 */
static inline void
prefetch_works(const CsDefState *def, int64 i)
{
	const CsDirty *ahead = def->dirty + i;

	if (i + 2 * CS_PREFETCH_WORK < def->ndirty)
	{
		__builtin_prefetch(ahead[2 * CS_PREFETCH_WORK].work);
		__builtin_prefetch((const char *) ahead[2 * CS_PREFETCH_WORK].work + 64);
	}
	if (i + CS_PREFETCH_WORK < def->ndirty)
	{
		const CsWork *work = ahead[CS_PREFETCH_WORK].work;

		if (work->delta)
			cs_prefetch_bytes(work->delta, work->delta_len);
		else if (work->image)
			cs_prefetch_bytes(work->image, work->image_len);
		else
			__builtin_prefetch(work->work);
		if (work->base && work->delta == NULL)
			__builtin_prefetch(work->base);
	}
	if (i + CS_PREFETCH_DATA < def->ndirty)
	{
		const CsWork *work = ahead[CS_PREFETCH_DATA].work;

		if (work->base && work->delta == NULL)
			cs_prefetch_bytes(work->base->data, work->base_len);
	}
}

static void
make_image(CsState *state, CsDefState *def, CsWork *work, StringInfo buf)
{
	resetStringInfo(buf);
	if (work->image == NULL)
		def->serialize(def->op, state, work, buf);
	else /* to be damaged */
		cs_put_raw(buf, work->image, work->image_len);
	if (CS_MUTANT(DAMAGE_ENTRY))
		cs_put_u8(buf, 0);
	work->image = memcpy(cs_batch_alloc(state, buf->len), buf->data, buf->len);
	work->image_len = (uint32) buf->len;
	work->delta = NULL;
}

/* The work at that place of a definition's dirty ones with its image; NULL: it has none. */
static inline CsWork *
serialized(CsState *state, CsDefState *def, int64 i, StringInfo buf)
{
	CsWork *work = def->dirty[i].work;

	prefetch_works(def, i);
	if (work->deleted)
		return NULL;
	if (CS_MUTANT(LOSE_ENTRY) && i == def->ndirty - 1)
	{
		work->image = NULL; /* publish() keeps what it has of an entry without image */
		return NULL;
	}
	if (work->image == NULL || CS_MUTANT(DAMAGE_ENTRY))
		make_image(state, def, work, buf);
	return work;
}

static void
serialize_works(CsState *state, CsDefState *def)
{
	StringInfoData buf;

	initStringInfo(&buf);
	state->serializing = def->definition_id;
	for (int64 i = 0; i < def->ndirty; i++)
		(void) serialized(state, def, i, &buf);
	pfree(buf.data);
}

/* Serialise a definition's dirty works, if that is not done, and log them if there is a writer. */
static void
log_works(CsState *state, CsDefState *def, LogWriter *w, CsEviction *e)
{
	StringInfoData buf;

	initStringInfo(&buf);
	state->serializing = def->definition_id;
	for (int64 i = 0; i < def->ndirty; i++)
	{
		CsWork *work = serialized(state, def, i, &buf);

		if (w && work)
			log_work(w, e, work, state->log_next.half);
		else if (w && def->dirty[i].work->deleted)
			log_deletion(w, e, def->dirty[i].work);
		if (work && !work->spills)
			cs_reserve_work(state, work);
	}
	pfree(buf.data);
}

static void
log_sets(CsState *state, LogWriter *w)
{
	for (CsSetChange *c = state->set_changes; c; c = c->next)
	{
		if (c->drop)
		{
			cs_put_uint(begin_record(w, CS_LOG_SET_DROP), c->id);
			end_record(w);
			continue;
		}
		log_members(w, c->definition_id, c->id, c->raw, c->nraw);
		log_members(w, c->definition_id, c->id, (const char *) c->members, c->n);
	}
}

/* ---- copying forward ---- */

/* Entries of the other half that this batch does not write anyway; false if the quota ended first. */
static bool
copy_entries(CsState *state, LogWriter *w, int64 quota)
{
	dlist_iter iter;

	dlist_foreach(iter, &state->half[1 - state->log_next.half])
	{
		CsEntry *entry = dlist_container(CsEntry, half_node, iter.cur);

		if ((entry->work && entry->work->dirty) || entry->leaving)
			continue;
		if (quota <= 0)
			return false;
		CS_FAULT(MID_COPY);
		log_image(w, &entry->key, cs_entry_bytes(entry), entry->len);
		quota -= entry->len + 40;
		if (state->ncopied == state->copied_capacity)
		{
			state->copied_capacity = state->copied_capacity ? state->copied_capacity * 2 : 256;
			state->copied = state->copied
								? repalloc_huge(state->copied, state->copied_capacity * sizeof(CsEntry *))
								: MemoryContextAlloc(state->batch, state->copied_capacity * sizeof(CsEntry *));
		}
		state->copied[state->ncopied++] = entry;
	}
	return true;
}

static void
log_set(LogWriter *w, const CsBigSet *set, int64 from, int64 n)
{
	int64 run;

	for (int64 at = from; at < from + n; at += run)
	{
		const CsHash128 *members = cs_bigset_run(set, at, from + n, &run);

		log_members(w, set->definition_id, set->id, (const char *) members, run);
	}
}

/* One set at a time, from where the last batch stopped. */
static bool
copy_sets(CsState *state, LogWriter *w, int64 quota)
{
	dlist_iter iter;
	int		   n = 0;

	dlist_foreach(iter, &state->half_sets[1 - state->log_next.half])
		n++;
	state->copied_sets = MemoryContextAlloc(state->batch, Max(n, 1) * sizeof(CsBigSet *));
	dlist_foreach(iter, &state->half_sets[1 - state->log_next.half])
	{
		CsBigSet *set = dlist_container(CsBigSet, half_node, iter.cur);
		int64	  from = Max(set->copied, set->on_table);
		int64	  piece = Min(set->n - from, Max(quota, 0) / (int64) sizeof(CsHash128));

		if (set->dropping || set->leaving)
			continue;
		log_set(w, set, from, piece);
		quota -= piece * (int64) sizeof(CsHash128);
		if (from + piece < set->n)
		{
			state->copied_set = set;
			state->copied_to = from + piece;
			return false;
		}
		state->copied_sets[state->ncopied_sets++] = set;
	}
	return true;
}

static void
maybe_switch_half(CsState *state)
{
	CsLogPosition *log = &state->log_next;

	if (!log->copied || FullTransactionIdIsValid(log->copied_xid))
		return;
	if (state->log_bytes[log->half] < Max((int64) cs_state_log_size * 1024, HALF_FACTOR * state->bytes))
		return;
	log->half = 1 - log->half;
	log->copied = false;
}

CsLogPosition
cs_state_log(CsState *state, const CsStream *stream, int64 commit_number)
{
	LogWriter	  w = {.commit_number = commit_number};
	CsEviction	  e = {.state = state, .log = &w, .commit_number = commit_number};
	MemoryContext old = MemoryContextSwitchTo(state->batch);
	bool		  tight = cs_evict_is_tight(state);

	state->log_next = state->log;
	state->commit = commit_number;
	state->xid = GetTopTransactionId();
	cs_state_forget_seen(state); /* before it is reckoned what memory publication needs */
	maybe_switch_half(state);
	w.rel = table_open(stream->log_relation[state->log_next.half], RowExclusiveLock);
	RelationSetTargetBlock(w.rel,
						   InvalidBlockNumber); /* another process may have gone on from the page we wrote last */
	w.bulk = GetBulkInsertState();
	w.row = palloc(VARHDRSZ + sizeof(pg_crc32c) + ROW_BYTES);
	initStringInfo(&w.bytes);
	initStringInfo(&w.record);
	for (int i = 0; tight && i < state->ndefs; i++)
		serialize_works(state, &state->defs[i]);
	if (tight)
		cs_evict_choose(&e, true);
	for (int i = 0; i < state->ndefs; i++)
		log_works(state, &state->defs[i], &w, &e);
	log_sets(state, &w);
	if (!tight)
		cs_evict_choose(&e, false);
	cs_evict_end(&e);
	if (!state->log_next.copied)
	{
		int64 quota = COPY_MIN + w.written + w.bytes.len;

		if (copy_entries(state, &w, quota) && copy_sets(state, &w, quota))
		{
			state->log_next.copied = true;
			state->log_next.copied_xid = GetCurrentFullTransactionId();
		}
	}
	cs_reserve(state);
	flush_rows(&w, true);
	FreeBulkInsertState(w.bulk);
	table_close(w.rel, NoLock);
	state->log_bytes_next[0] = state->log_bytes[0];
	state->log_bytes_next[1] = state->log_bytes[1];
	state->log_bytes_next[state->log_next.half] += w.written;
	MemoryContextSwitchTo(old);
	return state->log_next;
}

void
cs_state_settle(CsState *state)
{
	MemoryContext old = MemoryContextSwitchTo(state->batch);

	state->log_next = state->log;
	for (int i = 0; i < state->ndefs; i++)
		log_works(state, &state->defs[i], NULL, NULL);
	cs_reserve(state);
	MemoryContextSwitchTo(old);
	cs_state_publish(state);
}

/* ---- truncation ---- */

bool
cs_state_wants_trim(CsState *state)
{
	return state->log.copied && FullTransactionIdIsValid(state->log.copied_xid);
}

bool
cs_state_trim_log(CsState *state, const CsStream *stream)
{
	Oid			  other = stream->log_relation[1 - state->log.half];
	TransactionId copied = XidFromFullTransactionId(state->log.copied_xid);
	Relation	  rel;
	TransactionId oldest;
	char		 *sql;
	Oid			  user;
	int			  sec;

	CS_FAULT(BEFORE_TRIM);
	if (!ConditionalLockRelationOid(other, AccessExclusiveLock))
		return false;
	CS_FAULT(TRIM_LOCKED);
	rel = table_open(other, NoLock);
	oldest = GetOldestNonRemovableTransactionId(rel);
	table_close(rel, NoLock);
	if (!TransactionIdPrecedes(copied, oldest) && !CS_MUTANT(TRIM_EARLY))
		return false;
	CS_FAULT(MID_TRIM);
	sql = psprintf("DO $$BEGIN EXECUTE format('TRUNCATE TABLE ONLY %%s', %u::regclass); END$$", other);
	GetUserIdAndSecContext(&user, &sec);
	SetUserIdAndSecContext(cs_extension_owner(), sec | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	SPI_execute(sql, false, 0);
	SPI_execute(psprintf("UPDATE clickstream.progress SET log_copied_xid = NULL WHERE stream_id = %d",
						 stream->stream_id),
				false, 0);
	SPI_finish();
	SetUserIdAndSecContext(user, sec);
	return true;
}

void
cs_state_trimmed(CsState *state)
{
	state->log.copied_xid = InvalidFullTransactionId;
	state->log_next = state->log;
	state->log_bytes[1 - state->log.half] = 0;
}
