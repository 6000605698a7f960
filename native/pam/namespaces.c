/* The namespaces of the job (JobContainerType, NamespaceType). Only the process of the session can join them, and only
   slurmstepd can name them: no other process need be in them. What it is asked stands in Slurm's src/common/stepd_api.c:
   GET_NS_FD up to 25.05 (the namespace of mounts), GET_NS_FDS from 25.11 on (all). */

#include "namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

/* The kernel has eight kinds. */
enum { GET_NS_FD = 26, GET_NS_FDS = 28, FIRST_WITH_ALL = 44 << 8, MOST = 8 };

struct space {
	int fd, kind;
};

/* One conversation with a slurmstepd. */
struct asking {
	int socket;
	uint64_t deadline;
	const char *wrong; /* the first thing that went wrong */
};

static bool wait_for(struct asking *asking, short events) {
	struct pollfd one = { .fd = asking->socket, .events = events };
	for (;;) {
		uint64_t now = clock_ms();
		if (now >= asking->deadline) {
			asking->wrong = "slurmstepd did not answer in time";
			return false;
		}
		int ready = poll(&one, 1, (int)(asking->deadline - now));
		if (ready > 0)
			return true;
		if (ready < 0 && errno != EINTR) {
			asking->wrong = "poll failed";
			return false;
		}
	}
}

static bool tell(struct asking *asking, int32_t number) {
	if (send(asking->socket, &number, sizeof number, MSG_NOSIGNAL) == (ssize_t)sizeof number)
		return true;
	asking->wrong = "slurmstepd takes no question"; /* four bytes fit into an empty socket */
	return false;
}

/* Takes the descriptors of a message; more than one are closed, and none is what counts then. */
static int descriptor_of(struct msghdr *message) {
	int found = -1, count = 0;
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int), count++) {
			int fd;
			memcpy(&fd, (const char *)part + at, sizeof fd);
			if (found >= 0)
				close(fd);
			else
				found = fd;
		}
	}
	if (count > 1 || (message->msg_flags & MSG_CTRUNC) != 0) {
		if (found >= 0)
			close(found);
		return -1;
	}
	return found;
}

/* Reads exactly so many bytes: behind a number stands the byte that brings the descriptor. */
static bool hear(struct asking *asking, void *bytes, size_t size, int *descriptor) {
	union {
		struct cmsghdr aligned;
		char room[CMSG_SPACE(4 * sizeof(int))];
	} control;
	size_t used = 0;
	if (descriptor != NULL)
		*descriptor = -1;
	while (used < size) {
		if (!wait_for(asking, POLLIN))
			return false;
		struct iovec part = { (char *)bytes + used, size - used };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
		message.msg_control = control.room;
		message.msg_controllen = sizeof control.room;
		ssize_t got = recvmsg(asking->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0) {
			asking->wrong = "slurmstepd closed without an answer";
			return false;
		}
		int fd = descriptor_of(&message);
		if (fd >= 0 && (descriptor == NULL || *descriptor >= 0)) {
			close(fd);
			asking->wrong = "slurmstepd sent what it was not asked for";
			return false;
		}
		if (fd >= 0)
			*descriptor = fd;
		used += (size_t)got;
	}
	return true;
}

/* A namespace of that kind; 0: of any. */
static bool take(struct asking *asking, int kind, struct space *space) {
	char byte;
	bool heard = hear(asking, &byte, 1, &space->fd);
	if (space->fd < 0) {
		if (heard)
			asking->wrong = "slurmstepd sent no descriptor";
		return false;
	}
	space->kind = ioctl(space->fd, NS_GET_NSTYPE);
	if (heard && space->kind > 0 && space->kind == kind)
		return true;
	close(space->fd);
	if (heard)
		asking->wrong = "what slurmstepd sent is not that namespace";
	return false;
}

/* Connects to it, and only to root's: a folder in which others can write was not believed by the helper. */
static bool reach(struct asking *asking, const char *path) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t size = sizeof peer;
	const char *name = strrchr(path, '/') + 1;
	char folder[PROTOCOL_LONGEST_LINE];
	snprintf(folder, sizeof folder, "%.*s", (int)(name - path), path);
	/* By its folder: a spool's path can be longer than an address. */
	int held = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int length = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", held, name);
	int connected = -1;
	asking->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (held >= 0 && asking->socket >= 0 && length < (int)sizeof address.sun_path)
		connected = connect(asking->socket, (const struct sockaddr *)&address, sizeof address);
	if (held >= 0)
		close(held);
	if (connected != 0)
		asking->wrong = "slurmstepd cannot be reached";
	else if (getsockopt(asking->socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != 0)
		asking->wrong = "who listens in place of slurmstepd is not root";
	return asking->wrong == NULL;
}

