/*
 * api/sequence.c
 *	  sequence_match(pattern, event_time, VARIADIC conditions): are there events
 *	  in the order of the pattern?  sequence_count(): how often?
 *
 * The rules are those of ClickHouse's functions, operator/sequence.c; the
 * state is that of api/event_list.c.
 */
#include "postgres.h"

#include "api/event_list.h"
#include "compat.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "operator/sequence.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(clickstream_sequence_step);
PG_FUNCTION_INFO_V1(clickstream_sequence_deserialize);
PG_FUNCTION_INFO_V1(clickstream_sequence_match_final);
PG_FUNCTION_INFO_V1(clickstream_sequence_count_final);

enum
{
	A_STATE,
	A_PATTERN,
	A_TIME,
	A_CONDITIONS
};

/* The key is the pattern. */
static void
parse_rule(CsEventRule *rule)
{
	CsSequence *sequence = palloc0(sizeof(CsSequence));
	const char *wrong;
	int			at;

	sequence->steps = palloc((rule->size + 1) * sizeof(CsSequenceStep));
	sequence->choices = palloc((rule->size + 1) * sizeof(CsSequenceChoice));
	wrong = cs_sequence_parse(sequence, rule->key, rule->size, rule->nconditions, &at);
	if (wrong != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid pattern \"%s\"", pnstrdup(rule->key, rule->size)),
						errdetail("At character %d: %s.", pg_mbstrlen_with_len(rule->key, at) + 1, wrong),
						errhint("A pattern is such as '(?1).*(?2)(?t<=3600)(?3)', its times in seconds.")));
	rule->parsed = sequence;
}

Datum
clickstream_sequence_step(PG_FUNCTION_ARGS)
{
	CsEventList		  *list = PG_ARGISNULL(A_STATE) ? NULL : (CsEventList *) PG_GETARG_POINTER(A_STATE);
	uint32			   mask;
	int				   n = cs_conditions(fcinfo, A_CONDITIONS, &mask);
	text			  *pattern;
	const CsEventRule *rule;

	if (PG_ARGISNULL(A_PATTERN))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("pattern must be given")));
	pattern = PG_GETARG_TEXT_PP(A_PATTERN);
	rule = cs_event_rule(fcinfo->flinfo, VARDATA_ANY(pattern), VARSIZE_ANY_EXHDR(pattern), n, parse_rule);
	if (list == NULL)
		list = cs_event_list_make(fcinfo, rule);
	cs_event_rule_check(list, rule);
	if (mask != 0 && !PG_ARGISNULL(A_TIME))
		list = cs_event_list_add(fcinfo, list, PG_GETARG_INT64(A_TIME), mask);
	PG_RETURN_POINTER(list);
}

Datum
clickstream_sequence_deserialize(PG_FUNCTION_ARGS)
{
	return cs_event_list_deserialize(fcinfo, parse_rule);
}

/* ---- results ---- */

/* A pattern without times needs each event once. */
static bool
match_by_states(CsEventList *list, const CsSequence *sequence)
{
	CsEventReader	  *reader = cs_event_reader_begin(list);
	uint64			   states = CS_SEQUENCE_BEGIN;
	const CsEventMask *event;

	while (!cs_sequence_found(sequence, states) && (event = cs_event_reader_next(reader)) != NULL)
		states = cs_sequence_advance(sequence, states, event->mask);
	cs_event_reader_end(reader);
	return cs_sequence_found(sequence, states);
}

/* A search goes back and forth: all events must be in memory. */
static void
prepare_search(CsEventList *list)
{
	if (list->runs != NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many events in one group"),
						errdetail(INT64_FORMAT " events take more than the memory that work_mem allows, %d kB.",
								  cs_event_list_count(list), work_mem),
						errhint("Raise work_mem, or let fewer rows meet a condition.")));
	cs_event_list_sort(list);
}

static bool
search(CsEventList *list, const CsSequence *sequence, int *at)
{
	CsSequenceAnswer answer = cs_sequence_search(sequence, list->events, list->n, at);

	CHECK_FOR_INTERRUPTS();
	if (answer == CS_SEQUENCE_TOO_HARD)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("pattern \"%s\" is too hard to find", pnstrdup(list->rule->key, list->rule->size)),
						errdetail("The search among %d events of one group has taken more than %d steps.", list->n,
								  CS_SEQUENCE_MAX_STEPS),
						errhint("Use fewer .* and times, or let fewer rows meet a condition.")));
	return answer == CS_SEQUENCE_YES;
}

Datum
clickstream_sequence_match_final(PG_FUNCTION_ARGS)
{
	CsEventList		 *list = PG_ARGISNULL(0) ? NULL : (CsEventList *) PG_GETARG_POINTER(0);
	const CsSequence *sequence;
	int				  at = 0;

	if (list == NULL)
		PG_RETURN_BOOL(false);
	sequence = list->rule->parsed;
	if (sequence->is_short)
		PG_RETURN_BOOL(match_by_states(list, sequence));
	prepare_search(list);
	PG_RETURN_BOOL(search(list, sequence, &at));
}

Datum
clickstream_sequence_count_final(PG_FUNCTION_ARGS)
{
	CsEventList		 *list = PG_ARGISNULL(0) ? NULL : (CsEventList *) PG_GETARG_POINTER(0);
	const CsSequence *sequence;
	int64			  n = 0;

	if (list == NULL)
		PG_RETURN_INT64(0);
	sequence = list->rule->parsed;
	prepare_search(list);
	for (int at = 0; at < list->n && search(list, sequence, &at);)
		n++;
	PG_RETURN_INT64(n);
}
