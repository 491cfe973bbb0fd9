/*
 * worker/utility.h
 *	  Commands that workers must get out of the way of.
 */
#ifndef CS_WORKER_UTILITY_H
#define CS_WORKER_UTILITY_H

#include "postgres.h"

extern void cs_utility_init(void);

#endif
