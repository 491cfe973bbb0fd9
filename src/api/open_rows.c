/*
 * api/open_rows.c
 *	  open_rows(t) AS (column type, ...): what is open of a result table, with
 *	  columns of that table.
 *
 * The caller's column list says which, by name and type; the views <table>_live
 * name them all.  It returns records, and not the table's row type, because
 * PostgreSQL would then refuse to rewrite a table whose view uses that: ALTER
 * TABLE ... ADD COLUMN ... DEFAULT, for one.
 *
 * Where rows come from, who may see them, locking: api/open_state.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/open_state.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(clickstream_open_rows);

typedef struct Rows
{
	CsOpenReader reader;
	int			*sources; /* of each column of the result: the operator's */
	Datum		*values;
	bool		*isnull;
} Rows;

static void
show_row(void *arg, const CsOpenRow *row)
{
	Rows *r = arg;

	for (int i = 0; i < r->reader.result->setDesc->natts; i++)
	{
		r->values[i] = row->values[r->sources[i]];
		r->isnull[i] = row->isnull[r->sources[i]];
	}
	cs_open_put(&r->reader, r->values, r->isnull);
}

static int
find_source(const CsOpenReader *reader, Form_pg_attribute att)
{
	for (int i = 0; i < reader->op->ncolumns; i++)
	{
		const CsColumn *column = &reader->op->columns[i];

		if (strcmp(NameStr(att->attname), column->name) != 0)
			continue;
		if (att->atttypid == column->type)
			return i;
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of table \"%s\" is of type %s", column->name,
							   get_rel_name(reader->def->table), format_type_be(column->type)),
						errdetail("The column list asks for %s.", format_type_be(att->atttypid))));
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the definition of table \"%s\" has no column \"%s\"",
													   get_rel_name(reader->def->table), NameStr(att->attname))));
}

static void
map_columns(Rows *r)
{
	TupleDesc desc = r->reader.result->setDesc;

	r->sources = palloc(desc->natts * sizeof(int));
	r->values = palloc(desc->natts * sizeof(Datum));
	r->isnull = palloc(desc->natts * sizeof(bool));
	for (int i = 0; i < desc->natts; i++)
		r->sources[i] = find_source(&r->reader, TupleDescAttr(desc, i));
}

Datum
clickstream_open_rows(PG_FUNCTION_ARGS)
{
	static const CsKind kinds[] = {CS_KIND_SESSION, CS_KIND_WINDOW, CS_KIND_FUNNEL, CS_KIND_ROLLUP, 0};
	ReturnSetInfo	   *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Rows				r;

	if (result == NULL || !IsA(result, ReturnSetInfo) || result->expectedDesc == NULL)
		ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("open_rows() needs a list of columns"),
						errhint("Call it as SELECT * FROM clickstream.open_rows('my_table') AS o(my_column text), with "
								"columns of the table.")));
	cs_open_begin(&r.reader, fcinfo, PG_GETARG_OID(0), kinds, "state",
				  "Name a table of sessions, windows, attempts or a rollup.");
	map_columns(&r);
	cs_open_rows(&r.reader, show_row, &r);
	cs_open_end(&r.reader);
	return (Datum) 0;
}
