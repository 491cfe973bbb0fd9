/*
 * api/window_funnel.c
 *	  window_funnel(within, mode, event_time, VARIADIC conditions): how many
 *	  steps, one after the other and within that time, did the rows get?
 *
 * The rules are those of ClickHouse's function of that name; they are in
 * operator/funnel_level.c, the state in api/event_list.c.
 */
#include "postgres.h"

#include "api/args.h"
#include "api/event_list.h"
#include "operator/funnel_level.h"

PG_FUNCTION_INFO_V1(clickstream_window_funnel_step);
PG_FUNCTION_INFO_V1(clickstream_window_funnel_deserialize);
PG_FUNCTION_INFO_V1(clickstream_window_funnel_final);
PG_FUNCTION_INFO_V1(clickstream_event_list_combine);
PG_FUNCTION_INFO_V1(clickstream_event_list_serialize);

enum
{
	A_STATE,
	A_WITHIN,
	A_MODE,
	A_TIME,
	A_CONDITIONS
};

#define WITHIN_MAX (INT64CONST(3652500) * USECS_PER_DAY) /* ten thousand years */
#define KEY_MAX 256

typedef struct Funnel
{
	int64 within;
	int	  modes;
} Funnel;

typedef struct Mode
{
	const char *word;
	int			bit;
} Mode;

static const Mode known_modes[] = {{"default", 0},
								   {"strict_deduplication", CS_LEVEL_DEDUPLICATION},
								   {"strict_order", CS_LEVEL_ORDER},
								   {"strict_increase", CS_LEVEL_INCREASE},
								   {"strict_once", CS_LEVEL_ONCE},
								   {"allow_reentry", CS_LEVEL_REENTRY}};

/* ---- arguments ---- */

static int
mode_bit(const char *word, int length)
{
	for (int i = 0; i < lengthof(known_modes); i++)
		if (strlen(known_modes[i].word) == length && pg_strncasecmp(known_modes[i].word, word, length) == 0)
			return known_modes[i].bit;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("unknown mode of window_funnel: \"%s\"", pnstrdup(word, length)),
					errhint("Give some of strict_deduplication, strict_order, strict_increase, strict_once and "
							"allow_reentry, separated by commas, or NULL.")));
}

/* Words with blanks or commas between them. */
static int
parse_modes(const char *text, int length)
{
	static const char separators[] = " ,\t\n\r";
	const char		 *end = text + length;
	int				  modes = 0;

	for (;;)
	{
		const char *word;

		while (text < end && strchr(separators, *text) != NULL)
			text++;
		if (text == end)
			break;
		for (word = text; text < end && strchr(separators, *text) == NULL;)
			text++;
		modes |= mode_bit(word, text - word);
	}
	if ((modes & CS_LEVEL_REENTRY) != 0 && (modes & CS_LEVEL_ORDER) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("mode allow_reentry needs strict_order"),
						errdetail("It says what does not break the order."),
						errhint("Give mode 'strict_order, allow_reentry'.")));
	return modes;
}

/* The key: an interval, then the modes as they were given. */
static void
parse_rule(CsEventRule *rule)
{
	Funnel	*funnel = palloc(sizeof(Funnel));
	Interval within;

	if (rule->size < sizeof(Interval))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the state of window_funnel is damaged")));
	memcpy(&within, rule->key, sizeof(Interval));
	funnel->within = cs_span(&within, "within", 0, WITHIN_MAX);
	funnel->modes = parse_modes(rule->key + sizeof(Interval), rule->size - sizeof(Interval));
	rule->parsed = funnel;
	rule->keeps_blank = (funnel->modes & CS_LEVEL_ORDER) != 0;
}

static const CsEventRule *
find_rule(FunctionCallInfo fcinfo, int nconditions)
{
	char  key[KEY_MAX];
	text *mode = NULL;
	int	  size = sizeof(Interval);

	if (PG_ARGISNULL(A_WITHIN))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("within must be given")));
	memcpy(key, PG_GETARG_INTERVAL_P(A_WITHIN), sizeof(Interval));
	if (!PG_ARGISNULL(A_MODE))
	{
		mode = PG_GETARG_TEXT_PP(A_MODE);
		if (VARSIZE_ANY_EXHDR(mode) > KEY_MAX - size)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("mode of window_funnel is too long")));
		memcpy(key + size, VARDATA_ANY(mode), VARSIZE_ANY_EXHDR(mode));
		size += VARSIZE_ANY_EXHDR(mode);
	}
	return cs_event_rule(fcinfo->flinfo, key, size, nconditions, parse_rule);
}

/* ---- the aggregate ---- */

Datum
clickstream_window_funnel_step(PG_FUNCTION_ARGS)
{
	CsEventList		  *list = PG_ARGISNULL(A_STATE) ? NULL : (CsEventList *) PG_GETARG_POINTER(A_STATE);
	uint32			   mask;
	int				   n = cs_conditions(fcinfo, A_CONDITIONS, &mask);
	const CsEventRule *rule = find_rule(fcinfo, n);

	/* a row without time has no place */
	if (!PG_ARGISNULL(A_TIME) && (mask != 0 || rule->keeps_blank))
	{
		if (list == NULL)
			list = cs_event_list_make(fcinfo, rule);
		cs_event_rule_check(list, rule);
		list = cs_event_list_add(fcinfo, list, PG_GETARG_TIMESTAMPTZ(A_TIME), mask);
	}
	if (list == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(list);
}

Datum
clickstream_event_list_combine(PG_FUNCTION_ARGS)
{
	return cs_event_list_combine(fcinfo);
}

Datum
clickstream_event_list_serialize(PG_FUNCTION_ARGS)
{
	return cs_event_list_serialize(fcinfo);
}

Datum
clickstream_window_funnel_deserialize(PG_FUNCTION_ARGS)
{
	return cs_event_list_deserialize(fcinfo, parse_rule);
}

static void
read_all(CsEventList *list, CsLevel *level)
{
	CsEventReader	  *reader = cs_event_reader_begin(list);
	const CsEventMask *event;

	while ((event = cs_event_reader_next(reader)) != NULL)
		if (!cs_level_feed(level, event->time, event->mask))
			break;
	cs_event_reader_end(reader);
}

Datum
clickstream_window_funnel_final(PG_FUNCTION_ARGS)
{
	CsEventList *list = PG_ARGISNULL(0) ? NULL : (CsEventList *) PG_GETARG_POINTER(0);
	Funnel		*funnel;
	CsLevel		 level;

	if (list == NULL)
		PG_RETURN_INT32(0);
	funnel = list->rule->parsed;
	cs_level_init(&level, list->rule->nconditions, funnel->within, funnel->modes);
	if (list->runs != NULL)
		read_all(list, &level);
	else
	{
		cs_event_list_sort(list);
		for (int i = 0; i < list->n; i++)
			if (!cs_level_feed(&level, list->events[i].time, list->events[i].mask))
				break;
	}
	PG_RETURN_INT32(cs_level_result(&level));
}
