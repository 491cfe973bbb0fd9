/*
 * api/open_sessions.c
 *	  open_sessions(t): the sessions that are open now, with their measures.
 *
 * Where they come from, who may see them, locking: api/open_state.c.
 */
#include "postgres.h"

#include "api/open_state.h"
#include "catalog/pg_type.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(clickstream_open_sessions);

/* Columns of a session's row before and after its measures; see operator/session.c. */
#define LEADING 4
#define TRAILING 3

typedef struct Sessions
{
	CsOpenReader reader;
	TupleDesc	 measures;
	int			 event_count; /* the measure of that name, or -1 */
} Sessions;

static void
show_row(void *arg, const CsOpenRow *row)
{
	Sessions *s = arg;
	Datum	  out[8];
	bool	  null[8] = {false};

	out[0] = row->values[0];
	out[1] = cs_open_text(&s->reader.op->columns[1], row->values[1]);
	out[2] = row->values[2];
	out[3] = row->values[3];
	out[4] = TimestampTzGetDatum(DatumGetTimestampTz(row->values[3]) - s->reader.def->gap);
	null[5] = s->event_count < 0 || row->isnull[s->event_count];
	out[5] = null[5] ? (Datum) 0 : row->values[s->event_count];
	out[6] = cs_open_jsonb(s->measures, row->values + LEADING, row->isnull + LEADING);
	out[7] = Int64GetDatum(s->reader.commit_number);
	cs_open_put(&s->reader, out, null);
}

/* Which measure is the bigint event_count, or -1. */
static int
find_event_count(const CsOperator *op)
{
	for (int i = LEADING; i < op->ncolumns - TRAILING; i++)
		if (strcmp(op->columns[i].name, "event_count") == 0 && op->columns[i].type == INT8OID)
			return i;
	return -1;
}

Datum
clickstream_open_sessions(PG_FUNCTION_ARGS)
{
	static const CsKind kinds[] = {CS_KIND_SESSION, 0};
	Sessions			s;

	cs_open_begin(&s.reader, fcinfo, PG_GETARG_OID(0), kinds, "sessions",
				  "Name a table made by clickstream.create_session().");
	s.measures = cs_open_columns(&s.reader, LEADING, s.reader.op->ncolumns - LEADING - TRAILING, NULL);
	s.event_count = find_event_count(s.reader.op);
	cs_open_rows(&s.reader, show_row, &s);
	cs_open_end(&s.reader);
	return (Datum) 0;
}
