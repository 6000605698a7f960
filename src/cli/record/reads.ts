// Reads all that the read-only commands would read on this node, through a host that plays what was recorded so far and
// asks for the rest: so the commands find each answer again, though processes came and went meanwhile. A read that fails
// is recorded too ("gone"), and is no error here.

import { decideSession } from '../../adopt/session.js';
import { childrenOf, listPids, withProcess } from '../../cgroup/process.js';
import { cleanJob } from '../../cleanup/ending.js';
import { findStrays } from '../../cleanup/strays/find.js';
import { findOutside } from '../../cleanup/strays/outside.js';
import { discoverJobs } from '../../jobs/discovery.js';
import type { Job } from '../../jobs/job.js';
import { directoryNameOf } from '../../jobs/layout.js';
import { isJobLiving } from '../../jobs/living.js';
import type { SlurmNode } from '../../jobs/node.js';
import { findOwners } from '../../jobs/owners/find.js';
import { limitsOf, processSeen, seenOfStep, usageOf } from '../../jobs/processes.js';
import { findSlurmd, refusalToMove } from '../../jobs/protected.js';
import { isSuspended } from '../../jobs/suspension.js';
import { verify } from '../../jobs/verification.js';
import { deadlineIn } from '../../machine/deadline.js';
import { SlurmCgroupsError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import { Pace } from '../../machine/pace.js';
import { recordingHost } from '../../machine/recording.js';
import { defaultOptions } from '../../policy/options.js';
import { redactedLine, stepdTitle } from './redaction.js';

/** So long processes are looked at one by one, those of jobs first; a recording says by itself what it does not hold. */
const budgetMs = 20_000;

/**
 * list, verify, adopt --dry-run, clean --dry-run, strays, and what jobs use and what limits them; doctor's own reads are
 * its own. `node` is read by a completingHost: it calls itself a recording, so no slurmstepd is asked, and just that is read
 * which is read when it is played.
 */
export async function readForRecording(node: SlurmNode, uids: ReadonlySet<number>): Promise<void> {
  const { host } = node;
  const deadline = deadlineIn(host, budgetMs);
  const options = { ...defaultOptions, waitForJobMs: 0 };
  await tried(() => findSlurmd(host));
  await tried(() => verify('self', { node }));
  await tried(() => findStrays({ node }));
  await tried(() => findOutside({ node }));
  // With the times that only some ranks need.
  const jobs = (await tried(() => findOwners(discoverJobs(node, { jobTimes: true }), { node }))) ?? [];
  for (const uid of new Set([...uids, ...jobs.flatMap((job) => job.uid ?? [])]))
    await tried(() => decideSession({ uid }, { node, options }));
  const ofJobs = new Map<number, number | undefined>();
  for (const job of jobs) {
    for (const pid of await pidsOf(node, job)) ofJobs.set(pid, job.uid);
    await tried(() => isJobLiving(node, job, { deadline: deadlineIn(host, budgetMs) }));
    const name = directoryNameOf(job);
    if (name !== undefined) await tried(() => cleanJob(name, { node, dryRun: true, force: true }));
    await tried(() => usageOf(job, { node }));
    await tried(() => limitsOf(job, { node }));
    await tried(() => isSuspended(node, job));
  }
  const others = ((await tried(() => listPids(host))) ?? []).filter((pid) => !ofJobs.has(pid));
  for (const pid of [...ofJobs.keys(), ...others]) {
    if (deadline.isOver()) return;
    await tried(() => verify(pid, { node }));
    await tried(() =>
      withProcess(host, pid, async (held) => {
        await childrenOf(host, held, new Pace(host, deadline));
        return refusalToMove(node, held, { uid: ofJobs.get(pid) ?? held.status().uids[1], deadline });
      }),
    );
  }
}

async function pidsOf(node: SlurmNode, job: Job): Promise<readonly number[]> {
  const pids = new Set<number>();
  for (const step of job.steps)
    for (const { pid } of (await tried(() => seenOfStep(node, step)))?.all ?? []) pids.add(pid);
  for (const pid of pids) processSeen(node.host, pid);
  return [...pids];
}

async function tried<T>(act: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof SlurmCgroupsError || error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The users of the processes that a recording holds. */
export function uidsIn(lines: readonly string[]): ReadonlySet<number> {
  const uids = new Set<number>();
  for (const line of lines) {
    if (!line.startsWith('{"read":"/proc/') || !line.includes('/status"')) continue;
    for (const [, ...found] of line.matchAll(/\\nUid:\\t(\d+)\\t(\d+)\\t(\d+)\\t(\d+)\\n/g))
      for (const uid of found) uids.add(Number(uid));
  }
  return uids;
}

/** A host that keeps what it is asked, and what of it may be handed on. */
export function recorder(host: Host, lines: string[]): Host {
  const keep = (line: string) => {
    const redacted = redactedLine(line);
    if (redacted !== undefined) lines.push(redacted);
  };
  return recordingHost(keepingTitles(host, keep), keep); // whose header comes first: nothing was read before it
}

/**
 * The same host; the title that slurmstepd gives itself is kept, by which the job of a directory named by SLUID is
 * known. A recording holds no other command line, and this one is kept only where there is nothing else in it.
 */
export function keepingTitles(host: Host, keep: (line: string) => void): Host {
  const kept = new Set<string>();
  return {
    ...host,
    open: (where) => {
      const held = host.open(where);
      return {
        ...held,
        read: (name) => {
          const text = held.read(name);
          const file = `${where}/${name}`;
          if (name === 'cmdline' && stepdTitle.test(text) && !kept.has(file)) {
            kept.add(file);
            keep(JSON.stringify({ read: file, text }));
          }
          return text;
        },
      };
    },
  };
}
