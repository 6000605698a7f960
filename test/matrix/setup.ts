// Before the first cell: roots and kernels of all, two at a time.

import { prepareLab } from '../lab/guest.js';
import { keptKernel } from '../lab/kernel.js';
import { keptRoot } from '../lab/root.js';
import { cells, suites } from './cells.js';

export default async function prepare(): Promise<void> {
  const say = (text: string) => console.error(text);
  await prepareLab({}, say); // the packages of the host, before two want to install them
  const roots = [...new Set(cells.map(({ slurm }) => suites[slurm]))];
  const kernels = [...new Set(cells.map(({ kernel }) => kernel))];
  const makeRoots = async () => {
    for (let suite = roots.shift(); suite !== undefined; suite = roots.shift())
      await keptRoot({ suite, slurm: true }, say);
  };
  const fetchKernels = async () => {
    for (const kernel of kernels) await keptKernel(kernel, say);
    await makeRoots();
  };
  await Promise.all([makeRoots(), fetchKernels()]);
}
