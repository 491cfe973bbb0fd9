/*
 * demo/shop.h
 *	  The web shop of the demo: its pages, the paths between them, where its
 *	  visitors come from.  Change the weights to change how people behave.
 *
 * Locking: none, all of it is constant.
 */
#ifndef DEMO_SHOP_H
#define DEMO_SHOP_H

#define SITE "https://shop.example.com"
#define PRODUCTS 48 /* few enough that some pages are popular; a multiple of the categories */

typedef enum Page
{
	HOME,
	CATEGORY,
	SEARCH,
	PRODUCT,
	CART,
	LOGIN,
	CHECKOUT,
	PAYMENT,
	THANKS,
	LEAVE
} Page;

/* What a step does besides being sent. */
typedef enum Deed
{
	LOOK,	/* nothing */
	ADD,	/* one thing more in the cart */
	REMOVE, /* one less */
	ENTER,	/* logged in from the next event on */
	BUY		/* the cart is paid for */
} Deed;

/* Where one can go from a page; weights are relative to that page's others. */
typedef struct Step
{
	Page		from;
	int			weight;
	const char *type; /* event_type */
	const char *action;
	Page		to; /* the page that the event happens on */
	Deed		deed;
} Step;

static const Step steps[] = {
	{HOME, 34, "page_view", "view", CATEGORY, LOOK},
	{HOME, 18, "page_view", "view", PRODUCT, LOOK},
	{HOME, 14, "search", "search", SEARCH, LOOK},
	{HOME, 10, "scroll", "scroll", HOME, LOOK},
	{HOME, 6, "click", "open_menu", HOME, LOOK},
	{HOME, 5, "page_view", "view", LOGIN, LOOK},
	{HOME, 2, "form_submit", "newsletter", HOME, LOOK},
	{HOME, 11, NULL, NULL, LEAVE, LOOK},

	{CATEGORY, 52, "page_view", "view", PRODUCT, LOOK},
	{CATEGORY, 16, "scroll", "scroll", CATEGORY, LOOK},
	{CATEGORY, 8, "click", "filter", CATEGORY, LOOK},
	{CATEGORY, 6, "search", "search", SEARCH, LOOK},
	{CATEGORY, 8, "page_view", "view", CATEGORY, LOOK},
	{CATEGORY, 10, NULL, NULL, LEAVE, LOOK},

	{SEARCH, 62, "page_view", "view", PRODUCT, LOOK},
	{SEARCH, 16, "search", "search", SEARCH, LOOK},
	{SEARCH, 8, "scroll", "scroll", SEARCH, LOOK},
	{SEARCH, 14, NULL, NULL, LEAVE, LOOK},

	{PRODUCT, 15, "click", "add_to_cart", PRODUCT, ADD},
	{PRODUCT, 22, "page_view", "view", PRODUCT, LOOK},
	{PRODUCT, 16, "scroll", "scroll", PRODUCT, LOOK},
	{PRODUCT, 11, "click", "open_gallery", PRODUCT, LOOK},
	{PRODUCT, 10, "page_view", "view", CATEGORY, LOOK},
	{PRODUCT, 14, "page_view", "view", CART, LOOK},
	{PRODUCT, 4, "page_view", "view", HOME, LOOK},
	{PRODUCT, 8, NULL, NULL, LEAVE, LOOK},

	{CART, 46, "page_view", "view", CHECKOUT, LOOK},
	{CART, 14, "page_view", "view", PRODUCT, LOOK},
	{CART, 7, "click", "remove_from_cart", CART, REMOVE},
	{CART, 6, "form_submit", "coupon", CART, LOOK},
	{CART, 17, "page_view", "view", LOGIN, LOOK},
	{CART, 10, NULL, NULL, LEAVE, LOOK},

	{LOGIN, 84, "form_submit", "login", LOGIN, ENTER},
	{LOGIN, 8, "page_view", "view", HOME, LOOK},
	{LOGIN, 8, NULL, NULL, LEAVE, LOOK},

	{CHECKOUT, 46, "page_view", "view", PAYMENT, LOOK},
	{CHECKOUT, 26, "form_submit", "address", CHECKOUT, LOOK},
	{CHECKOUT, 12, "page_view", "view", CART, LOOK},
	{CHECKOUT, 16, NULL, NULL, LEAVE, LOOK},

	{PAYMENT, 72, "purchase", "order", THANKS, BUY},
	{PAYMENT, 12, "form_submit", "payment", PAYMENT, LOOK},
	{PAYMENT, 16, NULL, NULL, LEAVE, LOOK},

	{THANKS, 30, "page_view", "view", HOME, LOOK},
	{THANKS, 12, "page_view", "view", PRODUCT, LOOK},
	{THANKS, 58, NULL, NULL, LEAVE, LOOK},
};

/* How a visit begins.  NULL referrer with a source: the mail program has none. */
typedef struct Origin
{
	int			weight;
	const char *referrer;
	const char *source;
	const char *medium;
	const char *campaign;
} Origin;

static const Origin origins[] = {
	{38, "https://www.google.com/", NULL, NULL, NULL},
	{22, NULL, NULL, NULL, NULL},
	{12, "https://www.google.com/", "google", "cpc", "brand_search"},
	{8, "https://www.facebook.com/", "facebook", "social", "winter_sale"},
	{7, NULL, "newsletter", "email", "winter_sale"},
	{5, "https://www.instagram.com/", "instagram", "social", "new_arrivals"},
	{4, "https://www.bing.com/", NULL, NULL, NULL},
	{4, "https://blog.trailnotes.example/best-shoes", "trailnotes", "affiliate", "gear_guide"},
};

static const char *const categories[] = {"shoes", "jackets", "tents", "backpacks", "lamps", "cooking"};
static const char *const product_names[][2] = {
	{"ridge-runner", "Ridge Runner"},	  {"valley-light", "Valley Light"},
	{"granite-pro", "Granite Pro"},		  {"drizzle", "Drizzle"},
	{"summit-two", "Summit Two"},		  {"bivouac", "Bivouac \\\"Solo\\\""},
	{"cafe-au-lait", "Caf\xc3\xa9 Lait"}, {"nordwand", "Nordwand \\u2013 N"},
};
static const char *const queries[] = {"trail shoes", "rain jacket", "2 person tent", "head lamp", "gift", "sale"};
static const char *const browsers[] = {"Chrome", "Chrome", "Chrome", "Safari", "Safari", "Firefox", "Edge"};
static const char *const devices[] = {"mobile", "mobile", "mobile", "desktop", "desktop", "tablet"};
static const char *const countries[] = {"US", "US", "US", "DE", "DE", "GB", "FR", "NL", "CA", "AU", "JP", "BR"};

#endif
