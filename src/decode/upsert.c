/*
 * decode/upsert.c
 *	  From a message of an upsert topic to a row: where key and columns are.
 *
 * One parser for keys and payloads, one after the other.  No locks.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "core/settings.h"
#include "decode/decode.h"
#include "decode/json.h"
#include "decode/upsert.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/*
 * What Debezium writes where PostgreSQL did not tell it a value that has not
 * changed: that text, its bytes, or a UUID made of it.
 */
#define UNAVAILABLE "__debezium_unavailable_value"
#define UNAVAILABLE_BASE64 "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
#define UNAVAILABLE_UUID "b68a35a7-17ad-35b3-af2a-ae46edb4545a"

#define DECIMAL "org.apache.kafka.connect.data.Decimal"

/* Farther from the point no decimal is. */
#define SCALE_MAX 16383

/* What a page of the primary key's index holds for certain, whether it can be compressed or not. */
#define KEY_MAX_BYTES 2600

typedef struct Input
{
	FmgrInfo function;
	Oid		 ioparam;
	Oid		 element; /* of an array; or InvalidOid */
	bool	 is_varlena;
} Input;

struct CsUpsertDecoder
{
	CsUpsertColumn *columns;
	Input		   *inputs;
	int				n;
	int				key;
	CsJsonParser   *parser;

	/* the document at hand */
	const char	  *text;
	CsJsonDocument document;
};

static void
free_parser(void *parser)
{
	cs_json_parser_free(parser);
}

static void
init_input(const CsUpsertColumn *column, Input *input)
{
	Oid function;

	getTypeInputInfo(column->type, &function, &input->ioparam);
	fmgr_info(function, &input->function);
	input->element = get_base_element_type(column->type);
	input->is_varlena = get_typlen(column->type) == -1;
}

CsUpsertDecoder *
cs_upsert_decoder_create(const CsUpsertColumn *columns, int n, int key)
{
	CsUpsertDecoder		  *decoder = palloc0(sizeof(CsUpsertDecoder));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	decoder->n = n;
	decoder->key = key;
	decoder->columns = palloc(n * sizeof(CsUpsertColumn));
	decoder->inputs = palloc0(n * sizeof(Input));
	for (int i = 0; i < n; i++)
	{
		decoder->columns[i] = columns[i];
		decoder->columns[i].name = pstrdup(columns[i].name);
		init_input(&columns[i], &decoder->inputs[i]);
	}
	decoder->parser = cs_json_parser_create(CS_DECODE_MAX_DEPTH);
	if (decoder->parser == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	callback->func = free_parser;
	callback->arg = decoder->parser;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return decoder;
}

/* ---- the document ---- */

static bool
parse(CsUpsertDecoder *decoder, const char *text, size_t len, const char **problem)
{
	decoder->text = text;
	switch (cs_json_parse(decoder->parser, text, len, &decoder->document, problem))
	{
		case CS_JSON_OK:
			return true;
		case CS_JSON_NO_MEMORY:
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
							errdetail("Failed while parsing a message of %zu bytes.", len)));
		default:
			return false;
	}
}

/* A member of an object by name, or NULL; the last of several, as in jsonb. */
static const CsJsonNode *
member(const CsUpsertDecoder *decoder, const CsJsonNode *object, const char *name)
{
	const CsJsonNode *nodes = decoder->document.nodes;
	const CsJsonNode *found = NULL;
	size_t			  len = strlen(name);

	if (object == NULL || object->type != CS_JSON_OBJECT)
		return NULL;
	for (const CsJsonNode *key = object + 1; key < nodes + object->next; key = nodes + key[1].next)
		if (key->len == len && memcmp(key->value.string, name, len) == 0)
			found = key + 1;
	return found;
}

static bool
is_string(const CsJsonNode *node, const char *text)
{
	return node && node->type == CS_JSON_STRING && node->len == strlen(text) &&
		   memcmp(node->value.string, text, node->len) == 0;
}

static bool
is_null(const CsJsonNode *node)
{
	return node == NULL || node->type == CS_JSON_NULL;
}

/* Of a schema's fields, the one of that name, or NULL. */
static const CsJsonNode *
field_schema(const CsUpsertDecoder *decoder, const CsJsonNode *schema, const char *name)
{
	const CsJsonNode *nodes = decoder->document.nodes;
	const CsJsonNode *fields = member(decoder, schema, "fields");

	if (fields == NULL || fields->type != CS_JSON_ARRAY)
		return NULL;
	for (const CsJsonNode *field = fields + 1; field < nodes + fields->next; field = nodes + field->next)
		if (is_string(member(decoder, field, "field"), name))
			return field;
	return NULL;
}

