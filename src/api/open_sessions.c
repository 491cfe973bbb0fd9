/*
 * api/open_sessions.c
 *	  open_sessions(t): the sessions that are open now, with their measures.
 *
 * Folds the stream's state log under the query's snapshot, in the calling
 * backend: what it shows is the state of the newest commit that the snapshot
 * sees, and that commit's number goes with each row.  Reads only; takes
 * AccessShareLock on the log's halves.
 *
 * Rows are shown to who may SELECT the result table or is a member of the
 * stream's owner; expressions over aggregates are run as the owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "core/ledger.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "operator/operator.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(clickstream_open_sessions);

/* Columns of a session's row before and after its measures; see operator/session.c. */
#define LEADING 4
#define TRAILING 3

typedef struct ShowContext
{
	ReturnSetInfo *result;
	CsOperator	  *op;
	CsState		  *state;
	int64		   commit_number;
	TupleDesc	   measures;	/* as a record, for its json */
	int			   event_count; /* the measure of that name, or -1 */
	MemoryContext  row_context;
} ShowContext;

static void
require_select(Oid table, const CsStream *stream)
{
	if (pg_class_aclcheck(table, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		!has_privs_of_role(GetUserId(), stream->owner))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(table));
}

static Datum
measures_jsonb(ShowContext *show, Datum *values, bool *isnull)
{
	HeapTuple tuple = heap_form_tuple(show->measures, values, isnull);
	Datum	  json = DirectFunctionCall1(row_to_json, HeapTupleGetDatum(tuple));

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json)));
}

static Datum
key_text(const CsColumn *column, Datum value)
{
	Oid	 output;
	bool is_varlena;

	if (column->type == TEXTOID)
		return value;
	getTypeOutputInfo(column->type, &output, &is_varlena);
	return CStringGetTextDatum(OidOutputFunctionCall(output, value));
}

static void
show_row(void *arg, Datum *values, bool *isnull)
{
	ShowContext *show = arg;
	Datum		 out[8];
	bool		 null[8] = {false};

	out[0] = values[0];
	out[1] = key_text(&show->op->columns[1], values[1]);
	out[2] = values[2];
	out[3] = values[3];
	out[4] = TimestampTzGetDatum(DatumGetTimestampTz(values[3]) - show->op->def->gap);
	null[5] = show->event_count < 0 || isnull[show->event_count];
	out[5] = null[5] ? (Datum) 0 : values[show->event_count];
	out[6] = measures_jsonb(show, values + LEADING, isnull + LEADING);
	out[7] = Int64GetDatum(show->commit_number);
	tuplestore_putvalues(show->result->setResult, show->result->setDesc, out, null);
}

static void
show_entry(CsEntry *entry, void *arg)
{
	ShowContext	 *show = arg;
	MemoryContext old = MemoryContextSwitchTo(show->row_context);

	show->op->ops->show(show->op, show->state, entry, show_row, show);
	MemoryContextSwitchTo(old);
	MemoryContextReset(show->row_context);
	CHECK_FOR_INTERRUPTS();
}

static void
describe_measures(ShowContext *show)
{
	int n = show->op->ncolumns - LEADING - TRAILING;

	show->measures = CreateTemplateTupleDesc(n);
	show->event_count = -1;
	for (int i = 0; i < n; i++)
	{
		CsColumn *column = &show->op->columns[LEADING + i];

		TupleDescInitEntry(show->measures, (AttrNumber) (i + 1), column->name, column->type, column->typmod, 0);
		if (strcmp(column->name, "event_count") == 0 && column->type == INT8OID)
			show->event_count = LEADING + i;
	}
	BlessTupleDesc(show->measures);
}

static void
fold(ShowContext *show, const CsStream *stream)
{
	int32		  id = show->op->def->definition_id;
	CsProgressRow progress;
	CsLogPosition position;

	cs_state_register(show->state, id, show->op->ops->serialize, show->op);
	cs_progress_load(stream->stream_id, &progress);
	position.half = progress.log_half;
	position.copied = progress.log_copied;
	position.copied_xid = progress.log_copied_xid;
	position.next_set_id = progress.next_set_id;
	show->commit_number = progress.commit_number;
	show->op->closed = progress.watermark;
	cs_state_recover(show->state, stream, &position, GetActiveSnapshot());
	cs_state_walk(show->state, id, show_entry, show);
}

Datum
clickstream_open_sessions(PG_FUNCTION_ARGS)
{
	Oid			  table = PG_GETARG_OID(0);
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "clickstream open_sessions", ALLOCSET_DEFAULT_SIZES);
	CsDefinition *def = cs_definition_load_by_table(table, context);
	CsStream	 *stream = cs_stream_load_by_id(def->stream_id, context);
	ShowContext	  show = {0};
	CsIdentity	  owner;

	InitMaterializedSRF(fcinfo, 0);
	require_select(table, stream);
	if (def->kind != CS_KIND_SESSION)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" holds no sessions", get_rel_name(table)),
						errhint("Name a table made by clickstream.create_session().")));
	/* His functions see his identity, so they must not see the caller's search_path. */
	cs_identity_enter(&owner, stream->owner, true);
	SetUserIdAndSecContext(stream->owner, owner.sec_context | SECURITY_RESTRICTED_OPERATION);
	show.result = (ReturnSetInfo *) fcinfo->resultinfo;
	show.op = cs_operator_ops(def->kind)->create(stream, def, context);
	show.row_context = AllocSetContextCreate(context, "clickstream open session", ALLOCSET_DEFAULT_SIZES);
	show.state = cs_state_create(context, show.row_context);
	describe_measures(&show);
	fold(&show, stream);
	cs_identity_leave(&owner);
	MemoryContextDelete(context);
	return (Datum) 0;
}
