/*
 * api/mapping.c
 *	  presets, decode_message: what mappings there are, and what one makes of a
 *	  message.
 *
 * decode_message() runs the decoder of a stream over one payload; its result's
 * columns are the seed's.
 */
#include "api/args.h"

#include "decode/decode.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(clickstream_presets);
PG_FUNCTION_INFO_V1(clickstream_decode_message);

/* presets(OUT preset text, OUT mapping jsonb) */
Datum
clickstream_presets(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const char	  *name;
	const char	  *mapping;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; (name = cs_decoder_preset(i, &mapping)) != NULL; i++)
	{
		Datum values[2] = {CStringGetTextDatum(name), DirectFunctionCall1(jsonb_in, CStringGetDatum(mapping))};
		bool  isnull[2] = {false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/* decode_message(payload text, preset text, mapping jsonb) */
Datum
clickstream_decode_message(PG_FUNCTION_ARGS)
{
	char		  *payload = cs_arg_required(fcinfo, 0, "payload");
	CsStream	   stream = {.preset = cs_arg_required(fcinfo, 1, "preset"), .mapping = cs_arg_jsonb(fcinfo, 2)};
	Datum		   values[CS_SEED_COLUMNS];
	bool		   isnull[CS_SEED_COLUMNS];
	char		  *detail;
	char		  *utf8;
	CsDecodeStatus status;

	if (get_call_result_type(fcinfo, NULL, &stream.event_desc) != TYPEFUNC_COMPOSITE ||
		stream.event_desc->natts != CS_SEED_COLUMNS)
		elog(ERROR, "decode_message() is not declared as it must be");
	utf8 = pg_server_to_any(payload, strlen(payload), PG_UTF8);
	status =
		cs_decode(cs_decoder_create(&stream, NULL, CurrentMemoryContext), utf8, strlen(utf8), values, isnull, &detail);
	if (status != CS_DECODE_OK)
		ereport(ERROR, (errcode(cs_decode_status_sqlstate(status)),
						errmsg("the message would become a dead letter: %s", cs_decode_status_text(status)),
						detail ? errdetail_internal("%s", detail) : 0));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(stream.event_desc), values, isnull)));
}
