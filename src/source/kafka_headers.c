/*
 * source/kafka_headers.c
 *	  Headers of a Kafka message as jsonb, for the dead letters.
 *
 * Names and values may be any bytes.  What is text stays text; the rest is
 * written in hex, as bytea would be.  Of several headers of one name the last
 * remains, as jsonb has it.
 *
 * Main thread only, no locks.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "source/kafka_internal.h"

/* Text of bytes that may be anything: as they are if they are text, else in hex. */
static void
set_header_text(JsonbValue *value, const char *bytes, size_t length)
{
	bool is_ascii = true;
	bool is_text;

	for (size_t i = 0; i < length && is_ascii; i++)
		is_ascii = !IS_HIGHBIT_SET(bytes[i]);
	is_text = is_ascii ? memchr(bytes, '\0', length) == NULL
					   : GetDatabaseEncoding() == PG_UTF8 && pg_verify_mbstr(PG_UTF8, bytes, (int) length, true);
	value->type = jbvString;
	if (is_text)
	{
		value->val.string.val = pnstrdup(bytes, length);
		value->val.string.len = (int) length;
		return;
	}
	value->val.string.val = palloc(length * 2 + 3);
	strcpy(value->val.string.val, "\\x");
	value->val.string.len = (int) (2 + hex_encode(bytes, length, value->val.string.val + 2));
}

/* Names and values of them all, in bytes. */
static size_t
total_length(const rd_kafka_headers_t *headers)
{
	size_t		total = 0;
	const char *name;
	const void *bytes;
	size_t		size;

	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &bytes, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
		total += strlen(name) + (bytes ? size : 0);
	return total;
}

Jsonb *
cs_kafka_headers(CsSource *base, const CsMessage *message, size_t *length)
{
	rd_kafka_headers_t *headers;
	JsonbParseState	   *state = NULL;
	const char		   *name;
	const void		   *bytes;
	size_t				size;

	(void) base;
	*length = 0;
	if (rd_kafka_message_headers(message->foreign, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
		rd_kafka_header_cnt(headers) == 0)
		return NULL;
	*length = total_length(headers);
	if (*length > CS_HEADERS_MAX)
		return NULL;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &bytes, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++)
	{
		JsonbValue value;

		set_header_text(&value, name, strlen(name));
		pushJsonbValue(&state, WJB_KEY, &value);
		if (bytes == NULL)
			value.type = jbvNull;
		else
			set_header_text(&value, bytes, size);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