/* How many there are; -1: that is not known. */
static int ask(struct asking *asking, const struct reply *record, struct space spaces[MOST]) {
	int32_t version, first = -1, kind = CLONE_NEWNS;
	bool all = record->stepd_version >= FIRST_WITH_ALL;
	int count = 0;
	if (!reach(asking, record->stepd) || !tell(asking, (int32_t)record->stepd_version) ||
	    !hear(asking, &version, sizeof version, NULL))
		return -1;
	if (version < 0)
		asking->wrong = "slurmstepd does not take its own version";
	if (version < 0 || !tell(asking, all ? GET_NS_FDS : GET_NS_FD) || !hear(asking, &first, sizeof first, NULL))
		return -1;
	if (first < 0 || (all && first > MOST)) {
		asking->wrong = "slurmstepd cannot open the job's namespaces";
		return -1;
	}
	/* The one number of the older request is slurmstepd's own name for the descriptor. */
	for (int wanted = all ? first : first > 0; count < wanted; count++)
		if ((all && !hear(asking, &kind, sizeof kind, NULL)) || !take(asking, kind, &spaces[count])) {
			while (count > 0)
				close(spaces[--count].fd);
			return -1;
		}
	return count;
}

static const char *file_of(int kind) {
	return kind == CLONE_NEWNS    ? "mnt"
	       : kind == CLONE_NEWPID ? "pid_for_children"
	       : kind == CLONE_NEWUSER ? "user"
	       : kind == CLONE_NEWNET ? "net"
	       : kind == CLONE_NEWIPC ? "ipc"
	       : kind == CLONE_NEWUTS ? "uts"
	                              : "cgroup";
}

static int own(int kind) {
	char path[64];
	snprintf(path, sizeof path, "/proc/self/ns/%s", file_of(kind));
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool same(int a, int b) {
	struct statx one, other; /* not fstat(): RHEL 8 has no such symbol */
	return statx(a, "", AT_EMPTY_PATH, STATX_INO, &one) == 0 && statx(b, "", AT_EMPTY_PATH, STATX_INO, &other) == 0 &&
	       one.stx_ino == other.stx_ino && one.stx_dev_minor == other.stx_dev_minor &&
	       one.stx_dev_major == other.stx_dev_major;
}

/* That of users last: from there on this process has the rights of the job's root, not of ours. */
static void order(struct space spaces[MOST], int count) {
	for (int i = 0; i + 1 < count; i++)
		if (spaces[i].kind == CLONE_NEWUSER) {
			struct space user = spaces[i];
			spaces[i] = spaces[i + 1];
			spaces[i + 1] = user;
		}
}

/* All or none. */
static bool join(const struct space spaces[MOST], int count, bool mount_only, char *why, size_t size) {
	int before[MOST], joined = 0, code = 0;
	char folder[PATH_MAX];
	bool known = getcwd(folder, sizeof folder) != NULL;
	for (; joined < count; joined++) {
		int kind = spaces[joined].kind;
		before[joined] = own(kind);
		if (before[joined] < 0)
			code = errno;
		else if ((mount_only && kind != CLONE_NEWNS) || same(before[joined], spaces[joined].fd))
			continue; /* one's own namespace of users cannot be joined */
		else if (setns(spaces[joined].fd, kind) != 0)
			code = errno;
		if (code != 0) {
			snprintf(why, size, "its namespace \"%s\" cannot be joined: %s", file_of(kind), strerror(code));
			break;
		}
	}
	if (code != 0 && before[joined] >= 0)
		close(before[joined]);
	for (int i = joined - 1; i >= 0; i--) {
		if (code != 0 && !(mount_only && spaces[i].kind != CLONE_NEWNS) && !same(before[i], spaces[i].fd) &&
		    setns(before[i], spaces[i].kind) != 0)
			snprintf(why, size, "its namespace \"%s\" was joined and cannot be left again: %s", file_of(spaces[i].kind),
			         strerror(errno));
		close(before[i]);
	}
	/* A change of the mounts has left us in "/", which will do where there is no such folder. */
	if (known && chdir(folder) != 0)
		errno = 0;
	return code == 0;
}

const char *namespaces_join(const struct reply *record, bool mount_only, uint64_t deadline, char *why, size_t size) {
	struct asking asking = { .socket = -1, .deadline = deadline, .wrong = NULL };
	struct space spaces[MOST] = { { -1, 0 } };
	if (record->spaces_unknown)
		return "its slurmstepd could not be asked for them";
	if (record->stepd == NULL)
		return NULL;
	int count = ask(&asking, record, spaces);
	if (asking.socket >= 0)
		close(asking.socket);
	if (count < 0)
		return asking.wrong;
	order(spaces, count);
	bool done = join(spaces, count, mount_only, why, size);
	for (int i = 0; i < count; i++)
		close(spaces[i].fd);
	return done ? NULL : why;
}
