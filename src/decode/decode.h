/*
 * decode/decode.h
 *	  From the bytes of a message to the columns of an event.
 *
 * cs_decoder_create() compiles a stream's mapping once.  cs_decode() turns
 * one message into column Datums.  It does not raise for anything that a
 * message can contain, except where PostgreSQL's own input functions do
 * (extra columns, jsonb): the engine calls it inside a subtransaction and
 * makes a dead letter of what is raised.  The common path raises nothing.
 *
 * Text columns are text Datums with 4-byte headers, converted to the server
 * encoding; a string that the encoding cannot hold, or one with \u0000, makes
 * the message undecodable.  A JSON string, number or boolean mapped to a text
 * column gives its text; objects and arrays give their JSON text; JSON null
 * and a missing field give NULL; so does "".  No: "" stays the empty string.
 *
 * All results are allocated in the current memory context.
 */
#ifndef CS_DECODE_DECODE_H
#define CS_DECODE_DECODE_H

#include "core/definition.h"
#include "core/types.h"

typedef struct CsDecoder CsDecoder;

/* Why a message could not be decoded.  The names are the dead letters' causes. */
typedef enum CsDecodeStatus
{
	CS_DECODE_OK = 0,
	CS_DECODE_EMPTY,	/* tombstone: no payload at all */
	CS_DECODE_TOO_LONG, /* longer than clickstream.max_message_size */
	CS_DECODE_NOT_JSON,
	CS_DECODE_FRAMED, /* Avro or Protobuf behind a schema registry's frame */
	CS_DECODE_NOT_OBJECT,
	CS_DECODE_TOO_DEEP,
	CS_DECODE_BAD_ENCODING, /* invalid UTF-8, \u0000, lone surrogate, not in the server encoding */
	CS_DECODE_NO_TIME,		/* event_time missing or null */
	CS_DECODE_BAD_TIME,		/* event_time unreadable or out of range */
	CS_DECODE_BAD_VALUE		/* a value its column's type refuses without raising */
} CsDecodeStatus;

/* Longest nesting accepted, and the longest message by default. */
#define CS_DECODE_MAX_DEPTH 256

/*
 * Compile the mapping.  needed[attno - 1] says which columns of event_desc
 * anything reads; the others are not built (event_time always is).  Raises
 * for a mapping that names an unknown column or a bad JSON pointer, or an
 * unknown preset.
 */
extern CsDecoder *cs_decoder_create(const CsStream *stream, const bool *needed, MemoryContext cxt);

/* Check only: raises what cs_decoder_create() would. */
extern void cs_decoder_validate(const char *preset, Jsonb *mapping, TupleDesc event_desc, int nextra);

/* The i-th preset's name and mapping (JSON), or NULL: there are no more. */
extern const char *cs_decoder_preset(int i, const char **mapping);

/*
 * Decode one payload into values/isnull (natts of event_desc; the system
 * columns are left alone).  On anything but OK, *detail points to a
 * palloc'd sentence for the dead letter, or NULL.
 */
extern CsDecodeStatus cs_decode(CsDecoder *decoder, const char *payload, size_t len, Datum *values, bool *isnull,
								char **detail);

/*
 * What cs_decode() made of a JSON object without making a jsonb of it (core/lazy_jsonb.h),
 * as bytes for another process with a decoder of the same mapping: how many, aligned as by palloc(), or 0 if the
 * value is something else; and back, where they stay.  payload: the whole message.
 */
extern Size	 cs_decode_packed_size(Datum value);
extern void	 cs_decode_pack(Datum value, const char *payload, char *target);
extern Datum cs_decode_unpack(const CsDecoder *decoder, const char *source, const char *payload);

/* "not JSON", "event_time missing", … : lower case, for the dead letter's error column. */
extern const char *cs_decode_status_text(CsDecodeStatus status);
/* The SQLSTATE that fits a status. */
extern int cs_decode_status_sqlstate(CsDecodeStatus status);

/*
 * A point in time as events carry it: ISO 8601 with T or space, Z or offset
 * or none (UTC), fraction to µs (further digits are cut); false if it is
 * not one or lies outside timestamptz.
 */
extern bool cs_parse_time(const char *s, size_t len, TimestampTz *result);

/* Epoch seconds, milliseconds or microseconds, told apart by magnitude. */
extern bool cs_epoch_time(double number, TimestampTz *result);
extern bool cs_epoch_time_int(int64 number, TimestampTz *result);

#endif
