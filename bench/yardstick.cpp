/*
 * yardstick.cpp
 *	  The least that consuming these events can cost: fetch, parse, forget.
 *
 *	  yardstick BROKERS TOPIC [EVENTS]
 *
 * Reads the topic from its beginning to its end (or EVENTS of it) with the
 * consumer options, the batch-queue call and the parser of the extension
 * (simdjson's DOM), and takes views of the 14 fields.  No PostgreSQL, no rows,
 * no state: what the extension costs beyond this is its own doing.
 *
 * CPU is user + system of the whole process, librdkafka's threads included,
 * from before the assignment to the last message.  One thread of ours: no
 * locking.
 */
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include <sys/resource.h>
#include <time.h>

#include <librdkafka/rdkafka.h>
#include <simdjson.h>

namespace
{

constexpr size_t BATCH_MAX = 10000;
constexpr int	 WAIT_MS = 100;

/* Nobody waits that long for a broker that runs. */
constexpr int TIMEOUT_MS = 30000;
constexpr int SILENT_WAITS_MAX = TIMEOUT_MS / WAIT_MS;

constexpr std::string_view FIELD_NAMES[] = {
	"user_id",	  "anonymous_id", "event_type",	 "page_url", "page_title", "referrer_url", "utm_source",
	"utm_medium", "utm_campaign", "device_type", "browser",	 "country",	   "event_time",   "event_properties",
};
constexpr size_t FIELDS = sizeof(FIELD_NAMES) / sizeof(FIELD_NAMES[0]);

struct Event
{
	std::string_view	   text[FIELDS];
	simdjson::dom::element properties;
};

struct Totals
{
	uint64_t events = 0;
	uint64_t bytes = 0;
	uint64_t fields = 0; /* not null; also keeps the parsing from being optimized away */
	uint64_t field_bytes = 0;
	uint64_t broken = 0;
};

[[noreturn]] void
fail(const char *what, const char *detail)
{
	fprintf(stderr, "yardstick: %s: %s\n", what, detail);
	exit(1);
}

double
cpu_seconds()
{
	rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		   static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double
wall_seconds()
{
	timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

/* The producer writes the fields in order, so the next one is nearly always the expected one. */
size_t
find_field(std::string_view name, size_t expected)
{
	for (size_t i = 0; i < FIELDS; i++)
	{
		size_t field = (expected + i) % FIELDS;

		if (name == FIELD_NAMES[field])
			return field;
	}
	return FIELDS;
}

bool
parse_event(simdjson::dom::parser &parser, const uint8_t *json, size_t length, Event &event)
{
	simdjson::dom::object object;
	size_t				  field = FIELDS - 1;

	if (parser.parse(json, length, false).get_object().get(object) != simdjson::SUCCESS)
		return false;
	for (auto member : object)
	{
		field = find_field(member.key, field + 1);
		if (field == FIELDS)
			field = 0;
		else if (field == FIELDS - 1)
			event.properties = member.value;
		else if (member.value.is_string())
			event.text[field] = member.value.get_string().value_unsafe();
	}
	return true;
}

class Consumer
{
public:
	Consumer(const char *brokers, const char *topic) : topic_name(topic)
	{
		char					 error[512];
		rd_kafka_conf_t			*conf = rd_kafka_conf_new();
		static const char *const options[][2] = {
			{"group.id", "clickstream_yardstick"}, {"enable.auto.commit", "false"},
			{"enable.auto.offset.store", "false"}, {"auto.offset.reset", "error"},
			{"enable.partition.eof", "true"},	   {"check.crcs", "true"},
			{"queued.min.messages", "1000000"},	   {"queued.max.messages.kbytes", "262144"},
		};

		for (const auto &option : options)
			if (rd_kafka_conf_set(conf, option[0], option[1], error, sizeof(error)) != RD_KAFKA_CONF_OK)
				fail(option[0], error);
		if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, error, sizeof(error)) != RD_KAFKA_CONF_OK)
			fail("brokers", error);
		kafka = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
		if (kafka == nullptr)
			fail("consumer", error);
		rd_kafka_poll_set_consumer(kafka);
		queue = rd_kafka_queue_get_consumer(kafka);
	}

	~Consumer()
	{
		rd_kafka_queue_destroy(queue);
		rd_kafka_destroy_flags(kafka, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	}

	Consumer(const Consumer &) = delete;
	Consumer &operator=(const Consumer &) = delete;

	int partition_count()
	{
		const rd_kafka_metadata_t *metadata;
		rd_kafka_topic_t		  *topic = rd_kafka_topic_new(kafka, topic_name, nullptr);
		rd_kafka_resp_err_t		   error = rd_kafka_metadata(kafka, 0, topic, &metadata, TIMEOUT_MS);
		int						   count;

		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
			fail(topic_name, rd_kafka_err2str(error));
		count = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
		if (count == 0)
			fail(topic_name, "no such topic");
		rd_kafka_metadata_destroy(metadata);
		rd_kafka_topic_destroy(topic);
		return count;
	}

	void assign_from_beginning(int partitions)
	{
		rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
		rd_kafka_resp_err_t				 error;

		for (int i = 0; i < partitions; i++)
			rd_kafka_topic_partition_list_add(list, topic_name, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
		error = rd_kafka_assign(kafka, list);
		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
			fail("assign", rd_kafka_err2str(error));
		rd_kafka_topic_partition_list_destroy(list);
	}

	size_t read_batch(rd_kafka_message_t **batch)
	{
		ssize_t count = rd_kafka_consume_batch_queue(queue, WAIT_MS, batch, BATCH_MAX);

		if (count < 0)
			fail("consume", rd_kafka_err2str(rd_kafka_last_error()));
		return static_cast<size_t>(count);
	}

private:
	const char		 *topic_name;
	rd_kafka_t		 *kafka;
	rd_kafka_queue_t *queue;
};

class Reader
{
public:
	Totals totals;

	Reader() : padded(1 << 16)
	{
		if (parser.allocate(padded.size()) != simdjson::SUCCESS)
			fail("parser", "out of memory");
	}

	void take(const rd_kafka_message_t *message)
	{
		Event event;

		if (message->len + simdjson::SIMDJSON_PADDING > padded.size())
			padded.resize(2 * message->len + simdjson::SIMDJSON_PADDING);
		/* The parser reads beyond the end, which a message does not allow. */
		memcpy(padded.data(), message->payload, message->len);
		totals.events++;
		totals.bytes += message->len;
		if (!parse_event(parser, padded.data(), message->len, event))
		{
			totals.broken++;
			return;
		}
		for (const auto &text : event.text)
		{
			totals.fields += text.data() != nullptr;
			totals.field_bytes += text.size();
		}
	}

private:
	simdjson::dom::parser parser;
	std::vector<uint8_t>  padded;
};

/* Until each partition's end has been seen, or "limit" events. */
void
read_topic(Consumer &consumer, int partitions, uint64_t limit, Reader &reader)
{
	std::vector<rd_kafka_message_t *> batch(BATCH_MAX);
	int								  ended = 0;
	int								  silent = 0;

	while (ended < partitions && reader.totals.events < limit)
	{
		size_t count = consumer.read_batch(batch.data());

		silent = count == 0 ? silent + 1 : 0;
		if (silent > SILENT_WAITS_MAX)
			fail("consume", "the broker has gone silent");
		for (size_t i = 0; i < count; i++)
		{
			rd_kafka_message_t *message = batch[i];

			if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
				ended++;
			else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
				fail("consume", rd_kafka_message_errstr(message));
			else
				reader.take(message);
			rd_kafka_message_destroy(message);
		}
	}
}

} // namespace

int
main(int argc, char **argv)
{
	if (argc < 3 || argc > 4)
	{
		fputs("usage: yardstick BROKERS TOPIC [EVENTS]\n", stderr);
		return 2;
	}

	uint64_t	  limit = argc > 3 ? strtoull(argv[3], nullptr, 10) : UINT64_MAX;
	Consumer	  consumer(argv[1], argv[2]);
	Reader		  reader;
	const Totals &totals = reader.totals;
	int			  partitions = consumer.partition_count();
	double		  wall = wall_seconds();
	double		  cpu = cpu_seconds();

	consumer.assign_from_beginning(partitions);
	read_topic(consumer, partitions, limit, reader);
	cpu = cpu_seconds() - cpu;
	wall = wall_seconds() - wall;
	if (totals.events == 0)
		fail(argv[2], "no events");

	double events = static_cast<double>(totals.events);

	printf("events=%llu cpu_seconds=%.3f cpu_us_per_event=%.3f wall_seconds=%.3f bytes_per_event=%.1f "
		   "fields_per_event=%.2f broken=%llu parser=%s\n",
		   static_cast<unsigned long long>(totals.events), cpu, cpu * 1e6 / events, wall,
		   static_cast<double>(totals.bytes) / events, static_cast<double>(totals.fields) / events,
		   static_cast<unsigned long long>(totals.broken), simdjson::get_active_implementation()->name().c_str());
	return 0;
}
