/*
 * api/funnel.c
 *	  create_funnel, alter_funnel, drop_funnel.
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
	A_WITHIN_EXCLUSIVE,
	A_EXCLUSIONS,
	A_BREAKDOWN,
	A_ALLOWED_LATENESS,
	A_EMIT,
	A_EMIT_INTERVAL,
	A_IF_NOT_EXISTS,
	A_BACKFILL,
	A_BACKFILL_FROM
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
	char  *exclusion[CS_MAX_EXCLUSIONS]; /* conditions */
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

static bool
composite_bool(HeapTupleHeader tuple, int attno)
{
	bool  isnull;
	Datum value = GetAttributeByNum(tuple, attno, &isnull);

	return !isnull && DatumGetBool(value);
}

static Datum *
array_elements(ArrayType *array, bool **nulls, int *n)
{
	int16  typlen;
	bool   typbyval;
	char   typalign;
	Datum *elements;

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign, &elements, nulls, n);
	return elements;
}

static void
read_steps(ArrayType *array, CsDefinition *def, Steps *steps)
{
	bool  *nulls;
	Datum *elements = array_elements(array, &nulls, &steps->n);

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
		if (composite_bool(DatumGetHeapTupleHeader(elements[i]), 3))
			def->optional_steps |= (uint32) 1 << i;
	}
}

/* What optional steps there may be. */
static void
check_optional(const CsDefinition *def, const Steps *steps)
{
	uint32 all = steps->n == 32 ? PG_UINT32_MAX : ((uint32) 1 << steps->n) - 1;

	if (def->optional_steps == 0)
		return;
	if (def->mode == CS_MODE_UNORDERED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an unordered funnel cannot have optional steps"),
				 errdetail("Its level is the number of steps, and a step that is left out is one less."),
				 errhint("Leave the step out, or use mode => 'ordered' or 'strict'.")));
	if ((def->optional_steps & 1) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the first step of a funnel cannot be optional"),
				 errdetail("Step \"%s\" opens an attempt, and within is measured from it.", steps->name[0])));
	if ((def->optional_steps | 1) == all)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a funnel needs two steps that are not optional"),
				 errdetail("Step \"%s\" alone would be a conversion.", steps->name[0])));
}

/* Number of a step by its name, from 1; absent: what is given. */
static int
step_number(const Steps *steps, const char *name, int absent, int exclusion)
{
	if (name == NULL)
		return absent;
	for (int i = 0; i < steps->n; i++)
		if (strcmp(steps->name[i], name) == 0)
			return i + 1;
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("exclusion %d names step \"%s\", which there is not", exclusion, name),
					errhint("Give names of steps of this funnel as from_step and to_step.")));
}

static void
read_exclusion(HeapTupleHeader tuple, CsDefinition *def, Steps *steps, int i)
{
	CsExclusion *exclusion = &def->exclusions[i];

	steps->exclusion[i] = tuple ? composite_text(tuple, 1) : NULL;
	if (steps->exclusion[i] == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("exclusion %d has no condition", i + 1)));
	exclusion->from = step_number(steps, composite_text(tuple, 2), 1, i + 1);
	exclusion->to = step_number(steps, composite_text(tuple, 3), steps->n, i + 1);
	if (exclusion->from >= exclusion->to)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("exclusion %d must end at a later step than it begins", i + 1),
						errdetail("It begins at step \"%s\" and ends at step \"%s\".", steps->name[exclusion->from - 1],
								  steps->name[exclusion->to - 1])));
	if (def->mode == CS_MODE_UNORDERED && (exclusion->from != 1 || exclusion->to != steps->n))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("exclusions of an unordered funnel must hold from the first step to the last"),
						errdetail("Exclusion %d holds from step \"%s\" to step \"%s\", and the steps have no order.",
								  i + 1, steps->name[exclusion->from - 1], steps->name[exclusion->to - 1]),
						errhint("Leave out from_step and to_step, or use mode => 'ordered'.")));
}

