/*
 * state/internal.h
 *	  What the files of this folder share: the insides of CsState.
 */
#ifndef CS_STATE_INTERNAL_H
#define CS_STATE_INTERNAL_H

#include "lib/pairingheap.h"
#include "state/arena.h"
#include "state/state.h"
#include "utils/hsearch.h"

/* Entries of one (definition, bucket), and this batch's new works of it. */
typedef struct CsBucket
{
	int64	   bucket; /* hash key */
	dlist_head entries;
	CsWork	  *new_works;
	int64	   nentries;
	int64	   nnew;
	int64	   nspilled; /* entries that are not in memory: see spill.h */
	int64	   nmarked;	 /* those of them that are marked: see cs_state_visit_marked() */
} CsBucket;

/* The whole second in which a moment lies; before 2000, too. */
static inline int64
cs_second_of(TimestampTz t)
{
	return t / USECS_PER_SEC - (t % USECS_PER_SEC < 0);
}

/* Entries that fall due within one second. */
typedef struct CsTimer
{
	int64			 second; /* hash key: due time in whole seconds */
	dlist_head		 entries;
	pairingheap_node heap_node;
} CsTimer;

/* A work that a batch has changed, and what is fetched ahead of it without a look into it. */
typedef struct CsDirty
{
	CsWork	*work;
	CsEntry *base;
} CsDirty;

/* What is kept for each definition. */
typedef struct CsDefState
{
	int32				 definition_id;
	const char			*name; /* for messages */
	CsSerialize			 serialize;
	CsDueOf				 due_of;
	CsIsMarked			 is_marked; /* or NULL */
	void				*op;
	int64				 count;		/* committed entries */
	int64				 new_count; /* works of this batch without base, less deleted ones with */
	CsDirty				*dirty;		/* in batch memory */
	int64				 ndirty, dirty_capacity;
	HTAB				*buckets;	  /* CsBucket */
	CsBucket			*last_bucket; /* the one asked for last, or NULL */
	HTAB				*timers;	  /* CsTimer */
	pairingheap			*timer_heap;
	struct CsSpillIndex *spilled;		/* keys of entries that are not in memory; NULL: none yet */
	int64				 spilled_bytes; /* of these entries */
} CsDefState;

/*
 * Where an entry's image lies, or what of a set the spill table has not: in a
 * half of the log, 0 or 1; in the spill table; and of a set, not in memory.
 */
#define CS_HALF_TABLE 2
#define CS_HALF_NONE 3

/* A committed distinct set.  Its members are numbered, so that copying can go on where it stopped. */
struct CsBigSet
{
	uint64	 id; /* hash key */
	int32	 definition_id;
	uint8	 half;
	bool	 dropping; /* this batch drops it */
	bool	 leaving;  /* this batch evicts it */
	bool	 damaged;  /* lenient: its rows cannot be read */
	bool	 missed;   /* and an entry that has it has been told */
	uint32	 used_in;  /* the batch that used it last */
	CsState *state;
	int64	 on_table; /* members, the first ones, that are in the spill table */
	int64	 n;		   /* all of them, in memory or not */
	CsEntry
		 *slot; /* holds the chain of its members, len follows n when all is there; NULL: all are in the spill table */
	int64 capacity;	   /* of the pieces */
	CsChain	 **pieces; /* each full but the last one, CS_SET_PIECE members */
	int32	   npieces;
	int32	   pieces_capacity;
	uint32	  *index; /* open addressing into members: position + 1 */
	uint32	   index_mask;
	int64	   copied; /* members copied forward so far, while half is the other one */
	dlist_node half_node;
};

#define CS_SET_PIECE ((int64) (CS_CHAIN_BYTES / sizeof(CsHash128)))

/* The members from a position on that lie side by side: *n of them. */
static inline const CsHash128 *
cs_bigset_run(const CsBigSet *set, int64 from, int64 to, int64 *n)
{
	*n = Min(to - from, CS_SET_PIECE - from % CS_SET_PIECE);
	return (const CsHash128 *) set->pieces[from / CS_SET_PIECE]->bytes + from % CS_SET_PIECE;
}

/* What a batch does to sets, for the log and for publication. */
typedef struct CsSetChange
{
	uint64				id;
	int32				definition_id;
	bool				drop;
	const CsHash128	   *members;
	int					n;
	const char		   *raw; /* inline members first, unaligned */
	int					nraw;
	struct CsSetChange *next;
} CsSetChange;

/* Element of the hash tables over entries and works: both begin with their key. */
typedef struct CsKeyRef
{
	const CsKey *key;
	uint32		 hash;
	char		 status;
} CsKeyRef;

static inline uint32
cs_key_hash(const CsKey *key)
{
	uint64 h = key->who.lo ^ ((uint64) key->bucket * UINT64CONST(0x9E3779B97F4A7C15)) ^ ((uint64) key->def << 40);

	h ^= h >> 32;
	h *= UINT64CONST(0xD6E8FEB86659FD93);
	return (uint32) (h >> 32);
}

