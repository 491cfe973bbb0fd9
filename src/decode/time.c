/*
 * decode/time.c
 *	  Points in time as events carry them.
 *
 * timestamptz_in() knows words, month names, time zone names and DateStyle;
 * it takes a microsecond and depends on settings.  An event's time must not
 * depend on settings, so this reads one grammar only:
 *
 *	  YYYY-MM-DD (T or blank) HH:MM[:SS[(. or ,)digits]] [zone]
 *	  zone: Z, UTC, GMT, or + or - followed by hh, hhmm or hh:mm; none is UTC
 *
 * Years have four to six digits.  What it reads has timestamptz_in()'s value
 * with TimeZone UTC, 24:00:00 and second 60 included (both are carried over),
 * save that digits beyond the microsecond are cut, not rounded.
 *
 * A plain number is an epoch time.  Its unit is told by its magnitude:
 *
 *	  below 1e11	 seconds		(until the year 5138)
 *	  below 1e14	 milliseconds	(from 1973 until the year 5138)
 *	  below 1e17	 microseconds	(the same)
 *
 * and beyond it is refused: nanoseconds would else pass as the far future.
 *
 * Pure functions: no locale, no settings, no ereport.
 */
#include "decode/decode.h"

#include <math.h>

#include "utils/datetime.h"

#define EPOCH_SECONDS_END INT64CONST(100000000000)
#define EPOCH_MSECS_END INT64CONST(100000000000000)
#define EPOCH_USECS_END INT64CONST(100000000000000000)

#define UNIX_EPOCH_USECS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* Greatest offset PostgreSQL accepts: up to this many hours. */
#define ZONE_HOURS_MAX 15

/* Digits of a plain number that can matter: 17 before the point, 6 behind. */
#define NUMBER_DIGITS_MAX 24
#define NUMBER_EXPONENT_MAX 100

/* Where a reader stands in a string that has no NUL. */
typedef struct Reader
{
	const char *p;
	const char *end;
} Reader;

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool
at_digit(const Reader *r)
{
	return r->p < r->end && is_digit(*r->p);
}

