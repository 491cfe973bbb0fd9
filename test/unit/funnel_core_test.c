/*
 * test/unit/funnel_core_test.c
 *	  The one-pass funnel against a brute force that tries every chain.
 *
 *	funnel_core_test [CASES [SEED]]
 *
 * Random small inputs, made so that ties, repeats and events that meet several
 * conditions are common.  Compared are, for each attempt: which event opened
 * it, its level, whether, when and with which event it ended and why, the
 * start of the chain it shows, the time of each step; and that a chain with
 * these times really exists.  The brute force shares no code with the core.
 *
 * Needs no server: the core wants postgres.h for types only.
 */
#include "postgres.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "operator/funnel_core.h"

#undef printf /* the server's own is not there */

#define MAX_EVENTS 10
#define MAX_STEPS 5

typedef struct Input
{
	CsFunnelRule rule;
	int			 n;
	int64		 time[MAX_EVENTS]; /* ascending */
	uint32		 mask[MAX_EVENTS];
} Input;

typedef enum End
{
	END_CONVERSION,
	END_EXPIRED,
	END_LENGTH
} End;

typedef struct Attempt
{
	int	  opener;
	int	  next; /* first event after it */
	int	  level;
	End	  end;
	int64 times[MAX_STEPS];
} Attempt;

typedef struct Outcome
{
	int		n;
	Attempt attempts[MAX_EVENTS];
} Outcome;

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

/* ---- the core, driven as the operator drives it ---- */

static void
core_note(Outcome *out, const CsFunnelRule *rule, CsFunnel *f, int opener, int next)
{
	Attempt *a = &out->attempts[out->n++];

	a->opener = opener;
	a->next = next;
	a->level = f->level;
	a->end = f->converted ? END_CONVERSION : cs_funnel_expires(rule, f) ? END_EXPIRED : END_LENGTH;
	memcpy(a->times, f->best, sizeof(int64) * f->level);
	cs_funnel_reset(f);
}

static void
run_core(const Input *in, Outcome *out)
{
	int64	  memory[64];
	CsFunnel *f = cs_funnel_init(memory, in->rule.nsteps);
	int		  opener = -1;
	int		  group;

	out->n = 0;
	for (int i = 0; i < in->n; i = group)
	{
		for (group = i + 1; group < in->n && in->time[group] == in->time[i]; group++)
			;
		if (f->open && in->time[i] > cs_funnel_last_moment(&in->rule, f))
			core_note(out, &in->rule, f, opener, i);
		while (i < group)
		{
			int opened;
			int taken = cs_funnel_take(&in->rule, f, in->time[i], in->mask + i, group - i, &opened);

			if (opened >= 0)
				opener = i + opened;
			i += taken;
			if (f->converted)
				core_note(out, &in->rule, f, opener, i);
		}
	}
	if (f->open)
		core_note(out, &in->rule, f, opener, in->n);
}

/* ---- brute force: every choice of distinct events for steps 1, 2, ... ---- */

typedef struct Search
{
	const Input *in;
	int			 from, to;		  /* events allowed */
	const int64 *fixed;			  /* times the chain must have, or NULL */
	int			 level;			  /* best found */
	int64		 start;			  /* latest start among chains of that level */
	int64		 first, previous; /* of the chain being made */
	bool		 used[MAX_EVENTS];
	int64		 earliest[MAX_STEPS]; /* of the steps of chains that start at only_start */
	int64		 only_start;
} Search;

static void
search(Search *s, int depth)
{
	const Input *in = s->in;

	if (depth > s->level || (depth == s->level && depth > 0 && s->first > s->start))
	{
		s->level = depth;
		s->start = s->first;
	}
	if (depth > 0 && s->first == s->only_start)
		s->earliest[depth - 1] = Min(s->earliest[depth - 1], s->previous);
	if (depth == in->rule.nsteps)
		return;
	for (int i = s->from; i < s->to; i++)
	{
		int64 first = depth == 0 ? in->time[i] : s->first;
		int64 before = s->previous;
		int64 first_before = s->first;

		if (s->used[i] || (in->mask[i] >> depth & 1) == 0 || in->time[i] - first > in->rule.within)
			continue;
		if (depth > 0 && (in->time[i] < before || (in->rule.strict_increase && in->time[i] == before)))
			continue;
		if (s->fixed && s->fixed[depth] != in->time[i])
			continue;
		s->used[i] = true;
		s->first = first;
		s->previous = in->time[i];
		search(s, depth + 1);
		s->used[i] = false;
		s->first = first_before;
		s->previous = before;
	}
}

