/* One phase of one login: what is known of it, and how it is answered. */

#ifndef SLURM_CGROUPS_LOGIN_H
#define SLURM_CGROUPS_LOGIN_H

#include <security/pam_modules.h>
#include <stdbool.h>
#include <sys/types.h>

#include "helper.h"
#include "options.h"
#include "reply.h"
#include "request.h"
#include "self.h"

/* One phase of one login. */
struct login {
	pam_handle_t *pamh;
	int flags;
	int refusal; /* what PAM calls a refusal in this phase */
	int count;
	const char **words;
	struct options options;
	uint64_t deadline; /* of this phase, in ms of CLOCK_BOOTTIME */
	const char *service;
	const char *user;
	uid_t uid;
	struct self self;
	/* In the session phase, outside its job: what becomes of it where it is not put back (ACTION_IGNORE: that is not known),
	   and which job that is. */
	enum action failure;
	char job[48];
};

/* What is too large for the stack of a thread. */
struct papers {
	struct request request;
	struct reply reply, record;
};

void login_begin(struct login *login, pam_handle_t *pamh, int flags, int refusal, int count, const char **words);

/* Whether a login is ours, as far as can be told without any I/O: a node whose directory service or whose disk hangs
   still lets root in. */
bool login_is_ours(const struct login *login);

/* PAM_SUCCESS: the user is known, and not another name of root. */
int login_find_user(struct login *login);

/* Asks the helper, and logs what it has to say. False: there is no answer, and `outcome` says why. */
bool login_ask(const struct login *login, const char *phase, const struct reply *record, struct papers *papers,
               struct outcome *outcome);

/* What PAM is told. */
int login_answer(const struct login *login, enum action action);

/* The same for a refusal by the helper: the log, and the user, are told why. */
int login_refuse(const struct login *login, const struct reply *reply);

/* Nothing is known about this login, or it cannot be put back into its job: the configured action, of generic_failure
   or of `failure`. */
int login_fail(const struct login *login, const char *why, const char *remedy);

/* Joins the namespaces of the job that this process is in, if it has any. PAM_SUCCESS: done; else the answer. */
int login_join(struct login *login, const struct reply *record, bool mount_only);

/* Why there was no answer; a word of the PAM line that is not allowed; malloc failed. */
int login_fail_unanswered(const struct login *login, const struct outcome *outcome);
int login_fail_word(const struct login *login);
int login_fail_memory(const struct login *login);

/* A variable of the PAM environment; a value of NULL: none. */
void login_set(const struct login *login, const char *name, const char *value);

/* Takes it away, where it is there. */
void login_unset(const struct login *login, const char *name);

#endif
