/*
 * source/kafka_pause.c
 *	  A partition that is not to be read for a while.
 *
 * The library drops what it has fetched of a partition that is paused, and
 * fetches again from behind the last message that it has handed out.
 */
#include "postgres.h"

#include "source/kafka_internal.h"

void
cs_kafka_pause(CsSource *base, CsPartition *partition, bool paused)
{
	KafkaSource		   *source = (KafkaSource *) base;
	rd_kafka_resp_err_t code;

	Assert(source->list == NULL);
	source->list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(source->list, source->stream->topics[partition->topic], partition->id);
	code = paused ? rd_kafka_pause_partitions(source->rk, source->list)
				  : rd_kafka_resume_partitions(source->rk, source->list);
	rd_kafka_topic_partition_list_destroy(source->list);
	source->list = NULL;
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("could not %s partition %d of topic \"%s\": %s", paused ? "pause" : "resume",
							   partition->id, source->stream->topics[partition->topic], rd_kafka_err2str(code)),
						errhint("The stream reads on from what is committed.")));
}
