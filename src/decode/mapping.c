/*
 * decode/mapping.c
 *	  From a preset and a user's mapping to the compiled tree of pointers.
 *
 * A preset says where each of the seed's columns is found in the messages of
 * a known kind of sender; extra columns are found at the top level under
 * their own names.  A mapping is laid over the preset, column by column:
 *
 *	  {"page_url": "/context/page/url", "user_id": ["/userId", "/traits/id"],
 *	   "browser": null}
 *
 * Of several pointers the first that leads to something other than JSON null
 * counts; null leaves the column empty.  Pointers are RFC 6901's.
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

typedef struct Preset
{
	const char *name;

	/* Pointers of the seed's columns that are not at the top level under their own names. */
	struct
	{
		const char *column;
		const char *pointer;
	} places[CS_SEED_COLUMNS];
} Preset;

static const Preset presets[] = {
	{"default", {{NULL, NULL}}},
};

static const Preset *
find_preset(const char *name)
{
	StringInfoData known;

	if (name == NULL)
		return &presets[0];
	initStringInfo(&known);
	for (int i = 0; i < (int) lengthof(presets); i++)
	{
		if (strcmp(presets[i].name, name) == 0)
			return &presets[i];
		appendStringInfo(&known, "%s\"%s\"", i > 0 ? ", " : "", presets[i].name);
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

static void
add_pointer(CsMapping *mapping, CsColumn *column, const char *pointer)
{
	const char *p = pointer;
	int			node = 0;

	if (column->npointers == CS_POINTERS_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("too many JSON pointers for column \"%s\"", column->name),
						errhint("A column takes at most %d.", CS_POINTERS_MAX)));
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
	if (column->pointers == NULL)
		column->pointers = palloc(CS_POINTERS_MAX * sizeof(int));
	column->pointers[column->npointers++] = node;
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

/* {"column": here} */
static void
map_column(CsMapping *mapping, CsColumn *column, JsonbValue *value)
{
	static const char hint[] = "Give a JSON pointer as a string, an array of them, or null.";

	column->npointers = 0;
	if (value->type == jbvString)
		add_pointer(mapping, column, jsonb_string(value));
	else if (value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) &&
			 JsonContainerSize(value->val.binary.data) > 0)
	{
		for (uint32 i = 0; i < JsonContainerSize(value->val.binary.data); i++)
		{
			JsonbValue *member = getIthJsonbValueFromContainer(value->val.binary.data, i);

			if (member->type != jbvString)
				ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
								errmsg("invalid mapping for column \"%s\"", column->name), errhint(hint)));
			add_pointer(mapping, column, jsonb_string(member));
		}
	}
	else if (value->type != jbvNull)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid mapping for column \"%s\"", column->name), errhint(hint)));
	if (column->npointers == 0 && column->kind == CS_COLUMN_EVENT_TIME)
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

/* Where the preset finds a column: at the top level under its own name unless it says otherwise. */
static void
map_by_preset(CsMapping *mapping, CsColumn *column, const Preset *preset)
{
	for (int i = 0; i < CS_SEED_COLUMNS && preset->places[i].column != NULL; i++)
	{
		if (strcmp(preset->places[i].column, column->name) == 0)
			add_pointer(mapping, column, preset->places[i].pointer);
	}
	if (column->npointers == 0)
	{
		char *utf8 = pg_server_to_any(column->name, strlen(column->name), PG_UTF8);

		column->pointers = palloc(CS_POINTERS_MAX * sizeof(int));
		column->pointers[column->npointers++] = add_child(mapping, 0, utf8, strlen(utf8));
	}
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
		if (child->nchildren > 0)
			node->has_grandchildren = true;
	}
}

CsMapping *
cs_mapping_compile(const char *preset_name, Jsonb *json, TupleDesc event_desc, int nextra, const bool *needed)
{
	CsMapping	 *mapping = palloc0(sizeof(CsMapping));
	const Preset *preset = find_preset(preset_name);

	mapping->ncolumns = CS_SEED_COLUMNS + nextra;
	mapping->columns = palloc0(mapping->ncolumns * sizeof(CsColumn));
	if (event_desc->natts < mapping->ncolumns)
		elog(ERROR, "event relation has %d columns, expected at least %d", event_desc->natts, mapping->ncolumns);
	(void) add_node(mapping, "", 0);
	for (int i = 0; i < mapping->ncolumns; i++)
	{
		init_column(&mapping->columns[i], TupleDescAttr(event_desc, i), needed);
		map_by_preset(mapping, &mapping->columns[i], preset);
	}
	if (json != NULL)
		apply_mapping(mapping, json);
	for (int i = 0; i < mapping->nnodes; i++)
		fill_slots(mapping, &mapping->nodes[i]);
	return mapping;
}
