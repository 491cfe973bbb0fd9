/*
 * engine/examine.c
 *	  Entries of a stream's state that cannot be read, and giving them up.
 *
 * Rows of the log and of the spill table have checksums: what damages an entry
 * behind these is another version of the code, or a mistake in it.  The stream
 * then stops with the entry named.  Here recovery takes every entry as it is,
 * each is read under guard, and those that raise are deleted from the state: the
 * least that lets the stream go on.  What is intact stays as it is.  Without
 * some entries rows would be wrong, not fewer: these are not given up.
 *
 * A damaged row of the spill table is treated like an entry: its key is known,
 * and nothing else is in it.  One of a distinct set takes the entry with it that
 * has the set.  A damaged row of the log raises here, too: it says what became
 * of many keys, some of which it alone names.
 *
 * Large distinct sets of what is given up are known to nobody any more; they
 * go with their definition, or with reset(); but those that are damaged at once.
 *
 * No locking of its own: the engine's.
 */
#include "engine/examine.h"

#include "engine/backfill.h"
#include "engine/dedupe.h"
#include "engine/internal.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* The entries of one definition, or (stage NULL) those of dedupe_by. */
typedef struct Examination
{
	CsEngine	  *e;
	CsStage		  *stage;
	bool		   discard;
	CsDamageResult result;
	void		  *arg;
	int			   n, capacity;
	CsKey		  *keys; /* entries may lie in the spill table, and come when they are asked for */
	MemoryContext  scratch;
	int			   ndamaged;
} Examination;

static void
collect(CsEntry *entry, void *arg)
{
	Examination *x = arg;

	if (x->n == x->capacity)
	{
		x->capacity = Max(x->capacity * 2, 1024);
		x->keys = x->keys ? repalloc_huge(x->keys, x->capacity * sizeof(CsKey))
						  : MemoryContextAllocHuge(CurrentMemoryContext, x->capacity * sizeof(CsKey));
	}
	x->keys[x->n++] = entry->key;
}

static void
check(CsEngine *e, void *arg, int i)
{
	Examination	 *x = arg;
	CsEntry		 *entry = cs_state_peek(e->state, &x->keys[i]);
	MemoryContext old = MemoryContextSwitchTo(x->scratch);

	cs_entry_check(e->state, entry);
	if (x->stage)
		x->stage->op->ops->check(x->stage->op, e->state, entry);
	else
		cs_dedupe_check(entry);
	MemoryContextSwitchTo(old);
	MemoryContextReset(x->scratch);
	CHECK_FOR_INTERRUPTS();
}

static void
give_up(CsEngine *e, CsStage *stage, CsEntry *entry)
{
	MemoryContext old = MemoryContextSwitchTo(e->batch);
	CsKey		  key = entry->key;

	cs_work_delete(e->state, cs_state_open(e->state, entry));
	if (stage && stage->op->ops->lost)
		stage->op->ops->lost(stage->op, &e->ctx, &key);
	MemoryContextSwitchTo(old);
}

static void
refuse(const CsEngine *e, const CsDefinition *def, const ErrorData *error)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("damaged state of \"%s\" cannot be discarded: it says which rows of the windows that are "
						   "being closed are written",
						   def->name),
					errdetail("%s", error->message),
					errhint("Drop the definition; one made with backfill => true has the same rows.  Or read the topic "
							"again with clickstream.reset('%s').",
							e->stream->name)));
}

static void
found(CsEngine *e, void *arg, int i, ErrorData *error)
{
	Examination			*x = arg;
	CsEntry				*entry = cs_state_peek(e->state, &x->keys[i]);
	CsDamage			 damage = {.key = entry->key, .bytes = entry->len, .problem = error->message};
	const CsOperatorOps *ops = x->stage ? x->stage->op->ops : NULL;

	damage.table = x->stage ? x->stage->op->def->table : InvalidOid;
	damage.loss = ops ? ops->loss : "that the value was seen: another message with it counts";
	if (ops && ops->is_vital && ops->is_vital(&entry->key))
	{
		if (x->discard)
			refuse(e, x->stage->op->def, error);
		damage.loss = "which rows of the windows that are being closed are written; it cannot be discarded";
	}
	x->result(&damage, x->arg);
	if (x->discard)
		give_up(e, x->stage, entry);
	x->ndamaged++;
}

static void
examine(CsEngine *e, Examination *x, int32 definition_id)
{
	x->n = 0;
	cs_state_walk(e->state, definition_id, collect, x);
	cs_guarded_loop(e, x->n, check, found, x);
}

/* What an entry has lost with it has been told. */
static void
found_set(int32 definition_id, uint64 id, bool missed, void *arg)
{
	Examination *x = arg;
	CsDamage	 damage = {.is_set = true, .loss = "nothing: no entry that can be read has this distinct set"};

	x->ndamaged++;
	if (missed)
		return;
	for (int i = 0; i < x->e->nstages; i++)
		if (x->e->stages[i].op->def->definition_id == definition_id)
			damage.table = x->e->stages[i].op->def->table;
	damage.problem = psprintf("rows of distinct set " UINT64_FORMAT " in the spill table cannot be read", id);
	x->result(&damage, x->arg);
}

int
cs_examine_run(CsEngine *e, bool discard, CsDamageResult result, void *arg)
{
	Examination x = {.e = e, .discard = discard, .result = result, .arg = arg};

	x.scratch = AllocSetContextCreate(e->batch, "clickstream examined entry", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < e->nstages; i++)
	{
		x.stage = &e->stages[i];
		examine(e, &x, x.stage->op->def->definition_id);
	}
	x.stage = NULL;
	examine(e, &x, DEDUPE_DEFINITION);
	for (int i = 0; i < e->nstages; i++)
	{
		if (e->stages[i].backfill && e->stages[i].backfill->history)
			examine(e, &x, CS_DEDUPE_OF(e->stages[i].op->def->definition_id));
	}
	cs_state_damaged_sets(e->state, discard, found_set, &x);
	return x.ndamaged;
}
