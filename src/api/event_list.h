/*
 * api/event_list.h
 *	  State of the aggregates over events of any table: for each row its time
 *	  and the conditions that it meets.
 *
 * Twelve bytes an event, in one chunk of memory with their number, doubled
 * when full: a group of three events takes 64 bytes.  Whether they came in
 * order of time is known, so sorting is done where needed only; it is stable,
 * and does little where rows came in few ordered runs.
 *
 * A group's events that do not fit into work_mem are sorted and written to a
 * temporary file, run after run, as PostgreSQL's ordered aggregates do; a reader
 * merges them.  In window functions and the measures of definitions, whose
 * states have no end that could close a file, that is an error.
 *
 * What an aggregate was asked (its arguments other than time and conditions)
 * is its rule.  States point to it; it is made once for each place in a query
 * and set of arguments, and lives as long as the query.  Partial states carry
 * it along, for whoever finishes them sees no arguments.
 */
#ifndef CS_API_EVENT_LIST_H
#define CS_API_EVENT_LIST_H

#include "postgres.h"

#include "fmgr.h"
#include "operator/event_mask.h"

#define CS_MAX_CONDITIONS 32

typedef struct CsEventRule
{
	struct CsEventRule *next;
	int					nconditions;
	bool				keeps_blank; /* rows that meet no condition matter, too */
	void			   *parsed;		 /* what the aggregate made of the key */
	int					size;
	char				key[FLEXIBLE_ARRAY_MEMBER];
} CsEventRule;

/* Fills in keeps_blank and parsed, and raises if the key makes no sense; the current context lives as long as the rule. */
typedef void (*CsEventRuleParser)(CsEventRule *rule);

typedef struct CsEventRuns CsEventRuns;

typedef struct CsEventList
{
	const CsEventRule *rule;
	CsEventRuns		  *runs; /* what is on disk; NULL: nothing */
	int32			   n;	 /* what is in memory */
	uint32			   capacity : 31;
	uint32			   unsorted : 1;
	CsEventMask		   events[FLEXIBLE_ARRAY_MEMBER];
} CsEventList;

/* ---- rules ---- */

/*
 * The rule of these arguments, at this place of the query; key is any bytes.
 * Equal ones are one.
 */
extern const CsEventRule *cs_event_rule(FmgrInfo *flinfo, const char *key, int size, int nconditions,
										CsEventRuleParser parser);

/*
 * The conditions of an aggregate, its arguments from the given one on: one by
 * one, or an array.  Returns how many there are, and sets those that are true;
 * NULL is false.
 */
extern int cs_conditions(FunctionCallInfo fcinfo, int first, uint32 *mask);

/* ---- the state ---- */

/* Raises if the state's rows had other arguments. */
extern void cs_event_rule_check(const CsEventList *list, const CsEventRule *rule);

/* In the aggregate's memory. */
extern CsEventList *cs_event_list_make(FunctionCallInfo fcinfo, const CsEventRule *rule);
/* Make room for one more. */
extern CsEventList *cs_event_list_grow(FunctionCallInfo fcinfo, CsEventList *list);

static inline CsEventList *
cs_event_list_add(FunctionCallInfo fcinfo, CsEventList *list, int64 time, uint32 mask)
{
	CsEventMask *event;

	if (list->n == (int32) list->capacity)
		list = cs_event_list_grow(fcinfo, list);
	event = &list->events[list->n];
	if (list->n > 0 && event[-1].time > time)
		list->unsorted = 1;
	event->time = time;
	event->mask = mask;
	list->n++;
	return list;
}

/* The aggregate's combine, serialize and deserialize function. */
extern Datum cs_event_list_combine(FunctionCallInfo fcinfo);
extern Datum cs_event_list_serialize(FunctionCallInfo fcinfo);
extern Datum cs_event_list_deserialize(FunctionCallInfo fcinfo, CsEventRuleParser parser);

/* Sort what is in memory; rows of equal time stay as they came. */
extern void cs_event_list_sort(CsEventList *list);

/* Events in all. */
extern int64 cs_event_list_count(const CsEventList *list);

/* ---- what is on disk: event_runs.c ---- */

/* Events in memory that are allowed, beside what sorting them takes. */
extern int32 cs_event_list_limit(void);
/* Write what is in memory as one more run; raises where no file may be had. */
extern void	 cs_event_list_spill(FunctionCallInfo fcinfo, CsEventList *list);
extern int64 cs_event_runs_count(const CsEventRuns *runs);

/* All of it in order of time; the list must not change meanwhile. */
typedef struct CsEventReader CsEventReader;

extern CsEventReader *cs_event_reader_begin(CsEventList *list);
/* NULL: there are no more. */
extern const CsEventMask *cs_event_reader_next(CsEventReader *reader);
extern void				  cs_event_reader_end(CsEventReader *reader);

#endif
