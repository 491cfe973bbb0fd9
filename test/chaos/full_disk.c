/*
 * test/chaos/full_disk.c
 *	  A disk that is full whenever a test says so.
 *
 * Loaded into a server by LD_PRELOAD.  While the file that CLICKSTREAM_FULL_DISK
 * names exists, no file of a database can grow: writing behind its end fails
 * with ENOSPC, as on a tablespace that is full.  WAL and everything else is
 * left alone: a server that cannot write WAL ends, whoever uses it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef ssize_t (*Pwrite)(int fd, const void *data, size_t size, off_t offset);
typedef int (*Fallocate)(int fd, off_t offset, off_t size);

static bool
is_of_database(int fd)
{
	char	link[64];
	char	path[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return false;
	path[len] = '\0';
	return strstr(path, "/base/") != NULL || strstr(path, "/PG_") != NULL;
}

static bool
is_full(int fd, off_t end)
{
	const char *flag = getenv("CLICKSTREAM_FULL_DISK");
	struct stat file;

	return flag && access(flag, F_OK) == 0 && fstat(fd, &file) == 0 && end > file.st_size && is_of_database(fd);
}

static ssize_t
guarded_pwrite(const char *name, int fd, const void *data, size_t size, off_t offset)
{
	if (is_full(fd, offset + (off_t) size))
	{
		errno = ENOSPC;
		return -1;
	}
	return ((Pwrite) dlsym(RTLD_NEXT, name))(fd, data, size, offset);
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
	return guarded_pwrite("pwrite", fd, data, size, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t size, off_t offset)
{
	return guarded_pwrite("pwrite64", fd, data, size, offset);
}

int
posix_fallocate(int fd, off_t offset, off_t size)
{
	if (is_full(fd, offset + size))
		return ENOSPC;
	return ((Fallocate) dlsym(RTLD_NEXT, "posix_fallocate"))(fd, offset, size);
}
