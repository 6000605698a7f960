import fs from 'node:fs';
import { expect, test } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { CgroupSet } from '../../src/cgroup/cgroup-set.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { SlurmCgroupsError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import type { Directory, Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { asCgroup, withTree } from '../support/directory-trees.js';
import {
  descriptors,
  isIn,
  kernelTest,
  put,
  putThread,
  type TestCgroups,
  threadIds,
  whereabouts,
} from '../support/test-cgroups.js';

/** The set of these hierarchies below ours, each called `name`. */
function setOf(area: TestCgroups, name: string, keys: readonly string[], host: Host = area.host): CgroupSet {
  return new CgroupSet(
    host,
    keys.map((key) => new Cgroup(host, area.at(key).hierarchy, cgroupPath(`${area.at(key).path}/${name}`))),
  );
}

function make(area: TestCgroups, name: string, keys: readonly string[]): CgroupSet {
  for (const key of keys) area.at(key).create(name);
  return setOf(area, name, keys);
}

test('CgroupSet() without cgroups has no member and accepts no process', async () => {
  const empty = new CgroupSet(liveHost(), []);
  expect([await empty.procs(), await empty.threads(), await empty.populated(), empty.mtimeNs()]).toEqual([
    [],
    [],
    false,
    undefined,
  ]);
  await expect(empty.add(liveHost().self().pid)).rejects.toMatchObject({ code: 'ERR_CGROUP_GONE' });
});

test('CgroupSet looks into every hierarchy, also where one of them could not be seen whole', async () => {
  await withTree(async (top) => {
    for (const name of ['a', 'a/restless0', 'a/restless0/below', 'b', 'b/below']) {
      fs.mkdirSync(`${top}/${name}`);
      fs.writeFileSync(`${top}/${name}/cgroup.procs`, name === 'b/below' ? '7\n' : '');
    }
    const host = liveHost();
    let round = 0;
    const renaming = (held: Directory): Directory => ({
      ...held,
      stat: (name = '') => {
        if (name.startsWith('restless')) fs.renameSync(`${top}/a/${name}`, `${top}/a/restless${++round}`);
        return held.stat(name);
      },
    });
    const restless: Host = { ...host, open: (where) => renaming(host.open(where)) };
    const set = new CgroupSet(host, [asCgroup(restless, `${top}/a`), asCgroup(host, `${top}/b`)]);
    const { all, unknown } = await set.listProcs();
    expect(all.map(({ pid, seenIn }) => [pid, seenIn.map((one) => one.path)])).toEqual([[7, ['/below']]]);
    expect(unknown).toBe(`what is below "${top}/a" is renamed or made faster than it can be listed`);
    for (const asked of [() => set.procs(), () => set.descendants()])
      await expect(asked()).rejects.toMatchObject({ code: 'ERR_INCOMPLETE' });
    expect(await set.populated()).toBe(true);
    const first = new CgroupSet(host, [asCgroup(restless, `${top}/a`)]);
    await expect(first.populated()).rejects.toMatchObject({ code: 'ERR_INCOMPLETE' });
  });
});

kernelTest(
  'CgroupSet.at() finds the hierarchies that have the path, also where a mount does not show it',
  ['memory', 'pids'],
  async (area) => {
    area.at('memory').create('job');
    const found = CgroupSet.at(area.host, area.hierarchies, cgroupPath(`/${area.name}/job`));
    expect(found.cgroups.map((one) => one.hierarchy.key)).toEqual(['memory']);
    const everywhere = CgroupSet.at(area.host, area.hierarchies, cgroupPath(`/${area.name}`));
    expect(everywhere.cgroups.map((one) => one.hierarchy.key).sort()).toEqual(
      area.all.cgroups.map((one) => one.hierarchy.key).sort(),
    );
    const contained = {
      ...area.hierarchies,
      all: area.hierarchies.all.map((one) => ({ ...one, root: cgroupPath('/elsewhere') })),
    };
    expect(CgroupSet.at(area.host, contained, cgroupPath(`/${area.name}`)).cgroups).toEqual([]);
  },
);

kernelTest(
  'CgroupSet.procs() is the union over hierarchies where memberships differ',
  ['memory', 'pids', 'freezer'],
  async (area) => {
    const job = make(area, 'job', ['memory', 'pids', 'freezer']);
    const [memory, pids, freezer] = ['memory', 'pids', 'freezer'].map(
      (key) => new Cgroup(area.host, area.at(key).hierarchy, cgroupPath(`${area.at(key).path}/job`)),
    );
    if (memory === undefined || pids === undefined || freezer === undefined) throw new Error('there are three');
    const deep = memory.create('step').create('task');
    const everywhere = await area.sleeper(memory, pids, freezer);
    const inMemory = await area.sleeper(deep);
    const inTwo = await area.sleeper(pids, freezer);
    await area.sleeper();
    const seen = Object.fromEntries(
      (await job.procs()).map(({ pid, seenIn }) => [pid, seenIn.map((one) => `${one.hierarchy.key}:${one.path}`)]),
    );
    expect(seen).toEqual({
      [everywhere.pid]: [`memory:${memory.path}`, `pids:${pids.path}`, `freezer:${freezer.path}`],
      [inMemory.pid]: [`memory:${deep.path}`],
      [inTwo.pid]: [`pids:${pids.path}`, `freezer:${freezer.path}`],
    });
    const order = (await job.procs()).map(({ pid }) => pid);
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(await job.populated()).toBe(true);
  },
);

