/*
 * engine/outbox.c
 *	  Rows of result tables into the outbox of their sinks, in the batch's
 *	  transaction.
 *
 * What the engine writes into a table is what is sent: the row as the table
 * has it then, with the user's own columns; NULL (a tombstone) for one that goes.
 * A sink of final rows gets those only, and a tombstone for a final row that goes.
 * What users themselves change in a table is not sent, nor what retention
 * deletes: the topic has a retention of its own.
 *
 * Rows are JSON at once, under the settings that were pinned when the stream
 * was made, so times are the same whoever runs the batch.
 *
 * An outbox that is full never holds up the stream: the sink gives up, and
 * says so (core/sink.h, view stat_sink).
 *
 * No locking: private to the engine; the row of sink_end is written by whoever
 * runs the stream, and that is one.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "core/sink.h"
#include "engine/internal.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

/* A sink, and what this batch has for it. */
typedef struct CsStageSink
{
	CsSink			   *sink;
	List			   *rows; /* CsOutboxRow* */
	struct CsStageSink *next;
} StageSink;

/* After load_definitions(), in its transaction. */
void
cs_outbox_load(CsEngine *e)
{
	foreach_ptr(CsSink, sink, cs_sinks_load(e->stream->stream_id, e->context))
	{
		for (int i = 0; i < e->nstages; i++)
		{
			CsStage	  *stage = &e->stages[i];
			StageSink *own;

			if (stage->op->def->definition_id != sink->definition_id)
				continue;
			own = palloc0(sizeof(StageSink));
			own->sink = sink;
			own->next = stage->sinks;
			stage->sinks = own;
		}
	}
}

static char *
json_of(Datum record)
{
	return TextDatumGetCString(OidFunctionCall1(F_ROW_TO_JSON_RECORD, record));
}

/* {"window_start": ..., "group_key": ...} */
static char *
key_json(CsEngine *e, CsStage *stage, const Datum *values, const bool *isnull)
{
	Datum key[INDEX_MAX_KEYS];
	bool  null[INDEX_MAX_KEYS];

	if (stage->key_desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(e->context);

		stage->key_desc = CreateTemplateTupleDesc(stage->nkeys);
		for (int i = 0; i < stage->nkeys; i++)
		{
			const CsColumn *column = &stage->op->columns[stage->keys[i]];

			TupleDescInitEntry(stage->key_desc, (AttrNumber) (i + 1), column->name, column->type, -1, 0);
		}
		stage->key_desc = BlessTupleDesc(stage->key_desc);
		MemoryContextSwitchTo(old);
	}
	for (int i = 0; i < stage->nkeys; i++)
	{
		key[i] = values[stage->keys[i]];
		null[i] = isnull[stage->keys[i]];
	}
	return json_of(HeapTupleGetDatum(heap_form_tuple(stage->key_desc, key, null)));
}

static bool
is_final(CsStage *stage, CsTable *table, TupleTableSlot *slot)
{
	bool  isnull;
	Datum value;

	if (slot == NULL)
		return false;
	value = cs_table_value(table, slot, cs_operator_column_number(stage->op, "is_final"), &isnull);
	return !isnull && DatumGetBool(value);
}

/* A row was written, or is gone; in batch memory. */
void
cs_outbox_add(CsEngine *e, CsStage *stage, CsTable *table, bool gone, const Datum *values, const bool *isnull)
{
	TupleTableSlot *slot = gone ? cs_table_old_slot(table) : cs_table_slot(table);
	char		   *key = NULL;
	char		   *value = NULL;

	if (slot == NULL) /* a trigger of the user's has dropped it */
		return;
	for (StageSink *s = stage->sinks; s; s = s->next)
	{
		CsOutboxRow *row;

		if (s->sink->final_only && !is_final(stage, table, slot))
			continue;
		if (key == NULL)
		{
			key = key_json(e, stage, values, isnull);
			value = gone ? NULL : json_of(ExecFetchSlotHeapTupleDatum(slot));
		}
		row = palloc(sizeof(CsOutboxRow));
		*row = (CsOutboxRow){.sink_id = s->sink->sink_id, .key = key, .value = value};
		s->rows = lappend(s->rows, row);
	}
}

void
cs_outbox_end(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
		for (StageSink *s = e->stages[i].sinks; s; s = s->next)
		{
			if (cs_outbox_write(s->sink->sink_id, s->rows) && e->host->wake_sink)
				e->host->wake_sink(s->sink->sink_id);
			s->rows = NIL;
		}
}

void
cs_outbox_abort(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
		for (StageSink *s = e->stages[i].sinks; s; s = s->next)
			s->rows = NIL;
}
