import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Cgroup, holdCgroup } from '../../src/cgroup/cgroup.js';
import { freeze, isToldToFreeze, thaw } from '../../src/cgroup/freezer.js';
import { thawLeftovers, writeFrozenNote } from '../../src/cgroup/frozen-note.js';
import { discoverHierarchies } from '../../src/cgroup/hierarchies.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { Sandbox } from '../../src/cli/sandbox.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import type { Directory, Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { canUseCgroups, mayBeSkipped } from '../support/may-run.js';
import { firstPidNamespace, inPidNamespace, seenFrom } from '../support/pid-namespaces.js';

const host = liveHost();
const folder = '/run/slurm-cgroups/frozen';

/** A process that has ended: what it froze is left over. */
function deadPid(): number {
  return Number(spawnSync('/bin/sh', ['-c', 'echo $$'], { encoding: 'utf8' }).stdout);
}

describe.skipIf(!canUseCgroups && mayBeSkipped)('Notes of what was frozen (needs root and cgroups)', () => {
  let sandbox: Sandbox;
  let cgroup: Cgroup;
  let directory: Directory;
  beforeEach(async () => {
    sandbox = await Sandbox.create(host, 'slurm-cgroups-test');
    const found = (await sandbox.addJob({ jobId: 1, uid: 64_743 })).cgroups.find(
      (one) => one.hierarchy.controllers.includes('freezer') || one.hierarchy.version === 2,
    );
    if (found === undefined) throw new Error('no freezer');
    cgroup = found;
    directory = holdCgroup(host, cgroup);
  });
  afterEach(async () => {
    thaw({ cgroup, directory });
    directory.close();
    await sandbox.remove();
  });
  // In the sandbox alone: what other tests' killed runs froze is theirs to find.
  const thawAll = (on: Host = host, within = sandbox.within) =>
    thawLeftovers(on, discoverHierarchies(), { deadline: deadlineIn(on, 60_000), within });
  const inode = () => host.stat(cgroup.directory)?.ino.toString() ?? '';
  const notes = () => fs.readdirSync(folder).filter((name) => name.includes(`-${inode()}-`));
  const leaveNote = (change: Readonly<Record<string, unknown>>) => {
    writeFrozenNote(host, cgroup, directory);
    const file = `${folder}/${notes()[0]}`;
    fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), pid: deadPid(), ...change }));
  };

  it('thaws what a killed run left frozen, and forgets the note', async () => {
    leaveNote({});
    await freeze(host, { cgroup, directory }, { timeoutMs: 1000 });
    expect(isToldToFreeze(host, cgroup)).toBe(true);
    expect(await thawAll()).toContain(cgroup.directory);
    expect([isToldToFreeze(host, cgroup), notes()]).toEqual([false, []]);
  });

  it('leaves what was frozen elsewhere than in the cgroup that was named', async () => {
    leaveNote({});
    await freeze(host, { cgroup, directory }, { timeoutMs: 1000 });
    expect(await thawAll(host, cgroupPath(`${sandbox.within}-other`))).toEqual([]);
    expect([isToldToFreeze(host, cgroup), notes().length]).toEqual([true, 1]);
    expect(await thawAll()).toEqual([cgroup.directory]);
  });

  it.each([
    ['of an earlier boot', { bootId: '00000000-0000-0000-0000-000000000000' }],
    ['of a cgroup that was made anew', { inode: '1' }],
  ])('only forgets a note %s', async (_, change) => {
    leaveNote(change);
    await freeze(host, { cgroup, directory }, { timeoutMs: 1000 });
    expect(await thawAll()).not.toContain(cgroup.directory);
    expect([isToldToFreeze(host, cgroup), notes()]).toEqual([true, []]);
  });

  it('leaves what was frozen in a container to it while that runs, whatever its pid is here', async () => {
    const gone = await inPidNamespace(async (pidNamespace) => {
      leaveNote({ pidNamespace });
      await freeze(host, { cgroup, directory }, { timeoutMs: 1000 });
      expect(await thawAll()).not.toContain(cgroup.directory);
      expect([isToldToFreeze(host, cgroup), notes().length]).toEqual([true, 1]);
    });
    // Now it is over. Whether that can be told depends on where this test runs.
    const seesAll = gone !== '' && host.readlink('/proc/self/ns/pid') === firstPidNamespace;
    await thawAll();
    expect([isToldToFreeze(host, cgroup), notes().length]).toEqual(seesAll ? [false, 0] : [true, 1]);
    for (const name of notes()) fs.unlinkSync(`${folder}/${name}`);
  });

  it.each([
    ['in the first namespace, which sees all: thawed', firstPidNamespace, false],
    ['in another: left, since it cannot be seen', 'pid:[4026531999]', true],
  ])('of a container that is over, asked %s', async (_, own, isLeft) => {
    const here = seenFrom(host, own, 'pid:[5]');
    leaveNote({ pidNamespace: 'pid:[4026539999]' });
    await freeze(host, { cgroup, directory }, { timeoutMs: 1000 });
    const thawed = await thawAll(here);
    expect([thawed.includes(cgroup.directory), isToldToFreeze(host, cgroup), notes().length]).toEqual(
      isLeft ? [false, true, 1] : [true, false, 0],
    );
    for (const name of notes()) fs.unlinkSync(`${folder}/${name}`);
  });

  it('names the pid namespace of this process', () => {
    const note = writeFrozenNote(host, cgroup, directory);
    const written = JSON.parse(fs.readFileSync(`${folder}/${notes()[0]}`, 'utf8'));
    expect(written.pidNamespace).toBe(fs.readlinkSync('/proc/self/ns/pid'));
    note.remove();
  });

  it('leaves to the living what they froze, and alone what has no note (a suspended job)', async () => {
    await freeze(host, { cgroup, directory }, { timeoutMs: 1000 });
    expect(await thawAll()).not.toContain(cgroup.directory);
    const note = writeFrozenNote(host, cgroup, directory);
    expect(await thawAll()).not.toContain(cgroup.directory);
    expect([isToldToFreeze(host, cgroup), notes().length]).toEqual([true, 1]);
    note.remove();
    note.remove(); // once more is no error
    expect(notes()).toEqual([]);
  });

  it('reads a note of 0.1.0, which names no pid namespace', async () => {
    leaveNote({ pidNamespace: undefined });
    await freeze(host, { cgroup, directory }, { timeoutMs: 1000 });
    expect(await thawAll()).toContain(cgroup.directory);
    leaveNote({ pidNamespace: undefined, pid: process.pid });
    await freeze(host, { cgroup, directory }, { timeoutMs: 1000 });
    expect(await thawAll()).not.toContain(cgroup.directory);
    for (const name of notes()) fs.unlinkSync(`${folder}/${name}`);
  });

  it('leaves the note of a hierarchy that this run does not see, or sees a part of, to one that does', async () => {
    // In a folder of its own: any other cleaner of this machine sees the cgroup, and would do its work.
    const own = fs.mkdtempSync('/run/slurm-cgroups/test-notes-');
    const at = (path: string) => path.replace(folder, own);
    const apart: Host = {
      ...host,
      create: (path, text) => host.create(at(path), text),
      mkdir: (path) => host.mkdir(at(path)),
      names: (path) => host.names(at(path)),
      read: (path) => host.read(at(path)),
      stat: (path) => host.stat(at(path)),
      unlink: (path) => host.unlink(at(path)),
    };
    const all = discoverHierarchies();
    const thawSeen = (seen: typeof all.all) =>
      thawLeftovers(apart, { ...all, all: seen }, { deadline: deadlineIn(apart, 60_000) });
    try {
      writeFrozenNote(apart, cgroup, directory);
      const [name = ''] = fs.readdirSync(own);
      const note = JSON.parse(fs.readFileSync(`${own}/${name}`, 'utf8'));
      fs.writeFileSync(`${own}/${name}`, JSON.stringify({ ...note, pid: deadPid() }));
      await thawSeen(all.all.filter(({ key }) => key !== note.hierarchy));
      await thawSeen(all.all.map((one) => ({ ...one, root: cgroupPath('/elsewhere') })));
      expect(fs.readdirSync(own)).toEqual([name]);
      expect(await thawSeen(all.all)).toEqual([cgroup.directory]);
      expect(fs.readdirSync(own)).toEqual([]);
    } finally {
      fs.rmSync(own, { recursive: true });
    }
  });

  it('leaves a note that is cut off to its living writer, who may be at it, and forgets that of a dead one', async () => {
    writeFrozenNote(host, cgroup, directory);
    const [name = ''] = notes();
    fs.writeFileSync(`${folder}/${name}`, '{"boot');
    await thawAll();
    expect(notes()).toEqual([name]);
    // No pid is that high.
    fs.renameSync(`${folder}/${name}`, `${folder}/${name.replace(/-\d+-\d+-\d+$/, '-4194304-1-1')}`);
    await thawAll();
    expect(notes()).toEqual([]);
  });

  it('freezes nothing where the folder is not safe', () => {
    const odd: Host = {
      ...host,
      stat: (path) => (path === folder ? fs.lstatSync('/tmp', { bigint: true }) : host.stat(path)),
    };
    expect(() => writeFrozenNote(odd, cgroup, directory)).toThrow('must be a folder that only root can write');
  });
});
