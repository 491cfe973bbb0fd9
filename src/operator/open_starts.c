/*
 * operator/open_starts.c
 *	  Counts of open things by the time they start.
 *
 * One hash table holds counts of exact times and of whole minutes.  A rollup's
 * bucket is nearly always made of whole minutes, so the question is a look-up
 * per minute; only a minute that the bucket cuts, and that is not empty, makes
 * it look at every time.  A journal takes back what a failed batch changed.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "operator/open_starts.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct StartKey
{
	int64 time; /* µs, or minutes */
	int64 is_minute;
} StartKey;

typedef struct StartCount
{
	StartKey key;
	int64	 count;
} StartCount;

typedef struct StartChange
{
	TimestampTz start;
	int			delta;
} StartChange;

struct CsOpenStarts
{
	MemoryContext context;
	HTAB		 *counts;
	StartChange	 *journal; /* of this batch */
	int64		  njournal, capacity;
};

static int64
minute_of(TimestampTz t)
{
	return t / USECS_PER_MINUTE - (t % USECS_PER_MINUTE < 0);
}

CsOpenStarts *
cs_open_starts_create(MemoryContext cxt)
{
	CsOpenStarts *starts = MemoryContextAllocZero(cxt, sizeof(CsOpenStarts));

	starts->context = cxt;
	starts->capacity = 256;
	starts->journal = MemoryContextAlloc(cxt, sizeof(StartChange) * starts->capacity);
	cs_open_starts_clear(starts);
	return starts;
}

void
cs_open_starts_clear(CsOpenStarts *starts)
{
	HASHCTL ctl = {.keysize = sizeof(StartKey), .entrysize = sizeof(StartCount), .hcxt = starts->context};

	if (starts->counts)
		hash_destroy(starts->counts);
	starts->counts = hash_create("clickstream open starts", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	starts->njournal = 0;
}

static void
add(CsOpenStarts *starts, StartKey key, int delta)
{
	bool		found;
	StartCount *entry = hash_search(starts->counts, &key, HASH_ENTER, &found);

	entry->count = (found ? entry->count : 0) + delta;
	if (entry->count == 0)
		hash_search(starts->counts, &key, HASH_REMOVE, NULL);
}

static void
count_start(CsOpenStarts *starts, TimestampTz start, int delta)
{
	StartKey exact = {.time = start};
	StartKey minute = {.time = minute_of(start), .is_minute = 1};

	add(starts, exact, delta);
	add(starts, minute, delta);
}

void
cs_open_starts_load(CsOpenStarts *starts, TimestampTz start)
{
	count_start(starts, start, 1);
}

void
cs_open_starts_change(CsOpenStarts *starts, TimestampTz start, int delta)
{
	StartChange change = {start, delta};

	if (starts->njournal == starts->capacity)
	{
		starts->journal = repalloc_huge(starts->journal, starts->capacity * 2 * sizeof(StartChange));
		starts->capacity *= 2;
	}
	starts->journal[starts->njournal++] = change;
	count_start(starts, start, delta);
}

void
cs_open_starts_end_batch(CsOpenStarts *starts, bool committed)
{
	if (!committed)
	{
		for (int64 i = starts->njournal - 1; i >= 0; i--)
			count_start(starts, starts->journal[i].start, -starts->journal[i].delta);
	}
	starts->njournal = 0;
}

static bool
search_all(CsOpenStarts *starts, TimestampTz start, TimestampTz end)
{
	HASH_SEQ_STATUS scan;
	StartCount	   *entry;

	hash_seq_init(&scan, starts->counts);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (!entry->key.is_minute && entry->key.time >= start && entry->key.time < end)
		{
			hash_seq_term(&scan);
			return true;
		}
	}
	return false;
}

bool
cs_open_starts_in(CsOpenStarts *starts, TimestampTz start, TimestampTz end)
{
	int64	 n = hash_get_num_entries(starts->counts);
	StartKey key = {.is_minute = 1};
	int64	 last;
	bool	 is_cut = false;

	if (n == 0 || start >= end)
		return false;
	key.time = minute_of(start);
	last = minute_of(end - 1);
	if (last - key.time > n)
		return search_all(starts, start, end);
	for (; key.time <= last; key.time++)
	{
		bool found;

		hash_search(starts->counts, &key, HASH_FIND, &found);
		if (!found)
			continue;
		if (key.time * USECS_PER_MINUTE >= start && (key.time + 1) * USECS_PER_MINUTE <= end)
			return true;
		is_cut = true;
	}
	return is_cut && search_all(starts, start, end);
}
