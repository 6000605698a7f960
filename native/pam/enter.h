/* Going into a cgroup. */

#ifndef SLURM_CGROUPS_ENTER_H
#define SLURM_CGROUPS_ENTER_H

/* Writes a process ("0": this one, whose own number can be another in a namespace) into the cgroup of that directory: 0, or
   errno. Calls nothing that allocates or locks, for the child between fork and exec. */
int enter_cgroup(const char *directory, const char *who);

#endif