static int
brute_level(const Input *in, int from, int to, const int64 *fixed, int64 *start)
{
	Search s = {.in = in, .from = from, .to = to, .fixed = fixed};

	search(&s, 0);
	*start = s.start;
	return s.level;
}

/*
 * Of chains with the same start the one that came first is kept at each level:
 * so each step shown is the earliest at which any chain with this start got there.
 */
static bool
brute_times_are_earliest(const Input *in, int from, int to, const int64 *times, int level)
{
	Search s = {.in = in, .from = from, .to = to, .only_start = times[0]};

	for (int k = 0; k < MAX_STEPS; k++)
		s.earliest[k] = PG_INT64_MAX;
	search(&s, 0);
	return memcmp(s.earliest, times, sizeof(int64) * level) == 0;
}

/* One attempt from event *pos on; false if none opens any more. times[0] and times[level-1] are set. */
static bool
brute_attempt(const Input *in, int *pos, Attempt *a)
{
	int	  from = *pos;
	int	  end;
	int	  level;
	int64 start;
	int64 latest;

	/* the first event of step 1 opens; what stands before it at the same time may still be used */
	for (a->opener = from; a->opener < in->n && (in->mask[a->opener] & 1) == 0; a->opener++)
		;
	if (a->opener == in->n)
		return false;
	while (in->time[from] != in->time[a->opener])
		from++;

	a->level = 0;
	for (int i = from; i < in->n; i = end)
	{
		latest = PG_INT64_MIN;
		for (int k = from; k < i; k++)
			if (in->mask[k] & 1)
				latest = in->time[k];
		if (i > from &&
			(in->time[i] > latest + in->rule.within || in->time[i] > in->time[a->opener] + in->rule.max_length))
		{
			a->end = latest + in->rule.within <= in->time[a->opener] + in->rule.max_length ? END_EXPIRED : END_LENGTH;
			a->next = *pos = i;
			return true;
		}
		for (end = i + 1; end < in->n && in->time[end] == in->time[i]; end++)
			;
		for (int prefix = i + 1; prefix <= end; prefix++)
			if (brute_level(in, from, prefix, NULL, &start) == in->rule.nsteps)
			{
				end = prefix;
				break;
			}
		level = brute_level(in, from, end, NULL, &start);
		if (level > a->level)
		{
			a->level = level;
			a->times[level - 1] = in->time[i];
			a->times[0] = start;
		}
		if (level == in->rule.nsteps)
		{
			a->end = END_CONVERSION;
			a->next = *pos = end;
			return true;
		}
	}
	latest = PG_INT64_MIN;
	for (int k = from; k < in->n; k++)
		if (in->mask[k] & 1)
			latest = in->time[k];
	a->end = latest + in->rule.within <= in->time[a->opener] + in->rule.max_length ? END_EXPIRED : END_LENGTH;
	a->next = *pos = in->n;
	return true;
}

/* ---- comparison ---- */

static void
make_input(Input *in)
{
	uint32 style = random_below(4);
	int64  t = 100;

	memset(in, 0, sizeof(*in));
	in->rule.nsteps = 1 + (int) random_below(MAX_STEPS);
	in->rule.within = random_below(8);
	in->rule.max_length = in->rule.within + random_below(10);
	in->rule.strict_increase = random_below(3) == 0;
	in->n = 1 + (int) random_below(MAX_EVENTS);
	for (int i = 0; i < in->n; i++)
	{
		t += style == 0 ? 0 : random_below(style == 1 ? 2 : 4) * (random_below(2));
		in->time[i] = t;
		if (random_below(3) == 0)
			in->mask[i] = random_below((uint32) 1 << in->rule.nsteps); /* 0 as well */
		else
			in->mask[i] = (uint32) 1 << random_below(in->rule.nsteps);
	}
}

