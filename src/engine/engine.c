/*
 * engine/engine.c
 *	  A stream in this process: open, batch, abort, close.
 *
 * One batch is one transaction: what the source has is decoded, evaluated and
 * applied in chunks; what the watermark has passed is closed; rows, dead
 * letters and late events are written; the state's changes go to the state
 * log; offsets, watermark and ledger are stored; COMMIT; then the state
 * publishes what it holds.  Until then nothing but the overlay has changed, so
 * an abort is: drop the overlay and read again from the last commit.
 *
 * The batch runs as the stream's owner, security-restricted, with the settings
 * that were pinned when the stream was made; our own tables are written as
 * the extension's owner (core/ledger.c).
 *
 * Locking: a session lock of the user's lock method on the stream (advisory,
 * with a subkind of our own), because those survive an aborted transaction;
 * against a second process.  The fence in core/ledger.c backs it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/settings.h"
#include "core/topics.h"
#include "engine/backfill.h"
#include "engine/dedupe.h"
#include "engine/event_log.h"
#include "engine/examine.h"
#include "engine/feed.h"
#include "engine/internal.h"
#include "engine/lookup.h"
#include "engine/recompute.h"
#include "engine/upsert.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "state/budget.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define LOCK_SUBKIND 3		   /* pg_advisory_lock() uses 1 and 2 */
#define FIRST_METADATA_MS 2000 /* waiting for a broker to list its partitions */
#define METADATA_MS 200		   /* the same, while there are others to read */

/* ---- the stream's lock ---- */

static void
release_lock(void *arg)
{
	CsEngine *e = arg;

	/* A process that exits has given it back before. */
	if (LockHeldByMe(&e->lock, ExclusiveLock))
		LockRelease(&e->lock, ExclusiveLock, true);
}

static void
take_lock(CsEngine *e, int32 stream_id, bool wait)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(e->context, sizeof(MemoryContextCallback));

	SET_LOCKTAG_ADVISORY(e->lock, MyDatabaseId, cs_own_relation("stream"), stream_id, LOCK_SUBKIND);
	if (LockAcquire(&e->lock, ExclusiveLock, true, !wait) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("stream is being run by another process"),
						errhint("See clickstream.stat_stream; clickstream.stop() stops its worker.")));
	callback->func = release_lock;
	callback->arg = e;
	MemoryContextRegisterResetCallback(e->context, callback);
}

void
cs_engine_keep_out(int32 stream_id)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, cs_own_relation("stream"), stream_id, LOCK_SUBKIND);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* ---- identity and settings of a batch ---- */

