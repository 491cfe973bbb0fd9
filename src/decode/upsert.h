/*
 * decode/upsert.h
 *	  From a message of an upsert topic to a row of the table that follows it.
 *
 * The key is the message's: plain text, a JSON string, or a JSON object with
 * the key's column as a member.  The payload is the row as a JSON object, or
 * what Debezium writes: an envelope (before, after, op), flattened or not, each
 * with its schema around it or not.  No payload deletes the row.
 *
 * A key has at most 2,600 bytes, which any primary key's index takes.
 *
 * What cannot be taken is raised: the engine makes a dead letter of it.
 */
#ifndef CS_DECODE_UPSERT_H
#define CS_DECODE_UPSERT_H

#include "core/types.h"

typedef struct CsUpsertDecoder CsUpsertDecoder;

typedef enum CsUpsertAction
{
	CS_UPSERT_NOTHING, /* says nothing about a row */
	CS_UPSERT_PUT,
	CS_UPSERT_DELETE /* the key alone is set */
} CsUpsertAction;

/* A column of the table. */
typedef struct CsUpsertColumn
{
	char *name;
	Oid	  type;
	int32 typmod;
} CsUpsertColumn;

/* In the current context; columns[key] is the key. */
extern CsUpsertDecoder *cs_upsert_decoder_create(const CsUpsertColumn *columns, int n, int key);

/*
 * The row, in the current context.  keeps[i]: the sender does not know the
 * column's value, which has not changed (a value of Debezium's for what
 * PostgreSQL has stored out of line).
 */
extern CsUpsertAction cs_upsert_decode(CsUpsertDecoder *decoder, const CsMessage *message, Datum *values, bool *isnull,
									   bool *keeps);

/* ---- upsert_value.c ---- */

struct CsJsonNode;

/* What a schema says of a field, as far as it matters. */
typedef struct CsFieldType
{
	const char *name; /* such as io.debezium.time.Date, or NULL */
	size_t		len;
	int			scale;	  /* of a Decimal */
	bool		is_bytes; /* Connect's type "bytes", or an array of them: in Base64 */
} CsFieldType;

/* A value as Debezium and Kafka Connect write those of the type, or false: as text. */
extern bool	 cs_upsert_number(const CsUpsertColumn *column, int64 number, const CsFieldType *field, Datum *value);
extern char *cs_upsert_decimal(const char *base64, size_t len, int scale);
/* Rounded as the column's modifier wants a time, if it is of such a type. */
extern Datum cs_upsert_scale(const CsUpsertColumn *column, Datum time);
/* As the type bytea takes it. */
extern char *cs_upsert_bytes(const char *base64, size_t len);

#endif
