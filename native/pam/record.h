/* What this login's account phase left for its session phase: PROTOCOL.md, "Between the phases". */

#ifndef SLURM_CGROUPS_RECORD_H
#define SLURM_CGROUPS_RECORD_H

#include "reply.h"
#include "self.h"

enum record { RECORD_NONE, RECORD_READ, RECORD_BAD };

/* RECORD_BAD: `why` says what is wrong with it. */
enum record record_read(const struct self *self, struct reply *reply, const char **why);

/* Whether there was one, which is gone now. */
bool record_remove(const struct self *self);

#endif
