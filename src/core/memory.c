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
	if (heap_begin != 0)
		advise((uintptr_t) data, (uintptr_t) data + size);
}
