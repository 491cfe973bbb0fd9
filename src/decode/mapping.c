/*
 * decode/mapping.c
 *	  From a preset and a user's mapping to the compiled tree of pointers.
 *
 * A column is found at the top level under its own name, unless a preset
 * (preset.c) or the user's mapping, which is laid over the preset column by
 * column, has it elsewhere:
 *
 *	  {"page_url": "/context/page/url", "user_id": ["/userId", "/traits/id"],
 *	   "event_type": {"pointer": "/type", "words": {"page": "page_view"}},
 *	   "page_title": {"pairs": "/event_params", "key": "page_title"},
 *	   "event_properties": {"pairs": "/event_params"}, "browser": null}
 *
 * Of several paths the first that leads to something other than JSON null
 * counts; null leaves the column empty.  Pointers are RFC 6901's.  words are
 * other names for texts, and texts that count as null.  pairs are an array of
 * {"key": name, "value": what}: one key's value, or all of them as an object.
 *
 * Everything is validated here, when the stream is made, with the errors a
 * user sees.  No locks, no SPI.
 */
#include "decode/mapping.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static const CsPreset *
find_preset(const char *name)
{
	StringInfoData known;

	initStringInfo(&known);
	for (int i = 0; i < cs_preset_count(); i++)
	{
		if (name == NULL || strcmp(cs_preset(i)->name, name) == 0)
			return cs_preset(i);
		appendStringInfo(&known, "%s\"%s\"", i > 0 ? ", " : "", cs_preset(i)->name);
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("preset \"%s\" does not exist", name),
					errhint("Known presets: %s.  Other messages can be described by \"mapping\".", known.data)));
	return NULL;
}

static int
add_node(CsMapping *mapping, const char *name, uint32 len)
{
	CsPointer *node;

	if (mapping->nnodes == mapping->nodes_size)
	{
		mapping->nodes_size = Max(32, mapping->nodes_size * 2);
		if (mapping->nodes == NULL)
			mapping->nodes = palloc(mapping->nodes_size * sizeof(CsPointer));
		else
			mapping->nodes = repalloc(mapping->nodes, mapping->nodes_size * sizeof(CsPointer));
	}
	node = &mapping->nodes[mapping->nnodes];
	memset(node, 0, sizeof(CsPointer));
	node->name = name;
	node->len = len;
	node->index = -1;
	/* An array index has no leading zero and no sign; nine digits are more than any message holds. */
	if (len >= 1 && len <= 9 && strspn(name, "0123456789") == len && (len == 1 || name[0] != '0'))
		node->index = atoi(name);
	return mapping->nnodes++;
}

/* The child of that name, made if there is none.  name is kept. */
static int
add_child(CsMapping *mapping, int parent, const char *name, uint32 len)
{
	CsPointer *node = &mapping->nodes[parent];
	int		   child;

	for (int i = 0; i < node->nchildren; i++)
	{
		CsPointer *other = &mapping->nodes[node->children[i]];

		if (other->len == len && memcmp(other->name, name, len) == 0)
			return node->children[i];
	}
	child = add_node(mapping, name, len);
	node = &mapping->nodes[parent]; /* may have moved */
	if (node->children == NULL)
		node->children = palloc(sizeof(int));
	else
		node->children = repalloc(node->children, (node->nchildren + 1) * sizeof(int));
	node->children[node->nchildren++] = child;
	return child;
}

static void
pointer_error(const CsColumn *column, const char *pointer, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid JSON pointer \"%s\" for column \"%s\"", pointer, column->name),
					errdetail_internal("%s", detail),
					errhint("A pointer is a \"/\" before each name, as in \"/context/page/url\"; in a name \"~1\" "
							"stands for \"/\" and \"~0\" for \"~\".")));
}

