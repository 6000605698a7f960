import { describe, expect } from 'vitest';
import { putBackAbandoned } from '../../src/adopt/abandoned.js';
import { withProcess } from '../../src/cgroup/process.js';
import { inWorld, onKernels } from '../support/kernel-jobs.js';

onKernels((kernel) => {
  describe('putBackAbandoned()', () => {
    inWorld(kernel, 'puts back what stands where it was put, and says what cannot be', async (world) => {
      await world.twoJobs();
      const [pid, node] = [await world.session(), await world.node()];
      const key = world.box.controllers.at(-1) ?? '';
      const { within } = world.box;
      const here = `${within}/outside`;
      const put = (move: { readonly from: string; readonly to: string }) =>
        withProcess(world.host, pid, (held) =>
          putBackAbandoned(world.host, node.hierarchies, { held, abandoned: { moves: [{ hierarchy: key, ...move }] } }),
        );
      // It stands elsewhere, or where it came from: another has moved it since.
      expect(await put({ from: within, to: `${within}/nowhere` })).toEqual([]);
      expect(await put({ from: here, to: within })).toEqual([]);
      expect(await put({ from: `${within}/gone`, to: here })).toEqual([
        expect.stringMatching(
          `^an adoption that was killed had moved process ${pid} to ${here} in ${key}, where it stays: Cannot open`,
        ),
      ]);
      world.at().create('home');
      expect(await put({ from: `${within}/home`, to: here })).toEqual([
        `an adoption that was killed had moved process ${pid} to ${here} in ${key}: put back to ${within}/home`,
      ]);
      expect(world.places(pid)[key]).toBe(`${within}/home`);
    });
  });
});
