/* Folders of root's below /run/slurm-cgroups. */

#ifndef SLURM_CGROUPS_STATE_H
#define SLURM_CGROUPS_STATE_H

/* A descriptor of the folder, each part of whose path below /run is root's alone; -1: `why` says why not, and is NULL where
   it is not there. */
int state_folder(const char *path, const char **why);

#endif
