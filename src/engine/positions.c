/*
 * engine/positions.c
 *	  Partitions of a stream: which there are, where reading begins, what is
 *	  committed of them.
 *
 * The engine works on its own structs (e->partitions); e->committed holds
 * them as of the last commit, so that an aborted batch can go back.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/settings.h"
#include "engine/feed.h"
#include "engine/internal.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static void
keep_committed(CsEngine *e)
{
	for (int i = 0; i < e->npartitions; i++)
		e->committed[i] = *e->partitions[i];
}

static void
add_partition(CsEngine *e, CsPartition *p)
{
	MemoryContext old = MemoryContextSwitchTo(e->context);
	int			  n = e->npartitions + 1;

	e->partitions = e->partitions ? repalloc(e->partitions, n * sizeof(CsPartition *)) : palloc(sizeof(CsPartition *));
	e->committed = e->committed ? repalloc(e->committed, n * sizeof(CsPartition)) : palloc(sizeof(CsPartition));
	e->partitions[e->npartitions] = p;
	e->committed[e->npartitions] = *p;
	e->npartitions = n;
	MemoryContextSwitchTo(old);
}

/* A partition whose topic is gone is silent and at its end; nothing else is known of it. */
void
cs_positions_mark_gone(CsEngine *e, int i, bool is_gone)
{
	CsPartition *p = e->partitions[i];

	p->is_gone = e->committed[i].is_gone = is_gone;
	p->at_end = is_gone;
	p->paused = false;
	if (is_gone)
		p->end_offset = p->next_offset;
}

/* In a transaction. */
void
cs_positions_load(CsEngine *e)
{
	ListCell *lc;

	foreach(lc, cs_partitions_load(e->stream, e->context))
	{
		cs_counts_arrange(e, lfirst(lc));
		add_partition(e, lfirst(lc));
	}
	cs_align_forget(e); /* who was paused when it was stored is not now */
	for (int i = 0; e->stream->pattern && i < e->npartitions; i++)
		cs_positions_mark_gone(e, i, e->stream->topic_is_gone[e->partitions[i]->topic]);
	e->never_ran = e->npartitions == 0;
}

static void
note_problem(CsEngine *e)
{
	const char *problem = e->source->ops->problem(e->source);

	strlcpy(e->problem, problem ? problem : "", sizeof(e->problem));
}

static CsPartition *
known(CsEngine *e, const CsPartition *found)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		if (e->partitions[i]->topic == found->topic && e->partitions[i]->id == found->id)
			return e->partitions[i];
	}
	return NULL;
}

/* What reading a partition found last; false if the broker did not say. */
static bool
take_partition(CsEngine *e, const CsPartition *found, int timeout_ms)
{
	CsPartition *p = MemoryContextAllocZero(e->context, sizeof(CsPartition));
	bool		 is_first = e->never_ran && (e->stream->pattern == NULL || e->stream->topic_is_first[found->topic]);

	p->topic = found->topic;
	p->id = found->id;
	p->end_offset = found->end_offset;
	if (!e->source->ops->start_offset(e->source, p, is_first, timeout_ms))
	{
		pfree(p);
		return false;
	}
	p->stored_offset = p->next_offset;
	p->last_offset = p->last_end = -1;
	p->is_new = true;
	p->max_time = p->last_event_time = CS_WM_NONE;
	p->last_spoke = p->moved_at = cs_now();
	cs_counts_arrange(e, p);
	add_partition(e, p);
	return true;
}

static void
assign(CsEngine *e)
{
	CsPartition **there = MemoryContextAlloc(e->context, Max(e->npartitions, 1) * sizeof(CsPartition *));
	int			  n = 0;

	cs_align_forget(e);
	for (int i = 0; i < e->npartitions; i++)
	{
		if (!e->partitions[i]->is_gone)
			there[n++] = e->partitions[i];
	}
	e->source->ops->assign(e->source, there, n);
	pfree(there);
}

/*
 * Look which partitions exist, and assign if there are new ones; true if so.
 * Waits at most about timeout_ms for the broker.
 */
