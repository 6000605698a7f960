// How PAM combines what its modules answer: the control of each line, and the walk over a stack. Pure. Written after
// Linux-PAM 1.7 libpam/pam_misc.c (_pam_parse_control) and pam_dispatch.c (_pam_dispatch_aux).

/** What a module may answer, by PAM's words for it in a control (pam_tokens.h). */
// biome-ignore format: a list
export const pamAnswers = [
  'success', 'open_err', 'symbol_err', 'service_err', 'system_err', 'buf_err', 'perm_denied', 'auth_err',
  'cred_insufficient', 'authinfo_unavail', 'user_unknown', 'maxtries', 'new_authtok_reqd', 'acct_expired',
  'session_err', 'cred_unavail', 'cred_expired', 'cred_err', 'no_module_data', 'conv_err', 'authtok_err',
  'authtok_recover_err', 'authtok_lock_busy', 'authtok_disable_aging', 'try_again', 'ignore', 'abort',
  'authtok_expired', 'module_unknown', 'bad_item', 'conv_again', 'incomplete',
] as const;
export type PamAnswer = (typeof pamAnswers)[number];

const namedActions = ['ignore', 'ok', 'done', 'bad', 'die', 'reset'] as const;

/** What follows from an answer; a number skips as many modules. */
export type PamAction = (typeof namedActions)[number] | number;

/** What each answer of a module leads to. */
export interface PamControl {
  readonly by: ReadonlyMap<PamAnswer, PamAction>;
  readonly otherwise: PamAction;
}

export function actionOf({ by, otherwise }: PamControl, answer: PamAnswer): PamAction {
  return by.get(answer) ?? otherwise;
}

const allBad: PamControl = { by: new Map(), otherwise: 'bad' };

const words: Readonly<Record<string, PamControl>> = {
  required: control('bad', 'ok', { ignore: 'ignore' }),
  requisite: control('die', 'ok', { ignore: 'ignore' }),
  optional: control('ignore', 'ok'),
  sufficient: control('ignore', 'done'),
};

function control(otherwise: PamAction, success: PamAction, more: { ignore?: PamAction } = {}): PamControl {
  return { by: new Map(Object.entries({ success, new_authtok_reqd: success, ...more }).flatMap(known)), otherwise };
}

function known([word, action]: readonly [string, PamAction]): readonly (readonly [PamAnswer, PamAction])[] {
  const answer = pamAnswers.find((one) => one === word);
  return answer === undefined ? [] : [[answer, action]];
}

/**
 * The control of a line: a word in any case, or the text between brackets. Text that PAM cannot read turns every answer
 * into a failure, as in PAM.
 */
export function parsePamControl(text: string): PamControl {
  return words[text.toLowerCase()] ?? parsePairs(text);
}

/** `success=ok default=ignore`; pairs need no blank between them. Of an answer named twice the later counts. */
function parsePairs(text: string): PamControl {
  const by = new Map<PamAnswer, PamAction>();
  let otherwise: PamAction | undefined;
  const pair = /\s*([a-z_]+)\s*=\s*(ignore|ok|done|bad|die|reset|[1-9]\d{0,8})/y;
  while (pair.lastIndex < text.length && text.slice(pair.lastIndex).trim() !== '') {
    const [, word, said = ''] = pair.exec(text) ?? [];
    const answer = pamAnswers.find((one) => one === word);
    const action = namedActions.find((one) => one === said) ?? Number(said);
    if (answer !== undefined) by.set(answer, action);
    else if (word === 'default') otherwise ??= action;
    else return allBad;
  }
  return { by, otherwise: otherwise ?? 'bad' };
}

/** A line of a stack as far as the walk needs it. */
export interface PamStep {
  readonly control: PamControl;
  /** How many substacks it lies in. */
  readonly level: number;
  /** `substack`: only the begin of one. `broken`: a line that PAM cannot use, which always fails. */
  readonly kind: 'module' | 'substack' | 'broken';
}

/** A line that was reached. */
export interface PamVisit<Step extends PamStep> {
  readonly step: Step;
  readonly answer: PamAnswer;
  readonly action: PamAction;
}

export interface PamWalk<Step extends PamStep> {
  /** The answer of the whole stack. */
  readonly status: PamAnswer;
  readonly visits: readonly PamVisit<Step>[];
}

/** PAM_MUST_FAIL_CODE */
const mustFail: PamAnswer = 'perm_denied';

/** Runs a stack of one type with these answers of its modules. */
export function walkPamStack<Step extends PamStep>(
  stack: readonly Step[],
  answerOf: (step: Step) => PamAnswer,
): PamWalk<Step> {
  const visits: PamVisit<Step>[] = [];
  const before = new Map<number, Verdict>();
  let verdict: Verdict = { impression: 'none', status: mustFail };
  let previous = 0;
  for (let at = 0; at < stack.length; at++) {
    const step = stack[at];
    if (step === undefined) break;
    const { level } = step;
    if (previous < level) before.set(level, verdict);
    previous = level;
    if (step.kind === 'substack') continue;
    const answer = step.kind === 'broken' ? mustFail : answerOf(step);
    const action = actionOf(step.control, answer);
    visits.push({ step, answer, action });
    if (action === 'reset') verdict = before.get(level) ?? { impression: 'none', status: mustFail };
    else if (action === 'ok' || action === 'done') verdict = good(verdict, answer);
    else if (action === 'bad' || action === 'die') verdict = bad(verdict, answer);
    const ends = action === 'die' || (action === 'done' && verdict.impression === 'good');
    if (ends) while ((stack[at + 1]?.level ?? -1) >= level) at++;
    if (typeof action !== 'number') continue;
    let left = action;
    for (; left > 0 && (stack[at + 1]?.level ?? -1) >= level; left--) {
      do at++;
      while ((stack[at + 1]?.level ?? -1) > level); // a substack counts as one module
    }
    if (left > 0) verdict = { impression: 'bad', status: mustFail };
  }
  if (verdict.status === 'success' && verdict.impression !== 'good') return { status: mustFail, visits };
  return { status: verdict.status, visits };
}

interface Verdict {
  readonly impression: 'none' | 'good' | 'bad';
  readonly status: PamAnswer;
}

function good(verdict: Verdict, answer: PamAnswer): Verdict {
  const counts = verdict.impression === 'none' || (verdict.impression === 'good' && verdict.status === 'success');
  return counts ? { impression: 'good', status: answer } : verdict;
}

function bad(verdict: Verdict, answer: PamAnswer): Verdict {
  if (verdict.impression === 'bad') return verdict;
  return { impression: 'bad', status: answer === 'ignore' ? mustFail : answer };
}
