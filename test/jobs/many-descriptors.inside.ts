// A process may have a descriptor above 65,536 only where its limit allows it, which not every root may raise.

import { describe, expect } from 'vitest';
import { callerHere } from '../../src/jobs/caller/here.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { findOwners } from '../../src/jobs/owners/find.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import type { Host } from '../../src/machine/host.js';
import { connectionOf, said } from '../support/callers.js';
import { alice, inWorld, onKernels } from '../support/kernel-jobs.js';
import { Listener } from '../support/tcp-listener.js';

describe('callerHere()', () => {
  onKernels((kernel) => {
    inWorld(
      kernel,
      'says of a process with room for more than 65,536 descriptors that it is not known',
      async (world) => {
        await world.twoJobs();
        const listener = await Listener.at('127.0.0.1');
        try {
          const script = `ulimit -n 100000; exec 70000<>/dev/tcp/127.0.0.1/${listener.port}; read -r -u 70000`;
          const pid = await world.start('/bin/bash', ['-c', script], 0);
          const connection = connectionOf((await listener.accept()).text);
          for (const cgroup of world.jobAt(101, 'step_batch', 'user', 'task_0').cgroups) await cgroup.add(pid);
          let listed = 0;
          const host: Host = {
            ...world.host,
            open: (path) => {
              const held = world.host.open(path);
              const names = (name?: string) => {
                if (name === 'fd' && path === `/proc/${pid}`) listed++;
                return held.names(name);
              };
              return { ...held, names };
            },
          };
          const node = await world.node(host);
          const ownJobs = (await findOwners(discoverJobs(node, { uid: alice }), { node })).filter(
            ({ uid }) => uid === alice,
          );
          const answer = await callerHere({
            node,
            uid: alice,
            ownJobs,
            connection,
            deadline: deadlineIn(host, 60_000),
          });
          expect(said(answer)).toMatch(
            new RegExp(
              `^process ${pid} in a job here may hold the socket: it has room for more than 65536 descriptors`,
            ),
          );
          expect(listed).toBe(0);
        } finally {
          listener.close();
        }
      },
    );
  });
});
