// The four operations of the search, each with the scene that it needs.

import { type AdoptOptions, adopt } from '../../src/adopt/adoption.js';
import { cleanJob } from '../../src/cleanup/ending.js';
import { findStrays } from '../../src/cleanup/strays/find.js';
import { discoverJobs } from '../../src/jobs/discovery.js';
import { findOwners } from '../../src/jobs/owners/find.js';
import { verify } from '../../src/jobs/verification.js';
import type { Host } from '../../src/machine/host.js';
import { withOwnLocks } from '../support/lock-holder.js';
import { session } from './acts.js';
import type { Came } from './laws.js';
import { identityOf, type Snapshot } from './onlooker.js';
import { jobs, type Scene, users } from './scene.js';

export interface Operation {
  readonly name: string;
  /** Every call is tried; else each distinct pair of call and kind of path, and of the rest what the seed picks. */
  readonly every: boolean;
  /** What it is about; gives what is to be run, through the host that acts. */
  readonly prepare: (scene: Scene) => Promise<(host: Host) => Promise<Came>>;
  /** What comes of it where nobody acts. */
  readonly usual: string;
  /** The limit over all that it waits for, in ms. */
  readonly limitMs: number;
}

export const operations: readonly Operation[] = [
  { name: 'verify', usual: 'contained', every: true, limitMs: 2000, prepare: prepareVerify },
  { name: 'adopt', usual: 'adopted', every: true, limitMs: 1500, prepare: (scene) => prepareAdopt(scene) },
  { name: 'adopt-children', usual: 'adopted', every: false, limitMs: 1500, prepare: prepareAdoptOfAll },
  { name: 'adopt-keep', usual: 'adopted', every: false, limitMs: 1500, prepare: prepareAdoptAndKeep },
  { name: 'adopt-login', usual: 'adopted', every: false, limitMs: 1500, prepare: prepareLogin },
  { name: 'strays', usual: '2 strays', every: false, limitMs: 5000, prepare: prepareStrays },
  // A second for the kill, again for each removal, and again for the lock of Slurm's folder.
  { name: 'clean', usual: '2 ended', every: false, limitMs: 5000, prepare: prepareClean },
];

async function prepareVerify(scene: Scene): Promise<(host: Host) => Promise<Came>> {
  scene.subject = scene.mustStart(users.alice, 'member', scene.leaves(jobs.target, 'step_extern'));
  const { host: live } = scene.workshop.kernel;
  const node = await scene.node(live);
  return async (host) => ({
    operation: 'verify',
    ...(await settled(verify(scene.subject, { node: { ...node, host } }))),
  });
}

async function prepareAdopt(
  scene: Scene,
  options: Partial<AdoptOptions> = {},
  more: Pick<Extract<Came, { operation: 'adopt' }>, 'proven'> = {},
): Promise<(host: Host) => Promise<Came>> {
  // A job whose user works in it.
  scene.mustStart(users.alice, 'member', scene.leaves(jobs.target, 'step_batch'));
  scene.subject = scene.mustStart(users.alice, 'session', scene.make(session));
  if (options.descendants === true)
    for (const pid of [0, 1].flatMap(() => scene.workshop.puppets.fork(scene.subject) ?? [])) {
      scene.pids.add(pid);
      scene.family.add(identityOf(pid));
    }
  const { host: live } = scene.workshop.kernel;
  const node = await scene.node(live);
  const found = await findOwners(discoverJobs(node, { only: { jobId: jobs.target } }), { node });
  const [job] = found;
  if (job === undefined) throw new Error('There is no job to adopt into');
  const limits = { timeoutMs: 1500, stepdTimeoutMs: 250 };
  return async (host) => ({
    operation: 'adopt',
    ...(await settled(adopt(scene.subject, job, { node: { ...node, host }, ...limits, ...options }))),
    ...more,
  });
}

/** With its children. */
function prepareAdoptOfAll(scene: Scene): Promise<(host: Host) => Promise<Came>> {
  return prepareAdopt(scene, { descendants: true });
}

/** As far as it comes. */
function prepareAdoptAndKeep(scene: Scene): Promise<(host: Host) => Promise<Came>> {
  return prepareAdopt(scene, { onFailure: 'keep' });
}

/** The login is answered as soon as the adoption is proven. */
function prepareLogin(scene: Scene): Promise<(host: Host) => Promise<Came>> {
  const proven: Snapshot[] = [];
  return prepareAdopt(scene, { onProven: () => void proven.push(scene.look()) }, { proven });
}

async function prepareStrays(scene: Scene): Promise<(host: Host) => Promise<Came>> {
  scene.mustStart(users.alice, 'member', scene.leaves(jobs.target, 'step_batch'));
  scene.subject = scene.mustStart(users.carol, 'session', scene.make(session));
  const { host: live } = scene.workshop.kernel;
  const node = await scene.node(live);
  return async (host) => ({
    operation: 'strays',
    ...(await settled(findStrays({ node: { ...node, host }, uidMin: 1000, timeoutMs: 5000 }))),
  });
}

async function prepareClean(scene: Scene): Promise<(host: Host) => Promise<Came>> {
  scene.step = 'step_batch';
  scene.subject = scene.mustStart(users.alice, 'member', scene.leaves(jobs.target, 'step_batch'));
  scene.mustStart(users.alice, 'adopted', scene.leaves(jobs.target, 'step_extern'));
  const { host: live } = scene.workshop.kernel;
  // Slurm's lock is one for the whole machine.
  const node = withOwnLocks(await scene.node(live), scene.workshop.box.within);
  return async (host) => ({
    operation: 'clean',
    ...(await settled(
      cleanJob({ jobId: jobs.target }, { node: { ...node, host }, force: true, graceMs: 30, timeoutMs: 1000 }),
    )),
  });
}

async function settled<T>(work: Promise<T>): Promise<{ readonly value: T | undefined; readonly error: unknown }> {
  try {
    return { value: await work, error: undefined };
  } catch (error) {
    return { value: undefined, error };
  }
}
