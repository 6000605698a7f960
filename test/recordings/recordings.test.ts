// That the recordings are what they say: playable, consistent in themselves, and the converter's output.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import type { Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/testing.js';
import { expectedFor, loadRecording, recordingNames, respelled, respelledNode } from './recordings.js';

const folder = import.meta.dirname;
const captures = process.env['SHARED_FIXTURES'] ?? path.join(folder, '..', '..', '..', 'shared', 'fixtures');

interface Mount {
  readonly version: 1 | 2;
  readonly controllers: string;
  readonly mountPoint: string;
}

interface Node {
  readonly host: Host;
  readonly mounts: readonly Mount[];
  /** Every cgroup directory, the mount points first. */
  readonly cgroups: readonly { readonly mount: Mount; readonly place: string; readonly path: string }[];
  readonly pids: readonly number[];
}

function nodeOf(text: string): Node {
  const host = recordedHost(text);
  const mounts = mountsOf(host.read('/proc/self/mountinfo'));
  const cgroups: { mount: Mount; place: string; path: string }[] = [];
  const visit = (mount: Mount, place: string) => {
    const where = place === '/' ? mount.mountPoint : `${mount.mountPoint}${place}`;
    cgroups.push({ mount, place, path: where });
    for (const entry of host.entries(where)) {
      if (entry.kind === 'directory') visit(mount, place === '/' ? `/${entry.name}` : `${place}/${entry.name}`);
    }
  };
  for (const mount of mounts) visit(mount, '/');
  const pids = host
    .names('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  return { host, mounts, cgroups, pids };
}

/** Deliberately not the product's parser. */
function mountsOf(text: string): readonly Mount[] {
  return [...text.matchAll(/^\S+ \S+ \S+ \S+ (\S+) .* - (cgroup2?) \S+ (\S+)$/gm)].map(
    ([, mountPoint = '', type, options = '']) => ({
      version: type === 'cgroup2' ? 2 : 1,
      controllers: type === 'cgroup2' ? '' : options.split(',').slice(1).join(','),
      mountPoint,
    }),
  );
}

/** Place in each hierarchy, by controllers; '' is v2. */
function membershipsOf(host: Host, pid: number): ReadonlyMap<string, string> {
  const lines = host.read(`/proc/${pid}/cgroup`).trimEnd().split('\n');
  return new Map(lines.map((line) => [line.split(':')[1] ?? '', line.split(':').slice(2).join(':')]));
}

const pidsIn = (text: string) =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);

const spellings = recordingNames.flatMap((name) => [
  { name, spelling: 'recorded', text: loadRecording(name) } as const,
  { name, spelling: 'respelled', text: respelled(name) } as const,
]);