/* One token of a pointer, unescaped, in UTF-8 as the documents are. */
static char *
unescape_token(const CsColumn *column, const char *pointer, const char *token, size_t len)
{
	char *result = palloc(len + 1);
	char *out = result;

	for (const char *p = token; p < token + len; p++)
	{
		if (*p != '~')
			*out++ = *p;
		else if (p + 1 < token + len && (p[1] == '0' || p[1] == '1'))
			*out++ = *++p == '0' ? '~' : '/';
		else
			pointer_error(column, pointer, "\"~\" is followed by neither \"0\" nor \"1\".");
	}
	*out = '\0';
	return (char *) pg_do_encoding_conversion((unsigned char *) result, out - result, GetDatabaseEncoding(), PG_UTF8);
}

/* The node that a pointer names. */
static int
add_pointer(CsMapping *mapping, CsColumn *column, const char *pointer)
{
	const char *p = pointer;
	int			node = 0;

	if (strlen(pointer) > CS_POINTER_LENGTH_MAX)
		pointer_error(column, pnstrdup(pointer, pg_mbcliplen(pointer, strlen(pointer), 64)), "It is too long.");
	if (*p != '\0' && *p != '/')
		pointer_error(column, pointer, "It does not begin with \"/\".");
	while (*p == '/')
	{
		size_t len = strcspn(++p, "/");
		char  *name = unescape_token(column, pointer, p, len);

		node = add_child(mapping, node, name, strlen(name));
		p += len;
	}
	return node;
}

/* The node of an array of pairs, below which its keys are. */
static int
add_pairs(CsMapping *mapping, int array)
{
	int pairs = mapping->nodes[array].pairs;

	if (pairs == 0)
	{
		pairs = add_node(mapping, "", 0);
		mapping->nodes[array].pairs = pairs;
	}
	return pairs;
}

static void
add_path(CsColumn *column, int node, const CsPathExtra *extra)
{
	if (column->npaths == CS_PATHS_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("too many JSON pointers for column \"%s\"", column->name),
						errhint("A column takes at most %d.", CS_PATHS_MAX)));
	if (column->paths == NULL)
		column->paths = palloc(CS_PATHS_MAX * sizeof(int));
	if (column->extras == NULL && (extra->as_object || extra->nwords > 0))
		column->extras = palloc0(CS_PATHS_MAX * sizeof(CsPathExtra));
	if (column->extras != NULL)
		column->extras[column->npaths] = *extra;
	column->paths[column->npaths++] = node;
}

static CsColumn *
find_column(CsMapping *mapping, const char *name)
{
	StringInfoData known;

	initStringInfo(&known);
	for (int i = 0; i < mapping->ncolumns; i++)
	{
		if (strcmp(mapping->columns[i].name, name) == 0)
			return &mapping->columns[i];
		appendStringInfo(&known, "%s%s", i > 0 ? ", " : "", mapping->columns[i].name);
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("column \"%s\" in mapping does not exist", name),
					errhint("The columns are %s.  Others can be added by \"extra_columns\".", known.data)));
	return NULL;
}

static char *
jsonb_string(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
path_error(const CsColumn *column, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid mapping for column \"%s\"", column->name),
					detail ? errdetail_internal("%s", detail) : 0,
					errhint("Give a JSON pointer as a string, {\"pointer\": pointer, \"words\": {from: to}}, "
							"{\"pairs\": pointer, \"key\": name}, an array of these, or null.")));
}

/* In UTF-8, as the documents are. */
static char *
to_utf8(const char *s)
{
	return pg_server_to_any(s, strlen(s), PG_UTF8);
}

/* {"from": "to", "nothing": null} */
static void
read_words(CsMapping *mapping, CsColumn *column, JsonbContainer *json, CsPathExtra *extra)
{
	JsonbIterator	  *it = JsonbIteratorInit(json);
	JsonbIteratorToken token;
	JsonbValue		   value;
	CsWord			  *word = NULL;

	if (column->kind != CS_COLUMN_TEXT)
		path_error(column, "\"words\" are for columns of type text.");
	if (JsonContainerSize(json) > CS_WORDS_MAX)
		path_error(column, psprintf("A path takes at most %d words.", CS_WORDS_MAX));
	extra->words = palloc0(Max(JsonContainerSize(json), 1) * sizeof(CsWord));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			word = &extra->words[extra->nwords++];
			word->from = to_utf8(jsonb_string(&value));
			word->from_len = strlen(word->from);
		}
		else if (token == WJB_VALUE && value.type == jbvString)
		{
			word->to = jsonb_string(&value);
			word->to_len = strlen(word->to);
		}
		else if (token == WJB_VALUE && value.type != jbvNull)
			path_error(column, "A word becomes a string, or null.");
	}
	mapping->has_words |= extra->nwords > 0;
}

