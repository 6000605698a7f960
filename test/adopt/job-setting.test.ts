// What the slurmstepd of a job says of its X11 display and its namespaces, and when it is asked.

import { expect, it } from 'vitest';
import { type JobSetting, noSetting, settingOf } from '../../src/adopt/job-setting.js';
import type { SlurmConfiguration } from '../../src/jobs/config/read.js';
import { deadlineIn } from '../../src/machine/deadline.js';
import { type AdoptionOptions, defaultOptions } from '../../src/policy/options.js';
import { ExternStep, type Oddities, spoolConfiguration } from '../support/extern-step.js';
import { inWorld, onKernels } from '../support/kernel-jobs.js';

const containers = { ...spoolConfiguration, jobContainerType: 'job_container/tmpfs' };
const spaces = { ...spoolConfiguration, namespaceType: 'namespace/linux' };
const x11 = { ...spoolConfiguration, prologFlags: ['contain', 'x11'] };
const both = { ...containers, ...x11 };

function asked(release: number): Pick<JobSetting, 'stepd' | 'namespaces'> {
  return {
    stepd: { version: release << 8, path: expect.stringMatching(/\/node1_102\.4294967292$/) },
    namespaces: 'asked',
  };
}

type Row = readonly [
  name: string,
  oddities: Oddities | 'absent' | 'dead',
  configuration: SlurmConfiguration,
  options: Partial<AdoptionOptions>,
  expected: Partial<JobSetting>,
];
const none = { namespaces: 'none' } as const;
const rows: readonly Row[] = [
  ['nothing where the node has none of it', { x11: 42 }, spoolConfiguration, {}, none],
  ['nothing of a plugin that is called none', {}, { ...spoolConfiguration, namespaceType: 'namespace/none' }, {}, none],
  ['its display', { x11: 42 }, x11, {}, { ...none, x11: { display: 42 } }],
  ['no display where the job has none', {}, x11, {}, { ...none, x11: {} }],
  ['no display with disable_x11=1', { x11: 42 }, x11, { disableX11: true }, none],
  ['whom to ask for its namespaces', { server: 38 }, containers, {}, asked(38)],
  ['the same of 25.11', { server: 44 }, spaces, {}, asked(44)],
  ['both', { x11: 7 }, both, {}, { ...asked(45), x11: { display: 7 } }],
  [
    'no namespaces with join_container=false',
    { x11: 7 },
    both,
    { joinContainer: false },
    { ...none, x11: { display: 7 } },
  ],
  ['that they are not known, without an answer', { silent: true }, both, {}, { namespaces: 'unknown' }],
  ['that they are not known, without a slurmstepd', 'dead', containers, {}, { namespaces: 'unknown' }],
  ['that a display is not known', 'absent', x11, {}, none],
];

onKernels((kernel) => {
  for (const [name, oddities, configuration, options, expected] of rows)
    inWorld(kernel, `settingOf() gives ${name}`, async (world) => {
      await world.twoJobs();
      const job = await world.job(102);
      await ExternStep.with(world, oddities, async (step) => {
        const node = { ...(await step.node()), configuration };
        const deadline = deadlineIn(world.host, 20_000);
        const { notes, ...found } = await settingOf(node, job, {
          options: { ...defaultOptions, ...options },
          deadline,
        });
        expect(found).toEqual(expected);
        const isMissing = oddities === 'absent' || oddities === 'dead' || oddities.silent === true;
        expect(notes.length).toBe(isMissing ? 1 : 0);
        if (configuration === spoolConfiguration) expect([found, step.asked]).toEqual([{ namespaces: 'none' }, []]);
      });
    });
});

it('noSetting says that there is nothing', () => {
  expect(noSetting).toEqual({ namespaces: 'none', notes: [] });
});
