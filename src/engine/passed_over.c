/*
 * engine/passed_over.c
 *	  Ranges of offsets that history passes over: looked up for each message.
 *
 * A binary search, since dead letters that were retried are a range each.
 *
 * No locking: no state.
 */
#include "postgres.h"

#include "engine/passed_over.h"

static int
compare_places(int topic_a, int32 partition_a, int topic_b, int32 partition_b)
{
	if (topic_a != topic_b)
		return topic_a < topic_b ? -1 : 1;
	return partition_a < partition_b ? -1 : partition_a > partition_b;
}

static int
compare_ranges(const void *a, const void *b)
{
	const CsPassedOver *x = a;
	const CsPassedOver *y = b;
	int					order = compare_places(x->topic, x->partition, y->topic, y->partition);

	if (order != 0)
		return order;
	return x->first_offset < y->first_offset ? -1 : x->first_offset > y->first_offset;
}

void
cs_passed_over_sort(CsPassedOver *ranges, int n)
{
	qsort(ranges, n, sizeof(CsPassedOver), compare_ranges);
}

static int
compare_with_range(const void *message, const void *element)
{
	const CsMessage	   *m = message;
	const CsPassedOver *range = element;
	int					order = compare_places(m->partition->topic, m->partition->id, range->topic, range->partition);

	if (order != 0)
		return order;
	return m->offset < range->first_offset ? -1 : m->offset >= range->next_offset;
}

bool
cs_passed_over_has(const CsPassedOver *ranges, int n, const CsMessage *message)
{
	return n > 0 && bsearch(message, ranges, n, sizeof(CsPassedOver), compare_with_range) != NULL;
}
