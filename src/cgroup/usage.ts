// What the processes of a cgroup use, and those below it: memory, CPU time, pids. Read from the kernel's files, each
// kept under its own name, and told in one way for v1 and v2 (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/).

import { defined } from '../machine/defined.js';
import { SlurmCgroupsError } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import type { Cgroup } from './cgroup.js';

/** What a kernel file says: a number, or numbers by name (`cpu.stat`). */
export type KernelFigure = number | Readonly<Record<string, number>>;

/** The files of one cgroup in one hierarchy. */
export interface HierarchyUsage {
  /** `Hierarchy.key`: `memory`, `cpu,cpuacct`, or `unified` for v2. */
  readonly hierarchy: string;
  /** Absolute path of the directory. */
  readonly path: string;
  /** By the kernel's names, as the kernel counts: `memory.current` in bytes, `cpuacct.usage` in ns. */
  readonly files: Readonly<Record<string, KernelFigure>>;
}

/** Figures of a cgroup and all below it. Absent: no file here tells. */
export interface Usage {
  /** Page cache included. v2 `memory.current`, v1 `memory.usage_in_bytes`. */
  readonly memoryBytes?: number;
  /** The most it ever was. v2 `memory.peak` (Linux 5.19 on), v1 `memory.max_usage_in_bytes`. */
  readonly memoryPeakBytes?: number;
  /** CPU time of all its processes so far, the ended ones too, in microseconds. v2 `cpu.stat`, v1 `cpuacct.usage`. */
  readonly cpuUsec?: number;
  /** Processes and their threads, each counted. `pids.current`. */
  readonly pids?: number;
  readonly hierarchies: readonly HierarchyUsage[];
}

/** v1: the files of a controller, where the hierarchy has that controller. */
const filesOfV1: Readonly<Record<string, readonly string[]>> = {
  memory: ['memory.usage_in_bytes', 'memory.max_usage_in_bytes'],
  cpuacct: ['cpuacct.usage', 'cpuacct.stat'],
  pids: ['pids.current'],
};

/** v2: those of controllers that a cgroup does not have are not there. `cpu.stat` is there always. */
const filesOfV2: readonly string[] = ['memory.current', 'memory.peak', 'cpu.stat', 'pids.current'];

/** Reads the figures of a cgroup, which is one directory in each hierarchy. What is not there or not to be seen is absent. */
export function readUsage(host: Host, cgroups: readonly Cgroup[]): Usage {
  const hierarchies = cgroups.flatMap((cgroup): readonly HierarchyUsage[] => {
    const { hierarchy, directory } = cgroup;
    const names =
      hierarchy.version === 2
        ? filesOfV2
        : hierarchy.controllers.flatMap((controller) =>
            Object.hasOwn(filesOfV1, controller) ? (filesOfV1[controller] ?? []) : [],
          );
    const files = Object.fromEntries(
      names.flatMap((name) => {
        const figure = readFigure(host, `${directory}/${name}`);
        return figure === undefined ? [] : [[name, figure]];
      }),
    );
    return Object.keys(files).length === 0 ? [] : [{ hierarchy: hierarchy.key, path: directory, files }];
  });
  return {
    ...defined({
      memoryBytes: numberIn(hierarchies, 'memory.current', 'memory.usage_in_bytes'),
      memoryPeakBytes: numberIn(hierarchies, 'memory.peak', 'memory.max_usage_in_bytes'),
      cpuUsec: cpuUsecIn(hierarchies),
      pids: numberIn(hierarchies, 'pids.current'),
    }),
    hierarchies,
  };
}

function readFigure(host: Host, file: string): KernelFigure | undefined {
  try {
    return parseFigure(host.read(file));
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return undefined; // not in this kernel or cgroup, or it is gone
    throw error;
  }
}

/** `4096`, or lines of `usage_usec 17`. `undefined`: neither. */
export function parseFigure(text: string): KernelFigure | undefined {
  if (/^\d+\n?$/.test(text)) return Number(text);
  const entries = text.split('\n').flatMap((line): readonly (readonly [string, number])[] => {
    const [, name, value] = /^(\w+) (\d+)$/.exec(line) ?? [];
    return name === undefined ? [] : [[name, Number(value)]];
  });
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}

/** v1 knows better than v2 on a hybrid node, where v2 has no controllers: then no file of v2 is there but `cpu.stat`. */
function cpuUsecIn(hierarchies: readonly HierarchyUsage[]): number | undefined {
  const ns = numberIn(hierarchies, 'cpuacct.usage');
  if (ns !== undefined) return Math.round(ns / 1000);
  for (const { hierarchy, files } of hierarchies) {
    const stat = files['cpu.stat'];
    // v1 has a file of that name, too: of throttling.
    if (hierarchy === 'unified' && typeof stat === 'object' && stat['usage_usec'] !== undefined)
      return stat['usage_usec'];
  }
  return undefined;
}

function numberIn(hierarchies: readonly HierarchyUsage[], ...names: readonly string[]): number | undefined {
  for (const { files } of hierarchies) {
    for (const name of names) {
      const figure = files[name];
      if (typeof figure === 'number') return figure;
    }
  }
  return undefined;
}
