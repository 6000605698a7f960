/* The namespaces of the job, which its slurmstepd hands over. */

#ifndef SLURM_CGROUPS_NAMESPACES_H
#define SLURM_CGROUPS_NAMESPACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reply.h"

/* Asks the slurmstepd of the record for them and joins them, until that moment (ms of CLOCK_BOOTTIME). `mount_only`: that
   of mounts alone. NULL: done, or there are none; else why not, with this process where it was. */
const char *namespaces_join(const struct reply *record, bool mount_only, uint64_t deadline, char *why, size_t size);

#endif
