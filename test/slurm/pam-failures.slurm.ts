// What goes wrong around a login, shown with a real sshd on a real Slurm. Each time: an answer within the budget, as
// it is configured; one record that says why; nothing half done, by the kernel and by Slurm; and root gets in.

import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { nestAs, shellAs } from '../support/own-steps.js';
import { type Cluster, until, users } from './cluster.js';
import { program } from './command.js';
import { landingOf } from './differential/adopter.js';
import { agentLine, jobSource, NodeWithoutSlurmd, type Source } from './differential/source.js';
import { commandOf, inJob, jobOf, PamSite, sessionBoundMs, stepdOf, where } from './pam-site.js';
import { Gate } from './session-gate.js';
import { below, everybody, type Running, running } from './session-processes.js';
import type { LoginRecord, OpenSession, SshAnswer, SshServer } from './ssh-server.js';

const [alice, bob] = users;
const uidOf = { [alice]: 1, [bob]: 2 } as const;
let site: PamSite;
let cluster: Cluster;

beforeAll(async () => {
  site = await PamSite.start();
  cluster = site.cluster;
});
afterEach(() => site.clear());
afterAll(() => cluster?.stop());

/** How a busy machine answers decides nothing: who waits for nothing has this long. */
const patient = 'budget=60s';
const strict: readonly string[] = ['action_adopt_failure=deny', 'action_generic_failure=deny'];

type Options = Partial<Parameters<PamSite['serve']>[0]>;
const serve = (
  options: readonly string[],
  more: Options & { readonly before?: Parameters<PamSite['stack']>[1] } = {},
) => site.serve({ isApart: true, pam: site.stack(options, more.before), ...more });

interface Login extends SshAnswer {
  /** The records of logins that were written during it. */
  readonly records: readonly LoginRecord[];
  /** What the module said to the system log. */
  readonly said: readonly string[];
}

/** One login at a time: it is answered in time, and what is written down meanwhile is about it. */
async function login(server: SshServer, user: string, more: readonly string[] = []): Promise<Login> {
  const before = { records: server.records.length, said: server.syslog.length };
  const begun = performance.now();
  const answer = await server.ssh(user, where, more);
  expect(performance.now() - begun, server.log).toBeLessThan(sessionBoundMs);
  return { ...answer, records: server.records.slice(before.records), said: server.syslog.slice(before.said) };
}

async function expectRootIn(server: SshServer): Promise<void> {
  expect((await server.ssh('root', ['true'])).code, server.log).toBe(0);
}

/** Let in, into that job, with one record that says so. */
async function expectIn(server: SshServer, user: keyof typeof uidOf, jobId: number): Promise<Login> {
  const found = await login(server, user);
  expect([found.code, jobOf(found.stdout)], `${server.log}\n${found.said.join('\n')}`).toEqual([0, inJob(jobId)]);
  expect(found.records).toEqual([
    expect.objectContaining({ user, action: 'allow', target: { kind: 'job', jobId, uid: uidOf[user] } }),
  ]);
  return found;
}

/** Refused, the user reads why, and one record says why. */
async function expectRefused(server: SshServer, user: string, is: { rule: string; why: string }): Promise<Login> {
  const found = await login(server, user);
  expect([found.code, found.stderr], server.log).toEqual([255, expect.stringContaining('Access denied')]);
  expect(found.records).toEqual([expect.objectContaining({ user, action: 'deny', rule: is.rule })]);
  expect(found.records[0]?.reason).toContain(is.why);
  return found;
}

/** What logins leave on the node until they end: locks and notes. */
function left(server: SshServer): readonly string[] {
  return ['adopting', 'logins'].flatMap((name) => {
    const folder = path.join(server.state, name);
    return fs.existsSync(folder) ? fs.readdirSync(folder).map((file) => `${name}/${file}`) : [];
  });
}

const untilNothingLeft = (server: SshServer) =>
  until(
    () => `nothing is left: ${left(server)}`,
    () => left(server).length === 0,
  );

/** What depends on which of two comes first, or takes long: BY_HAND=1 runs it, too. */
function byHand(name: string, act: (context: TestContext) => Promise<void>): void {
  if (process.env['BY_HAND'] === '1') it(name, act);
}
function describeByHand(name: string, act: () => void): void {
  if (process.env['BY_HAND'] === '1') describe(name, act);
}