static const char *
differs(const Input *in, const Outcome *core)
{
	int pos = 0;
	int n = 0;

	for (Attempt b; brute_attempt(in, &pos, &b); n++)
	{
		const Attempt *c = &core->attempts[n];
		int64		   start;
		int			   from = c->opener;

		if (n >= core->n)
			return "an attempt is missing";
		if (c->opener != b.opener || c->next != b.next)
			return "an attempt has other events";
		if (c->level != b.level)
			return "level";
		if (c->end != b.end)
			return "end";
		if (c->times[0] != b.times[0] || c->times[c->level - 1] != b.times[b.level - 1])
			return "start, or time of the highest level";
		while (from > (n > 0 ? core->attempts[n - 1].next : 0) && in->time[from - 1] == in->time[c->opener])
			from--;
		if (brute_level(in, from, c->next, c->times, &start) < c->level)
			return "step times of a chain that does not exist";
		if (!brute_times_are_earliest(in, from, c->next, c->times, c->level))
			return "step times";
	}
	return n == core->n ? NULL : "an attempt too many";
}

static void
complain(const Input *in, const Outcome *core, const char *what)
{
	printf("funnel_core: %s\n  steps %d, within %" PRId64 ", max_length %" PRId64 "%s\n", what, in->rule.nsteps,
		   (int64_t) in->rule.within, (int64_t) in->rule.max_length,
		   in->rule.strict_increase ? ", strict_increase" : "");
	for (int i = 0; i < in->n; i++)
		printf("  event %d: time %" PRId64 " mask %x\n", i, (int64_t) in->time[i], in->mask[i]);
	for (int i = 0; i < core->n; i++)
	{
		const Attempt *a = &core->attempts[i];

		printf("  attempt: opened by %d, next %d, level %d, end %d, times", a->opener, a->next, a->level, a->end);
		for (int k = 0; k < a->level; k++)
			printf(" %" PRId64, (int64_t) a->times[k]);
		printf("\n");
	}
}

/* A visitor with a million events of one time must not take a minute. */
static bool
large_group(void)
{
	enum
	{
		N = 1000000
	};
	CsFunnelRule rule = {.nsteps = 2, .within = 10, .max_length = 100};
	int64		 memory[64];
	CsFunnel	*f = cs_funnel_init(memory, rule.nsteps);
	uint32		*masks = malloc(sizeof(uint32) * N);
	int			 conversions = 0;
	int			 opener;
	clock_t		 before = clock();

	for (int i = 0; i < N; i++)
		masks[i] = 1 + (uint32) (i & 1);
	for (int i = 0; i < N;)
	{
		i += cs_funnel_take(&rule, f, 5, masks + i, N - i, &opener);
		if (f->converted)
		{
			conversions++;
			cs_funnel_reset(f);
		}
	}
	free(masks);
	if (conversions == N / 2 && clock() - before < 5 * CLOCKS_PER_SEC)
		return true;
	printf("funnel_core: a large group: %d conversions in %.1f s\n", conversions,
		   (double) (clock() - before) / CLOCKS_PER_SEC);
	return false;
}

int
main(int argc, char **argv)
{
	long   cases = argc > 1 ? atol(argv[1]) : 200000;
	uint64 seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64) time(NULL);
	long   attempts = 0;
	long   conversions = 0;

	printf("funnel_core: %ld cases, seed %" PRIu64 "\n", cases, (uint64_t) seed);
	random_state = seed;
	for (long i = 0; i < cases; i++)
	{
		Input		in;
		Outcome		core;
		const char *what;

		make_input(&in);
		run_core(&in, &core);
		what = differs(&in, &core);
		if (what)
		{
			complain(&in, &core, what);
			return 1;
		}
		attempts += core.n;
		for (int k = 0; k < core.n; k++)
			conversions += core.attempts[k].end == END_CONVERSION;
	}
	if (conversions == 0 || conversions == attempts || !large_group())
		return 1;
	printf("funnel_core: ok, %ld attempts, %ld conversions\n", attempts, conversions);
	return 0;
}
