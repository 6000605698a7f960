/* What this login's account phase left for its session phase. It stands in a folder that only root can write, and is
   named after this very process. */

#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "state.h"
#include "trust.h"

static void name_of(const struct self *self, char name[64]) {
	snprintf(name, 64, "%llu-%llu", (unsigned long long)self->pid, (unsigned long long)self->start);
}

/* The whole file, or what is wrong with it. `size`: one byte more than the longest message. */
static const char *read_whole(int fd, char *text, size_t size, size_t *length) {
	*length = 0;
	for (;;) {
		ssize_t got = read(fd, text + *length, size - *length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return "it cannot be read";
		if (got == 0)
			return NULL;
		*length += (size_t)got;
		if (*length == size)
			return "it is too long";
	}
}

static const char *read_record(int fd, const struct self *self, struct reply *reply) {
	size_t length, size = PROTOCOL_LONGEST_MESSAGE + 1;
	if (!trust_open(fd, S_IFREG))
		return "it is not a file of root's alone";
	char *text = malloc(size);
	if (text == NULL)
		return "there is no memory";
	const char *why = read_whole(fd, text, size, &length);
	if (why == NULL)
		why = reply_parse(text, length, reply);
	free(text);
	if (why == NULL && (reply->pid != self->pid || reply->start != self->start))
		why = "it is another process's";
	return why;
}

enum record record_read(const struct self *self, struct reply *reply, const char **why) {
	char name[64];
	int folder = state_folder(PROTOCOL_LOGINS, why);
	if (folder < 0)
		return *why == NULL ? RECORD_NONE : RECORD_BAD;
	name_of(self, name);
	/* O_NONBLOCK: a fifo must not stop us. */
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int code = errno;
	close(folder);
	if (fd < 0) {
		*why = "it cannot be opened";
		return code == ENOENT ? RECORD_NONE : RECORD_BAD;
	}
	*why = read_record(fd, self, reply);
	close(fd);
	return *why == NULL ? RECORD_READ : RECORD_BAD;
}

bool record_remove(const struct self *self) {
	char name[64];
	const char *why;
	int folder = state_folder(PROTOCOL_LOGINS, &why);
	if (folder < 0)
		return false;
	name_of(self, name);
	bool removed = unlinkat(folder, name, 0) == 0;
	close(folder);
	return removed;
}
