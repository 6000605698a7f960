import { describe, expect, it } from 'vitest';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { withExternTimes } from '../../src/jobs/extern-times.js';
import type { Job } from '../../src/jobs/job.js';
import { readNode } from '../../src/jobs/node.js';
import { findOwners } from '../../src/jobs/owners/find.js';
import { SystemCallError } from '../../src/machine/errors.js';
import type { FileStat, Host } from '../../src/machine/host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { rankJobs } from '../../src/policy/newest.js';
import { loadRecording, recordingNames } from '../recordings/recordings.js';

async function datedOn(name: string, change: (host: Host) => Partial<Host> = () => ({})): Promise<readonly Job[]> {
  const recorded = recordedHost(loadRecording(name));
  const host = { ...recorded, ...change(recorded) };
  const node = await readNode({ host });
  return withExternTimes(await findOwners(discoverJobs(node), { node }), node);
}

const orderOn = async (name: string) => rankJobs(await datedOn(name)).jobs.map(({ jobId, sluid }) => jobId ?? sluid);

const v1 = 'slurm-24.11-v1';
const socketOf1 = '/var/spool/lab/spool/vm_1.4294967292';

/** The stat of one path is another. */
const withStat =
  (path: string, changed: (stat: FileStat) => FileStat | undefined) =>
  (host: Host): Partial<Host> => ({
    stat: (at) => {
      const stat = host.stat(at);
      return at === path && stat !== undefined ? changed(stat) : stat;
    },
  });

describe('withExternTimes()', () => {
  it.each(recordingNames)(
    '%s: every job has the start of its slurmstepd, and those with an id the time of their socket',
    async (name) => {
      const jobs = (await datedOn(name)).filter(({ extern }) => extern !== undefined);
      expect(jobs.length).toBeGreaterThan(0);
      for (const { jobId, extern } of jobs) {
        expect(extern?.stepdStartTicks).toBeGreaterThan(0n);
        expect(extern?.socketNs === undefined).toBe(jobId === undefined);
      }
    },
  );

  it.each(['after-ls', 'after-reclaim', 'before-adoption'])('the order of jobs is the same %s', async (moment) => {
    const name = 'slurm-26.05-v2-jobidpaths';
    expect(await orderOn(`${name}.${moment}`)).toEqual(await orderOn(name));
    expect(await orderOn(name)).toEqual([5, 3, 4, 2, 1]);
  });

  it('takes the earlier time of a socket, which any user may have touched', async () => {
    const touched = withStat(socketOf1, (stat) => ({ ...stat, mtimeNs: 5n, ctimeNs: 7n }));
    const [first] = await datedOn(v1, touched);
    expect(first).toMatchObject({ jobId: 1, extern: { socketNs: 5n } });
  });

  it.each([
    ['a spool that others can write', '/var/spool/lab/spool', (stat: FileStat) => ({ ...stat, mode: 0o040777n })],
    ["a spool that is not root's", '/var/spool/lab/spool', (stat: FileStat) => ({ ...stat, uid: 1001n })],
    ['a file in the place of the socket', socketOf1, (stat: FileStat) => ({ ...stat, mode: 0o100644n })],
    ['no socket', socketOf1, () => undefined],
  ])('believes no time of %s', async (_, path, changed) => {
    const [first] = await datedOn(v1, withStat(path, changed));
    expect(first?.jobId).toBe(1);
    expect(first?.extern?.socketNs).toBeUndefined();
    expect(first?.extern?.stepdStartTicks).toBeGreaterThan(0n);
  });

  it('leaves out what it may not see', async () => {
    const hidden = (host: Host): Partial<Host> => ({
      stat: (at) => {
        if (at === socketOf1) throw new SystemCallError('look at', at, 'EACCES');
        return host.stat(at);
      },
      open: (at) => {
        if (/^\/proc\/\d+$/.test(at)) throw new SystemCallError('open', at, 'EACCES');
        return host.open(at);
      },
    });
    const [first] = await datedOn(v1, hidden);
    expect(first?.extern?.cgroups.length).toBeGreaterThan(0);
    expect([first?.extern?.socketNs, first?.extern?.stepdStartTicks]).toEqual([undefined, undefined]);
  });

  it('does not take a process of the user for the slurmstepd on v1, whatever its name is', async () => {
    const [real] = await datedOn(v1);
    const forged = (host: Host): Partial<Host> => ({
      open: (at) => {
        const directory = host.open(at);
        const read = (name: string) => {
          const text = directory.read(name);
          // All here have slurmstepd's name; one that is not root's was there before all.
          if (name === 'stat') return text.replace(/\(.*\)/, '(slurmstepd)');
          return text;
        };
        return { ...directory, read };
      },
    });
    const [first] = await datedOn(v1, forged);
    expect(first?.jobId).toBe(1);
    // The placeholder of 24.11 is root's, and younger than its slurmstepd.
    expect(first?.extern?.stepdStartTicks).toBe(real?.extern?.stepdStartTicks);
  });
});
