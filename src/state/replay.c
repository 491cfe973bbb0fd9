/*
 * state/replay.c
 *	  Recovery: the state folded from its log.
 *
 * The older half, unless all of it was copied, then the newer one, each in the
 * order of commits: an image makes or replaces an entry, a delta changes what
 * the same half has made.  Readers fold the same way, under their snapshot.
 *
 * A scan returns rows in the order in which they were appended, so mostly in
 * the order of commits; where it does not (VACUUM gave back the place of a row
 * that an aborted commit left) all begins again with rows that are sorted.
 *
 * What is read is checked: each row's checksum, the order and completeness of
 * a commit's rows, each record's bounds, and that a delta makes the bytes that
 * it was made for.  What is wrong is said with the rows that it was read of.
 *
 * Locking: AccessShareLock on both halves until the transaction ends.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/pg_operator_d.h"
#include "core/fault.h"
#include "miscadmin.h"
#include "state/delta.h"
#include "state/record.h"
#include "state/spill.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

/*
 * Read and looked at together, so that the memory of their entries is on its
 * way when they are replayed: the first of them wait, so there should be many.
 */
#define GATHERED (64 * 1024) /* bytes, of some rows */
#define RECORDS 1024
#define SLOTS_AHEAD 16
#define ENTRIES_AHEAD 8

/* A record that has been read up to its key, if it has one. */
typedef struct Record
{
	uint8	 kind;
	CsKey	 key;
	CsReader rest;
} Record;

typedef struct Row
{
	int64  commit_number;
	int32  seq;
	bytea *data;
} Row;

/* Where the replay of a half stands. */
typedef struct Replay
{
	CsState		  *state;
	int			   half;
	int64		   commit_number;
	int32		   seq;
	int64		   last_bucket;
	CsLogPlace	   place;	/* of what is in bytes */
	StringInfoData bytes;	/* read, but not yet replayed */
	int			   row_len; /* of the last row */
	Record		   records[RECORDS];
	int			   n;
} Replay;

static void
replay_members(Replay *p, CsReader *r)
{
	int32		definition_id = (int32) cs_get_uint(r);
	uint64		id = cs_get_uint(r);
	size_t		len;
	const char *members = cs_get_bytes(r, &len);

	if (len % sizeof(CsHash128) != 0)
		cs_reader_corrupt(r, "a distinct set is cut");
	if (cs_def_state(p->state, definition_id))
		cs_bigset_add(p->state, definition_id, id, members, (int64) (len / sizeof(CsHash128)), p->half);
}

/* Of the key's definition; NULL: nobody has asked for it. */
static CsDefState *
taker_of(Replay *p, const CsKey *key)
{
	return cs_part_has(p->state->part, &key->who) ? cs_def_state(p->state, (int32) key->def) : NULL;
}

static void
replay_image(Replay *p, CsDefState *def, Record *record)
{
	size_t		len;
	const char *data = cs_get_bytes(&record->rest, &len);

	cs_entry_install(p->state, def, &record->key, data, (uint32) len, p->half, CS_WM_DONE);
}

/* What a delta makes is made where it stays; that it is damaged shows only then, and the piece goes with the state. */
static void
replay_delta(Replay *p, CsDefState *def, Record *record)
{
	CsEntry	   *entry = cs_state_peek(p->state, &record->key);
	const char *bytes;
	bool		is_gathered;
	uint32		len;
	uint16		sum;

	if (entry == NULL || entry->half != p->half)
		cs_reader_corrupt(&record->rest, "what a change is a change of is missing");
	bytes = cs_entry_bytes(entry);
	is_gathered = bytes != entry->data;
	len = cs_delta_length(&record->rest, &sum);
	if (len <= CS_ARENA_LIMIT)
	{
		uint8 class;
		char *piece = cs_entry_piece(p->state, len, &class);

		cs_delta_apply(&record->rest, bytes, entry->len, piece, len, sum);
		cs_entry_take(p->state, entry, piece, class, len);
	}
	else
	{
		char *image = palloc(len);

		cs_delta_apply(&record->rest, bytes, entry->len, image, len, sum);
		cs_entry_update(p->state, def, entry, image, len, p->half, CS_WM_DONE);
		pfree(image);
	}
	if (is_gathered)
		pfree((char *) bytes);
}

