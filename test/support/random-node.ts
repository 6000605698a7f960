// A recorded node with processes added at random: any user, any place in each hierarchy, any pretence. What is
// known of each by construction is what a plan is held against; nothing of the product decides it.

import fc from 'fast-check';
import { loadRecording } from '../recordings/recordings.js';

/** What a process is, and whether it may ever be ended. */
export type Kind = 'plain' | 'root' | 'setuid' | 'kernel-thread' | 'slurmstepd' | 'forged-slurmstepd';

export interface AddedProcess {
  readonly kind: Kind;
  /** A number for each line of /proc/PID/cgroup: which of that hierarchy's cgroups it is in. */
  readonly places: readonly number[];
  readonly uid: number;
}

export interface PlacedProcess extends AddedProcess {
  readonly pid: number;
  /** Jobs in whose cgroups it is, in any hierarchy. */
  readonly jobs: ReadonlySet<string>;
}

export const anyProcesses: fc.Arbitrary<readonly AddedProcess[]> = fc.array(
  fc.record({
    kind: fc.constantFrom<Kind>('plain', 'plain', 'root', 'setuid', 'kernel-thread', 'slurmstepd', 'forged-slurmstepd'),
    places: fc.array(fc.nat({ max: 1000 }), { minLength: 12, maxLength: 12 }),
    uid: fc.constantFrom(1001, 1002, 64_000),
  }),
  { maxLength: 25 },
);

type Line = Readonly<Record<string, unknown>>;

export interface RandomNode {
  /** A recording. */
  readonly text: string;
  readonly added: readonly PlacedProcess[];
  /** `cgroup.procs` of every cgroup of a job, by the job's name. */
  readonly lists: ReadonlyMap<string, readonly string[]>;
}

const firstPid = 3_000_000;

/** Adds the processes to a recording. `mostly`: a job in whose cgroups they are to be more often than not. */
export function randomNode(
  name: string,
  { added, mostly }: { added: readonly AddedProcess[]; mostly: string },
): RandomNode {
  const lines: Line[] = loadRecording(name)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
  const files = lines.flatMap(({ read }) => (typeof read === 'string' && read.endsWith('/cgroup.procs') ? [read] : []));
  const members = new Map<string, number[]>();
  const template = String(lines.find(({ read }) => read === '/proc/self/cgroup')?.['text'])
    .trimEnd()
    .split('\n');
  const made: Line[] = [];
  const placed = added.map((one, at): PlacedProcess => {
    const pid = firstPid + at;
    const jobs = new Set<string>();
    const cgroups = template.map((line, hierarchy) => {
      const head = line.slice(0, line.indexOf(':', line.indexOf(':') + 1) + 1);
      const file =
        one.kind === 'kernel-thread' ? undefined : choose(filesOf(head, files), one.places[hierarchy] ?? 0, mostly);
      if (file === undefined) return `${head}/`;
      members.set(file, [...(members.get(file) ?? []), pid]);
      const job = jobIn(file);
      if (job !== undefined) jobs.add(job);
      return `${head}${pathIn(head, file)}`;
    });
    made.push(...linesOf(pid, one, `${cgroups.join('\n')}\n`));
    return { ...one, pid, jobs };
  });
  const withMembers = lines.map((line): Line => {
    if (line['list'] === '/proc') {
      const own = Object.fromEntries(placed.map(({ pid }) => [pid, 'directory']));
      return { ...line, entries: { ...(line['entries'] as object), ...own } };
    }
    const more = typeof line['read'] === 'string' ? members.get(line['read']) : undefined;
    return more === undefined ? line : { ...line, text: `${line['text']}${more.map((pid) => `${pid}\n`).join('')}` };
  });
  const lists = new Map<string, string[]>();
  for (const file of files) {
    const job = jobIn(file);
    if (job !== undefined) lists.set(job, [...(lists.get(job) ?? []), file]);
  }
  return { text: [...withMembers, ...made].map((line) => JSON.stringify(line)).join('\n'), added: placed, lists };
}

