/*
 * state/spill_table.h
 *	  Rows of a stream's spill table.
 *
 * An entry is one row, or several pieces if it is long; so is a distinct set,
 * under a key of its own.  A row is there exactly as long as it is the newest
 * committed form of its entry: so none is ever out of date.
 *
 * Everything works in the open transaction; reading, under a snapshot.
 */
#ifndef CS_STATE_SPILL_TABLE_H
#define CS_STATE_SPILL_TABLE_H

#include "core/types.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/*
 * An entry, or a piece of a set, as it was read; it lives until the callback
 * returns.  Where it is damaged its bytes are of no use, and the key, which is
 * in columns of its own, says whose they were: whether that matters, only who
 * asked for it knows.
 */
typedef struct CsSpillRow
{
	CsKey			key;
	const char	   *data;
	uint32			len;
	ItemPointerData tid;	 /* where it lies; not valid if it is in several pieces */
	const char	   *problem; /* NULL: it is whole */
	int32			piece;	 /* of a set; else the one that has the problem */
} CsSpillRow;

typedef void (*CsSpillVisit)(const CsSpillRow *row, void *arg);

/* Reading.  Opened for some look-ups, not for a batch: an abort need not know of it. */
typedef struct CsSpillReader CsSpillReader;

extern CsSpillReader *cs_spill_reader_open(Oid relid, Snapshot snapshot);
/* The entry of a key, or all of a set in order; false if there is none. */
extern bool cs_spill_read(CsSpillReader *r, const CsKey *key, CsSpillVisit visit, void *arg);
/* Entries of a bucket, at most max. */
extern void cs_spill_read_bucket(CsSpillReader *r, int32 definition_id, int64 bucket, int64 max, CsSpillVisit visit,
								 void *arg);
/* Those of a part of it. */
extern void cs_spill_read_part(CsSpillReader *r, int32 definition_id, int64 bucket, CsPart part, CsSpillVisit visit,
							   void *arg);
/* All entries, and each piece of each set, as they lie. */
extern void cs_spill_read_all(CsSpillReader *r, CsSpillVisit visit, void *arg);
extern void cs_spill_reader_close(CsSpillReader *r);

/* Writing. */
typedef struct CsSpillWriter CsSpillWriter;

extern CsSpillWriter *cs_spill_writer_open(Oid relid, int64 commit_number);
/* A new entry. */
extern void cs_spill_write(CsSpillWriter *w, const CsKey *key, const char *data, uint32 len);
/* An entry has other bytes: its row, which lies at tid, if that is valid, is changed. */
extern void cs_spill_update(CsSpillWriter *w, const CsKey *key, ItemPointerData tid, const char *data, uint32 len);
/* The entry's rows go; tid as above. */
extern void cs_spill_delete(CsSpillWriter *w, const CsKey *key, ItemPointerData tid);
/* So do those of a set. */
extern void cs_spill_delete_set(CsSpillWriter *w, const CsKey *key);
/* Of a set that has done members in the table all that there are. */
extern void cs_spill_write_set(CsSpillWriter *w, const CsKey *key, const CsHash128 *members, int64 done, int64 n);
/* At most max rows of a definition go; false if there are more. */
extern bool cs_spill_delete_definition(CsSpillWriter *w, int32 column, int64 max);
extern void cs_spill_writer_close(CsSpillWriter *w);

/*
 * In the column "definition": entries are under their definition, sets under
 * its complement, with the set's id as their bucket.
 */
static inline bool
cs_spill_is_set(const CsKey *key)
{
	return (int32) key->def < 0;
}

static inline CsKey
cs_spill_set_key(int32 definition_id, uint64 id)
{
	CsKey key = {.def = (uint32) ~definition_id, .bucket = (int64) id};

	return key;
}

#endif
