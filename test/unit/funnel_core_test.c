/*
 * test/unit/funnel_core_test.c
 *	  The one-pass funnel against a brute force that tries every chain.
 *
 *	funnel_core_test [CASES [SEED]]
 *
 * Random small inputs for each mode, made so that ties, repeats and events
 * that meet several conditions are common.  Compared are, for each attempt:
 * which event opened it, its level, whether an exclusion has spoilt it, when
 * and with which event it ended and why, the start of the chain it shows, the
 * time of the highest step; and that a chain with these times really exists
 * and is the one to show.  The brute force (funnel_brute.c) shares no code
 * with the core.
 *
 * Then the same with wrong versions of the core (core/mutant.h): each must be
 * noticed.
 *
 * Needs no server: the core wants postgres.h for types only.
 */
#include "postgres.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "funnel_brute.h"

#undef printf /* the server's own is not there */

int cs_mutant = CS_MUTANT_NONE;

/* What is made at random. */
typedef enum Flavor
{
	ORDERED,
	ORDERED_OPTIONAL,
	ORDERED_EXCLUSIONS,
	STRICT,
	STRICT_OPTIONAL,
	STRICT_EXCLUSIONS,
	UNORDERED,
	UNORDERED_EXCLUSIONS,
	FLAVORS
} Flavor;

static const char *const flavor_names[] = {"ordered",	"ordered, optional steps", "ordered, exclusions",
										   "strict",	"strict, optional steps",  "strict, exclusions",
										   "unordered", "unordered, exclusions"};

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
	static const End ends[] = {END_EXPIRED, END_CONVERSION, END_BROKEN, END_EXCLUDED};
	Attempt			*a = &out->attempts[out->n++];

	memset(a, 0, sizeof(*a));
	a->opener = opener;
	a->next = next;
	a->level = f->level;
	a->excluded = f->excluded;
	a->end = ends[f->end];
	if (f->end == CS_FUNNEL_GOES_ON && !cs_funnel_expires(rule, f))
		a->end = END_LENGTH;
	memcpy(a->times, f->best, sizeof(int64) * (rule->mode == CS_FUNNEL_UNORDERED ? rule->nsteps : f->level));
	cs_funnel_reset(f);
}

static void
run_core(const Input *in, Outcome *out)
{
	static int64 memory[2048];
	static int64 other[2048];
	CsFunnel	*f = cs_funnel_init(memory, &in->rule);
	int			 opener = -1;
	int			 group;

	Assert(cs_funnel_size(&in->rule) <= sizeof(memory));
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
			int taken = cs_funnel_take(&in->rule, f, in->time[i], in->event + i, group - i, &opened);

			if (opened >= 0)
				opener = i + opened;
			i += taken;
			if (f->end != CS_FUNNEL_GOES_ON)
				core_note(out, &in->rule, f, opener, i);
		}
		/* a copy is as good */
		cs_funnel_copy(&in->rule, (CsFunnel *) (f == (CsFunnel *) memory ? other : memory), f);
		f = (CsFunnel *) (f == (CsFunnel *) memory ? other : memory);
	}
	if (f->open)
		core_note(out, &in->rule, f, opener, in->n);
}

/* ---- inputs ---- */

static CsFunnelEvent
random_event(const Input *in)
{
	CsFunnelEvent e = {0};
	int			  n = in->rule.nsteps;

	if (random_below(3) == 0)
		e.steps = random_below((uint32) 1 << n); /* 0 as well */
	else
		e.steps = (uint32) 1 << random_below(n);
	if (in->has_taints && random_below(3) == 0)
	{
		e.taints = random_below((uint32) 1 << (n - 1));
		if (random_below(3) != 0)
			e.steps = 0;
	}
	return e;
}

/* Brute force for exclusions takes events one by one: of several at one time at most one may fill a step. */
static void
simplify_ties(Input *in)
{
	int end;

	for (int i = 0; i < in->n; i = end)
	{
		bool equal = random_below(2) == 0;

		/* equal events that are no exclusions are a group: one step only, so that it is the same one by one */
		if (equal && in->event[i].taints == 0)
			in->event[i].steps &= -in->event[i].steps;
		for (end = i + 1; end < in->n && in->time[end] == in->time[i]; end++)
		{
			if (equal)
				in->event[end] = in->event[i];
			else if (in->event[end].taints != 0)
				in->event[end].steps = 0;
			else
				in->time[end]++;
		}
		for (int k = i; k + 1 < in->n; k++)
			in->time[k + 1] = Max(in->time[k + 1], in->time[k]);
		for (end = i + 1; end < in->n && in->time[end] == in->time[i]; end++)
			;
	}
}

