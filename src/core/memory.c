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
#include "storage/pg_shmem.h"

#define LARGE_PAGE_FILE "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

#if defined(__linux__) && !defined(MADV_COLLAPSE)
#define MADV_COLLAPSE 25 /* Linux 6.1; an older C library does not name it */
#endif

#define MMAP_THRESHOLD (32 * 1024 * 1024) /* the C library's own upper bound */
#define TRIM_THRESHOLD (2040 * 1024 * 1024)
#define TOP_PAD (256 * 1024 * 1024) /* the heap grows by that much: advice comes before use */
#define RESERVE 32					/* pieces of PIECE bytes, taken and given back at the start */
#define PIECE (MMAP_THRESHOLD - 4096)

/*
 * Bytes of a large page that advice makes: what the kernel says, else what one
 * page of its tables leads to.  2 MB where pages have 4 kB, 512 MB where they have 64.
 */
static uintptr_t
large_page(void)
{
	static uintptr_t size = 0;
	unsigned long	 told = 0;
	FILE			*file;

	if (size != 0)
		return size;
	file = fopen(LARGE_PAGE_FILE, "r");
	if (file != NULL)
	{
		if (fscanf(file, "%lu", &told) != 1)
			told = 0;
		fclose(file);
	}
	size = (uintptr_t) sysconf(_SC_PAGESIZE);
	if (told > size && (told & (told - 1)) == 0)
		size = told;
	else
		size *= size / sizeof(uint64);
	return size;
}

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
	heap_begin = heap_advised = TYPEALIGN(large_page(), (uintptr_t) sbrk(0));
	reserve_heap();
	cs_memory_advise_heap();
}

/* Pages that are in use may stay as they are. */
static void
advise(uintptr_t begin, uintptr_t end)
{
#ifdef MADV_HUGEPAGE
	begin = TYPEALIGN(large_page(), begin);
	end = TYPEALIGN_DOWN(large_page(), end);
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
	begin = TYPEALIGN(large_page(), begin);
	end = TYPEALIGN_DOWN(large_page(), end);
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
	uintptr_t end = TYPEALIGN_DOWN(large_page(), (uintptr_t) sbrk(0));

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

static char *mapping = NULL; /* which this server and the processes below it have now */
static Size	 mapped = 0;

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

/* Of pages that the administrator has set aside, if the server uses such (huge_pages) and enough of them are left. */
static bool
map_reserved(Size size)
{
#ifdef MAP_HUGETLB
	Size  page;
	int	  flags;
	char *at;

	if (huge_pages == HUGE_PAGES_OFF)
		return false;
	GetHugePageSize(&page, &flags);
	if (page == 0)
		return false;
	size = TYPEALIGN(page, size);
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | flags, -1, 0);
	if (at == MAP_FAILED)
	{
		elog(DEBUG1, "clickstream: no huge pages for %zu bytes: %m", size);
		return false;
	}
	mapping = at;
	mapped = size;
	return true;
#else
	(void) size;
	return false;
#endif
}

/*
 * Of ordinary ones, where large ones fit if it is as long as one of them: its
 * address must be a multiple of theirs, and so must be what lies there of the
 * mapping.  So the place is found first, and the mapping then begins at it.
 */
static void
map_ordinary(Size size)
{
	Size  page = size < large_page() ? (Size) sysconf(_SC_PAGESIZE) : large_page();
	char *place, *begin, *at;

	size = TYPEALIGN(page, size);
	at = place = mmap(NULL, size + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	begin = (char *) TYPEALIGN(page, place);
	if (place != MAP_FAILED)
		at = mmap(begin, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (at == MAP_FAILED)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not map anonymous shared memory: %m"),
				 errdetail("The request was for %zu bytes.", size), errhint("Reduce clickstream.state_memory.")));
	if (begin > place)
		(void) munmap(place, begin - place);
	(void) munmap(begin + size, place + page - begin);
	mapping = begin;
	mapped = size;
	advise((uintptr_t) begin, (uintptr_t) begin + size);
}

char *
cs_memory_map_shared(Size size)
{
	drop_mapping();
	if (!map_reserved(size))
		map_ordinary(size);
	return mapping;
}

void
cs_memory_enlarge(char *piece, Size size)
{
	uintptr_t begin = TYPEALIGN(large_page(), (uintptr_t) piece);

	if (mapping == NULL || begin >= (uintptr_t) piece + size || (char *) begin < mapping ||
		(char *) begin + large_page() > mapping + mapped)
		return;
	(void) *(volatile char *) begin; /* of what is empty nothing is made */
	collapse(begin, begin + large_page());
}
