/*
 * demo/traffic.c
 *	  clickstream-traffic: believable traffic of a web shop, for the demo.
 *
 * Writes the last hours as fast as the broker takes them, then goes on live
 * until SIGTERM or SIGINT, or until its parent dies.  Both parts are one
 * simulation, so visits run across the seam.
 *
 * Visitors come from a search engine, a campaign or by themselves, look
 * around, search, put things into the cart, log in (some on the way, most
 * before they pay), check out, buy or leave.  On purpose not all is well:
 *
 *	 arrival	 an event arrives exp(1.5 s), at most 8 s, after its event_time:
 *				 out of order, but inside the stream's ten seconds
 *	 late		 a few arrive 20 to 150 s after their event_time (a phone in a
 *				 tunnel): too late for a window of a minute
 *	 duplicate	 a few are sent twice (a retry whose answer got lost)
 *	 broken		 a few are cut off, have no event_time, are an array, or come
 *				 from a clock that is days ahead: dead letters
 *
 * The message's key is the visitor (user_id once logged in, else
 * anonymous_id) and its timestamp the event_time; a broken message has the
 * time of its arrival.  The fields are the fourteen columns of the default
 * mapping.
 *
 * Design: one heap, the agenda, ordered by time, holds all that is to come:
 * the next new visitor, each visitor's next step, each message on its way.
 * Taking from it in order is the whole simulation; live, it waits until the
 * wall clock gets to the entry's time.  One seed gives one sequence of
 * visits; the times start at the wall clock.
 *
 * Locking: one thread of ours; the library does its own.  Delivery reports
 * are called from rd_kafka_poll(), so in that thread too.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "chance.h"
#include "shop.h"

#define VISITORS 6000		 /* people who know the shop; those of low number come most often */
#define EVENTS_PER_VISIT 7.4 /* measured: turns --rate into visits a second */
#define MAX_EVENTS 90		 /* a visit's greatest length */
#define URL_SIZE 192
#define TEXT_SIZE 320

#define ARRIVAL_MEAN_MS 1500
#define ARRIVAL_MAX_MS 8000 /* below the watermark delay of 10 s */
#define LATE_MIN_MS 20000
#define LATE_MAX_MS 150000
#define LATE_SHARE 0.002
#define DUPLICATE_SHARE 0.004
#define BROKEN_SHARE 0.003
#define FAST_CLOCK_MS (3 * 24 * 3600 * INT64_C(1000))
#define FLUSH_TIMEOUT_MS 30000

typedef struct Visitor
{
	/* who: for ever */
	char		anonymous_id[40];
	bool		has_account;
	const char *device;
	const char *browser;
	const char *country;

	/* the visit going on */
	bool		  active;
	bool		  logged_in;
	bool		  slow; /* minutes between steps, not seconds */
	const Origin *origin;
	Page		  page;
	int			  category;
	int			  product;
	int			  cart;	 /* things in it */
	int			  value; /* cents */
	int			  events;
	char		  referrer[URL_SIZE]; /* page before this one */
} Visitor;

typedef struct Message
{
	int64_t timestamp; /* ms since 1970 */
	char   *key;
	char   *payload; /* owned, as key is */
	size_t	length;
} Message;

typedef struct Entry
{
	int64_t	 at;	  /* ms since 1970 */
	uint64_t seq;	  /* equal times: first in, first out */
	int		 visitor; /* whose next step; -1 = somebody new comes */
	Message *message; /* or this one arrives */
} Entry;

static struct
{
	const char *brokers;
	const char *topic;
	const char *ready_file;
	double		rate;			 /* events a second */
	double		history_minutes; /* 0 = live only */
	uint64_t	seed;
	long		print; /* > 0: that many lines "key TAB message" to stdout, no broker */
} options = {.topic = "clickstream-events", .rate = 6, .history_minutes = 180};

static Visitor visitors[VISITORS];

static Entry   *agenda;
static size_t	agenda_used;
static size_t	agenda_size;
static uint64_t agenda_seq;

static rd_kafka_t *producer;
static uint64_t	   sent;
static uint64_t	   undelivered;

static volatile sig_atomic_t stopped;

