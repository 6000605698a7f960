/* Folders of root's below /run/slurm-cgroups. /run itself is the system's. */

#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trust.h"

static const char above[] = "/run";

int state_folder(const char *path, const char **why) {
	char name[NAME_MAX + 1];
	const char *at = path + sizeof above - 1;
	int folder = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*why = folder < 0 ? "/run cannot be opened" : NULL;
	while (folder >= 0 && *at == '/') {
		size_t length = strcspn(++at, "/");
		int next = -1, code = ENAMETOOLONG;
		if (length < sizeof name) {
			memcpy(name, at, length);
			name[length] = '\0';
			next = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			code = errno;
		}
		close(folder);
		if (next < 0 && code != ENOENT)
			*why = "its folder cannot be opened";
		if (next >= 0 && !trust_open(next, S_IFDIR)) {
			close(next);
			*why = "its folder is not root's alone";
			return -1;
		}
		folder = next;
		at += length;
	}
	return folder;
}
