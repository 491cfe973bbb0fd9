/*
 * test/unit/funnel_brute.c
 *	  Attempts of a small input, found by trying everything.
 *
 * Chains: every choice of events for steps 1, 2, ..., optional ones left out
 * or not; strict: neighbours only.  Unordered: every assignment of events to
 * steps.  Exclusions: each start on its own goes from step to step as early as
 * it can and is tainted by what it meets; for these, inputs are such that at
 * most one of several different events of one time fills a step.
 */
#include "funnel_brute.h"

static inline bool
fills(const Input *in, int event, int step)
{
	return (in->event[event].steps >> step & 1) != 0;
}

static inline bool
is_optional(const Input *in, int step)
{
	return (in->rule.optional >> step & 1) != 0;
}

/* ---- chains ---- */

typedef struct Search
{
	const Input *in;
	int			 from, to; /* events allowed */
	int			 last;	   /* the chain's last event must be this; -1: any */
	const int64 *fixed;	   /* times the chain must have, SKIPPED for steps left out, or NULL */
	int			 level;	   /* best found */
	int64		 start;	   /* latest start among chains of that level */
	int64		 latest;   /* latest start of any chain */
	int64		 first;	   /* of the chain being made */
	int			 previous; /* its last event */
	bool		 used[MAX_EVENTS];
	int64		 earliest[MAX_STEPS]; /* of the steps of chains that start at only_start */
	int64		 only_start;
} Search;

static void search(Search *s, int step, int level);

static void
try_event(Search *s, int step, int level, int i)
{
	const Input *in = s->in;
	int			 previous = s->previous;
	int64		 first = s->first;

	if (s->used[i] || !fills(in, i, step) || (s->fixed && s->fixed[step] != in->time[i]))
		return;
	if (level == 0)
		s->first = in->time[i];
	else if (in->time[i] < in->time[previous] || (in->rule.strict_increase && in->time[i] == in->time[previous]) ||
			 (in->rule.mode == CS_FUNNEL_STRICT && i != previous + 1))
		return;
	if (in->time[i] - s->first <= in->rule.within)
	{
		s->used[i] = true;
		s->previous = i;
		search(s, step + 1, step + 1);
		s->used[i] = false;
	}
	s->first = first;
	s->previous = previous;
}

static void
search(Search *s, int step, int level)
{
	const Input *in = s->in;

	if (step == level && level > 0 && (s->last < 0 || s->previous == s->last))
	{
		if (level > s->level || (level == s->level && s->first > s->start))
		{
			s->level = level;
			s->start = s->first;
		}
		s->latest = Max(s->latest, s->first);
		if (s->first == s->only_start)
			s->earliest[level - 1] = Min(s->earliest[level - 1], in->time[s->previous]);
	}
	if (step == in->rule.nsteps)
		return;
	for (int i = s->from; i < s->to; i++)
		try_event(s, step, level, i);
	if (is_optional(in, step) && (s->fixed == NULL || s->fixed[step] == CS_FUNNEL_SKIPPED))
		search(s, step + 1, level);
}

static Search
best_chain(const Input *in, int from, int to, int last, const int64 *fixed)
{
	Search s = {.in = in, .from = from, .to = to, .last = last, .fixed = fixed, .latest = PG_INT64_MIN};

	search(&s, 0, 0);
	return s;
}

/* The start after which nobody goes on: of step 1 (ordered), or of the chains that end here (strict). */
static int64
latest_start(const Input *in, int from, int to)
{
	return best_chain(in, from, to, in->rule.mode == CS_FUNNEL_STRICT ? to - 1 : -1, NULL).latest;
}

static End
end_in_time(const Input *in, const Attempt *a, int64 latest)
{
	return latest + in->rule.within <= in->time[a->opener] + in->rule.max_length ? END_EXPIRED : END_LENGTH;
}

static bool
is_over(const Input *in, const Attempt *a, int64 latest, int64 t)
{
	return t > latest + in->rule.within || t > in->time[a->opener] + in->rule.max_length;
}

/* Events from i on that are looked at together. */
static int
group_end(const Input *in, int i)
{
	int end = i + 1;

	while (in->rule.mode == CS_FUNNEL_ORDERED && end < in->n && in->time[end] == in->time[i])
		end++;
	return end;
}

