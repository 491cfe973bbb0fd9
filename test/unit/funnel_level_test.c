/*
 * test/unit/funnel_level_test.c
 *	  Levels of stored events against ClickHouse's rules taken literally.
 *
 *	funnel_level_test [CASES [SEED]]
 *
 * The reference makes an entry of each condition that a row meets, sorts them,
 * and keeps every chain there is with the rows that it uses.  Random small
 * inputs of all modes together, with many ties, repeats and rows that meet
 * several conditions; unless it matters, the rows of one time are fed in
 * another order than the reference has them.  Then wrong versions (core/mutant.h), which must be noticed.
 *
 * That the reference is what ClickHouse does is checked elsewhere: make
 * check-clickhouse, and what is kept of its answers in test/cases.
 */
#include "postgres.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "operator/funnel_level.h"

#undef printf /* the server's own are not there */
#undef qsort

#define MAX_ROWS 8
#define MAX_STEPS 5
#define MAX_CHAINS 20000

int cs_mutant = CS_MUTANT_NONE;

typedef struct Row
{
	int64  time;
	uint32 mask;
} Row;

typedef struct Input
{
	int	  nsteps;
	int	  modes;
	int64 within;
	int	  n;
	Row	  rows[MAX_ROWS];
} Input;

static uint64 random_state;

