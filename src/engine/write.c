/*
 * engine/write.c
 *	  What operators hand out: rows into their tables, late events; and the
 *	  writing end of a batch.  Rows go on to rollups by rollup_feed.c.
 *
 * A table is opened by the first row that the batch has for it.  Values live
 * in the batch's memory until the batch is over, so tables may gather rows.
 */
#include "postgres.h"

#include "commands/async.h"
#include "core/topics.h"
#include "engine/event_log.h"
#include "engine/internal.h"
#include "engine/upsert.h"
#include "storage/lmgr.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

static CsStage *
stage_of(CsEngine *e, CsOperator *op)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].op == op)
			return &e->stages[i];
	}
	elog(ERROR, "operator of definition %d is not one of the engine's", op->def->definition_id);
}

/* The error ends this engine; the next one does without the definition (core/definition.c). */
static void
check_not_dropped(const CsDefinition *def)
{
	LockRelationOid(def->table, RowExclusiveLock); /* as it will be opened */
	if (get_rel_name(def->table) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("result table %s was dropped", def->name),
				 errhint("The stream goes on without it. What it was made for is forgotten when next a definition "
						 "of the stream is made or dropped.")));
}

CsTable *
cs_stage_table(CsEngine *e, CsStage *stage)
{
	if (stage->table == NULL)
	{
		CsOperator *op = stage->op;
		Oid		   *types = palloc(op->ncolumns * sizeof(Oid));

		for (int i = 0; i < op->ncolumns; i++)
			types[i] = op->columns[i].type;
		check_not_dropped(op->def);
		stage->table = cs_table_open(op->def->table, op->ncolumns, stage->column_names, stage->nkeys, stage->keys,
									 e->stream->owner);
		cs_table_check_types(stage->table, types, NULL);
		stage->places.context = e->context;
		cs_table_remember_rows(stage->table, &stage->places);
	}
	return stage->table;
}

static HeapTuple
copy_row(TupleTableSlot *slot)
{
	return slot ? ExecCopySlotHeapTuple(slot) : NULL;
}

/* What the row was and what it is, for the rollups over the table. */
static void
keep_for_rollups(CsStage *stage, CsTable *table, Datum *values)
{
	CsSourceRow *row = palloc(sizeof(CsSourceRow));

	row->values = values;
	row->old = copy_row(cs_table_old_slot(table));
	row->tuple = copy_row(cs_table_slot(table));
	row->next = NULL;
	*stage->rows_tail = row;
	stage->rows_tail = &row->next;
}

static void
emit_row(CsEmitter *emitter, CsOperator *op, CsRowAction action, Datum *values, bool *isnull)
{
	CsEngine	 *e = (CsEngine *) ((char *) emitter - offsetof(CsEngine, emitter));
	CsStage		 *stage = stage_of(e, op);
	MemoryContext old = MemoryContextSwitchTo(e->batch);
	CsTable		 *table = cs_stage_table(e, stage);

	switch (action)
	{
		case CS_ROW_INSERT:
			cs_table_insert(table, values, isnull);
			stage->effort.rows++;
			break;
		case CS_ROW_UPSERT:
			cs_table_upsert(table, values, isnull);
			stage->effort.rows++;
			break;
		case CS_ROW_DELETE:
			if (!cs_table_delete(table, values, isnull))
				break;
			stage->effort.deleted++;
			if (stage->sinks)
				cs_outbox_add(e, stage, table, true, values, isnull);
			break;
	}
	(void) cs_topics_use(e->stream); /* an owner's trigger may have looked at another stream */
	if (stage->sinks && action != CS_ROW_DELETE)
		cs_outbox_add(e, stage, table, false, values, isnull);
	if (stage->op->feeds_rollup)
		keep_for_rollups(stage, table, values);
	MemoryContextSwitchTo(old);
}

static void
emit_late(CsEmitter *emitter, CsOperator *op, CsEvent *event, int64 lateness)
{
	CsEngine		*e = (CsEngine *) ((char *) emitter - offsetof(CsEngine, emitter));
	MemoryContext	 old = MemoryContextSwitchTo(e->batch);
	CsLateEvent		*late = palloc0(sizeof(CsLateEvent));
	const CsMessage *m = event->message;

	late->stream_id = e->stream->stream_id;
	late->definition_id = op->def->definition_id;
	late->topic = e->stream->topics[event->place.topic];
	late->partition = event->place.partition;
	late->offset = event->place.offset;
	late->event_time = event->place.time;
	late->lateness = lateness;
	late->watermark = event->watermark;
	if (m->payload) /* the event log does not keep it */
		late->payload = memcpy(MemoryContextAllocHuge(e->batch, m->payload_len + 1), m->payload, m->payload_len);
	late->payload_len = m->payload_len;
	e->late = lappend(e->late, late);
	MemoryContextSwitchTo(old);
}

void
cs_write_begin(CsEngine *e)
{
	e->emitter.row = emit_row;
	e->emitter.late = emit_late;
	e->dead = e->late = NIL;
	e->stop_at = NULL;
	e->is_stopped = false;
	e->ends_before = NULL;
	for (int i = 0; i < e->nstages; i++)
	{
		e->stages[i].table = NULL;
		e->stages[i].rows = NULL;
		e->stages[i].rows_tail = &e->stages[i].rows;
	}
}

/* ---- the end ---- */

/* Once a transaction that wrote into a table, for those who asked by notify_changes(). */
static void
tell_changes(const CsStage *stage)
{
	const CsDefinition *def = stage->op->def;
	int64				rows = stage->effort.rows - stage->committed_effort.rows;
	int64				deleted = stage->effort.deleted - stage->committed_effort.deleted;
	StringInfoData		payload;

	if (def->notify_channel == NULL || rows + deleted == 0)
		return;
	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"table\": ");
	escape_json(&payload, def->name);
	appendStringInfo(&payload, ", \"written\": " INT64_FORMAT ", \"deleted\": " INT64_FORMAT "}", rows, deleted);
	Async_Notify(def->notify_channel, payload.data);
}

void
cs_write_end(CsEngine *e)
{
	MemoryContext old = MemoryContextSwitchTo(e->batch);

	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].table)
			cs_table_close(e->stages[i].table);
		e->stages[i].table = NULL;
		tell_changes(&e->stages[i]);
	}
	cs_outbox_end(e);
	if (e->upsert)
		cs_upsert_end(e->upsert);
	if (e->event_log)
		cs_event_log_end(e, e->event_log);
	cs_dead_letters_write(e->dead);
	cs_late_events_write(e->late);
	MemoryContextSwitchTo(old);
}

void
cs_write_abort(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
		e->stages[i].table = NULL;
	if (e->upsert)
		cs_upsert_abort(e->upsert);
	if (e->event_log)
		cs_event_log_abort(e->event_log);
	cs_outbox_abort(e);
	e->dead = e->late = NIL;
}
