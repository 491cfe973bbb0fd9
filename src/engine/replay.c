/*
 * engine/replay.c
 *	  One definition over events of the event log; see replay.h.
 *
 * Each round has a state and batch memory of its own, deleted by the next
 * one; to the operator each round is a batch that was rolled back.
 */
#include "postgres.h"

#include "core/event_log_read.h"
#include "core/place.h"
#include "engine/backfill.h"
#include "engine/replay.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

struct CsReplay
{
	CsEngine	 *e;
	int			  stage; /* the definition's, of the engine */
	CsOperator	 *op;
	MemoryContext round;
	int16		 *typlen; /* of the operator's columns */
	bool		 *typbyval;

	/* the round */
	CsBatchContext ctx;
	CsEmitter	   emitter;
	CsReplayWants  wants;
	void		  *arg;
	bool		   as_it_was; /* events may be late; rows are not taken back */
	bool		   finished;  /* all is closed by finish() */
	CsReplayRow	  *rows;
	CsReplayRow	 **tail;

	/* events not yet applied */
	CsEvent	   *events;
	CsMessage  *messages;
	CsPartition where; /* the messages' partition: nobody looks further */
	int			n;
	char	  **errors; /* of cs_replay_keys(), or NULL */
};

static CsReplay *
replay_of(CsEmitter *emitter)
{
	return (CsReplay *) ((char *) emitter - offsetof(CsReplay, emitter));
}

static bool
same_key(const CsReplay *r, const CsReplayRow *row, const Datum *values)
{
	for (int i = 0; i < r->op->ncolumns; i++)
	{
		if (r->op->columns[i].is_key && !datum_image_eq(row->values[i], values[i], r->typbyval[i], r->typlen[i]))
			return false;
	}
	return true;
}

/* An operator may write a row twice, or take it back: what was said last counts. */
static void
forget_row(CsReplay *r, const Datum *values)
{
	for (CsReplayRow **link = &r->rows; *link; link = &(*link)->next)
	{
		if (!same_key(r, *link, values))
			continue;
		*link = (*link)->next;
		r->tail = &r->rows;
		while (*r->tail)
			r->tail = &(*r->tail)->next;
		return;
	}
}

static CsReplayRow *
copy_row(const CsReplay *r, const Datum *values, const bool *isnull)
{
	CsReplayRow *row = palloc(sizeof(CsReplayRow));

	row->values = palloc(r->op->ncolumns * sizeof(Datum));
	row->isnull = palloc(r->op->ncolumns * sizeof(bool));
	row->next = NULL;
	for (int i = 0; i < r->op->ncolumns; i++)
	{
		row->isnull[i] = isnull[i];
		row->values[i] = isnull[i] ? (Datum) 0 : datumCopy(values[i], r->typbyval[i], r->typlen[i]);
	}
	return row;
}

CsReplayRow *
cs_replay_copy(CsReplay *r, const CsReplayRow *row)
{
	return copy_row(r, row->values, row->isnull);
}

static void
take_row(CsEmitter *emitter, CsOperator *op, CsRowAction action, Datum *values, bool *isnull)
{
	CsReplay	 *r = replay_of(emitter);
	MemoryContext old;
	CsReplayRow	 *row;

	Assert(op == r->op);
	(void) op;
	if (r->as_it_was && action == CS_ROW_DELETE)
		return;
	if (r->wants && !r->wants(r, values, isnull, r->arg))
		return;
	if (action != CS_ROW_INSERT && !r->as_it_was)
		forget_row(r, values);
	if (action == CS_ROW_DELETE)
		return;
	old = MemoryContextSwitchTo(r->round);
	row = copy_row(r, values, isnull);
	*r->tail = row;
	r->tail = &row->next;
	MemoryContextSwitchTo(old);
}

static void
take_late(CsEmitter *emitter, CsOperator *op, CsEvent *event, int64 lateness)
{
	(void) event;
	(void) lateness;
	if (replay_of(emitter)->as_it_was)
		return;
	elog(ERROR, "an event was late in a replay of definition %d", op->def->definition_id);
}

