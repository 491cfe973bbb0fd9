/*
 * decode/mapping.h
 *	  A stream's mapping, compiled: which JSON pointers fill which column.
 *
 * Inside of decode/ only.  All pointers of all columns form one tree of
 * names, so that a single pass over the document finds everything: for each
 * member of an object one look-up in the hash table of its tree node.  Keys
 * of an array of pairs are children of a node of their own below the array's.
 * Immutable once compiled; lives in one memory context.
 *
 *	mapping.c	from JSON to the tree
 *	preset.c	mappings of well-known senders
 *	pairs.c		arrays of {"key": name, "value": what}
 */
#ifndef CS_DECODE_MAPPING_H
#define CS_DECODE_MAPPING_H

#include "decode/decode.h"

#include "fmgr.h"
#include "utils/jsonb.h"

/* What a column's type asks for. */
typedef enum CsColumnKind
{
	CS_COLUMN_TEXT,
	CS_COLUMN_EVENT_TIME,
	CS_COLUMN_TIMESTAMPTZ,
	CS_COLUMN_JSONB,
	CS_COLUMN_JSON,
	CS_COLUMN_OTHER /* by the type's input function */
} CsColumnKind;

/* Most paths of one column, longest pointer in bytes, most words of one path. */
#define CS_PATHS_MAX 16
#define CS_POINTER_LENGTH_MAX 1024
#define CS_WORDS_MAX 64

typedef struct CsPreset
{
	const char *name;
	const char *mapping; /* JSON */
} CsPreset;

/* One token of one or more JSON pointers; node 0 is the whole document. */
typedef struct CsPointer
{
	const char *name; /* UTF-8, as in the document */
	uint32		len;
	int			index; /* as an array index, or -1 */
	int			nchildren;
	int		   *children; /* numbers of nodes */
	int			pairs;	  /* node whose children are the keys of this array of pairs, or 0 */
	bool		has_more; /* pairs, or children that have children or pairs */
	uint32		mask;	  /* of slots */
	int		   *slots;	  /* open addressing; -1 empty */
} CsPointer;

/* A text that becomes another, or NULL: as if it were not there; in the document's encoding. */
typedef struct CsWord
{
	const char *from;
	const char *to;
	uint32		from_len;
	uint32		to_len;
} CsWord;

/* What a path does besides leading to a node. */
typedef struct CsPathExtra
{
	bool	as_object; /* the array of pairs it leads to becomes an object */
	int		nwords;
	CsWord *words;
} CsPathExtra;

typedef struct CsColumn
{
	const char	*name;
	int			 attindex; /* attribute number - 1 */
	CsColumnKind kind;
	bool		 needed;
	int			 npaths;
	int			*paths;	 /* numbers of nodes, in order of preference */
	CsPathExtra *extras; /* one for each of paths; NULL: of none */
	FmgrInfo	 input;
	Oid			 ioparam;
	int32		 typmod;
} CsColumn;

typedef struct CsMapping
{
	int		   nnodes;
	int		   nodes_size;
	CsPointer *nodes;
	int		   ncolumns; /* without the system columns */
	CsColumn  *columns;
	bool	   has_words; /* in any column */
} CsMapping;

extern int			   cs_preset_count(void);
extern const CsPreset *cs_preset(int i);

/*
 * Compile into the current memory context.  needed may be NULL: all.
 * Raises for a preset or column that does not exist and for bad pointers.
 */
extern CsMapping *cs_mapping_compile(const char *preset, Jsonb *mapping, TupleDesc event_desc, int nextra,
									 const bool *needed);

/*
 * A hash from the length and a few bytes: names in one object rarely agree
 * in all of them, and if they do the comparison decides.
 */
static inline uint32
cs_name_hash(const char *name, uint32 len)
{
	uint32 hash = len * 31;

	if (len == 0)
		return 0;
	hash = (hash + (unsigned char) name[0]) * 31;
	hash = (hash + (unsigned char) name[len / 2]) * 31;
	hash = (hash + (unsigned char) name[len - 1]) * 31;
	if (len > 2)
		hash += (unsigned char) name[len - 2];
	return hash ^ (hash >> 7);
}

/* The child of that name, or -1. */
static inline int
cs_pointer_child(const CsMapping *mapping, const CsPointer *pointer, const char *name, uint32 len)
{
	uint32 slot = cs_name_hash(name, len) & pointer->mask;
	int	   child;

	while ((child = pointer->slots[slot]) >= 0)
	{
		const CsPointer *node = &mapping->nodes[child];

		if (node->len == len && memcmp(node->name, name, len) == 0)
			return child;
		slot = (slot + 1) & pointer->mask;
	}
	return -1;
}

#endif
