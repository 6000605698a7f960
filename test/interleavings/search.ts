// The search: which acts before which calls, each in a scene of its own, and what the onlooker says of it. A run is
// named by words and numbers that replay it: `v1 adopt alone 37 exits`.

import type { Host } from '../../src/machine/host.js';
import { actingHost, type HostCall, type WatchedHost } from '../../src/testing.js';
import { kernels } from '../support/kernel-jobs.js';
import { Puppets } from '../support/puppets.js';
import { type Act, acts } from './acts.js';
import { broken, type Came, type Span } from './laws.js';
import { heldDescriptors, leftNotes } from './onlooker.js';
import { type Operation, operations } from './operations.js';
import { Others } from './others.js';
import { closeWorkshop, openWorkshop, Scene, type Workshop } from './scene.js';

/** Where the four operations run: with a slurmstepd of the target, or without any. */
export const settings = ['alone', 'slurmstepd'] as const;

export interface Circumstances {
  readonly kernel: 'v1' | 'v2';
  readonly operation: Operation;
  readonly setting: (typeof settings)[number];
}

export interface Step {
  /** Before which call, from 1. */
  readonly n: number;
  readonly act: Act;
}

export interface Interleaving extends Circumstances {
  readonly steps: readonly Step[];
}

export interface Ran {
  /** Acts that were done. */
  readonly acted: readonly string[];
  readonly calls: readonly HostCall[];
  readonly complaints: readonly string[];
  /** What came of the operation, in a word. */
  readonly outcome: string;
}

export function nameOf({ kernel, operation, setting, steps }: Interleaving): string {
  return [kernel, operation.name, setting, ...steps.flatMap(({ n, act }) => [n, act.name])].join(' ');
}

/** @throws RangeError where it names none. */
export function parseName(name: string): Interleaving {
  const [kernel, operationName, settingName, ...rest] = name.trim().split(/\s+/);
  const operation = operations.find((one) => one.name === operationName);
  const setting = settings.find((one) => one === settingName);
  const steps: Step[] = [];
  for (let at = 0; at < rest.length; at += 2) {
    const [n, act] = [Number(rest[at]), acts.find((one) => one.name === rest[at + 1])];
    if (!Number.isSafeInteger(n) || n < 1 || act === undefined)
      throw new RangeError(`No act in ${name}: ${rest[at]} ${rest[at + 1]}`);
    steps.push({ n, act });
  }
  if ((kernel !== 'v1' && kernel !== 'v2') || operation === undefined || setting === undefined)
    throw new RangeError(`It must be v1 or v2, an operation, alone or slurmstepd, then numbers and acts: ${name}`);
  return { kernel, operation, setting, steps };
}

/** No answer in this time is none: far more than any limit, also on a machine that is busy. */
const [hungMs, slackMs] = [90_000, 30_000];

export class Search {
  readonly #tools: { readonly puppets: Puppets; readonly others: Others };
  readonly #workshops = new Map<string, Workshop>();

  private constructor(tools: { readonly puppets: Puppets; readonly others: Others }) {
    this.#tools = tools;
  }

  static async open(): Promise<Search> {
    const search = new Search({ puppets: new Puppets(), others: await Others.start() });
    for (const kernel of kernels) search.#workshops.set(kernel.name, await openWorkshop(kernel, search.#tools));
    return search;
  }

