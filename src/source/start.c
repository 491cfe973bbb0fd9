/*
 * source/start.c
 *	  What start_offsets says of a partition.
 *
 * {"web/0": 12, "1": 7, "*": -100}: a partition of a topic is looked for before
 * one of any topic, and that before all of them.  A number below 0 counts from
 * the end, as kcat's -o does.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "source/source.h"

int64
cs_start_given(const CsStream *stream, const CsPartition *partition, int64 low, int64 high)
{
	char *names[3] = {psprintf("%s/%d", stream->topics[partition->topic], partition->id), psprintf("%d", partition->id),
					  "*"};

	for (int i = 0; i < (int) lengthof(names) && stream->start_offsets != NULL; i++)
	{
		JsonbValue	buffer;
		JsonbValue *value =
			getKeyJsonValueFromContainer(&stream->start_offsets->root, names[i], strlen(names[i]), &buffer);
		int64 offset;

		if (value == NULL)
			continue;
		if (value->type != jbvNumeric)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("start_offsets of partition %d is not an offset", partition->id),
							errhint("Write it as in {\"0\": 1201, \"1\": 0}.")));
		offset = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value->val.numeric)));
		return offset < 0 ? Max(low, high + offset) : offset;
	}
	return low;
}
