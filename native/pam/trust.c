/* Whether a file is root's alone. statx: stat and fstat are symbols of glibc 2.33 when built on a newer system. */

#include "trust.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_LINKS = 40 }; /* as the kernel follows */

static const char *fault_of_errno(int code) {
	switch (code) {
	case ENOENT:
		return "is not there";
	case EACCES:
	case EPERM:
		return "cannot be looked at: permission denied";
	case ENOTDIR:
		return "is no folder";
	case ENAMETOOLONG:
		return "is too long";
	default:
		return "cannot be looked at";
	}
}

/* What is wrong with the owner and the mode; NULL: nothing. A link has a mode that means nothing. */
static const char *fault_of(const struct statx *facts) {
	if (facts->stx_uid != 0)
		return "is not root's";
	if (!S_ISLNK(facts->stx_mode) && (facts->stx_mode & 022) != 0)
		return "can be written by others than root";
	return NULL;
}

bool trust_open(int fd, unsigned type) {
	struct statx facts;
	return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_MODE | STATX_UID, &facts) == 0 &&
	       (facts.stx_mode & S_IFMT) == type && fault_of(&facts) == NULL;
}

/* The walk: where it stands, and what is left of the path. */
struct walk {
	int folder;
	int links;
	char rest[PATH_MAX];
	struct distrust *distrust;
};

static bool fault(struct walk *walk, const char *why) {
	walk->distrust->why = why;
	return false;
}

/* Goes to a folder below (or to `/`), and looks at it. */
static bool enter(struct walk *walk, const char *name) {
	int folder = openat(walk->folder, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int code = errno;
	if (walk->folder != AT_FDCWD)
		close(walk->folder);
	walk->folder = folder;
	if (folder < 0) {
		walk->folder = AT_FDCWD;
		return fault(walk, fault_of_errno(code));
	}
	struct statx facts;
	if (statx(folder, "", AT_EMPTY_PATH, STATX_TYPE | STATX_MODE | STATX_UID, &facts) != 0)
		return fault(walk, fault_of_errno(errno));
	const char *why = fault_of(&facts);
	return why == NULL || fault(walk, why);
}

/* Puts the target of the link `name` in front of what is left. Root made it, in a folder that only root changes. */
static bool follow(struct walk *walk, const char *name, const char *behind) {
	char target[PATH_MAX];
	size_t left = strlen(behind);
	if (++walk->links > MOST_LINKS)
		return fault(walk, "has too many links");
	ssize_t length = readlinkat(walk->folder, name, target, sizeof target);
	if (length <= 0)
		return fault(walk, fault_of_errno(errno));
	if ((size_t)length + 1 + left + 1 > sizeof walk->rest)
		return fault(walk, "is too long");
	memmove(walk->rest + length + 1, behind, left + 1);
	memcpy(walk->rest, target, (size_t)length);
	walk->rest[length] = '/';
	if (target[0] != '/')
		return true;
	walk->distrust->at[0] = '\0';
	return enter(walk, "/");
}

static bool step(struct walk *walk, bool *done) {
	char name[NAME_MAX + 1];
	struct statx facts;
	char *at = walk->distrust->at;
	const char *begin = walk->rest + strspn(walk->rest, "/");
	size_t length = strcspn(begin, "/"), said = strlen(at);
	const char *behind = begin + length;
	if (length == 0)
		return fault(walk, "is no regular file");
	if (length > NAME_MAX || said + 1 + length + 1 > sizeof walk->distrust->at)
		return fault(walk, "is too long");
	memcpy(name, begin, length);
	name[length] = '\0';
	bool last = behind[strspn(behind, "/")] == '\0';

	at[said] = '/';
	memcpy(at + said + 1, name, length + 1);
	if (statx(walk->folder, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_MODE | STATX_UID, &facts) != 0)
		return fault(walk, fault_of_errno(errno));
	const char *why = fault_of(&facts);
	if (why != NULL)
		return fault(walk, why);
	if (S_ISLNK(facts.stx_mode)) {
		at[said] = '\0'; /* the target stands in the link's folder */
		return follow(walk, name, behind);
	}
	if (last) {
		if (!S_ISREG(facts.stx_mode))
			return fault(walk, "is no regular file");
		if ((facts.stx_mode & 0111) == 0)
			return fault(walk, "is not executable");
		*done = true;
		return true;
	}
	if (!S_ISDIR(facts.stx_mode))
		return fault(walk, "is no folder");
	memmove(walk->rest, behind, strlen(behind) + 1);
	return enter(walk, name);
}

bool trust_program(const char *path, struct distrust *distrust) {
	struct walk walk = { .folder = AT_FDCWD, .distrust = distrust };
	bool done = false, good;
	size_t length = strlen(path);
	distrust->why = "is no absolute path";
	distrust->at[0] = '\0';
	if (path[0] != '/' || length >= sizeof walk.rest)
		return false;
	memcpy(walk.rest, path, length + 1);
	for (good = enter(&walk, "/"); good && !done;)
		good = step(&walk, &done);
	if (walk.folder != AT_FDCWD)
		close(walk.folder);
	if (distrust->at[0] == '\0')
		memcpy(distrust->at, "/", 2);
	return good;
}
