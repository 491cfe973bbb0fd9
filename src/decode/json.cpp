/*
 * decode/json.cpp
 *	  simdjson's DOM parser behind a C interface.
 *
 * Design: the parser, its tape and a padded copy of the payload are kept from
 * message to message.  After a parse the DOM is walked once, into the flat
 * nodes of json.h; the walk goes in step with the parser's list of structural
 * positions, which is where the text of a number comes from (the tape has
 * only its rounded value).
 *
 * simdjson refuses a document because of one number that fits no double and
 * no 64-bit integer.  Such documents are rare and valid: the number is
 * overwritten in the copy by a small one of the same length and the document
 * parsed again; its true text is read from the payload like any other.
 *
 * No exception is thrown or passes through here: compiled without them,
 * memory comes from malloc and new (std::nothrow).  Nothing of PostgreSQL is
 * called, so that no longjmp can pass through either.
 */
#include "decode/json.h"

#include <cstdlib>
#include <cstring>
#include <new>

/* Whatever flags this is compiled with: only the calls that return error codes exist. */
#undef SIMDJSON_EXCEPTIONS
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

namespace
{
namespace dom = simdjson::dom;

/* Bytes of payload a parser is made for; grows by doubling. */
constexpr size_t CAPACITY_MIN = 16 * 1024;
/* What grew beyond this for one message is given back after it. */
constexpr size_t CAPACITY_KEEP = 1024 * 1024;
/* Positions are 32 bits. */
constexpr size_t CAPACITY_MAX = 1024 * 1024 * 1024;
/* A number token longer than this is looked at closely. */
constexpr uint32_t NUMBER_USUAL = 40;
} // namespace

struct CsJsonParser
{
	dom::parser dom;
	size_t		max_depth;
	size_t		capacity;
	char	   *copy; /* capacity + SIMDJSON_PADDING bytes */
	CsJsonNode *nodes;
	size_t		nodes_size;
};

