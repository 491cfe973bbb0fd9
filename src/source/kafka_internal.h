/*
 * source/kafka_internal.h
 *	  What the files of the Kafka source share.  Nobody else includes it.
 *
 * kafka.c			the interface: assign, poll
 * kafka_client.c	open and close: the library's client
 * kafka_lookup.c	questions that wait for a broker: partitions, first offsets
 * kafka_pattern.c	topics that a pattern matches
 * kafka_event.c	what the library tells us: logs, errors, statistics
 * kafka_pause.c	a partition that waits
 * kafka_anew.c		a topic that was made anew: the last message read again
 * kafka_headers.c	headers of a message as jsonb
 * kafka_producer.c	sending rows of an outbox
 * kafka_tell.c		its position into the transaction, by a thread of its own
 * kafka_options.c	properties that a stream may set
 * kafka_secrets.c	files with passwords, keys, certificates
 *
 * Everything runs on the backend's main thread, but for one call each in
 * kafka_client.c and kafka_tell.c.  The library's threads see
 * none of our memory; they write to the pipe, and that is all.
 */
#ifndef CS_SOURCE_KAFKA_INTERNAL_H
#define CS_SOURCE_KAFKA_INTERNAL_H

#include "postgres.h"

#include <librdkafka/rdkafka.h>
#include <sys/stat.h>

#include "lib/ilist.h"

#include "source/source.h"

/* Size of a text that the library gave us, after cleaning. */
#define KAFKA_TEXT 512

/* Topic that vanished from the metadata: a broker that just started may not know it yet, so wait this long (ms). */
#define KAFKA_MISSING_PATIENCE 30000

/* Longest value of an option and longest secret, in bytes. */
#define CS_KAFKA_VALUE_MAX 65536

/* A file that the client was made with. */
typedef struct KafkaFile
{
	char			 *option;
	char			 *path;
	bool			  is_secret;  /* read by us, by its name in the secrets' directory */
	bool			  is_private; /* nobody else may read it */
	struct stat		  seen;		  /* as it was */
	struct KafkaFile *next;
} KafkaFile;

/* An assigned partition. */
typedef struct KafkaPartition
{
	CsPartition *partition;
	int64		 position;	   /* everything before it was delivered or does not exist */
	int64		 end;		   /* high watermark, -1 not known yet */
	bool		 is_reachable; /* its broker spoke a moment ago */
	bool		 is_refused;   /* we may not read it */
	bool		 is_checked;   /* what comes first shall be the message that was consumed last */
	bool		 is_lost;	   /* that one was not there */
	TimestampTz	 short_since;  /* the partition ended right before that one, and it has not come since; 0 no */
} KafkaPartition;

/* The fault of a topic that was made anew; the library has no use for this code with a consumer. */
#define KAFKA_MADE_ANEW RD_KAFKA_RESP_ERR__INCONSISTENT

/* Something that cannot mend itself: found in one poll, raised by the next. */
typedef struct KafkaFault
{
	rd_kafka_resp_err_t code;	   /* RD_KAFKA_RESP_ERR_NO_ERROR: none */
	int					topic;	   /* index, or -1 */
	int32				partition; /* or -1 */
	char				text[KAFKA_TEXT];
} KafkaFault;

typedef struct KafkaSource
{
	CsSource			  base;
	dlist_node			  node; /* in the list of open sources, for the process's exit */
	MemoryContextCallback callback;
	bool				  is_open; /* in the list */
	const CsStream		 *stream;
	MemoryContext		  cxt;
	MemoryContext		  scratch; /* reset after each use */

	/* Held by the library; given back by close_source() only. */
	rd_kafka_conf_t					*conf;
	rd_kafka_t						*rk;
	rd_kafka_queue_t				*consumer_queue; /* messages, partition errors */
	rd_kafka_queue_t				*main_queue;	 /* errors, statistics */
	rd_kafka_queue_t				*log_queue;
	rd_kafka_topic_t			   **topics;  /* by index into stream->topics */
	int								 pipe[2]; /* [0] is what poll_fd() gives */
	bool							 has_pipe;
	const struct rd_kafka_metadata	*metadata; /* in flight, else NULL */
	rd_kafka_topic_partition_list_t *list;	   /* in flight, else NULL */
	rd_kafka_event_t				*event;	   /* in flight, else NULL */
	rd_kafka_message_t			   **held;	   /* messages not yet released */
	int								 nheld;
	int								 held_size;

	KafkaFile	   *files;
	bool			is_outdated; /* one of them has changed */
	KafkaPartition *partitions;	 /* sorted by topic, id */
	int				npartitions;
	int				slow_ms;	   /* a question was not answered in half of this: the next one waits so long */
	int				silence_limit; /* ms without a word that make a broker unreachable */
	TimestampTz		assigned_at;   /* when assign() was last called */
	TimestampTz		ends_read_at;  /* when the high watermarks were last looked at */
	TimestampTz		nudged_at;	   /* when it was last looked whether the library should be woken */
	TimestampTz	   *missing_since; /* by topic: vanished from the metadata, or 0 */
	bool		   *was_seen;	   /* by topic: was in the metadata once, or read in an earlier life */
	bool		   *was_listed;	   /* by topic: was in the metadata that this client got */

	CsTopicNews news;
	bool		matches_nothing; /* the pattern */

	bool	   reassigns; /* a partition shall begin elsewhere: assign before the next look */
	KafkaFault fault;
	bool	   has_taken; /* messages were delivered since the last commit or assignment */
	bool	   has_problem;
	char	   problem[KAFKA_TEXT];
	char	   last_error[KAFKA_TEXT]; /* newest words of the library on its brokers; "" none */
} KafkaSource;

