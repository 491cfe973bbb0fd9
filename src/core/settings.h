/*
 * core/settings.h
 *	  The extension's settings (clickstream.*), as variables.
 *
 * Each is defined in settings.c with unit, bounds and a description that
 * begins "Sets".  At most fifteen.
 */
#ifndef CS_CORE_SETTINGS_H
#define CS_CORE_SETTINGS_H

#include "postgres.h"

extern int cs_commit_interval; /* ms between commits of a running stream, SIGHUP */
extern int cs_batch_messages;  /* most messages in one transaction, SUSET */
extern int cs_batch_memory;	   /* kB: memory of one transaction before it commits, SIGHUP */
#define CS_QUEUE_MEMORY_MIN 1024
extern int	 cs_queue_memory;			   /* kB: librdkafka's queue, SIGHUP */
extern int	 cs_metadata_refresh_interval; /* ms: looking for new partitions, SIGHUP */
extern int	 cs_max_message_size;		   /* bytes, SIGHUP */
extern int	 cs_max_workers;			   /* stream workers at once, POSTMASTER */
extern int	 cs_restart_delay;			   /* ms: first back-off after an error; doubles up to 60 s, SIGHUP */
extern char *cs_mock_clock;				   /* developers: timestamptz text that stands in for the clock, SUSET */
extern int	 cs_state_log_size;	   /* kB: a half of the state log is kept at least until it is that large, SIGHUP */
extern int	 cs_state_memory;	   /* kB: open state of all running streams, POSTMASTER if preloaded, else SIGHUP */
extern char *cs_secrets_directory; /* where secrets lie, SIGHUP */

#define CS_DECODE_WORKERS_MAX 16 /* of a stream */

#ifdef CLICKSTREAM_MUTANTS
extern int cs_force_decode_workers; /* of each stream that can have some, 0: as many as it says; SUSET */
extern int cs_force_closings; /* entries that an operator closes in one transaction, 0: see engine/engine.c; SUSET */
extern int cs_force_spill;	  /* entries left in memory by a commit, -1: see state/evict.c; SUSET */
#endif

extern void cs_settings_init(void);

#endif
