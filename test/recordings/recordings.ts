// The recorded nodes and what must be answered on them. A recording is made by convert.mjs, its answers by
// expect.mjs from Slurm's side of the same capture: neither knows the product. `respelled` is the same node as
// a build without multiple-slurmd would lay it out.

import fs from 'node:fs';
import path from 'node:path';

const folder = import.meta.dirname;

/**
 * Every recorded node, such as `slurm-24.11-v1`. A suffix names another moment of the same node:
 * `.before-adoption`, `.after-ls`, `.after-reclaim`.
 */
export const recordingNames: readonly string[] = fs
  .readdirSync(folder)
  .filter((file) => file.endsWith('.jsonl'))
  .map((file) => path.basename(file, '.jsonl'))
  .sort();

/** The file of a recorded node. */
export function recording(name: string): string {
  return path.join(folder, `${name}.jsonl`);
}

/** As it was recorded (`slurm_vm`, `vm_slurmstepd.scope`), or without the node's name (`slurm`, `slurmstepd.scope`). */
export type Spelling = 'recorded' | 'respelled';

/** How a job can be named from its directory alone. */
export interface ExpectedName {
  /** Null where the directory is named by SLUID. */
  readonly jobId: number | null;
  readonly sluid?: string;
  /** Absent where the top directory does not name the node. */
  readonly nodeName?: string;
}

export interface ExpectedStep {
  readonly stepId: string;
  /** Sorted; in any hierarchy, in the step's directory or below it. On v1 with its slurmstepd, which is there in cpuset and devices. */
  readonly pids: readonly number[];
  /** `Hierarchy.key` of those where the step has a directory, sorted. */
  readonly hierarchies: readonly string[];
}

export interface ExpectedJob extends ExpectedName {
  /** From the path on v1, null on v2. */
  readonly uid: number | null;
  readonly hierarchies: readonly string[];
  readonly externMissingIn: readonly string[];
  /** extern, batch, interactive, then by number. */
  readonly steps: readonly ExpectedStep[];
  /** What Slurm itself says of the job: known to the product only when it asks slurmstepd. */
  readonly real: { readonly jobId: number; readonly uid: number; readonly user: string; readonly sluid?: string };
}

/** The newest of all jobs, of one node's where the host has several, or of one owner's where the path names that. */
export type ExpectedNewest = (
  | { readonly among: 'all' }
  | { readonly among: 'node'; readonly nodeName?: string }
  | { readonly among: 'owner'; readonly uid: number }
) & {
  /** Rank `newest`, by the step_extern directories alone. */
  readonly newest: ExpectedName;
  /** Rank `step-extern-mtime`. */
  readonly stepExternMtime: ExpectedName;
  readonly why?: string;
};

export interface ExpectedVerdict {
  readonly pid: number;
  /** What this process is: `slurm_script`, `placeholder`, `adopted`, `slurmstepd of batch`, `slurmd`, `sshd` … */
  readonly role: string;
  readonly verdict: 'contained' | 'partial' | 'outside' | 'conflict';
  readonly job: (ExpectedName & { readonly stepId: string }) | null;
  /** Hierarchies in which its job has a directory and the process is not inside. */
  readonly missingIn: readonly string[];
}

/** With default options, owners known and caller ID unknown. */
export type ExpectedDecision =
  | {
      readonly uid: number;
      readonly action: 'adopt';
      readonly jobId: number;
      readonly nodeName?: string;
      readonly why: string;
    }
  | { readonly uid: number; readonly action: 'deny'; readonly jobId: null; readonly why: string };

export interface Expected {
  /** What these answers were derived from. */
  readonly source: string;
  readonly mode: 'legacy' | 'hybrid' | 'unified';
  /** Hierarchies in which Slurm has a tree. */
  readonly slurmIn: readonly string[];
  readonly list: readonly ExpectedJob[];
  readonly newest: readonly ExpectedNewest[];
  /** Every recorded process but the recording one. */
  readonly verify: readonly ExpectedVerdict[];
  /** Empty on v2, where owners are not known from directories. */
  readonly decide: readonly ExpectedDecision[];
  readonly notes: readonly string[];
}

/** The text of a recording, for recordedHost(). */
export function loadRecording(name: string): string {
  return fs.readFileSync(path.join(folder, `${name}.jsonl`), 'utf8');
}

/** The text of the same node with the other spelling; of two nodes on one host the first only, else both trees were one. */
export function respelled(name: string): string {
  const node = respelledNode(name);
  return loadRecording(name)
    .replaceAll(new RegExp(`(?<!\\w)slurm_${node}(?!\\w)`, 'g'), 'slurm')
    .replaceAll(new RegExp(`(?<!\\w)${node}_slurmstepd\\.scope(?!\\w)`, 'g'), 'slurmstepd.scope');
}

/** The node whose name the respelled recording lacks. */
export function respelledNode(name: string): string {
  return name.endsWith('-two-nodes') ? 'vm1' : 'vm';
}

export function expectedFor(name: string, spelling: Spelling = 'recorded'): Expected {
  const nameless = spelling === 'respelled' ? respelledNode(name) : undefined;
  const text = fs.readFileSync(path.join(folder, 'expected', `${name}.json`), 'utf8');
  // A reviver that gives undefined takes the property away.
  const expected: unknown = JSON.parse(text, (key, value: unknown) =>
    key === 'nodeName' && value === nameless ? undefined : value,
  );
  if (!isExpected(expected)) throw new TypeError(`expected/${name}.json does not hold expected answers`);
  return expected;
}

const lists = ['list', 'newest', 'verify', 'decide', 'slurmIn', 'notes'] as const;

function isExpected(value: unknown): value is Expected {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof Reflect.get(value, 'source') === 'string' &&
    ['legacy', 'hybrid', 'unified'].includes(String(Reflect.get(value, 'mode'))) &&
    lists.every((key) => Array.isArray(Reflect.get(value, key)))
  );
}
