/*
 * api/fuzz_state.c
 *	  Damages entries of the state at random, in memory, and has them read and
 *	  shown.  For tests: only in a library with mutants, and no function of the
 *	  extension; sql/423_state_fuzz.sql and sql/440_forged_states.sql make them.
 *
 * Each case of fuzz_state() takes an entry of the definition as it is stored,
 * changes some of its bytes and shows what is open.  That must give rows or
 * raise ERRCODE_DATA_CORRUPTED, in bounded memory; anything else is raised with
 * the seed, the case and the bytes.  flip_state() flips each bit of each entry,
 * one at a time, and also counts how often a column then shows what it did not
 * before.  Nothing is stored.
 */
#include "postgres.h"

#ifdef CLICKSTREAM_MUTANTS

#include "access/xact.h"
#include "api/open_state.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

PG_FUNCTION_INFO_V1(clickstream_fuzz_state);
PG_FUNCTION_INFO_V1(clickstream_flip_state);

#define MEMORY_MAX (64 * 1024 * 1024)

typedef struct Fuzz
{
	CsOpenReader reader;
	uint64		 random;
	int			 n;
	CsEntry	   **entries;
	int64		 rows;
	int64		 shown, refused; /* cases */
	int			 column;		 /* whose values are gathered, or -1 */
	StringInfo	 seen;
} Fuzz;

