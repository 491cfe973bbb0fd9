/*
 * decode/decode.c
 *	  The decoder: one message's JSON to the columns of an event.
 *
 * One pass over the parsed document finds the place of every mapped column
 * (see mapping.h); the columns are then built from the places.  All texts of
 * a message share one allocation.
 *
 * Whether a message can be decoded depends on the message and the stream
 * alone, never on which columns some definition reads: what can go wrong with
 * a column is checked even where the column is not built.  The parser's "odd"
 * flag keeps that free of charge: documents without unusual escapes and
 * numbers need no check, unless strings must be converted to another server
 * encoding.
 *
 * Nothing that a message holds raises here, save in input functions of extra
 * columns.  The parser and its buffers are malloc'ed and freed by the
 * context's reset callback.  No locks.
 */
#include "decode/internal.h"

#include "core/settings.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define NOT_FOUND PG_UINT32_MAX

/* So much of a value is quoted in a detail. */
#define QUOTED_BYTES_MAX 64

static void
free_parser(void *parser)
{
	cs_json_parser_free(parser);
}

CsDecoder *
cs_decoder_create(const CsStream *stream, const bool *needed, MemoryContext cxt)
{
	MemoryContext		   old = MemoryContextSwitchTo(cxt);
	CsDecoder			  *decoder = palloc0(sizeof(CsDecoder));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	int					   encoding = GetDatabaseEncoding();

	decoder->mapping = cs_mapping_compile(stream->preset, stream->mapping, stream->event_desc, stream->nextra, needed);
	decoder->found = palloc(decoder->mapping->nnodes * sizeof(uint32));
	decoder->spans = palloc0(decoder->mapping->ncolumns * sizeof(Span));
	decoder->scratch = AllocSetContextCreate(cxt, "clickstream jsonb", ALLOCSET_DEFAULT_SIZES);
	decoder->converts = encoding != PG_UTF8 && encoding != PG_SQL_ASCII;
	if (decoder->converts)
		decoder->conversion = FindDefaultConversionProc(PG_UTF8, encoding);
	decoder->parser = cs_json_parser_create(CS_DECODE_MAX_DEPTH);
	if (decoder->parser == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	callback->func = free_parser;
	callback->arg = decoder->parser;
	MemoryContextRegisterResetCallback(cxt, callback);
	MemoryContextSwitchTo(old);
	return decoder;
}

void
cs_decoder_validate(const char *preset, Jsonb *mapping, TupleDesc event_desc, int nextra)
{
	(void) cs_mapping_compile(preset, mapping, event_desc, nextra, NULL);
}

const char *
cs_decoder_preset(int i, const char **mapping)
{
	if (i >= cs_preset_count())
		return NULL;
	*mapping = cs_preset(i)->mapping;
	return cs_preset(i)->name;
}

/* ---- Text in the server encoding ---- */

static bool
is_ascii(const char *s, uint32 len)
{
	uint32 i = 0;
	uint64 word;

	for (; i + sizeof(word) <= len; i += sizeof(word))
	{
		memcpy(&word, s + i, sizeof(word));
		if (word & UINT64CONST(0x8080808080808080))
			return false;
	}
	for (; i < len; i++)
	{
		if (IS_HIGHBIT_SET(s[i]))
			return false;
	}
	return true;
}

bool
cs_decode_convert(const CsDecoder *decoder, const char *s, uint32 len, Span *span)
{
	Size  size;
	char *buffer;

	span->data = s;
	span->len = len;
	if (!decoder->converts || is_ascii(s, len))
		return true;
	if (!OidIsValid(decoder->conversion))
		return false;
	size = (Size) len * MAX_CONVERSION_GROWTH + 1;
	buffer = MemoryContextAllocHuge(CurrentMemoryContext, size);
	if (pg_do_encoding_conversion_buf(decoder->conversion, PG_UTF8, GetDatabaseEncoding(), (unsigned char *) s, len,
									  (unsigned char *) buffer, Min(size, INT_MAX), true) != (int) len)
	{
		pfree(buffer);
		return false;
	}
	span->data = buffer;
	span->len = strlen(buffer);
	return true;
}

/* A column's value for a detail, or an empty string where it cannot be shown. */
static const char *
quote(const CsDecoder *decoder, const char *s, uint32 len)
{
	int	 clipped = pg_encoding_mbcliplen(PG_UTF8, s, len, QUOTED_BYTES_MAX);
	Span span;

	if (pg_encoding_verifymbstr(PG_UTF8, s, clipped) != clipped || !cs_decode_convert(decoder, s, clipped, &span))
		return "";
	return psprintf("\"%.*s%s\"", (int) span.len, span.data, clipped < (int) len ? "..." : "");
}

/* Say why node_text() refused a node. */
static CsDecodeStatus
bad_encoding(const CsColumn *column, const CsJsonNode *node, char **detail)
{
	bool is_string = node->type == CS_JSON_STRING;

	if (is_string && memchr(node->value.string, '\0', node->len) != NULL)
		*detail = psprintf("Column \"%s\" has \\u0000 in a string.", column->name);
	else if (is_string && pg_encoding_verifymbstr(PG_UTF8, node->value.string, node->len) != (int) node->len)
		*detail = psprintf("Column \"%s\" has half of a surrogate pair.", column->name);
	else
		*detail = psprintf("Column \"%s\" has a character that encoding \"%s\" does not have.", column->name,
						   GetDatabaseEncodingName());
	return CS_DECODE_BAD_ENCODING;
}

/* Strings as PostgreSQL can hold them: the parser lets NULs and some surrogates pass. */
static inline bool
is_clean(const CsDecoder *decoder, const CsJsonNode *node)
{
	return !decoder->document.odd || pg_encoding_verifymbstr(PG_UTF8, node->value.string, node->len) == (int) node->len;
}

/* The text that a node gives in a text column.  Not for JSON null. */
static inline bool
node_text(const CsDecoder *decoder, const CsJsonNode *node, Span *span)
{
	const char *text = node->type == CS_JSON_STRING ? node->value.string : decoder->payload + node->raw;

	if (node->type == CS_JSON_STRING && !is_clean(decoder, node))
		return false;
	return cs_decode_convert(decoder, text, node->len, span);
}

/* ---- Where the columns are ---- */

static void find_below(CsDecoder *decoder, uint32 at, const CsPointer *pointer);

static void
find_in_object(CsDecoder *decoder, uint32 at, const CsPointer *pointer)
{
	const CsJsonNode *nodes = decoder->document.nodes;
	uint32			  end = nodes[at].next;

	/* Of several members with one name the last wins, as in jsonb. */
	for (uint32 key = at + 1; key < end; key = nodes[key + 1].next)
	{
		int child = cs_pointer_child(decoder->mapping, pointer, nodes[key].value.string, nodes[key].len);

		if (child >= 0)
			decoder->found[child] = key + 1;
	}
}

static void
find_in_array(CsDecoder *decoder, uint32 at, const CsPointer *pointer)
{
	const CsJsonNode *nodes = decoder->document.nodes;
	int				  index = 0;
	int				  last = -1;

	for (int i = 0; i < pointer->nchildren; i++)
		last = Max(last, decoder->mapping->nodes[pointer->children[i]].index);
	for (uint32 member = at + 1; member < nodes[at].next && index <= last; member = nodes[member].next, index++)
	{
		for (int i = 0; i < pointer->nchildren; i++)
		{
			if (decoder->mapping->nodes[pointer->children[i]].index == index)
				decoder->found[pointer->children[i]] = member;
		}
	}
}

/* Recursion is bounded by the document's depth. */
static void
find_below(CsDecoder *decoder, uint32 at, const CsPointer *pointer)
{
	if (decoder->document.nodes[at].type == CS_JSON_OBJECT)
		find_in_object(decoder, at, pointer);
	else if (decoder->document.nodes[at].type == CS_JSON_ARRAY)
	{
		find_in_array(decoder, at, pointer);
		if (pointer->pairs > 0)
			cs_pairs_find(decoder, at, &decoder->mapping->nodes[pointer->pairs]);
	}
	if (!pointer->has_more)
		return;
	for (int i = 0; i < pointer->nchildren; i++)
	{
		int				 child = pointer->children[i];
		const CsPointer *below = &decoder->mapping->nodes[child];

		if (decoder->found[child] != NOT_FOUND && (below->nchildren > 0 || below->pairs > 0))
			find_below(decoder, decoder->found[child], below);
	}
}

static void
find_all(CsDecoder *decoder)
{
	memset(decoder->found, 0xFF, decoder->mapping->nnodes * sizeof(uint32)); /* all NOT_FOUND */
	decoder->found[0] = 0;
	find_below(decoder, 0, &decoder->mapping->nodes[0]);
}

/* What one of a column's paths leads to, or NULL. */
static inline const CsJsonNode *
path_node(const CsDecoder *decoder, const CsColumn *column, int path)
{
	uint32 at = decoder->found[column->paths[path]];

	if (at == NOT_FOUND || decoder->document.nodes[at].type == CS_JSON_NULL)
		return NULL;
	return &decoder->document.nodes[at];
}

/* The node that fills a column, or NULL. */
static inline const CsJsonNode *
column_node(const CsDecoder *decoder, const CsColumn *column)
{
	for (int i = 0; i < column->npaths; i++)
	{
		const CsJsonNode *node = path_node(decoder, column, i);

		if (node != NULL)
			return node;
	}
	return NULL;
}

/* ---- Text columns ---- */

/* What a text is by a path's words: itself, another, or (false) as if it were not there. */
static bool
word_for(const CsDecoder *decoder, const CsPathExtra *extra, const CsJsonNode *node, Span *span)
{
	const char *text = node->type == CS_JSON_STRING ? node->value.string : decoder->payload + node->raw;

	for (int i = 0; i < extra->nwords; i++)
	{
		const CsWord *word = &extra->words[i];

		if (word->from_len != node->len || memcmp(word->from, text, node->len) != 0)
			continue;
		span->data = word->to;
		span->len = word->to_len;
		return word->to != NULL;
	}
	return true;
}

/* The first text of a column that has words.  NULL: none. */
static CsDecodeStatus
translated_text(const CsDecoder *decoder, const CsColumn *column, Span *span, char **detail)
{
	for (int i = 0; i < column->npaths; i++)
	{
		const CsJsonNode *node = path_node(decoder, column, i);

		if (node == NULL)
			continue;
		if (!node_text(decoder, node, span))
			return bad_encoding(column, node, detail);
		if (word_for(decoder, &column->extras[i], node, span))
			return CS_DECODE_OK;
	}
	span->data = NULL;
	return CS_DECODE_OK;
}

/* Go over the columns that have words once more. */
static CsDecodeStatus
translate_texts(CsDecoder *decoder, bool careful, Size *size, char **detail)
{
	for (int i = 0; i < decoder->mapping->ncolumns; i++)
	{
		const CsColumn *column = &decoder->mapping->columns[i];
		Span		   *span = &decoder->spans[i];
		CsDecodeStatus	status;

		if (column->kind != CS_COLUMN_TEXT || column->extras == NULL || !(column->needed || careful))
			continue;
		if (span->data != NULL)
			*size -= INTALIGN(VARHDRSZ + span->len);
		status = translated_text(decoder, column, span, detail);
		if (status != CS_DECODE_OK)
			return status;
		if (!column->needed)
			span->data = NULL;
		if (span->data != NULL)
			*size += INTALIGN(VARHDRSZ + span->len);
	}
	return CS_DECODE_OK;
}

/* Fill the spans of the text columns.  *size is what the needed ones take. */
static CsDecodeStatus
measure_texts(CsDecoder *decoder, Size *size, char **detail)
{
	bool careful = decoder->document.odd || decoder->converts;

	*size = 0;
	for (int i = 0; i < decoder->mapping->ncolumns; i++)
	{
		const CsColumn	 *column = &decoder->mapping->columns[i];
		const CsJsonNode *node;
		Span			 *span = &decoder->spans[i];

		span->data = NULL;
		if (column->kind != CS_COLUMN_TEXT || !(column->needed || careful))
			continue;
		node = column_node(decoder, column);
		if (node == NULL)
			continue;
		if (!node_text(decoder, node, span))
			return bad_encoding(column, node, detail);
		if (column->needed)
			*size += INTALIGN(VARHDRSZ + span->len);
		else
			span->data = NULL;
	}
	if (decoder->mapping->has_words)
		return translate_texts(decoder, careful, size, detail);
	return CS_DECODE_OK;
}

static CsDecodeStatus
build_texts(CsDecoder *decoder, Datum *values, bool *isnull, char **detail)
{
	Size		   size;
	char		  *out;
	CsDecodeStatus status = measure_texts(decoder, &size, detail);

	if (status != CS_DECODE_OK || size == 0)
		return status;
	out = palloc(size);
	for (int i = 0; i < decoder->mapping->ncolumns; i++)
	{
		const Span *span = &decoder->spans[i];

		if (span->data == NULL)
			continue;
		SET_VARSIZE(out, VARHDRSZ + span->len);
		memcpy(VARDATA(out), span->data, span->len);
		values[i] = PointerGetDatum(out);
		isnull[i] = false;
		out += INTALIGN(VARHDRSZ + span->len);
	}
	return CS_DECODE_OK;
}

/* ---- event_time ---- */

static bool
node_time(const CsDecoder *decoder, const CsJsonNode *node, TimestampTz *time)
{
	switch (node->type)
	{
		case CS_JSON_STRING:
			return cs_parse_time(node->value.string, node->len, time);
		case CS_JSON_INTEGER:
			return cs_epoch_time_int(node->value.integer, time);
		case CS_JSON_NUMBER:
			return cs_parse_time(decoder->payload + node->raw, node->len, time);
		default:
			return false;
	}
}

static CsDecodeStatus
build_event_time(const CsDecoder *decoder, const CsColumn *column, Datum *value, bool *isnull, char **detail)
{
	const CsJsonNode *node = column_node(decoder, column);
	TimestampTz		  time;

	if (node == NULL)
		return CS_DECODE_NO_TIME;
	if (!node_time(decoder, node, &time))
	{
		const char *quoted = quote(decoder, decoder->payload + node->raw, node->len);

		if (node->type == CS_JSON_STRING)
			quoted = quote(decoder, node->value.string, node->len);
		*detail = psprintf("%s is neither an ISO 8601 time nor an epoch time in seconds, milliseconds or "
						   "microseconds.",
						   quoted[0] != '\0' ? quoted : "The value");
		return CS_DECODE_BAD_TIME;
	}
	*value = TimestampTzGetDatum(time);
	*isnull = false;
	return CS_DECODE_OK;
}

/* ---- Numbers and jsonb ---- */

/* Short and near enough to 1 for numeric_in() to take at once? */
static bool
number_is_usual(const char *s, uint32 len)
{
	const char *end = s + len;
	int			exponent = 0;

	if (len > NUMBER_LENGTH_MAX)
		return false;
	while (s < end && *s != 'e' && *s != 'E')
		s++;
	for (; s < end; s++)
	{
		if (*s >= '0' && *s <= '9')
			exponent = exponent * 10 + (*s - '0');
		if (exponent > NUMBER_EXPONENT_MAX)
			return false;
	}
	return true;
}

/* Can the node and all below it be made into a jsonb? */
static CsDecodeStatus
check_tree(const CsDecoder *decoder, const CsColumn *column, const CsJsonNode *root, char **detail)
{
	const CsJsonNode *end = decoder->document.nodes + root->next;
	Span			  span;

	if (!decoder->document.odd && !decoder->converts)
		return CS_DECODE_OK;
	for (const CsJsonNode *node = root; node < end; node++)
	{
		if (node->type == CS_JSON_NUMBER && !number_is_usual(decoder->payload + node->raw, node->len))
		{
			*detail = psprintf("A number of column \"%s\" has more than %d digits or an exponent beyond %d.",
							   column->name, NUMBER_LENGTH_MAX, NUMBER_EXPONENT_MAX);
			return CS_DECODE_BAD_VALUE;
		}
		if (node->type != CS_JSON_STRING)
			continue;
		if (!node_text(decoder, node, &span))
			return bad_encoding(column, node, detail);
		if (span.data != node->value.string)
			pfree(unconstify(char *, span.data));
	}
	return CS_DECODE_OK;
}

/* ---- Columns of other types ---- */

static Datum
node_to_json(const CsJsonNode *node, Span span)
{
	StringInfoData json;

	if (node->type != CS_JSON_STRING)
		return PointerGetDatum(cstring_to_text_with_len(span.data, span.len));
	initStringInfo(&json);
	escape_json(&json, pnstrdup(span.data, span.len));
	return PointerGetDatum(cstring_to_text_with_len(json.data, json.len));
}

/* May raise, by the type's input function. */
static CsDecodeStatus
build_typed(CsDecoder *decoder, CsColumn *column, const CsJsonNode *node, Datum *value, char **detail)
{
	TimestampTz time;
	Span		span;

	if (column->kind == CS_COLUMN_TIMESTAMPTZ && node_time(decoder, node, &time))
	{
		*value = TimestampTzGetDatum(time);
		return CS_DECODE_OK;
	}
	if (!node_text(decoder, node, &span))
		return bad_encoding(column, node, detail);
	if (column->kind == CS_COLUMN_JSON)
		*value = node_to_json(node, span);
	else
		*value = InputFunctionCall(&column->input, pnstrdup(span.data, span.len), column->ioparam, column->typmod);
	return CS_DECODE_OK;
}

/* Of a jsonb column that has a path to pairs: is it that path which fills it, and with an array? */
static bool
is_pairs(const CsDecoder *decoder, const CsColumn *column, const CsJsonNode *node)
{
	for (int i = 0; i < column->npaths; i++)
	{
		if (path_node(decoder, column, i) == node)
			return column->extras[i].as_object && node->type == CS_JSON_ARRAY;
	}
	return false;
}

/* All but event_time and the text columns. */
static CsDecodeStatus
build_other(CsDecoder *decoder, CsColumn *column, Datum *value, bool *isnull, char **detail)
{
	const CsJsonNode *node = column_node(decoder, column);
	CsDecodeStatus	  status;

	if (node == NULL)
		return CS_DECODE_OK;
	status = check_tree(decoder, column, node, detail);
	if (status != CS_DECODE_OK || !column->needed)
		return status;
	if (column->kind == CS_COLUMN_JSONB && column->extras != NULL && is_pairs(decoder, column, node))
		*value = cs_pairs_jsonb(decoder, node);
	else if (column->kind == CS_COLUMN_JSONB)
		*value = cs_decode_jsonb(decoder, node);
	else
		status = build_typed(decoder, column, node, value, detail);
	*isnull = status != CS_DECODE_OK;
	return status;
}

/* ---- One message ---- */

/*
 * Serializers that work with a schema registry write a zero byte and the
 * schema's number, four bytes, before what they serialize.
 */
#define FRAME_LENGTH 5

static bool
is_framed(const char *payload, size_t len)
{
	return len >= FRAME_LENGTH && payload[0] == '\0';
}

static CsDecodeStatus
refuse_framed(const char *payload, char **detail)
{
	const unsigned char *id = (const unsigned char *) payload + 1;

	*detail = psprintf("The message is framed for a schema registry (schema %u) and holds no JSON.",
					   (uint32) id[0] << 24 | (uint32) id[1] << 16 | (uint32) id[2] << 8 | id[3]);
	return CS_DECODE_FRAMED;
}

static pg_attribute_always_inline CsDecodeStatus
parse_json(CsDecoder *decoder, const char *payload, size_t len, char **detail)
{
	const char *message = "";

	decoder->payload = payload;
	switch (cs_json_parse(decoder->parser, payload, len, &decoder->document, &message))
	{
		case CS_JSON_OK:
			return decoder->document.nodes[0].type == CS_JSON_OBJECT ? CS_DECODE_OK : CS_DECODE_NOT_OBJECT;
		case CS_JSON_NO_MEMORY:
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
							errdetail("Failed while parsing a message of %zu bytes.", len)));
			break;
		case CS_JSON_SYNTAX:
			*detail = pstrdup(message);
			return CS_DECODE_NOT_JSON;
		case CS_JSON_ENCODING:
			*detail = pstrdup(message);
			return CS_DECODE_BAD_ENCODING;
		case CS_JSON_DEPTH:
			*detail = psprintf("Objects and arrays are nested more than %d levels deep.", CS_DECODE_MAX_DEPTH);
			return CS_DECODE_TOO_DEEP;
		case CS_JSON_LENGTH:
			*detail = pstrdup(message);
			return CS_DECODE_TOO_LONG;
	}
	pg_unreachable();
}

