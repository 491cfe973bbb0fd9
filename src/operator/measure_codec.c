/*
 * operator/measure_codec.c
 *	  Bytes of measures' states, and events that are put into them as they are.
 *
 * See measure.h.  No locking, no catalog access.
 */
#include "postgres.h"

#include "operator/measure.h"

enum
{
	PLACE_NONE,
	PLACE_FIRST,
	PLACE_LAST,
	PLACE_OWN,
	NUMBER_BROKEN = 7
};

static void
put_placed(const CsExpr *expr, CsMeasureState *st, const CsPlace *first, const CsPlace *last, StringInfo buf)
{
	if (!st->has)
	{
		cs_put_u8(buf, PLACE_NONE);
		return;
	}
	if (first && cs_place_cmp(&st->place, first) == 0)
		cs_put_u8(buf, PLACE_FIRST);
	else if (last && cs_place_cmp(&st->place, last) == 0)
		cs_put_u8(buf, PLACE_LAST);
	else
	{
		cs_put_u8(buf, PLACE_OWN);
		cs_put_place(buf, &st->place);
	}
	cs_put_datum(buf, st->value, st->isnull, expr->stored, expr->typbyval);
}

static void
get_placed(const CsExpr *expr, CsMeasureState *st, const CsPlace *first, const CsPlace *last, CsReader *r)
{
	uint8 how = cs_get_u8(r);

	if (how == PLACE_NONE)
		return;
	if (how == PLACE_FIRST && first)
		st->place = *first;
	else if (how == PLACE_LAST && last)
		st->place = *last;
	else if (how == PLACE_OWN)
		cs_get_place(r, &st->place);
	else
		cs_reader_corrupt(r, "a place is of no known form");
	st->has = true;
	st->value = cs_get_datum(r, &st->isnull, expr->stored, expr->typbyval);
}

static void
put_number(const CsMeasureState *st, StringInfo buf)
{
	cs_put_u8(buf, st->broken ? NUMBER_BROKEN : st->has);
	if (st->has && !st->broken)
		cs_put_int(buf, st->n);
}

void
cs_measures_put(CsMeasures *ms, CsState *state, CsMeasureState *states, const CsPlace *first, const CsPlace *last,
				StringInfo buf)
{
	ms->aggcontext->ecxt_per_tuple_memory = CurrentMemoryContext;
	for (int i = 0; i < ms->n; i++)
	{
		CsMeasure	   *m = &ms->measures[i];
		CsMeasureState *st = &states[i];

		switch (m->kind)
		{
			case CS_MEASURE_COUNT:
				cs_put_uint(buf, (uint64) st->n);
				break;
			case CS_MEASURE_DISTINCT:
				cs_set_put(buf, state, st->set);
				break;
			case CS_MEASURE_SUM:
			case CS_MEASURE_MIN:
			case CS_MEASURE_MAX:
				put_number(st, buf);
				break;
			case CS_MEASURE_FIRST:
			case CS_MEASURE_LAST:
				put_placed(&m->args[0], st, first, last, buf);
				break;
			case CS_MEASURE_GENERIC:
				if (!cs_aggregate_put(m->aggregate, st, buf))
					ms->errors++;
				break;
		}
	}
}

static void
get_number(CsMeasureState *st, CsReader *r)
{
	uint8 how = cs_get_u8(r);

	st->broken = how == NUMBER_BROKEN;
	st->has = how != 0;
	if (how == 1)
		st->n = cs_get_int(r);
	else if (how != 0 && how != NUMBER_BROKEN)
		cs_reader_corrupt(r, "a number is of no known form");
}

void
cs_measures_get(CsMeasures *ms, CsState *state, CsMeasureState *states, const CsPlace *first, const CsPlace *last,
				CsReader *r)
{
	for (int i = 0; i < ms->n; i++)
	{
		CsMeasure	   *m = &ms->measures[i];
		CsMeasureState *st = &states[i];
		CsSet		   *set = st->set;

		memset(st, 0, sizeof(*st));
		st->isnull = true;
		st->set = set;
		switch (m->kind)
		{
			case CS_MEASURE_COUNT:
				st->n = (int64) cs_get_uint(r);
				break;
			case CS_MEASURE_DISTINCT:
				cs_set_get(r, state, st->set);
				break;
			case CS_MEASURE_SUM:
			case CS_MEASURE_MIN:
			case CS_MEASURE_MAX:
				get_number(st, r);
				break;
			case CS_MEASURE_FIRST:
			case CS_MEASURE_LAST:
				get_placed(&m->args[0], st, first, last, r);
				break;
			case CS_MEASURE_GENERIC:
				cs_aggregate_get(m->aggregate, st, r);
				break;
		}
	}
}