  async close(): Promise<void> {
    for (const workshop of this.#workshops.values()) await closeWorkshop(workshop);
    this.#tools.puppets.close();
    this.#tools.others.close();
  }

  /** The kernels of this machine. */
  get kernels(): readonly ('v1' | 'v2')[] {
    return kernels.map(({ name }) => name);
  }

  /** Everything that is to be tried: the calls are those of a run in which nobody acts. */
  async plan(circumstances: Circumstances, { random, rest, pairs }: PlanOptions): Promise<readonly Interleaving[]> {
    const { operation, setting, kernel } = circumstances;
    const { calls, complaints, outcome } = await this.run({ ...circumstances, steps: [] });
    if (complaints.length > 0 || outcome !== operation.usual)
      throw new Error(`Where nobody acts, ${operation.name} gives ${outcome}: ${complaints.join('; ')}`);
    const possible = acts.filter(({ needs }) => needs === undefined || needs === kernel || needs === setting);
    const all = calls.map((_, at) => at + 1);
    const first = operation.every ? all : firstOfEachKind(calls);
    const others = shuffled(
      all.filter((n) => !first.includes(n)),
      random,
    ).slice(0, rest);
    const single = [...first, ...others].flatMap((n) =>
      possible.map((act) => ({ ...circumstances, steps: [{ n, act }] })),
    );
    const pick = <T>(from: readonly T[]): readonly T[] => from.slice(Math.floor(random() * from.length)).slice(0, 1);
    const both = Array.from({ length: pairs }, () => {
      const numbers = [...pick(all), ...pick(all)].sort((a, b) => a - b);
      return { ...circumstances, steps: numbers.flatMap((n) => pick(possible).map((act) => ({ n, act }))) };
    });
    return [...single, ...both];
  }

  async run(interleaving: Interleaving): Promise<Ran> {
    const workshop = this.#workshops.get(interleaving.kernel);
    if (workshop === undefined) throw new Error(`This machine has no cgroups of ${interleaving.kernel}`);
    const scene = new Scene(workshop, interleaving.setting === 'slurmstepd');
    try {
      await scene.build();
      return await this.#runIn(scene, interleaving);
    } finally {
      await scene.clear();
    }
  }

  async #runIn(scene: Scene, { operation, steps }: Interleaving): Promise<Ran> {
    const work = await operation.prepare(scene);
    for (const { act } of steps) act.prepare?.(scene);
    const spans: Span[] = [];
    const acted: string[] = [];
    let [since, actsMs, callsBefore] = [scene.look(), 0, 0];
    let host: WatchedHost | undefined;
    const interrupt = ({ n, act: { name, act } }: Step) => {
      const beginMs = performance.now();
      const to = scene.look();
      // Before the first call all of it is about what there is then: a pid may be another's before it was looked at.
      if (n > 1) spans.push({ from: since, to, callsBefore });
      if (isDone(() => act(scene))) acted.push(name);
      since = scene.look();
      callsBefore = (host?.calls.length ?? 1) - 1;
      actsMs += performance.now() - beginMs;
    };
    let acting: Host = onlyOf(scene, scene.workshop.kernel.host);
    for (const step of steps) acting = actingHost(acting, step.n, () => interrupt(step));
    host = actingHost(acting, Number.MAX_SAFE_INTEGER, () => {});
    const beginMs = performance.now();
    const came = await inTime(work(host), operation);
    const tookMs = performance.now() - beginMs - actsMs;
    spans.push({ from: since, to: scene.look(), callsBefore });
    const complaints = [
      ...(came === undefined
        ? [`it gave no answer in ${hungMs / 1000} s`]
        : broken({ scene, came, spans, calls: host.calls, after: host.calls.slice(callsBefore) })),
      ...(tookMs > operation.limitMs + slackMs
        ? [`its limit was ${operation.limitMs} ms, and it took ${tookMs.toFixed()} ms`]
        : []),
      ...(host.openDirectories() > 0 ? [`${host.openDirectories()} directories are left open`] : []),
      ...heldDescriptors(scene.workshop.trees).map((link) => `${link} is left open`),
      ...leftNotes([...scene.pids, host.self().pid]).map((file) => `${file} is left behind`),
    ];
    return { acted, calls: host.calls, complaints, outcome: came === undefined ? 'nothing' : outcomeOf(came) };
  }
}

export interface PlanOptions {
  readonly random: () => number;
  /** Of operations of which not every call is tried: how many calls more than one of each kind. */
  readonly rest: number;
  /** How many pairs of acts. */
  readonly pairs: number;
}

/** What the machine does not allow just then is no act. */
function isDone(act: () => boolean): boolean {
  try {
    return act();
  } catch {
    return false;
  }
}

async function inTime(work: Promise<Came>, _operation: Operation): Promise<Came | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<undefined>((fulfil) => {
    timer = setTimeout(() => fulfil(undefined), hungMs);
  });
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
  }
}

function outcomeOf(came: Came): string {
  if (came.error !== undefined)
    return `threw ${came.error instanceof Error && 'code' in came.error ? came.error.code : 'an error'}`;
  switch (came.operation) {
    case 'adopt':
      return came.value?.outcome ?? '';
    case 'verify':
      return came.value?.verdict ?? '';
    case 'strays':
      return `${came.value?.strays.length} strays${came.value?.complete === true ? '' : ', incomplete'}`;
    case 'clean':
      return came.value?.refused === undefined ? `${came.value?.ended.length} ended` : 'refused';
  }
}

/**
 * The machine with the processes of the scene alone, and the notes of this process: the search must not depend on what
 * else runs, nor be led to think that another's note is nobody's, whose processes are not seen here.
 */
function onlyOf(scene: Scene, host: Host): Host {
  const self = host.self().pid;
  const isShown = (path: string, name: string) => {
    if (path === '/run/slurm-cgroups/frozen') return name.includes(`-${self}-`);
    return path !== '/proc' || !/^\d+$/.test(name) || Number(name) === self || scene.pids.has(Number(name));
  };
  return {
    ...host,
    names: (path) => host.names(path).filter((name) => isShown(path, name)),
    entries: (path) => host.entries(path).filter(({ name }) => isShown(path, name)),
  };
}

/** The first call of each name about each kind of path. */
function firstOfEachKind(calls: readonly HostCall[]): readonly number[] {
  const kinds = new Map<string, number>();
  for (const [at, { call, path }] of calls.entries()) {
    const kind = `${call} ${kindOf(path)}`;
    if (!kinds.has(kind)) kinds.set(kind, at + 1);
  }
  return [...kinds.values()];
}

/** Without pids, inodes and uids; hierarchies of v1 are alike but for the freezer. */
function kindOf(path: string): string {
  return path
    .replace(/^\/sys\/fs\/cgroup\/(?!freezer|unified)[^/]+\//, 'HIERARCHY/')
    .replace(/slurm-cgroups-test-interleavings-[\d-]+/, 'BOX')
    .replace(/\d{4,}/g, 'N');
}

/** The same numbers for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export function shuffled<T>(items: readonly T[], random: () => number): readonly T[] {
  return items
    .map((item) => ({ item, order: random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ item }) => item);
}
