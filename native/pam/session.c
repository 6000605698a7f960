/* The session phase: only for what this login's account phase let in. No limit of sshd's runs any more, and the helper
   would be born inside the job. */

#include "phases.h"

#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "record.h"
#include "say.h"

/* Another module moved the session after the account phase (pam_systemd does): it has to be adopted again. */
static int return_to_job(struct login *login, struct papers *papers) {
	struct outcome outcome;
	const struct reply *reply = &papers->reply, *record = &papers->record;
	if (login->options.wrong != NULL) {
		pam_putenv(login->pamh, "SLURM_JOB_ID"); /* removes it: the session is not there */
		return login_fail_word(login);
	}
	bool answered = login_ask(login, "session", record, papers, &outcome);
	if (answered && reply->action == ACTION_DENY)
		return login_refuse(login, reply);
	/* The kernel's word counts, whatever the helper said or did not say. Another leaf of the job will do as well. */
	bool named = answered && reply_next(reply, "cgroup", NULL) != NULL;
	if (self_placed(named ? reply : record)) {
		if (!answered)
			say_log(login->pamh, LOG_WARNING, "The session of user %s is in job %s again, but %s", login->user, record->job,
			        outcome.why);
		bool speaks = answered && reply_next(reply, "message", NULL) != NULL;
		say_messages(login->pamh, login->flags, PAM_TEXT_INFO, speaks ? reply : record);
		return PAM_SUCCESS;
	}
	pam_putenv(login->pamh, "SLURM_JOB_ID");
	if (!answered)
		return login_fail_unanswered(login, &outcome);
	say_log(login->pamh, LOG_WARNING, "The session of user %s was moved out of job %s by another module and is not in it: %s",
	        login->user, record->job, reply->reason != NULL ? reply->reason : "no reason was given");
	if (reply->job == NULL) /* else its messages say what is not so */
		say_messages(login->pamh, login->flags, PAM_TEXT_INFO, reply);
	return login_answer(login, reply->action);
}

static int open_with(struct login *login, struct papers *papers) {
	const char *wrong;
	char why[128];
	const struct reply *record = &papers->record;
	if (!self_read(&login->self))
		return login_fail(login, "/proc/self cannot be read", "mount /proc");
	enum record kind = record_read(&login->self, &papers->record, &wrong);
	if (kind == RECORD_NONE)
		return PAM_IGNORE;
	/* Only now: who has no record is none of ours, and need not be known. */
	int found = login_find_user(login);
	if (found != PAM_SUCCESS)
		return found;
	if (kind == RECORD_BAD) {
		snprintf(why, sizeof why, "the record of its account phase cannot be used: %s", wrong);
		return login_fail(login, why, "look at " PROTOCOL_LOGINS);
	}
	if (record->job == NULL) { /* let in, into no job */
		say_messages(login->pamh, login->flags, PAM_TEXT_INFO, record);
		return login_answer(login, record->action);
	}
	if (pam_getenv(login->pamh, "SLURM_JOB_ID") == NULL)
		login_set(login, "SLURM_JOB_ID", record->job);
	if (!self_placed(record))
		return return_to_job(login, papers);
	say_messages(login->pamh, login->flags, PAM_TEXT_INFO, record);
	return PAM_SUCCESS;
}

int session_open(struct login *login) {
	if (!login_is_ours(login))
		return PAM_IGNORE;
	struct papers *papers = malloc(sizeof *papers);
	if (papers == NULL)
		return login_fail_memory(login);
	int result = open_with(login, papers);
	free(papers);
	return result;
}

int session_close(struct login *login) {
	if (!login_is_ours(login) || !self_read(&login->self))
		return PAM_IGNORE;
	return record_remove(&login->self) ? PAM_SUCCESS : PAM_IGNORE;
}