/* The first event of step 1 opens; what stands before it at the same time may still be used. */
static bool
open_chain_attempt(const Input *in, int pos, Attempt *a)
{
	memset(a, 0, sizeof(*a));
	a->from = pos;
	for (a->opener = pos; a->opener < in->n && !fills(in, a->opener, 0); a->opener++)
		;
	if (a->opener == in->n)
		return false;
	if (in->rule.mode == CS_FUNNEL_STRICT)
		a->from = a->opener;
	while (in->time[a->from] != in->time[a->opener])
		a->from++;
	return true;
}

static bool
chain_attempt(const Input *in, int pos, Attempt *a)
{
	int end;

	if (!open_chain_attempt(in, pos, a))
		return false;
	for (int i = a->from; i < in->n; i = end)
	{
		Search s;

		a->next = i;
		if (i > a->from && is_over(in, a, latest_start(in, a->from, i), in->time[i]))
		{
			a->end = end_in_time(in, a, latest_start(in, a->from, i));
			return true;
		}
		end = group_end(in, i);
		for (int prefix = i + 1; prefix <= end; prefix++)
			if (best_chain(in, a->from, prefix, -1, NULL).level == in->rule.nsteps)
				end = prefix;
		s = best_chain(in, a->from, end, -1, NULL);
		a->next = end;
		if (s.level > a->level)
		{
			a->level = s.level;
			a->times[s.level - 1] = in->time[i];
			a->times[0] = s.start;
		}
		a->end = END_CONVERSION;
		if (s.level == in->rule.nsteps)
			return true;
		a->end = END_BROKEN;
		if (in->rule.mode == CS_FUNNEL_STRICT && best_chain(in, a->from, end, i, NULL).level == 0)
			return true;
	}
	a->end = end_in_time(in, a, latest_start(in, a->from, in->n));
	return true;
}

/*
 * Of chains with the same start the one that came first is kept at each level:
 * so each step shown is the earliest at which any chain with this start got there.
 */
static const char *
chain_times_wrong(const Input *in, const Attempt *a)
{
	Search s = {.in = in, .from = a->from, .to = a->next, .last = -1, .only_start = a->times[0]};

	if (best_chain(in, a->from, a->next, -1, a->times).level < a->level)
		return "step times of a chain that does not exist";
	if (in->rule.optional != 0 || in->rule.mode == CS_FUNNEL_STRICT)
		return NULL;
	for (int k = 0; k < MAX_STEPS; k++)
		s.earliest[k] = PG_INT64_MAX;
	search(&s, 0, 0);
	return memcmp(s.earliest, a->times, sizeof(int64) * a->level) == 0 ? NULL : "step times";
}

/* ---- unordered ---- */

/* Most steps from step on that unused events of [from, to) can fill. */
static int
most_steps(const Input *in, int from, int to, int step, bool *used)
{
	int best;

	if (step == in->rule.nsteps)
		return 0;
	best = most_steps(in, from, to, step + 1, used);
	for (int i = from; i < to; i++)
	{
		bool is_free = fills(in, i, step) && !used[i];

		for (int k = from; k < to && in->rule.strict_increase; k++)
			is_free = is_free && !(used[k] && in->time[k] == in->time[i]);
		if (!is_free)
			continue;
		used[i] = true;
		best = Max(best, 1 + most_steps(in, from, to, step + 1, used));
		used[i] = false;
	}
	return best;
}

static bool
all_equal(const Input *in, int from)
{
	for (int i = from + 1; i < in->n && in->time[i] == in->time[from]; i++)
		if (in->event[i].steps != in->event[from].steps || in->event[i].taints != in->event[from].taints)
			return false;
	return true;
}

/* Is event i an exclusion that has an effect, in a group of which what was before pos is gone? */
static bool
excludes(const Input *in, int pos, int i)
{
	int first = i;

	while (first > pos && in->time[first - 1] == in->time[i])
		first--;
	return in->event[i].taints != 0 && (in->rule.mode == CS_FUNNEL_STRICT || all_equal(in, first));
}

