/* Takes back what a helper had begun that was killed, or crashed, before it could answer: a session is in its job in every
   hierarchy, or in none. */

#include "undo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "say.h"

static const char *enter(const char *directory, const char *who) {
	static const char file[] = "/cgroup.procs";
	char path[PATH_MAX + sizeof file];
	if (snprintf(path, sizeof path, "%s%s", directory, file) >= (int)sizeof path)
		return strerror(ENAMETOOLONG);
	int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return strerror(errno);
	const char *why = write(fd, who, strlen(who)) < 0 ? strerror(errno) : NULL;
	close(fd);
	return why;
}

void undo_moves(const struct login *login, const struct reply *begun) {
	char who[24] = "0", first[400] = "";
	int wrong = 0;
	/* This process, or the one that waits for it (keyboard-interactive): neither number can be another's by now. */
	if (begun->pid == 0 || (begun->pid != login->self.pid && begun->pid != (uint64_t)getppid()))
		return;
	if (begun->pid != login->self.pid)
		snprintf(who, sizeof who, "%" PRIu64, begun->pid);
	for (const char *from = NULL; (from = reply_next(begun, "from", from)) != NULL;) {
		const char *why = enter(from, who);
		if (why != NULL && wrong++ == 0)
			snprintf(first, sizeof first, "%.300s: %s", from, why);
	}
	if (wrong == 0)
		say_log(login->pamh, LOG_WARNING,
		        "The helper had begun to move process %" PRIu64 " into a job: it is back in the cgroups it came from", begun->pid);
	else
		say_log(login->pamh, LOG_ERR,
		        "The helper had begun to move process %" PRIu64 " into a job, and %d of the cgroups it came from cannot be entered again (%s)",
		        begun->pid, wrong, first);
}
