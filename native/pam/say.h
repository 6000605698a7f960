/* What the module says: to syslog (facility authpriv), and to the user. */

#ifndef SLURM_CGROUPS_SAY_H
#define SLURM_CGROUPS_SAY_H

#include <security/pam_modules.h>

#include "reply.h"

/* One line. What others wrote is made harmless. */
__attribute__((format(printf, 3, 4))) void say_log(const pam_handle_t *pamh, int severity, const char *format, ...);

/* The `log` lines of a reply. */
void say_logs(const pam_handle_t *pamh, const struct reply *reply);

/* One line to the user; `style`: PAM_ERROR_MSG or PAM_TEXT_INFO. Not with PAM_SILENT. */
void say_user(pam_handle_t *pamh, int flags, int style, const char *text);

/* The `message` lines of a reply. */
void say_messages(pam_handle_t *pamh, int flags, int style, const struct reply *reply);

#endif
