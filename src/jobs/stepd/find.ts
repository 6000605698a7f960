// Where the slurmstepds of this node's jobs are to be found: in the spool of their node, else, where none is known,
// among all that listens on this machine. Looked up once for all jobs that ask, and only when one does.

import { defined } from '../../machine/defined.js';
import { hasCode, SlurmCgroupsError } from '../../machine/errors.js';
import type { Job } from '../job.js';
import type { SlurmNode } from '../node.js';
import {
  listeningSockets,
  rootOwns,
  type StepSocket,
  socketOf,
  socketsInSpool,
  type TrustedOwners,
} from './sockets.js';
import { trustedOwners } from './trusted-users.js';

/** Sockets of steps, by name alone. */
export interface FoundSockets {
  readonly sockets: readonly StepSocket[];
  /** Whose folders are believed. */
  readonly trusted: TrustedOwners;
  /** The spool of slurmd was looked into: a job that has no socket there has no slurmstepd. */
  readonly isComplete: boolean;
  /** Why there could be more, for people. */
  readonly notes: readonly string[];
}

/** slurmd keeps it in its spool (measured, 20.11 to 26.05): a folder without it and without sockets is no spool. */
const slurmdsFile = 'cred_state';

export class JobSockets {
  readonly #node: SlurmNode;
  readonly #found = new Map<string, Promise<FoundSockets>>();

  constructor(node: SlurmNode) {
    this.#node = node;
  }

  /** Of all steps of a job, the extern step first; of all jobs of its node where its id is not known. */
  async of(job: Pick<Job, 'jobId' | 'nodeName'>): Promise<FoundSockets> {
    const found = await this.#ofNode(job);
    const own = job.jobId === undefined ? found.sockets : found.sockets.filter(({ jobId }) => jobId === job.jobId);
    return {
      ...found,
      sockets: [...own].sort((a, b) => Number(b.stepId === 'extern') - Number(a.stepId === 'extern')),
    };
  }

  /** Of the extern step of one job. A spool is not listed for it: that takes the longer, the more jobs are here. */
  async ofExtern(job: { readonly jobId: number; readonly nodeName?: string }): Promise<FoundSockets> {
    const { host } = this.#node;
    const sockets = this.#spoolsOf(job).map(([nodeName, spool]) =>
      socketOf(spool, { nodeName, jobId: job.jobId, stepId: 'extern' }),
    );
    try {
      const there = sockets.filter(({ folder, name }) => host.stat(`${folder}/${name}`) !== undefined);
      if (there.length > 0) return { sockets: there, trusted: await this.#trusted(there), isComplete: true, notes: [] };
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
      return { sockets: [], trusted: rootOwns, isComplete: false, notes: [error.message] };
    }
    const found = await this.of(job);
    return { ...found, sockets: found.sockets.filter(({ stepId }) => stepId === 'extern') };
  }

  /** Of the tree of a node whose name is not known, each spool here can be the one. */
  #spoolsOf(job: Pick<Job, 'nodeName'>): readonly (readonly [nodeName: string, spool: string])[] {
    const nodeName = job.nodeName ?? this.#node.nodeName;
    return [...this.#node.spools].filter(([name]) => nodeName === undefined || name === nodeName);
  }

  #ofNode(job: Pick<Job, 'nodeName'>): Promise<FoundSockets> {
    const key = job.nodeName ?? '';
    const found = this.#found.get(key) ?? this.#look(job);
    this.#found.set(key, found);
    return found;
  }

  async #look(job: Pick<Job, 'nodeName'>): Promise<FoundSockets> {
    const { host } = this.#node;
    try {
      const spools = this.#spoolsOf(job);
      const sockets = spools.flatMap(([nodeName, spool]) => socketsInSpool(host, spool, { nodeName }));
      const isSlurmds = ([, spool]: readonly [string, string]) => host.stat(`${spool}/${slurmdsFile}`) !== undefined;
      if (sockets.length > 0 || (spools.length > 0 && spools.every(isSlurmds)))
        return { sockets, trusted: await this.#trusted(sockets), isComplete: true, notes: [] };
      return await this.#listening(job);
    } catch (error) {
      if (!(error instanceof SlurmCgroupsError)) throw error;
      return { sockets: [], trusted: rootOwns, isComplete: false, notes: [error.message] };
    }
  }

  async #listening(job: Pick<Job, 'nodeName'>): Promise<FoundSockets> {
    const nodeName = job.nodeName ?? this.#node.nodeName;
    const trusted = this.#node.configuration?.slurmUser === undefined ? rootOwns : await trustedOwners(this.#node);
    try {
      const found = listeningSockets(this.#node.host, { ...defined({ nodeName }), trusted });
      return { ...found, trusted, isComplete: false };
    } catch (error) {
      if (!hasCode(error, 'ERR_NOT_RECORDED', 'ERR_NOT_FOUND')) throw error;
      return { sockets: [], trusted, isComplete: false, notes: ['what listens here cannot be read'] };
    }
  }

  /** Who SlurmUser is may have to be asked over the network: only where a folder is not root's. */
  async #trusted(sockets: readonly StepSocket[]): Promise<TrustedOwners> {
    const folders = new Set(sockets.map(({ folder }) => folder));
    const owners = [...folders].map((folder) => this.#node.host.stat(folder)?.uid);
    return owners.every((uid) => uid === undefined || rootOwns.has(uid)) ? rootOwns : trustedOwners(this.#node);
  }
}