static void
make_input(Input *in, Flavor flavor)
{
	static const CsFunnelMode modes[] = {CS_FUNNEL_ORDERED,	  CS_FUNNEL_ORDERED,  CS_FUNNEL_ORDERED,
										 CS_FUNNEL_STRICT,	  CS_FUNNEL_STRICT,	  CS_FUNNEL_STRICT,
										 CS_FUNNEL_UNORDERED, CS_FUNNEL_UNORDERED};
	bool					  optional = flavor == ORDERED_OPTIONAL || flavor == STRICT_OPTIONAL;
	uint32					  style = random_below(4);
	int64					  t = 100;

	memset(in, 0, sizeof(*in));
	in->rule.mode = modes[flavor];
	in->has_taints = flavor == ORDERED_EXCLUSIONS || flavor == STRICT_EXCLUSIONS || flavor == UNORDERED_EXCLUSIONS;
	in->rule.nsteps = 1 + (int) random_below(MAX_STEPS);
	in->rule.within = random_below(8);
	in->rule.max_length = in->rule.within + random_below(10);
	if (optional)
		in->rule.optional = random_below((uint32) 1 << in->rule.nsteps) & ~(uint32) 1;
	in->rule.strict_increase = random_below(3) == 0 && (!in->has_taints || flavor == UNORDERED_EXCLUSIONS);
	in->n = 1 + (int) random_below(MAX_EVENTS);
	for (int i = 0; i < in->n; i++)
	{
		t += style == 0 ? 0 : random_below(style == 1 ? 2 : 4) * (random_below(2));
		in->time[i] = t;
		in->event[i] = random_event(in);
	}
	if (flavor == ORDERED_EXCLUSIONS)
		simplify_ties(in);
}

/* ---- comparison ---- */

static const char *
differs(const Input *in, const Outcome *core, const Outcome *brute)
{
	for (int i = 0; i < brute->n; i++)
	{
		const Attempt *b = &brute->attempts[i];
		Attempt		   c = core->attempts[i];
		const char	  *wrong;

		if (i >= core->n)
			return "an attempt is missing";
		if (c.opener != b->opener || c.next != b->next)
			return "an attempt has other events";
		if (c.level != b->level)
			return "level";
		if (c.end != b->end)
			return "end";
		if (c.excluded != b->excluded)
			return "exclusion";
		/* with optional steps a chain may be shown that has an older start and leaves out less */
		if (in->rule.mode != CS_FUNNEL_UNORDERED && in->rule.optional != 0 &&
			(c.times[0] > b->times[0] || c.times[c.level - 1] != b->times[b->level - 1]))
			return "start too late, or time of the highest level";
		if (in->rule.mode != CS_FUNNEL_UNORDERED && in->rule.optional == 0 &&
			(c.times[0] != b->times[0] || c.times[c.level - 1] != b->times[b->level - 1]))
			return "start, or time of the highest level";
		if (in->has_taints && in->rule.mode != CS_FUNNEL_UNORDERED &&
			memcmp(c.times, b->times, sizeof(int64) * c.level) != 0)
			return "step times";
		c.from = b->from;
		wrong = brute_times_wrong(in, &c);
		if (wrong)
			return wrong;
	}
	return core->n == brute->n ? NULL : "an attempt too many";
}

static void
print_attempts(const char *who, const Input *in, const Outcome *out)
{
	for (int i = 0; i < out->n; i++)
	{
		const Attempt *a = &out->attempts[i];

		printf("  %s: opened by %d, next %d, level %d, end %d%s, times", who, a->opener, a->next, a->level, a->end,
			   a->excluded ? ", excluded" : "");
		for (int k = 0; k < in->rule.nsteps; k++)
			printf(" %" PRId64, (int64_t) (a->times[k] == CS_FUNNEL_SKIPPED ? -1 : a->times[k]));
		printf("\n");
	}
}

static void
complain(const Input *in, const Outcome *core, const Outcome *brute, Flavor flavor, const char *what)
{
	printf("funnel_core: %s: %s\n  steps %d, within %" PRId64 ", max_length %" PRId64 ", optional %x%s\n",
		   flavor_names[flavor], what, in->rule.nsteps, (int64_t) in->rule.within, (int64_t) in->rule.max_length,
		   in->rule.optional, in->rule.strict_increase ? ", strict_increase" : "");
	for (int i = 0; i < in->n; i++)
		printf("  event %d: time %" PRId64 " steps %x taints %x\n", i, (int64_t) in->time[i], in->event[i].steps,
			   in->event[i].taints);
	print_attempts("core ", in, core);
	print_attempts("brute", in, brute);
}