/* The members of {"pointer": …} or {"pairs": …}; the strings are NULL where there is none. */
typedef struct PathParts
{
	char	   *pointer;
	char	   *pairs;
	char	   *key;
	CsPathExtra extra;
} PathParts;

static void
read_part(CsMapping *mapping, CsColumn *column, const char *name, JsonbValue *value, PathParts *parts)
{
	if (strcmp(name, "words") == 0 && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		read_words(mapping, column, value->val.binary.data, &parts->extra);
	else if (value->type != jbvString)
		path_error(column, psprintf("\"%s\" is not what it must be.", name));
	else if (strcmp(name, "pointer") == 0)
		parts->pointer = jsonb_string(value);
	else if (strcmp(name, "pairs") == 0)
		parts->pairs = jsonb_string(value);
	else if (strcmp(name, "key") == 0)
		parts->key = jsonb_string(value);
	else
		path_error(column, psprintf("A path has no \"%s\".", name));
}

static void
add_object_path(CsMapping *mapping, CsColumn *column, JsonbContainer *json)
{
	JsonbIterator	  *it = JsonbIteratorInit(json);
	JsonbIteratorToken token;
	JsonbValue		   value;
	char			  *name = NULL;
	PathParts		   parts = {0};
	int				   node;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = jsonb_string(&value);
		else if (token == WJB_VALUE)
			read_part(mapping, column, name, &value, &parts);
	}
	if ((parts.pointer == NULL) == (parts.pairs == NULL))
		path_error(column, "A path has either a \"pointer\" or \"pairs\".");
	if (parts.key != NULL && parts.pairs == NULL)
		path_error(column, "A \"key\" is one of \"pairs\".");
	parts.extra.as_object = parts.pairs != NULL && parts.key == NULL;
	if (parts.extra.as_object && column->kind != CS_COLUMN_JSONB)
		path_error(column, "\"pairs\" without a \"key\" are for columns of type jsonb.");
	node = add_pointer(mapping, column, parts.pairs ? parts.pairs : parts.pointer);
	if (parts.key != NULL)
	{
		char *key = to_utf8(parts.key);

		node = add_child(mapping, add_pairs(mapping, node), key, strlen(key));
	}
	add_path(column, node, &parts.extra);
}

/* One path: a pointer, or an object. */
static void
map_path(CsMapping *mapping, CsColumn *column, JsonbValue *value)
{
	static const CsPathExtra none = {0};

	if (value->type == jbvString)
		add_path(column, add_pointer(mapping, column, jsonb_string(value)), &none);
	else if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data))
		add_object_path(mapping, column, value->val.binary.data);
	else
		path_error(column, NULL);
}

/* {"column": here} */
static void
map_column(CsMapping *mapping, CsColumn *column, JsonbValue *value)
{
	JsonbContainer *array = NULL;

	column->npaths = 0;
	column->extras = NULL;
	if (value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data))
		array = value->val.binary.data;
	if (array != NULL && JsonContainerSize(array) == 0)
		path_error(column, "The array is empty.");
	for (uint32 i = 0; array != NULL && i < JsonContainerSize(array); i++)
		map_path(mapping, column, getIthJsonbValueFromContainer(array, i));
	if (array == NULL && value->type != jbvNull)
		map_path(mapping, column, value);
	if (column->npaths == 0 && column->kind == CS_COLUMN_EVENT_TIME)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("column \"event_time\" must be mapped"),
						errdetail("An event without a time cannot be processed.")));
}

