/*
 * stats/memory.c
 *	  stat_memory_facts(): what the workers of this database say of the memory of
 *	  their streams' state.
 *
 * View stat_memory joins it with the tables.  A worker says it after each
 * commit.
 *
 * Locking: copied under the lock of the pool (state/pool.h), shared.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "state/pool.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(clickstream_stat_memory_facts);

Datum
clickstream_stat_memory_facts(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32		  *stream_ids;
	int			   n;
	CsMemoryFacts *facts = cs_regions_facts(&stream_ids, &n);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		Datum values[] = {
			Int32GetDatum(stream_ids[i]),		 Int64GetDatum(facts[i].budget),
			Int64GetDatum(facts[i].used),		 Int64GetDatum(facts[i].entries),
			Int64GetDatum(facts[i].set_bytes),	 Int64GetDatum(facts[i].index_bytes),
			Int64GetDatum(facts[i].kept_bytes),	 Int64GetDatum(facts[i].shared_bytes),
			Int64GetDatum(facts[i].own_bytes),	 Int64GetDatum(facts[i].spilled),
			Int64GetDatum(facts[i].spill_bytes), Int64GetDatum(facts[i].batch_bytes),
		};
		bool isnull[lengthof(values)] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}
