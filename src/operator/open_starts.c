/*
 * operator/open_starts.c
 *	  Counts of open things by the time they start.
 *
 * Two hash tables: exact times, and whole minutes.  A rollup's bucket is
 * nearly always made of whole minutes, so the question is a look-up per
 * minute; only a minute that the bucket cuts, and that is not empty, makes it
 * look at every time.  A journal takes back what a failed batch changed.
 *
 * No locking: private to the process that runs the stream.
 */
#include "postgres.h"

#include "operator/open_starts.h"
#include "utils/memutils.h"

typedef struct StartCount
{
	int64 time; /* µs, or minutes */
	int32 count;
	char  status;
} StartCount;

static inline uint32
hash_time(int64 time)
{
	uint64 h = (uint64) time * UINT64CONST(0x9E3779B97F4A7C15);

	h ^= h >> 32;
	h *= UINT64CONST(0xD6E8FEB86659FD93);
	return (uint32) (h >> 32);
}

#define SH_PREFIX starts
#define SH_ELEMENT_TYPE StartCount
#define SH_KEY_TYPE int64
#define SH_KEY time
#define SH_HASH_KEY(tb, k) hash_time(k)
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct StartChange
{
	TimestampTz start;
	int			delta;
} StartChange;

struct CsOpenStarts
{
	MemoryContext context;
	starts_hash	 *times;
	starts_hash	 *minutes;
	int64		  first;   /* no minute before that is there; it may have gone itself */
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
	if (starts->times)
	{
		starts_destroy(starts->times);
		starts_destroy(starts->minutes);
	}
	starts->times = starts_create(starts->context, 256, NULL);
	starts->minutes = starts_create(starts->context, 64, NULL);
	starts->first = PG_INT64_MAX;
	starts->njournal = 0;
}

static void
add(starts_hash *counts, int64 time, int delta)
{
	bool		found;
	StartCount *entry = starts_insert(counts, time, &found);

	entry->count = (found ? entry->count : 0) + delta;
	if (entry->count == 0)
		starts_delete_item(counts, entry);
}

static void
count_start(CsOpenStarts *starts, TimestampTz start, int delta)
{
	add(starts->times, start, delta);
	add(starts->minutes, minute_of(start), delta);
	starts->first = Min(starts->first, minute_of(start));
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

/* Minutes are looked through only when the first one has gone. */
TimestampTz
cs_open_starts_first(CsOpenStarts *starts)
{
	starts_iterator scan;
	StartCount	   *entry;

	if (starts->minutes->members == 0)
		return CS_WM_DONE;
	if (starts_lookup(starts->minutes, starts->first) == NULL)
	{
		starts->first = PG_INT64_MAX;
		starts_start_iterate(starts->minutes, &scan);
		while ((entry = starts_iterate(starts->minutes, &scan)) != NULL)
			starts->first = Min(starts->first, entry->time);
	}
	return starts->first * USECS_PER_MINUTE;
}

static bool
search_all(CsOpenStarts *starts, TimestampTz start, TimestampTz end)
{
	starts_iterator scan;
	StartCount	   *entry;

	starts_start_iterate(starts->times, &scan);
	while ((entry = starts_iterate(starts->times, &scan)) != NULL)
	{
		if (entry->time >= start && entry->time < end)
			return true;
	}
	return false;
}

bool
cs_open_starts_in(CsOpenStarts *starts, TimestampTz start, TimestampTz end)
{
	int64 n = (int64) starts->times->members + starts->minutes->members;
	int64 last;
	bool  is_cut = false;

	if (n == 0 || start >= end)
		return false;
	last = minute_of(end - 1);
	if (last - minute_of(start) > n)
		return search_all(starts, start, end);
	for (int64 minute = minute_of(start); minute <= last; minute++)
	{
		if (starts_lookup(starts->minutes, minute) == NULL)
			continue;
		if (minute * USECS_PER_MINUTE >= start && (minute + 1) * USECS_PER_MINUTE <= end)
			return true;
		is_cut = true;
	}
	return is_cut && search_all(starts, start, end);
}
