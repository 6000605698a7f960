// Whether this machine lets sessions into jobs, and leaves them there: sshd, PAM's stack for it, and logind.
// What each of these does to an adopted session was measured (Debian 12 and 13, systemd 257 and 262).

import { at } from '../jobs/config/place.js';
import type { Host } from '../machine/host.js';
import { type Check, check, type Finding, fail, ok, warn } from './check.js';
import { etcFiles } from './etc-files.js';
import { readRemoveIpc, readUsePam, type YesNo } from './login-settings.js';
import { type PamLine, readPamStack } from './pam-stack.js';

export async function loginChecks(host: Host): Promise<readonly Check[]> {
  const files = etcFiles(host);
  const stack = readPamStack(files, 'sshd');
  stack.catch(() => {}); // each check that needs it says so
  return Promise.all([
    check('sshd', async () => usePam(await readUsePam(files))),
    check('PAM', async () => adopter(await stack)),
    check('pam_systemd', async () => systemd(await stack)),
    check('RemoveIPC', async () => removeIpc(await readRemoveIpc(host, files), await stack)),
  ]);
}

export function usePam(found: YesNo | undefined): Finding {
  if (found === undefined) return ok('no sshd is configured here');
  if (found.yes) return ok(`UsePAM yes${at(found.place)}`);
  return fail(
    `UsePAM is no${found.place === undefined ? ', its default' : at(found.place)}: sshd does not ask PAM, so no session is adopted or refused`,
    'set UsePAM yes in /etc/ssh/sshd_config, then systemctl reload sshd',
  );
}

/** pam_slurm_adopt, our own module, or pam_exec with our command. */
function adopts({ module, args }: PamLine): boolean {
  if (module === 'pam_slurm_adopt' || module === 'pam_slurm_cgroups') return true;
  return module === 'pam_exec' && args.some((word) => word.includes('slurm-cgroups'));
}

export function adopter(stack: readonly PamLine[] | undefined): Finding {
  if (stack === undefined) return ok('no service sshd is known to PAM here');
  const lines = stack.filter((line) => adopts(line) && (line.type === 'account' || line.type === 'session'));
  const [first] = lines;
  if (first === undefined)
    return warn(
      'nothing in the sshd stack of PAM puts sessions into jobs: they run without limits, and outlive the job',
      'add "account required pam_slurm_adopt.so" as the last account line of /etc/pam.d/sshd',
    );
  return ok(lines.map(({ type, module, place }) => `${module} in ${type}${at(place)}`).join(', '));
}

/** It moves the session to user.slice; an adoption behind it, in the same phase, moves it back. */
export function systemd(stack: readonly PamLine[] | undefined): Finding {
  const sessions = (stack ?? []).filter(({ type }) => type === 'session');
  const last = sessions.findLastIndex(({ module }) => isSystemd(module));
  const found = sessions[last];
  if (found === undefined) return ok('not in the sshd stack');
  if (sessions.slice(last + 1).some(adopts))
    return ok(`in the sshd stack${at(found.place)}, but sessions are adopted again behind it`);
  const remedy = `take it out of the sshd stack (put a # before ${found.place.file}:${found.place.line}), or adopt again as the last session line`;
  if ((stack ?? []).some(adopts))
    return fail(`in the sshd stack${at(found.place)}: it moves every adopted session out of its job again`, remedy);
  return warn(`in the sshd stack${at(found.place)}: it would move adopted sessions out of their job again`, remedy);
}

/** pam_elogind is the same without systemd. */
function isSystemd(module: string): boolean {
  return module === 'pam_systemd' || module === 'pam_elogind';
}

/** About 10 s after a user's last logout, his running job's /dev/shm and SysV segments are gone. */
export function removeIpc(found: YesNo | undefined, stack: readonly PamLine[] | undefined): Finding {
  if (found === undefined) return ok('no logind here');
  if (!found.yes) return ok(`no${found.place === undefined ? ', the default here' : at(found.place)}`);
  const said = `yes${found.place === undefined ? ', the default' : at(found.place)}`;
  const remedy =
    'write RemoveIPC=no under [Login] into /etc/systemd/logind.conf.d/slurm.conf, then systemctl restart systemd-logind';
  if ((stack ?? []).some(({ type, module }) => type === 'session' && isSystemd(module)))
    return fail(`${said}: when a user logs out, the shared memory of his running jobs is removed`, remedy);
  return warn(`${said}: the shared memory of running jobs is removed when a session of logind ends (cron, su)`, remedy);
}
