/*
 * operator/session_emit.c
 *	  When rows of open sessions are rewritten, and what a silent topic shows.
 *
 * With emit => 'changes' an open session's row is in the table and grows.
 * Rewrites wait for emit_interval, and are none while the stream catches up:
 * until then the keys of such rows are kept in a hash table, beside the state.
 * It follows from the entries, so after a restart all keys are in it.  Where
 * they are many, a pass over them takes several batches; what changes meanwhile
 * waits for the next pass.
 *
 * preview() looks at entries by the moment at which they are due next.  An
 * entry of which a later row is to be shown at another moment is kept in a
 * second hash table, for as long as the silence lasts.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "operator/session.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct StaleEntry
{
	CsKey key;
	bool  waits; /* for the next pass */
} StaleEntry;

typedef struct AheadEntry
{
	CsKey		key;
	TimestampTz next; /* moment at which its next row closes */
} AheadEntry;

static HTAB *
make_keys(CsSessions *s, const char *name, Size entry)
{
	HASHCTL ctl = {.keysize = sizeof(CsKey), .entrysize = entry, .hcxt = GetMemoryChunkContext(s)};

	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* ---- rewriting ---- */

void
cs_session_note_stale(CsSessions *s, const CsKey *key)
{
	StaleEntry *entry;
	bool		found;

	if (s->stale == NULL)
		s->stale = make_keys(s, "clickstream stale sessions", sizeof(StaleEntry));
	entry = hash_search(s->stale, key, HASH_ENTER, &found);
	if (!found)
		entry->waits = s->passing;
	s->op.stale = true;
}

void
cs_session_begin_rewrite(CsSessions *s, CsBatchContext *batch)
{
	s->has_written = false;
	s->may_rewrite = s->op.def->emit == CS_EMIT_CHANGES && !batch->catching_up &&
					 (s->op.emit_at == CS_WM_DONE || batch->now >= s->op.emit_at);
	s->rewrites = s->may_rewrite && !s->passing;
}

/*
 * What the watermark has yet to settle, in another part of this closing, is
 * written by that: until then it would be shown as closed by a gap, and remain
 * so when finish() ends it.
 */
static void
rewrite_key(CsSessions *s, CsBatchContext *batch, const CsKey *key, TimestampTz wm)
{
	CsWork	   *work = cs_state_get(batch->state, key);
	TimestampTz next;

	if (work->deleted || (work->base == NULL && work->work == NULL) || work->due <= wm)
		return;
	(void) cs_session_visitor(s, batch->state, work);
	if (cs_session_compare(s, batch, work, wm, wm, &next))
		cs_session_update(s, batch->state, work);
}

/* Keys that the pass has not come to, at most max of them. */
static void
take_stale(CsSessions *s, int max)
{
	HASH_SEQ_STATUS scan;
	StaleEntry	   *entry;
	int				n = (int) Min(hash_get_num_entries(s->stale), max);

	s->rewritten = palloc_extended(Max(n, 1) * sizeof(CsKey), MCXT_ALLOC_HUGE);
	s->nrewritten = 0;
	s->passing = false;
	hash_seq_init(&scan, s->stale);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->waits)
			continue;
		if (s->nrewritten == n)
		{
			s->passing = true;
			hash_seq_term(&scan);
			return;
		}
		s->rewritten[s->nrewritten++] = entry->key;
	}
}

/* The pass is through: the next one takes what has waited for it. */
static void
end_pass(CsSessions *s)
{
	HASH_SEQ_STATUS scan;
	StaleEntry	   *entry;

	hash_seq_init(&scan, s->stale);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->waits = false;
}

void
cs_session_rewrite(CsSessions *s, CsBatchContext *batch, TimestampTz wm, int max)
{
	CsOperator *op = &s->op;
	bool		goes_on = s->passing;

	if (!s->may_rewrite)
		return;
	s->rewrites = true;
	if (op->stale && s->stale)
	{
		take_stale(s, max);
		for (int i = 0; i < s->nrewritten; i++)
			rewrite_key(s, batch, &s->rewritten[i], wm);
		op->stale = s->nrewritten < hash_get_num_entries(s->stale);
		if (goes_on && !s->passing)
			end_pass(s);
	}
	if (s->passing)
		op->emit_at = batch->now; /* the rest follows at once */
	else if (s->has_written || goes_on)
		op->emit_at = batch->now + op->def->emit_interval;
	else
		op->emit_at = CS_WM_DONE; /* the next change may be shown at once */
	s->rewrites = s->may_rewrite = false;
}

