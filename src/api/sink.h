/*
 * api/sink.h
 *	  What streams and definitions ask of their sinks.
 */
#ifndef CS_API_SINK_H
#define CS_API_SINK_H

#include "postgres.h"

/* Drop one; those of a definition that goes. */
extern void cs_sink_drop(int32 sink_id);
extern void cs_sinks_drop_of(int32 stream_id, int32 definition_id);
/* Until commit none of the stream's runs: they begin anew with what it has now. */
extern void cs_sinks_hold(int32 stream_id);
/* At commit those that are enabled run. */
extern void cs_sinks_start_of(int32 stream_id);

#endif
