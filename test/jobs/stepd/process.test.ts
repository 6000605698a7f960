import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode } from '../../../src/jobs/node.js';
import { isDeserted, jobIdByPlace, parseStepdTitle, standsIn } from '../../../src/jobs/stepd/process.js';
import { formatSluid } from '../../../src/jobs/stepd/protocol.js';
import { parseSocketName } from '../../../src/jobs/stepd/sockets.js';
import { SystemCallError } from '../../../src/machine/errors.js';
import { recordedHost } from '../../../src/machine/recording.js';
import { loadRecording } from '../../recordings/recordings.js';
import { nodeOfStepds, type Stepd } from '../../support/stepd-node.js';
import { recordedStepds, sluidOf } from '../../support/stepd-server.js';
import { type Sandbox, unixSandbox } from '../../support/unix-server.js';

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = unixSandbox();
});
afterEach(() => sandbox.close());

const directory = 'sEKNKTV3WPV500';

async function placed(stepd: Partial<Stepd>) {
  const { node } = await nodeOfStepds(sandbox, [{ directory, jobId: 7, pid: 500, is: 'dead', ...stepd }]);
  const [job] = discoverJobs(node);
  return { node, job: job ?? expect.unreachable() };
}

it.each<[string, number | undefined]>([
  ['slurmstepd: [7.extern]', 7],
  ['slurmstepd: [7.extern]\0\0\0', 7],
  ['slurmstepd: [7.0+1]', 7],
  ['slurmstepd: [4294967293.batch]', 4_294_967_293],
  ['slurmstepd: [4294967294.batch]', undefined],
  ['slurmstepd: [0.batch]', undefined],
  ['slurmstepd: [07.batch]', undefined],
  ['slurmstepd: [7]', undefined],
  ['slurmstepd: [7. x]', undefined],
  ['slurmstepd infinity', undefined],
  [' slurmstepd: [7.extern]', undefined],
  ['/etc/slurm/prolog.sh', undefined],
  ['', undefined],
])('parseStepdTitle(%j)', (text, jobId) => {
  expect(parseStepdTitle(text)?.jobId).toBe(jobId);
});

describe('jobIdByPlace()', () => {
  it('tells the job of a slurmstepd in any of its steps', async () => {
    const { node, job } = await placed({ stepId: '0' });
    expect(jobIdByPlace(node, job)).toBe(7);
  });

  it('tells nothing of what has another command line, went elsewhere, or cannot be seen', async () => {
    for (const [stepd, procs] of [
      [{ title: '/bin/sh /etc/slurm/prolog' }, undefined],
      [{ title: null }, undefined],
      [{ place: '/user.slice' }, '500\n'],
      [{}, '0\n'],
      [{}, ''],
      [{}, 'x\n'],
    ] as const) {
      const { node, job } = await placed(stepd);
      const read = (path: string) =>
        path.endsWith('cgroup.procs') && procs !== undefined ? procs : node.host.read(path);
      expect(jobIdByPlace({ ...node, host: { ...node.host, read } }, job), JSON.stringify(stepd)).toBeUndefined();
    }
  });

  it('believes no place on v1', async () => {
    const { node, job } = await placed({});
    const steps = job.steps.map((step) => ({
      ...step,
      cgroups: step.cgroups.map((one) => ({ ...one, controllers: ['memory'] })),
    }));
    expect(jobIdByPlace(node, { steps })).toBeUndefined();
  });
});

describe('isDeserted()', () => {
  const at = async (procs: string | SystemCallError) => {
    const { node, job } = await placed({});
    const read = (path: string) => {
      if (!path.endsWith('/step_extern/slurm/cgroup.procs')) return node.host.read(path);
      if (typeof procs !== 'string') throw procs;
      return procs;
    };
    return isDeserted({ ...node, host: { ...node.host, read } }, job);
  };
  const refused = (errno: string) => new SystemCallError('read', 'cgroup.procs', errno);

  it('is so where no process stands at the place of slurmstepd', async () => {
    expect(await at('')).toBe(true);
    for (const errno of ['ENOENT', 'ENODEV']) expect(await at(refused(errno))).toBe(true);
  });

  it('is not so where one does, or that cannot be seen', async () => {
    for (const procs of ['500\n', '0\n', 'x']) expect(await at(procs)).toBe(false);
    for (const errno of ['EACCES', 'EIO']) expect(await at(refused(errno))).toBe(false);
  });

  it('is not told of a job without an extern step, and on v1', async () => {
    const { node, job } = await placed({});
    expect(isDeserted(node, {})).toBe(false);
    const cgroups = (job.extern?.cgroups ?? []).map((one) => ({ ...one, controllers: ['memory'] }));
    const read = () => '';
    expect(isDeserted({ ...node, host: { ...node.host, read } }, { extern: { cgroups } })).toBe(false);
  });
});

describe('standsIn()', () => {
  it('is so in the directory and below, and nowhere else', async () => {
    const at = `/system.slice/slurmstepd.scope/${directory}`;
    for (const [place, is] of [
      [at, true],
      [`${at}/step_extern/slurm`, true],
      [`${at}0/step_extern`, false],
      ['/', false],
    ] as const) {
      const { node, job } = await placed({ place });
      expect(standsIn(node, job, 500), place).toBe(is);
      expect(standsIn(node, job, 501)).toBe(false); // there is none
    }
  });
});

describe('standsIn() on every recorded node', () => {
  const recorded = recordedStepds();
  it.each([...new Set(recorded.map(([name]) => name.split(' ')[0] ?? ''))])(
    '%s: each slurmstepd stands in its own job, and in no other',
    async (name) => {
      const node = await readNode({ host: recordedHost(loadRecording(name)) });
      const jobs = discoverJobs(node);
      for (const [, { socket, daemon, ...stepd }] of recorded.filter(([one]) => one.startsWith(`${name} `))) {
        const { jobId, nodeName } = parseSocketName(socket) ?? expect.unreachable(socket);
        const sluid = stepd.sluid === undefined ? undefined : formatSluid(sluidOf({ socket, daemon, ...stepd }));
        const own = jobs.filter((job) => standsIn(node, job, daemon));
        expect(own, socket).toHaveLength(1);
        const [job] = own;
        expect(job?.jobId ?? jobId, socket).toBe(jobId);
        expect(job?.nodeName, socket).toBe(nodeName);
        if (job?.sluid !== undefined) expect(job.sluid, socket).toBe(sluid);
        if (socket.endsWith('.4294967292')) expect(isDeserted(node, job ?? {}), socket).toBe(false);
      }
    },
  );
});
