import { describe, expect, it } from 'vitest';
import type { Finding } from '../../src/doctor/check.js';
import { loginChecks } from '../../src/doctor/login-checks.js';
import { auditSession, moduleLines, namespaces, siteFile, siteOptions } from '../../src/doctor/module-checks.js';
import { adopterCheck, withModules } from '../../src/doctor/pam-check.js';
import { pamModules } from '../../src/doctor/pam-modules.js';
import { readPamStack } from '../../src/doctor/pam-stack.js';
import { SystemCallError } from '../../src/machine/errors.js';
import { liveHost } from '../../src/machine/live-host.js';
import { defaultOptions } from '../../src/policy/options.js';
import { filesOf } from '../support/etc-in-memory.js';

const [account, session] = ['account required pam_slurm_cgroups.so', 'session required pam_slurm_cgroups.so'];

const serviceOf = async (lines: readonly string[], more: Readonly<Record<string, string>> = {}) => {
  const files = filesOf({ '/etc/pam.d/sshd': lines.join('\n'), ...more });
  const stack = await readPamStack(files, 'sshd');
  return stack === undefined ? undefined : withModules(stack, pamModules(files));
};
const linesOf = async (...lines: readonly string[]) => {
  const found = moduleLines(await serviceOf(lines));
  if (found === undefined) throw new Error('the module is not in the stack');
  return found;
};
const plain = (finding: Finding) => [finding.outcome, finding.detail, 'remedy' in finding ? finding.remedy : ''];

describe('moduleLines()', () => {
  it('finds none where the module is not reached', async () => {
    expect(moduleLines(undefined)).toBeUndefined();
    expect(moduleLines(await serviceOf(['account required pam_slurm_adopt.so']))).toBeUndefined();
    expect(moduleLines(await serviceOf(['account sufficient pam_permit.so', account]))).toBeUndefined();
  });
});

describe('The check of the audit session', () => {
  it.each([
    ['the account stack', [`account required pam_loginuid.so`, account]],
    ['the session stack', [account, 'session required pam_loginuid.so', session]],
  ])('is content with pam_loginuid before the module in %s', async (_, lines) => {
    expect(auditSession(await linesOf(...lines))).toMatchObject({ outcome: 'ok' });
  });

  it.each([
    ['an account-only stack', [account, 'session required pam_loginuid.so'], 'account', 1],
    ['one with it behind the module', [account, session, 'session required pam_loginuid.so'], 'session', 2],
  ])('says for %s what is not proven, and where to put it', async (_, lines, type, at) => {
    const [outcome, detail, remedy] = plain(auditSession(await linesOf(...lines)));
    expect([outcome, detail]).toEqual(['warn', expect.stringContaining('nothing proves that a login started it')]);
    expect(remedy).toBe(
      `put "${type} required pam_loginuid.so" before the line of pam_slurm_cgroups (/etc/pam.d/sshd:${at})`,
    );
  });

  it('changes no file that other services share', async () => {
    const service = await serviceOf(['@include common-account'], { '/etc/pam.d/common-account': account });
    const found = moduleLines(service);
    expect(found === undefined ? undefined : auditSession(found)).toMatchObject({
      remedy: expect.stringContaining('leave /etc/pam.d/common-account to the other services'),
    });
  });
});

describe('The check of namespaces', () => {
  const place = { file: '/etc/slurm/slurm.conf', line: 9 };
  const configured = (key: 'jobContainerType' | 'namespaceType', type: string | undefined) => ({
    configuration: { files: [], nodes: [], notes: [], places: new Map([[key, place]]), [key]: type },
    site: defaultOptions,
  });
  const tmpfs = configured('jobContainerType', 'job_container/tmpfs');

  it('warns where the module stands in account alone, and says both ways out', async () => {
    const [outcome, detail, remedy] = plain(namespaces(await linesOf(account), tmpfs));
    expect([outcome, detail]).toEqual([
      'warn',
      'job_container/tmpfs (/etc/slurm/slurm.conf:9): sessions do not join the namespaces of their job, since pam_slurm_cgroups stands in account alone (/etc/pam.d/sshd:1)',
    ]);
    expect(remedy).toContain('session required pam_slurm_cgroups.so');
    expect(remedy).toContain('join_container=account');
  });

  it('is content with a session line, with join_container=account or false on the line or in the site’s file', async () => {
    const namespace = configured('namespaceType', 'namespace/linux');
    for (const its of [tmpfs, namespace]) {
      expect(namespaces(await linesOf(account, session), its).outcome).toBe('ok');
      for (const word of ['account', 'false']) {
        expect(namespaces(await linesOf(`${account} helper=/x join_container=${word}`), its).outcome).toBe('ok');
        const site = await siteOptions(
          filesOf({ '/etc/slurm-cgroups/config.json': JSON.stringify({ join_container: word }) }),
        );
        expect(namespaces(await linesOf(account), { ...its, site }).outcome).toBe('ok');
      }
      // The account phase joins that of mounts, and then the session phase joins nothing.
      expect(namespaces(await linesOf(`${account} join_container=account`, session), its).detail).toContain(
        'join the namespace of mounts, and no other',
      );
      // A word that nobody knows is the other check's.
      expect(namespaces(await linesOf(`${account} frob=1`), its).outcome).toBe('warn');
    }
  });

  it('has nothing to say without such a plugin, or without a configuration', async () => {
    const lines = await linesOf(account);
    expect(namespaces(lines, configured('jobContainerType', undefined)).outcome).toBe('ok');
    expect(namespaces(lines, configured('jobContainerType', 'job_container/none')).outcome).toBe('ok');
    expect(namespaces(lines, { configuration: undefined, site: defaultOptions })).toMatchObject({
      outcome: 'unknown',
      detail: 'whether jobs have some is not known: slurm.conf was not read',
    });
  });
});

