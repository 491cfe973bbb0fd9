/*
 * state/state.h
 *	  State of a stream's operators: committed entries, and a batch's private
 *	  overlay of those it touches.
 *
 * An entry is one visitor's open sessions, one window cell, one key's funnel:
 * flat, versioned bytes under a CsKey.  A batch asks for entries by
 * cs_state_get(), which puts a CsWork in the overlay; the operator keeps its
 * decoded form in work->work.  Nothing committed changes until
 * cs_state_publish(), after COMMIT; cs_state_abort() drops the overlay.
 *
 * cs_state_log() serialises every dirty work and appends it to the state log
 * in the open transaction; publish then installs the same bytes.
 *
 * Memory: committed entries of a running stream live in its region of shared
 * memory (pool.h), others in the state's own context; works and what operators
 * hang on them in the batch context, which the engine resets after publish or
 * abort.  Readers: shared.h.
 */
#ifndef CS_STATE_STATE_H
#define CS_STATE_STATE_H

#include "access/transam.h"
#include "core/definition.h"
#include "core/types.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "state/codec.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct CsState	CsState;
typedef struct CsBigSet CsBigSet;

#define CS_ENTRY_CHAINED 255 /* data_class of bytes that lie in a chain of pieces, see arena.h */

/* What a slot holds. */
typedef enum CsSlotKind
{
	CS_HOLDS_NOTHING = 0,
	CS_HOLDS_ENTRY,
	CS_HOLDS_SET /* the members of a big distinct set; bucket is its id, len their number */
} CsSlotKind;

/*
 * A committed entry: a slot, of two cache lines; what a look-up reads comes first.
 *
 * Readers in other processes read key, data, len, data_class, kind, is_gone,
 * since, changed and, of what is gone, gone, with the slot's lock held (pool.h);
 * the rest is the worker's own.  A reader for whom commit S is the last sees a
 * slot if since <= S, and S < gone where it is gone: so at any moment one slot
 * of a key at most.
 */
typedef struct CsEntry
{
	CsKey key;
	char *data; /* NULL in an entry that only marks a place */
	union
	{
		struct CsWork  *work;	   /* this batch's overlay, or NULL */
		struct CsEntry *next_gone; /* is_gone: a later one that went, see CsGone */
	};
	union
	{
		TimestampTz due;  /* operator's next moment for it, CS_WM_DONE none */
		int64		gone; /* is_gone: the commit that took it away */
	};
	uint32		len;
	uint8		half;		/* half of the log that holds its image, or CS_HALF_TABLE */
	uint8		data_class; /* see arena.h */
	uint8		kind;		/* CsSlotKind */
	bool		is_gone;	/* kept for readers of earlier commits */
	bool		leaving;	/* evicted by this batch */
	int64		since;		/* the commit from which on readers see it; 0: from recovery on */
	int64		changed;	/* the commit that gave it these bytes */
	TimestampTz queued;		/* where the timers hold it, CS_WM_DONE nowhere */
	dlist_node	half_node;	/* entries whose image lies in one half */
	dlist_node	list_node;	/* bucket <> 0: entries of the bucket; else: of a timer, while queued */
} CsEntry;

/* An entry in the overlay. */
typedef struct CsWork
{
	CsKey		   key;
	CsEntry		  *base; /* committed form, or NULL: new in this batch */
	void		  *work; /* operator's decoded form; NULL until it is decoded or made */
	TimestampTz	   due;	 /* operator sets it before the batch ends */
	bool		   dirty;
	bool		   deleted;
	bool		   spills;		/* as of this commit it lies in the spill table alone */
	bool		   leaves_copy; /* see cs_work_keep() */
	uint32		   due_round;	/* the cs_state_due() that returned it last */
	char		  *image;		/* made by cs_state_log(), or before it by cs_work_set_image() */
	uint32		   image_len;
	uint32		   image_room;
	char		  *delta; /* what makes the image out of base, if that is known already */
	uint32		   delta_len;
	uint32		   base_len; /* of base, which is not looked at again before publication */
	uint8		   base_half;
	uint8		   base_class;
	struct CsWork *next;	 /* all works of the batch */
	struct CsWork *next_new; /* without base, of one bucket */
} CsWork;

/*
 * Spilled entries (state/spill.h) come back when they are asked for.  Whoever
 * will ask for many announces each, then has them read together; nothing that
 * is not spilled costs more than a look into an index.
 */
