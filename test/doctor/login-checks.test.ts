import { describe, expect, it } from 'vitest';
import { adopter, loginChecks, removeIpc, systemd, usePam } from '../../src/doctor/login-checks.js';
import { readPamStack } from '../../src/doctor/pam-stack.js';
import { liveHost } from '../../src/machine/live-host.js';
import { filesOf } from '../support/etc-in-memory.js';

const stackOf = (...lines: readonly string[]) => readPamStack(filesOf({ '/etc/pam.d/sshd': lines.join('\n') }), 'sshd');

const adopt = 'account required pam_slurm_adopt.so';
const sessionSystemd = 'session optional pam_systemd.so';
const again = 'session required pam_exec.so /usr/bin/slurm-cgroups pam';

describe('The checks of the sshd stack', () => {
  it.each([
    ['nothing', [], 'warn', 'ok', 'warn'],
    ['pam_slurm_adopt', [adopt], 'ok', 'ok', 'warn'],
    ['pam_systemd alone', [sessionSystemd], 'warn', 'warn', 'fail'],
    ['both', [adopt, sessionSystemd], 'ok', 'fail', 'fail'],
    ['both, and adopted again behind it', [adopt, sessionSystemd, again], 'ok', 'ok', 'fail'],
    ['adopted again before it', [adopt, again, sessionSystemd], 'ok', 'fail', 'fail'],
    ['pam_slurm_adopt in another phase only', ['auth required pam_slurm_adopt.so'], 'warn', 'ok', 'warn'],
  ] as const)('%s', async (_, lines, pam, ofSystemd, ipc) => {
    const stack = await stackOf(...lines);
    expect(adopter(stack).outcome).toBe(pam);
    expect(systemd(stack).outcome).toBe(ofSystemd);
    expect(removeIpc({ yes: true }, stack).outcome).toBe(ipc);
    expect(removeIpc({ yes: false }, stack).outcome).toBe('ok');
    expect(removeIpc(undefined, stack).outcome).toBe('ok');
  });

  it('names the line that is to go', async () => {
    expect(systemd(await stackOf(adopt, sessionSystemd))).toEqual({
      outcome: 'fail',
      detail: 'in the sshd stack (/etc/pam.d/sshd:2): it moves every adopted session out of its job again',
      remedy:
        'take it out of the sshd stack (put a # before /etc/pam.d/sshd:2), or adopt again as the last session line',
    });
  });

  it('fails on sshd without PAM', () => {
    expect(usePam({ yes: false })).toMatchObject({ outcome: 'fail', detail: expect.stringContaining('its default') });
    expect(usePam({ yes: true }).outcome).toBe('ok');
    expect(usePam(undefined).outcome).toBe('ok');
  });
});

describe('loginChecks()', () => {
  it('looks at this machine, and at one that shows nothing', async () => {
    const names = ['sshd', 'PAM', 'pam_systemd', 'RemoveIPC'];
    expect((await loginChecks(liveHost())).map(({ name }) => name)).toEqual(names);
    const blind = { ...liveHost(), stat: () => liveHost().stat('/proc/1/root/no-such') };
    expect((await loginChecks(blind)).map(({ name }) => name)).toEqual(names);
  });
});
