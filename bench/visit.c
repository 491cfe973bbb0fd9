/*
 * visit.c
 *	  Visitors of an imaginary shop: what they do, and how an event reads.
 *
 * The stream has on purpose what a sessionizer finds hard: 60 % anonymous
 * visitors, log-in in the middle of a visit, equal times within a visitor,
 * returns exactly 30 minutes -1/0/+1 ms after the last event, funnels with and
 * without events between their steps, and slow visits whose purchase comes
 * exactly one hour (-1/0 ms) after the product page.
 *
 * A visitor is 20 bytes, so that five million of them stay cheap; whatever
 * never changes about one (ids, device, country) is computed from its number.
 *
 * Single-threaded: no locking.
 */
#include "visit.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SITE "https://shop.example.com/"
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define PRODUCTS 20000
#define HOUR_MS 3600000
#define SESSION_GAP_MS 1800000

/* Mean time between two events of a visit, and of a slow one. */
#define PAUSE_MS 18000.0
#define SLOW_PAUSE_MS 420000.0

/* Where in the shop the visitor stands: the row of "choices" that applies. */
typedef enum Stage
{
	BROWSING,
	ON_PRODUCT,
	IN_CART,
	IN_CHECKOUT,
	STAGES
} Stage;

typedef enum Page
{
	HOME,
	CATEGORY,
	PRODUCT,
	NEXT_PRODUCT, /* another product's page */
	SEARCH,
	CART,
	CHECKOUT,
	THANK_YOU
} Page;

/* Which event_properties an event carries. */
typedef enum Detail
{
	VIEWED,
	SEARCHED,
	ADDED,
	OPENED,
	ORDERED
} Detail;

typedef enum Login
{
	ANONYMOUS,
	LOGS_IN,
	KNOWN
} Login;

typedef struct Choice
{
	double		upto; /* cumulated probability; what is left over goes back to browsing */
	const char *type;
	Page		page;
	Detail		detail;
	Stage		next;
} Choice;

typedef struct Visitor
{
	int32_t	 product_seen_ms; /* time of the last product page, since the model's first event */
	int16_t	 left;			  /* events until the visit may end */
	uint16_t product;
	uint8_t	 stage;
	uint8_t	 login;
	uint8_t	 source; /* 1 + index into sources, 0 = no campaign */
	uint8_t	 medium;
	uint8_t	 campaign;
	uint8_t	 category;
	bool	 active;
	bool	 first; /* the next event is the visit's first */
	bool	 slow;
	bool	 keeps_campaign; /* every event of the visit carries the utm values */
} Visitor;

struct Model
{
	uint64_t random[4];
	uint64_t salt;
	uint32_t visitors;
	int64_t	 origin_ms; /* time of the first event, -1 before it */
	int64_t	 second;	/* what "clock" shows, so that it is made once a second */
	char	 clock[20];
	Visitor *visitor;
};

/* An event_properties and its neighbours are written through this cursor. */
typedef struct Writer
{
	char *at;
} Writer;

static const char *const sources[] = {"google", "facebook", "newsletter", "twitter", "bing"};
static const char *const mediums[] = {"cpc", "social", "email", "organic"};
static const char *const campaigns[] = {"spring_sale_2024", "retargeting_q2", "brand_awareness", "black_friday"};
static const char *const categories[] = {"shoes", "electronics", "home-garden", "books", "toys", "outdoor", "beauty"};
static const char *const devices[] = {"desktop", "mobile", "mobile", "tablet"};
static const char *const browsers[] = {"Chrome", "Chrome", "Chrome", "Safari", "Safari", "Firefox", "Edge", "Opera"};
static const char *const countries[] = {"US", "US", "US", "DE", "GB", "FR", "IN", "BR", "JP", "PL", "CA", "AU"};

#define MAX_CHOICES 7