static void
replay_delete(Replay *p, CsDefState *def, Record *record)
{
	CsEntry *entry = cs_state_peek(p->state, &record->key);

	if (entry)
		cs_entry_remove(p->state, def, entry);
}

static bool
has_key(uint8 kind)
{
	return kind == CS_LOG_IMAGE || kind == CS_LOG_DELTA || kind == CS_LOG_DELETE || kind == CS_LOG_SPILLED;
}

static void
replay_record(Replay *p, Record *record)
{
	CsDefState *def = NULL;

	if (has_key(record->kind))
	{
		def = taker_of(p, &record->key);
		if (def == NULL)
			return;
	}
	switch (record->kind)
	{
		case CS_LOG_IMAGE:
			replay_image(p, def, record);
			break;
		case CS_LOG_DELTA:
			replay_delta(p, def, record);
			break;
		case CS_LOG_DELETE:
		case CS_LOG_SPILLED: /* to the log both are the same: nothing that it said so far holds */
			replay_delete(p, def, record);
			break;
		case CS_LOG_SET_ADD:
			replay_members(p, &record->rest);
			break;
		case CS_LOG_SET_DROP:
		case CS_LOG_SET_SPILLED:
			cs_bigset_drop(p->state, cs_get_uint(&record->rest));
			break;
		default:
			cs_reader_corrupt(&record->rest, "a record of the state log is of no known kind");
	}
}

/* The next record's body, if all of it is there. */
static bool
next_record(const Replay *p, const char *pos, const char *end, CsReader *body)
{
	uint64 len = 0;
	int	   shift = 0;

	do
	{
		if (pos == end)
			return false;
		len |= (uint64) (*pos & 0x7f) << shift;
		shift += 7;
	} while ((*pos++ & 0x80) != 0 && shift < 35);
	if (len > MaxAllocSize)
		cs_log_corrupt(&p->place, NULL, "a record of the state log is too long");
	if ((uint64) (end - pos) < len)
		return false;
	body->pos = pos;
	body->end = pos + len;
	return true;
}

/* Those in p->records; what the next ones need is announced. */
static void
replay_records(Replay *p)
{
	for (int i = -SLOTS_AHEAD; i < p->n; i++)
	{
		int slot = i + SLOTS_AHEAD;
		int entry = i + ENTRIES_AHEAD;

		if (slot < p->n && has_key(p->records[slot].kind))
			cs_state_prefetch_slot(p->state, &p->records[slot].key);
		if (entry >= 0 && entry < p->n && has_key(p->records[entry].kind))
			cs_state_prefetch_entry(p->state, &p->records[entry].key);
		if (i >= 0)
			replay_record(p, &p->records[i]);
	}
	p->n = 0;
}

/* Replay the complete records in bytes and keep the rest. */
static void
replay_bytes(Replay *p)
{
	const char *pos = p->bytes.data;
	const char *end = pos + p->bytes.len;
	CsReader	body = {.place = &p->place};

	while (next_record(p, pos, end, &body))
	{
		Record *record = &p->records[p->n];

		pos = body.end;
		record->kind = cs_get_u8(&body);
		if (has_key(record->kind))
			cs_get_key(&body, &record->key, &p->last_bucket);
		record->rest = body;
		record->rest.key = has_key(record->kind) ? &record->key : NULL;
		if (++p->n == RECORDS)
			replay_records(p);
	}
	replay_records(p);
	p->bytes.len = (int) (end - pos);
	memmove(p->bytes.data, pos, p->bytes.len);
	if (p->bytes.len <= p->row_len)
		p->place.first = p->place.last + (p->bytes.len == 0);
}

