/*
 * engine/feed_internal.h
 *	  What feed.c and feed_helper.c share: a source with decode workers, and what
 *	  the stream's worker keeps of each of them.
 */
#ifndef CS_ENGINE_FEED_INTERNAL_H
#define CS_ENGINE_FEED_INTERNAL_H

#include "engine/feed.h"

#include "lib/ilist.h"
#include "postmaster/bgworker.h"
#include "utils/timestamp.h"

typedef struct CsHelper
{
	/* NULL: there is no process. */
	CsFeed				   *feed;
	dsm_segment			   *segment;
	shm_mq_handle		   *queue;
	BackgroundWorkerHandle *handle;
	TimestampTz				started_at;
	int						failures; /* in a row */
	TimestampTz				retry_at;

	/* Its partitions; "serves": some are given to it. */
	bool		  serves;
	uint64		  generation;
	int			  npartitions;
	CsPartition **partitions;
	dlist_head	 *stashes; /* of each, messages that came and are not to be handed out yet: feed_stash.c */

	/* What came from it, and was not handed out yet. */
	bool			spoke;	/* it has compiled the stream and reads */
	bool			gone;	/* the queue's other end */
	bool			lent;	/* the engine has messages of the parcel, until release() */
	const CsParcel *parcel; /* NULL: none */
	const Size	   *places; /* of the next one and those behind it */
	int				left;
	char			problem[512];
} CsHelper;

typedef struct CsFeedSource
{
	CsSource			  base;
	MemoryContextCallback callback;
	MemoryContext		  cxt;
	const CsStream		 *stream;
	int32				  version;
	CsSource			 *inner; /* Kafka's */
	TimestampTz			  inner_polled_at;
	int					  nhelpers;
	CsHelper			 *helpers;
	int					  turn; /* who is asked first */
	bool				  assigned;
	int					  npartitions;
	CsPartition			**partitions; /* all */
	int					  nown;
	CsPartition			**own;	 /* those that inner reads */
	MemoryContext		  stash; /* messages of paused partitions */
	int64				  nstashed;
	dlist_head			  spent;	 /* were in it, and are the engine's until release() */
	bool				  has_taken; /* messages of helpers, since the last commit or assignment */
	bool				  has_fault;
	CsFeedError			  fault;
	int64				  restarts; /* of helpers that ended unasked */
	char				  why[512]; /* why not all helpers run, or "" */
} CsFeedSource;

/* ---- feed_helper.c: their processes ---- */

/* True if it was registered; else helper->retry_at says when to try again, and source->why what there is too little of. */
extern bool cs_helper_start(CsFeedSource *source, int i);
extern void cs_helper_let_go(CsHelper *helper);
extern bool cs_helper_has_ended(CsHelper *helper);
/* It has ended unasked: when is it to be started again? */
extern void cs_helper_note_failure(CsFeedSource *source, CsHelper *helper);
extern void cs_helper_wake(CsHelper *helper);

/* ---- feed_stash.c: partitions that wait ---- */

/* Is this partition's next message one for its stash? */
extern bool cs_stash_takes(const CsHelper *helper, int partition);
extern void cs_stash_add(CsFeedSource *source, CsHelper *helper, const CsPackedEvent *packed);
/* Up to max messages of partitions that go on. */
extern int cs_stash_hand_out(CsFeedSource *source, CsMessage *messages, int max);
/* Whether it is to read this one, after a change. */
extern void cs_stash_tell(CsHelper *helper, int partition);
extern void cs_stash_release(CsFeedSource *source);
/* All are read again from where the engine is. */
extern void cs_stash_forget(CsFeedSource *source);

#endif
