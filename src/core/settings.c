/*
 * core/settings.c
 *	  Definition of the extension's settings, clickstream.*.
 *
 * Limits come as MIN, DEFAULT, MAX where they are not plain; everything from
 * outside is capped here, so that nobody behind need check again.  A setting
 * that only the server's start can change is defined only then.
 */
#include "core/settings.h"

#include <limits.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/mutant.h"
#include "miscadmin.h"
#include "utils/guc.h"

int	  cs_commit_interval = 1000;
int	  cs_batch_messages = 400000;
int	  cs_batch_memory = 256 * 1024;
int	  cs_queue_memory = 64 * 1024;
int	  cs_metadata_refresh_interval = 60 * 1000;
int	  cs_max_message_size = 1024 * 1024;
int	  cs_max_workers = 8;
int	  cs_restart_delay = 1000;
char *cs_mock_clock = NULL;
int	  cs_state_log_size = 16 * 1024;
int	  cs_state_memory = 256 * 1024;
char *cs_secrets_directory = NULL;

#ifdef CLICKSTREAM_MUTANTS
int cs_force_spill = -1;
int cs_force_closings = 0;
int cs_force_decode_workers = 0;
int cs_mutant = CS_MUTANT_NONE;

static const struct config_enum_entry mutants[] = {
#define MUTANT_ENTRY(name, word) {word, CS_MUTANT_##name, false},
	CS_MUTANT_LIST(MUTANT_ENTRY)
#undef MUTANT_ENTRY
		{NULL, 0, false}};
#endif

static void
define_batch_settings(void)
{
	DefineCustomIntVariable("clickstream.commit_interval", "Sets the time between commits of a running stream.",
							"A longer one writes each result row less often; a shorter one shows it earlier.",
							&cs_commit_interval, 1000, 10, 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.batch_messages", "Sets the most messages that one transaction takes.", NULL,
							&cs_batch_messages, 400000, 1, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.batch_memory",
							"Sets the memory that one transaction's changes may take before it commits.", NULL,
							&cs_batch_memory, 256 * 1024, 1024, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL,
							NULL);
}

static void
define_source_settings(void)
{
	DefineCustomIntVariable("clickstream.queue_memory",
							"Sets the memory for messages fetched from a broker and not yet used.", NULL,
							&cs_queue_memory, 64 * 1024, CS_QUEUE_MEMORY_MIN, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.metadata_refresh_interval",
							"Sets how often a running stream looks for new partitions of its topics.", NULL,
							&cs_metadata_refresh_interval, 60 * 1000, 100, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL,
							NULL, NULL);
	DefineCustomIntVariable("clickstream.max_message_size",
							"Sets the length above which a message is not decoded but becomes a dead letter.", NULL,
							&cs_max_message_size, 1024 * 1024, 1024, 256 * 1024 * 1024, PGC_SIGHUP, GUC_UNIT_BYTE, NULL,
							NULL, NULL);
	DefineCustomStringVariable("clickstream.secrets_directory",
							   "Sets the directory in which secrets that options name lie, one file each.",
							   "Empty: no option may name a secret.", &cs_secrets_directory, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
}

/* Part of the server's shared memory if it can be; the same number bounds a process's own memory otherwise. */
static void
define_state_settings(void)
{
	GucContext context = process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomIntVariable("clickstream.state_memory", "Sets the memory for the open state of all running streams.",
							"They share it fairly.", &cs_state_memory, 256 * 1024, 16 * 1024, 1024 * 1024 * 1024,
							context, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.state_log_size",
							"Sets the size up to which a half of a stream's state log grows in any case.",
							"Beyond it, it is left when it is three times the live state.", &cs_state_log_size,
							16 * 1024, 64, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
}

static void
define_worker_settings(void)
{
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("clickstream.max_workers", "Sets how many streams can run at the same time.",
								"Each takes one of max_worker_processes.", &cs_max_workers, 8, 1, 1000, PGC_POSTMASTER,
								0, NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.restart_delay",
							"Sets the pause before a failed stream is tried again; it doubles up to a minute.", NULL,
							&cs_restart_delay, 1000, 10, 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("clickstream.mock_clock", "Sets the time that stands in for the clock, for tests.", NULL,
							   &cs_mock_clock, "", PGC_SUSET, GUC_NOT_IN_SAMPLE, cs_clock_check, cs_clock_assign, NULL);
}

void
cs_settings_init(void)
{
	define_batch_settings();
	define_source_settings();
	define_state_settings();
	define_worker_settings();
#ifdef CLICKSTREAM_MUTANTS
	DefineCustomIntVariable("clickstream.force_spill",
							"Sets how many entries that it has not touched a commit leaves in memory, for tests.",
							"-1: as many as there is memory for.", &cs_force_spill, -1, -1, INT_MAX, PGC_SUSET,
							GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.force_closings",
							"Sets how many entries an operator closes in one transaction, for tests.",
							"0: as many as there is room for.", &cs_force_closings, 0, 0, INT_MAX, PGC_SUSET,
							GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	DefineCustomIntVariable("clickstream.force_decode_workers",
							"Sets how many decode workers each stream has that can have some, for tests.",
							"0: as many as it says.", &cs_force_decode_workers, 0, 0, CS_DECODE_WORKERS_MAX, PGC_SUSET,
							GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	DefineCustomEnumVariable("clickstream.mutant", "Sets the mistake that the library makes, for tests of tests.", NULL,
							 &cs_mutant, CS_MUTANT_NONE, mutants, PGC_SUSET, GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
	cs_fault_init();
#endif
	MarkGUCPrefixReserved("clickstream");
}
