// What came of an adoption: the value that adopt() gives, and its words for where a process was and is.

import { placesLine } from '../cgroup/membership.js';
import type { HierarchyMove, Move } from '../cgroup/move.js';
import type { SlurmCgroupsError } from '../machine/errors.js';

/**
 * - `adopted`: in the job in every hierarchy, proven.
 * - `untouched`: nothing was moved (also where the step is ending).
 * - `undone`: everything was put back.
 * - `partial`: `hierarchies` says where the process is.
 * - `suspended`: the job is frozen, so nothing was moved into it, or everything was moved back.
 */
export type AdoptionOutcome = 'adopted' | 'untouched' | 'undone' | 'partial' | 'suspended';

export interface AdoptionResult {
  readonly outcome: AdoptionOutcome;
  /** Who was to move it: writes to cgroup.procs, or slurmstepd; `none`: nothing was tried. */
  readonly route: 'stepd' | 'cgroup' | 'none';
  /** Who moved it; `none`: it was already there, or nothing was moved. */
  readonly moved: 'cgroup' | 'stepd' | 'none';
  /**
   * Whether Slurm counts what it uses: slurmstepd accepted it (`stepd`, even where it was put back afterwards) or
   * refused it. `none`: slurmstepd was not told, or did not answer; then Slurm counts it only where its plugin reads
   * the cgroups.
   */
  readonly accounting: 'stepd' | 'none' | 'refused';
  /** Of an adopted process: why `accounting` is not `stepd`, for people. */
  readonly uncountedWhy?: string;
  readonly hierarchies: readonly HierarchyMove[];
  /** Why it is not adopted; with `adopted`, why the session has to be ended (`onProven`). */
  readonly error?: SlurmCgroupsError;
  /** Nothing was moved because the job's extern step accepts no process any more: it is ending, has ended, or died. */
  readonly ending?: true;
  /** Children moved along, by writes. Slurm counts them with the process: slurmstepd is not told of each. */
  readonly descendants: readonly {
    readonly pid: number;
    readonly outcome: 'adopted' | 'already' | 'undone' | 'partial';
  }[];
  /** Lines for an administrator. */
  readonly trace: readonly string[];
}

/** `/user.slice` or, where hierarchies differ, `/a in memory, cpuset; /b in freezer`. */
export function placesOf({ sources }: Move): string {
  const [first] = sources;
  return first !== undefined && sources.every(({ path }) => path === first.path) ? first.path : placesLine(sources);
}

/** Not where it was before. */
export function isElsewhere({ report }: Move): boolean {
  return report.some((one) => one.outcome === 'moved' || one.outcome === 'remains');
}

export function summaryOf(move: Move): 'adopted' | 'already' | 'undone' | 'partial' {
  const outcomes = move.report.map((one) => one.outcome);
  if (outcomes.every((one) => one === 'already')) return 'already';
  if (move.complete) return 'adopted';
  return outcomes.includes('remains') || outcomes.includes('moved') ? 'partial' : 'undone';
}
