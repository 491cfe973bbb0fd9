/*
 * state/damage.c
 *	  What is said about bytes of the state that cannot be read.
 *
 * The whole of it is the message: with the hint, that is what a failed stream
 * shows (CsSlot.error).  Whose bytes they are first, where they lie last.
 *
 * An entry, or a row of the spill table, is one key's and can be given up.  A
 * row of the log cannot: what it said of deletions would be undone, and of the
 * keys that it said something of only that is known which can still be read.
 *
 * No locking.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "state/record.h"
#include "state/spill.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include <xxhash.h>

void
cs_codec_corrupt(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("stored state is damaged: %s", what),
					errhint("Go back to a backup, or begin anew with clickstream.reset().")));
}

void
cs_state_check_format(const CsStream *stream, int format)
{
	if (format == CS_STATE_FORMAT)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the stored state of stream \"%s\" has format %d, not %d", stream->name, format, CS_STATE_FORMAT),
			 errdetail("It was written by %s version of the extension's library; nothing has been changed.",
					   format > CS_STATE_FORMAT ? "a newer" : "an older"),
			 errhint("Install that version again, or read the topic again from its beginning with "
					 "clickstream.reset().")));
}

/* What was read as the name is only shown if it is what the key is a hash of: then it cannot be damaged. */
static const char *
name_of(const CsReader *r)
{
	XXH128_hash_t hash;

	if (r->name == NULL)
		return NULL;
	hash = XXH3_128bits(r->name, r->name_len); /* as cs_hash_bytes() does */
	if (hash.low64 != r->key->who.lo || hash.high64 != r->key->who.hi ||
		!pg_verifymbstr(r->name, (int) r->name_len, true))
		return NULL;
	return pnstrdup(r->name, r->name_len);
}

/* As group_key shows it; and of which window. */
const char *
cs_key_text(const CsKey *key)
{
	uint64 hi = key->who.hi;
	uint64 lo = key->who.lo;
	char  *uuid = psprintf("%08x-%04x-%04x-%04x-%012llx", (uint32) (hi >> 32), (uint32) (hi >> 16) & 0xFFFF,
						   (uint32) hi & 0xFFFF, (uint32) (lo >> 48), (long long) (lo & UINT64CONST(0xFFFFFFFFFFFF)));

	if (key->bucket == 0)
		return uuid;
	/* the rest says what the bucket is for */
	return psprintf("%s of %s", uuid, timestamptz_to_str(cs_floor_msec(key->bucket)));
}

void
cs_reader_corrupt(const CsReader *r, const char *what)
{
	const char *name;

	if (r->place)
		cs_log_corrupt(r->place, r->key, what);
	if (r->key == NULL)
		cs_codec_corrupt(what);
	name = name_of(r);
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("stored state of %s for %s%s%s%s is damaged: %s", r->def ? r->def->name : "dedupe_by",
						   name ? "\"" : "", name ? name : "", name ? "\", key " : "key ", cs_key_text(r->key), what),
					errhint(CS_DAMAGE_HINT)));
}

/* ---- rows ---- */

static const char *
whose(CsState *state, int32 definition_id)
{
	const CsDefState *def = cs_def_state(state, definition_id);

	return def ? def->name : psprintf("definition %d", definition_id);
}

static const char *
table_name(Oid relation)
{
	const char *name = get_rel_name(relation);

	return name ? psprintf("clickstream.%s", name) : "a table that is gone";
}

void
cs_spill_corrupt(CsState *state, const CsSpillRow *row)
{
	const char *table = table_name(state->spill->relation);
	const char *name = whose(state, cs_spill_is_set(&row->key) ? ~(int32) row->key.def : (int32) row->key.def);

	if (cs_spill_is_set(&row->key))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("stored state of %s is damaged: %s (%s, distinct set " INT64_FORMAT ", piece %d)", name,
							   row->problem, table, row->key.bucket, row->piece),
						errhint(CS_DAMAGE_HINT)));
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("stored state of %s for key %s is damaged: %s (%s, piece %d)", name, cs_key_text(&row->key),
						   row->problem, table, row->piece),
					errhint(CS_DAMAGE_HINT)));
}

void
cs_spill_doubled(CsState *state, const CsKey *key)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("stored state of %s for key %s is damaged: it is in the state log, and in %s",
						   whose(state, (int32) key->def), cs_key_text(key), table_name(state->spill->relation)),
					errhint(CS_LOG_DAMAGE_HINT)));
}

/* The rows of a commit that bytes come from. */
static const char *
rows_of(const CsLogPlace *place)
{
	const char *rows = place->first == place->last ? "" : psprintf(" to %d", place->last);

	return psprintf("%s, commit_number " INT64_FORMAT ", seq %d%s", table_name(place->relation), place->commit_number,
					place->first, rows);
}

void
cs_log_corrupt(const CsLogPlace *place, const CsKey *key, const char *what)
{
	if (key == NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("stored state is damaged: %s (%s)", what, rows_of(place)), errhint(CS_LOG_DAMAGE_HINT)));
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("stored state of %s for key %s is damaged: %s (%s)", whose(place->state, (int32) key->def),
						   cs_key_text(key), what, rows_of(place)),
					errhint(CS_LOG_DAMAGE_HINT)));
}
