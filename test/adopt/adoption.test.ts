// adopt() on the real kernel: what is reported is what /proc says, and whatever refuses, the process is in the
// job in every hierarchy or exactly where it was.

import fs from 'node:fs';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { lockAdoption } from '../../src/adopt/adopting-lock.js';
import { adopt } from '../../src/adopt/adoption.js';
import { identityOf } from '../../src/cgroup/process.js';
import { readAdoptions, removeAdoptions } from '../../src/jobs/adoptions.js';
import type { Job } from '../../src/jobs/job.js';
import { verify } from '../../src/jobs/verification.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { defined } from '../../src/machine/defined.js';
import { hasCode, SlurmCgroupsError, SystemCallError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Host } from '../../src/machine/host.js';
import { newestJob } from '../../src/policy/newest.js';
import { firstThreadEnded, untilFirstThreadEnded } from '../support/first-thread-ended.js';
import {
  alice,
  bob,
  childrenOf,
  descendantsOf,
  interrupted,
  inWorld,
  type Kernel,
  obeys,
  onKernels,
  stateOf,
  until,
  type World,
} from '../support/kernel-jobs.js';
import { type StateElsewhere, stateElsewhere } from '../support/state-elsewhere.js';

const v1Of = (kernel: Kernel) => kernel.name === 'v1';
const fails = (code: Parameters<typeof hasCode>[1]) => expect.toSatisfy((error: unknown) => hasCode(error, code));

