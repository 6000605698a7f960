/*
 * The yardsticks of `clean` and of `strays`, and the crowds that they are measured on.
 *
 * usage: ending crowd UID COUNT DIRECTORY...  makes COUNT processes of a user in the cgroups, which wait for this one
 *                                             to end; says "ready", then reaps; says "gone" when all have ended
 *        ending bomb UID COUNT DIRECTORY...   the same with processes that fork without end: pids.max bounds them.
 *                                             COUNT is how many there are before it says "ready"
 *        ending loop|freeze DIRECTORY         ends what is in the cgroup, once for each line on stdin: SIGKILL for
 *                                             each of cgroup.procs until it is empty, or with v1's freezer around it
 *                                             (v2: cgroup.kill). Answers with a line: nanoseconds, rounds
 *        ending scan                          looks once at every process for each line on stdin: nanoseconds,
 *                                             processes that are not root's, bytes of their /proc/PID/cgroup
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static time_t ends;

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static int try_write(const char *directory, const char *file, const char *text) {
	char path[4200];
	int fd, ok;
	snprintf(path, sizeof path, "%s/%s", directory, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ok = write(fd, text, strlen(text)) >= 0;
	close(fd);
	return ok;
}

/* The pids in the cgroup; 0 when it is empty. */
static int list(const char *directory, pid_t **pids) {
	static char *text;
	static size_t room;
	char path[4200];
	size_t length = 0;
	ssize_t got;
	int fd, count = 0;
	snprintf(path, sizeof path, "%s/cgroup.procs", directory);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	for (;;) {
		if (room - length < 65536)
			text = realloc(text, room = room * 2 + 131072);
		got = read(fd, text + length, room - length - 1);
		if (got <= 0)
			break;
		length += got;
	}
	close(fd);
	text[length] = 0;
	for (size_t at = 0; at < length; at++)
		count += text[at] == '\n';
	*pids = realloc(*pids, (count + 1) * sizeof **pids);
	count = 0;
	for (char *at = text; *at != 0; count++)
		(*pids)[count] = strtol(at, &at, 10), at++;
	return count;
}

static long long now(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void pause_ms(long ms) {
	struct timespec time = {0, ms * 1000000};
	nanosleep(&time, NULL);
}

static void end_all(const char *directory, int freeze) {
	pid_t *pids = NULL;
	char line[16];
	while (fgets(line, sizeof line, stdin) != NULL) {
		long long begin = now();
		int rounds = 0, count;
		long wait = 1;
		while ((count = list(directory, &pids)) > 0) {
			rounds++;
			if (!freeze || !try_write(directory, "cgroup.kill", "1")) {
				char state[16] = "";
				while (freeze && strncmp(state, "FROZEN", 6) != 0) {
					char path[4200];
					int fd;
					try_write(directory, "freezer.state", "FROZEN");
					snprintf(path, sizeof path, "%s/freezer.state", directory);
					fd = open(path, O_RDONLY);
					if (fd < 0 || read(fd, state, sizeof state - 1) < 0)
						fail(path);
					close(fd);
				}
				if (freeze)
					count = list(directory, &pids);
				for (int at = 0; at < count; at++)
					kill(pids[at], SIGKILL);
				if (freeze)
					try_write(directory, "freezer.state", "THAWED");
			}
			pause_ms(wait);
			if (wait < 50)
				wait *= 2;
		}
		printf("%lld %d\n", now() - begin, rounds);
		fflush(stdout);
	}
}

/* What a process of the crowd does: it waits for its maker to end, or forks without end (until `ends`, should nobody
 * end it). */
static void live(int bomb, int maker) {
	char byte;
	while (bomb && time(NULL) < ends)
		fork();
	if (bomb)
		_exit(0);
	while (read(maker, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

static void fill(int bomb, uid_t uid, int count, char **directories) {
	int done[2], maker[2];
	char byte;
	pid_t first;
	if (pipe(done) != 0 || pipe(maker) != 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
		fail("pipe or prctl");
	ends = time(NULL) + 40;
	first = fork();
	if (first == 0) {
		close(maker[1]), close(done[0]);
		for (; *directories != NULL; directories++)
			if (!try_write(*directories, "cgroup.procs", "0"))
				fail(*directories);
		if (setgid(uid) != 0 || setuid(uid) != 0)
			fail("setuid");
		for (int at = 1; at < count; at++) {
			pid_t child = fork();
			if (child < 0 && bomb)
				break; /* those that are there already fork, and pids.max is reached */
			if (child < 0)
				fail("fork");
			if (child == 0) {
				close(done[1]);
				live(bomb, maker[0]);
			}
		}
		if (write(done[1], "", 1) != 1)
			_exit(1);
		close(done[1]);
		live(bomb, maker[0]);
	}
	close(done[1]);
	if (first < 0 || read(done[0], &byte, 1) != 1)
		fail("no crowd");
	printf("ready\n"), fflush(stdout);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	printf("gone\n"), fflush(stdout);
}

/* One look at every process: whose it is and where it stands. */
static void scan(void) {
	char line[16], path[64], text[4096];
	while (fgets(line, sizeof line, stdin) != NULL) {
		long long begin = now();
		long count = 0, bytes = 0;
		DIR *proc = opendir("/proc");
		struct dirent *entry;
		while ((entry = readdir(proc)) != NULL) {
			struct stat stat;
			int fd;
			if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
				continue;
			snprintf(path, sizeof path, "/proc/%.20s", entry->d_name);
			if (lstat(path, &stat) != 0)
				continue;
			snprintf(path, sizeof path, "/proc/%.20s/cgroup", entry->d_name);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0)
				continue;
			bytes += read(fd, text, sizeof text);
			close(fd);
			count += stat.st_uid != 0;
		}
		closedir(proc);
		printf("%lld %ld %ld\n", now() - begin, count, bytes);
		fflush(stdout);
	}
}

int main(int count, char **words) {
	const char *what = count > 1 ? words[1] : "";
	if (count >= 5 && (strcmp(what, "crowd") == 0 || strcmp(what, "bomb") == 0))
		fill(what[0] == 'b', atoi(words[2]), atoi(words[3]), words + 4);
	else if (count == 3 && (strcmp(what, "loop") == 0 || strcmp(what, "freeze") == 0))
		end_all(words[2], what[0] == 'f');
	else if (count == 2 && strcmp(what, "scan") == 0)
		scan();
	else
		return 2;
	return 0;
}