static void
fail(const char *what, const char *detail)
{
	fprintf(stderr, "clickstream-traffic: %s: %s\n", what, detail);
	exit(1);
}

static void *
check_memory(void *pointer)
{
	if (pointer == NULL)
		fail("could not go on", "out of memory");
	return pointer;
}

/* ---------- agenda: a binary heap ---------- */

static bool
entry_before(const Entry *a, const Entry *b)
{
	return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}

static void
agenda_add(int64_t at, int visitor, Message *message)
{
	Entry  entry = {.at = at, .seq = agenda_seq++, .visitor = visitor, .message = message};
	size_t i = agenda_used++;

	if (agenda_used > agenda_size)
	{
		agenda_size = agenda_size ? 2 * agenda_size : 1024;
		agenda = check_memory(realloc(agenda, agenda_size * sizeof(Entry)));
	}
	while (i > 0 && entry_before(&entry, &agenda[(i - 1) / 2]))
	{
		agenda[i] = agenda[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	agenda[i] = entry;
}

static Entry
agenda_take(void)
{
	Entry  first = agenda[0];
	Entry  last = agenda[--agenda_used];
	size_t i = 0;

	for (;;)
	{
		size_t child = 2 * i + 1;

		if (child + 1 < agenda_used && entry_before(&agenda[child + 1], &agenda[child]))
			child++;
		if (child >= agenda_used || !entry_before(&agenda[child], &last))
			break;
		agenda[i] = agenda[child];
		i = child;
	}
	agenda[i] = last;
	return first;
}

/* ---------- the event as JSON ---------- */

static void
format_time(char *out, size_t size, int64_t ms)
{
	time_t	  seconds = ms / 1000;
	struct tm tm;
	char	  date[32];

	gmtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, size, "%s.%03dZ", date, (int) (ms % 1000));
}

/* "text", or null. */
static const char *
quoted(char *out, size_t size, const char *text)
{
	if (text == NULL)
		return "null";
	snprintf(out, size, "\"%s\"", text);
	return out;
}

static void
format_page(const Visitor *v, Page page, char *url, char *title)
{
	const char		  *category = categories[v->category];
	const char *const *product = product_names[v->product / COUNT_OF(categories)];

	switch (page)
	{
		case HOME:
			snprintf(url, URL_SIZE, SITE "/");
			snprintf(title, TEXT_SIZE, "Acme Outdoor");
			break;
		case CATEGORY:
			snprintf(url, URL_SIZE, SITE "/category/%s", category);
			snprintf(title, TEXT_SIZE, "All %s | Acme Outdoor", category);
			break;
		case SEARCH:
			snprintf(url, URL_SIZE, SITE "/search");
			snprintf(title, TEXT_SIZE, "Search | Acme Outdoor");
			break;
		case PRODUCT:
			snprintf(url, URL_SIZE, SITE "/product/%s/%s", category, product[0]);
			snprintf(title, TEXT_SIZE, "%s | %s | Acme Outdoor", product[1], category);
			break;
		case CART:
			snprintf(url, URL_SIZE, SITE "/cart");
			snprintf(title, TEXT_SIZE, "Your cart | Acme Outdoor");
			break;
		case LOGIN:
			snprintf(url, URL_SIZE, SITE "/login");
			snprintf(title, TEXT_SIZE, "Log in | Acme Outdoor");
			break;
		case CHECKOUT:
			snprintf(url, URL_SIZE, SITE "/checkout/address");
			snprintf(title, TEXT_SIZE, "Checkout: address | Acme Outdoor");
			break;
		case PAYMENT:
			snprintf(url, URL_SIZE, SITE "/checkout/payment");
			snprintf(title, TEXT_SIZE, "Checkout: payment | Acme Outdoor");
			break;
		default:
			snprintf(url, URL_SIZE, SITE "/order/thank-you");
			snprintf(title, TEXT_SIZE, "Thank you | Acme Outdoor");
	}
}

/* A product always has the same price, in cents. */
static int
price_of(int product)
{
	return 1990 + product * 7919 % 19000;
}

static void
format_properties(const Visitor *v, const Step *step, char *out)
{
	int price = price_of(v->product);

	if (strcmp(step->action, "add_to_cart") == 0 || strcmp(step->action, "open_gallery") == 0)
		snprintf(out, TEXT_SIZE,
				 "{\"action\":\"%s\",\"product_id\":\"p%02d\",\"category\":\"%s\",\"price\":%d.%02d,\"quantity\":1}",
				 step->action, v->product, categories[v->category], price / 100, price % 100);
	else if (strcmp(step->action, "order") == 0)
		snprintf(out, TEXT_SIZE,
				 "{\"order_id\":\"o-%08" PRIx64 "\",\"revenue\":%d.%02d,\"currency\":\"USD\",\"items\":%d}",
				 random_bits() >> 32, v->value / 100, v->value % 100, v->cart);
	else if (strcmp(step->action, "search") == 0)
		snprintf(out, TEXT_SIZE, "{\"query\":\"%s\",\"results\":%d}", PICK(queries), random_below(40));
	else if (strcmp(step->action, "scroll") == 0)
		snprintf(out, TEXT_SIZE, "{\"depth\":%d}", 10 * (1 + random_below(10)));
	else if (strcmp(step->action, "view") == 0)
		snprintf(out, TEXT_SIZE, "{\"load_ms\":%d,\"logged_in\":%s}", 120 + (int) random_exponential(600),
				 v->logged_in ? "true" : "false");
	else
		snprintf(out, TEXT_SIZE, "{\"action\":\"%s\"}", step->action);
}

/* ---------- messages on their way ---------- */

static Message *
copy_message(const Message *message)
{
	Message *copy = check_memory(malloc(sizeof(Message)));

	copy->timestamp = message->timestamp;
	copy->key = check_memory(strdup(message->key));
	copy->payload = check_memory(strdup(message->payload));
	copy->length = message->length;
	return copy;
}

static void
free_message(Message *message)
{
	free(message->key);
	free(message->payload);
	free(message);
}

static Message *make_message(int64_t timestamp, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static Message *
make_message(int64_t timestamp, const char *key, const char *format, ...)
{
	Message message = {.timestamp = timestamp, .key = (char *) key};
	char	payload[4096];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(payload, sizeof(payload), format, arguments);
	va_end(arguments);
	message.payload = payload;
	message.length = strlen(payload);
	return copy_message(&message);
}

/* Somebody else's programming error, beside the good message. */
static void
send_broken(const Message *good, int64_t arrival)
{
	Message *bad;
	char	 when[40];

	switch (random_below(4))
	{
		case 0: /* the connection broke */
			bad = copy_message(good);
			bad->length = bad->length / 2 + random_below((int) bad->length / 3);
			bad->payload[bad->length] = '\0';
			bad->timestamp = arrival;
			break;
		case 1: /* an old version of the tracker */
			bad = make_message(arrival, good->key,
							   "{\"anonymous_id\":\"%s\",\"event_type\":\"page_view\",\"page_url\":\"%s\"}", good->key,
							   SITE "/legacy.html");
			break;
		case 2: /* a batch, where one event is due */
			bad = make_message(arrival, good->key, "[%s]", good->payload);
			break;
		default: /* a clock that was never set right */
			format_time(when, sizeof(when), arrival + FAST_CLOCK_MS);
			bad = make_message(
				arrival, good->key,
				"{\"anonymous_id\":\"%s\",\"event_type\":\"page_view\",\"page_url\":\"%s\",\"event_time\":\"%s\"}",
				good->key, SITE "/", when);
	}
	agenda_add(arrival, 0, bad);
}

static void
send_event(Visitor *v, const Step *step, int64_t now)
{
	bool	 first = v->events == 0;
	bool	 tagged = first || (v->origin->source && chance(0.3)); /* some sites keep the tags in each link */
	int64_t	 arrival = now + (int64_t) fmin(random_exponential(ARRIVAL_MEAN_MS), ARRIVAL_MAX_MS);
	char	 user[16];
	char	 url[URL_SIZE];
	char	 title[TEXT_SIZE];
	char	 properties[TEXT_SIZE];
	char	 when[40];
	char	 q[5][URL_SIZE + 2];
	Message *message;

	snprintf(user, sizeof(user), "u_%05d", (int) (v - visitors));
	format_page(v, step->to, url, title);
	format_properties(v, step, properties);
	format_time(when, sizeof(when), now);
	message = make_message(
		now, v->logged_in ? user : v->anonymous_id,
		"{\"user_id\":%s,\"anonymous_id\":\"%s\",\"event_type\":\"%s\",\"page_url\":\"%s\",\"page_title\":\"%s\","
		"\"referrer_url\":%s,\"utm_source\":%s,\"utm_medium\":%s,\"utm_campaign\":%s,\"device_type\":\"%s\","
		"\"browser\":\"%s\",\"country\":\"%s\",\"event_time\":\"%s\",\"event_properties\":%s}",
		quoted(q[0], sizeof(q[0]), v->logged_in ? user : NULL), v->anonymous_id, step->type, url, title,
		quoted(q[1], sizeof(q[1]), first ? v->origin->referrer : v->referrer),
		quoted(q[2], sizeof(q[2]), tagged ? v->origin->source : NULL),
		quoted(q[3], sizeof(q[3]), tagged ? v->origin->medium : NULL),
		quoted(q[4], sizeof(q[4]), tagged ? v->origin->campaign : NULL), v->device, v->browser, v->country, when,
		properties);
	if (chance(LATE_SHARE))
		arrival = now + LATE_MIN_MS + random_below(LATE_MAX_MS - LATE_MIN_MS);
	if (chance(DUPLICATE_SHARE))
		agenda_add(arrival + 100 + (int64_t) random_exponential(800), 0, copy_message(message));
	if (chance(BROKEN_SHARE))
		send_broken(message, arrival);
	agenda_add(arrival, 0, message);
	if (strcmp(step->type, "page_view") == 0)
		snprintf(v->referrer, sizeof(v->referrer), "%s", url);
}

/* ---------- visits ---------- */

static void
make_visitors(void)
{
	for (int i = 0; i < VISITORS; i++)
	{
		Visitor *v = &visitors[i];
		uint64_t a = random_bits();
		uint64_t b = random_bits();

		snprintf(v->anonymous_id, sizeof(v->anonymous_id), "%08x-%04x-4%03x-a%03x-%012" PRIx64, (unsigned) (a >> 32),
				 (unsigned) (a >> 16) & 0xffff, (unsigned) a & 0xfff, (unsigned) (b >> 52),
				 b & UINT64_C(0xffffffffffff));
		v->has_account = chance(0.55);
		v->device = PICK(devices);
		v->browser = PICK(browsers);
		v->country = PICK(countries);
	}
}

static const Origin *
pick_origin(void)
{
	int total = 0;
	int roll;
	int i;

	for (i = 0; i < COUNT_OF(origins); i++)
		total += origins[i].weight;
	roll = random_below(total);
	for (i = 0; roll >= origins[i].weight; i++)
		roll -= origins[i].weight;
	return &origins[i];
}

/* Some products are far more popular than others. */
static void
pick_product(Visitor *v, bool of_category)
{
	v->product = (int) (PRODUCTS * pow(random_unit(), 2.2));
	if (of_category)
		v->product += v->category - v->product % COUNT_OF(categories);
	v->category = v->product % COUNT_OF(categories);
}

static void
begin_visit(int64_t now)
{
	static const Page landings[] = {HOME, HOME, HOME, CATEGORY, PRODUCT, PRODUCT};
	Step			  landing = {.type = "page_view", .action = "view"};
	int				  who = (int) (VISITORS * pow(random_unit(), 1.5));
	Visitor			 *v = &visitors[who];

	agenda_add(now + 1 + (int64_t) random_exponential(1000 * EVENTS_PER_VISIT / options.rate), -1, NULL);
	if (v->active)
		return;
	v->active = true;
	v->events = 0;
	v->cart = v->value = 0;
	v->slow = chance(0.05);
	v->logged_in = v->has_account && chance(0.45); /* the browser remembered */
	v->origin = pick_origin();
	pick_product(v, false);
	v->page = landing.to = PICK(landings);
	send_event(v, &landing, now);
	v->events++;
	if (chance(0.22)) /* bounced */
		v->active = false;
	else
		agenda_add(now + 500 + (int64_t) random_exponential(15000), who, NULL);
}

/* Paths that are closed to this visitor now. */
static bool
possible(const Visitor *v, const Step *step)
{
	if (step->to == CART || step->to == CHECKOUT)
		return v->cart > 0;
	if (step->to == LOGIN)
		return v->has_account && !v->logged_in;
	return true;
}

static const Step *
pick_step(const Visitor *v)
{
	int total = 0;
	int roll;

	for (int i = 0; i < COUNT_OF(steps); i++)
	{
		if (steps[i].from == v->page && possible(v, &steps[i]))
			total += steps[i].weight;
	}
	roll = random_below(total);
	for (int i = 0; i < COUNT_OF(steps); i++)
	{
		if (steps[i].from != v->page || !possible(v, &steps[i]))
			continue;
		if (roll < steps[i].weight)
			return &steps[i];
		roll -= steps[i].weight;
	}
	return NULL;
}

static void
do_deed(Visitor *v, Deed deed)
{
	switch (deed)
	{
		case LOOK:
			break;
		case ADD:
			v->cart++;
			v->value += price_of(v->product);
			break;
		case REMOVE:
			v->cart--;
			v->value -= v->value / (v->cart + 1);
			break;
		case ENTER:
			v->logged_in = true;
			v->page = v->cart > 0 ? CART : HOME;
			break;
		case BUY:
			v->cart = v->value = 0;
			break;
	}
}

static void
go_on(int who, int64_t now)
{
	Visitor	   *v = &visitors[who];
	const Step *step = pick_step(v);

	if (step == NULL || step->to == LEAVE || v->events >= MAX_EVENTS)
	{
		v->active = false;
		return;
	}
	if (step->to == PRODUCT && strcmp(step->type, "page_view") == 0)
		pick_product(v, step->from == CATEGORY);
	else if (step->to == CATEGORY && strcmp(step->type, "page_view") == 0)
		v->category = random_below(COUNT_OF(categories));
	send_event(v, step, now);
	v->events++;
	v->page = step->to;
	do_deed(v, step->deed);
	if (v->page == CART && v->cart == 0)
		v->page = PRODUCT;
	/* now and then two events in one millisecond, as scripts do */
	agenda_add(chance(0.01) ? now : now + 300 + (int64_t) random_exponential(v->slow ? 180000 : 16000), who, NULL);
}

/* ---------- the broker ---------- */

static void
on_delivery(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
	(void) handle;
	(void) opaque;
	if (message->err)
		undelivered++;
}

static void
connect_producer(void)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char			 errstr[512];
	const char		*settings[][2] = {
			 {"bootstrap.servers", options.brokers},
			 {"client.id", "clickstream-traffic"},
			 {"compression.codec", "lz4"},
			 {"linger.ms", "100"},
			 {"queue.buffering.max.messages", "200000"},
			 {"message.timeout.ms", "60000"},
			 {"log_level", "2"}, /* the broker's end is ours too, and no news */
	 };

	for (int i = 0; i < COUNT_OF(settings); i++)
	{
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
			fail("could not configure the producer", errstr);
	}
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, errstr, sizeof(errstr));
	if (producer == NULL)
		fail("could not make a producer", errstr);
}

