/*
 * state/log.c
 *	  The state log: what a commit changed, appended; and recovery from it.
 *
 * A commit's changes are a stream of records, cut into rows of just under a
 * page: (commit_number, seq, data), data = CRC-32C, then bytes of the stream.
 * A record is its length (4 bytes, own byte order: the log never leaves the
 * server but by pg_dump to one of its kind), an operation, and its body.
 *
 * Two halves.  The one in use grows; when it has grown past a multiple of the
 * live state, the other (empty) one is taken into use and entries that are
 * not touched anyway are copied to it, some with each commit, a bounded number of
 * bytes.  When all is copied the older half is truncated, once no snapshot
 * can still need it: TRUNCATE is not MVCC-safe.  So a reader folds the older
 * half, then the newer one, under its own snapshot, and sees the state of the
 * newest commit that the snapshot sees.
 *
 * Rows are appended at the end of the table (HEAP_INSERT_SKIP_FSM), so a scan
 * returns them in the order of commits; where it does not (VACUUM gave back
 * the place of an aborted row) recovery sorts them.
 *
 * Locking: RowExclusiveLock on a half while a batch writes it; TRUNCATE only
 * where AccessExclusiveLock is had at once.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_operator_d.h"
#include "core/settings.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "state/internal.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#define ROW_BYTES 8000					 /* of data; a row then just fits a page */
#define SET_PIECE 480					 /* members in one record: below 8 kB */
#define HALF_FACTOR 3					 /* left when it is this many times the live state */
#define COPY_MIN (INT64CONST(256) << 10) /* bytes copied forward with each commit, at least */

typedef enum LogOp
{
	LOG_IMAGE = 1, /* key, due, bytes */
	LOG_DELETE,	   /* key */
	LOG_SET_ADD,   /* definition, id, members */
	LOG_SET_DROP   /* id */
} LogOp;

