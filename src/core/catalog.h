/*
 * core/catalog.h
 *	  Reading and writing our own tables, and taking another role's identity.
 *
 * Our tables belong to the extension's owner; nobody else may write them.
 * So each function here takes that identity for as long as it works, with a
 * search_path in which no user's operator or function can stand in for
 * PostgreSQL's.  After an error both go back with the (sub)transaction.
 *
 * Uses SPI.  Takes no locks beyond those of the statements.
 */
#ifndef CS_CORE_CATALOG_H
#define CS_CORE_CATALOG_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

#define CS_SCHEMA "clickstream"

/* Who we were before cs_identity_enter(). */
typedef struct CsIdentity
{
	Oid userid;
	int sec_context;
	int guc_level; /* 0: the search_path stayed */
} CsIdentity;

/* Be role; safe_path also narrows search_path to PostgreSQL's own schema. */
extern void cs_identity_enter(CsIdentity *saved, Oid role, bool safe_path);
extern void cs_identity_leave(const CsIdentity *saved);

/* One column's value of a row of ours. */
typedef struct CsValue
{
	const char *column;
	Oid			type;
	Datum		value;
	bool		isnull;
} CsValue;

/* Makers of values; a NULL pointer is the SQL NULL. */
extern CsValue cs_value_text(const char *column, const char *value);
extern CsValue cs_value_int(const char *column, int32 value);
extern CsValue cs_value_bigint(const char *column, int64 value);
extern CsValue cs_value_bool(const char *column, bool value);
extern CsValue cs_value_char(const char *column, char value);
extern CsValue cs_value_oid(const char *column, Oid type, Oid value); /* InvalidOid: NULL */
extern CsValue cs_value_interval(const char *column, const Interval *value);
extern CsValue cs_value_time(const char *column, const TimestampTz *value);
extern CsValue cs_value_jsonb(const char *column, Jsonb *value);
extern CsValue cs_value_array(const char *column, Oid element_type, Datum *elements, int n);

#define CS_MAX_VALUES 32

/* Insert a row into clickstream.<table>. */
extern void cs_catalog_insert(const char *table, const CsValue *values, int n);
/* Set columns of the rows with key_column = key; how many there were. */
extern uint64 cs_catalog_update(const char *table, const char *key_column, int32 key, const CsValue *values, int n);
extern uint64 cs_catalog_delete(const char *table, const char *key_column, int32 key);
/* Lock a stream's row and raise its version; false if it is gone. */
extern bool cs_stream_bump(int32 stream_id);
/* Lock a stream's row in share until the transaction ends; false: it is gone, or (not wait) another one has it. */
extern bool cs_stream_share(int32 stream_id, bool wait);
/*
 * The next value of an identity column's sequence, clickstream.<table>_<column>_seq,
 * of which there is no view clickstream.<table>_<id>_view: where a dump was
 * restored without its data, views stand that no row of ours knows.
 */
extern int32 cs_catalog_next_id(const char *table, const char *column);

/* Run a statement that returns nothing, as that role (InvalidOid: who owns the extension). */
extern void cs_execute_as(Oid role, const char *command);

#endif
