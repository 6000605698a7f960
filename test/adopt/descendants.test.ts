import { describe, expect } from 'vitest';
import { type Descent, moveDescendants } from '../../src/adopt/descendants.js';
import { type HeldProcess, holdProcess } from '../../src/cgroup/process.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { SlurmCgroupsError, SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { alice, bob, descendantsOf, inWorld, onKernels, until, type World } from '../support/kernel-jobs.js';
import { descriptors } from '../support/test-cgroups.js';

onKernels((kernel) => {
  /** A shell with a child and a grandchild; no process is really moved. */
  const inFamily = (
    name: string,
    act: (of: {
      readonly pid: number;
      readonly family: HeldProcess[];
      readonly walk: (descent?: Partial<Descent>) => ReturnType<typeof moveDescendants>;
      readonly said: readonly string[];
      readonly world: World;
    }) => Promise<void>,
  ) =>
    inWorld(kernel, name, async (world) => {
      const pid = await world.shell(`(sleep ${world.lifetime} & wait) & wait`);
      await until('a grandchild', () => descendantsOf(pid).length === 2);
      const [family, said, node] = [[holdProcess(world.host, pid)], [] as string[], await world.node()];
      const move = async (held: HeldProcess) => {
        family.push(held);
        return 'moved' as const;
      };
      const deadline = deadlineIn(world.host, 20_000);
      const walk = (descent: Partial<Descent> = {}) =>
        moveDescendants({ node, uid: alice, deadline, family, move, say: (line) => said.push(line), ...descent });
      try {
        await act({ pid, family, walk, said, world });
      } finally {
        for (const held of family) held.close();
      }
    });

  describe('moveDescendants()', () => {
    inFamily('finds children and theirs, each once', async ({ pid, family, walk }) => {
      expect(await walk()).toBeUndefined();
      expect(family.map((one) => one.pid)).toEqual([pid, ...descendantsOf(pid)]);
    });

    inFamily('stops at the first error', async ({ family, walk }) => {
      const error = new SlurmCgroupsError('ERR_CGROUP_REFUSED', 'no');
      let asked = 0;
      const move = async (held: HeldProcess) => {
        family.push(held);
        asked++;
        return error;
      };
      expect([await walk({ move }), asked]).toEqual([error, 1]);
    });

    inFamily('lets go of one that could not be added', async ({ family, walk }) => {
      const before = descriptors();
      const error = new Error('not ours');
      await expect(walk({ move: () => Promise.reject(error) })).rejects.toBe(error);
      expect([family.length, descriptors()]).toEqual([1, before]);
    });

    /** The first of the family looked at by that host too. */
    const rehold = (family: HeldProcess[], host: Host) => {
      const [first] = family;
      family.splice(0, 1, holdProcess(host, first?.pid ?? 0));
      first?.close();
    };

    /** The machine, on which the child is gone whenever it is held; `lookedAll` counts the looks at all processes. */
    const vanishing = (world: World, child: number) => {
      let lookedAll = 0;
      const host: Host = {
        ...world.host,
        names: (path) => {
          if (path === '/proc') lookedAll++;
          return world.host.names(path);
        },
        open: (path) => {
          if (path === `/proc/${child}`) throw new SystemCallError('open', path, 'ENOENT');
          return world.host.open(path);
        },
      };
      return { host, lookedAll: () => lookedAll };
    };

    inFamily('comes to an end where children end before they are looked at, for ever', async (of) => {
      const { pid, family, walk, world, said } = of;
      const [child = 0] = descendantsOf(pid);
      const { host, lookedAll } = vanishing(world, child);
      expect(await walk({ node: await world.node(host) })).toBeUndefined();
      expect([family.length, lookedAll()]).toEqual([1, 5]);
      expect(said.at(-1)).toMatch(/^child processes started and ended faster than they could be listed/);
    });

    inFamily('begins anew with its looks where one was outside', async ({ pid, family, walk, world }) => {
      const [child = 0] = descendantsOf(pid);
      let opened = 0;
      const host: Host = {
        ...world.host,
        open: (path) => {
          if (path === `/proc/${child}` && ++opened < 3) throw new SystemCallError('open', path, 'ENOENT');
          return world.host.open(path);
        },
      };
      expect(await walk({ node: await world.node(host) })).toBeUndefined();
      expect(family.map((one) => one.pid)).toEqual([pid, ...descendantsOf(pid)]);
    });

    inFamily('finds by the list of all processes whom a parent’s own list left out', async (of) => {
      const { pid, family, walk, world } = of;
      const [child = 0, grandchild = 0] = descendantsOf(pid);
      const gone = 4_194_304; // the highest pid there can be
      const host: Host = {
        ...world.host,
        open: (path) => {
          const held = world.host.open(path);
          const read = (name: string) => {
            if (!/^task\/\d+\/children$/.test(name)) return held.read(name);
            return path === `/proc/${pid}` ? `${gone} ` : '';
          };
          return { ...held, read };
        },
      };
      rehold(family, host);
      expect(await walk({ node: await world.node(host) })).toBeUndefined();
      expect(family.map((one) => one.pid)).toEqual([pid, child, grandchild]);
    });

    inFamily('moves no process that has that pid since, and is no child', async ({ pid, family, walk, world }) => {
      const stranger = await world.session();
      const host: Host = {
        ...world.host,
        open: (path) => {
          const held = world.host.open(path);
          const read = (name: string) => (/\/children$/.test(name) ? `${stranger} ` : held.read(name));
          return { ...held, read };
        },
      };
      rehold(family, host);
      expect(await walk({ node: await world.node(host) })).toBeUndefined();
      expect(family.map((one) => one.pid)).not.toContain(stranger);
      expect(family[0]?.pid).toBe(pid);
    });

    inFamily('is over at its deadline', async ({ walk, world }) => {
      expect(await walk({ deadline: deadlineIn(world.host, -1) })).toMatchObject({ code: 'ERR_TIMEOUT' });
    });

    inFamily('leaves the children of another user, and says so', async ({ pid, family, walk, said }) => {
      const [child] = descendantsOf(pid);
      expect(await walk({ uid: bob })).toBeUndefined();
      expect(family).toHaveLength(1);
      expect(said).toEqual([
        expect.stringMatching(
          new RegExp(`^child process ${child} \\(\\S+\\) stays where it is: it belongs to uid ${alice}`),
        ),
      ]);
    });
  });
});