describe.each(spellings)('$name, $spelling', ({ name, spelling, text }) => {
  const node = nodeOf(text);
  const { host, cgroups, pids } = node;

  it('says what it is and what was made up', () => {
    const header: unknown = JSON.parse(text.slice(0, text.indexOf('\n')));
    expect(header).toMatchObject({ about: expect.stringMatching(/Recorded on a real node: .*Synthesized: /) });
    expect(text.length).toBeLessThan(200_000);
  });

  it('has the top directories of its spelling', () => {
    const spelled = respelledNode(name);
    const tops = cgroups
      .map((cgroup) => path.basename(cgroup.path))
      .filter((top) => /^slurm(_\w+)?$|slurmstepd\.scope$/.test(top));
    // Step directories of v2 hold a `slurm` too: those do not count.
    const counted = tops.filter((top) => top !== 'slurm' || expectedFor(name).mode !== 'unified');
    expect(counted.length).toBeGreaterThan(0);
    expect(counted.some((top) => top === `slurm_${spelled}` || top === `${spelled}_slurmstepd.scope`)).toBe(
      spelling === 'recorded',
    );
    expect(counted.some((top) => top === 'slurm' || top === 'slurmstepd.scope')).toBe(spelling === 'respelled');
  });

  it('holds every file that a cgroup lists, with the links and an inode of its own for each directory', () => {
    const inodes = new Set<string>();
    for (const cgroup of cgroups) {
      const entries = host.entries(cgroup.path);
      for (const entry of entries) if (entry.kind === 'file') host.read(`${cgroup.path}/${entry.name}`);
      const stat = host.stat(cgroup.path);
      expect(stat).toMatchObject({ mode: 0o040755n, uid: 0n, gid: 0n });
      expect(stat?.nlink, cgroup.path).toBe(BigInt(2 + entries.filter((entry) => entry.kind === 'directory').length));
      inodes.add(`${stat?.dev} ${stat?.ino}`);
    }
    expect(inodes.size).toBe(cgroups.length);
  });

  it('has each process in exactly the cgroups that name it', () => {
    const wrong: string[] = [];
    for (const pid of pids) {
      for (const [controllers, place] of membershipsOf(host, pid)) {
        const there = cgroups.find((cgroup) => cgroup.mount.controllers === controllers && cgroup.place === place);
        const listed = there !== undefined && pidsIn(host.read(`${there.path}/cgroup.procs`)).includes(pid);
        if (!listed) wrong.push(`${pid} is not in ${controllers}:${place}`);
      }
    }
    for (const cgroup of cgroups) {
      for (const pid of pidsIn(host.read(`${cgroup.path}/cgroup.procs`))) {
        const place = pids.includes(pid) ? membershipsOf(host, pid).get(cgroup.mount.controllers) : undefined;
        if (place !== cgroup.place) wrong.push(`${cgroup.path} lists ${pid}, which is in ${place}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('has a whole process behind each pid', () => {
    for (const pid of pids) {
      const comm = host.read(`/proc/${pid}/comm`).trimEnd();
      const status = host.read(`/proc/${pid}/status`);
      const uid = /^Uid:\t(\d+)\t\1\t\1\t\1$/m.exec(status)?.[1];
      expect(status).toMatch(new RegExp(`^Name:\\t${comm}$[^]*^Tgid:\\t${pid}$[^]*^Threads:\\t1$`, 'm'));
      expect(host.stat(`/proc/${pid}`)).toMatchObject({ uid: BigInt(uid ?? -1) });
      expect(host.names(`/proc/${pid}/task`)).toEqual([String(pid)]);
      const fields = host.read(`/proc/${pid}/stat`).trimEnd().split(' ');
      expect(fields).toHaveLength(52);
      expect(fields.slice(0, 3)).toEqual([String(pid), `(${comm})`, 'S']);
      expect(Number(fields[21]) / 100).toBeLessThan(Number.parseFloat(host.read('/proc/uptime')));
      expect(host.stat(host.readlink(`/proc/${pid}/exe`))).toMatchObject({ mode: 0o100755n, uid: 0n, gid: 0n });
    }
    expect(pids).toContain(host.self().pid);
    expect(host.readlink('/proc/self')).toBe(String(host.self().pid));
  });

  it('has the answers expected for exactly its processes, jobs and steps', () => {
    const expected = expectedFor(name, spelling);
    const self = host.self().pid;
    expect(expected.verify.map(({ pid }) => pid).sort(byNumber)).toEqual(
      pids.filter((pid) => pid !== self).sort(byNumber),
    );
    const steps = cgroups.filter((cgroup) => /\/step_[^/]+$/.test(cgroup.place));
    expect(expected.list.flatMap((job) => job.steps.flatMap((step) => step.hierarchies))).toHaveLength(steps.length);
    const named = expected.list.filter((job) => job.nodeName === respelledNode(name));
    expect(named.length > 0).toBe(spelling === 'recorded');
  });

  it('has the configuration and the spool that lead to the jobs', () => {
    const slurmConf = host.read('/etc/slurm/slurm.conf');
    const pattern = /^SlurmdSpoolDir=(.*)$/m.exec(slurmConf)?.[1] ?? '';
    const nodes = name.endsWith('-two-nodes') ? ['vm1', 'vm2'] : ['vm'];
    const sockets = nodes.flatMap((one) => {
      const spool = pattern.replace('%n', one);
      return host.entries(spool).filter((entry) => {
        expect(host.stat(`${spool}/${entry.name}`), entry.name).toBeDefined();
        return entry.kind === 'socket';
      });
    });
    expect(sockets).toHaveLength(expectedFor(name).list.flatMap((job) => job.steps).length);
    for (const where of ['/', '/etc', '/etc/slurm', '/etc/slurm/slurm.conf', '/etc/slurm/cgroup.conf']) {
      expect(host.stat(where)).toMatchObject({ uid: 0n });
    }
  });
});

describe('the recordings', () => {
  it('have expected answers, one file each', () => {
    const answered = fs.readdirSync(path.join(folder, 'expected')).map((file) => path.basename(file, '.json'));
    expect(answered.sort()).toEqual(recordingNames);
    expect(recordingNames.filter((name) => /-v\d[^.]*$/.test(name))).toHaveLength(12);
  });

  it('are what the converter makes of the captures', ({ skip }) => {
    if (!fs.existsSync(captures)) skip(`no captures at ${captures}: set SHARED_FIXTURES to their folder`);
    const made = outputOf('convert.mjs');
    expect([...made.keys()].sort()).toEqual(recordingNames.map((name) => `${name}.jsonl`).sort());
    expect(
      [...made]
        .filter(([file, text]) => text !== fs.readFileSync(path.join(folder, file), 'utf8'))
        .map(([file]) => file),
    ).toEqual([]);
  });

  it('are expected to answer what the captures say', ({ skip }) => {
    if (!fs.existsSync(captures)) skip(`no captures at ${captures}: set SHARED_FIXTURES to their folder`);
    const made = outputOf('expect.mjs');
    expect([...made.keys()].sort()).toEqual(recordingNames.map((name) => `${name}.json`).sort());
    for (const [file, text] of made) expect(JSON.parse(text), file).toEqual(expectedFor(path.basename(file, '.json')));
  });
});

function outputOf(script: string): ReadonlyMap<string, string> {
  const out = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-recordings-'));
  try {
    execFileSync(process.execPath, [path.join(folder, script), captures, out]);
    return new Map(
      fs
        .readdirSync(out)
        .sort()
        .map((file) => [file, fs.readFileSync(path.join(out, file), 'utf8')]),
    );
  } finally {
    fs.rmSync(out, { recursive: true });
  }
}

function byNumber(a: number, b: number): number {
  return a - b;
}
