// Somebody acts before the nth call of a whole login: the process ends, its job is suspended, resumed, ended, a newer one
// comes. Whatever the answer is, it is one, and the kernel agrees with it. INTERLEAVINGS=1000: before every call.

import fs from 'node:fs';
import process from 'node:process';
import { expect } from 'vitest';
import { answerLogin, type LoginOptions } from '../../src/adopt/login.js';
import type { LoginReply, LoginRequest } from '../../src/adopt/login-protocol.js';
import { identityOf } from '../../src/cgroup/process.js';
import { uptimeMs } from '../../src/machine/clock.js';
import type { Host } from '../../src/machine/host.js';
import { defaultOptions } from '../../src/policy/options.js';
import { actingHost } from '../../src/testing.js';
import { randomOf, shuffled } from '../interleavings/search.js';
import { alice, inWorld, onKernels, stateOf, until, type World } from '../support/kernel-jobs.js';

const { SEED = '1', INTERLEAVINGS = '10' } = process.env;
const minute = 60_000;

interface Act {
  readonly name: string;
  /** The process may be on its way out for a moment. */
  readonly kills?: true;
  readonly act: (world: World, pid: number) => void;
  readonly undo?: (world: World) => void;
}

const acts: readonly Act[] = [
  { name: 'the process ends', kills: true, act: ({ host }, pid) => host.signal(pid, 'SIGKILL') },
  { name: 'the job is suspended', act: (world) => world.freeze(102) },
  {
    name: 'the job is suspended for a moment',
    act: (world) => {
      world.freeze(102);
      world.thaw(102);
    },
  },
  {
    name: 'the job ends',
    act: (world) => {
      try {
        world.removeExtern(102);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EBUSY')) throw error;
      }
    },
    // Where the session was in it, a part of it is left.
    undo: (world) => {
      world.removeExtern(102);
      world.makeExtern(102);
    },
  },
  { name: 'a newer job comes', act: (world) => world.makeExtern(103), undo: (world) => world.removeExtern(103) },
];

async function login(world: World, host: Host, pid: number): Promise<LoginReply> {
  const request: LoginRequest = {
    ...{ phase: 'account', deadlineMs: uptimeMs(world.host) + minute, user: 'alice', uid: alice, pid },
    ...{ startTime: identityOf(world.host, pid).startTime, threads: 1, service: 'sshd', options: [], isCounted: false },
  };
  const options = { ...defaultOptions, waitForJobMs: 0, budgetMs: minute, actionAdoptFailure: 'deny' as const };
  const within: LoginOptions = { node: await world.node(host), options, messages: {} };
  return (await answerLogin(request, within)).reply;
}

/** Also of a session that was in its job before that was suspended. */
async function end(world: World, pid: number): Promise<void> {
  if (stateOf(pid) !== undefined) world.host.signal(pid, 'SIGKILL');
  if (fs.existsSync(world.freezerOf(102))) world.thaw(102);
  await until('it is gone', () => stateOf(pid) === undefined);
}

onKernels((kernel) => {
  for (const { name, kills, act, undo } of acts)
    inWorld(kernel, `answerLogin() is right though ${name} in the middle, seed ${SEED}`, async (world) => {
      await world.twoJobs();
      await world.box.addJob({ jobId: 103, uid: alice });
      world.removeExtern(103);
      const counting = actingHost(world.host, Number.MAX_SAFE_INTEGER, () => {});
      const first = await world.session();
      await login(world, counting, first);
      await end(world, first);
      const calls = counting.calls.length;
      const numbers = shuffled(
        Array.from({ length: calls }, (_, at) => at + 1),
        randomOf(Number(SEED)),
      );
      for (const n of numbers.slice(0, Number(INTERLEAVINGS))) {
        const pid = await world.session();
        const reply = await login(
          world,
          actingHost(world.host, n, () => act(world, pid)),
          pid,
        );
        const isAlive = kills !== true;
        const where = isAlive ? world.places(pid) : undefined;
        const said = `before call ${n}: ${reply.action}, ${reply.reason}`;
        if (reply.action === 'allow' && isAlive) {
          expect(where, said).toEqual(world.leaves(reply.jobId ?? 0));
          for (const one of reply.cgroups) expect(one.path, said).toContain(`job_${reply.jobId}`);
        } else if (isAlive) expect([reply.action, where], said).toEqual(['deny', world.everywhere('outside')]);
        else expect(['allow', 'deny'], said).toContain(reply.action);
        if (reply.action === 'deny') expect([reply.cgroups, reply.messages.length], said).toEqual([[], 1]);
        await end(world, pid);
        undo?.(world);
      }
    });
});
