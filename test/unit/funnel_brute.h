/*
 * test/unit/funnel_brute.h
 *	  Attempts of a small input, found by trying everything: what the one-pass
 *	  funnel is compared with.  Shares no code with it.
 */
#ifndef FUNNEL_BRUTE_H
#define FUNNEL_BRUTE_H

#include "postgres.h"

#include "operator/funnel_core.h"

#define MAX_EVENTS 10
#define MAX_STEPS 5

typedef struct Input
{
	CsFunnelRule  rule;
	bool		  has_taints;
	int			  n;
	int64		  time[MAX_EVENTS]; /* ascending */
	CsFunnelEvent event[MAX_EVENTS];
} Input;

typedef enum End
{
	END_CONVERSION,
	END_EXPIRED,
	END_LENGTH,
	END_BROKEN,
	END_EXCLUDED
} End;

typedef struct Attempt
{
	int	  opener;
	int	  from; /* first event that it may use */
	int	  next; /* first event after it */
	int	  level;
	bool  excluded;
	End	  end;
	int64 times[MAX_STEPS]; /* brute force: the first step's and the highest's are right */
} Attempt;

typedef struct Outcome
{
	int		n;
	Attempt attempts[MAX_EVENTS + 1];
} Outcome;

extern void brute_run(const Input *in, Outcome *out);
/* Is there a chain with the times of this attempt, and is it the one to show?  NULL: yes. */
extern const char *brute_times_wrong(const Input *in, const Attempt *a);

#endif
