// Connections of this machine between real processes in real job cgroups: what slurmd would find is found here.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import process from 'node:process';
import { describe, expect, it } from 'vitest';
import { callerHere } from '../../../src/jobs/caller/here.js';
import type { CallerIdQuestion } from '../../../src/jobs/caller/question.js';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import type { SlurmNode } from '../../../src/jobs/node.js';
import { findOwners } from '../../../src/jobs/owners/find.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { SystemCallError } from '../../../src/machine/errors.js';
import { failingHost } from '../../../src/machine/failing.js';
import type { Host } from '../../../src/machine/host.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { connectionOf, said } from '../../support/callers.js';
import { alice, bob, inWorld, onKernels, type World } from '../../support/kernel-jobs.js';
import { families, Listener } from '../../support/tcp-listener.js';

interface Calling {
  readonly jobId?: number;
  readonly address: string;
  readonly uid?: number;
  /** What it does before it connects. */
  readonly before?: string;
}

/** Connects from a process of that user in the job (or outside), and gives what the listener saw. */
async function caller(world: World, listener: Listener, { jobId, address, uid = alice, before = '' }: Calling) {
  const script = `${before}; require('node:net').connect(${listener.port}, '${address}').on('error', () => {}); setTimeout(() => {}, ${world.lifetime}000)`;
  const pid = await world.start(process.execPath, ['-e', script], uid);
  const connection = connectionOf((await listener.accept()).text);
  const place = jobId === undefined ? world.outside : world.jobAt(jobId, 'step_batch');
  if (jobId === undefined) await place.add(pid);
  else for (const cgroup of (await batchOf(world, jobId)).cgroups) await cgroup.add(pid);
  return { pid, connection };
}

/** Where the processes of the batch step are: on v2 a leaf. */
async function batchOf(world: World, jobId: number) {
  return world.kernel.name === 'v1'
    ? world.jobAt(jobId, 'step_batch')
    : world.jobAt(jobId, 'step_batch', 'user', 'task_0');
}

const question = async (world: World, change: Partial<CallerIdQuestion> & Pick<CallerIdQuestion, 'connection'>) => {
  const node = change.node ?? (await world.node());
  const jobs = await findOwners(discoverJobs(await world.node(), { uid: alice }), { node: await world.node() });
  const ownJobs = jobs.filter(({ uid }) => uid === alice);
  return { node, uid: alice, ownJobs, deadline: deadlineIn(node.host, 10_000), ...change };
};
const ask = async (world: World, change: Partial<CallerIdQuestion> & Pick<CallerIdQuestion, 'connection'>) =>
  said(await callerHere(await question(world, change)));

async function withListener(address: string, act: (listener: Listener) => Promise<void>): Promise<void> {
  const listener = await Listener.at(address);
  try {
    await act(listener);
  } finally {
    listener.close();
  }
}