/* What the schema says of a field. */
static CsFieldType
field_type(const CsUpsertDecoder *decoder, const CsJsonNode *schema, const char *column)
{
	const CsJsonNode *field = field_schema(decoder, schema, column);
	const CsJsonNode *name = member(decoder, field, "name");
	const CsJsonNode *kind = member(decoder, field, "type");
	const CsJsonNode *scale = member(decoder, member(decoder, field, "parameters"), "scale");
	const CsJsonNode *items = member(decoder, member(decoder, field, "items"), "type");
	CsFieldType		  type = {.is_bytes = is_string(kind, "bytes") || is_string(items, "bytes")};

	if (name && name->type == CS_JSON_STRING)
	{
		type.name = name->value.string;
		type.len = name->len;
	}
	if (scale && scale->type == CS_JSON_STRING)
		type.scale = pg_strtoint32(pnstrdup(scale->value.string, scale->len));
	return type;
}

/* ---- values ---- */

/* The text of a node, in the server's encoding; raises for what it cannot hold. */
static char *
node_text(const CsUpsertDecoder *decoder, const CsJsonNode *node)
{
	const char *text = node->type == CS_JSON_STRING ? node->value.string : decoder->text + node->raw;
	char	   *copy = pnstrdup(text, node->len);

	if (node->type == CS_JSON_STRING && strlen(copy) != node->len)
		ereport(ERROR, (errcode(ERRCODE_UNTRANSLATABLE_CHARACTER), errmsg("\\u0000 cannot be converted to text")));
	return pg_any_to_server(copy, (int) node->len, PG_UTF8);
}

/*
 * Of a bytea: Base64 where the schema says so, else as PostgreSQL writes it.
 * Without a schema Base64 could not be told from hexadecimal digits or a text.
 */
static char *
bytes_text(const CsUpsertDecoder *decoder, int i, const CsJsonNode *node, const CsFieldType *type)
{
	bool is_text = node->type == CS_JSON_STRING;

	if (is_text && type->is_bytes)
		return cs_upsert_bytes(node->value.string, node->len);
	if (!is_text || node->len < 2 || memcmp(node->value.string, "\\x", 2) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("the encoding of bytes in column \"%s\" is not known", decoder->columns[i].name),
						errhint("Have the sender write schemas with fields of type \"bytes\", or \\x and hexadecimal "
								"digits.")));
	return node_text(decoder, node);
}

/* A JSON array as PostgreSQL writes one. */
static char *
array_text(const CsUpsertDecoder *decoder, int i, const CsJsonNode *array, const CsFieldType *type)
{
	bool			  of_bytes = decoder->inputs[i].element == BYTEAOID;
	const CsJsonNode *nodes = decoder->document.nodes;
	StringInfoData	  text;

	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	for (const CsJsonNode *node = array + 1; node < nodes + array->next; node = nodes + node->next)
	{
		appendStringInfoString(&text, text.len > 1 ? "," : "");
		if (node->type == CS_JSON_NULL)
		{
			appendStringInfoString(&text, "NULL");
			continue;
		}
		appendStringInfoChar(&text, '"');
		for (const char *c = of_bytes ? bytes_text(decoder, i, node, type) : node_text(decoder, node); *c; c++)
		{
			if (*c == '"' || *c == '\\')
				appendStringInfoChar(&text, '\\');
			appendStringInfoChar(&text, *c);
		}
		appendStringInfoChar(&text, '"');
	}
	appendStringInfoChar(&text, '}');
	return text.data;
}

static char *
decimal(const CsJsonNode *value, int64 scale)
{
	if (scale < -SCALE_MAX || scale > SCALE_MAX)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("the scale of a decimal is out of range")));
	return cs_upsert_decimal(value->value.string, value->len, (int) scale);
}

/* The text that a type's input function takes. */
static char *
input_text(const CsUpsertDecoder *decoder, int i, const CsJsonNode *node, const CsFieldType *type)
{
	Oid base = getBaseType(decoder->columns[i].type);

	if (base == NUMERICOID)
	{
		const CsJsonNode *scale = member(decoder, node, "scale");
		const CsJsonNode *value = member(decoder, node, "value");

		if (node->type == CS_JSON_STRING && type->name && type->len == strlen(DECIMAL) &&
			memcmp(type->name, DECIMAL, type->len) == 0)
			return decimal(node, type->scale);
		if (scale && value && scale->type == CS_JSON_INTEGER && value->type == CS_JSON_STRING)
			return decimal(value, scale->value.integer);
	}
	if (base == BYTEAOID)
		return bytes_text(decoder, i, node, type);
	if (node->type == CS_JSON_ARRAY && OidIsValid(decoder->inputs[i].element))
		return array_text(decoder, i, node, type);
	return node_text(decoder, node);
}

static Datum
from_text(CsUpsertDecoder *decoder, int i, char *text)
{
	return InputFunctionCall(&decoder->inputs[i].function, text, decoder->inputs[i].ioparam,
							 decoder->columns[i].typmod);
}