static CsDecodeStatus
parse(CsDecoder *decoder, const char *payload, size_t len, char **detail)
{
	static const char bom[] = "\xEF\xBB\xBF";
	CsDecodeStatus	  status;

	if (payload == NULL)
		return CS_DECODE_EMPTY;
	if (len > (size_t) cs_max_message_size)
	{
		*detail = psprintf("The message has %zu bytes, more than clickstream.max_message_size (%d bytes).", len,
						   cs_max_message_size);
		return CS_DECODE_TOO_LONG;
	}
	if (len >= 3 && memcmp(payload, bom, 3) == 0)
	{
		payload += 3;
		len -= 3;
	}
	status = parse_json(decoder, payload, len, detail);
	if (status == CS_DECODE_OK || !is_framed(payload, len))
		return status;
	if (len > FRAME_LENGTH && payload[FRAME_LENGTH] == '{')
		status = parse_json(decoder, payload + FRAME_LENGTH, len - FRAME_LENGTH, detail);
	return status == CS_DECODE_OK ? status : refuse_framed(payload, detail);
}

CsDecodeStatus
cs_decode(CsDecoder *decoder, const char *payload, size_t len, Datum *values, bool *isnull, char **detail)
{
	CsMapping	  *mapping = decoder->mapping;
	CsDecodeStatus status;

	*detail = NULL;
	memset(values, 0, mapping->ncolumns * sizeof(Datum));
	memset(isnull, true, mapping->ncolumns * sizeof(bool));
	status = parse(decoder, payload, len, detail);
	if (status != CS_DECODE_OK)
		return status;
	find_all(decoder);
	status = build_texts(decoder, values, isnull, detail);
	for (int i = CS_ATT_EVENT_TIME - 1; i < mapping->ncolumns && status == CS_DECODE_OK; i++)
	{
		CsColumn *column = &mapping->columns[i];

		if (column->kind == CS_COLUMN_EVENT_TIME)
			status = build_event_time(decoder, column, &values[i], &isnull[i], detail);
		else if (column->kind != CS_COLUMN_TEXT)
			status = build_other(decoder, column, &values[i], &isnull[i], detail);
	}
	return status;
}

