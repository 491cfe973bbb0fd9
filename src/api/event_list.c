/*
 * api/event_list.c
 *	  State of the aggregates over events: rules, conditions, adding, sorting,
 *	  partial states.  What it is for: event_list.h.
 */
#include "postgres.h"

#include "api/event_list.h"
#include "catalog/pg_type.h"
#include "core/mutant.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define FIRST_SIZE 64	   /* bytes of a list's first chunk */
#define SORT_BLOCK 16	   /* so many events are sorted by insertion */
#define RULES_LOOKED_AT 16 /* when arguments change from row to row */

/* What is kept for one place of a query. */
typedef struct Site
{
	bool		 checked; /* the conditions' types */
	bool		 is_array;
	CsEventRule *rules; /* the last one used first */
} Site;

static Site *
get_site(FmgrInfo *flinfo)
{
	if (flinfo->fn_extra == NULL)
		flinfo->fn_extra = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(Site));
	return flinfo->fn_extra;
}

/* ---- rules ---- */

static inline bool
same_rule(const CsEventRule *rule, const char *key, int size, int nconditions)
{
	return rule->size == size && rule->nconditions == nconditions && memcmp(rule->key, key, size) == 0;
}

static CsEventRule *
make_rule(FmgrInfo *flinfo, const char *key, int size, int nconditions, CsEventRuleParser parser)
{
	MemoryContext old = MemoryContextSwitchTo(flinfo->fn_mcxt);
	CsEventRule	 *rule = palloc0(offsetof(CsEventRule, key) + size);

	rule->nconditions = nconditions;
	rule->size = size;
	memcpy(rule->key, key, size);
	parser(rule);
	MemoryContextSwitchTo(old);
	return rule;
}

const CsEventRule *
cs_event_rule(FmgrInfo *flinfo, const char *key, int size, int nconditions, CsEventRuleParser parser)
{
	Site		 *site = get_site(flinfo);
	CsEventRule **link = &site->rules;
	CsEventRule	 *rule;

	for (int i = 0; *link != NULL && i < RULES_LOOKED_AT; i++, link = &(*link)->next)
		if (same_rule(*link, key, size, nconditions))
			break;
	rule = *link;
	if (rule != NULL && same_rule(rule, key, size, nconditions))
		*link = rule->next;
	else
		rule = make_rule(flinfo, key, size, nconditions, parser);
	rule->next = site->rules;
	site->rules = rule;
	return rule;
}

void
cs_event_rule_check(const CsEventList *list, const CsEventRule *rule)
{
	if (list->rule == rule || same_rule(list->rule, rule->key, rule->size, rule->nconditions))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("arguments of an aggregate differ within one group"),
			 errdetail("Only event_time and the conditions may change from row to row."),
			 errhint("Add what the others depend on to GROUP BY.")));
}

/* ---- conditions ---- */

static void
too_many(int n)
{
	ereport(ERROR, (errcode(ERRCODE_TOO_MANY_ARGUMENTS),
					errmsg("cannot have more than %d conditions", CS_MAX_CONDITIONS), errdetail("There are %d.", n)));
}

static void
check_conditions(FunctionCallInfo fcinfo, int first, Site *site)
{
	site->is_array = get_fn_expr_variadic(fcinfo->flinfo);
	for (int i = first; i < fcinfo->nargs; i++)
	{
		Oid type = get_fn_expr_argtype(fcinfo->flinfo, i);

		if (type != (site->is_array ? BOOLARRAYOID : BOOLOID))
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("condition %d must be of type %s, not %s", i - first + 1,
								   site->is_array ? "boolean[]" : "boolean", format_type_be(type)),
							errhint("Write a comparison such as event_type = 'purchase'.")));
	}
	if (!site->is_array && fcinfo->nargs - first > CS_MAX_CONDITIONS)
		too_many(fcinfo->nargs - first);
	site->checked = true;
}

static int
conditions_of_array(FunctionCallInfo fcinfo, int i, uint32 *mask)
{
	ArrayType *array;
	int		   n;
	bits8	  *nulls;
	bool	  *values;

	if (PG_ARGISNULL(i))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the array of conditions must not be NULL")));
	array = PG_GETARG_ARRAYTYPE_P(i);
	n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	if (n > CS_MAX_CONDITIONS)
		too_many(n);
	if (n == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("at least one condition must be given")));
	nulls = ARR_NULLBITMAP(array);
	values = (bool *) ARR_DATA_PTR(array);
	for (int k = 0; k < n; k++)
		if (nulls == NULL || (nulls[k / 8] & (1 << k % 8)) != 0)
			*mask |= (uint32) *values++ << k;
	return n;
}

