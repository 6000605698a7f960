/* What /proc says about the process that PAM runs in. /proc/self is the process, whichever of its threads asks. */

#include "self.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "number.h"

/* A path of a cgroup can be as long as a page, and v1 has 14 hierarchies. */
enum { LARGEST_FILE = 128 * 1024 };

/* The whole file; -1 where it cannot be read or does not fit. */
static ssize_t read_file(const char *path, char *text, size_t size) {
	size_t used = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	for (;;) {
		ssize_t got = read(fd, text + used, size - used);
		if (got > 0)
			used += (size_t)got;
		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0 || got < 0 || used == size) {
			close(fd);
			return got == 0 ? (ssize_t)used : -1;
		}
	}
}

bool self_number(const char *path, uint64_t *number) {
	char text[32];
	ssize_t length = read_file(path, text, sizeof text);
	if (length > 0 && text[length - 1] == '\n')
		length--;
	return length > 0 && number_read(text, (size_t)length, UINT64_MAX, number);
}

static uint64_t count_threads(void) {
	uint64_t count = 0;
	struct dirent *entry;
	DIR *tasks = opendir("/proc/self/task");
	if (tasks == NULL)
		return 0;
	while ((entry = readdir(tasks)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(tasks);
	return count;
}

bool self_start(const char *stat, size_t length, uint64_t *start) {
	/* The name of the program, in field 2, may contain blanks and parentheses; no later field does. */
	const char *at = memrchr(stat, ')', length);
	const char *end = stat + length;
	if (at == NULL)
		return false;
	at++;
	for (int field = 3;; field++) {
		if (at >= end || *at != ' ')
			return false;
		at++;
		const char *next = memchr(at, ' ', (size_t)(end - at));
		if (next == NULL)
			return false;
		if (field == 22)
			return number_read(at, (size_t)(next - at), UINT64_MAX, start);
		at = next;
	}
}

bool self_read(struct self *self) {
	char stat[2048];
	ssize_t length = read_file("/proc/self/stat", stat, sizeof stat);
	self->pid = (uint64_t)getpid();
	self->threads = count_threads();
	return length > 0 && self->threads > 0 && self_start(stat, (size_t)length, &self->start);
}

/* Whether a line `ID:CONTROLLERS:PATH` says exactly this. */
static bool line_says(const char *line, size_t length, const char *wanted) {
	static const char deleted[] = " (deleted)";
	const size_t tail = sizeof deleted - 1;
	const char *blank = strchr(wanted, ' ');
	size_t named = (size_t)(blank - wanted);
	const char *controllers = memchr(line, ':', length);
	if (controllers == NULL)
		return false;
	controllers++;
	if (named == 1 && wanted[0] == '-') /* cgroup v2 */
		named = 0;
	size_t left = length - (size_t)(controllers - line);
	if (left <= named || memcmp(controllers, wanted, named) != 0 || controllers[named] != ':')
		return false;
	const char *path = controllers + named + 1;
	left -= named + 1;
	/* The kernel writes this behind the path of a directory that was removed: whatever has that path now is another. */
	if (left >= tail && memcmp(path + left - tail, deleted, tail) == 0)
		return false;
	return left == strlen(blank + 1) && memcmp(path, blank + 1, left) == 0;
}

bool self_placed_in(const char *text, size_t length, const struct reply *reply) {
	const char *wanted = reply_next(reply, "cgroup", NULL);
	if (wanted == NULL)
		return false;
	for (; wanted != NULL; wanted = reply_next(reply, "cgroup", wanted)) {
		bool found = false;
		for (size_t at = 0; at < length && !found;) {
			const char *end = memchr(text + at, '\n', length - at);
			size_t size = end == NULL ? length - at : (size_t)(end - text) - at;
			found = line_says(text + at, size, wanted);
			at += size + 1;
		}
		if (!found)
			return false;
	}
	return true;
}

bool self_placed(const struct reply *reply) {
	char *text = malloc(LARGEST_FILE);
	if (text == NULL)
		return false;
	ssize_t length = read_file("/proc/self/cgroup", text, LARGEST_FILE);
	bool placed = length > 0 && self_placed_in(text, (size_t)length, reply);
	free(text);
	return placed;
}
