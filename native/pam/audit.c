/* The audit session of a login: every process that it starts keeps it, in whatever cgroup, and no user can change it. In
   most stacks pam_loginuid sets it in the session phase, behind the record that the helper wrote of the adoption. */

#include "audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "protocol.h"
#include "say.h"
#include "state.h"

/* Whether the session is this login's own: set for its user, and another than that of sshd, which can be that of an
   administrator who started it by hand. */
static bool is_own(const struct login *login, const struct reply *record, uint64_t *session) {
	uint64_t user;
	if (!self_number("/proc/self/loginuid", &user) || !self_number("/proc/self/sessionid", session))
		return false; /* a kernel without audit */
	return user == login->uid && *session != UINT32_MAX && *session != record->sshd_session;
}

/* The adoption has a record: there was room for one, and it was not withdrawn. So the notes are as many as the records. */
static bool is_recorded(int folder, const struct reply *record) {
	char name[64];
	struct statx file;
	snprintf(name, sizeof name, "%" PRIu64 "-%" PRIu64, record->pid, record->start);
	return statx(folder, name, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &file) == 0 && S_ISREG(file.stx_mode);
}

/* NULL: it is written, or somebody has written it before, or there is no record that it would stand beside. */
static const char *write_note(const struct reply *record, uint64_t session) {
	char path[sizeof PROTOCOL_ADOPTIONS + 64], name[64], text[32];
	const char *why;
	snprintf(path, sizeof path, PROTOCOL_ADOPTIONS "/%s", record->adoptions);
	int folder = state_folder(path, &why);
	if (folder < 0)
		return why;
	if (!is_recorded(folder, record)) {
		close(folder);
		return NULL;
	}
	snprintf(name, sizeof name, "%" PRIu64 "-%" PRIu64 PROTOCOL_AUDIT, record->pid, record->start);
	int length = snprintf(text, sizeof text, "%" PRIu64 "\n", session);
	int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		why = errno == EEXIST || errno == ENOENT ? NULL : strerror(errno);
	else if (write(fd, text, (size_t)length) != length) {
		why = "it cannot be written (no space?)";
		unlinkat(folder, name, 0); /* no half of a number */
	}
	if (fd >= 0)
		close(fd);
	close(folder);
	return why;
}

void audit_note(const struct login *login, const struct reply *record) {
	uint64_t session;
	if (record->adoptions == NULL || !is_own(login, record, &session))
		return;
	const char *why = write_note(record, session);
	if (why != NULL)
		say_log(login->pamh, LOG_WARNING, "The audit session of user %s is not recorded with the adoption into %s: %s",
		        login->user, record->job != NULL ? record->job : record->adoptions, why);
}
