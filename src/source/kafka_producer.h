/*
 * source/kafka_producer.h
 *	  Sending rows of an outbox to a topic, each exactly once.
 *
 * A producer with transactions: rows, and the position in the outbox up to which they
 * go, are committed together (the position as the offset of a consumer group
 * that has no members; its metadata is the row's token).  So after any crash
 * the broker itself says what is in the topic.  Without transactions it is an
 * idempotent producer, and the caller alone knows.
 *
 * Nothing waits longer than it is told: what has not come to its end is
 * called again.  What mends itself is a problem, the rest is raised.
 * All is given back by the memory context's reset.
 */
#ifndef CS_SOURCE_KAFKA_PRODUCER_H
#define CS_SOURCE_KAFKA_PRODUCER_H

#include "core/sink.h"

typedef struct CsProducer CsProducer;

typedef enum CsSending
{
	CS_SENDING,		/* not all yet: call again with the same rows */
	CS_SENT,		/* all are in the topic, and so is the position */
	CS_SEND_ABORTED /* none is: begin again */
} CsSending;

/* Where the broker stands. */
typedef struct CsBrokerPosition
{
	bool  known;	/* it has one */
	int64 position; /* of the last row in the topic */
	int64 token;	/* and its token */
} CsBrokerPosition;

/* Raises if the topic does not exist; a problem's words if no broker has answered in time, NULL: it is there. */
extern const char *cs_producer_check(const CsSink *sink, int timeout_ms);

extern CsProducer *cs_producer_open(const CsSink *sink, MemoryContext cxt);
/* Fence off whoever has sent for this sink before.  False: not yet. */
extern bool cs_producer_begin(CsProducer *producer, int timeout_ms);
/* Where the topic is, after begin.  False: no answer yet. */
extern bool cs_producer_position(CsProducer *producer, CsBrokerPosition *position, int timeout_ms);
/* Rows up to a position, with its token.  n 0: the position is told again, so that the broker does not forget it. */
extern CsSending cs_producer_send(CsProducer *producer, const CsOutboxRow *rows, int n, int64 position, int64 token,
								  int timeout_ms);

/* Why it does not go on, or NULL. */
extern const char *cs_producer_problem(CsProducer *producer);
/* Has a file that it was opened with changed? */
extern bool cs_producer_is_outdated(CsProducer *producer);
/* What the library has to say; to be called now and then. */
extern void cs_producer_serve(CsProducer *producer);

#endif
