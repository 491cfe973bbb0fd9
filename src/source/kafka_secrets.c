/*
 * source/kafka_secrets.c
 *	  Files that a client is made with: secrets by name, certificates by path.
 *
 * A secret is the content of <clickstream.secrets_directory>/name, read when
 * the source is opened.  It never appears in an error or a log line; the buffer
 * that held it is wiped.  As PostgreSQL does with its own private key, a secret
 * that others may read is refused: it is none, and whoever made it so should
 * learn of it.  Links are followed (that is how Kubernetes mounts secrets), so
 * all is judged by the opened file.
 *
 * Rotation.  What each file looked like is kept, and looked at again once a
 * second.  When one has changed the source says that it is outdated, and the
 * engine opens another one beside it; positions are the engine's, so nothing is
 * lost.  A file that cannot be read as it now is (empty, readable by all), or
 * in which the library finds nothing to use (half of a certificate, a key
 * without its certificate), does not cost a connection that works: that is only
 * said in the log, and the next change is tried again.
 *
 * Errors here are of class 28, which the worker tries again: whoever mends the
 * file need not start the stream.
 *
 * Main thread only, no locks.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"
#include "utils/memutils.h"

#include "core/settings.h"
#include "source/kafka_internal.h"
#include "source/kafka_options.h"

static char *
secret_path(const char *option, const char *name)
{
	cs_kafka_secret_name_validate(option, name);
	if (cs_secrets_directory == NULL || cs_secrets_directory[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("secret \"%s\" of option \"%s\" cannot be read", name, option),
				 errdetail("The setting clickstream.secrets_directory is empty."),
				 errhint("Let it name a directory that only the server can read, and reload the configuration.")));
	return psprintf("%s/%s", cs_secrets_directory, name);
}

/*
 * Why a file cannot be a secret, or NULL.  The rule for those who may read it
 * is that of PostgreSQL's ssl_key_file; a user name or a certificate may be
 * read by all, but not written.
 */
static const char *
unfit(const struct stat *st, bool is_private)
{
	mode_t forbidden = is_private ? (S_IRWXG | S_IRWXO) : (S_IWGRP | S_IWOTH);

	if (!S_ISREG(st->st_mode))
		return "it is not a regular file";
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return "it belongs neither to the server's user nor to root";
	if (is_private && st->st_uid == 0 && geteuid() != 0)
		forbidden = S_IWGRP | S_IXGRP | S_IRWXO;
	if (st->st_mode & forbidden)
		return is_private ? "others may read or write it" : "others may write it";
	return NULL;
}

/*
 * Open a secret's file; -1: *reason says why not, and if that is NULL errno does.
 * Never waits, whatever kind of file it is.
 */
static int
open_secret(const char *path, bool is_private, struct stat *st, const char **reason)
{
	int fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);

	*reason = NULL;
	if (fd < 0)
		return -1;
	*reason = fstat(fd, st) == 0 ? unfit(st, is_private) : "it cannot be looked at";
	if (*reason == NULL)
		return fd;
	CloseTransientFile(fd);
	return -1;
}

/* All of a file, up to size bytes; -1: errno says why not. */
static ssize_t
read_file(int fd, char *buffer, size_t size)
{
	size_t	length = 0;
	ssize_t n;

	do
	{
		n = read(fd, buffer + length, size - length);
		length += Max(n, 0);
	} while (n > 0 && length < size);
	return n < 0 ? -1 : (ssize_t) length;
}

static void
raise_unreadable(const char *option, const char *name, const char *reason)
{
	if (reason == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
						errmsg("could not read secret \"%s\" of option \"%s\": %m", name, option),
						errhint("Secrets are files in the directory that clickstream.secrets_directory names.")));
	ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					errmsg("secret \"%s\" of option \"%s\" is refused: %s", name, option, reason),
					errhint("The file should belong to the server's user, with mode 0600 (or to root, 0640).")));
}

