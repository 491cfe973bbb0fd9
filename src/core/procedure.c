/*
 * core/procedure.c
 *	  Transactions inside a procedure of ours.
 *
 * SPI's commit checks that the active snapshots are exactly those of portals:
 * so every begin of ours is paired with the commit that pops its snapshot.
 */
#include "core/procedure.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/snapmgr.h"

bool
cs_procedure_can_commit(FunctionCallInfo fcinfo)
{
	return fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		   !castNode(CallContext, fcinfo->context)->atomic;
}

void
cs_procedure_require_commit(FunctionCallInfo fcinfo, const char *name)
{
	if (!cs_procedure_can_commit(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("clickstream.%s cannot run inside a transaction block or a function", name),
				 errdetail("It commits after each batch."), errhint("CALL it by itself, outside BEGIN … COMMIT.")));
}

void
cs_procedure_enter(void)
{
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
}

void
cs_procedure_leave(void)
{
	SPI_finish();
}

void
cs_procedure_begin(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
cs_procedure_commit(void)
{
	PopActiveSnapshot();
	SPI_commit();
}
