/* One phase of one login: what is known of it, and how it is answered. */

#include "login.h"

#include <security/pam_modutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "clock.h"
#include "namespaces.h"
#include "say.h"

/* What an optional value of the request may be long. None of an honest login is, and nobody is to choose by a long name
   of a host that no decision can be made. */
enum { LONGEST_OPTIONAL = 1024 };

static const char *item(const pam_handle_t *pamh, int type) {
	const void *value = NULL;
	if (pam_get_item(pamh, type, &value) != PAM_SUCCESS)
		return NULL;
	return value;
}

void login_begin(struct login *login, pam_handle_t *pamh, int flags, int refusal, int count, const char **words) {
	*login = (struct login){
		.pamh = pamh,
		.flags = flags,
		.refusal = refusal,
		.count = count,
		.words = words,
		.service = item(pamh, PAM_SERVICE),
		.user = item(pamh, PAM_USER),
	};
	options_read(count, words, &login->options);
	login->deadline = clock_ms() + login->options.budget_ms;
}

bool login_is_ours(const struct login *login) {
	if (login->options.ignore_root && login->user != NULL && strcmp(login->user, "root") == 0)
		return false;
	return options_serve(&login->options, login->service);
}

int login_find_user(struct login *login) {
	if (login->user == NULL || login->user[0] == '\0') {
		say_log(login->pamh, LOG_ERR, "PAM has no user name for this session");
		return PAM_SESSION_ERR;
	}
	const struct passwd *entry = pam_modutil_getpwnam(login->pamh, login->user);
	if (entry == NULL) {
		say_log(login->pamh, LOG_ERR, "User %s is not known on this node (getpwnam)", login->user);
		return PAM_SESSION_ERR;
	}
	login->uid = entry->pw_uid;
	return login->uid == 0 && login->options.ignore_root ? PAM_IGNORE : PAM_SUCCESS;
}

int login_answer(const struct login *login, enum action action) {
	return action == ACTION_ALLOW ? PAM_SUCCESS : action == ACTION_DENY ? login->refusal : PAM_IGNORE;
}

static void log_refusal(const struct login *login, const char *reason) {
	say_log(login->pamh, LOG_NOTICE, "Access denied for user %s (uid=%u): %s",
	        login->user != NULL ? login->user : "?", (unsigned)login->uid, reason);
}

int login_refuse(const struct login *login, const struct reply *reply) {
	log_refusal(login, reply->reason != NULL ? reply->reason : "no reason was given");
	say_messages(login->pamh, login->flags, PAM_ERROR_MSG, reply);
	return login->refusal;
}

/* The session is known: it belongs into its job, and is not there. */
static int fail_outside(const struct login *login, const char *why, const char *remedy) {
	enum action action = login->failure;
	const char *effect = action == ACTION_DENY ? "the user is refused" : "the user is let in";
	char reason[100];
	say_log(login->pamh, LOG_ERR,
	        "The session of user %s (uid=%u) is not in %s: %s; action_adopt_failure=%s: %s. To do: %s", login->user,
	        (unsigned)login->uid, login->job, why, action_name(action), effect, remedy);
	if (action == ACTION_DENY) {
		snprintf(reason, sizeof reason, "the session is not in %s (action_adopt_failure=deny)", login->job);
		log_refusal(login, reason);
		say_user(login->pamh, login->flags, PAM_ERROR_MSG,
		         "Access denied: this session could not be put into your job here. Please tell this node's administrators.");
	}
	return login_answer(login, action);
}

int login_fail(const struct login *login, const char *why, const char *remedy) {
	static const char *const effects[] = {
		[ACTION_IGNORE] = "the other modules decide",
		[ACTION_ALLOW] = "the user is let in, into no job by us",
		[ACTION_DENY] = "the user is refused",
	};
	const char *user = login->user != NULL ? login->user : "?";
	enum action action = login->options.generic_failure;
	if (login->failure != ACTION_IGNORE)
		return fail_outside(login, why, remedy);
	say_log(login->pamh, LOG_ERR, "No decision for user %s (uid=%u): %s; action_generic_failure=%s: %s. To do: %s", user,
	        (unsigned)login->uid, why, action_name(action), effects[action], remedy);
	if (action == ACTION_DENY) {
		log_refusal(login, "no decision could be made (action_generic_failure=deny)");
		say_user(login->pamh, login->flags, PAM_ERROR_MSG,
		         "Access denied: this node cannot tell whether you have a job here. Please tell its administrators.");
	}
	return login_answer(login, action);
}