static inline bool
accept(Reader *r, char c)
{
	if (r->p >= r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

static inline bool
two_digits(Reader *r, int *value)
{
	if (r->end - r->p < 2 || !is_digit(r->p[0]) || !is_digit(r->p[1]))
		return false;
	*value = (r->p[0] - '0') * 10 + (r->p[1] - '0');
	r->p += 2;
	return true;
}

/* Days since 2000-01-01. */
static bool
read_date(Reader *r, int64 *days)
{
	const char *first = r->p;
	int			year = 0;
	int			month;
	int			day;

	for (; at_digit(r) && r->p - first < 6; r->p++)
		year = year * 10 + (*r->p - '0');
	if (r->p - first < 4 || year == 0)
		return false;
	if (!accept(r, '-') || !two_digits(r, &month) || !accept(r, '-') || !two_digits(r, &day))
		return false;
	if (month < 1 || month > MONTHS_PER_YEAR || day < 1 || day > day_tab[isleap(year)][month - 1])
		return false;
	*days = (int64) date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

/* Digits behind the point, in µs; further ones are cut. */
static bool
read_fraction(Reader *r, int *usecs)
{
	int scale = 100000;

	if (!at_digit(r))
		return false;
	for (*usecs = 0; at_digit(r); r->p++)
	{
		*usecs += (*r->p - '0') * scale;
		scale /= 10;
	}
	return true;
}

/* Microseconds since midnight, one day at most. */
static bool
read_time_of_day(Reader *r, int64 *usecs)
{
	int hour;
	int minute;
	int second = 0;
	int fraction = 0;

	if (!two_digits(r, &hour) || !accept(r, ':') || !two_digits(r, &minute))
		return false;
	if (accept(r, ':'))
	{
		if (!two_digits(r, &second))
			return false;
		if ((accept(r, '.') || accept(r, ',')) && !read_fraction(r, &fraction))
			return false;
	}
	if (hour > HOURS_PER_DAY || minute >= MINS_PER_HOUR || second > SECS_PER_MINUTE)
		return false;
	*usecs = ((int64) hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE + second) * USECS_PER_SEC + fraction;
	return *usecs <= USECS_PER_DAY;
}

static bool
accept_word(Reader *r, const char *word)
{
	size_t len = strlen(word);

	if ((size_t) (r->end - r->p) < len || pg_strncasecmp(r->p, word, len) != 0)
		return false;
	r->p += len;
	return true;
}

/* Microseconds east of UTC. */
static bool
read_zone(Reader *r, int64 *usecs)
{
	bool west;
	int	 hour;
	int	 minute = 0;

	*usecs = 0;
	(void) accept(r, ' ');
	if (r->p == r->end || accept_word(r, "Z") || accept_word(r, "UTC") || accept_word(r, "GMT"))
		return true;
	west = accept(r, '-');
	if (!west && !accept(r, '+'))
		return false;
	if (!two_digits(r, &hour))
		return false;
	if (r->p < r->end)
	{
		(void) accept(r, ':');
		if (!two_digits(r, &minute))
			return false;
	}
	if (hour > ZONE_HOURS_MAX || minute >= MINS_PER_HOUR)
		return false;
	*usecs = ((int64) hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE) * USECS_PER_SEC;
	if (west)
		*usecs = -*usecs;
	return true;
}

static bool
read_iso(Reader *r, TimestampTz *result)
{
	int64 days;
	int64 usecs;
	int64 zone;

	if (!read_date(r, &days))
		return false;
	if (!accept(r, 'T') && !accept(r, ' ') && !accept(r, 't'))
		return false;
	if (!read_time_of_day(r, &usecs) || !read_zone(r, &zone) || r->p != r->end)
		return false;
	/* The sum could overflow for years that are refused below anyhow. */
	if (days > END_TIMESTAMP / USECS_PER_DAY)
		return false;
	*result = days * USECS_PER_DAY + usecs - zone;
	return IS_VALID_TIMESTAMP(*result);
}

/*
 * An epoch time whose value is whole + millionths / 1e6 in its own unit.
 * Both have the number's sign.
 */
static bool
from_epoch(int64 whole, int64 millionths, TimestampTz *result)
{
	int64 usecs;

	if (whole > -EPOCH_SECONDS_END && whole < EPOCH_SECONDS_END)
		usecs = whole * USECS_PER_SEC + millionths;
	else if (whole > -EPOCH_MSECS_END && whole < EPOCH_MSECS_END)
		usecs = whole * CS_USECS_PER_MSEC + millionths / 1000;
	else if (whole > -EPOCH_USECS_END && whole < EPOCH_USECS_END)
		usecs = whole;
	else
		return false;
	*result = usecs - UNIX_EPOCH_USECS;
	return IS_VALID_TIMESTAMP(*result);
}

/* The digits of a plain number and where its point is. */
typedef struct Decimal
{
	bool negative;
	int	 ndigits;
	int	 point; /* digits before the point; may be negative */
	char digits[NUMBER_DIGITS_MAX];
} Decimal;

static void
read_digits(Reader *r, Decimal *d, bool behind_point)
{
	for (; at_digit(r); r->p++)
	{
		/* Leading zeroes do not count, digits that cannot matter are dropped. */
		if (d->ndigits == 0 && *r->p == '0')
		{
			d->point -= behind_point ? 1 : 0;
			continue;
		}
		if (d->ndigits < NUMBER_DIGITS_MAX)
			d->digits[d->ndigits++] = *r->p - '0';
		d->point += behind_point ? 0 : 1;
	}
}

static bool
read_exponent(Reader *r, int *exponent)
{
	bool negative = accept(r, '-');

	if (!negative)
		(void) accept(r, '+');
	if (!at_digit(r))
		return false;
	for (*exponent = 0; at_digit(r); r->p++)
	{
		if (*exponent < NUMBER_EXPONENT_MAX)
			*exponent = *exponent * 10 + (*r->p - '0');
	}
	if (*exponent >= NUMBER_EXPONENT_MAX)
		return false;
	if (negative)
		*exponent = -*exponent;
	return true;
}

/* The digit at a place: 0 is the one before the point, -1 the one behind it. */
static inline int
digit_at(const Decimal *d, int place)
{
	int i = d->point - 1 - place;

	return i >= 0 && i < d->ndigits ? d->digits[i] : 0;
}

/* A number as JSON writes it, exactly: a double would lose microseconds. */
static bool
read_number(Reader *r, TimestampTz *result)
{
	Decimal d = {.negative = accept(r, '-')};
	int		exponent = 0;
	int64	whole = 0;
	int64	millionths = 0;

	if (!at_digit(r))
		return false;
	read_digits(r, &d, false);
	if (accept(r, '.'))
	{
		if (!at_digit(r))
			return false;
		read_digits(r, &d, true);
	}
	if ((accept(r, 'e') || accept(r, 'E')) && !read_exponent(r, &exponent))
		return false;
	d.point += exponent;
	if (r->p != r->end || d.point > 17)
		return false;
	for (int place = d.point - 1; place >= 0; place--)
		whole = whole * 10 + digit_at(&d, place);
	for (int place = -1; place >= -6; place--)
		millionths = millionths * 10 + digit_at(&d, place);
	return d.negative ? from_epoch(-whole, -millionths, result) : from_epoch(whole, millionths, result);
}

bool
cs_parse_time(const char *s, size_t len, TimestampTz *result)
{
	Reader r = {s, s + len};

	while (r.p < r.end && *r.p == ' ')
		r.p++;
	while (r.end > r.p && r.end[-1] == ' ')
		r.end--;
	/* The fifth to seventh character of a date is a hyphen; a number has none but before its exponent. */
	if (r.end - r.p >= 10 && (r.p[4] == '-' || r.p[5] == '-' || r.p[6] == '-'))
	{
		Reader iso = r;

		if (read_iso(&iso, result))
			return true;
	}
	return read_number(&r, result);
}

bool
cs_epoch_time(double number, TimestampTz *result)
{
	double whole;
	double fraction;

	/* Also false for NaN. */
	if (!(fabs(number) < (double) EPOCH_USECS_END))
		return false;
	fraction = modf(number, &whole);
	return from_epoch((int64) whole, (int64) rint(fraction * 1e6), result);
}

bool
cs_epoch_time_int(int64 number, TimestampTz *result)
{
	return from_epoch(number, 0, result);
}
