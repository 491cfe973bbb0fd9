/*
 * engine/rollup_feed.c
 *	  Rows of a batch, on from their tables to the rollups over them.
 *
 * A row that begins to count is added to its bucket.  A row that counted
 * before and has changed, moved or gone makes the buckets of both its versions
 * anew, from the source table; so does a row that falls into a bucket which
 * is final already.  First it is found out which buckets those are, then they
 * are made, each once, this batch's rows being in the table by then; the
 * other buckets take their new rows.  So the order of rows does not matter.
 *
 * What a rollup's expressions cannot digest is a dead letter of the rollup,
 * named by the source row's key; the row does not count there.  So is a row of
 * a bucket that was final and of which rows have been deleted: it stays as it is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "core/ledger.h"
#include "engine/backfill.h"
#include "engine/internal.h"
#include "operator/cell.h"
#include "sink/source_rows.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* A bucket to be made anew. */
typedef struct Remake
{
	TimestampTz start; /* hash key */
	TimestampTz end;
} Remake;

/* A rollup and rows it is to look at. */
typedef struct Feed
{
	CsStage		 *rollup;
	CsStage		 *source;
	CsSourceRow **rows; /* all that were written, in order */
	int			  n;
	HTAB		 *remakes; /* Remake; NULL: none */
	HeapTuple	 *tuples;  /* of the step that runs; [i] belongs to rows[i] where that is known */
	CsSourceRow **of;	   /* source row of each tuple, or NULL: read from the table */
} Feed;

/* ---- what a rollup cannot use ---- */

/* A source row that the rollup cannot use: known by its key, topic/partition/offset. */
static void
source_row_dead(CsEngine *e, Feed *feed, const CsSourceRow *row, const char *cause, const char *why, int sqlstate)
{
	char	   *id = TextDatumGetCString(row->values[feed->source->keys[0]]);
	char	   *slash;
	CsMessage	message = {0};
	CsPartition partition = {0};
	CsEvent		event = {.message = &message};

	message.partition = &partition;
	message.timestamp = CS_WM_NONE;
	if ((slash = strrchr(id, '/')) != NULL)
	{
		message.offset = strtoll(slash + 1, NULL, 10);
		*slash = '\0';
	}
	if ((slash = strrchr(id, '/')) != NULL)
	{
		partition.id = atoi(slash + 1);
		*slash = '\0';
	}
	partition.topic = Max(cs_stream_topic_index(e->stream, id), 0);
	cs_dead_letter_add(e, &event, feed->rollup->op->def->definition_id, cause, why, sqlstate);
}

static void
take_step(CsEngine *e, void *arg, int i)
{
	Feed *feed = arg;

	cs_rollup_take(feed->rollup->op, &e->ctx, feed->tuples[i]);
}

static void
check_step(CsEngine *e, void *arg, int i)
{
	Feed *feed = arg;

	cs_rollup_check(feed->rollup->op, &e->ctx, feed->tuples[i]);
}

/* Of a row read back from the table nothing is said: it was a dead letter when it came. */
static void
row_failed(CsEngine *e, void *arg, int i, ErrorData *error)
{
	Feed *feed = arg;

	if (feed->of == NULL)
		return;
	source_row_dead(e, feed, feed->of[i], "error in the definition's expressions", error->message, error->sqlerrcode);
}

/* ---- which buckets are made anew ---- */