kernelTest('CgroupSet.threads() tells threads that stand apart', ['memory', 'pids'], async (area) => {
  const job = make(area, 'job', ['memory', 'pids']);
  const [memory] = job.cgroups;
  const step = memory?.create('step');
  if (memory === undefined || step === undefined) throw new Error('there are two');
  const process = await area.threaded(memory);
  const tid = threadIds(process.pid).find((one) => one !== process.pid) ?? 0;
  putThread(tid, step);
  const seen = new Map((await job.threads()).map((one) => [one.pid, one.seenIn.map((cgroup) => cgroup.path)]));
  expect(seen.get(tid)).toEqual([step.path]);
  expect(seen.get(process.pid)).toEqual([memory.path]);
  expect([...seen.keys()]).toEqual(threadIds(process.pid));
});

kernelTest('CgroupSet.children() and descendants() are merged by name', ['memory', 'pids'], async (area) => {
  const job = make(area, 'job', ['memory', 'pids']);
  const [memory, pids] = job.cgroups;
  memory?.create('step_0').create('task_0');
  pids?.create('step_0');
  pids?.create('a:b \udcff');
  const keys = (set: CgroupSet) => set.cgroups.map((one) => one.hierarchy.key);
  expect(new Map([...job.children()].map(([name, set]) => [name, keys(set)]))).toEqual(
    new Map([
      ['step_0', ['memory', 'pids']],
      ['a:b \udcff', ['pids']],
    ]),
  );
  const below = [...(await job.descendants())].map(([path, set]) =>
    [path.slice(`/${area.name}/job/`.length), ...keys(set)].join(' '),
  );
  expect(below.sort()).toEqual(['a:b \udcff pids', 'step_0 memory pids', 'step_0/task_0 memory']);
  expect(keys(job.child('step_0', 'task_0'))).toEqual(['memory']);
  expect(keys(job.child('none'))).toEqual([]);
});

kernelTest('CgroupSet lists what is left when a hierarchy loses its directory', ['memory', 'pids'], async (area) => {
  const job = make(area, 'job', ['memory', 'pids']);
  const [memory, pids] = job.cgroups;
  if (pids === undefined) throw new Error('there are two');
  const sleeper = await area.sleeper(pids);
  memory?.remove();
  expect((await job.procs()).map(({ pid }) => pid)).toEqual([sleeper.pid]);
  expect(await job.populated()).toBe(true);
  expect(job.children().size).toBe(0);
  expect(job.mtimeNs()).toBe(pids.mtimeNs());
  await expect(job.add(sleeper.pid)).rejects.toMatchObject({ code: 'ERR_CGROUP_GONE' });
  expect(isIn(sleeper.pid, pids)).toBe(true);
});

kernelTest(
  'CgroupSet.procs() lists the members of threaded cgroups of v2 once, in their domain',
  ['unified'],
  async (area) => {
    const job = area.at('unified').create('job');
    const threaded = job.create('threaded');
    fs.writeFileSync(`${threaded.directory}/cgroup.type`, 'threaded');
    const sleeper = await area.sleeper(job);
    put(sleeper.pid, threaded);
    const seen = await new CgroupSet(area.host, [job]).procs();
    expect(seen.map(({ pid, seenIn }) => [pid, seenIn.map((one) => one.path)])).toEqual([[sleeper.pid, [job.path]]]);
    await expect(new CgroupSet(area.host, [threaded]).procs()).rejects.toMatchObject({ code: 'ERR_NOT_SUPPORTED' });
  },
);

kernelTest('CgroupSet.add() moves a process and all its threads in every hierarchy', [], async (area) => {
  const keys = area.all.cgroups.map((one) => one.hierarchy.key);
  const job = make(area, 'job', keys);
  const process = await area.threaded();
  const before = descriptors();
  await job.add(process.pid);
  for (const cgroup of job.cgroups) expect(isIn(process.pid, cgroup)).toBe(true);
  expect((await job.procs()).map(({ pid, seenIn }) => [pid, seenIn.length])).toEqual([[process.pid, keys.length]]);
  await job.add(process.pid);
  expect(descriptors()).toBe(before);
});

