// What must be true after every interleaving, whatever was done in the middle: the laws of DESIGN.md, held against what
// the onlooker saw before, around each act, and after. Each gives sentences, none where it holds.

import type { AdoptionResult } from '../../src/adopt/result.js';
import type { CleanReport } from '../../src/cleanup/report.js';
import type { StraysReport } from '../../src/cleanup/strays/find.js';
import type { Verification } from '../../src/jobs/verification.js';
import { SlurmCgroupsError } from '../../src/machine/errors.js';
import type { HostCall } from '../../src/testing.js';
import type { SeenProcess, Snapshot } from './onlooker.js';
import { jobs, type Scene, users } from './scene.js';

/** What one operation gave: its value, or what it threw. */
export type Came =
  | {
      readonly operation: 'adopt';
      readonly value: AdoptionResult | undefined;
      readonly error: unknown;
      /** What there was each time it said that the login can be answered; absent: it was not asked to say so. */
      readonly proven?: readonly Snapshot[];
    }
  | { readonly operation: 'clean'; readonly value: CleanReport | undefined; readonly error: unknown }
  | { readonly operation: 'verify'; readonly value: Verification | undefined; readonly error: unknown }
  | { readonly operation: 'strays'; readonly value: StraysReport | undefined; readonly error: unknown };

/** A time in which the operation alone was at work. */
export interface Span {
  readonly from: Snapshot;
  readonly to: Snapshot;
  /** How many calls had been made when it began. */
  readonly callsBefore: number;
}

export interface Happened {
  readonly scene: Scene;
  readonly came: Came;
  /** Between the acts: one more than there were acts. */
  readonly spans: readonly Span[];
  readonly calls: readonly HostCall[];
  /** Calls that were made after the last act. */
  readonly after: readonly HostCall[];
}

export function broken(happened: Happened): readonly string[] {
  return [...thrown(happened), ...ended(happened), ...moved(happened), ...frozen(happened), ...reported(happened)];
}

/** Every snapshot, in their order. */
function snapshots({ spans }: Happened): readonly Snapshot[] {
  return spans.flatMap(({ from, to }) => [from, to]);
}

function first(happened: Happened): Snapshot {
  return snapshots(happened)[0] ?? { processes: new Map(), directories: new Map() };
}

function last(happened: Happened): Snapshot {
  return snapshots(happened).at(-1) ?? first(happened);
}

/** The same process in another snapshot, if it lives. */
function again(one: SeenProcess, { processes }: Snapshot): SeenProcess | undefined {
  const found = processes.get(one.pid);
  return found?.start === one.start ? found : undefined;
}

function nameOf({ pid, comm }: SeenProcess): string {
  return `process ${pid} (${comm})`;
}

/** Only errors that are meant. */
function thrown({ came: { error } }: Happened): readonly string[] {
  return error === undefined || error instanceof SlurmCgroupsError ? [] : [`it threw ${String(error)}`];
}

/** Inodes of the target's cgroups by hierarchy: those that its directories of the beginning held at any time. */
function cgroupsOfTarget(happened: Happened): ReadonlyMap<string, ReadonlySet<number>> {
  const { scene } = happened;
  const path = `/${scene.jobAt(jobs.target).join('/')}`;
  const tops = new Map<string, number>();
  for (const one of first(happened).directories.values())
    if (one.path === `${scene.workshop.box.within}${path}`) tops.set(one.key, one.inode);
  const found = new Map<string, Set<number>>([...tops].map(([key, inode]) => [key, new Set([inode])]));
  for (const { directories } of snapshots(happened))
    for (const [key, inode] of tops) {
      const top = directories.get(`${key} ${inode}`);
      if (top === undefined) continue;
      for (const one of directories.values())
        if (one.key === key && one.path.startsWith(`${top.path}/`)) found.get(key)?.add(one.inode);
    }
  return found;
}

function isInTarget(one: SeenProcess, target: ReadonlyMap<string, ReadonlySet<number>>): boolean {
  return Object.entries(one.places).some(([key, { inode }]) => inode !== undefined && target.get(key)?.has(inode));
}