int
cs_conditions(FunctionCallInfo fcinfo, int first, uint32 *mask)
{
	Site *site = get_site(fcinfo->flinfo);

	if (!site->checked)
		check_conditions(fcinfo, first, site);
	*mask = 0;
	if (site->is_array)
		return conditions_of_array(fcinfo, first, mask);
	for (int i = first; i < fcinfo->nargs; i++)
		if (!fcinfo->args[i].isnull && DatumGetBool(fcinfo->args[i].value))
			*mask |= (uint32) 1 << (i - first);
	return fcinfo->nargs - first;
}

/* ---- adding ---- */

static inline Size
list_size(int64 capacity)
{
	return offsetof(CsEventList, events) + capacity * sizeof(CsEventMask);
}

static inline uint32
capacity_of(Size size)
{
	return (size - list_size(0)) / sizeof(CsEventMask);
}

static CsEventList *
make_list(MemoryContext cxt, const CsEventRule *rule, int32 n)
{
	Size		 size = FIRST_SIZE;
	CsEventList *list;

	while (size < list_size(n))
		size *= 2;
	list = MemoryContextAllocHuge(cxt, size);
	list->rule = rule;
	list->runs = NULL;
	list->n = 0;
	list->capacity = capacity_of(size);
	list->unsorted = 0;
	return list;
}

CsEventList *
cs_event_list_make(FunctionCallInfo fcinfo, const CsEventRule *rule)
{
	MemoryContext cxt;

	if (!AggCheckCallContext(fcinfo, &cxt))
		elog(ERROR, "aggregate function called in non-aggregate context");
	return make_list(cxt, rule, 0);
}

CsEventList *
cs_event_list_grow(FunctionCallInfo fcinfo, CsEventList *list)
{
	int32 limit = cs_event_list_limit();
	Size  size = FIRST_SIZE;

	if (list->n >= limit)
	{
		cs_event_list_spill(fcinfo, list);
		return list;
	}
	while (size < list_size(list->n + 1))
		size *= 2;
	size = Min(size, list_size(limit));
	list = repalloc_huge(list, size);
	list->capacity = capacity_of(size);
	return list;
}

int64
cs_event_list_count(const CsEventList *list)
{
	return list->n + (list->runs ? cs_event_runs_count(list->runs) : 0);
}

/* ---- sorting ---- */

static void
insertion_sort(CsEventMask *events, int n)
{
	for (int i = 1; i < n; i++)
	{
		CsEventMask event = events[i];
		int			at = i;

		for (; at > 0 && events[at - 1].time > event.time; at--)
			events[at] = events[at - 1];
		events[at] = event;
	}
}

/* End of the events from i on that are in order. */
static int
ordered_until(const CsEventMask *events, int i, int n)
{
	for (i++; i < n && events[i - 1].time <= events[i].time; i++)
		;
	return i;
}

/* Merge runs two by two.  True: one is left. */
static bool
merge_pass(const CsEventMask *from, CsEventMask *to, int n)
{
	int end;

	for (int start = 0; start < n; start = end)
	{
		int middle = ordered_until(from, start, n);
		int i = start, j = middle;

		end = middle < n ? ordered_until(from, middle, n) : n;
		while (i < middle && j < end)
			*to++ = from[i].time <= from[j].time ? from[i++] : from[j++];
		memcpy(to, &from[i], (middle - i) * sizeof(CsEventMask));
		to += middle - i;
		memcpy(to, &from[j], (end - j) * sizeof(CsEventMask));
		to += end - j;
		if (start == 0 && end == n)
			return true;
	}
	return n == 0;
}

/* A merge sort of the runs that are there already. */
void
cs_event_list_sort(CsEventList *list)
{
	CsEventMask *from = list->events;
	CsEventMask *to;
	CsEventMask *space;
	bool		 sorted = false;

	if (!list->unsorted || CS_MUTANT(UNSORTED_APPLY))
		return;
	for (int i = 0; i < list->n; i += SORT_BLOCK)
		insertion_sort(&from[i], Min(SORT_BLOCK, list->n - i));
	if (list->n > SORT_BLOCK)
	{
		space = to = MemoryContextAllocHuge(CurrentMemoryContext, list->n * sizeof(CsEventMask));
		while (!sorted)
		{
			CsEventMask *before = from;

			CHECK_FOR_INTERRUPTS();
			sorted = merge_pass(from, to, list->n);
			from = to;
			to = before;
		}
		if (from == space)
			memcpy(list->events, space, list->n * sizeof(CsEventMask));
		pfree(space);
	}
	list->unsorted = 0;
}

