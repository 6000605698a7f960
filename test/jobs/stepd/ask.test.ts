import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { askStepd, askSteps, openStepd, type StepdOptions } from '../../../src/jobs/stepd/ask.js';
import type { StepdQuestion } from '../../../src/jobs/stepd/protocol.js';
import { type StepSocket, socketOf } from '../../../src/jobs/stepd/sockets.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { failingHost } from '../../../src/machine/failing.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { recordedHost } from '../../../src/testing.js';
import { answersOf, int32s, type RecordedStepd, recordedStepds, speakAs } from '../../support/stepd-server.js';
import { trustedInTests, unixSandbox } from '../../support/unix-server.js';

const host = liveHost();
const sandbox = unixSandbox();
afterAll(() => sandbox.close());
afterEach(async () => {
  await expect.poll(sandbox.open).toBe(0); // every connection was closed
});
const inTime = (ms = 20_000, signal?: AbortSignal): StepdOptions => ({
  ...{ host, trusted: trustedInTests },
  deadline: deadlineIn(host, ms, signal),
});
const questions: readonly StepdQuestion[] = ['uid', 'state', 'daemonPid', 'nodeId', 'x11Display', 'sluid'];

let lastJob = 0;
/** A socket of a job of its own. */
function nextSocket(folder = sandbox.folder): StepSocket {
  return socketOf(folder, { nodeName: 'vm', jobId: ++lastJob, stepId: 'extern' });
}

async function serving(serve: (socket: net.Socket) => void): Promise<StepSocket> {
  const socket = nextSocket();
  await sandbox.serve(socket.name, serve);
  return socket;
}

const anyRecorded = (recordedStepds().find(([, { server }]) => server === 45) ?? expect.unreachable())[1];