/** `/sys/fs/cgroup/<controllers>/…`, or on v2 `/sys/fs/cgroup/…`. */
function mountOf(head: string): string {
  const controllers = head.split(':')[1] ?? '';
  return controllers === '' ? '/sys/fs/cgroup' : `/sys/fs/cgroup/${controllers.replace(/^name=/, '')}`;
}

/** Those of Slurm in that hierarchy in which a process can be: on v2 no inner one. */
function filesOf(head: string, files: readonly string[]): readonly string[] {
  const isV2 = mountOf(head) === '/sys/fs/cgroup';
  return files.filter((file) =>
    isV2 ? /\.scope\/.*\/(?:task_\w+|slurm)\/cgroup\.procs$/.test(file) : file.startsWith(`${mountOf(head)}/slurm`),
  );
}

function choose(files: readonly string[], number: number, mostly: string): string | undefined {
  const wanted = files.filter((file) => jobIn(file) === mostly);
  const from: readonly (string | undefined)[] =
    number % 3 === 0 ? [undefined, ...files] : number % 3 === 1 ? wanted : [undefined];
  return from[Math.floor(number / 3) % Math.max(1, from.length)];
}

function pathIn(head: string, file: string): string {
  return file.slice(mountOf(head).length, -'/cgroup.procs'.length);
}

/** `job_4` or the SLUID: the directory's own name. */
export function jobIn(file: string): string | undefined {
  return /\/(job_\d+|s[0-9A-HJKMNP-TV-Z]{13})\//.exec(file)?.[1];
}

function linesOf(pid: number, { kind, uid }: AddedProcess, cgroup: string): readonly Line[] {
  const isRoot = kind === 'root' || kind === 'slurmstepd' || kind === 'kernel-thread';
  const uids = kind === 'setuid' ? [uid, 0, 0, 0] : Array(4).fill(isRoot ? 0 : uid);
  const comm = kind.endsWith('slurmstepd') ? 'slurmstepd' : kind === 'kernel-thread' ? 'kworker/0:1' : 'a b) S (c';
  const flags = kind === 'kernel-thread' ? 0x0020_0040 : 0;
  const exe =
    { slurmstepd: '/usr/sbin/slurmstepd', 'forged-slurmstepd': '/home/eve/slurmstepd' }[kind as string] ??
    '/usr/bin/sleep';
  const stat = (mode: number, owner: number) => [
    String(mode),
    String(owner),
    '0',
    '21',
    String(9_000_000 + pid),
    '1',
    '0',
    '1',
    '1',
  ];
  return [
    { stat: `/proc/${pid}`, is: stat(0o40555, isRoot || kind === 'setuid' ? 0 : uid) },
    { list: `/proc/${pid}/task`, entries: { [pid]: 'directory' } },
    { read: `/proc/${pid}/comm`, text: `${comm}\n` },
    {
      read: `/proc/${pid}/stat`,
      text: `${pid} (${comm}) S 1 1 1 0 -1 ${flags} ${'0 '.repeat(12)}77${' 0'.repeat(30)}\n`,
    },
    {
      read: `/proc/${pid}/status`,
      text: `Name:\tx\nState:\tS (sleeping)\nTgid:\t${pid}\nPid:\t${pid}\nPPid:\t1\nTracerPid:\t0\nUid:\t${uids.join('\t')}\nGid:\t0\t0\t0\t0\nThreads:\t1\n`,
    },
    { read: `/proc/${pid}/cgroup`, text: cgroup },
    { read: `/proc/${pid}/task/${pid}/cgroup`, text: cgroup },
    kind === 'kernel-thread' ? { link: `/proc/${pid}/exe`, errno: 'ENOENT' } : { link: `/proc/${pid}/exe`, to: exe },
    { stat: '/usr/sbin/slurmstepd', is: stat(0o100755, 0) },
    { stat: '/home/eve/slurmstepd', is: stat(0o104755, uid) },
    { stat: '/usr/bin/sleep', is: stat(0o100755, 0) },
  ];
}
