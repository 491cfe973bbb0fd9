/*
 * engine/topics.c
 *	  Topics of a pattern: those that were found, those that are gone.
 *
 * A topic that was found gets its number in the catalog; that changes what
 * cs_control_load() calls the stream's version, so the next batch has the engine
 * opened again, with the new topic.
 *
 * A topic that is gone, and was read to its end, stays among the partitions:
 * silent, at its end, assigned to nobody.  One of which something is missing
 * stops the stream: whether to go on without it is for a human to say.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/topics.h"
#include "engine/internal.h"

/* Is all that was in it read?  Raises if not, as soon as that costs no message that was read. */
static bool
is_read_to_end(CsEngine *e, const CsPartition *p)
{
	const char *topic = e->stream->topics[p->topic];
	int64		end = Max(p->end_offset, p->last_end);

	/* What this batch has read is read again if it fails: then the topic must be looked for yet. */
	if (p->stored_offset >= end)
		return true;
	if (e->batch_messages > 0 || p->next_offset >= end)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("topic \"%s\", partition %d, is no longer on the broker: it was read up to offset %lld of %lld, "
					"%lld offsets are missing",
					topic, p->id, (long long) p->next_offset, (long long) end, (long long) (end - p->next_offset)),
			 errhint("clickstream.seek('%s', %d, %lld, '%s') goes on without them.", e->stream->name, p->id,
					 (long long) end, topic)));
}

/* May the topic be let go? */
static bool
may_go(CsEngine *e, int topic)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		if (e->partitions[i]->topic == topic && !is_read_to_end(e, e->partitions[i]))
			return false;
	}
	return true;
}

static void
mark(CsEngine *e, int topic, bool is_gone)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		if (e->partitions[i]->topic == topic)
			cs_positions_mark_gone(e, i, is_gone);
	}
}

/* After the source has listed what there is; true if somebody has gone or come back. */
bool
cs_topics_take_news(CsEngine *e)
{
	const CsTopicNews *news = e->source->ops->news(e->source);
	bool			   changed = false;

	if (e->stream->pattern == NULL)
		return false;
	/* A first look that finds nothing is one all the same: what comes later is new. */
	if (news->nfound > 0 || e->stream->ntopics == 0)
		cs_topics_add(e->stream, news->found, news->nfound);
	for (int i = 0; i < news->nfound; i++)
		ereport(LOG, (errmsg("stream \"%s\" reads topic \"%s\" from now on", e->stream->name, news->found[i])));
	for (int i = 0; i < e->stream->ntopics; i++)
	{
		if (news->is_gone[i] == e->stream->topic_is_gone[i])
			continue;
		if (news->is_gone[i] && !may_go(e, i))
		{
			e->next_refresh = cs_now(); /* when this batch is committed */
			continue;
		}
		cs_topic_note(e->stream, i, news->is_gone[i]);
		e->stream->topic_is_gone[i] = news->is_gone[i];
		mark(e, i, news->is_gone[i]);
		ereport(LOG, (errmsg(news->is_gone[i] ? "topic \"%s\" of stream \"%s\" is gone, and was read to its end"
											  : "topic \"%s\" of stream \"%s\" is there again",
							 e->stream->topics[i], e->stream->name)));
		changed = true;
	}
	return changed;
}
