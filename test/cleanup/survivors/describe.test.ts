import fs from 'node:fs';
import { describe, expect } from 'vitest';
import type { Survivor } from '../../../src/cleanup/report.js';
import { describeSurvivor } from '../../../src/cleanup/survivors/describe.js';
import { failingHost } from '../../../src/machine/failing.js';
import { liveHost } from '../../../src/machine/live-host.js';
import {
  fuseTest,
  lineFrom,
  memberFor,
  mountSilentFuse,
  started,
  stateOf,
  until,
} from '../../support/stuck-processes.js';
import { kernelTest, rootTest } from '../../support/test-cgroups.js';

const host = liveHost();
/** Nothing that could wait: not its memory, not a path that it uses. */
const safePath =
  /^(?:\/proc\/\d+(?:\/(?:stat|status|comm|task|task\/\d+\/(?:stat|status|wchan|cgroup|fd(?:\/\d+)?|root|cwd|exe|mountinfo|net\/tcp6?)))?|\/proc\/self\/mountinfo|\/proc\/sys\/kernel\/arch|\/proc\/cpuinfo|\/sys\/fs\/cgroup\/.+\/(?:freezer\.state|cgroup\.(?:freeze|events))|\/bin\/cat)$/;
/** With all the time that a child may need where many tests run at once. */
function describePid(pid: number): Promise<Survivor> {
  return describeSurvivor(host, memberFor(pid), { childMs: 15_000 });
}

