/*
 * core/fault.c
 *	  Places where a test can make things go wrong: the setting and the actions.
 *
 * See fault.h.  Takes no locks.
 */
#include "core/fault.h"

#ifdef CLICKSTREAM_MUTANTS

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "compat.h"
#include "core/wait.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/guc.h"

#define PAUSE_POLL_MS 10

typedef enum Action
{
	ACTION_ERROR,
	ACTION_REFUSE,
	ACTION_MISS,
	ACTION_DISK,
	ACTION_MEMORY,
	ACTION_FATAL,
	ACTION_KILL,
	ACTION_PAUSE
} Action;

static const char *const actions[] = {"error", "refuse", "miss", "disk", "memory", "fatal", "kill", "pause"};

static const char *const points[] = {
#define POINT_WORD(name, word) word,
	CS_FAULT_LIST(POINT_WORD)
#undef POINT_WORD
};

typedef struct Fault
{
	int point; /* CsFault, or -1 */
	int action;
	int pass; /* 0: each */
} Fault;

int cs_fault_point = -1;

static char *setting = NULL;
static Fault fault = {-1, 0, 0};
static int	 passes = 0; /* by the point, since it was set */
static bool	 commit_expected = false;

/* ---- the setting ---- */

static int
find_word(const char *const *words, int n, const char *word, size_t len)
{
	for (int i = 0; i < n; i++)
	{
		if (strlen(words[i]) == len && strncmp(words[i], word, len) == 0)
			return i;
	}
	return -1;
}

static bool
parse_fault(const char *text, Fault *result)
{
	const char *colon = strchr(text, ':');
	const char *second = colon ? strchr(colon + 1, ':') : NULL;
	char	   *end = NULL;
	long		pass = 1;

	if (colon == NULL)
		return false;
	result->point = find_word(points, CS_FAULT_COUNT, text, colon - text);
	result->action = find_word(actions, lengthof(actions), colon + 1, second ? second - colon - 1 : strlen(colon + 1));
	if (second)
	{
		pass = strtol(second + 1, &end, 10);
		if (end == second + 1 || *end != '\0' || pass < 0 || pass > INT_MAX)
			return false;
	}
	result->pass = (int) pass;
	return result->point >= 0 && result->action >= 0;
}

static bool
check_fault(char **value, void **extra, GucSource source)
{
	Fault parsed = {-1, 0, 0};

	(void) source;
	if (**value != '\0' && !parse_fault(*value, &parsed))
	{
		GUC_check_errdetail("It is 'point:action[:pass]'; src/core/fault.h has the points and actions.");
		return false;
	}
	*extra = cs_guc_malloc(sizeof(Fault));
	if (*extra == NULL)
		return false;
	memcpy(*extra, &parsed, sizeof(Fault));
	return true;
}

static void
assign_fault(const char *value, void *extra)
{
	(void) value;
	fault = *(const Fault *) extra;
	cs_fault_point = fault.point;
	passes = 0;
}

/* ---- what happens ---- */

/* Make the file that says so; false if it is there already. */
static bool
announce(char *path)
{
	int fd;

	snprintf(path, MAXPGPATH, "clickstream_fault.%s", points[fault.point]);
	fd = BasicOpenFile(path, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static void
pause_here(const char *path)
{
	while (access(path, F_OK) == 0)
	{
		(void) cs_wait(-1, PAUSE_POLL_MS);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
act(const char *path)
{
	const char *where = points[fault.point];

	switch ((Action) fault.action)
	{
		case ACTION_ERROR:
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("injected error at %s", where)));
		case ACTION_REFUSE:
			ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION), errmsg("injected refusal at %s", where)));
		case ACTION_MISS:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("injected lost offset at %s", where)));
		case ACTION_DISK:
			ereport(ERROR, (errcode(ERRCODE_DISK_FULL), errmsg("injected full disk at %s", where)));
		case ACTION_MEMORY:
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("injected lack of shared memory at %s", where)));
		case ACTION_FATAL:
			ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("injected end at %s", where)));
		case ACTION_KILL:
			kill(MyProcPid, SIGKILL);
			pg_unreachable(); /* a signal to oneself comes before kill() returns */
		case ACTION_PAUSE:
			pause_here(path);
	}
}

void
cs_fault_reached(void)
{
	char path[MAXPGPATH] = "";

	if (fault.pass != 0 && ++passes != fault.pass)
		return;
	if (fault.pass != 0 && !announce(path))
		return;
	write_stderr("clickstream fault: %s in process %d\n", setting, MyProcPid);
	act(path);
}

/* ---- inside COMMIT ---- */

void
cs_fault_expect_commit(void)
{
	commit_expected = true;
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	bool expected = commit_expected;

	(void) arg;
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_ABORT)
		return;
	commit_expected = false;
	if (expected && event == XACT_EVENT_PRE_COMMIT)
		CS_FAULT(AT_COMMIT);
}

void
cs_fault_init(void)
{
	DefineCustomStringVariable("clickstream.fault", "Sets what goes wrong where, for tests.", NULL, &setting, "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE, check_fault, assign_fault, NULL);
	RegisterXactCallback(at_transaction_event, NULL);
}

#endif
