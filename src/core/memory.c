/*
 * core/memory.c
 *	  Advice about memory; see memory.h.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/mman.h>
#include <unistd.h>

#include "core/memory.h"

#if defined(__linux__) && !defined(MADV_COLLAPSE)
#define MADV_COLLAPSE 25 /* Linux 6.1; an older C library does not name it */
#endif

#define HUGE_PAGE ((uintptr_t) 2 * 1024 * 1024)
#define MMAP_THRESHOLD (32 * 1024 * 1024) /* the C library's own upper bound */
#define TRIM_THRESHOLD (2040 * 1024 * 1024)
#define TOP_PAD (256 * 1024 * 1024) /* the heap grows by that much: advice comes before use */
#define RESERVE 32					/* pieces of PIECE bytes, taken and given back at the start */
#define PIECE (MMAP_THRESHOLD - 4096)

static uintptr_t heap_begin = 0; /* of what this process has added */
static uintptr_t heap_advised = 0;

/*
 * Let the heap have its first gigabyte of addresses before anything is in
 * it, because pages that are in use already stay small.
 */
static void
reserve_heap(void)
{
	void *pieces[RESERVE];

	for (int i = 0; i < RESERVE; i++)
		pieces[i] = malloc(PIECE);
	for (int i = RESERVE - 1; i >= 0; i--)
		free(pieces[i]);
}

void
cs_memory_init(void)
{
#ifdef __GLIBC__
	(void) mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	(void) mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
	(void) mallopt(M_TOP_PAD, TOP_PAD);
#endif
	heap_begin = heap_advised = TYPEALIGN(HUGE_PAGE, (uintptr_t) sbrk(0));
	reserve_heap();
	cs_memory_advise_heap();
}

/* Pages that are in use may stay as they are. */
static void
advise(uintptr_t begin, uintptr_t end)
{
#ifdef MADV_HUGEPAGE
	begin = TYPEALIGN(HUGE_PAGE, begin);
	end = TYPEALIGN_DOWN(HUGE_PAGE, end);
	if (begin < end)
		(void) madvise((void *) begin, end - begin, MADV_HUGEPAGE);
#else
	(void) begin;
	(void) end;
#endif
}

/* What is in use already becomes large pages at once. */
static void
collapse(uintptr_t begin, uintptr_t end)
{
#ifdef __linux__
	begin = TYPEALIGN(HUGE_PAGE, begin);
	end = TYPEALIGN_DOWN(HUGE_PAGE, end);
	if (begin < end)
		(void) madvise((void *) begin, end - begin, MADV_COLLAPSE);
#else
	(void) begin;
	(void) end;
#endif
}

void
cs_memory_advise_heap(void)
{
	uintptr_t end = TYPEALIGN_DOWN(HUGE_PAGE, (uintptr_t) sbrk(0));

	if (heap_begin == 0 || end <= heap_advised)
		return;
	advise(heap_advised, end);
	heap_advised = end;
}

void
cs_memory_advise(void *data, Size size)
{
	if (heap_begin == 0)
		return;
	advise((uintptr_t) data, (uintptr_t) data + size);
	collapse((uintptr_t) data, (uintptr_t) data + size);
}

/* ---- shared memory ---- */

static char *mapping = NULL; /* whole, which this server and the processes below it have now */
static Size	 mapped = 0;
static char *shared_begin = NULL; /* what was asked for of it */
static Size	 shared_size = 0;

/*
 * The server has been started anew.  Processes that live on (the logger) may
 * still have the old mapping: so its pages are given back, not only our view
 * of them.
 */
static void
drop_mapping(void)
{
	if (mapping == NULL)
		return;
#ifdef MADV_REMOVE
	(void) madvise(mapping, mapped, MADV_REMOVE);
#endif
	(void) munmap(mapping, mapped);
	mapping = NULL;
}

char *
cs_memory_map_shared(Size size)
{
	char *at;

	drop_mapping();
	size = TYPEALIGN(HUGE_PAGE, size);
	at = mmap(NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not map anonymous shared memory: %m"),
						errdetail("The request was for %zu bytes.", size + HUGE_PAGE),
						errhint("Reduce clickstream.state_memory.")));
	mapping = at;
	mapped = size + HUGE_PAGE;
	shared_begin = (char *) TYPEALIGN(HUGE_PAGE, at);
	shared_size = size;
	advise((uintptr_t) shared_begin, (uintptr_t) shared_begin + size);
	return shared_begin;
}

void
cs_memory_enlarge(char *piece, Size size)
{
	uintptr_t begin = TYPEALIGN(HUGE_PAGE, (uintptr_t) piece);

	if (shared_begin == NULL || begin >= (uintptr_t) piece + size || (char *) begin < shared_begin ||
		(char *) begin + HUGE_PAGE > shared_begin + shared_size)
		return;
	(void) *(volatile char *) begin; /* of what is empty nothing is made */
	collapse(begin, begin + HUGE_PAGE);
}
