// The processes and figures of jobs: on recorded nodes, and on the real kernel.

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { readNode } from '../../src/jobs/node.js';
import { limitsOf, membersOfStep, processesOf, processSeen, usageOf } from '../../src/jobs/processes.js';
import { SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { expectedFor, loadRecording, recordingNames } from '../recordings/recordings.js';
import { alice, bob, inWorld, onKernels, until } from '../support/kernel-jobs.js';

/** A recording of one node need not name it. */
const isOn = (one: { readonly nodeName?: string }, job: { readonly nodeName?: string }) =>
  job.nodeName === undefined || one.nodeName === job.nodeName;

describe('processesOf() on recorded nodes', () => {
  it.each(recordingNames)('%s: each process once, with the step and the hierarchies it is in', async (name) => {
    const node = await readNode({ host: recordedHost(loadRecording(name)) });
    const jobs = discoverJobs(node);
    const { list } = expectedFor(name);
    expect(jobs).toHaveLength(list.length);
    for (const job of jobs) {
      const expected =
        list.find((one) => (one.jobId ?? undefined) === job.jobId && one.sluid === job.sluid && isOn(one, job)) ??
        expect.unreachable();
      const processes = await processesOf(job, { node });
      const pids = processes.map(({ pid }) => pid);
      expect(pids).toEqual([...new Set(pids)].sort((a, b) => a - b));
      for (const step of expected.steps) {
        const ofStep = processes.filter(({ seenIn }) => seenIn.some(({ stepId }) => stepId === step.stepId));
        expect(ofStep.map(({ pid }) => pid)).toEqual([...step.pids].sort((a, b) => a - b));
        for (const { seenIn } of ofStep)
          for (const { hierarchy } of seenIn) expect(step.hierarchies).toContain(hierarchy);
      }
      const usage = await usageOf(job, { node });
      expect(usage.processes).toBe(pids.length);
      expect(usage.steps.map(({ stepId, processes: number }) => [stepId, number])).toEqual(
        expected.steps.map(({ stepId, pids: own }) => [stepId, own.length]),
      );
      expect(limitsOf(job, { node }).steps.map(({ stepId }) => stepId)).toEqual(job.steps.map(({ stepId }) => stepId));
    }
  });
});

describe('a list that cannot be read', () => {
  it('is an error, never empty', async () => {
    const host = recordedHost(loadRecording('slurm-24.11-v1'));
    const node = await readNode({ host });
    const [job] = discoverJobs(node);
    if (job === undefined) throw new Error('no job');
    const refuses: Host = {
      ...host,
      read: (file) => {
        if (file.endsWith('cgroup.procs')) throw new SystemCallError('read', file, 'EACCES');
        return host.read(file);
      },
    };
    const blind = { node: { ...node, host: refuses } };
    await expect(processesOf(job, blind)).rejects.toMatchObject({ code: 'ERR_NOT_PERMITTED' });
    await expect(usageOf(job, blind)).rejects.toMatchObject({ code: 'ERR_NOT_PERMITTED' });
  });
});

onKernels((kernel) => {
  inWorld(kernel, 'processesOf() names what runs, and where, and forgets what ended', async (world) => {
    const leaf = await world.box.addJob({ jobId: 101, uid: alice });
    const one = await world.box.startSleeper(alice, leaf);
    const other = await world.box.startSleeper(bob, leaf);
    // A shell starts it.
    await until('they sleep', () => [one, other].every(({ pid }) => processSeen(world.host, pid).comm === 'sleep'));
    const node = await world.node();
    const job = await world.job(101);
    const found = await processesOf(job, { node });
    expect(found.map(({ pid, uid, comm, startTime }) => ({ pid, uid, comm, startTime }))).toEqual(
      [one, other]
        .map(({ pid }) => pid)
        .sort((a, b) => a - b)
        .map((pid) => ({ ...processSeen(world.host, pid), uid: pid === one.pid ? alice : bob, comm: 'sleep' })),
    );
    for (const { seenIn } of found) {
      expect(seenIn.map(({ hierarchy }) => hierarchy).sort()).toEqual(
        job.cgroups.map(({ hierarchy }) => hierarchy).sort(),
      );
      for (const { path, stepId } of seenIn) {
        expect(path).toContain(`/step_${stepId}`);
        expect(fs.existsSync(path)).toBe(true);
      }
    }
    world.host.signal(one.pid, 'SIGKILL');
    await until('it is gone', () => !fs.existsSync(`/proc/${one.pid}`));
    expect((await processesOf(job, { node })).map(({ pid }) => pid)).toEqual([other.pid]);
  });

  inWorld(kernel, 'processesOf() has those that are in the job and in no step', async (world) => {
    await world.box.addJob({ jobId: 101, uid: alice });
    const node = await world.node();
    const [top] = world.jobAt(101).cgroups;
    if (top === undefined || top.hierarchy.version === 2) return; // v2 takes no process beside children with controllers
    const pid = await world.session();
    fs.writeFileSync(`${top.directory}/cgroup.procs`, String(pid));
    expect(await processesOf(await world.job(101), { node })).toEqual([
      { ...processSeen(world.host, pid), seenIn: [{ hierarchy: top.hierarchy.key, path: top.directory }] },
    ]);
  });

  inWorld(kernel, 'usageOf() and limitsOf() are what the kernel counts and was told', async (world) => {
    const leaf = await world.box.addJob({ jobId: 101, uid: alice });
    const sleeper = await world.box.startSleeper(alice, leaf);
    const node = await world.node();
    const job = await world.job(101);
    const usage = await usageOf(job, { node });
    expect(usage.processes).toBe(1);
    expect(usage.steps.reduce((sum, { processes }) => sum + processes, 0)).toBe(1);
    for (const { path, files } of [usage, ...usage.steps].flatMap(({ hierarchies }) => hierarchies)) {
      expect(Object.keys(files).length).toBeGreaterThan(0);
      for (const name of Object.keys(files)) expect(fs.existsSync(`${path}/${name}`)).toBe(true);
    }
    const memory = world.jobAt(101).cgroups.find(({ hierarchy }) => hierarchy.controllers.includes('memory'));
    if (memory !== undefined) {
      expect(usage.memoryBytes).toBeGreaterThan(0);
      fs.writeFileSync(`${memory.directory}/memory.limit_in_bytes`, String(64 << 20));
      const limits = limitsOf(job, { node });
      expect([limits, ...limits.steps].map(({ memoryBytes }) => memoryBytes)).toEqual(
        [limits, ...limits.steps].map(() => 64 << 20),
      );
    }
    if (world.kernel.name === 'v2') expect(usage.cpuUsec).toBeGreaterThanOrEqual(0);
    const step = job.steps.find(({ stepId }) => stepId === 'extern') ?? expect.unreachable();
    expect((await membersOfStep(node, step)).length).toBeLessThanOrEqual(1);
    world.host.signal(sleeper.pid, 'SIGKILL');
    await until('it is gone', () => !fs.existsSync(`/proc/${sleeper.pid}`));
    expect((await usageOf(job, { node })).processes).toBe(0);
  });

  inWorld(kernel, 'a job that is gone has no process and no figure', async (world) => {
    await world.box.addJob({ jobId: 101, uid: alice });
    const node = await world.node();
    const job = await world.job(101);
    world.removeTree(world.jobAt(101));
    expect(await processesOf(job, { node })).toEqual([]);
    expect(await usageOf(job, { node })).toEqual({
      hierarchies: [],
      processes: 0,
      steps: job.steps.map(({ stepId }) => ({ stepId, hierarchies: [], processes: 0 })),
    });
  });
});
