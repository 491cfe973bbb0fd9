/*
 * worker/slots.h
 *	  Shared memory of the workers: one slot per stream that runs, shall run,
 *	  or failed.
 *
 * States of a slot, and who changes them:
 *
 *	  free --request (start(), probe)--> wanted --launcher--> starting
 *	  starting --worker attaches--> running <--> waiting, backing off
 *	  wanted --launcher finds no room--> no worker --room--> starting
 *	  any with a process --stop or hold--> stopping --worker ends--> free, or
 *	  wanted if it is wanted again (held, or started meanwhile)
 *	  a worker that ends unasked --> backing off without a process --launcher
 *	  when restart_at has come--> starting
 *	  running --permanent error--> failed --request--> wanted
 *
 * change_state() is the only setter; what it changed is logged at DEBUG1 when
 * the lock is given back, as logging may wait for a client.
 *
 * The array has room for more streams than may run at once, so that those
 * without a worker are seen.  If it is full, "overflow" makes the launcher
 * look into all databases again once a slot is free.
 *
 * Locking: one LWLock, named by the tranche "clickstream", protects everything
 * here.  It is held for a few instructions only, never while waiting, never
 * while holding another lock of ours.  A slot's index stays valid, its content
 * may change as soon as the lock is free; "generation" tells uses apart.
 */
#ifndef CS_WORKER_SLOTS_H
#define CS_WORKER_SLOTS_H

#include "engine/engine.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#define CS_SLOT_ERROR_LEN 512
#define CS_SLOT_PROBLEM_LEN 512
#define CS_SLOTS_SPARE 128 /* streams that are known beyond cs_max_workers */
#define CS_RATE_SECONDS 6  /* the second that runs, and five complete ones */
#define CS_WATCHES_MAX 64
#define CS_WATCH_MS 10000	   /* between two watchers of a database */
#define CS_WATCH_MAX_MS 600000 /* and where they end without reporting */
#define CS_WATCH_SOON_MS 1000  /* the first one: what just ended may start again, or its database be dropped */

typedef enum CsSlotState
{
	CS_SLOT_FREE,
	CS_SLOT_WANTED,	   /* to be started by the launcher */
	CS_SLOT_NO_WORKER, /* to be started when there is room for another worker */
	CS_SLOT_STARTING,  /* registered with the postmaster */
	CS_SLOT_RUNNING,
	CS_SLOT_WAITING,	 /* running, but its source says why nothing comes */
	CS_SLOT_BACKING_OFF, /* after a transient error; with a process or without */
	CS_SLOT_STOPPING,	 /* asked to end */
	CS_SLOT_FAILED		 /* permanent error: not started again until start() or a server restart */
} CsSlotState;

/* Messages of one second of the wall clock. */
typedef struct CsRate
{
	int64 second; /* since 2000-01-01 */
	int64 messages;
} CsRate;

/* Every field is protected by the lock of CsWorkerShared. */
typedef struct CsSlot
{
	CsSlotState state;
	Oid			database;
	int32		stream_id;	/* of a sink: its number, negative */
	Oid			owner;		/* of the stream: who may see its errors; the worker sets it */
	uint32		generation; /* counts registrations: a process of an older one ends at once */
	pid_t		pid;		/* of the worker; 0: none */
	Latch	   *latch;		/* the worker's, while pid is set */
	bool		wanted;		/* it shall run (again) once its process has ended */
	bool		stop;		/* its process shall end */
	bool		terminated; /* and got SIGTERM */
	int			holds;		/* transactions that keep it from starting */
	int			failures;	/* since it was last healthy for a minute: the back-off */
	TimestampTz started_at;
	TimestampTz stop_at;	/* when stop was set */
	TimestampTz restart_at; /* not started, or tried, before */
	TimestampTz error_at;	/* 0: no error */
	int			sqlstate;
	char		error[CS_SLOT_ERROR_LEN];
	char		hint[CS_SLOT_ERROR_LEN];			 /* what to do about it, or "" */
	char		problem[CS_SLOT_PROBLEM_LEN];		 /* why nothing comes, or "" */
	int			decode_workers;						 /* that read; see engine/feed.h */
	int64		decode_restarts;					 /* of those that ended unasked */
	char		decode_problem[CS_SLOT_PROBLEM_LEN]; /* why they are not as many as were asked for, or "" */
	bool		has_progress;
	CsProgress	progress;			   /* as of the last batch that had news */
	CsRate		rate[CS_RATE_SECONDS]; /* by second modulo CS_RATE_SECONDS */
} CsSlot;

