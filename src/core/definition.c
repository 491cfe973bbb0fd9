/*
 * core/definition.c
 *	  Reading what the catalog says of streams and their definitions.
 *
 * One query each, whose columns stand in the order of an enum beside it.
 * Rows are read under the extension owner's identity, so that a worker that
 * already is the stream's owner needs no rights on our tables.  Intervals
 * were checked when the definition was made: no months, in range.
 *
 * A definition whose table or view the user has dropped is passed over, with
 * a line in the log: the others go on as if it had never been there.
 */
#include "core/definition.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "core/catalog.h"
#include "core/ddl.h"
#include "core/sink.h"
#include "executor/spi.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* As source/kafka_options.h has it: a value that begins so names a secret. */
#define SECRET_MARK '\001'

/* Of the topics that a pattern has found: an array in the order of their numbers. */
#define FOUND(what)                                                                                           \
	"ARRAY(SELECT " what " FROM clickstream.stream_topic t WHERE t.stream_id = clickstream.stream.stream_id " \
	"ORDER BY t.number)"

#define STREAM_QUERY                                                                                                      \
	"SELECT stream_id, name, owner::pg_catalog.oid, brokers, topic, start_from, start_time, start_offsets, "              \
	"watermark_delay, idle_timeout, max_future, max_drift, dedupe_horizon, mapping, preset, options, on_error, enabled, " \
	"time_zone, event_relation::pg_catalog.oid, stream_view::pg_catalog.oid, log_relations::pg_catalog.oid[], "           \
	"spill_relation::pg_catalog.oid, partitions, decode_workers, "                                                        \
	"CASE WHEN brokers IS NOT NULL AND pg_catalog.starts_with(topic, '^') THEN " FOUND("t.topic") " END, " FOUND(         \
		"t.is_first") ", " FOUND("t.gone_at IS NOT NULL") " FROM clickstream.stream WHERE "

enum
{
	S_STREAM_ID = 1,
	S_NAME,
	S_OWNER,
	S_BROKERS,
	S_TOPIC,
	S_START_FROM,
	S_START_TIME,
	S_START_OFFSETS,
	S_WATERMARK_DELAY,
	S_IDLE_TIMEOUT,
	S_MAX_FUTURE,
	S_MAX_DRIFT,
	S_DEDUPE_HORIZON,
	S_MAPPING,
	S_PRESET,
	S_OPTIONS,
	S_ON_ERROR,
	S_ENABLED,
	S_TIME_ZONE,
	S_EVENT_RELATION,
	S_STREAM_VIEW,
	S_LOG_RELATIONS,
	S_SPILL_RELATION,
	S_PARTITIONS,
	S_DECODE_WORKERS,
	S_FOUND, /* NULL: no pattern */
	S_FOUND_FIRST,
	S_FOUND_GONE
};

#define DEFINITION_QUERY                                                                                              \
	"SELECT definition_id, stream_id, kind, table_oid::pg_catalog.oid, view_oid::pg_catalog.oid, source_id, "         \
	"start_column, size, slide, origin, gap, max_length, within, strict_increase, steps, emit, emit_interval, "       \
	"group_limit, retention, allowed_lateness, step, time_zone, mode, within_exclusive, optional_steps, exclusions, " \
	"live_view::pg_catalog.oid, deleted_before, notify_channel "                                                      \
	"FROM clickstream.definition WHERE "

enum
{
	D_DEFINITION_ID = 1,
	D_STREAM_ID,
	D_KIND,
	D_TABLE,
	D_VIEW,
	D_SOURCE_ID,
	D_START_COLUMN,
	D_SIZE,
	D_SLIDE,
	D_ORIGIN,
	D_GAP,
	D_MAX_LENGTH,
	D_WITHIN,
	D_STRICT_INCREASE,
	D_STEPS,
	D_EMIT,
	D_EMIT_INTERVAL,
	D_GROUP_LIMIT,
	D_RETENTION,
	D_ALLOWED_LATENESS,
	D_STEP,
	D_TIME_ZONE,
	D_MODE,
	D_WITHIN_EXCLUSIVE,
	D_OPTIONAL_STEPS,
	D_EXCLUSIONS,
	D_LIVE_VIEW,
	D_DELETED_BEFORE,
	D_NOTIFY_CHANNEL
};