static void
want_remake(CsEngine *e, Feed *feed, TimestampTz start, TimestampTz end)
{
	Remake *remake;

	if (!cs_backfill_reaches(feed->rollup, start))
		return; /* it is yet to be made, from the table */
	if (feed->remakes == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(TimestampTz), .entrysize = sizeof(Remake), .hcxt = e->batch};

		feed->remakes = hash_create("clickstream rollup buckets", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	remake = hash_search(feed->remakes, &start, HASH_ENTER, NULL);
	remake->end = end;
}

static bool
is_remade(const Feed *feed, TimestampTz start)
{
	return feed->remakes != NULL && hash_search(feed->remakes, &start, HASH_FIND, NULL) != NULL;
}

/* By the last commit's watermark: nothing is closed yet by this batch's. */
static bool
is_past(CsEngine *e, const Feed *feed, TimestampTz start, TimestampTz end)
{
	TimestampTz wm = cs_stage_fills(feed->source) ? feed->source->backfill->committed.watermark : e->stored.watermark;

	return cs_rollup_is_past(feed->rollup->op, &e->ctx, start, end, wm);
}

/* The same key may have been written twice in the batch: each version is looked at against the one before. */
static void
look_at_row(CsEngine *e, Feed *feed, CsSourceRow *row)
{
	CsOperator *op = feed->rollup->op;
	TimestampTz start, end;
	bool		counted = row->old && cs_rollup_bucket(op, row->old, &start, &end);

	if (counted)
	{
		if (row->tuple && cs_rollup_bucket(op, row->tuple, &start, &end) && cs_rollup_same(op, row->old, row->tuple))
			return;
		(void) cs_rollup_bucket(op, row->old, &start, &end);
		want_remake(e, feed, start, end);
	}
	if (row->tuple && cs_rollup_bucket(op, row->tuple, &start, &end) && (counted || is_past(e, feed, start, end)))
		want_remake(e, feed, start, end);
}

/* ---- making one anew ---- */

typedef struct RowList
{
	HeapTuple *tuples;
	int		   n, capacity;
} RowList;

static void
collect_row(TupleTableSlot *slot, void *arg)
{
	RowList *list = arg;

	if (list->n == list->capacity)
	{
		list->capacity = list->capacity ? list->capacity * 2 : 64;
		list->tuples = list->tuples ? repalloc_huge(list->tuples, list->capacity * sizeof(HeapTuple))
									: palloc(list->capacity * sizeof(HeapTuple));
	}
	list->tuples[list->n++] = ExecCopySlotHeapTuple(slot);
}

typedef struct Shown
{
	CsEngine   *e;
	CsOperator *op;
	TimestampTz start;
} Shown;

static void
row_was_shown(Datum group_key, int32 revision, void *arg)
{
	Shown *shown = arg;

	cs_rollup_was_shown(shown->op, &shown->e->ctx, shown->start, group_key, revision);
}

/* This batch's rows of the bucket that the rollup cannot use become dead letters. */
static void
report_unusable(CsEngine *e, Feed *feed, TimestampTz bucket)
{
	Feed checked = *feed;
	int	 n = 0;

	checked.tuples = palloc(feed->n * sizeof(HeapTuple));
	checked.of = palloc(feed->n * sizeof(CsSourceRow *));
	for (int i = 0; i < feed->n; i++)
	{
		CsSourceRow *row = feed->rows[i];
		TimestampTz	 start, end;

		if (row->tuple == NULL || !cs_rollup_bucket(feed->rollup->op, row->tuple, &start, &end) || start != bucket)
			continue;
		checked.of[n] = row;
		checked.tuples[n++] = row->tuple;
	}
	cs_guarded_loop(e, n, check_step, row_failed, &checked);
	pfree(checked.tuples);
	pfree(checked.of);
}

static bool
is_in_bucket(const Feed *feed, HeapTuple row, TimestampTz bucket)
{
	TimestampTz start, end;

	return row != NULL && cs_rollup_bucket(feed->rollup->op, row, &start, &end) && start == bucket;
}

static void
count_row(Datum group_key, int32 revision, void *arg)
{
	(void) group_key;
	(void) revision;
	(*(int64 *) arg)++;
}

/*
 * May rows that the past bucket counted have been deleted?  Not where it has none and never had: then nothing
 * of it was final, and its first row is that of a session that was open for very long.
 */
static bool
lacks_rows(const CsDefinition *source, const CsDefinition *rollup, TimestampTz start)
{
	int64 n = 0;

	if (cs_deleted_before(source->definition_id) <= start)
		return false;
	cs_rollup_revisions(rollup->table, start, count_row, &n);
	return n > 0 || cs_deleted_before(rollup->definition_id) > start;
}

/* This batch's rows that would have changed the bucket. */
static void
refuse_bucket(CsEngine *e, Feed *feed, TimestampTz bucket)
{
	for (int i = 0; i < feed->n; i++)
	{
		CsSourceRow *row = feed->rows[i];
		bool		 is_there = is_in_bucket(feed, row->tuple, bucket);
		bool		 was_there = is_in_bucket(feed, row->old, bucket);

		if (is_there && was_there && cs_rollup_same(feed->rollup->op, row->old, row->tuple))
			continue;
		if (is_there || was_there)
			source_row_dead(e, feed, row, "rows deleted by retention",
							psprintf("The bucket from %s is final, and rows that started in it have been deleted.",
									 timestamptz_to_str(bucket)),
							ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
	}
}

static void
remake_bucket(CsEngine *e, Feed *feed, const Remake *remake)
{
	CsOperator		   *op = feed->rollup->op;
	const CsDefinition *def = op->def;
	bool				was_past = is_past(e, feed, remake->start, remake->end);
	RowList				list = {0};
	Feed				reread = *feed;

	cs_source_rows(feed->source->op->def->table, def->start_column, remake->start, remake->end, collect_row, &list);
	/* Asked after the rows were read: what was deleted before that is known by then. */
	if (was_past && lacks_rows(feed->source->op->def, def, remake->start))
	{
		refuse_bucket(e, feed, remake->start);
		return;
	}
	cs_rollup_remake_begin(op, &e->ctx, remake->start);
	reread.tuples = list.tuples;
	reread.of = NULL;
	cs_guarded_loop(e, list.n, take_step, row_failed, &reread);
	if (was_past)
	{
		Shown shown = {e, op, remake->start};

		cs_rollup_revisions(def->table, remake->start, row_was_shown, &shown);
	}
	cs_rollup_remake_end(op, &e->ctx, remake->start);
	report_unusable(e, feed, remake->start);
}

static int
remake_cmp(const void *a, const void *b)
{
	TimestampTz x = ((const Remake *) a)->start;
	TimestampTz y = ((const Remake *) b)->start;

	return x < y ? -1 : x > y;
}

/* ---- history ---- */

/* Stands for a row of the table, for who asks whose it is. */
static CsSourceRow *
stand_in(const Feed *feed, HeapTuple tuple, TupleDesc desc, AttrNumber key)
{
	CsSourceRow *row = palloc0(sizeof(CsSourceRow));
	bool		 isnull;

	row->values = palloc0(feed->source->op->ncolumns * sizeof(Datum));
	row->values[feed->source->keys[0]] = heap_getattr(tuple, key, desc, &isnull);
	return row;
}

int64
cs_rollup_fill(CsEngine *e, CsStage *rollup, CsStage *source, TimestampTz start, TimestampTz *end)
{
	const CsDefinition *def = rollup->op->def;
	const CsDefinition *from = source->op->def;
	Feed				feed = {.rollup = rollup, .source = source};
	RowList				list = {0};
	Relation			rel = table_open(from->table, AccessShareLock);
	AttrNumber			key = get_attnum(from->table, source->column_names[source->keys[0]]);
	TimestampTz			bucket = cs_slide_start(start, def->size, def->origin);

	*end = bucket + def->size;
	cs_rollup_layout(rollup->op, RelationGetDescr(rel));
	cs_source_rows(from->table, def->start_column, bucket, *end, collect_row, &list);
	feed.tuples = list.tuples;
	feed.of = palloc(Max(list.n, 1) * sizeof(CsSourceRow *));
	for (int i = 0; i < list.n; i++)
		feed.of[i] = stand_in(&feed, list.tuples[i], RelationGetDescr(rel), key);
	cs_guarded_loop(e, list.n, take_step, row_failed, &feed);
	table_close(rel, NoLock);
	return list.n;
}

/* In the order of time, so that two runs write in one order. */
static void
remake_all(CsEngine *e, Feed *feed)
{
	long			n = hash_get_num_entries(feed->remakes);
	Remake		   *sorted = palloc(n * sizeof(Remake));
	HASH_SEQ_STATUS scan;
	Remake		   *remake;
	int				i = 0;

	hash_seq_init(&scan, feed->remakes);
	while ((remake = hash_seq_search(&scan)) != NULL)
		sorted[i++] = *remake;
	qsort(sorted, n, sizeof(Remake), remake_cmp);
	for (i = 0; i < n; i++)
		remake_bucket(e, feed, &sorted[i]);
	pfree(sorted);
}

/* ---- rows that begin to count ---- */

static void
take_new(CsEngine *e, Feed *feed)
{
	int n = 0;

	feed->tuples = palloc(feed->n * sizeof(HeapTuple));
	feed->of = palloc(feed->n * sizeof(CsSourceRow *));
	for (int i = 0; i < feed->n; i++)
	{
		CsSourceRow *row = feed->rows[i];
		TimestampTz	 start, end;

		if (row->old && cs_rollup_bucket(feed->rollup->op, row->old, &start, &end))
			continue; /* counted before: nothing changed, or it is made anew */
		if (row->tuple == NULL || !cs_rollup_bucket(feed->rollup->op, row->tuple, &start, &end) ||
			is_remade(feed, start) || !cs_backfill_reaches(feed->rollup, start))
			continue;
		feed->of[n] = row;
		feed->tuples[n++] = row->tuple;
	}
	cs_guarded_loop(e, n, take_step, row_failed, feed);
	pfree(feed->tuples);
	pfree(feed->of);
}

static void
feed_rollup(CsEngine *e, CsStage *rollup, CsStage *source)
{
	Feed	 feed = {.rollup = rollup, .source = source};
	Relation rel;
	int		 n = 0;

	for (CsSourceRow *row = source->rows; row; row = row->next)
		n++;
	if (n == 0)
		return;
	feed.rows = palloc(n * sizeof(CsSourceRow *));
	for (CsSourceRow *row = source->rows; row; row = row->next)
		feed.rows[feed.n++] = row;

	/* Now, because what a subtransaction writes goes with it if a row fails, and buckets are read back. */
	cs_table_flush(source->table);
	rel = table_open(source->op->def->table, AccessShareLock);
	cs_rollup_layout(rollup->op, RelationGetDescr(rel));
	table_close(rel, NoLock);
	for (int i = 0; i < feed.n; i++)
		look_at_row(e, &feed, feed.rows[i]);
	if (feed.remakes)
		remake_all(e, &feed);
	take_new(e, &feed);
}

/* Hand the rows of this batch to the rollups over them. */
void
cs_rollups_feed(CsEngine *e)
{
	MemoryContext old = MemoryContextSwitchTo(e->batch);

	for (int i = 0; i < e->nstages; i++)
	{
		CsOperator *op = e->stages[i].op;

		for (int s = 0; op->source && s < e->nstages; s++)
			if (e->stages[s].op == op->source)
				feed_rollup(e, &e->stages[i], &e->stages[s]);
	}
	for (int i = 0; i < e->nstages; i++)
	{
		e->stages[i].rows = NULL;
		e->stages[i].rows_tail = &e->stages[i].rows;
	}
	MemoryContextSwitchTo(old);
}