/* The row at hand cannot be. */
static void
row_corrupt(Replay *p, int64 commit_number, int32 seq, const char *what)
{
	CsLogPlace place = p->place;

	place.commit_number = commit_number;
	place.first = place.last = seq;
	cs_log_corrupt(&place, NULL, what);
}

static void
replay_row(Replay *p, bytea *row)
{
	int		  len = (int) VARSIZE_ANY_EXHDR(row) - (int) sizeof(pg_crc32c);
	char	 *data = VARDATA_ANY(row);
	pg_crc32c stored;

	if (len <= 0)
		row_corrupt(p, p->commit_number, p->seq, "a row of the state log is too short");
	memcpy(&stored, data, sizeof(stored));
	if (!EQ_CRC32C(cs_row_checksum(data + sizeof(stored), len), stored))
		row_corrupt(p, p->commit_number, p->seq, "the checksum of a row of the state log does not match");
	appendBinaryStringInfo(&p->bytes, data + sizeof(stored), len);
	p->row_len = len;
	if (p->bytes.len >= GATHERED)
		replay_bytes(p);
}

/* All rows of a commit have been read. */
static void
end_commit(Replay *p)
{
	replay_bytes(p);
	if (p->bytes.len != 0)
		cs_log_corrupt(&p->place, NULL, "a commit of the state log ends within a record");
	p->seq = -1;
	p->last_bucket = 0;
	p->place.first = 0;
}

static Row
row_of(TupleTableSlot *slot)
{
	bool isnull;
	Row	 row;

	row.commit_number = DatumGetInt64(slot_getattr(slot, 1, &isnull));
	row.seq = DatumGetInt32(slot_getattr(slot, 2, &isnull));
	row.data = DatumGetByteaPP(slot_getattr(slot, 3, &isnull));
	return row;
}

static void
replay_next(Replay *p, const Row *row)
{
	if (row->commit_number != p->commit_number)
	{
		if (row->commit_number < p->commit_number)
			row_corrupt(p, row->commit_number, row->seq, "rows of the state log are out of order");
		end_commit(p);
	}
	if (row->seq != p->seq + 1)
		row_corrupt(p, row->commit_number, p->seq + 1, "a row of the state log is missing");
	p->commit_number = p->state->commit = p->place.commit_number = row->commit_number;
	p->seq = p->place.last = row->seq;
	CS_FAULT(MID_RECOVERY);
	replay_row(p, row->data);
	CHECK_FOR_INTERRUPTS();
}

/* The next row, or the end if NULL; false if it does not fit what came before.  Replaying a row that has been read holds nothing. */
static bool
fits(Replay *p, const Row *row)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool does = true;

	PG_TRY();
	{
		if (row)
			replay_next(p, row);
		else
			end_commit(p);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_DATA_CORRUPTED)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		does = false;
	}
	PG_END_TRY();
	return does;
}

/*
 * As a scan returns them.  False: they are not in the order of commits, or are
 * damaged, which sorted rows will tell.
 */
static bool
replay_scanned(Replay *p, Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
	bool		  fit = true;

	while (fit && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Row row = row_of(slot);

		fit = fits(p, &row);
	}
	table_endscan(scan);
	return fit && fits(p, NULL);
}

static void
replay_sorted(Replay *p, Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	AttrNumber		keys[2] = {1, 2};
	Oid				less[2] = {Int8LessOperator, Int4LessOperator};
	Oid				collations[2] = {InvalidOid, InvalidOid};
	bool			nulls_first[2] = {false, false};
	Tuplesortstate *sort = tuplesort_begin_heap(RelationGetDescr(rel), 2, keys, less, collations, nulls_first,
												maintenance_work_mem, NULL, TUPLESORT_NONE);
	TableScanDesc	scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
	TupleTableSlot *sorted = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsMinimalTuple);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		tuplesort_puttupleslot(sort, slot);
	table_endscan(scan);
	tuplesort_performsort(sort);
	while (tuplesort_gettupleslot(sort, true, false, sorted, NULL))
	{
		Row row = row_of(sorted);

		replay_next(p, &row);
	}
	end_commit(p);
	ExecDropSingleTupleTableSlot(sorted);
	tuplesort_end(sort);
}