static void
read_exclusions(FunctionCallInfo fcinfo, CsDraft *draft, Steps *steps)
{
	CsDefinition *def = &draft->def;
	Datum		 *elements;
	bool		 *nulls;
	Datum		  numbers[2 * CS_MAX_EXCLUSIONS];

	if (PG_ARGISNULL(A_EXCLUSIONS))
		return;
	elements = array_elements(PG_GETARG_ARRAYTYPE_P(A_EXCLUSIONS), &nulls, &def->nexclusions);
	if (def->nexclusions > CS_MAX_EXCLUSIONS)
		ereport(ERROR, (errcode(ERRCODE_TOO_MANY_ARGUMENTS),
						errmsg("a funnel cannot have more than %d exclusions", CS_MAX_EXCLUSIONS),
						errdetail("It has %d.", def->nexclusions)));
	for (int i = 0; i < def->nexclusions; i++)
	{
		read_exclusion(nulls[i] ? NULL : DatumGetHeapTupleHeader(elements[i]), def, steps, i);
		numbers[2 * i] = Int32GetDatum(def->exclusions[i].from);
		numbers[2 * i + 1] = Int32GetDatum(def->exclusions[i].to);
	}
	cs_draft_value(draft, cs_value_array("exclusions", INT4OID, numbers, 2 * def->nexclusions));
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
fill_mode(FunctionCallInfo fcinfo, CsDraft *draft)
{
	static const char *const modes[] = {"ordered", "strict", "unordered", NULL};
	char					*mode = cs_arg_required(fcinfo, A_MODE, "mode");

	cs_check_word(mode, "mode", modes);
	draft->def.mode = (CsMode) mode[0];
	draft->def.strict_increase = cs_arg_bool(fcinfo, A_STRICT_INCREASE, false);
	draft->def.within_exclusive = cs_arg_bool(fcinfo, A_WITHIN_EXCLUSIVE, false);
	cs_draft_value(draft, cs_value_text("mode", mode));
	cs_draft_value(draft, cs_value_bool("strict_increase", draft->def.strict_increase));
	cs_draft_value(draft, cs_value_bool("within_exclusive", draft->def.within_exclusive));
}

static void
fill_steps(FunctionCallInfo fcinfo, CsDraft *draft, Steps *steps)
{
	CsDefinition *def = &draft->def;
	Datum		  numbers[CS_MAX_STEPS];
	int			  n = 0;

	if (PG_ARGISNULL(A_STEPS))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("steps must be given")));
	read_steps(PG_GETARG_ARRAYTYPE_P(A_STEPS), def, steps);
	check_optional(def, steps);
	def->nsteps = steps->n;
	def->steps = steps->name;
	for (int i = 0; i < steps->n; i++)
		if ((def->optional_steps & ((uint32) 1 << i)) != 0)
			numbers[n++] = Int32GetDatum(i + 1);
	cs_draft_value(draft, cs_value_array("steps", TEXTOID, steps->names, steps->n));
	cs_draft_value(draft, cs_value_array("optional_steps", INT4OID, numbers, n));
}

/* When rows are shown, and how long they may change. */
static void
fill_showing(FunctionCallInfo fcinfo, CsDraft *draft)
{
	Interval *lateness = cs_arg_interval(fcinfo, A_ALLOWED_LATENESS);

	if (lateness)
		draft->def.lateness = cs_span(lateness, "allowed_lateness", 0, CS_WITHIN_MAX);
	cs_draft_value(draft, cs_value_interval("allowed_lateness", lateness));
	cs_draft_emit(draft, cs_arg_text(fcinfo, A_EMIT), "closed",
				  cs_arg_required_interval(fcinfo, A_EMIT_INTERVAL, "emit_interval"));
}

