/*
 * generate.c
 *	  Writes the bench's events in arrival order, as text or into Kafka.
 *
 *	  generate [options] [EVENTS [SEED [RATE [USERS]]]]
 *
 * RATE is events per second of event time.  Without --brokers each line is
 * KEY<TAB>JSON.  With it the events go to --topic: lz4, partition by murmur2
 * of the key (as Java's producer does), message timestamp = time of arrival.
 * --hold N stops after N events until a line comes in on standard input; what
 * follows is then sent in real time, a second of event time in a second; with
 * --clock its message timestamps are the clock's, to measure how late rows are.
 *
 * Time goes on in steps of one millisecond.  Both things that happen later
 * (a visitor's next event, an event's arrival) wait in a wheel with one slot
 * for each millisecond, so nothing is ever sorted: in each step visits begin,
 * visitors act, and what has arrived goes out.  An event arrives at most
 * 8.5 s after it happened, so none lags the newest by more than that, however
 * the topic is partitioned.
 *
 * The same arguments give the same bytes in the same order in each partition.
 *
 * Single-threaded but for librdkafka's own threads; "failed" is only touched
 * by its callbacks, which run inside rd_kafka_poll() and rd_kafka_flush().
 */
#include "visit.h"

#include <errno.h>
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_VISIT 13.0 /* about that in the first hour of event time; slow visits go on */
#define VISITOR_DRAWS 100
#define MEAN_LAG_MS 1500.0
#define MAX_LAG_MS 8500

#define VISIT_SLOTS (VISIT_GAP_MAX + 1)
#define ARRIVAL_SLOTS 16384 /* a power of two above MAX_LAG_MS */

/* In real time we sleep once for this many steps. */
#define PACE_STEPS 10

/* 2024-06-01 00:00:00 UTC */
#define DEFAULT_START_MS INT64_C(1717200000000)

typedef struct Arrival
{
	struct Arrival *next;
	Event			event;
} Arrival;

typedef struct Queue
{
	Arrival *head;
	Arrival *tail;
} Queue;

typedef struct Options
{
	long		events;
	long		hold; /* -1: never */
	uint64_t	seed;
	double		rate;
	long		users;
	int64_t		start_ms;
	const char *brokers;
	const char *topic;
	const char *linger_ms;
	bool		clock;
} Options;

typedef struct Generator
{
	Options			  options;
	Model			 *model;
	int64_t			  now_ms;
	double			  next_visit_ms;
	uint32_t		 *due;		 /* VISIT_SLOTS: first visitor of the slot + 1 */
	uint32_t		 *due_after; /* users: next visitor in the same slot + 1 */
	Queue			  arrivals[ARRIVAL_SLOTS];
	Arrival			 *spare;
	long			  sent;
	bool			  paced;
	struct timespec	  paced_from;
	int64_t			  paced_from_ms;
	rd_kafka_t		 *producer;
	rd_kafka_topic_t *topic;
	long			  failed;
} Generator;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list arguments;

	fputs("generate: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

static void *
zeroed(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL)
		fail("out of memory");
	return memory;
}

/* ---------- output ---------- */

static void
on_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
	Generator *g = opaque;

	(void) producer;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	if (g->failed++ == 0)
		fprintf(stderr, "generate: a message was not delivered: %s\n", rd_kafka_err2str(message->err));
}

static void
configure(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char error[512];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		fail("%s", error);
}

static void
open_topic(Generator *g)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char			 error[512];

	configure(conf, "bootstrap.servers", g->options.brokers);
	configure(conf, "compression.codec", "lz4");
	configure(conf, "partitioner", "murmur2_random");
	/* Keeps the order within a partition whatever is sent again. */
	configure(conf, "enable.idempotence", "true");
	configure(conf, "linger.ms", g->options.linger_ms);
	configure(conf, "queue.buffering.max.messages", "500000");
	configure(conf, "queue.buffering.max.kbytes", "524288");
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	rd_kafka_conf_set_opaque(conf, g);
	g->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (g->producer == NULL)
		fail("%s", error);
	g->topic = rd_kafka_topic_new(g->producer, g->options.topic, NULL);
	if (g->topic == NULL)
		fail("topic %s: %s", g->options.topic, rd_kafka_err2str(rd_kafka_last_error()));
}