describe('a login while jobs are suspended', () => {
  it('one of two: refused and named, or put into the other, as it is configured', async () => {
    const running = await cluster.submit(alice, 'sleep 600');
    const suspended = await cluster.submit(alice, 'sleep 600');
    await site.suspend({ uid: 1, jobId: suspended });
    const server = await serve([patient, ...strict, 'action_suspended=deny']);
    const { stderr } = await expectRefused(server, alice, { rule: 'suspended', why: `job ${suspended}` });
    expect(stderr).toContain(`your job ${suspended} on this node is suspended`);
    await expectIn(await serve([patient, ...strict, 'action_suspended=next']), alice, running);
    await expectRootIn(server);
    await site.resume(suspended);
    await expectIn(server, alice, suspended);
    await untilNothingLeft(server);
  });

  byHand(
    'suspended between the phases: the session waits with its job, others get in, and it goes on with it',
    async () => {
      const jobId = await cluster.submit(alice, 'sleep 600');
      await cluster.submit(bob, 'sleep 600');
      const gate = new Gate(site.folder);
      const server = await serve([patient, ...strict], {
        before: { session: [`session required pam_exec.so quiet ${gate.program}`] },
        config: ['MaxStartups 2:100:2'],
      });
      const answers = [1, 2, 3].map(() => server.ssh(alice, where));
      await until('all three are between the phases', () => gate.waiting === 3);
      await site.suspend({ uid: 1, jobId });
      gate.open();
      await expectRootIn(server);
      expect((await login(server, bob)).code).toBe(0);
      await expectRefused(server, alice, { rule: 'suspended', why: `job ${jobId}` });
      await site.resume(jobId);
      for (const { code, stdout } of await Promise.all(answers))
        expect([code, jobOf(stdout)]).toEqual([0, inJob(jobId)]);
      await untilNothingLeft(server);
    },
  );

  byHand(
    'suspended between the phases, and moved out of the job: not put back, action_adopt_failure decides',
    async () => {
      const jobId = await cluster.submit(alice, 'sleep 600');
      const gate = new Gate(site.folder, { elsewhere: `${cluster.nodeName}-elsewhere` });
      try {
        for (const action of ['deny', 'allow']) {
          gate.close();
          const server = await serve([patient, `action_adopt_failure=${action}`], {
            before: { session: [`session required pam_exec.so quiet ${gate.program}`] },
          });
          const answer = login(server, alice);
          await until('it is between the phases', () => gate.waiting === 1);
          await site.suspend({ uid: 1, jobId });
          gate.open();
          const { code, stdout, records, said } = await answer;
          await expectRootIn(server);
          await site.resume(jobId);
          const last = records.at(-1);
          expect([records.length, last?.action], server.log).toEqual([2, action]);
          expect(`${last?.reason}\n${last?.trace.join('\n')}`).toContain('suspended');
          expect(said.join('\n')).toContain('suspended');
          if (action === 'deny')
            expect([code, stdout]).toEqual([254, expect.stringMatching(/^Access denied .*suspended\n$/)]);
          // It says of itself that it is in no job; where the other module has moved it, it stays.
          else expect([code, jobOf(stdout)]).toEqual([0, expect.objectContaining({ variable: '' })]);
          if (action === 'allow') expect(stdout).toContain(`freezer:/${cluster.nodeName}-elsewhere`);
          await untilNothingLeft(server);
        }
      } finally {
        await gate.remove();
      }
    },
  );

  it('as many as MaxStartups, and more, refused at once: another user and root still get in', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const others = await cluster.submit(bob, 'sleep 600');
    await site.suspend({ uid: 1, jobId });
    const server = await serve([patient, ...strict], { config: ['MaxStartups 4:100:4'] });
    const waiting = await Promise.all(Array.from({ length: 8 }, () => server.ssh(alice, [], ['-N'])));
    expect(waiting.map(({ code }) => code)).toEqual(waiting.map(() => 255));
    await expectIn(server, bob, others);
    await expectRootIn(server);
    await untilNothingLeft(server);
  });
});

describeByHand('a login into a job that is at a limit', () => {
  byHand('of memory: answered in time, and the session is in the job', async () => {
    const jobId = await cluster.submit(alice, `perl -e '$x = "a" x 60e6; sleep 600'; exec sleep 600`);
    const its = { uid: 1, jobId };
    const memory = site.cgroup('memory', its);
    const used = () => Number(fs.readFileSync(`${memory}/memory.usage_in_bytes`, 'utf8'));
    await until('it has its memory', () => used() > 60e6);
    const server = await serve([patient, ...strict]);
    // Nothing is left for a session: each page that it needs ends a process of the job.
    await until('the job is at its limit', () => isTaken(`${memory}/memory.limit_in_bytes`, String(used())));
    const { code, records } = await login(server, alice);
    expect([0, 254, 255]).toContain(code);
    expect(records).toEqual([expect.objectContaining({ action: 'allow', target: expect.objectContaining({ jobId }) })]);
    expect(Number(fs.readFileSync(`${memory}/memory.failcnt`, 'utf8'))).toBeGreaterThan(0);
    await expectRootIn(server);
    fs.writeFileSync(`${memory}/memory.limit_in_bytes`, '-1');
    await expectIn(server, alice, jobId);
    await untilNothingLeft(server);
  });

  byHand('of processes: answered in time, without a session, and nothing of it is left', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const its = { uid: 1, jobId };
    // Slurm uses no pids hierarchy on v1, as it does on v2: it is made as Slurm makes the others.
    const leaf = site.cgroup('pids', its, 'step_extern/task_0');
    fs.mkdirSync(leaf, { recursive: true });
    const limit = path.join(leaf, 'pids.max');
    const server = await serve([patient, ...strict]);
    fs.writeFileSync(limit, '1');
    const { code, records } = await login(server, alice);
    expect(code, server.log).toBe(255);
    expect(server.log).toContain('fork');
    expect(records).toEqual([expect.objectContaining({ action: 'allow', target: expect.objectContaining({ jobId }) })]);
    await expectRootIn(server);
    fs.writeFileSync(limit, 'max');
    const { stdout } = await expectIn(server, alice, jobId);
    expect(jobOf(stdout).hierarchies).toContain('pids');
    await untilNothingLeft(server); // the note of a login that was cut off goes with the next
    await until('every session has ended', () => below(server).length === 0);
    for (let folder = leaf; folder !== '/sys/fs/cgroup/pids'; folder = path.dirname(folder)) fs.rmdirSync(folder);
  });
});