static uint32
random_below(uint32 n)
{
	/* splitmix64 */
	uint64 z = (random_state += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return (uint32) ((z ^ (z >> 31)) % n);
}

/* ---- the reference ---- */

typedef struct Entry
{
	int64 time;
	int	  step; /* from 1; 0: meets nothing */
	int	  row;
} Entry;

typedef struct Chain
{
	int64  start, last;
	uint32 rows;
} Chain;

static Chain chains[MAX_STEPS + 1][MAX_CHAINS];
static int	 nchains[MAX_STEPS + 1];

static int
compare_entries(const void *a, const void *b)
{
	const Entry *x = a, *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return x->step != y->step ? x->step - y->step : x->row - y->row;
}

static int
make_entries(const Input *in, Entry *entries)
{
	int n = 0;

	for (int i = 0; i < in->n; i++)
	{
		for (int k = 1; k <= in->nsteps; k++)
			if ((in->rows[i].mask >> (k - 1) & 1) != 0)
				entries[n++] = (Entry){in->rows[i].time, k, i};
		if (in->rows[i].mask == 0 && (in->modes & CS_LEVEL_ORDER) != 0)
			entries[n++] = (Entry){in->rows[i].time, 0, i};
	}
	qsort(entries, n, sizeof(Entry), compare_entries);
	return n;
}

static void
add_chain(const Input *in, int level, Chain chain)
{
	if ((in->modes & CS_LEVEL_ONCE) == 0)
		nchains[level] = 0; /* only the one made last */
	if (nchains[level] == MAX_CHAINS)
		abort();
	chains[level][nchains[level]++] = chain;
}

static void
extend_chains(const Input *in, const Entry *e)
{
	int level = e->step;

	for (int i = 0; i < nchains[level - 1]; i++)
	{
		Chain c = chains[level - 1][i];

		if (e->time > c.start + in->within || ((in->modes & CS_LEVEL_INCREASE) != 0 && c.last >= e->time))
			continue;
		if ((in->modes & CS_LEVEL_ONCE) != 0 && (c.rows >> e->row & 1) != 0)
			continue;
		add_chain(in, level, (Chain){c.start, e->time, c.rows | (uint32) 1 << e->row});
	}
}

static int
highest(const Input *in)
{
	int level = in->nsteps;

	while (level > 0 && nchains[level] == 0)
		level--;
	return level;
}

static int
reference(const Input *in)
{
	Entry entries[MAX_ROWS * MAX_STEPS];
	int	  n = make_entries(in, entries);

	memset(nchains, 0, sizeof(nchains));
	for (int i = 0; i < n; i++)
	{
		const Entry *e = &entries[i];

		if (e->step == 0)
		{
			if (highest(in) > 0)
				break;
		}
		else if (e->step == 1)
			add_chain(in, 1, (Chain){e->time, e->time, (uint32) 1 << e->row});
		else if ((in->modes & CS_LEVEL_DEDUPLICATION) != 0 && nchains[e->step] > 0)
			break;
		else if ((in->modes & CS_LEVEL_ORDER) != 0 && nchains[1] > 0 && nchains[e->step - 1] == 0)
		{
			if ((in->modes & CS_LEVEL_REENTRY) == 0)
				break;
		}
		else
			extend_chains(in, e);
		if (nchains[in->nsteps] > 0)
			break;
	}
	return highest(in);
}

/* ---- the subject ---- */

static int
subject(const Input *in)
{
	static CsLevel level;
	Row			   rows[MAX_ROWS];
	int			   n = 0;

	/* by time; of equal times the later row first, unless order matters */
	bool as_they_come =
		(in->modes & (CS_LEVEL_DEDUPLICATION | CS_LEVEL_ONCE)) == (CS_LEVEL_DEDUPLICATION | CS_LEVEL_ONCE);

	for (int i = 0; i < in->n; i++)
	{
		int at = n++;

		for (; at > 0 && rows[at - 1].time >= in->rows[i].time + as_they_come; at--)
			rows[at] = rows[at - 1];
		rows[at] = in->rows[i];
	}
	cs_level_init(&level, in->nsteps, in->within, in->modes);
	for (int i = 0; i < n; i++)
		if (!cs_level_feed(&level, rows[i].time, rows[i].mask))
			break;
	return cs_level_result(&level);
}

/* ---- random inputs ---- */

static void
make_input(Input *in)
{
	uint32 times = 1 + random_below(8);
	uint32 density = 1 + random_below(3);

	in->nsteps = 1 + random_below(MAX_STEPS);
	in->modes = random_below(32);
	if ((in->modes & CS_LEVEL_REENTRY) != 0)
		in->modes |= CS_LEVEL_ORDER;
	in->within = random_below(6);
	in->n = random_below(MAX_ROWS + 1);
	for (int i = 0; i < in->n; i++)
	{
		in->rows[i].time = random_below(times);
		in->rows[i].mask = 0;
		for (uint32 k = random_below(density + 1); k > 0; k--)
			in->rows[i].mask |= (uint32) 1 << random_below(in->nsteps);
	}
}

static void
print_input(const Input *in, int expected, int got)
{
	printf("modes %x, %d steps, within %" PRId64 ": expected %d, got %d\n", in->modes, in->nsteps, in->within, expected,
		   got);
	for (int i = 0; i < in->n; i++)
		printf("  %" PRId64 " %x\n", in->rows[i].time, in->rows[i].mask);
}

static int
count_wrong(int cases, uint64 seed, bool show)
{
	int wrong = 0;

	random_state = seed;
	for (int i = 0; i < cases; i++)
	{
		Input in;
		int	  expected, got;

		make_input(&in);
		expected = reference(&in);
		got = subject(&in);
		if (expected != got && wrong++ < 3 && show)
			print_input(&in, expected, got);
	}
	return wrong;
}

/* More rows of one time than are kept change nothing. */
static bool
many_ties(void)
{
	static CsLevel level;

	for (int modes = 0; modes < 32; modes++)
	{
		int want = (modes & CS_LEVEL_INCREASE) != 0 ? 1 : (modes & CS_LEVEL_DEDUPLICATION) != 0 ? 2 : 3;
		int got;

		cs_level_init(&level, 3, 10, modes);
		for (int i = 0; i < 100000; i++)
			cs_level_feed(&level, 7, (uint32) 1 << i % 3);
		got = cs_level_result(&level);
		if (got != want)
		{
			printf("100000 rows of one time, modes %x: expected %d, got %d\n", modes, want, got);
			return false;
		}
	}
	return true;
}

int
main(int argc, char **argv)
{
	static const int mutants[] = {CS_MUTANT_WITHIN_EXCLUSIVE, CS_MUTANT_TIE_OVERWRITES};
	int				 cases = argc > 1 ? atoi(argv[1]) : 30000;
	uint64			 seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 42;
	int				 failed = count_wrong(cases, seed, true) > 0 || !many_ties();

	for (int i = 0; i < (int) lengthof(mutants); i++)
	{
		cs_mutant = mutants[i];
		if (count_wrong(cases, seed, false) == 0)
		{
			printf("mutant %d was not noticed\n", cs_mutant);
			failed = 1;
		}
	}
	printf("funnel_level: %d cases, seed %" PRIu64 ": %s\n", cases, seed, failed ? "FAILED" : "ok");
	return failed;
}
