/*
 * decode/jsonb.c
 *	  From nodes of the parsed document to jsonb.
 *
 * Making a jsonb costs as much as parsing the whole message, and most events
 * are only asked for one member's text, or for nothing.  So an object that is
 * not large is kept as it was parsed: a copy of its nodes and strings behind a
 * CsLazyJsonb (core/lazy_jsonb.h), which whoever wants a real jsonb makes by
 * detoasting it.  What can go wrong with a jsonb has been checked before, as
 * check_tree() in decode.c does, so making it later is making the same.
 *
 * The copy lives in the memory of the event's columns, and reads numbers from
 * the message's payload, which lives at least as long.
 *
 * No locks.
 */
#include "decode/internal.h"

#include "core/lazy_jsonb.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

/* So many members of an object are sorted before they become jsonb. */
#define SORTED_MEMBERS_MAX 16

/* A larger object becomes jsonb at once. */
#define LAZY_NODES_MAX 64
#define LAZY_BYTES_MAX 8192

static Numeric
number_to_numeric(const CsDecoder *decoder, const CsJsonNode *node)
{
	char text[NUMBER_LENGTH_MAX + 1];

	Assert(node->len <= NUMBER_LENGTH_MAX);
	memcpy(text, decoder->payload + node->raw, node->len);
	text[node->len] = '\0';
	return DatumGetNumeric(
		DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static void
string_to_jsonb(const CsDecoder *decoder, const CsJsonNode *node, JsonbValue *value)
{
	Span span;

	/* check_tree() has seen it: this cannot fail. */
	if (!cs_decode_convert(decoder, node->value.string, node->len, &span))
		elog(ERROR, "could not convert a string to the server encoding");
	value->type = jbvString;
	value->val.string.val = unconstify(char *, span.data);
	value->val.string.len = span.len;
}

static void
scalar_to_jsonb(const CsDecoder *decoder, const CsJsonNode *node, JsonbValue *value)
{
	switch (node->type)
	{
		case CS_JSON_FALSE:
		case CS_JSON_TRUE:
			value->type = jbvBool;
			value->val.boolean = node->type == CS_JSON_TRUE;
			break;
		case CS_JSON_INTEGER:
			value->type = jbvNumeric;
			value->val.numeric = int64_to_numeric(node->value.integer);
			break;
		case CS_JSON_NUMBER:
			value->type = jbvNumeric;
			value->val.numeric = number_to_numeric(decoder, node);
			break;
		case CS_JSON_STRING:
			string_to_jsonb(decoder, node, value);
			break;
		default:
			value->type = jbvNull;
			break;
	}
}

static JsonbValue *container_to_jsonb(const CsDecoder *decoder, const CsJsonNode *self, JsonbParseState **state);

static void
push_value(const CsDecoder *decoder, const CsJsonNode *node, JsonbIteratorToken token, JsonbParseState **state)
{
	JsonbValue value;

	if (node->type == CS_JSON_OBJECT || node->type == CS_JSON_ARRAY)
	{
		(void) container_to_jsonb(decoder, node, state);
		return;
	}
	scalar_to_jsonb(decoder, node, &value);
	(void) pushJsonbValue(state, token, &value);
}

static void
push_member(const CsDecoder *decoder, const CsJsonNode *key, JsonbParseState **state)
{
	JsonbValue value;

	string_to_jsonb(decoder, key, &value);
	(void) pushJsonbValue(state, WJB_KEY, &value);
	push_value(decoder, key + 1, WJB_VALUE, state);
}

/* jsonb's order of keys: shorter ones first. */
static inline bool
key_is_before(const CsJsonNode *a, const CsJsonNode *b)
{
	if (a->len != b->len)
		return a->len < b->len;
	return memcmp(a->value.string, b->value.string, a->len) < 0;
}

/*
 * The first members go in sorted: jsonb sorts them itself, but its sort of
 * large elements costs a third of the whole unless they come in order.  Equal
 * keys stay in order, so that the last still wins.
 */
static void
push_members(const CsDecoder *decoder, const CsJsonNode *self, JsonbParseState **state)
{
	const CsJsonNode *nodes = decoder->document.nodes;
	const CsJsonNode *end = nodes + self->next;
	const CsJsonNode *key = self + 1;
	const CsJsonNode *sorted[SORTED_MEMBERS_MAX];
	int				  count = 0;

	for (; key < end && count < SORTED_MEMBERS_MAX; key = nodes + key[1].next)
	{
		int i = count++;

		for (; i > 0 && key_is_before(key, sorted[i - 1]); i--)
			sorted[i] = sorted[i - 1];
		sorted[i] = key;
	}
	for (int i = 0; i < count; i++)
		push_member(decoder, sorted[i], state);
	for (; key < end; key = nodes + key[1].next)
		push_member(decoder, key, state);
}

/* Recursion is bounded by the document's depth. */
static JsonbValue *
container_to_jsonb(const CsDecoder *decoder, const CsJsonNode *self, JsonbParseState **state)
{
	const CsJsonNode *nodes = decoder->document.nodes;

	if (self->type == CS_JSON_OBJECT)
	{
		(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
		push_members(decoder, self, state);
		return pushJsonbValue(state, WJB_END_OBJECT, NULL);
	}
	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	for (const CsJsonNode *member = self + 1; member < nodes + self->next; member = nodes + member->next)
		push_value(decoder, member, WJB_ELEM, state);
	return pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

/* What is made on the way stays in the scratch context: it is many times the result. */
static Jsonb *
node_to_jsonb(const CsDecoder *decoder, const CsJsonNode *node, MemoryContext result_context)
{
	MemoryContext	 old = CurrentMemoryContext;
	JsonbParseState *state = NULL;
	JsonbValue		 scalar;
	JsonbValue		*value = &scalar;
	Jsonb			*jsonb;
	Jsonb			*result;

	MemoryContextReset(decoder->scratch);
	MemoryContextSwitchTo(decoder->scratch);
	if (node->type == CS_JSON_OBJECT || node->type == CS_JSON_ARRAY)
		value = container_to_jsonb(decoder, node, &state);
	else
		scalar_to_jsonb(decoder, node, value);
	jsonb = JsonbValueToJsonb(value);
	MemoryContextSwitchTo(result_context);
	result = palloc(VARSIZE(jsonb));
	memcpy(result, jsonb, VARSIZE(jsonb));
	MemoryContextSwitchTo(old);
	return result;
}

/* ---- later ---- */

typedef struct LazyObject
{
	CsLazyJsonb		  lazy;
	const CsDecoder	 *decoder;
	const char		 *payload;
	uint32			  first; /* what nodes[0] was in its document: the nodes count from there */
	const CsJsonNode *nodes;
} LazyObject;

static Jsonb *
make_of(const LazyObject *object, const CsJsonNode *nodes, MemoryContext context)
{
	CsDecoder view = *object->decoder;

	view.payload = object->payload;
	view.document.nodes = nodes - object->first;
	return node_to_jsonb(&view, nodes, context);
}

static Jsonb *
lazy_make(CsLazyJsonb *lazy, MemoryContext context)
{
	const LazyObject *object = (const LazyObject *) lazy;

	return make_of(object, object->nodes, context);
}

/* Where a node's string lies.  base: 0, or what places of strings count from (PackedObject). */
static inline const char *
string_at(uintptr_t base, const CsJsonNode *node)
{
	return (const char *) (base + (uintptr_t) node->value.string);
}

/* Of several members with one name the last wins, as in jsonb. */
static inline CsLazyFound
member_of(const LazyObject *object, uintptr_t base, const char *key, uint32 key_len, const char **text, uint32 *len)
{
	uint32			  end = object->nodes[0].next - object->first;
	const CsJsonNode *found = NULL;

	for (uint32 i = 1; i < end; i = object->nodes[i + 1].next - object->first)
	{
		const CsJsonNode *node = &object->nodes[i];

		if (node->len == key_len && memcmp(string_at(base, node), key, key_len) == 0)
			found = node + 1;
	}
	if (found == NULL || found->type == CS_JSON_NULL)
		return CS_LAZY_NULL;
	if (found->type != CS_JSON_STRING)
		return CS_LAZY_OTHER;
	*text = string_at(base, found);
	*len = found->len;
	return CS_LAZY_TEXT;
}

static CsLazyFound
lazy_member(const CsLazyJsonb *lazy, const char *key, uint32 key_len, const char **text, uint32 *len)
{
	return member_of((const LazyObject *) lazy, 0, key, key_len, text, len);
}

/* Where the strings of an object lie; the parser writes them one behind the other. */
static Size
string_bytes(const CsJsonNode *nodes, uint32 n, const char **begin)
{
	const char *end = NULL;

	*begin = NULL;
	for (uint32 i = 0; i < n; i++)
	{
		const char *s = nodes[i].value.string;

		if (nodes[i].type != CS_JSON_STRING)
			continue;
		*begin = *begin && *begin < s ? *begin : s;
		end = end > s + nodes[i].len ? end : s + nodes[i].len;
	}
	return (Size) (end - *begin);
}

/* One allocation: the object, its nodes, its strings. */
static Datum
make_lazy(const CsDecoder *decoder, const CsJsonNode *node, uint32 n, const char *strings, Size size)
{
	LazyObject *object = palloc(sizeof(LazyObject) + n * sizeof(CsJsonNode) + size);
	CsJsonNode *nodes = (CsJsonNode *) (object + 1);
	char	   *copy = (char *) (nodes + n);

	memcpy(nodes, node, n * sizeof(CsJsonNode));
	memcpy(copy, strings, size);
	for (uint32 i = 0; i < n; i++)
	{
		if (nodes[i].type == CS_JSON_STRING)
			nodes[i].value.string = copy + (nodes[i].value.string - strings);
	}
	object->nodes = nodes;
	object->decoder = decoder;
	object->payload = decoder->payload;
	object->first = (uint32) (node - decoder->document.nodes);
	return cs_lazy_jsonb_init(&object->lazy, lazy_make, lazy_member);
}

Datum
cs_decode_jsonb(CsDecoder *decoder, const CsJsonNode *node)
{
	uint32		n = node->next - (uint32) (node - decoder->document.nodes);
	const char *strings;
	Size		size;

	if (node->type == CS_JSON_OBJECT && n > 1 && n <= LAZY_NODES_MAX && !decoder->converts)
	{
		size = string_bytes(node, n, &strings);
		if (size <= LAZY_BYTES_MAX)
			return make_lazy(decoder, node, n, strings, size);
	}
	return JsonbPGetDatum(node_to_jsonb(decoder, node, CurrentMemoryContext));
}

/* ---- as bytes without pointers, for another process ---- */

/* Nodes and strings follow; the nodes' places of strings count from the first of them. */
typedef struct PackedObject
{
	uint32 first;
	uint32 n;
	uint32 string_bytes;
	uint32 payload_at; /* where in the message the nodes' places of numbers count from: behind a mark or frame */
} PackedObject;

static const LazyObject *
packable(Datum value)
{
	const CsLazyJsonb *lazy = cs_lazy_jsonb_of(value);

	return lazy != NULL && lazy->make == lazy_make ? (const LazyObject *) lazy : NULL;
}

static uint32
node_count(const LazyObject *object)
{
	return object->nodes[0].next - object->first;
}

Size
cs_decode_packed_size(Datum value)
{
	const LazyObject *object = packable(value);
	const char		 *strings;
	uint32			  n;

	if (object == NULL)
		return 0;
	n = node_count(object);
	return sizeof(PackedObject) + n * sizeof(CsJsonNode) + string_bytes(object->nodes, n, &strings);
}

void
cs_decode_pack(Datum value, const char *payload, char *target)
{
	const LazyObject *object = packable(value);
	PackedObject	 *packed = (PackedObject *) target;
	CsJsonNode		 *nodes = (CsJsonNode *) (packed + 1);
	const char		 *strings;

	packed->first = object->first;
	packed->n = node_count(object);
	packed->string_bytes = (uint32) string_bytes(object->nodes, packed->n, &strings);
	packed->payload_at = (uint32) (object->payload - payload);
	memcpy(nodes, object->nodes, packed->n * sizeof(CsJsonNode));
	for (uint32 i = 0; i < packed->n; i++)
	{
		if (nodes[i].type == CS_JSON_STRING)
			nodes[i].value.string = (const char *) (uintptr_t) (nodes[i].value.string - strings);
	}
	memcpy(nodes + packed->n, strings, packed->string_bytes);
}

static uintptr_t
base_of(const LazyObject *object)
{
	return (uintptr_t) (object->nodes + node_count(object));
}

static Jsonb *
unpacked_make(CsLazyJsonb *lazy, MemoryContext context)
{
	const LazyObject *object = (const LazyObject *) lazy;
	uint32			  n = node_count(object);
	CsJsonNode		 *nodes = palloc(n * sizeof(CsJsonNode));
	Jsonb			 *made;

	memcpy(nodes, object->nodes, n * sizeof(CsJsonNode));
	for (uint32 i = 0; i < n; i++)
	{
		if (nodes[i].type == CS_JSON_STRING)
			nodes[i].value.string = string_at(base_of(object), &nodes[i]);
	}
	made = make_of(object, nodes, context);
	pfree(nodes);
	return made;
}

static CsLazyFound
unpacked_member(const CsLazyJsonb *lazy, const char *key, uint32 key_len, const char **text, uint32 *len)
{
	const LazyObject *object = (const LazyObject *) lazy;

	return member_of(object, base_of(object), key, key_len, text, len);
}

Datum
cs_decode_unpack(const CsDecoder *decoder, const char *source, const char *payload)
{
	const PackedObject *packed = (const PackedObject *) source;
	LazyObject		   *object = palloc(sizeof(LazyObject));

	object->decoder = decoder;
	object->payload = payload + packed->payload_at;
	object->first = packed->first;
	object->nodes = (const CsJsonNode *) (packed + 1);
	return cs_lazy_jsonb_init(&object->lazy, unpacked_make, unpacked_member);
}