static bool
replay_half(CsState *state, const CsStream *stream, int half, Snapshot snapshot, bool sort)
{
	Relation		rel = table_open(stream->log_relation[half], AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Replay			p = {.state = state, .half = half, .commit_number = -1, .seq = -1};
	bool			done = true;

	p.place = (CsLogPlace){.state = state, .relation = RelationGetRelid(rel)};
	initStringInfo(&p.bytes);
	if (sort)
		replay_sorted(&p, rel, slot, snapshot);
	else
		done = replay_scanned(&p, rel, slot, snapshot);
	state->log_bytes[half] = (int64) RelationGetNumberOfBlocks(rel) * BLCKSZ;
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	pfree(p.bytes.data);
	return done;
}

/* Once all is copied, everything live is in the newer half: the older one waits to be truncated. */
static bool
replay_halves(CsState *state, const CsStream *stream, const CsLogPosition *position, Snapshot snapshot, bool sort)
{
	return (position->copied || replay_half(state, stream, 1 - position->half, snapshot, sort)) &&
		   replay_half(state, stream, position->half, snapshot, sort);
}

/* Reading an entry holds nothing that an error would have to give back. */
static TimestampTz
due_if_readable(const CsDefState *def, const CsEntry *entry)
{
	MemoryContext		 context = CurrentMemoryContext;
	volatile TimestampTz due = CS_WM_DONE;

	PG_TRY();
	{
		due = def->due_of(def->op, entry);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_DATA_CORRUPTED)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return due;
}

/* A large entry's bytes are put together for that, in memory that goes again. */
static TimestampTz
due_of_large(const CsDefState *def, const CsEntry *entry)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "clickstream large entry", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	TimestampTz	  due = def->due_of(def->op, entry);

	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return due;
}

TimestampTz
cs_entry_due(CsState *state, const CsDefState *def, const CsEntry *entry)
{
	if (def->due_of == NULL)
		return CS_WM_DONE;
	if (state->lenient)
		return due_if_readable(def, entry);
	return entry->data_class == CS_ENTRY_CHAINED ? due_of_large(def, entry) : def->due_of(def->op, entry);
}

static void
find_due(CsState *state, CsEntry *entry)
{
	CsDefState *def = cs_def_state(state, (int32) entry->key.def);

	entry->due = cs_entry_due(state, def, entry);
	cs_timer_set(state, def, entry);
}

void
cs_state_recover(CsState *state, const CsStream *stream, const CsLogPosition *position, Snapshot snapshot)
{
	state->log = state->log_next = *position;
	cs_spill_attach(state, stream);
	if (!replay_halves(state, stream, position, snapshot, false))
	{
		cs_state_clear(state);
		(void) replay_halves(state, stream, position, snapshot, true);
	}
	cs_spill_recover(state, snapshot);
	state->log_bytes_next[0] = state->log_bytes[0];
	state->log_bytes_next[1] = state->log_bytes[1];
	for (int h = 0; h < 2; h++)
	{
		dlist_iter	iter;
		dlist_node *ahead = &state->half[h].head;
		int			distance = 0;

		dlist_foreach(iter, &state->half[h])
		{
			/* Entries lie in this order in memory, their bytes do not. */
			for (; distance < ENTRIES_AHEAD && ahead->next != &state->half[h].head; distance++)
			{
				ahead = ahead->next;
				__builtin_prefetch(dlist_container(CsEntry, half_node, ahead)->data);
			}
			distance--;
			find_due(state, dlist_container(CsEntry, half_node, iter.cur));
		}
	}
}