/** Nobody outside the target is ended: only clean ends, and only whom the job had. */
function ended(happened: Happened): readonly string[] {
  const { scene, came, spans } = happened;
  const target = cgroupsOfTarget(happened);
  return spans.flatMap(({ from, to }) =>
    [...from.processes.values()].flatMap((one) => {
      if (again(one, to) !== undefined || scene.doomed.has(`${one.pid} ${one.start}`)) return [];
      if (one.pid === scene.stepd) return ['slurmstepd was ended'];
      if (came.operation !== 'clean') return [`${nameOf(one)} was ended`];
      const was = snapshots(happened).flatMap((snapshot) => again(one, snapshot) ?? []);
      return was.some((seen) => isInTarget(seen, target)) ? [] : [`${nameOf(one)} was ended, and never was in the job`];
    }),
  );
}

/** Nobody outside the target is moved: only adopt moves, and only the process that it is about, with its children if asked. */
function moved(happened: Happened): readonly string[] {
  const { scene, came, spans } = happened;
  const subject = first(happened).processes.get(scene.subject);
  return spans.flatMap(({ from, to }) =>
    [...from.processes.values()].flatMap((one) => {
      const then = again(one, to);
      if (then === undefined) return [];
      const isMeant = one.pid === subject?.pid && one.start === subject.start;
      if (came.operation === 'adopt' && (isMeant || scene.family.has(`${one.pid} ${one.start}`))) return [];
      const keys = differences(one, then);
      if (keys.length === 0 || isToldOf(one, came)) return [];
      return [`${nameOf(one)} was moved in ${keys.join(', ')} to ${then.places[keys[0] ?? '']?.path}`];
    }),
  );
}

function differences(one: SeenProcess, then: SeenProcess): readonly string[] {
  return Object.keys(one.places).filter((key) => one.places[key]?.inode !== then.places[key]?.inode);
}

/**
 * The kernel takes pids as numbers: a number given away between the check and the write moves its new owner. It is put
 * back where that can be done; where it cannot, that it was moved is said.
 */
function isToldOf({ pid }: SeenProcess, came: Came): boolean {
  if (came.operation !== 'adopt') return false;
  const error = came.error instanceof SlurmCgroupsError ? came.error : came.value?.error;
  const told = [error?.message ?? '', ...(came.value?.trace ?? [])].join('\n');
  return told.includes(`Process ${pid} has ended, and its pid is that of`);
}

/** What is told to freeze was so in the beginning, or an act told it. */
function frozen(happened: Happened): readonly string[] {
  return happened.spans.flatMap(({ from, to }) =>
    [...to.directories].flatMap(([id, { key, path, frozen: isFrozen }]) =>
      isFrozen && from.directories.get(id)?.frozen !== true ? [`${path} is left frozen in ${key}`] : [],
    ),
  );
}

function reported(happened: Happened): readonly string[] {
  const { came } = happened;
  switch (came.operation) {
    case 'adopt':
      return [...adoption(happened, came), ...children(happened, came), ...answered(happened, came)];
    case 'clean':
      return cleaning(happened, came);
    case 'verify':
      return verification(happened, came);
    case 'strays':
      return strays(happened, came);
  }
}