static void
produce(Message *message)
{
	rd_kafka_resp_err_t err;

	if (producer == NULL)
	{
		printf("%s\t%s\n", message->key, message->payload);
		stopped = sent + 1 >= (uint64_t) options.print;
	}
	else
	{
		while ((err = rd_kafka_producev(
					producer, RD_KAFKA_V_TOPIC(options.topic), RD_KAFKA_V_KEY(message->key, strlen(message->key)),
					RD_KAFKA_V_VALUE(message->payload, message->length), RD_KAFKA_V_TIMESTAMP(message->timestamp),
					RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END)) == RD_KAFKA_RESP_ERR__QUEUE_FULL &&
			   !stopped)
			rd_kafka_poll(producer, 100);
		if (err && !stopped)
			fail("could not produce", rd_kafka_err2str(err));
		rd_kafka_poll(producer, 0);
	}
	sent++;
	free_message(message);
}

/* ---------- running ---------- */

static void
on_signal(int signal_number)
{
	(void) signal_number;
	stopped = 1;
}

static int64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The seam: all of the past is at the broker.  Whoever waits may start. */
static void
history_done(void)
{
	FILE *file;

	if (rd_kafka_flush(producer, FLUSH_TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR || undelivered > 0)
		fail("could not write the history", "the broker did not take all of it in time");
	printf("%" PRIu64 " messages of history, live from here on\n", sent);
	fflush(stdout);
	if (options.ready_file == NULL)
		return;
	file = fopen(options.ready_file, "w");
	if (file == NULL || fprintf(file, "%" PRIu64 "\n", sent) < 0 || fclose(file) != 0)
		fail("could not write the ready file", strerror(errno));
}

/* Sleep until then, or a signal; deliveries are reported meanwhile. */
static void
wait_until(int64_t at)
{
	int64_t left;

	while (!stopped && (left = at - clock_ms()) > 0)
		rd_kafka_poll(producer, left < 200 ? (int) left : 200);
}

static void
run(void)
{
	bool live = false;

	agenda_add(clock_ms() - (int64_t) (options.history_minutes * 60000), -1, NULL);
	while (!stopped)
	{
		Entry entry = agenda_take();

		if (producer && entry.at > clock_ms())
		{
			if (!live)
				history_done();
			live = true;
			wait_until(entry.at);
		}
		if (entry.message)
			produce(entry.message);
		else if (entry.visitor < 0)
			begin_visit(entry.at);
		else
			go_on(entry.visitor, entry.at);
	}
}

static void
usage(FILE *to)
{
	fprintf(to, "usage: clickstream-traffic --brokers HOST:PORT [--topic NAME] [--rate EVENTS-PER-SECOND]\n"
				"                           [--history MINUTES] [--seed N] [--ready-file FILE]\n"
				"       clickstream-traffic --print N [--seed N]\n"
				"Writes the last three hours of a web shop's traffic, then goes on live.\n");
}

/* A number above or at low that uses up the whole text; else the usage. */
static double
number_argument(const char *text, double low)
{
	char  *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= low))
	{
		usage(stderr);
		exit(2);
	}
	return value;
}

