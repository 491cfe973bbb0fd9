/*
 * engine/chunk.c
 *	  From messages to applied events, a chunk at a time.
 *
 *	decode		payload -> columns -> visitor, stream filter; errors make the
 *				event dead
 *	lookups		columns of lookups into events that definitions will see
 *	evaluate	each definition's expressions over each event; errors belong to
 *				that definition
 *	apply		each definition over the whole chunk; cannot fail
 *	account		each offset into exactly one class of the ledger
 *
 * What may raise runs in a subtransaction for as many events as go well; the
 * one that raises is known by the loop's counter, so nothing is searched or
 * run twice.  Expressions that write are refused at definition, so there is
 * nothing to roll back but what the error left.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/clock.h"
#include "core/errors.h"
#include "core/fault.h"
#include "core/place.h"
#include "engine/backfill.h"
#include "engine/dedupe.h"
#include "engine/event_log.h"
#include "engine/feed.h"
#include "engine/internal.h"
#include "engine/lookup.h"
#include "engine/packed.h"
#include "engine/upsert.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define PREFETCH_PACKED 8 /* messages ahead, of those from decode workers */

/* ---- compiling the stream's own expressions ---- */

void
cs_engine_compile_stream(CsEngine *e)
{
	Query		*query = cs_definition_query(e->stream->stream_view);
	TargetEntry *visitor = list_nth_node(TargetEntry, query->targetList, 0);
	TargetEntry *filter = list_nth_node(TargetEntry, query->targetList, 1);
	TargetEntry *dedupe = list_nth_node(TargetEntry, query->targetList, 2);

	cs_expr_columns((Node *) query->targetList, e->needed, e->stream->event_desc->natts);
	cs_expr_init(&e->visitor, visitor->expr);
	e->has_filter = !IsA(filter->expr, Const);
	if (e->has_filter)
		cs_expr_init(&e->filter, filter->expr);
	e->has_dedupe = !IsA(dedupe->expr, Const);
	if (e->has_dedupe)
	{
		cs_expr_init(&e->dedupe, dedupe->expr);
		cs_hasher_init(&e->dedupe_hasher, e->dedupe.type, e->dedupe.collation, "dedupe_by");
	}
	e->topic_names = palloc(e->stream->ntopics * sizeof(Datum));
	for (int i = 0; i < e->stream->ntopics; i++)
		e->topic_names[i] = CStringGetTextDatum(e->stream->topics[i]);
}

/* ---- errors ---- */

void
cs_guarded_loop(CsEngine *e, int n, CsStep step, CsFailed failed, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile int  i = 0;

	while (i < n)
	{
		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(context);
		PG_TRY();
		{
			for (; i < n; i++)
				step(e, arg, i);
			ReleaseCurrentSubTransaction();
			MemoryContextSwitchTo(context);
			CurrentResourceOwner = owner;
		}
		PG_CATCH();
		{
			ErrorData *error;

			MemoryContextSwitchTo(e->batch);
			error = CopyErrorData();
			FlushErrorState();
			RollbackAndReleaseCurrentSubTransaction();
			MemoryContextSwitchTo(context);
			CurrentResourceOwner = owner;
			if (cs_error_is_servers(error->sqlerrcode))
				ReThrowError(error);
			failed(e, arg, i, error);
			FreeErrorData(error);
			i++;
		}
		PG_END_TRY();
	}
}

/* length: of all of them; NULL and more than CS_HEADERS_MAX: too many. */
static Jsonb *
headers_of(CsEngine *e, const CsMessage *m, size_t *length)
{
	*length = 0;
	if (e->is_filling)
		return NULL; /* the event log has none */
	if (e->source == NULL)
		return m->foreign; /* of a letter: engine/retry.c */
	return e->source->ops->headers(e->source, m, length);
}

/*
 * For a dead letter, which takes whatever it gets: what cannot be kept is said
 * in its place.  It outlives the message, so it has a copy.
 */
static Jsonb *
headers_for_letter(CsEngine *e, const CsMessage *m)
{
	size_t length;
	Jsonb *headers = headers_of(e, m, &length);

	if (length <= CS_HEADERS_MAX)
		return headers ? memcpy(palloc(VARSIZE(headers)), headers, VARSIZE(headers)) : NULL;
	return DatumGetJsonbP(DirectFunctionCall1(
		jsonb_in, CStringGetDatum(psprintf("{\"\": \"%zu bytes of headers, too many to be kept\"}", length))));
}

