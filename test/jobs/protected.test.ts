// Who is never moved. An sshd is played by Node under that name: what is looked at is the executable, the uids and
// the sockets. A real one, with a real connection, is met by the tests on real Slurm.

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { rootPath } from '../../src/cgroup/path.js';
import { holdProcess, withProcess } from '../../src/cgroup/process.js';
import { readNode } from '../../src/jobs/node.js';
import { connectionsOfMonitor, findSlurmd, refusalToMove, rootExecutable } from '../../src/jobs/protected.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { hasCode, SlurmCgroupsError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { readMountTable } from '../../src/machine/mount-table.js';
import { recordedHost } from '../../src/machine/recording.js';
import { expectedFor, loadRecording, recordingNames } from '../recordings/recordings.js';
import {
  alice,
  bob,
  childrenOf,
  inWorld,
  kernels,
  onKernels,
  stateOf,
  until,
  type World,
} from '../support/kernel-jobs.js';
import { playSshd } from '../support/played-sshd.js';

onKernels((kernel) => {
  /** Why alice's job does not get that process; the process is where it was, in every hierarchy. */
  const refused = async (world: World, pid: number): Promise<string> => {
    const before = fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    const error = await adopt(pid, await world.job(102), { node: await world.node() }).catch(
      (thrown: unknown) => thrown,
    );
    expect(fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toBe(before);
    if (!(error instanceof SlurmCgroupsError)) throw new Error(`It was not refused: ${JSON.stringify(error)}`);
    return `${error.code}: ${error.message.replace(/^.* is not moved: it /, '')}`;
  };

  const taken = async (world: World, pid: number) => {
    const { outcome } = await adopt(pid, await world.job(102), { node: await world.node() });
    expect(outcome).toBe('adopted');
    expect(world.places(pid)).toEqual(world.leaves(102));
  };

  describe('adopt() never moves', () => {
    inWorld(kernel, 'pid 1, this process, and a thread', async (world) => {
      await world.twoJobs();
      expect(await refused(world, 1)).toBe('ERR_PROTECTED: is the first process of this machine');
      expect(await refused(world, process.pid)).toBe('ERR_PROTECTED: is this command itself');
      const thread = fs
        .readdirSync('/proc/self/task')
        .map(Number)
        .find((tid) => tid !== process.pid);
      expect(await refused(world, thread ?? 0)).toMatch(/^ERR_NO_SUCH_PROCESS: \d+ is a thread of process \d+/);
    });

    const kernelThread = [2, 3].find(
      (pid) => /^0::\/$/m.test(text(`/proc/${pid}/cgroup`)) && text(`/proc/${pid}/status`).includes('\nKthread:\t1'),
    );
    if (kernelThread !== undefined) {
      inWorld(kernel, 'a thread of the kernel', async (world) => {
        await world.twoJobs();
        expect(await refused(world, kernelThread)).toBe('ERR_PROTECTED: is a thread of the kernel');
      });
    }

    inWorld(kernel, 'a process that has ended', async (world) => {
      await world.twoJobs();
      const parent = await world.shell(`/bin/true & exec sleep ${world.lifetime}`);
      await until('a zombie', () => childrenOf(parent).some((pid) => stateOf(pid) === 'Z'));
      const [zombie = 0] = childrenOf(parent);
      expect(await refused(world, zombie)).toMatch(/^ERR_NO_SUCH_PROCESS: Process \d+ \(true\) has ended/);
    });

    inWorld(kernel, 'a process of root or of another user', async (world) => {
      await world.twoJobs();
      expect(await refused(world, await world.session(0))).toBe("ERR_PROTECTED: is root's");
      expect(await refused(world, await world.session(bob))).toBe(
        `ERR_PROTECTED: belongs to uid ${bob}, not to uid ${alice}`,
      );
    });

    inWorld(kernel, 'a setuid program, also under the name of slurmstepd', async (world) => {
      await world.twoJobs();
      const program = world.copy('/bin/sleep', 'slurmstepd', { mode: 0o4755 });
      const link = path.join(world.folder(), 'slurmstepd');
      fs.symlinkSync(world.copy('/bin/sleep', 'sleeping', { mode: 0o4755 }), link);
      for (const file of [program, link]) {
        const pid = await world.start(file, [world.lifetime], alice);
        await until('it runs', () => text(`/proc/${pid}/comm`).startsWith('slurmstepd'));
        expect(text(`/proc/${pid}/status`)).toContain(`Uid:\t${alice}\t0\t0\t0\n`);
        expect(await refused(world, pid)).toBe(
          `ERR_PROTECTED: runs with the uids ${alice}, 0, 0 and 0 (a setuid program), not with uid ${alice} alone`,
        );
      }
    });

    inWorld(kernel, 'root’s slurmd and slurmstepd, known by their executable', async (world) => {
      await world.twoJobs();
      for (const name of ['slurmd', 'slurmstepd']) {
        const pid = await world.start(world.copy('/bin/sleep', name), [world.lifetime], 0);
        expect(await refused(world, pid)).toBe(`ERR_PROTECTED: is ${name}`);
      }
    });

    inWorld(kernel, 'root’s process with the name of a daemon whose file is a user’s', async (world) => {
      await world.twoJobs();
      const pid = await world.start(world.copy('/bin/sleep', 'sshd', { uid: alice }), [world.lifetime], 0);
      expect(await refused(world, pid)).toBe("ERR_PROTECTED: is root's");
    });

    if (kernel.name === 'v2') {
      inWorld(kernel, 'who stands where slurmstepd stands', async (world) => {
        await world.twoJobs();
        const place = world.jobAt(101, 'step_batch', 'slurm');
        const { pid } = await world.box.startSleeper(0, place);
        expect(await refused(world, pid)).toBe('ERR_PROTECTED: is slurmstepd');
        const { pid: hers } = await world.box.startSleeper(alice, place);
        expect(await refused(world, hers)).toBe('ERR_PROTECTED: is at the place of slurmstepd in a job');
      });
    }
  });

  describe('adopt() moves', () => {
    inWorld(kernel, 'a user’s process whatever it calls itself', async (world) => {
      await world.twoJobs();
      for (const name of ['slurmstepd', 'slurmd', 'sshd', 'sshd-session']) {
        await taken(world, await world.start(world.copy('/bin/sleep', name), [world.lifetime], alice));
      }
    });
  });

  // What follows looks at processes alone, which are the same whatever the cgroups.
  if (kernel !== kernels[0]) return;

  describe('adopt() and sshd', () => {
    const sshd = (world: World, name: string, script: string) => playSshd(world, script, { name });

    /** A port of this machine where connections are accepted, while `act` runs. */
    const withPort = async (act: (port: number) => Promise<void>) => {
      const sockets = new Set<net.Socket>();
      const server = net.createServer((socket) => {
        sockets.add(socket.on('error', () => {}));
      });
      await new Promise<void>((fulfil) => server.listen(0, '127.0.0.1', fulfil));
      try {
        const address = server.address();
        await act(typeof address === 'object' && address !== null ? address.port : 0);
      } finally {
        for (const socket of sockets) socket.destroy();
        server.close();
      }
    };
    const connected = (port: number) => `require('node:net').connect(${port}, '127.0.0.1', ready);`;

    inWorld(kernel, 'moves the monitor of one connection, under either name', async (world) => {
      await world.twoJobs();
      await withPort(async (port) => {
        for (const name of ['sshd', 'sshd-session']) await taken(world, await sshd(world, name, connected(port)));
      });
    });

    inWorld(kernel, 'refuses the one that listens, with a connection too', async (world) => {
      await world.twoJobs();
      const pid = await sshd(world, 'sshd', `require('node:net').createServer().listen(0, '127.0.0.1', ready);`);
      expect(await refused(world, pid)).toBe('ERR_PROTECTED: is the sshd that listens for all users');
      await withPort(async (port) => {
        const both = await sshd(
          world,
          'sshd',
          `require('node:net').createServer().listen(0, '127.0.0.1', () => { ${connected(port)} });`,
        );
        expect(await refused(world, both)).toBe('ERR_PROTECTED: is the sshd that listens for all users');
      });
    });

    inWorld(kernel, 'refuses one without a connection, and another program of root’s with one', async (world) => {
      await world.twoJobs();
      expect(await refused(world, await sshd(world, 'sshd-session', 'ready();'))).toBe(
        'ERR_PROTECTED: is an sshd without a connection',
      );
      await withPort(async (port) => {
        expect(await refused(world, await sshd(world, 'sshdx', connected(port)))).toBe("ERR_PROTECTED: is root's");
      });
    });

    inWorld(kernel, 'refuses the monitor of another user’s session', async (world) => {
      await world.twoJobs();
      const child = (uid: number) =>
        `require('node:child_process').spawn('/bin/sleep', ['${world.lifetime}'], { uid: ${uid}, gid: ${uid}, stdio: 'ignore' }).once('spawn', () => { CONNECT });`;
      await withPort(async (port) => {
        const ofBob = await sshd(world, 'sshd-session', child(bob).replace('CONNECT', connected(port)));
        expect(await refused(world, ofBob)).toBe(`ERR_PROTECTED: is the sshd of a session of uid ${bob}`);
        const ofAlice = await sshd(world, 'sshd-session', child(alice).replace('CONNECT', connected(port)));
        await taken(world, ofAlice);
        // Who is a person says login.defs: here people begin at 500, as on nodes that were once RHEL 6.
        const ofPerson = await sshd(world, 'sshd-session', child(600).replace('CONNECT', connected(port)));
        const refusal = (text: string) => {
          const host: Host = {
            ...world.host,
            read: (file) => (file === '/etc/login.defs' ? text : world.host.read(file)),
          };
          return withProcess(host, ofPerson, async (held) =>
            refusalToMove({ ...(await world.node()), host }, held, { uid: alice, deadline: deadlineIn(host, 60_000) }),
          );
        };
        expect(await refusal('UID_MIN 500\n')).toBe('is the sshd of a session of uid 600');
        expect(await refusal('UID_MIN 1000\n')).toBeUndefined();
      });
    });
  });

  describe('rootExecutable()', () => {
    inWorld(kernel, 'lets the new file answer for one that was updated', async (world) => {
      const file = world.copy('/bin/sleep', 'sshd');
      const pid = await world.start(file, [world.lifetime], 0);
      const name = () => withProcess(world.host, pid, (held) => rootExecutable(world.host, held));
      expect(await name()).toBe('sshd');
      fs.rmSync(file);
      expect(await name()).toBe('sshd'); // removed and not replaced: the name stands
      fs.copyFileSync('/bin/sleep', file);
      expect(await name()).toBe('sshd');
      fs.chownSync(file, alice, alice);
      expect(await name()).toBeUndefined();
    });
  });

  describe('rootExecutable() on a file system that may never answer', () => {
    inWorld(kernel, 'goes by the name, and touches no file there', async (world) => {
      const folder = path.dirname(world.copy('/bin/sleep', 'slurmstepd'));
      const host: Host = {
        ...world.host,
        read: (file) =>
          world.host.read(file) +
          (file === '/proc/self/mountinfo'
            ? `9999 ${rootMountId(world.host)} 0:99 / ${folder} rw - fuse.dead dead rw\n`
            : ''),
        stat: (file) => (file.startsWith(folder) ? expect.unreachable(`looked at ${file}`) : world.host.stat(file)),
      };
      const nameOf = async (file: string) => {
        const pid = await world.start(world.copy('/bin/sleep', file), [world.lifetime], 0);
        return withProcess(world.host, pid, (held) => rootExecutable(host, held));
      };
      expect(await nameOf('slurmstepd-wlm')).toBe('slurmstepd');
      expect(await nameOf('sshd-session')).toBe('sshd-session');
      expect(await nameOf('program')).toBeUndefined();
    });
  });

  describe('findSlurmd()', () => {
    inWorld(kernel, 'believes uids and the executable, not the name', async (world) => {
      const candidates = [
        await world.start(world.copy('/bin/sleep', 'slurmd'), [world.lifetime], alice),
        await world.start(world.copy('/bin/sleep', 'slurmd', { mode: 0o4755 }), [world.lifetime], alice),
        await world.start(world.copy('/bin/sleep', 'slurmd', { uid: alice }), [world.lifetime], 0),
      ];
      const found = (pids: readonly number[]) =>
        findSlurmd({
          ...world.host,
          names: (where) => (where === '/proc' ? pids.map(String) : world.host.names(where)),
        });
      await until('they run', () => candidates.every((pid) => text(`/proc/${pid}/comm`) === 'slurmd\n'));
      expect(found(candidates)).toBeUndefined();
      const real = await world.start(world.copy('/bin/sleep', 'slurmd'), [world.lifetime], 0);
      await until('it runs', () => text(`/proc/${real}/comm`) === 'slurmd\n');
      expect(found([...candidates, real])).toBe(real);
    });
  });
});

/** Of the mount at `/`. */
function rootMountId(host: Host): string {
  return readMountTable(host).at('/')?.id ?? expect.unreachable('nothing is mounted at /');
}

describe('connectionsOfMonitor()', () => {
  const row = (state: string, inode: number) =>
    `   0: 0100007F:0016 0200007F:C350 ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0\n`;
  /** Holds the sockets 11 and 12; the tables of IPv4 are what it reads, one after the other. */
  const look = (...tables: readonly string[]) => {
    const left = [...tables];
    const stat = fs.lstatSync('.', { bigint: true });
    const directory = {
      ...{ path: '/proc/5', names: () => ['0', '3', '4'], close: () => {}, write: () => {} },
      readlink: (name: string) => (name === 'fd/0' ? '/dev/null' : `socket:[${name === 'fd/3' ? 11 : 12}]`),
      stat: (name = '') => (name === 'net/tcp' ? stat : undefined),
      read: () => `sl\n${left.shift() ?? expect.unreachable('the table is read once more')}`,
      connect: () => expect.unreachable(),
      entries: () => [],
      open: () => expect.unreachable(),
      rmdir: () => expect.unreachable(),
    };
    const found = connectionsOfMonitor({ directory });
    expect(left).toEqual([]);
    return found === 'listens' ? found : found.map(({ inode }) => inode);
  };

  it('is what it holds, of a table that is read once', () => {
    expect(look(row('01', 11) + row('01', 13))).toEqual(['11']);
    expect(look(row('01', 11) + row('01', 12) + row('01', 11))).toEqual(['11', '12']);
    expect(look(row('0A', 12) + row('01', 11))).toBe('listens');
  });

  it('looks a second time where nothing was found, and no more', () => {
    expect(look(row('01', 13), row('01', 11))).toEqual(['11']);
    expect(look(row('07', 11), row('0A', 11))).toBe('listens');
    expect(look('', row('07', 11))).toEqual([]);
  });

  it('counts a connection whose other side has closed its half, and no socket without another end', () => {
    for (const state of ['04', '05', '08', '09', '0B']) expect(look(row(state, 11))).toEqual(['11']);
    for (const state of ['02', '03', '06', '07']) expect(look(row(state, 11), '')).toEqual([]);
  });
});

describe('refusalToMove() on recorded nodes', () => {
  it.each(recordingNames)('%s: refuses root and Slurm, and lets the owner have what is hers', async (name) => {
    const host = recordedHost(loadRecording(name));
    const node = await readNode({ host });
    for (const { pid, role } of expectedFor(name).verify) {
      const held = holdProcess(host, pid);
      const [uid] = held.status().uids;
      let refusal: string | undefined;
      try {
        refusal = await refusalToMove(node, held, { uid: 1001, deadline: deadlineIn(host, 60_000) });
      } catch (error) {
        // A recording does not hold descriptors; they are asked for with an sshd of root's alone.
        expect(hasCode(error, 'ERR_NOT_RECORDED')).toBe(true);
        expect(role).toMatch(/^sshd|adopted/);
        continue;
      }
      if (uid === 1001) expect(refusal, role).toBeUndefined();
      else expect(refusal, role).toBeDefined();
      if (role.startsWith('slurmstepd')) expect(refusal).toMatch(/^is slurmstepd/);
      if (role === 'slurmd') expect(refusal).toBe('is slurmd');
    }
  });

  it('refuses root for root: a job of uid 0 gets nothing that way', async () => {
    const host = recordedHost(loadRecording('slurm-24.11-v1'));
    const node = await readNode({ host, within: rootPath });
    const script = expectedFor('slurm-24.11-v1').verify.find(({ role }) => role.startsWith('slurmstepd'));
    const held = holdProcess(host, script?.pid ?? 0);
    expect(await refusalToMove(node, held, { uid: 0, deadline: deadlineIn(host, 60_000) })).toBe('is slurmstepd');
  });
});

function text(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
