import { describe, expect, it } from 'vitest';
import { loginChecks, pamSystemd, removeIpc, usePam } from '../../src/doctor/login-checks.js';
import { adopterCheck, withModules } from '../../src/doctor/pam-check.js';
import { pamModules } from '../../src/doctor/pam-modules.js';
import { readPamStack } from '../../src/doctor/pam-stack.js';
import { liveHost } from '../../src/machine/live-host.js';
import { filesOf } from '../support/etc-in-memory.js';

const serviceOf = async (...lines: readonly string[]) => {
  const files = filesOf({ '/etc/pam.d/sshd': lines.join('\n'), '/usr/bin/slurm-cgroups': '' });
  const stack = await readPamStack(files, 'sshd');
  return stack === undefined ? undefined : withModules(stack, pamModules(files));
};

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
    ['pam_systemd that is jumped over', [adopt, 'session [default=1] pam_echo.so', sessionSystemd], 'ok', 'ok', 'warn'],
  ] as const)('%s', async (_, lines, pam, ofSystemd, ipc) => {
    const service = await serviceOf(...lines);
    expect(adopterCheck(service).outcome).toBe(pam);
    expect(pamSystemd(service, 'runs').outcome).toBe(ofSystemd);
    expect(removeIpc({ yes: true }, 'runs', service).outcome).toBe(ipc);
    expect(removeIpc({ yes: false }, 'runs', service).outcome).toBe('ok');
    for (const state of ['missing', 'masked', 'stopped'] as const) {
      expect(removeIpc({ yes: true }, state, service).outcome).toBe('ok');
      expect(pamSystemd(service, state).outcome).toBe('ok');
    }
  });

  it('names the line that is to go', async () => {
    expect(pamSystemd(await serviceOf(adopt, sessionSystemd), 'runs')).toEqual({
      outcome: 'fail',
      detail: 'in the sshd stack (/etc/pam.d/sshd:2): it moves every adopted session out of its job',
      remedy: 'take it out (put a # before /etc/pam.d/sshd:2); or adopt again in the last session line',
    });
  });

  it('says why pam_systemd does nothing', async () => {
    expect(pamSystemd(await serviceOf(adopt, sessionSystemd), 'masked')).toEqual({
      outcome: 'ok',
      detail: 'in the sshd stack (/etc/pam.d/sshd:2), but systemd-logind is masked, and it does nothing',
    });
    expect(pamSystemd(await serviceOf(adopt, 'session optional pam_elogind.so'), 'missing').outcome).toBe('fail');
  });

  it('fails on sshd without PAM', () => {
    expect(usePam([{}])).toMatchObject({ outcome: 'fail', detail: expect.stringContaining('its default') });
    expect(usePam([{ usePam: { yes: true } }]).outcome).toBe('ok');
    expect(usePam([])).toEqual({ outcome: 'ok', detail: 'no sshd is configured here' });
  });

  it('fails where one of two sshds does not ask PAM, and names it', () => {
    const named = 'sshd 5 -f /etc/ssh/users';
    const place = { file: '/etc/ssh/users', line: 3 };
    expect(usePam([{ usePam: { yes: true } }, { usePam: { yes: false, place }, named }])).toEqual({
      outcome: 'fail',
      detail:
        'UsePAM of sshd 5 -f /etc/ssh/users is no (/etc/ssh/users:3): sshd does not ask PAM, so no session is adopted or refused',
      remedy: 'set UsePAM yes in /etc/ssh/users, then systemctl reload sshd',
    });
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