/* Remember what a file looks like, so that a change is seen. */
static void
watch(KafkaSource *source, const char *option, const char *path, bool is_secret, bool is_private, const struct stat *st)
{
	KafkaFile *file = MemoryContextAllocZero(source->cxt, sizeof(KafkaFile));

	file->option = MemoryContextStrdup(source->cxt, option);
	file->path = MemoryContextStrdup(source->cxt, path);
	file->is_secret = is_secret;
	file->is_private = is_private;
	file->seen = *st;
	file->next = source->files;
	source->files = file;
}

/*
 * Content of a secret's file, without the line break at its end, in a buffer of
 * CS_KAFKA_VALUE_MAX + 1 bytes that the caller wipes.
 */
char *
cs_kafka_secret_read(KafkaSource *source, const char *option, const char *name, bool is_private)
{
	char	   *path = secret_path(option, name);
	char	   *content = palloc(CS_KAFKA_VALUE_MAX + 1);
	const char *reason;
	struct stat st;
	ssize_t		length;
	int			fd = open_secret(path, is_private, &st, &reason);
	int			saved;

	if (fd < 0)
		raise_unreadable(option, name, reason);
	length = read_file(fd, content, CS_KAFKA_VALUE_MAX + 1);
	saved = errno;
	CloseTransientFile(fd);
	errno = saved;
	if (length < 0)
		raise_unreadable(option, name, NULL);
	if (length > CS_KAFKA_VALUE_MAX || memchr(content, '\0', length) != NULL)
	{
		explicit_bzero(content, CS_KAFKA_VALUE_MAX + 1);
		raise_unreadable(option, name, "it is too long, or holds a zero byte");
	}
	if (length > 0 && content[length - 1] == '\n')
		length--;
	if (length > 0 && content[length - 1] == '\r')
		length--;
	content[length] = '\0';
	if (length == 0)
		raise_unreadable(option, name, "it is empty");
	watch(source, option, path, true, is_private, &st);
	pfree(path);
	return content;
}

/* A file or directory that the library reads itself; that it is missing the library says. */
void
cs_kafka_file_watch(KafkaSource *source, const char *option, const char *path)
{
	struct stat st;

	memset(&st, 0, sizeof(st));
	(void) stat(path, &st);
	watch(source, option, path, false, false, &st);
}

static bool
looks_different(const struct stat *a, const struct stat *b)
{
	return a->st_dev != b->st_dev || a->st_ino != b->st_ino || a->st_size != b->st_size || a->st_mode != b->st_mode ||
		   a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec ||
		   a->st_ctim.tv_sec != b->st_ctim.tv_sec || a->st_ctim.tv_nsec != b->st_ctim.tv_nsec;
}

/* May the changed file be tried?  If not and all is well, that is said once and left. */
static bool
is_worth_a_try(KafkaSource *source, KafkaFile *file, const struct stat *now)
{
	const char *reason = now->st_size == 0 ? "it is empty" : file->is_secret ? unfit(now, file->is_private) : NULL;

	if (reason == NULL || source->has_problem)
		return true;
	ereport(WARNING, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					  errmsg("the changed file of option \"%s\" of stream \"%s\" is not used: %s", file->option,
							 source->stream->name, reason),
					  errdetail("The connection made with the file as it was is kept.")));
	file->seen = *now;
	return false;
}

/* No client can be made with the files as they are now: they are looked at again when they change. */
void
cs_kafka_files_keep(KafkaSource *source)
{
	for (KafkaFile *file = source->files; file; file = file->next)
		(void) stat(file->path, &file->seen);
}

/* Has a file changed since the client was made?  One that is gone tells nothing. */
bool
cs_kafka_files_changed(KafkaSource *source)
{
	for (KafkaFile *file = source->files; file; file = file->next)
	{
		struct stat now;

		if (stat(file->path, &now) == 0 && looks_different(&now, &file->seen) && is_worth_a_try(source, file, &now))
			return true;
	}
	return false;
}
