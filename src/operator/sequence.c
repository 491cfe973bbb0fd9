/*
 * operator/sequence.c
 *	  Matching of patterns over events.
 *
 * Patterns without times are matched by the set of states in which a match
 * could be, a bit each: linear, and nothing of the events is needed later.
 *
 * With times, and for counting, the search is ClickHouse's own, for what it
 * finds depends on how it looks: a time is measured from the event that was
 * matched last or that a star began at; what is not matched goes back to the
 * last star or time, one event further; a count goes on where a match ended.
 * Like there the search gives up after a million steps.
 *
 * No locks, no memory, no errors.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "operator/funnel_core.h"
#include "operator/sequence.h"
#include "port/pg_bitutils.h"

/* ---- parsing ---- */

typedef struct Parser
{
	const char *next;
	const char *end;
} Parser;

static bool
accept(Parser *p, const char *word)
{
	size_t length = strlen(word);

	if (p->end - p->next < length || memcmp(p->next, word, length) != 0)
		return false;
	p->next += length;
	return true;
}

static bool
is_digit(const Parser *p)
{
	return p->next < p->end && *p->next >= '0' && *p->next <= '9';
}

/* A number, times unit; of its decimals as many as the unit has.  False: there is none. */
static bool
parse_number(Parser *p, int64 unit, int64 *number)
{
	bool too_large = false;

	*number = 0;
	(void) accept(p, "+");
	if (!is_digit(p))
		return false;
	for (; is_digit(p); p->next++)
	{
		if (*number > (PG_INT64_MAX / unit - 9) / 10)
			too_large = true;
		else
			*number = *number * 10 + (*p->next - '0');
	}
	*number *= unit;
	if (unit > 1 && accept(p, "."))
	{
		if (!is_digit(p))
			return false;
		for (; is_digit(p); p->next++)
		{
			unit /= 10;
			*number += unit * (*p->next - '0');
		}
	}
	if (too_large)
		*number = PG_INT64_MAX;
	return true;
}

static CsSequenceStep *
add_step(CsSequence *sequence, CsSequenceKind kind)
{
	CsSequenceStep *step = &sequence->steps[sequence->n++];

	step->kind = kind;
	step->bit = 0;
	step->time = 0;
	return step;
}

/* "(?t" is behind us. */
static const char *
parse_time(CsSequence *sequence, Parser *p)
{
	static const struct
	{
		const char	  *word;
		CsSequenceKind kind;
	} operators[] = {{"<=", CS_SEQUENCE_LESS_OR_EQUAL},
					 {"<", CS_SEQUENCE_LESS},
					 {">=", CS_SEQUENCE_GREATER_OR_EQUAL},
					 {">", CS_SEQUENCE_GREATER},
					 {"==", CS_SEQUENCE_EQUAL}};
	CsSequenceKind before = sequence->steps[sequence->n - 1].kind;
	int			   i = 0;

	while (i < lengthof(operators) && !accept(p, operators[i].word))
		i++;
	if (i == lengthof(operators))
		return "a time is compared with <=, <, >=, > or ==";
	if (before >= CS_SEQUENCE_LESS_OR_EQUAL)
		return "a time must follow an event, not another time";
	if (!parse_number(p, USECS_PER_SEC, &add_step(sequence, operators[i].kind)->time))
		return "a number of seconds is missing";
	sequence->has_time = true;
	return NULL;
}

/* "(?" is behind us. */
static const char *
parse_event(CsSequence *sequence, Parser *p, int nconditions)
{
	const char *from = p->next;
	int64		number;

	if (!parse_number(p, 1, &number))
		return "the number of a condition is missing";
	if (number < 1 || number > nconditions)
	{
		p->next = from;
		return "there is no condition of that number";
	}
	add_step(sequence, CS_SEQUENCE_EVENT)->bit = (uint32) 1 << (number - 1);
	return NULL;
}

static const char *
parse_part(CsSequence *sequence, Parser *p, int nconditions)
{
	const char *wrong = NULL;

	if (accept(p, "(?"))
	{
		wrong = accept(p, "t") ? parse_time(sequence, p) : parse_event(sequence, p, nconditions);
		if (wrong == NULL && !accept(p, ")"))
			wrong = "a closing parenthesis is missing";
	}
	else if (accept(p, ".*"))
		(void) add_step(sequence, CS_SEQUENCE_STAR);
	else if (accept(p, "."))
		(void) add_step(sequence, CS_SEQUENCE_ANY);
	else
		wrong = "a pattern is made of (?N), (?t<=N), . and .*, without blanks";
	return wrong;
}