onKernels((kernel) => {
  describe('callerHere()', () => {
    for (const { name, listen, connect } of families) {
      inWorld(
        kernel,
        `names the job of the process that opened the connection, not the newest: ${name}`,
        async (world) => {
          await world.twoJobs();
          await withListener(listen, async (listener) => {
            const { connection } = await caller(world, listener, { jobId: 101, address: connect });
            expect(await ask(world, { connection })).toBe(`job 101 of ${alice}`);
            expect(await ask(world, { connection, pid: process.pid })).toBe(`job 101 of ${alice}`);
          });
        },
      );
    }

    inWorld(kernel, 'says "none" of a process outside every job', async (world) => {
      await world.twoJobs();
      await withListener('127.0.0.1', async (listener) => {
        const { connection } = await caller(world, listener, { address: '127.0.0.1' });
        expect(await ask(world, { connection })).toBe('none');
      });
    });

    inWorld(kernel, 'names the job of another user with its owner', async (world) => {
      await world.twoJobs();
      await world.box.addJob({ jobId: 103, uid: bob });
      await withListener('127.0.0.1', async (listener) => {
        const { connection } = await caller(world, listener, { jobId: 101, address: '127.0.0.1' });
        const ofBob = (
          await findOwners(discoverJobs(await world.node(), { uid: bob }), { node: await world.node() })
        ).filter(({ uid }) => uid === bob);
        expect(await ask(world, { connection, uid: bob, ownJobs: ofBob })).toBe(`job 101 of ${alice}`);
      });
    });

    inWorld(
      kernel,
      'knows no job of a connection that is over, of its other direction, or that is not here',
      async (world) => {
        await world.twoJobs();
        await withListener('127.0.0.1', async (listener) => {
          const { pid, connection } = await caller(world, listener, { jobId: 101, address: '127.0.0.1' });
          const { source, destination } = connection;
          expect(await ask(world, { connection: { source: destination, destination: source } })).toBe('none');
          expect(await ask(world, { connection: { source: { ...source, port: 1 }, destination } })).toContain(
            '127.0.0.1 is this node, which has no such connection',
          );
          expect(await ask(world, { connection: connectionOf('203.0.113.9 5 192.0.2.2 22') })).toBe('another node');
          expect(await ask(world, { connection: connectionOf('2001:db8:9::9 5 2001:db8::2 22') })).toBe('another node');
          world.host.signal(pid, 'SIGKILL');
          for (const end = Date.now() + 5000; Date.now() < end; ) {
            if ((await ask(world, { connection })).includes('no such connection')) break;
          }
          expect(await ask(world, { connection })).toContain('no such connection');
        });
      },
    );

    inWorld(kernel, 'is late rather than slow', async (world) => {
      await world.twoJobs();
      await withListener('127.0.0.1', async (listener) => {
        const { connection } = await caller(world, listener, { jobId: 101, address: '127.0.0.1' });
        expect(await ask(world, { connection, deadline: deadlineIn(world.host, -1) })).toBe(
          'looking through the processes of the jobs here took too long',
        );
      });
    });

    inWorld(kernel, 'does not say "none" where processes are hidden', async (world) => {
      await world.twoJobs();
      await withListener('127.0.0.1', async (listener) => {
        const { pid, connection } = await caller(world, listener, { jobId: 101, address: '127.0.0.1' });
        const hiding: Host = {
          ...world.host,
          open: (path) => {
            if (path === `/proc/${pid}`) throw new SystemCallError('open', path, 'EACCES');
            return world.host.open(path);
          },
        };
        expect(await ask(world, { connection, node: await world.node(hiding) })).toContain('only root may see');
      });
    });

    /** As many descriptors as it may have, or `most` of them: Node takes the hard limit. */
    const hoarding = (most: number) =>
      `try { for (let i = 0; i < ${most}; i++) require('node:fs').openSync('/dev/null'); } catch { for (let fd = 100; fd < 140; fd++) require('node:fs').closeSync(fd); }`;

    inWorld(kernel, 'pauses while it looks through one process, and stops there at its deadline', async (world) => {
      await world.twoJobs();
      await withListener('127.0.0.1', async (listener) => {
        const calling = { jobId: 101, address: '127.0.0.1', before: hoarding(15_000) };
        const { connection } = await caller(world, listener, calling);
        let [looks, pauses, open] = [0, 0, 0];
        /** A look at a descriptor takes a tenth of a millisecond. */
        const slow: Host = {
          ...world.host,
          now: () => 1000 + looks / 10,
          sleep: async () => void pauses++,
          open: (path) => {
            const held = world.host.open(path);
            open++;
            const readlink = (name: string) => {
              looks++;
              return held.readlink(name);
            };
            const close = () => {
              open--;
              held.close();
            };
            return { ...held, readlink, close };
          },
        };
        const node = await world.node(slow);
        expect(await ask(world, { connection, node, deadline: deadlineIn(node.host, 1e9) })).toBe(
          `job 101 of ${alice}`,
        );
        expect(looks).toBeGreaterThan(2000); // Node lists names sorted as texts: the socket is somewhere in the middle
        expect(pauses).toBeGreaterThan(looks / 1000); // ten milliseconds are a hundred looks, asked for every 256
        looks = 0;
        expect(
          await ask(world, { connection, node, deadline: deadlineIn(node.host, 1100 - node.host.now()) }),
        ).toContain('took too long');
        expect(looks).toBeLessThan(1500);
        expect(open).toBe(0);
      });
    });

    inWorld(kernel, 'does not look through a process with room for more than 65,536 descriptors', async (world) => {
      await world.twoJobs();
      await withListener('127.0.0.1', async (listener) => {
        const { pid, connection } = await caller(world, listener, { jobId: 101, address: '127.0.0.1' });
        const roomy = (size: number): Host => ({
          ...world.host,
          open: (path) => {
            const held = world.host.open(path);
            const read = (name: string) =>
              name === 'status' ? held.read(name).replace(/^FDSize:.*$/m, `FDSize:\t${size}`) : held.read(name);
            const names = (name?: string) =>
              size > 65_536 && name === 'fd' && path === `/proc/${pid}` ? expect.unreachable() : held.names(name);
            return { ...held, read, names };
          },
        });
        expect(await ask(world, { connection, node: await world.node(roomy(65_536)) })).toBe(`job 101 of ${alice}`);
        expect(await ask(world, { connection, node: await world.node(roomy(131_072)) })).toMatch(
          /^process \d+ in a job here may hold the socket: it has room for more than 65536 descriptors/,
        );
      });
    });

    if (kernel.name === 'v1') {
      inWorld(kernel, 'believes no process that is in two jobs', async (world) => {
        await world.twoJobs();
        await withListener('127.0.0.1', async (listener) => {
          const { pid, connection } = await caller(world, listener, { jobId: 101, address: '127.0.0.1' });
          await world.jobAt(102, 'step_batch').cgroups[0]?.add(pid);
          expect(await ask(world, { connection })).toBe(
            `process ${pid}, which holds the other end, is in several jobs at once`,
          );
        });
      });
    }

    inWorld(kernel, 'closes what it opened, whatever the kernel refuses, and names no wrong job', async (world) => {
      await world.twoJobs();
      await withListener('127.0.0.1', async (listener) => {
        const { connection } = await caller(world, listener, { jobId: 101, address: '127.0.0.1' });
        const node = await world.node();
        const asked = await question(world, { connection });
        const counted = failingHost(node.host);
        await callerHere({ ...asked, node: { ...node, host: counted } });
        expect(counted.openDirectories()).toBe(0);
        for (const errno of ['EIO', 'EACCES', 'ENOENT', 'ESRCH']) {
          for (let nth = 1; nth <= counted.calls.length; nth++) {
            const host = failingHost(node.host, { nth, errno });
            const answer = await callerHere({ ...asked, node: { ...node, host } }).catch((error: unknown) => {
              expect(error).toBeInstanceOf(SystemCallError);
              return undefined;
            });
            expect(host.openDirectories()).toBe(0);
            if (answer?.answer === 'job') expect(answer.jobId).toBe(101);
          }
        }
      });
    });

    inWorld(kernel, 'looks in the network namespace of the process that it is given', async (world) => {
      await world.twoJobs();
      await withListener('127.0.0.1', async (listener) => {
        const { connection } = await caller(world, listener, { jobId: 101, address: '127.0.0.1' });
        // Another one has a loopback of its own, without this connection.
        const child = spawn('/usr/bin/unshare', ['-n', 'sleep', world.lifetime], { stdio: 'ignore' });
        await once(child, 'spawn');
        try {
          const { pid = 0 } = child;
          const own = fs.readlinkSync('/proc/self/ns/net');
          for (const end = Date.now() + 5000; fs.readlinkSync(`/proc/${pid}/ns/net`) === own && Date.now() < end; )
            await new Promise((fulfil) => setTimeout(fulfil, 5));
          expect(await ask(world, { connection, pid })).toContain('no such connection');
        } finally {
          child.kill('SIGKILL');
        }
      });
    });
  });
});

describe('callerHere()', () => {
  it('looks a second time into a table that changed while it was read', async () => {
    const listener = await Listener.at('127.0.0.1');
    const client = net.connect(listener.port, '127.0.0.1');
    try {
      const connection = connectionOf((await listener.accept()).text);
      const host = liveHost();
      let reads = 0;
      const torn: Host = {
        ...host,
        open: (path) => {
          const held = host.open(path);
          const read = (name: string) => (name.startsWith('net/tcp') && reads++ < 2 ? 'sl\n' : held.read(name));
          return { ...held, read };
        },
      };
      const node = { host: torn, tops: [], unreadable: [] } as unknown as SlurmNode;
      const answer = await callerHere({ node, connection, uid: 0, ownJobs: [], deadline: deadlineIn(host, 5000) });
      expect([said(answer), reads]).toEqual(['none', 3]);
    } finally {
      client.destroy();
      listener.close();
    }
  });
});
