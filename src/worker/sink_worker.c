/*
 * worker/sink_worker.c
 *	  Sends what waits in the outbox of a sink.
 *
 * A process of its own, because Kafka's transactions wait for brokers, and no
 * batch may; it shares its slot, its back-off and its end with the workers of streams
 * (stream_worker.c is the frame).  Batches wake it when they have written.
 *
 * Each round: rows are read, sent in one transaction of Kafka's, and deleted in
 * one of ours.  Between the two commits lies the moment for which the broker
 * keeps the position: whoever begins asks it, and compares it with the outbox.
 *
 *	broker's position			outbox								then
 *	none						nothing was ever sent				from the first row
 *	the one we know				(same token)						from there
 *	further						has that row, with that token		we died between the commits: from there
 *	any							reset_sink() was called				from the first row
 *	anything else				another history						stops, with the reason
 *
 * The last one is a database restored from a backup (the broker is ahead), or another
 * cluster, or a group that the broker has forgotten: sending on would repeat rows or
 * leave some out, without anybody noticing.
 */
#include "worker/sink_worker.h"

#include "core/clock.h"
#include "core/sink.h"
#include "source/kafka_producer.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define ROUND_ROWS 5000
#define ROUND_BYTES (4 * 1024 * 1024)
#define SLICE_MS 200
#define IDLE_MS 5000				/* files and the client's events are looked at again */
#define REMIND_MS (6 * 3600 * 1000) /* a broker forgets the position of a group that is silent for days */

typedef struct Sending
{
	const CsSinkFrame *frame;
	CsSink			  *sink;
	CsProducer		  *producer;
	MemoryContext	   round;  /* reset by each */
	int64			   sent;   /* position of the last row that is, or is being, sent */
	int64			   token;  /* and its token */
	TimestampTz		   told;   /* when the broker was last told of it */
	TimestampTz		   looked; /* when its table was last known to be there */
} Sending;

static CsSink *
load(int32 sink_id, const CsSinkFrame *frame, MemoryContext context)
{
	CsSink *sink;

	frame->host->begin();
	sink = cs_sink_load(sink_id, context);
	frame->host->commit();
	if (sink == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the sink was dropped at this moment")));
	SetConfigOption("application_name", psprintf("clickstream sink: %s", sink->name), PGC_USERSET, PGC_S_SESSION);
	return sink;
}

/* Its table may have been dropped by DROP TABLE: nobody tells us. */
static bool
is_gone(Sending *s)
{
	MemoryContext scratch = AllocSetContextCreate(s->round, "clickstream sink look", ALLOCSET_SMALL_SIZES);
	bool		  gone;

	s->frame->host->begin();
	gone = cs_sink_load(s->sink->sink_id, scratch) == NULL;
	s->frame->host->commit();
	MemoryContextDelete(scratch);
	s->looked = GetCurrentTimestamp();
	return gone;
}

/*
 * Between two waits for a broker.  False: it is to be opened anew, as a secret that the
 * broker did not like may have been mended, or is gone.
 */
static bool
may_go_on(Sending *s)
{
	const char *problem = cs_producer_problem(s->producer);

	s->frame->show(problem);
	s->frame->interrupts();
	if (problem && cs_producer_is_outdated(s->producer))
		return false;
	return !TimestampDifferenceExceeds(s->looked, GetCurrentTimestamp(), IDLE_MS) || !is_gone(s);
}

/* ---- where to begin ---- */

static void
raise_other_history(const Sending *s, const CsSinkPosition *ours, const CsBrokerPosition *broker)
{
	const char *name = s->sink->name;
	const char *hint = "clickstream.reset_sink('%s') begins anew: it sends all rows that the table has, "
					   "clickstream.reset_sink('%s', backfill => false) only those that come.";

	if (!broker->known)
		ereport(
			ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the broker does not know how far sink \"%s\" is", name),
			 errdetail("Rows up to position %lld were sent.  It is another cluster, or the broker has forgotten the "
					   "group \"clickstream-sink-%s\" of a sink that has not run for long.",
					   (long long) ours->sent, s->sink->producer_id),
			 errhint(hint, name, name)));
	if (broker->position >= ours->next)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("topic \"%s\" has rows of sink \"%s\" up to position %lld, the outbox ends at %lld",
							   s->sink->topic, name, (long long) broker->position, (long long) ours->next - 1),
						errdetail("The database was restored from a backup that is older than the topic."),
						errhint(hint, name, name)));
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("topic \"%s\" has other rows of sink \"%s\" than the outbox had", s->sink->topic, name),
					errdetail("The broker stands at position %lld, the outbox at %lld, and they are not of one "
							  "history: the database was restored, or the topic belongs to another cluster.",
							  (long long) broker->position, (long long) ours->sent),
					errhint(hint, name, name)));
}