/* A database whose alerts may have no worker that evaluates them: watch.c. */
typedef struct CsWatch
{
	Oid			database;	/* InvalidOid: none */
	uint32		asked;		/* how often it was put here */
	TimestampTz at;			/* of the next watcher */
	int			unreported; /* watchers in a row that ended without a word */
	bool		complained; /* the log says of a stream that it cannot be looked after */
} CsWatch;

typedef struct CsWorkerShared
{
	LWLock			 *lock;			  /* set once at start */
	int				  nslots;		  /* set once at start */
	ConditionVariable ended;		  /* own lock; broadcast when a worker has ended */
	pid_t			  launcher_pid;	  /* lock */
	Latch			 *launcher_latch; /* lock; NULL while there is none */
	bool			  probed;		  /* lock: every database was looked into once */
	bool			  overflow;		  /* lock: a stream found no slot */
	bool			  watch_all;	  /* lock: more databases than watches has room for */
	CsWatch			  watches[CS_WATCHES_MAX];
	CsSlot			  slots[FLEXIBLE_ARRAY_MEMBER];
} CsWorkerShared;

/* NULL: not preloaded. */
extern CsWorkerShared *cs_workers;

extern Size cs_slots_size(void);
extern void cs_slots_request(void);
extern void cs_slots_startup(void);

extern void cs_slots_lock(void);
extern void cs_slots_unlock(void);

/* ---- with the lock held ---- */

extern CsSlot *cs_slot_find(Oid database, int32 stream_id);
extern void	   cs_slot_change(CsSlot *slot, CsSlotState state);
extern void	   cs_slot_free(CsSlot *slot);
/* Has it a process, or is one on its way? */
extern bool cs_slot_is_busy(const CsSlot *slot);
/* Ask its process to end; terminate: by signal, which interrupts a batch. */
extern void cs_slot_ask_to_end(CsSlot *slot, bool terminate);
/* Back-off after one more failure: sets failures and restart_at; returns ms. */
extern int	cs_slot_back_off(CsSlot *slot);
extern void cs_slot_note_error(CsSlot *slot, int sqlstate, const char *message, const char *hint);
extern void cs_wake_launcher(void);
/* Its alerts are to be looked after, the first time after delay_ms. */
extern void cs_watch(Oid database, int delay_ms);

/* ---- take the lock themselves ---- */

/* The stream shall run: from now on the launcher sees to it. */
extern void cs_slot_want(Oid database, int32 stream_id, bool anew);
/* It shall not; ends its process gently. */
extern void cs_slot_unwant(Oid database, int32 stream_id);
extern void cs_slot_wake(Oid database, int32 stream_id);
/* cs_watch() after a second; and the end of it. */
extern void cs_watch_soon(Oid database);
extern void cs_watch_forget(Oid database);
/* A watcher has come to its end, or there is no need of one yet: the next one comes after the usual pause. */
extern void cs_watch_report(Oid database);
/* With the lock held: a watcher is begun; until the next one. */
extern int cs_watch_pause_ms(CsWatch *watch);
/* In a transaction: are there alerts in this database that are to be evaluated? */
extern bool cs_watch_is_needed(void);

/* What must hold in every transaction of our processes, whatever the database's settings say. */
extern void cs_worker_settings(void);

/*
 * What stat_stream shows of it: a stream without room for its worker stays so
 * while the launcher tries again, which it does at any of its wake-ups.
 */
extern CsSlotState cs_slot_shown_state(const CsSlot *slot);
extern const char *cs_slot_state_name(CsSlotState state);

/* Entry points of the processes, found by name by the postmaster. */
extern PGDLLEXPORT void cs_launcher_main(Datum arg);
extern PGDLLEXPORT void cs_probe_main(Datum arg);
extern PGDLLEXPORT void cs_watch_main(Datum arg);
extern PGDLLEXPORT void cs_stream_worker_main(Datum arg);
extern PGDLLEXPORT void cs_decode_worker_main(Datum arg);

#endif