void
cs_dead_letter_add(CsEngine *e, const CsEvent *event, int32 definition_id, const char *cause, const char *error,
				   int sqlerrcode)
{
	MemoryContext	 old = MemoryContextSwitchTo(e->batch);
	const CsMessage *m = event->message;
	CsDeadLetter	*d = palloc0(sizeof(CsDeadLetter));

	d->stream_id = e->stream->stream_id;
	d->definition_id = definition_id;
	d->topic = e->stream->topics[m->partition->topic];
	d->partition = m->partition->id;
	d->offset = m->offset;
	d->timestamp = m->timestamp;
	if (m->key)
		d->key = memcpy(palloc(m->key_len + 1), m->key, m->key_len);
	d->key_len = m->key_len;
	if (m->payload)
		d->payload = memcpy(MemoryContextAllocHuge(e->batch, m->payload_len + 1), m->payload, m->payload_len);
	d->payload_len = m->payload_len;
	d->headers = headers_for_letter(e, m);
	d->cause = pstrdup(cause);
	d->error = pstrdup(error);
	strlcpy(d->sqlstate, unpack_sql_state(sqlerrcode), sizeof(d->sqlstate));
	e->dead = lappend(e->dead, d);
	if (definition_id != 0)
		cs_count_dead(e, m->partition, definition_id);
	else if (e->stop_at == NULL)
		e->stop_at = d;
	MemoryContextSwitchTo(old);
}

/* ---- decoding ---- */

void
cs_point_slot(CsEngine *e, const CsEvent *event)
{
	TupleTableSlot *slot = e->slot;

	slot->tts_values = event->values;
	slot->tts_isnull = event->isnull;
	slot->tts_flags &= ~TTS_FLAG_EMPTY;
	slot->tts_nvalid = slot->tts_tupleDescriptor->natts;
}

/* The slot has its own arrays again. */
void
cs_unpoint_slot(CsEngine *e)
{
	e->slot->tts_values = e->slot_values;
	e->slot->tts_isnull = e->slot_isnull;
	ExecClearTuple(e->slot);
}

static inline void
set_system(CsEngine *e, CsEvent *event, CsSystemColumn column, Datum value)
{
	AttrNumber attno = cs_system_attno(e->stream, column);

	event->values[attno - 1] = value;
	event->isnull[attno - 1] = false;
}

static inline bool
is_needed(CsEngine *e, CsSystemColumn column)
{
	return e->needed[cs_system_attno(e->stream, column) - 1];
}

static pg_attribute_always_inline void
fill_system(CsEngine *e, CsEvent *event)
{
	const CsMessage *m = event->message;

	set_system(e, event, CS_SYS_TOPIC, e->topic_names[event->place.topic]);
	set_system(e, event, CS_SYS_PARTITION, Int32GetDatum(event->place.partition));
	set_system(e, event, CS_SYS_OFFSET, Int64GetDatum(event->place.offset));
	if (m->key && is_needed(e, CS_SYS_KEY))
	{
		/* A key is bytes; as text it must hold what the encoding can say. */
		if (pg_verifymbstr(m->key, (int) m->key_len, true))
			set_system(e, event, CS_SYS_KEY, PointerGetDatum(cstring_to_text_with_len(m->key, (int) m->key_len)));
	}
	if (m->timestamp != CS_WM_NONE)
		set_system(e, event, CS_SYS_TIMESTAMP, TimestampTzGetDatum(m->timestamp));
	if (is_needed(e, CS_SYS_HEADERS))
	{
		size_t length;
		Jsonb *headers = headers_of(e, m, &length);

		if (length > CS_HEADERS_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("%zu bytes of headers are more than the %zu that are taken", length, CS_HEADERS_MAX)));
		if (headers != NULL)
			set_system(e, event, CS_SYS_HEADERS, JsonbPGetDatum(headers));
	}
	if (is_needed(e, CS_SYS_PLACE))
		set_system(e, event, CS_SYS_PLACE,
				   cs_place_encode(event->place.time, e->stream->topics[event->place.topic], event->place.partition,
								   event->place.offset));
}

static void
kill_event(CsEngine *e, CsEvent *event, const char *cause, const char *error, int sqlerrcode)
{
	event->skip = true;
	event->class = CS_CLASS_DEAD;
	cs_dead_letter_add(e, event, 0, cause, error, sqlerrcode);
}

static bool
is_too_far_ahead(CsEngine *e, const CsEvent *event)
{
	TimestampTz sent = event->message->timestamp;

	return e->stream->max_future >= 0 && sent != CS_WM_NONE && event->place.time > sent &&
		   event->place.time - sent > e->stream->max_future;
}