/* Times as strings have one grammar, whatever the settings: that of events. */
static bool
time_from_string(const CsUpsertColumn *column, const CsJsonNode *node, Datum *value)
{
	TimestampTz time;

	if ((column->type != TIMESTAMPTZOID && column->type != TIMESTAMPOID) || node->type != CS_JSON_STRING ||
		!cs_parse_time(node->value.string, node->len, &time))
		return false;
	*value = cs_upsert_scale(column, TimestampTzGetDatum(time));
	return true;
}

/* A node that is not null, as a value of column i. */
static Datum
node_value(CsUpsertDecoder *decoder, int i, const CsJsonNode *node, const CsJsonNode *schema)
{
	const CsUpsertColumn *column = &decoder->columns[i];
	CsFieldType			  type = field_type(decoder, schema, column->name);
	Datum				  value;

	if (node->type == CS_JSON_INTEGER && cs_upsert_number(column, node->value.integer, &type, &value))
		return value;
	if (time_from_string(column, node, &value))
		return value;
	return from_text(decoder, i, input_text(decoder, i, node, &type));
}

/* ---- the key ---- */

/* A schema around a value: both have it as "payload"; else the node itself. */
static const CsJsonNode *
unwrap(const CsUpsertDecoder *decoder, const CsJsonNode *node, const CsJsonNode **schema)
{
	const CsJsonNode *payload = member(decoder, node, "payload");

	*schema = NULL;
	if (payload == NULL || member(decoder, node, "schema") == NULL)
		return node;
	*schema = member(decoder, node, "schema");
	return payload;
}

/* The message's key; false: it has none that tells the row's. */
static bool
message_key(CsUpsertDecoder *decoder, const CsMessage *message, Datum *value)
{
	const CsJsonNode *node;
	const CsJsonNode *schema;
	const char		 *problem;
	bool			  is_json;

	if (message->key == NULL || message->key_len == 0)
		return false;
	is_json = message->key[0] == '{' || message->key[0] == '"';
	if (!is_json || !parse(decoder, message->key, message->key_len, &problem))
	{
		char *copy;

		if (memchr(message->key, '\0', message->key_len) != NULL)
			ereport(ERROR, (errcode(ERRCODE_UNTRANSLATABLE_CHARACTER), errmsg("the message's key holds a zero byte")));
		copy = pnstrdup(message->key, message->key_len);
		*value = from_text(decoder, decoder->key, pg_any_to_server(copy, (int) message->key_len, PG_UTF8));
		return true;
	}
	node = unwrap(decoder, decoder->document.nodes, &schema);
	if (node->type == CS_JSON_OBJECT)
		node = member(decoder, node, decoder->columns[decoder->key].name);
	if (is_null(node))
		return false;
	*value = node_value(decoder, decoder->key, node, schema);
	return true;
}

/* ---- the row ---- */

/* What the payload says, and where. */
typedef struct Change
{
	CsUpsertAction	  action;
	const CsJsonNode *row;
	const CsJsonNode *schema; /* of the row, or NULL */
} Change;

static Change
read_envelope(const CsUpsertDecoder *decoder, const CsJsonNode *body, const CsJsonNode *op, const CsJsonNode *schema)
{
	Change change = {CS_UPSERT_PUT, member(decoder, body, "after"), field_schema(decoder, schema, "after")};

	if (is_string(op, "m"))
		change.action = CS_UPSERT_NOTHING;
	else if (is_string(op, "d"))
		change = (Change){CS_UPSERT_DELETE, member(decoder, body, "before"), field_schema(decoder, schema, "before")};
	else if (is_string(op, "t"))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("the source table was truncated"),
						errhint("Truncate the table of the lookup, or clickstream.reset() its stream.")));
	else if (!is_string(op, "c") && !is_string(op, "u") && !is_string(op, "r"))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown op \"%s\" of a change", node_text(decoder, op))));
	else if (is_null(change.row) || change.row->type != CS_JSON_OBJECT)
		ereport(ERROR, (errcode(ERRCODE_SQL_JSON_OBJECT_NOT_FOUND), errmsg("a change without \"after\"")));
	return change;
}

