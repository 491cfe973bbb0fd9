/*
 * engine/packed.c
 *	  A message that a decode worker has dealt with, as bytes; see packed.h.
 *
 * No locking: what is written here is handed over by a queue (feed.h).
 */
#include "postgres.h"

#include "engine/packed.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"

#define PREFETCH_MAX 1024 /* bytes of values */

/* How a column's value is kept. */
typedef enum Form
{
	BY_VALUE,
	BYTES, /* as they are in memory */
	OBJECT /* JSON that nobody has made a jsonb of: cs_decode_pack() */
} Form;

typedef struct PackedColumn
{
	AttrNumber attno;
	uint8	   form;
	Datum	   value; /* or its place */
} PackedColumn;

struct CsPackedEvent
{
	Size  size;
	int32 partition;
	uint8 class; /* CsClass */
	bool		skip;
	bool		has_visitor;
	bool		has_dedupe;
	int64		offset;
	TimestampTz timestamp;
	TimestampTz time;
	CsHash128	visitor_hash;
	CsHash128	dedupe_hash;
	Size		payload; /* places: 0 none */
	Size		payload_len;
	Size		key;
	Size		key_len;
	Size		headers;
	size_t		headers_len; /* as the source counts them */
	Size		cause;		 /* of a dead one */
	Size		error;
	int			sqlerrcode;
	int			ncolumns;
	Size		values; /* where those of columns begin; the columns follow them */
	Size		columns;
};

Size
cs_packed_append(StringInfo buffer, const void *data, Size len)
{
	Size at = MAXALIGN(buffer->len);

	if (len >= MaxAllocSize - at)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("message is too long for a decode worker"),
						errdetail("It has more than %zu bytes.", (Size) MaxAllocSize - at),
						errhint("Use clickstream.alter_stream(..., decode_workers => 0).")));
	enlargeStringInfo(buffer, (int) (at - buffer->len + len));
	memset(buffer->data + buffer->len, 0, at - buffer->len);
	if (data != NULL)
		memcpy(buffer->data + at, data, len);
	buffer->len = (int) (at + len);
	return at;
}

/* The parts' places count from the message's begin. */
static Size
append_part(StringInfo buffer, Size begin, const void *data, Size len)
{
	return cs_packed_append(buffer, data, len) - begin;
}

/* ---- columns ---- */

static void
pack_value(StringInfo buffer, Size begin, const CsEvent *event, Form_pg_attribute att, Datum value,
		   PackedColumn *column)
{
	Size size;

	if (att->attbyval)
	{
		column->form = BY_VALUE;
		column->value = value;
		return;
	}
	size = cs_decode_packed_size(value);
	column->form = BYTES;
	if (att->attlen == -1 && size > 0)
	{
		column->form = OBJECT;
		column->value = append_part(buffer, begin, NULL, size);
		cs_decode_pack(value, event->message->payload, buffer->data + begin + column->value);
	}
	else if (att->attlen == -1 && VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value)))
	{
		size = EOH_get_flat_size(DatumGetEOHP(value));
		column->value = append_part(buffer, begin, NULL, size);
		EOH_flatten_into(DatumGetEOHP(value), buffer->data + begin + column->value, size);
	}
	else
		column->value = append_part(buffer, begin, DatumGetPointer(value), datumGetSize(value, false, att->attlen));
}

/* What cs_decode() made, and the visitor; what else there is follows from the message. */
static bool
is_packed(const CsEngine *e, const CsEvent *event, int attno)
{
	int visitor = cs_system_attno(e->stream, CS_SYS_VISITOR);

	return !event->isnull[attno - 1] && (attno < cs_system_attno(e->stream, CS_SYS_TOPIC) || attno == visitor);
}

static void
pack_columns(const CsEngine *e, StringInfo buffer, Size begin, const CsEvent *event, CsPackedEvent *packed)
{
	TupleDesc	  desc = e->stream->event_desc;
	PackedColumn *columns = palloc(desc->natts * sizeof(PackedColumn));

	packed->values = buffer->len - begin;
	for (int attno = 1; attno <= desc->natts; attno++)
	{
		PackedColumn *column = &columns[packed->ncolumns];

		if (!is_packed(e, event, attno))
			continue;
		column->attno = (AttrNumber) attno;
		pack_value(buffer, begin, event, TupleDescAttr(desc, attno - 1), event->values[attno - 1], column);
		packed->ncolumns++;
	}
	packed->columns = append_part(buffer, begin, columns, packed->ncolumns * sizeof(PackedColumn));
	pfree(columns);
}

/* ---- messages ---- */

/* Of an event that the stream's filter leaves out only the event log wants columns. */
static bool
has_columns(const CsEngine *e, const CsEvent *event)
{
	return event->class != CS_CLASS_EMPTY && (!event->skip || e->event_log != NULL);
}

/* Always whole: each may be the last one of a commit, of which a checksum is kept. */
static void
pack_message(const CsEngine *e, StringInfo buffer, Size begin, const CsMessage *m, CsPackedEvent *packed)
{
	Jsonb *headers = e->source->ops->headers(e->source, m, &packed->headers_len);

	if (m->payload != NULL)
		packed->payload = append_part(buffer, begin, m->payload, m->payload_len);
	packed->payload_len = m->payload_len;
	if (m->key != NULL)
		packed->key = append_part(buffer, begin, m->key, m->key_len);
	packed->key_len = m->key_len;
	if (headers != NULL)
		packed->headers = append_part(buffer, begin, headers, VARSIZE(headers));
}

