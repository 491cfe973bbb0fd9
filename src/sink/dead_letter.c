/*
 * sink/dead_letter.c
 *	  Messages that could not be used, into clickstream.dead_letter_data.
 *
 * Written by own_rows.c.
 */
#include "postgres.h"

#include "sink/own_rows.h"
#include "sink/sink.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const columns[] = {"stream_id",	 "definition_id",  "topic",
									  "partition",	 "message_offset", "message_timestamp",
									  "message_key", "payload",		   "headers",
									  "cause",		 "error",		   "sqlstate",
									  "arrived_at"};

static Datum
text_or_null(const char *s, bool *isnull)
{
	*isnull = s == NULL;
	return s ? CStringGetTextDatum(s) : (Datum) 0;
}

/* NULL stays NULL; bytes of any encoding. */
static Datum
bytes_or_null(const char *data, size_t len, bool *isnull)
{
	*isnull = data == NULL;
	return data ? PointerGetDatum(cstring_to_text_with_len(data, (int) len)) : (Datum) 0;
}

static void
fill(const void *item, TimestampTz now, Datum *values, bool *isnull)
{
	const CsDeadLetter *letter = item;

	values[0] = Int32GetDatum(letter->stream_id);
	values[1] = Int32GetDatum(letter->definition_id);
	isnull[1] = letter->definition_id == 0;
	values[2] = CStringGetTextDatum(letter->topic);
	values[3] = Int32GetDatum(letter->partition);
	values[4] = Int64GetDatum(letter->offset);
	values[5] = TimestampTzGetDatum(letter->timestamp);
	isnull[5] = letter->timestamp == CS_WM_NONE;
	values[6] = bytes_or_null(letter->key, letter->key_len, &isnull[6]);
	values[7] = bytes_or_null(letter->payload, letter->payload_len, &isnull[7]);
	values[8] = JsonbPGetDatum(letter->headers);
	isnull[8] = letter->headers == NULL;
	values[9] = text_or_null(letter->cause, &isnull[9]);
	values[10] = text_or_null(letter->error, &isnull[10]);
	values[11] = CStringGetTextDatum(letter->sqlstate);
	values[12] = TimestampTzGetDatum(now);
}

void
cs_dead_letters_write(List *letters)
{
	cs_own_rows_write("dead_letter_data", lengthof(columns), columns, fill, letters);
}