CsReplay *
cs_replay_create(CsEngine *e, CsStage *stage)
{
	CsReplay *r = palloc0(sizeof(CsReplay));

	r->e = e;
	r->stage = (int) (stage - e->stages);
	r->op = stage->op->ops->create(e->stream, stage->op->def, CurrentMemoryContext);
	r->round = AllocSetContextCreate(CurrentMemoryContext, "clickstream replay", ALLOCSET_DEFAULT_SIZES);
	r->typlen = palloc(r->op->ncolumns * sizeof(int16));
	r->typbyval = palloc(r->op->ncolumns * sizeof(bool));
	for (int i = 0; i < r->op->ncolumns; i++)
		get_typlenbyval(r->op->columns[i].type, &r->typlen[i], &r->typbyval[i]);
	r->events = palloc(CS_CHUNK_MESSAGES * sizeof(CsEvent));
	r->messages = palloc(CS_CHUNK_MESSAGES * sizeof(CsMessage));
	r->emitter.row = take_row;
	r->emitter.late = take_late;
	r->op->closed = CS_WM_NONE;
	return r;
}

/* ---- what there is to replay ---- */

CsStage *
cs_replay_stage(CsEngine *e, Oid table)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].op->def->table != table)
			continue;
		if (cs_stage_fills(&e->stages[i]))
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("\"%s\" is still being filled with history", get_rel_name(table)),
							errhint("View clickstream.stat_progress shows how far it is.")));
		return &e->stages[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the definition of \"%s\" is gone", get_rel_name(table))));
}

Oid
cs_replay_log(const CsEngine *e, const char *detail)
{
	if (e->event_log_id == 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("stream \"%s\" has no event log", e->stream->name), errdetail("%s", detail),
						errhint("clickstream.create_event_log() makes one, which holds what comes from then on.")));
	if (e->closings_left)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("stream \"%s\" is closing what its watermark has passed", e->stream->name),
						errhint("Try again when that is done.")));
	return e->event_log_table;
}

static TimestampTz
partition_horizon(const CsReplay *r, const CsPartition *p)
{
	const CsEngine *e = r->e;
	int64			since = p->counts[r->stage].since;
	int64			offset;
	TimestampTz		time;

	if (p->counts[e->nstages].since <= since && e->event_log_retention < 0)
		return CS_WM_NONE;
	if (!cs_event_log_first(e->event_log_table, e->stream->topics[p->topic], p->id, &offset, &time))
		return p->next_offset > since ? CS_WM_DONE : CS_WM_NONE;
	return offset <= since ? CS_WM_NONE : time + e->stream->watermark_delay;
}

TimestampTz
cs_replay_horizon(const CsReplay *r)
{
	TimestampTz horizon = CS_WM_NONE;

	for (int i = 0; i < r->e->npartitions; i++)
		horizon = Max(horizon, partition_horizon(r, r->e->partitions[i]));
	return horizon;
}

bool
cs_replay_counts(const CsReplay *r, const CsPlace *place)
{
	for (int i = 0; i < r->e->npartitions; i++)
	{
		const CsPartition *p = r->e->partitions[i];

		if (p->topic == place->topic && p->id == place->partition)
			return place->offset >= p->counts[r->stage].since;
	}
	return false;
}

/* ---- events ---- */

static void
copy_column(const CsStream *stream, CsReplayEvent *event, AttrNumber attno, const Datum *values, const bool *isnull)
{
	Form_pg_attribute att = TupleDescAttr(stream->event_desc, attno - 1);

	event->isnull[attno - 1] = isnull[attno - 1];
	if (!isnull[attno - 1])
		event->values[attno - 1] = datumCopy(values[attno - 1], att->attbyval, att->attlen);
}

CsPlace
cs_logged_place(const CsStream *stream, const Datum *values)
{
	char   *topic = TextDatumGetCString(values[cs_system_attno(stream, CS_SYS_TOPIC) - 1]);
	CsPlace place;

	place.time = DatumGetTimestampTz(values[CS_ATT_EVENT_TIME - 1]);
	place.topic = cs_stream_topic_index(stream, topic);
	place.partition = DatumGetInt32(values[cs_system_attno(stream, CS_SYS_PARTITION) - 1]);
	place.offset = DatumGetInt64(values[cs_system_attno(stream, CS_SYS_OFFSET) - 1]);
	pfree(topic);
	return place;
}

