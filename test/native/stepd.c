/*
 * Plays the slurmstepd of a job with namespaces: of mounts, where /run/test/inside has a file `yes`, and of host names,
 * where the host is called `of-the-job`.
 *
 * usage: stepd SOCKET VERSION PART      (VERSION: what it says it speaks, as 44 for 25.11)
 *   namespaces   hands over what is asked for            none   there are none        error   they cannot be opened
 *   silent       never answers    ends   closes when it is asked    file   hands over a file    two   two descriptors for one
 *   early        sends a descriptor that nobody asked for          many   says there are a thousand
 *   user         listens as another user
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void must(int good, const char *what) {
	if (good)
		return;
	fprintf(stderr, "stepd: cannot %s: %s\n", what, strerror(errno));
	exit(3);
}

static int hear(int connection) {
	int32_t number;
	return recv(connection, &number, sizeof number, MSG_WAITALL) == (ssize_t)sizeof number ? number : -1;
}

static void tell(int connection, int32_t number) {
	must(send(connection, &number, sizeof number, MSG_NOSIGNAL) > 0, "answer");
}

static void hand(int connection, int a, int b) {
	union {
		struct cmsghdr aligned;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = { .room = "" };
	char byte = 0;
	int both[] = { a, b };
	size_t size = b < 0 ? sizeof(int) : 2 * sizeof(int);
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	message.msg_control = control.room;
	message.msg_controllen = CMSG_SPACE(size);
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(header), both, size);
	must(sendmsg(connection, &message, MSG_NOSIGNAL) > 0, "hand over");
}

static void answer(int connection, int version, const char *part) {
	int mounts = open("/proc/self/ns/mnt", O_RDONLY), names = open("/proc/self/ns/uts", O_RDONLY);
	int file = open("/proc/self/status", O_RDONLY);
	if (hear(connection) < 0)
		return;
	if (strcmp(part, "silent") == 0)
		pause();
	if (strcmp(part, "early") == 0)
		hand(connection, mounts, -1);
	tell(connection, version << 8);
	int request = hear(connection);
	must(request == (version >= 44 ? 28 : 26), "know the request");
	if (strcmp(part, "ends") == 0)
		return;
	if (strcmp(part, "none") == 0 || strcmp(part, "error") == 0 || strcmp(part, "many") == 0) {
		tell(connection, part[0] == 'n' ? 0 : part[0] == 'e' ? -1 : 1000);
		return;
	}
	int first = strcmp(part, "file") == 0 ? file : mounts, second = strcmp(part, "two") == 0 ? file : -1;
	if (request == 26) {
		tell(connection, 9);
		hand(connection, first, second);
		return;
	}
	tell(connection, 2);
	tell(connection, CLONE_NEWUTS);
	hand(connection, names, -1);
	tell(connection, CLONE_NEWNS);
	hand(connection, first, second);
}

int main(int count, char **words) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char next[200];
	if (count != 4)
		return 2;
	alarm(120); /* no test lasts as long; it must not stay behind */
	must(unshare(CLONE_NEWNS | CLONE_NEWUTS) == 0, "make namespaces");
	must(mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0, "keep its mounts");
	mkdir("/run/test/inside", 0755);
	must(mount("none", "/run/test/inside", "tmpfs", 0, "mode=755") == 0, "mount");
	close(open("/run/test/inside/yes", O_WRONLY | O_CREAT, 0644));
	must(sethostname("of-the-job", 10) == 0, "name the host");
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s.next", words[1]);
	snprintf(next, sizeof next, "%s", address.sun_path);
	must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
	must(strcmp(words[3], "user") != 0 || seteuid(1) == 0, "be another user");
	must(listen(listener, 5) == 0 && seteuid(0) == 0, "listen");
	must(rename(next, words[1]) == 0, "be found"); /* who sees it can connect */
	for (;;) {
		int connection = accept(listener, NULL, NULL);
		if (connection < 0)
			continue;
		answer(connection, atoi(words[2]), words[3]);
		close(connection);
	}
}