typedef struct LogWriter
{
	Relation		rel;
	BulkInsertState bulk;
	StringInfoData	bytes; /* of the stream, not yet in a row */
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
	pg_crc32c crc;
	HeapTuple tuple;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
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

static int
begin_record(LogWriter *w, LogOp op)
{
	int at = w->bytes.len;

	appendStringInfoSpaces(&w->bytes, sizeof(uint32));
	cs_put_u8(&w->bytes, op);
	return at;
}

static void
end_record(LogWriter *w, int at)
{
	uint32 len = (uint32) (w->bytes.len - at) - sizeof(uint32);

	memcpy(w->bytes.data + at, &len, sizeof(len));
	if (w->bytes.len >= 16 * ROW_BYTES)
		flush_rows(w, false);
}

static void
put_key(StringInfo buf, const CsKey *key)
{
	cs_put_uint(buf, key->def);
	cs_put_int(buf, key->bucket);
	appendBinaryStringInfo(buf, (const char *) &key->who, sizeof(key->who));
}

static void
log_image(LogWriter *w, const CsKey *key, const char *data, uint32 len)
{
	int at = begin_record(w, LOG_IMAGE);

	put_key(&w->bytes, key);
	cs_put_bytes(&w->bytes, data, len);
	end_record(w, at);
}

static void
log_members(LogWriter *w, int32 definition_id, uint64 id, const char *members, int64 n)
{
	for (int64 done = 0; done < n; done += SET_PIECE)
	{
		int64 piece = Min(n - done, SET_PIECE);
		int	  at = begin_record(w, LOG_SET_ADD);

		cs_put_uint(&w->bytes, (uint32) definition_id);
		cs_put_uint(&w->bytes, id);
		cs_put_bytes(&w->bytes, members + done * sizeof(CsHash128), piece * sizeof(CsHash128));
		end_record(w, at);
	}
}

/* Serialise a definition's dirty works and log them. */
static void
log_works(CsState *state, CsDefState *def, LogWriter *w)
{
	StringInfoData buf;

	initStringInfo(&buf);
	state->serializing = def->definition_id;
	for (CsWork *work = def->dirty; work; work = work->next_dirty)
	{
		if (work->deleted)
		{
			if (work->base)
			{
				int at = begin_record(w, LOG_DELETE);

				put_key(&w->bytes, &work->key);
				end_record(w, at);
			}
			continue;
		}
		resetStringInfo(&buf);
		def->serialize(def->op, state, work, &buf);
		work->image = memcpy(palloc(buf.len), buf.data, buf.len);
		work->image_len = (uint32) buf.len;
		log_image(w, &work->key, work->image, work->image_len);
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
			int at = begin_record(w, LOG_SET_DROP);

			cs_put_uint(&w->bytes, c->id);
			end_record(w, at);
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

		if (entry->work && entry->work->dirty)
			continue;
		if (quota <= 0)
			return false;
		log_image(w, &entry->key, entry->data, entry->len);
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
		int64	  piece = Min(set->n - set->copied, Max(quota, 0) / (int64) sizeof(CsHash128));

		if (set->dropping)
			continue;
		log_members(w, set->definition_id, set->id, (const char *) (set->members + set->copied), piece);
		quota -= piece * (int64) sizeof(CsHash128);
		if (set->copied + piece < set->n)
		{
			state->copied_set = set;
			state->copied_to = set->copied + piece;
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
	MemoryContext old = MemoryContextSwitchTo(state->batch);

	state->log_next = state->log;
	maybe_switch_half(state);
	w.rel = table_open(stream->log_relation[state->log_next.half], RowExclusiveLock);
	RelationSetTargetBlock(w.rel,
						   InvalidBlockNumber); /* another process may have gone on from the page we wrote last */
	w.bulk = GetBulkInsertState();
	w.row = palloc(VARHDRSZ + sizeof(pg_crc32c) + ROW_BYTES);
	initStringInfo(&w.bytes);
	for (int i = 0; i < state->ndefs; i++)
		log_works(state, &state->defs[i], &w);
	log_sets(state, &w);
	if (!state->log_next.copied)
	{
		int64 quota = COPY_MIN + w.written + w.bytes.len;

		if (copy_entries(state, &w, quota) && copy_sets(state, &w, quota))
		{
			state->log_next.copied = true;
			state->log_next.copied_xid = GetCurrentFullTransactionId();
		}
	}
	flush_rows(&w, true);
	FreeBulkInsertState(w.bulk);
	table_close(w.rel, NoLock);
	state->log_bytes_next[0] = state->log_bytes[0];
	state->log_bytes_next[1] = state->log_bytes[1];
	state->log_bytes_next[state->log_next.half] += w.written;
	MemoryContextSwitchTo(old);
	return state->log_next;
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

	if (!ConditionalLockRelationOid(other, AccessExclusiveLock))
		return false;
	rel = table_open(other, NoLock);
	oldest = GetOldestNonRemovableTransactionId(rel);
	table_close(rel, NoLock);
	if (!TransactionIdPrecedes(copied, oldest))
		return false;
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

/* ---- recovery ---- */

static void
get_key(CsReader *r, CsKey *key)
{
	memset(key, 0, sizeof(*key));
	key->def = (uint32) cs_get_uint(r);
	key->bucket = cs_get_int(r);
	memcpy(&key->who, cs_get_raw(r, sizeof(key->who)), sizeof(key->who));
}

static void
replay_members(CsState *state, CsReader *r, int half)
{
	int32		definition_id = (int32) cs_get_uint(r);
	uint64		id = cs_get_uint(r);
	size_t		len;
	const char *members = cs_get_bytes(r, &len);

	if (len % sizeof(CsHash128) != 0)
		cs_codec_corrupt("a distinct set is cut");
	if (cs_def_state(state, definition_id))
		cs_bigset_add(state, definition_id, id, members, (int64) (len / sizeof(CsHash128)), half);
}

static void
replay_record(CsState *state, CsReader *r, int half)
{
	CsKey		key;
	CsDefState *def;
	CsEntry	   *entry;
	size_t		len;
	const char *data;

	switch (cs_get_u8(r))
	{
		case LOG_IMAGE:
			get_key(r, &key);
			data = cs_get_bytes(r, &len);
			def = cs_def_state(state, (int32) key.def);
			if (def)
				cs_entry_install(state, def, &key, data, (uint32) len, half, CS_WM_DONE);
			break;
		case LOG_DELETE:
			get_key(r, &key);
			def = cs_def_state(state, (int32) key.def);
			entry = def ? cs_state_peek(state, &key) : NULL;
			if (entry)
				cs_entry_remove(state, def, entry);
			break;
		case LOG_SET_ADD:
			replay_members(state, r, half);
			break;
		case LOG_SET_DROP:
			cs_bigset_drop(state, cs_get_uint(r));
			break;
		default:
			cs_codec_corrupt("a record of the state log is of no known kind");
	}
}

/* Replay the complete records in bytes and keep the rest. */
static void
replay_bytes(CsState *state, StringInfo bytes, int half)
{
	int done = 0;

	while (bytes->len - done >= (int) sizeof(uint32))
	{
		uint32	 len;
		CsReader r;

		memcpy(&len, bytes->data + done, sizeof(len));
		if (len > MaxAllocSize)
			cs_codec_corrupt("a record of the state log is too long");
		if (bytes->len - done - (int) sizeof(len) < (int) len)
			break;
		r.pos = bytes->data + done + sizeof(len);
		r.end = r.pos + len;
		replay_record(state, &r, half);
		done += (int) (sizeof(len) + len);
	}
	memmove(bytes->data, bytes->data + done, bytes->len - done);
	bytes->len -= done;
}

static void
replay_row(CsState *state, bytea *row, StringInfo bytes, int half)
{
	int		  len = (int) VARSIZE_ANY_EXHDR(row) - (int) sizeof(pg_crc32c);
	char	 *data = VARDATA_ANY(row);
	pg_crc32c stored, crc;

	if (len <= 0)
		cs_codec_corrupt("a row of the state log is too short");
	memcpy(&stored, data, sizeof(stored));
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data + sizeof(crc), len);
	FIN_CRC32C(crc);
	if (!EQ_CRC32C(crc, stored))
		cs_codec_corrupt("the checksum of a row of the state log does not match");
	appendBinaryStringInfo(bytes, data + sizeof(crc), len);
	replay_bytes(state, bytes, half);
}

/* Where a replay stands in a half. */
typedef struct ReplayOrder
{
	int64 commit_number;
	int32 seq;
} ReplayOrder;

static void
replay_slot(CsState *state, TupleTableSlot *slot, ReplayOrder *last, StringInfo bytes, int half)
{
	bool  isnull;
	int64 commit_number = DatumGetInt64(slot_getattr(slot, 1, &isnull));
	int32 seq = DatumGetInt32(slot_getattr(slot, 2, &isnull));
	Datum data = slot_getattr(slot, 3, &isnull);

	if (commit_number != last->commit_number)
	{
		if (commit_number < last->commit_number || bytes->len != 0)
			cs_codec_corrupt("rows of the state log are out of order");
		last->seq = -1;
	}
	if (seq != last->seq + 1)
		cs_codec_corrupt("a row of the state log is missing");
	last->commit_number = commit_number;
	last->seq = seq;
	replay_row(state, DatumGetByteaPP(data), bytes, half);
	CHECK_FOR_INTERRUPTS();
}

/* Does a scan return the rows in the order of commits?  Nearly always. */
static bool
is_in_order(Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
	int64		  last = PG_INT64_MIN;
	int32		  last_seq = 0;
	bool		  in_order = true;

	while (in_order && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool  isnull;
		int64 commit_number = DatumGetInt64(slot_getattr(slot, 1, &isnull));
		int32 seq = DatumGetInt32(slot_getattr(slot, 2, &isnull));

		in_order = commit_number > last || (commit_number == last && seq > last_seq);
		last = commit_number;
		last_seq = seq;
		CHECK_FOR_INTERRUPTS();
	}
	table_endscan(scan);
	return in_order;
}

/* The same rows, sorted: VACUUM gives back the place of a row that an aborted commit left among others. */
static void
replay_sorted(CsState *state, Relation rel, TupleTableSlot *slot, Snapshot snapshot, StringInfo bytes, int half)
{
	AttrNumber		keys[2] = {1, 2};
	Oid				less[2] = {Int8LessOperator, Int4LessOperator};
	Oid				collations[2] = {InvalidOid, InvalidOid};
	bool			nulls_first[2] = {false, false};
	Tuplesortstate *sort = tuplesort_begin_heap(RelationGetDescr(rel), 2, keys, less, collations, nulls_first,
												maintenance_work_mem, NULL, TUPLESORT_NONE);
	TableScanDesc	scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
	TupleTableSlot *sorted = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsMinimalTuple);
	ReplayOrder		last = {-1, -1};

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		tuplesort_puttupleslot(sort, slot);
	table_endscan(scan);
	tuplesort_performsort(sort);
	while (tuplesort_gettupleslot(sort, true, false, sorted, NULL))
		replay_slot(state, sorted, &last, bytes, half);
	ExecDropSingleTupleTableSlot(sorted);
	tuplesort_end(sort);
}

static void
replay_scanned(CsState *state, Relation rel, TupleTableSlot *slot, Snapshot snapshot, StringInfo bytes, int half)
{
	TableScanDesc scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
	ReplayOrder	  last = {-1, -1};

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		replay_slot(state, slot, &last, bytes, half);
	table_endscan(scan);
}

static void
replay_half(CsState *state, Oid relid, int half, Snapshot snapshot)
{
	Relation		rel = table_open(relid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	StringInfoData	bytes;

	initStringInfo(&bytes);
	if (is_in_order(rel, slot, snapshot))
		replay_scanned(state, rel, slot, snapshot, &bytes, half);
	else
		replay_sorted(state, rel, slot, snapshot, &bytes, half);
	if (bytes.len != 0)
		cs_codec_corrupt("the state log ends within a record");
	state->log_bytes[half] = (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ;
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	pfree(bytes.data);
}

static void
find_due(CsEntry *entry, void *arg)
{
	CsState	   *state = arg;
	CsDefState *def = cs_def_state(state, (int32) entry->key.def);

	if (def->due_of)
		entry->due = def->due_of(def->op, entry);
	cs_timer_set(state, def, entry);
}

void
cs_state_recover(CsState *state, const CsStream *stream, const CsLogPosition *position, Snapshot snapshot)
{
	state->log = state->log_next = *position;
	replay_half(state, stream->log_relation[1 - position->half], 1 - position->half, snapshot);
	replay_half(state, stream->log_relation[position->half], position->half, snapshot);
	if (position->copied)
	{
		/* Whatever the older half still says, everything live is in this one too. */
		dlist_mutable_iter iter;

		dlist_foreach_modify(iter, &state->half[1 - position->half])
		{
			CsEntry *entry = dlist_container(CsEntry, half_node, iter.cur);

			dlist_delete(&entry->half_node);
			entry->half = (uint8) position->half;
			dlist_push_tail(&state->half[position->half], &entry->half_node);
		}
		dlist_foreach_modify(iter, &state->half_sets[1 - position->half])
		{
			CsBigSet *set = dlist_container(CsBigSet, half_node, iter.cur);

			dlist_delete(&set->half_node);
			set->half = (uint8) position->half;
			dlist_push_tail(&state->half_sets[position->half], &set->half_node);
		}
	}
	state->log_bytes_next[0] = state->log_bytes[0];
	state->log_bytes_next[1] = state->log_bytes[1];
	for (int i = 0; i < state->ndefs; i++)
		cs_state_walk(state, state->defs[i].definition_id, find_due, state);
}
