/*
 * sink/sink.h
 *	  Writing rows of a batch: result tables, dead letters, late events.
 *
 * A table is opened once a batch, rows are written through PostgreSQL's own
 * single-row executor path (ExecSimpleRelationInsert and kin), which runs
 * the user's triggers, constraints and indexes, as the current user.  Our
 * columns are found by name, so users may add columns of their own (their
 * defaults are filled in) and reorder theirs.  No ACL is checked here: the
 * table's owner is the stream's owner, which open() verifies.
 */
#ifndef CS_SINK_SINK_H
#define CS_SINK_SINK_H

#include "core/definition.h"
#include "core/types.h"

typedef struct CsTable CsTable;

/*
 * Open a table for writing in the open transaction (RowExclusiveLock until
 * its end).  columns: names of ours, in the order of the values arrays;
 * nkeys of them (key_columns: indexes into columns) are its primary key.
 * owner: raise ERRCODE_INSUFFICIENT_PRIVILEGE if the table belongs to somebody
 * else (InvalidOid: do not care).  Raises ERRCODE_UNDEFINED_COLUMN with
 * table and column if one of ours is gone, and refuses by name (with a hint)
 * row-level security, deferrable unique/exclusion constraints and deferred
 * constraint triggers on it.  Struct in the current context.
 */
extern CsTable *cs_table_open(Oid relid, int ncolumns, const char *const *columns, int nkeys, const int *key_columns,
							  Oid owner);

/* Note where rows lie, and look for them there: for tables whose rows are rewritten.  From batch to batch. */
struct CsRowPlaces;
extern void cs_table_remember_rows(CsTable *table, struct CsRowPlaces *places);

/*
 * Raises ERRCODE_DATATYPE_MISMATCH if a column of ours has another type than its values: ALTER TYPE in between.
 * typmods: of values that were made to fit them; NULL: not asked.
 */
extern void cs_table_check_types(CsTable *table, const Oid *types, const int32 *typmods);

extern void cs_table_insert(CsTable *table, Datum *values, bool *isnull);
/* Update the row with the same key; false if there is none. */
extern bool cs_table_update(CsTable *table, Datum *values, bool *isnull);
extern void cs_table_upsert(CsTable *table, Datum *values, bool *isnull);
extern bool cs_table_delete(CsTable *table, Datum *values, bool *isnull);

/*
 * The row last inserted or updated, as the table has it (for rollups); valid
 * until the next call.  NULL if a BEFORE trigger dropped it.
 */
extern TupleTableSlot *cs_table_slot(CsTable *table);

/*
 * The row that the last update or delete found, as it was; valid until the
 * next call.  NULL after an insert.
 */
extern TupleTableSlot *cs_table_old_slot(CsTable *table);

/*
 * The row with the key in values (the other columns are not looked at), as
 * the table has it; NULL if there is none.  Valid until the next call.
 */
extern TupleTableSlot *cs_table_find(CsTable *table, Datum *values, bool *isnull);
/* Column i of ours in such a row. */
extern Datum cs_table_value(CsTable *table, TupleTableSlot *row, int i, bool *isnull);

/* Write gathered rows now, so that queries of this transaction see them. */
extern void cs_table_flush(CsTable *table);

/* Ends the batch's work on the table: queued AFTER triggers run here; keeps the lock. */
extern void cs_table_close(CsTable *table);

/* One dead letter; strings may be NULL.  Kept in memory until cs_dead_letters_write(). */
typedef struct CsDeadLetter
{
	int32		stream_id;
	int32		definition_id; /* 0: the whole event */
	char	   *topic;
	int32		partition;
	int64		offset;
	TimestampTz timestamp; /* message timestamp or CS_WM_NONE */
	char	   *key;	   /* bytes */
	size_t		key_len;
	char	   *payload; /* NULL: tombstone */
	size_t		payload_len;
	Jsonb	   *headers;
	const char *cause; /* short, groups alike: "not JSON" */
	char	   *error; /* the sentence */
	char		sqlstate[6];
} CsDeadLetter;

/* Insert them (a list of CsDeadLetter*) into clickstream.dead_letter_data. */
extern void cs_dead_letters_write(List *letters);

/* A late event of a definition: clickstream.late_event_data. */
typedef struct CsLateEvent
{
	int32		stream_id;
	int32		definition_id;
	char	   *topic;
	int32		partition;
	int64		offset;
	TimestampTz event_time;
	int64		lateness;  /* µs behind the moment it would have been in time */
	TimestampTz watermark; /* the stream's, as it stood when it was judged */
	char	   *payload;
	size_t		payload_len;
} CsLateEvent;

extern void cs_late_events_write(List *events);

/*
 * Rows (CsOutboxRow*, key and value set; core/sink.h) at the end of a sink's
 * outbox; false: there are none, or it is full.
 */
extern bool cs_outbox_write(int32 sink_id, List *rows);
/* The rows of a query that returns key and value, run as owner; how many.  Raises if they are too many. */
extern int64 cs_outbox_refill(int32 sink_id, const char *query, Oid owner);

#endif