static void
become_owner(CsEngine *e)
{
	SetUserIdAndSecContext(e->stream->owner, SECURITY_RESTRICTED_OPERATION);
	e->guc_nest = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	(void) set_config_option("TimeZone", e->stream->time_zone, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	(void) set_config_option("DateStyle", "ISO, YMD", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("IntervalStyle", "postgres", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("bytea_output", "hex", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("extra_float_digits", "1", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
begin(CsEngine *e, Oid *user, int *sec)
{
	e->host->begin();
	GetUserIdAndSecContext(user, sec);
	become_owner(e);
	(void) cs_topics_use(e->stream);
}

static void
finish_transaction(CsEngine *e, Oid user, int sec)
{
	AtEOXact_GUC(false, e->guc_nest); /* what an owner's trigger has set is not for whoever called */
	SetUserIdAndSecContext(user, sec);
	e->host->commit();
	MemoryContextSwitchTo(e->context);
}

/* ---- opening ---- */

static CsOperator *
operator_of_definition(CsEngine *e, int32 definition_id)
{
	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].op->def->definition_id == definition_id)
			return e->stages[i].op;
	}
	return NULL;
}

static void
describe_columns(CsStage *stage)
{
	CsOperator *op = stage->op;

	stage->column_names = palloc(op->ncolumns * sizeof(char *));
	stage->keys = palloc(op->ncolumns * sizeof(int));
	for (int i = 0; i < op->ncolumns; i++)
	{
		stage->column_names[i] = op->columns[i].name;
		if (op->columns[i].is_key)
			stage->keys[stage->nkeys++] = i;
	}
}

static void
link_rollup(CsEngine *e, CsOperator *op)
{
	op->source = operator_of_definition(e, op->def->source_id);
	if (op->source == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the source of rollup %s is gone", op->def->name),
						errhint("Drop the rollup with clickstream.drop_rollup().")));
	op->source->feeds_rollup = true;
}

static void
add_stage(CsEngine *e, CsDefinition *def)
{
	CsStage *stage = &e->stages[e->nstages++];

	stage->op = cs_operator_ops(def->kind)->create(e->stream, def, e->context);
	describe_columns(stage);
	if (def->kind == CS_KIND_ROLLUP)
		link_rollup(e, stage->op);
	for (int i = 0; i < e->stream->event_desc->natts; i++)
		e->needed[i] |= stage->op->needed[i];
	cs_state_register(e->state, def->definition_id, def->name, stage->op->ops->serialize, stage->op);
	if (stage->op->ops->due_of)
		cs_state_register_due(e->state, def->definition_id, stage->op->ops->due_of);
	cs_state_register_marks(e->state, def->definition_id, stage->op->ops->is_marked);
}

/* The stream of a lookup's topic has a table, and no definitions. */
static void
open_upsert(CsEngine *e)
{
	const CsLookupTable *target = cs_lookup_table_load(e->stream->stream_id, e->context);

	if (target)
		e->upsert = cs_upsert_open(e->stream, target);
}

/* Definitions in the order they were made: a rollup comes after its source. */
static void
load_definitions(CsEngine *e)
{
	List	 *definitions = cs_definitions_load(e->stream->stream_id, e->context);
	ListCell *lc;

	e->needed = palloc0(e->stream->event_desc->natts * sizeof(bool));
	e->needed[CS_ATT_EVENT_TIME - 1] = true;
	e->stages = palloc0(Max(list_length(definitions), 1) * sizeof(CsStage));
	foreach(lc, definitions)
	{
		CsDefinition *def = lfirst(lc);

		if (def->kind != CS_KIND_EVENT_LOG)
		{
			if (!OidIsValid(e->only) || def->table == e->only)
				add_stage(e, def);
		}
		else
		{
			e->event_log = cs_event_log_open(e->stream, def);
			e->event_log_id = def->definition_id;
			e->event_log_table = def->table;
			e->event_log_retention = def->retention;
			memset(e->needed, true, e->stream->event_desc->natts * sizeof(bool));
		}
	}
	cs_outbox_load(e);
	cs_engine_compile_stream(e);
	open_upsert(e);
	cs_dedupe_register(e, DEDUPE_DEFINITION);
}

typedef enum Purpose
{
	TO_RUN,
	TO_REPAIR,	/* without a source */
	TO_EXAMINE, /* without one, and some entries may be damaged */
	TO_READ,	/* without source, lock and state */
	TO_DECODE	/* neither these nor any position; see feeder.c */
} Purpose;

static void
recover_state(CsEngine *e)
{
	CsLogPosition position;

	cs_state_check_format(e->stream, e->stored.state_format);
	position.half = e->stored.log_half;
	position.copied = e->stored.log_copied;
	position.copied_xid = e->stored.log_copied_xid;
	position.next_set_id = e->stored.next_set_id;
	cs_state_recover(e->state, e->stream, &position, GetActiveSnapshot());
	for (int i = 0; i < e->nstages; i++)
	{
		CsOperator *op = e->stages[i].op;

		op->closed = cs_backfill_watermark(e, &e->stages[i], e->stored.closed);
		op->shown = e->stored.shown;
		op->is_behind = cs_stage_fills(&e->stages[i]) ? cs_backfill_is_closing(&e->stages[i])
													  : e->closings_left && op->closed < e->watermark;
		if (op->ops->recovered && !e->examines)
			op->ops->recovered(op, e->state);
	}
	cs_state_forget_guests(e->state);
}

static void
recover(CsEngine *e, Purpose purpose)
{
	cs_progress_load(e->stream->stream_id, &e->stored);
	e->watermark = e->stored.watermark;
	e->closings_left = e->stored.closed != e->stored.watermark; /* a large closing goes on where it was */
	cs_backfill_load(e);
	if (purpose != TO_READ)
		recover_state(e);
	cs_counts_load(e);
	cs_positions_load(e);
}

static void
make_slot(CsEngine *e)
{
	e->slot = MakeSingleTupleTableSlot(e->stream->event_desc, &TTSOpsVirtual);
	e->slot_values = e->slot->tts_values;
	e->slot_isnull = e->slot->tts_isnull;
	e->econtext = CreateStandaloneExprContext();
	e->econtext->ecxt_scantuple = e->slot;
	e->econtext->ecxt_per_tuple_memory = e->chunk;
	e->messages = palloc(CS_CHUNK_MESSAGES * sizeof(CsMessage));
}

static void
open_in_transaction(CsEngine *e, int32 stream_id, bool wait, Purpose purpose)
{
	CsControl control;

	if (purpose != TO_READ && purpose != TO_DECODE)
		take_lock(e, stream_id, wait);
	cs_control_load(stream_id, &control);
	e->version = control.version;
	load_definitions(e);
	if (purpose == TO_RUN || purpose == TO_REPAIR || purpose == TO_DECODE)
		cs_lookups_compile(e); /* to others the event log says what there was */
	make_slot(e);
	if (purpose != TO_DECODE)
		recover(e, purpose);
	e->decoder = cs_decoder_create(e->stream, e->needed, e->context);
	if (purpose == TO_RUN)
	{
		e->source_context = AllocSetContextCreate(e->context, "clickstream source", ALLOCSET_DEFAULT_SIZES);
		e->source = cs_feed_source(e, e->source_context);
	}
	e->catching_up = true;
	e->reported = e->shown_commit = -1;
	for (int i = 0; i < e->nstages; i++)
		e->stages[i].previewed = CS_WM_NONE;
	e->preview_again = CS_WM_NONE;
}

static CsEngine *
open_engine(int32 stream_id, const CsHost *host, bool wait, MemoryContext parent, Purpose purpose, Oid only)
{
	MemoryContext context = AllocSetContextCreate(parent, "clickstream engine", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	CsEngine	 *e = MemoryContextAllocZero(context, sizeof(CsEngine));
	Oid			  user;
	int			  sec;

	e->context = context;
	e->batch = AllocSetContextCreate(context, "clickstream batch", ALLOCSET_DEFAULT_SIZES);
	e->chunk = AllocSetContextCreate(context, "clickstream chunk", ALLOCSET_DEFAULT_SIZES);
	e->host = host;
	e->only = only;
	e->ceiling = CS_WM_DONE;
	e->examines = purpose == TO_EXAMINE;
	e->state = cs_state_create(context, e->batch);
	if (e->examines)
		cs_state_be_lenient(e->state);
	if (host->shares)
		cs_state_share(e->state, stream_id);
	host->begin();
	MemoryContextSwitchTo(context);
	e->stream = cs_stream_load_by_id(stream_id, context);
	/* Lookups and definitions are read later, by newer snapshots: no columns come in between. */
	LockRelationOid(e->stream->event_relation, AccessShareLock);
	cs_stream_load_events(e->stream);
	GetUserIdAndSecContext(&user, &sec);
	become_owner(e);
	(void) cs_topics_use(e->stream);
	open_in_transaction(e, stream_id, wait, purpose);
	finish_transaction(e, user, sec);
	cs_state_open_to_readers(e->state, e->stored.commit_number);
	MemoryContextSwitchTo(old);
	return e;
}

CsEngine *
cs_engine_open(int32 stream_id, const CsHost *host, bool wait, MemoryContext parent)
{
	return open_engine(stream_id, host, wait, parent, TO_RUN, InvalidOid);
}

void
cs_engine_in_transaction(CsEngine *e, void (*step)(CsEngine *e, int n), int n)
{
	Oid user;
	int sec;

	begin(e, &user, &sec);
	step(e, n);
	finish_transaction(e, user, sec);
}

CsEngine *
cs_engine_open_decoder(int32 stream_id, const CsHost *host, MemoryContext parent)
{
	return open_engine(stream_id, host, false, parent, TO_DECODE, InvalidOid);
}

void
cs_engine_close(CsEngine *e)
{
	MemoryContextDelete(e->context);
}

/* ---- a batch ---- */

static void
begin_batch(CsEngine *e)
{
	e->ctx.state = e->state;
	e->ctx.emitter = &e->emitter;
	e->ctx.batch = e->batch;
	e->ctx.chunk = e->chunk;
	e->ctx.slot = e->slot;
	e->ctx.econtext = e->econtext;
	e->ctx.now = cs_now();
	e->begun = GetCurrentTimestamp();
	e->ctx.catching_up = e->catching_up;
	e->batch_messages = 0;
	cs_preview_begin(e);
	cs_write_begin(e);
	cs_lookups_begin(e);
}

/*
 * What others asked for: the watermark moved by hand.  finish() counts when
 * all that is in the topic has been read and what the content's own watermark
 * closes is closed, so that reasons of closing do not depend on batches.
 */
static bool
obey(CsEngine *e, const CsControl *control)
{
	if (control->advanced != CS_WM_NONE && control->advanced > e->watermark)
		e->watermark = control->advanced;
	return control->finished && !cs_backfill_remains(e) && e->watermark != CS_WM_DONE && cs_positions_at_end(e) &&
		   e->polled_empty && e->batch_messages == 0 && !e->closings_left && e->stored.closed == e->stored.watermark;
}

/* What of the last commit is not shown yet, and will be with the next ones: not what waits for emit_interval. */
static bool
holds_rows(CsEngine *e)
{
	return e->catching_up || e->closings_left || cs_engine_rows_are_due(e);
}

/* Is there anything to write at all? */
static bool
has_work(CsEngine *e, bool finish)
{
	if (e->batch_messages > 0 || e->ends_before || e->backfilled || finish || e->closings_left ||
		e->watermark != e->stored.watermark || cs_engine_rows_are_due(e) || cs_state_is_over_budget(e->state))
		return true;
	for (int i = 0; i < e->npartitions; i++)
	{
		if (cs_positions_changed(e, i))
			return true;
	}
	return false;
}

/* State log, partitions, progress: the last things before COMMIT. */
static void
store(CsEngine *e, CsProgressRow *next)
{
	CsLogPosition position;

	*next = e->stored;
	next->commit_number = e->stored.commit_number + 1;
	CS_FAULT(BEFORE_LOG);
	position = cs_state_log(e->state, e->stream, next->commit_number);
	CS_FAULT(AFTER_LOG);
	next->log_half = position.half;
	next->log_copied = position.copied;
	next->log_copied_xid = position.copied_xid;
	next->next_set_id = position.next_set_id;
	next->watermark = e->watermark;
	next->shown = Max(next->shown, e->previewed_rows);
	if (!e->closings_left)
		next->closed = e->watermark;
	cs_counts_store(e, next);
	cs_backfill_store_all(e);
	for (int i = 0; i < e->npartitions; i++)
	{
		if (cs_positions_changed(e, i))
			cs_partition_store(e->stream, e->partitions[i]);
	}
	cs_progress_store(e->stream->stream_id, next);
}

static void
end_operators(CsEngine *e, bool committed)
{
	for (int i = 0; i < e->nstages; i++)
		e->stages[i].op->ops->end_batch(e->stages[i].op, committed);
}

/* The state's committed form catches up with what COMMIT has made true. */
static void
publish(CsEngine *e, const CsProgressRow *next)
{
	HOLD_INTERRUPTS();
	e->batch_bytes = (int64) MemoryContextMemAllocated(e->batch, true);
	cs_state_publish(e->state);
	end_operators(e, true);
	e->stored = *next;
	cs_preview_committed(e);
	for (int i = 0; i < e->nstages; i++)
		e->stages[i].op->shown = next->shown;
	cs_positions_committed(e);
	cs_counts_committed(e);
	cs_backfill_committed(e);
	e->last_messages = e->batch_messages;
	MemoryContextReset(e->batch);
	RESUME_INTERRUPTS();
	e->behind = false;
	e->source->ops->committed(e->source, e->partitions, e->npartitions);
}

static void
report(CsEngine *e)
{
	CsProgress progress = {0};

	if (e->host->report == NULL)
		return;
	progress.messages = e->batch_messages;
	progress.total = e->total;
	progress.lag = cs_positions_lag(e);
	progress.watermark = e->watermark;
	progress.committed_at = cs_now();
	progress.commit_number = e->stored.commit_number;
	progress.state_bytes = cs_state_bytes(e->state);
	for (int i = 0; i < e->nstages; i++)
		progress.state_entries += cs_state_count(e->state, e->stages[i].op->def->definition_id);
	cs_state_report_memory(e->state, progress.state_entries, e->batch_bytes);
	if (!holds_rows(e))
		e->shown_commit = e->stored.commit_number;
	progress.shown_commit = e->shown_commit;
	e->reported = progress.commit_number;
	e->host->report(&progress);
}

static void
trim_log(CsEngine *e)
{
	Oid	 user;
	int	 sec;
	bool trimmed;

	if (!cs_state_wants_trim(e->state))
		return;
	begin(e, &user, &sec);
	trimmed = cs_state_trim_log(e->state, e->stream);
	finish_transaction(e, user, sec);
	if (trimmed)
	{
		cs_state_trimmed(e->state);
		e->stored.log_copied_xid = InvalidFullTransactionId;
	}
}

/* Everything inside the transaction; true if there is something to commit. */
static bool
run_batch(CsEngine *e, int64 max_messages, int polled, bool *full, CsProgressRow *next)
{
	CsControl	control;
	TimestampTz as_of;
	bool		closes;
	bool		finish;

	cs_control_load(e->stream->stream_id, &control);
	if (!control.exists || control.version != e->version || cs_state_is_broken(e->state))
	{
		e->stale = true;
		return false;
	}
	if (e->stream->brokers == NULL || (!e->assigned && cs_now() >= e->next_refresh))
		cs_positions_refresh(e, FIRST_METADATA_MS);
	cs_backfill_run(e);
	/* What is left to be closed comes first: else more would come to it with each batch than goes. */
	closes = e->closings_left;
	if (e->assigned && !cs_closing_is_midway(e))
		*full = cs_consume(e, closes ? 1 : max_messages, polled);
	*full |= closes && cs_is_far_behind(e); /* it has read next to nothing */
	if (e->stream->brokers != NULL && e->assigned && cs_now() >= e->next_refresh)
		cs_positions_refresh(e, METADATA_MS); /* after reading: a new assignment drops what is queued */
	cs_positions_pass_gaps(e);
	cs_watermark_recompute(e);
	if (!cs_closing_is_midway(e)) /* then nobody has looked whether there is something */
		cs_watermark_idle(e, e->ctx.now);
	cs_watermark_show_idle(e);
	finish = obey(e, &control);
	if (finish)
		e->watermark = CS_WM_DONE;
	as_of = cs_preview_as_of(e);
	if (!has_work(e, finish) && as_of == CS_WM_NONE)
		return false;
	cs_close(e, e->watermark == CS_WM_DONE, as_of);
	CS_FAULT(BEFORE_WRITE);
	cs_write_end(e);
	store(e, next);
	CS_FAULT(BEFORE_COMMIT);
	CS_FAULT_EXPECT_COMMIT();
	return true;
}

/* More to do at once: messages, closings, rows held back while catching up or until now. */
static CsOutcome
outcome_of(CsEngine *e, bool full)
{
	bool was_catching_up = e->catching_up;

	e->has_read |= e->batch_messages > 0;
	if (e->ends_before == NULL) /* else who knows: the next batch will */
		e->catching_up = full || (e->batch_messages > 0 && cs_is_far_behind(e));
	if (full || e->ends_before || e->closings_left || e->previews_left || cs_backfill_remains(e) ||
		cs_engine_rows_are_due(e))
		return CS_BATCH_MORE;
	if (was_catching_up && !e->catching_up)
		return CS_BATCH_MORE;
	return CS_BATCH_DONE;
}

CsOutcome
cs_engine_batch(CsEngine *e, int64 max_messages)
{
	MemoryContext old = MemoryContextSwitchTo(e->context);
	CsProgressRow next;
	Oid			  user;
	int			  sec;
	int			  polled = -1;
	bool		  full = false;
	bool		  commit;
	bool		  gave;
	bool		  polls_outside = e->stream->brokers != NULL;

	begin_batch(e);
	if (e->source->ops->is_outdated(e->source))
		cs_positions_reopen(e);
	if (polls_outside && e->assigned && !cs_closing_is_midway(e))
	{
		int64 room = max_messages > 0 ? Min(max_messages, cs_batch_messages) : cs_batch_messages;

		cs_align_run(e);
		polled = e->source->ops->poll(e->source, e->messages, (int) Min(room, CS_CHUNK_MESSAGES), 0);
		strlcpy(e->problem, e->source->ops->problem(e->source) ? e->source->ops->problem(e->source) : "",
				sizeof(e->problem));
	}
	CS_FAULT(BEFORE_BEGIN);
	begin(e, &user, &sec);
	commit = run_batch(e, max_messages, polled, &full, &next);
	e->behind = commit;
	finish_transaction(e, user, sec);
	if (commit)
	{
		CsOutcome outcome;

		CS_FAULT(AFTER_COMMIT);
		publish(e, &next);
		CS_FAULT(PUBLISHED);
		outcome = outcome_of(e, full);
		(void) cs_state_give_back(e->state);
		report(e);
		trim_log(e);
		MemoryContextSwitchTo(old);
		return outcome;
	}
	cs_state_abort(e->state);
	end_operators(e, false);
	cs_write_abort(e);
	cs_counts_abort(e);
	cs_backfill_abort(e);
	MemoryContextReset(e->batch);
	e->catching_up = false;
	gave = !e->stale && cs_state_give_back(e->state);
	if (gave || e->reported != e->stored.commit_number || (e->shown_commit != e->reported && !holds_rows(e)))
		report(e);
	MemoryContextSwitchTo(old);
	return cs_engine_rows_are_due(e) && !e->stale ? CS_BATCH_MORE : CS_BATCH_IDLE; /* held back until now */
}

/* Midway nothing may come in between; what else there is to close is closed with it. */
static void
finish_closing(CsEngine *e)
{
	if (!cs_closing_is_midway(e))
		return;
	do
	{
		CHECK_FOR_INTERRUPTS();
		cs_close(e, e->watermark == CS_WM_DONE, CS_WM_NONE);
	} while (e->closings_left);
}

/* What this stores is never published: the engine goes, and the next one recovers it. */
void
cs_engine_repair(int32 stream_id, const CsHost *host, CsRepairStep step, void *arg)
{
	CsEngine	 *e = open_engine(stream_id, host, true, CurrentMemoryContext, TO_REPAIR, InvalidOid);
	MemoryContext old = MemoryContextSwitchTo(e->context);
	CsProgressRow next;
	Oid			  user;
	int			  sec;

	e->catching_up = false; /* rows that change are written: of a stream that is stopped nobody would do it after us */
	begin_batch(e);
	begin(e, &user, &sec);
	finish_closing(e);
	cs_backfill_close_all(e);
	step(e, arg);
	cs_close(e, e->watermark == CS_WM_DONE, CS_WM_NONE);
	CS_FAULT(BEFORE_WRITE);
	cs_write_end(e);
	store(e, &next);
	CS_FAULT_EXPECT_COMMIT();
	finish_transaction(e, user, sec);
	MemoryContextSwitchTo(old);
	cs_engine_close(e);
}

/* As above: never published. */
void
cs_engine_examine(int32 stream_id, const CsHost *host, bool discard, CsDamageResult result, void *arg)
{
	CsEngine	 *e = open_engine(stream_id, host, true, CurrentMemoryContext, TO_EXAMINE, InvalidOid);
	MemoryContext old = MemoryContextSwitchTo(e->context);
	CsProgressRow next;
	Oid			  user;
	int			  sec;

	begin_batch(e);
	begin(e, &user, &sec);
	if (cs_examine_run(e, discard, result, arg) > 0 && discard)
	{
		cs_write_end(e);
		store(e, &next);
	}
	finish_transaction(e, user, sec);
	MemoryContextSwitchTo(old);
	cs_engine_close(e);
}

void
cs_engine_recompute(int32 stream_id, const CsHost *host, Oid table, TimestampTz from, TimestampTz to,
					CsRecomputeBegin begin_rows, CsRecomputedRow row, void *arg)
{
	CsEngine	 *e = open_engine(stream_id, host, false, CurrentMemoryContext, TO_READ, table);
	MemoryContext old = MemoryContextSwitchTo(e->context);
	Oid			  user;
	int			  sec;

	begin_batch(e);
	begin(e, &user, &sec);
	cs_recompute_run(e, table, from, to, begin_rows, row, arg);
	finish_transaction(e, user, sec);
	MemoryContextSwitchTo(old);
	cs_engine_close(e);
}

TimestampTz
cs_engine_recompute_border(int32 stream_id, const CsHost *host, Oid table)
{
	CsEngine	 *e = open_engine(stream_id, host, false, CurrentMemoryContext, TO_READ, table);
	MemoryContext old = CurrentMemoryContext;
	TimestampTz	  border;
	Oid			  user;
	int			  sec;

	begin(e, &user, &sec);
	border = cs_recompute_border(e, table);
	finish_transaction(e, user, sec);
	MemoryContextSwitchTo(old);
	cs_engine_close(e);
	return border;
}

void
cs_engine_abort(CsEngine *e)
{
	cs_backfill_leave(e);
	cs_unpoint_slot(e);
	e->econtext->ecxt_scantuple = e->slot;
	cs_state_abort(e->state);
	end_operators(e, false);
	cs_write_abort(e);
	cs_counts_abort(e);
	cs_backfill_abort(e);
	e->is_filling = false;
	e->watermark = e->stored.watermark;
	e->closings_left = e->stored.closed != e->stored.watermark;
	MemoryContextReset(e->chunk);
	MemoryContextReset(e->batch);
	cs_positions_rewind(e);
}
