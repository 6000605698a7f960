// The living children of a process, and theirs, until no new one appears: finds them and says which may be moved. The
// caller moves them.

import { allChildren, childrenOf, type HeldProcess, holdProcess } from '../cgroup/process.js';
import { exitOf, isExiting } from '../cgroup/process-end.js';
import type { SlurmNode } from '../jobs/node.js';
import { refusalToMove } from '../jobs/protected.js';
import type { Deadline } from '../machine/deadline.js';
import { hasCode, isGone, SlurmCgroupsError } from '../machine/errors.js';
import { Pace } from '../machine/pace.js';

export interface Descent {
  readonly node: SlurmNode;
  readonly uid: number;
  readonly deadline: Deadline;
  /** The process whose children are wanted, then every process that `move` has added. */
  readonly family: readonly HeldProcess[];
  /**
   * Adds one to the family, which is then the caller's to close, and moves it: whether it stood elsewhere before. One
   * that `stays` is not added.
   */
  readonly move: (held: HeldProcess) => Promise<SlurmCgroupsError | 'moved' | 'already' | 'stays'>;
  /** A line for an administrator. */
  readonly say: (line: string) => void;
}

/** Rounds in a row in which no child was outside, though some had ended before they could be looked at. */
const quietRounds = 5;

/**
 * Moves the children that were there before; those made later are born in the job. A child of another user, a setuid
 * program, or any other process that is never moved stays, and the trace says so.
 *
 * While processes end, the kernel's list of one process's children can lack some that live (measured: with a loop that
 * forks, up to 12 stayed outside). So where there are children, the rounds after the first read the list of all
 * processes, until one round finds none outside. A process whose children come and go without a pause (a build, a test
 * suite) may go on for ever; and a child that had ended before it was looked at tells nothing. That child is nowhere
 * now, and its parent forks inside the job. But it may have left a child of its own outside, which has another parent
 * since. The next round finds that one, unless it too has ended and left another: a user who makes such chains (below a
 * child subreaper) is ahead of every list. So such rounds are few, and the trace says where they did not end by
 * themselves.
 */
export async function moveDescendants(descent: Descent): Promise<SlurmCgroupsError | undefined> {
  const seen = new Set<number>(descent.family.map((one) => one.pid));
  const { host } = descent.node;
  const pace = new Pace(host, descent.deadline);
  const first = await moveRound(descent, pace, seen);
  if (first instanceof SlurmCgroupsError) return first;
  for (let quiet = 0; first.any && quiet < quietRounds; ) {
    const found = await moveRound(descent, pace, seen, await allChildren(host, pace));
    if (found instanceof SlurmCgroupsError) return found;
    if (!found.outside && !found.gone) break;
    quiet = found.outside ? 0 : quiet + 1;
    if (quiet === quietRounds)
      descent.say(
        'child processes started and ended faster than they could be listed: some of their children may still be outside the job',
      );
  }
  return undefined;
}

/** What a round found. */
interface Found {
  /** There are children. */
  readonly any: boolean;
  /** A child was outside, and was moved. */
  readonly outside: boolean;
  /** A child had ended. */
  readonly gone: boolean;
}

async function moveRound(
  descent: Descent,
  pace: Pace,
  seen: Set<number>,
  all?: ReadonlyMap<number, readonly number[]>,
): Promise<Found | SlurmCgroupsError> {
  const { node, family } = descent;
  let [any, outside, gone] = [false, false, false];
  // The family grows while it is walked: the children of a child are looked at in the same round.
  for (const parent of family) {
    if (pace.isOver()) return tooMany();
    for (const pid of all === undefined ? await childrenIfThere(node, parent, pace) : (all.get(parent.pid) ?? [])) {
      any = true;
      if (seen.has(pid)) continue;
      if (pace.isDue()) await pace.pause();
      if (pace.isOver()) return tooMany();
      seen.add(pid);
      const outcome = await moveChild(descent, parent, pid);
      if (outcome instanceof SlurmCgroupsError) return outcome;
      if (outcome === 'gone') seen.delete(pid); // if it is listed again, it is there
      outside ||= outcome === 'moved';
      gone ||= outcome === 'gone';
    }
  }
  return { any, outside, gone };
}

function tooMany(): SlurmCgroupsError {
  return new SlurmCgroupsError(
    'ERR_TIMEOUT',
    'Not all child processes could be moved in time: there are many, or new ones kept appearing outside the job; --budget gives more time (half of it is kept for putting them back)',
  );
}

/** `stays`: not to be moved, or a zombie that its parent has not reaped yet. */
async function moveChild(
  { node, uid, deadline, family, move, say }: Descent,
  parent: HeldProcess,
  pid: number,
): Promise<SlurmCgroupsError | 'moved' | 'already' | 'stays' | 'gone'> {
  let held: HeldProcess;
  try {
    held = holdProcess(node.host, pid);
  } catch (error) {
    return endedOr(error);
  }
  try {
    // Since it was listed, its pid or its parent's can have become another process's; or it has another parent now.
    if (held.stat().ppid !== parent.pid || isExiting(parent)) {
      held.close();
      return 'gone';
    }
    if (exitOf(held) !== undefined) {
      held.close();
      return 'stays';
    }
    const refusal = await refusalToMove(node, held, { uid, deadline });
    if (refusal !== undefined) {
      say(`child process ${pid} (${held.stat().comm}) stays where it is: it ${refusal}`);
      held.close();
      return 'stays';
    }
    const outcome = await move(held);
    if (outcome === 'stays') held.close();
    return outcome instanceof SlurmCgroupsError ? endedOr(outcome) : outcome;
  } catch (error) {
    if (!family.includes(held)) held.close();
    return endedOr(error);
  }
}

function endedOr(error: unknown): SlurmCgroupsError | 'gone' {
  if (hasCode(error, 'ERR_NO_SUCH_PROCESS')) return 'gone'; // it ended between being listed and being moved
  if (error instanceof SlurmCgroupsError) return error;
  throw error;
}

async function childrenIfThere({ host }: SlurmNode, parent: HeldProcess, pace: Pace): Promise<readonly number[]> {
  try {
    return await childrenOf(host, parent, pace);
  } catch (error) {
    if (!isGone(error)) throw error;
    // If it has ended, its children have another parent now, and are found there or not at all.
    return isExiting(parent) ? [] : childrenOf(host, parent, pace);
  }
}