describe('a login while Slurm does not answer', () => {
  it('slurmd and slurmctld stopped: it needs neither', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await serve([patient, ...strict]);
    const daemons = ['slurmd', 'slurmctld'].map((name) =>
      Number(fs.readFileSync(path.join(path.dirname(cluster.spool), `${name}.pid`), 'utf8')),
    );
    for (const pid of daemons) process.kill(pid, 'SIGSTOP');
    try {
      await expectIn(server, alice, jobId);
      expect((await server.open(alice, ['echo in; exec sleep 444'])).stdout).toBe('in\n');
      await expectRootIn(server);
    } finally {
      for (const pid of daemons) process.kill(pid, 'SIGCONT');
    }
    const listed = (await site.listed(jobId)).filter((pid) => commandOf(pid).includes('444'));
    expect(listed).toHaveLength(1);
  });

  it("another user's slurmsteps stopped: it does not wait for one of them", async () => {
    const others = [await cluster.submit(bob, 'sleep 600'), await cluster.submit(bob, 'sleep 600')];
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await serve([patient, ...strict]);
    const free = (await expectIn(server, alice, jobId)).records[0];
    const stopped = others.map(stepdOf);
    for (const pid of stopped) process.kill(pid, 'SIGSTOP');
    try {
      const times: number[] = [];
      for (let time = 0; time < 3; time++)
        times.push((await expectIn(server, alice, jobId)).records[0]?.totalMs ?? Number.NaN);
      // A slurmstepd that is silent is waited for a second.
      expect(Math.min(...times) - (free?.totalMs ?? 0)).toBeLessThan(1000);
      await expectRootIn(server);
    } finally {
      for (const pid of stopped) process.kill(pid, 'SIGCONT');
    }
  });
});

