/*
 * engine/dedupe.c
 *	  Duplicates by dedupe_by, in the same transaction as everything else.
 *
 * A value seen is a state entry like any other, under definition 0, holding
 * the event time of its first good copy; it is due, and goes, when the
 * watermark has passed that by more than the horizon.  An entry that is over
 * but still there counts as gone, so batches do not matter.  A definition that reads
 * its history from the topic has entries of its own meanwhile (engine/history.c).
 *
 * No locking: private to the engine.
 */
#include "postgres.h"

#include "core/mutant.h"
#include "engine/dedupe.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#define DEDUPE_VERSION 1

typedef struct Seen
{
	TimestampTz time;
} Seen;

static TimestampTz
read_time(const CsEntry *entry)
{
	CsReader	r = cs_entry_reader(entry, NULL);
	TimestampTz time;

	if (cs_get_u8(&r) != DEDUPE_VERSION)
		cs_reader_corrupt(&r, "it is of another version");
	time = cs_get_int(&r);
	cs_get_end(&r);
	return time;
}

static void
serialize(void *op, CsState *state, CsWork *work, StringInfo buf)
{
	(void) op;
	(void) state;
	cs_put_u8(buf, DEDUPE_VERSION);
	cs_put_int(buf, ((Seen *) work->work)->time);
}

static TimestampTz
due_at(const CsEngine *e, TimestampTz time)
{
	return time + e->stream->dedupe_horizon + 1;
}

static TimestampTz
due_of(void *op, const CsEntry *entry)
{
	return due_at(op, read_time(entry));
}

void
cs_dedupe_register(CsEngine *e, int32 definition_id)
{
	cs_state_register(e->state, definition_id, "dedupe_by", serialize, e);
	cs_state_register_due(e->state, definition_id, due_of);
}

void
cs_dedupe_check(const CsEntry *entry)
{
	(void) read_time(entry);
}

/* Has this value been seen, and is it still remembered? */
static bool
was_seen(CsEngine *e, CsWork *work, TimestampTz watermark)
{
	TimestampTz time;

	if (work->deleted)
		return false;
	if (work->work)
		time = ((Seen *) work->work)->time;
	else if (work->base && !CS_MUTANT(DEDUPE_FORGETS))
		time = read_time(work->base);
	else
		return false;
	return watermark == CS_WM_NONE || due_at(e, time) > watermark;
}

/* Have what is spilled of the chunk's values read together. */
static void
fetch_spilled(CsEngine *e)
{
	if (!cs_state_has_spilled(e->state, e->dedupe_definition))
		return;
	for (int i = 0; i < e->nevents; i++)
	{
		CsKey key = {.def = (uint32) e->dedupe_definition, .who = e->events[i].dedupe_hash};

		if (!e->events[i].skip && e->events[i].has_dedupe)
			cs_state_want(e->state, &key);
	}
	cs_state_fetch_wanted(e->state);
}

void
cs_dedupe_run(CsEngine *e)
{
	if (!e->has_dedupe)
		return;
	fetch_spilled(e);
	for (int i = 0; i < e->nevents; i++)
	{
		CsEvent *event = &e->events[i];
		CsKey	 key = {.def = (uint32) e->dedupe_definition, .who = event->dedupe_hash};
		CsWork	*work;
		Seen	*seen;

		if (event->skip || !event->has_dedupe)
			continue;
		work = cs_state_get(e->state, &key);
		if (was_seen(e, work, event->watermark))
		{
			event->skip = true;
			event->class = CS_CLASS_DUPLICATE;
			continue;
		}
		seen = MemoryContextAlloc(e->batch, sizeof(Seen));
		seen->time = event->place.time;
		work->work = seen;
		work->due = due_at(e, seen->time);
		cs_work_dirty(e->state, work);
	}
}

/* Forget what is over at a watermark; true: that was all. */
static bool
forget(CsEngine *e, int32 definition_id, TimestampTz watermark)
{
	int		 n;
	bool	 more;
	CsWork **works = cs_state_due(e->state, definition_id, watermark, CS_CLOSINGS_PER_BATCH, &n, &more);

	for (int i = 0; i < n; i++)
		cs_work_delete(e->state, works[i]);
	return !more;
}

void
cs_dedupe_advance(CsEngine *e)
{
	if (e->has_dedupe)
		(void) forget(e, e->dedupe_definition, e->watermark);
}

void
cs_dedupe_forget(CsEngine *e, int32 definition_id)
{
	while (e->has_dedupe && !forget(e, definition_id, CS_WM_DONE))
		CHECK_FOR_INTERRUPTS();
}