/* A row that SPI returned. */
typedef struct Row
{
	HeapTuple tuple;
	TupleDesc desc;
} Row;

static Datum
get(const Row *row, int column, bool *isnull)
{
	return SPI_getbinval(row->tuple, row->desc, column, isnull);
}

static char *
get_text(const Row *row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static int32
get_int(const Row *row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

static Oid
get_oid(const Row *row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

static int64
get_bigint(const Row *row, int column, int64 when_null)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? when_null : DatumGetInt64(value);
}

static bool
get_bool(const Row *row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

/* An interval in µs. */
static int64
get_span(const Row *row, int column, int64 when_null)
{
	bool	  isnull;
	Datum	  value = get(row, column, &isnull);
	Interval *span;

	if (isnull)
		return when_null;
	span = DatumGetIntervalP(value);
	return span->time + (int64) (span->day + span->month * DAYS_PER_MONTH) * USECS_PER_DAY;
}

static Jsonb *
get_jsonb(const Row *row, int column)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

/* The elements of an array column, *n of them. */
static Datum *
get_array(const Row *row, int column, Oid element_type, int *n)
{
	bool   isnull;
	Datum  value = get(row, column, &isnull);
	Datum *elements;
	int16  typlen;
	bool   typbyval;
	char   typalign;

	*n = 0;
	if (isnull)
		return NULL;
	get_typlenbyvalalign(element_type, &typlen, &typbyval, &typalign);
	deconstruct_array(DatumGetArrayTypePCopy(value), element_type, typlen, typbyval, typalign, &elements, NULL, n);
	return elements;
}

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* "b, a" into the sorted list of names. */
static void
read_topics(CsStream *stream, char *topics)
{
	int size = 1;

	for (char *c = topics; *c; c++)
		size += *c == ',';
	stream->topics = palloc(size * sizeof(char *));
	for (char *name = strtok(topics, ", "); name; name = strtok(NULL, ", "))
		stream->topics[stream->ntopics++] = name;
	qsort(stream->topics, stream->ntopics, sizeof(char *), compare_strings);
}

static bool *
read_flags(const Row *row, int column)
{
	int	   n;
	Datum *flags = get_array(row, column, BOOLOID, &n);
	bool  *result = palloc0(Max(n, 1) * sizeof(bool));

	for (int i = 0; i < n; i++)
		result[i] = DatumGetBool(flags[i]);
	return result;
}

/* The topics that the pattern has found. */
static void
read_found(CsStream *stream, const Row *row)
{
	Datum *names = get_array(row, S_FOUND, TEXTOID, &stream->ntopics);
	int	   n = stream->ntopics;

	stream->topics = palloc(Max(n, 1) * sizeof(char *));
	stream->topic_ranks = palloc0(Max(n, 1) * sizeof(int32));
	for (int i = 0; i < n; i++)
	{
		stream->topics[i] = TextDatumGetCString(names[i]);
		for (int j = 0; j < i; j++)
			stream->topic_ranks[strcmp(stream->topics[i], stream->topics[j]) < 0 ? j : i]++;
	}
	stream->topic_is_first = read_flags(row, S_FOUND_FIRST);
	stream->topic_is_gone = read_flags(row, S_FOUND_GONE);
}

static CsStart
read_start(const char *start_from)
{
	if (strcmp(start_from, "latest") == 0)
		return CS_START_LATEST;
	if (strcmp(start_from, "timestamp") == 0)
		return CS_START_TIMESTAMP;
	if (strcmp(start_from, "offsets") == 0)
		return CS_START_OFFSETS;
	return CS_START_EARLIEST;
}

/* Text of an option's value; a secret's name behind its mark. */
static char *
option_value(JsonbValue *value)
{
	JsonbValue *secret;
	JsonbValue	buffer;

	switch (value->type)
	{
		case jbvString:
			/* Refused when it was set; the catalog may have been written by other means. */
			if (value->val.string.len > 0 && value->val.string.val[0] == SECRET_MARK)
				break;
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
			secret = getKeyJsonValueFromContainer(value->val.binary.data, "secret", 6, &buffer);
			if (secret != NULL && secret->type == jbvString)
				return psprintf("%c%.*s", SECRET_MARK, secret->val.string.len, secret->val.string.val);
			break;
		default:
			break;
	}
	elog(ERROR, "unexpected value of an option");
}

/* Options were checked when they were set. */
static void
read_options(CsStream *stream, Jsonb *options)
{
	JsonbIterator	  *it;
	JsonbIteratorToken token;
	JsonbValue		   value;

	if (options == NULL)
		return;
	stream->options = palloc(JB_ROOT_COUNT(options) * sizeof(CsOption));
	it = JsonbIteratorInit(&options->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			stream->options[stream->noptions].name = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			stream->options[stream->noptions++].value = option_value(&value);
	}
}

static void
read_times(CsStream *stream, const Row *row)
{
	stream->watermark_delay = get_span(row, S_WATERMARK_DELAY, 0);
	stream->idle_timeout = get_span(row, S_IDLE_TIMEOUT, 0);
	stream->max_future = get_span(row, S_MAX_FUTURE, -1);
	stream->max_drift = get_span(row, S_MAX_DRIFT, -1);
	stream->dedupe_horizon = get_span(row, S_DEDUPE_HORIZON, 0);
}

static void
read_relations(CsStream *stream, const Row *row)
{
	int	   n;
	Datum *logs = get_array(row, S_LOG_RELATIONS, OIDOID, &n);

	stream->event_relation = get_oid(row, S_EVENT_RELATION);
	stream->stream_view = get_oid(row, S_STREAM_VIEW);
	stream->spill_relation = get_oid(row, S_SPILL_RELATION);
	for (int i = 0; i < Min(n, 2); i++)
		stream->log_relation[i] = DatumGetObjectId(logs[i]);
}

static void
read_wanted(CsStream *stream, const Row *row)
{
	Datum *ids = get_array(row, S_PARTITIONS, INT4OID, &stream->nwanted);

	stream->wanted = palloc(Max(stream->nwanted, 1) * sizeof(int32));
	for (int i = 0; i < stream->nwanted; i++)
		stream->wanted[i] = DatumGetInt32(ids[i]);
}

static CsStream *
read_stream(const Row *row)
{
	CsStream *stream = palloc0(sizeof(CsStream));
	bool	  is_named;

	stream->stream_id = get_int(row, S_STREAM_ID);
	stream->name = get_text(row, S_NAME);
	stream->owner = get_oid(row, S_OWNER);
	stream->brokers = get_text(row, S_BROKERS);
	(void) get(row, S_FOUND, &is_named);
	if (is_named)
		read_topics(stream, get_text(row, S_TOPIC));
	else
	{
		stream->pattern = get_text(row, S_TOPIC);
		read_found(stream, row);
	}
	read_wanted(stream, row);
	stream->start_from = read_start(get_text(row, S_START_FROM));
	stream->start_time = get_bigint(row, S_START_TIME, CS_WM_NONE);
	stream->start_offsets = get_jsonb(row, S_START_OFFSETS);
	read_times(stream, row);
	stream->mapping = get_jsonb(row, S_MAPPING);
	stream->preset = get_text(row, S_PRESET);
	read_options(stream, get_jsonb(row, S_OPTIONS));
	stream->stop_on_error = strcmp(get_text(row, S_ON_ERROR), "stop") == 0;
	stream->decode_workers = get_int(row, S_DECODE_WORKERS);
	stream->enabled = get_bool(row, S_ENABLED);
	stream->time_zone = get_text(row, S_TIME_ZONE);
	read_relations(stream, row);
	return stream;
}

/* Extra columns end before the system's, of which the last is always there; those of lookups come behind it. */
static int
count_extra(TupleDesc desc)
{
	int n = CS_SEED_COLUMNS + CS_SYS_COLUMNS;

	while (n < desc->natts && strcmp(NameStr(TupleDescAttr(desc, n - 1)->attname), "effective_user_id") != 0)
		n++;
	return n - CS_SEED_COLUMNS - CS_SYS_COLUMNS;
}

/*
 * The columns of the event relation, and how many of them are extra; none if a
 * user dropped it.  The lock is given back: who waits for the stream's row must
 * not hold up who has it, and adds columns.
 */
static void
load_event_desc(CsStream *stream)
{
	Relation rel = try_relation_open(stream->event_relation, AccessShareLock);

	stream->event_desc = NULL;
	if (rel == NULL)
		return;
	stream->event_desc = CreateTupleDescCopy(RelationGetDescr(rel));
	stream->nextra = count_extra(stream->event_desc);
	relation_close(rel, AccessShareLock);
}

/* Run one of our queries with a parameter, as the extension's owner, inside of SPI. */
static void
select_rows(const char *query, const char *condition, int expected, Oid type, Datum value)
{
	CsIdentity saved;

	cs_identity_enter(&saved, cs_extension_owner(), true);
	if (SPI_execute_with_args(psprintf("%s%s", query, condition), 1, &type, &value, NULL, false, 0) != expected)
		elog(ERROR, "could not read the catalog of clickstream");
	cs_identity_leave(&saved);
}

/* NULL if there is none. */
static CsStream *
stream_load(const char *condition, Oid type, Datum value, MemoryContext cxt)
{
	CsStream *stream = NULL;

	SPI_connect();
	select_rows(STREAM_QUERY, condition, SPI_OK_SELECT, type, value);
	if (SPI_processed > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		Row			  row = {SPI_tuptable->vals[0], SPI_tuptable->tupdesc};

		stream = read_stream(&row);
		load_event_desc(stream);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return stream;
}

CsStream *
cs_stream_find_by_id(int32 stream_id, MemoryContext cxt)
{
	return stream_load("stream_id = $1", INT4OID, Int32GetDatum(stream_id), cxt);
}

/* Whoever goes on with a stream needs its event relation; only dropping it does not. */
static CsStream *
require_whole(CsStream *stream)
{
	if (stream->event_desc != NULL)
		return stream;
	/* Opening it may have waited for whoever drops the stream. */
	if (cs_stream_find_by_id(stream->stream_id, CurrentMemoryContext) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("stream \"%s\" was dropped at this moment", stream->name)));
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("stream \"%s\" has lost its event relation", stream->name),
					errdetail("A view of it in schema clickstream was dropped."),
					errhint("Drop the stream with clickstream.drop_stream() and make it again.")));
}

void
cs_stream_load_events(CsStream *stream)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(stream));
	bool		  was_whole = stream->event_desc != NULL;

	load_event_desc(stream);
	MemoryContextSwitchTo(old);
	if (was_whole)
		(void) require_whole(stream);
}

