/*
 * core/alert.h
 *	  Alerts: queries whose rows mean that something is to be told.
 *
 * Uses SPI, in the caller's transaction.  What evaluates one is the stream's
 * worker (worker/alerts.c), or a watcher (worker/watch.c); what is noted here
 * is seen in views alert and alert_history.
 */
#ifndef CS_CORE_ALERT_H
#define CS_CORE_ALERT_H

#include "core/definition.h"

typedef struct CsAlert
{
	int32		id;
	int32		stream_id;
	char	   *name;
	char	   *query;
	char	   *path;	  /* search_path when it was made */
	int64		hold_for; /* µs */
	char	   *channel;  /* NULL: no NOTIFY */
	TimestampTz since;	  /* the query has returned rows since then; DT_NOBEGIN: it returned none */
	int64		event_id; /* its row in the history, while it is on; 0: it is off */
	int			failures; /* in a row, whoever has evaluated it */
	/* of who evaluates it */
	bool		is_stale; /* something was committed since it was evaluated */
	TimestampTz checked;
	TimestampTz not_before; /* cost bounds how often */
} CsAlert;

/* The enabled alerts of a stream, in cxt. */
extern List *cs_alerts_load(int32 stream_id, MemoryContext cxt);
/* Streams that have enabled alerts and are at home in this database: a list of ids, in cxt. */
extern List *cs_alerts_streams(MemoryContext cxt);
/* One by its name, enabled or not; NULL if there is none. */
extern CsAlert *cs_alert_find(const char *name, MemoryContext cxt);

/*
 * The first row that the query returns, as JSON, or NULL.  It runs as owner,
 * reads only, and sees the active snapshot.
 */
extern char *cs_alert_evaluate(const CsAlert *alert, Oid owner);

/*
 * Prepare the query as the current user and with the current search_path;
 * raises where it is none.  Returns the relations that it reads.
 */
extern List *cs_alert_validate(const char *query);
/* The stream whose tables are among these: NULL if none or several are. */
extern CsStream *cs_alert_stream_of(List *relations, MemoryContext cxt);

/* Lock its row until the transaction ends; false: it is gone, disabled, or another process has begun or ended it. */
extern bool cs_alert_lock(const CsAlert *alert);
/* Write down what has changed, in alert too; told on its channel where it begins, ends, or is given up. */
extern void cs_alert_set_since(CsAlert *alert, TimestampTz since);
extern void cs_alert_clear_failures(CsAlert *alert);
extern void cs_alert_begin(CsAlert *alert, const char *stream, const char *detail, TimestampTz now);
extern void cs_alert_end(CsAlert *alert, const char *stream, TimestampTz now);
/* Deletes at most limit of the stream's rows of the history that ended before a time; returns how many. */
extern int64 cs_alert_history_trim(int32 stream_id, TimestampTz before, int64 limit);
extern void	 cs_alert_note_error(CsAlert *alert, const char *stream, const char *message, const char *sqlstate,
								 bool disable, TimestampTz now);

#endif
