/*
 * demo/broker.c
 *	  clickstream-broker: an embedded Kafka broker for the demo and the fault
 *	  tests.
 *
 * It is librdkafka's mock cluster in a process of its own: other processes
 * (the extension, kcat, any client) reach it over TCP on 127.0.0.1, on ports
 * that the system picks.  Topics named on the command line exist before the
 * ready file does, so whoever waits for the file may connect at once.
 *
 * Limits of the mock cluster: nothing survives the process, 5 MiB of message
 * sets are kept per partition (oldest go first), no look-up by timestamp, a
 * topic cannot grow partitions, and a topic asked for by name is created.
 *
 * The process ends on SIGTERM or SIGINT, when its parent dies, and with
 * --commands also at the end of its standard input.  With --commands it reads
 * one command a line and answers each with one last line, "ok" or "error: …",
 * so a test can wait for the effect:
 *
 *	 errors <apikey> <count> <code>	 fail the next requests of that kind (Produce
 *									 0, Fetch 1, ListOffsets 2, Metadata 3) with a
 *									 Kafka error code; -195 cuts the connection
 *	 clear <apikey>					 forget the errors not yet used
 *	 down [broker] | up [broker]	 close and refuse connections; accept again
 *	 rtt <ms> [broker]				 delay each answer
 *	 leader <topic> <partition> <broker>	 let another broker lead it
 *	 topic <name>:<partitions>		 make a topic
 *	 partitions						 list "topic partition low high" of each
 *	 quit
 *
 * Locking: one thread of ours; the library does its own.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#define MAX_TOPICS 64
#define MAX_PARTITIONS 1000
#define MAX_ERRORS 10000
#define MAX_LINE 1024
#define QUERY_TIMEOUT_MS 2000

typedef struct Topic
{
	char *name;
	int	  partitions;
} Topic;

typedef struct Broker
{
	rd_kafka_t				*client; /* the handle the cluster hangs on, and our own client of it */
	rd_kafka_mock_cluster_t *cluster;
	Topic					 topics[MAX_TOPICS];
	int						 ntopics;
	int						 replicas;
} Broker;

static void
usage(FILE *to)
{
	fprintf(to, "usage: clickstream-broker --topic NAME:PARTITIONS [--topic …] [--brokers N]\n"
				"                          [--ready-file FILE] [--commands]\n"
				"An embedded Kafka broker on 127.0.0.1; prints its address, and writes it to FILE.\n");
}

static void
fail(const char *what, const char *detail)
{
	fprintf(stderr, "clickstream-broker: %s: %s\n", what, detail);
	exit(1);
}

/* A whole decimal number between low and high, or false. */
static bool
parse_int(const char *text, long low, long high, int *result)
{
	char *end;
	long  value;

	if (text == NULL || *text == '\0')
		return false;
	errno = 0;
	value = strtol(text, &end, 10);
	if (errno != 0 || *end != '\0' || value < low || value > high)
		return false;
	*result = (int) value;
	return true;
}

/* Remember "name:partitions"; returns what is wrong with it, or NULL. */
static const char *
add_topic(Broker *broker, const char *text)
{
	const char *colon = text ? strrchr(text, ':') : NULL;
	Topic	   *topic;

	if (broker->ntopics == MAX_TOPICS)
		return "too many topics";
	topic = &broker->topics[broker->ntopics];
	if (colon == NULL || colon == text || !parse_int(colon + 1, 1, MAX_PARTITIONS, &topic->partitions))
		return "a topic is NAME:PARTITIONS";
	topic->name = strndup(text, colon - text);
	if (topic->name == NULL)
		return "out of memory";
	broker->ntopics++;
	return NULL;
}

/* Make the newest topic in the cluster; one that cannot be made is forgotten. */
static const char *
make_topic(Broker *broker, int which)
{
	Topic			   *topic = &broker->topics[which];
	rd_kafka_resp_err_t err;

	err = rd_kafka_mock_topic_create(broker->cluster, topic->name, topic->partitions, broker->replicas);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	if (which == broker->ntopics - 1)
	{
		free(topic->name);
		broker->ntopics--;
	}
	return rd_kafka_err2str(err);
}

