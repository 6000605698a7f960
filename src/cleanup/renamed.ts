// Where the cgroups of a job are that were renamed while it was ended (v1: root can rename a job's, cgroups(7) says
// nothing of it): what is in them is out of reach by their old names, and must not be passed over in silence.

import type { Cgroup } from '../cgroup/cgroup.js';
import { directoryOf } from '../cgroup/hierarchies.js';
import { type Member, MemberReader } from '../cgroup/killing.js';
import { hierarchyKey } from '../cgroup/membership.js';
import { type CgroupPath, parentPath, rootPath } from '../cgroup/path.js';
import { isDead } from '../cgroup/process-end.js';
import { ifReadable } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import type { CleanReport } from './report.js';

/**
 * Follows those members that live to where they are now.
 *
 * @param inodes of the job's cgroups, as they were when its members were listed.
 */
export function renamedCgroups(
  host: Host,
  members: readonly Member[],
  inodes: ReadonlyMap<Cgroup, bigint>,
): CleanReport['left'] {
  const left = new Map<string, string>();
  const reader = new MemberReader(host);
  for (const member of members) {
    if (isDead(host, member)) continue;
    const now = ifReadable(() => reader.read(member.pid, member.seenIn));
    if (now?.startTime !== member.startTime) continue;
    for (const [cgroup, inode] of inodes) {
      const { hierarchy } = cgroup;
      const place = now.memberships.find(({ controllers }) => hierarchyKey(controllers) === hierarchy.key)?.path;
      for (let path: CgroupPath | undefined = place; path !== undefined && path !== rootPath; path = parentPath(path)) {
        const directory = directoryOf(hierarchy, path);
        if (directory === undefined || directory === cgroup.directory) break;
        if (ifReadable(() => host.stat(directory))?.ino !== inode) continue;
        left.set(directory, `it was "${cgroup.directory}" and was renamed meanwhile: what is in it was not ended`);
        break;
      }
    }
  }
  return [...left].map(([path, why]) => ({ path, why }));
}