namespace
{

/* The state of one walk over a parsed document. */
struct Walk
{
	CsJsonNode	   *nodes;
	uint32_t		count;
	const uint32_t *positions; /* of the structural characters and scalars */
	uint32_t		npositions;
	uint32_t		position;
	const char	   *text;
	bool			odd;
	bool			broken; /* out of step: cannot happen with the simdjson we know */
};

void
set_capacity(CsJsonParser *parser, size_t capacity, simdjson::error_code &error)
{
	free(parser->copy);
	parser->capacity = 0;
	parser->copy = static_cast<char *>(malloc(capacity + simdjson::SIMDJSON_PADDING));
	if (parser->copy == nullptr)
	{
		error = simdjson::MEMALLOC;
		return;
	}
	memset(parser->copy, ' ', capacity + simdjson::SIMDJSON_PADDING);
	error = parser->dom.allocate(capacity, parser->max_depth);
	if (!error)
		error = parser->dom.doc.allocate(capacity);
	if (!error)
		parser->capacity = capacity;
}

/* Make room for len bytes; give back what an outsized message took. */
bool
reserve(CsJsonParser *parser, size_t len)
{
	simdjson::error_code error = simdjson::SUCCESS;
	size_t				 wanted = CAPACITY_MIN;

	while (wanted < len)
		wanted *= 2;
	if (wanted > parser->capacity || (parser->capacity > CAPACITY_KEEP && wanted <= CAPACITY_KEEP))
	{
		if (wanted < parser->capacity)
		{
			free(parser->nodes);
			parser->nodes = nullptr;
			parser->nodes_size = 0;
		}
		set_capacity(parser, wanted, error);
	}
	return !error;
}

bool
reserve_nodes(CsJsonParser *parser, size_t count)
{
	size_t size = parser->nodes_size ? parser->nodes_size : 256;

	if (count <= parser->nodes_size)
		return true;
	while (size < count)
		size *= 2;
	free(parser->nodes);
	parser->nodes = static_cast<CsJsonNode *>(malloc(size * sizeof(CsJsonNode)));
	parser->nodes_size = parser->nodes ? size : 0;
	return parser->nodes != nullptr;
}

inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The end of the number that begins at p, or NULL if it is not JSON's grammar. */
const char *
number_end(const char *p, const char *end)
{
	auto digits = [&p, end]()
	{
		const char *first = p;

		while (p < end && is_digit(*p))
			p++;
		return p > first;
	};

	if (p < end && *p == '-')
		p++;
	if (p < end && *p == '0')
		p++;
	else if (!digits())
		return nullptr;
	if (p < end && *p == '.')
	{
		p++;
		if (!digits())
			return nullptr;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if (!digits())
			return nullptr;
	}
	/* What follows decides whether the digits ended where they should, as in 01 and 1x. */
	if (p < end && strchr(" \t\r\n,]}:", *p) == nullptr)
		return nullptr;
	return p;
}

/* Behind the closing quote of the string whose opening quote is at p. */
const char *
string_end(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
	{
		if (*p == '\\')
			p++;
	}
	return p < end ? p + 1 : end;
}

/*
 * Overwrite the numbers that a 64-bit integer or a double may not hold by
 * zeroes of the same length.  False if a number breaks the grammar.
 */
bool
tame_numbers(char *text, size_t len)
{
	char *p = text;
	char *end = text + len;

	while (p < end)
	{
		if (*p == '"')
			p = const_cast<char *>(string_end(p, end));
		else if (*p == '-' || is_digit(*p))
		{
			char *stop = const_cast<char *>(number_end(p, end));

			if (stop == nullptr)
				return false;
			if (*p == '-')
				p++;
			if (stop - p > 18 || memchr(p, 'e', stop - p) || memchr(p, 'E', stop - p))
			{
				memset(p, '0', stop - p);
				p[1] = '.';
			}
			p = stop;
		}
		else
			p++;
	}
	return true;
}

/* Is every backslash followed by what the grammar allows?  Then it was a surrogate. */
bool
escapes_are_wellformed(const char *text, size_t len)
{
	const char *p = text;
	const char *end = text + len;

	while ((p = static_cast<const char *>(memchr(p, '\\', end - p))) != nullptr)
	{
		if (++p >= end || strchr("\"\\/bfnrtu", *p) == nullptr || *p == '\0')
			return false;
		if (*p++ != 'u')
			continue;
		for (int i = 0; i < 4; i++, p++)
		{
			if (p >= end || *p == '\0' || strchr("0123456789abcdefABCDEF", *p) == nullptr)
				return false;
		}
	}
	return true;
}

/* May the text hold \u0000 or a surrogate?  May err on the side of yes. */
bool
has_odd_escape(const char *text, size_t len)
{
	const char *p = text;
	const char *end = text + len;

	while ((p = static_cast<const char *>(memchr(p, '\\', end - p))) != nullptr)
	{
		if (end - p < 6)
			return false;
		if (p[1] == 'u' && ((p[2] == '0' && p[3] == '0' && p[4] == '0' && p[5] == '0') || p[2] == 'd' || p[2] == 'D'))
			return true;
		p += p[1] == 'u' ? 6 : 2;
	}
	return false;
}

inline uint32_t
next_position(Walk &walk)
{
	if (walk.position >= walk.npositions)
	{
		walk.broken = true;
		return 0;
	}
	return walk.positions[walk.position++];
}

inline CsJsonNode &
add_node(Walk &walk, CsJsonType type)
{
	CsJsonNode &node = walk.nodes[walk.count++];

	node.type = type;
	node.next = walk.count;
	node.raw = next_position(walk);
	return node;
}

inline void
add_string(Walk &walk, std::string_view string)
{
	CsJsonNode &node = add_node(walk, CS_JSON_STRING);

	node.len = static_cast<uint32_t>(string.size());
	node.value.string = string.data();
}

/* Length of a number's text.  The copy is padded with blanks: no bounds needed. */
inline void
add_number(Walk &walk, CsJsonType type, int64_t integer)
{
	CsJsonNode &node = add_node(walk, type);
	const char *first = walk.text + node.raw;
	const char *p = first;

	if (*p != '-' && !is_digit(*p))
		walk.broken = true;
	while (is_digit(*p) || *p == '-' || *p == '+' || *p == '.' || *p == 'e' || *p == 'E')
		p++;
	node.len = static_cast<uint32_t>(p - first);
	node.value.integer = integer;
}

inline void
add_real(Walk &walk, double value)
{
	add_number(walk, CS_JSON_NUMBER, 0);
	if (walk.nodes[walk.count - 1].len > NUMBER_USUAL || value == 0 || (value > -1e-100 && value < 1e-100) ||
		value > 1e100 || value < -1e100)
		walk.odd = true;
}

inline void
add_word(Walk &walk, CsJsonType type, uint32_t len)
{
	add_node(walk, type).len = len;
}

void add_element(Walk &walk, dom::element element);

/* The index of the container is kept: nodes move on while its members are added. */
inline void
end_container(Walk &walk, uint32_t self, bool empty, char opening)
{
	CsJsonNode &node = walk.nodes[self];
	uint32_t	closing;

	/* After the last member the comma's place is taken by the closing bracket. */
	closing = empty ? next_position(walk) : walk.positions[walk.position - 1];
	if (walk.text[node.raw] != opening)
		walk.broken = true;
	node.next = walk.count;
	node.len = closing + 1 - node.raw;
}

void
add_object(Walk &walk, dom::object object)
{
	uint32_t self = walk.count;
	bool	 empty = true;

	add_node(walk, CS_JSON_OBJECT);
	for (dom::key_value_pair field : object)
	{
		empty = false;
		add_string(walk, field.key);
		next_position(walk); /* colon */
		add_element(walk, field.value);
		next_position(walk); /* comma or brace */
		if (walk.broken)
			return;
	}
	end_container(walk, self, empty, '{');
}

void
add_array(Walk &walk, dom::array array)
{
	uint32_t self = walk.count;
	bool	 empty = true;

	add_node(walk, CS_JSON_ARRAY);
	for (dom::element member : array)
	{
		empty = false;
		add_element(walk, member);
		next_position(walk); /* comma or bracket */
		if (walk.broken)
			return;
	}
	end_container(walk, self, empty, '[');
}

/* Recursion is bounded by the parser's depth limit. */
void
add_element(Walk &walk, dom::element element)
{
	switch (element.type())
	{
		case dom::element_type::OBJECT:
			add_object(walk, element.get_object().value_unsafe());
			break;
		case dom::element_type::ARRAY:
			add_array(walk, element.get_array().value_unsafe());
			break;
		case dom::element_type::STRING:
			add_string(walk, element.get_string().value_unsafe());
			break;
		case dom::element_type::INT64:
			add_number(walk, CS_JSON_INTEGER, element.get_int64().value_unsafe());
			break;
		case dom::element_type::DOUBLE:
			add_real(walk, element.get_double().value_unsafe());
			break;
		case dom::element_type::BOOL:
			if (element.get_bool().value_unsafe())
				add_word(walk, CS_JSON_TRUE, 4);
			else
				add_word(walk, CS_JSON_FALSE, 5);
			break;
		case dom::element_type::NULL_VALUE:
			add_word(walk, CS_JSON_NULL, 4);
			break;
		default:
			/* UINT64, and what newer versions have for longer integers */
			add_number(walk, CS_JSON_NUMBER, 0);
			break;
	}
}

CsJsonResult
classify(simdjson::error_code error, const char *payload, size_t len, const char **message)
{
	switch (error)
	{
		case simdjson::MEMALLOC:
			*message = "out of memory";
			return CS_JSON_NO_MEMORY;
		case simdjson::CAPACITY:
			*message = "The document is too long.";
			return CS_JSON_LENGTH;
		case simdjson::DEPTH_ERROR:
			*message = "Objects and arrays are nested too deeply.";
			return CS_JSON_DEPTH;
		case simdjson::UTF8_ERROR:
			*message = "The document is not valid UTF-8.";
			return CS_JSON_ENCODING;
		case simdjson::STRING_ERROR:
			if (escapes_are_wellformed(payload, len))
			{
				*message = "A string has half of a surrogate pair.";
				return CS_JSON_ENCODING;
			}
			*message = "A string has an escape that JSON does not know.";
			break;
		case simdjson::EMPTY:
			*message = "The document is empty.";
			break;
		case simdjson::UNESCAPED_CHARS:
			*message = "A string has an unescaped control character.";
			break;
		case simdjson::UNCLOSED_STRING:
			*message = "A string is not closed.";
			break;
		case simdjson::NUMBER_ERROR:
			*message = "A number breaks JSON's grammar.";
			break;
		case simdjson::T_ATOM_ERROR:
		case simdjson::F_ATOM_ERROR:
		case simdjson::N_ATOM_ERROR:
			*message = "A word is not true, false or null.";
			break;
		default:
			*message = "The structure is broken.";
			break;
	}
	return CS_JSON_SYNTAX;
}

} // namespace

