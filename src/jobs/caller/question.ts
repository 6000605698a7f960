// What caller ID is asked, and what it can answer. The question is put to this node (here.ts) or to the slurmd
// at the source of the connection (slurmd.ts); what follows from an answer is policy's.

import type { Deadline } from '../../machine/deadline.js';
import type { TcpConnection } from '../../machine/tcp-table.js';
import type { OwnedJob } from '../job.js';
import type { SlurmNode } from '../node.js';

/** Which job a connection comes from, or why that is not known: one line, safe to print. */
export type CallerIdAnswer =
  | { readonly answer: 'job'; readonly jobId: number /** Its owner, where this node knows. */; readonly uid?: number }
  /** The process that opened the connection is in no job. */
  | { readonly answer: 'none' }
  | { readonly answer: 'unknown'; readonly why: string };

export interface CallerIdQuestion {
  readonly node: SlurmNode;
  readonly connection: TcpConnection;
  /** Whose session it is, and the jobs of that user here: where the source is this node, they are looked at first. */
  readonly uid: number;
  readonly ownJobs: readonly OwnedJob[];
  /** A process in whose network namespace the connection is. Default: this one. */
  readonly pid?: number;
  /** When there must be an answer. */
  readonly deadline: Deadline;
}

export function unknownCaller(why: string): CallerIdAnswer {
  return { answer: 'unknown', why };
}