void
cs_logged_event(const CsStream *stream, const bool *needed, CsReplayEvent *event, const Datum *values,
				const bool *isnull)
{
	int		   natts = stream->event_desc->natts;
	AttrNumber visitor = cs_system_attno(stream, CS_SYS_VISITOR);
	AttrNumber place = cs_system_attno(stream, CS_SYS_PLACE);
	AttrNumber timestamp = cs_system_attno(stream, CS_SYS_TIMESTAMP);

	event->place = cs_logged_place(stream, values);
	event->watermark = CS_WM_NONE;
	event->unsure = false;
	event->timestamp = isnull[timestamp - 1] ? CS_WM_NONE : DatumGetTimestampTz(values[timestamp - 1]);
	event->values = palloc0(natts * sizeof(Datum));
	event->isnull = palloc(natts * sizeof(bool));
	memset(event->isnull, true, natts * sizeof(bool));
	for (AttrNumber attno = 1; attno <= natts; attno++)
	{
		if (needed[attno - 1] && attno != place)
			copy_column(stream, event, attno, values, isnull);
	}
	event->has_visitor = !isnull[visitor - 1];
	if (event->has_visitor)
	{
		struct varlena *v = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(values[visitor - 1]));

		event->visitor_hash = cs_hash_bytes(VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
	}
	if (needed[place - 1])
	{
		event->values[place - 1] = cs_place_encode(event->place.time, stream->topics[event->place.topic],
												   event->place.partition, event->place.offset);
		event->isnull[place - 1] = false;
	}
}

CsPlace
cs_replay_place(const CsReplay *r, const Datum *values)
{
	return cs_logged_place(r->e->stream, values);
}

void
cs_replay_event(CsReplay *r, CsReplayEvent *event, const Datum *values, const bool *isnull)
{
	cs_logged_event(r->e->stream, r->op->needed, event, values, isnull);
}

CsReplayEvent
cs_replay_copy_event(CsReplay *r, const CsReplayEvent *event)
{
	int			  natts = r->e->stream->event_desc->natts;
	CsReplayEvent copy = *event;

	copy.values = palloc0(natts * sizeof(Datum));
	copy.isnull = palloc(natts * sizeof(bool));
	for (AttrNumber attno = 1; attno <= natts; attno++)
		copy_column(r->e->stream, &copy, attno, event->values, event->isnull);
	return copy;
}

/* Put an event behind those that are to be applied; its columns stay where they are. */
static void
queue_event(CsReplay *r, const CsReplayEvent *event)
{
	CsEvent	  *queued = &r->events[r->n];
	CsMessage *message = &r->messages[r->n++];

	memset(message, 0, sizeof(CsMessage));
	message->partition = &r->where;
	message->offset = event->place.offset;
	message->timestamp = event->timestamp;
	memset(queued, 0, sizeof(CsEvent));
	queued->message = message;
	queued->place = event->place;
	queued->watermark = event->watermark;
	queued->has_visitor = event->has_visitor;
	queued->visitor_hash = event->visitor_hash;
	queued->values = event->values;
	queued->isnull = event->isnull;
}

static void
evaluate_step(CsEngine *e, void *arg, int i)
{
	CsReplay *r = arg;

	cs_point_slot(e, &r->events[i]);
	r->op->ops->evaluate(r->op, &r->ctx, &r->events[i], i);
}

/* As when it came first: it does not count. */
static void
evaluate_failed(CsEngine *e, void *arg, int i, ErrorData *error)
{
	CsReplay *r = arg;

	(void) e;
	r->op->ops->reject(r->op, i);
	r->events[i].skip = true;
	if (r->errors)
		r->errors[i] = MemoryContextStrdup(r->round, error->message);
}

static void
evaluate(CsReplay *r)
{
	r->op->ops->begin_chunk(r->op, &r->ctx, r->n);
	cs_guarded_loop(r->e, r->n, evaluate_step, evaluate_failed, r);
}

static void
end_chunk(CsReplay *r)
{
	cs_unpoint_slot(r->e);
	r->n = 0;
	MemoryContextReset(r->e->chunk);
}

