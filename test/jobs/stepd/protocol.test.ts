import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeAddPid,
  encodeQuestion,
  encodeVersion,
  formatSluid,
  knowsQuestion,
  offeredVersions,
  type Reading,
  readAdded,
  readAnswer,
  readVersion,
  type StepdQuestion,
} from '../../../src/jobs/stepd/protocol.js';
import { ParseError } from '../../../src/machine/errors.js';
import { answersOf, bytesOf, int32s, recordedStepds, sluidOf } from '../../support/stepd-server.js';

const questions: readonly StepdQuestion[] = ['uid', 'state', 'daemonPid', 'nodeId', 'x11Display', 'sluid'];
const recorded = recordedStepds();

/** Runs a reading over bytes; `undefined` when they end before it does. */
function run<T>(reading: Reading<T>, bytes: Uint8Array): { readonly value: T; readonly used: number } | undefined {
  let used = 0;
  for (let step = reading.next(); ; ) {
    if (step.done === true) return { value: step.value, used };
    expect(step.value).toBeGreaterThanOrEqual(0);
    expect(step.value).toBeLessThanOrEqual(4 * 4_194_304);
    if (used + step.value > bytes.length) return undefined;
    const chunk = bytes.subarray(used, used + step.value);
    used += step.value;
    step = reading.next(chunk);
  }
}

function requestOf(question: StepdQuestion): number {
  return new Int32Array(encodeQuestion(question).slice().buffer)[0] ?? 0;
}

describe('encodeQuestion(), encodeAddPid(), encodeVersion()', () => {
  it('write the numbers of step_msg_t in the order of this machine', () => {
    expect(questions.map(requestOf)).toEqual([20, 5, 9, 21, 23, 1]);
    expect(Buffer.from(encodeAddPid(4711))).toEqual(int32s(22, 4711));
    expect(Buffer.from(encodeVersion(45 << 8))).toEqual(int32s(11520));
  });

  it.each([0, 1, -1, 1.5, Number.NaN, 4_194_305, 2 ** 32])('add no pid %s', (pid) => {
    expect(() => encodeAddPid(pid)).toThrow(RangeError);
  });

  it('offer the newest first', () => {
    expect(offeredVersions[0]).toBe(46 << 8);
    expect(Math.max(...offeredVersions)).toBeLessThanOrEqual(0x7fff_ffff);
  });
});

describe('readAnswer()', () => {
  it('has recordings of four releases', () => {
    expect(new Set(recorded.map(([, { server }]) => server))).toEqual(new Set([36, 42, 45]));
    expect(recorded.length).toBe(128);
  });

  it.each(recorded)('reads what %s answered', (_name, one) => {
    const expected = answersOf(one);
    for (const question of questions) {
      const bytes = bytesOf(one, requestOf(question));
      expect(bytes === undefined, question).toBe(!knowsQuestion(one.server << 8, question));
      if (bytes === undefined) continue;
      expect(run(readAnswer(question), bytes), question).toEqual({ value: expected[question], used: bytes.length });
      expect(run(readAnswer(question), bytes.subarray(0, -1)), question).toBeUndefined();
    }
    if (one.sluid !== undefined) expect(formatSluid(sluidOf(one))).toBe(one.sluid);
  });

  it.each([
    [0, 'not-running'],
    [1, 'starting'],
    [2, 'running'],
    [3, 'ending'],
    [4, 'ending'],
  ])('reads state %i as %s', (state, word) => {
    expect(run(readAnswer('state'), int32s(state))?.value).toBe(word);
  });

  it('reads a display, with the path of its .Xauthority and without', () => {
    const [, one] = recorded[0] ?? expect.unreachable();
    const display = bytesOf({ ...one, x11: 42 }, 23, '/tmp/.Xauthority-\u00e9');
    expect(run(readAnswer('x11Display'), display ?? Buffer.alloc(0))?.value).toEqual({
      display: 42,
      xauthority: '/tmp/.Xauthority-\u00e9',
    });
    expect(run(readAnswer('x11Display'), int32s(42, 0))?.value).toEqual({ display: 42 });
    expect(
      run(readAnswer('x11Display'), Buffer.concat([int32s(0, 3), Buffer.from('/x\xff', 'latin1')]))?.value,
    ).toEqual({ xauthority: '/x\udcff' });
  });

  it.each<[StepdQuestion, Buffer]>([
    ['uid', int32s(-1)],
    ['uid', int32s(-2)],
    ['state', int32s(-1)],
    ['state', int32s(5)],
    ['daemonPid', int32s(0)],
    ['daemonPid', int32s(1)],
    ['daemonPid', int32s(-5)],
    ['daemonPid', int32s(4_194_305)],
    ['nodeId', int32s(-2)],
    ['x11Display', int32s(-1, 0)],
    ['x11Display', int32s(70_000, 0)],
    ['x11Display', int32s(1, -1)],
    ['x11Display', int32s(1, 4097)],
    ['sluid', int32s(0, 0)],
  ])('refuses as %s the bytes %o', (question, bytes) => {
    expect(() => run(readAnswer(question), bytes)).toThrow(ParseError);
  });

  it('makes of any bytes a value of the right form, a ParseError, or nothing yet', () => {
    fc.assert(
      fc.property(fc.constantFrom(...questions), fc.uint8Array({ maxLength: 64 }), (question, bytes) => {
        try {
          const answer = run(readAnswer(question), bytes);
          if (answer !== undefined) expect(answer.used).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(ParseError);
        }
      }),
    );
  });
});

describe('readVersion()', () => {
  it.each([34, 36, 38, 42, 45, 46, 100, 255])('takes %i', (release) => {
    expect(run(readVersion(), int32s(release << 8))?.value).toEqual({ serverVersion: release << 8 });
  });

  it('takes a negative number for a refusal', () => {
    expect(run(readVersion(), int32s(-1))?.value).toBe('refused');
  });

  it.each([0, 1, 33 << 8, (45 << 8) + 1, 0x1_0000, 0x50545448 /* HTTP */, 0x2d485353 /* SSH- */])(
    'refuses %i, which no slurmstepd says',
    (version) => {
      expect(() => run(readVersion(), int32s(version))).toThrow(ParseError);
    },
  );
});

it('readAdded() reads 0 and -1, and nothing else', () => {
  expect(run(readAdded(), int32s(0))?.value).toBe('accepted');
  expect(run(readAdded(), int32s(-1))?.value).toBe('refused');
  expect(() => run(readAdded(), int32s(7))).toThrow(ParseError);
});

it('knowsQuestion() leaves out SLUID before 25.11', () => {
  expect([43 << 8, 44 << 8].map((version) => knowsQuestion(version, 'sluid'))).toEqual([false, true]);
  expect(knowsQuestion(36 << 8, 'uid')).toBe(true);
});

it('formatSluid() writes every number in 14 characters, in the order of the numbers', () => {
  expect(formatSluid(0xffff_ffff_ffff_ffffn)).toBe('sFZZZZZZZZZZZZ');
  fc.assert(
    fc.property(fc.bigInt(0n, 0xffff_ffff_ffff_ffffn), fc.bigInt(0n, 0xffff_ffff_ffff_ffffn), (a, b) => {
      expect(formatSluid(a)).toMatch(/^s[0-9A-HJKMNP-TV-Z]{13}$/);
      expect(formatSluid(a) < formatSluid(b)).toBe(a < b);
    }),
  );
});
