/*
 * The helper of the tests of the PAM module. What it does stands in the file `part` of its own folder: first word, then
 * arguments. What it saw it writes to the file `saw` there.
 *
 * Most parts read the request, then send their TEXT, with @PID@ and @START@ of the request; `answer TEXT` only that.
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static char folder[4096], request[70000];

static void path_of(char path[8192], const char *name) {
	snprintf(path, 8192, "%s/%s", folder, name);
}

static void read_request(void) {
	size_t used = 0;
	ssize_t got;
	while (used < sizeof request - 1 && (got = read(0, request + used, sizeof request - 1 - used)) > 0) {
		used += (size_t)got;
		request[used] = '\0';
		if (used >= 5 && strcmp(request + used - 5, "\nend\n") == 0)
			return;
	}
}

static void send_text(const char *text) {
	size_t length = strlen(text);
	while (length > 0) {
		ssize_t sent = write(1, text, length);
		if (sent <= 0)
			return;
		text += sent;
		length -= (size_t)sent;
	}
}

/* What it was started with: descriptors, environment, signals, limits, ids. */
static void look(int count, char **words) {
	static const struct { const char *name; int resource; } limits[] = {
		{ "as", RLIMIT_AS }, { "data", RLIMIT_DATA }, { "cpu", RLIMIT_CPU }, { "fsize", RLIMIT_FSIZE }, { "nproc", RLIMIT_NPROC },
		{ "core", RLIMIT_CORE }, { "nofile", RLIMIT_NOFILE }, { "stack", RLIMIT_STACK },
	};
	char path[8192], line[4096];
	path_of(path, "saw");
	/* The list of descriptors first: what is opened here does not count. */
	int list[1024], open_ones = 0;
	for (int fd = 0; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) >= 0 && open_ones < 1024)
			list[open_ones++] = fd;
	mode_t mask = umask(022);
	FILE *saw = fopen(path, "w");
	if (saw == NULL)
		_exit(9);
	for (int i = 0; i < open_ones; i++)
		fprintf(saw, "saw fd %d\n", list[i]);
	for (int i = 0; i < count; i++)
		fprintf(saw, "saw word %s\n", words[i]);
	for (char **variable = environ; *variable != NULL; variable++)
		fprintf(saw, "saw variable %s\n", *variable);
	fprintf(saw, "saw umask %03o\nsaw cwd %s\nsaw pgrp %s\n", (unsigned)mask, getcwd(line, sizeof line),
	        getpgrp() == getpgid(getppid()) ? "parent's" : "own");
	uid_t ids[3];
	gid_t groups[3];
	getresuid(&ids[0], &ids[1], &ids[2]);
	getresgid(&groups[0], &groups[1], &groups[2]);
	fprintf(saw, "saw ids %u %u %u %u %u %u groups %d\n", ids[0], ids[1], ids[2], groups[0], groups[1], groups[2], getgroups(0, NULL));
	int death = 0;
	prctl(PR_GET_PDEATHSIG, &death);
	fprintf(saw, "saw pdeathsig %d\n", death);
	fprintf(saw, "saw turn nice %d policy %d\n", getpriority(PRIO_PROCESS, 0), sched_getscheduler(0));
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct rlimit limit;
		getrlimit(limits[i].resource, &limit);
		fprintf(saw, "saw limit %s %lld\n", limits[i].name, (long long)limit.rlim_cur);
	}
	FILE *status = fopen("/proc/self/status", "r");
	while (status != NULL && fgets(line, sizeof line, status) != NULL)
		if (strncmp(line, "Sig", 3) == 0 && line[3] != 'Q')
			fprintf(saw, "saw %s", line);
	if (status != NULL)
		fclose(status);
	FILE *cgroups = fopen("/proc/self/cgroup", "r");
	while (cgroups != NULL && fgets(line, sizeof line, cgroups) != NULL)
		fprintf(saw, "saw cgroup %s", line);
	if (cgroups != NULL)
		fclose(cgroups);
	for (char *at = strtok(request, "\n"); at != NULL; at = strtok(NULL, "\n"))
		fprintf(saw, "saw request %s\n", at);
	fclose(saw);
}

static const char *value_of(const char *key, char value[64]) {
	char wanted[80];
	snprintf(wanted, sizeof wanted, "\n%s ", key);
	const char *at = strstr(request, wanted);
	snprintf(value, 64, "%.*s", at == NULL ? 0 : (int)strcspn(at + strlen(wanted), "\n"), at == NULL ? "" : at + strlen(wanted));
	return value;
}

static void answer(const char *text) {
	static char out[70000];
	char pid[64], start[64];
	size_t used = 0;
	value_of("pid", pid);
	value_of("start", start);
	while (*text != '\0' && used + 64 < sizeof out) {
		if (strncmp(text, "@PID@", 5) == 0) {
			used += (size_t)snprintf(out + used, 64, "%s", pid);
			text += 5;
		} else if (strncmp(text, "@START@", 7) == 0) {
			used += (size_t)snprintf(out + used, 64, "%s", start);
			text += 7;
		} else {
			out[used++] = *text++;
		}
	}
	out[used] = '\0';
	send_text(out);
}