static void
pack_letter(StringInfo buffer, Size begin, const CsDeadLetter *letter, CsPackedEvent *packed)
{
	packed->cause = append_part(buffer, begin, letter->cause, strlen(letter->cause) + 1);
	packed->error = append_part(buffer, begin, letter->error, strlen(letter->error) + 1);
	packed->sqlerrcode = MAKE_SQLSTATE(letter->sqlstate[0], letter->sqlstate[1], letter->sqlstate[2],
									   letter->sqlstate[3], letter->sqlstate[4]);
}

Size
cs_packed_add(const CsEngine *e, StringInfo buffer, int partition, const CsEvent *event, const CsDeadLetter *letter)
{
	Size		  begin = cs_packed_append(buffer, NULL, sizeof(CsPackedEvent));
	CsPackedEvent packed = {0};

	packed.partition = partition;
	packed.class = event->class;
	packed.skip = event->skip;
	packed.has_visitor = event->has_visitor;
	packed.has_dedupe = event->has_dedupe;
	packed.offset = event->message->offset;
	packed.timestamp = event->message->timestamp;
	packed.time = event->place.time;
	packed.visitor_hash = event->visitor_hash;
	packed.dedupe_hash = event->dedupe_hash;
	pack_message(e, buffer, begin, event->message, &packed);
	if (letter != NULL)
		pack_letter(buffer, begin, letter, &packed);
	else if (has_columns(e, event))
		pack_columns(e, buffer, begin, event, &packed);
	(void) cs_packed_append(buffer, NULL, 0);
	packed.size = buffer->len - begin;
	memcpy(buffer->data + begin, &packed, sizeof(packed));
	return begin;
}

/* ---- the other side ---- */

Size
cs_packed_size(const CsPackedEvent *packed)
{
	return packed->size;
}

int
cs_packed_partition(const CsPackedEvent *packed)
{
	return packed->partition;
}

/* Written by another processor, so nothing of it is in this one's caches. */
void
cs_packed_prefetch_head(const CsPackedEvent *packed)
{
	for (Size at = 0; at < sizeof(CsPackedEvent); at += 64)
		__builtin_prefetch((const char *) packed + at);
}

void
cs_packed_prefetch_columns(const CsPackedEvent *packed)
{
	Size end = packed->columns + packed->ncolumns * sizeof(PackedColumn);

	if (packed->ncolumns == 0)
		return;
	for (Size at = packed->values; at < Min(end, packed->values + PREFETCH_MAX); at += 64)
		__builtin_prefetch((const char *) packed + at);
	for (Size at = Max(packed->columns, packed->values + PREFETCH_MAX); at < end; at += 64)
		__builtin_prefetch((const char *) packed + at);
}

static inline const char *
part(const CsPackedEvent *packed, Size at)
{
	return at == 0 ? NULL : (const char *) packed + at;
}

void
cs_packed_message(const CsPackedEvent *packed, CsMessage *message)
{
	message->offset = packed->offset;
	message->timestamp = packed->timestamp;
	message->payload = part(packed, packed->payload);
	message->payload_len = packed->payload_len;
	message->key = part(packed, packed->key);
	message->key_len = packed->key_len;
	message->foreign = NULL;
	message->packed = packed;
}

Jsonb *
cs_packed_headers(const CsPackedEvent *packed, size_t *length)
{
	const char *headers = part(packed, packed->headers);

	*length = packed->headers_len;
	return headers == NULL ? NULL : memcpy(palloc(VARSIZE(headers)), headers, VARSIZE(headers));
}

static void
unpack_columns(const CsEngine *e, const CsPackedEvent *packed, CsEvent *event)
{
	const PackedColumn *columns = (const PackedColumn *) part(packed, packed->columns);

	for (int i = 0; i < packed->ncolumns; i++)
	{
		int			attno = columns[i].attno;
		const char *bytes = (const char *) packed + columns[i].value;

		event->isnull[attno - 1] = false;
		if (columns[i].form == BY_VALUE)
			event->values[attno - 1] = columns[i].value;
		else if (columns[i].form == BYTES)
			event->values[attno - 1] = PointerGetDatum(bytes);
		else
			event->values[attno - 1] = cs_decode_unpack(e->decoder, bytes, event->message->payload);
	}
}

bool
cs_packed_read(const CsEngine *e, const CsPackedEvent *packed, CsEvent *event, const char **cause, const char **error,
			   int *sqlerrcode)
{
	if (packed->class == CS_CLASS_DEAD)
	{
		*cause = part(packed, packed->cause);
		*error = part(packed, packed->error);
		*sqlerrcode = packed->sqlerrcode;
		return false;
	}
	event->class = packed->class;
	event->skip = packed->skip;
	event->place.time = packed->time;
	event->has_visitor = packed->has_visitor;
	event->visitor_hash = packed->visitor_hash;
	event->has_dedupe = packed->has_dedupe;
	event->dedupe_hash = packed->dedupe_hash;
	unpack_columns(e, packed, event);
	return true;
}