/* Where the stretch of length within that ends at event i begins. */
static int
stretch(const Input *in, int from, int i)
{
	while (in->time[from] < in->time[i] - in->rule.within)
		from++;
	return from;
}

static bool
unordered_attempt(const Input *in, int pos, Attempt *a)
{
	bool  used[MAX_EVENTS] = {false};
	int64 best_start = 0;
	int64 latest;

	memset(a, 0, sizeof(*a));
	for (a->opener = pos; a->opener < in->n && in->event[a->opener].steps == 0; a->opener++)
		;
	if (a->opener == in->n)
		return false;
	a->from = a->opener;
	latest = in->time[a->opener];
	for (int i = a->opener; i < in->n; i++)
	{
		int level;

		a->next = i;
		a->end = end_in_time(in, a, latest);
		if (is_over(in, a, latest, in->time[i]))
			return true;
		a->end = END_EXCLUDED;
		a->excluded = in->time[i] <= best_start + in->rule.within;
		if (i > a->opener && excludes(in, pos, i))
			return true;
		a->excluded = false;
		a->next = i + 1;
		if (in->event[i].steps == 0)
			continue;
		latest = in->time[i];
		level = most_steps(in, stretch(in, a->from, i), i + 1, 0, used);
		if (level > a->level)
		{
			int first = stretch(in, a->from, i);

			/* the oldest event that meets a step is always one of those shown */
			while (in->event[first].steps == 0)
				first++;
			a->level = level;
			best_start = in->time[first];
			a->times[0] = in->time[i];
		}
		a->end = END_CONVERSION;
		if (level == in->rule.nsteps)
			return true;
	}
	a->next = in->n;
	a->end = end_in_time(in, a, latest);
	return true;
}

static const char *
unordered_times_wrong(const Input *in, const Attempt *a)
{
	bool  used[MAX_EVENTS] = {false};
	int64 first = PG_INT64_MAX;
	int64 last = PG_INT64_MIN;
	int	  level = 0;
	bool  single = true;

	for (int k = 0; k < in->rule.nsteps; k++)
	{
		int i = a->from;

		if (a->times[k] == CS_FUNNEL_SKIPPED)
			continue;
		/* of masks that overlap any assignment will do, found greedily: only single ones are sure to be found */
		for (; i < a->next && (in->time[i] != a->times[k] || !fills(in, i, k) || used[i]); i++)
			;
		single = single && i < a->next;
		if (i < a->next)
			used[i] = true;
		level++;
		first = Min(first, a->times[k]);
		last = Max(last, a->times[k]);
	}
	for (int i = a->from; i < a->next; i++)
		single = single && __builtin_popcount(in->event[i].steps) <= 1;
	if (level != a->level || last - first > in->rule.within)
		return "not as many steps within the time";
	for (int k = 0; k < in->rule.nsteps && single && !in->rule.strict_increase; k++)
		for (int i = a->from; i < a->next && in->time[i] <= last; i++)
			if (fills(in, i, k) && in->time[i] >= last - in->rule.within &&
				(a->times[k] == CS_FUNNEL_SKIPPED || in->time[i] < a->times[k]))
				return "not the earliest event of a step";
	return NULL;
}

/* ---- exclusions, ordered and strict: each start on its own ---- */

typedef struct Start
{
	int64 time;
	int	  level;
	bool  tainted, gone; /* gone: strict, not extended by the last event */
	int64 at[MAX_STEPS];
} Start;

typedef struct Starts
{
	const Input *in;
	Attempt		*a;
	int			 n;
	Start		 start[MAX_EVENTS];
} Starts;

/* A start has got to a level, or would have if it were not tainted. */
static void
reach(Starts *s, const Start *start, int level, bool tainted)
{
	Attempt *a = s->a;

	if (level > a->level || (level == a->level && a->excluded))
	{
		a->level = level;
		a->excluded = tainted;
		memcpy(a->times, start->at, sizeof(int64) * level);
	}
}

