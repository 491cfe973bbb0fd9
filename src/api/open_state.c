/*
 * api/open_state.c
 *	  Reading what is open of one definition.
 *
 * What is open is what was open at the newest commit that the query's snapshot
 * sees, so what is open and the result table agree within one query.  While a
 * worker runs the stream it comes out of shared memory, each entry as it is
 * now; otherwise, and for old snapshots, the state log is folded in the calling
 * backend (state/shared.h).  It is read by parts of the keys, so that a million
 * of them need not lie in memory at once.  With each row goes the number of the commit that
 * its entry's content is of, of windows that which was the newest.  Reads only; takes AccessShareLock on the log's halves.
 *
 * Rows are shown to who may SELECT the result table or is a member of the
 * stream's owner; expressions over aggregates are run as the owner.
 */
#include "postgres.h"

#include "api/open_state.h"

#include "catalog/pg_type.h"
#include "core/backfill.h"
#include "core/ledger.h"
#include "core/topics.h"
#include "miscadmin.h"
#include "state/shared.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define ENTRY_ABOUT 512 /* bytes of an entry in a reader's memory, with what finds it */

static void
require_select(Oid table, const CsStream *stream)
{
	if (pg_class_aclcheck(table, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		!has_privs_of_role(GetUserId(), stream->owner))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(table));
}

static bool
is_one_of(CsKind kind, const CsKind *kinds)
{
	for (; *kinds != 0; kinds++)
		if (*kinds == kind)
			return true;
	return false;
}

void
cs_open_begin(CsOpenReader *reader, FunctionCallInfo fcinfo, Oid table, const CsKind *kinds, const char *things,
			  const char *hint)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "clickstream open state", ALLOCSET_DEFAULT_SIZES);

	memset(reader, 0, sizeof(*reader));
	reader->context = context;
	reader->part_context = AllocSetContextCreate(context, "clickstream open part", ALLOCSET_DEFAULT_SIZES);
	reader->row_context = AllocSetContextCreate(context, "clickstream open row", ALLOCSET_DEFAULT_SIZES);
	reader->def = cs_definition_load_by_table(table, context);
	reader->stream = cs_stream_load_by_id(reader->def->stream_id, context);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	reader->result = (ReturnSetInfo *) fcinfo->resultinfo;
	require_select(table, reader->stream);
	if (!is_one_of(reader->def->kind, kinds))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" holds no %s", get_rel_name(table), things),
						errhint("%s", hint)));
	/* His functions see his identity, so they must not see the caller's search_path. */
	cs_identity_enter(&reader->owner, reader->stream->owner, true);
	SetUserIdAndSecContext(reader->stream->owner, reader->owner.sec_context | SECURITY_RESTRICTED_OPERATION);
	reader->op = cs_operator_ops(reader->def->kind)->create(reader->stream, reader->def, context);
}

/* ---- where the state comes from ---- */

/* Where the definition's watermark stands: that of what is filled is of its history. */
static TimestampTz
closed_until(const CsOpenReader *reader, const CsProgressRow *progress)
{
	int			   n;
	CsBackfillRow *rows = cs_backfills_load(reader->stream->stream_id, &n);

	for (int i = 0; i < n; i++)
	{
		if (rows[i].definition_id == reader->def->definition_id && reader->def->kind != CS_KIND_ROLLUP)
			return rows[i].watermark;
	}
	return progress->closed;
}

/* Entries of the definition, as of the commit that is read. */
static int64
count_entries(const CsOpenReader *reader, const CsProgressRow *progress)
{
	for (int i = 0; i < progress->nefforts; i++)
		if (progress->efforts[i].definition_id == reader->def->definition_id)
			return progress->efforts[i].entries;
	return 0;
}

/* What is open of a part of the keys. */
static void
read_part(CsOpenReader *reader, const CsProgressRow *progress, CsPart part)
{
	CsLogPosition position;

	reader->state = cs_state_create(reader->part_context, reader->part_context);
	cs_state_register(reader->state, reader->def->definition_id, reader->def->name, reader->op->ops->serialize,
					  reader->op);
	cs_state_take_part(reader->state, part);
	position.half = progress->log_half;
	position.copied = progress->log_copied;
	position.copied_xid = progress->log_copied_xid;
	position.next_set_id = progress->next_set_id;
	cs_state_read(reader->state, reader->stream, &position, progress->commit_number, GetActiveSnapshot());
}

