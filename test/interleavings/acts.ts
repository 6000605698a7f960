// What somebody can do in the middle of an operation: users, Slurm, an administrator, the kernel, other runs of this
// product. Each act runs to its end; where the machine does not allow it just then, it is none.

import fs from 'node:fs';
import { identityOf } from './onlooker.js';
import { hasTasks, jobs, type Scene, users, type Where } from './scene.js';

export interface Act {
  readonly name: string;
  readonly needs?: 'v1' | 'slurmstepd';
  /** Before the operation begins. */
  readonly prepare?: (scene: Scene) => void;
  /** False: it cannot be done, or changes nothing. What it throws means the same. */
  readonly act: (scene: Scene) => boolean;
}

/** Where a session stands before it is adopted. */
export const session: Where = ['outside', 'session'];

const stepOf = (scene: Scene, ...below: readonly string[]) => scene.jobAt(jobs.target, scene.step, ...below);

export const acts: readonly Act[] = [
  { name: 'exits', act: (scene) => end(scene, scene.subject) },
  { name: 'forks', act: forks },
  { name: 'pid-to-stranger', act: (scene) => giveItsPid(scene, users.bob, scene.make(['outside', 'bob'])) },
  { name: 'pid-to-other-job', act: (scene) => giveItsPid(scene, users.bob, scene.leaves(jobs.foreign, 'step_batch')) },
  { name: 'pid-to-same-user', act: (scene) => giveItsPid(scene, users.alice, scene.make(['outside', 'bob'])) },
  { name: 'pid-to-same-job', act: (scene) => giveItsPid(scene, users.alice, scene.leaves(jobs.target, 'step_batch')) },
  { name: 'gets-thread', act: ({ subject, workshop }) => workshop.puppets.addThread(subject) },
  { name: 'loses-first-thread', act: ({ subject, workshop }) => workshop.puppets.dropFirstThread(subject) },
  { name: 'session-renamed', needs: 'v1', act: (scene) => rename(scene, session) },
  { name: 'task-renamed', needs: 'v1', act: (scene) => rename(scene, stepOf(scene, 'task_0')) },
  { name: 'step-renamed', needs: 'v1', act: (scene) => rename(scene, stepOf(scene)) },
  { name: 'job-renamed', needs: 'v1', act: (scene) => rename(scene, scene.jobAt(jobs.target)) },
  { name: 'step-removed', act: removeStep },
  {
    name: 'step-made-again',
    act: (scene) => removeStep(scene) && scene.makeStep(jobs.target, scene.step).length > 0,
  },
  { name: 'step-frozen', act: (scene) => freeze(scene, stepOf(scene), true) },
  { name: 'job-suspended', act: (scene) => freeze(scene, scene.jobAt(jobs.target), true) },
  {
    name: 'step-thawed',
    prepare: (scene) => void freeze(scene, stepOf(scene), true),
    act: (scene) => freeze(scene, stepOf(scene), false),
  },
  {
    name: 'job-resumed',
    prepare: (scene) => void freeze(scene, scene.jobAt(jobs.target), true),
    act: (scene) => freeze(scene, scene.jobAt(jobs.target), false),
  },
  { name: 'session-frozen', act: (scene) => freeze(scene, session, true) },
  { name: 'users-task-appears', act: (scene) => makeTask(scene, users.alice) },
  { name: 'slurms-task-appears', act: (scene) => makeTask(scene, 0) },
  { name: 'cpuset-empty', needs: 'v1', act: emptyCpuset },
  { name: 'slurmstepd-ends', needs: 'slurmstepd', act: endStepd },
  { name: 'slurmstepd-stops', needs: 'slurmstepd', act: (scene) => changeStepd(scene, 'silent') },
  { name: 'slurmstepd-late', needs: 'slurmstepd', act: (scene) => changeStepd(scene, 'late') },
  {
    name: 'process-joins',
    act: (scene) => joins(scene, scene.leaves(jobs.target, scene.step)),
  },
  { name: 'step-begins', act: (scene) => isThere(scene) && joins(scene, scene.makeStep(jobs.target, 'step_1')) },
  { name: 'job-begins', act: beginJob },
  {
    name: 'job-begins-anew',
    act: (scene) => !isThere(scene) && joins(scene, scene.makeStep(jobs.target, 'step_batch')),
  },
  { name: 'moved-to-other-job', act: (scene) => move(scene, scene.leaves(jobs.foreign, 'step_batch')) },
  { name: 'half-moved', needs: 'v1', act: (scene) => move(scene, scene.leaves(jobs.older, 'step_batch').slice(0, 2)) },
  { name: 'moved-out', act: (scene) => move(scene, scene.make(['outside', 'elsewhere'])) },
  { name: 'nested', act: (scene) => nest(scene) },
  { name: 'adopted-into-job', act: (scene) => adoptInto(scene, jobs.target) },
  { name: 'adopted-into-other', act: (scene) => adoptInto(scene, jobs.older) },
  { name: 'job-cleaned', act: (scene) => clean(scene, jobs.target) },
  { name: 'other-job-cleaned', act: (scene) => clean(scene, jobs.older) },
];

function forks(scene: Scene): boolean {
  const pid = scene.workshop.puppets.fork(scene.subject);
  if (pid === undefined) return false;
  scene.pids.add(pid);
  // An operation that takes children along takes this one too.
  if (scene.family.size > 0) scene.family.add(identityOf(pid));
  return true;
}

