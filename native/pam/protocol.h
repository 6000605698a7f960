/* The words between the module and its helper: PROTOCOL.md. src/adopt/login-protocol.ts has the same constants. */

#ifndef SLURM_CGROUPS_PROTOCOL_H
#define SLURM_CGROUPS_PROTOCOL_H

#define PROTOCOL_VERSION 1
#define PROTOCOL_REQUEST "slurm-cgroups-login"
#define PROTOCOL_ANSWER "slurm-cgroups-answer"
#define PROTOCOL_LONGEST_LINE 4096
#define PROTOCOL_LONGEST_MESSAGE 65536
#define PROTOCOL_LOGINS "/run/slurm-cgroups/logins"
#define PROTOCOL_ADOPTIONS "/run/slurm-cgroups/adoptions"
#define PROTOCOL_AUDIT ".audit"

#endif
