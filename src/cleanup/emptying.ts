// Ending all processes in a job's cgroups and removing those: again where a process came in after the last was ended,
// by a move from outside or a login. The caller says what is spared, and which cgroup is another than it was.

import type { Cgroup } from '../cgroup/cgroup.js';
import { CgroupSet, type Seen } from '../cgroup/cgroup-set.js';
import { type KillReport, killMembers, type Member, signalMembers } from '../cgroup/killing.js';
import { type Removal, removeTrees } from '../cgroup/removal.js';
import { type Deadline, deadlineIn } from '../machine/deadline.js';
import { defined } from '../machine/defined.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { Pace } from '../machine/pace.js';

const lookMs = 20;

/** To send the signals, also where the grace is short. */
const leastAskingMs = 1000;

/** SIGTERM, and SIGCONT for those that are stopped; then waits until they are gone or the grace is over. */
export async function askToEnd(
  host: Host,
  cgroups: readonly Cgroup[],
  options: {
    readonly spare: (member: Member) => string | undefined;
    readonly graceMs: number;
    readonly signal?: AbortSignal;
  },
): Promise<readonly Member[]> {
  const { spare, graceMs, signal } = options;
  const asking = deadlineIn(host, Math.max(graceMs, leastAskingMs), signal);
  const asked = await signalMembers(host, cgroups, 'SIGTERM', spare, asking);
  await signalMembers(host, cgroups, 'SIGCONT', spare, asking);
  const grace = deadlineIn(host, graceMs, signal);
  while (!grace.isOver() && (await membersIn(host, cgroups, grace)).all.some((member) => spare(member) === undefined)) {
    await host.sleep(Math.min(lookMs, graceMs), signal);
  }
  return asked;
}

export interface EmptyingOptions {
  /** Why a member is left alone. */
  readonly spare: (member: Member) => string | undefined;
  /** Why one of the cgroups is left alone: it is another than it was. */
  readonly madeAnew: (top: Cgroup) => string | undefined;
  /** For each killing, and for each removal. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** How often those are ended, too, that came in after none was left: others may move them in for ever. */
const killings = 3;

/** Ends the members of the cgroups and removes them; what came in between the two is ended as well. */
export async function emptyAndRemove(
  host: Host,
  cgroups: readonly Cgroup[],
  { spare, madeAnew, timeoutMs, signal }: EmptyingOptions,
): Promise<{ readonly killed: KillReport; readonly removal: Removal }> {
  const bounds = { timeoutMs, ...defined({ signal }) };
  const removed: string[] = [];
  let killed: KillReport | undefined;
  for (let killing = 1; ; killing++) {
    killed = joined(killed, await killMembers(host, cgroups, { spare, ...bounds }));
    const cameIn = async () => {
      const members = await membersIfReadable(host, cgroups, deadlineIn(host, timeoutMs, signal));
      return members.some((member) => spare(member) === undefined);
    };
    const removal = await removeTrees(host, cgroups, {
      ...bounds,
      spare: madeAnew,
      ...(killed.remaining.length > 0 ? { timeoutMs: 0 } : {}),
      ...(killing < killings ? { isHopeless: cameIn } : {}),
    });
    removed.push(...removal.removed);
    const isDone =
      removal.left.length === 0 || killed.remaining.length > 0 || killing === killings || !(await cameIn());
    if (isDone) return { killed, removal: { removed, left: removal.left } };
  }
}

/** What cannot be read now ends no process, and the removal says what is left. */
async function membersIfReadable(
  host: Host,
  cgroups: readonly Cgroup[],
  deadline: Deadline,
): Promise<readonly Member[]> {
  try {
    return (await membersIn(host, cgroups, deadline)).all;
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return [];
    throw error;
  }
}

function joined(first: KillReport | undefined, then: KillReport): KillReport {
  if (first === undefined) return then;
  return {
    ended: [...first.ended, ...then.ended],
    remaining: then.remaining,
    spared: [...new Map([...first.spared, ...then.spared].map((one) => [one.member.pid, one])).values()],
    thawed: [...new Set([...first.thawed, ...then.thawed])],
    rounds: first.rounds + then.rounds,
    ...(then.unknown === undefined ? {} : { unknown: then.unknown }),
  };
}

/** Who is in the cgroups or below, spared or not, as far as the time allows. */
export async function membersIn(host: Host, cgroups: readonly Cgroup[], deadline: Deadline): Promise<Seen<Member>> {
  return new CgroupSet(host, cgroups).listMembers({ pace: new Pace(host, deadline) });
}
