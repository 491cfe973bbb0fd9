/*
 * api/funnel.c
 *	  step, create_funnel, alter_funnel, drop_funnel.
 */
#include "api/define.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "utils/array.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(clickstream_create_funnel);
PG_FUNCTION_INFO_V1(clickstream_alter_funnel);
PG_FUNCTION_INFO_V1(clickstream_drop_funnel);

/* Longest name of a step: "_time" comes behind it. */
#define STEP_NAME_MAX (NAMEDATALEN - 6)

/* An attempt that is renewed again and again ends after this, if nothing else is said. */
#define MAX_LENGTH_DEFAULT (7 * USECS_PER_DAY)

/* Arguments of create_funnel(), in order. */
enum
{
	A_NAME,
	A_STREAM,
	A_WITHIN,
	A_STEPS,
	A_MODE,
	A_KEY,
	A_FILTER,
	A_MAX_LENGTH,
	A_STRICT_INCREASE,
	A_IF_NOT_EXISTS
};

static const char *const reserved[] = {"attempt_id",	"level",	  "funnel_duration_seconds",
									   "is_conversion", "started_at", "closed_reason",
									   "is_final",		"revision",	  NULL};

typedef struct Steps
{
	int	   n;
	Datum *names;
	char  *name[CS_MAX_STEPS];
	char  *condition[CS_MAX_STEPS];
} Steps;

/* A name becomes a column's, unquoted. */
static void
check_step_name(const Steps *steps, int i)
{
	const char *name = steps->name[i];
	size_t		length = name ? strlen(name) : 0;

	if (length == 0 || length > STEP_NAME_MAX || strchr("0123456789", name[0]) ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != length)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME), errmsg("invalid name of step %d: \"%s\"", i + 1, name ? name : ""),
				 errdetail("The name becomes a column, \"name_time\"."),
				 errhint("Use up to %d lower-case letters, digits and underscores, beginning with a letter.",
						 STEP_NAME_MAX)));
	for (int k = 0; k < i; k++)
		if (strcmp(steps->name[k], name) == 0)
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("step name \"%s\" is used twice", name),
							errhint("Give each step a name of its own.")));
}

static char *
composite_text(HeapTupleHeader tuple, int attno)
{
	bool  isnull;
	Datum value = GetAttributeByNum(tuple, attno, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static void
read_steps(ArrayType *array, Steps *steps)
{
	int16  typlen;
	bool   typbyval;
	char   typalign;
	Datum *elements;
	bool  *nulls;

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign, &elements, &nulls, &steps->n);
	if (steps->n < 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a funnel needs at least two steps"),
						errhint("Give steps => ARRAY[clickstream.step('name', 'condition'), …].")));
	if (steps->n > CS_MAX_STEPS)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_ARGUMENTS), errmsg("a funnel cannot have more than %d steps", CS_MAX_STEPS),
				 errdetail("It has %d.", steps->n), errhint("Make two funnels of it.")));
	steps->names = palloc(steps->n * sizeof(Datum));
	for (int i = 0; i < steps->n; i++)
	{
		steps->name[i] = nulls[i] ? NULL : composite_text(DatumGetHeapTupleHeader(elements[i]), 1);
		steps->condition[i] = nulls[i] ? NULL : composite_text(DatumGetHeapTupleHeader(elements[i]), 2);
		check_step_name(steps, i);
		if (steps->condition[i] == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("step \"%s\" has no condition", steps->name[i])));
		steps->names[i] = CStringGetTextDatum(steps->name[i]);
	}
}

/* within, and the length after which an attempt ends whatever comes. */
static void
fill_times(FunctionCallInfo fcinfo, CsDraft *draft)
{
	CsDefinition *def = &draft->def;
	Interval	 *within = cs_arg_required_interval(fcinfo, A_WITHIN, "within");
	Interval	 *max_length = cs_arg_interval(fcinfo, A_MAX_LENGTH);

	def->within = cs_span(within, "within", 1, CS_WITHIN_MAX);
	if (max_length == NULL)
	{
		def->max_length = Max(MAX_LENGTH_DEFAULT, 2 * def->within);
		max_length = palloc0(sizeof(Interval));
		max_length->time = def->max_length % USECS_PER_DAY;
		max_length->day = def->max_length / USECS_PER_DAY;
	}
	else
		def->max_length = cs_span(max_length, "max_length", 1, 2 * CS_WITHIN_MAX);
	if (def->max_length < def->within)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("max_length cannot be less than within")));
	cs_draft_value(draft, cs_value_interval("within", within));
	cs_draft_value(draft, cs_value_interval("max_length", max_length));
}