/* kafka.c */
extern KafkaPartition *cs_kafka_find_partition(KafkaSource *source, int topic, int32 id);

/* kafka_client.c */
extern CsSource *cs_kafka_open(const CsStream *stream, MemoryContext cxt);
typedef void (*KafkaSent)(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque);
extern KafkaSource *cs_kafka_open_producer(const CsStream *stream, const char *transactional_id, KafkaSent sent,
										   MemoryContext cxt);
extern void			cs_kafka_destroy_held(KafkaSource *source);
extern void			cs_kafka_destroy_in_flight(KafkaSource *source);

extern void cs_kafka_leave_client(KafkaSource *source);

/* kafka_tell.c */
typedef struct KafkaTelling KafkaTelling;
extern KafkaTelling		   *cs_kafka_tell(rd_kafka_t *rk, const char *group, const char *topic, int64 position,
										  const char *metadata);
extern bool					cs_kafka_has_told(KafkaTelling *telling, int timeout_ms, rd_kafka_error_t **error);
extern bool					cs_kafka_tells_since(const KafkaTelling *telling, int ms);
extern bool					cs_kafka_end_telling(KafkaTelling *telling);

/* kafka_nudge.c: wake what fetches, if there may be room for more. */
extern void cs_kafka_nudge(KafkaSource *source);

/* kafka_lookup.c */
extern CsPartition *cs_kafka_list(CsSource *base, int *n, int timeout_ms);
/* Metadata of one topic, or of all if it is -1, into source->metadata. */
extern rd_kafka_resp_err_t cs_kafka_ask_metadata(KafkaSource *source, int topic, int timeout_ms);
/* Is the topic itself all right in the metadata?  Sets a problem or raises if not. */
extern bool cs_kafka_topic_is_well(KafkaSource *source, int topic, const struct rd_kafka_metadata_topic *answer);
/* Append a topic's partitions that the stream reads to an array. */
extern CsPartition *cs_kafka_append_partitions(KafkaSource *source, int topic,
											   const struct rd_kafka_metadata_topic *answer, CsPartition *result,
											   int *n);
extern bool			cs_kafka_start_offset(CsSource *base, CsPartition *partition, bool is_first_time, int timeout_ms);
extern bool			cs_kafka_watermarks(KafkaSource *source, const CsPartition *partition, int64 *low, int64 *high,
										int timeout_ms);

/* kafka_pattern.c */
extern CsPartition		 *cs_kafka_list_matching(KafkaSource *source, int *n, int timeout_ms);
extern const CsTopicNews *cs_kafka_news(CsSource *base);

/* kafka_event.c */
extern void cs_kafka_serve_events(KafkaSource *source);
extern void cs_kafka_message_error(KafkaSource *source, const rd_kafka_message_t *message, int topic);
extern void cs_kafka_error_callback(rd_kafka_t *rk, int code, const char *text, void *opaque);
extern void cs_kafka_raise_fault(KafkaSource *source);
extern void cs_kafka_set_problem(KafkaSource *source, const char *text);
extern void cs_kafka_no_answer(KafkaSource *source, const char *what, rd_kafka_resp_err_t code);

/* kafka_words.c */
extern void cs_kafka_copy_text(char *target, const char *text, size_t size);
extern void cs_kafka_explain(char *target, const char *text, size_t size);

/* kafka_pause.c */
extern void cs_kafka_pause(CsSource *base, CsPartition *partition, bool paused);

/* kafka_anew.c */
extern bool cs_kafka_check_begins(const CsPartition *partition);
extern bool cs_kafka_check_message(KafkaSource *source, KafkaPartition *p, const rd_kafka_message_t *message,
								   const CsMessage *as_ours);
extern bool cs_kafka_check_end(KafkaSource *source, KafkaPartition *p, int64 end);
extern void cs_kafka_check_again(KafkaSource *source, KafkaPartition *p, TimestampTz now);
extern void cs_kafka_judge_lost(KafkaSource *source);
extern bool cs_kafka_check_lost(KafkaSource *source, KafkaPartition *p, rd_kafka_resp_err_t code);
extern void cs_kafka_raise_anew(KafkaSource *source, const KafkaFault *fault, const char *topic);

/* kafka_headers.c */
extern Jsonb *cs_kafka_headers(CsSource *base, const CsMessage *message, size_t *length);

/* kafka_options.c */
extern void cs_kafka_options_apply(KafkaSource *source, rd_kafka_type_t type);
extern void cs_kafka_secret_name_validate(const char *option, const char *name);

/* kafka_secrets.c */
extern char *cs_kafka_secret_read(KafkaSource *source, const char *option, const char *name, bool is_private);
extern void	 cs_kafka_file_watch(KafkaSource *source, const char *option, const char *path);
extern bool	 cs_kafka_files_changed(KafkaSource *source);
extern void	 cs_kafka_files_keep(KafkaSource *source);

#endif
