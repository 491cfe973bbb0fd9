/*
 * operator/sequence.h
 *	  Patterns over a key's events in order of time, such as
 *	  (?1).*(?2)(?t<=3600)(?3): ClickHouse's sequenceMatch and sequenceCount.
 *
 *	(?N)        an event that meets condition N
 *	.           any one event
 *	.*          any number of events
 *	(?t<=N)     time since the event that was matched last, in seconds; also < >= > ==
 *
 * Allocates nothing, raises nothing, locks nothing.
 */
#ifndef CS_OPERATOR_SEQUENCE_H
#define CS_OPERATOR_SEQUENCE_H

#include "postgres.h"

#include "operator/event_mask.h"

typedef enum CsSequenceKind
{
	CS_SEQUENCE_EVENT,
	CS_SEQUENCE_ANY,
	CS_SEQUENCE_STAR,
	CS_SEQUENCE_LESS_OR_EQUAL, /* times from here on */
	CS_SEQUENCE_LESS,
	CS_SEQUENCE_GREATER_OR_EQUAL,
	CS_SEQUENCE_GREATER,
	CS_SEQUENCE_EQUAL
} CsSequenceKind;

typedef struct CsSequenceStep
{
	CsSequenceKind kind;
	uint32		   bit;	 /* of the condition */
	int64		   time; /* in µs */
} CsSequenceStep;

/* A position of the search that can be gone back to. */
typedef struct CsSequenceChoice
{
	int step, event, base;
} CsSequenceChoice;

typedef struct CsSequence
{
	bool			  has_time;
	bool			  is_short; /* cs_sequence_advance() knows it */
	int				  n;
	CsSequenceStep	 *steps;   /* room for one more than the pattern has characters */
	CsSequenceChoice *choices; /* as many */

	/* is_short: sets of states, of which state k has seen k events of the pattern */
	int	   nstates;
	uint64 star;
	uint64 any;
	uint64 by_condition[32];
} CsSequence;

/*
 * NULL, or what is wrong with the pattern, at which character.  steps and
 * choices must be there.
 */
extern const char *cs_sequence_parse(CsSequence *sequence, const char *pattern, int length, int nconditions, int *at);

/* ---- without times, one event after the other; only if is_short ---- */

/* The set of states before any event. */
#define CS_SEQUENCE_BEGIN UINT64CONST(1)

static inline bool
cs_sequence_found(const CsSequence *sequence, uint64 states)
{
	return (states >> (sequence->nstates - 1) & 1) != 0;
}

extern uint64 cs_sequence_advance(const CsSequence *sequence, uint64 states, uint32 mask);

/* ---- any pattern, over all events ---- */

typedef enum CsSequenceAnswer
{
	CS_SEQUENCE_NO,
	CS_SEQUENCE_YES,
	CS_SEQUENCE_TOO_HARD
} CsSequenceAnswer;

#define CS_SEQUENCE_MAX_STEPS 1000000 /* ClickHouse's limit */

/* Is there a match from event *at on?  Moves it to where the next search begins. */
extern CsSequenceAnswer cs_sequence_search(const CsSequence *sequence, const CsEventMask *events, int n, int *at);

#endif