/** In the job everywhere, or where it was, or reported exactly. */
function adoption(happened: Happened, { value, error }: Extract<Came, { operation: 'adopt' }>): readonly string[] {
  const { scene, spans, calls } = happened;
  const before = first(happened).processes.get(scene.subject);
  const now = before === undefined ? undefined : again(before, last(happened));
  if (before === undefined || now === undefined) return []; // it has ended: nothing of it is anywhere
  const target = cgroupsOfTarget(happened);
  const keys = [...target.keys()];
  const inJob = (key: string) => target.get(key)?.has(now.places[key]?.inode ?? -1) === true;
  // Where it was, or where an act has put it.
  const acts = spans.slice(1).flatMap(({ from, callsBefore }, at) => {
    const [was, is] = [again(before, spans[at]?.to ?? from), again(before, from)];
    return was === undefined || is === undefined ? [] : [{ keys: differences(was, is), is, callsBefore }];
  });
  const isBack = (key: string) =>
    now.places[key]?.inode === before.places[key]?.inode ||
    acts.some((act) => act.keys.includes(key) && act.is.places[key]?.inode === now.places[key]?.inode);
  // After the last look at it nothing is known.
  const isLookedAtAfter = (callsBefore: number) =>
    calls
      .slice(callsBefore)
      .some(({ call, path }) => call === 'read' && path.startsWith(`/proc/${now.pid}/`) && path.endsWith('cgroup'));
  const movedLast = (key: string) => {
    const act = acts.findLast(({ keys: moved }) => moved.includes(key));
    return act !== undefined && !isLookedAtAfter(act.callsBefore);
  };
  const outcome = error === undefined ? value?.outcome : 'threw';
  const place = (key: string) => `${key} at ${now.places[key]?.path}`;
  switch (outcome) {
    case 'adopted':
      return [
        ...keys.filter((key) => !inJob(key) && !movedLast(key)).map((key) => `adopted, and it is in ${place(key)}`),
        ...adoptedFrozen(happened, now),
      ];
    case 'threw':
    case 'untouched':
    case 'undone':
    case 'suspended':
      return keys.filter((key) => !isBack(key)).map((key) => `${outcome}, and it is in ${place(key)}`);
    default:
      return (value?.hierarchies ?? []).flatMap(({ controllers, outcome: leg, error: why }) => {
        const key = controllers.length === 0 ? 'unified' : [...controllers].sort().join();
        if (!target.has(key)) return [];
        if (leg === 'moved' || leg === 'already')
          return inJob(key) || movedLast(key) ? [] : [`${leg}, and it is in ${place(key)}`];
        if (leg === 'remains') return why === undefined ? [`remains in ${key}, without a reason`] : [];
        return isBack(key) ? [] : [`${leg}, and it is in ${place(key)}`];
      });
  }
}

/** Each child wholly in the job, or wholly where it was or where an act put it, or named as neither. */
function children(happened: Happened, { value, error }: Extract<Came, { operation: 'adopt' }>): readonly string[] {
  const { scene } = happened;
  const target = cgroupsOfTarget(happened);
  const keys = [...target.keys()];
  const all = snapshots(happened);
  const told = [error, value?.error].flatMap((one) => (one instanceof SlurmCgroupsError ? [one.message] : []));
  const words = [...told, ...(value?.trace ?? [])].join('\n');
  return [...last(happened).processes.values()].flatMap((now) => {
    if (!scene.family.has(`${now.pid} ${now.start}`)) return [];
    const was = all.flatMap((snapshot) => again(now, snapshot) ?? []);
    // Where it was in the beginning, or behind an act: what an operation did itself stands at the end of a span.
    const allowed = [was[0], ...happened.spans.map(({ from }) => again(now, from))].flatMap((one) => one ?? []);
    const isIn = keys.filter((key) => target.get(key)?.has(now.places[key]?.inode ?? -1) === true);
    const isBack = keys.every((key) => allowed.some((one) => one.places[key]?.inode === now.places[key]?.inode));
    const entry = value?.descendants.find(({ pid }) => pid === now.pid);
    const isNamed = entry?.outcome === 'partial' || new RegExp(`\\b${now.pid}\\b`).test(words);
    if (isNamed) return [];
    const where = `${nameOf(now)} is in ${keys.map((key) => now.places[key]?.path).join(', ')}`;
    if (isIn.length === keys.length)
      return value?.outcome === 'adopted' || value?.outcome === 'partial' || isBack
        ? []
        : [`${value?.outcome ?? 'threw'}, and its child ${where}`];
    if (!isBack) return [`its child ${where}, and that is not said`];
    // Where nobody acted, all go along that are its children.
    const isChild = first(happened).processes.get(now.pid)?.parent === scene.subject;
    const isLeft = value?.outcome === 'adopted' && happened.spans.length === 1 && isChild;
    return isLeft ? [`adopted, and its child ${where}`] : [];
  });
}

