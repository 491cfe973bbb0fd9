/*
 * source/checksum.c
 *	  What says that a message read again is the one that was read before.
 *
 * An offset alone does not: a topic that was deleted and made anew counts from
 * 0 again, and once it has grown past where we are nothing but the messages
 * themselves shows it.  Timestamp, key and payload go into the sum, and which
 * of them there are.
 */
#include "postgres.h"

#include "port/pg_crc32c.h"

#include "source/source.h"

uint32
cs_message_checksum(const CsMessage *message)
{
	int64	  head[3] = {message->timestamp, message->key ? (int64) message->key_len : -1,
					 message->payload ? (int64) message->payload_len : -1};
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, head, sizeof(head));
	if (message->key)
		COMP_CRC32C(crc, message->key, message->key_len);
	if (message->payload)
		COMP_CRC32C(crc, message->payload, message->payload_len);
	FIN_CRC32C(crc);
	return crc;
}
