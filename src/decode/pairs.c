/*
 * decode/pairs.c
 *	  Arrays of pairs, {"key": name, "value": what}, which are maps in all but
 *	  their writing.
 *
 * GA4's event_params is one.  Its values say their type by name, as in
 * {"string_value": "/home", "int_value": null}: of an object all of whose
 * names end so, the first member that is not null is the value.
 *
 * Elements that are no pairs belong to nothing, as unknown fields do.  Of
 * several pairs with one key the last wins, as in jsonb.  No locks.
 */
#include "decode/internal.h"
#include "utils/memutils.h"

#define NO_NODE PG_UINT32_MAX

static bool
is_named(const CsJsonNode *key, const char *name)
{
	return key->len == strlen(name) && memcmp(key->value.string, name, key->len) == 0;
}

static bool
says_its_type(const CsJsonNode *key)
{
	const char *end = key->value.string + key->len;

	return (key->len > 6 && memcmp(end - 6, "_value", 6) == 0) || (key->len > 5 && memcmp(end - 5, "Value", 5) == 0);
}

/* The value itself, or what an object of typed values holds. */
static uint32
pair_value(const CsJsonNode *nodes, uint32 at)
{
	uint32 found = NO_NODE;

	if (nodes[at].type != CS_JSON_OBJECT || nodes[at].next == at + 1)
		return at;
	for (uint32 key = at + 1; key < nodes[at].next; key = nodes[key + 1].next)
	{
		if (!says_its_type(&nodes[key]))
			return at;
		if (found == NO_NODE || nodes[found].type == CS_JSON_NULL)
			found = key + 1;
	}
	return found;
}

/* Is it a pair?  Then these are its key and value. */
static bool
read_pair(const CsJsonNode *nodes, uint32 at, uint32 *key, uint32 *value)
{
	*key = *value = NO_NODE;
	if (nodes[at].type != CS_JSON_OBJECT)
		return false;
	for (uint32 name = at + 1; name < nodes[at].next; name = nodes[name + 1].next)
	{
		if (is_named(&nodes[name], "key"))
			*key = name + 1;
		else if (is_named(&nodes[name], "value"))
			*value = name + 1;
	}
	if (*key == NO_NODE || *value == NO_NODE || nodes[*key].type != CS_JSON_STRING)
		return false;
	*value = pair_value(nodes, *value);
	return true;
}

void
cs_pairs_find(CsDecoder *decoder, uint32 at, const CsPointer *keys)
{
	const CsJsonNode *nodes = decoder->document.nodes;
	uint32			  key;
	uint32			  value;

	for (uint32 element = at + 1; element < nodes[at].next; element = nodes[element].next)
	{
		int child;

		if (!read_pair(nodes, element, &key, &value))
			continue;
		child = cs_pointer_child(decoder->mapping, keys, nodes[key].value.string, nodes[key].len);
		if (child >= 0)
			decoder->found[child] = value;
	}
}

/* Copy a node and what is below it behind the others; how many there are then. */
static uint32
copy_tree(CsJsonNode *out, uint32 count, const CsJsonNode *nodes, uint32 at)
{
	for (uint32 i = at; i < nodes[at].next; i++)
	{
		out[count + i - at] = nodes[i];
		out[count + i - at].next = nodes[i].next - at + count;
	}
	return count + nodes[at].next - at;
}

Datum
cs_pairs_jsonb(CsDecoder *decoder, const CsJsonNode *array)
{
	CsJsonDocument	  document = decoder->document;
	const CsJsonNode *nodes = document.nodes;
	uint32			  at = (uint32) (array - nodes);
	CsJsonNode		 *out = MemoryContextAllocHuge(CurrentMemoryContext, (array->next - at) * sizeof(CsJsonNode));
	uint32			  count = 1;
	uint32			  key;
	uint32			  value;
	Datum			  result;

	out[0] = *array;
	out[0].type = CS_JSON_OBJECT;
	for (uint32 element = at + 1; element < array->next; element = nodes[element].next)
	{
		if (!read_pair(nodes, element, &key, &value))
			continue;
		count = copy_tree(out, count, nodes, key);
		count = copy_tree(out, count, nodes, value);
	}
	out[0].next = count;
	decoder->document.nodes = out;
	decoder->document.nnodes = count;
	result = cs_decode_jsonb(decoder, out);
	decoder->document = document;
	pfree(out); /* of a chunk's every message it would be too much; the result holds none of it */
	return result;
}