/** The login is answered once at most, and then the process is in the job, everywhere, and stays there. */
function answered(
  happened: Happened,
  { value, error, proven }: Extract<Came, { operation: 'adopt' }>,
): readonly string[] {
  if (proven === undefined || proven.length === 0) return [];
  const { scene, spans } = happened;
  const complaints = proven.length > 1 ? [`the login was answered ${proven.length} times`] : [];
  const outcome = error === undefined ? value?.outcome : 'threw';
  if (outcome !== 'adopted' && outcome !== 'partial') complaints.push(`${outcome}, after the login was answered`);
  const before = first(happened).processes.get(scene.subject);
  const then = before === undefined ? undefined : proven[0]?.processes.get(before.pid);
  if (then === undefined || then.start !== before?.start) return complaints; // it has ended
  const target = cgroupsOfTarget(happened);
  // What an act moved between the proof and the answer nobody sees.
  const acted = spans.slice(1).flatMap(({ from }, at) => {
    const [was, is] = [again(then, spans[at]?.to ?? from), again(then, from)];
    return was === undefined || is === undefined ? [] : differences(was, is);
  });
  for (const [key, inodes] of target)
    if (!inodes.has(then.places[key]?.inode ?? -1) && !acted.includes(key))
      complaints.push(`the login was answered, and the process was in ${key} at ${then.places[key]?.path}`);
  return complaints;
}

/** A session must not be said to be adopted into what was seen frozen: it would hang. */
function adoptedFrozen({ spans, after }: Happened, now: SeenProcess): readonly string[] {
  const since = spans.at(-1)?.from;
  if (since === undefined || spans.length === 1) return [];
  return [...since.directories.values()].flatMap(({ key, path, frozen: isFrozen }) => {
    const here = now.places[key]?.path;
    if (!isFrozen || here === undefined || !(here === path || here.startsWith(`${path}/`))) return [];
    const isSeen = after.some(
      ({ call, path: file }) =>
        call === 'read' &&
        /\/(freezer\.state|freezer\.self_freezing|cgroup\.freeze)$/.test(file) &&
        file.replace(/\/[^/]*$/, '').endsWith(path),
    );
    return isSeen ? [`adopted into ${path}, which was frozen before the product looked`] : [];
  });
}

/** What lives in the job's cgroups is named; what is said to have ended has, and was the job's. */
function cleaning(happened: Happened, { value, error }: Extract<Came, { operation: 'clean' }>): readonly string[] {
  const { scene, calls } = happened;
  const target = cgroupsOfTarget(happened);
  const end = last(happened);
  const all = snapshots(happened);
  const complaints: string[] = [];
  if (error instanceof SlurmCgroupsError && !['ERR_NO_SUCH_JOB', 'ERR_NOT_PERMITTED'].includes(error.code))
    complaints.push(`it threw ${error.code}: ${error.message}`);
  const path = `${scene.workshop.box.within}/${scene.jobAt(jobs.target).join('/')}`;
  const isRenamed = ![...end.directories.values()].some((directory) => directory.path === path);
  const survivors = new Set(value?.survivors.map(({ pid }) => pid));
  const spared = new Set(value?.spared.map(({ pid }) => pid));
  for (const one of end.processes.values()) {
    if (!isInTarget(one, target) || survivors.has(one.pid) || spared.has(one.pid)) continue;
    if (value?.refused !== undefined || value?.unknown !== undefined) continue;
    // A job whose directory got another name (root alone can do that, on v1) before the product had looked into it is
    // one that is gone: nothing tells it from one that Slurm removed.
    if (isRenamed && !calls.some(({ path }) => path.startsWith(`/proc/${one.pid}/`))) continue;
    const paths = Object.entries(one.places).flatMap(([key, { path }]) =>
      scene.workshop.trees.filter((tree) => tree.key === key).map(({ mount }) => `${mount}${path}`),
    );
    const isLeft = value?.left.some(({ path: left }) => paths.some((place) => `${place}/`.startsWith(`${left}/`)));
    if (isLeft !== true)
      complaints.push(
        `${nameOf(one)} lives in ${Object.values(one.places)
          .map(({ path }) => path)
          .join(', ')}, and is named nowhere`,
      );
  }
  for (const { pid, startTime, comm } of value?.ended ?? []) {
    const living = end.processes.get(pid);
    if (living?.start === startTime) complaints.push(`process ${pid} (${comm}) is said to have ended, and lives`);
    const was = all.flatMap(({ processes }) => processes.get(pid) ?? []).filter(({ start }) => start === startTime);
    // One that came and went between two looks was seen by nobody.
    if (was.length > 0 && !was.some((one) => isInTarget(one, target)))
      complaints.push(`process ${pid} (${comm}) is said to have been ended, and never was in the job`);
  }
  if (value?.refused !== undefined && value.ended.length > 0) complaints.push('it refused, and ended something');
  return complaints;
}

