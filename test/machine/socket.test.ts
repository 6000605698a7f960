import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import type { WaitOptions } from '../../src/machine/deadline.js';
import { failingHost } from '../../src/machine/failing.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';
import type { Connection } from '../../src/machine/socket.js';
import { unixSandbox } from '../support/unix-server.js';

const sandbox = unixSandbox();
afterAll(() => sandbox.close());
const host = liveHost();
const soon: WaitOptions = { timeoutMs: 100 };
const patient: WaitOptions = { timeoutMs: 20_000 };

async function connectTo(name: string, options = patient, folder = sandbox.folder): Promise<Connection> {
  const directory = host.open(folder);
  try {
    return await directory.connect(name, options);
  } finally {
    directory.close();
  }
}

const text = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes).toString());

describe('Directory.connect()', () => {
  it('sends, and receives exactly what is asked for, in whatever pieces it comes', async () => {
    await sandbox.serve('echo', (socket) => socket.on('data', (bytes) => void socket.write(bytes)));
    const connection = await connectTo('echo');
    connection.send(Buffer.from('abc'));
    expect(text(await connection.receive(1, patient))).toBe('a');
    expect(text(await connection.receive(0, patient))).toBe('');
    expect(text(await connection.receive(2, patient))).toBe('bc');
    const waiting = connection.receive(200_000, patient);
    for (let at = 0; at < 200; at++) connection.send(Buffer.alloc(1000, at));
    expect((await waiting)?.length).toBe(200_000);
    expect(connection.pending).toBe(false);
    connection.close();
    await expect.poll(sandbox.open).toBe(0);
  });

  it('gives the same bytes however they were cut, and however many are asked for at a time', async () => {
    let pieces: readonly Uint8Array[] = [];
    await sandbox.serve('cut', (socket) => {
      socket.setNoDelay();
      for (const piece of pieces) socket.write(piece);
      socket.end();
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 12 }),
        fc.array(fc.nat({ max: 50 }), { maxLength: 12 }),
        async (cut, lengths) => {
          pieces = cut;
          const whole = Buffer.concat(cut);
          const connection = await connectTo('cut');
          let at = 0;
          for (const length of lengths) {
            const bytes = await connection.receive(length, patient);
            const rest = whole.subarray(at, at + length);
            expect(bytes === undefined ? undefined : Buffer.from(bytes)).toEqual(
              rest.length === length ? rest : undefined,
            );
            if (bytes === undefined) break;
            at += length;
          }
          connection.close();
        },
      ),
      { numRuns: 60 },
    );
  });

  it('says that the other side closed: at once, in the middle, or with something of ours unread', async () => {
    await sandbox.serve('closes', (socket) => socket.end());
    await sandbox.serve('half', (socket) => socket.end('ab'));
    await sandbox.serve('resets', (socket) => socket.once('readable', () => socket.destroy()));
    for (const [name, length] of [['closes', 4] as const, ['half', 4] as const, ['resets', 4] as const]) {
      const connection = await connectTo(name);
      connection.send(Buffer.from('ours'));
      expect(await connection.receive(length, patient), name).toBeUndefined();
      connection.send(Buffer.from('more')); // it is not read, and that is not said
      expect(await connection.receive(length, patient), name).toBeUndefined();
      connection.close();
    }
  });

  it('waits no longer than it may, and gives what came after that to the next', async () => {
    const answer: net.Socket[] = [];
    await sandbox.serve('silent', (socket) => answer.push(socket));
    const connection = await connectTo('silent');
    const begun = host.now();
    await expect(connection.receive(4, soon)).rejects.toMatchObject({ errno: 'ETIMEDOUT', code: 'ERR_IO' });
    expect(host.now() - begun).toBeLessThan(30_000);
    answer[0]?.write('late');
    expect(text(await connection.receive(4, patient))).toBe('late');
    const stop = new AbortController();
    const waiting = connection.receive(4, { ...patient, signal: stop.signal });
    stop.abort(new Error('not wanted any more'));
    await expect(waiting).rejects.toThrow('not wanted any more');
    await expect(connection.receive(4, { ...patient, signal: stop.signal })).rejects.toThrow('not wanted any more');
    connection.close();
    expect(await connection.receive(4, patient)).toBeUndefined();
  });

  it('keeps no more of an endless answer than a buffer holds', async () => {
    let sent = 0;
    await sandbox.serve('endless', (socket) => {
      const more = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536))) sent += 65_536;
      };
      socket.on('drain', more);
      more();
    });
    const connection = await connectTo('endless');
    expect((await connection.receive(4, patient))?.length).toBe(4);
    await host.sleep(200);
    const before = sent;
    await host.sleep(200);
    expect([sent, connection.pending]).toEqual([before, true]);
    expect(sent).toBeLessThan(4 << 20);
    connection.close();
  });

  it('asks a server whose queue is full until the time is over, or there is a place', async () => {
    const server = await sandbox.deaf('deaf', 2);
    const connections = [await connectTo('deaf'), await connectTo('deaf')];
    const begun = host.now();
    await expect(connectTo('deaf', soon)).rejects.toMatchObject({ errno: 'ETIMEDOUT' });
    expect(host.now() - begun).toBeGreaterThan(90);
    const stop = new AbortController();
    const aborted = connectTo('deaf', { ...patient, signal: stop.signal });
    stop.abort(new Error('not wanted any more'));
    await expect(aborted).rejects.toThrow('not wanted any more');
    const waiting = connectTo('deaf');
    server.kill('SIGKILL');
    await expect(waiting).rejects.toMatchObject({ errno: 'ECONNREFUSED' });
    for (const connection of connections) connection.close();
  });

  it('never tries again through a descriptor that was closed meanwhile', async () => {
    await sandbox.deaf('deaf-too', 1);
    const first = await connectTo('deaf-too');
    const directory = host.open(sandbox.folder);
    const waiting = directory.connect('deaf-too', patient);
    directory.close();
    await expect(waiting).rejects.toThrow(TypeError);
    first.close();
  });

  it('reaches a socket below a path longer than a socket address', async () => {
    const deep = path.join(sandbox.folder, 'd'.repeat(120));
    fs.mkdirSync(deep);
    const fd = fs.openSync(deep, 'r');
    const server = net.createServer((socket) => socket.end('deep'));
    await new Promise<void>((fulfil) => server.listen(`/proc/self/fd/${fd}/s`, fulfil));
    const connection = await connectTo('s', patient, deep);
    expect(text(await connection.receive(4, patient))).toBe('deep');
    connection.close();
    await new Promise((fulfil) => server.close(fulfil));
    fs.closeSync(fd);
    await expect(connectTo('n'.repeat(100))).rejects.toMatchObject({ errno: 'ENAMETOOLONG' });
  });

  it('tells by errno what is no server', async () => {
    fs.mkdirSync(path.join(sandbox.folder, 'folder'));
    fs.writeFileSync(path.join(sandbox.folder, 'file'), '');
    spawnSync('mkfifo', [path.join(sandbox.folder, 'fifo')]);
    for (const [name, errno] of [
      ['nothing', 'ENOENT'],
      ['folder', 'ECONNREFUSED'],
      ['file', 'ECONNREFUSED'],
      ['fifo', 'ECONNREFUSED'],
    ] as const) {
      await expect(connectTo(name), name).rejects.toMatchObject({
        errno,
        subject: { path: path.join(sandbox.folder, name) },
      });
    }
  });
});

