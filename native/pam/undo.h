/* Takes back what a helper had begun that was killed, or crashed, before it could answer. */

#ifndef SLURM_CGROUPS_UNDO_H
#define SLURM_CGROUPS_UNDO_H

#include "login.h"

/* `begun`: what it said before its first move, the process and where that was. It says nothing: nothing was moved.
   `hangs`: the helper does, in the kernel. It may still move the process, and what hangs it would hang us. */
void undo_moves(const struct login *login, const struct reply *begun, bool hangs);

#endif