/** One truth, of one moment, of one process. */
function verification(happened: Happened, { value, error }: Extract<Came, { operation: 'verify' }>): readonly string[] {
  const { scene } = happened;
  const all = snapshots(happened);
  const seen = all.flatMap(({ processes }) => processes.get(scene.subject) ?? []);
  const isSame = seen.length === all.length && seen.every(({ start }) => start === seen[0]?.start);
  if (error instanceof SlurmCgroupsError) {
    if (!isSame) return [];
    return [`it threw ${error.code} (${error.message}), and the process lives`];
  }
  if (value === undefined) return [];
  const candidates = [...new Set(seen.map(({ start }) => start))].map((start) =>
    seen.filter((one) => one.start === start),
  );
  const isOf = (states: readonly SeenProcess[]) =>
    states.some(({ uid, comm }) => uid === value.uid && comm === value.comm) &&
    value.hierarchies.every(({ controllers, path }) => {
      const key = controllers.length === 0 ? 'unified' : [...controllers].sort().join();
      return !(key in (states[0]?.places ?? {})) || states.some(({ places }) => places[key]?.path === path);
    });
  const complaints = candidates.some(isOf) ? [] : ['what it says is of no one process at any time'];
  const verdicts = new Set(all.flatMap((snapshot) => verdictAt(snapshot, scene)));
  if (!verdicts.has(value.verdict))
    complaints.push(`it says ${value.verdict}, and it was ${[...verdicts].join(' or ')}`);
  return complaints;
}

function verdictAt({ processes, directories }: Snapshot, scene: Scene): readonly Verification['verdict'][] {
  const one = processes.get(scene.subject);
  if (one === undefined) return [];
  const jobOf = (path: string) => /\/(job_\d+)(?:\/|$)/.exec(path)?.[1];
  const named = Object.values(one.places).flatMap(({ path }) => jobOf(path) ?? []);
  if (named.length === 0) return ['outside'];
  if (new Set(named).size > 1) return ['conflict'];
  const missing = Object.entries(one.places).some(
    ([key, { path }]) =>
      jobOf(path) === undefined &&
      [...directories.values()].some((directory) => directory.key === key && directory.path.endsWith(`/${named[0]}`)),
  );
  return [missing ? 'partial' : 'contained'];
}

/** Who is named was one, at some moment; who was one at every moment is named, unless the list says that it is not all. */
function strays(happened: Happened, { value }: Extract<Came, { operation: 'strays' }>): readonly string[] {
  if (value === undefined) return [];
  const all = snapshots(happened);
  const complaints: string[] = [];
  for (const { pid, startTime, uid, comm } of value.strays) {
    const was = all.flatMap((snapshot) => {
      const one = snapshot.processes.get(pid);
      return one?.start === startTime ? [{ one, snapshot }] : [];
    });
    if (was.length === 0) continue; // none of the scene's, or it came and went
    if (!was.some(({ one, snapshot }) => isStray(one, snapshot) && one.uid === uid))
      complaints.push(`process ${pid} (${comm}) is called a stray, and never was one`);
  }
  if (!value.complete) return complaints;
  for (const one of first(happened).processes.values()) {
    const was = all.map((snapshot) => ({ one: again(one, snapshot), snapshot }));
    const isOne = was.every(({ one: then, snapshot }) => then !== undefined && isStray(then, snapshot));
    if (isOne && !value.strays.some(({ pid, startTime }) => pid === one.pid && startTime === one.start))
      complaints.push(`${nameOf(one)} is a stray, and is not named`);
  }
  return complaints;
}

/** A person's, in no job, who has none here: no process of any job's directory lives. */
function isStray(one: SeenProcess, { processes }: Snapshot): boolean {
  const isPerson = Object.values(users).some((uid) => uid === one.uid);
  const inJob = (path: string) => /\/job_\d+(?:\/|$)/.test(path);
  if (!isPerson || Object.values(one.places).some(({ path }) => inJob(path))) return false;
  // The processes of the scene's jobs run as their owners.
  return ![...processes.values()].some(
    ({ uid, places }) => uid === one.uid && Object.values(places).every(({ path }) => inJob(path)),
  );
}
