// Gathers one fact when policy asks for it. What cannot be found out is an unknown with its reason, never a
// "no": the decision then says what follows.

import { SlurmCgroupsError } from '../cgroup/errors.js';
import { frozenAt } from '../cgroup/freezer.js';
import { Cgroup } from '../cgroup/cgroup.js';
import { cgroupAt } from '../cgroup/hierarchies.js';
import { cgroupPath } from '../cgroup/path.js';
import { discoverJobs } from '../jobs/discovery.js';
import type { Job } from '../jobs/job.js';
import type { SlurmNode } from '../jobs/node.js';
import { findOwners } from '../jobs/owners.js';
import type { AdoptionFacts, AdoptionRequest, Fact, FactName, JobState, NodeFact } from '../policy/facts.js';

/** The same facts with one more: the answer to `{ action: 'ask', fact }`. */
export function withFact(facts: AdoptionFacts, name: FactName, source: { readonly node: SlurmNode; readonly request: AdoptionRequest }): AdoptionFacts {
  switch (name) {
    case 'node':
      return { ...facts, node: { known: nodeFact(source.node) } };
    case 'jobs':
      return { ...facts, ...jobsFact(source.node, source.request.uid) };
    case 'callerId':
      return { ...facts, callerId: { unknown: 'no connection was given' } };
    case 'preference':
      return { ...facts, preference: { unknown: 'no choice was given' } };
  }
}

function nodeFact(node: SlurmNode): NodeFact {
  if (node.evidence === undefined) return { isSlurmNode: false, why: 'it has neither a cgroup of Slurm nor a spool of slurmd' };
  const version = node.tops[0]?.version ?? (node.hierarchies.mode === 'unified' ? 2 : 1);
  return { isSlurmNode: true, nodeName: node.nodeName ?? '', cgroupVersion: version };
}

function jobsFact(node: SlurmNode, uid: number): { readonly jobs: Fact<readonly Job[]>; readonly states?: readonly JobState[] } {
  try {
    const jobs = findOwners(discoverJobs(node, { uid }), { node }).filter((job) => job.uid === undefined || job.uid === uid);
    return { jobs: { known: jobs }, states: jobs.flatMap((job) => stateOf(node, job) ?? []) };
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return { jobs: { unknown: error.message } };
    throw error;
  }
}

function stateOf(node: SlurmNode, job: Job): JobState | undefined {
  if (job.extern === undefined) return { job, state: 'starting' };
  const frozen = job.extern.cgroups.some((cgroup) => {
    const hierarchy = node.hierarchies.get(cgroup.hierarchy);
    return hierarchy !== undefined && frozenAt(node.host, new Cgroup(node.host, hierarchy, cgroupPath(cgroupAt(hierarchy, cgroup.path)))) !== undefined;
  });
  return frozen ? { job, state: 'suspended' } : undefined;
}
