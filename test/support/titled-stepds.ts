// A recorded node of Slurm 26.05 on v2, with what was not recorded: the command lines of its slurmstepds.

import { expectedFor, loadRecording } from '../recordings/recordings.js';

export interface Titles {
  /** SLUIDs whose slurmstepds have died: no process is at their place. */
  readonly dead?: readonly string[];
  /** Other command lines, by pid. */
  readonly others?: Readonly<Record<number, string>>;
  /** The id that the slurmstepds of that SLUID give, where it is not their job's. */
  readonly ids?: Readonly<Record<string, number>>;
}

const atSlurmsPlace = /\/([^/]+)\/step_([^/]+)\/slurm\/cgroup\.procs$/;

/** The text of the recording. */
export function titledNode(name: string, { dead = [], others = {}, ids = {} }: Titles = {}): string {
  const real = new Map(expectedFor(name).list.map((one) => [one.sluid, one.real.jobId]));
  const titles: object[] = Object.entries(others).map(([pid, text]) => ({ read: `/proc/${pid}/cmdline`, text }));
  const lines = loadRecording(name)
    .split('\n')
    .map((line) => {
      const { read, text } = line === '' ? {} : JSON.parse(line);
      const [, sluid, step] = atSlurmsPlace.exec(read ?? '') ?? [];
      if (sluid === undefined) return line;
      if (dead.includes(sluid)) return JSON.stringify({ read, text: '' });
      for (const pid of String(text).trim().split('\n'))
        titles.push({ read: `/proc/${pid}/cmdline`, text: `slurmstepd: [${ids[sluid] ?? real.get(sluid)}.${step}]\0` });
      return line;
    });
  return `${[...lines.filter((line) => line !== ''), ...titles.map((one) => JSON.stringify(one))].join('\n')}\n`;
}