static inline bool
cs_key_equal(const CsKey *a, const CsKey *b)
{
	return a->who.lo == b->who.lo && a->who.hi == b->who.hi && a->bucket == b->bucket && a->def == b->def;
}

#define CS_KEYSET_FILL 0.6 /* at most: a search that begins in the wrong cache line costs more than a slot */

#define SH_PREFIX keyset
#define SH_FILLFACTOR CS_KEYSET_FILL
#define SH_ELEMENT_TYPE CsKeyRef
#define SH_KEY_TYPE const CsKey *
#define SH_KEY key
#define SH_HASH_KEY(tb, k) cs_key_hash(k)
#define SH_EQUAL(tb, a, b) cs_key_equal(a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) (a)->hash
#define SH_SCOPE extern
#define SH_DECLARE
#ifdef CS_DEFINE_KEYSET
#define SH_DEFINE
#endif
#include "lib/simplehash.h"

#define CS_KEYSET_LEAST 1024

/* What cs_state_prefetch_entry() has found of a key so far. */
typedef struct CsAnnounced
{
	CsEntry *entry;
	CsWork	*work;
	uint32	 hash;
} CsAnnounced;

/*
 * Slots that are gone and kept for readers, in the order of commits.  Most have
 * left the processor's caches long before they are freed, and a list tells no
 * more than which is next; so they stand in several lists in turn, whose next
 * ones are fetched while the others are worked on.
 */
#define CS_GONE_LANES 8

typedef struct CsGone
{
	CsEntry	 *first[CS_GONE_LANES];
	CsEntry **tail[CS_GONE_LANES];
	uint32	  nadded; /* modulo the number of lanes: where the next one is added, */
	uint32	  ntaken; /* and taken */
} CsGone;

#define CS_KEPT_COMMITS 60 /* for so long, at most, readers of older snapshots find what is gone */

/* A commit that readers may ask for, and by what they see it. */
typedef struct CsKept
{
	int64		  commit;
	TransactionId xid; /* invalid: none */
} CsKept;

/* The first one that went, NULL: none is kept. */
static inline CsEntry *
cs_gone_first(const CsGone *gone)
{
	return gone->first[gone->ntaken % CS_GONE_LANES];
}

struct CsState
{
	CsPart			part;	 /* keys that are taken */
	bool			lenient; /* recovery takes entries that cannot be read: they are never due */
	MemoryContext	context;
	MemoryContext	batch;
	CsRegion	   *region;	  /* NULL: private to the process */
	bool			readable; /* the region is open: what readers see changes under locks, and is kept a while */
	bool			is_publishing;
	bool			is_copy;	  /* a reader's, out of shared memory: the spill table may have its entries, too */
	CsBlocks		blocks;		  /* of both of these: */
	CsArena			entry_pieces; /* CsEntry only */
	CsArena			data_pieces;  /* entries' bytes, members of sets */
	int64			commit;		  /* number of the commit that is published or replayed */
	CsGone			gone;
	CsKept			kept[CS_KEPT_COMMITS]; /* at the commit's number modulo their number */
	TransactionId	xid;				   /* of the batch that is logged */
	int64			kept_bytes;
	int64			rounds;					 /* calls of cs_state_give_back() */
	int64			compacted;				 /* the one in which blocks were emptied last */
	int32			needs[CS_ARENA_CLASSES]; /* pieces that publication will take, see reserve.c */
	int32			needs_slots;
	keyset_hash	   *entries;	/* CsEntry */
	keyset_hash	   *works;		/* CsWork without base */
	char		   *batch_next; /* rest of the newest piece of cs_batch_alloc() */
	char		   *batch_end;
	StringInfoData	delta;		  /* being made */
	CsAnnounced		announced[8]; /* by cs_state_prefetch_entry(), lately */
	uint32			nannounced;
	void		   *advised; /* entries->data that large pages were asked for */
	CsWork		   *all_works;
	int64			nworks;
	uint32			due_round; /* counts calls of cs_state_due() */
	int				ndefs;
	CsDefState	   *defs;
	CsDefState	   *last_def;	 /* the one asked for last */
	HTAB		   *sets;		 /* CsBigSet */
	int32			serializing; /* definition whose entry is being serialised */
	CsSetChange	   *set_changes;
	CsSetChange	  **set_changes_tail;
	dlist_head		half[3];	  /* CsEntry by half_node */
	dlist_head		half_sets[4]; /* CsBigSet by half_node */
	struct CsSpill *spill;		  /* NULL: what is evicted nowhere */
	uint32			round;		  /* counts batches */
	int64			bytes;		  /* of committed entries and sets */
	int64			set_bytes;	  /* members of big sets, and what finds them */
	int64			member_bytes; /* of these, members: they lie in data_pieces */
	CsLogPosition	log;		  /* as committed */
	CsLogPosition	log_next;	  /* as this batch leaves it */
	int64			log_bytes[2]; /* size of the halves, about */
	int64			log_bytes_next[2];
	CsEntry		  **popped; /* taken out of timers by this batch */
	int				npopped, popped_capacity;
	CsEntry		  **copied; /* copied forward by this batch */
	int				ncopied, copied_capacity;
	CsBigSet	   *copied_set; /* copied in part by this batch, up to copied_to */
	int64			copied_to;
	CsBigSet	  **copied_sets; /* copied to their ends */
	int				ncopied_sets;
};

