/* Going into a cgroup. */

#include "enter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

int enter_cgroup(const char *directory, const char *who) {
	static const char file[] = "/cgroup.procs";
	char path[PATH_MAX + sizeof file];
	size_t length = strlen(directory);
	if (length >= PATH_MAX)
		return ENAMETOOLONG;
	memcpy(path, directory, length);
	memcpy(path + length, file, sizeof file);
	int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno;
	int code = write(fd, who, strlen(who)) < 0 ? errno : 0;
	close(fd);
	return code;
}