bool
cs_positions_refresh(CsEngine *e, int timeout_ms)
{
	int			 n;
	CsPartition *found;
	bool		 added = false;
	int			 before = e->npartitions;

	e->source->ops->remember(e->source, e->partitions, e->npartitions);
	found = e->source->ops->list(e->source, &n, timeout_ms);
	e->next_refresh = cs_now() + (int64) cs_metadata_refresh_interval * 1000;
	note_problem(e);
	if (found == NULL)
	{
		/* Ask again soon: nothing can be read before. */
		if (!e->assigned)
			e->next_refresh = cs_now() + USECS_PER_SEC;
		return false;
	}
	for (int i = 0; i < n; i++)
	{
		if (known(e, &found[i]))
			continue;
		if (take_partition(e, &found[i], timeout_ms))
			added = true;
		else
		{
			/* All or none of a stream's first partitions: where it starts is one decision. */
			note_problem(e);
			e->next_refresh = cs_now() + USECS_PER_SEC;
			if (e->never_ran)
			{
				e->npartitions = before;
				return false;
			}
		}
	}
	if (cs_topics_take_news(e) || added || !e->assigned)
		assign(e);
	e->assigned = true;
	return added;
}

/* Back to what is committed, and read again from there. */
void
cs_positions_rewind(CsEngine *e)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		int64		end_offset = e->partitions[i]->end_offset;
		TimestampTz spoke = e->partitions[i]->last_spoke;

		*e->partitions[i] = e->committed[i];
		e->partitions[i]->end_offset = end_offset;
		e->partitions[i]->last_spoke = spoke;
		e->partitions[i]->at_end = e->partitions[i]->is_gone;
	}
	if (e->assigned)
		assign(e);
}

/*
 * What was delivered and not consumed shall come again, in a batch of its own.
 * Until then nobody is at the end: offsets that we gave back are no gap.
 */
void
cs_positions_give_back(CsEngine *e)
{
	for (int i = 0; i < e->npartitions; i++)
		e->partitions[i]->ahead = 0;
	assign(e);
}

/*
 * It cannot be opened.  If the one we have works, that is all that is said:
 * what changed is tried again when it changes again.  Outside of a transaction.
 */
static void
keep_source(CsEngine *e, MemoryContext caller, MemoryContext failed)
{
	ErrorData *error;

	MemoryContextSwitchTo(caller);
	error = CopyErrorData();
	MemoryContextDelete(failed);
	if (!e->source->ops->keep(e->source))
		PG_RE_THROW();
	FlushErrorState();
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("a changed file of stream \"%s\" is not used: %s", e->stream->name, error->message),
					  errdetail("The connection made with the files as they were is kept.")));
	FreeErrorData(error);
}

/*
 * Another source in the place of one that is outdated, reading from where we
 * are.  Between batches.  If it cannot be opened the old one stays.
 */
void
cs_positions_reopen(CsEngine *e)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(e->context, "clickstream source", ALLOCSET_DEFAULT_SIZES);
	CsSource *volatile source = NULL;

	PG_TRY();
	{
		source = cs_feed_source(e, context);
	}
	PG_CATCH();
	{
		keep_source(e, caller, context);
	}
	PG_END_TRY();
	if (source == NULL)
		return;
	MemoryContextDelete(e->source_context);
	e->source = source;
	e->source_context = context;
	if (e->assigned)
		assign(e);
	ereport(LOG, (errmsg("stream \"%s\" connects anew: a file that its options name has changed", e->stream->name)));
}

/* A partition may end in offsets without a message (marks of transactions, compaction): nobody shall wait for those. */
void
cs_positions_pass_gaps(CsEngine *e)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];

		if (!p->at_end || p->end_offset <= p->next_offset)
			continue;
		p->ledger[CS_CLASS_SKIPPED] += p->end_offset - p->next_offset;
		p->next_offset = p->end_offset;
	}
}

bool
cs_positions_changed(CsEngine *e, int i)
{
	CsPartition *p = e->partitions[i];

	return p->is_new || p->next_offset != p->stored_offset || p->shown_idle != e->committed[i].shown_idle ||
		   p->paused != e->committed[i].paused || p->counts_changed;
}

void
cs_positions_committed(CsEngine *e)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		e->partitions[i]->stored_offset = e->partitions[i]->next_offset;
		e->partitions[i]->is_new = false;
	}
	if (e->npartitions > 0) /* a commit without them, as of advance_watermark(), has decided nothing */
		e->never_ran = false;
	keep_committed(e);
}

/* Messages not yet consumed, as far as the source knows; -1 unknown. */
int64
cs_positions_lag(CsEngine *e)
{
	int64 lag = 0;

	if (e->npartitions == 0)
		return -1;
	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];

		if (p->end_offset < 0)
			return -1;
		if (!p->at_end)
			lag += Max(p->end_offset - p->next_offset, 0);
	}
	return lag;
}

bool
cs_positions_at_end(CsEngine *e)
{
	if (!e->assigned)
		return false;
	for (int i = 0; i < e->npartitions; i++)
	{
		if (!e->partitions[i]->at_end)
			return false;
	}
	return true;
}
