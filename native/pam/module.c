/* pam_slurm_cgroups.so: asks the helper what becomes of a login, and does what only the process of the login can do: its
   PAM environment, its log, a word to the user, the answer to PAM. It decides nothing about jobs.

   It runs inside sshd: it never exits, waits no longer than its budget, and lets root in before it touches anything. */

#include <security/pam_modules.h>

#include "phases.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	struct login login;
	login_begin(&login, pamh, flags, PAM_PERM_DENIED, argc, argv);
	return account_answer(&login);
}

EXPORTED int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	struct login login;
	login_begin(&login, pamh, flags, PAM_SESSION_ERR, argc, argv);
	return session_open(&login);
}

EXPORTED int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	struct login login;
	login_begin(&login, pamh, flags, PAM_SESSION_ERR, argc, argv);
	return session_close(&login);
}

/* A service file may name us in these phases too: nothing to do there. */
static int ignore(void) {
	return PAM_IGNORE;
}

EXPORTED int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return ignore();
}

EXPORTED int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return ignore();
}

EXPORTED int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return ignore();
}
