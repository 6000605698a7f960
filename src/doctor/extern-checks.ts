// Checks of the extern steps, into which sessions go: does each exist, does its slurmstepd answer, is it frozen, and do
// the clocks agree on when it began.

import { Cgroup } from '../cgroup/cgroup.js';
import { frozenAt } from '../cgroup/freezer.js';
import { childPath } from '../cgroup/path.js';
import { cgroupOf, discoverJobs } from '../jobs/discovery.js';
import { type Job, nameOfJob } from '../jobs/job.js';
import type { SlurmNode } from '../jobs/node.js';
import { findOwners } from '../jobs/owners/find.js';
import { askSteps, type StepdReport } from '../jobs/stepd/ask.js';
import { JobSockets } from '../jobs/stepd/find.js';
import { socketTime } from '../jobs/stepd/sockets.js';
import { unplacedNote, unplacedOnNode } from '../jobs/stepd/unplaced.js';
import { timeOfDayNs } from '../machine/clock.js';
import { deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { hasCode, SlurmCgroupsError, someOf } from '../machine/errors.js';
import { type Check, check, type Finding, fail, ok, unknown, warn } from './check.js';
import { clocks, type ExternTimes } from './clock-check.js';

/** The facts of one job's extern step. */
export interface ExternLook {
  /** `job 7` */
  readonly name: string;
  /** It has a directory in some hierarchy. */
  readonly isThere: boolean;
  /** The directory that is frozen; `unseen`: the recording does not hold it. */
  readonly frozenAt?: string | { readonly unseen: string };
  /** The answer of its slurmstepd (a recording's is not asked); absent: no socket was found. */
  readonly stepd?: { readonly state: string } | { readonly failure: string } | 'unasked';
  /** slurmd's spool was read: no socket means no slurmstepd. */
  readonly isComplete: boolean;
  readonly times: ExternTimes;
}

export interface ExternChecksOptions {
  /** Over all that is asked. Default 4000. */
  readonly timeoutMs?: number;
}

export async function externChecks(node: SlurmNode, options: ExternChecksOptions = {}): Promise<readonly Check[]> {
  let looks: readonly ExternLook[];
  try {
    looks = await lookAtExternSteps(node, options);
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return [await check('extern steps', () => Promise.reject(error))];
  }
  return Promise.all([
    check('extern steps', () => externSteps(looks, unplacedNote(unplacedOnNode(node)))),
    check('suspended', () => suspended(looks)),
    check('clocks', () =>
      clocks(
        looks.filter((look) => look.isThere).map((look) => look.times),
        timeOfDayNs(node.host),
      ),
    ),
  ]);
}

/** @throws SlurmCgroupsError where the jobs of this node cannot be read. */
async function lookAtExternSteps(
  node: SlurmNode,
  { timeoutMs = 4000 }: ExternChecksOptions,
): Promise<readonly ExternLook[]> {
  const { host } = node;
  const deadline = deadlineIn(host, timeoutMs);
  // Ids of jobs named by SLUID; whose they are does not matter here.
  const jobs = await findOwners(discoverJobs(node), { node, timeoutMs: timeoutMs / 2 });
  const places = new JobSockets(node);
  const found = await Promise.all(jobs.map(async (job) => ({ job, ...(await socketOf(places, job)) })));
  const wanted = host.source === 'live' ? found.flatMap(({ socket }) => socket ?? []) : [];
  const [first] = found;
  const reports = await askSteps(wanted, ['state'], {
    host,
    deadline,
    ...defined({ trusted: first?.trusted }),
  });
  const bySocket = new Map(reports.map((report) => [report.socket, report]));
  return found.map(({ job, socket, isComplete }): ExternLook => {
    const report = socket === undefined ? undefined : bySocket.get(socket);
    // A SLUID of which a recording does not tell the job.
    const isUnnamed = job.jobId === undefined && host.source === 'recording';
    const frozen = frozenOf(node, job);
    const socketNs = socket === undefined ? undefined : socketTime(host, socket);
    const mtimes = job.extern?.cgroups.map(({ mtimeNs }) => mtimeNs) ?? [];
    return {
      name: nameOfJob(job),
      isThere: job.extern !== undefined,
      ...defined({ frozenAt: frozen }),
      ...(socket === undefined && !isUnnamed ? {} : { stepd: report === undefined ? 'unasked' : saidBy(report) }),
      isComplete,
      times: { mtimes, ...defined({ socketNs }) },
    };
  });
}

async function socketOf(places: JobSockets, job: Job) {
  const { jobId, nodeName } = job;
  if (jobId === undefined) return { socket: undefined, isComplete: false, trusted: new Set([0n]) };
  const { sockets, isComplete, trusted } = await places.ofExtern({
    jobId,
    ...defined({ nodeName }),
  });
  return { socket: sockets[0], isComplete, trusted };
}

function saidBy({ answers, failures: [failure] }: StepdReport): { state: string } | { failure: string } {
  if (answers.state !== undefined) return { state: answers.state };
  return { failure: failure?.message ?? 'it said nothing' };
}

/** Slurm freezes `user` of the extern step on v2, the step on v1 (measured). */
function frozenOf(node: SlurmNode, job: Job): ExternLook['frozenAt'] {
  let unseen: ExternLook['frozenAt'];
  for (const extern of job.extern?.cgroups ?? []) {
    const step = cgroupOf(node, extern);
    if (step === undefined) continue;
    const { hierarchy, path } = step;
    const leaf = hierarchy.version === 2 ? new Cgroup(node.host, hierarchy, childPath(path, 'user')) : step;
    try {
      const frozen = frozenAt(node.host, leaf);
      if (frozen !== undefined) return frozen;
    } catch (error) {
      if (!hasCode(error, 'ERR_NOT_RECORDED')) throw error;
      unseen = { unseen: error.message };
    }
  }
  return unseen;
}

/** The worst finding, one line. */
export function externSteps(looks: readonly ExternLook[], unplaced?: string): Finding {
  if (looks.length === 0 && unplaced !== undefined)
    return unknown(`${unplaced}: its extern step cannot be checked`, 'see the check "layout"');
  if (looks.length === 0) return ok('no job is on this node now');
  const without = looks.filter((look) => !look.isThere);
  const there = looks.filter((look) => look.isThere);
  const gone = there.filter(({ stepd, isComplete }) => stepd === undefined && isComplete);
  const mute = there.flatMap(({ name, stepd }) => {
    const failure = stepd === undefined || stepd === 'unasked' || 'state' in stepd ? undefined : stepd.failure;
    return failure === undefined ? [] : [{ name, failure }];
  });
  const [first] = mute;
  if (first !== undefined) {
    return fail(
      `slurmstepd of ${someOf(mute.map(({ name }) => name))} does not answer: ${first.failure}`,
      'look at its state (ps -o pid,stat,wchan,cmd -C slurmstepd): continue a stopped one (kill -CONT PID), else cancel the job (scancel)',
    );
  }
  if (gone.length > 0)
    return fail(
      `${someOf(namesOf(gone))} ${gone.length === 1 ? 'has' : 'have'} cgroups but no slurmstepd: no session can be adopted, and what is left will not be ended by Slurm`,
      'if Slurm says that the job has ended: slurm-cgroups clean JOB; else scancel JOB',
    );
  if (without.length > 0)
    return warn(
      `${someOf(namesOf(without))} ${without.length === 1 ? 'has' : 'have'} no extern step: no session can be adopted`,
      'run it again if they are just starting or ending; else they began before PrologFlags=Contain was set',
    );
  if (there.some(({ stepd }) => stepd === 'unasked'))
    return unknown('only a running slurmstepd can answer, and a recording has none', 'run it on the node itself');
  const lost = there.filter(({ stepd }) => stepd === undefined);
  if (lost.length > 0)
    return unknown(
      `no socket of slurmstepd was found for ${someOf(namesOf(lost))}`,
      'run it as root; if that does not help, see the check "spool"',
    );
  const ending = there.filter(({ stepd }) => isEnding(stepd));
  const endings = ending.length === 0 ? '' : `, ${someOf(namesOf(ending))} ending`;
  return ok(`${there.length === 1 ? 'slurmstepd answers' : `all ${there.length} slurmstepds answer`}${endings}`);
}

function isEnding(stepd: ExternLook['stepd']): boolean {
  return typeof stepd === 'object' && 'state' in stepd && stepd.state === 'ending';
}

/** A process moved into a frozen step hangs, and cannot be killed, until the step is thawed. */
export function suspended(looks: readonly ExternLook[]): Finding {
  const frozen = looks.flatMap(({ name, frozenAt: where }) => (typeof where === 'string' ? [{ name, where }] : []));
  if (frozen.length > 0) {
    const names = someOf(frozen.map(({ name }) => name));
    return warn(
      `${names} ${frozen.length === 1 ? 'is' : 'are'} frozen (${someOf(
        frozen.map(({ where }) => where),
        1,
      )}): no session is adopted there; with pam_slurm_adopt it would hang and could not be killed`,
      'scontrol resume JOB; if Slurm does not show it as suspended, thaw the cgroup that is named',
    );
  }
  const [unseen] = looks.flatMap(({ frozenAt: where }) => (typeof where === 'object' ? [where.unseen] : []));
  if (unseen !== undefined)
    return unknown(unseen, 'run it on the node itself, or record the node again with this version');
  return ok('no extern step is frozen');
}

function namesOf(looks: readonly ExternLook[]): readonly string[] {
  return looks.map(({ name }) => name);
}