static uint32
below(Fuzz *f, uint32 n)
{
	/* splitmix64 */
	uint64 z = (f->random += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return (uint32) ((z ^ (z >> 31)) % n);
}

/* 1 to most, and no more than there is.  (Min() names its arguments twice.) */
static int
length_up_to(Fuzz *f, uint32 most, uint32 there)
{
	uint32 n = 1 + below(f, most);

	return (int) Min(n, there);
}

/* ---- damage ---- */

static void
cut(StringInfo buf, int from, int len)
{
	memmove(buf->data + from, buf->data + from + len, buf->len - from - len);
	buf->len -= len;
}

static void
insert(StringInfo buf, int at, const char *data, int len)
{
	enlargeStringInfo(buf, len);
	memmove(buf->data + at + len, buf->data + at, buf->len - at);
	memcpy(buf->data + at, data, len);
	buf->len += len;
}

/* A piece of some entry. */
static void
splice_piece(Fuzz *f, StringInfo buf, int at)
{
	const CsEntry *other = f->entries[below(f, f->n)];
	uint32		   from = below(f, other->len);

	insert(buf, at, other->data + from, length_up_to(f, 20, other->len - from));
}

static void
damage(Fuzz *f, StringInfo buf)
{
	static const char huge[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
	int				  at = (int) below(f, (uint32) buf->len);

	switch (below(f, 7))
	{
		case 0:
			buf->data[at] ^= (char) (1 << below(f, 8));
			break;
		case 1:
			buf->data[at] = (char) below(f, 256);
			break;
		case 2:
			cut(buf, at, length_up_to(f, 8, (uint32) (buf->len - at)));
			break;
		case 3:
			buf->len = at; /* may leave nothing */
			break;
		case 4:
			insert(buf, at, huge, 1 + (int) below(f, sizeof(huge) - 1));
			break;
		case 5:
			buf->data[at] = (char) (buf->data[at] + 1 - 2 * (int) below(f, 2));
			break;
		default:
			splice_piece(f, buf, at);
			break;
	}
}

/* ---- reading ---- */

static void
see(Fuzz *f, const CsOpenRow *row)
{
	const char *value = "null";

	if (!row->isnull[f->column])
		value = TextDatumGetCString(cs_open_text(&f->reader.op->columns[f->column], row->values[f->column]));
	appendStringInfo(f->seen, "%s\n", value);
}

static void
take_row(void *arg, const CsOpenRow *row)
{
	Fuzz *f = arg;

	/* every value can be copied, so it is whole */
	for (int i = 0; i < f->reader.op->ncolumns; i++)
		if (!row->isnull[i] && f->reader.op->columns[i].type == TEXTOID)
			(void) text_to_cstring(DatumGetTextPP(row->values[i]));
	if (f->column >= 0)
		see(f, row);
	f->rows++;
}

static void
show(Fuzz *f, CsEntry *entry)
{
	CsOpenReader		*r = &f->reader;
	const CsOperatorOps *ops = r->op->ops;
	MemoryContext		 old = MemoryContextSwitchTo(r->row_context);

	ops->check(r->op, r->state, entry);
	if (ops->due_of)
		(void) ops->due_of(r->op, entry);
	MemoryContextReset(r->row_context);
	if (ops->show)
		ops->show(r->op, r->state, entry, take_row, f);
	MemoryContextSwitchTo(old);
	if (ops->show_all)
		ops->show_all(r->op, r->state, r->row_context, take_row, f);
}

/* Raises what is not damage; name says which case it was. */
static void
judge(Fuzz *f, const ErrorData *error, const StringInfoData *buf, const char *name)
{
	Size		used = MemoryContextMemAllocated(f->reader.row_context, true);
	const char *bytes;

	if (error->sqlerrcode == ERRCODE_DATA_CORRUPTED && used <= MEMORY_MAX)
	{
		f->refused++;
		return;
	}
	bytes =
		DatumGetCString(DirectFunctionCall1(byteaout, PointerGetDatum(cstring_to_text_with_len(buf->data, buf->len))));
	elog(ERROR, "%s: %s (%zu bytes of memory): %s", name, error->message, used, bytes);
}

/* Show what is open as if these were the entry's bytes. */
static void
show_damaged(Fuzz *f, CsEntry *entry, const StringInfoData *buf, const char *name)
{
	CsEntry		  intact = *entry;
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	entry->data = memcpy(palloc(buf->len + 1), buf->data, buf->len); /* so that valgrind sees its end */
	entry->len = (uint32) buf->len;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		show(f, entry);
		f->shown++;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		judge(f, error, buf, name);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	*entry = intact;
}

static void
run_case(Fuzz *f, int64 seed, int i)
{
	CsEntry		  *entry = f->entries[below(f, (uint32) f->n)];
	StringInfoData buf;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, entry->data, (int) entry->len);
	for (uint32 k = 1 + below(f, 3); k > 0 && buf.len > 0; k--)
		damage(f, &buf);
	show_damaged(f, entry, &buf, psprintf("seed " INT64_FORMAT ", case %d", seed, i));
}

/* Flip one bit; true if the column then shows what it did not before. */
static bool
flip(Fuzz *f, CsEntry *entry, int bit)
{
	StringInfoData buf, before, after;
	int64		   shown = f->shown;

	initStringInfo(&buf);
	initStringInfo(&before);
	initStringInfo(&after);
	appendBinaryStringInfo(&buf, entry->data, (int) entry->len);
	f->seen = &before;
	show(f, entry);
	buf.data[bit / 8] ^= (char) (1 << bit % 8);
	f->seen = &after;
	show_damaged(f, entry, &buf, psprintf("bit %d", bit));
	return f->shown > shown && after.len > 0 && strcmp(before.data, after.data) != 0;
}

static void
collect(CsEntry *entry, void *arg)
{
	Fuzz *f = arg;

	f->entries = f->entries ? repalloc(f->entries, (f->n + 1) * sizeof(CsEntry *)) : palloc(sizeof(CsEntry *));
	f->entries[f->n++] = entry;
}

static MemoryContext
begin(Fuzz *f, FunctionCallInfo fcinfo)
{
	static const CsKind kinds[] = {CS_KIND_SESSION, CS_KIND_WINDOW, CS_KIND_FUNNEL, CS_KIND_ROLLUP, 0};

	f->column = -1;
	cs_open_begin(&f->reader, fcinfo, PG_GETARG_OID(0), kinds, "state", "");
	cs_open_read(&f->reader);
	cs_state_walk(f->reader.state, f->reader.def->definition_id, collect, f);
	if (f->n == 0)
		elog(ERROR, "nothing is open");
	return AllocSetContextCreate(f->reader.context, "clickstream fuzz case", ALLOCSET_DEFAULT_SIZES);
}

/* flip_state(t regclass, column text, OUT shown bigint, OUT refused bigint, OUT changed bigint) */
Datum
clickstream_flip_state(PG_FUNCTION_ARGS)
{
	Fuzz		  f = {0};
	MemoryContext scratch = begin(&f, fcinfo);
	char		 *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int64		  changed = 0;
	Datum		  values[3];
	bool		  isnull[3] = {false, false, false};

	for (int i = 0; i < f.reader.op->ncolumns; i++)
		if (strcmp(f.reader.op->columns[i].name, name) == 0)
			f.column = i;
	if (f.column < 0)
		elog(ERROR, "there is no column %s", name);
	for (int i = 0; i < f.n; i++)
	{
		for (int bit = 0; bit < (int) f.entries[i]->len * 8; bit++)
		{
			MemoryContext old = MemoryContextSwitchTo(scratch);

			changed += flip(&f, f.entries[i], bit);
			MemoryContextSwitchTo(old);
			MemoryContextReset(scratch);
			MemoryContextReset(f.reader.row_context);
		}
	}
	values[0] = Int64GetDatum(f.shown);
	values[1] = Int64GetDatum(f.refused);
	values[2] = Int64GetDatum(changed);
	cs_open_put(&f.reader, values, isnull);
	cs_open_end(&f.reader);
	return (Datum) 0;
}

/* fuzz_state(t regclass, seed bigint, cases integer, OUT shown bigint, OUT refused bigint) */
Datum
clickstream_fuzz_state(PG_FUNCTION_ARGS)
{
	Fuzz		  f = {.random = (uint64) PG_GETARG_INT64(1)};
	MemoryContext scratch = begin(&f, fcinfo);
	Datum		  values[2];
	bool		  isnull[2] = {false, false};

	for (int i = 0; i < PG_GETARG_INT32(2); i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);

		run_case(&f, PG_GETARG_INT64(1), i);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
		MemoryContextReset(f.reader.row_context);
	}
	values[0] = Int64GetDatum(f.shown);
	values[1] = Int64GetDatum(f.refused);
	cs_open_put(&f.reader, values, isnull);
	cs_open_end(&f.reader);
	return (Datum) 0;
}

#endif