onKernels((kernel) => {
  const v1 = kernel.name === 'v1';

  describe('adopt()', () => {
    inWorld(kernel, 'puts a session into the newer of two jobs, in every hierarchy, as /proc proves', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      const newest = newestJob([await world.job(101), await world.job(102)])?.job;
      expect(newest?.jobId).toBe(102);
      if (newest === undefined) return;
      const result = await adopt(pid, newest, { node: await world.node() });
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup', accounting: 'none', descendants: [] });
      expect(result.error).toBeUndefined();
      expect(result.trace).toEqual([
        expect.stringMatching(/^by its cgroups alone: there is no spool of slurmd here/),
        `process ${pid} came from ${world.box.within}/outside`,
        '/proc shows it in job 102 in every hierarchy of the job',
      ]);
      expect(world.places(pid)).toEqual(world.leaves(102));
      expect(result.hierarchies.map(({ outcome }) => outcome)).toEqual(world.box.controllers.map(() => 'moved'));
      for (const { controllers, path, error } of result.hierarchies) {
        const key = controllers.join() || 'unified';
        expect(path.endsWith(world.leaves(102)[key] ?? '?')).toBe(true);
        expect(error).toBeUndefined();
      }
      if (v1) expect(result.hierarchies.at(-1)?.controllers).toEqual(['freezer']);
      const verified = await verify(pid, { node: await world.node() });
      expect(verified).toMatchObject({ verdict: 'contained', job: { jobId: 102, stepId: 'extern' } });
    });

    inWorld(
      kernel,
      'excludes another adoption of the same process: one has it wholly, the other says so',
      async (world) => {
        await world.twoJobs();
        const [node, one, two] = [await world.node(), await world.job(101), await world.job(102)];
        const pid = await world.session();
        const results = await Promise.all([adopt(pid, one, { node }), adopt(pid, two, { node })]);
        expect(results.map(({ outcome }) => outcome)).toEqual(['adopted', 'untouched']);
        expect(results[1]?.error).toSatisfy((error: unknown) => hasCode(error, 'ERR_BUSY'));
        expect(world.places(pid)).toEqual(world.leaves(101));
        const same = await Promise.all([adopt(pid, one, { node }), adopt(pid, one, { node })]);
        expect(same.map(({ outcome }) => outcome)).toEqual(['adopted', 'adopted']);
      },
    );

    inWorld(kernel, 'waits for another adoption no longer than it has time', async (world) => {
      await world.twoJobs();
      const [node, job, pid] = [await world.node(), await world.job(102), await world.session()];
      const { lock } = await lockAdoption(world.host, identityOf(world.host, pid), deadlineIn(world.host, 100));
      const result = await adopt(pid, job, { node, timeoutMs: 60 });
      lock.release();
      expect(result).toMatchObject({ outcome: 'untouched', moved: 'none', error: { code: 'ERR_BUSY' } });
      expect(world.places(pid)).toEqual(world.everywhere('outside'));
    });

    inWorld(kernel, 'puts back what a killed adoption had begun to move', async (world) => {
      await world.twoJobs();
      const [node, pid] = [await world.node(), await world.session()];
      const file = `/run/slurm-cgroups/adopting/${pid}-${identityOf(world.host, pid).startTime}`;
      // It was killed after its last write: the lock stays, and names an owner that is gone.
      let note = '';
      const killed: Host = {
        ...world.host,
        rename: (from, to) => {
          world.host.rename(from, to);
          note = fs.readFileSync(to, 'utf8');
        },
      };
      await adopt(pid, await world.job(101), { node: await world.node(killed) });
      const { owner, moves } = JSON.parse(note);
      fs.writeFileSync(file, JSON.stringify({ owner: { ...owner, startTime: '1' }, moves }));
      fs.writeFileSync(`${world.at('outside').cgroups[0]?.directory}/cgroup.procs`, String(pid));
      const result = await adopt(pid, await world.job(102), { node });
      expect(result.outcome).toBe('adopted');
      const lines = result.trace.filter((line) =>
        line.startsWith(`an adoption that was killed had moved process ${pid} to `),
      );
      expect(lines).toHaveLength(world.box.controllers.length - 1);
      expect(result.trace).toContain(`process ${pid} came from ${world.box.within}/outside`);
      expect(world.places(pid)).toEqual(world.leaves(102));
      expect(fs.existsSync(file)).toBe(false);
    });

    inWorld(kernel, 'puts back the children that a killed adoption had begun to move', async (world) => {
      await world.twoJobs();
      const pid = await world.shell('sleep 60 & sleep 60 & sleep 60 & wait');
      await until('three children', () => childrenOf(pid).length === 3);
      const family = [pid, ...childrenOf(pid)];
      const fileOf = (one: number) => `/run/slurm-cgroups/adopting/${one}-${identityOf(world.host, one).startTime}`;
      // Killed at the last child, on v1 in the middle of it: after that call nothing is done any more.
      const killing = new Error('killed');
      const most = world.box.controllers.length * 3 + Math.floor(world.box.controllers.length / 2);
      let writes = 0;
      const dies =
        <Args extends unknown[], T>(act: (...args: Args) => T, counts = false) =>
        (...args: Args): T => {
          if (counts) writes++;
          if (writes > most) throw killing;
          return act(...args);
        };
      const open: Host['open'] = (path) => {
        const held = world.host.open(path);
        return { ...held, write: dies(held.write, path.includes('/step_extern')) };
      };
      const killed: Host = {
        ...world.host,
        open,
        unlink: dies(world.host.unlink),
        rename: dies(world.host.rename),
        create: dies(world.host.create),
      };
      const job = await world.job(101);
      await expect(adopt(pid, job, { node: await world.node(killed), descendants: true })).rejects.toBe(killing);
      for (const one of family) {
        const { owner, moves } = JSON.parse(fs.readFileSync(fileOf(one), 'utf8'));
        fs.writeFileSync(fileOf(one), JSON.stringify({ owner: { ...owner, startTime: '1' }, moves }));
      }
      const result = await adopt(pid, await world.job(102), { node: await world.node(), descendants: true });
      expect(result.outcome).toBe('adopted');
      for (const one of family.slice(0, -1)) {
        const said = `an adoption that was killed had moved process ${one} to`;
        expect(result.trace.some((line) => line.startsWith(said))).toBe(true);
      }
      for (const one of family) {
        expect(world.places(one)).toEqual(world.leaves(102));
        expect(fs.existsSync(fileOf(one))).toBe(false);
      }
    });

    inWorld(kernel, 'moves nothing that is there already', async (world) => {
      await world.twoJobs();
      const [pid, job, node] = [await world.session(), await world.job(102), await world.node()];
      await adopt(pid, job, { node });
      const again = await adopt(pid, job, { node });
      expect(again).toMatchObject({ outcome: 'adopted', moved: 'none' });
      expect(again.hierarchies.every(({ outcome }) => outcome === 'already')).toBe(true);
    });

    inWorld(kernel, 'moves from one job into another', async (world) => {
      await world.twoJobs();
      const [pid, node] = [await world.session(), await world.node()];
      await adopt(pid, await world.job(101), { node });
      expect((await adopt(pid, await world.job(102), { node })).outcome).toBe('adopted');
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    inWorld(kernel, 'moves every thread of a process', async (world) => {
      await world.twoJobs();
      const pid = await world.program(process.execPath, [
        '-e',
        `process.kill(process.pid, 'SIGSTOP'); setTimeout(() => {}, ${world.lifetime}000)`,
      ]);
      expect(fs.readdirSync(`/proc/${pid}/task`).length).toBeGreaterThan(1);
      expect((await adopt(pid, await world.job(102), { node: await world.node() })).outcome).toBe('adopted');
      const leaves = world.leaves(102);
      for (const tid of fs.readdirSync(`/proc/${pid}/task`)) {
        const text = fs.readFileSync(`/proc/${pid}/task/${tid}/cgroup`, 'utf8');
        for (const leaf of Object.values(leaves)) expect(text).toContain(`${leaf}\n`);
      }
    });

    inWorld(kernel, 'moves a process whose first thread has ended, and puts it back', async (world, context) => {
      await world.twoJobs();
      const program = firstThreadEnded(alice, context);
      const pid = await world.program('/bin/sh', ['-c', `kill -STOP $$; exec ${program.line}`], 0);
      await untilFirstThreadEnded(pid);
      const tids = fs.readdirSync(`/proc/${pid}/task`).filter((tid) => tid !== String(pid));
      const places = () => tids.map((tid) => world.places(pid, Number(tid)));
      const before = tids.map(() => world.everywhere('outside'));
      expect(places()).toEqual(before);
      if (v1) {
        const refused = () => {
          throw new SystemCallError('write', 'cgroup.procs', 'EACCES');
        };
        const node = await world.node(interrupted(world.host, 3, refused));
        expect([(await adopt(pid, await world.job(101), { node })).outcome, places()]).toEqual(['undone', before]);
      }
      const node = await world.node();
      const result = await adopt(pid, await world.job(102), { node });
      expect(result).toMatchObject({ outcome: 'adopted', moved: 'cgroup' });
      expect(result.trace).toContain(`process ${pid} came from ${world.box.within}/outside`);
      expect(places()).toEqual(tids.map(() => world.leaves(102)));
      expect(await verify(pid, { node })).toMatchObject({ verdict: 'contained', job: { jobId: 102 } });
      expect(await adopt(pid, await world.job(102), { node })).toMatchObject({ outcome: 'adopted', moved: 'none' });
    });

    inWorld(kernel, 'throws for a job whose owner is unknown', async (world) => {
      await world.twoJobs();
      const { uid, ...ownerless } = await world.job(102);
      const pid = await world.session();
      await expect(adopt(pid, ownerless, { node: await world.node() })).rejects.toEqual(fails('ERR_NOT_SUPPORTED'));
      expect([uid, world.places(pid)]).toEqual([alice, world.everywhere('outside')]);
    });
  });

  describe('adopt() where the kernel refuses', () => {
    /** A job that accepts no process in one hierarchy: on v1 a cpuset as plain mkdir makes it, the third to be written. */
    const refusing = async (world: World): Promise<Job> => {
      await world.twoJobs();
      if (!v1) {
        world.makeInvalid(102);
        return world.job(102);
      }
      const cpuset = world
        .jobAt(102, 'step_extern')
        .cgroups.filter(({ hierarchy }) => hierarchy.controllers.includes('cpuset'));
      for (const { directory } of cpuset) {
        fs.rmdirSync(directory);
        fs.mkdirSync(directory);
      }
      const job = await world.job(102);
      const cgroups = [...(job.extern?.cgroups ?? [])];
      const others = cgroups.filter(({ hierarchy }) => hierarchy !== 'cpuset');
      const cpusets = cgroups.filter(({ hierarchy }) => hierarchy === 'cpuset');
      return { ...job, extern: { cgroups: [...others.slice(0, 2), ...cpusets, ...others.slice(2)] } };
    };

    inWorld(kernel, 'puts it back to exactly where it was when one hierarchy refuses', async (world) => {
      const job = await refusing(world);
      const pid = await world.session();
      const before = world.places(pid);
      const result = await adopt(pid, job, { node: await world.node() });
      expect(world.places(pid)).toEqual(before);
      expect(result.moved).toBe('none');
      const outcomes = result.hierarchies.map(({ outcome }) => outcome);
      if (v1) {
        expect(result).toMatchObject({
          outcome: 'undone',
          error: { code: 'ERR_CGROUP_REFUSED', cause: { errno: 'ENOSPC' } },
        });
        expect(outcomes).toEqual(['undone', 'undone', 'failed', 'untouched', 'untouched']);
        expect(result.hierarchies[2]).toMatchObject({ controllers: ['cpuset'], error: { code: 'ERR_CGROUP_REFUSED' } });
      } else {
        expect(result).toMatchObject({
          outcome: 'untouched',
          error: { code: expect.any(String), cause: { call: 'write' } },
        });
        expect(outcomes).toEqual(['failed']);
      }
      await obeys(world, pid);
    });

    inWorld(kernel, 'keeps what was reached with onFailure keep', async (world) => {
      const job = await refusing(world);
      const pid = await world.session();
      const result = await adopt(pid, job, { node: await world.node(), onFailure: 'keep' });
      const leaves = world.leaves(102);
      if (v1) {
        expect(result).toMatchObject({ outcome: 'partial', moved: 'cgroup', error: { code: 'ERR_CGROUP_REFUSED' } });
        expect(result.hierarchies.map(({ outcome }) => outcome)).toEqual([
          'moved',
          'moved',
          'failed',
          'moved',
          'moved',
        ]);
        expect(world.places(pid)).toEqual({ ...leaves, cpuset: `${world.box.within}/outside` });
      } else {
        expect(result).toMatchObject({ outcome: 'untouched', moved: 'none' });
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      }
    });

    if (v1) {
      inWorld(kernel, 'puts every hierarchy back to its own place', async (world) => {
        const job = await refusing(world);
        const pid = await world.session();
        const memory = world.at('outside').cgroups.filter(({ hierarchy }) => hierarchy.controllers.includes('memory'));
        for (const { directory } of memory) {
          fs.mkdirSync(`${directory}/apart (deleted)`);
          fs.writeFileSync(`${directory}/apart (deleted)/cgroup.procs`, String(pid));
        }
        const before = world.places(pid);
        expect(before['memory']).toMatch(/outside\/apart \(deleted\)$/);
        expect((await adopt(pid, job, { node: await world.node() })).outcome).toBe('undone');
        expect(world.places(pid)).toEqual(before);
      });

      inWorld(kernel, 'puts every thread back to its own place', async (world) => {
        const job = await refusing(world);
        const pid = await world.program(process.execPath, [
          '-e',
          `process.kill(process.pid, 'SIGSTOP'); setTimeout(() => {}, ${world.lifetime}000)`,
        ]);
        const tid = fs.readdirSync(`/proc/${pid}/task`).map(Number).at(-1);
        const first = world.outside.cgroups.find(({ hierarchy }) =>
          hierarchy.controllers.includes(job.extern?.cgroups[0]?.controllers[0] ?? ''),
        );
        fs.mkdirSync(`${first?.directory}/thread`);
        fs.writeFileSync(`${first?.directory}/thread/tasks`, String(tid));
        const where = () =>
          fs.readdirSync(`/proc/${pid}/task`).map((one) => fs.readFileSync(`/proc/${pid}/task/${one}/cgroup`, 'utf8'));
        const before = where();
        expect(new Set(before).size).toBe(2);
        expect((await adopt(pid, job, { node: await world.node() })).outcome).toBe('undone');
        expect(where()).toEqual(before);
      });
    }

    inWorld(kernel, 'says what remains where the way back is gone', async (world) => {
      const job = await refusing(world);
      if (!v1) return; // its one hierarchy refuses, so nothing is to be put back
      const pid = await world.session();
      const node = await world.node(
        interrupted(world.host, 3, () => {
          // By now it has left this place in two hierarchies.
          const away = world.outside.cgroups.filter(
            ({ hierarchy }) => hierarchy.key === job.extern?.cgroups[0]?.hierarchy,
          );
          for (const { directory } of away) fs.rmdirSync(directory);
        }),
      );
      const result = await adopt(pid, job, { node });
      expect(result).toMatchObject({ outcome: 'partial', moved: 'cgroup' });
      expect(result.hierarchies.map(({ outcome }) => outcome)).toEqual([
        'remains',
        'undone',
        'failed',
        'untouched',
        'untouched',
      ]);
      expect(result.hierarchies[0]?.error).toMatchObject({ code: 'ERR_CGROUP_GONE' });
      const [gone] = job.extern?.cgroups ?? [];
      const key = gone?.hierarchy ?? '';
      expect(world.places(pid)).toEqual({ ...world.everywhere('outside'), [key]: world.leaves(102)[key] });
    });
  });

  describe('adopt() into a suspended job', () => {
    inWorld(kernel, 'moves nothing, and the process lives', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      world.freeze(102);
      const result = await adopt(pid, await world.job(102), { node: await world.node() });
      expect(result).toMatchObject({ outcome: 'suspended', moved: 'none', error: { code: 'ERR_FROZEN' } });
      expect(result.hierarchies.every(({ outcome }) => outcome === 'untouched')).toBe(true);
      expect(world.places(pid)).toEqual(world.everywhere('outside'));
      await obeys(world, pid);
    });

    inWorld(kernel, 'sees that a cgroup above is frozen', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      const above = world.freezerOf(102).replace(v1 ? '/step_extern' : '/step_extern/user', '');
      fs.writeFileSync(above, v1 ? 'FROZEN' : '1');
      try {
        const result = await adopt(pid, await world.job(102), { node: await world.node() });
        expect(result).toMatchObject({ outcome: 'suspended', moved: 'none' });
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      } finally {
        fs.writeFileSync(above, v1 ? 'THAWED' : '0');
      }
    });

    for (const onFailure of ['undo', 'keep'] as const) {
      inWorld(kernel, `moves it back at once when it is frozen meanwhile, onFailure ${onFailure}`, async (world) => {
        await world.twoJobs();
        const pid = await world.session();
        const node = await world.node(interrupted(world.host, 1, () => world.freeze(102)));
        const result = await adopt(pid, await world.job(102), { node, onFailure });
        expect(result).toMatchObject({ outcome: 'suspended', moved: 'none', error: { code: 'ERR_FROZEN' } });
        expect(result.hierarchies.every(({ outcome }) => outcome === 'undone')).toBe(true);
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
        await obeys(world, pid);
      });
    }

    inWorld(kernel, 'is taken again after the job goes on', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      world.freeze(102);
      const [node, job] = [await world.node(), await world.job(102)];
      expect((await adopt(pid, job, { node })).outcome).toBe('suspended');
      world.thaw(102);
      expect((await adopt(pid, job, { node })).outcome).toBe('adopted');
    });
  });

  describe('adopt() with descendants', () => {
    inWorld(kernel, 'moves children and grandchildren too, and without it only the process', async (world) => {
      await world.twoJobs();
      const life = world.lifetime;
      const pid = await world.shell(`(sleep ${life} & sleep ${life} & wait) & sleep ${life} & wait`);
      await until('two children and two grandchildren', () => descendantsOf(pid).length === 4);
      const family = descendantsOf(pid);
      const [node, job] = [await world.node(), await world.job(102)];
      expect((await adopt(pid, job, { node })).outcome).toBe('adopted');
      for (const one of family) expect(world.places(one)).toEqual(world.everywhere('outside'));
      const result = await adopt(pid, job, { node, descendants: true });
      expect(result.outcome).toBe('adopted');
      expect(result.descendants.map((one) => one.pid).sort()).toEqual([...family].sort());
      expect(result.descendants.every(({ outcome }) => outcome === 'adopted')).toBe(true);
      for (const one of [pid, ...family]) expect(world.places(one)).toEqual(world.leaves(102));
    });

    inWorld(kernel, 'moves more children than it may hold open at once', async (world) => {
      await world.twoJobs();
      const pid = await world.shell(`i=0; while [ $i -lt 100 ]; do sleep ${world.lifetime} & i=$((i+1)); done; wait`);
      await until('a hundred children', () => childrenOf(pid).length === 100);
      const few = 'Max open files            64                   64                   files     \n';
      const counted = failingHost({
        ...world.host,
        read: (path) => (path === '/proc/self/limits' ? few : world.host.read(path)),
      });
      const most = { open: 0 };
      const host: Host = {
        ...counted,
        open: (path) => {
          const held = counted.open(path);
          most.open = Math.max(most.open, counted.openDirectories());
          return held;
        },
      };
      const options = { node: await world.node(host), descendants: true, timeoutMs: 50_000 };
      const result = await adopt(pid, await world.job(102), options);
      expect([result.error, result.outcome]).toEqual([undefined, 'adopted']);
      expect(result.descendants.filter(({ outcome }) => outcome === 'adopted')).toHaveLength(100);
      for (const one of [pid, ...childrenOf(pid)]) expect(world.places(one)).toEqual(world.leaves(102));
      expect(counted.openDirectories()).toBe(0);
      // 16 for the children; the session, its targets and where it came from in each hierarchy.
      expect(most.open).toBeLessThanOrEqual(16 + 2 + 2 * world.box.controllers.length + 8);
    });

    inWorld(kernel, 'is stopped in the middle: all of them are where they were', async (world) => {
      await world.twoJobs();
      const pid = await world.shell(`sleep ${world.lifetime} & sleep ${world.lifetime} & wait`);
      await until('two children', () => childrenOf(pid).length === 2);
      for (const after of [1, world.box.controllers.length + 1]) {
        const [stop, reason] = [new AbortController(), new Error('SIGTERM')];
        let writes = 0;
        const host: Host = {
          ...world.host,
          open: (path) => {
            const held = world.host.open(path);
            return {
              ...held,
              write: (name, text) => {
                held.write(name, text);
                if (++writes === after) stop.abort(reason);
              },
            };
          },
        };
        const options = { node: await world.node(host), descendants: true, signal: stop.signal };
        await expect(adopt(pid, await world.job(102), options)).rejects.toBe(reason);
        expect(writes).toBeGreaterThan(after);
        for (const one of [pid, ...childrenOf(pid)]) expect(world.places(one)).toEqual(world.everywhere('outside'));
      }
    });

    inWorld(kernel, 'puts all of them back where the last one is refused', async (world) => {
      await world.twoJobs();
      const pid = await world.shell(`i=0; while [ $i -lt 40 ]; do sleep ${world.lifetime} & i=$((i+1)); done; wait`);
      await until('forty children', () => childrenOf(pid).length === 40);
      const few = 'Max open files            16                   16                   files     \n';
      let writes = 0;
      const last = 1 + 40 * world.box.controllers.length; // of the session there are as many before
      const host: Host = {
        ...world.host,
        read: (path) => (path === '/proc/self/limits' ? few : world.host.read(path)),
        open: (path) => {
          const held = world.host.open(path);
          return {
            ...held,
            write: (name, text) => {
              if (++writes === last) throw new SystemCallError('write', `${path}/${name}`, 'EIO');
              held.write(name, text);
            },
          };
        },
      };
      const options = { node: await world.node(host), descendants: true, timeoutMs: 50_000 };
      const result = await adopt(pid, await world.job(102), options);
      expect([result.error?.code, result.outcome]).toEqual(['ERR_IO', 'undone']);
      for (const one of [pid, ...childrenOf(pid)]) expect(world.places(one)).toEqual(world.everywhere('outside'));
    });

    inWorld(kernel, 'finds a grandchild outside below a child that is in the job', async (world) => {
      await world.twoJobs();
      const life = world.lifetime;
      const pid = await world.shell(`(sleep ${life} & wait) & wait`);
      await until('a grandchild', () => descendantsOf(pid).length === 2);
      const [child = 0, grandchild = 0] = descendantsOf(pid);
      const [node, job] = [await world.node(), await world.job(102)];
      await adopt(child, job, { node });
      const result = await adopt(pid, job, { node, descendants: true });
      expect(result.descendants).toEqual([
        { pid: child, outcome: 'already' },
        { pid: grandchild, outcome: 'adopted' },
      ]);
      expect(world.places(grandchild)).toEqual(world.leaves(102));
    });

    inWorld(kernel, 'leaves a child of another user, and says so', async (world) => {
      await world.twoJobs();
      const sleepAs = (uid: number) =>
        `require('node:child_process').spawn('/bin/sleep', ['${world.lifetime}'], { uid: ${uid}, gid: ${uid}, stdio: 'ignore' });`;
      const script = `process.kill(process.pid, 'SIGSTOP'); ${sleepAs(alice)} ${sleepAs(bob)} process.setgid(${alice}); process.setuid(${alice}); setTimeout(() => {}, ${world.lifetime}000)`;
      const pid = await world.program(process.execPath, ['-e', script], 0);
      const uidOf = (one: number) => fs.statSync(`/proc/${one}`).uid;
      await until('two children, and it is alice’s', () => {
        const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
        return (
          status.includes(`Uid:\t${alice}\t${alice}`) && childrenOf(pid).map(uidOf).sort().join() === `${alice},${bob}`
        );
      });
      const ofBob = childrenOf(pid).find((one) => uidOf(one) === bob) ?? 0;
      const result = await adopt(pid, await world.job(102), { node: await world.node(), descendants: true });
      expect(result.outcome).toBe('adopted');
      expect(result.descendants.map((one) => one.pid)).toEqual(childrenOf(pid).filter((one) => one !== ofBob));
      expect(result.trace).toContain(
        `child process ${ofBob} (sleep) stays where it is: it belongs to uid ${bob}, not to uid ${alice}`,
      );
      expect(world.places(ofBob)).toEqual(world.everywhere('outside'));
      expect(world.places(pid)).toEqual(world.leaves(102));
    });

    inWorld(
      kernel,
      'comes to an end with children that come and go without end, and leaves none outside',
      async (world) => {
        await world.twoJobs();
        const pid = await world.shell(
          `(while :; do /bin/true; done) & (while :; do /bin/true; done) & exec sleep ${world.lifetime}`,
        );
        await until('two children', () => childrenOf(pid).length === 2);
        const loops = childrenOf(pid);
        // The loops take the processors, and an emulated machine has little of them: the time is not what is tested.
        const options = { node: await world.node(), descendants: true, timeoutMs: 60_000 };
        const result = await adopt(pid, await world.job(102), options);
        expect(result.error).toBeUndefined();
        expect(result.outcome).toBe('adopted');
        for (const one of [pid, ...loops]) expect(world.places(one)).toEqual(world.leaves(102));
        await until('no process is outside', async () => (await world.outside.procs()).length === 0);
      },
    );

    inWorld(kernel, 'puts all of them back when one is refused', async (world) => {
      await world.twoJobs();
      const pid = await world.shell(`sleep ${world.lifetime} & sleep ${world.lifetime} & wait`);
      await until('two children', () => childrenOf(pid).length === 2);
      // Frozen at the first write of the second child.
      const host = interrupted(world.host, 2 * world.box.controllers.length + 1, () => world.freeze(102));
      const result = await adopt(pid, await world.job(102), { node: await world.node(host), descendants: true });
      expect(result.outcome).toBe('suspended');
      for (const one of [pid, ...childrenOf(pid)]) {
        expect(world.places(one)).toEqual(world.everywhere('outside'));
        await expect.poll(() => stateOf(one)).toMatch(/[RS]/); // D passes, where it is just being started
      }
      expect(result.descendants.map(({ outcome }) => outcome)).toEqual(['undone', 'undone']);
    });
  });

  describe('adopt() into a user’s own cgroup', () => {
    inWorld(kernel, v1 ? 'puts it into uid_U in every hierarchy' : 'is not possible on v2', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      const act = adopt(pid, { kind: 'user', uid: alice }, { node: await world.node() });
      if (v1) {
        expect(await act).toMatchObject({ outcome: 'adopted', moved: 'cgroup' });
        expect(world.places(pid)).toEqual(world.everywhere(`slurm/uid_${alice}`));
      } else {
        await expect(act).rejects.toEqual(fails('ERR_NOT_SUPPORTED'));
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      }
    });

    if (v1) {
      inWorld(kernel, 'says that a user without jobs has none', async (world) => {
        await world.twoJobs();
        const pid = await world.session(bob);
        await expect(adopt(pid, { kind: 'user', uid: bob }, { node: await world.node() })).rejects.toEqual(
          fails('ERR_NO_SUCH_JOB'),
        );
        expect(world.places(pid)).toEqual(world.everywhere('outside'));
      });
    }
  });

  describe('adopt() of a process that ends', () => {
    inWorld(kernel, 'throws where it has ended before', async (world) => {
      await world.twoJobs();
      const pid = await world.session();
      world.host.signal(pid, 'SIGKILL');
      await until('it is gone', () => stateOf(pid) === undefined);
      await expect(adopt(pid, await world.job(102), { node: await world.node() })).rejects.toEqual(
        fails('ERR_NO_SUCH_PROCESS'),
      );
    });

    for (const write of [1, 2]) {
      inWorld(kernel, `says that it has ended before write ${write}, and nothing remains`, async (world) => {
        await world.twoJobs();
        const pid = await world.session();
        const die = () => {
          world.host.signal(pid, 'SIGKILL');
          while (stateOf(pid) !== 'Z'); // the kernel needs a moment; we reap it only after this turn
        };
        const result = await adopt(pid, await world.job(102), {
          node: await world.node(interrupted(world.host, write, die)),
        });
        if (write > world.box.controllers.length) return expect(result.outcome).toBe('adopted');
        expect(result).toMatchObject({ outcome: 'undone', moved: 'none', error: { code: 'ERR_NO_SUCH_PROCESS' } });
        expect(result.hierarchies.filter(({ outcome }) => outcome === 'remains' || outcome === 'moved')).toEqual([]);
      });
    }
  });
});

