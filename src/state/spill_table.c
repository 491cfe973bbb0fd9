/*
 * state/spill_table.c
 *	  Rows of a stream's spill table; see spill_table.h.
 *
 * By heap and index directly: a look-up is a descent of the primary key, and
 * no plan can ever make it something else.  A row's data is a CRC-32C and the
 * bytes, as in the state log.
 *
 * An entry that changes either stays in the table, its row updated, or leaves
 * it, in the transaction that makes the change: so a row that is there is true.
 * Updates change no column of the index, and pages are left with room
 * (fillfactor), so most of them touch the heap alone.  Of a set, which only
 * grows, the last piece is written anew when it was not full.
 *
 * What is damaged is handed out like the rest, with its problem: nobody is to
 * be told that an entry is not there because its first piece has gone.
 *
 * Locking: AccessShareLock from the first row that is read, RowExclusiveLock
 * from the first write, both to the transaction's end.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "compat.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "state/record.h"
#include "state/spill_table.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#define PIECE_BYTES 8000 /* a row with them just fits a page */
#define SET_PIECE ((int64) (PIECE_BYTES / sizeof(CsHash128)))

enum
{
	ATT_DEFINITION = 1,
	ATT_BUCKET,
	ATT_WHO,
	ATT_PIECE,
	ATT_PIECES,
	ATT_COMMIT_NUMBER,
	ATT_DATA,
	NATTS = ATT_DATA
};

/* ---- whose an entry is ---- */

/* Big-endian, as group_key is, so that the index has cs_hash_cmp()'s order. */
static pg_uuid_t
who_to_uuid(CsHash128 who)
{
	uint64	  parts[2] = {pg_hton64(who.hi), pg_hton64(who.lo)};
	pg_uuid_t uuid;

	memcpy(uuid.data, parts, sizeof(parts));
	return uuid;
}

static CsHash128
uuid_to_who(const pg_uuid_t *uuid)
{
	uint64 parts[2];

	memcpy(parts, uuid->data, sizeof(parts));
	return (CsHash128){.hi = pg_ntoh64(parts[0]), .lo = pg_ntoh64(parts[1])};
}

/* ---- reading ---- */

struct CsSpillReader
{
	Relation		rel;
	Relation		index;
	Snapshot		snapshot;
	IndexScanDesc	scan;
	int				nkeys; /* of the scan */
	pg_uuid_t		who;   /* that it looks for */
	TupleTableSlot *slot;
	StringInfoData	joined; /* of several pieces */
	int64			nread;	/* rows of scans */
};

static Oid
primary_key(Relation rel)
{
	Oid index = RelationGetPrimaryKeyIndex(rel);

	if (!OidIsValid(index))
		elog(ERROR, "table %s has no primary key", RelationGetRelationName(rel));
	return index;
}

CsSpillReader *
cs_spill_reader_open(Oid relid, Snapshot snapshot)
{
	CsSpillReader *r = palloc0(sizeof(CsSpillReader));

	r->rel = table_open(relid, AccessShareLock);
	r->index = index_open(primary_key(r->rel), AccessShareLock);
	r->snapshot = snapshot;
	r->slot = table_slot_create(r->rel, NULL);
	initStringInfo(&r->joined);
	return r;
}

void
cs_spill_reader_close(CsSpillReader *r)
{
	if (r->scan)
		index_endscan(r->scan);
	ExecDropSingleTupleTableSlot(r->slot);
	/* where a row lies is remembered (CsSpillRow.tid), so nobody may rewrite the table before the transaction ends */
	index_close(r->index, NoLock);
	table_close(r->rel, NoLock);
	pfree(r->joined.data);
	pfree(r);
}

static void
begin_scan_with(CsSpillReader *r, ScanKeyData *keys, int nkeys)
{
	if (r->scan && r->nkeys != nkeys)
	{
		index_endscan(r->scan);
		r->scan = NULL;
	}
	if (r->scan == NULL)
		r->scan = index_beginscan(r->rel, r->index, r->snapshot, nkeys, 0);
	r->nkeys = nkeys;
	index_rescan(r->scan, keys, nkeys, NULL, 0);
}

