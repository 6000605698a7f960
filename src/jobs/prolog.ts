// Prologs that run now: the only sign of a job that slurmd is just starting on this node, and, with PrologFlags=RunInJob,
// of one whose extern step is there already. A Prolog is a child of slurmd's (of the extern step's slurmstepd with
// RunInJob), runs as root, and its environment says whose job it is for (Slurm 20.11 to 26.05,
// src/plugins/prep/script/prep_script_slurmd.c).

import { childrenOf, holdProcess, rootsProcessesCalled } from '../cgroup/process.js';
import { boundedReads } from '../machine/bounded-reads.js';
import type { Deadline } from '../machine/deadline.js';
import { ifReadable, isGone } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { Pace } from '../machine/pace.js';
import { programName } from './config/slurmd.js';
import type { SlurmNode } from './node.js';

/** The job that a Prolog runs for. */
export interface Prolog {
  readonly jobId: number;
  readonly uid: number;
}

/** Whether Prologs of this node run inside their job (24.05 on). Not where the configuration is not known. */
export function runsInJob({ configuration }: Pick<SlurmNode, 'configuration'>): boolean {
  return configuration?.prologFlags?.includes('runinjob') === true;
}

/** slurmd has few children: they end with a script each. */
const mostLooked = 64;
const mostBytes = 1 << 20;
const eachMs = 500;

/**
 * The Prologs that run now. What cannot be looked at in time is left out.
 *
 * @throws SlurmCgroupsError ERR_TIMEOUT where not even the processes could be listed.
 */
export async function runningPrologs(
  { host, configuration }: Pick<SlurmNode, 'host' | 'configuration'>,
  deadline: Deadline,
): Promise<readonly Prolog[]> {
  if (host.source === 'recording') return [];
  const pace = new Pace(host, deadline);
  const starter = runsInJob({ configuration }) ? 'slurmstepd' : 'slurmd';
  const candidates: number[] = [];
  for (const pid of rootsProcessesCalled(host, starter)) candidates.push(...(await rootsChildrenOf(host, pid, pace)));
  const found: Prolog[] = [];
  for (const pid of candidates.slice(0, mostLooked)) {
    // It takes the memory lock of that process, which can be held for ever: never read here.
    const answer = await boundedReads(host, deadline.part(eachMs)).run(
      '/bin/cat',
      ['--', `/proc/${pid}/environ`],
      mostBytes,
    );
    const prolog = answer?.exitCode === 0 ? prologIn(answer.stdout) : undefined;
    if (prolog !== undefined) found.push(prolog);
  }
  return found;
}

async function rootsChildrenOf(host: Host, pid: number, pace: Pace): Promise<readonly number[]> {
  if (ifReadable(() => /^slurm(?:step)?d$/.test(programName(host.readlink(`/proc/${pid}/exe`)))) !== true) return [];
  const held = ifReadable(() => holdProcess(host, pid));
  if (held === undefined) return []; // ended meanwhile
  try {
    const children = await childrenOf(host, held, pace);
    return children.filter((child) => ifReadable(() => host.stat(`/proc/${child}`))?.uid === 0n);
  } catch (error) {
    if (isGone(error)) return []; // it ends just now
    throw error;
  } finally {
    held.close();
  }
}

/** What the environment of a process says; `undefined`: it is no Prolog's. An Epilog has the same variables but one. */
export function prologIn(environment: string): Prolog | undefined {
  const words = environment.split('\0');
  const number = (name: string): number | undefined => {
    const [, digits] = /^(\d{1,10})$/.exec(settingIn(words, name) ?? '') ?? [];
    return digits === undefined ? undefined : Number(digits);
  };
  const [jobId, uid] = [number('SLURM_JOB_ID'), number('SLURM_JOB_UID')];
  if (settingIn(words, 'SLURM_SCRIPT_CONTEXT') !== 'prolog_slurmd' || jobId === undefined || uid === undefined)
    return undefined;
  return { jobId, uid };
}

function settingIn(words: readonly string[], name: string): string | undefined {
  return words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
}