describe('The check of the site’s file', () => {
  const of = (text: string) => filesOf({ '/etc/slurm-cgroups/config.json': text });
  it('fails with every mistake in it; without one the defaults hold', async () => {
    expect(await siteFile(filesOf({}))).toMatchObject({ outcome: 'ok' });
    expect(await siteFile(of('{ "profile": "strict" }'))).toMatchObject({ outcome: 'ok' });
    const broken = of('{ "budget": "5s", "action_unknown": "perhaps" }');
    const [outcome, detail] = plain(await siteFile(broken));
    expect([outcome, detail]).toEqual(['fail', expect.stringMatching(/budget.*perhaps.*action_generic_failure/)]);
    expect(await siteOptions(broken)).toEqual(defaultOptions);
    expect(await siteFile(of('{'))).toMatchObject({ outcome: 'fail' });
  });

  it('fails with one that is not root’s, or too long: a login does not take it either', async () => {
    const path = '/etc/slurm-cgroups/config.json';
    const located = async () => ({
      path,
      target: path,
      size: 2,
      foreign: [{ path, uid: 64n, mode: 0o644n }],
      ownersUnknown: false,
    });
    for (const [files, says] of [
      [{ ...of('{}'), locate: located }, 'is not root'],
      [of(`{ "profile": "strict"${' '.repeat(65_536)}}`), 'larger than 65536 bytes'],
    ] as const) {
      expect(await siteFile(files)).toMatchObject({ outcome: 'fail', detail: expect.stringContaining(says) });
      expect(await siteOptions(files)).toEqual(defaultOptions);
    }
  });

  it('is unknown where it cannot be read, and hides no fault of the program', async () => {
    const failing = (error: Error) => ({ ...filesOf({}), locate: () => Promise.reject(error) });
    const denied = failing(new SystemCallError('read', '/etc/slurm-cgroups/config.json', 'EACCES'));
    await expect(siteFile(denied)).rejects.toThrow('permission denied');
    expect(await siteOptions(denied)).toEqual(defaultOptions);
    await expect(siteOptions(failing(new TypeError('ours')))).rejects.toThrow('ours');
  });
});

describe('The words of the line', () => {
  it('are the module’s own: a profile, its helper and its socket among them', async () => {
    const good = await serviceOf([`${account} profile=strict helper=/usr/bin/x socket=/run/s budget=3s ignore_root=1`]);
    expect(adopterCheck(good).detail).not.toContain('does not know');
    const checked = async (...lines: readonly string[]) =>
      adopterCheck(await serviceOf(lines, { '/usr/lib/security/pam_slurm_cgroups.so': '' }));
    expect(await checked(`${account} frob=1`)).toMatchObject({
      outcome: 'fail',
      detail:
        'pam_slurm_cgroups in account (/etc/pam.d/sshd:1) does not know "frob=1": each login is answered by action_generic_failure',
    });
    expect(await checked(account, `${session} frob=1`)).toMatchObject({
      outcome: 'fail',
      detail:
        'pam_slurm_cgroups in session (/etc/pam.d/sshd:2) does not know "frob=1": a session that another module has moved is not put back into its job',
    });
    for (const word of ['helper=slurm-cgroups', 'socket=', 'Helper=/'])
      expect(await checked(`${account} ${word}`)).toMatchObject({
        outcome: 'fail',
        remedy: 'allowed is an absolute path',
      });
  });
});

describe('loginChecks()', () => {
  it('makes them where the module is in the stack of sshd', async () => {
    const checks = await loginChecks(liveHost(), { files: filesOf({ '/etc/pam.d/sshd': account }) });
    expect(checks.map(({ name }) => name)).toEqual([
      ...['sshd', 'PAM', 'pam_systemd', 'RemoveIPC'],
      ...['site file', 'audit session', 'namespaces'],
    ]);
    expect(checks.find(({ name }) => name === 'audit session')).toMatchObject({ outcome: 'warn' });
  });
});
