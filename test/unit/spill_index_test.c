/*
 * test/unit/spill_index_test.c
 *	  The index of spilled keys beside a plain list that is searched.
 *
 *	spill_index_test [STEPS [SEED]]
 *
 * Keys are added, looked up and removed at random while time moves on; what is
 * due is asked for as a batch does, which now and then fails and must be given
 * all of it again.  There are enough keys for tables to grow and for the heap of
 * what is due soon to be gathered, to run over, and to run dry.
 *
 * The test notices mistakes: with the mutants spill_forgets and spill_not_due it
 * fails.
 *
 * Needs no server: memory is malloc()'s, under the address sanitizer.
 */
#include "postgres.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/mutant.h"
#include "state/spill_index.h"
#include "utils/memutils.h"

#undef printf
#undef fprintf

#define KEYS 30000
#define SECOND INT64CONST(1000000)

int cs_mutant = CS_MUTANT_NONE;

/* ---- what the server has ---- */

MemoryContext CurrentMemoryContext = NULL;

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	(void) context;
	return calloc(1, size);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	(void) context;
	return malloc(size);
}

void *
repalloc_huge(void *pointer, Size size)
{
	return realloc(pointer, size);
}

void
pfree(void *pointer)
{
	free(pointer);
}

static jmp_buf on_error;

