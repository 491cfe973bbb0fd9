/*
 * api/event_runs.c
 *	  Events of one group that do not fit into work_mem: sorted runs in a
 *	  temporary file, and the merge of them with what is in memory.
 *
 * The list stays as it is while it is read, and may grow afterwards.
 *
 * The file is closed when the executor is through with the group; after an
 * error PostgreSQL removes it.
 */
#include "postgres.h"

#include "api/event_list.h"
#include "executor/executor.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/buffile.h"

#define READ_EVENTS 1024 /* at a time, of each run */

typedef struct Run
{
	int	  fileno;
	off_t offset;
	int64 n;
} Run;

struct CsEventRuns
{
	BufFile *file;
	Run		 end; /* where the next one begins */
	int		 n, allocated;
	Run		*runs; /* oldest first */
};

/* One run, or what is in memory, while it is read. */
typedef struct Source
{
	Run				   rest; /* not read yet */
	int				   n, i; /* of events */
	const CsEventMask *events;
	CsEventMask		   buffer[READ_EVENTS];
} Source;

struct CsEventReader
{
	CsEventList *list;
	int			 n;
	Source	   **sources;
	binaryheap	*heap; /* of sources' numbers; the first of the earliest event is the next */
	int			 current;
};

int32
cs_event_list_limit(void)
{
	return (int32) Min((int64) work_mem * 1024 / (sizeof(CsEventMask) * 3 / 2), PG_INT32_MAX / 2);
}

int64
cs_event_runs_count(const CsEventRuns *runs)
{
	int64 n = 0;

	for (int i = 0; i < runs->n; i++)
		n += runs->runs[i].n;
	return n;
}

/* ---- writing ---- */

static void
close_runs(Datum arg)
{
	CsEventRuns *runs = (CsEventRuns *) DatumGetPointer(arg);

	BufFileClose(runs->file);
}

/* Only a real Agg node says when a group is done. */
static void
make_runs(FunctionCallInfo fcinfo, CsEventList *list)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(list));
	CsEventRuns	 *runs = palloc0(sizeof(CsEventRuns));

	if (!IsA(fcinfo->context, AggState) || ((AggState *) fcinfo->context)->ss.ps.state == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many events in one group"),
				 errdetail("%d events take more than the memory that work_mem allows, %d kB.", list->n, work_mem),
				 errhint("Raise work_mem, or use the aggregate with GROUP BY, not as a window function.")));
	runs->allocated = 16;
	runs->runs = palloc(runs->allocated * sizeof(Run));
	runs->file = BufFileCreateTemp(false);
	AggRegisterCallback(fcinfo, close_runs, PointerGetDatum(runs));
	list->runs = runs;
	MemoryContextSwitchTo(old);
}

void
cs_event_list_spill(FunctionCallInfo fcinfo, CsEventList *list)
{
	CsEventRuns *runs;
	Run			*run;

	if (list->runs == NULL)
		make_runs(fcinfo, list);
	runs = list->runs;
	if (runs->n == runs->allocated)
	{
		runs->allocated *= 2;
		runs->runs = repalloc(runs->runs, runs->allocated * sizeof(Run));
	}
	cs_event_list_sort(list);
	run = &runs->runs[runs->n++];
	*run = runs->end;
	run->n = list->n;
	/* it may have been read meanwhile */
	if (BufFileSeek(runs->file, run->fileno, run->offset, SEEK_SET) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not seek in temporary file: %m")));
	BufFileWrite(runs->file, list->events, list->n * sizeof(CsEventMask));
	BufFileTell(runs->file, &runs->end.fileno, &runs->end.offset);
	list->n = 0;
}

/* ---- reading ---- */

static bool
refill(CsEventReader *reader, Source *source)
{
	int		 n = Min(source->rest.n, READ_EVENTS);
	BufFile *file = reader->list->runs ? reader->list->runs->file : NULL;

	if (n == 0)
		return false;
	if (BufFileSeek(file, source->rest.fileno, source->rest.offset, SEEK_SET) != 0 ||
		BufFileRead(file, source->buffer, n * sizeof(CsEventMask)) != n * sizeof(CsEventMask))
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from temporary file: %m")));
	BufFileTell(file, &source->rest.fileno, &source->rest.offset);
	source->rest.n -= n;
	source->events = source->buffer;
	source->n = n;
	source->i = 0;
	return true;
}

/* binaryheap has the greatest on top: the latest of the wrong way round. */
static int
compare_sources(Datum a, Datum b, void *arg)
{
	CsEventReader	  *reader = arg;
	const Source	  *x = reader->sources[DatumGetInt32(a)];
	const Source	  *y = reader->sources[DatumGetInt32(b)];
	const CsEventMask *e = &x->events[x->i];
	const CsEventMask *f = &y->events[y->i];

	if (e->time != f->time)
		return e->time < f->time ? 1 : -1;
	return DatumGetInt32(b) - DatumGetInt32(a); /* as they came */
}

static void
add_source(CsEventReader *reader, const Run *run)
{
	Source *source = palloc(run ? sizeof(Source) : offsetof(Source, buffer));

	if (run != NULL)
	{
		source->rest = *run;
		refill(reader, source);
	}
	else
	{
		source->rest.n = 0;
		source->events = reader->list->events;
		source->n = reader->list->n;
		source->i = 0;
	}
	reader->sources[reader->n] = source;
	binaryheap_add_unordered(reader->heap, Int32GetDatum(reader->n++));
}

CsEventReader *
cs_event_reader_begin(CsEventList *list)
{
	CsEventReader *reader = palloc0(sizeof(CsEventReader));
	int			   nruns = list->runs ? list->runs->n : 0;

	cs_event_list_sort(list);
	reader->list = list;
	reader->sources = palloc((nruns + 1) * sizeof(Source *));
	reader->heap = binaryheap_allocate(nruns + 1, compare_sources, reader);
	reader->current = -1;
	for (int i = 0; i < nruns; i++)
		add_source(reader, &list->runs->runs[i]);
	if (list->n > 0)
		add_source(reader, NULL);
	binaryheap_build(reader->heap);
	return reader;
}

const CsEventMask *
cs_event_reader_next(CsEventReader *reader)
{
	Source *source;

	if (reader->current >= 0)
	{
		source = reader->sources[reader->current];
		if (++source->i < source->n || refill(reader, source))
			binaryheap_replace_first(reader->heap, Int32GetDatum(reader->current));
		else
			binaryheap_remove_first(reader->heap);
	}
	if (binaryheap_empty(reader->heap))
		return NULL;
	CHECK_FOR_INTERRUPTS();
	reader->current = DatumGetInt32(binaryheap_first(reader->heap));
	source = reader->sources[reader->current];
	return &source->events[source->i];
}

void
cs_event_reader_end(CsEventReader *reader)
{
	binaryheap_free(reader->heap);
	for (int i = 0; i < reader->n; i++)
		pfree(reader->sources[i]);
	pfree(reader->sources);
	pfree(reader);
}