describe('describeSurvivor() on this kernel', () => {
  fuseTest('a process that waits for a file system: names the mount, and touches nothing on it', async () => {
    const { folder, file, taken } = await mountSilentFuse('silent-server');
    const { pid } = await started('/bin/cat', [file]);
    await taken();
    process.kill(pid, 'SIGKILL');
    await until('it cannot be killed', () => stateOf(pid) === 'D');
    const begin = performance.now();
    const { why, state, evidence } = await describePid(pid);
    expect(performance.now() - begin).toBeLessThan(30_000); // one that waited would wait for ever
    const of = `pid ${pid} (cat) waits in the kernel for the program behind the FUSE file system silent-server of ${folder} (fuse)`;
    expect([why, state]).toEqual([`${of}: it ends when that program answers or ends`, 'D']);
    expect(evidence).toMatchObject({
      waitChannel: 'request_wait_answer',
      // Where FUSE is a module, its name follows.
      kernelStack: expect.arrayContaining([expect.stringMatching(/^request_wait_answer(?: \[fuse\])?$/)]),
      mount: { point: folder, type: 'fuse', source: 'silent-server', sure: true },
    });
    if (process.arch === 'x64') expect(evidence).toMatchObject({ systemCall: { name: 'read', fd: 3, link: file } });
    // Where stack and call cannot be read, the wait channel and the descriptors still tell.
    const silent = { ...host, run: async () => ({ exitCode: undefined, stdout: '', stderr: '', timedOut: true }) };
    const less = await describeSurvivor(silent, memberFor(pid), { childMs: 700 });
    expect(less.why).toBe(why);
    expect(less.evidence).toMatchObject({
      unknown: { kernelStack: 'no answer within 700 ms', systemCall: 'no answer within 700 ms' },
    });
  });

  fuseTest('a thread that waits while the process’s first has ended', async () => {
    const { file, taken } = await mountSilentFuse('silent-server');
    const { pid } = await started(process.execPath, [
      '-e',
      `require('fs').readFile('${file}', () => {}); setInterval(() => {}, 1000)`,
    ]);
    await taken();
    const reader = () =>
      fs
        .readdirSync(`/proc/${pid}/task`)
        .find((one) => fs.readFileSync(`/proc/${pid}/task/${one}/wchan`, 'utf8') === 'request_wait_answer');
    await until('a thread waits', () => reader() !== undefined);
    const tid = reader();
    process.kill(pid, 'SIGKILL');
    await until(
      'only the one that reads is left',
      () => fs.readdirSync(`/proc/${pid}/task`).length === 2 && stateOf(pid) === 'Z',
    );
    const { why, state } = await describePid(pid);
    expect(why).toMatch(
      new RegExp(
        `^pid ${pid} \\(node\\), in its thread ${tid}, waits in the kernel for the program behind the FUSE file system silent-server of `,
      ),
    );
    expect(state).toBe('D');
  });

  rootTest('a zombie: its parent', async () => {
    const parent = await started('/bin/sh', ['-c', 'sleep 0 & exec sleep 60']);
    const children = () => Number(fs.readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8'));
    await until('a zombie', () => children() > 0 && stateOf(children()) === 'Z');
    await until(
      'its parent is another program',
      () => fs.readFileSync(`/proc/${parent.pid}/comm`, 'utf8') === 'sleep\n',
    );
    const { why, state, evidence } = await describePid(children());
    expect([why, state]).toEqual([
      `pid ${children()} (sleep) is dead and waits for its parent ${parent.pid} (sleep) to collect its exit code`,
      'Z',
    ]);
    expect(evidence).toMatchObject({ parent: { pid: parent.pid, comm: 'sleep' } });
  });

  rootTest('a traced one: its tracer', async () => {
    const { pid } = await started('/bin/sleep', ['60']);
    // PTRACE_SEIZE, then PTRACE_INTERRUPT: perl is in every Debian, a debugger is not.
    const call = process.arch === 'x64' ? 101 : 117;
    const trace =
      '$| = 1; syscall($ARGV[1], 0x4206, $ARGV[0] + 0, 0, 0) == 0 && syscall($ARGV[1], 0x4207, $ARGV[0] + 0, 0, 0) == 0 or die; print "traced\\n"; sleep 60';
    const tracer = await started('/usr/bin/perl', ['-e', trace.replaceAll('$ARGV[1]', String(call)), String(pid)]);
    expect(await lineFrom(tracer)).toBe('traced');
    await until('it is stopped', () => stateOf(pid) === 't');
    const { why, evidence } = await describePid(pid);
    expect(why).toBe(`pid ${pid} (sleep) is traced by pid ${tracer.pid} (perl): it ends when that lets it go or ends`);
    expect(evidence).toMatchObject({ tracer: { pid: tracer.pid, comm: 'perl' } });
  });

  rootTest('a stopped one, and one with a listening port', async () => {
    const { pid } = await started('/bin/sleep', ['60']);
    process.kill(pid, 'SIGSTOP');
    await until('it is stopped', () => stateOf(pid) === 'T');
    expect((await describePid(pid)).why).toBe(`pid ${pid} (sleep) is stopped: SIGKILL or SIGCONT wakes it`);
    const server = await started(process.execPath, [
      '-e',
      `const s = require('net').createServer().listen(0, '127.0.0.1', () => console.log(s.address().port))`,
    ]);
    const port = await lineFrom(server);
    const { why, evidence } = await describePid(server.pid);
    expect(evidence).toMatchObject({ ports: [`127.0.0.1:${port}`] });
    expect(why).toMatch(new RegExp(`\\(it listens on 127\\.0\\.0\\.1:${port}\\)$`));
  });
});

describe.each(['freezer', 'unified'])('describeSurvivor() on this kernel', (key) => {
  kernelTest(`a frozen one: the cgroup that is, ${key}`, [key], async (area) => {
    const cgroup = area.at(key);
    const { pid } = await area.sleeper(cgroup);
    const file = cgroup.hierarchy.version === 1 ? ['freezer.state', 'FROZEN', 'THAWED'] : ['cgroup.freeze', '1', '0'];
    fs.writeFileSync(`${cgroup.directory}/${file[0]}`, file[1] ?? '');
    try {
      // v1: uninterruptible, wherever it slept; v2: interruptible in a trap, whose function is not the same everywhere.
      const events = `${cgroup.directory}/cgroup.events`;
      const trapped = () => fs.existsSync(events) && /^frozen 1$/m.test(fs.readFileSync(events, 'utf8'));
      await until('it is frozen', () => stateOf(pid) === 'D' || trapped());
      const { why, evidence } = await describePid(pid);
      expect(why).toBe(
        `pid ${pid} (sleep) is frozen with its cgroup ${cgroup.directory}: it ends when that is thawed (scontrol resume for a suspended job; else by what froze it)`,
      );
      expect(evidence).toMatchObject({ frozenAt: cgroup.directory });
    } finally {
      fs.writeFileSync(`${cgroup.directory}/${file[0]}`, file[2] ?? '');
    }
  });
});

describe('describeSurvivor()', () => {
  rootTest('says that a process has ended meanwhile, and takes no other for it', async () => {
    const child = await started('/bin/sleep', ['60']);
    const member = memberFor(child.pid);
    const other = await describeSurvivor(host, { ...member, startTime: member.startTime + 1n });
    expect(other).toEqual({
      pid: child.pid,
      comm: 'sleep',
      state: 'X',
      why: `pid ${child.pid} (sleep) has ended meanwhile`,
      evidence: {},
    });
    child.kill('SIGKILL');
    await until('it is gone', () => !fs.existsSync(`/proc/${child.pid}`));
    expect(await describeSurvivor(host, member)).toEqual(other);
  });

  rootTest('leaves out what cannot be read, whichever call fails, and closes what it opened', async () => {
    const { pid } = await started('/bin/sleep', ['60']);
    // While its program is still being read, it waits for a disk, and more is looked at than later.
    await until('it sleeps', () => /nanosleep/.test(fs.readFileSync(`/proc/${pid}/wchan`, 'utf8')));
    const member = memberFor(pid);
    const counting = failingHost(host);
    await describeSurvivor(counting, member);
    expect(counting.calls.length).toBeGreaterThan(10);
    for (const { path } of counting.calls) expect(path).toMatch(safePath);
    for (let nth = 1; nth <= counting.calls.length; nth++) {
      for (const errno of ['EIO', 'EACCES']) {
        const failing = failingHost(host, { nth, errno });
        const { why, evidence } = await describeSurvivor(failing, member);
        expect(failing.calls.length).toBeGreaterThanOrEqual(nth);
        expect(why).toMatch(new RegExp(`^pid ${pid} \\(sleep\\) (?!has ended)`));
        const { path } = failing.calls[nth - 1] ?? { path: '' };
        if (!/\/(?:comm|status|task\/\d+\/stat)$/.test(path)) expect(evidence, path).toHaveProperty('unknown');
        expect(failing.openDirectories()).toBe(0);
      }
    }
  });
});
