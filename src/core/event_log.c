/*
 * core/event_log.c
 *	  The table of an event log and its partitions.
 *
 * A partition is known by its name's end, _yyyymmdd, among the children of
 * the log; a user may attach others, which we leave alone.
 */
#include "core/event_log.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/comment.h"
#include "core/catalog.h"
#include "core/ddl.h"
#include "mb/pg_wchar.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/timestamp.h"

/* "_yyyymmdd" */
#define SUFFIX_LENGTH 9

static const char *const class_names[CS_CLASS_COUNT] = {
	[CS_CLASS_FILTERED] = "filtered",	[CS_CLASS_LATE] = "late", [CS_CLASS_USED] = "used",
	[CS_CLASS_DUPLICATE] = "duplicate", [CS_CLASS_DEAD] = "dead", [CS_CLASS_EMPTY] = "empty",
	[CS_CLASS_SKIPPED] = "skipped"};

const char *
cs_class_name(CsClass class)
{
	return class_names[class];
}

/* Days since 2000-01-01, of the day that holds t. */
static int64
day_of(TimestampTz t)
{
	int64 day = t / USECS_PER_DAY;

	return t < day * USECS_PER_DAY ? day - 1 : day;
}

/* A day as yyyymmdd, or with hyphens. */
static char *
day_text(int64 day, const char *format)
{
	int year;
	int month;
	int mday;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
	return psprintf(format, year, month, mday);
}

/* Name of a day's partition, shortened before the day where it must be. */
static char *
partition_name(Oid log, int64 day)
{
	char *base = cs_relation_bare_name(log);
	int	  length = pg_mbcliplen(base, strlen(base), NAMEDATALEN - 1 - SUFFIX_LENGTH);

	return psprintf("%.*s_%s", length, base, day_text(day, "%04d%02d%02d"));
}

static char *
column_list(const CsStream *stream)
{
	StringInfoData list;
	TupleDesc	   desc = stream->event_desc;

	initStringInfo(&list);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (i == CS_SEED_COLUMNS + stream->nextra + CS_SYS_PLACE - 1)
			continue;
		appendStringInfo(&list, "%s %s, ", quote_identifier(NameStr(att->attname)),
						 cs_type_name(att->atttypid, att->atttypmod, att->attcollation));
	}
	appendStringInfoString(&list, "class pg_catalog.text, arrived_at pg_catalog.timestamptz NOT NULL,"
								  " commit_number pg_catalog.int8 NOT NULL, arrival pg_catalog.int4 NOT NULL,"
								  " watermark pg_catalog.timestamptz");
	return list.data;
}

/* Comments as the event relation has them, and those of what is added. */
static void
comment_columns(Oid log, const CsStream *stream)
{
	TupleDesc desc = stream->event_desc;

	for (int i = 0; i < desc->natts; i++)
	{
		const char *name = NameStr(TupleDescAttr(desc, i)->attname);
		AttrNumber	att = get_attnum(log, name);
		char	   *comment = GetComment(stream->event_relation, RelationRelationId, i + 1);

		if (att != InvalidAttrNumber && comment != NULL)
			CreateComments(log, RelationRelationId, att, comment);
	}
	CreateComments(log, RelationRelationId, 0, psprintf("events of stream %s as they arrived", stream->name));
	CreateComments(log, RelationRelationId, get_attnum(log, "class"),
				   "what became of it: used, late, filtered, duplicate");
	CreateComments(log, RelationRelationId, get_attnum(log, "arrived_at"), "when it was consumed; partitions go by it");
	CreateComments(log, RelationRelationId, get_attnum(log, "commit_number"),
				   "number of the commit that consumed it; with arrival: the order in which events came");
	CreateComments(log, RelationRelationId, get_attnum(log, "arrival"), "which of that commit's messages it was");
	CreateComments(log, RelationRelationId, get_attnum(log, "watermark"),
				   "the stream's watermark, as it stood when the event came: by it definitions judged what is late; "
				   "NULL: none of them saw it");
}