/* ---- in the bytes ---- */

bool
cs_measures_can_patch(const CsMeasures *ms, bool by_place)
{
	for (int i = 0; i < ms->n; i++)
	{
		CsMeasureKind kind = ms->measures[i].kind;

		if (kind == CS_MEASURE_GENERIC || (!by_place && (kind == CS_MEASURE_FIRST || kind == CS_MEASURE_LAST)))
			return false;
	}
	return true;
}

static bool
patch_set(const CsInput *in, CsReader *r, StringInfo buf, CsCopies *copies)
{
	uint64		head = cs_get_uint(r);
	uint64		n = head >> 1;
	const char *members;
	bool		is_new = in->take;

	if ((head & 1) != 0 || n >= CS_SET_INLINE)
		return false;
	members = cs_get_raw(r, n * sizeof(CsHash128));
	for (uint64 i = 0; i < n && is_new; i++)
		is_new = memcmp(members + i * sizeof(CsHash128), &in->hash, sizeof(CsHash128)) != 0;
	cs_put_uint(buf, (n + is_new) << 1);
	cs_put_copy(buf, copies, members, n * sizeof(CsHash128));
	if (is_new)
		cs_put_raw(buf, &in->hash, sizeof(CsHash128));
	return true;
}

static void
patch_number(const CsMeasure *m, const CsInput *in, CsReader *r, StringInfo buf)
{
	CsMeasureState st = {0};

	get_number(&st, r);
	if (in->take)
		cs_measure_add_number(&st, m->kind, cs_measure_int(&m->args[0], in->value));
	put_number(&st, buf);
}

/* A value that stays; its place is the last one no more. */
static void
keep_placed(const CsExpr *expr, const char *old_last, const char *old_end, CsReader *r, StringInfo buf,
			CsCopies *copies)
{
	uint8		how = cs_get_u8(r);
	const char *kept = r->pos;
	CsPlace		place;

	cs_put_u8(buf, how == PLACE_LAST ? PLACE_OWN : how);
	if (how == PLACE_NONE)
		return;
	if (how == PLACE_LAST)
		cs_put_raw(buf, old_last, old_end - old_last);
	if (how == PLACE_OWN)
		cs_get_place(r, &place);
	cs_skip_datum(r, expr->stored, expr->typbyval);
	cs_put_copy(buf, copies, kept, r->pos - kept);
}

static void
replace_placed(const CsExpr *expr, const CsInput *in, CsReader *r, StringInfo buf)
{
	uint8	how = cs_get_u8(r);
	CsPlace place;

	if (how == PLACE_OWN)
		cs_get_place(r, &place);
	if (how != PLACE_NONE)
		cs_skip_datum(r, expr->stored, expr->typbyval);
	cs_put_u8(buf, PLACE_LAST);
	cs_put_datum(buf, in->value, in->isnull, expr->stored, expr->typbyval);
}

bool
cs_measures_patch(const CsMeasures *ms, const CsInput *inputs, const char *old_last, const char *old_end, CsReader *r,
				  StringInfo buf, CsCopies *copies)
{
	for (int i = 0; i < ms->n; i++)
	{
		const CsMeasure *m = &ms->measures[i];
		const CsInput	*in = &inputs[i];

		switch (m->kind)
		{
			case CS_MEASURE_COUNT:
				cs_put_uint(buf, cs_get_uint(r) + in->take);
				break;
			case CS_MEASURE_DISTINCT:
				if (!patch_set(in, r, buf, copies))
					return false;
				break;
			case CS_MEASURE_SUM:
			case CS_MEASURE_MIN:
			case CS_MEASURE_MAX:
				patch_number(m, in, r, buf);
				break;
			case CS_MEASURE_FIRST:
			case CS_MEASURE_LAST:
				/* The first one stays, if there is one. */
				if (in->take && (m->kind == CS_MEASURE_LAST || (r->pos < r->end && *r->pos == PLACE_NONE)))
					replace_placed(&m->args[0], in, r, buf);
				else
					keep_placed(&m->args[0], old_last, old_end, r, buf, copies);
				break;
			case CS_MEASURE_GENERIC:
				return false;
		}
	}
	return true;
}