it('failingHost() counts and fails what is done through a connection', async () => {
  await sandbox.serve('counted', (socket) => socket.on('data', (bytes) => void socket.write(bytes)));
  const run = async (nth?: number) => {
    const failing = failingHost(host, nth === undefined ? {} : { nth });
    const directory = failing.open(sandbox.folder);
    const connection = await directory.connect('counted', patient);
    try {
      connection.send(Buffer.from('abcd'));
      expect(connection.pending).toBe(false);
      expect(failing.openDirectories()).toBe(2);
      expect(text(await connection.receive(4, patient))).toBe('abcd');
    } finally {
      connection.close();
      directory.close();
      expect(failing.openDirectories()).toBe(0);
    }
    return failing.calls.map(({ call }) => call);
  };
  expect(await run()).toEqual(['open', 'connect', 'send', 'receive']);
  for (const nth of [1, 2, 3, 4]) await expect(run(nth)).rejects.toMatchObject({ errno: 'EIO' });
});

it('a recording connects to nothing', async () => {
  const recorded = recordedHost(
    '{"recording":"slurm-cgroups","version":1,"self":{"pid":2,"uid":0}}\n{"list":"/s","entries":{"x":"socket"}}\n',
  );
  await expect(recorded.open('/s').connect('x', patient)).rejects.toMatchObject({ code: 'ERR_NOT_PERMITTED' });
});
