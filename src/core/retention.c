/*
 * core/retention.c
 *	  Old rows of result tables go.
 *
 * Only final rows are deleted: a worker never looks at those again, so neither
 * waits for the other.  What is made from rows is respected: a rollup's bucket
 * is made anew from all rows that started in it as long as it is not final, so
 * rows go in whole buckets, and only those before the first one that is not.
 * Which one that is only the state knows, since an open bucket need not have been
 * shown, or have any row: each commit says it (CsEffort), and a rollup that is being
 * filled how far it is.  Where a final bucket is to be made anew after all, it is
 * refused if its rows may be gone (cs_deleted_before()).
 *
 * Up to where rows may be missing is kept in definition.deleted_before, in the
 * transaction that deletes: apply_late() makes nothing anew before that.  It
 * updates the stream's row, which is locked in share here, so the two exclude
 * each other.
 *
 * Uses SPI.  Rows are deleted as the stream's owner, whose triggers may run.
 */
#include "core/retention.h"

#include "catalog/pg_type.h"
#include "core/backfill.h"
#include "core/catalog.h"
#include "core/ddl.h"
#include "core/ledger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

const char *
cs_retention_column(CsKind kind)
{
	switch (kind)
	{
		case CS_KIND_SESSION:
			return "session_start";
		case CS_KIND_FUNNEL:
			return "started_at";
		case CS_KIND_WINDOW:
		case CS_KIND_ROLLUP:
		case CS_KIND_EVENT_LOG:
			break;
	}
	return "window_start";
}

/* Start of the bucket that holds t. */
static TimestampTz
bucket_start(const CsDefinition *rollup, TimestampTz t)
{
	int64 behind = (t - rollup->origin) % rollup->size;

	return t - (behind < 0 ? behind + rollup->size : behind);
}

/* Start of the first bucket that is not closed, as of now; CS_WM_NONE: all are. */
static TimestampTz
open_from(const CsProgressRow *progress, const CsDefinition *rollup)
{
	for (int i = 0; i < progress->nefforts; i++)
		if (progress->efforts[i].definition_id == rollup->definition_id)
			return progress->efforts[i].open_from;
	return CS_WM_NONE;
}

/* A rollup that is being filled is yet to make its buckets: as late as that, but no later than the first of them. */
static TimestampTz
limit_by_filling(const CsBackfillRow *fills, int n, const CsDefinition *rollup, TimestampTz limit)
{
	for (int i = 0; i < n; i++)
		if (fills[i].definition_id == rollup->definition_id)
			return fills[i].bucket == CS_WM_NONE ? DT_NOBEGIN : Min(limit, fills[i].bucket);
	return limit;
}

/* As late as that, but no later than what rollups over the table can miss. */
static TimestampTz
limit_by_rollups(const CsDefinition *def, TimestampTz before)
{
	List		  *all = cs_definitions_load(def->stream_id, CurrentMemoryContext);
	CsProgressRow  progress;
	CsBackfillRow *fills;
	int			   nfills;
	TimestampTz	   limit = before;
	TimestampTz	   last;

	/* as of now, and not of when the statement began: it may have waited */
	PushActiveSnapshot(GetLatestSnapshot());
	cs_progress_load(def->stream_id, &progress);
	fills = cs_backfills_load(def->stream_id, &nfills);
	PopActiveSnapshot();

	/* aligning by one rollup may leave the bucket of another in parts */
	do
	{
		ListCell *cell;

		last = limit;
		foreach(cell, all)
		{
			CsDefinition *rollup = lfirst(cell);
			TimestampTz	  first;

			if (rollup->kind != CS_KIND_ROLLUP || rollup->source_id != def->definition_id)
				continue;
			first = open_from(&progress, rollup);
			limit = limit_by_filling(fills, nfills, rollup, first == CS_WM_NONE ? limit : Min(limit, first));
			if (limit == DT_NOBEGIN)
				return limit;
			limit = bucket_start(rollup, limit);
		}
	} while (limit < last);
	return limit;
}

static int64
delete_rows(Oid table, const char *column, TimestampTz before, int64 limit)
{
	Oid			types[2] = {TIMESTAMPTZOID, INT8OID};
	Datum		values[2] = {TimestampTzGetDatum(before), Int64GetDatum(limit)};
	const char *name = cs_relation_name(table);
	int64		n;

	SPI_connect();
	if (SPI_execute_with_args(psprintf("DELETE FROM %s WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT ctid FROM %s"
									   " WHERE %s OPERATOR(pg_catalog.<) $1 AND is_final LIMIT $2)) AND is_final",
									   name, name, column),
							  2, types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete old rows of %s", name);
	n = SPI_processed;
	SPI_finish();
	return n;
}

int64
cs_retention_delete(const CsStream *stream, const CsDefinition *def, TimestampTz before, int64 limit)
{
	CsIdentity frame;
	int64	   n;

	if (!cs_stream_share(stream->stream_id, true) || cs_definition_find(def->table, CurrentMemoryContext) == NULL)
		return 0; /* whoever was waited for has dropped it */
	cs_identity_enter(&frame, stream->owner, true);
	before = limit_by_rollups(def, before);
	n = delete_rows(def->table, cs_retention_column(def->kind), before, limit);
	cs_identity_leave(&frame);
	if (n > 0 && before > def->deleted_before)
	{
		CsValue value = cs_value_time("deleted_before", &before);

		cs_catalog_update("definition", "definition_id", def->definition_id, &value, 1);
	}
	return n;
}