static void
fill(FunctionCallInfo fcinfo, CsDraft *draft, Steps *steps)
{
	static const char *const modes[] = {"ordered", NULL};
	CsDefinition			*def = &draft->def;

	cs_check_word(cs_arg_text(fcinfo, A_MODE), "mode", modes);
	if (PG_ARGISNULL(A_STEPS))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("steps must be given")));
	read_steps(PG_GETARG_ARRAYTYPE_P(A_STEPS), steps);
	def->nsteps = steps->n;
	def->steps = steps->name;
	fill_times(fcinfo, draft);
	def->strict_increase = cs_arg_bool(fcinfo, A_STRICT_INCREASE, false);
	cs_draft_value(draft, cs_value_bool("strict_increase", def->strict_increase));
	cs_draft_value(draft, cs_value_array("steps", TEXTOID, steps->names, steps->n));
	cs_draft_value(draft, cs_value_text("key", cs_arg_text(fcinfo, A_KEY)));
	cs_draft_value(draft, cs_value_text("filter", cs_arg_text(fcinfo, A_FILTER)));
	cs_draft_value(draft, cs_value_text("start_column", "started_at"));
}

/* The key's column must not have the name of a step's. */
static void
check_key_name(const char *key_name, const Steps *steps)
{
	for (int i = 0; i < steps->n; i++)
		if (strcmp(key_name, psprintf("%s_time", steps->name[i])) == 0)
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column name \"%s\" is used twice", key_name),
							errhint("Give the key another name with AS.")));
}

static CsView *
make_view(FunctionCallInfo fcinfo, const CsDraft *draft, const Steps *steps)
{
	char   *key = cs_arg_text(fcinfo, A_KEY);
	CsView *view =
		cs_view_begin(draft->what, psprintf("SELECT FROM " CS_SCHEMA ".event_%d e", draft->stream->stream_id), reserved,
					  CS_VIEW_NO_AGGREGATES);

	check_key_name(cs_view_add_text(view, "key", key ? key : "effective_user_id", NULL, "effective_user_id", false),
				   steps);
	for (int i = 0; i < steps->n; i++)
		cs_view_add_boolean(view, psprintf("condition of step \"%s\"", steps->name[i]), steps->condition[i],
							psprintf("step_%d", i + 1));
	cs_view_add_filter(view, "filter", cs_arg_text(fcinfo, A_FILTER));
	return view;
}

Datum
clickstream_create_funnel(PG_FUNCTION_ARGS)
{
	char	 *name = cs_arg_required(fcinfo, A_NAME, "name");
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, A_STREAM, "stream"), CurrentMemoryContext);
	CsDraft	  draft;
	Steps	  steps;
	Oid		  table =
		cs_draft_begin(&draft, CS_KIND_FUNNEL, "funnel", name, stream, cs_arg_bool(fcinfo, A_IF_NOT_EXISTS, false));

	if (OidIsValid(table))
		PG_RETURN_OID(table);
	fill(fcinfo, &draft, &steps);
	PG_RETURN_OID(cs_draft_finish(&draft, make_view(fcinfo, &draft, &steps)));
}

Datum
clickstream_alter_funnel(PG_FUNCTION_ARGS)
{
	CsDefinition *def = cs_definition_of_kind(PG_GETARG_OID(0), CS_KIND_FUNNEL, "funnel");

	cs_refuse_change(fcinfo, 1, "within", "funnel");
	cs_refuse_change(fcinfo, 2, "steps", "funnel");
	cs_refuse_change(fcinfo, 3, "key", "funnel");
	cs_refuse_change(fcinfo, 4, "filter", "funnel");
	cs_refuse_change(fcinfo, 5, "max_length", "funnel");
	cs_definition_alter(def, NULL, 0);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_funnel(PG_FUNCTION_ARGS)
{
	return cs_drop_by_name(fcinfo, CS_KIND_FUNNEL, "funnel");
}