static void
start_cluster(Broker *broker, int nbrokers)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char			 count[16];
	char			 errstr[512];

	snprintf(count, sizeof(count), "%d", nbrokers);
	if (rd_kafka_conf_set(conf, "test.mock.num.brokers", count, errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
		fail("could not configure the cluster", errstr);
	/* it would log that it is a mock, and each end of a broker that a test takes down */
	if (rd_kafka_conf_set(conf, "log_level", "0", errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
		fail("could not configure the cluster", errstr);
	broker->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, errstr, sizeof(errstr));
	if (broker->client == NULL)
		fail("could not start the cluster", errstr);
	broker->cluster = rd_kafka_handle_mock_cluster(broker->client);
	if (broker->cluster == NULL)
		fail("could not start the cluster", "this librdkafka has no mock cluster");
	broker->replicas = nbrokers < 3 ? nbrokers : 3;
	for (int i = 0; i < broker->ntopics; i++)
	{
		const char *error = make_topic(broker, i);

		if (error)
			fail("could not create topic", error);
	}
}

/* Whole or not at all: a reader polls for the file's existence. */
static void
write_ready_file(const char *path, const char *address)
{
	char  temporary[4096];
	FILE *file;

	if ((size_t) snprintf(temporary, sizeof(temporary), "%s.new", path) >= sizeof(temporary))
		fail("could not write the ready file", "its name is too long");
	file = fopen(temporary, "w");
	if (file == NULL || fprintf(file, "%s\n", address) < 0 || fclose(file) != 0 || rename(temporary, path) != 0)
		fail("could not write the ready file", strerror(errno));
}

static const char *
command_errors(Broker *broker, char **words)
{
	rd_kafka_resp_err_t *errors;
	int					 key;
	int					 count;
	int					 code;

	if (!parse_int(words[1], 0, 100, &key) || !parse_int(words[2], 1, MAX_ERRORS, &count) ||
		!parse_int(words[3], -200, 1000, &code))
		return "usage: errors <apikey> <count> <code>";
	errors = calloc(count, sizeof(*errors));
	if (errors == NULL)
		return "out of memory";
	for (int i = 0; i < count; i++)
		errors[i] = code;
	rd_kafka_mock_push_request_errors_array(broker->cluster, (int16_t) key, count, errors);
	free(errors);
	return NULL;
}

static const char *
command_clear(Broker *broker, char **words)
{
	int key;

	if (!parse_int(words[1], 0, 100, &key))
		return "usage: clear <apikey>";
	rd_kafka_mock_clear_request_errors(broker->cluster, (int16_t) key);
	return NULL;
}

/* down, up: without a number all brokers, which the library calls -1. */
static const char *
command_reach(Broker *broker, char **words)
{
	int					id = -1;
	rd_kafka_resp_err_t err;

	if (words[1] && !parse_int(words[1], -1, 1000, &id))
		return "usage: down|up [broker]";
	if (strcmp(words[0], "down") == 0)
		err = rd_kafka_mock_broker_set_down(broker->cluster, id);
	else
		err = rd_kafka_mock_broker_set_up(broker->cluster, id);
	return err ? rd_kafka_err2str(err) : NULL;
}

static const char *
command_rtt(Broker *broker, char **words)
{
	int					id = -1;
	int					ms;
	rd_kafka_resp_err_t err;

	if (!parse_int(words[1], 0, 60000, &ms) || (words[2] && !parse_int(words[2], -1, 1000, &id)))
		return "usage: rtt <ms> [broker]";
	err = rd_kafka_mock_broker_set_rtt(broker->cluster, id, ms);
	return err ? rd_kafka_err2str(err) : NULL;
}

static const char *
command_leader(Broker *broker, char **words)
{
	int					partition;
	int					id;
	rd_kafka_resp_err_t err;

	if (words[1] == NULL || !parse_int(words[2], 0, MAX_PARTITIONS, &partition) || !parse_int(words[3], 1, 16, &id))
		return "usage: leader <topic> <partition> <broker>";
	err = rd_kafka_mock_partition_set_leader(broker->cluster, words[1], partition, id);
	return err ? rd_kafka_err2str(err) : NULL;
}

static const char *
command_topic(Broker *broker, char **words)
{
	const char *error = add_topic(broker, words[1]);

	return error ? error : make_topic(broker, broker->ntopics - 1);
}

static const char *
command_partitions(Broker *broker, char **words)
{
	(void) words;
	for (int i = 0; i < broker->ntopics; i++)
	{
		Topic *topic = &broker->topics[i];

		for (int32_t partition = 0; partition < topic->partitions; partition++)
		{
			int64_t				low;
			int64_t				high;
			rd_kafka_resp_err_t err =
				rd_kafka_query_watermark_offsets(broker->client, topic->name, partition, &low, &high, QUERY_TIMEOUT_MS);

			if (err)
				return rd_kafka_err2str(err);
			printf("%s %" PRId32 " %" PRId64 " %" PRId64 "\n", topic->name, partition, low, high);
		}
	}
	return NULL;
}

/* One line of input; false when it was "quit". */
static bool
run_command(Broker *broker, char *line)
{
	static const struct
	{
		const char *name;
		const char *(*run)(Broker *broker, char **words);
	} commands[] = {
		{.name = "errors", .run = command_errors}, {.name = "clear", .run = command_clear},
		{.name = "down", .run = command_reach},	   {.name = "up", .run = command_reach},
		{.name = "rtt", .run = command_rtt},	   {.name = "leader", .run = command_leader},
		{.name = "topic", .run = command_topic},   {.name = "partitions", .run = command_partitions},
	};
	char	   *words[5] = {NULL};
	char	   *save = NULL;
	int			nwords = 0;
	const char *error = "unknown command";

	for (char *word = strtok_r(line, " \t\r", &save); word && nwords < 4; word = strtok_r(NULL, " \t\r", &save))
		words[nwords++] = word;
	if (nwords == 0)
		return true;
	if (strcmp(words[0], "quit") == 0)
		return false;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
	{
		if (strcmp(words[0], commands[i].name) == 0)
			error = commands[i].run(broker, words);
	}
	if (error)
		printf("error: %s\n", error);
	else
		printf("ok\n");
	fflush(stdout);
	return true;
}

/*
 * Take in what is there of standard input and run each whole line; false at
 * its end or on "quit".  stdio is not used: its buffer would hide lines from
 * poll().
 */
static bool
read_commands(Broker *broker)
{
	static char	  buffer[MAX_LINE];
	static size_t used = 0;
	char		 *newline;
	ssize_t		  got = read(STDIN_FILENO, buffer + used, sizeof(buffer) - used);

	if (got <= 0)
		return got < 0 && errno == EINTR;
	used += got;
	while ((newline = memchr(buffer, '\n', used)) != NULL)
	{
		size_t length = newline - buffer + 1;

		*newline = '\0';
		if (!run_command(broker, buffer))
			return false;
		used -= length;
		memmove(buffer, buffer + length, used);
	}
	if (used == sizeof(buffer))
	{
		printf("error: line too long\n");
		fflush(stdout);
		used = 0;
	}
	return true;
}

/* Until a signal, or the end of the commands. */
static void
serve(Broker *broker, int signals, bool commands)
{
	struct pollfd fds[2] = {{.fd = signals, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

	for (;;)
	{
		if (poll(fds, commands ? 2 : 1, -1) < 0)
		{
			if (errno == EINTR)
				continue;
			fail("could not wait", strerror(errno));
		}
		if (fds[0].revents)
			break;
		if (commands && fds[1].revents && !read_commands(broker))
			break;
	}
}

int
main(int argc, char **argv)
{
	Broker		broker = {0};
	const char *ready_file = NULL;
	const char *address;
	bool		commands = false;
	int			nbrokers = 1;
	int			signals;
	sigset_t	mask;

	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		const char *error = NULL;

		if (strcmp(argv[i], "--commands") == 0)
			commands = true;
		else if (strcmp(argv[i], "--help") == 0)
			return usage(stdout), 0;
		else if (value == NULL)
			return usage(stderr), 2;
		else if (strcmp(argv[i], "--topic") == 0)
			error = add_topic(&broker, argv[++i]);
		else if (strcmp(argv[i], "--ready-file") == 0)
			ready_file = argv[++i];
		else if (strcmp(argv[i], "--brokers") == 0)
			error = parse_int(argv[++i], 1, 16, &nbrokers) ? NULL : "--brokers is between 1 and 16";
		else
			return usage(stderr), 2;
		if (error)
			fail("command line", error);
	}

	/*
	 * Blocked before the library starts its threads, which inherit the mask:
	 * the signals then reach us through the descriptor only.
	 */
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	/* a shell starts its background children with SIGINT ignored */
	signal(SIGINT, SIG_DFL);
	signals = signalfd(-1, &mask, SFD_CLOEXEC);
	if (signals < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
		fail("could not watch for signals", strerror(errno));

	start_cluster(&broker, nbrokers);
	address = rd_kafka_mock_cluster_bootstraps(broker.cluster);
	printf("%s\n", address);
	fflush(stdout);
	if (ready_file)
		write_ready_file(ready_file, address);
	serve(&broker, signals, commands);

	rd_kafka_destroy(broker.client); /* and the cluster with it */
	for (int i = 0; i < broker.ntopics; i++)
		free(broker.topics[i].name);
	if (ready_file)
		unlink(ready_file);
	return 0;
}