/* The sets of states, if they fit. */
static void
make_states(CsSequence *sequence)
{
	uint64 state = 1;

	sequence->nstates = 1;
	sequence->star = sequence->any = 0;
	memset(sequence->by_condition, 0, sizeof(sequence->by_condition));
	sequence->is_short = false;
	for (int i = 0; i < sequence->n; i++)
	{
		const CsSequenceStep *step = &sequence->steps[i];

		if (step->kind == CS_SEQUENCE_STAR)
		{
			sequence->star |= state;
			continue;
		}
		if (step->kind == CS_SEQUENCE_ANY)
			sequence->any |= state;
		else if (step->kind == CS_SEQUENCE_EVENT)
			sequence->by_condition[pg_rightmost_one_pos32(step->bit)] |= state;
		else
			return;
		if (++sequence->nstates > 64)
			return;
		state <<= 1;
	}
	sequence->is_short = true;
}

const char *
cs_sequence_parse(CsSequence *sequence, const char *pattern, int length, int nconditions, int *at)
{
	Parser		p = {pattern, pattern + length};
	const char *wrong = NULL;

	sequence->has_time = false;
	sequence->n = 0;
	(void) add_step(sequence, CS_SEQUENCE_STAR);
	while (p.next < p.end && wrong == NULL)
		wrong = parse_part(sequence, &p, nconditions);
	*at = p.next - pattern;
	if (wrong == NULL)
		make_states(sequence);
	return wrong;
}

/* ---- by states ---- */

uint64
cs_sequence_advance(const CsSequence *sequence, uint64 states, uint32 mask)
{
	uint64 on = sequence->any;

	for (; mask != 0; mask &= mask - 1)
		on |= sequence->by_condition[pg_rightmost_one_pos32(mask)];
	return (states & on) << 1 | (states & sequence->star);
}

/* ---- by search ---- */

typedef struct Search
{
	const CsSequence  *sequence;
	const CsEventMask *events;
	int				   n;
	CsSequenceChoice   now;
	int				   nchoices;
} Search;

/* Remember that it could go on otherwise, and take the step without an event. */
static void
choose(Search *s)
{
	s->sequence->choices[s->nchoices++] = s->now;
	s->now.base = s->now.event;
	s->now.step++;
}

/* To the last choice, one event further. */
static bool
go_back(Search *s)
{
	while (s->nchoices > 0)
	{
		s->now = s->sequence->choices[--s->nchoices];
		if (++s->now.event < s->n)
			return true;
	}
	return false;
}

static void
take_event(Search *s)
{
	s->now.base = s->now.event++;
	s->now.step++;
}

/* One step of the pattern at one event.  False: there is no way on. */
static bool
search_step(Search *s)
{
	const CsSequenceStep *step = &s->sequence->steps[s->now.step];
	int64				  t = s->events[s->now.event].time;
	int64				  bound = cs_funnel_later(s->events[s->now.base].time, step->time);
	bool				  good = false;

	switch (step->kind)
	{
		case CS_SEQUENCE_STAR:
			choose(s);
			return true;
		case CS_SEQUENCE_ANY:
			take_event(s);
			return true;
		case CS_SEQUENCE_EVENT:
			if ((s->events[s->now.event].mask & step->bit) == 0)
				return go_back(s);
			take_event(s);
			return true;
		case CS_SEQUENCE_LESS_OR_EQUAL:
			good = t <= bound;
			break;
		case CS_SEQUENCE_LESS:
			good = t < bound;
			break;
		case CS_SEQUENCE_GREATER_OR_EQUAL:
			good = t >= bound;
			break;
		case CS_SEQUENCE_GREATER:
			good = t > bound;
			break;
		case CS_SEQUENCE_EQUAL:
			good = t == bound;
			break;
	}
	if (good)
	{
		choose(s);
		if (CS_MUTANT(SEQUENCE_GREEDY))
			s->nchoices--;
		return true;
	}
	/* what comes later cannot be earlier, but it may be late enough */
	if (step->kind == CS_SEQUENCE_LESS_OR_EQUAL || step->kind == CS_SEQUENCE_LESS)
		return go_back(s);
	return ++s->now.event < s->n || go_back(s);
}

/* Does the end of the events do for this step? */
static bool
may_be_empty(const CsSequenceStep *step)
{
	return step->kind == CS_SEQUENCE_STAR || step->kind == CS_SEQUENCE_LESS_OR_EQUAL ||
		   step->kind == CS_SEQUENCE_LESS || (step->kind == CS_SEQUENCE_GREATER_OR_EQUAL && step->time == 0);
}

CsSequenceAnswer
cs_sequence_search(const CsSequence *sequence, const CsEventMask *events, int n, int *at)
{
	Search s = {sequence, events, n, {0, *at, *at}, 0};
	int	   steps = 0;

	while (s.now.step < sequence->n && s.now.event < n && search_step(&s))
		if (++steps > CS_SEQUENCE_MAX_STEPS)
			return CS_SEQUENCE_TOO_HARD;
	while (s.now.step < sequence->n && may_be_empty(&sequence->steps[s.now.step]))
		s.now.step++;
	*at = Max(s.now.event, *at + 1);
	return s.now.step == sequence->n ? CS_SEQUENCE_YES : CS_SEQUENCE_NO;
}
