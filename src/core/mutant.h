/*
 * core/mutant.h
 *	  Wrong versions of the code, for tests that must notice them.
 *
 * A random test that passes says little until it has been seen to fail.  So
 * places where a plausible mistake could be carry that mistake behind
 * CS_MUTANT(NAME).  It is a constant false, and costs nothing, unless the
 * library is built with -DCLICKSTREAM_MUTANTS, as test/check.sh does: then it
 * is true while the setting clickstream.mutant (superusers, SET) names it.
 *
 * To add one: a line in the list, CS_MUTANT(NAME) where the mistake is, and a
 * test that sets it and demands a difference.
 */
#ifndef CS_CORE_MUTANT_H
#define CS_CORE_MUTANT_H

#include "postgres.h"

/* NAME, the setting's value */
#define CS_MUTANT_LIST(M)                                                                                   \
	M(NONE, "")                                                                                             \
	M(GAP_EXCLUSIVE, "gap_exclusive")		/* a distance of exactly the gap cuts */                        \
	M(END_NOT_LAST_MS, "end_not_last_ms")	/* final at the end, not 1 ms before */                         \
	M(WITHIN_EXCLUSIVE, "within_exclusive") /* a funnel's bound is exclusive */                             \
	M(UNSORTED_APPLY, "unsorted_apply")		/* waiting events in order of arrival */                        \
	M(LATE_BY_EVENT, "late_by_event")		/* late judged before merging */                                \
	M(TIE_OVERWRITES, "tie_overwrites")		/* step 1 overwrites start[1] in a tie */                       \
	M(LOSE_ENTRY, "lose_entry")				/* a commit forgets one entry's state */                        \
	M(DELTA_SKIP, "delta_skip")				/* a delta counts from the wrong place */                       \
	M(LATE_LEFT_OUT, "late_left_out")		/* apply_late() replays without them */                         \
	M(SEQUENCE_GREEDY, "sequence_greedy")	/* a search goes not back to a time */                          \
	M(GONE_AT_ONCE, "gone_at_once")			/* readers do not find what a commit has removed */             \
	M(SINCE_IGNORED, "since_ignored")		/* readers find what is too new for them */                     \
	M(DEDUPE_FORGETS, "dedupe_forgets")		/* values seen before this batch are forgotten */               \
	M(SPILL_FORGETS, "spill_forgets")		/* the index forgets some spilled keys */                       \
	M(NO_NUDGES, "no_nudges")				/* what fetches sleeps on, although there is room */            \
	M(SPILL_STALE_ROW, "spill_stale_row")	/* rows of entries that have changed since are kept, and win */ \
	M(SPILL_NOT_DUE, "spill_not_due")		/* spilled entries are never due */                             \
	M(TRIM_EARLY, "trim_early")				/* the log's older half goes while snapshots need it */         \
	M(DAMAGE_ENTRY, "damage_entry")			/* entries are stored with a byte too many */                   \
	M(DAMAGE_VALUE, "damage_value")			/* values with a checksum are stored with a bit wrong */

typedef enum CsMutant
{
#define CS_MUTANT_ENUM(name, word) CS_MUTANT_##name,
	CS_MUTANT_LIST(CS_MUTANT_ENUM)
#undef CS_MUTANT_ENUM
} CsMutant;

#ifdef CLICKSTREAM_MUTANTS
extern int cs_mutant; /* CsMutant; setting clickstream.mutant */
#define CS_MUTANT(name) (cs_mutant == CS_MUTANT_##name)
#else
#define CS_MUTANT(name) false
#endif

#endif