static void
apply(CsReplay *r)
{
	MemoryContext old = MemoryContextSwitchTo(r->e->chunk);

	evaluate(r);
	r->op->ops->apply(r->op, &r->ctx, r->events, r->n);
	MemoryContextSwitchTo(old);
	end_chunk(r);
}

void
cs_replay_keys(CsReplay *r, const CsReplayEvent *events, int n, bool *takes, CsHash128 *keys, char **errors)
{
	MemoryContext old = MemoryContextSwitchTo(r->e->chunk);

	Assert(n <= CS_CHUNK_MESSAGES && r->n == 0);
	for (int i = 0; i < n; i++)
		queue_event(r, &events[i]);
	r->errors = errors;
	evaluate(r);
	r->errors = NULL;
	for (int i = 0; i < n; i++)
		takes[i] = !r->events[i].skip && (r->op->ops->key_of == NULL || r->op->ops->key_of(r->op, i, &keys[i]));
	MemoryContextSwitchTo(old);
	end_chunk(r);
}

/* ---- rounds ---- */

void
cs_replay_begin(CsReplay *r, CsReplayWants wants, void *arg)
{
	CsEngine	 *e = r->e;
	MemoryContext batch;

	r->op->ops->end_batch(r->op, false);
	MemoryContextReset(r->round);
	batch = AllocSetContextCreate(r->round, "clickstream replay batch", ALLOCSET_DEFAULT_SIZES);
	r->ctx = e->ctx;
	r->ctx.batch = batch;
	r->ctx.emitter = &r->emitter;
	r->ctx.state = cs_state_create(r->round, batch);
	r->ctx.catching_up = true;
	cs_state_register(r->ctx.state, r->op->def->definition_id, r->op->def->name, r->op->ops->serialize, r->op);
	if (r->op->ops->due_of)
		cs_state_register_due(r->ctx.state, r->op->def->definition_id, r->op->ops->due_of);
	r->op->closed = CS_WM_NONE;
	if (r->op->ops->recovered)
		r->op->ops->recovered(r->op, r->ctx.state);
	r->wants = wants;
	r->arg = arg;
	r->as_it_was = r->finished = false;
	r->rows = NULL;
	r->tail = &r->rows;
	r->n = 0;
}

void
cs_replay_begin_as_it_was(CsReplay *r, CsReplayWants wants, void *arg)
{
	cs_replay_begin(r, wants, arg);
	r->as_it_was = true;
}

bool
cs_replay_add(CsReplay *r, const CsReplayEvent *event)
{
	queue_event(r, event);
	if (r->n < CS_CHUNK_MESSAGES)
		return false;
	apply(r);
	return true;
}

static void
advance(CsReplay *r, TimestampTz wm, bool finish)
{
	MemoryContext old = MemoryContextSwitchTo(r->ctx.batch);

	while (!r->op->ops->advance(r->op, &r->ctx, wm, CS_CLOSINGS_PER_BATCH, finish))
		CHECK_FOR_INTERRUPTS();
	MemoryContextSwitchTo(old);
}

void
cs_replay_settle(CsReplay *r, TimestampTz wm)
{
	if (r->n > 0)
		apply(r);
	if (wm == CS_WM_DONE && !r->finished)
	{
		/* First what the content itself has closed: that has another reason. */
		if (cs_watermark_content(r->e) != CS_WM_NONE)
			advance(r, cs_watermark_content(r->e), false);
		r->finished = true;
	}
	if (wm != CS_WM_NONE)
		advance(r, wm, r->finished);
	cs_state_settle(r->ctx.state);
	r->op->ops->end_batch(r->op, true);
	MemoryContextReset(r->ctx.batch);
}

bool
cs_replay_close(CsReplay *r, TimestampTz wm, bool finish)
{
	int final = cs_operator_column_number(r->op, "is_final");

	if (r->n > 0)
		apply(r);
	if (wm != CS_WM_NONE)
		advance(r, wm, false);
	if (finish)
		advance(r, CS_WM_DONE, true);
	for (CsReplayRow *row = r->rows; row; row = row->next)
	{
		if (!DatumGetBool(row->values[final]))
			return false;
	}
	return cs_state_count(r->ctx.state, r->op->def->definition_id) == 0;
}

CsReplayRow *
cs_replay_rows(CsReplay *r)
{
	return r->rows;
}
