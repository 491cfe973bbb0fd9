/*
 * api/open_rows.c
 *	  open_rows(NULL::t): what is open of a result table, as rows of that table.
 *
 * The table's row type is the argument's, as with jsonb_populate_record(): so
 * the columns have their types wherever the function is used, the table may be
 * renamed, and a view that uses it depends on the table.  Columns are found by
 * their names; those that the user has added are NULL.
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
	int			*sources; /* of each column of the result: the operator's, or -1 */
	Datum		*values;
	bool		*isnull;
} Rows;

static void
show_row(void *arg, const CsOpenRow *row)
{
	Rows *r = arg;

	for (int i = 0; i < r->reader.result->setDesc->natts; i++)
	{
		int source = r->sources[i];

		r->isnull[i] = source < 0 || row->isnull[source];
		r->values[i] = r->isnull[i] ? (Datum) 0 : row->values[source];
	}
	cs_open_put(&r->reader, r->values, r->isnull);
}

static int
find_attribute(TupleDesc desc, const CsColumn *column)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), column->name) == 0 && att->atttypid == column->type)
			return i;
	}
	return -1;
}

static void
map_columns(Rows *r)
{
	TupleDesc desc = r->reader.result->setDesc;

	r->sources = palloc(desc->natts * sizeof(int));
	r->values = palloc(desc->natts * sizeof(Datum));
	r->isnull = palloc(desc->natts * sizeof(bool));
	for (int i = 0; i < desc->natts; i++)
		r->sources[i] = -1;
	for (int i = 0; i < r->reader.op->ncolumns; i++)
	{
		const CsColumn *column = &r->reader.op->columns[i];
		int				at = find_attribute(desc, column);

		if (at < 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("table \"%s\" has no column \"%s\" of type %s", get_rel_name(r->reader.def->table),
								   column->name, format_type_be(column->type)),
							errdetail("The definition writes that column."),
							errhint("Give the column its name and type back.")));
		r->sources[at] = i;
	}
}

Datum
clickstream_open_rows(PG_FUNCTION_ARGS)
{
	static const CsKind kinds[] = {CS_KIND_SESSION, CS_KIND_WINDOW, CS_KIND_FUNNEL, CS_KIND_ROLLUP, 0};
	Oid					type = get_fn_expr_argtype(fcinfo->flinfo, 0);
	Oid					table = get_typ_typrelid(type);
	Rows				r;

	if (!OidIsValid(table))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("type %s is no table's", format_type_be(type)),
						errhint("Call it as open_rows(NULL::my_table).")));
	cs_open_begin(&r.reader, fcinfo, table, kinds, "state", "Name a table of sessions, windows, attempts or a rollup.");
	map_columns(&r);
	cs_open_rows(&r.reader, show_row, &r);
	cs_open_end(&r.reader);
	return (Datum) 0;
}
