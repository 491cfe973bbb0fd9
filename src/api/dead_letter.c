/*
 * api/dead_letter.c
 *	  retry_letters(): dead letters run through their stream again, as
 *	  retry_dead_letters() has chosen and mended them.
 *
 * In the caller's transaction: the stream's worker is held until it ends, and
 * the engine that does it lives inside this call.  Of two at the same time the
 * second waits for the first one's end, at the stream's row in the catalog, and
 * then takes those of its letters that are still dead.
 */
#include "api/call_host.h"
#include "api/define.h"

#include "catalog/namespace.h"
#include "core/event_log.h"
#include "engine/retry.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(clickstream_retry_letters);
PG_FUNCTION_INFO_V1(clickstream_message_text);

enum
{
	COL_TOPIC,
	COL_PARTITION,
	COL_OFFSET,
	COL_OUTCOME,
	COL_REASON,
	COLUMNS
};

static void
put_result(const CsLetter *letter, CsClass class, const char *reason, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		   values[COLUMNS];
	bool		   isnull[COLUMNS] = {false};

	values[COL_TOPIC] = CStringGetTextDatum(letter->topic);
	values[COL_PARTITION] = Int32GetDatum(letter->partition);
	values[COL_OFFSET] = Int64GetDatum(letter->offset);
	values[COL_OUTCOME] = CStringGetTextDatum(cs_class_name(class));
	values[COL_REASON] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	isnull[COL_REASON] = reason == NULL;
	tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
}

/* retry_letters(stream text, letters bigint[], payloads text[]) */
Datum
clickstream_retry_letters(PG_FUNCTION_ARGS)
{
	CsStream *stream = cs_stream_load_by_name(cs_arg_required(fcinfo, 0, "stream"), CurrentMemoryContext);
	CsLetter *letters;
	int		  n;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("letters and payloads must be given")));
	cs_stream_touch(stream);
	InitMaterializedSRF(fcinfo, 0);
	cs_worker_hold(stream->stream_id);
	letters = cs_letters_load(stream->stream_id, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), &n);
	if (n > 0)
		cs_engine_retry(stream->stream_id, &cs_call_host, letters, n, put_result, fcinfo->resultinfo);
	return (Datum) 0;
}

/* message_text(payload bytea) */
Datum
clickstream_message_text(PG_FUNCTION_ARGS)
{
	bytea	   *payload = PG_GETARG_BYTEA_PP(0);
	const char *bytes = VARDATA_ANY(payload);
	int			len = VARSIZE_ANY_EXHDR(payload);
	int			encoding = GetDatabaseEncoding();
	Oid			conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	Size		size = (Size) len * MAX_CONVERSION_GROWTH + 1;
	char	   *text;

	if (!pg_verify_mbstr(encoding == PG_SQL_ASCII ? PG_SQL_ASCII : PG_UTF8, bytes, len, true))
		PG_RETURN_NULL();
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		PG_RETURN_TEXT_P(cstring_to_text_with_len(bytes, len));
	text = MemoryContextAllocHuge(CurrentMemoryContext, size);
	if (!OidIsValid(conversion) ||
		pg_do_encoding_conversion_buf(conversion, PG_UTF8, encoding, (unsigned char *) unconstify(char *, bytes), len,
									  (unsigned char *) text, (int) Min(size, MaxAllocSize), true) < len)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