/* ---- partial states ---- */

/* The first state takes over from the second, which stays as it is. */
Datum
cs_event_list_combine(FunctionCallInfo fcinfo)
{
	CsEventList		  *a = PG_ARGISNULL(0) ? NULL : (CsEventList *) PG_GETARG_POINTER(0);
	const CsEventList *b = PG_ARGISNULL(1) ? NULL : (CsEventList *) PG_GETARG_POINTER(1);

	if (b != NULL)
	{
		if (a == NULL)
			a = cs_event_list_make(fcinfo, b->rule);
		cs_event_rule_check(a, b->rule);
		if (b->runs != NULL)
			elog(ERROR, "a partial state is on disk");
		for (int i = 0; i < b->n; i++)
			a = cs_event_list_add(fcinfo, a, b->events[i].time, b->events[i].mask);
	}
	if (a == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(a);
}

/* What a partial state begins with; the key and the events follow, as they are in memory. */
typedef struct Head
{
	int32 nconditions;
	int32 size; /* of the key */
	int64 n;
} Head;

Datum
cs_event_list_serialize(FunctionCallInfo fcinfo)
{
	CsEventList		  *list = (CsEventList *) PG_GETARG_POINTER(0);
	Head			   head = {list->rule->nconditions, list->rule->size, cs_event_list_count(list)};
	int64			   size = VARHDRSZ + sizeof(Head) + head.size + head.n * sizeof(CsEventMask);
	CsEventReader	  *reader;
	const CsEventMask *event;
	bytea			  *result;
	char			  *to;

	if (!AllocSizeIsValid(size))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many events in one group for a parallel plan"),
				 errdetail("There are " INT64_FORMAT ".", head.n),
				 errhint("SET max_parallel_workers_per_gather = 0, or group by a visitor, too.")));
	result = palloc(size);
	SET_VARSIZE(result, size);
	to = VARDATA(result);
	memcpy(to, &head, sizeof(Head));
	to += sizeof(Head);
	memcpy(to, list->rule->key, head.size);
	to += head.size;
	if (list->runs == NULL)
		memcpy(to, list->events, list->n * sizeof(CsEventMask));
	else
	{
		reader = cs_event_reader_begin(list);
		for (; (event = cs_event_reader_next(reader)) != NULL; to += sizeof(CsEventMask))
			memcpy(to, event, sizeof(CsEventMask));
		cs_event_reader_end(reader);
	}
	PG_RETURN_BYTEA_P(result);
}

/* Each event is looked at: a state may come from a state log. */
Datum
cs_event_list_deserialize(FunctionCallInfo fcinfo, CsEventRuleParser parser)
{
	bytea			  *bytes = PG_GETARG_BYTEA_PP(0);
	const char		  *from = VARDATA_ANY(bytes);
	int64			   left = (int64) VARSIZE_ANY_EXHDR(bytes) - (int64) sizeof(Head);
	Head			   head;
	const CsEventRule *rule;
	CsEventList		  *list;
	bool			   good = left >= 0;

	if (good)
	{
		memcpy(&head, from, sizeof(Head));
		good = head.nconditions > 0 && head.nconditions <= CS_MAX_CONDITIONS && head.size >= 0 && head.n >= 0 &&
			   head.n <= PG_INT32_MAX && left == head.size + head.n * (int64) sizeof(CsEventMask);
	}
	if (!good)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the state of an aggregate over events is damaged")));
	from += sizeof(Head);
	rule = cs_event_rule(fcinfo->flinfo, from, head.size, head.nconditions, parser);
	list = make_list(CurrentMemoryContext, rule, head.n);
	memcpy(list->events, from + head.size, head.n * sizeof(CsEventMask));
	list->n = head.n;
	for (int i = 0; i < list->n; i++)
	{
		if (((uint64) list->events[i].mask >> head.nconditions) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED), errmsg("the state of an aggregate over events is damaged")));
		if (i > 0 && list->events[i - 1].time > list->events[i].time)
			list->unsorted = 1;
	}
	PG_RETURN_POINTER(list);
}