/* Stream filter, visitor, keys of lookups; may raise. */
static void
evaluate_stream(CsEngine *e, CsEvent *event)
{
	bool  isnull;
	Datum visitor;

	cs_point_slot(e, event);
	if (e->has_filter && !cs_expr_true(&e->filter, e->econtext))
	{
		event->skip = true;
		return;
	}
	if (e->has_dedupe)
	{
		Datum value = cs_expr_eval(&e->dedupe, e->econtext, &isnull);

		event->has_dedupe = !isnull;
		event->dedupe_hash = cs_hash_value(&e->dedupe_hasher, value, isnull);
	}
	visitor = cs_expr_eval(&e->visitor, e->econtext, &isnull);
	event->has_visitor = !isnull;
	if (!isnull)
	{
		struct varlena *v = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(visitor));

		event->visitor_hash = cs_hash_bytes(VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
		set_system(e, event, CS_SYS_VISITOR, PointerGetDatum(v));
	}
	if (e->nlookups > 0)
		cs_lookups_keys(e, event);
}

static void
decode_step(CsEngine *e, void *arg, int i)
{
	CsEvent			*event = &e->events[i];
	const CsMessage *m = event->message;
	char			*detail = NULL;
	CsDecodeStatus	 status;

	(void) arg;
	if (m->payload == NULL)
	{
		event->skip = true;
		event->class = CS_CLASS_EMPTY;
		return;
	}
	status = cs_decode(e->decoder, m->payload, m->payload_len, event->values, event->isnull, &detail);
	if (status != CS_DECODE_OK)
	{
		const char *text = cs_decode_status_text(status);

		kill_event(e, event, text, detail ? detail : text, cs_decode_status_sqlstate(status));
		return;
	}
	event->place.time = DatumGetTimestampTz(event->values[CS_ATT_EVENT_TIME - 1]);
	if (is_too_far_ahead(e, event))
	{
		kill_event(e, event, "event_time in the future",
				   psprintf("event_time %s is more than max_future ahead of the message's timestamp %s",
							pstrdup(timestamptz_to_str(event->place.time)), pstrdup(timestamptz_to_str(m->timestamp))),
				   ERRCODE_DATETIME_VALUE_OUT_OF_RANGE);
		return;
	}
	fill_system(e, event);
	evaluate_stream(e, event);
}

/* A decode worker has gone through decode_step() with it.  Keys of lookups are not in it. */
static void
take_packed(CsEngine *e, CsEvent *event)
{
	const char *cause;
	const char *error;
	int			sqlerrcode;

	if (!cs_packed_read(e, event->message->packed, event, &cause, &error, &sqlerrcode))
		kill_event(e, event, cause, error, sqlerrcode);
	else if (event->class != CS_CLASS_EMPTY)
		fill_system(e, event);
	if (e->nlookups > 0 && !event->skip)
	{
		cs_point_slot(e, event);
		cs_lookups_keys(e, event);
	}
}

/* Their heads were read when they were handed out. */
static void
prefetch_packed(const CsEngine *e, int i)
{
	if (i < e->nevents && e->messages[i].packed != NULL)
		cs_packed_prefetch_columns(e->messages[i].packed);
}

/* Of a source with decode workers, which has messages of both kinds. */
static void
helped_step(CsEngine *e, void *arg, int i)
{
	prefetch_packed(e, i + PREFETCH_PACKED);
	if (e->messages[i].packed != NULL)
		take_packed(e, &e->events[i]);
	else
		decode_step(e, arg, i);
}

static void
decode_failed(CsEngine *e, void *arg, int i, ErrorData *error)
{
	(void) arg;
	kill_event(e, &e->events[i], "error in the message's data", error->message, error->sqlerrcode);
}

/* Fresh events for the messages; what is constant about them. */
static void
prepare_events(CsEngine *e, int n)
{
	int	   natts = e->stream->event_desc->natts;
	Datum *values = palloc(n * natts * sizeof(Datum));
	bool  *isnull = palloc(n * natts * sizeof(bool));

	e->events = palloc0(n * sizeof(CsEvent));
	e->nevents = n;
	memset(isnull, true, n * natts * sizeof(bool));
	for (int i = 0; i < e->npartitions; i++)
		e->partitions[i]->ahead = 0;
	for (int i = 0; i < n; i++)
	{
		CsEvent *event = &e->events[i];

		event->message = &e->messages[i];
		event->message->partition->ahead++;
		event->place.topic = event->message->partition->topic;
		event->place.partition = event->message->partition->id;
		event->place.offset = event->message->offset;
		event->values = values + i * natts;
		event->isnull = isnull + i * natts;
	}
}

static CsStep
step_for(const CsEngine *e)
{
	if (e->upsert)
		return cs_upsert_step;
	return cs_feed_is(e->source) ? helped_step : decode_step;
}