static Change
read_change(const CsUpsertDecoder *decoder)
{
	const CsJsonNode *schema;
	const CsJsonNode *body = unwrap(decoder, decoder->document.nodes, &schema);
	const CsJsonNode *op = member(decoder, body, "op");
	const CsJsonNode *deleted = member(decoder, body, "__deleted");
	Change			  change = {CS_UPSERT_PUT, body, schema};

	if (body->type == CS_JSON_NULL)
	{
		change.action = CS_UPSERT_DELETE;
		return change;
	}
	if (body->type != CS_JSON_OBJECT)
		ereport(ERROR, (errcode(ERRCODE_SQL_JSON_OBJECT_NOT_FOUND), errmsg("not a JSON object")));
	if (op && op->type == CS_JSON_STRING && (member(decoder, body, "after") || member(decoder, body, "before")))
		return read_envelope(decoder, body, op, schema);
	if (is_string(op, "m") && member(decoder, body, "message"))
		change.action = CS_UPSERT_NOTHING;
	else if (is_string(deleted, "true") || (deleted && deleted->type == CS_JSON_TRUE) ||
			 is_string(member(decoder, body, "__op"), "d"))
		change.action = CS_UPSERT_DELETE;
	return change;
}

/* Are these the placeholder's bytes, one number each? */
static bool
are_its_numbers(const CsJsonNode *nodes, int n)
{
	if (n != (int) strlen(UNAVAILABLE))
		return false;
	for (int i = 0; i < n; i++)
		if (nodes[i].type != CS_JSON_INTEGER || nodes[i].value.integer != UNAVAILABLE[i])
			return false;
	return true;
}

/*
 * Does the sender not know the value?  It says so by a string, of an array by
 * that as the only element; of arrays of numbers and days by its bytes as
 * elements; of an hstore, which is an object to it, by a member of that name.
 */
static bool
is_unavailable(const CsUpsertDecoder *decoder, int i, const CsJsonNode *node)
{
	const CsJsonNode *value = node;
	Oid				  type = decoder->columns[i].type;

	if (node == NULL)
		return false;
	if (node->type == CS_JSON_OBJECT)
		return is_string(member(decoder, node, UNAVAILABLE), UNAVAILABLE);
	if (node->type == CS_JSON_ARRAY)
	{
		int n = (int) (decoder->document.nodes + node->next - (node + 1)); /* if they are no containers */

		if (n != 1)
			return are_its_numbers(node + 1, n);
		value = node + 1;
		type = decoder->inputs[i].element;
	}
	return is_string(value, UNAVAILABLE) || (type == BYTEAOID && is_string(value, UNAVAILABLE_BASE64)) ||
		   (type == UUIDOID && is_string(value, UNAVAILABLE_UUID));
}

static void
read_column(CsUpsertDecoder *decoder, const Change *change, int i, Datum *value, bool *isnull, bool *keeps)
{
	const CsJsonNode *node = member(decoder, change->row, decoder->columns[i].name);

	*isnull = is_null(node);
	*keeps = is_unavailable(decoder, i, node);
	if (!*isnull && !*keeps)
		*value = node_value(decoder, i, node, change->schema);
}

pg_noreturn static void
refuse_keyless(const CsUpsertDecoder *decoder)
{
	ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("the message has no key: no \"%s\"", decoder->columns[decoder->key].name)));
}

/* The index would refuse it, and that would be no message's fault. */
static void
check_key_length(const CsUpsertDecoder *decoder, Datum key)
{
	Size size = decoder->inputs[decoder->key].is_varlena ? VARSIZE_ANY_EXHDR(DatumGetPointer(key)) : 0;

	if (size > KEY_MAX_BYTES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the key has %zu bytes, more than %d", size, KEY_MAX_BYTES)));
}

static void
parse_payload(CsUpsertDecoder *decoder, const CsMessage *message)
{
	const char *problem = "";

	if (message->payload_len > (size_t) cs_max_message_size)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the message has %zu bytes, more than clickstream.max_message_size (%d bytes)",
							   message->payload_len, cs_max_message_size)));
	if (!parse(decoder, message->payload, message->payload_len, &problem))
		ereport(ERROR, (errcode(ERRCODE_INVALID_JSON_TEXT), errmsg("not JSON: %s", problem)));
}

CsUpsertAction
cs_upsert_decode(CsUpsertDecoder *decoder, const CsMessage *message, Datum *values, bool *isnull, bool *keeps)
{
	int	   key = decoder->key;
	Change change = {CS_UPSERT_DELETE, NULL, NULL};
	bool   has_key = message_key(decoder, message, &values[key]);

	memset(isnull, true, decoder->n * sizeof(bool));
	memset(keeps, false, decoder->n * sizeof(bool));
	if (message->payload)
	{
		parse_payload(decoder, message);
		change = read_change(decoder);
	}
	if (change.action == CS_UPSERT_NOTHING)
		return change.action;
	for (int i = 0; i < decoder->n; i++)
	{
		if (i == key ? !has_key : change.action == CS_UPSERT_PUT)
			read_column(decoder, &change, i, &values[i], &isnull[i], &keeps[i]);
	}
	if (has_key)
		isnull[key] = false;
	if (isnull[key] || keeps[key])
		refuse_keyless(decoder);
	check_key_length(decoder, values[key]);
	return change.action;
}