CsStream *
cs_stream_load_by_id(int32 stream_id, MemoryContext cxt)
{
	CsStream *stream = cs_stream_find_by_id(stream_id, cxt);

	if (stream == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("stream with id %d does not exist", stream_id)));
	return require_whole(stream);
}

CsStream *
cs_stream_find(const char *name, MemoryContext cxt)
{
	return stream_load("name = $1", TEXTOID, CStringGetTextDatum(name), cxt);
}

CsStream *
cs_stream_load_by_name(const char *name, MemoryContext cxt)
{
	CsStream *stream = cs_stream_find(name, cxt);

	if (stream == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("stream \"%s\" does not exist", name),
						errhint("Streams are made by clickstream.create_stream() and listed in "
								"clickstream.stat_stream.")));
	return require_whole(stream);
}

/* An interval as it is; otherwise where there is none. */
static Interval
get_interval(const Row *row, int column, Interval otherwise)
{
	bool  isnull;
	Datum value = get(row, column, &isnull);

	return isnull ? otherwise : *DatumGetIntervalP(value);
}

static void
read_windows(CsDefinition *def, const Row *row)
{
	Interval none = {0};
	bool	 isnull;

	def->size = get_span(row, D_SIZE, 0);
	def->slide = get_span(row, D_STEP, get_span(row, D_SLIDE, def->size));
	def->size_given = get_interval(row, D_SIZE, none);
	def->slide_given = get_interval(row, D_STEP, get_interval(row, D_SLIDE, def->size_given));
	def->form = def->slide == def->size ? CS_WINDOW_TUMBLING : CS_WINDOW_HOPPING;
	(void) get(row, D_STEP, &isnull);
	if (!isnull)
		def->form = CS_WINDOW_CUMULATIVE;
	def->origin = get_bigint(row, D_ORIGIN, 0);
}