bool
errstart(int elevel, const char *domain)
{
	(void) elevel;
	(void) domain;
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errmsg_internal(const char *fmt, ...)
{
	(void) fmt;
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	(void) filename;
	(void) lineno;
	(void) funcname;
	longjmp(on_error, 1);
}

/* ---- the plain list ---- */

typedef struct Spilled
{
	bool		is_there;
	TimestampTz due;
} Spilled;

static Spilled		 model[KEYS];
static CsSpillIndex *spilled;
static int64		 count;
static uint64		 state;
static int			 failures;

static uint64
next_random(void)
{
	uint64 z = (state += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static int64
below(int64 n)
{
	return (int64) (next_random() % (uint64) n);
}

static void
check(bool is_true, const char *what)
{
	if (is_true)
		return;
	if (failures++ == 0 && cs_mutant == CS_MUTANT_NONE)
		fprintf(stderr, "spill_index_test: %s\n", what);
}

/* Who it is is a hash; hi says which key, for the way back. */
static CsKey
key_of(int i)
{
	CsKey  key = {.def = 1};
	uint64 z = (uint64) i * UINT64CONST(0xD6E8FEB86659FD93);

	key.who.lo = z ^ (z >> 31);
	key.who.hi = ((uint64) i * UINT64CONST(0x9E3779B97F4A7C15)) << 16 | (uint64) i;
	return key;
}

static int
number_of(CsHash128 who)
{
	return (int) (who.hi & 0xffff);
}

static void
add(int i, TimestampTz due)
{
	CsKey key = key_of(i);

	if (model[i].is_there)
		return;
	model[i].is_there = true;
	model[i].due = due;
	count++;
	cs_spill_index_add(spilled, &key, due);
}

static void
take_out(int i)
{
	CsKey key = key_of(i);

	model[i].is_there = false;
	count--;
	cs_spill_index_remove(spilled, &key);
}

static void
look_up(int i)
{
	CsKey		key = key_of(i);
	TimestampTz due = 0;
	bool		found = cs_spill_index_has(spilled, &key, &due);

	check(found == model[i].is_there, "a key is there, or not, and the index says otherwise");
	check(!found || due == model[i].due, "a key is due at another time");
}

/* How many are due in (after, upto]; the first behind after. */
static int64
due_between(TimestampTz after, TimestampTz upto, TimestampTz *next)
{
	int64 n = 0;

	*next = CS_WM_DONE;
	for (int i = 0; i < KEYS; i++)
	{
		if (!model[i].is_there || model[i].due == CS_WM_DONE || (model[i].due <= after && after != CS_WM_NONE))
			continue;
		*next = Min(*next, model[i].due);
		n += model[i].due <= upto;
	}
	return n;
}

static void
check_list(const CsSpillDue *list, int n, bool more, int max, TimestampTz after, TimestampTz upto)
{
	TimestampTz next;
	int64		all = due_between(after, upto, &next);

	check(more ? n == max && all > n : all == n, "not all that is due was given, or more");
	for (int k = 0; k < n; k++)
	{
		int i = number_of(list[k].who);

		check(model[i].is_there && model[i].due == list[k].due && list[k].due <= upto &&
				  (after == CS_WM_NONE || list[k].due > after),
			  "something was given that is not due");
	}
}

/* A batch: what is due comes back, unless the batch fails before it is read. */
static void
batch(TimestampTz upto)
{
	int			n;
	bool		more;
	int			max = below(3) == 0 ? 1 + (int) below(200) : KEYS;
	bool		fails = below(8) == 0;
	CsSpillDue *due = cs_spill_index_due(spilled, upto, max, &n, &more);

	check_list(due, n, more, max, CS_WM_NONE, upto);
	for (int k = 0; k < n && !fails; k++)
	{
		if (model[number_of(due[k].who)].is_there)
			take_out(number_of(due[k].who));
	}
	free(due);
	cs_spill_index_end_batch(spilled, !fails);
}

static void
ask(TimestampTz now)
{
	TimestampTz after = now + below(600) * SECOND;
	TimestampTz upto = after + below(3600) * SECOND;
	TimestampTz next;
	int			n;
	bool		more;
	CsSpillDue *due = cs_spill_index_between(spilled, after, upto, KEYS, &n, &more);

	check_list(due, n, more, KEYS, after, upto);
	free(due);
	(void) due_between(after, upto, &next);
	check(cs_spill_index_next(spilled, after) == next, "the next due is another one");
}

static void
run(int steps, uint64 seed)
{
	TimestampTz now = below(2) * 700000000 * SECOND;

	memset(model, 0, sizeof(model));
	count = 0;
	failures = 0;
	state = seed;
	spilled = cs_spill_index_create(NULL);
	if (setjmp(on_error) != 0)
	{
		failures++;
		return;
	}
	for (int step = 0; step < steps && failures == 0; step++)
	{
		int64 most = (int64[]){1, 100, 2000}[below(3)];

		for (int64 i = below(most); i > 0; i--)
			add((int) below(KEYS),
				below(50) == 0 ? CS_WM_DONE : now + below((int64[]){60, 1800, 86400}[below(3)]) * SECOND);
		for (int64 i = below(20); i > 0; i--)
			look_up((int) below(KEYS));
		for (int64 i = below(20); i > 0; i--)
		{
			int k = (int) below(KEYS);

			if (model[k].is_there)
				take_out(k);
		}
		batch(now);
		if (below(10) == 0)
			ask(now);
		now += below((int64[]){2, 60, 3600}[below(3)]) * SECOND;
		check(cs_spill_index_count(spilled) == count, "the count is another one");
	}
	if (failures == 0)
		batch(CS_WM_DONE);
}

int
main(int argc, char **argv)
{
	int	   steps = (argc > 1 ? atoi(argv[1]) : 30000) / 10;
	uint64 seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 42;
	bool   ok;

	run(steps, seed);
	ok = failures == 0;
	for (int i = 0; i < 2; i++)
	{
		cs_mutant = ((int[]){CS_MUTANT_SPILL_FORGETS, CS_MUTANT_SPILL_NOT_DUE})[i];
		run(steps, seed);
		if (failures == 0)
			fprintf(stderr, "spill_index_test: a mistake is not noticed\n");
		ok = ok && failures > 0;
	}
	printf("spill index: %d steps, seed %llu, %s\n", steps, (unsigned long long) seed, ok ? "ok" : "FAILED");
	return ok ? 0 : 1;
}