static const Choice choices[STAGES][MAX_CHOICES] = {
	[BROWSING] =
		{
			{0.15, "page_view", HOME, VIEWED, BROWSING},
			{0.35, "page_view", CATEGORY, VIEWED, BROWSING},
			{0.42, "search", SEARCH, SEARCHED, BROWSING},
			{0.50, "scroll", CATEGORY, VIEWED, BROWSING},
			{0.54, "form_submit", HOME, VIEWED, BROWSING},
			{0.56, "purchase", PRODUCT, ORDERED, BROWSING},
			{1.00, "page_view", NEXT_PRODUCT, VIEWED, ON_PRODUCT},
		},
	[ON_PRODUCT] =
		{
			{0.22, "click", PRODUCT, ADDED, IN_CART},
			{0.45, "click", PRODUCT, OPENED, ON_PRODUCT},
			{0.60, "scroll", PRODUCT, VIEWED, ON_PRODUCT},
		},
	[IN_CART] =
		{
			{0.50, "page_view", CHECKOUT, VIEWED, IN_CHECKOUT},
			{0.65, "scroll", PRODUCT, VIEWED, IN_CART},
			{0.80, "page_view", CART, VIEWED, IN_CART},
			{0.92, "form_submit", CART, VIEWED, IN_CART},
		},
	[IN_CHECKOUT] =
		{
			{0.60, "purchase", THANK_YOU, ORDERED, BROWSING},
			{0.80, "form_submit", CHECKOUT, VIEWED, IN_CHECKOUT},
			{0.93, "click", CHECKOUT, OPENED, IN_CHECKOUT},
		},
};

/* ---------- random numbers ---------- */

static uint64_t
split_mix(uint64_t x)
{
	x += UINT64_C(0x9E3779B97F4A7C15);
	x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
	return x ^ (x >> 31);
}

