// The cells of the matrix: a release of Slurm, on a kernel, with a layout of cgroups. Each is a machine of its own,
// in which the same smoke runs, and what is different there.

import type { KernelName } from '../lab/kernel.js';
import type { Suite } from '../lab/root.js';

export interface Cell {
  readonly name: string;
  readonly slurm: '20.11' | '22.05' | '24.11' | '26.05';
  readonly kernel: KernelName;
  readonly boot: 'bare' | 'systemd';
  /** What is mounted; on hybrid Slurm uses v1. */
  readonly cgroup: 'v1' | 'v2' | 'hybrid';
  readonly nodes?: 2;
  /** Without systemd on v2: Slurm makes its scope itself. */
  readonly ignoreSystemd?: true;
  readonly jobIdPaths?: true;
  /** slurmd has its configuration from slurmctld; that of slurmctld is SlurmUser's, not root's. */
  readonly configless?: true;
  /** The plugin that gives each job a /tmp of its own, in a namespace of mounts. */
  readonly container?: 'job_container/tmpfs' | 'namespace/tmpfs';
  /** slurmdbd with a MariaDB (bare, on forky's root): what Slurm counted of a session is asked for. */
  readonly accounting?: true;
}

export const suites: Readonly<Record<Cell['slurm'], Suite>> = {
  '20.11': 'bullseye',
  '22.05': 'bookworm',
  '24.11': 'trixie',
  '26.05': 'forky',
};

export const cells: readonly Cell[] = [
  { name: '20.11 v1', slurm: '20.11', kernel: '5.10', boot: 'bare', cgroup: 'v1' },
  { name: '22.05 v1', slurm: '22.05', kernel: '6.1', boot: 'bare', cgroup: 'v1' },
  { name: '22.05 hybrid', slurm: '22.05', kernel: '6.1', boot: 'systemd', cgroup: 'hybrid' },
  { name: '22.05 v2', slurm: '22.05', kernel: '6.1', boot: 'bare', cgroup: 'v2', ignoreSystemd: true },
  { name: '24.11 v1', slurm: '24.11', kernel: '6.1', boot: 'bare', cgroup: 'v1', configless: true },
  {
    name: '24.11 v2 systemd',
    slurm: '24.11',
    kernel: '6.12',
    boot: 'systemd',
    cgroup: 'v2',
    container: 'job_container/tmpfs',
  },
  {
    name: '24.11 v2 two nodes',
    slurm: '24.11',
    kernel: '6.12',
    boot: 'bare',
    cgroup: 'v2',
    nodes: 2,
    ignoreSystemd: true,
  },
  { name: '26.05 v1', slurm: '26.05', kernel: '6.1', boot: 'bare', cgroup: 'v1' },
  { name: '26.05 v2 systemd', slurm: '26.05', kernel: '7.2', boot: 'systemd', cgroup: 'v2' },
  {
    name: '26.05 v2 IgnoreSystemd',
    slurm: '26.05',
    kernel: '7.2',
    boot: 'bare',
    cgroup: 'v2',
    ignoreSystemd: true,
    accounting: true,
  },
  {
    name: '26.05 v2 CgroupJobIdPaths',
    slurm: '26.05',
    kernel: '7.2',
    boot: 'systemd',
    cgroup: 'v2',
    jobIdPaths: true,
    container: 'namespace/tmpfs',
  },
  {
    name: '26.05 v2 two nodes',
    slurm: '26.05',
    kernel: '7.2',
    boot: 'bare',
    cgroup: 'v2',
    nodes: 2,
    ignoreSystemd: true,
  },
];
