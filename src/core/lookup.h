/*
 * core/lookup.h
 *	  Lookups: tables and views of the database whose columns a stream's
 *	  definitions use beside those of its events.
 *
 * A lookup's columns stand in the event relation behind all others, as
 * <lookup>_<column>; definitions write them <lookup>.<column>.  A column that
 * was made stays there, and in the event log, when its lookup is dropped, and
 * is taken again by the next one that needs it.
 *
 * Two views of ours belong to it, both the stream owner's: its rows (the key
 * and the columns of the source, so that PostgreSQL itself keeps track of
 * renamed, altered and dropped columns, and of whose rights count), and the
 * key's expression over the event relation.
 *
 * Uses SPI.
 */
#ifndef CS_CORE_LOOKUP_H
#define CS_CORE_LOOKUP_H

#include "compat.h"
#include "core/definition.h"

typedef struct CsLookup
{
	int32		lookup_id;
	int32		stream_id;
	char	   *name;
	Oid			source;	   /* of these two the OIDs may be of nothing: it was dropped */
	Oid			rows_view; /* key and columns */
	Oid			key_view;
	char	   *key; /* column of the source */
	int			ncolumns;
	char	  **columns; /* as the source has named them when it was made */
	AttrNumber *attnos;	 /* of the event relation */
} CsLookup;

/* All lookups of a stream, in the order they were made.  List of CsLookup*. */
extern List *cs_lookups_load(const CsStream *stream, MemoryContext cxt);
/* One of them, or NULL. */
extern CsLookup *cs_lookup_find(List *lookups, const char *name);
/* Its column's number in the event relation, or InvalidAttrNumber. */
extern AttrNumber cs_lookup_attno(const CsLookup *lookup, const char *column);

/* Of one type, with its modifier and collation? */
extern bool cs_lookup_same_type(const FormData_pg_attribute *a, const FormData_pg_attribute *b);

/* The name that a column has in the event relation and the event log. */
extern char *cs_lookup_column(const char *lookup, const char *column);

/*
 * See to it that the event relation, and the event log (or InvalidOid), have
 * those columns of a source; raises for one that is the event's own or another
 * lookup's.
 */
extern void cs_lookup_add_columns(const CsStream *stream, const char *lookup, Oid source, List *columns, Oid log);

/* Make the view of the rows; columns: names in the source, the key first. */
extern Oid cs_lookup_rows_create(const CsStream *stream, int32 lookup_id, const char *lookup, Oid source,
								 List *columns);

/* Drop both views and the catalog's row. */
extern void cs_lookup_drop(const CsLookup *lookup);

/* ---- lookup_table.c: the table that a stream keeps in step with an upsert topic ---- */

typedef struct CsLookupTable
{
	Oid	   table;
	char  *name; /* qualified, for messages */
	char  *key;	 /* one of columns, and the table's primary key */
	int	   ncolumns;
	char **columns;
} CsLookupTable;

/* Of that stream, or NULL: it reads events.  Raises if the table was dropped. */
extern CsLookupTable *cs_lookup_table_load(int32 stream_id, MemoryContext cxt);
/* Its table whether it is there or not; InvalidOid: the stream reads events. */
extern Oid cs_lookup_table_of(int32 stream_id);
/* Raises for a column of a domain. */
extern void cs_lookup_table_check_type(const char *column, Oid type);
extern void cs_lookup_table_insert(int32 stream_id, Oid table, const char *key, List *columns);

/* ---- lookup_read.c ---- */

/* Reads the rows of many keys at once. */
typedef struct CsLookupReader CsLookupReader;

typedef void (*CsLookupRow)(Datum key, const Datum *values, const bool *isnull, void *arg);

/* In the current context, with which the prepared statement goes; NULL: the source was dropped. */
extern CsLookupReader  *cs_lookup_reader_create(const CsStream *stream, const CsLookup *lookup);
pg_noreturn extern void cs_lookup_refuse_gone(const CsLookup *lookup);
/* The source's key. */
extern void cs_lookup_reader_key(const CsLookupReader *reader, Oid *type, Oid *collation);
/*
 * Rows with these keys (n different ones, of the key's type), in no order, in
 * memory that goes when the callback returns.  With the rights of the current
 * user, under the active snapshot.
 */
extern void cs_lookup_read(CsLookupReader *reader, Datum *keys, int n, CsLookupRow row, void *arg);

#endif
