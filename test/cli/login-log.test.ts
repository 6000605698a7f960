import fs from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AdoptionRecord } from '../../src/adopt/record.js';
import { loginLine, logLogin } from '../../src/cli/login-log.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { anyText } from '../support/any-cgroups.js';
import { type StateElsewhere, stateElsewhere } from '../support/state-elsewhere.js';
import { until } from '../support/stuck-processes.js';
import { unixSandbox } from '../support/unix-server.js';

const live = liveHost();

const record = (changes: Partial<AdoptionRecord> = {}): AdoptionRecord => ({
  id: '4711-123-1',
  time: '2026-11-30T11:00:00.000Z',
  process: { pid: 4711, startTime: '123' },
  uid: 1001,
  user: 'alice',
  service: 'sshd',
  connection: '192.0.2.1 51234 192.0.2.2 22',
  decision: { action: 'adopt', rule: 'single-job', reason: 'uid 1001 has one job here' },
  target: { kind: 'job', jobId: 5, uid: 1001 },
  route: 'cgroup',
  proof: [{ controllers: ['memory'], path: '/slurm/uid_1001/job_5/step_extern' }],
  action: 'allow',
  rule: 'single-job',
  reason: 'The session is in job 5',
  trace: ['uid 1001 has one job here', 'adoption into job 5: adopted'],
  stagesMs: { jobs: 1.5, adoption: 2 },
  totalMs: 4,
  ...changes,
});

let state: StateElsewhere;
beforeEach(() => {
  state = stateElsewhere(live);
});
afterEach(() => state.remove());

