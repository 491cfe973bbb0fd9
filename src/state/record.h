/*
 * state/record.h
 *	  Records of the state log: what its writer (log.c) and recovery (replay.c)
 *	  must agree upon.
 *
 * A record is the length of what follows (a varint), an operation, its body.
 * Numbers are varints (codec.h); what is not is in the server's byte order:
 * the log never leaves the server but by pg_dump to one of its kind.
 */
#ifndef CS_STATE_RECORD_H
#define CS_STATE_RECORD_H

#include "port/pg_crc32c.h"
#include "state/internal.h"

typedef enum CsLogOp
{
	CS_LOG_IMAGE = 1,  /* key, bytes */
	CS_LOG_DELTA,	   /* key, delta (delta.h) of the bytes that the half had until here */
	CS_LOG_DELETE,	   /* key */
	CS_LOG_SET_ADD,	   /* definition, id, members */
	CS_LOG_SET_DROP,   /* id */
	CS_LOG_SPILLED,	   /* key: from here the spill table has the entry */
	CS_LOG_SET_SPILLED /* id: the spill table has all members up to here */
} CsLogOp;

/* Rows of a commit that are being replayed. */
typedef struct CsLogPlace
{
	CsState *state;
	Oid		 relation;
	int64	 commit_number;
	int32	 first, last; /* seq */
} CsLogPlace;

/* damage.c: what they say cannot be; key: of the record, or NULL. */
pg_noreturn extern void cs_log_corrupt(const CsLogPlace *place, const CsKey *key, const char *what);

/*
 * A key: definition * 2, with 1 added if the bucket is that of the key before
 * in the same commit (0 before the first), else followed by the bucket; who.
 * Entries are written definition by definition, mostly of one bucket or two.
 */
static inline void
cs_put_key(StringInfo buf, const CsKey *key, int64 *last_bucket)
{
	bool same = key->bucket == *last_bucket;

	cs_put_uint(buf, (uint64) key->def << 1 | same);
	if (!same)
		cs_put_int(buf, key->bucket);
	*last_bucket = key->bucket;
	cs_put_raw(buf, &key->who, sizeof(key->who));
}

static inline void
cs_get_key(CsReader *r, CsKey *key, int64 *last_bucket)
{
	uint64 head = cs_get_uint(r);

	memset(key, 0, sizeof(*key));
	key->def = (uint32) (head >> 1);
	key->bucket = *last_bucket = (head & 1) != 0 ? *last_bucket : cs_get_int(r);
	memcpy(&key->who, cs_get_raw(r, sizeof(key->who)), sizeof(key->who));
}

/* The checksum that a row begins with. */
static inline pg_crc32c
cs_row_checksum(const char *data, int len)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
	return crc;
}

#endif