void
cs_chunk_decode(CsEngine *e, int n)
{
	prepare_events(e, n);
	if (e->upsert)
		cs_upsert_begin_chunk(e, n);
	cs_lookups_begin_chunk(e, n);
	cs_guarded_loop(e, n, step_for(e), decode_failed, NULL);
}

/* ---- watermarks ---- */

/* Of a millisecond the watermark passes the whole with its beginning. */
static inline bool
may_be_late(TimestampTz time, TimestampTz watermark)
{
	return watermark != CS_WM_NONE && watermark != CS_WM_DONE && time <= watermark + CS_USECS_PER_MSEC;
}

bool
cs_stage_must_wait(CsEngine *e, CsStage *stage, TimestampTz time, TimestampTz watermark, int before)
{
	CsOperator *op = stage->op;

	return op->ops->must_wait && may_be_late(time, watermark) &&
		   op->ops->must_wait(op, e->state, time, watermark, before, cs_closings_at_once(e));
}

static bool
must_wait(CsEngine *e, CsStage *only, const CsEvent *event)
{
	int before = (int) (event - e->events);

	if (event->skip || !may_be_late(event->place.time, e->watermark))
		return false;
	if (only)
		return cs_stage_must_wait(e, only, event->place.time, e->watermark, before);
	for (int i = 0; i < e->nstages; i++)
		if (!cs_stage_fills(&e->stages[i]) &&
			cs_stage_must_wait(e, &e->stages[i], event->place.time, e->watermark, before))
			return true;
	return false;
}

/* Event n and what comes behind it is for the next batch; ndead: how many dead letters there were before this chunk. */
static void
end_before(CsEngine *e, int n, int ndead)
{
	for (int i = 0; i < n; i++)
		ndead += e->events[i].class == CS_CLASS_DEAD;
	e->ends_before = e->events[n].message;
	e->nevents = n;
	e->dead = list_truncate(e->dead, ndead);
}

/*
 * Watermarks as of each event, in order of arrival.  The chunk ends before an
 * event that must wait, with the watermark as of there, which the batch's end
 * closes: an event that is too late for some of a definition's windows, and
 * finds too many of them open (window.c).
 */
void
cs_chunk_watermarks(CsEngine *e, CsStage *only, int ndead)
{
	for (int i = 0; i < e->nevents; i++)
	{
		CsEvent		*event = &e->events[i];
		CsPartition *p = event->message->partition;

		if (must_wait(e, only, event))
		{
			end_before(e, i, ndead);
			break;
		}
		event->watermark = e->watermark;
		p->ahead--;
		if (event->class == CS_CLASS_DEAD || event->class == CS_CLASS_EMPTY)
		{
			cs_watermark_no_event(e, p);
			continue;
		}
		p->last_event_time = Max(p->last_event_time, event->place.time);
		cs_watermark_event(e, p, event->place.time, event->message->timestamp);
	}
}

/* ---- history, of which each definition reads its own ---- */

void
cs_chunk_claim_dead(CsEngine *e, int32 definition_id, int nbefore)
{
	int next = nbefore;

	for (int i = 0; i < e->nevents; i++)
	{
		if (e->events[i].class != CS_CLASS_DEAD)
			continue;
		((CsDeadLetter *) list_nth(e->dead, next++))->definition_id = definition_id;
		cs_count_dead(e, e->events[i].message->partition, definition_id);
	}
}

void
cs_chunk_give_back(CsEngine *e, int n)
{
	for (int i = e->nevents; i < n; i++)
	{
		CsPartition *p = e->events[i].message->partition;

		p->next_offset = Min(p->next_offset, e->events[i].message->offset);
		p->at_end = false;
		p->ahead = 0;
	}
}

/* ---- definitions ---- */

static void
evaluate_step(CsEngine *e, void *arg, int i)
{
	CsStage	   *stage = arg;
	CsOperator *op = stage->op;
	int64		without_key = op->null_visitors;

	if (e->events[i].skip)
		return;
	cs_point_slot(e, &e->events[i]);
	op->ops->evaluate(op, &e->ctx, &e->events[i], i);
	if (op->null_visitors != without_key)
		cs_count_no_key(e, &e->events[i], (int) (stage - e->stages));
}

static void
evaluate_failed(CsEngine *e, void *arg, int i, ErrorData *error)
{
	CsOperator *op = ((CsStage *) arg)->op;

	op->ops->reject(op, i);
	cs_dead_letter_add(e, &e->events[i], op->def->definition_id, "error in the definition's expressions",
					   error->message, error->sqlerrcode);
}

