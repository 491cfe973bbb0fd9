/*
 * clickstream.c
 *	  The module: its magic, and what happens when it is loaded.
 *
 * Preloaded (shared_preload_libraries) it registers the launcher; loaded
 * later, by the first call of one of its functions, it only defines its
 * settings, and everything but background work is there.
 */
#include "postgres.h"

#include "core/settings.h"
#include "fmgr.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

extern void _PG_init(void);

void
_PG_init(void)
{
	cs_settings_init();
	cs_worker_init();
}