/* A visitor with a million events of one time must not take a minute. */
static bool
large_group(void)
{
	enum
	{
		N = 1000000
	};
	CsFunnelRule   rule = {.nsteps = 2, .within = 10, .max_length = 100};
	int64		   memory[64];
	CsFunnel	  *f = cs_funnel_init(memory, &rule);
	CsFunnelEvent *events = malloc(sizeof(CsFunnelEvent) * N);
	int			   conversions = 0;
	int			   opener;
	clock_t		   before = clock();

	for (int i = 0; i < N; i++)
		events[i] = (CsFunnelEvent){1 + (uint32) (i & 1), 0};
	for (int i = 0; i < N;)
	{
		i += cs_funnel_take(&rule, f, 5, events + i, N - i, &opener);
		if (f->end == CS_FUNNEL_CONVERTED)
		{
			conversions++;
			cs_funnel_reset(f);
		}
	}
	free(events);
	if (conversions == N / 2 && clock() - before < 5 * CLOCKS_PER_SEC)
		return true;
	printf("funnel_core: a large group: %d conversions in %.1f s\n", conversions,
		   (double) (clock() - before) / CLOCKS_PER_SEC);
	return false;
}

/* A bot with a million events in an unordered funnel: what is held stays small, and the level right. */
static bool
many_held(void)
{
	CsFunnelRule  rule = {.nsteps = 3, .mode = CS_FUNNEL_UNORDERED, .within = 1000000, .max_length = 10000000};
	int64		 *memory = malloc(cs_funnel_size(&rule));
	CsFunnel	 *f = cs_funnel_init(memory, &rule);
	CsFunnelEvent e = {0};
	int			  opener;
	bool		  good = true;

	for (int i = 0; i < 1000000; i++)
	{
		e.steps = i == 500000 ? 4 : 3; /* steps 1 or 2; once step 3 */
		(void) cs_funnel_take(&rule, f, i, &e, 1, &opener);
		good = good && f->nheld <= CS_FUNNEL_HELD_MAX(3) && f->level == (i == 0 ? 1 : i < 500000 ? 2 : 3);
		if (f->end == CS_FUNNEL_CONVERTED)
			break;
	}
	good = good && f->best[0] == 0 && f->best[2] == 500000;
	if (!good)
		printf("funnel_core: many held events: level %d, %d held, times %" PRId64 " %" PRId64 " %" PRId64 "\n",
			   f->level, f->nheld, (int64_t) f->best[0], (int64_t) f->best[1], (int64_t) f->best[2]);
	free(memory);
	return good;
}

/* Random cases of a flavor; stops at the first difference and returns how many were equal. */
static long
run_cases(Flavor flavor, long cases, bool loud, long *attempts, long *conversions)
{
	for (long i = 0; i < cases; i++)
	{
		Input		in;
		Outcome		core, brute;
		const char *what;

		make_input(&in, flavor);
		run_core(&in, &core);
		brute_run(&in, &brute);
		what = differs(&in, &core, &brute);
		if (what)
		{
			if (loud)
				complain(&in, &core, &brute, flavor, what);
			return i;
		}
		*attempts += core.n;
		for (int k = 0; k < core.n; k++)
			*conversions += core.attempts[k].end == END_CONVERSION;
	}
	return cases;
}

/* A wrong version of the core must be noticed. */
static bool
noticed(int mutant, const char *name, Flavor flavor, long cases)
{
	long ignored = 0;
	long equal;

	cs_mutant = mutant;
	equal = run_cases(flavor, cases, false, &ignored, &ignored);
	cs_mutant = CS_MUTANT_NONE;
	if (equal == cases)
		printf("funnel_core: mutant %s was not noticed in %ld cases (%s)\n", name, cases, flavor_names[flavor]);
	else
		printf("funnel_core: mutant %s noticed after %ld cases (%s)\n", name, equal, flavor_names[flavor]);
	return equal < cases;
}

int
main(int argc, char **argv)
{
	long   cases = argc > 1 ? atol(argv[1]) : 30000;
	uint64 seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64) time(NULL);

	printf("funnel_core: %ld cases each, seed %" PRIu64 "\n", cases, (uint64_t) seed);
	random_state = seed;
	for (Flavor flavor = 0; flavor < FLAVORS; flavor++)
	{
		long attempts = 0;
		long conversions = 0;

		if (run_cases(flavor, cases, true, &attempts, &conversions) < cases || conversions == 0 ||
			conversions == attempts)
			return 1;
		printf("funnel_core: ok, %s: %ld attempts, %ld conversions\n", flavor_names[flavor], attempts, conversions);
	}
	if (!noticed(CS_MUTANT_TIE_OVERWRITES, "tie_overwrites", ORDERED, cases) ||
		!noticed(CS_MUTANT_WITHIN_EXCLUSIVE, "within_exclusive", ORDERED, cases) ||
		!noticed(CS_MUTANT_WITHIN_EXCLUSIVE, "within_exclusive", STRICT, cases) ||
		!noticed(CS_MUTANT_WITHIN_EXCLUSIVE, "within_exclusive", UNORDERED, cases))
		return 1;
	return large_group() && many_held() ? 0 : 1;
}