void
cs_session_end_rewrite(CsSessions *s, bool committed)
{
	if (committed)
	{
		for (int i = 0; i < s->nrewritten; i++)
			(void) hash_search(s->stale, &s->rewritten[i], HASH_REMOVE, NULL);
		s->stale_before = s->op.stale;
		s->emit_before = s->op.emit_at;
		s->passing_before = s->passing;
	}
	else
	{
		s->op.stale = s->stale_before;
		s->op.emit_at = s->emit_before;
		s->passing = s->passing_before;
		s->ahead_lost |= s->looked_ahead;
	}
	s->looked_ahead = false;
	s->rewritten = NULL;
	s->nrewritten = 0;
}

/* ---- a silent topic ---- */

static void
preview_entry(CsSessions *s, CsBatchContext *batch, CsWork *work, TimestampTz as_of)
{
	TimestampTz next;
	bool		changed;

	(void) cs_session_visitor(s, batch->state, work);
	changed = cs_session_compare(s, batch, work, s->op.closed, as_of, &next);
	if (changed)
		cs_session_update(s, batch->state, work);
	if (next != CS_WM_DONE)
		((AheadEntry *) hash_search(s->ahead, &work->key, HASH_ENTER, NULL))->next = next;
	else
		(void) hash_search(s->ahead, &work->key, HASH_REMOVE, NULL);
}

/* Entries kept aside whose next row closes in (after, upto]. */
static CsKey *
ahead_between(CsSessions *s, TimestampTz after, TimestampTz upto, int *n)
{
	HASH_SEQ_STATUS scan;
	AheadEntry	   *entry;
	CsKey		   *keys = palloc_extended((hash_get_num_entries(s->ahead) + 1) * sizeof(CsKey), MCXT_ALLOC_HUGE);

	*n = 0;
	hash_seq_init(&scan, s->ahead);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->next > after && entry->next <= upto)
			keys[(*n)++] = entry->key;
	}
	return keys;
}

/* A new silence, or a batch that failed: begin with all entries again. */
static TimestampTz
begin_preview(CsSessions *s, TimestampTz after)
{
	if (s->ahead == NULL)
		s->ahead = make_keys(s, "clickstream sessions ahead", sizeof(AheadEntry));
	else if (after < s->ahead_of || s->ahead_lost)
	{
		hash_destroy(s->ahead);
		s->ahead = make_keys(s, "clickstream sessions ahead", sizeof(AheadEntry));
	}
	if (s->ahead_lost)
		after = Min(after, s->op.closed);
	s->ahead_lost = false;
	return after;
}

TimestampTz
cs_session_preview(CsOperator *op, CsBatchContext *batch, TimestampTz after, TimestampTz as_of, int max)
{
	CsSessions	 *s = (CsSessions *) op;
	MemoryContext old = MemoryContextSwitchTo(batch->batch);
	TimestampTz	  upto;
	CsWork		**works;
	CsKey		 *keys;
	int			  n;

	s->ms->aggcontext->ecxt_per_tuple_memory = batch->batch;
	after = begin_preview(s, after);
	s->looked_ahead = true;
	works = cs_state_preview(batch->state, op->def->definition_id, after, as_of, max, &n, &upto);
	for (int i = 0; i < n; i++)
		preview_entry(s, batch, works[i], upto);
	keys = ahead_between(s, after, upto, &n);
	for (int i = 0; i < n; i++)
	{
		CsEntry *entry = cs_state_peek(batch->state, &keys[i]);

		if (entry)
			preview_entry(s, batch, cs_state_open(batch->state, entry), upto);
		else
			(void) hash_search(s->ahead, &keys[i], HASH_REMOVE, NULL);
	}
	s->ahead_of = upto;
	MemoryContextSwitchTo(old);
	return upto;
}

TimestampTz
cs_session_preview_due(CsOperator *op, CsState *state, TimestampTz after)
{
	CsSessions	   *s = (CsSessions *) op;
	HASH_SEQ_STATUS scan;
	AheadEntry	   *entry;
	TimestampTz		due;

	if (s->ahead_lost)
		after = Min(after, op->closed);
	due = cs_state_next_due(state, op->def->definition_id, after);
	if (s->ahead == NULL)
		return due;
	hash_seq_init(&scan, s->ahead);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->next > after)
			due = Min(due, entry->next);
	}
	return due;
}
