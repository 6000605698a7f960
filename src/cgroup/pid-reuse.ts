// A pid is written as a number, and the kernel looks it up only after it has waited for a lock (8 ms and more): if the
// process ends meanwhile and its number is given away, a stranger is moved in its place. It is looked for, put back and
// reported.

import { ifThere, quote, SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { Cgroup, holdCgroup, writeProcess } from './cgroup.js';
import { hierarchyKey, type Membership } from './membership.js';
import { type CgroupPath, pathBelow } from './path.js';
import { type HeldProcess, holdProcess, type ProcessIdentity } from './process.js';

/**
 * Looks whether the number of a process that has ended is another's by now, which stands in one of the cgroups that the
 * number was written to without having been born there, and puts that one back to where its parent is.
 *
 * @param below whether it may stand below one of them: another program was told the number, and has leaves of its own.
 * @param shared whether others put processes there too: one that stands there in another hierarchy was put there by them.
 * @returns sentences for an administrator, one for each such cgroup; none where no stranger was moved.
 */
export async function putBackStranger(
  host: Host,
  ended: ProcessIdentity,
  {
    written,
    below = false,
    shared = false,
  }: { readonly written: readonly Cgroup[]; readonly below?: boolean; readonly shared?: boolean },
): Promise<readonly string[]> {
  const stranger = ifThere(() => holdProcess(host, ended.pid));
  if (stranger === undefined) return [];
  try {
    if (stranger.startTime === ended.startTime) return [];
    const said: string[] = [];
    for (const cgroup of written) {
      const home = homeOf(host, stranger, { cgroup, written, below, shared });
      if (home === undefined) continue;
      const { comm } = stranger.stat();
      const who = `its pid is that of ${comm} (uid ${stranger.status().uids[0]}) now, which was moved in its place into ${quote(cgroup.directory)}`;
      said.push(`${who}: ${await putBack(host, stranger, { cgroup, home })}`);
    }
    return said;
  } catch (error) {
    if (error instanceof SlurmCgroupsError)
      return [`its pid may be that of another process now, which cannot be looked at: ${error.message}`];
    throw error;
  } finally {
    stranger.close();
  }
}

interface Question {
  readonly cgroup: Cgroup;
  readonly written: readonly Cgroup[];
  readonly below: boolean;
  readonly shared: boolean;
}

/** Where the stranger was born; `undefined`: it is not in that cgroup, or it was born there. */
function homeOf(
  host: Host,
  stranger: HeldProcess,
  { cgroup, written, below, shared }: Question,
): CgroupPath | 'unknown' | undefined {
  const memberships = stranger.memberships();
  const isInside = (path: CgroupPath | undefined) =>
    path === cgroup.path || (below && path !== undefined && pathBelow(path, cgroup.path) !== undefined);
  const { key } = cgroup.hierarchy;
  if (!isInside(pathIn(memberships, key))) return undefined;
  if (shared && memberships.some(({ controllers, path }) => hierarchyKey(controllers) !== key && isInside(path)))
    return undefined;
  const { ppid } = stranger.stat();
  const parent = ppid > 1 ? ifThere(() => holdProcess(host, ppid)) : undefined;
  if (parent !== undefined) {
    try {
      const path = ifThere(() => pathIn(parent.memberships(), cgroup.hierarchy.key));
      if (path !== undefined) return isInside(path) ? undefined : path;
    } finally {
      parent.close();
    }
  }
  // Its parent has ended. A hierarchy that was not written to tells whether it was born in this cgroup.
  const keys = new Set(written.map((one) => one.hierarchy.key));
  const others = memberships.filter(({ controllers }) => !keys.has(hierarchyKey(controllers)));
  return others.some(({ path }) => isInside(path)) || others.length === 0 ? undefined : 'unknown';
}

async function putBack(
  host: Host,
  stranger: HeldProcess,
  { cgroup, home }: { readonly cgroup: Cgroup; readonly home: CgroupPath | 'unknown' },
): Promise<string> {
  if (home === 'unknown') return 'it stays there, since its parent has ended and where it was is not known';
  try {
    const target = holdCgroup(host, new Cgroup(host, cgroup.hierarchy, home));
    try {
      await writeProcess(host, target, stranger);
    } finally {
      target.close();
    }
    return `put back into ${quote(home)}`;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return `it stays there: ${error.message}`;
    throw error;
  }
}

function pathIn(memberships: readonly Membership[], key: string): CgroupPath | undefined {
  return memberships.find(({ controllers }) => hierarchyKey(controllers) === key)?.path;
}
