// The living children of a process, and theirs, until no new one appears: which there are, and which of them may be
// moved. How one is moved is the caller's.

import { hasCode, isGone, SlurmCgroupsError } from '../cgroup/errors.js';
import { endOf, hasEnded } from '../cgroup/move.js';
import { childrenOf, type HeldProcess, holdProcess } from '../cgroup/process.js';
import type { SlurmNode } from '../jobs/node.js';
import { refusalToMove } from '../jobs/protected.js';

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

/**
 * Children that were there before: those made later are born in the job. A child of another user, a setuid
 * program and whatever else is never moved stays, and the trace says so.
 */
export async function moveDescendants(descent: Descent): Promise<SlurmCgroupsError | undefined> {
  const { node, until, family } = descent;
  const seen = new Set<number>(family.map((one) => one.pid));
  for (let moved = true; moved; ) {
    moved = false;
    // The list grows while it is walked: the children of a child are looked at in the same round. A round in which
    // all that was new had been born in the job is the last: such children may come for ever.
    for (const parent of family) {
      if (node.host.now() > until)
        return new SlurmCgroupsError('ERR_TIMEOUT', 'New children kept appearing until the deadline');
      for (const pid of childrenIfThere(node, parent)) {
        if (seen.has(pid)) continue;
        seen.add(pid);
        const outcome = await moveChild(descent, pid);
        if (outcome instanceof SlurmCgroupsError) return outcome;
        if (outcome === 'gone') seen.delete(pid); // if it is listed again, it is there
        moved = moved || outcome === 'moved' || outcome === 'gone';
      }
    }
  }
  return undefined;
}

/** `stays`: nothing to be moved, also of one whose parent has not asked for its exit code yet; or the first error. */
async function moveChild(
  { node, uid, family, move, say }: Descent,
  pid: number,
): Promise<SlurmCgroupsError | 'moved' | 'already' | 'stays' | 'gone'> {
  let held: HeldProcess;
  try {
    held = holdProcess(node.host, pid);
  } catch (error) {
    return endedOr(error);
  }
  try {
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
