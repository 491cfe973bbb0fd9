/*
 * worker/worker.c
 *	  What the workers need of the server's start: shared memory, hooks, the
 *	  launcher.
 *
 * A library that a session loads has none of it: there is no shared memory to
 * be had then, and no worker to be stopped.
 */
#include "worker/worker.h"

#include "worker/pending.h"
#include "worker/slots.h"
#include "worker/utility.h"

#include "state/pool.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"

#define LAUNCHER_RESTART_SECONDS 1

static shmem_request_hook_type next_request_hook = NULL;
static shmem_startup_hook_type next_startup_hook = NULL;

static void
request_hook(void)
{
	if (next_request_hook)
		next_request_hook();
	cs_slots_request();
	cs_pool_request();
}

static void
startup_hook(void)
{
	if (next_startup_hook)
		next_startup_hook();
	cs_slots_startup();
	cs_pool_startup();
}

static void
register_launcher(void)
{
	BackgroundWorker bgw = {0};

	bgw.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	bgw.bgw_start_time = BgWorkerStart_RecoveryFinished;
	bgw.bgw_restart_time = LAUNCHER_RESTART_SECONDS;
	strlcpy(bgw.bgw_library_name, "clickstream", sizeof(bgw.bgw_library_name));
	strlcpy(bgw.bgw_function_name, "cs_launcher_main", sizeof(bgw.bgw_function_name));
	strlcpy(bgw.bgw_name, "clickstream launcher", sizeof(bgw.bgw_name));
	strlcpy(bgw.bgw_type, "clickstream launcher", sizeof(bgw.bgw_type));
	RegisterBackgroundWorker(&bgw);
}

bool
cs_worker_available(void)
{
	return cs_workers != NULL;
}

/* pg_upgrade starts the servers without wanting anything to run in them. */
void
cs_worker_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	next_request_hook = shmem_request_hook;
	shmem_request_hook = request_hook;
	next_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_hook;
	cs_pending_init();
	cs_utility_init();
	if (!IsBinaryUpgrade)
		register_launcher();
}