static void
begin_scan(CsSpillReader *r, const CsKey *key, int nkeys)
{
	ScanKeyData keys[3];

	r->who = who_to_uuid(key->who);
	ScanKeyInit(&keys[0], ATT_DEFINITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum((int32) key->def));
	ScanKeyInit(&keys[1], ATT_BUCKET, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key->bucket));
	ScanKeyInit(&keys[2], ATT_WHO, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&r->who));
	begin_scan_with(r, keys, nkeys);
}

/* A row, as it lies in its page. */
typedef struct Row
{
	CsSpillRow entry;
	int32	   pieces;
} Row;

static Row
get_row(TupleTableSlot *slot)
{
	Row		  row = {0};
	bytea	 *data;
	pg_crc32c stored;

	slot_getallattrs(slot);
	row.entry.key.def = (uint32) DatumGetInt32(slot->tts_values[ATT_DEFINITION - 1]);
	row.entry.key.bucket = DatumGetInt64(slot->tts_values[ATT_BUCKET - 1]);
	row.entry.key.who = uuid_to_who(DatumGetUUIDP(slot->tts_values[ATT_WHO - 1]));
	row.entry.piece = DatumGetInt32(slot->tts_values[ATT_PIECE - 1]);
	row.entry.tid = slot->tts_tid;
	row.pieces = DatumGetInt32(slot->tts_values[ATT_PIECES - 1]);
	data = DatumGetByteaPP(slot->tts_values[ATT_DATA - 1]);
	if (VARSIZE_ANY_EXHDR(data) < sizeof(stored))
	{
		row.entry.data = "";
		row.entry.problem = "a row of the spill table is too short";
		return row;
	}
	memcpy(&stored, VARDATA_ANY(data), sizeof(stored));
	row.entry.data = VARDATA_ANY(data) + sizeof(stored);
	row.entry.len = (uint32) (VARSIZE_ANY_EXHDR(data) - sizeof(stored));
	if (!EQ_CRC32C(cs_row_checksum(row.entry.data, (int) row.entry.len), stored))
		row.entry.problem = "the checksum of a row of the spill table does not match";
	return row;
}

/* An entry of several pieces, or a set, that the scan is at. */
typedef struct Pieces
{
	bool	   begun;
	CsSpillRow entry; /* its key; what is wrong with it, and where */
	int32	   next;
} Pieces;

/* The first thing that is wrong is what is said. */
static void
has_problem(Pieces *p, const char *problem, int32 piece)
{
	if (p->entry.problem)
		return;
	p->entry.problem = problem;
	p->entry.piece = piece;
}

static void
take_piece(Pieces *p, const Row *row)
{
	if (!p->begun)
	{
		memset(p, 0, sizeof(*p));
		p->begun = true;
		p->entry.key = row->entry.key;
	}
	if (row->entry.piece != p->next || row->entry.piece >= row->pieces)
		has_problem(p, "a piece of the spill table is missing", p->next);
	if (row->entry.problem)
		has_problem(p, row->entry.problem, row->entry.piece);
	p->next = row->entry.piece + 1;
}

/* No other piece comes, or none is needed. */
static void
end_pieces(CsSpillReader *r, Pieces *p, bool all, CsSpillVisit visit, void *arg)
{
	if (!all)
		has_problem(p, "the last piece of an entry of the spill table is missing", p->next);
	p->begun = false;
	p->entry.data = r->joined.data;
	p->entry.len = (uint32) r->joined.len;
	ItemPointerSetInvalid(&p->entry.tid);
	visit(&p->entry, arg);
	resetStringInfo(&r->joined);
}

