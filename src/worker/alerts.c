/*
 * worker/alerts.c
 *	  Alerts, evaluated by the stream's worker between its batches.
 *
 * When.  After a commit, as that is when tables have changed, but an alert not
 * more often than once a second, nor for more than a twentieth of the time. If
 * nothing is committed, every ten seconds, because queries may ask the clock
 * ("no events for a minute"), and when hold_for has passed.
 *
 * How.  Each in a transaction of its own, as the stream's owner, reading only,
 * for a second at most.  What has changed is written down in a second one.
 *
 * Errors.  What fails by its own fault is disabled, with the reason; what is
 * the server's fault, or takes too long, the third time in a row: counted in the
 * alert's row, as each watcher is a process of its own.  In no case
 * does the stream notice: no batch is under way, and the error ends here.
 *
 * Of a stream that no worker runs another process evaluates them, see watch.c.
 * So what is written down begins with a lock on the alert's row, and a look
 * whether it still is what it was when the list was loaded.
 *
 * The list is loaded when the engine begins and whenever a change of the
 * catalog says so, by an invalidation of its table: create_alert() and kin
 * send one.
 */
#include "worker/alerts.h"

#include "core/alert.h"
#include "core/clock.h"
#include "core/errors.h"
#include "core/progress.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define DEADLINE_MS 1000
#define AFTER_COMMIT_MS 1000
#define WHEN_SILENT_MS 10000
#define SHARE_OF_TIME 20
#define FAILURES_MAX 3

static MemoryContext alerts_context = NULL; /* of the list */
static List			*alerts = NIL;
static int32		 loaded_stream = 0; /* whose they are; 0: to be loaded */
static Oid			 catalog = InvalidOid;

static void
catalog_changed(Datum arg, Oid relid)
{
	(void) arg;
	if (relid == InvalidOid || relid == catalog)
		loaded_stream = 0;
}

static void
load(const CsStream *stream, const CsHost *host)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(catalog_changed, (Datum) 0);
	registered = true;
	if (alerts_context == NULL)
		alerts_context = AllocSetContextCreate(TopMemoryContext, "clickstream alerts", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(alerts_context);
	alerts = NIL;
	host->begin();
	catalog = cs_own_relation("alert_definition");
	loaded_stream = stream->stream_id; /* before: an invalidation that comes while it loads counts */
	alerts = cs_alerts_load(stream->stream_id, alerts_context);
	host->commit();
}

/* What the query returns, in the current context of the caller, or NULL. */
static char *
evaluate(const CsAlert *alert, const CsStream *stream, const CsHost *host, MemoryContext context)
{
	char *detail;

	host->begin();
	MemoryContextSwitchTo(context);
	enable_timeout_after(STATEMENT_TIMEOUT, DEADLINE_MS);
	detail = cs_alert_evaluate(alert, stream->owner);
	disable_timeout(STATEMENT_TIMEOUT, false);
	host->commit();
	return detail;
}

/* Write down what the query's answer has changed, if anything. */
static void
judge(CsAlert *alert, const CsStream *stream, const CsHost *host, const char *detail, TimestampTz now)
{
	bool begins = detail && alert->event_id == 0 &&
				  (alert->hold_for == 0 || (alert->since != DT_NOBEGIN && now - alert->since >= alert->hold_for));
	bool pending = detail && alert->since == DT_NOBEGIN;

	if (!begins && !pending && (detail || alert->since == DT_NOBEGIN))
		return;
	host->begin();
	if (!cs_alert_lock(alert))
	{
		host->commit();
		loaded_stream = 0;
		return;
	}
	if (pending)
		cs_alert_set_since(alert, now);
	if (begins)
		cs_alert_begin(alert, stream->name, detail, now);
	if (!detail && alert->event_id != 0)
		cs_alert_end(alert, stream->name, now);
	else if (!detail)
		cs_alert_set_since(alert, DT_NOBEGIN);
	host->commit();
}

/* In PG_CATCH: the error, kept in context, and no transaction any more. */
static ErrorData *
take_error(MemoryContext context)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	disable_timeout(STATEMENT_TIMEOUT, false);
	error_context_stack = NULL;
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	RESUME_INTERRUPTS();
	return error;
}

/* Disabled, or tried again. */
static void
note_error(CsAlert *alert, const CsStream *stream, const CsHost *host, const ErrorData *error)
{
	bool late = error->sqlerrcode == ERRCODE_QUERY_CANCELED;
	bool disable = ++alert->failures >= FAILURES_MAX || !cs_error_is_servers(error->sqlerrcode);

	ereport(LOG, (errmsg("alert \"%s\" of stream \"%s\" %s: %s", alert->name, stream->name,
						 disable ? "is disabled" : "has failed", error->message)));
	host->begin();
	cs_alert_note_error(alert, stream->name,
						late ? psprintf("the query takes longer than %d ms", DEADLINE_MS) : error->message,
						unpack_sql_state(error->sqlerrcode), disable, cs_now());
	host->commit();
	if (disable)
		loaded_stream = 0;
}

static void
run_one(CsAlert *alert, const CsStream *stream, const CsHost *host, MemoryContext context)
{
	TimestampTz now = cs_now();
	TimestampTz begun = GetCurrentTimestamp();
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		char *detail = evaluate(alert, stream, host, context);

		judge(alert, stream, host, detail, now);
		if (alert->failures > 0)
		{
			host->begin();
			cs_alert_clear_failures(alert);
			host->commit();
		}
	}
	PG_CATCH();
	{
		error = take_error(context);
	}
	PG_END_TRY();
	if (error)
	{
		/* What fails here is our own doing: the batch after this may find out more. */
		PG_TRY();
		{
			note_error(alert, stream, host, error);
		}
		PG_CATCH();
		{
			EmitErrorReport();
			(void) take_error(context);
			loaded_stream = 0;
		}
		PG_END_TRY();
	}
	alert->checked = now;
	alert->not_before = now + Max(AFTER_COMMIT_MS * INT64CONST(1000), SHARE_OF_TIME * (GetCurrentTimestamp() - begun));
}

/* When it wants to be evaluated. */
static TimestampTz
due_at(const CsAlert *alert)
{
	TimestampTz due = TimestampTzPlusMilliseconds(alert->checked, WHEN_SILENT_MS);

	if (alert->is_stale)
		return alert->not_before;
	if (alert->since != DT_NOBEGIN && alert->event_id == 0)
		due = Min(due, alert->since + alert->hold_for);
	return Max(due, alert->not_before);
}

void
cs_alerts_run(const CsStream *stream, const CsHost *host, bool committed)
{
	MemoryContext context = CurrentMemoryContext;
	ListCell	 *cell;

	if (loaded_stream != stream->stream_id)
		load(stream, host);
	foreach(cell, alerts)
		((CsAlert *) lfirst(cell))->is_stale |= committed;
	foreach(cell, alerts)
	{
		CsAlert *alert = lfirst(cell);

		if (cs_now() < due_at(alert))
			continue;
		CHECK_FOR_INTERRUPTS();
		alert->is_stale = false;
		run_one(alert, stream, host, context);
		if (loaded_stream == 0)
			break; /* the list is out of date: again at once */
	}
	MemoryContextSwitchTo(context);
}

bool
cs_alerts_may_be(void)
{
	return loaded_stream == 0 || alerts != NIL;
}

TimestampTz
cs_alerts_deadline(void)
{
	TimestampTz first = CS_WM_DONE;
	ListCell   *cell;

	if (loaded_stream == 0)
		return cs_now();
	foreach(cell, alerts)
		first = Min(first, due_at(lfirst(cell)));
	return first;
}
