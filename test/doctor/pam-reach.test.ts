import { describe, expect, it } from 'vitest';
import { linesRun, type ReachOptions, reachOf } from '../../src/doctor/pam-reach.js';
import { readPamStack } from '../../src/doctor/pam-stack.js';
import { filesOf } from '../support/etc-in-memory.js';

const options: ReachOptions = {
  kind: 'local',
  isAdopter: ({ module }) => module === 'adopter',
  isMissing: ({ module }) => module === 'missing',
  refuses: true,
};
const stackOf = async (...lines: readonly string[]) =>
  (await readPamStack(filesOf({ '/etc/pam.d/sshd': lines.map((line) => `account ${line}`).join('\n') }), 'sshd')) ?? [];

describe('reachOf()', () => {
  it.each([
    ['required adopter.so', 'all', false],
    ['optional adopter.so', 'all', false],
    ['required pam_unix.so, optional adopter.so', 'all', true],
    ['sufficient pam_listfile.so, required adopter.so', 'some', false],
    ['sufficient pam_localuser.so, required adopter.so', 'never', false],
    ['requisite pam_deny.so, required adopter.so', 'refused', false],
    ['sufficient missing.so, required adopter.so', 'all', false],
    ['required missing.so, required adopter.so', 'refused', false],
  ])('%s: %s', async (lines, adopter, refusalIgnored) => {
    expect(reachOf(await stackOf(...lines.split(', ')), options)).toMatchObject({ adopter, refusalIgnored });
  });

  it('names the line that leads past it', async () => {
    const stack = await stackOf('sufficient pam_listfile.so', 'required adopter.so');
    expect(reachOf(stack, options).past).toEqual([stack[0]]);
  });

  it('goes on where a phase does not refuse', async () => {
    const stack = await stackOf('required pam_deny.so', 'optional adopter.so');
    expect(reachOf(stack, { ...options, refuses: false }).adopter).toBe('all');
  });
});

describe('linesRun()', () => {
  it('leaves out what is jumped over or missing', async () => {
    const stack = await stackOf(
      '[default=1] pam_permit.so',
      'required pam_a.so',
      'optional missing.so',
      'required pam_b.so',
    );
    expect([...linesRun(stack, options)].map(({ module }) => module)).toEqual(['pam_permit', 'pam_b']);
  });
});