static void
read_arguments(int argc, char **argv)
{
	bool wrong = false;

	options.seed = (uint64_t) clock_ms();
	for (int i = 1; i < argc && !wrong; i += 2)
	{
		const char *name = argv[i];
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(name, "--help") == 0)
		{
			usage(stdout);
			exit(0);
		}
		if (value && strcmp(name, "--brokers") == 0)
			options.brokers = value;
		else if (value && strcmp(name, "--topic") == 0)
			options.topic = value;
		else if (value && strcmp(name, "--ready-file") == 0)
			options.ready_file = value;
		else if (value && strcmp(name, "--rate") == 0)
			options.rate = number_argument(value, 0.1);
		else if (value && strcmp(name, "--history") == 0)
			options.history_minutes = number_argument(value, 0);
		else if (value && strcmp(name, "--seed") == 0)
			options.seed = (uint64_t) number_argument(value, 0);
		else if (value && strcmp(name, "--print") == 0)
			options.print = (long) number_argument(value, 1);
		else
			wrong = true;
	}
	if (wrong || (options.brokers == NULL) == (options.print == 0))
	{
		usage(stderr);
		exit(2);
	}
}

int
main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};

	read_arguments(argc, argv);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);

	random_state = options.seed;
	make_visitors();
	if (options.print == 0)
	{
		printf("seed %" PRIu64 "\n", options.seed);
		fflush(stdout);
		connect_producer();
	}
	run();
	if (producer)
	{
		rd_kafka_flush(producer, 1000);
		rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
		rd_kafka_flush(producer, 1000);
		rd_kafka_destroy(producer);
		printf("%" PRIu64 " messages sent, %" PRIu64 " not delivered\n", sent, undelivered);
	}
	return 0;
}