int login_fail_word(const struct login *login) {
	char why[600];
	snprintf(why, sizeof why, "\"%.200s\" on the PAM line is not allowed, it takes %s", login->options.wrong,
	         login->options.allowed);
	return login_fail(login, why, "correct the line in /etc/pam.d");
}

int login_fail_unanswered(const struct login *login, const struct outcome *outcome) {
	return login_fail(login, outcome->why, "run slurm-cgroups doctor as root on this node");
}

int login_join(struct login *login, const struct reply *record, bool mount_only) {
	char why[200];
	const char *wrong = namespaces_join(record, mount_only, login->deadline, why, sizeof why);
	if (wrong == NULL)
		return PAM_SUCCESS;
	login->failure = record->failure;
	if (record->job != NULL)
		snprintf(login->job, sizeof login->job, "the namespaces of job %s", record->job);
	else
		snprintf(login->job, sizeof login->job, "the namespaces of its job");
	return login_fail(login, wrong, "ask slurmd's log what became of them; join_container=false does without");
}

int login_fail_memory(const struct login *login) {
	return login_fail(login, "there is no memory", "look at this node's memory");
}

/* NULL where it is empty or too long: as if it were not there. */
static const char *optional(const char *value) {
	return value != NULL && value[0] != '\0' && strlen(value) <= LONGEST_OPTIONAL ? value : NULL;
}

/* NULL: it is whole; else why it is not. */
static const char *write_request(const struct login *login, const char *phase, uint64_t deadline,
                                 const struct reply *record, struct request *request) {
	request_begin(request);
	request_add(request, "phase", phase);
	request_add_number(request, "deadline", deadline);
	request_add(request, "user", login->user);
	request_add_number(request, "uid", login->uid);
	request_add_number(request, "pid", login->self.pid);
	request_add_number(request, "start", login->self.start);
	request_add_number(request, "threads", login->self.threads);
	request_add(request, "service", login->service);
	request_add(request, "rhost", optional(item(login->pamh, PAM_RHOST)));
	/* sshd's own in the account phase. By the session phase pam_env may have taken it from a file of the user's. */
	if (record == NULL)
		request_add(request, "connection", optional(pam_getenv(login->pamh, "SSH_CONNECTION")));
	/* As they stand there: a default of ours behind them would undo what the site's config.json says. */
	for (int i = 0; i < login->count; i++)
		if (!options_keep(login->words[i]))
			request_add(request, "option", login->words[i]);
	if (record != NULL) {
		request_add(request, "job", record->job);
		if (record->counted)
			request_add(request, "counted", "1");
	}
	return request_end(request) ? NULL : "the PAM line, or a name in this login, is too long";
}

bool login_ask(const struct login *login, const char *phase, const struct reply *record, struct papers *papers,
               struct outcome *outcome) {
	/* The module keeps a little of the time for itself, to end a helper that is late by a moment. */
	uint64_t budget = login->options.budget_ms, reserve = budget / 50 < 100 ? budget / 50 : 100;
	const struct helper helper = { login->options.helper, record, budget, login->deadline };
	papers->reply = (struct reply){ .used = 0 };
	const char *wrong = write_request(login, phase, login->deadline - reserve, record, &papers->request);
	if (wrong != NULL) {
		*outcome = (struct outcome){ .answered = false };
		snprintf(outcome->why, sizeof outcome->why, "%s", wrong);
		return false;
	}
	helper_ask(&helper, &papers->request, &papers->reply, outcome);
	if (outcome->note[0] != '\0')
		say_log(login->pamh, outcome->late ? LOG_WARNING : LOG_DEBUG, "%s", outcome->note);
	if (outcome->answered)
		say_logs(login->pamh, &papers->reply);
	return outcome->answered;
}

void login_set(const struct login *login, const char *name, const char *value) {
	char *line;
	if (value == NULL)
		return;
	size_t size = strlen(name) + 1 + strlen(value) + 1;
	line = malloc(size);
	if (line != NULL)
		snprintf(line, size, "%s=%s", name, value);
	if (line == NULL || pam_putenv(login->pamh, line) != PAM_SUCCESS)
		say_log(login->pamh, LOG_WARNING, "Cannot set %s for user %s: no memory", name, login->user);
	free(line); /* libpam has a copy */
}

void login_unset(const struct login *login, const char *name) {
	if (pam_getenv(login->pamh, name) != NULL) /* libpam logs an error where there is none */
		pam_putenv(login->pamh, name);
}
