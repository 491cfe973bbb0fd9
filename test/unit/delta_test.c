/*
 * test/unit/delta_test.c
 *	  The state log's deltas: random bytes, random edits, random damage.
 *
 *	delta_test [CASES [SEED]]
 *
 * 1. What is made of a base and its delta is what the delta was made for,
 *	  whatever the two are; and a refused delta leaves the buffer as it was.
 * 2. Of a few edits in much that stays the same, a delta holds the new bytes
 *	  and little more.
 * 3. A damaged delta, or one on another base, raises or makes the same bytes;
 *	  it reads nothing outside its own (run under the address sanitizer).
 * 4. So it is of bytes that were put together out of the base by one who says
 *	  what he has copied, in any number of pieces.
 * 5. The test notices a mistake: with the mutant delta_skip it fails.
 *
 * Needs no server: errors are caught here, the rest is libpgcommon's.
 */
#include "postgres.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/mutant.h"
#include "fmgr.h"
#include "state/delta.h"

#undef printf /* the server's own is not there */

#define MAX_EDITS 8

int cs_mutant = CS_MUTANT_NONE;

/* ---- what the server has, and codec.c asks for ---- */

static jmp_buf on_error;

void
cs_codec_corrupt(const char *what)
{
	(void) what;
	longjmp(on_error, 1);
}

void
cs_reader_corrupt(const CsReader *r, const char *what)
{
	(void) r;
	cs_codec_corrupt(what);
}

struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	(void) datum;
	abort();
}

/* ---- cases ---- */

typedef struct Case
{
	StringInfoData base;
	StringInfoData data;
	int			   edits;
	int			   fresh; /* bytes that edits brought */
	bool		   is_edit;
	bool		   repeats; /* of two symbols: any copy is found anywhere */
} Case;

static uint64 random_state;

