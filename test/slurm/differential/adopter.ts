// What an adopter is to the differential test: something that is given a login and answers it. This folder is also a
// conformance kit for any adopter; it runs alone:
//
//     npm run test:slurm -- test/slurm/differential
//     SLURM_ADOPTER=/path/to/mine.ts npm run test:slurm -- test/slurm/differential
//
// as root, on cgroup v1, with the Debian packages that it names where they are missing. `mine.ts` exports
//
//     export function makeAdopter(site: Site): Adopter
//
// It is held against pam_slurm_adopt row by row (rows.ts): the same answer, or the difference that slurm-cgroups has
// there and docs/differences.md gives a reason for; either will do for another adopter. Only the kernel is believed on where a session ended up: give the
// pid of the session's process to `outcomeOf`.

import fs from 'node:fs';
import type { Cluster } from '../cluster.js';
import type { Source } from './source.js';

/** Where the logins happen. */
export interface Site {
  readonly cluster: Cluster;
  /** A folder of the test's own that all users can read, taken away with the cluster. */
  readonly folder: string;
  /** Its PAM module, built. Absent: a login is one call of the library, or one of its command under pam_exec. */
  readonly module?: string;
  /** The same for logins by ssh alone, with a folder of root's alone for its helper. */
  readonly sshdModule?: { readonly module: string; readonly folder: string };
  /** How long a login may take before it counts as hanging. Default: longer than the budget of ours, 5 s. */
  readonly hangsAfterMs?: number;
}

export interface Login {
  /** A login name: also one that does not exist. */
  readonly user: string;
  /** PAM service. */
  readonly service: string;
  /** Words of the PAM line, with the names that pam_slurm_adopt gave them; ours beside them. */
  readonly options: readonly string[];
  /** Where the connection begins; without it there is none. */
  readonly from?: Source;
  /** The session's connection is IPv4 inside an IPv6 socket, as with a listener for both. */
  readonly mapped?: boolean;
  /** The process to adopt, where it is not one that the adopter starts. */
  readonly pid?: number;
  /** Called once the login has begun. */
  readonly begun?: () => void;
}

/** in: let in (adopted or not, see `place`); ignored: left to other PAM modules; hangs: no answer in time. */
export type Answer = 'in' | 'ignored' | 'refused' | 'hangs';

/** torn: in different jobs, or in a job in one hierarchy and in the user's own cgroup in another. */
export type Place = 'job' | 'user' | 'outside' | 'torn';

export interface Landing {
  readonly place: Place;
  /** The name of that job's directory: `job_5`, or its SLUID. */
  readonly job?: string;
  /** Where the session's process stands in that job (or in the user's own cgroup): `cpuset`, `memory` … */
  readonly hierarchies: readonly string[];
}

export interface Outcome extends Landing {
  readonly answer: Answer;
  /** Not even SIGKILL ended what hung. */
  readonly unkillable: boolean;
  /** From the beginning of the login to its answer. */
  readonly ms: number;
  /** What was said about it, for the record. */
  readonly said: string;
}

export interface Adopter {
  readonly name: string;
  /** It adopts the process that it is told, by `pid`; else only ever its own, and rows with another are not for it. */
  readonly takesPid?: true;
  login(login: Login): Promise<Outcome>;
  /** Waits until every process of its logins is gone. */
  close(): Promise<void>;
}

/** In ms. */
export function patienceOn({ hangsAfterMs = 5500 }: Site): number {
  return hangsAfterMs;
}

/** Where a process stands, by its /proc/PID/cgroup. */
export function landingIn(text: string): Landing {
  const found = text.split('\n').flatMap((line) => {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    const job = /\/(job_\d+|s[0-9A-Z]{13})\/step_extern(?:\/|$)/.exec(path)?.[1];
    const isUsers = /\/slurm[^/]*\/uid_\d+$/.test(path);
    if (job === undefined && !isUsers) return [];
    return [{ hierarchy: controllers === '' ? 'unified' : controllers, job }];
  });
  const hierarchies = found.map(({ hierarchy }) => hierarchy).sort();
  const [job, ...others] = new Set(found.map((one) => one.job));
  if (found.length === 0) return { place: 'outside', hierarchies };
  if (others.length > 0) return { place: 'torn', hierarchies };
  return job === undefined ? { place: 'user', hierarchies } : { place: 'job', job, hierarchies };
}

export function landingOf(pid: number): Landing {
  try {
    return landingIn(fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8'));
  } catch (error) {
    const gone = ['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '');
    if (gone) return { place: 'outside', hierarchies: [] };
    throw error;
  }
}

export function outcomeOf(
  pid: number,
  told: Pick<Outcome, 'answer' | 'ms' | 'said'> & { readonly unkillable?: boolean },
): Outcome {
  return { unkillable: false, ...told, ...landingOf(pid) };
}
