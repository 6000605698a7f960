// What the demo's sshd needs: found in the usual folders, or named in a line for people.

import { describe, expect, it } from 'vitest';
import { missingForSshd, needProgram } from '../../../src/cli/demo/programs.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';

const live = liveHost();
const [there, run] = [live.stat('/'), { exitCode: 0, stderr: '', timedOut: false }];
const hostWith = (isThere: (path: string) => boolean, stdout = ''): Host => ({
  ...live,
  stat: (path) => (isThere(path) ? there : undefined),
  run: async () => ({ ...run, stdout }),
});

describe('missingForSshd()', () => {
  it('says nothing where all is there', async () => {
    expect(await missingForSshd(hostWith(() => true))).toBeUndefined();
  });

  it.each([
    ['/sshd', 'there is no sshd (Debian: openssh-server)'],
    ['/ssh', 'there is no ssh (Debian: openssh-client)'],
    ['/unshare', 'there is no unshare (Debian: util-linux)'],
    ['pam.d/sshd', 'there is no /etc/pam.d/sshd'],
  ])('names what is missing: %s', async (end, line) => {
    const isThere = (path: string) => !path.endsWith(end) || (end === '/sshd' && path.startsWith('/etc'));
    expect(await missingForSshd(hostWith(isThere))).toBe(line);
  });

  it('says why the module is not built, and else how', async () => {
    const isThere = (path: string) => !path.endsWith('.so');
    expect(await missingForSshd(hostWith(isThere, 'no C compiler (Debian: gcc, libc6-dev; RHEL: gcc)\n'))).toBe(
      'the PAM module is not built: no C compiler (Debian: gcc, libc6-dev; RHEL: gcc)',
    );
    expect(await missingForSshd(hostWith(isThere))).toMatch(/not built: "npm run build:native" in "\/.*" builds it$/);
  });
});

describe('needProgram()', () => {
  it('takes the first of the usual folders, never PATH', () => {
    expect(
      needProgram(
        hostWith((path) => path.startsWith('/usr/')),
        'ssh',
      ),
    ).toBe('/usr/local/sbin/ssh');
    expect(() =>
      needProgram(
        hostWith(() => false),
        'ssh',
      ),
    ).toThrow('There is no ssh');
  });
});