/* Rows of the scan, pieces put together; at most max entries. */
static bool
read_scan(CsSpillReader *r, int64 max, CsSpillVisit visit, void *arg)
{
	Pieces p = {0};
	bool   found = false;

	resetStringInfo(&r->joined);
	while (max > 0 && index_getnext_slot(r->scan, ForwardScanDirection, r->slot))
	{
		Row row = get_row(r->slot);

		found = true;
		r->nread++;
		if (p.begun && !cs_key_equal(&p.entry.key, &row.entry.key))
		{
			end_pieces(r, &p, false, visit, arg);
			if (--max == 0)
				break;
		}
		if (row.pieces == 1 && row.entry.piece == 0 && !p.begun)
		{
			visit(&row.entry, arg);
			max--;
			continue;
		}
		take_piece(&p, &row);
		if (cs_spill_is_set(&row.entry.key))
		{
			if (p.entry.problem)
			{
				row.entry.problem = p.entry.problem;
				row.entry.piece = p.entry.piece;
			}
			visit(&row.entry, arg);
			continue;
		}
		appendBinaryStringInfo(&r->joined, row.entry.data, (int) row.entry.len);
		if (p.entry.problem || p.next < row.pieces)
			continue;
		end_pieces(r, &p, true, visit, arg);
		max--;
	}
	if (p.begun && !cs_spill_is_set(&p.entry.key))
		end_pieces(r, &p, false, visit, arg);
	ExecClearTuple(r->slot);
	return found;
}

bool
cs_spill_read(CsSpillReader *r, const CsKey *key, CsSpillVisit visit, void *arg)
{
	begin_scan(r, key, 3);
	return read_scan(r, PG_INT64_MAX, visit, arg);
}

void
cs_spill_read_bucket(CsSpillReader *r, int32 definition_id, int64 bucket, int64 max, CsSpillVisit visit, void *arg)
{
	CsKey key = {.def = (uint32) definition_id, .bucket = bucket};

	begin_scan(r, &key, 2);
	(void) read_scan(r, max, visit, arg);
}

void
cs_spill_read_part(CsSpillReader *r, int32 definition_id, int64 bucket, CsPart part, CsSpillVisit visit, void *arg)
{
	pg_uuid_t	first = who_to_uuid((CsHash128){.hi = part.first, .lo = 0});
	pg_uuid_t	last = who_to_uuid((CsHash128){.hi = part.last, .lo = PG_UINT64_MAX});
	ScanKeyData keys[4];

	ScanKeyInit(&keys[0], ATT_DEFINITION, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(definition_id));
	ScanKeyInit(&keys[1], ATT_BUCKET, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(bucket));
	ScanKeyInit(&keys[2], ATT_WHO, BTGreaterEqualStrategyNumber, F_UUID_GE, UUIDPGetDatum(&first));
	ScanKeyInit(&keys[3], ATT_WHO, BTLessEqualStrategyNumber, F_UUID_LE, UUIDPGetDatum(&last));
	begin_scan_with(r, keys, 4);
	(void) read_scan(r, PG_INT64_MAX, visit, arg);
}

/* Those whose first piece is missing. */
static void
read_headless(CsSpillReader *r, TupleTableSlot *slot, CsSpillVisit visit, void *arg)
{
	TableScanDesc scan = table_beginscan_strat(r->rel, r->snapshot, 0, NULL, true, false);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Row	 row = get_row(slot);
		bool isnull;

		CHECK_FOR_INTERRUPTS();
		if (row.entry.piece == 0 || cs_spill_is_set(&row.entry.key))
			continue;
		begin_scan(r, &row.entry.key, 3);
		/* the first one that there is tells of it */
		if (index_getnext_slot(r->scan, ForwardScanDirection, r->slot) &&
			DatumGetInt32(slot_getattr(r->slot, ATT_PIECE, &isnull)) == row.entry.piece)
			(void) cs_spill_read(r, &row.entry.key, visit, arg);
		ExecClearTuple(r->slot);
	}
	table_endscan(scan);
}