static void
read_spans(CsDefinition *def, const Row *row)
{
	read_windows(def, row);
	def->gap = get_span(row, D_GAP, 0);
	def->max_length = get_span(row, D_MAX_LENGTH, -1);
	def->within = get_span(row, D_WITHIN, 0);
	def->emit_interval = get_span(row, D_EMIT_INTERVAL, 0);
	def->retention = get_span(row, D_RETENTION, -1);
	def->deleted_before = get_bigint(row, D_DELETED_BEFORE, DT_NOBEGIN);
	def->lateness = get_span(row, D_ALLOWED_LATENESS, 0);
}

static void
read_steps(CsDefinition *def, const Row *row)
{
	Datum *steps = get_array(row, D_STEPS, TEXTOID, &def->nsteps);

	def->steps = palloc0(def->nsteps * sizeof(char *) + 1);
	for (int i = 0; i < def->nsteps; i++)
		def->steps[i] = TextDatumGetCString(steps[i]);
}

static CsMode
read_mode(const char *mode)
{
	if (mode && strcmp(mode, "strict") == 0)
		return CS_MODE_STRICT;
	if (mode && strcmp(mode, "unordered") == 0)
		return CS_MODE_UNORDERED;
	return CS_MODE_ORDERED;
}

/* What a funnel's steps are like, beyond their names. */
static void
read_funnel(CsDefinition *def, const Row *row)
{
	int	   n;
	Datum *numbers = get_array(row, D_OPTIONAL_STEPS, INT4OID, &n);

	def->mode = read_mode(get_text(row, D_MODE));
	def->strict_increase = get_bool(row, D_STRICT_INCREASE);
	def->within_exclusive = get_bool(row, D_WITHIN_EXCLUSIVE);
	for (int i = 0; i < n; i++)
		def->optional_steps |= (uint32) 1 << (DatumGetInt32(numbers[i]) - 1);
	numbers = get_array(row, D_EXCLUSIONS, INT4OID, &n);
	def->nexclusions = Min(n / 2, CS_MAX_EXCLUSIONS);
	for (int i = 0; i < def->nexclusions; i++)
		def->exclusions[i] = (CsExclusion){DatumGetInt32(numbers[2 * i]), DatumGetInt32(numbers[2 * i + 1])};
}