describe('askStepd()', () => {
  it.each(recordedStepds().filter((_, at) => at % 8 === 0))(
    'gets from %s what was recorded',
    async (_name, recorded) => {
      const versions: number[] = [];
      const socket = await serving(speakAs(recorded, { pieces: 3, asked: (number) => versions.push(number) }));
      const { answers, failures, serverVersion } = await askStepd(socket, questions, inTime());
      expect(answers).toEqual(answersOf(recorded));
      expect(serverVersion).toBe(recorded.server << 8);
      expect(versions[0]).toBe(46 << 8);
      expect(failures.map(({ failure, request }) => [failure, request])).toEqual(
        recorded.server < 44 ? [['unsupported', 'sluid']] : [],
      );
      // A question that it does not know would have cost the connection.
      expect(versions.includes(1)).toBe(recorded.server >= 44);
    },
  );

  it('offers a larger number to a server that takes only newer ones', async () => {
    const newer: RecordedStepd = { ...anyRecorded, server: 60 };
    expect((await askStepd(await serving(speakAs(newer)), ['uid'], inTime())).answers).toEqual({ uid: newer.uid });
    const none = await askStepd(await serving((socket) => socket.end(int32s(-1))), ['uid'], inTime());
    expect(none.failures.map(({ failure }) => failure)).toEqual(['refused']);
  });

  it('spends its deadline once on a server that accepts and is silent, whatever it is asked', async () => {
    for (const [greeting, failure] of [
      [Buffer.alloc(0), 'silent'],
      [int32s(45 << 8).subarray(0, 2), 'silent'],
      [int32s(45 << 8), 'silent'],
      [Buffer.concat([int32s(45 << 8), Buffer.from('ab')]), 'garbled'], // unasked
    ] as const) {
      const socket = await serving((connection) => void connection.write(greeting));
      const begun = host.now();
      const { answers, failures } = await askStepd(socket, questions, inTime(150));
      const took = host.now() - begun;
      expect(answers).toEqual({});
      expect(new Set(failures.map((error) => error.failure))).toEqual(new Set([failure]));
      expect(took).toBeLessThan(30_000);
    }
  });

  it.each<[string, string, (socket: net.Socket) => void]>([
    ['closes at once', 'refused', (socket) => socket.destroy()],
    ['closes after half a version', 'refused', (socket) => socket.end(Buffer.from([0, 45]))],
    ['closes after its version', 'refused', (socket) => socket.end(int32s(45 << 8))],
    ['refuses the version', 'refused', (socket) => socket.end(int32s(-1))],
    ['speaks another language', 'garbled', (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['counts more processes than there can be', 'garbled', (socket) => socket.write(int32s(45 << 8, -1))],
    [
      'never stops talking',
      'garbled',
      (socket) => {
        const more = () => {
          while (!socket.destroyed && socket.write(Buffer.alloc(65_536, 1)));
        };
        socket.on('drain', more);
        more();
      },
    ],
    ['is not there', 'absent', () => {}],
  ])('says of a server that %s: %s', async (what, failure, serve) => {
    const socket = what === 'is not there' ? nextSocket() : await serving(serve);
    const begun = host.now();
    const { answers, failures } = await askStepd(socket, ['nodeId', 'uid'], inTime());
    expect(host.now() - begun).toBeLessThan(30_000);
    expect(answers).toEqual({});
    expect(failures[0]).toMatchObject({
      code: 'ERR_STEPD',
      failure,
      subject: { path: `${socket.folder}/${socket.name}`, jobId: socket.jobId },
    });
    expect(failures[0]?.message).toMatch(/^Cannot ask .*slurmstepd at ".*vm_\d+\.4294967292": /);
  });

  it('never connects to what is no socket, a symbolic link, or in a folder that others can write in', async () => {
    const real = await serving(speakAs(anyRecorded));
    const below = (socket: StepSocket) => path.join(sandbox.folder, socket.name);
    const made = (make: (where: string) => void) => {
      const socket = nextSocket();
      make(below(socket));
      return socket;
    };
    const strange = [
      made((where) => fs.mkdirSync(where)),
      made((where) => fs.writeFileSync(where, '')),
      made((where) => void spawnSync('mkfifo', [where])),
      made((where) => fs.symlinkSync(below(real), where)),
    ];
    for (const socket of strange) {
      const { failures } = await askStepd(socket, ['uid'], inTime());
      expect(failures.map(({ failure }) => failure)).toEqual(['untrusted']);
    }
    const open = path.join(sandbox.folder, 'open');
    fs.mkdirSync(open);
    await sandbox.serve(`open/${real.name}`, speakAs(anyRecorded));
    fs.symlinkSync(sandbox.folder, path.join(sandbox.folder, 'linked'));
    for (const [folder, mode, failure] of [
      [open, 0o777, 'untrusted'],
      [open, 0o1777, 'untrusted'],
      [open, 0o775, 'untrusted'],
      [path.join(sandbox.folder, 'linked'), 0, 'untrusted'],
      [path.join(sandbox.folder, 'nothing'), 0, 'absent'],
      [below(real), 0, 'untrusted'],
    ] as const) {
      if (mode !== 0) fs.chmodSync(folder, mode);
      const { failures } = await askStepd({ ...real, folder }, ['uid'], inTime());
      expect(
        failures.map((error) => error.failure),
        folder,
      ).toEqual([failure]);
    }
    fs.chmodSync(open, 0o755);
    expect((await askStepd({ ...real, folder: open }, ['uid'], inTime())).answers).toEqual({ uid: anyRecorded.uid });
    const { failures } = await askStepd(real, ['uid'], { ...inTime(), trusted: new Set([4_242_424n]) });
    expect(failures[0]?.message).toContain('not to root or SlurmUser');
  });

  it('knows a socket on which nothing listens any more, and waits for one whose queue is full', async () => {
    const socket = nextSocket();
    const deaf = await sandbox.deaf(socket.name, 1);
    const fill = net.connect(path.join(sandbox.folder, socket.name));
    const begun = host.now();
    const late = await askStepd(socket, ['uid', 'state'], inTime(150));
    expect(late.failures.map(({ failure }) => failure)).toEqual(['silent']);
    expect(host.now() - begun).toBeGreaterThan(140);
    fill.destroy();
    deaf.kill('SIGKILL');
    await expect
      .poll(async () => (await askStepd(socket, ['uid'], inTime())).failures.map(({ failure }) => failure))
      .toEqual(['dead']);
  });

  it('asks a socket below a path longer than a socket address', async () => {
    const deep = path.join(sandbox.folder, 'd'.repeat(120));
    fs.mkdirSync(deep);
    const fd = fs.openSync(deep, 'r');
    const socket = nextSocket(deep);
    const server = net.createServer(speakAs(anyRecorded));
    await new Promise<void>((fulfil) => server.listen(`/proc/self/fd/${fd}/${socket.name}`, fulfil));
    expect((await askStepd(socket, ['uid'], inTime())).answers).toEqual({ uid: anyRecorded.uid });
    await new Promise((fulfil) => server.close(fulfil));
    fs.closeSync(fd);
  });

  it('throws the reason of an abort, and what a recording refuses', async () => {
    const socket = await serving(() => {});
    const stop = new AbortController();
    const asked = askStepd(socket, ['uid'], inTime(20_000, stop.signal));
    setTimeout(() => stop.abort(new Error('not wanted any more')), 20);
    await expect(asked).rejects.toThrow('not wanted any more');
    const recording = recordedHost('{"recording":"slurm-cgroups","version":1,"self":{"pid":2,"uid":0}}');
    await expect(askStepd(socket, ['uid'], { ...inTime(), host: recording })).rejects.toMatchObject({
      code: 'ERR_NOT_RECORDED',
    });
  });

  it('leaves nothing open whichever call fails', async () => {
    const socket = await serving(speakAs(anyRecorded));
    const run = async (nth?: number) => {
      const failing = failingHost(host, nth === undefined ? {} : { nth });
      const { failures } = await askStepd(socket, ['uid', 'state'], { ...inTime(), host: failing });
      expect(failing.openDirectories()).toBe(0);
      return { calls: failing.calls, failures };
    };
    const { calls } = await run();
    expect(calls.map(({ call }) => call)).toEqual([
      'open',
      'stat',
      'stat',
      'connect',
      'send',
      'receive',
      'send', // both questions
      'receive',
      'receive',
    ]);
    for (let nth = 1; nth <= calls.length; nth++)
      expect((await run(nth)).failures[0]).toMatchObject({ failure: 'unreachable', cause: { errno: 'EIO' } });
  });
});

describe('openStepd()', () => {
  it('asks several questions on one connection, one after the other, and adds a process', async () => {
    const numbers: number[] = [];
    const socket = await serving(speakAs(anyRecorded, { asked: (number) => numbers.push(number) }));
    const step = { ...socket };
    const opened = await openStepd(step, inTime());
    const stepd = opened.outcome === 'answered' ? opened.value : expect.unreachable();
    const { deadline } = inTime();
    expect(
      await Promise.all([stepd.ask('uid', deadline), stepd.ask('nodeId', deadline), stepd.ask('state', deadline)]),
    ).toEqual([
      { outcome: 'answered', value: anyRecorded.uid },
      { outcome: 'answered', value: anyRecorded.nodeid },
      { outcome: 'answered', value: 'running' },
    ]);
    expect(numbers.slice(1)).toEqual([20, 21, 5]);
    expect(await stepd.addPid(4711, deadline)).toMatchObject({ outcome: 'refused' }); // the recorded one is step 0
    expect(numbers.slice(4)).toEqual([22, 4711]);
    expect(await stepd.ask('uid', deadline)).toMatchObject({ outcome: 'answered' });
    stepd.close();
    expect(await stepd.ask('uid', deadline)).toMatchObject({ outcome: 'unreachable' });
  });
});

describe('askSteps()', () => {
  it('asks many, at most eight at once, in the order given; stopped ones cost their own time alone', async () => {
    let [now, most] = [0, 0];
    const counting: Host = {
      ...host,
      open: (folder) => {
        const held = host.open(folder);
        return {
          ...held,
          connect: async (name, deadline) => {
            most = Math.max(most, ++now);
            const connection = await held.connect(name, deadline);
            return {
              ...connection,
              close: () => {
                now--;
                connection.close();
              },
            };
          },
        };
      },
    };
    const sockets: StepSocket[] = [];
    for (let at = 0; at < 30; at++) {
      sockets.push(
        await serving((socket) => {
          if (at % 10 !== 3) speakAs({ ...anyRecorded, uid: at })(socket);
        }),
      );
    }
    const begun = host.now();
    const reports = await askSteps(sockets, ['uid', 'state'], { ...inTime(), host: counting, eachTimeoutMs: 1000 });
    expect(reports.map(({ answers }) => answers.uid)).toEqual(sockets.map((_, at) => (at % 10 === 3 ? undefined : at)));
    expect([now, most]).toEqual([0, 8]);
    expect(host.now() - begun).toBeLessThan(30_000);
    expect(await askSteps([], ['uid'], inTime())).toEqual([]);
  });

  it('ends in time though none answers', async () => {
    const sockets: StepSocket[] = [];
    for (let at = 0; at < 12; at++) sockets.push(await serving(() => {}));
    const begun = host.now();
    const reports = await askSteps(sockets, ['uid'], inTime(200));
    expect(host.now() - begun).toBeLessThan(30_000);
    expect(reports.map(({ failures }) => failures[0]?.failure)).toEqual(sockets.map(() => 'silent'));
  });
});
