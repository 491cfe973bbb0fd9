/*
 * core/topics.c
 *	  Topics that a stream with a pattern has found; see topics.h.
 *
 * Rows are written by whoever holds the stream's run lock, as the extension's
 * owner, in the batch's transaction.
 */
#include "core/topics.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "core/catalog.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

static CsTopicRanks in_use = {NULL, 0};

CsTopicRanks
cs_topics_use(const CsStream *stream)
{
	CsTopicRanks before = in_use;

	in_use.ranks = stream->topic_ranks;
	in_use.n = stream->topic_ranks ? stream->ntopics : 0;
	return before;
}

void
cs_topics_use_again(CsTopicRanks ranks)
{
	in_use = ranks;
}

/* Order of two different topics by name. */
int
cs_topic_cmp(int32 a, int32 b)
{
	/* What is not among them comes out of a damaged entry: any order will do, as long as it is one. */
	if (a >= 0 && a < in_use.n && b >= 0 && b < in_use.n)
	{
		a = in_use.ranks[a];
		b = in_use.ranks[b];
	}
	return a < b ? -1 : 1;
}

/* ---- patterns ---- */

static bool
matches(const char *pattern, const char *text)
{
	return DatumGetBool(
		DirectFunctionCall2Coll(textregexeq, C_COLLATION_OID, CStringGetTextDatum(text), CStringGetTextDatum(pattern)));
}

bool
cs_pattern_matches(const char *pattern, const char *topic)
{
	return strncmp(topic, "__", 2) != 0 && matches(pattern, topic);
}

void
cs_pattern_validate(const char *pattern)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		(void) matches(pattern, "");
	}
	PG_CATCH();
	{
		ErrorData *error;

		if (geterrcode() != ERRCODE_INVALID_REGULAR_EXPRESSION)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		ereport(ERROR, (errcode(ERRCODE_INVALID_REGULAR_EXPRESSION),
						errmsg("invalid pattern of topics: \"%s\"", pattern), errdetail_internal("%s", error->message),
						errhint("A topic that begins with \"^\" is a regular expression, as in '^web\\..*'.")));
	}
	PG_END_TRY();
}

/* ---- the table ---- */

static void
run(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	CsIdentity identity;

	cs_identity_enter(&identity, cs_extension_owner(), true);
	SPI_connect();
	if (SPI_execute_with_args(sql, nargs, (Oid *) types, (Datum *) values, NULL, false, 0) < 0)
		elog(ERROR, "could not write the topics of a stream");
	SPI_finish();
	cs_identity_leave(&identity);
}

void
cs_topics_add(const CsStream *stream, char **names, int n)
{
	static const Oid types[] = {INT4OID, TEXTARRAYOID};
	Datum			*texts = palloc(Max(n, 1) * sizeof(Datum));
	Datum			 values[2] = {Int32GetDatum(stream->stream_id), 0};

	for (int i = 0; i < n; i++)
		texts[i] = CStringGetTextDatum(names[i]);
	values[1] = PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
	run("INSERT INTO clickstream.stream_topic (stream_id, number, topic, is_first)"
		" SELECT $1, (SELECT count(*) FROM clickstream.stream_topic WHERE stream_id = $1) + f.i - 1, f.topic, p.looked_at IS NULL"
		" FROM pg_catalog.unnest($2) WITH ORDINALITY AS f(topic, i), clickstream.progress p WHERE p.stream_id = $1",
		2, types, values);
	run("UPDATE clickstream.progress SET looked_at = pg_catalog.clock_timestamp() WHERE stream_id = $1 AND looked_at IS NULL",
		1, types, values);
}

void
cs_topic_note(const CsStream *stream, int topic, bool is_gone)
{
	static const Oid types[] = {INT4OID, INT4OID, BOOLOID};
	Datum			 values[3] = {Int32GetDatum(stream->stream_id), Int32GetDatum(topic), BoolGetDatum(is_gone)};

	run("UPDATE clickstream.stream_topic SET gone_at = CASE WHEN $3 THEN pg_catalog.clock_timestamp() END"
		" WHERE stream_id = $1 AND number = $2",
		3, types, values);
}