extern bool	 cs_state_has_spilled(CsState *state, int32 definition_id);
extern void	 cs_state_want(CsState *state, const CsKey *key);
extern void	 cs_state_fetch_wanted(CsState *state);
extern int64 cs_state_spilled(CsState *state); /* how many entries are not in memory */
/* The batch should end: it takes as much memory as it may, or has read back many distinct sets. */
extern bool cs_state_is_crowded(CsState *state, int64 batch_bytes);
/* How many entries a batch may open, or read back, at once; at most max. */
extern int cs_state_room(CsState *state, int max);

/* How the state turns an operator's decoded form into bytes. */
typedef void (*CsSerialize)(void *op, CsState *state, CsWork *work, StringInfo buf);

extern CsState *cs_state_create(MemoryContext parent, MemoryContext batch);
/* Keep committed entries in shared memory, for readers, if there is any: of a new state of a running stream. */
extern void cs_state_share(CsState *state, int32 stream_id);
/* It is recovered, as of this commit: readers may come. */
extern void cs_state_open_to_readers(CsState *state, int64 commit_number);
/* Was publication cut short?  Then the state is of no use: the engine must be opened anew. */
extern bool cs_state_is_broken(const CsState *state);

/* Register the serializer of a definition; name: for messages. */
extern void cs_state_register(CsState *state, int32 definition_id, const char *name, CsSerialize serialize, void *op);

/*
 * A lookup is some cache misses in a row.  Whoever will look up many keys
 * announces each: first (a dozen ahead) the slot, then (half of that) the entry.
 */
#define CS_PREFETCH_SLOT 16
#define CS_PREFETCH_ENTRY 8
extern void cs_state_prefetch_slot(CsState *state, const CsKey *key);
extern void cs_state_prefetch_entry(CsState *state, const CsKey *key);

/* The overlay's work of a key; made if missing.  Never NULL. */
extern CsWork *cs_state_get(CsState *state, const CsKey *key);
/* The committed entry of a key, or NULL. */
extern CsEntry *cs_state_peek(CsState *state, const CsKey *key);
/* What lives under a key, this batch included, without opening it: see CsVisit.  False if nothing does. */
extern bool cs_state_look(CsState *state, const CsKey *key, const CsEntry **entry, CsWork **work);
/* The overlay's work of a committed entry; made if missing. */
extern CsWork *cs_state_open(CsState *state, CsEntry *entry);
extern void	   cs_work_dirty(CsState *state, CsWork *work);
/*
 * The bytes that a work without a decoded form is to have, in place of what
 * its serializer would make: for changes that are made in the bytes
 * themselves.  Copied to batch memory, over what the work had if there is room.
 * Whoever decodes the work later, from these bytes, sets image to NULL; who only
 * keeps pointers to them sets image_room to 0.
 */
extern void cs_work_set_image(CsState *state, CsWork *work, const char *data, uint32 len);
/* The same by one who has made them out of the committed ones, and says how (state/delta.h). */
struct CsCopies;
extern void cs_work_set_copy(CsState *state, CsWork *work, const char *data, uint32 len, const struct CsCopies *copies);
/* Forget the entry at commit.  Its sets must be dropped by cs_set_drop() first. */
extern void cs_work_delete(CsState *state, CsWork *work);

/*
 * The entry loses something that goes on as a row of a table: readers whose
 * snapshot is of before this commit shall still find it as it was.
 */
static inline void
cs_work_keep(CsWork *work)
{
	work->leaves_copy = true;
}

/*
 * Works of this definition whose due <= limit, committed or of this batch, at
 * most max of them, opened in the overlay; *more says that others are due.
 * The caller handles all of them: one that stays due and untouched comes up
 * again in the next batch.  Array palloc'd in the batch context.
 */
extern CsWork **cs_state_due(CsState *state, int32 definition_id, TimestampTz limit, int max, int *n, bool *more);

/*
 * Works of this definition whose due lies in (after, limit], committed ones
 * only, opened in the overlay but left in their timers; in the order of whole
 * seconds.  Stops behind the second in which max was reached: *upto is the
 * moment up to which all were returned, limit if there is no more.  For
 * batches that have changed nothing yet.  Array palloc'd in the batch context.
 */
extern CsWork **cs_state_preview(CsState *state, int32 definition_id, TimestampTz after, TimestampTz limit, int max,
								 int *n, TimestampTz *upto);
/*
 * A moment later than `after` and not later than the next due time there is
 * behind it, this batch included; CS_WM_DONE if there is none.
 */
extern TimestampTz cs_state_next_due(CsState *state, int32 definition_id, TimestampTz after);