static void
meet_exclusion(Starts *s, int i)
{
	const Input *in = s->in;
	int64		 t = in->time[i];

	for (int level = 1; level <= in->rule.nsteps; level++)
	{
		bool hit = false;

		if ((in->event[i].taints >> (level - 1) & 1) == 0)
			continue;
		for (int k = 0; k < s->n; k++)
		{
			Start *start = &s->start[k];

			if (!start->gone && start->level == level && !start->tainted && t - start->time <= in->rule.within)
				hit = start->tainted = true;
		}
		if (hit && s->a->level == level && t - s->a->times[0] <= in->rule.within)
			s->a->excluded = true;
	}
}

/* Older starts first: of those that reach a level together the latest is shown. */
static void
meet_steps(Starts *s, int i)
{
	const Input *in = s->in;
	Start		*reached[MAX_STEPS + 1] = {NULL};
	Start		*tainted[MAX_STEPS + 1] = {NULL};

	for (int k = 0; k < s->n; k++)
	{
		Start *start = &s->start[k];

		if (start->gone)
			continue;
		if (in->time[i] - start->time > in->rule.within || !fills(in, i, start->level))
		{
			start->gone = in->rule.mode == CS_FUNNEL_STRICT;
			continue;
		}
		/* an equal event of the same time says nothing new of a tainted start */
		if (start->tainted && start->at[start->level] != in->time[i])
			tainted[start->level + 1] = start;
		start->at[start->level] = in->time[i];
		if (!start->tainted)
			reached[++start->level] = start;
		start->gone = start->tainted && in->rule.mode == CS_FUNNEL_STRICT;
	}
	/* ordered: a start is a time: a second one at the same time is the same */
	if (fills(in, i, 0) && (in->rule.mode == CS_FUNNEL_STRICT || s->n == 0 || s->start[s->n - 1].time < in->time[i]))
	{
		s->start[s->n] = (Start){.time = in->time[i], .level = 1, .at = {in->time[i]}};
		reached[1] = &s->start[s->n++];
	}
	for (int level = MAX_STEPS; level > 0; level--)
		if (reached[level])
			reach(s, reached[level], level, false);
	for (int level = MAX_STEPS; level > 0; level--)
		if (tainted[level])
			reach(s, tainted[level], level, true);
}

/* The latest start that may still go on; strict: of those that did. */
static int64
latest_of(const Starts *s)
{
	int64 latest = PG_INT64_MIN;

	for (int k = 0; k < s->n; k++)
		if (!s->start[k].gone)
			latest = Max(latest, s->start[k].time);
	return latest;
}

static bool
tainted_attempt(const Input *in, int pos, Attempt *a)
{
	Starts s = {.in = in, .a = a};

	if (!open_chain_attempt(in, pos, a))
		return false;
	for (int i = a->from; i < in->n; i++)
	{
		a->next = i;
		if (s.n > 0)
			a->end = end_in_time(in, a, latest_of(&s));
		if (s.n > 0 && is_over(in, a, latest_of(&s), in->time[i]))
			return true;
		if (excludes(in, pos, i))
			meet_exclusion(&s, i);
		meet_steps(&s, i);
		a->next = i + 1;
		a->end = END_CONVERSION;
		if (a->level == in->rule.nsteps && !a->excluded)
			return true;
		a->end = END_BROKEN;
		if (in->rule.mode == CS_FUNNEL_STRICT && latest_of(&s) == PG_INT64_MIN)
			return true;
	}
	a->end = end_in_time(in, a, latest_of(&s));
	return true;
}

/* ---- all of it ---- */

void
brute_run(const Input *in, Outcome *out)
{
	int pos = 0;

	for (out->n = 0;; out->n++)
	{
		Attempt *a = &out->attempts[out->n];
		bool	 found;

		if (in->rule.mode == CS_FUNNEL_UNORDERED)
			found = unordered_attempt(in, pos, a);
		else
			found = in->has_taints ? tainted_attempt(in, pos, a) : chain_attempt(in, pos, a);
		if (!found)
			return;
		pos = a->next;
	}
}

const char *
brute_times_wrong(const Input *in, const Attempt *a)
{
	if (in->rule.mode == CS_FUNNEL_UNORDERED)
		return a->excluded ? NULL : unordered_times_wrong(in, a);
	return in->has_taints ? NULL : chain_times_wrong(in, a);
}
