/* The session phase: only for what this login's account phase let in. No limit of sshd's runs any more, and the helper
   would be born inside the job. */

#include "phases.h"

#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "audit.h"
#include "display.h"
#include "record.h"
#include "say.h"
#include "undo.h"

/* The kernel says that it is in its job. */
static int stay_in_job(struct login *login, const struct reply *record, const struct reply *speaker) {
	/* pam_env may have set another. */
	if (record->job != NULL)
		login_set(login, "SLURM_JOB_ID", record->job);
	else
		login_unset(login, "SLURM_JOB_ID");
	/* The account phase may have run in a process of its own. */
	if (record->display != NULL)
		display_yield(login->pamh, record->display);
	audit_note(login, record);
	/* What we do from here on is done as in the job: nothing is started any more. */
	int joined = record->spaces_at_once ? PAM_SUCCESS : login_join(login, record, false);
	if (joined == PAM_SUCCESS)
		say_messages(login->pamh, login->flags, PAM_TEXT_INFO, speaker);
	return joined;
}

/* The job is known, and that the session is not there: what fails from here on is judged by the record's `failure`. */
static void note_outside(struct login *login, const struct reply *record) {
	login_unset(login, "SLURM_JOB_ID");
	login->failure = record->failure;
	if (record->job != NULL)
		snprintf(login->job, sizeof login->job, "job %s", record->job);
	else
		snprintf(login->job, sizeof login->job, "its job");
}

/* The helper says what the kernel does not: its action was meant for a session in the job. */
static int fail_unplaced(struct login *login, const struct reply *reply) {
	char why[600];
	if (reply->failure != ACTION_IGNORE)
		login->failure = reply->failure;
	snprintf(why, sizeof why, "the helper says that it is in %s, but /proc/self/cgroup does not (%.400s)", login->job,
	         reply->reason != NULL ? reply->reason : "no reason was given");
	return login_fail(login, why, "run slurm-cgroups doctor as root on this node");
}

/* Another module moved the session after the account phase (pam_systemd does): it has to be adopted again. */
static int return_to_job(struct login *login, struct papers *papers) {
	struct outcome outcome;
	const struct reply *reply = &papers->reply, *record = &papers->record;
	note_outside(login, record);
	if (login->options.wrong != NULL)
		return login_fail_word(login);
	bool answered = login_ask(login, "session", record, papers, &outcome);
	if (answered && reply->action == ACTION_DENY)
		return login_refuse(login, reply);
	/* The kernel's word counts, whatever the helper said or did not say. Another leaf of the job will do as well. */
	bool named = answered && reply_next(reply, "cgroup", NULL) != NULL;
	if (self_placed(named ? reply : record)) {
		if (!answered)
			say_log(login->pamh, LOG_WARNING, "The session of user %s is in %s again, but %s", login->user, login->job,
			        outcome.why);
		bool speaks = answered && reply_next(reply, "message", NULL) != NULL;
		return stay_in_job(login, record, speaks ? reply : record);
	}
	if (!answered) {
		undo_moves(login, reply, outcome.late);
		return login_fail_unanswered(login, &outcome);
	}
	if (reply->action == ACTION_ALLOW && reply_in_job(reply))
		return fail_unplaced(login, reply);
	say_log(login->pamh, LOG_WARNING, "The session of user %s was moved out of %s by another module and is not in it: %s",
	        login->user, login->job, reply->reason != NULL ? reply->reason : "no reason was given");
	if (!reply_in_job(reply)) /* else its messages say what is not so */
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
	if (!reply_in_job(record)) { /* let in, into no job */
		say_messages(login->pamh, login->flags, PAM_TEXT_INFO, record);
		return login_answer(login, record->action);
	}
	return self_placed(record) ? stay_in_job(login, record, record) : return_to_job(login, papers);
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
