// What goes wrong around a login, shown with a real sshd on a real Slurm. Each time: an answer within the budget, as
// it is configured; one record that says why; nothing half done, by the kernel and by Slurm; and root gets in.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, until, users } from './cluster.js';
import { landingOf } from './differential/adopter.js';
import { commandOf, inJob, jobOf, PamSite, sessionBoundMs, stepdOf, where } from './pam-site.js';
import type { LoginRecord, SshAnswer, SshServer } from './ssh-server.js';

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

/**
 * Holds sessions up between their phases, by pam_exec, until it is opened. `elsewhere`: it moves them out of their job
 * before, in the freezer hierarchy alone, so that they do not stop with it.
 */
class Gate {
  readonly program: string;
  readonly #folder: string;
  readonly #elsewhere: string | undefined;

  constructor(folder: string, { elsewhere }: { readonly elsewhere?: string } = {}) {
    this.#folder = fs.mkdtempSync(path.join(folder, 'gate-'));
    this.program = path.join(this.#folder, 'program');
    this.#elsewhere = elsewhere === undefined ? undefined : `/sys/fs/cgroup/freezer/${elsewhere}`;
    if (this.#elsewhere !== undefined) fs.mkdirSync(this.#elsewhere);
    const lines = [
      '#!/bin/sh',
      ...(this.#elsewhere === undefined
        ? []
        : [`for one in $PPID $$; do echo $one >${this.#elsewhere}/cgroup.procs; done`]),
      `: >${this.#folder}/waits-$$`,
      `while [ ! -e ${this.#folder}/open ]; do sleep 0.05; done`,
    ];
    fs.writeFileSync(this.program, `${lines.join('\n')}\n`, { mode: 0o755 });
  }

  /** How many have come to it. */
  get waiting(): number {
    return fs.readdirSync(this.#folder).filter((name) => name.startsWith('waits-')).length;
  }

  open(): void {
    fs.writeFileSync(`${this.#folder}/open`, '');
  }

  close(): void {
    for (const name of fs.readdirSync(this.#folder)) if (name !== 'program') fs.rmSync(path.join(this.#folder, name));
  }

  async remove(): Promise<void> {
    this.open();
    const elsewhere = this.#elsewhere;
    if (elsewhere === undefined) return;
    await until('nobody is elsewhere', () => fs.readFileSync(`${elsewhere}/cgroup.procs`, 'utf8') === '');
    fs.rmdirSync(elsewhere);
  }
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

  it('suspended between the phases: the session waits with its job, others get in, and it goes on with it', async () => {
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
    for (const { code, stdout } of await Promise.all(answers)) expect([code, jobOf(stdout)]).toEqual([0, inJob(jobId)]);
    await untilNothingLeft(server);
  });

  it('suspended between the phases, and moved out of the job: not put back, action_adopt_failure decides', async () => {
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
  });

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

describe('a login into a job that is at a limit', () => {
  it('of memory: answered in time, and the session is in the job', async () => {
    const jobId = await cluster.submit(alice, `perl -e '$x = "a" x 60e6; sleep 600'; exec sleep 600`);
    const its = { uid: 1, jobId };
    const memory = site.cgroup('memory', its);
    const used = () => Number(fs.readFileSync(`${memory}/memory.usage_in_bytes`, 'utf8'));
    await until('it has its memory', () => used() > 60e6);
    const server = await serve([patient, ...strict]);
    // Nothing is left for a session: each page that it needs ends a process of the job.
    fs.writeFileSync(`${memory}/memory.limit_in_bytes`, String(used()));
    const { code, records } = await login(server, alice);
    expect([0, 254, 255]).toContain(code);
    expect(records).toEqual([expect.objectContaining({ action: 'allow', target: expect.objectContaining({ jobId }) })]);
    expect(Number(fs.readFileSync(`${memory}/memory.failcnt`, 'utf8'))).toBeGreaterThan(0);
    await expectRootIn(server);
    fs.writeFileSync(`${memory}/memory.limit_in_bytes`, '-1');
    await expectIn(server, alice, jobId);
    await untilNothingLeft(server);
  });

  it('of processes: answered in time, without a session, and nothing of it is left', async () => {
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
    const hanging = fs
      .readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid) && commandOf(Number(pid)) === 'sleep\x003555\0');
    expect(hanging).toEqual([]);
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
      for (const free of [1, 2, 3, pages]) {
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

  it("Slurm's configuration is on a file system that does not answer: adopted by what the kernel says, in the budget", async (context) => {
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
  });
});

/** What runs below the sshd that listens. */
function below(server: SshServer): readonly Running[] {
  const all = fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => running(Number(name)) ?? []);
  const found: Running[] = [];
  for (let above = [server.pid]; above.length > 0; ) {
    const next = all.filter(({ ppid }) => above.includes(ppid));
    found.push(...next);
    above = next.map(({ pid }) => pid);
  }
  return found;
}

interface Running {
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
}

/** Neither ended nor a zombie. */
function running(pid: number): Running | undefined {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    const [, state, ppid, uid] = /^State:\s(\S)[\s\S]*^PPid:\s(\d+)[\s\S]*^Uid:\s(\d+)/m.exec(status) ?? [];
    return state === 'Z' || state === 'X' ? undefined : { pid, ppid: Number(ppid), uid: Number(uid) };
  } catch {
    return undefined;
  }
}

const pause = (ms: number) => new Promise((fulfil) => setTimeout(fulfil, ms));

describe('a login that is cut off', () => {
  /** Moments of a login, from its beginning to its end, by how long one takes here. */
  async function momentsOf(server: SshServer, count: number): Promise<readonly number[]> {
    const begun = performance.now();
    expect((await server.ssh(alice, where)).code).toBe(0);
    const took = performance.now() - begun;
    return Array.from({ length: count }, (_, at) => (took * at) / (count - 1));
  }

  it('its job ends meanwhile, at any moment: never a session outside of a job, or half in one', async () => {
    const server = await serve([patient, ...strict, 'wait_for_job=0']);
    let jobId = await cluster.submit(alice, 'sleep 600');
    for (const moment of await momentsOf(server, 7)) {
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

  it('its sshd or its helper is killed, at any moment: nothing is left, and the next goes in', async () => {
    const jobId = await cluster.submit(alice, 'sleep 600');
    const server = await serve([patient, ...strict]);
    const isHelper = ({ pid }: Running) => commandOf(pid).includes(path.join(site.folder, 'helper'));
    const moments = await momentsOf(server, 6);
    for (const victim of ['monitor', 'helper'] as const) {
      for (const moment of moments) {
        const answer = server.ssh(alice, where);
        let pid: number | undefined;
        const find = () => {
          pid = below(server).find((one) => (victim === 'helper' ? isHelper(one) : one.ppid === server.pid))?.pid;
          return pid !== undefined;
        };
        while (!find()) await pause(2);
        await pause(victim === 'helper' ? moment / 2 : moment);
        const isThere = pid !== undefined && running(pid) !== undefined;
        if (isThere && pid !== undefined) process.kill(pid, 'SIGKILL');
        const { code, stdout } = await answer;
        if (code === 0) expect(jobOf(stdout)).toEqual(inJob(jobId));
        else expect(code, server.log).toBe(255);
        if (code !== 0 && victim === 'helper')
          expect(server.syslog.at(-2)).toMatch(/No decision for user daemon .*without a whole answer \(signal 9\)/);
        // The helper of a login that was killed ends by itself.
        await until('all of it has ended', () => below(server).length === 0 && !helpers().some(isOurs));
        await expectIn(server, alice, jobId);
      }
    }
    await expectRootIn(server);
    await untilNothingLeft(server);

    function helpers(): readonly number[] {
      return fs
        .readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .map(Number);
    }
    function isOurs(pid: number): boolean {
      return running(pid) !== undefined && isHelper({ pid, ppid: 0, uid: 0 });
    }
  });
});