extern "C" CsJsonParser *
cs_json_parser_create(size_t max_depth)
{
	CsJsonParser *parser = new (std::nothrow) CsJsonParser();

	/* simdjson counts the root's level from one and refuses at the limit itself. */
	if (parser != nullptr)
		parser->max_depth = max_depth + 1;
	return parser;
}

extern "C" void
cs_json_parser_free(CsJsonParser *parser)
{
	if (parser == nullptr)
		return;
	free(parser->copy);
	free(parser->nodes);
	delete parser;
}

extern "C" CsJsonResult
cs_json_parse(CsJsonParser *parser, const char *payload, size_t len, CsJsonDocument *document, const char **message)
{
	dom::element		 root;
	simdjson::error_code error;
	Walk				 walk = {};

	if (len > CAPACITY_MAX)
		return classify(simdjson::CAPACITY, payload, len, message);
	if (!reserve(parser, len))
		return classify(simdjson::MEMALLOC, payload, len, message);
	memcpy(parser->copy, payload, len);
	memset(parser->copy + len, ' ', simdjson::SIMDJSON_PADDING);

	error = parser->dom.parse(parser->copy, len, false).get(root);
	/* Which error it is depends on simdjson's version; another one comes again. */
	if (error && tame_numbers(parser->copy, len))
	{
		walk.odd = true;
		error = parser->dom.parse(parser->copy, len, false).get(root);
	}
	if (error)
		return classify(error, payload, len, message);

	walk.positions = parser->dom.implementation->structural_indexes.get();
	walk.npositions = parser->dom.implementation->n_structural_indexes;
	/* One node takes at least one position; the rest is for a walk that finds itself out of step. */
	if (!reserve_nodes(parser, walk.npositions + 4 * parser->max_depth))
		return classify(simdjson::MEMALLOC, payload, len, message);
	walk.nodes = parser->nodes;
	walk.text = parser->copy;
	add_element(walk, root);
	if (walk.broken)
		return classify(simdjson::UNEXPECTED_ERROR, payload, len, message);

	document->nodes = walk.nodes;
	document->nnodes = walk.count;
	document->odd = walk.odd || has_odd_escape(payload, len);
	return CS_JSON_OK;
}
