// The other job that a process is in, and that lives: it is not taken out of it without being told so.

import type { HeldProcess } from '../cgroup/process.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import { directoryNameOf } from '../jobs/layout.js';
import { otherLivingJobOf } from '../jobs/living.js';
import type { SlurmNode } from '../jobs/node.js';
import type { Deadline } from '../machine/deadline.js';
import { SlurmCgroupsError } from '../machine/errors.js';

/** For the question whether it lives, in whose cgroups users can make others. What is not known by then is yes. */
const livingMs = 1000;

/** The name of another living job in which a process is; `undefined`: it is in none. `target` is where it is to go. */
export async function otherJobKeeping(
  node: SlurmNode,
  held: HeldProcess,
  {
    target,
    deadline,
  }: { readonly target: Pick<Job, 'jobId' | 'sluid'> | { readonly kind: 'user' }; readonly deadline: Deadline },
): Promise<string | undefined> {
  const job = 'kind' in target ? undefined : directoryNameOf(target);
  const other = await otherLivingJobOf(node, held, { job, deadline: deadline.part(livingMs) });
  return other === undefined ? undefined : nameOfJob(other);
}

export function inOtherJob(held: HeldProcess, other: string): SlurmCgroupsError {
  const { pid } = held;
  return new SlurmCgroupsError(
    'ERR_PROTECTED',
    `Process ${pid} (${held.stat().comm}) is not moved: it is in ${other}, which still runs; --force takes it out of that job`,
    { pid },
  );
}