const char *
cs_decode_status_text(CsDecodeStatus status)
{
	switch (status)
	{
		case CS_DECODE_OK:
			return "decoded";
		case CS_DECODE_EMPTY:
			return "no payload";
		case CS_DECODE_TOO_LONG:
			return "too long";
		case CS_DECODE_NOT_JSON:
			return "not JSON";
		case CS_DECODE_FRAMED:
			return "framed for a schema registry";
		case CS_DECODE_NOT_OBJECT:
			return "not a JSON object";
		case CS_DECODE_TOO_DEEP:
			return "nested too deeply";
		case CS_DECODE_BAD_ENCODING:
			return "bad character";
		case CS_DECODE_NO_TIME:
			return "event_time missing";
		case CS_DECODE_BAD_TIME:
			return "event_time unreadable";
		case CS_DECODE_BAD_VALUE:
			return "bad value";
	}
	return "unknown";
}

int
cs_decode_status_sqlstate(CsDecodeStatus status)
{
	switch (status)
	{
		case CS_DECODE_OK:
			return ERRCODE_SUCCESSFUL_COMPLETION;
		case CS_DECODE_EMPTY:
			return ERRCODE_NO_DATA;
		case CS_DECODE_TOO_LONG:
		case CS_DECODE_TOO_DEEP:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case CS_DECODE_FRAMED:
			return ERRCODE_FEATURE_NOT_SUPPORTED;
		case CS_DECODE_NOT_JSON:
			return ERRCODE_INVALID_JSON_TEXT;
		case CS_DECODE_NOT_OBJECT:
			return ERRCODE_SQL_JSON_OBJECT_NOT_FOUND;
		case CS_DECODE_BAD_ENCODING:
			return ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
		case CS_DECODE_NO_TIME:
			return ERRCODE_NULL_VALUE_NOT_ALLOWED;
		case CS_DECODE_BAD_TIME:
			return ERRCODE_INVALID_DATETIME_FORMAT;
		case CS_DECODE_BAD_VALUE:
			return ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
	}
	return ERRCODE_INTERNAL_ERROR;
}
