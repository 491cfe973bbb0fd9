/*
 * core/procedure.h
 *	  Transactions inside a procedure of ours: CALL that commits.
 *
 * Between enter and leave the procedure is connected to SPI without being
 * atomic.  begin pushes a snapshot; commit takes it away, commits, and leaves
 * a new transaction open, without a snapshot.
 */
#ifndef CS_CORE_PROCEDURE_H
#define CS_CORE_PROCEDURE_H

#include "postgres.h"

#include "fmgr.h"

/* Can the procedure that was called so commit? */
extern bool cs_procedure_can_commit(FunctionCallInfo fcinfo);
/* Raises, by the procedure's name, if it cannot. */
extern void cs_procedure_require_commit(FunctionCallInfo fcinfo, const char *name);

extern void cs_procedure_enter(void);
extern void cs_procedure_leave(void);
extern void cs_procedure_begin(void);
extern void cs_procedure_commit(void);

#endif