/* In the order of the heap; the rest of a long entry is looked up where its first piece lies. */
void
cs_spill_read_all(CsSpillReader *r, CsSpillVisit visit, void *arg)
{
	TableScanDesc	scan = table_beginscan_strat(r->rel, r->snapshot, 0, NULL, true, false);
	TupleTableSlot *slot = table_slot_create(r->rel, NULL);
	int64			npieces = 0;
	int64			before = r->nread;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Row row = get_row(slot);

		if (cs_spill_is_set(&row.entry.key) || (row.pieces == 1 && row.entry.piece == 0))
			visit(&row.entry, arg);
		else
		{
			npieces++;
			if (row.entry.piece == 0)
				(void) cs_spill_read(r, &row.entry.key, visit, arg);
		}
		CHECK_FOR_INTERRUPTS();
	}
	table_endscan(scan);
	if (npieces != r->nread - before) /* some were not found from a first one */
		read_headless(r, slot, visit, arg);
	ExecDropSingleTupleTableSlot(slot);
}

/* ---- writing ---- */

struct CsSpillWriter
{
	CsSpillReader  *reader; /* finds what is deleted */
	EState		   *estate;
	ResultRelInfo  *info;
	TupleTableSlot *slot;
	int64			commit_number;
	bytea		   *data;
};

CsSpillWriter *
cs_spill_writer_open(Oid relid, int64 commit_number)
{
	CsSpillWriter *w = palloc0(sizeof(CsSpillWriter));
	Relation	   rel = table_open(relid, RowExclusiveLock);

	w->reader = cs_spill_reader_open(relid, GetActiveSnapshot());
	w->estate = CreateExecutorState();
	w->info = makeNode(ResultRelInfo);
	InitResultRelInfo(w->info, rel, 1, NULL, 0);
	ExecOpenIndices(w->info, false);
	w->slot = table_slot_create(rel, NULL);
	w->commit_number = commit_number;
	w->data = palloc(VARHDRSZ + sizeof(pg_crc32c) + PIECE_BYTES);
	return w;
}

void
cs_spill_writer_close(CsSpillWriter *w)
{
	Relation rel = w->info->ri_RelationDesc;

	ExecCloseIndices(w->info);
	ExecDropSingleTupleTableSlot(w->slot);
	FreeExecutorState(w->estate);
	cs_spill_reader_close(w->reader);
	table_close(rel, NoLock);
	pfree(w->data);
	pfree(w);
}

/* The row is put in the writer's slot; who is used by it. */
static void
fill_slot(CsSpillWriter *w, const CsKey *key, pg_uuid_t *who, int32 piece, int32 pieces, const char *data, int len)
{
	TupleTableSlot *slot = w->slot;
	Datum		   *values = slot->tts_values;
	pg_crc32c		crc = cs_row_checksum(data, len);

	*who = who_to_uuid(key->who);
	SET_VARSIZE(w->data, VARHDRSZ + sizeof(crc) + len);
	memcpy(VARDATA(w->data), &crc, sizeof(crc));
	memcpy(VARDATA(w->data) + sizeof(crc), data, len);
	ExecClearTuple(slot);
	values[ATT_DEFINITION - 1] = Int32GetDatum((int32) key->def);
	values[ATT_BUCKET - 1] = Int64GetDatum(key->bucket);
	values[ATT_WHO - 1] = UUIDPGetDatum(who);
	values[ATT_PIECE - 1] = Int32GetDatum(piece);
	values[ATT_PIECES - 1] = Int32GetDatum(pieces);
	values[ATT_COMMIT_NUMBER - 1] = Int64GetDatum(w->commit_number);
	values[ATT_DATA - 1] = PointerGetDatum(w->data);
	memset(slot->tts_isnull, false, NATTS * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	ResetPerTupleExprContext(w->estate);
}

static void
insert_row(CsSpillWriter *w, const CsKey *key, int32 piece, int32 pieces, const char *data, int len)
{
	pg_uuid_t	  who;
	MemoryContext old;

	fill_slot(w, key, &who, piece, pieces, data, len);
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(w->estate));
	table_tuple_insert(w->info->ri_RelationDesc, w->slot, GetCurrentCommandId(true), 0, NULL);
	(void) ExecInsertIndexTuples(w->info, w->slot, w->estate, false, false, NULL, NIL);
	MemoryContextSwitchTo(old);
}

