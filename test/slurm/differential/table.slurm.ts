// pam_slurm_adopt and slurm-cgroups side by side on a real Slurm: every row of the table must be answered as it says,
// and alike unless it names a difference. How to hold another adopter against it: adopter.ts.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keepLoginLog } from '../../support/login-log.js';
import { mayBeSkipped } from '../../support/may-run.js';
import { type Cluster, startCluster } from '../cluster.js';
import type { Login, Site } from './adopter.js';
import { missingHere, type SidesFor, sidesOn } from './adopters.js';
import { compareRow, tableHead } from './comparison.js';
import { buildPamModule } from './pam-module.js';
import { type Row, rows, titleOf } from './rows.js';
import {
  begin,
  bob,
  type Scene,
  type Situation,
  type SituationName,
  type StartedJob,
  situations,
  slowProlog,
  withoutSpool,
} from './situations.js';
import { accountOf, deadPid } from './slurm-cgroups.js';
import { jobSource, NodeWithoutSlurmd, Outside, type Source } from './source.js';

const missing = missingHere();
if (missing.length > 0 && mayBeSkipped) {
  process.stderr.write(`Skipped, pam_slurm_adopt is not compared: no ${missing.join(', ')} here\n`);
}

let cluster: Cluster;
let site: Site;
let sidesFor: SidesFor;
let scenes: ReadonlyMap<SituationName, Scene>;
let bobs: StartedJob;
let elsewhere: NodeWithoutSlurmd;
const outside = new Outside();
const measured: string[] = [];

describe.skipIf(missing.length > 0 && mayBeSkipped)('pam_slurm_adopt and slurm-cgroups', () => {
  beforeAll(async () => {
    expect(missing, 'what is not installed here').toEqual([]);
    cluster = await startCluster({}, async ({ folder }) => slowProlog(folder));
    const folder = path.join(path.dirname(cluster.spool), 'differential');
    fs.mkdirSync(folder, { mode: 0o755 });
    site = { cluster, folder, module: await buildPamModule(folder) };
    sidesFor = await sidesOn(site);
    elsewhere = await NodeWithoutSlurmd.make();
    ({ bobs, scenes } = await begin(site));
  });
  afterAll(async () => {
    if (measured.length > 0) process.stdout.write(`\n${tableHead}${measured.join('\n')}\n`);
    outside.close();
    elsewhere?.close();
    await cluster?.stop();
  });

  afterAll(keepLoginLog());

  for (const situation of situations) describe(situation.name, () => compareIn(situation));
});

function compareIn(situation: Situation): void {
  let undo = () => Promise.resolve();
  beforeAll(async () => {
    undo = (await situation.arrange?.(sceneOf(situation))) ?? undo;
  });
  afterAll(async () => {
    await undo();
    const { there, here } = sidesFor({ situation: situation.name, there: '' }, 0);
    await there.close();
    await here.close();
  });
  for (const row of rows.filter((one) => one.situation === situation.name)) {
    it(titleOf(row), ({ skip }) => compare(situation, row, skip));
  }
}

const sceneOf = ({ name }: Situation): Scene => scenes.get(name) ?? expect.unreachable(`there is no ${name}`);

async function compare(situation: Situation, row: Row, skip: (why: string) => never): Promise<void> {
  const scene = sceneOf(situation);
  const login = await loginFor(scene, row);
  const sidesOf = row.without === undefined ? sidesFor : await sidesOn(withoutSpool(site));
  const sides = sidesOf(row, accountOf(login.user)?.uid ?? -1);
  if (row.process !== undefined && sides.here.takesPid !== true) skip(`${sides.here.name} adopts only itself`);
  const directories = new Map(
    [...scene.jobs, ["bob's", bobs] as const].map(([name, { jobId }]) => [name, `job_${jobId}`] as const),
  );
  const begun = () => situation.meanwhile?.(scene);
  await compareRow(row, sides, login, { directories, hierarchies: 4, begun }, (line) => measured.push(line));
}

async function loginFor(scene: Scene, row: Row): Promise<Login> {
  const users = { alice: scene.alice, bob, carol: 'carol', root: 'root', unknown: 'nobody-has-this-name' };
  return {
    user: users[row.user ?? 'alice'],
    service: row.service ?? 'sshd',
    options: row.options ?? [],
    ...(row.from === undefined ? {} : { from: sourceOf(scene, row.from) }),
    ...(row.mapped === undefined ? {} : { mapped: row.mapped }),
    ...(row.process === undefined ? {} : { pid: await deadPid() }),
  };
}

function sourceOf(scene: Scene, name: string): Source {
  if (name === 'outside') return outside;
  if (name === 'elsewhere') return elsewhere;
  const job = name === "bob's" ? bobs : scene.jobs.get(name);
  return jobSource(job?.fifo ?? expect.unreachable(`there is no job ${name}`));
}
