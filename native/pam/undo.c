/* Takes back what a helper had begun that was killed, or crashed, before it could answer: the process is again where it was
   before. */

#include "undo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "enter.h"
#include "say.h"

void undo_moves(const struct login *login, const struct reply *begun, bool hangs) {
	char who[24] = "0", first[400] = "";
	int wrong = 0;
	const uint64_t pid = begun->pid;
	if (pid == 0)
		return;
	/* This process, or the one that waits for it (keyboard-interactive): neither number can be another's by now. */
	if (hangs || (pid != login->self.pid && pid != (uint64_t)getppid())) {
		say_log(login->pamh, LOG_ERR,
		        "The helper had begun to move process %" PRIu64 " into a job, which may be in a part of its cgroups now: look at "
		        "/proc/%" PRIu64 "/cgroup",
		        pid, pid);
		return;
	}
	if (pid != login->self.pid)
		snprintf(who, sizeof who, "%" PRIu64, pid);
	for (const char *from = NULL; (from = reply_next(begun, "from", from)) != NULL;) {
		int code = enter_cgroup(from, who);
		if (code != 0 && wrong++ == 0)
			snprintf(first, sizeof first, "%.300s: %s", from, strerror(code));
	}
	if (wrong == 0)
		say_log(login->pamh, LOG_WARNING,
		        "The helper had begun to move process %" PRIu64 " into a job: it is back in the cgroups it came from (a slurmstepd "
		        "that was told of it may still move it)",
		        pid);
	else
		say_log(login->pamh, LOG_ERR,
		        "The helper had begun to move process %" PRIu64 " into a job, and %d of the cgroups it came from cannot be entered "
		        "again (%s)",
		        pid, wrong, first);
}
