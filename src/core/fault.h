/*
 * core/fault.h
 *	  Places where a test can make things go wrong.
 *
 * What must survive a crash at a chosen moment says where the moment is:
 * CS_FAULT(NAME).  It is nothing, and costs nothing, unless the library is
 * built with -DCLICKSTREAM_MUTANTS, as test/check.sh does (mutant.h).  Then
 * the setting clickstream.fault (superusers) is 'point:action[:pass]': the
 * action happens when a process comes by the point for the pass'th time (1)
 * since it has the setting; pass 0: each time.
 *
 *	error		an internal error
 *	refuse		an error that trying again does not mend
 *	miss		what is to be read is not there
 *	disk		no space left on the device
 *	memory		out of shared memory
 *	fatal		the process ends, cleanly
 *	kill		the process is killed, and with it all of the server's
 *	pause		it waits there, interruptible where the caller is
 *
 * That it happened is said by a file in the data directory,
 * clickstream_fault.POINT.  While it is there the action does not happen
 * again, so a server that restarts is killed once only, and "pause" ends when
 * the file is removed.  (Pass 0 looks at no file, and leaves none.)
 *
 * To add one: a line in the list, and CS_FAULT(NAME) at the place.
 */
#ifndef CS_CORE_FAULT_H
#define CS_CORE_FAULT_H

#include "postgres.h"

/* NAME, the setting's word, in the order in which a stream comes by */
#define CS_FAULT_LIST(F)                                                                 \
	F(MID_RECOVERY, "mid_recovery")		  /* at a row of the state log */                \
	F(RECOVERY_SPILL, "recovery_spill")	  /* log folded, spill table not read */         \
	F(FEEDER_OPENED, "feeder_opened")	  /* in a decode worker: it has read nothing */  \
	F(FEEDER_FETCHED, "feeder_fetched")	  /* messages in hand */                         \
	F(FEEDER_DECODED, "feeder_decoded")	  /* packed into nothing yet */                  \
	F(FEEDER_SENT, "feeder_sent")		  /* a parcel is in the queue */                 \
	F(BEFORE_BEGIN, "before_begin")		  /* messages fetched, no transaction */         \
	F(DECODED, "decoded")				  /* a chunk's messages */                       \
	F(EVALUATED, "evaluated")			  /* one definition over a chunk */              \
	F(SPILL_READ, "spill_read")			  /* entries come back from the spill table */   \
	F(SPILL_INSTALL, "spill_install")	  /* at one of them, no memory yet taken over */ \
	F(APPLIED, "applied")				  /* the same, into the overlay */               \
	F(HISTORY, "history")				  /* a piece of it, or a bucket of a rollup */   \
	F(BEFORE_WRITE, "before_write")		  /* closed; rows gathered */                    \
	F(BEFORE_LOG, "before_log")			  /* rows written */                             \
	F(MID_COPY, "mid_copy")				  /* at an entry copied forward */               \
	F(SPILL_WRITTEN, "spill_written")	  /* entries went to the spill table */          \
	F(AFTER_LOG, "after_log")			  /* no offsets yet */                           \
	F(BEFORE_COMMIT, "before_commit")	  /* all is written */                           \
	F(AT_COMMIT, "at_commit")			  /* inside COMMIT, before its record */         \
	F(AFTER_COMMIT, "after_commit")		  /* committed, not published */                 \
	F(MID_PUBLICATION, "mid_publication") /* at an entry */                              \
	F(PUBLISHED, "published")			  /* all of them */                              \
	F(BEFORE_TRIM, "before_trim")		  /* in its transaction, no lock yet */          \
	F(TRIM_LOCKED, "trim_locked")		  /* older half locked, no more yet */           \
	F(MID_TRIM, "mid_trim")				  /* no snapshot needs the half; locked, not truncated */

typedef enum CsFault
{
#define CS_FAULT_ENUM(name, word) CS_FAULT_##name,
	CS_FAULT_LIST(CS_FAULT_ENUM)
#undef CS_FAULT_ENUM
	CS_FAULT_COUNT
} CsFault;

#ifdef CLICKSTREAM_MUTANTS
extern int	cs_fault_point; /* CsFault of the setting, or -1 */
extern void cs_fault_init(void);
extern void cs_fault_reached(void);
/* AT_COMMIT is reached in this transaction's COMMIT. */
extern void cs_fault_expect_commit(void);
#define CS_FAULT(name)                         \
	do                                         \
	{                                          \
		if (cs_fault_point == CS_FAULT_##name) \
			cs_fault_reached();                \
	} while (0)
#define CS_FAULT_EXPECT_COMMIT() cs_fault_expect_commit()
#else
#define CS_FAULT(name) ((void) 0)
#define CS_FAULT_EXPECT_COMMIT() ((void) 0)
#endif

#endif