/* Distinct buckets (not 0) of a definition that have entries or dirty works: ascending, palloc'd. */
extern int64 *cs_state_buckets(CsState *state, int32 definition_id, int *n);
/* Every live work of a bucket: committed ones are opened.  Palloc'd array. */
extern CsWork **cs_state_bucket(CsState *state, int32 definition_id, int64 bucket, int *n);
/* The same of at most max of them; *more says that there are others. */
extern CsWork **cs_state_some(CsState *state, int32 definition_id, int64 bucket, int max, int *n, bool *more);

/*
 * Visit what lives in a bucket without opening it in the overlay: work is the
 * overlay's form where there is one (entry is NULL if it is new).
 */
typedef void (*CsVisit)(const CsKey *key, const CsEntry *entry, CsWork *work, void *arg);
extern void cs_state_visit_bucket(CsState *state, int32 definition_id, int64 bucket, CsVisit visit, void *arg);

/*
 * A part of a bucket: keys by who.hi, both ends included, which is a range of
 * the spill table's index.  As it is of a hash, parts as wide hold about as many
 * entries.
 */
typedef struct CsPart
{
	uint64 first, last;
} CsPart;

#define CS_PART_WHOLE ((CsPart){0, PG_UINT64_MAX})

static inline bool
cs_part_has(CsPart part, const CsHash128 *who)
{
	return who->hi >= part.first && who->hi <= part.last;
}

/* The part that begins there, of a bucket of n entries, with about so many. */
static inline CsPart
cs_part_from(uint64 first, int64 n, int64 wanted)
{
	uint64 width = PG_UINT64_MAX / (uint64) (n / Max(wanted, 1) + 1);

	return (CsPart){first, first > PG_UINT64_MAX - width ? PG_UINT64_MAX : first + width};
}

/* Visit a part of a bucket; of what is spilled only that comes back. */
extern void cs_state_visit_part(CsState *state, int32 definition_id, int64 bucket, CsPart part, CsVisit visit,
								void *arg);

/*
 * The same for marked ones of a part alone, which are what `is_marked` says of the bytes:
 * of what is spilled only they come back; of others visit may be told, too.
 */
typedef bool (*CsIsMarked)(const CsEntry *entry);
extern void cs_state_register_marks(CsState *state, int32 definition_id, CsIsMarked is_marked);
extern void cs_state_visit_marked(CsState *state, int32 definition_id, int64 bucket, CsPart part, CsVisit visit,
								  void *arg);
/* So many of them are spilled. */
extern int64 cs_state_spilled_marks(CsState *state, int32 definition_id, int64 bucket);

/* Live works that this batch has changed.  Palloc'd array. */
extern CsWork **cs_state_dirty(CsState *state, int32 definition_id, int *n);

/* Number of entries and works of a bucket, deleted ones of this batch included. */
extern int64 cs_state_bucket_count(CsState *state, int32 definition_id, int64 bucket);

/* Number of live entries of a definition, this batch included. */
extern int64 cs_state_count(CsState *state, int32 definition_id);
extern int64 cs_state_bytes(CsState *state);

/*
 * Walk over the committed entries of a definition (after recovery, and for
 * readers).  The callback must not change the state.
 */
extern void cs_state_walk(CsState *state, int32 definition_id, void (*visit)(CsEntry *entry, void *arg), void *arg);

/* Bytes that lie in a chain of pieces, in one piece in the current context. */
extern char *cs_entry_gather(const CsEntry *entry);

static inline const char *
cs_entry_bytes(const CsEntry *entry)
{
	return likely(entry->data_class != CS_ENTRY_CHAINED) ? entry->data : cs_entry_gather(entry);
}

/* The first ones of them, as many as any entry has. */
static inline const char *
cs_entry_head(const CsEntry *entry)
{
	return entry->data + (entry->data_class == CS_ENTRY_CHAINED ? sizeof(void *) : 0);
}

/* Over an entry's bytes, which stay where they are until the batch ends; def: whose it is, for messages. */
static inline CsReader
cs_entry_reader(const CsEntry *entry, const CsDefinition *def)
{
	const char *bytes = cs_entry_bytes(entry);

	return (CsReader){.pos = bytes, .end = bytes + entry->len, .key = &entry->key, .def = def};
}

/* ---- a batch's end ---- */

/*
 * Where the state log stands; stored in clickstream.progress by each commit.
 * Life of the other half: being copied from (!copied), waiting to be
 * truncated (copied, copied_xid valid), empty (copied, copied_xid invalid).
 */
typedef struct CsLogPosition
{
	int				  half;		  /* the half that is written */
	bool			  copied;	  /* every live entry has its image in it */
	FullTransactionId copied_xid; /* the transaction that wrote the last copy */
	int64			  next_set_id;
} CsLogPosition;