describe('a login whose helper fails', () => {
  const crash = '#!/usr/bin/perl\nkill "SEGV", $$; sleep 60;\n';
  const garbage = '#!/usr/bin/perl\nprint "\\x00\\xff allow\\naction allow\\nend\\n";\n';
  /** It reads the request, and never answers; so does its child. */
  const hang = '#!/usr/bin/perl\n1 while sysread STDIN, $_, 9999 and !/^end$/m; exec "sleep", "3555";\n';
  const failures: Readonly<Record<string, { readonly text?: string; readonly uid?: number; readonly why: RegExp }>> = {
    'is missing': { why: /could not be started; it said: .*is not there/ },
    "is not root's": { text: crash, uid: 1, why: /could not be started; it said: .*is not root's/ },
    crashes: { text: crash, why: /ended without a whole answer \(signal 11\)/ },
    'prints garbage': { text: garbage, why: /answer cannot be used/ },
    hangs: { text: hang, why: /gave no answer within 1000 ms and was killed/ },
  };

  it(`${Object.keys(failures).join(', ')}: a generic failure, in its budget, and root gets in`, async () => {
    await cluster.submit(alice, 'sleep 600');
    const helper = path.join(site.folder, 'odd-helper');
    const servers = {
      deny: await serve(['budget=1s', `helper=${helper}`, 'action_generic_failure=deny']),
      ignore: await serve(['budget=1s', `helper=${helper}`, 'action_generic_failure=ignore']),
    };
    for (const [name, { text, uid = 0, why }] of Object.entries(failures)) {
      fs.rmSync(helper, { force: true });
      if (text !== undefined) fs.writeFileSync(helper, text, { mode: 0o755 });
      if (text !== undefined) fs.chownSync(helper, uid, 0);
      for (const [action, server] of Object.entries(servers)) {
        const { code, stdout, stderr, said } = await login(server, alice);
        expect([name, said], server.log).toEqual([name, expect.arrayContaining([expect.stringMatching(why)])]);
        expect(said.filter((line) => line.includes('No decision for user'))).toHaveLength(1);
        expect(said.join('\n')).toContain(`action_generic_failure=${action}`);
        if (action === 'deny')
          expect([name, code, stderr]).toEqual([name, 255, expect.stringContaining('Access denied: this node')]);
        else expect([name, code, jobOf(stdout)]).toEqual([name, 0, expect.objectContaining({ place: 'outside' })]);
      }
      await expectRootIn(servers.deny);
    }
    for (const server of Object.values(servers)) expect(left(server)).toEqual([]);
    expect(everybody().filter((pid) => commandOf(pid) === ['sleep', '3555', ''].join('\0'))).toEqual([]);
  });
});

describe('a login where files fail', () => {
  it('/run/slurm-cgroups is full, or nearly: in the job, or as action_adopt_failure says, never half', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const page = 4096;
    const pages = 16;
    const mounts = [
      `mount -t tmpfs -o size=${pages * page},mode=755 none /run/slurm-cgroups`,
      'for name in adopting adoptions logins; do mkdir /run/slurm-cgroups/$name; done',
    ];
    for (const action of ['deny', 'allow']) {
      const server = await serve([patient, `action_adopt_failure=${action}`], { mounts });
      const filler = `${server.state}/filler`;
      const fill = (free: number) => {
        for (const name of [filler, `${server.state}/logins.log`]) fs.rmSync(name, { force: true });
        fs.rmSync(`${server.state}/adoptions/${jobId}`, { recursive: true, force: true });
        fs.writeFileSync(filler, Buffer.alloc((pages - free) * page));
      };
      fill(0);
      const { code, stdout, stderr, said } = await login(server, alice);
      if (action === 'deny') {
        expect([code, stderr]).toEqual([255, expect.stringContaining('Access denied by pam_slurm_cgroups')]);
        expect(said.join('\n')).toMatch(/Access denied for user daemon .*there is no room/);
      } else {
        expect([code, jobOf(stdout)]).toEqual([0, { place: 'outside', hierarchies: [], variable: '' }]);
        expect(said.join('\n')).toMatch(/Connection by user daemon: allow: .*there is no room/);
      }
      await expectRootIn(server);
      // One page each: the lock, what it notes, the record, the note between the phases.
      for (const free of action === 'deny' ? [1, 2, 3, pages] : [2, pages]) {
        fill(free);
        const found = await login(server, alice);
        const isIn = found.code === 0 && jobOf(found.stdout).place !== 'outside';
        if (isIn) expect(jobOf(found.stdout)).toEqual(inJob(jobId));
        else if (action === 'deny') expect([free, found.code]).toEqual([free, 255]);
        else expect([free, jobOf(found.stdout)]).toEqual([free, { place: 'outside', hierarchies: [], variable: '' }]);
        expect(found.said.join('\n')).toContain(isIn ? 'adopted into job' : 'there is no room');
        if (free === pages) expect(isIn).toBe(true);
        await untilNothingLeft(server);
      }
    }
  });

  it('the configuration is broken, or not root’s: a generic failure, and right again at the next login', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const etc = path.join(site.folder, 'etc');
    fs.cpSync('/etc', etc, { recursive: true, verbatimSymlinks: true });
    const file = path.join(etc, 'slurm-cgroups/config.json');
    fs.mkdirSync(path.dirname(file), { recursive: true });
    // The lines of the PAM stack alone count: here they refuse.
    const server = await serve([patient, ...strict], { mounts: [`mount --bind ${etc} /etc`] });
    const broken: readonly (readonly [text: string, uid: number, why: string])[] = [
      ['{ "profile": "lenient"', 0, 'it is not JSON'],
      ['{ "action_unknown": "never" }', 0, 'action_unknown'],
      ['{}', 1, "is not root's"],
    ];
    for (const [text, uid, why] of broken) {
      fs.writeFileSync(file, text);
      fs.chownSync(file, uid, 0);
      const { said } = await expectRefused(server, alice, { rule: 'configuration', why });
      expect(said.join('\n')).toContain(why);
      await expectRootIn(server);
    }
    fs.chownSync(file, 0, 0);
    await expectIn(server, alice, jobId);
    await untilNothingLeft(server);
  });

  it('the tables of TCP are empty, or not there: action_adopt_failure decides, and nothing is moved', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    // In sshd's own mounts, over the folder of the process that asks: the kernel lets its files alone not be hidden.
    const empty = path.join(site.folder, 'empty-tables');
    const none = path.join(site.folder, 'no-tables');
    for (const folder of [empty, none]) fs.mkdirSync(folder);
    for (const name of ['tcp', 'tcp6']) fs.writeFileSync(path.join(empty, name), '');
    for (const [folder, action] of [
      [empty, 'deny'],
      [none, 'allow'],
    ] as const) {
      const hide = `${folder}-program`;
      fs.writeFileSync(hide, `#!/bin/sh\nexec mount --bind ${folder} /proc/$PPID/net\n`, { mode: 0o755 });
      const server = await serve([patient, `action_adopt_failure=${action}`], {
        before: { account: [`account required pam_exec.so quiet ${hide}`] },
      });
      const { code, stdout, records } = await login(server, alice);
      expect(records).toEqual([expect.objectContaining({ action, rule: 'adopt-failure' })]);
      expect(records[0]?.reason).toContain('sshd');
      if (action === 'deny') expect([code, stdout]).toEqual([255, '']);
      else expect([code, jobOf(stdout)]).toEqual([0, { place: 'outside', hierarchies: [], variable: '' }]);
      expect((await site.listed(jobId)).filter((pid) => commandOf(pid).includes('sshd'))).toEqual([]);
      await expectRootIn(server);
      expect(left(server)).toEqual([]);
    }
  });

  byHand(
    "Slurm's configuration is on a file system that does not answer: adopted by what the kernel says, in the budget",
    async (context) => {
      if (!fs.existsSync('/dev/fuse')) return context.skip('this kernel has no FUSE');
      const jobId = await cluster.submit(alice, 'sleep 600');
      const conf = path.dirname(cluster.conf);
      // Nobody reads what the kernel asks of descriptor 3, which is held until sshd ends.
      const mounts = [
        `( exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none ${conf}; : >"$0/mounted"; exec setpriv --pdeathsig KILL sleep 3600 ) &`,
        'while [ ! -e "$0/mounted" ]; do sleep 0.05; done',
      ];
      const server = await serve(['budget=20s', ...strict], { mounts });
      expect(fs.readFileSync(`/proc/${server.pid}/mountinfo`, 'utf8')).toMatch(new RegExp(` ${conf} .* - fuse `));
      await expectIn(server, alice, jobId);
      await expectRootIn(server);
      await untilNothingLeft(server);
    },
  );
});

