// What cleaning a job did, as a value: what was ended, what survived and why, what was spared and removed.

import type { Signal } from '../machine/host.js';

/** A process that was ended (or, in a plan, is to be). */
export interface EndedProcess {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat. */
  readonly startTime: string;
  /** Effective uid. */
  readonly uid: number;
  readonly comm: string;
  /** The directory in which it was seen. */
  readonly cgroup: string;
  readonly signal: Signal | 'cgroup.kill' | 'none';
  /** Why it is the job's. */
  readonly proof: string;
}

/** A process that outlived SIGKILL and the deadline. */
export interface Survivor {
  readonly pid: number;
  readonly comm: string;
  /** `D`, `Z`, `T` …, as in /proc/PID/stat. */
  readonly state: string;
  /** One sentence for a person. */
  readonly why: string;
  readonly evidence: Readonly<Record<string, unknown>>;
}

export interface SparedProcess {
  readonly pid: number;
  readonly comm: string;
  readonly why: string;
}

export interface CleanReport {
  readonly jobId: number | null;
  readonly sluid?: string;
  readonly dryRun: boolean;
  /** Whether anything of the job is here. `false`: there was nothing to do. `null`: that cannot be told (`refused`). */
  readonly found: boolean | null;
  readonly ended: readonly EndedProcess[];
  readonly survivors: readonly Survivor[];
  readonly spared: readonly SparedProcess[];
  readonly removed: readonly string[];
  readonly left: readonly { readonly path: string; readonly why: string }[];
  /** Why nothing was done at all: slurmstepd still runs the job, or a list could not be read. */
  readonly refused?: string;
  /** Why there may be processes of the job that are not listed here (of what was not touched). */
  readonly unknown?: string;
  readonly notes: readonly string[];
}