onKernels((kernel) => {
  describe('adopt() that is recorded', () => {
    /** The records of adoptions are in a folder of the test's. */
    const inRecordedWorld = (name: string, act: (world: World, state: StateElsewhere, pid: number) => Promise<void>) =>
      inWorld(kernel, name, async (world) => {
        const state = stateElsewhere(world.host);
        try {
          await world.twoJobs();
          const pid = await world.session();
          await act(world, state, pid);
          expect(state.left().filter((file) => !/^(?:adopting|adoptions)\//.test(file))).toEqual([]);
          expect(fs.existsSync(`/run/slurm-cgroups/adoptions/102/${pid}-${startOf(world, pid)}`)).toBe(false);
        } finally {
          state.remove();
        }
      });
    const startOf = ({ host }: World, pid: number) =>
      stateOf(pid) === undefined ? 0n : identityOf(host, pid).startTime;
    const recordsIn = async (world: World, state: StateElsewhere, jobId = 102) => {
      const { sessions, notes, unknown } = await readAdoptions(state.host, { jobId }, deadlineIn(world.host, 10_000));
      expect([notes, unknown]).toEqual([[], undefined]);
      return sessions;
    };
    const filesOf = (state: StateElsewhere) => state.left().filter((file) => /^adoptions\/./.test(file));
    /** As pam_loginuid leaves a session of its user: it started with that login. */
    const withAudit = (host: Host, pid: number, session: number): Host => ({
      ...host,
      open: (where) => {
        const held = host.open(where);
        const read = (name: string) =>
          name === 'loginuid' ? `${alice}` : name === 'sessionid' ? `${session}` : held.read(name);
        return where === `/proc/${pid}` ? { ...held, read } : held;
      },
    });

    inRecordedWorld('says so before the first write, and that it is proven afterwards', async (world, state, pid) => {
      const seen: unknown[] = [];
      const host = interrupted(state.host, 1, () =>
        seen.push(...filesOf(state), fs.readFileSync(`${state.folder}/${filesOf(state)[0]}`, 'utf8')),
      );
      const result = await adopt(pid, await world.job(102), { node: await world.node(host), recorded: {} });
      expect([result.outcome, result.trace.filter((line) => line.includes('record'))]).toEqual(['adopted', []]);
      const name = `${pid}-${startOf(world, pid)}`;
      expect(seen[0]).toBe(`adoptions/102/${name}`);
      const record = { pid, startTime: String(startOf(world, pid)), uid: alice, job: { jobId: 102 } };
      expect(JSON.parse(String(seen[1]))).toMatchObject({ ...record, state: 'moving' });
      const [written] = await recordsIn(world, state);
      expect(written).toMatchObject({ ...record, state: 'adopted' });
      expect(written?.auditSession).toBeUndefined();
      expect(state.left()).toEqual(['adopting/', `adoptions/102/${name}`]);
    });

    inRecordedWorld(
      'keeps no record that was not asked for, and none of the cgroup of a user',
      async (world, state, pid) => {
        await adopt(pid, await world.job(102), { node: await world.node(state.host) });
        if (v1Of(kernel)) {
          const node = await world.node(state.host);
          await adopt(pid, { kind: 'user', uid: alice }, { node, recorded: {} }).catch(() => undefined);
        }
        expect(filesOf(state)).toEqual([]);
      },
    );

    inRecordedWorld(
      "has the audit session of the login, where that is its user's and not sshd's",
      async (world, state, pid) => {
        const job = await world.job(102);
        const adoptWith = async (sshdSession?: number) => {
          const node = await world.node(withAudit(state.host, pid, 12));
          await adopt(pid, job, { node, recorded: defined({ sshdSession }) });
          return (await recordsIn(world, state)).map(({ auditSession }) => auditSession);
        };
        expect(await adoptWith()).toEqual([undefined]);
        expect(await adoptWith(12)).toEqual([undefined]);
        expect(await adoptWith(4_294_967_295)).toEqual([12]);
        expect(await adoptWith()).toEqual([12]); // by hand, afterwards
      },
    );

    inRecordedWorld('keeps no record where it is undone', async (world, state, pid) => {
      const refused = () => {
        expect(filesOf(state)).toHaveLength(1);
        throw new SystemCallError('write', 'cgroup.procs', 'EACCES');
      };
      const at = v1Of(kernel) ? 3 : 1;
      const node = await world.node(interrupted(state.host, at, refused));
      const { outcome } = await adopt(pid, await world.job(102), { node, recorded: {} });
      expect([outcome, state.left()]).toEqual([v1Of(kernel) ? 'undone' : 'untouched', ['adopting/', 'adoptions/']]);
      expect(world.places(pid)).toEqual(world.everywhere('outside'));
    });

    inRecordedWorld('keeps no record where the job is suspended, before or meanwhile', async (world, state, pid) => {
      const job = await world.job(102);
      const meanwhile = await world.node(interrupted(state.host, 1, () => world.freeze(102)));
      expect((await adopt(pid, job, { node: meanwhile, recorded: {} })).outcome).toBe('suspended');
      expect(filesOf(state)).toEqual([]);
      expect((await adopt(pid, job, { node: await world.node(state.host), recorded: {} })).outcome).toBe('suspended');
      expect(filesOf(state)).toEqual([]);
      world.thaw(102);
    });

    inRecordedWorld('keeps no record of a process that has ended meanwhile', async (world, state, pid) => {
      const node = await world.node(
        interrupted(state.host, 1, () => {
          world.host.signal(pid, 'SIGKILL');
          while (stateOf(pid) !== 'Z');
        }),
      );
      expect((await adopt(pid, await world.job(102), { node, recorded: {} })).outcome).not.toBe('adopted');
      expect(filesOf(state)).toEqual([]);
    });

    if (v1Of(kernel)) {
      inRecordedWorld('keeps what is known of a process that stays half way', async (world, state, pid) => {
        const refused = () => {
          throw new SystemCallError('write', 'cgroup.procs', 'EACCES');
        };
        const node = await world.node(interrupted(state.host, 3, refused));
        const { outcome } = await adopt(pid, await world.job(102), { node, recorded: {}, onFailure: 'keep' });
        expect([outcome, (await recordsIn(world, state)).map((one) => one.state)]).toEqual(['partial', ['moving']]);
      });
    }

    inRecordedWorld('leaves a record of the process alone, its children have none', async (world, state) => {
      const pid = await world.shell('sleep 60 & sleep 60 & wait');
      await until('two children', () => childrenOf(pid).length === 2);
      const node = await world.node(state.host);
      const result = await adopt(pid, await world.job(102), { node, recorded: {}, descendants: true });
      expect([result.outcome, result.descendants.length]).toEqual(['adopted', 2]);
      expect((await recordsIn(world, state)).map((one) => one.pid)).toEqual([pid]);
    });

    inRecordedWorld('that fails leaves the record of an earlier one as it was', async (world, state, pid) => {
      const job = await world.job(102);
      await adopt(pid, job, { node: await world.node(state.host), recorded: {} });
      const [before] = await recordsIn(world, state);
      await world.outside.add(pid);
      const refused = () => {
        throw new SystemCallError('write', 'cgroup.procs', 'EACCES');
      };
      await adopt(pid, job, { node: await world.node(interrupted(state.host, 1, refused)), recorded: {} });
      expect(await recordsIn(world, state)).toEqual([before]);
      const again = await adopt(pid, job, { node: await world.node(state.host), recorded: {} });
      expect([again.outcome, (await recordsIn(world, state)).map((one) => one.state)]).toEqual([
        'adopted',
        ['adopted'],
      ]);
    });

    inRecordedWorld(
      'is recorded once where two are at it, and throws nothing where the job is ended meanwhile',
      async (world, state, pid) => {
        const [job, node] = [await world.job(102), await world.node(state.host)];
        const twice = () => [1, 2].map(() => adopt(pid, job, { node, recorded: {} }));
        expect((await Promise.all(twice())).map(({ outcome }) => outcome)).toEqual(['adopted', 'adopted']);
        expect((await recordsIn(world, state)).map((one) => one.state)).toEqual(['adopted']);
        await world.outside.add(pid);
        const remove = () => removeAdoptions(state.host, { jobId: 102 }, deadlineIn(world.host, 10_000));
        const [why, ...results] = await Promise.all([remove(), ...twice(), remove()]);
        expect(why).toBeUndefined();
        expect(results.slice(0, 2)).toMatchObject([{ outcome: 'adopted' }, { outcome: 'adopted' }]);
      },
    );

    inRecordedWorld('is done all the same where no record can be kept, and says so', async (world, state, pid) => {
      fs.mkdirSync(`${state.folder}/adoptions`);
      fs.chmodSync(`${state.folder}/adoptions`, 0o777);
      const job = await world.job(102);
      const result = await adopt(pid, job, { node: await world.node(state.host), recorded: {} });
      expect(result.outcome).toBe('adopted');
      expect(result.trace).toContainEqual(expect.stringMatching(/^the adoption is not recorded: Cannot use /));
      fs.chmodSync(`${state.folder}/adoptions`, 0o755);
      const gone = interrupted(state.host, 1, () => fs.rmSync(`${state.folder}/adoptions`, { recursive: true }));
      await world.outside.add(pid);
      const second = await adopt(pid, job, { node: await world.node(gone), recorded: {} });
      expect(second.outcome).toBe('adopted');
      expect(second.trace).toContainEqual(
        expect.stringMatching(/^the adoption stays recorded as one that has only begun: .*does not exist/),
      );
    });

    inRecordedWorld(
      'says the truth whichever call fails: a record of what is there, or none and why',
      async (world, state, pid) => {
        const [job, node] = [await world.job(102), await world.node()];
        for (let nth = 1; ; nth++) {
          await world.outside.add(pid);
          const host = failingHost({ ...state.host, sleep: async () => {} }, { nth });
          const result = await adopt(pid, job, { node: { ...node, host }, recorded: {} }).catch((error: unknown) => {
            expect(error).toBeInstanceOf(SlurmCgroupsError);
            return { outcome: 'threw', trace: [] };
          });
          if (host.calls.length < nth) break;
          const what = `call ${nth}: ${host.calls[nth - 1]?.call} ${host.calls[nth - 1]?.path}, ${result.outcome}`;
          const states = (await readAdoptions(state.host, { jobId: 102 }, deadlineIn(world.host, 10_000))).sessions.map(
            (one) => one.state,
          );
          const said = result.trace.filter((line) => line.startsWith('the adoption ')).length;
          if (result.outcome === 'adopted') expect(states[0] === 'adopted' || said === 1, what).toBe(true);
          else if (result.outcome !== 'partial') expect(states.length === 0 || said === 1, what).toBe(true);
          expect(host.openDirectories(), what).toBe(0);
          fs.rmSync(`${state.folder}/adoptions`, { recursive: true, force: true });
        }
      },
    );
  });
});

describe('adopt() of what no process is', () => {
  it.each([0, -1, 2 ** 31, 1.5, Number.NaN])('throws for the pid %s', async (pid) => {
    const { treeHost } = await import('../support/small-trees.js');
    const { readNode } = await import('../../src/jobs/node.js');
    const { rootPath } = await import('../../src/cgroup/path.js');
    const node = await readNode({
      host: treeHost({ hierarchies: ['memory'], directories: ['memory/slurm'] }),
      within: rootPath,
    });
    await expect(adopt(pid, { kind: 'user', uid: alice }, { node })).rejects.toEqual(fails('ERR_NO_SUCH_PROCESS'));
  });
});