const pause = (ms: number) => new Promise((fulfil) => setTimeout(fulfil, ms));

describeByHand('a login that is cut off', () => {
  /** Moments of a login, from its beginning to its end, by how long one takes here. */
  async function momentsOf(server: SshServer, count: number): Promise<readonly number[]> {
    const begun = performance.now();
    expect((await server.ssh(alice, where)).code).toBe(0);
    const took = performance.now() - begun;
    return Array.from({ length: count }, (_, at) => (took * at) / (count - 1));
  }

  byHand('its job ends meanwhile, at any moment: never a session outside of a job, or half in one', async () => {
    const server = await serve([patient, ...strict, 'wait_for_job=0']);
    let jobId = await cluster.submit(alice, 'sleep 600');
    for (const moment of await momentsOf(server, 5)) {
      const before = server.records.length;
      const opened = server.open(alice, ['cat /proc/self/cgroup; exec sleep 555']);
      await pause(moment);
      await cluster.run('scancel', [String(jobId)]);
      const { code, stdout } = await opened;
      if (stdout !== '') expect(jobOf(stdout)).toMatchObject({ place: 'job', job: `job_${jobId}` });
      await until(
        () => `the session ends with its job: ${JSON.stringify(below(server))}`,
        () => {
          const sessions = below(server).filter(({ uid }) => uid === uidOf[alice]);
          for (const { pid } of sessions) {
            const { place } = landingOf(pid);
            if (running(pid) !== undefined) expect([moment, place]).toEqual([moment, 'job']);
          }
          return below(server).length === 0;
        },
      );
      const records = server.records.slice(before);
      expect(records.length, JSON.stringify([moment, code, server.syslog])).toBe(1);
      await expectRootIn(server);
      jobId = await cluster.submit(alice, 'sleep 600');
    }
    await expectIn(server, alice, jobId);
    await untilNothingLeft(server);
  });

  byHand(
    'its sshd or its helper is killed, at any moment: never half in its job, nothing is left, and the next goes in',
    async () => {
      const jobId = await cluster.submit(alice, 'sleep 600');
      const server = await serve([patient, ...strict]);
      const lax = await serve([patient, 'action_adopt_failure=deny', 'action_generic_failure=ignore']);
      const isHelper = ({ pid }: Running) => commandOf(pid).includes(path.join(site.folder, 'helper'));
      const whole = (await expectIn(server, alice, jobId)).stdout;
      let moments = await momentsOf(server, 4);
      for (const [victim, its] of [
        ['monitor', server],
        ['helper', server],
        ['helper', lax],
      ] as const) {
        // Where nothing is refused, only a helper that is killed in the middle of its moves shows a difference.
        if (its === lax) moments = await momentsOf(server, 16);
        for (const moment of moments) {
          const before = its.syslog.length;
          let isOver = false;
          const answer = its.ssh(alice, where).finally(() => {
            isOver = true;
          });
          const find = () => below(its).find((one) => (victim === 'helper' ? isHelper(one) : one.ppid === its.pid));
          let found = find();
          for (; found === undefined && !isOver; found = find()) await pause(2);
          await pause(victim === 'helper' ? moment / 2 : moment);
          if (found !== undefined && running(found.pid) !== undefined) process.kill(found.pid, 'SIGKILL');
          const { code, stdout } = await answer;
          const said = its.syslog.slice(before).join('\n');
          if (code === 0 && (its !== lax || jobOf(stdout).place === 'job'))
            expect(jobOf(stdout), said).toEqual({
              ...jobOf(whole),
              ...(its === lax ? { variable: expect.anything() } : {}),
            });
          else if (code === 0) expect(jobOf(stdout), said).toMatchObject({ place: 'outside' });
          else expect(code, its.log).toBe(255);
          if (code !== 0 && victim === 'helper') expect(said).toMatch(/No decision for user daemon .* \(signal 9\)/);
          // The helper of a login that was killed ends by itself.
          await until('all of it has ended', () => below(its).length === 0 && !everybody().some(isOurs));
          await expectIn(its, alice, jobId);
        }
      }
      await expectRootIn(server);
      await untilNothingLeft(server);

      function isOurs(pid: number): boolean {
        return running(pid) !== undefined && isHelper({ pid, ppid: 0, uid: 0 });
      }
    },
  );
});

