/*
 * source/kafka_options.h
 *	  Which librdkafka properties a stream or a sink may set, and their values.
 *
 * Free of librdkafka's own header, so that api/ may include it.
 */
#ifndef CS_SOURCE_KAFKA_OPTIONS_H
#define CS_SOURCE_KAFKA_OPTIONS_H

#include "core/definition.h"

/*
 * A CsOption whose value begins with this character names a secret: what
 * follows is the file's name.  No plain value can begin with it.
 */
#define CS_SECRET_MARK '\001'

/*
 * Raise an error with a hint if options (may be NULL) name a property that
 * is not on the list, or has no effect on a stream (a sink), or hold a value that it cannot have.  Checks as the
 * current user: properties that name files of the server or addresses to ask need the
 * rights of pg_read_server_files.  Secrets are checked by name only, not read.
 */
extern void cs_kafka_options_validate(Jsonb *options, bool for_sink);

/*
 * The options as a list in the current context; *n is its length.  Applies
 * the same checks, except that of the user.
 */
extern CsOption *cs_kafka_options_parse(Jsonb *options, int *n);

/* Raise if brokers or a topic's name cannot be what they should be. */
extern void cs_kafka_brokers_validate(const char *brokers);
extern void cs_kafka_topic_validate(const char *topic);

#endif
