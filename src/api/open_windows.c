/*
 * api/open_windows.c
 *	  open_windows(t): the windows that are open now, with their measures; of
 *	  rollups the buckets.
 *
 * Where they come from, who may see them, locking: api/open_state.c.
 */
#include "postgres.h"

#include "api/open_state.h"

PG_FUNCTION_INFO_V1(clickstream_open_windows);

/* Columns of a window's row before its groups, and behind its measures; see operator/cell.c. */
#define LEADING 2
#define TRAILING 4

typedef struct Windows
{
	CsOpenReader reader;
	int			 ngroups;
	TupleDesc	 groups;
	TupleDesc	 measures;
} Windows;

static void
show_row(void *arg, const CsOpenRow *row)
{
	Windows *w = arg;
	int		 measures = LEADING + w->ngroups;
	int		 key = w->reader.op->ncolumns - 1;
	Datum	 out[7];
	bool	 null[7] = {false};

	out[0] = row->values[0];
	out[1] = row->values[1];
	out[2] = cs_open_jsonb(w->groups, row->values + LEADING, row->isnull + LEADING);
	out[3] = cs_open_jsonb(w->measures, row->values + measures, row->isnull + measures);
	out[4] = row->values[key];
	out[5] = row->values[key - 1];
	out[6] = Int64GetDatum(w->reader.commit_number);
	cs_open_put(&w->reader, out, null);
}

Datum
clickstream_open_windows(PG_FUNCTION_ARGS)
{
	static const CsKind kinds[] = {CS_KIND_WINDOW, CS_KIND_ROLLUP, 0};
	Windows				w;
	CsQueryParts		parts;

	cs_open_begin(&w.reader, fcinfo, PG_GETARG_OID(0), kinds, "windows",
				  "Name a table made by clickstream.create_window() or create_rollup().");
	cs_query_parts(w.reader.def, &parts);
	w.ngroups = list_length(parts.groups);
	w.groups = cs_open_columns(&w.reader, LEADING, w.ngroups, NULL);
	w.measures =
		cs_open_columns(&w.reader, LEADING + w.ngroups, w.reader.op->ncolumns - LEADING - TRAILING - w.ngroups, NULL);
	cs_open_rows(&w.reader, show_row, &w);
	cs_open_end(&w.reader);
	return (Datum) 0;
}
