// Ending everybody in a job's cgroups and removing those: again where somebody came in after the last was ended,
// by a move from outside or a login. Who is spared, and which cgroup is not the one that was meant, the caller says.

import type { Cgroup } from '../cgroup/cgroup.js';
import { CgroupSet } from '../cgroup/cgroup-set.js';
import { type KillReport, killMembers, type Member, signalMembers } from '../cgroup/killing.js';
import { type Removal, removeTrees } from '../cgroup/removal.js';
import { defined } from '../machine/defined.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';

const lookMs = 20;

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
  const asked = await signalMembers(host, cgroups, 'SIGTERM', options.spare);
  await signalMembers(host, cgroups, 'SIGCONT', options.spare);
  const deadline = host.now() + options.graceMs;
  while (host.now() < deadline && membersIn(host, cgroups).some((member) => options.spare(member) === undefined)) {
    await host.sleep(Math.min(lookMs, options.graceMs), options.signal);
  }
  return asked;
}

export interface EmptyingOptions {
  /** Why a member is left alone. */
  readonly spare: (member: Member) => string | undefined;
  /** Why one of the cgroups is left alone: it is another than was meant. */
  readonly madeAnew: (top: Cgroup) => string | undefined;
  /** For each killing, and for each removal. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** How often those are ended, too, who came in after nobody was left: somebody outside may move them in for ever. */
const killings = 3;

/** Ends the members of the cgroups and removes them; who came in between the two is ended as well. */
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
    const cameIn = () => membersIfReadable(host, cgroups).some((member) => spare(member) === undefined);
    const removal = await removeTrees(host, cgroups, {
      ...bounds,
      spare: madeAnew,
      ...(killed.remaining.length > 0 ? { timeoutMs: 0 } : {}),
      ...(killing < killings ? { isHopeless: cameIn } : {}),
    });
    removed.push(...removal.removed);
    const isDone = removal.left.length === 0 || killed.remaining.length > 0 || killing === killings || !cameIn();
    if (isDone) return { killed, removal: { removed, left: removal.left } };
  }
}

/** What cannot be read now ends nobody, and the removal says what is left. */
function membersIfReadable(host: Host, cgroups: readonly Cgroup[]): readonly Member[] {
  try {
    return membersIn(host, cgroups);
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
  };
}

/** Who is in the cgroups or below, spared or not. */
export function membersIn(host: Host, cgroups: readonly Cgroup[]): readonly Member[] {
  return new CgroupSet(host, cgroups).members();
}