/*
 * Append what changed to the log (opened inside) and copy some entries
 * forward; the transaction is open.  Returns the position to store with it.
 */
extern CsLogPosition cs_state_log(CsState *state, const CsStream *stream, int64 commit_number);
extern void			 cs_state_publish(CsState *state);
/* Of a state that is nobody's but the caller's and is never logged: what the batch has made is committed. */
extern void cs_state_settle(CsState *state);
extern void cs_state_abort(CsState *state);
/* What was read back of the spill table is not kept: this transaction ends, and no batch is under way. */
extern void cs_state_forget_guests(CsState *state);

/*
 * ---- recovery and readers: fold the log under a snapshot ----
 *
 * Only what belongs to registered definitions is kept: a reader registers the
 * one it asks for, and what a dropped definition left goes with the half.
 */

/* due of a recovered entry, from its bytes (registered with the serializer's op) */
typedef TimestampTz (*CsDueOf)(void *op, const CsEntry *entry);
extern void cs_state_register_due(CsState *state, int32 definition_id, CsDueOf due_of);

/*
 * The format of what is stored as a whole: records of the log (record.h), rows
 * of the spill table, keys.  Its number stands in clickstream.progress, which is
 * read before either; entries have versions of their own.  Whoever changes the
 * format counts this up.
 */
#define CS_STATE_FORMAT 1
/* Raises if the number is another one. */
extern void cs_state_check_format(const CsStream *stream, int format);

/* Before it: take only keys of a part, for readers who have no room for all; distinct sets come whole. */
extern void cs_state_take_part(CsState *state, CsPart part);
/*
 * Before recovery: take entries that cannot be read, too, and rows of the spill
 * table.
 */
extern void cs_state_be_lenient(CsState *state);
/* Of such a state, before an entry's bytes are read: raises if its row is damaged. */
extern void cs_entry_check(CsState *state, const CsEntry *entry);
/* Of its damaged sets; missed: an entry that has it has been read, which raised.  drop: they go with this batch. */
typedef void (*CsDamagedSet)(int32 definition_id, uint64 id, bool missed, void *arg);
extern void cs_state_damaged_sets(CsState *state, bool drop, CsDamagedSet visit, void *arg);
extern void cs_state_recover(CsState *state, const CsStream *stream, const CsLogPosition *position, Snapshot snapshot);
/*
 * Truncate the log's other half if all is copied and no snapshot of the
 * database can still need it, and note that in clickstream.progress; does
 * nothing if the lock is not had at once.  In a transaction of its own, after
 * whose commit cs_state_trimmed() is called if it returned true.
 */
extern bool cs_state_wants_trim(CsState *state);
extern bool cs_state_trim_log(CsState *state, const CsStream *stream);
extern void cs_state_trimmed(CsState *state);

/* ---- distinct sets: state/set.c ---- */

#define CS_SET_INLINE 32 /* members kept inside the entry; above, a set of its own */

/*
 * A distinct set as a batch sees it: committed members (inline bytes of the
 * entry, or a big set of the state) and those added by this batch.
 */
typedef struct CsSet
{
	uint64		id;	  /* 0: inline */
	const char *base; /* inline members, 16 bytes each, unaligned */
	int			nbase;
	CsBigSet   *big; /* committed members of set id, or NULL */
	int64		nbig;
	CsHash128  *added; /* batch memory */
	int			nadded;
	int			capacity;
	uint32	   *index; /* of added, from 17 members on */
	uint32		index_mask;
} CsSet;

extern bool cs_set_add(CsSet *set, CsHash128 member); /* true if new */
/* A large set costs two cache misses a member, one after the other: announce the first, then the second. */
extern void cs_set_prefetch_slot(const CsSet *set, CsHash128 member);
extern void cs_set_prefetch_member(const CsSet *set, CsHash128 member);
/* Call visit with each member. */
extern void cs_set_visit(const CsSet *set, void (*visit)(CsHash128 member, void *arg), void *arg);
extern void cs_set_union(CsState *state, CsSet *dst, const CsSet *src);
/* A view of its own of the same members, to add to; never to be put or dropped. */
extern void cs_set_copy(CsSet *dst, const CsSet *src);
static inline int64
cs_set_count(const CsSet *set)
{
	return set->nbase + set->nbig + set->nadded;
}
/* Into an entry's bytes, and what the log needs beside them; from an entry's bytes. */
extern void cs_set_put(StringInfo buf, CsState *state, CsSet *set);
extern void cs_set_get(CsReader *r, CsState *state, CsSet *set);
/* The set goes with its entry at commit. */
extern void cs_set_drop(CsState *state, CsSet *set);

#endif