static int64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
send_to_topic(Generator *g, const Event *event)
{
	int64_t timestamp = g->paced && g->options.clock ? clock_ms() : g->now_ms;

	for (;;)
	{
		rd_kafka_resp_err_t error =
			rd_kafka_producev(g->producer, RD_KAFKA_V_RKT(g->topic), RD_KAFKA_V_PARTITION(RD_KAFKA_PARTITION_UA),
							  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(event->key, event->key_length),
							  RD_KAFKA_V_VALUE((void *) event->json, event->json_length),
							  RD_KAFKA_V_TIMESTAMP(timestamp), RD_KAFKA_V_END);

		if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		if (error != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			fail("topic %s: %s", g->options.topic, rd_kafka_err2str(error));
		rd_kafka_poll(g->producer, 100);
	}
	if (g->sent % 256 == 0)
		rd_kafka_poll(g->producer, 0);
}

static void
write_line(const Event *event)
{
	fwrite(event->key, 1, event->key_length, stdout);
	putc_unlocked('\t', stdout);
	fwrite(event->json, 1, event->json_length, stdout);
	putc_unlocked('\n', stdout);
}

/* What has been sent is at the broker, or with the reader of our output. */
static void
flush_output(Generator *g)
{
	if (g->producer != NULL)
	{
		rd_kafka_resp_err_t error = rd_kafka_flush(g->producer, 300000);

		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
			fail("%s", rd_kafka_err2str(error));
	}
	else if (fflush(stdout) != 0)
		fail("standard output: %s", strerror(errno));
}

static void
close_output(Generator *g)
{
	flush_output(g);
	if (g->producer == NULL)
		return;
	rd_kafka_topic_destroy(g->topic);
	rd_kafka_destroy(g->producer);
	if (g->failed > 0)
		fail("%ld of %ld messages were not delivered", g->failed, g->sent);
}

/* ---------- time ---------- */

static void
hold(Generator *g)
{
	char line[80];

	flush_output(g);
	fprintf(stderr, "generate: holding after %ld events\n", g->sent);
	if (fgets(line, sizeof(line), stdin) == NULL)
		fail("standard input ended while holding");
	g->paced = true;
	g->paced_from_ms = g->now_ms;
	clock_gettime(CLOCK_MONOTONIC, &g->paced_from);
}

static void
wait_for_now(Generator *g)
{
	struct timespec until = g->paced_from;
	int64_t			passed_ms = g->now_ms - g->paced_from_ms;

	until.tv_sec += passed_ms / 1000;
	until.tv_nsec += passed_ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
	if (g->producer != NULL)
		rd_kafka_poll(g->producer, 0);
}

/* ---------- the wheels ---------- */

static void
schedule_visitor(Generator *g, uint32_t visitor, int32_t after_ms)
{
	uint32_t *slot = &g->due[(g->now_ms + after_ms) % VISIT_SLOTS];

	g->due_after[visitor] = *slot;
	*slot = visitor + 1;
}

static Arrival *
schedule_arrival(Generator *g)
{
	double	 lag = model_exponential(g->model, MEAN_LAG_MS);
	int64_t	 at = g->now_ms + (lag < MAX_LAG_MS ? (int64_t) lag : MAX_LAG_MS);
	Queue	*queue = &g->arrivals[at % ARRIVAL_SLOTS];
	Arrival *arrival = g->spare;

	if (arrival != NULL)
		g->spare = arrival->next;
	else
		arrival = zeroed(1, sizeof(Arrival));
	arrival->next = NULL;
	if (queue->head == NULL)
		queue->head = arrival;
	else
		queue->tail->next = arrival;
	queue->tail = arrival;
	return arrival;
}

static void
begin_visits(Generator *g)
{
	double mean_ms = 1000.0 * EVENTS_PER_VISIT / g->options.rate;

	while (g->next_visit_ms <= (double) (g->now_ms - g->options.start_ms))
	{
		uint32_t visitor;

		/* Busy visitors must not lower the rate, if there are idle ones. */
		for (int i = 0; i < VISITOR_DRAWS; i++)
			if (visit_begin(g->model, &visitor))
			{
				schedule_visitor(g, visitor, 0);
				break;
			}
		g->next_visit_ms += model_exponential(g->model, mean_ms);
	}
}

static void
run_visits(Generator *g)
{
	uint32_t *slot = &g->due[g->now_ms % VISIT_SLOTS];

	/* A visitor may come back into this very slot: equal times. */
	while (*slot != 0)
	{
		uint32_t visitor = *slot - 1;
		int32_t	 after_ms;

		*slot = g->due_after[visitor];
		visit_event(g->model, visitor, g->now_ms, &schedule_arrival(g)->event);
		after_ms = visit_next(g->model, visitor, g->now_ms);
		if (after_ms >= 0)
			schedule_visitor(g, visitor, after_ms);
	}
}

static void
send_arrivals(Generator *g)
{
	Queue *queue = &g->arrivals[g->now_ms % ARRIVAL_SLOTS];

	while (queue->head != NULL && g->sent < g->options.events)
	{
		Arrival *arrival = queue->head;

		if (g->sent == g->options.hold && !g->paced)
			hold(g);
		if (g->producer != NULL)
			send_to_topic(g, &arrival->event);
		else
			write_line(&arrival->event);
		g->sent++;
		queue->head = arrival->next;
		arrival->next = g->spare;
		g->spare = arrival;
	}
}

static void
run(Generator *g)
{
	for (; g->sent < g->options.events; g->now_ms++)
	{
		if (g->paced && g->now_ms % PACE_STEPS == 0)
			wait_for_now(g);
		begin_visits(g);
		run_visits(g);
		send_arrivals(g);
	}
}

/* ---------- arguments ---------- */

static const char usage[] =
	"usage: generate [options] [EVENTS [SEED [RATE [USERS]]]]\n"
	"  defaults: 1000000 42 2000 5000000; RATE is events per second of event time\n"
	"  --brokers LIST --topic NAME  write to Kafka (else KEY<TAB>JSON lines to standard output)\n"
	"  --linger-ms N                how long the producer collects a batch (50)\n"
	"  --start MS                   time of the first event, Unix epoch (2024-06-01)\n"
	"  --hold N                     stop after N events until a line comes in, then go on in real time\n"
	"  --clock                      ... whose message timestamps are the clock's\n";

static double
number_argument(const char *text, double minimum, double maximum)
{
	char  *end;
	double number = strtod(text, &end);

	if (end == text || *end != '\0' || !(number >= minimum && number <= maximum))
		fail("\"%s\" is not a number from %.0f to %.0f", text, minimum, maximum);
	return number;
}

static Options
read_options(int argc, char **argv)
{
	static const struct option names[] = {
		{"brokers", required_argument, NULL, 'b'},
		{"topic", required_argument, NULL, 't'},
		{"linger-ms", required_argument, NULL, 'l'},
		{"start", required_argument, NULL, 's'},
		{"hold", required_argument, NULL, 'h'},
		{"clock", no_argument, NULL, 'c'},
		{"help", no_argument, NULL, '?'},
		{NULL, 0, NULL, 0},
	};
	Options o = {
		.events = 1000000,
		.hold = -1,
		.seed = 42,
		.rate = 2000,
		.users = 5000000,
		.start_ms = DEFAULT_START_MS,
		.linger_ms = "50",
	};
	int name;

	while ((name = getopt_long(argc, argv, "", names, NULL)) != -1)
		switch (name)
		{
			case 'b':
				o.brokers = optarg;
				break;
			case 't':
				o.topic = optarg;
				break;
			case 'l':
				o.linger_ms = optarg;
				break;
			case 's':
				o.start_ms = (int64_t) number_argument(optarg, 0, 4e12);
				break;
			case 'h':
				o.hold = (long) number_argument(optarg, 0, 1e12);
				break;
			case 'c':
				o.clock = true;
				break;
			default:
				fputs(usage, stderr);
				exit(2);
		}
	argc -= optind;
	argv += optind;
	if (argc > 0)
		o.events = (long) number_argument(argv[0], 0, 1e12);
	if (argc > 1)
		o.seed = (uint64_t) number_argument(argv[1], 0, 1e15);
	if (argc > 2)
		o.rate = number_argument(argv[2], 1, 1e6);
	if (argc > 3)
		o.users = (long) number_argument(argv[3], 1, 99999999);
	if ((o.brokers == NULL) != (o.topic == NULL))
		fail("--brokers and --topic go together");
	return o;
}

int
main(int argc, char **argv)
{
	static Generator generator;
	static char		 buffer[1 << 20];
	Generator		*g = &generator;

	g->options = read_options(argc, argv);
	g->now_ms = g->options.start_ms;
	g->model = model_create(g->options.seed, (uint32_t) g->options.users);
	if (g->model == NULL)
		fail("out of memory");
	g->due = zeroed(VISIT_SLOTS, sizeof(uint32_t));
	g->due_after = zeroed((size_t) g->options.users, sizeof(uint32_t));
	if (g->options.brokers != NULL)
		open_topic(g);
	else
		setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
	run(g);
	close_output(g);
	model_free(g->model);
	return 0;
}
