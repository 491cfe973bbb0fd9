/*
 * api/retention.c
 *	  retention(VARIADIC conditions): which of them were met by any row, given
 *	  that the first one was; ClickHouse's function of that name.
 *
 * The state is a number: how many conditions there are, and a bit for each
 * that was met.  Order and time do not matter.
 */
#include "postgres.h"

#include "api/event_list.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(clickstream_retention_step);
PG_FUNCTION_INFO_V1(clickstream_retention_combine);
PG_FUNCTION_INFO_V1(clickstream_retention_final);

static Datum
merge(int64 a, int64 b)
{
	if (a >> 32 != b >> 32)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the number of conditions differs within one group"),
				 errdetail("There are %d and %d.", (int) (a >> 32), (int) (b >> 32))));
	return Int64GetDatum(a | b);
}

Datum
clickstream_retention_step(PG_FUNCTION_ARGS)
{
	uint32 mask;
	int64  n = cs_conditions(fcinfo, 1, &mask);
	int64  row = n << 32 | mask;

	return PG_ARGISNULL(0) ? Int64GetDatum(row) : merge(PG_GETARG_INT64(0), row);
}

Datum
clickstream_retention_combine(PG_FUNCTION_ARGS)
{
	return merge(PG_GETARG_INT64(0), PG_GETARG_INT64(1));
}

/* Without rows all are false; how many, the other arguments tell, if they are one by one. */
Datum
clickstream_retention_final(PG_FUNCTION_ARGS)
{
	int64 state = PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0);
	int	  n = state >> 32;
	Datum values[CS_MAX_CONDITIONS];

	if (PG_ARGISNULL(0) && get_fn_expr_argtype(fcinfo->flinfo, 1) == BOOLOID)
		n = Min(fcinfo->nargs - 1, CS_MAX_CONDITIONS);
	for (int i = 0; i < n; i++)
		values[i] = BoolGetDatum((state & 1) != 0 && (state >> i & 1) != 0);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, n, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR));
}
