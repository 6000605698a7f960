/*
 * The yardstick of `list`: the same walk over Slurm's trees as in src/jobs/discovery.ts and the listing of
 * processes, in the plainest fast C. Names of every job and step, the mtime of each step_extern, and
 * cgroup.procs of every cgroup in a step; the least that this can be done with (openat, d_type, nlink).
 *
 * usage: walk 1|2 DIRECTORY...   (the layout of v1 or v2, and Slurm's own directory in each hierarchy)
 *
 * Walks once for each line on stdin and answers with a line: nanoseconds, jobs, steps, newest mtime, pids.
 * The jobs are counted hierarchy by hierarchy; nothing is kept, nothing merged.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long jobs, steps, pids, newest;

static int begins(const char *name, const char *prefix) { return strncmp(name, prefix, strlen(prefix)) == 0; }

/* Counts the lines of `parent/name/cgroup.procs`. */
static void read_procs(int parent, const char *name) {
	char path[300], buffer[8192];
	ssize_t got;
	int file;
	snprintf(path, sizeof path, "%s/cgroup.procs", name);
	file = openat(parent, path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	while ((got = read(file, buffer, sizeof buffer)) > 0)
		for (ssize_t at = 0; at < got; at++)
			pids += buffer[at] == '\n';
	close(file);
}

/* Calls `visit` for each directory in `parent/name` that is not "." or "..". */
static void each(int parent, const char *name, void (*visit)(int, const char *)) {
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	if (directory == NULL)
		return;
	while ((entry = readdir(directory)) != NULL)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			visit(fd, entry->d_name);
	closedir(directory);
}

/* A cgroup of a step and what is below it: kernfs counts subdirectories in nlink, so a leaf is not listed. */
static void visit_cgroup(int parent, const char *name) {
	struct stat stat;
	if (fstatat(parent, name, &stat, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	if (strcmp(name, "step_extern") == 0) {
		long mtime = stat.st_mtim.tv_sec * 1000000000L + stat.st_mtim.tv_nsec;
		newest = mtime > newest ? mtime : newest;
	}
	read_procs(parent, name);
	if (stat.st_nlink != 2)
		each(parent, name, visit_cgroup);
}

static void visit_step(int job, const char *name) {
	if (!begins(name, "step_"))
		return;
	steps++;
	visit_cgroup(job, name);
}

static void visit_job(int parent, const char *name) {
	if (!begins(name, "job_"))
		return;
	jobs++;
	each(parent, name, visit_step);
}

static void visit_user(int top, const char *name) {
	if (begins(name, "uid_"))
		each(top, name, visit_job);
}

int main(int count, char **words) {
	char line[64];
	while (count > 2 && fgets(line, sizeof line, stdin) != NULL) {
		struct timespec begin, end;
		jobs = steps = pids = newest = 0;
		clock_gettime(CLOCK_MONOTONIC, &begin);
		for (int at = 2; at < count; at++)
			each(AT_FDCWD, words[at], atoi(words[1]) == 1 ? visit_user : visit_job);
		clock_gettime(CLOCK_MONOTONIC, &end);
		printf("%ld %ld %ld %ld %ld\n",
		       (end.tv_sec - begin.tv_sec) * 1000000000L + (end.tv_nsec - begin.tv_nsec), jobs, steps, newest, pids);
		fflush(stdout);
	}
	return 0;
}
