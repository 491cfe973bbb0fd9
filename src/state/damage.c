/*
 * state/damage.c
 *	  What is said about bytes of the state that cannot be read.
 *
 * No locking.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "state/state.h"
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
static const char *
key_of(const CsKey *key)
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

	if (r->key == NULL)
		cs_codec_corrupt(what);
	name = name_of(r);
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("stored state of %s for %s%s%s%s is damaged: %s", r->def ? r->def->name : "dedupe_by",
						   name ? "\"" : "", name ? name : "", name ? "\", key " : "key ", key_of(r->key), what),
					errhint(CS_DAMAGE_HINT)));
}
