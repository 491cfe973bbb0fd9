/*
 * visit.h
 *	  The model behind the bench's events: visitors who browse a shop.
 *
 * visit.c decides who does what and when, in event time, and writes the JSON;
 * generate.c decides when an event arrives and where it goes.  Nothing here
 * reads a clock or does I/O, so one seed always gives one stream of bytes.
 */
#ifndef BENCH_VISIT_H
#define BENCH_VISIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest key and JSON of one event; all parts of an event are bounded. */
#define EVENT_KEY_MAX 40
#define EVENT_JSON_MAX 1024

/* No visitor's next event is further away than this, in ms of event time. */
#define VISIT_GAP_MAX ((1 << 23) - 1)

typedef struct Event
{
	size_t key_length;
	size_t json_length;
	char   key[EVENT_KEY_MAX];
	char   json[EVENT_JSON_MAX];
} Event;

typedef struct Model Model;

/* Makes "visitors" idle visitors; NULL when memory is short. */
extern Model *model_create(uint64_t seed, uint32_t visitors);
extern void	  model_free(Model *model);

/* Uniform in [0, 1), and exponential with the given mean. */
extern double model_uniform(Model *model);
extern double model_exponential(Model *model, double mean);

/* Begins a visit of some idle visitor; false when the one drawn is not idle. */
extern bool visit_begin(Model *model, uint32_t *visitor);

/* Writes the visitor's event at time_ms (Unix epoch). */
extern void visit_event(Model *model, uint32_t visitor, int64_t time_ms, Event *event);

/* Says in how many ms the visitor's next event happens, or -1 when the visitor leaves. */
extern int32_t visit_next(Model *model, uint32_t visitor, int64_t time_ms);

#endif /* BENCH_VISIT_H */
