/*
 * engine/write.c
 *	  What operators hand out: rows into their tables, rows on to rollups,
 *	  late events; and the writing end of a batch.
 *
 * A table is opened by the first row that the batch has for it.  Values live
 * in the batch's memory until the batch is over, so tables may gather rows.
 */
#include "postgres.h"

#include "engine/event_log.h"
#include "engine/internal.h"
#include "sink/source_rows.h"
#include "utils/builtins.h"
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

static CsTable *
stage_table(CsEngine *e, CsStage *stage)
{
	if (stage->table == NULL)
	{
		CsOperator *op = stage->op;
		Oid		   *types = palloc(op->ncolumns * sizeof(Oid));

		for (int i = 0; i < op->ncolumns; i++)
			types[i] = op->columns[i].type;
		stage->table = cs_table_open(op->def->table, op->ncolumns, stage->column_names, stage->nkeys, stage->keys,
									 e->stream->owner);
		cs_table_check_types(stage->table, types);
	}
	return stage->table;
}

static void
emit_row(CsEmitter *emitter, CsOperator *op, CsRowAction action, Datum *values, bool *isnull)
{
	CsEngine	 *e = (CsEngine *) ((char *) emitter - offsetof(CsEngine, emitter));
	CsStage		 *stage = stage_of(e, op);
	MemoryContext old = MemoryContextSwitchTo(e->batch);
	CsTable		 *table = stage_table(e, stage);

	switch (action)
	{
		case CS_ROW_INSERT:
			cs_table_insert(table, values, isnull);
			break;
		case CS_ROW_UPSERT:
			cs_table_upsert(table, values, isnull);
			break;
		case CS_ROW_DELETE:
			cs_table_delete(table, values, isnull);
			break;
	}
	if (stage->feeds_rollup && action != CS_ROW_DELETE && cs_table_slot(table) != NULL)
	{
		CsSourceRow *row = palloc(sizeof(CsSourceRow));

		row->values = values;
		row->tuple = ExecCopySlotHeapTuple(cs_table_slot(table));
		row->next = NULL;
		*stage->rows_tail = row;
		stage->rows_tail = &row->next;
	}
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
	for (int i = 0; i < e->nstages; i++)
	{
		e->stages[i].table = NULL;
		e->stages[i].rows = NULL;
		e->stages[i].rows_tail = &e->stages[i].rows;
	}
}

/* ---- rollups ---- */

/* A rollup's step over one source row. */
typedef struct RollupFeed
{
	CsStage		 *rollup;
	CsStage		 *source;
	CsSourceRow **rows;
	int			  n;
	/* a bucket made from the source table */
	TupleTableSlot *reloading;
	TimestampTz		start, end;
} RollupFeed;

static void
reload_step(CsEngine *e, void *arg, int i)
{
	RollupFeed *feed = arg;

	(void) i;
	cs_rollup_reload(feed->rollup->op, &e->ctx, feed->reloading);
}

static void
reload_failed(CsEngine *e, void *arg, int i, ErrorData *error)
{
	RollupFeed *feed = arg;

	/* It was a dead letter when it came first, or becomes one by check_step(). */
	(void) e;
	(void) i;
	(void) error;
	feed->rollup->op->errors++;
}

static void
reload_row(TupleTableSlot *row, void *arg)
{
	void	  **args = arg;
	RollupFeed *feed = args[1];

	feed->reloading = row;
	cs_guarded_loop(args[0], 1, reload_step, reload_failed, feed);
}

static void
reload_revision(Datum group_key, int32 revision, void *arg)
{
	void	  **args = arg;
	CsEngine   *e = args[0];
	RollupFeed *feed = args[1];

	cs_rollup_reloaded(feed->rollup->op, &e->ctx, feed->start, group_key, revision);
}

/* Make a bucket from the source table, this batch's rows in it included. */
static void
reload_bucket(CsEngine *e, RollupFeed *feed)
{
	const CsDefinition *def = feed->rollup->op->def;
	void			   *args[2] = {e, feed};

	cs_source_rows(feed->source->op->def->table, def->start_column, feed->start, feed->end, reload_row, args);
	cs_rollup_revisions(def->table, feed->start, reload_revision, args);
}

/* A source row that the rollup cannot use: known by its key, topic/partition/offset. */
static void
source_row_dead(CsEngine *e, RollupFeed *feed, const CsSourceRow *row, ErrorData *error)
{
	char	   *id = TextDatumGetCString(row->values[feed->source->keys[0]]);
	char	   *slash;
	CsMessage	message = {0};
	CsPartition partition = {0};
	CsEvent		event = {.message = &message};

	message.partition = &partition;
	message.timestamp = CS_WM_NONE;
	if ((slash = strrchr(id, '/')) != NULL)
	{
		message.offset = strtoll(slash + 1, NULL, 10);
		*slash = '\0';
	}
	if ((slash = strrchr(id, '/')) != NULL)
	{
		partition.id = atoi(slash + 1);
		*slash = '\0';
	}
	partition.topic = Max(cs_stream_topic_index(e->stream, id), 0);
	cs_dead_letter_add(e, &event, feed->rollup->op->def->definition_id, "error in the definition's expressions",
					   error->message, error->sqlerrcode);
}