static CsKind
read_kind(const Row *row)
{
	bool isnull;

	return (CsKind) DatumGetChar(get(row, D_KIND, &isnull));
}

/* NULL if the user has dropped its table or view. */
static CsDefinition *
read_definition(const Row *row)
{
	CsDefinition *def = palloc0(sizeof(CsDefinition));
	char		 *emit = get_text(row, D_EMIT);
	char		 *name;

	def->notify_channel = get_text(row, D_NOTIFY_CHANNEL);
	def->definition_id = get_int(row, D_DEFINITION_ID);
	def->stream_id = get_int(row, D_STREAM_ID);
	def->kind = read_kind(row);
	def->table = get_oid(row, D_TABLE);
	def->view = get_oid(row, D_VIEW);
	def->live_view = get_oid(row, D_LIVE_VIEW);
	name = get_rel_name(def->table);
	if (name == NULL || (OidIsValid(def->view) && get_rel_name(def->view) == NULL))
	{
		ereport(LOG, (errmsg("definition %d of stream %d is passed over: its %s was dropped", def->definition_id,
							 def->stream_id, name == NULL ? "table" : "view")));
		return NULL;
	}
	def->name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(def->table)), name);
	read_spans(def, row);
	read_funnel(def, row);
	read_steps(def, row);
	def->emit = emit && strcmp(emit, "changes") == 0 ? CS_EMIT_CHANGES : CS_EMIT_CLOSED;
	def->group_limit = get_bigint(row, D_GROUP_LIMIT, CS_GROUP_LIMIT_DEFAULT);
	def->source_id = get_int(row, D_SOURCE_ID);
	def->start_column = get_text(row, D_START_COLUMN);
	def->time_zone = get_text(row, D_TIME_ZONE);
	return def;
}