/* Between begin and commit. */
static void
agree(Sending *s, const CsBrokerPosition *broker)
{
	CsSinkPosition ours;
	int64		   token;

	cs_sink_position(s->sink->sink_id, &ours);
	s->sent = ours.sent;
	s->token = ours.token;
	if (!s->sink->transactional)
		return;
	if (broker->known && broker->position == ours.sent && broker->token == ours.token)
		return;
	if (broker->known && broker->position > ours.sent && cs_outbox_token(s->sink->sink_id, broker->position, &token) &&
		token == broker->token)
	{
		cs_outbox_sent(s->sink->sink_id, broker->position, token, cs_now());
		s->sent = broker->position;
		s->token = token;
		return;
	}
	if (ours.token == 0 && (ours.sent > 0 || !broker->known)) /* reset, or new */
		return;
	raise_other_history(s, &ours, broker);
}

/* False: open it anew; so those that follow. */
static bool
find_begin(Sending *s)
{
	CsBrokerPosition broker;

	pgstat_report_activity(STATE_RUNNING, "asking the broker where the topic stands");
	while (!cs_producer_begin(s->producer, SLICE_MS))
		if (!may_go_on(s))
			return false;
	while (!cs_producer_position(s->producer, &broker, SLICE_MS))
		if (!may_go_on(s))
			return false;
	s->frame->host->begin();
	agree(s, &broker);
	s->frame->host->commit();
	s->frame->show(NULL);
	return true;
}

/* ---- rounds ---- */

static bool
send_all(Sending *s, const CsOutboxRow *rows, int n)
{
	CsSending outcome;

	pgstat_report_activity(STATE_RUNNING, "sending rows");
	while ((outcome = cs_producer_send(s->producer, rows, n, s->sent, s->token, SLICE_MS)) != CS_SENT)
	{
		if (!may_go_on(s))
			return false;
		if (outcome == CS_SEND_ABORTED)
			s->frame->wait(SLICE_MS);
	}
	s->told = GetCurrentTimestamp();
	s->frame->show(NULL);
	return true;
}

static bool
send_rows(Sending *s, const CsOutboxRow *rows, int n)
{
	s->sent = rows[n - 1].position;
	s->token = rows[n - 1].token;
	if (!send_all(s, rows, n))
		return false;
	s->frame->host->begin();
	cs_outbox_sent(s->sink->sink_id, s->sent, s->token, cs_now());
	s->frame->host->commit();
	s->frame->went_well();
	return true;
}

/* Also at the beginning, as it may have been stopped for long.  After reset_sink() there is nothing to remind it of. */
static bool
remind_broker(Sending *s)
{
	if (!s->sink->transactional || s->token == 0 ||
		!TimestampDifferenceExceeds(s->told, GetCurrentTimestamp(), REMIND_MS))
		return true;
	return send_all(s, NULL, 0);
}

/* Until nothing waits. */
static bool
run_rounds(Sending *s)
{
	for (;;)
	{
		CsOutboxRow *rows;
		int			 n;

		s->frame->interrupts();
		MemoryContextReset(s->round);
		s->frame->host->begin();
		MemoryContextSwitchTo(s->round);
		rows = cs_outbox_read(s->sink->sink_id, s->sent, ROUND_ROWS, ROUND_BYTES, &n);
		s->frame->host->commit();
		MemoryContextSwitchTo(s->round);
		if (n == 0)
			return true;
		if (!send_rows(s, rows, n))
			return false;
	}
}

void
cs_sink_run(int32 sink_id, const CsSinkFrame *frame, MemoryContext context)
{
	Sending s = {.frame = frame, .looked = GetCurrentTimestamp()};

	s.sink = load(sink_id, frame, context);
	s.round = AllocSetContextCreate(context, "clickstream sink round", ALLOCSET_DEFAULT_SIZES);
	s.producer = cs_producer_open(s.sink, context);
	if (!find_begin(&s))
		return;
	while (run_rounds(&s))
	{
		cs_producer_serve(s.producer);
		if (cs_producer_is_outdated(s.producer) || is_gone(&s) || !remind_broker(&s))
			return;
		pgstat_report_activity(STATE_IDLE, "waiting for rows");
		frame->wait(IDLE_MS);
	}
}
