/*
 * engine/counts.c
 *	  What each definition made of each partition's messages.
 *
 * The ledger has one class for each offset; an event may yet be used by one
 * definition, late for the second and an error in the third.  So each
 * partition also counts by definition, and remembers the offset from which on
 * a definition counts: it may have been made while the stream ran.  The
 * numbers lie in the rows that each commit writes anyway (partition and
 * progress), so they cost no row of their own and are in its transaction.
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "engine/internal.h"
#include "utils/memutils.h"

/* Definitions that count: the stages, then the event log. */
static int
number_of_counts(const CsEngine *e)
{
	return e->nstages + (e->event_log_id != 0);
}

static int32
counting_definition(const CsEngine *e, int i)
{
	return i < e->nstages ? e->stages[i].op->def->definition_id : e->event_log_id;
}

/* What was stored of a definition, or a fresh count from the next offset on. */
static CsCount
stored_count(const CsPartition *p, int32 definition_id)
{
	CsCount fresh = {.definition_id = definition_id, .since = p->next_offset};

	for (int i = 0; i < p->ncounts; i++)
	{
		if (p->counts[i].definition_id == definition_id)
			return p->counts[i];
	}
	return fresh;
}

/* Bring a partition's counts, as stored or none, into the order of the stages. */
void
cs_counts_arrange(CsEngine *e, CsPartition *p)
{
	int		 n = number_of_counts(e);
	CsCount *counts = MemoryContextAlloc(e->context, Max(n, 1) * sizeof(CsCount));

	for (int i = 0; i < n; i++)
		counts[i] = stored_count(p, counting_definition(e, i));
	p->counts = counts;
	p->ncounts = n;
	p->committed_counts = MemoryContextAlloc(e->context, Max(n, 1) * sizeof(CsCount));
	memcpy(p->committed_counts, counts, n * sizeof(CsCount));
}

/* Take over what was stored of the stages themselves. */
void
cs_counts_load(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		CsStage *stage = &e->stages[i];

		stage->effort.definition_id = stage->op->def->definition_id;
		stage->effort.open_from = CS_WM_NONE;
		for (int j = 0; j < e->stored.nefforts; j++)
		{
			if (e->stored.efforts[j].definition_id == stage->effort.definition_id)
				stage->effort = e->stored.efforts[j];
		}
		stage->committed_effort = stage->effort;
		if (stage->op->measure_errors)
			*stage->op->measure_errors = stage->effort.errors;
	}
}

/* What goes into the progress row of this commit, in batch memory. */
void
cs_counts_store(CsEngine *e, CsProgressRow *row)
{
	row->nefforts = e->nstages;
	row->efforts = MemoryContextAlloc(e->batch, Max(e->nstages, 1) * sizeof(CsEffort));
	for (int i = 0; i < e->nstages; i++)
	{
		CsStage *stage = &e->stages[i];

		if (stage->op->measure_errors)
			stage->effort.errors = *stage->op->measure_errors;
		stage->effort.entries = cs_state_count(e->state, stage->op->def->definition_id);
		row->efforts[i] = stage->effort;
	}
}

void
cs_counts_committed(CsEngine *e)
{
	e->stored.efforts = NULL; /* it was the batch's */
	e->stored.nefforts = 0;
	for (int i = 0; i < e->nstages; i++)
		e->stages[i].committed_effort = e->stages[i].effort;
	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];

		memcpy(p->committed_counts, p->counts, p->ncounts * sizeof(CsCount));
		p->counts_changed = false;
	}
}

void
cs_counts_abort(CsEngine *e)
{
	for (int i = 0; i < e->nstages; i++)
	{
		CsStage *stage = &e->stages[i];

		stage->effort = stage->committed_effort;
		if (stage->op->measure_errors)
			*stage->op->measure_errors = stage->effort.errors;
	}
	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];

		memcpy(p->counts, p->committed_counts, p->ncounts * sizeof(CsCount));
		p->counts_changed = false;
	}
}

/* ---- counting ---- */

CsCount *
cs_count_of(CsEngine *e, CsPartition *p, int32 definition_id)
{
	for (int i = 0; i < p->ncounts; i++)
	{
		if (p->counts[i].definition_id == definition_id)
		{
			p->counts_changed = true;
			return &p->counts[i];
		}
	}
	elog(ERROR, "definition %d of stream %d is not counted", definition_id, e->stream->stream_id);
}

/*
 * A definition's dead letter.  A rollup's names the message that its source
 * row began with: the struct is not the engine's own there.
 */
void
cs_count_dead(CsEngine *e, const CsPartition *where, int32 definition_id)
{
	for (int i = 0; i < e->npartitions; i++)
	{
		CsPartition *p = e->partitions[i];

		if (p->topic == where->topic && p->id == where->id)
			cs_count_of(e, p, definition_id)->dead++;
	}
}

void
cs_count_no_key(CsEngine *e, const CsEvent *event, int stage)
{
	(void) e;
	event->message->partition->counts[stage].no_key++;
}

/*
 * Before a definition is applied: put aside what the others made of the
 * events, so that what it makes of them can be seen.
 */
void
cs_counts_begin(CsEngine *e)
{
	for (int i = 0; i < e->nevents; i++)
	{
		e->classes[i] = e->events[i].class;
		if (!e->events[i].skip)
			e->events[i].class = CS_CLASS_FILTERED;
	}
}

/* After it: count, and join with what the others made of them. */
void
cs_counts_end(CsEngine *e, int stage)
{
	for (int i = 0; i < e->nevents; i++)
	{
		CsEvent *event = &e->events[i];
		CsCount *count;

		if (event->skip)
			continue;
		count = &event->message->partition->counts[stage];
		count->used += event->class == CS_CLASS_USED;
		count->late += event->class == CS_CLASS_LATE;
		cs_event_mark(event, e->classes[i]);
	}
}

/* The event log counts what it holds. */
void
cs_counts_logged(CsEngine *e)
{
	for (int i = 0; i < e->nevents; i++)
	{
		const CsEvent *event = &e->events[i];

		if (event->class != CS_CLASS_DEAD && event->class != CS_CLASS_EMPTY)
			event->message->partition->counts[e->nstages].used++;
	}
}