void
cs_chunk_run_stage(CsEngine *e, CsStage *stage)
{
	CsOperator *op = stage->op;

	op->ops->begin_chunk(op, &e->ctx, e->nevents);
	cs_guarded_loop(e, e->nevents, evaluate_step, evaluate_failed, stage);
	CS_FAULT(EVALUATED);
	cs_counts_begin(e);
	op->ops->apply(op, &e->ctx, e->events, e->nevents);
	cs_counts_end(e, (int) (stage - e->stages));
	CS_FAULT(APPLIED);
}

/* ---- the ledger ---- */

/* Of each partition's last message: what its topic shall still hold when it is assigned again. */
static void
keep_checksums(CsEngine *e)
{
	for (int i = 0; i < e->nevents; i++)
	{
		const CsMessage *m = e->events[i].message;

		if (m->offset != m->partition->next_offset - 1)
			continue;
		m->partition->last_offset = m->offset;
		m->partition->last_checksum = cs_message_checksum(m);
	}
}

static void
account(CsEngine *e)
{
	TimestampTz now = cs_now();

	for (int i = 0; i < e->nevents; i++)
	{
		CsEvent		*event = &e->events[i];
		CsPartition *p = event->message->partition;

		if (event->message->offset < p->next_offset)
			elog(ERROR, "message %d/" INT64_FORMAT " was delivered twice", p->id, event->message->offset);
		p->ledger[CS_CLASS_SKIPPED] += event->message->offset - p->next_offset;
		p->ledger[event->class]++;
		p->next_offset = event->message->offset + 1;
		p->last_spoke = now;
	}
	if (e->stream->brokers != NULL)
		keep_checksums(e);
}

/*
 * The offsets before the message that ends the batch hold none: it is the next,
 * and skip_message() may pass over it.
 */
static void
stand_before(const CsMessage *m)
{
	m->partition->ledger[CS_CLASS_SKIPPED] += m->offset - m->partition->next_offset;
	m->partition->next_offset = m->offset;
}

static void
raise_unusable(CsEngine *e)
{
	const CsDeadLetter *d = e->stop_at;

	e->is_stopped = true;
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(d->sqlstate[0], d->sqlstate[1], d->sqlstate[2], d->sqlstate[3], d->sqlstate[4])),
			 errmsg("message %s/%d/" INT64_FORMAT " cannot be used: %s", d->topic, d->partition, d->offset, d->error),
			 errhint("The stream was made with on_error => 'stop'; clickstream.alter_stream() changes that, "
					 "clickstream.skip_message() passes over this one.")));
}

/*
 * With on_error => 'stop' the batch ends before the first message that cannot
 * be used, so that what came before it is committed; the batch that finds it
 * where its partition stands raises.  Here, and not where it is found, which
 * may be in a subtransaction that would make a dead letter of this error too.
 * ndead: how many dead letters there were before this chunk.
 */
static void
stop_on_error(CsEngine *e, int ndead)
{
	int				 i = 0;
	const CsMessage *m;

	if (!e->stream->stop_on_error || e->stop_at == NULL)
		return;
	while (e->events[i].class != CS_CLASS_DEAD)
		i++;
	m = e->events[i].message;
	if (m->partition->stored_offset == m->offset && !m->partition->is_new)
		raise_unusable(e);
	end_before(e, i, ndead);
}

static void
run_stages(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].op->def->kind != CS_KIND_ROLLUP && !cs_stage_fills(&e->stages[i]))
			cs_chunk_run_stage(e, &e->stages[i]);
	}
	if (e->event_log)
	{
		cs_event_log_write(e, e->event_log);
		cs_counts_logged(e);
	}
}

/*
 * The messages in e->messages, or those before one that ends the batch; leaves
 * nothing of them behind but the state's changes.
 */
void
cs_chunk_run(CsEngine *e, int n)
{
	MemoryContext old = MemoryContextSwitchTo(e->chunk);
	int			  ndead = list_length(e->dead);

	cs_chunk_decode(e, n);
	CS_FAULT(DECODED);
	stop_on_error(e, ndead);
	cs_chunk_watermarks(e, NULL, ndead);
	cs_dedupe_run(e);
	cs_lookups_fill(e);
	if (e->upsert)
		cs_upsert_apply(e);
	else if (e->nevents > 0)
		run_stages(e);
	account(e);
	if (e->ends_before)
		stand_before(e->ends_before);
	e->batch_messages += e->nevents;
	e->total += e->nevents;
	cs_unpoint_slot(e);
	MemoryContextSwitchTo(old);
	MemoryContextReset(e->chunk);
}
