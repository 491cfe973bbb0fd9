/*
 * demo/chance.h
 *	  Dice for the traffic generator: one sequence per seed, on any machine.
 *
 * Locking: none, one thread uses it.
 */
#ifndef DEMO_CHANCE_H
#define DEMO_CHANCE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define COUNT_OF(array) ((int) (sizeof(array) / sizeof((array)[0])))
#define PICK(array) ((array)[random_below(COUNT_OF(array))])

static uint64_t random_state;

/* splitmix64: any seed is a good one. */
static uint64_t
random_bits(void)
{
	uint64_t z = (random_state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static double
random_unit(void)
{
	return (double) (random_bits() >> 11) * (1.0 / 9007199254740992.0);
}

static int
random_below(int limit)
{
	return (int) (random_unit() * limit);
}

static bool
chance(double share)
{
	return random_unit() < share;
}

static double
random_exponential(double mean)
{
	return -log(1 - random_unit()) * mean;
}

#endif
