// What the module's helper answers, as a process of its own. Whole logins are met by the tests on real Slurm.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatMessage, loginProtocol, parseLoginReply } from '../../../src/adopt/login-protocol.js';
import { identityOf } from '../../../src/cgroup/process.js';
import { Sandbox } from '../../../src/cli/sandbox.js';
import { uptimeMs } from '../../../src/machine/clock.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { keepLoginLog } from '../../support/login-log.js';
import { programFile } from '../../support/program-run.js';

const isRoot = process.getuid?.() === 0;
const host = liveHost();
const adoptions = '/run/slurm-cgroups/adoptions';
let folder: string;

afterAll(keepLoginLog());

beforeEach(() => {
  folder = fs.mkdtempSync(isRoot ? '/run/slurm-cgroups-test-pam-' : '/tmp/slurm-cgroups-test-pam-');
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

const requestWith = (changes: Readonly<Record<string, string>> = {}, options: readonly string[] = []): string => {
  const { pid, startTime } = identityOf(host, process.pid);
  const lines = {
    ...{ phase: 'account', deadline: String(uptimeMs(host) + 60_000), user: 'daemon', uid: '1', pid: String(pid) },
    ...{ start: String(startTime), threads: '1', service: 'sshd' },
    ...changes,
  };
  const words = options.map((word) => ['option', word] as const);
  return formatMessage(loginProtocol.request, [...Object.entries(lines), ...words]);
};

const run = (input: string, { words = [] as readonly string[], env = {}, uid = process.getuid?.() ?? 0 } = {}) => {
  const file = path.join(folder, 'config.json');
  const config = words.includes('--config') || Object.keys(env).length > 0 ? [] : ['--config', file];
  const { status, stdout, stderr } = spawnSync(process.execPath, [programFile, 'pam', ...words, ...config], {
    ...{ input, env, uid, cwd: '/', encoding: 'utf8', timeout: 120_000, killSignal: 'SIGKILL' },
  });
  return { exitCode: status, stdout, stderr };
};

const configure = (text: string, mode = 0o600) => {
  fs.writeFileSync(path.join(folder, 'config.json'), text, { mode });
  fs.chmodSync(path.join(folder, 'config.json'), mode);
};

describe.runIf(isRoot)('slurm-cgroups pam', () => {
  it('answers a request with one reply', () => {
    // Whether this machine is a Slurm node or not: a user without a job is not let in by any strict node.
    const { exitCode, stdout, stderr } = run(requestWith({}, ['profile=strict', 'wait_for_job=0']));
    expect(stderr).toBe('');
    expect(parseLoginReply(stdout)).toMatchObject({ action: 'deny', isCounted: false, cgroups: [] });
    expect(exitCode).toBe(1);
  });

  it('leaves another service to other modules', () => {
    const { exitCode, stdout } = run(requestWith({ service: 'cron' }));
    expect(parseLoginReply(stdout)).toMatchObject({ action: 'ignore' });
    expect(exitCode).toBe(0);
  });

  it('answers a mistake on the PAM line with action_generic_failure, and names it', () => {
    const ignored = run(requestWith({}, ['action_unknwon=deny']));
    expect(ignored.exitCode).toBe(0);
    const reply = parseLoginReply(ignored.stdout);
    expect(reply).toMatchObject({ action: 'ignore', log: [{ severity: 3 }] });
    expect(reply.log[0]?.line).toContain('action_unknwon');
    const denied = run(requestWith({}, ['action_unknwon=deny', 'action_generic_failure=deny']));
    expect(denied.exitCode).toBe(1);
    expect(parseLoginReply(denied.stdout)).toMatchObject({ action: 'deny' });
    // As where nothing is wrong: an action of its own counts more than a profile, wherever it stands.
    const both = run(requestWith({}, ['action_generic_failure=deny', 'profile=lenient', 'rank=oldest']));
    expect(parseLoginReply(both.stdout)).toMatchObject({ action: 'deny' });
    const stict = run(requestWith({}, ['profile=stict', 'action_generic_failure=deny']));
    expect(parseLoginReply(stict.stdout)).toMatchObject({ action: 'deny' });
  });

  it('reads the configuration of the site, and lets the PAM line win', () => {
    configure('{ "profile": "strict", "wait_for_job": 0, "messages": { "no-jobs": "N", "not-slurm": "N" } }');
    const reply = parseLoginReply(run(requestWith({}, ['action_generic_failure=deny'])).stdout);
    expect(reply).toMatchObject({ action: 'deny' });
    const lenient = run(requestWith({}, ['profile=lenient', 'action_no_jobs=ignore']));
    expect(parseLoginReply(lenient.stdout)).toMatchObject({ action: 'ignore' });
  });

  it.each([
    ['{ "budget": 3 }', 0o600, 'PAM line alone'],
    ['{', 0o600, 'not JSON'],
    ['{}', 0o666, 'others than its owner'],
  ])('does not take the configuration %j of mode %o', (text, mode, why) => {
    configure(text, mode);
    const { exitCode, stdout } = run(requestWith());
    const reply = parseLoginReply(stdout);
    expect(reply.action).toBe('ignore');
    expect(reply.log[0]?.line).toContain(why);
    expect(exitCode).toBe(0);
  });

  it('does not take the configuration of another user', () => {
    configure('{}');
    fs.chownSync(path.join(folder, 'config.json'), 1, 1);
    expect(parseLoginReply(run(requestWith()).stdout).log[0]?.line).toContain('is not root');
  });

  it('refuses a request that is none with one line, and answers nothing', () => {
    for (const text of ['', 'hello\n', requestWith().replace('uid 1\n', 'uid x\n')]) {
      const { exitCode, stdout, stderr } = run(text);
      expect([exitCode, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(/^slurm-cgroups pam: Cannot read the message: .*\n$/);
    }
  });

  it('answers nothing after the deadline', () => {
    const { exitCode, stdout, stderr } = run(requestWith({ deadline: '1' }));
    expect([exitCode, stdout]).toEqual([1, '']);
    expect(stderr).toContain('The time of this login was over');
  });

  it('runs under pam_exec: the environment is the request', () => {
    const env = { PAM_TYPE: 'account', PAM_USER: 'daemon', PAM_SERVICE: 'sshd' };
    const config = ['--config', path.join(folder, 'none.json')];
    const denied = run('', { env, words: ['profile=strict', 'wait_for_job=0', ...config] });
    expect(denied.exitCode).toBe(1);
    expect(denied.stdout).toMatch(/^Access denied by pam_slurm_cgroups: .*\n$/);
    for (const other of [{ PAM_USER: 'root' }, { PAM_TYPE: 'open_session' }, { PAM_SERVICE: 'cron' }])
      expect(run('', { env: { ...env, ...other }, words: ['profile=strict', ...config] }).exitCode).toBe(0);
    expect(run('', { env: { PAM_TYPE: 'account' } })).toMatchObject({ exitCode: 2 });
  });

  it('answers nothing for a sandbox that is not there, and takes none from the request', () => {
    const { exitCode, stdout, stderr } = run(requestWith(), { words: ['--within', '/slurm-cgroups-demo-none'] });
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(stderr).toContain('There is no cgroup "/slurm-cgroups-demo-none" on this node (--within)');
    const asked = run(requestWith({}, ['within=/slurm-cgroups-demo-none', 'action_generic_failure=deny']));
    expect(parseLoginReply(asked.stdout)).toMatchObject({ action: 'deny' });
    expect(parseLoginReply(asked.stdout).log[0]?.line).toContain('within');
  });

  it('puts a session into the job of a sandbox, and leaves no record for an epilog', async () => {
    const sandbox = await Sandbox.create(host, 'slurm-cgroups-test-pam');
    const records = () => (fs.existsSync(adoptions) ? fs.readdirSync(adoptions) : []);
    try {
      await sandbox.addJob({ jobId: 7, uid: 1 });
      const { pid } = await sandbox.startSleeper(1);
      const start = String(identityOf(host, pid).startTime);
      const before = records();
      const { stdout } = run(requestWith({ pid: String(pid), start }), { words: ['--within', sandbox.within] });
      const reply = parseLoginReply(stdout);
      expect(reply).toMatchObject({ action: 'allow', jobId: 7, isCounted: false });
      expect(reply.cgroups).toHaveLength(sandbox.controllers.length);
      expect(fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`${sandbox.within}/`);
      expect(records().filter((name) => !before.includes(name) && name.includes(String(pid)))).toEqual([]);
      fs.rmSync(`/run/slurm-cgroups/logins/${pid}-${start}`);
    } finally {
      await sandbox.remove();
    }
  });

  it('takes options as words from pam_exec alone', () => {
    expect(run(requestWith(), { words: ['action_unknown=deny'] })).toMatchObject({ exitCode: 2, stdout: '' });
  });

  it('is for root alone', () => {
    const { exitCode, stderr } = run(requestWith(), { uid: 1 });
    expect(exitCode).toBe(3);
    expect(stderr).toContain('only root may move processes between jobs');
  });
});
