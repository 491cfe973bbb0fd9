/*
 * core/errors.h
 *	  Whose fault an error is.
 */
#ifndef CS_CORE_ERRORS_H
#define CS_CORE_ERRORS_H

#include "postgres.h"

/*
 * The server's or an operator's doing (resources, shutdown, cancel, deadlock,
 * a lock not had, I/O), not that of the data or of a definition: it aborts
 * the batch, which is tried again, and never makes a dead letter or a NULL.
 */
static inline bool
cs_error_is_servers(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES):
		case ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR):
		case ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK):
			return true;
		default:
			return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
}

#endif
