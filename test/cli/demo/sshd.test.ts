// The demo's sshd where it cannot start. Where it can, commands/demo.test.ts logs in through it.

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { DemoSshd } from '../../../src/cli/demo/sshd.js';
import { Sandbox } from '../../../src/cli/sandbox.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../../support/may-run.js';

const hasSshd = fs.existsSync('/usr/sbin/sshd') && fs.existsSync('/usr/bin/ssh-keygen');

describe.skipIf((!canUseCgroups || !hasSshd) && mayBeSkipped)('DemoSshd (needs root and sshd)', () => {
  it('says why it does not start, and the sandbox takes its files and processes along', async () => {
    const sandbox = await Sandbox.create(liveHost(), 'slurm-cgroups-test-sshd');
    try {
      // Run from its source, it finds no module beside it.
      const users = [{ name: 'demo-user', uid: 64_731 }];
      await expect(DemoSshd.start(sandbox, users, new AbortController().signal)).rejects.toMatchObject({
        code: 'ERR_NOT_SUPPORTED',
        message: expect.stringMatching(/^sshd does not start here: .*pam_slurm_cgroups\.so/),
      });
    } finally {
      await sandbox.remove();
    }
    expect(fs.existsSync(sandbox.folder)).toBe(false);
    expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(sandbox.folder);
  });
});