describe('a login that comes from somewhere', () => {
  /** A job that starts what it is told. */
  async function agentJob(user: keyof typeof uidOf): Promise<{ readonly jobId: number; readonly source: Source }> {
    const fifo = path.join(site.folder, `agent-of-${user}-${performance.now()}`);
    execFileSync('mkfifo', [fifo]);
    fs.chownSync(fifo, uidOf[user], uidOf[user]);
    return { jobId: await cluster.submit(user, agentLine(site.folder, fifo)), source: jobSource(fifo) };
  }

  it('from a job on this node: into that one if it is theirs, never into another user’s, however deep its tree', async () => {
    const own = await agentJob(alice);
    const others = await agentJob(bob);
    const newest = await cluster.submit(alice, 'sleep 600');
    // Up to 23.02 the directory of a step is its user's: it is made as deep as a path may be long.
    const top = site.cgroup('freezer', { uid: uidOf[bob], jobId: others.jobId }, 'step_batch');
    const [levels, name] = [300, 'nnnnnnnnn'];
    nestAs(uidOf[bob], top, { levels, name });
    try {
      const server = await serve(['budget=20s', ...strict, 'callerid_timeout=2s']);
      const from = async (source: Source) => jobOf((await server.sshFrom(source, alice, where, 'key-of-users')).stdout);
      expect(await from(own.source)).toEqual(inJob(own.jobId));
      expect(await from(others.source)).toEqual(inJob(newest));
      const traces = server.records.map(({ trace }) => trace.join('\n'));
      expect(traces).toEqual([
        expect.stringContaining(`caller ID named job ${own.jobId}`),
        expect.stringMatching(/caller ID (?:named job \d+: it belongs to uid 2|is unknown: )/),
      ]);
      await expectRootIn(server);
      await untilNothingLeft(server);
    } finally {
      for (let level = levels; level > 0; level--) fs.rmdirSync(`${top}/${Array(level).fill(name).join('/')}`);
    }
  });

  it('from a node whose slurmd refuses, drops, is late, or talks nonsense: answered in the budget, as configured', async () => {
    await cluster.submit(alice, 'sleep 600');
    const newest = await cluster.submit(alice, 'sleep 600');
    const port = /^SlurmdPort=(\d+)$/m.exec(fs.readFileSync(cluster.conf, 'utf8'))?.[1] ?? '';
    const node = await NodeWithoutSlurmd.make();
    try {
      const options = ['budget=20s', ...strict, 'callerid_timeout=1s'];
      const here = { addresses: [node.address] };
      const servers = {
        newest: await serve([...options, 'action_unknown=newest'], here),
        deny: await serve([...options, 'action_unknown=deny'], here),
      };
      // `$l` listens there. A queue that is full drops whoever comes.
      const full = 'my @c = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1:PORT", Blocking => 0) } 1 .. 8;';
      const slurmds: Readonly<
        Record<
          string,
          { readonly backlog: number; readonly does: string; readonly why: RegExp } | { readonly why: RegExp }
        >
      > = {
        refuses: { why: /could not be asked: "Connection refused"/ },
        drops: { backlog: 1, does: full, why: /did not answer within|timed out/ },
        'is late': { backlog: 8, does: 'my @s; push @s, scalar $l->accept while 1;', why: /did not answer within/ },
        'talks nonsense': {
          backlog: 8,
          does: 'while (my $s = $l->accept) { print $s "x" x 99; close $s }',
          why: /could not be asked/,
        },
      };
      for (const [name, slurmd] of Object.entries(slurmds)) {
        const ready = path.join(site.folder, `slurmd-${name.replaceAll(' ', '-')}`);
        if ('does' in slurmd) {
          const program = `use IO::Socket::INET; my $l = IO::Socket::INET->new(LocalPort => PORT, Listen => ${slurmd.backlog}, ReuseAddr => 1) or die; open my $r, ">", "${ready}"; print $r $$; close $r; ${slurmd.does} sleep 600;`;
          await node.start(`exec setpriv --pdeathsig KILL perl -e '${program.replaceAll('PORT', port)}'`);
          await until(
            `a slurmd that ${name} listens`,
            () => fs.existsSync(ready) && fs.readFileSync(ready, 'utf8') !== '',
          );
        }
        for (const [action, server] of Object.entries(servers)) {
          const answer = await server.sshFrom(node, alice, where, 'key');
          const record = server.records.at(-1);
          expect([name, record?.trace.join('\n')]).toEqual([name, expect.stringMatching(slurmd.why)]);
          if (action === 'newest') expect(jobOf(answer.stdout)).toEqual(inJob(newest));
          else
            expect([answer.code, record]).toEqual([
              255,
              expect.objectContaining({ action: 'deny', rule: 'source-unknown' }),
            ]);
          // MessageTimeout is 10 s.
          expect(record?.totalMs).toBeLessThan(8000);
          // It is remembered as silent for a minute.
          fs.rmSync(`${server.state}/silent`, { recursive: true, force: true });
        }
        await expectRootIn(servers.deny);
        if ('does' in slurmd) process.kill(Number(fs.readFileSync(ready, 'utf8')), 'SIGKILL');
      }
      for (const server of Object.values(servers)) await untilNothingLeft(server);
    } finally {
      node.close();
    }
  });
});

