/* What the module says. pam_syslog adds the module, the service and the phase to each line, and never calls openlog: the
   log of the process is its caller's. */

#include "say.h"

#include <security/pam_ext.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "plain.h"

enum {
	LONGEST = 1500, /* of a line: rsyslog and journald take more, older daemons do not */
	MOST_LINES = 50,
};

static void copy_plain(char copy[LONGEST], const char *text) {
	snprintf(copy, LONGEST, "%s", text);
	plain_make(copy);
}

void say_log(const pam_handle_t *pamh, int severity, const char *format, ...) {
	char line[LONGEST];
	va_list rest;
	va_start(rest, format);
	vsnprintf(line, sizeof line, format, rest);
	va_end(rest);
	plain_make(line);
	pam_syslog(pamh, severity, "%s", line);
}

void say_logs(const pam_handle_t *pamh, const struct reply *reply) {
	const char *value = NULL;
	for (int count = 0; count < MOST_LINES && (value = reply_next(reply, "log", value)) != NULL; count++)
		say_log(pamh, value[0] - '0', "%s", value + 2);
}

void say_user(pam_handle_t *pamh, int flags, int style, const char *text) {
	char line[LONGEST];
	if (((unsigned)flags & PAM_SILENT) != 0)
		return;
	copy_plain(line, text);
	pam_prompt(pamh, style, NULL, "%s", line);
}

void say_messages(pam_handle_t *pamh, int flags, int style, const struct reply *reply) {
	const char *value = NULL;
	for (int count = 0; count < MOST_LINES && (value = reply_next(reply, "message", value)) != NULL; count++)
		say_user(pamh, flags, style, value);
}
