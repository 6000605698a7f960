// The living children of a process, and theirs, until no new one appears: which there are, and which of them may be
// moved. How one is moved is the caller's.

import { endOf, hasEnded } from '../cgroup/move.js';
import { allChildren, childrenOf, type HeldProcess, holdProcess } from '../cgroup/process.js';
import type { SlurmNode } from '../jobs/node.js';
import { refusalToMove } from '../jobs/protected.js';
import { hasCode, isGone, SlurmCgroupsError } from '../machine/errors.js';

export interface Descent {
  readonly node: SlurmNode;
  readonly uid: number;
  /** By the host's clock. */
  readonly until: number;
  /** The process whose children are wanted, then whoever `move` has added. */
  readonly family: readonly HeldProcess[];
  /** Adds one to the family, which is then the caller's to close, and moves it: whether it stood elsewhere before. */
  readonly move: (held: HeldProcess) => Promise<SlurmCgroupsError | 'moved' | 'already'>;
  /** A line for an administrator. */
  readonly say: (line: string) => void;
}

/** Rounds one after the other in which nobody was outside, though some had ended before they could be looked at. */
const quietRounds = 5;

/**
 * Children that were there before: those made later are born in the job. A child of another user, a setuid
 * program and whatever else is never moved stays, and the trace says so.
 *
 * A process's own list of its children can lack one while others end (measured: with a loop that forks, up to 12 stayed
 * outside). So where there are any the rounds after the first go by the list of all processes, until one meets nobody
 * outside. Children that come and go without a pause (a build, a test suite) may do so for ever, and where one was that
 * had ended before it was looked at is not known. It is nowhere now, and its parent bears in the job; but outside there
 * can be a child of its own, which has another parent since. The next round finds it, unless it has ended in turn, having
 * started one more: whoever makes such chains (below a child subreaper) is ahead of every list. So such rounds are few,
 * and where they did not end by themselves, that is said.
 */
export async function moveDescendants(descent: Descent): Promise<SlurmCgroupsError | undefined> {
  const seen = new Set<number>(descent.family.map((one) => one.pid));
  const first = await moveRound(descent, seen);
  if (first instanceof SlurmCgroupsError) return first;
  for (let quiet = 0; first.anybody && quiet < quietRounds; ) {
    const met = await moveRound(descent, seen, allChildren(descent.node.host));
    if (met instanceof SlurmCgroupsError) return met;
    if (!met.outside && !met.gone) break;
    quiet = met.outside ? 0 : quiet + 1;
    if (quiet === quietRounds)
      descent.say(
        'children came and went faster than they could be looked at: some of theirs may be outside of the job',
      );
  }
  return undefined;
}

/** Whom a round met. */
interface Met {
  readonly anybody: boolean;
  /** Somebody was moved. */
  readonly outside: boolean;
  /** Somebody had ended. */
  readonly gone: boolean;
}

async function moveRound(
  descent: Descent,
  seen: Set<number>,
  all?: ReadonlyMap<number, readonly number[]>,
): Promise<Met | SlurmCgroupsError> {
  const { node, until, family } = descent;
  let [anybody, outside, gone] = [false, false, false];
  // The family grows while it is walked: the children of a child are looked at in the same round.
  for (const parent of family) {
    if (node.host.now() > until)
      return new SlurmCgroupsError('ERR_TIMEOUT', 'Children outside of the job kept appearing until the deadline');
    for (const pid of all === undefined ? childrenIfThere(node, parent) : (all.get(parent.pid) ?? [])) {
      anybody = true;
      if (seen.has(pid)) continue;
      seen.add(pid);
      const outcome = await moveChild(descent, parent, pid);
      if (outcome instanceof SlurmCgroupsError) return outcome;
      if (outcome === 'gone') seen.delete(pid); // if it is listed again, it is there
      outside ||= outcome === 'moved';
      gone ||= outcome === 'gone';
    }
  }
  return { anybody, outside, gone };
}

/** `stays`: nothing to be moved, also of one whose parent has not asked for its exit code yet; or the first error. */
async function moveChild(
  { node, uid, family, move, say }: Descent,
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
    // Since it was listed its pid, or its parent's, may have become a stranger's; or it has another parent now.
    if (held.stat().ppid !== parent.pid || hasEnded(parent)) {
      held.close();
      return 'gone';
    }
    if (endOf(held) !== undefined) {
      held.close();
      return 'stays';
    }
    const refusal = refusalToMove(node, held, uid);
    if (refusal !== undefined) {
      say(`its child ${pid} (${held.stat().comm}) stays where it is: it ${refusal}`);
      held.close();
      return 'stays';
    }
    const outcome = await move(held);
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

function childrenIfThere(node: SlurmNode, parent: HeldProcess): readonly number[] {
  try {
    return childrenOf(node.host, parent);
  } catch (error) {
    if (!isGone(error)) throw error;
    // Where it has ended, its children belong to another parent now, and are seen there or not at all.
    return hasEnded(parent) ? [] : childrenOf(node.host, parent);
  }
}
