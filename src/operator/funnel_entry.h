/*
 * operator/funnel_entry.h
 *	  A funnel's definition, compiled, and the entry of one key: what the files
 *	  of the funnel operator share.
 *
 *	funnel.c		events, watermark, compilation: the operator
 *	funnel_entry.c	an entry as bytes
 *	funnel_walk.c	waiting events become attempts
 *	funnel_rows.c	attempts become rows, and which rows a key has shown
 *	funnel_core.c	the algorithm itself, with funnel_match.c, funnel_unordered.c
 *
 * An entry is one key's funnel: the events that wait for the watermark, the
 * attempts that are open, and what is remembered of rows that may still
 * change.  Without breakdown at most one attempt is open; with one there is
 * one for each value, as if each value had a funnel of its own.
 */
#ifndef CS_OPERATOR_FUNNEL_ENTRY_H
#define CS_OPERATOR_FUNNEL_ENTRY_H

#include "operator/expression.h"
#include "operator/funnel_core.h"
#include "operator/open_starts.h"
#include "operator/operator.h"
#include "state/codec.h"
#include "state/state.h"

/* Attempts of one key that are open at a time: beyond, the oldest ends. */
#define CS_FUNNEL_MAX_ATTEMPTS 100

/* The values of the breakdown that an event brings, as cs_put_datum() writes them. */
typedef struct CsFunnelGroup
{
	CsHash128 hash;
	uint32	  len;
	char	  bytes[FLEXIBLE_ARRAY_MEMBER];
} CsFunnelGroup;

typedef struct CsFunnelWaiting
{
	CsPlace				 place;
	CsFunnelEvent		 meets;
	const CsFunnelGroup *group; /* of an event that may open an attempt; NULL without breakdown */
} CsFunnelWaiting;

/* An attempt. */
typedef struct CsFunnelSlot
{
	CsPlace				 first;
	const CsFunnelGroup *group;
	CsFunnel			*funnel;
} CsFunnelSlot;

typedef struct CsFunnelSlots
{
	int			  n, capacity; /* all of them open */
	CsFunnelSlot *slots;
} CsFunnelSlots;

/* closed_reason; numbers are kept in entries. */
typedef enum CsFunnelReason
{
	CS_FUNNEL_OPEN, /* NULL */
	CS_FUNNEL_CONVERSION,
	CS_FUNNEL_EXPIRED,
	CS_FUNNEL_WAS_BROKEN,
	CS_FUNNEL_WAS_EXCLUDED,
	CS_FUNNEL_MAX_LENGTH,
	CS_FUNNEL_TOO_MANY,
	CS_FUNNEL_IDLE,
	CS_FUNNEL_FINISH,
	CS_FUNNEL_REASONS
} CsFunnelReason;

/* A row that the key has in the table and that may still change. */
typedef struct CsFunnelShown
{
	CsPlace		   first;
	uint64		   content; /* hash of what it says, without closed_reason */
	int32		   revision;
	CsFunnelReason reason;
	bool		   was_closed; /* it had a closed_reason once */
	bool		   is_wanted;  /* while rows are compared: it is to stay */
	bool		   is_gone;	   /* it has become final: not of this list any more */
} CsFunnelShown;

/* Decoded form of an entry; in batch memory. */
typedef struct CsFunnelWork
{
	const char		*key;
	size_t			 key_len;
	int64			 nwaiting, capacity;
	CsFunnelWaiting *waiting;  /* in any order */
	TimestampTz		 earliest; /* of those that wait */
	CsFunnelSlots	 open;
	int				 nshown;
	CsFunnelShown	*shown;	   /* in place order: a bot may have very many */
	bool			 is_stale; /* an open attempt's row lags behind */
	bool			 keeps;	   /* a row that is not of an open attempt has changed: see cs_work_keep() */
} CsFunnelWork;

/* A moment as of which an entry has something to show while the topic is silent, though nothing is due. */
typedef struct CsFunnelLater
{
	TimestampTz moment;
	CsHash128	who;
} CsFunnelLater;

typedef struct CsFunnelLaters
{
	int			   n, capacity;
	CsFunnelLater *items;
} CsFunnelLaters;

/* What evaluate() leaves for apply(). */
typedef struct CsFunnelInput
{
	CsFunnelEvent		 meets;
	bool				 take; /* it is for us */
	uint32				 key_len;
	const char			*key; /* chunk memory */
	CsHash128			 hash;
	const CsFunnelGroup *group; /* chunk memory */
} CsFunnelInput;

