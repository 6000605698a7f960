// What goes wrong around a login, shown with a real sshd on a real Slurm. Each time: an answer within the budget, as
// it is configured; one record that says why; nothing half done, by the kernel and by Slurm; and root gets in.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, until, users } from './cluster.js';
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