/** A machine whose journal, if it has one, is in that folder. */
const withJournal = (folder = '/nowhere'): Host => ({
  ...state.host,
  open: (path) => state.host.open(path === '/run/systemd/journal' ? folder : path),
});
const file = () => `${state.folder}/logins.log`;
const linesIn = (name = file()) =>
  fs
    .readFileSync(name, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('logLogin()', () => {
  it('writes one line to the stream socket of the journal, all of it though it closes at once', async () => {
    const sandbox = unixSandbox();
    try {
      let text = '';
      await sandbox.serve('stdout', (socket) => {
        socket.on('data', (bytes) => {
          text += bytes;
        });
      });
      const long = record({
        action: 'deny',
        trace: Array.from({ length: 400 }, (_, at) => `line ${at} ${'x'.repeat(90)}`),
      });
      const host = withJournal(sandbox.folder);
      expect(await logLogin(host, record())).toBeUndefined();
      expect(await logLogin(host, long)).toBeUndefined();
      await until(
        'the connections are closed',
        () => sandbox.open() === 0 && text.endsWith('}\n') && text.length > 40_000,
      );
      const lines = text.trimEnd().split('\n');
      expect(lines.filter((line) => line === 'slurm-cgroups')).toHaveLength(2);
      expect(lines.slice(1, 7)).toEqual(['', '86', '1', '0', '0', '0']);
      const written = lines.filter((line) => line.startsWith('<'));
      expect(written.map((line) => line.slice(0, 3)).sort()).toEqual(['<5>', '<6>']);
      const found = written.map((line) => JSON.parse(line.slice(3)));
      expect(found).toEqual(expect.arrayContaining([record(), long]));
      expect(state.left()).toEqual([]);
    } finally {
      await sandbox.close();
    }
  });

  it('waits no longer than 300 ms for a journal that takes no connection, and writes to the file', async () => {
    const sandbox = unixSandbox();
    try {
      await sandbox.deaf('stdout', 1);
      const host = withJournal(sandbox.folder);
      const held = host.open('/run/systemd/journal');
      const connections = [];
      try {
        // It has room for one or two, as the kernel counts.
        for (let full = false; !full; ) {
          const made = await held.connect('stdout', { timeoutMs: 20 }).catch(() => undefined);
          full = made === undefined;
          if (made !== undefined) connections.push(made);
        }
        const before = performance.now();
        expect(await logLogin(host, record())).toBeUndefined();
        expect(performance.now() - before).toBeGreaterThan(250);
        expect(performance.now() - before).toBeLessThan(3000);
        expect(linesIn()).toEqual([record()]);
      } finally {
        for (const one of connections) one.close();
        held.close();
      }
    } finally {
      await sandbox.close();
    }
  });

  it('appends to a file of its user alone where there is no journal', async () => {
    for (const uid of [1, 2, 3]) expect(await logLogin(withJournal(), record({ uid }))).toBeUndefined();
    expect(linesIn().map(({ uid }) => uid)).toEqual([1, 2, 3]);
    expect(fs.statSync(file()).mode & 0o777).toBe(0o600);
    expect(state.left()).toEqual(['logins.log']);
  });

  it('begins a new file at 4 MB, and keeps one old one', async () => {
    for (const text of ['oldest', 'older']) {
      fs.writeFileSync(file(), text.padEnd(4 << 20), { mode: 0o600 });
      expect(await logLogin(withJournal(), record())).toBeUndefined();
      expect(fs.readFileSync(`${file()}.1`, 'utf8').trimEnd()).toBe(text);
      expect(linesIn()).toEqual([record()]);
      expect(state.left()).toEqual(['logins.log', 'logins.log.1']);
    }
    fs.truncateSync(file(), (4 << 20) - 1);
    await logLogin(withJournal(), record());
    expect(fs.statSync(file()).size).toBeGreaterThan(4 << 20);
  });

  it('loses nothing where another login has begun a new file at the same moment', async () => {
    fs.writeFileSync(file(), ''.padEnd(4 << 20), { mode: 0o600 });
    let others = 0;
    const host: Host = {
      ...withJournal(),
      rename: (from, to) => {
        if (others++ === 0) {
          fs.renameSync(file(), `${file()}.1`);
          fs.writeFileSync(file(), `${JSON.stringify({ other: 1 })}\n`, { mode: 0o600 });
        }
        state.host.rename(from, to);
      },
    };
    expect(await logLogin(host, record())).toBeUndefined();
    expect(linesIn()).toEqual([{ other: 1 }, record()]);
    expect(fs.statSync(`${file()}.1`).size).toBe(4 << 20);
    expect(state.left()).toEqual(['logins.log', 'logins.log.1']);
  });

  it('writes to no link and no file that others can read, and says why', async () => {
    const target = `${state.folder}/target`;
    fs.symlinkSync(target, file());
    expect(await logLogin(withJournal(), record())).toContain('it must be a file that only root can read');
    expect(fs.existsSync(target)).toBe(false);
    fs.rmSync(file());
    fs.writeFileSync(file(), '', { mode: 0o644 });
    expect(await logLogin(withJournal(), record())).toContain('it must be a file that only root can read');
    fs.rmSync(file());
    fs.chmodSync(state.folder, 0o777);
    expect(await logLogin(withJournal(), record())).toContain('it must be a folder that only root can write');
  });

  it('fails no login, whichever call fails', async () => {
    for (const errno of ['EIO', 'ENOSPC', 'EACCES', 'ENOENT', 'ELOOP', 'EROFS', 'ENOMEM'])
      for (let nth = 1; ; nth++) {
        fs.writeFileSync(file(), ''.padEnd(4 << 20), { mode: 0o600 });
        const host = failingHost(withJournal(), { nth, errno });
        const why = await logLogin(host, record());
        expect(why === undefined || typeof why === 'string').toBe(true);
        if (why === undefined) expect(fs.readFileSync(file(), 'utf8'), `${errno} ${nth}`).toContain('4711-123-1');
        expect(host.openDirectories()).toBe(0);
        if (host.calls.length < nth) break;
      }
  });
});

describe('loginLine()', () => {
  const mostBytes = 48_000;

  it('is one line of JSON that holds no control character, and all that is short enough', () => {
    fc.assert(
      fc.property(anyText, fc.array(anyText, { maxLength: 30 }), (text, trace) => {
        const given = record({ user: text, connection: text, reason: text, trace });
        const line = loginLine(given);
        expect(line.endsWith('}\n')).toBe(true);
        expect(line.slice(0, -1)).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u);
        expect(Buffer.byteLength(line)).toBeLessThanOrEqual(mostBytes);
        const parsed = JSON.parse(line);
        if (parsed.cut !== true) expect(parsed).toEqual(JSON.parse(JSON.stringify(given)));
      }),
    );
  });

  it('is cut where a record is long, says so, and keeps who came and what the answer was', () => {
    const adoption = {
      ...({ outcome: 'adopted', route: 'cgroup', moved: 'cgroup', accounting: 'none', trace: [] } as const),
      hierarchies: [{ controllers: ['memory'], path: '/a', outcome: 'moved' }] as const,
      descendants: Array.from({ length: 5000 }, (_, at) => ({ pid: at + 2, outcome: 'adopted' as const })),
    };
    const children = JSON.parse(loginLine(record({ adoption })));
    expect([children.cut, children.adoption.descendants.length]).toEqual([true, 20]);
    const lines = Array.from({ length: 9000 }, (_, at) => `line ${at}`);
    const { cut, trace, proof } = JSON.parse(loginLine(record({ trace: lines })));
    expect([cut, trace[0], trace[20], trace.at(-1)]).toEqual([
      true,
      'line 0',
      '… 8960 lines are left out here …',
      'line 8999',
    ]);
    expect(proof).toEqual(record().proof);
    const nasty = '\u202e'.repeat(100_000);
    const all = { user: nasty, service: nasty, connection: nasty, reason: nasty, trace: Array(50).fill(nasty) };
    const line = loginLine(record(all));
    expect(Buffer.byteLength(line)).toBeLessThanOrEqual(mostBytes);
    expect(JSON.parse(line)).toMatchObject({
      ...{ id: '4711-123-1', uid: 1001, action: 'allow', rule: 'single-job', cut: true, process: { pid: 4711 } },
      target: { jobId: 5 },
    });
  });
});
