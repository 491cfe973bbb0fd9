/*
 * api/args.h
 *	  Arguments of SQL-callable functions, most of which may be NULL.
 */
#ifndef CS_API_ARGS_H
#define CS_API_ARGS_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* NULL if it is. */
static inline char *
cs_arg_text(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

static inline Interval *
cs_arg_interval(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : PG_GETARG_INTERVAL_P(i);
}

static inline Jsonb *
cs_arg_jsonb(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : PG_GETARG_JSONB_P(i);
}

static inline bool
cs_arg_bool(FunctionCallInfo fcinfo, int i, bool when_null)
{
	return PG_ARGISNULL(i) ? when_null : PG_GETARG_BOOL(i);
}

/* The text of an argument that must be given. */
extern char		*cs_arg_required(FunctionCallInfo fcinfo, int i, const char *name);
extern Interval *cs_arg_required_interval(FunctionCallInfo fcinfo, int i, const char *name);

/* How many rows at most: NULL is any number; raises if it is not greater than zero. */
extern int64 cs_arg_max_rows(FunctionCallInfo fcinfo, int i);

/* An interval in µs, within bounds and without months; raises naming the argument. */
extern int64 cs_span(const Interval *span, const char *name, int64 min, int64 max);

/* value must be one of the words (ending with NULL); raises naming the argument. */
extern void cs_check_word(const char *value, const char *name, const char *const *words);

#endif