static void
show_entry(CsEntry *entry, void *arg)
{
	CsOpenReader *reader = arg;
	MemoryContext old = MemoryContextSwitchTo(reader->row_context);

	reader->commit_number = entry->changed;
	reader->op->ops->show(reader->op, reader->state, entry, reader->row, reader->arg);
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->row_context);
	CHECK_FOR_INTERRUPTS();
}

static bool
show_part(CsOpenReader *reader)
{
	const CsOperatorOps *ops = reader->op->ops;

	if (ops->show_all)
		ops->show_all(reader->op, reader->state, reader->row_context, reader->row, reader->arg);
	else
		cs_state_walk(reader->state, reader->def->definition_id, show_entry, reader);
	return true;
}

static bool
survey_part(CsOpenReader *reader)
{
	return reader->op->ops->survey(reader->op, reader->state);
}

/* Each part of the keys that fits the memory of a hash table, about; all are as of one commit.  Until one says false. */
static void
each_part(CsOpenReader *reader, const CsProgressRow *progress, int64 n, int64 wanted, bool (*take)(CsOpenReader *))
{
	CsPart part = cs_part_from(0, n, wanted);
	bool   more = true;

	while (more)
	{
		read_part(reader, progress, part);
		more = take(reader) && part.last != PG_UINT64_MAX;
		MemoryContextReset(reader->part_context);
		if (more)
			part = cs_part_from(part.last + 1, n, wanted);
	}
}

static void
show_parts(CsOpenReader *reader, const CsProgressRow *progress)
{
	int64 wanted = (int64) (get_hash_memory_limit() / ENTRY_ABOUT);
	int64 n = count_entries(reader, progress);

	if (reader->op->ops->survey && cs_part_from(0, n, wanted).last != PG_UINT64_MAX)
		each_part(reader, progress, n, wanted, survey_part);
	each_part(reader, progress, n, wanted, show_part);
}

static void
begin_reading(CsOpenReader *reader, CsProgressRow *progress)
{
	cs_progress_load(reader->stream->stream_id, progress);
	cs_state_check_format(reader->stream, progress->state_format);
	reader->commit_number = progress->commit_number;
	reader->op->closed = closed_until(reader, progress);
	reader->op->shown = progress->shown;
}

void
cs_open_read(CsOpenReader *reader)
{
	CsProgressRow progress;

	begin_reading(reader, &progress);
	read_part(reader, &progress, CS_PART_WHOLE);
}

void
cs_open_rows(CsOpenReader *reader, CsShowRow row, void *arg)
{
	CsTopicRanks  before;
	CsProgressRow progress;

	reader->row = row;
	reader->arg = arg;
	begin_reading(reader, &progress);
	before = cs_topics_use(reader->stream);
	PG_TRY();
	{
		show_parts(reader, &progress);
	}
	PG_FINALLY();
	{
		cs_topics_use_again(before);
	}
	PG_END_TRY();
}

void
cs_open_end(CsOpenReader *reader)
{
	cs_identity_leave(&reader->owner);
	MemoryContextDelete(reader->context);
}

/* ---- rows ---- */

void
cs_open_put(CsOpenReader *reader, Datum *values, bool *isnull)
{
	tuplestore_putvalues(reader->result->setResult, reader->result->setDesc, values, isnull);
}

TupleDesc
cs_open_columns(const CsOpenReader *reader, int first, int n, char **names)
{
	TupleDesc desc = CreateTemplateTupleDesc(n);

	for (int i = 0; i < n; i++)
	{
		const CsColumn *column = &reader->op->columns[first + i];

		TupleDescInitEntry(desc, (AttrNumber) (i + 1), names ? names[i] : column->name, column->type, column->typmod,
						   0);
	}
	return BlessTupleDesc(desc);
}

Datum
cs_open_jsonb(TupleDesc columns, Datum *values, bool *isnull)
{
	HeapTuple tuple;
	Datum	  json;

	if (columns->natts == 0)
		return DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	tuple = heap_form_tuple(columns, values, isnull);
	json = DirectFunctionCall1(row_to_json, HeapTupleGetDatum(tuple));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json)));
}

Datum
cs_open_text(const CsColumn *column, Datum value)
{
	Oid	 output;
	bool is_varlena;

	if (column->type == TEXTOID)
		return value;
	getTypeOutputInfo(column->type, &output, &is_varlena);
	return CStringGetTextDatum(OidOutputFunctionCall(output, value));
}
