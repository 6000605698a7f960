/* The three answers of a login, as the PAM line and the protocol spell them. */

#ifndef SLURM_CGROUPS_ACTION_H
#define SLURM_CGROUPS_ACTION_H

enum action { ACTION_IGNORE, ACTION_ALLOW, ACTION_DENY };

static inline const char *action_name(enum action action) {
	return action == ACTION_ALLOW ? "allow" : action == ACTION_DENY ? "deny" : "ignore";
}

#endif
