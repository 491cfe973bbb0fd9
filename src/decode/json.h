/*
 * decode/json.h
 *	  The JSON parser as the rest of the decoder sees it: one call, one flat
 *	  array of nodes.
 *
 * simdjson is C++; json.cpp is the only file that knows it.  This header is
 * read by both languages and therefore uses nothing of PostgreSQL.
 *
 * A document is an array of nodes in document order.  A container is
 * followed by its members; in an object each member is a key (a string node)
 * and then its value.  node.next is the index behind the node's last
 * descendant, so that the next sibling is nodes[node.next].
 *
 * Numbers keep their text: the parser rounds to double, PostgreSQL's numeric
 * must not ("12.50" stays 12.50, a 30-digit id stays what it is).
 *
 * The nodes live in the parser until its next use; strings too.  node.raw is
 * an offset into the caller's payload.  Nothing here is shared.
 */
#ifndef CS_DECODE_JSON_H
#define CS_DECODE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

	typedef struct CsJsonParser CsJsonParser;

	typedef enum CsJsonType
	{
		CS_JSON_NULL,
		CS_JSON_FALSE,
		CS_JSON_TRUE,
		CS_JSON_INTEGER, /* fits value.integer */
		CS_JSON_NUMBER,	 /* any other number: read its text */
		CS_JSON_STRING,
		CS_JSON_ARRAY,
		CS_JSON_OBJECT
	} CsJsonType;

	typedef struct CsJsonNode
	{
		uint32_t type;
		uint32_t next; /* index behind the last descendant */
		uint32_t raw;  /* offset of its first byte in the payload */
		uint32_t len;  /* bytes: strings decoded, without a NUL counted; else as written */
		union
		{
			int64_t		integer;
			const char *string; /* UTF-8, escapes resolved */
		} value;
	} CsJsonNode;

	typedef struct CsJsonDocument
	{
		const CsJsonNode *nodes; /* nodes[0] is the root */
		uint32_t		  nnodes;

		/*
		 * The document may hold \u0000, a surrogate, or a number that is
		 * long or far from 1: look at each string and number closely.  False
		 * in nearly all documents, which need no second look.
		 */
		bool odd;
	} CsJsonDocument;

	typedef enum CsJsonResult
	{
		CS_JSON_OK,
		CS_JSON_NO_MEMORY,
		CS_JSON_SYNTAX,
		CS_JSON_ENCODING, /* not UTF-8, or half a surrogate pair */
		CS_JSON_DEPTH,
		CS_JSON_LENGTH
	} CsJsonResult;

	/* NULL: out of memory.  max_depth counts nested containers. */
	extern CsJsonParser *cs_json_parser_create(size_t max_depth);
	extern void			 cs_json_parser_free(CsJsonParser *parser);

	/*
	 * Parse.  The payload needs no padding and no NUL, and stays untouched.
	 * On failure *message is a constant sentence in English.
	 */
	extern CsJsonResult cs_json_parse(CsJsonParser *parser, const char *payload, size_t len, CsJsonDocument *document,
									  const char **message);

#ifdef __cplusplus
}
#endif

#endif
