/* The audit session of a login, noted for the end of its job. */

#ifndef SLURM_CGROUPS_AUDIT_H
#define SLURM_CGROUPS_AUDIT_H

#include "login.h"

/* Nothing depends on it: what cannot be noted is a line in the log. */
void audit_note(const struct login *login, const struct reply *record);

#endif