static void
fill(FunctionCallInfo fcinfo, CsDraft *draft, Steps *steps)
{
	fill_mode(fcinfo, draft);
	fill_steps(fcinfo, draft, steps);
	read_exclusions(fcinfo, draft, steps);
	fill_times(fcinfo, draft);
	fill_showing(fcinfo, draft);
	cs_draft_value(draft, cs_value_text("key", cs_arg_text(fcinfo, A_KEY)));
	cs_draft_value(draft, cs_value_text("filter", cs_arg_text(fcinfo, A_FILTER)));
	cs_draft_value(draft, cs_value_text("group_by", cs_arg_text(fcinfo, A_BREAKDOWN)));
	cs_draft_value(draft, cs_value_text("start_column", "started_at"));
}

/* Columns that the user names must not have the name of a step's. */
static void
check_names(CsView *view, const Steps *steps)
{
	for (int i = 0; i < steps->n; i++)
	{
		char *name = psprintf("%s_time", steps->name[i]);

		if (cs_view_has_column(view, name))
			ereport(ERROR, (errcode(ERRCODE_DUPLICATE_COLUMN), errmsg("column name \"%s\" is used twice", name),
							errdetail("It is that of the time of step \"%s\".", steps->name[i]),
							errhint("Give the key, or the column of the breakdown, another name with AS.")));
	}
}

static CsView *
make_view(FunctionCallInfo fcinfo, const CsDraft *draft, const Steps *steps)
{
	char   *key = cs_arg_text(fcinfo, A_KEY);
	char   *breakdown = cs_arg_text(fcinfo, A_BREAKDOWN);
	CsView *view =
		cs_view_begin(draft->what, psprintf("SELECT FROM " CS_SCHEMA ".event_%d e", draft->stream->stream_id), reserved,
					  CS_VIEW_NO_AGGREGATES);

	cs_view_use_lookups(view, cs_lookups_load(draft->stream, CurrentMemoryContext));
	cs_view_add_text(view, "key", key ? key : "effective_user_id", NULL, "effective_user_id", false);
	for (int i = 0; i < steps->n; i++)
		cs_view_add_boolean(view, psprintf("condition of step \"%s\"", steps->name[i]), steps->condition[i],
							psprintf("step_%d", i + 1));
	for (int i = 0; i < draft->def.nexclusions; i++)
		cs_view_add_boolean(view, psprintf("condition of exclusion %d", i + 1), steps->exclusion[i],
							psprintf("exclusion_%d", i + 1));
	if (breakdown)
		cs_view_add_list(view, "breakdown", breakdown, false);
	check_names(view, steps);
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
	cs_draft_backfill(&draft, fcinfo, A_BACKFILL, A_BACKFILL_FROM);
	fill(fcinfo, &draft, &steps);
	PG_RETURN_OID(cs_draft_finish(&draft, make_view(fcinfo, &draft, &steps)));
}

Datum
clickstream_alter_funnel(PG_FUNCTION_ARGS)
{
	static const char *const fixed[] = {
		"within",			"steps",	  "key",	   "filter",		   "max_length", "mode", "strict_increase",
		"within_exclusive", "exclusions", "breakdown", "allowed_lateness", "emit"};
	CsDefinition *def = cs_definition_argument(fcinfo, CS_KIND_FUNNEL, "funnel");
	CsValue		  value;
	int			  n = 0;

	for (int i = 0; i < lengthof(fixed); i++)
		cs_refuse_change(fcinfo, i + 1, fixed[i], "funnel");
	if (!PG_ARGISNULL(lengthof(fixed) + 1))
	{
		Interval *interval = PG_GETARG_INTERVAL_P(lengthof(fixed) + 1);

		cs_span(interval, "emit_interval", 0, USECS_PER_DAY);
		value = cs_value_interval("emit_interval", interval);
		n = 1;
	}
	cs_definition_alter(def, &value, n);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_funnel(PG_FUNCTION_ARGS)
{
	return cs_drop_by_name(fcinfo, CS_KIND_FUNNEL, "funnel");
}