static inline uint64_t
rotate(uint64_t x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

/* xoshiro256** */
static uint64_t
next_random(Model *model)
{
	uint64_t *s = model->random;
	uint64_t  result = rotate(s[1] * 5, 7) * 9;
	uint64_t  t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

double
model_uniform(Model *model)
{
	return (double) (next_random(model) >> 11) * 0x1p-53;
}

double
model_exponential(Model *model, double mean)
{
	return -log(1.0 - model_uniform(model)) * mean;
}

static uint32_t
below(Model *model, uint32_t limit)
{
	return (uint32_t) (((next_random(model) >> 32) * limit) >> 32);
}

/* Products are visited unevenly: a few of them by nearly everybody. */
static uint16_t
draw_product(Model *model)
{
	double u = model_uniform(model);

	return (uint16_t) (PRODUCTS * u * u * u);
}

/* ---------- visits ---------- */

Model *
model_create(uint64_t seed, uint32_t visitors)
{
	Model *model = calloc(1, sizeof(Model));

	if (model == NULL)
		return NULL;
	model->visitor = calloc(visitors, sizeof(Visitor));
	if (model->visitor == NULL)
	{
		free(model);
		return NULL;
	}
	for (int i = 0; i < 4; i++)
		model->random[i] = split_mix(seed + (uint64_t) i);
	model->salt = split_mix(~seed);
	model->visitors = visitors;
	model->origin_ms = -1;
	model->second = -1;
	return model;
}

void
model_free(Model *model)
{
	free(model->visitor);
	free(model);
}

static int16_t
draw_length(Model *model, double mean)
{
	return (int16_t) (1 + (int) model_exponential(model, mean));
}

bool
visit_begin(Model *model, uint32_t *visitor)
{
	/* Low numbers come back more often. */
	uint32_t number = (uint32_t) (model->visitors * pow(model_uniform(model), 1.6));
	Visitor *v = &model->visitor[number];

	if (v->active)
		return false;
	memset(v, 0, sizeof(*v));
	v->active = true;
	v->first = true;
	v->left = model_uniform(model) < 0.12 ? 1 : draw_length(model, 14);
	v->slow = model_uniform(model) < 0.03;
	if (number % 10 < 4)
		v->login = KNOWN;
	else if (number % 10 == 4 && model_uniform(model) < 0.3)
		v->login = LOGS_IN;
	if (model_uniform(model) < 0.35)
	{
		v->source = (uint8_t) (1 + below(model, COUNT(sources)));
		v->medium = (uint8_t) below(model, COUNT(mediums));
		v->campaign = (uint8_t) below(model, COUNT(campaigns));
		v->keeps_campaign = model_uniform(model) < 0.3;
	}
	v->category = (uint8_t) below(model, COUNT(categories));
	v->product = draw_product(model);
	*visitor = number;
	return true;
}

/* What the visitor does now; moves it to the next stage. */
static const Choice *
draw_choice(Model *model, Visitor *v)
{
	for (;;)
	{
		const Choice *row = choices[v->stage];
		double		  u = model_uniform(model);

		for (int i = 0; i < MAX_CHOICES && row[i].type != NULL; i++)
			if (u < row[i].upto)
			{
				v->stage = (uint8_t) row[i].next;
				return &row[i];
			}
		v->stage = BROWSING;
	}
}

/* The next visit begins at the very edge of the session gap. */
static int32_t
return_at_the_edge(Model *model, Visitor *v)
{
	Login login = (Login) v->login;

	memset(v, 0, sizeof(*v));
	v->active = true;
	v->first = true;
	v->left = draw_length(model, 6);
	v->login = (uint8_t) login;
	v->category = (uint8_t) below(model, COUNT(categories));
	return SESSION_GAP_MS - 1 + (int32_t) below(model, 3);
}

int32_t
visit_next(Model *model, uint32_t visitor, int64_t time_ms)
{
	Visitor *v = &model->visitor[visitor];
	int64_t	 since_product = time_ms - model->origin_ms - v->product_seen_ms;
	double	 gap;

	/* A buyer stays a little longer than planned. */
	if (--v->left <= 0 && !(v->stage > ON_PRODUCT && v->left > -8))
	{
		if (model_uniform(model) < 0.04)
			return return_at_the_edge(model, v);
		v->active = false;
		return -1;
	}
	if (v->slow && v->stage == IN_CHECKOUT && since_product < HOUR_MS - 1)
		return (int32_t) (HOUR_MS - since_product - below(model, 2));
	if (model_uniform(model) < 0.03)
		return 0;
	gap = model_exponential(model, v->slow ? SLOW_PAUSE_MS : PAUSE_MS);
	return gap < VISIT_GAP_MAX ? (int32_t) gap : VISIT_GAP_MAX;
}

/* ---------- writing ---------- */

static inline void
put_bytes(Writer *w, const char *bytes, size_t length)
{
	memcpy(w->at, bytes, length);
	w->at += length;
}

/* For literals: the length is known to the compiler. */
#define put_literal(w, literal) put_bytes((w), "" literal, sizeof(literal) - 1)

static inline void
put_text(Writer *w, const char *text)
{
	put_bytes(w, text, strlen(text));
}

static void
put_number(Writer *w, uint32_t number)
{
	char   digits[10];
	size_t i = sizeof(digits);

	do
		digits[--i] = (char) ('0' + number % 10);
	while ((number /= 10) > 0);
	put_bytes(w, digits + i, sizeof(digits) - i);
}

static void
put_padded(Writer *w, uint32_t number, int width)
{
	for (int i = width - 1; i >= 0; i--, number /= 10)
		w->at[i] = (char) ('0' + number % 10);
	w->at += width;
}

static void
put_hex(Writer *w, uint64_t number, int width)
{
	for (int i = width - 1; i >= 0; i--, number >>= 4)
		w->at[i] = "0123456789abcdef"[number & 15];
	w->at += width;
}

static void
put_amount(Writer *w, Model *model, uint32_t limit)
{
	put_number(w, below(model, limit));
	put_literal(w, ".");
	put_padded(w, below(model, 100), 2);
}

/* Like a random UUID, but always the same for the same visitor. */
static void
put_anonymous_id(Writer *w, Model *model, uint32_t visitor)
{
	uint64_t high = split_mix(model->salt ^ visitor);
	uint64_t low = split_mix(high);

	put_hex(w, high >> 32, 8);
	put_literal(w, "-");
	put_hex(w, high >> 16, 4);
	put_literal(w, "-4");
	put_hex(w, high, 3);
	put_literal(w, "-a");
	put_hex(w, low >> 48, 3);
	put_literal(w, "-");
	put_hex(w, low, 12);
}

static void
put_user_id(Writer *w, uint32_t visitor)
{
	put_literal(w, "u_");
	put_padded(w, visitor, 8);
}

static void
put_page(Writer *w, Model *model, const Visitor *v, Page page)
{
	const char *category = categories[v->category];
	uint32_t	number;

	switch (page)
	{
		case HOME:
			put_literal(w, SITE "\",\"page_title\":\"Home | Acme Store");
			break;
		case CATEGORY:
			number = below(model, 5);
			put_literal(w, SITE "category/");
			put_text(w, category);
			put_literal(w, "?page=");
			put_number(w, number);
			put_literal(w, "\",\"page_title\":\"B\xc3\xbcro & Garten ");
			put_text(w, category);
			put_literal(w, " \\u2013 page ");
			put_number(w, number);
			put_literal(w, " | Acme Store");
			break;
		case PRODUCT:
		case NEXT_PRODUCT:
			put_literal(w, SITE "product/");
			put_text(w, category);
			put_literal(w, "/");
			put_number(w, v->product);
			put_literal(w, "\",\"page_title\":\"Trail Running Shoes X");
			put_number(w, v->product);
			put_literal(w, " \\u2013 Acme Store");
			break;
		case SEARCH:
			put_literal(w, SITE "search?q=");
			put_text(w, category);
			put_literal(w, "\",\"page_title\":\"Search results for \\\"");
			put_text(w, category);
			put_literal(w, " lamp\\\" | Acme");
			break;
		case CART:
			put_literal(w, SITE "cart\",\"page_title\":\"Cart | Acme Store");
			break;
		case CHECKOUT:
			put_literal(w, SITE "checkout/step-");
			put_number(w, below(model, 2));
			put_literal(w, "\",\"page_title\":\"Checkout | Acme Store");
			break;
		case THANK_YOU:
			put_literal(w, SITE "order/thank-you\",\"page_title\":\"Thank you | Acme Store");
			break;
	}
}

static void
put_referrer(Writer *w, Model *model, const Visitor *v)
{
	double u = model_uniform(model);

	put_literal(w, "\",\"referrer_url\":");
	if (v->first && u < 0.6)
	{
		put_literal(w, "\"https://www.google.com/search?q=");
		put_text(w, categories[v->category]);
		put_literal(w, "\"");
	}
	else if (!v->first && u < 0.8)
		put_literal(w, "\"" SITE "\"");
	else
		put_literal(w, "null");
}

static void
put_campaign(Writer *w, const Visitor *v)
{
	if (v->source == 0 || !(v->first || v->keeps_campaign))
	{
		put_literal(w, ",\"utm_source\":null,\"utm_medium\":null,\"utm_campaign\":null");
		return;
	}
	put_literal(w, ",\"utm_source\":\"");
	put_text(w, sources[v->source - 1]);
	put_literal(w, "\",\"utm_medium\":\"");
	put_text(w, mediums[v->medium]);
	put_literal(w, "\",\"utm_campaign\":\"");
	put_text(w, campaigns[v->campaign]);
	put_literal(w, "\"");
}

static void
put_agent(Writer *w, Model *model, uint32_t visitor)
{
	uint64_t hash = split_mix(visitor + model->salt);

	put_literal(w, ",\"device_type\":\"");
	put_text(w, devices[hash % COUNT(devices)]);
	put_literal(w, "\",\"browser\":\"");
	put_text(w, browsers[(hash >> 16) % COUNT(browsers)]);
	put_literal(w, "\",\"country\":\"");
	put_text(w, countries[(hash >> 32) % COUNT(countries)]);
}

static void
put_time(Writer *w, Model *model, int64_t time_ms)
{
	time_t second = (time_t) (time_ms / 1000);

	if (second != model->second)
	{
		struct tm tm;

		gmtime_r(&second, &tm);
		strftime(model->clock, sizeof(model->clock), "%Y-%m-%d %H:%M:%S", &tm);
		model->second = second;
	}
	put_literal(w, "\",\"event_time\":\"");
	put_bytes(w, model->clock, sizeof(model->clock) - 1);
	put_literal(w, ".");
	put_padded(w, (uint32_t) (time_ms % 1000), 3);
}

static void
put_article(Writer *w, Model *model, const Visitor *v, Detail detail)
{
	put_literal(w, "\"action\":\"");
	put_text(w, detail == ADDED ? "add_to_cart" : "open_gallery");
	put_literal(w, "\",\"product_id\":\"p");
	put_number(w, v->product);
	put_literal(w, "\",\"category\":\"");
	put_text(w, categories[v->category]);
	put_literal(w, "\",\"price\":");
	put_amount(w, model, 300);
	put_literal(w, ",\"quantity\":");
	put_number(w, 1 + below(model, 3));
}

static void
put_order(Writer *w, Model *model)
{
	put_literal(w, "\"order_id\":\"o-");
	put_hex(w, next_random(model), 8);
	put_literal(w, "\",\"revenue\":");
	put_amount(w, model, 500);
	put_literal(w, ",\"currency\":\"USD\",\"items\":");
	put_number(w, 1 + below(model, 5));
	put_literal(w, ",\"coupon\":null");
}

static void
put_properties(Writer *w, Model *model, const Visitor *v, Detail detail)
{
	put_literal(w, "\",\"event_properties\":{");
	switch (detail)
	{
		case VIEWED:
			put_literal(w, "\"scroll_depth\":");
			put_number(w, below(model, 100));
			put_literal(w, ",\"load_ms\":");
			put_number(w, below(model, 3000));
			put_literal(w, ",\"ab_test\":\"v");
			put_number(w, below(model, 3));
			put_literal(w, "\",\"logged_in\":");
			put_text(w, v->login == KNOWN ? "true" : "false");
			break;
		case SEARCHED:
			put_literal(w, "\"query\":\"");
			put_text(w, categories[v->category]);
			put_literal(w, " lamp\",\"results\":");
			put_number(w, below(model, 400));
			put_literal(w, ",\"filters\":{\"color\":\"red\",\"in_stock\":true}");
			break;
		case ADDED:
		case OPENED:
			put_article(w, model, v, detail);
			break;
		case ORDERED:
			put_order(w, model);
			break;
	}
	put_literal(w, "}}");
}

void
visit_event(Model *model, uint32_t visitor, int64_t time_ms, Event *event)
{
	Visitor		 *v = &model->visitor[visitor];
	const Choice *choice = draw_choice(model, v);
	const char	 *type = v->first ? "page_view" : choice->type;
	Detail		  detail = v->first ? VIEWED : choice->detail;
	Writer		  key = {event->key};
	Writer		  json = {event->json};

	if (model->origin_ms < 0)
		model->origin_ms = time_ms;
	if (choice->page == NEXT_PRODUCT)
	{
		v->product = draw_product(model);
		v->category = (uint8_t) (v->product % COUNT(categories));
		v->product_seen_ms = (int32_t) (time_ms - model->origin_ms);
	}
	if (v->login == LOGS_IN && !v->first && model_uniform(model) < 0.3)
		v->login = KNOWN;

	put_literal(&json, "{\"user_id\":");
	if (v->login == KNOWN)
	{
		put_user_id(&key, visitor);
		put_literal(&json, "\"");
		put_user_id(&json, visitor);
		put_literal(&json, "\"");
	}
	else
	{
		put_anonymous_id(&key, model, visitor);
		put_literal(&json, "null");
	}
	put_literal(&json, ",\"anonymous_id\":\"");
	put_anonymous_id(&json, model, visitor);
	put_literal(&json, "\",\"event_type\":\"");
	put_text(&json, type);
	put_literal(&json, "\",\"page_url\":\"");
	put_page(&json, model, v, choice->page);
	put_referrer(&json, model, v);
	put_campaign(&json, v);
	put_agent(&json, model, visitor);
	put_time(&json, model, time_ms);
	put_properties(&json, model, v, detail);

	event->key_length = (size_t) (key.at - event->key);
	event->json_length = (size_t) (json.at - event->json);
	assert(event->key_length <= EVENT_KEY_MAX && event->json_length <= EVENT_JSON_MAX);
	v->first = false;
}
