// What the demo's sshd is given: its users alone can log in, and no secret of this machine is copied.

import { describe, expect, it } from 'vitest';
import { cgroupPath } from '../../../src/cgroup/path.js';
import { filesOfSshd } from '../../../src/cli/demo/sshd-files.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';

const folder = '/run/slurm-cgroups/demo-1';
const live = liveHost();
/** It has every program, and a user with a password. */
const host: Host = {
  ...live,
  stat: () => live.stat('/'),
  read: (path) => (path === '/etc/passwd' ? 'root:x:0:0::/root:/bin/sh\n' : 'ecdsa-sha2-nistp256 AAAA\n'),
};
const users = [
  { name: 'demo-user', uid: 64_731 },
  { name: 'other-user', uid: 64_732 },
];
const files = filesOfSshd({ sandbox: { host, folder, within: cgroupPath('/demo-1') }, port: 20_001, users });
const of = (name: string) => files[name] ?? expect.unreachable(name);

describe('filesOfSshd()', () => {
  it('puts its users before those of this machine, without a password', () => {
    expect(of('passwd').map((line) => line.split(':', 3).join(':'))).toEqual([
      'demo-user:x:64731',
      'other-user:x:64732',
      'root:x:0',
    ]);
    expect(of('shadow')).toEqual(['demo-user:*:::::::', 'other-user:*:::::::']);
  });

  it('lets only them in, by their key, on the loopback device', () => {
    const config = of('sshd_config');
    expect(config).toEqual(
      expect.arrayContaining(['ListenAddress 127.0.0.1:20001', 'AllowUsers demo-user other-user', 'UsePAM yes']),
    );
    expect(config).toEqual(expect.arrayContaining(['PasswordAuthentication no', 'KbdInteractiveAuthentication no']));
    expect(of('ssh_config')).toContain('StrictHostKeyChecking yes');
    expect(of('known_hosts')).toEqual(['[127.0.0.1]:20001 ecdsa-sha2-nistp256 AAAA']);
  });

  it('names the sandbox in the helper, which the PAM lines name', () => {
    const lines = of('pam').filter((line) => line.includes('pam_slurm_cgroups.so'));
    expect(lines.map((line) => line.split(' ')[0])).toEqual(['account', 'session']);
    for (const line of lines) expect(line).toContain(' helper=/run/demo/slurm-cgroups ');
    expect(of('helper')[1]).toMatch(/ "\$@" --within \/demo-1 --config \/run\/demo\/config\.json$/);
  });

  it('mounts before it starts sshd, the whole of /run last', () => {
    const start = of('start');
    const at = (text: string) => start.findIndex((line) => line.includes(text));
    expect(at('/etc/pam.d/sshd')).toBeGreaterThan(0);
    expect(at(' run /run')).toBeGreaterThan(at('/etc/shadow'));
    expect(at(' -D ')).toBeGreaterThan(at(' run /run'));
    expect(start[0]).toBe('set -e');
  });
});
