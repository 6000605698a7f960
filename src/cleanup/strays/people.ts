// Whose processes can be strays: people's. Never those of root, nobody, system accounts, or of services
// that systemd runs for the machine, nor Slurm's own.

import type { Membership } from '../../cgroup/membership.js';
import { partsOf } from '../../cgroup/path.js';
import type { SlurmNode } from '../../jobs/node.js';
import { uidsOfSlurm } from '../../jobs/stepd/trusted-users.js';
import { quote } from '../../machine/errors.js';

export interface DaemonUsers {
  readonly uids: ReadonlySet<number>;
  /** Those whose uid is not known. */
  readonly notes: readonly string[];
}

/**
 * Whom Slurm's daemons run as. Their account is no person's, though its uid may be above UID_MIN (64030 on Debian, any
 * in LDAP), and they can run outside a service: slurmctld from a shell, a high-availability manager, a container.
 */
export async function daemonUsers(node: Pick<SlurmNode, 'host' | 'configuration'>): Promise<DaemonUsers> {
  const { uids, unknown } = await uidsOfSlurm(node, ['slurmUser', 'slurmdUser']);
  const notes = unknown.map(({ user, why }) =>
    why === undefined
      ? `${quote(user)} runs Slurm, but its uid is not known: its processes may be among the strays`
      : `${quote(user)} runs Slurm, and its processes may be among the strays: ${why}`,
  );
  return { uids, notes };
}

/** Places of containers that the machine itself runs: kubelet's pods, systemd's machines, LXC's payloads. */
const ofContainers = /^(?:kubepods(?:[-.].*)?|machine\.slice|lxc\.payload(?:\..*)?|lxc)$/;

/** The container of the machine's own that a process is in: by the first names of its path, which users cannot make. */
export function containerOf(memberships: readonly Membership[]): string | undefined {
  for (const { path } of memberships) {
    const [first = '', second = ''] = partsOf(path);
    const name = [first, first === 'kubelet.slice' || first === 'kubelet' ? second.replace(/^kubelet-/, '') : ''].find(
      (one) => ofContainers.test(one),
    );
    if (name !== undefined) return name;
  }
  return undefined;
}

/**
 * Services in which what people start stands: slurmd's (name=systemd on v1, also what a job left behind), sshd's and
 * login's where pam_systemd is off, as Slurm asks, and those of timed jobs.
 */
const forPeople = /^(?:slurmd|sshd?|crond?|atd|getty|serial-getty|console-getty|autovt)(?:@.*)?\.service$/;

/** Whether a process stands where people's sessions and what they start stand. */
export function isPeoplesPlace(memberships: readonly Membership[]): boolean {
  return memberships.some(({ path }) => {
    const [slice, ...below] = partsOf(path);
    return slice === 'user.slice' || (slice === 'system.slice' && below.some((name) => forPeople.test(name)));
  });
}

/** The unit of the machine's own that a process belongs to: below system.slice, in systemd's tree or on v2. */
export function serviceOf(memberships: readonly Membership[]): string | undefined {
  for (const { controllers, path } of memberships) {
    if (controllers.length > 0 && !controllers.includes('name=systemd')) continue;
    const [slice, ...below] = partsOf(path);
    if (slice !== 'system.slice') continue;
    const unit = below.find((name) => name.endsWith('.service'));
    if (unit !== undefined && !forPeople.test(unit)) return unit;
  }
  return undefined;
}