static void
update_row(CsSpillWriter *w, const CsKey *key, ItemPointer tid, const char *data, int len)
{
	pg_uuid_t	  who;
	MemoryContext old;

	fill_slot(w, key, &who, 0, 1, data, len);
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(w->estate));
	if (cs_table_tuple_update(w->info->ri_RelationDesc, tid, w->slot, w->reader->snapshot))
		(void) ExecInsertIndexTuples(w->info, w->slot, w->estate, false, false, NULL, NIL);
	MemoryContextSwitchTo(old);
}

void
cs_spill_write(CsSpillWriter *w, const CsKey *key, const char *data, uint32 len)
{
	int32 pieces = (int32) Max((len + PIECE_BYTES - 1) / PIECE_BYTES, 1);

	for (int32 i = 0; i < pieces; i++)
	{
		uint32 from = (uint32) i * PIECE_BYTES;

		insert_row(w, key, i, pieces, data + from, (int) Min(len - from, PIECE_BYTES));
	}
}

/* The rows of the scan from that piece on go; at most max; how many. */
static int64
delete_scan(CsSpillWriter *w, int32 piece, int64 max)
{
	CsSpillReader *r = w->reader;
	int64		   n = 0;

	while (n < max && index_getnext_slot(r->scan, ForwardScanDirection, r->slot))
	{
		bool isnull;

		if (DatumGetInt32(slot_getattr(r->slot, ATT_PIECE, &isnull)) < piece)
			continue;
		simple_table_tuple_delete(r->rel, &r->slot->tts_tid, r->snapshot);
		n++;
	}
	ExecClearTuple(r->slot);
	return n;
}

static void
delete_rows(CsSpillWriter *w, const CsKey *key)
{
	begin_scan(w->reader, key, 3);
	if (delete_scan(w, PG_INT32_MIN, PG_INT64_MAX) == 0) /* a damaged row may have any number */
		cs_codec_corrupt(psprintf("an entry is missing in the spill table (%s, definition %d, key %s)",
								  RelationGetRelationName(w->reader->rel), (int32) key->def, cs_key_text(key)));
}

void
cs_spill_delete(CsSpillWriter *w, const CsKey *key, ItemPointerData tid)
{
	if (ItemPointerIsValid(&tid))
		simple_table_tuple_delete(w->reader->rel, &tid, w->reader->snapshot);
	else
		delete_rows(w, key);
}

void
cs_spill_delete_set(CsSpillWriter *w, const CsKey *key)
{
	delete_rows(w, key);
}

void
cs_spill_update(CsSpillWriter *w, const CsKey *key, ItemPointerData tid, const char *data, uint32 len)
{
	if (ItemPointerIsValid(&tid) && len <= PIECE_BYTES)
	{
		update_row(w, key, &tid, data, (int) len);
		return;
	}
	cs_spill_delete(w, key, tid);
	cs_spill_write(w, key, data, len);
}

bool
cs_spill_delete_definition(CsSpillWriter *w, int32 column, int64 max)
{
	CsKey key = {.def = (uint32) column};

	begin_scan(w->reader, &key, 1);
	return delete_scan(w, 0, max) < max;
}

void
cs_spill_write_set(CsSpillWriter *w, const CsKey *key, const CsHash128 *members, int64 done, int64 n)
{
	int64 from = done - done % SET_PIECE;

	if (from < done)
	{
		begin_scan(w->reader, key, 3);
		(void) delete_scan(w, (int32) (from / SET_PIECE), PG_INT64_MAX);
	}
	for (; from < n; from += SET_PIECE)
	{
		int64 piece = Min(n - from, SET_PIECE);

		insert_row(w, key, (int32) (from / SET_PIECE), PG_INT32_MAX, (const char *) (members + from),
				   (int) (piece * (int64) sizeof(CsHash128)));
	}
}
