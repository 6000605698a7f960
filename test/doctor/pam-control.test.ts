import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  actionOf,
  type PamAnswer,
  type PamStep,
  pamAnswers,
  parsePamControl,
  walkPamStack,
} from '../../src/doctor/pam-control.js';

describe('parsePamControl()', () => {
  it.each<readonly [string, PamAnswer, string | number]>([
    ['required', 'success', 'ok'],
    ['REQUIRED', 'perm_denied', 'bad'],
    ['required', 'ignore', 'ignore'],
    ['requisite', 'module_unknown', 'die'],
    ['sufficient', 'success', 'done'],
    ['sufficient', 'new_authtok_reqd', 'done'],
    ['sufficient', 'module_unknown', 'ignore'],
    ['optional', 'auth_err', 'ignore'],
    ['default=bad success=ok user_unknown=ignore', 'user_unknown', 'ignore'],
    ['default=bad success=ok user_unknown=ignore', 'perm_denied', 'bad'],
    ['success=2default=ignore', 'success', 2],
    [' success = done ', 'auth_err', 'bad'],
    ['default=ignore default=die', 'auth_err', 'ignore'],
    ['success=0', 'success', 'bad'],
    ['success=okay', 'success', 'bad'],
    ['sucess=ok default=ignore', 'auth_err', 'bad'],
    ['no-such-word', 'success', 'bad'],
  ])('%j: %s is %s', (text, answer, action) => {
    expect(actionOf(parsePamControl(text), answer)).toBe(action);
  });
});

type Line = readonly [control: string, answer: PamAnswer, level?: number];

function walk(lines: readonly Line[]) {
  const stack = lines.map(([control, answer, level = 0]) => ({
    control: parsePamControl(control),
    answer,
    level,
    kind: control === 'substack' ? ('substack' as const) : ('module' as const),
  }));
  const { status, visits } = walkPamStack(stack, (step) => step.answer);
  return [status, visits.map(({ step }) => stack.indexOf(step))];
}

describe('walkPamStack()', () => {
  it.each<readonly [string, readonly Line[], PamAnswer, readonly number[]]>([
    ['nothing succeeds', [], 'perm_denied', []],
    [
      'all required',
      [
        ['required', 'success'],
        ['required', 'success'],
      ],
      'success',
      [0, 1],
    ],
    [
      'a required failure goes on, and stays',
      [
        ['required', 'auth_err'],
        ['required', 'success'],
      ],
      'auth_err',
      [0, 1],
    ],
    [
      'a requisite failure ends',
      [
        ['requisite', 'auth_err'],
        ['required', 'success'],
      ],
      'auth_err',
      [0],
    ],
    [
      'sufficient ends',
      [
        ['sufficient', 'success'],
        ['required', 'auth_err'],
      ],
      'success',
      [0],
    ],
    [
      'sufficient behind a failure does not',
      [
        ['required', 'auth_err'],
        ['sufficient', 'success'],
        ['required', 'success'],
      ],
      'auth_err',
      [0, 1, 2],
    ],
    ['sufficient that fails is nothing', [['sufficient', 'auth_err']], 'perm_denied', [0]],
    ['optional alone decides', [['optional', 'success']], 'success', [0]],
    [
      'a jump',
      [
        ['success=1 default=ignore', 'success'],
        ['requisite', 'auth_err'],
        ['required', 'success'],
      ],
      'success',
      [0, 2],
    ],
    [
      'a jump of two',
      [
        ['success=2 default=ignore', 'success'],
        ['required', 'auth_err'],
        ['required', 'auth_err'],
        ['required', 'success'],
      ],
      'success',
      [0, 3],
    ],
    [
      'a jump past the end fails',
      [
        ['required', 'success'],
        ['success=2 default=ignore', 'success'],
        ['required', 'success'],
      ],
      'perm_denied',
      [0, 1],
    ],
    [
      'die in a substack ends that alone',
      [
        ['substack', 'ignore'],
        ['requisite', 'auth_err', 1],
        ['required', 'success', 1],
        ['required', 'success'],
      ],
      'auth_err',
      [1, 3],
    ],
    [
      'done in a substack ends that alone',
      [
        ['substack', 'ignore'],
        ['sufficient', 'success', 1],
        ['required', 'auth_err', 1],
        ['required', 'success'],
      ],
      'success',
      [1, 3],
    ],
    [
      'a substack counts as one for a jump',
      [
        ['success=1 default=ignore', 'success'],
        ['substack', 'ignore'],
        ['required', 'auth_err', 1],
        ['required', 'auth_err', 1],
        ['required', 'success'],
      ],
      'success',
      [0, 4],
    ],
    [
      'a jump in a substack stays in it',
      [
        ['substack', 'ignore'],
        ['success=1 default=ignore', 'success', 1],
        ['required', 'auth_err', 1],
        ['required', 'success'],
      ],
      'success',
      [1, 3],
    ],
    [
      'reset forgets what the substack said',
      [
        ['required', 'success'],
        ['substack', 'ignore'],
        ['required', 'auth_err', 1],
        ['default=reset', 'success', 1],
        ['required', 'success'],
      ],
      'success',
      [0, 2, 3, 4],
    ],
    [
      'a missing module, required',
      [
        ['required', 'success'],
        ['required', 'module_unknown'],
      ],
      'module_unknown',
      [0, 1],
    ],
  ])('%s', (_, lines, status, visited) => {
    expect(walk(lines)).toEqual([status, visited]);
  });

  it('ends, visits each line once and in order, and never succeeds by failures alone', () => {
    const control = fc.constantFrom(
      'required',
      'requisite',
      'sufficient',
      'optional',
      'success=2 default=1',
      'default=reset',
    );
    const step = fc.tuple(control, fc.constantFrom(...pamAnswers), fc.nat(3));
    fc.assert(
      fc.property(fc.array(step), (lines) => {
        const stack: (PamStep & { readonly answer: PamAnswer })[] = lines.map(([said, answer, level]) => ({
          control: parsePamControl(said),
          answer,
          level,
          kind: 'module',
        }));
        const { status, visits } = walkPamStack(stack, (one) => one.answer);
        const order = visits.map(({ step: one }) => stack.indexOf(one));
        expect(order).toEqual([...new Set(order)].sort((a, b) => a - b));
        if (status === 'success') expect(visits.some(({ answer }) => answer === 'success')).toBe(true);
      }),
    );
  });
});
