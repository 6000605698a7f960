/* The account phase: the helper decides and adopts. Here the user hears of a refusal alone: what is said in this phase
   goes out on every connection, those of scp and mpirun too. */

#include "phases.h"

#include <stdlib.h>

#include "display.h"
#include "undo.h"

static int account_with(struct login *login, struct papers *papers) {
	struct outcome outcome;
	const struct reply *reply = &papers->reply;
	if (!self_read(&login->self))
		return login_fail(login, "/proc/self cannot be read", "mount /proc");
	if (!login_ask(login, "account", NULL, papers, &outcome)) {
		undo_moves(login, reply, outcome.late);
		return login_fail_unanswered(login, &outcome);
	}
	if (reply->action != ACTION_IGNORE) /* another module's, or one that the user chose; ignored is as if we were not there */
		login_unset(login, "SLURM_JOB_ID");
	if (reply->action == ACTION_DENY)
		return login_refuse(login, reply);
	if (reply->action == ACTION_ALLOW && reply->job != NULL) {
		login_set(login, "SLURM_JOB_ID", reply->job);
		login_set(login, "DISPLAY", reply->display);
		login_set(login, "XAUTHORITY", reply->xauthority);
		if (reply->display != NULL)
			display_yield(login->pamh, reply->display);
	}
	/* There is no session phase. The process of keyboard-interactive is not the session: it has nothing to join. */
	if (reply->spaces_at_once && reply_in_job(reply) && reply->pid == login->self.pid) {
		int joined = login_join(login, reply, true);
		if (joined != PAM_SUCCESS)
			return joined;
	}
	return login_answer(login, reply->action);
}

int account_answer(struct login *login) {
	if (!login_is_ours(login))
		return PAM_IGNORE;
	int found = login_find_user(login);
	if (found != PAM_SUCCESS)
		return found;
	if (login->options.wrong != NULL)
		return login_fail_word(login);
	struct papers *papers = malloc(sizeof *papers);
	if (papers == NULL)
		return login_fail_memory(login);
	int result = account_with(login, papers);
	free(papers);
	return result;
}