for (const keys of [['memory', 'pids'], ['unified']]) {
  kernelTest(`CgroupSet.add() of what is no process moves nothing (${keys})`, keys, async (area) => {
    const job = make(area, 'job', keys);
    const before = descriptors();
    for (const pid of [0, -1, 2 ** 31, Number.NaN])
      await expect(job.add(pid)).rejects.toMatchObject({ code: 'ERR_NO_SUCH_PROCESS' });
    expect(await job.procs()).toEqual([]);
    expect(descriptors()).toBe(before);
  });
}

kernelTest(
  'CgroupSet.add() undoes the first two when the third hierarchy refuses',
  ['memory', 'pids', 'cpuset', 'freezer'],
  async (area) => {
    for (const key of ['memory', 'pids', 'freezer']) area.at(key).create('job');
    area.mkdir(area.at('cpuset'), 'job');
    const job = setOf(area, 'job', ['memory', 'pids', 'cpuset', 'freezer']);
    const home = area.at('memory').create('home');
    const process = await area.threaded(home, area.at('pids'));
    const [, tid = 0] = threadIds(process.pid);
    putThread(tid, area.at('memory'));
    const [before, open] = [whereabouts(process.pid), descriptors()];
    await expect(job.add(process.pid)).rejects.toMatchObject({
      code: 'ERR_CGROUP_REFUSED',
      subject: { pid: process.pid, path: `${area.at('cpuset').directory}/job` },
    });
    expect(whereabouts(process.pid)).toEqual(before);
    expect(descriptors()).toBe(open);
  },
);

kernelTest('CgroupSet.create() makes all or none', ['memory', 'pids'], async (area) => {
  const job = make(area, 'job', ['memory', 'pids']);
  job.cgroups[1]?.create('step');
  expect(() => job.create('step')).toThrow(expect.objectContaining({ errno: 'EEXIST' }));
  expect(job.cgroups[0]?.children()).toEqual([]);
  expect(job.create('step_1').cgroups).toHaveLength(2);
});

const refusals = ['EMFILE', 'EACCES', 'ENODEV', 'EINVAL'].flatMap((errno) =>
  [['memory', 'pids', 'freezer'], ['unified']].map((keys) => ({ errno, keys })),
);
for (const { errno, keys } of refusals) {
  kernelTest(
    `CgroupSet.add() that fails at any call with ${errno} has moved everything or nothing (${keys})`,
    keys,
    async (area) => {
      const job = make(area, 'job', keys);
      const home = make(area, 'home', keys);
      const process = await area.threaded();
      const [, tid = 0] = threadIds(process.pid);
      const begin = () => {
        for (const cgroup of home.cgroups) put(process.pid, cgroup);
        if (keys.includes('memory')) putThread(tid, area.at('memory'));
        return whereabouts(process.pid);
      };
      for (let nth = 1, last = false; !last; nth++) {
        const before = begin();
        const host = failingHost({ ...area.host, sleep: async () => {} }, { nth, errno });
        const outcome = await setOf(area, 'job', keys, host)
          .add(process.pid)
          .catch((error: unknown) => error);
        last = host.calls.length < nth;
        const all = job.cgroups.every((cgroup) => isIn(process.pid, cgroup));
        if (outcome === undefined) expect(all).toBe(true);
        else {
          expect(outcome).toBeInstanceOf(SlurmCgroupsError);
          expect({ nth, call: host.calls[nth - 1], is: whereabouts(process.pid) }).toEqual({
            nth,
            call: host.calls[nth - 1],
            is: before,
          });
        }
        expect(host.openDirectories()).toBe(0);
      }
    },
  );
}

kernelTest('CgroupSet.add() says what could not be put back', ['memory', 'pids', 'freezer'], async (area) => {
  const keys = ['memory', 'pids', 'freezer'];
  const job = make(area, 'job', keys);
  const home = make(area, 'home', keys);
  const process = await area.sleeper(...home.cgroups);
  const probe = failingHost(area.host);
  await setOf(area, 'job', keys, probe).add(process.pid);
  const second = probe.calls.map(({ call }, at) => (call === 'write' ? at + 1 : 0)).filter((nth) => nth > 0)[1];
  for (const cgroup of home.cgroups) put(process.pid, cgroup);
  const host = failingHost(area.host, {
    ...(second === undefined ? {} : { nth: second }),
    errno: 'EACCES',
    thenAlways: ['write'],
  });
  const attempt = setOf(area, 'job', keys, host).add(process.pid);
  await expect(attempt).rejects.toMatchObject({ code: 'ERR_NOT_PERMITTED' });
  await expect(attempt).rejects.toThrow(`it could not be put back from "${job.cgroups[0]?.directory}"`);
  expect(job.cgroups.map((cgroup) => isIn(process.pid, cgroup))).toEqual([true, false, false]);
  expect(host.openDirectories()).toBe(0);
});
