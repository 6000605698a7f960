/* The phases of a login that are ours. Each gives PAM's answer. */

#ifndef SLURM_CGROUPS_PHASES_H
#define SLURM_CGROUPS_PHASES_H

#include "login.h"

int account_answer(struct login *login);
int session_open(struct login *login);
int session_close(struct login *login);

#endif