static int move_login(const char *directory) {
	char file[4200], pid[64];
	value_of("pid", pid);
	snprintf(file, sizeof file, "%s/cgroup.procs", directory);
	int procs = open(file, O_WRONLY);
	int moved = procs >= 0 && write(procs, pid, strlen(pid)) > 0;
	if (procs >= 0)
		close(procs);
	return moved;
}

static void ignore_all(void) {
	for (int number = 1; number < 65; number++)
		if (number != SIGALRM) /* the end of a puppet that a broken module left */
			signal(number, SIG_IGN);
}

static void note_pid(const char *name, pid_t pid) {
	char path[8192], digits[32];
	path_of(path, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	snprintf(digits, sizeof digits, "%d", (int)pid);
	if (fd < 0 || write(fd, digits, strlen(digits)) < 0)
		_exit(9);
	close(fd);
}

/* A process of its own, which holds all descriptors. Not for ever, if the test should die. */
static void leave_grandchild(void) {
	pid_t pid = fork();
	if (pid == 0) {
		alarm(120);
		for (;;)
			pause();
	}
	note_pid("grandchild.pid", pid); /* here: before the answer, after which the test looks for it */
}

int main(int count, char **words) {
	static char part[70000], copy[70000];
	char path[8192];
	snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(words[0], '/') - words[0]), words[0]);
	path_of(path, "part");
	int fd = open(path, O_RDONLY);
	ssize_t length = fd < 0 ? -1 : read(fd, part, sizeof part - 1);
	if (length < 0)
		_exit(9);
	close(fd);
	char *text = strchr(part, ' ');
	if (text != NULL)
		*text++ = '\0';
	else
		text = part + strlen(part);
	note_pid("helper.pid", getpid());
	alarm(120); /* no test lasts as long; a puppet must not stay behind */

	if (strcmp(part, "answer") == 0) {
		read_request();
		answer(text);
	} else if (strcmp(part, "look") == 0) {
		read_request();
		memcpy(copy, request, sizeof copy);
		look(count, words);
		memcpy(request, copy, sizeof copy);
		answer(text);
	} else if (strcmp(part, "unread") == 0) { /* answers without having read */
		answer(text);
	} else if (strcmp(part, "slow") == 0) { /* byte by byte */
		read_request();
		for (; *text != '\0'; text++) {
			if (write(1, text, 1) != 1)
				break;
			usleep(1000);
		}
	} else if (strcmp(part, "adopts") == 0) { /* moves the login to the first word, then answers with the rest */
		char *rest = strchr(text, ' ');
		if (rest == NULL)
			return 9;
		*rest = '\0';
		read_request();
		if (!move_login(text))
			return 9;
		answer(rest + 1);
	} else if (strcmp(part, "begins") == 0 || strcmp(part, "lingers") == 0) { /* says the rest, moves the login, is killed or hangs */
		char *rest = strchr(text, ' ');
		if (rest == NULL)
			return 9;
		*rest = '\0';
		read_request();
		answer(rest + 1);
		if (!move_login(text))
			return 9;
		if (strcmp(part, "begins") == 0)
			raise(SIGKILL);
		for (;;)
			pause();
	} else if (strcmp(part, "code") == 0) { /* answers, and exits with 7 */
		read_request();
		answer(text);
		return 7;
	} else if (strcmp(part, "refused") == 0) {
		read_request();
		answer(text);
		return 1;
	} else if (strcmp(part, "silent") == 0) {
		read_request();
	} else if (strcmp(part, "closes") == 0) { /* closes its stream, and stays */
		read_request();
		close(0);
		close(1);
		for (;;)
			pause();
	} else if (strcmp(part, "crashes") == 0) {
		read_request();
		raise(SIGSEGV);
	} else if (strcmp(part, "hangs") == 0) {
		for (;;)
			pause();
	} else if (strcmp(part, "ignores") == 0) {
		ignore_all();
		for (;;)
			pause();
	} else if (strcmp(part, "stays") == 0) { /* answers, and does not end */
		read_request();
		answer(text);
		ignore_all();
		for (;;)
			pause();
	} else if (strcmp(part, "half") == 0) { /* part of an answer, and does not end */
		read_request();
		answer(text);
		for (;;)
			pause();
	} else if (strcmp(part, "much") == 0) { /* a megabyte */
		read_request();
		send_text("slurm-cgroups-answer 1\naction allow\n");
		for (int i = 0; i < 1 << 14; i++)
			send_text("x aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
	} else if (strcmp(part, "loud") == 0) { /* a megabyte to descriptor 2, then the answer */
		read_request();
		for (int i = 0; i < 1 << 14; i++)
			if (write(2, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n", 64) < 0)
				return 9;
		answer(text);
	} else if (strcmp(part, "complains") == 0) {
		read_request();
		fprintf(stderr, "Cannot \x1b[31mread\x07 it\nsecond line\n");
		return 2;
	} else if (strcmp(part, "grandchild") == 0) { /* leaves a process, answers, ends */
		read_request();
		leave_grandchild();
		answer(text);
	} else if (strcmp(part, "memory") == 0) { /* needs more than a small RLIMIT_AS gives */
		read_request();
		char *room = malloc(256 << 20);
		if (room == NULL)
			return 3;
		memset(room, 1, 1 << 20);
		answer(text);
		free(room);
	} else {
		return 9;
	}
	return 0;
}