typedef struct CsFunnelOperator
{
	CsOperator	   base;
	MemoryContext  context;
	CsFunnelRule   rule;
	bool		   has_filter;
	CsExpr		   filter;
	CsExpr		   key;
	CsExpr		   steps[CS_MAX_STEPS];
	int			   nexclusions;
	CsExpr		   exclusions[CS_MAX_EXCLUSIONS];
	uint32		   taints[CS_MAX_EXCLUSIONS]; /* levels at which a chain meets it */
	int			   ngroups;					  /* columns of the breakdown */
	CsExpr		  *groups;
	CsHasher	  *hashers;
	bool		   revises; /* rows may be shown before they are final: allowed_lateness or emit 'changes' */
	CsFunnelInput *chunk;
	int			   chunk_capacity;
	CsOpenStarts  *starts;
	CsState		  *state;		/* of the engine, once it has advanced */
	TimestampTz	   wm;			/* the watermark of the last advance */
	TimestampTz	   settled;		/* the one that all keys have seen: while a closing goes on in parts, an earlier one */
	CsFunnelLaters laters;		/* committed */
	CsFunnelLaters laters_next; /* this batch's; looked_ahead says that they replace them */
	bool		   looked_ahead;
	CsFunnelLaters stale;			/* entries whose rows lag behind; moment unused */
	int			   stale_committed; /* of these, known before this batch */
	int			   stale_shown;		/* the first of them that this batch has rewritten */
	int			   pass_left;		/* so many are left of those that a pass is about; 0: none goes on */
	int			   pass_before;		/* as of the last commit */
	bool		   rewrote;			/* this batch has rewritten rows of open attempts */
	TimestampTz	   emit_before;
} CsFunnelOperator;

/* ---- funnel_entry.c ---- */

extern CsFunnelWork *cs_funnel_work_make(const CsFunnelOperator *op, const char *key, size_t key_len);
/* In the current context. */
extern CsFunnelWork *cs_funnel_work_decode(const CsFunnelOperator *op, const CsEntry *entry);
/* The decoded form of an overlay entry; key is needed for a new one only. */
extern CsFunnelWork *cs_funnel_work_of(const CsFunnelOperator *op, CsBatchContext *batch, CsWork *work, const char *key,
									   size_t key_len);
extern void			 cs_funnel_serialize(void *op, CsState *state, CsWork *work, StringInfo buf);
extern CsFunnelGroup *cs_funnel_group_copy(const CsFunnelGroup *group);
extern void cs_funnel_laters_add(CsFunnelOperator *op, CsFunnelLaters *laters, TimestampTz moment, CsHash128 who);

/* ---- funnel_walk.c ---- */

/*
 * Waiting events become attempts of `open`: for good, or on a copy.  opened and
 * ended are told of each attempt; an ended one is forgotten right after.
 */
typedef struct CsFunnelWalk
{
	CsFunnelOperator *op;
	CsFunnelSlots	 *open;
	void (*opened)(struct CsFunnelWalk *walk, const CsFunnelSlot *slot);
	void (*ended)(struct CsFunnelWalk *walk, const CsFunnelSlot *slot, CsFunnelReason reason);
	void *arg;
} CsFunnelWalk;

/* Put what waits into place order. */
extern void cs_funnel_sort(CsFunnelWork *w);
/* Apply the sorted events from `from` on up to the time limit; returns the first one not applied. */
extern int64 cs_funnel_walk_events(CsFunnelWalk *walk, const CsFunnelWork *w, int64 from, TimestampTz limit);
/* End the attempts that nothing later than limit can belong to; finish: all, with that reason. */
extern void cs_funnel_walk_end(CsFunnelWalk *walk, TimestampTz limit, bool finish);
/* The moment at which the first of the open attempts ends by time; CS_WM_DONE none. */
extern TimestampTz cs_funnel_next_end(const CsFunnelOperator *op, const CsFunnelSlots *open);
/* A slot for an attempt to come. */
extern CsFunnelSlot *cs_funnel_slot_add(const CsFunnelOperator *op, CsFunnelSlots *open, const CsFunnelGroup *group);

/* ---- funnel_rows.c ---- */

extern void cs_funnel_columns(CsFunnelOperator *op, const CsDefinition *def, Query *query);
/* The row of an attempt.  In the current context. */
extern void cs_funnel_row(const CsFunnelOperator *op, const CsFunnelWork *w, const CsFunnelSlot *slot,
						  CsFunnelReason reason, bool is_final, int32 revision, Datum *values, bool *isnull);
/* An attempt has ended for good. */
extern void cs_funnel_emit_final(CsFunnelOperator *op, CsBatchContext *batch, CsFunnelWork *w, const CsFunnelSlot *slot,
								 CsFunnelReason reason);

/* How far rows are shown. */
typedef struct CsFunnelLook
{
	TimestampTz wm;		 /* as of which rows have their own reasons */
	TimestampTz as_of;	 /* later: with reason 'idle'; CS_WM_NONE: the topic is not silent */
	bool		rewrite; /* also rows of open attempts that have changed */
	bool		changed; /* out: a row was written or deleted */
	bool		rewrote; /* out: one of an open attempt that had one */
} CsFunnelLook;

/*
 * Write, change and delete rows of this key as they are to be.  Returns the
 * next moment at which they may be different.
 */
extern TimestampTz cs_funnel_show_rows(CsFunnelOperator *op, CsBatchContext *batch, CsFunnelWork *w,
									   CsFunnelLook *look);

/*
 * For readers: the attempts of a key that base.closed has not closed, with
 * its waiting events as if nothing more came.
 */
extern void cs_funnel_show_open(CsFunnelOperator *op, CsFunnelWork *w, CsShowRow row, void *arg);

#endif
