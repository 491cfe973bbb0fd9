/*
 * decode/upsert_value.c
 *	  Dates, times and decimals as tools for change data capture write them.
 *
 * A number in a column of a date or time is a count since 1970, whose unit the
 * message's schema tells.  Without one a date is in days, as Debezium writes
 * it, a timestamp is told by its magnitude, as that of an event (time.c), and
 * a time of day is refused: it may be in milliseconds or microseconds.
 *
 * Times are rounded as the column's modifier wants.
 *
 * A decimal is its unscaled value as a big-endian number in two's complement,
 * in Base64, with a scale.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "compat.h"
#include "decode/decode.h"
#include "decode/upsert.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define UNIX_DAYS (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)
#define UNIX_USECS ((int64) UNIX_DAYS * USECS_PER_DAY)

/* Longest unscaled value of a decimal, in bytes: some 300 digits. */
#define DECIMAL_BYTES_MAX 128

/* Names of schemas, and how many of their units are in a second. */
static const struct
{
	const char *name;
	int64		per_second;
} units[] = {
	{"io.debezium.time.Timestamp", 1000},
	{"io.debezium.time.MicroTimestamp", 1000000},
	{"io.debezium.time.NanoTimestamp", 1000000000},
	{"org.apache.kafka.connect.data.Timestamp", 1000},
	{"io.debezium.time.Time", 1000},
	{"io.debezium.time.MicroTime", 1000000},
	{"io.debezium.time.NanoTime", 1000000000},
	{"org.apache.kafka.connect.data.Time", 1000},
};

/* 0: the schema does not say. */
static int64
units_per_second(const CsFieldType *field)
{
	for (int i = 0; field->name && i < lengthof(units); i++)
		if (strlen(units[i].name) == field->len && memcmp(units[i].name, field->name, field->len) == 0)
			return units[i].per_second;
	return 0;
}

pg_noreturn static void
refuse_range(const CsUpsertColumn *column, int64 number)
{
	ereport(ERROR, (errcode(ERRCODE_DATETIME_FIELD_OVERFLOW),
					errmsg("number " INT64_FORMAT " is out of range for column \"%s\"", number, column->name)));
}

/* In µs; the unit is not 0. */
static int64
to_usecs(const CsUpsertColumn *column, int64 number, int64 per_second)
{
	int64 usecs;

	if (per_second > 1000000)
	{
		int64 divisor = per_second / 1000000;

		/* towards the past, as digits beyond the microsecond are cut */
		return number / divisor - (number % divisor < 0 ? 1 : 0);
	}
	if (pg_mul_s64_overflow(number, 1000000 / per_second, &usecs))
		refuse_range(column, number);
	return usecs;
}

static Datum
date_value(const CsUpsertColumn *column, int64 days)
{
	int64 date = days - UNIX_DAYS;

	if (date < PG_INT32_MIN || date > PG_INT32_MAX || !IS_VALID_DATE(date))
		refuse_range(column, days);
	return DateADTGetDatum((DateADT) date);
}

/* timestamptz; timestamp has the same number, being that of UTC. */
static Datum
timestamp_value(const CsUpsertColumn *column, int64 number, const CsFieldType *field)
{
	int64		per_second = units_per_second(field);
	TimestampTz time;

	if (per_second == 0)
	{
		if (!cs_epoch_time_int(number, &time))
			refuse_range(column, number);
		return TimestampTzGetDatum(time);
	}
	if (pg_sub_s64_overflow(to_usecs(column, number, per_second), UNIX_USECS, &time) || !IS_VALID_TIMESTAMP(time))
		refuse_range(column, number);
	return TimestampTzGetDatum(time);
}

static Datum
time_value(const CsUpsertColumn *column, int64 number, const CsFieldType *field)
{
	int64 per_second = units_per_second(field);
	int64 usecs;

	if (per_second == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_DATETIME_FORMAT),
				 errmsg("the unit of number " INT64_FORMAT " in column \"%s\" is not known", number, column->name),
				 errhint("Have the sender write schemas, or times as strings.")));
	usecs = to_usecs(column, number, per_second);
	if (usecs < 0 || usecs > USECS_PER_DAY)
		refuse_range(column, number);
	return TimeADTGetDatum(usecs);
}

Datum
cs_upsert_scale(const CsUpsertColumn *column, Datum time)
{
	Datum typmod = Int32GetDatum(column->typmod);

	if (column->typmod < 0)
		return time;
	switch (column->type)
	{
		case TIMESTAMPOID:
			return DirectFunctionCall2(timestamp_scale, time, typmod);
		case TIMESTAMPTZOID:
			return DirectFunctionCall2(timestamptz_scale, time, typmod);
		case TIMEOID:
			return DirectFunctionCall2(time_scale, time, typmod);
		default:
			return time;
	}
}

bool
cs_upsert_number(const CsUpsertColumn *column, int64 number, const CsFieldType *field, Datum *value)
{
	switch (column->type)
	{
		case DATEOID:
			*value = date_value(column, number);
			return true;
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			*value = cs_upsert_scale(column, timestamp_value(column, number, field));
			return true;
		case TIMEOID:
			*value = cs_upsert_scale(column, time_value(column, number, field));
			return true;
		default:
			return false;
	}
}

/* Divide a big-endian number by ten; the remainder. */
static int
divide_by_ten(unsigned char *bytes, int n)
{
	int rest = 0;

	for (int i = 0; i < n; i++)
	{
		int part = rest * 256 + bytes[i];

		bytes[i] = (unsigned char) (part / 10);
		rest = part % 10;
	}
	return rest;
}

/* Two's complement to magnitude. */
static void
negate(unsigned char *bytes, int n)
{
	int carry = 1;

	for (int i = n - 1; i >= 0; i--)
	{
		int sum = (unsigned char) ~bytes[i] + carry;

		bytes[i] = (unsigned char) sum;
		carry = sum >> 8;
	}
}

static bool
is_zero(const unsigned char *bytes, int n)
{
	for (int i = 0; i < n; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

static Datum
from_base64(const char *base64, size_t len)
{
	return DirectFunctionCall2(binary_decode, PointerGetDatum(cstring_to_text_with_len(base64, (int) len)),
							   CStringGetTextDatum("base64"));
}

char *
cs_upsert_bytes(const char *base64, size_t len)
{
	return DatumGetCString(DirectFunctionCall1(byteaout, from_base64(base64, len)));
}

/* "-12345e-2" */
char *
cs_upsert_decimal(const char *base64, size_t len, int scale)
{
	bytea		  *decoded = DatumGetByteaPP(from_base64(base64, len));
	int			   n = (int) VARSIZE_ANY_EXHDR(decoded);
	unsigned char *bytes = (unsigned char *) palloc(n + 1);
	char		   digits[DECIMAL_BYTES_MAX * 3 + 1]; /* a byte is less than three digits */
	int			   at = sizeof(digits) - 1;
	bool		   negative;

	if (n == 0 || n > DECIMAL_BYTES_MAX)
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("a decimal of %d bytes", n)));
	memcpy(bytes, VARDATA_ANY(decoded), n);
	negative = bytes[0] >= 0x80;
	if (negative)
		negate(bytes, n);
	digits[at] = '\0';
	do
		digits[--at] = (char) ('0' + divide_by_ten(bytes, n));
	while (!is_zero(bytes, n));
	return psprintf("%s%se%d", negative ? "-" : "", digits + at, -scale);
}