/* What publication and the log look at next, fetched while they work on what comes before. */
#define CS_PREFETCH_WORK 8
#define CS_PREFETCH_DATA 4

static inline void
cs_prefetch_bytes(const char *data, uint32 len)
{
	for (uint32 i = 0; i < Min(len, 512); i += 64)
		__builtin_prefetch(data + i);
}

/* Batch memory for many small things that go with the batch: no headers, no rounding. */
extern void *cs_batch_alloc(CsState *state, Size size);

extern CsDefState *cs_def_state(CsState *state, int32 definition_id);
extern void cs_entry_install(CsState *state, CsDefState *def, const CsKey *key, const char *data, uint32 len, int half,
							 TimestampTz due);
/* The same, in recovery, by one who makes the bytes, CS_ARENA_LIMIT at most, in a piece of the state's own. */
extern char *cs_entry_piece(CsState *state, uint32 len, uint8 *class);
extern void	 cs_entry_take(CsState *state, CsEntry *entry, char *piece, uint8 class, uint32 len);
extern void	 cs_entry_update(CsState *state, CsDefState *def, CsEntry *entry, const char *data, uint32 len, int half,
							 TimestampTz due);
extern void	 cs_entry_remove(CsState *state, CsDefState *def, CsEntry *entry);
/* Nothing leads the worker to it any more: it is in no bucket, timer, list or table. */
extern void cs_entry_unlink(CsState *state, CsDefState *def, CsEntry *entry);
/* Leave the entry to readers of earlier commits; the one that goes on in its place. */
extern CsEntry *cs_entry_keep(CsState *state, CsEntry *entry);
/* Free what readers can need no longer: gone at this commit or before. */
extern void cs_entries_forget(CsState *state, int64 commit);
/* What is gone and no snapshot needs any more, in a transaction or not. */
extern void cs_state_forget_seen(CsState *state);
/* Nothing is in it, as after its making. */
extern void cs_state_clear(CsState *state);

extern void		cs_gone_init(CsGone *gone);
extern CsEntry *cs_slot_make(CsState *state, const CsKey *key, CsSlotKind kind);
extern void		cs_slot_drop(CsState *state, CsEntry *slot);
/* What is in a slot lives in another one from here on; region->moves has told readers. */
extern CsEntry *cs_slot_move(CsState *state, CsEntry *from, CsBigSet *set);
/* A pointer to bytes of the slot, where readers see it. */
extern void cs_slot_set_link(CsState *state, const CsEntry *slot, char **link, char *piece);
/* The lock under which readers see the slot, taken; NULL: they do not see it. */
extern LWLock *cs_slot_lock(CsState *state, const CsEntry *slot);

/* reserve.c: what publication will take is there before COMMIT. */
extern void cs_reserve_work(CsState *state, const CsWork *work);
extern void cs_reserve(CsState *state);
/* The timer of a moment's second; made if missing. */
extern CsTimer *cs_timer_of(CsDefState *def, TimestampTz due);
extern void		cs_timer_set(CsState *state, CsDefState *def, CsEntry *entry);
/* Queue an entry that stands before its due second there; true if it was moved. */
extern bool		 cs_timer_move(CsState *state, CsDefState *def, CsEntry *entry);
extern void		 cs_timer_leave(CsDefState *def, CsEntry *entry);
extern CsBucket *cs_bucket_of(CsDefState *def, int64 bucket, bool create);
/* When a recovered entry is due, by its bytes; what cannot be read never is, if the state is lenient. */
extern TimestampTz cs_entry_due(CsState *state, const CsDefState *def, const CsEntry *entry);

extern CsBigSet *cs_bigset_find(CsState *state, uint64 id);
extern void		 cs_bigset_add(CsState *state, int32 definition_id, uint64 id, const char *members, int64 n, int half);
extern CsBigSet *cs_bigset_make(CsState *state, int32 definition_id, uint64 id, int half);
extern void		 cs_bigset_append(CsState *state, CsBigSet *set, const char *members, int64 n);
extern void		 cs_bigset_move(CsState *state, CsBigSet *set, int half);
/* Its members in one piece, palloc'd. */
extern CsHash128 *cs_bigset_gather(const CsBigSet *set);
/* Its memory goes; n stays to be known of it. */
extern void cs_bigset_empty(CsState *state, CsBigSet *set, int64 n);
extern void cs_bigset_drop(CsState *state, uint64 id);
/* Is it among the first n members? */
extern bool cs_bigset_has(const CsBigSet *set, int64 n, CsHash128 member);

#endif
