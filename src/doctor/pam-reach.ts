// For whom a stack of PAM reaches the modules that adopt, and whether their refusal counts: the stack is walked with
// every answer that its modules may give. Pure.

import { answersToTry, expectedAnswer, type UserKind } from './pam-answers.js';
import { type PamAnswer, type PamVisit, type PamWalk, walkPamStack } from './pam-control.js';
import type { PamLine } from './pam-stack.js';

export interface ReachOptions {
  readonly kind: UserKind;
  readonly isAdopter: (line: PamLine) => boolean;
  /** Its file does not exist: PAM goes on with `module_unknown`. */
  readonly isMissing: (line: PamLine) => boolean;
  /** Its failure refuses the login: account. sshd goes on where the session phase fails. */
  readonly refuses: boolean;
}

/** What one type of a stack does with the users of a kind that get in. */
export interface Reach {
  /** `refused`: none of them gets in. `never`: they get in, but no adopter is reached. */
  readonly adopter: 'all' | 'some' | 'never' | 'refused';
  /** The lines at which users get past the adopter. */
  readonly past: readonly PamLine[];
  /** An adopter that refuses keeps out none of those that it would let in. */
  readonly refusalIgnored: boolean;
}

/** So many lists of a site are tried with both answers; with further ones users just go on. */
const maxChosen = 10;

export function reachOf(stack: readonly PamLine[], options: ReachOptions): Reach {
  const past = new Set<PamLine>();
  let [reached, missed] = [0, 0];
  let ignored = true;
  for (const answers of assignments(stack, options)) {
    const walk = walkWith(stack, { ...options, answers, adopter: 'success' });
    if (options.refuses && !getsIn(walk)) continue;
    if (!walk.visits.some((visit) => isReached(visit, options))) {
      missed++;
      const by = walk.visits.findLast(({ action }) => action === 'done' || typeof action === 'number');
      if (by !== undefined) past.add(by.step);
      continue;
    }
    reached++;
    if (!getsIn(walkWith(stack, { ...options, answers, adopter: 'perm_denied' }))) ignored = false;
  }
  const adopter = reached === 0 ? (missed === 0 ? 'refused' : 'never') : missed === 0 ? 'all' : 'some';
  return { adopter, past: [...past], refusalIgnored: options.refuses && reached > 0 && ignored };
}

/** The lines that run for some user of a kind who gets in. */
export function linesRun(stack: readonly PamLine[], options: ReachOptions): ReadonlySet<PamLine> {
  const run = new Set<PamLine>();
  for (const answers of assignments(stack, options))
    for (const { step, answer } of walkWith(stack, { ...options, answers, adopter: 'success' }).visits)
      if (answer !== 'module_unknown') run.add(step);
  return run;
}

type Answers = ReadonlyMap<PamLine, PamAnswer>;

/** Every combination of what the modules may answer. */
function assignments(stack: readonly PamLine[], { kind, isAdopter, isMissing }: ReachOptions): readonly Answers[] {
  let all: readonly Answers[] = [new Map()];
  let chosen = 0;
  for (const line of stack) {
    if (line.kind !== 'module' || isAdopter(line)) continue;
    let answers: readonly PamAnswer[] = isMissing(line)
      ? ['module_unknown']
      : answersToTry(line, expectedAnswer(line, kind));
    if (answers.length > 1 && ++chosen > maxChosen) answers = answers.slice(0, 1);
    all = all.flatMap((before) => answers.map((answer) => new Map([...before, [line, answer]])));
  }
  return all;
}

interface Walking extends ReachOptions {
  readonly answers: Answers;
  readonly adopter: PamAnswer;
}

function walkWith(stack: readonly PamLine[], { answers, adopter, isAdopter, isMissing }: Walking): PamWalk<PamLine> {
  return walkPamStack(stack, (line) => {
    if (!isAdopter(line)) return answers.get(line) ?? 'success';
    return isMissing(line) ? 'module_unknown' : adopter;
  });
}

function isReached({ step }: PamVisit<PamLine>, { isAdopter, isMissing }: ReachOptions): boolean {
  return isAdopter(step) && !isMissing(step);
}

/** sshd lets a user in whose password has expired, to change it (auth-pam.c, do_pam_account). */
function getsIn({ status }: PamWalk<PamLine>): boolean {
  return status === 'success' || status === 'new_authtok_reqd';
}
