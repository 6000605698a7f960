// Checks of what lets sessions into jobs and leaves them there: sshd, PAM's stack for it, and logind. What each of these
// does to an adopted session was measured (Debian 12 and 13, systemd 257 and 262).

import { at } from '../jobs/config/place.js';
import type { SlurmConfiguration } from '../jobs/config/read.js';
import type { Host } from '../machine/host.js';
import { type Check, check, type Finding, fail, ok, warn } from './check.js';
import { type EtcFiles, etcFiles } from './etc-files.js';
import { type LogindState, logindState, readRemoveIpc, type YesNo } from './logind.js';
import { auditSession, moduleLines, namespaces, siteFile, siteOptions } from './module-checks.js';
import {
  adopterCheck,
  isAdopter,
  isInOwnFile,
  linesRunIn,
  ownStack,
  type PamService,
  withModules,
} from './pam-check.js';
import { pamModules } from './pam-modules.js';
import { type PamLine, readPamStack } from './pam-stack.js';
import { type KnownSshd, readSshds } from './running-sshd.js';

export interface LoginChecksOptions {
  /** Slurm's, where it was read: whether jobs have namespaces of their own. */
  readonly configuration?: SlurmConfiguration | undefined;
  /** Default: those of the host. */
  readonly files?: EtcFiles;
}

export async function loginChecks(
  host: Host,
  { configuration, files = etcFiles(host) }: LoginChecksOptions = {},
): Promise<readonly Check[]> {
  const sshds = readSshds(host, files);
  const service = sshds
    .catch(() => []) // the check of sshd says why
    .then((found) => readPamStack(files, found[0]?.pamServiceName ?? 'sshd'))
    .then((lines) => (lines === undefined ? undefined : withModules(lines, pamModules(files))));
  for (const one of [sshds, service]) one.catch(() => {}); // each check that needs it says why
  const ours = await service.then(moduleLines, () => undefined);
  return Promise.all([
    check('sshd', async () => usePam(await sshds)),
    check('PAM', async () => adopterCheck(await service)),
    check('pam_systemd', async () => pamSystemd(await service, logindState(host))),
    check('RemoveIPC', async () => removeIpc(await readRemoveIpc(files), logindState(host), await service)),
    ...(ours === undefined
      ? []
      : [
          check('site file', () => siteFile(files)),
          check('audit session', () => auditSession(ours)),
          check('namespaces', async () => namespaces(ours, { configuration, site: await siteOptions(files) })),
        ]),
  ]);
}

export function usePam(sshds: readonly KnownSshd[]): Finding {
  if (sshds.length === 0) return ok('no sshd is configured here');
  const without = sshds.find((sshd) => sshd.usePam?.yes !== true);
  if (without === undefined)
    return ok(
      sshds
        .map(({ usePam: said, named }) => `UsePAM yes${at(said?.place)}${named === undefined ? '' : ` (${named})`}`)
        .join(', '),
    );
  const { usePam: said, named } = without;
  const whose = named === undefined ? '' : ` of ${named}`;
  return fail(
    `UsePAM${whose} is no${said === undefined ? ', its default' : at(said.place)}: sshd does not ask PAM, so no session is adopted or refused`,
    `set UsePAM yes in ${said?.place?.file ?? 'the configuration of sshd'}, then systemctl reload sshd`,
  );
}

/** It moves the session to user.slice; an adoption behind it, in the same phase, moves it back. */
export function pamSystemd(service: PamService | undefined, logind: LogindState): Finding {
  const sessions = service === undefined ? [] : [...linesRunIn(service, 'session')].sort(byOrder(service));
  const last = sessions.findLastIndex((line) => movesAway(line, logind));
  const found = sessions[last];
  if (found === undefined) {
    const idle = sessions.find(({ module }) => module === 'pam_systemd');
    return ok(
      idle === undefined ? 'not in the sshd stack' : `in the sshd stack${at(idle.place)}, but ${withoutLogind[logind]}`,
    );
  }
  if (sessions.slice(last + 1).some(isAdopter))
    return ok(`in the sshd stack${at(found.place)}, but sessions are adopted again after it`);
  const takeOut = isInOwnFile(found)
    ? `take it out (put a # before ${found.place.file}:${found.place.line})`
    : ownStack(found.place.file, `without ${found.module}`);
  const remedy = `${takeOut}; or adopt again in the last session line`;
  if (service?.lines.some(isAdopter) === true)
    return fail(`in the sshd stack${at(found.place)}: it moves every adopted session out of its job`, remedy);
  return warn(`in the sshd stack${at(found.place)}: it would move adopted sessions out of their job`, remedy);
}

function byOrder({ lines }: PamService): (a: PamLine, b: PamLine) => number {
  return (a, b) => lines.indexOf(a) - lines.indexOf(b);
}

/** pam_elogind is the same without systemd. */
function movesAway({ module }: PamLine, logind: LogindState): boolean {
  return module === 'pam_elogind' || (module === 'pam_systemd' && logind === 'runs');
}

const withoutLogind: Readonly<Record<LogindState, string>> = {
  runs: 'logind runs',
  missing: 'there is no logind here, and it does nothing',
  masked: 'systemd-logind is masked, and it does nothing',
  stopped: 'systemd-logind does not run, and it does nothing',
};

/** About 10 s after a user's last logout, the /dev/shm and SysV segments of their running jobs are gone. */
export function removeIpc(found: YesNo, logind: LogindState, service: PamService | undefined): Finding {
  if (logind === 'missing') return ok('no logind here');
  if (logind === 'masked') return ok('systemd-logind is masked: nothing is removed');
  if (logind === 'stopped') return ok('systemd-logind does not run: nothing is removed');
  if (!found.yes) return ok(`no${found.place === undefined ? ', the default here' : at(found.place)}`);
  const said = `yes${found.place === undefined ? ', the default' : at(found.place)}`;
  const remedy =
    'write RemoveIPC=no under [Login] into /etc/systemd/logind.conf.d/slurm.conf, then systemctl restart systemd-logind';
  if (service !== undefined && [...linesRunIn(service, 'session')].some((line) => movesAway(line, logind)))
    return fail(`${said}: when a user logs out, the shared memory of their running jobs is removed`, remedy);
  return warn(`${said}: the shared memory of running jobs is removed when a logind session ends (cron, su)`, remedy);
}
