/*
 * api/frame.h
 *	  The part of a view that windows and rollups share: rows are put into
 *	  time buckets by window_starts(), then grouped.
 */
#ifndef CS_API_FRAME_H
#define CS_API_FRAME_H

#include "api/define.h"

/* relation and time column (quoted), and a condition of ours (" WHERE …" or ""). */
extern CsView *cs_window_view_begin(const CsDraft *draft, const char *relation, const char *time_column,
									const char *condition, int rules);
extern void	   cs_window_view_add(CsView *view, const char *group_by, const char *measures, const char *filter);

/* The origin argument, which must be finite. */
extern TimestampTz cs_arg_origin(FunctionCallInfo fcinfo, int i);
/* Rules that involve a window's end use its last millisecond. */
extern void cs_check_milliseconds(int64 usec, const char *name);

#endif