static List *
definitions_load(const char *condition, Oid type, Datum value, MemoryContext cxt)
{
	List *result = NIL;

	SPI_connect();
	select_rows(DEFINITION_QUERY, condition, SPI_OK_SELECT, type, value);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		Row			  row = {SPI_tuptable->vals[i], SPI_tuptable->tupdesc};
		CsDefinition *def = read_definition(&row);

		if (def != NULL)
			result = lappend(result, def);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return result;
}

List *
cs_definitions_load(int32 stream_id, MemoryContext cxt)
{
	return definitions_load("stream_id = $1 ORDER BY definition_id", INT4OID, Int32GetDatum(stream_id), cxt);
}

CsDefinition *
cs_definition_find(Oid table, MemoryContext cxt)
{
	List *found = definitions_load("table_oid::pg_catalog.oid = $1", OIDOID, ObjectIdGetDatum(table), cxt);

	return found == NIL ? NULL : linitial(found);
}

CsDefinition *
cs_definition_load_by_table(Oid table, MemoryContext cxt)
{
	CsDefinition *def = cs_definition_find(table, cxt);
	char		 *name;

	if (def != NULL)
		return def;
	name = get_rel_name(table);
	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", table)));
	ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("table \"%s\" is not the result of a definition", name),
					errhint("Results are the tables made by clickstream.create_session(), create_window(), "
							"create_funnel(), create_rollup() and create_event_log().")));
}

/* Of one stream, those of which something is gone. */
#define IS_BROKEN                                                                                      \
	"stream_id = $1 AND (NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = d.table_oid) OR " \
	"(view_oid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = d.view_oid)))"

void
cs_definitions_prune(int32 stream_id)
{
	List	 *views = NIL;
	ListCell *view;

	SPI_connect();
	select_rows("DELETE FROM clickstream.definition d WHERE ", IS_BROKEN " RETURNING view_oid::pg_catalog.oid",
				SPI_OK_DELETE_RETURNING, INT4OID, Int32GetDatum(stream_id));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Row row = {SPI_tuptable->vals[i], SPI_tuptable->tupdesc};

		views = lappend_oid(views, get_oid(&row, 1));
	}
	foreach(view, views)
		cs_relation_drop(lfirst_oid(view));
	SPI_finish();
	cs_sinks_prune(stream_id);
}

Query *
cs_definition_query(Oid view)
{
	Relation rel = relation_open(view, AccessShareLock);
	Query	*query = copyObject(get_view_query(rel));

	relation_close(rel, NoLock);
	query->rtable = list_delete_first_n(query->rtable, CS_VIEW_HIDDEN_ENTRIES);
	OffsetVarNodes((Node *) query, -CS_VIEW_HIDDEN_ENTRIES, 0);
	cs_flatten_groups(query);
	return query;
}

Oid
cs_own_relation(const char *name)
{
	Oid relid = get_relname_relid(name, get_namespace_oid(CS_SCHEMA, false));

	if (!OidIsValid(relid))
		elog(ERROR, "relation \"" CS_SCHEMA ".%s\" does not exist", name);
	return relid;
}

/* There is no syscache over extensions; the table is small. */
Oid
cs_extension_owner(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("clickstream"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	if (!OidIsValid(owner))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension \"clickstream\" does not exist"),
						errhint("Run CREATE EXTENSION clickstream in this database.")));
	return owner;
}

int
cs_stream_topic_index(const CsStream *stream, const char *topic)
{
	for (int i = 0; i < stream->ntopics; i++)
		if (strcmp(stream->topics[i], topic) == 0)
			return i;
	return -1;
}

char *
cs_place_id(const CsStream *stream, const CsPlace *place)
{
	if (place->topic < 0 || place->topic >= stream->ntopics)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a place is in a topic that the stream has not")));
	return psprintf("%s/%d/" INT64_FORMAT, stream->topics[place->topic], place->partition, place->offset);
}
