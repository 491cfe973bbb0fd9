/*
 * core/ddl.h
 *	  Relations that definitions bring with them: result tables, the event
 *	  relation, the halves of a state log.
 *
 * Result tables are made in the user's schema as the stream's owner, with
 * the rights of that role; the rest lies in our schema.  All of it goes with
 * the transaction.  Uses SPI.
 */
#ifndef CS_CORE_DDL_H
#define CS_CORE_DDL_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* One column of a result table. */
typedef struct CsResultColumn
{
	char *name;
	Oid	  type;
	int32 typmod;
	Oid	  collation;
	bool  is_key;
	char *comment; /* may be NULL */
} CsResultColumn;

/* The relation of that name ('table' or 'schema.table'), or InvalidOid.  Locks nothing. */
extern Oid cs_relation_find(const char *name);

/*
 * How often a row is written again.  Where it may be, pages are left half empty, so that its new version lies
 * beside the old one and needs no index entry.
 */
typedef enum CsRewriting
{
	CS_REWRITING_NEVER,
	CS_REWRITING_LATE, /* some are, by what comes late */
	CS_REWRITING_EACH, /* some ten times, while it grows */
} CsRewriting;

/*
 * Make the result table, or take one that exists if it is the owner's, empty
 * and has just these columns in this order with this primary key; raises
 * ERRCODE_DUPLICATE_TABLE naming the first difference otherwise.
 */
extern Oid cs_result_table(const char *name, Oid owner, const char *comment, CsResultColumn *columns, int n,
						   CsRewriting rewriting);

/* Schema and name of a table, be it there already or where it would be made. */
extern void cs_relation_place(const char *name, Oid *schema, char **relname);

/* Where a relation of that name would be made: schema.table, quoted.  Not in a temporary schema. */
extern char *cs_relation_new_name(const char *name);

/* Its name alone; raises where it is gone, which whoever holds no lock on it may find. */
extern char *cs_relation_bare_name(Oid relid);
/* Name for statements: schema.table, quoted; raises as above. */
extern char *cs_relation_name(Oid relid);

/* Type for statements: name.type(typmod) COLLATE …, quoted and qualified. */
extern char *cs_type_name(Oid type, int32 typmod, Oid collation);
/* Collation for statements. */
extern char *cs_collation_name(Oid collation);

/* See to it that some index of the table begins with that column. */
extern void cs_index_column(Oid table, const char *column, Oid owner);

/* Drop a relation if it is still there; other objects that depend on it are an error. */
extern void cs_relation_drop(Oid relid);

/* Have DROP EXTENSION drop a relation that a definition brought into our schema. */
extern void cs_depend_on_extension(Oid relid);

/* clickstream.event_<id>: the seed's columns, extra ones (List of ColumnDef), the system's. */
extern Oid cs_event_relation_create(int32 stream_id, List *extra, Oid owner);
/* Names of its columns apart from the extra ones, ending with NULL. */
extern const char *const *cs_event_columns(void);

/* Both halves of the state log. */
extern void cs_state_log_create(int32 stream_id, Oid relids[2]);
/* The spill table. */
extern Oid cs_spill_create(int32 stream_id);

/* Remove all rows of tables: of result tables as their owner. */
extern void cs_relation_truncate(Oid relid, Oid role);

#endif