Oid
cs_event_log_create(const char *name, const CsStream *stream, TimestampTz now)
{
	char *qualified = cs_relation_new_name(name);
	Oid	  log;

	cs_execute_as(stream->owner,
				  psprintf("CREATE TABLE %s (%s) PARTITION BY RANGE (arrived_at)", qualified, column_list(stream)));
	cs_execute_as(stream->owner, psprintf("CREATE INDEX ON %s USING brin (event_time)", qualified));
	cs_execute_as(stream->owner, psprintf("CREATE INDEX ON %s USING brin (commit_number)", qualified));
	/* Of a stream's only topic the name would tell nothing, and make each event dearer. */
	cs_execute_as(stream->owner, psprintf("CREATE INDEX ON %s (partition, %smessage_offset)", qualified,
										  stream->ntopics > 1 || stream->pattern ? "topic, " : ""));
	log = cs_relation_find(qualified);
	comment_columns(log, stream);
	(void) cs_event_log_partition(log, stream->owner, now);
	(void) cs_event_log_partition(log, stream->owner, now + USECS_PER_DAY);
	return log;
}

Oid
cs_event_log_partition_find(Oid log, TimestampTz arrived_at)
{
	Relation	  rel = table_open(log, AccessShareLock);
	PartitionKey  key = RelationGetPartitionKey(rel);
	PartitionDesc desc = RelationGetPartitionDesc(rel, true);
	Datum		  value = TimestampTzGetDatum(arrived_at);
	Oid			  found = InvalidOid;
	bool		  is_equal;

	/* By its bounds: a name may have been changed. */
	if (desc->nparts > 0)
	{
		int bound =
			partition_range_datum_bsearch(key->partsupfunc, key->partcollation, desc->boundinfo, 1, &value, &is_equal);
		int index = desc->boundinfo->indexes[bound + 1];

		if (index >= 0)
			found = desc->oids[index];
	}
	table_close(rel, NoLock);
	return found;
}

Oid
cs_event_log_partition(Oid log, Oid owner, TimestampTz arrived_at)
{
	int64 day = day_of(arrived_at);
	char *name = partition_name(log, day);
	Oid	  found = get_relname_relid(name, get_rel_namespace(log));
	char *qualified;

	if (OidIsValid(found) && get_rel_relispartition(found))
		return found;
	if (OidIsValid(found))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE),
						errmsg("table \"%s\" stands where a partition of \"%s\" must be", name, get_rel_name(log)),
						errhint("Rename that table.")));
	qualified = quote_qualified_identifier(get_namespace_name(get_rel_namespace(log)), name);
	/* Analysed as often as tables of results are (core/ddl.c). */
	cs_execute_as(owner, psprintf("CREATE TABLE %s (LIKE %s) WITH (autovacuum_analyze_scale_factor = 0.2)", qualified,
								  cs_relation_name(log)));
	cs_execute_as(owner, psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s 00:00:00+00') TO "
								  "('%s 00:00:00+00')",
								  cs_relation_name(log), qualified, day_text(day, "%04d-%02d-%02d"),
								  day_text(day + 1, "%04d-%02d-%02d")));
	return get_relname_relid(name, get_rel_namespace(log));
}

int
cs_event_log_expire(Oid log, Oid owner, TimestampTz before)
{
	char	 *oldest = day_text(day_of(before), "_%04d%02d%02d");
	int		  n = 0;
	ListCell *cell;

	foreach(cell, find_inheritance_children(log, NoLock))
	{
		char  *name = get_rel_name(lfirst_oid(cell));
		size_t length = name ? strlen(name) : 0;
		char  *suffix = name + length - SUFFIX_LENGTH;

		if (length <= SUFFIX_LENGTH || suffix[0] != '_' || strspn(suffix + 1, "0123456789") != SUFFIX_LENGTH - 1 ||
			strcmp(suffix, oldest) >= 0)
			continue;
		cs_execute_as(owner, psprintf("DROP TABLE %s", cs_relation_name(lfirst_oid(cell))));
		n++;
	}
	return n;
}