/** Of logins one after the other: LOGINS=1000 npm run test:slurm -- test/slurm/pam-failures.slurm.ts -t 'many' */
const logins = Number(process.env['LOGINS'] ?? 20);
/** So many stand open at once, and are looked up in one listing of Slurm's. */
const atOnce = Math.max(8, Math.min(50, Math.ceil(logins / 4)));
const besideBomb = Math.max(8, Math.min(100, Math.ceil(logins / 4)));

/**
 * Prints its pid, and stays as long as the client does. What outlives its session stays in the job, and slurmstepd starts
 * a thread for each of them whenever another session ends (Slurm 22.05; measured: 6,674 after 150 logins).
 */
const stay: readonly string[] = ['echo $$; exec cat'];

/** That Slurm lists the sessions among the processes of that job, and that each is wholly there. */
async function expectListed(sessions: readonly OpenSession[], jobId: number): Promise<void> {
  const pids = sessions.map(({ code, stdout }) => [code, Number(stdout)] as const);
  expect(pids.filter(([code, pid]) => code !== 0 || !(pid > 1))).toEqual([]);
  const listed = await site.listed(jobId);
  expect(pids.map(([, pid]) => pid).filter((pid) => !listed.includes(pid))).toEqual([]);
  for (const [, pid] of pids) expect(landingOf(pid)).toMatchObject({ place: 'job', job: `job_${jobId}` });
}

describe('many logins', () => {
  it(
    `${logins} one after the other, ${atOnce} at once: each in the job, by Slurm’s own listing, and nothing is left`,
    async () => {
      const jobId = await cluster.submit(alice, 'sleep 6000');
      const server = await serve([patient, ...strict]);
      for (let done = 0; done < logins; ) {
        const open: OpenSession[] = [];
        for (; open.length < atOnce && done < logins; done++) open.push(await server.open(alice, stay));
        await expectListed(open, jobId);
        await Promise.all(open.map((session) => session.close()));
      }
      const sessions = await Promise.all(Array.from({ length: atOnce }, () => server.open(alice, stay)));
      await expectListed(sessions, jobId);
      await Promise.all(sessions.map((session) => session.close()));
      expect(server.records.filter(({ action }) => action === 'allow')).toHaveLength(logins + atOnce);
      await until('every session has ended', () => below(server).length === 0);
      await expectRootIn(server);
      await untilNothingLeft(server);
    },
    240_000 + 10_000 * logins,
  );

  byHand('at once while another user’s processes fork without end: all are answered, and in the job', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await serve([patient, ...strict]);
    const bomb = `/sys/fs/cgroup/pids/${cluster.nodeName}-bomb`;
    fs.mkdirSync(bomb);
    const members = () =>
      fs
        .readFileSync(`${bomb}/cgroup.procs`, 'utf8')
        .split('\n')
        .map(Number)
        .filter((pid) => pid > 1);
    try {
      fs.writeFileSync(`${bomb}/pids.max`, '40');
      const fork = 'alarm 200; 1 while defined(my $child = fork) || 1';
      const words = ['--reuid', String(uidOf[bob]), '--regid', '2', '--clear-groups', 'perl', '-e', fork];
      execFile('/bin/sh', ['-c', `echo $$ >${bomb}/cgroup.procs; exec setpriv "$@"`, 'sh', ...words]);
      await until('it is at its limit', () => Number(fs.readFileSync(`${bomb}/pids.current`, 'utf8')) === 40);
      const sessions = await Promise.all(Array.from({ length: besideBomb }, () => server.open(alice, stay)));
      await expectListed(sessions, jobId);
      await expectRootIn(server);
      await Promise.all(sessions.map((session) => session.close()));
      await until('every session has ended', () => below(server).length === 0);
      expect(server.records.filter(({ action }) => action === 'allow')).toHaveLength(besideBomb);
      await expectRootIn(server);
      await untilNothingLeft(server);
    } finally {
      fs.writeFileSync(`${bomb}/pids.max`, '0');
      await until('the bomb has ended', () => {
        for (const pid of members()) process.kill(pid, 'SIGKILL');
        return members().length === 0;
      });
      fs.rmdirSync(bomb);
    }
  });
});