static void
check_step(CsEngine *e, void *arg, int i)
{
	RollupFeed *feed = arg;

	cs_rollup_check(feed->rollup->op, &e->ctx, feed->rows[i]->tuple);
}

static void
check_failed(CsEngine *e, void *arg, int i, ErrorData *error)
{
	RollupFeed *feed = arg;

	source_row_dead(e, feed, feed->rows[i], error);
}

/*
 * This batch's rows of the bucket, from i on, are in it now: they are not fed,
 * but those that could not be used become dead letters.
 */
static void
drop_reloaded(CsEngine *e, RollupFeed *feed, int i)
{
	CsOperator *op = feed->rollup->op;
	RollupFeed	reloaded = *feed;

	reloaded.rows = palloc((feed->n - i) * sizeof(CsSourceRow *));
	reloaded.n = 0;
	for (int j = i; j < feed->n; j++)
	{
		TimestampTz start, end;

		if (feed->rows[j] == NULL)
			continue;
		(void) cs_rollup_needs_reload(op, &e->ctx, feed->rows[j]->tuple, &start, &end);
		if (start != feed->start)
			continue;
		reloaded.rows[reloaded.n++] = feed->rows[j];
		feed->rows[j] = NULL;
	}
	cs_guarded_loop(e, reloaded.n, check_step, check_failed, &reloaded);
	pfree(reloaded.rows);
}

static void
feed_step(CsEngine *e, void *arg, int i)
{
	RollupFeed	*feed = arg;
	CsSourceRow *row = feed->rows[i];
	CsOperator	*op = feed->rollup->op;
	TimestampTz	 start, end;

	if (row == NULL)
		return;
	if (cs_rollup_needs_reload(op, &e->ctx, row->tuple, &start, &end))
	{
		feed->start = start;
		feed->end = end;
		reload_bucket(e, feed);
		drop_reloaded(e, feed, i);
		return;
	}
	cs_rollup_take(op, &e->ctx, row->tuple);
}

static void
feed_failed(CsEngine *e, void *arg, int i, ErrorData *error)
{
	RollupFeed *feed = arg;

	feed->rollup->op->errors++;
	if (feed->rows[i] != NULL)
		source_row_dead(e, feed, feed->rows[i], error);
}

static void
feed_rollup(CsEngine *e, CsStage *rollup, CsStage *source)
{
	RollupFeed feed = {.rollup = rollup, .source = source};
	int		   n = 0;

	for (CsSourceRow *row = source->rows; row; row = row->next)
		n++;
	if (n == 0)
		return;
	feed.rows = palloc(n * sizeof(CsSourceRow *));
	for (CsSourceRow *row = source->rows; row; row = row->next)
		feed.rows[feed.n++] = row;

	/* Now, because what a subtransaction writes goes with it if a row fails. */
	if (source->table)
		cs_table_flush(source->table);
	cs_guarded_loop(e, n, feed_step, feed_failed, &feed);
}

/* Hand the rows of this batch to the rollups over them. */
void
cs_write_rollups(CsEngine *e)
{
	MemoryContext old = MemoryContextSwitchTo(e->batch);

	for (int i = 0; i < e->nstages; i++)
	{
		CsOperator *op = e->stages[i].op;

		if (op->source)
			feed_rollup(e, &e->stages[i], stage_of(e, op->source));
	}
	for (int i = 0; i < e->nstages; i++)
	{
		e->stages[i].rows = NULL;
		e->stages[i].rows_tail = &e->stages[i].rows;
	}
	MemoryContextSwitchTo(old);
}

/* ---- the end ---- */

static void
write_dead_letters(CsEngine *e)
{
	int			   n = list_length(e->dead);
	CsDeadLetter **letters = palloc(Max(n, 1) * sizeof(CsDeadLetter *));
	ListCell	  *lc;

	if (n == 0)
		return;
	foreach(lc, e->dead)
		letters[foreach_current_index(lc)] = lfirst(lc);
	cs_dead_letters_write(letters, n);
}

static void
write_late_events(CsEngine *e)
{
	int			  n = list_length(e->late);
	CsLateEvent **events = palloc(Max(n, 1) * sizeof(CsLateEvent *));
	ListCell	 *lc;

	if (n == 0)
		return;
	foreach(lc, e->late)
		events[foreach_current_index(lc)] = lfirst(lc);
	cs_late_events_write(events, n);
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
	}
	if (e->event_log)
		cs_event_log_end(e, e->event_log);
	write_dead_letters(e);
	write_late_events(e);
	MemoryContextSwitchTo(old);
}

void
cs_write_abort(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
		e->stages[i].table = NULL;
	if (e->event_log)
		cs_event_log_abort(e->event_log);
	e->dead = e->late = NIL;
}
