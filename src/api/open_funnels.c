/*
 * api/open_funnels.c
 *	  open_funnels(t): the attempts that are open now: how far each key has
 *	  come, and until when it can go on.
 *
 * Where they come from, who may see them, locking: api/open_state.c.
 */
#include "postgres.h"

#include "api/open_state.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(clickstream_open_funnels);

/* Columns of an attempt's row before its breakdown; see operator/funnel_rows.c. */
#define LEADING 2

typedef struct Funnels
{
	CsOpenReader reader;
	int			 level;	  /* columns of that name */
	int			 started; /* and of started_at */
	TupleDesc	 breakdown;
	TupleDesc	 steps;
} Funnels;

/* The furthest step's name; unordered funnels have no furthest one. */
static const char *
step_name(const CsDefinition *def, int32 level)
{
	return level > 0 && def->mode != CS_MODE_UNORDERED ? def->steps[level - 1] : NULL;
}

static void
show_row(void *arg, const CsOpenRow *row)
{
	Funnels	   *f = arg;
	const char *step = step_name(f->reader.def, DatumGetInt32(row->values[f->level]));
	Datum		out[10];
	bool		null[10] = {false};

	out[0] = row->values[0];
	out[1] = row->values[1];
	out[2] = row->values[f->level];
	null[3] = step == NULL;
	out[3] = step ? CStringGetTextDatum(step) : (Datum) 0;
	out[4] = row->values[f->started];
	null[5] = row->ends == CS_WM_DONE;
	out[5] = TimestampTzGetDatum(row->ends);
	out[6] = cs_open_jsonb(f->steps, row->values + f->level + 1, row->isnull + f->level + 1);
	out[7] = cs_open_jsonb(f->breakdown, row->values + LEADING, row->isnull + LEADING);
	out[8] = Int64GetDatum(row->waiting);
	out[9] = Int64GetDatum(f->reader.commit_number);
	cs_open_put(&f->reader, out, null);
}

Datum
clickstream_open_funnels(PG_FUNCTION_ARGS)
{
	static const CsKind kinds[] = {CS_KIND_FUNNEL, 0};
	Funnels				f;

	cs_open_begin(&f.reader, fcinfo, PG_GETARG_OID(0), kinds, "funnel attempts",
				  "Name a table made by clickstream.create_funnel().");
	f.level = cs_operator_column_number(f.reader.op, "level");
	f.started = cs_operator_column_number(f.reader.op, "started_at");
	f.breakdown = cs_open_columns(&f.reader, LEADING, f.level - LEADING, NULL);
	f.steps = cs_open_columns(&f.reader, f.level + 1, f.reader.def->nsteps, f.reader.def->steps);
	cs_open_rows(&f.reader, show_row, &f);
	cs_open_end(&f.reader);
	return (Datum) 0;
}
