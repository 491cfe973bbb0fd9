/*
 * core/ledger.h
 *	  Rows of clickstream.partition and clickstream.progress: offsets,
 *	  watermarks and the ledger, as an engine reads and stores them.
 *
 * By SPI with saved plans, as the extension's owner; in the batch's
 * transaction.  Each store names what it expects to find there: a fence, so
 * that two processes can never both move a stream on.
 */
#ifndef CS_CORE_LEDGER_H
#define CS_CORE_LEDGER_H

#include "access/transam.h"
#include "core/definition.h"

/* What one definition did, stored with each commit; see stat_definition. */
typedef struct CsEffort
{
	int64 definition_id;
	int64 rows;		 /* rows inserted and updated */
	int64 deleted;	 /* rows deleted */
	int64 errors;	 /* combine and final functions that failed: the measure is NULL */
	int64 entries;	 /* of its state */
	int64 open_from; /* of a rollup: cs_rollup_open_from() */
} CsEffort;

typedef struct CsProgressRow
{
	int64			  commit_number;
	TimestampTz		  watermark; /* CS_WM_NONE, CS_WM_DONE possible */
	TimestampTz		  closed;
	TimestampTz		  shown; /* furthest moment as of which a preview showed rows; CS_WM_NONE never */
	TimestampTz		  advanced;
	bool			  finished;
	int				  log_half;
	bool			  log_copied;
	FullTransactionId log_copied_xid;
	int64			  next_set_id;
	int				  state_format; /* of what the log and the spill table hold */
	int				  nefforts;
	CsEffort		 *efforts; /* loaded into the current context */
} CsProgressRow;

/* What others may change while a stream runs. */
typedef struct CsControl
{
	bool		exists;
	bool		enabled;
	int32		version;
	TimestampTz advanced; /* CS_WM_NONE: never */
	bool		finished;
} CsControl;

extern void cs_progress_load(int32 stream_id, CsProgressRow *row);
/* Raises ERRCODE_OBJECT_IN_USE if the stored commit number is not row's less one. */
extern void cs_progress_store(int32 stream_id, const CsProgressRow *row);

/* Final rows of a definition that started before may have been deleted, as of now: retention.c.  DT_NOBEGIN: none have. */
extern TimestampTz cs_deleted_before(int32 definition_id);
extern void		   cs_control_load(int32 stream_id, CsControl *control);

/* List of CsPartition*, palloc'd in cxt. */
extern List *cs_partitions_load(const CsStream *stream, MemoryContext cxt);
/* Insert (is_new) or update; raises ERRCODE_OBJECT_IN_USE if somebody else moved it. */
extern void cs_partition_store(const CsStream *stream, CsPartition *partition);

#endif