/** False where it cannot end now: in a frozen cgroup of v1. */
function end(scene: Scene, pid: number): boolean {
  scene.doomed.add(identityOf(pid));
  return scene.workshop.puppets.end([pid]).length === 0;
}

function giveItsPid(scene: Scene, uid: number, where: readonly string[]): boolean {
  const pid = scene.subject;
  return where.length > 0 && end(scene, pid) && scene.start(uid, 'heir', where, { pid }) === pid;
}

/** A user may rename what is in a directory of theirs (up to 23.02 a step's), root everything; on v2 nobody. */
function rename(scene: Scene, where: Where): boolean {
  const directories = scene.directories(where);
  for (const directory of directories) fs.renameSync(directory, `${directory}.renamed`);
  return directories.length > 0;
}

/** As far as it is empty, as slurmstepd does. */
function removeStep(scene: Scene): boolean {
  const { step } = scene;
  let removed = false;
  for (const below of [['user', 'task_0'], ['user'], ['slurm'], ['task_0'], []])
    for (const directory of scene.directories(scene.jobAt(jobs.target, step, ...below))) {
      try {
        fs.rmdirSync(directory);
        removed = true;
      } catch {
        // somebody is in it
      }
    }
  return removed;
}

/** v2: what Slurm freezes is the side of the users, never that of slurmstepd. */
function freeze(scene: Scene, where: Where, isToFreeze: boolean): boolean {
  let changed = false;
  for (const tree of scene.workshop.trees) {
    if (tree.version === 1 && tree.key !== 'freezer') continue;
    const userSides = tree.version === 2 && where.includes(`job_${jobs.target}`) ? ['user', '*/user'] : [''];
    const [file, value] =
      tree.version === 2
        ? ['cgroup.freeze', isToFreeze ? '1' : '0']
        : ['freezer.state', isToFreeze ? 'FROZEN' : 'THAWED'];
    for (const directory of scene.directories(where, (one) => one === tree))
      for (const side of userSides.flatMap((pattern) => matching(directory, pattern))) {
        fs.writeFileSync(`${side}/${file}`, value);
        changed = true;
      }
  }
  return changed;
}

function matching(directory: string, pattern: string): readonly string[] {
  const candidates =
    pattern === ''
      ? [directory]
      : pattern === 'user'
        ? [`${directory}/user`]
        : fs.readdirSync(directory).map((name) => `${directory}/${name}/user`);
  return candidates.filter((one) => fs.existsSync(one));
}

function makeTask(scene: Scene, owner: number): boolean {
  const v2 = scene.directories(stepOf(scene, 'user'), ({ version }) => version === 2);
  const v1 = scene.directories(stepOf(scene), hasTasks);
  for (const directory of [...v1, ...v2]) {
    fs.mkdirSync(`${directory}/task_1`);
    fs.chownSync(`${directory}/task_1`, owner, owner);
  }
  return v1.length + v2.length > 0;
}

function emptyCpuset(scene: Scene): boolean {
  const directories = scene.directories(stepOf(scene), ({ key }) => key.split(',').includes('cpuset'));
  for (const directory of directories) fs.writeFileSync(`${directory}/cpuset.cpus`, '\n');
  return directories.length > 0;
}

function endStepd(scene: Scene): boolean {
  const { stepd, socket, workshop } = scene;
  if (stepd === undefined) return false;
  workshop.others.ask({ do: 'close', socket });
  return end(scene, stepd);
}

function changeStepd(scene: Scene, mode: 'silent' | 'late'): boolean {
  scene.workshop.others.ask({ do: 'mode', socket: scene.socket, mode });
  return scene.stepd !== undefined;
}

function joins(scene: Scene, where: readonly string[]): boolean {
  return where.length > 0 && scene.start(users.alice, 'joins', where) !== undefined;
}

function isThere(scene: Scene): boolean {
  return scene.directories(scene.jobAt(jobs.target)).length > 0;
}

/** A first job of somebody who had none. */
function beginJob(scene: Scene): boolean {
  const { isV1 } = scene;
  const where = isV1 ? ['slurm', `uid_${users.carol}`, 'job_301'] : ['system.slice', 'slurmstepd.scope', 'job_301'];
  if (!isV1) scene.addScript(301, users.carol);
  const step = [...where, 'step_batch'];
  if (!isV1) scene.make([...step, 'slurm']);
  const leaves = scene.make(isV1 ? step : [...step, 'user', 'task_0']);
  return scene.start(users.carol, 'begins', leaves) !== undefined;
}

function move(scene: Scene, where: readonly string[]): boolean {
  for (const directory of where) fs.writeFileSync(`${directory}/cgroup.procs`, String(scene.subject));
  return where.length > 0;
}

/** Its user makes cgroups below the leaf, and goes into them. */
function nest(scene: Scene): boolean {
  const below = scene.isV1 ? [] : ['user', 'task_0'];
  const made = scene.make(stepOf(scene, ...below, 'own'));
  for (const directory of made) fs.chownSync(directory, users.alice, users.alice);
  return move(scene, made);
}

function adoptInto(scene: Scene, jobId: number): boolean {
  scene.workshop.others.ask({ do: 'adopt', pid: scene.subject, jobId, scene: scene.description });
  return true;
}

function clean(scene: Scene, jobId: number): boolean {
  scene.workshop.others.ask({ do: 'clean', jobId, scene: scene.description });
  return true;
}
