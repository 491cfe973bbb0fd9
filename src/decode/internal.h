/*
 * decode/internal.h
 *	  What the files of the decoder share.
 */
#ifndef CS_DECODE_INTERNAL_H
#define CS_DECODE_INTERNAL_H

#include "decode/decode.h"
#include "decode/json.h"
#include "decode/mapping.h"

/* Numbers that become numeric: longest text, and the exponent's bounds. */
#define NUMBER_LENGTH_MAX 1000
#define NUMBER_EXPONENT_MAX 1000

/* Bytes in the server encoding. */
typedef struct Span
{
	const char *data; /* NULL: the column is null */
	uint32		len;
} Span;

struct CsDecoder
{
	CsMapping	 *mapping;
	CsJsonParser *parser;
	MemoryContext scratch;	/* reset before each jsonb */
	bool		  converts; /* the server encoding is neither UTF8 nor SQL_ASCII */
	Oid			  conversion;
	Span		 *spans; /* one per column */

	/* The message at hand. */
	const char	  *payload;
	CsJsonDocument document;
	uint32		  *found; /* per pointer: the node, or NOT_FOUND */
};

/* UTF-8 to the server encoding.  False if it has no such characters. */
extern bool cs_decode_convert(const CsDecoder *decoder, const char *s, uint32 len, Span *span);

/* ---- pairs.c ---- */

/* Of an array of pairs (a node), find the values that keys (a node of the mapping) has as children. */
extern void cs_pairs_find(CsDecoder *decoder, uint32 at, const CsPointer *keys);
/* As an object.  The array and what is below it have been checked. */
extern Datum cs_pairs_jsonb(CsDecoder *decoder, const CsJsonNode *array);

/* ---- jsonb.c ---- */

/* A node and what is below it, which have been checked; mostly built only when somebody looks at it. */
extern Datum cs_decode_jsonb(CsDecoder *decoder, const CsJsonNode *node);

#endif