static uint32
random_below(uint32 n)
{
	/* splitmix64 */
	uint64 z = (random_state += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return (uint32) ((z ^ (z >> 31)) % n);
}

static void
append_random(StringInfo buf, uint32 n, uint32 symbols)
{
	while (n-- > 0)
		appendStringInfoCharMacro(buf, (char) random_below(symbols));
}

static uint32
random_length(void)
{
	static const uint32 most[] = {1, 2, 8, 40, 400, 400, 400, 4000, 70000};

	return random_below(most[random_below(random_below(200) == 0 ? 9 : 8)]);
}

/* Replace, put in, take out, or put in what stands elsewhere. */
static void
edit(Case *c, uint32 symbols)
{
	uint32		   at = random_below((uint32) c->data.len + 1);
	uint32		   n = random_below(30);
	uint32		   gone = 0;
	StringInfoData next;

	initStringInfo(&next);
	appendBinaryStringInfo(&next, c->data.data, (int) at);
	switch (random_below(4))
	{
		case 0:
			gone = Min(n, (uint32) c->data.len - at);
			append_random(&next, gone, symbols);
			c->fresh += (int) gone;
			break;
		case 1:
			append_random(&next, n, symbols);
			c->fresh += (int) n;
			break;
		case 2:
			gone = Min(n, (uint32) c->data.len - at);
			break;
		case 3:
			n = Min(n, (uint32) c->data.len);
			appendBinaryStringInfo(&next, c->data.data + random_below((uint32) c->data.len - n + 1), (int) n);
			c->fresh += (int) n;
			break;
	}
	appendBinaryStringInfo(&next, c->data.data + at + gone, c->data.len - (int) (at + gone));
	pfree(c->data.data);
	c->data = next;
	c->edits++;
}

static void
make_case(Case *c)
{
	uint32 symbols = random_below(3) == 0 ? 2 : 256;
	int	   edits = (int) random_below(MAX_EDITS + 1);

	c->edits = c->fresh = 0;
	c->is_edit = random_below(5) != 0;
	c->repeats = symbols == 2;
	initStringInfo(&c->base);
	initStringInfo(&c->data);
	append_random(&c->base, random_length(), symbols);
	if (!c->is_edit)
		append_random(&c->data, random_length(), symbols);
	else
	{
		appendBinaryStringInfo(&c->data, c->base.data, c->base.len);
		while (edits-- > 0)
			edit(c, symbols);
	}
}

static void
free_case(Case *c)
{
	pfree(c->base.data);
	pfree(c->data.data);
}

/* ---- what is checked ---- */

typedef enum Outcome
{
	RAISED,
	SAME,
	OTHER
} Outcome;

/* Bytes without a spare one behind them, so that the sanitizer sees each step outside. */
static char *
exact_copy(const char *bytes, int len)
{
	return memcpy(malloc(Max(len, 1)), bytes, len);
}

static Outcome
apply(const char *base, int base_len, const char *delta, int len, const StringInfo expected)
{
	char	*exact_base = exact_copy(base, base_len);
	char	*exact_delta = exact_copy(delta, len);
	CsReader r = {.pos = exact_delta, .end = exact_delta + len};
	char *volatile out = NULL;
	volatile Outcome result = RAISED;

	if (setjmp(on_error) == 0)
	{
		uint16 sum;
		uint32 made = cs_delta_length(&r, &sum);

		out = malloc(Max(made, 1));
		cs_delta_apply(&r, exact_base, (uint32) base_len, out, made, sum);
		result = made == (uint32) expected->len && memcmp(out, expected->data, made) == 0 ? SAME : OTHER;
	}
	free(out);
	free(exact_base);
	free(exact_delta);
	return result;
}

static bool
make_delta(const Case *c, StringInfo delta, uint32 limit)
{
	char *base = exact_copy(c->base.data, c->base.len);
	char *data = exact_copy(c->data.data, c->data.len);
	bool  made = cs_delta_put(delta, base, (uint32) c->base.len, data, (uint32) c->data.len, limit);

	free(base);
	free(data);
	return made;
}

/* What an edit costs beside its bytes: a step of three numbers, and a copy begun late or given up as too short. */
static int
allowance(const Case *c)
{
	int step = c->base.len / 4096 + 4;

	return 12 + (c->edits + 1) * (16 + 2 * step);
}

static const char *
check_round_trip(const Case *c, StringInfo delta)
{
	int before;
	int whole;

	resetStringInfo(delta);
	appendStringInfoString(delta, "before");
	before = delta->len;
	if (!make_delta(c, delta, 1000000))
		return "a delta was refused";
	if (apply(c->base.data, c->base.len, delta->data + before, delta->len - before, (StringInfo) &c->data) != SAME)
		return "a delta does not make what it was made for";
	if (c->is_edit && !c->repeats && delta->len - before > c->fresh + allowance(c))
		return "a delta is too long";
	/* once more behind it, with one byte too little room */
	whole = delta->len;
	if (make_delta(c, delta, (uint32) (whole - before)))
		return "a delta is as long as its limit";
	if (delta->len != whole || strncmp(delta->data, "before", before) != 0)
		return "a refused delta has left something";
	memmove(delta->data, delta->data + before, delta->len - before);
	delta->len -= before;
	return NULL;
}

/* Bytes put together out of pieces of the base, in its order, and new ones between them. */
static const char *
check_copies(StringInfo delta)
{
	StringInfoData data;
	StringInfoData base;
	int			   pieces = (int) random_below(2 * CS_COPIES);
	uint32		   from = 0;
	uint32		   fresh = 0;
	CsCopies	   copies = {0};
	char		  *exact_base;
	const char	  *what = NULL;

	initStringInfo(&base);
	initStringInfo(&data);
	append_random(&base, random_length(), 256);
	copies.base = exact_base = exact_copy(base.data, base.len);
	for (int i = 0; i < pieces; i++)
	{
		uint32 skip = random_below(Min(40, (uint32) base.len - from + 1));
		uint32 n = random_below(Min(60, (uint32) base.len - from - skip + 1));
		uint32 put = random_below(2) == 0 ? skip : random_below(20);

		if (put == skip && random_below(2) == 0) /* some of the replaced bytes are as they were */
			appendBinaryStringInfo(&data, base.data + from, (int) skip);
		else
			append_random(&data, put, 256);
		fresh += put;
		if (copies.n == CS_COPIES)
			fresh += n;
		from += skip;
		cs_put_copy(&data, &copies, exact_base + from, n);
		from += n;
	}
	resetStringInfo(delta);
	if (!cs_delta_put_copies(delta, &copies, (uint32) base.len, data.data, (uint32) data.len, 1000000))
		what = "a delta of copies was refused";
	else if (apply(base.data, base.len, delta->data, delta->len, &data) != SAME)
		what = "a delta of copies does not make what it was made for";
	else if (delta->len > (int) fresh + 12 + (copies.n + 1) * 12)
		what = "a delta of copies is too long";
	else if (cs_delta_put_copies(delta, &copies, (uint32) base.len, data.data, (uint32) data.len, (uint32) delta->len))
		what = "a delta of copies is as long as its limit";
	free(exact_base);
	pfree(base.data);
	pfree(data.data);
	return what;
}

static void
damage(StringInfo delta)
{
	switch (random_below(3))
	{
		case 0:
			delta->data[random_below((uint32) delta->len)] ^= (char) (1 << random_below(8));
			break;
		case 1:
			delta->len = (int) random_below((uint32) delta->len);
			break;
		case 2:
			append_random(delta, 1 + random_below(4), 256);
			break;
	}
}

typedef struct Counts
{
	long wrong; /* damage that made other bytes: one in 65,536 has the right checksum */
	long raised;
	long same;
} Counts;

static void
check_damage(const Case *c, StringInfo delta, Counts *counts)
{
	Case	other;
	Outcome result;

	if (random_below(2) == 0)
	{
		damage(delta);
		result = apply(c->base.data, c->base.len, delta->data, delta->len, (StringInfo) &c->data);
	}
	else
	{
		make_case(&other);
		result = apply(other.base.data, other.base.len, delta->data, delta->len, (StringInfo) &c->data);
		free_case(&other);
	}
	counts->wrong += result == OTHER;
	counts->raised += result == RAISED;
	counts->same += result == SAME;
}

static const char *
run_cases(long cases, Counts *counts)
{
	static StringInfoData delta;
	const char			 *what = NULL;

	if (delta.data == NULL)
		initStringInfo(&delta);
	for (long i = 0; i < cases && what == NULL; i++)
	{
		Case c;

		make_case(&c);
		what = check_round_trip(&c, &delta);
		if (what == NULL && delta.len > 0)
			check_damage(&c, &delta, counts);
		if (what == NULL)
			what = check_copies(&delta);
		if (what)
			printf("delta: case %ld, %d bytes from %d, %d edits of %d bytes: %s\n", i, c.data.len, c.base.len, c.edits,
				   c.fresh, what);
		free_case(&c);
	}
	return what;
}

int
main(int argc, char **argv)
{
	long   cases = argc > 1 ? atol(argv[1]) : 50000;
	uint64 seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64) time(NULL);
	Counts counts = {0};
	Counts ignored = {0};

	printf("delta: %ld cases, seed %" PRIu64 "\n", cases, (uint64_t) seed);
	random_state = seed;
	if (run_cases(cases, &counts))
		return 1;
	if (counts.wrong > 5 + cases / 5000 || counts.raised < cases / 4)
	{
		printf("delta: of damaged ones %ld raised, %ld made other bytes\n", counts.raised, counts.wrong);
		return 1;
	}
	cs_mutant = CS_MUTANT_DELTA_SKIP;
	if (run_cases(1000, &ignored) == NULL)
	{
		printf("delta: a wrong version passes\n");
		return 1;
	}
	printf("delta: ok (the line above is of a wrong version, which must fail), %ld damaged ones raised, %ld made the "
		   "same, %ld others\n",
		   counts.raised, counts.same, counts.wrong);
	return 0;
}