static void
apply_mapping(CsMapping *mapping, Jsonb *json)
{
	JsonbIterator	  *it;
	JsonbIteratorToken token;
	JsonbValue		   value;
	CsColumn		  *column = NULL;

	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("mapping must be a JSON object"),
						errhint("Write it as in {\"page_url\": \"/context/page/url\"}.")));
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			column = find_column(mapping, jsonb_string(&value));
		else if (token == WJB_VALUE)
			map_column(mapping, column, &value);
	}
}

/* At the top level under its own name. */
static void
map_by_name(CsMapping *mapping, CsColumn *column)
{
	static const CsPathExtra none = {0};
	char					*name = to_utf8(column->name);

	add_path(column, add_child(mapping, 0, name, strlen(name)), &none);
}

static void
init_column(CsColumn *column, Form_pg_attribute attribute, const bool *needed)
{
	Oid input;

	column->name = pstrdup(NameStr(attribute->attname));
	column->attindex = attribute->attnum - 1;
	column->typmod = attribute->atttypmod;
	column->needed = needed == NULL || needed[column->attindex];
	switch (attribute->atttypid)
	{
		case TEXTOID:
			column->kind = CS_COLUMN_TEXT;
			break;
		case VARCHAROID:
			column->kind = attribute->atttypmod < 0 ? CS_COLUMN_TEXT : CS_COLUMN_OTHER;
			break;
		case TIMESTAMPTZOID:
			column->kind = attribute->attnum == CS_ATT_EVENT_TIME ? CS_COLUMN_EVENT_TIME : CS_COLUMN_TIMESTAMPTZ;
			break;
		case JSONBOID:
			column->kind = CS_COLUMN_JSONB;
			break;
		case JSONOID:
			column->kind = CS_COLUMN_JSON;
			break;
		default:
			column->kind = CS_COLUMN_OTHER;
			break;
	}
	if (column->kind == CS_COLUMN_OTHER || column->kind == CS_COLUMN_TIMESTAMPTZ)
	{
		getTypeInputInfo(attribute->atttypid, &input, &column->ioparam);
		fmgr_info_cxt(input, &column->input, CurrentMemoryContext);

		/*
		 * What can be refused is always converted: which messages are dead
		 * letters must not depend on who reads which column.
		 */
		column->needed = true;
	}
}

static void
fill_slots(CsMapping *mapping, CsPointer *node)
{
	uint32 size = 4;

	while (size < (uint32) node->nchildren * 4)
		size *= 2;
	node->mask = size - 1;
	node->slots = palloc(size * sizeof(int));
	memset(node->slots, 0xFF, size * sizeof(int)); /* all -1 */
	for (int i = 0; i < node->nchildren; i++)
	{
		CsPointer *child = &mapping->nodes[node->children[i]];
		uint32	   slot = cs_name_hash(child->name, child->len) & node->mask;

		while (node->slots[slot] >= 0)
			slot = (slot + 1) & node->mask;
		node->slots[slot] = node->children[i];
		if (child->nchildren > 0 || child->pairs > 0)
			node->has_more = true;
	}
}

CsMapping *
cs_mapping_compile(const char *preset_name, Jsonb *json, TupleDesc event_desc, int nextra, const bool *needed)
{
	CsMapping	   *mapping = palloc0(sizeof(CsMapping));
	const CsPreset *preset = find_preset(preset_name);

	mapping->ncolumns = CS_SEED_COLUMNS + nextra;
	mapping->columns = palloc0(mapping->ncolumns * sizeof(CsColumn));
	if (event_desc->natts < mapping->ncolumns)
		elog(ERROR, "event relation has %d columns, expected at least %d", event_desc->natts, mapping->ncolumns);
	(void) add_node(mapping, "", 0);
	for (int i = 0; i < mapping->ncolumns; i++)
	{
		init_column(&mapping->columns[i], TupleDescAttr(event_desc, i), needed);
		map_by_name(mapping, &mapping->columns[i]);
	}
	apply_mapping(mapping, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(preset->mapping))));
	if (json != NULL)
		apply_mapping(mapping, json);
	for (int i = 0; i < mapping->nnodes; i++)
		fill_slots(mapping, &mapping->nodes[i]);
	return mapping;
}