describe('a login while a user attacks', () => {
  it('by leaves of his own in his extern step, which he freezes: root’s sshd is not put there', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const its = { uid: 1, jobId };
    const leaves = ['freezer', 'cpuset'].map((one) => site.cgroup(one, its, 'step_extern/task_0'));
    shellAs(1, 'mkdir "$@"', ...leaves);
    const server = await serve([patient, ...strict]);
    const session = await server.open(alice, stay);
    shellAs(1, 'echo FROZEN >$1/freezer.state', leaves[0] ?? '');
    await expectIn(server, alice, jobId);
    await expectListed([session], jobId);
    const freezer = /^\d+:freezer:(.*)$/m.exec(fs.readFileSync(`/proc/${Number(session.stdout)}/cgroup`, 'utf8'))?.[1];
    expect(freezer).toMatch(new RegExp(`/job_${jobId}/step_extern$`));
    await session.close();
    await until('the session has ended', () => below(server).length === 0);
    await expectRootIn(server);
    await untilNothingLeft(server);
    for (const leaf of leaves) fs.rmdirSync(leaf);
  });

  it('by a process in halves of two of his jobs: the login goes wholly into one', async () => {
    const first = await cluster.submit(alice, 'sleep 600');
    const second = await cluster.submit(alice, 'sleep 600');
    const halves = [
      `${site.cgroup('freezer', { uid: 1, jobId: first }, 'step_batch')}/x`,
      `${site.cgroup('cpuset', { uid: 1, jobId: second }, 'step_batch')}/x`,
    ];
    shellAs(1, 'mkdir "$@"; for one in cpus mems; do cat "$2/../cpuset.$one" >"$2/cpuset.$one"; done', ...halves);
    shellAs(
      1,
      'for one in "$@"; do echo $$ >$one/cgroup.procs; done; sleep 600 </dev/null >/dev/null 2>&1 &',
      ...halves,
    );
    const inHalves = () => halves.map((half) => fs.readFileSync(`${half}/cgroup.procs`, 'utf8').trim());
    const [one, other] = inHalves();
    expect([one, one]).toEqual([expect.stringMatching(/^\d+$/), other]);
    const server = await serve([patient, ...strict, 'callerid_timeout=1s']);
    await expectIn(server, alice, second);
    await expectRootIn(server);
    await untilNothingLeft(server);
    process.kill(Number(one), 'SIGKILL');
    await until('it has ended', () => inHalves().every((pids) => pids === ''));
    for (const half of halves) fs.rmdirSync(half);
  });

  byHand(
    'beside an adoption of the same sshd into another job, by force: it is wholly in one of them, or refused',
    async () => {
      const first = await cluster.submit(alice, 'sleep 600');
      const second = await cluster.submit(alice, 'sleep 600');
      const whole = landingOf((await site.listed(first)).find((pid) => pid > 1) ?? 0).hierarchies;
      expect(whole.length).toBeGreaterThanOrEqual(4);
      // In sshd's own mounts, as the login: they see each other's locks.
      const beside = path.join(site.folder, 'beside');
      const command = `${process.execPath} ${program} adopt $PPID --uid 1 --job ${first} --force --node ${cluster.nodeName}`;
      const text = `#!/bin/sh\n( sleep $(cat ${beside}.after); ${command}; : >${beside}.ended ) </dev/null >${beside}.said 2>&1 &\n`;
      fs.writeFileSync(beside, text, { mode: 0o755 });
      const server = await serve([patient, ...strict], {
        before: { account: [`account required pam_exec.so quiet ${beside}`] },
      });
      for (const after of ['0', '0.05', '0.1', '0.2']) {
        fs.writeFileSync(`${beside}.after`, after);
        const session = await server.open(alice, stay);
        await until('the other has ended', () => fs.existsSync(`${beside}.ended`));
        fs.rmSync(`${beside}.ended`);
        const said = fs.readFileSync(`${beside}.said`, 'utf8');
        expect([0, 254, 255], said).toContain(session.code);
        // Of one that is refused, sshd is just ending.
        for (const { pid } of session.code === 0 ? below(server) : []) {
          const { place, job, hierarchies } = landingOf(pid);
          if (running(pid) === undefined) continue;
          expect([place, hierarchies], said).toEqual(['job', whole]);
          expect([`job_${first}`, `job_${second}`]).toContain(job);
        }
        await session.close();
        await until('the session has ended', () => below(server).length === 0);
      }
      await expectRootIn(server);
      await untilNothingLeft(server);
    },
  );
});

/** The kernel refuses a limit below what it cannot free just then. */
function isTaken(file: string, text: string): boolean {
  try {
    fs.writeFileSync(file, text);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EBUSY') return false;
    throw error;
  }
}
