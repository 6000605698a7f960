// Why a process is still there after SIGKILL: everything the kernel tells of it that can be read without
// waiting for what it waits for. Its memory (cmdline, environ, maps) and the paths it uses are never touched;
// its kernel stack and system call stand behind a lock that execve(2) can hold for long, so a child with a
// deadline reads them. What cannot be read is left out, with the reason in the evidence.

import { Cgroup } from '../../cgroup/cgroup.js';
import { frozenAt } from '../../cgroup/freezer.js';
import { directoryOf, discoverHierarchies, hierarchyOf } from '../../cgroup/hierarchies.js';
import type { Member } from '../../cgroup/killing.js';
import { type HeldProcess, holdProcess, parseProcStat } from '../../cgroup/process.js';
import { isDeadState } from '../../cgroup/process-end.js';
import { defined } from '../../machine/defined.js';
import type { Host } from '../../machine/host.js';
import { parseMountTable } from '../../machine/mount-table.js';
import type { Survivor } from '../report.js';
import { type BlockedMount, blockedMount, type HeldPath, type WaitFacts } from './blocked-mount.js';
import {
  type Activity,
  activityIn,
  type Frame,
  familyIn,
  frameOfChannel,
  moduleIn,
  parseStack,
} from './kernel-stack.js';
import { Observer } from './observer.js';
import {
  listeningPorts,
  type OpenLinks,
  readOpenLinks,
  scarceDevices,
  socketInodesAmong,
  withoutDeleted,
} from './open-files.js';
import { explainSurvivor, type NamedProcess, type SurvivorFacts } from './sentence.js';
import { type CallState, type CurrentCall, hasNumbersOfX86, parseCurrentCall } from './system-call.js';

/** Enough to start a child and hear from it on a busy or emulated machine too: in a guest 500 ms were not always. */
export const closeLookMs = 5000;

/**
 * Looks at a process that did not end. Never fails for what it cannot see.
 *
 * @param options childMs: how long a child may take to read its kernel stack and system call, each; 0: they are not read
 */
export async function describeSurvivor(
  host: Host,
  member: Member,
  { childMs = closeLookMs }: { readonly childMs?: number } = {},
): Promise<Survivor> {
  const { pid, comm } = member;
  const look = new Observer({ childMs });
  const held = look.see('process', () => holdProcess(host, pid));
  if (held === undefined) return look.sawNothing ? endedMeanwhile(member) : unseenSurvivor(member, look);
  try {
    if (held.startTime !== member.startTime) return endedMeanwhile(member);
    const { facts, evidence } = await gatherFacts(host, { held, comm, look });
    look.see('state', () => held.stat()); // its death, or a pid that became another's, would be noticed here
    if (look.sawNothing) return endedMeanwhile(member);
    const unknown = Object.keys(look.missing).length === 0 ? {} : { unknown: look.missing };
    const state = facts.state === '' ? member.state : facts.state;
    return { pid, comm, state, why: explainSurvivor(facts), evidence: { ...evidence, ...unknown } };
  } finally {
    held.close();
  }
}

function endedMeanwhile({ pid, comm }: Member): Survivor {
  return { pid, comm, state: 'X', why: `pid ${pid} (${comm}) has ended meanwhile`, evidence: {} };
}

function unseenSurvivor({ pid, comm, state }: Member, { missing }: Observer): Survivor {
  const why = explainSurvivor({ pid, comm, state: '', devices: [], ports: [] });
  return { pid, comm, state, why, evidence: { unknown: missing } };
}

/** The thread that is looked at, in the process that is held. A first thread that has ended holds nothing any more. */
interface Thread {
  readonly host: Host;
  readonly held: HeldProcess;
  readonly look: Observer;
  readonly tid: number;
  readonly state: string;
}

interface Looking {
  readonly held: HeldProcess;
  readonly comm: string;
  readonly look: Observer;
}

async function gatherFacts(host: Host, { held, comm, look }: Looking) {
  const { pid } = held;
  const thread: Thread = { host, held, look, ...tellingThread(held, look) };
  const { tid, state } = thread;
  const isDead = isDeadState(state);
  const [stack, calls] = isDead
    ? []
    : await Promise.all([
        look.seeBounded('kernelStack', host, `/proc/${pid}/task/${tid}/stack`),
        look.seeBounded('systemCall', host, `/proc/${pid}/task/${tid}/syscall`),
      ]);
  const channel = isDead
    ? undefined
    : frameOfChannel(look.see('waitChannel', () => threadFile(thread, 'wchan')) ?? '')[0];
  const frames = stack === undefined || stack === '' ? (channel === undefined ? [] : [channel]) : parseStack(stack);
  const x86 = calls === undefined ? undefined : look.see('machine', () => hasNumbersOfX86(host));
  const call = calls === undefined ? undefined : parseCurrentCall(calls, x86 === true);
  const open = isDead ? undefined : look.see('descriptors', () => readOpenLinks(held.directory, `task/${tid}/fd`));
  const status = look.see('tracer', () => threadFile(thread, 'status'));
  const tracer = tracerOf(host, status);
  const frozen = look.see('frozen', () => frozenCgroup(thread));
  const activity = activityIn(frames) ?? (!isDead && isTrapped(thread, frozen) ? 'frozen' : undefined);
  const mount = isDead ? undefined : mountOf(thread, { frames, activity, open, call, frozen });
  const ppid = isDead ? look.see('parent', () => held.stat().ppid) : undefined;
  const parent = namedProcess(host, ppid);
  const module = moduleIn(frames);
  const facts: SurvivorFacts = {
    pid,
    comm,
    state,
    ...(tid === pid ? {} : { tid }),
    ...defined({ waitChannel: frames[0]?.name, module, activity }),
    ...(isCall(call) ? { call } : {}),
    ...defined({ mount, tracer, frozenAt: frozen?.directory, parent }),
    devices: open === undefined ? [] : scarceDevices(open),
    ports: open === undefined ? [] : portsOf(thread, open),
  };
  const {
    pid: _pid,
    comm: _comm,
    state: _state,
    waitChannel: _channel,
    call: _call,
    module: _module,
    ...plain
  } = facts;
  const evidence = {
    ...plain,
    ...defined({ waitChannel: channel?.name }),
    ...(stack === undefined ? {} : { kernelStack: frames.map(frameText) }),
    ...(call === undefined ? {} : { systemCall: isCall(call) ? callEvidence(call, open) : call }),
    ...(open !== undefined && open.left > 0 ? { descriptorsNotLookedAt: open.left } : {}),
  };
  return { facts, evidence };
}

/** The thread that keeps the process: the first in uninterruptible sleep, else the first that lives. */
function tellingThread(held: HeldProcess, look: Observer): { readonly tid: number; readonly state: string } {
  let best = { tid: held.pid, state: look.see('state', () => held.stat().state) ?? '' };
  if (best.state === 'D') return best;
  for (const tid of look.see('threads', () => held.threads()) ?? []) {
    // A thread may end between being listed and being looked at: that is no finding.
    const state = look.see(`thread ${tid}`, () => parseProcStat(held.directory.read(`task/${tid}/stat`)).state);
    delete look.missing[`thread ${tid}`];
    if (state === 'D') return { tid, state };
    if (isDeadState(best.state) && state !== undefined && !isDeadState(state)) best = { tid, state };
  }
  return best;
}

function threadFile({ held, tid }: Thread, name: string): string {
  return held.directory.read(`task/${tid}/${name}`);
}

/** The nearest, from the thread's own up, that is frozen or being frozen. */
interface FrozenCgroup {
  readonly directory: string;
  readonly version: 1 | 2;
}

interface Seen {
  readonly frames: readonly Frame[];
  readonly activity: Activity | undefined;
  readonly open: OpenLinks | undefined;
  readonly call: CallState;
  readonly frozen: FrozenCgroup | undefined;
}

/**
 * The mount it waits for: only where the kernel names a kind of file system, or it waits uninterruptibly. A frozen
 * thread seems to do that in whatever it slept (Linux 6.1 on): that alone says nothing.
 */
function mountOf(thread: Thread, seen: Seen): BlockedMount | undefined {
  const family = familyIn(seen.frames);
  if (seen.activity === 'frozen') return undefined;
  if (family === undefined && (thread.state !== 'D' || seen.frozen !== undefined)) return undefined;
  const table = thread.look.see('mounts', () => parseMountTable(threadFile(thread, 'mountinfo')));
  if (table === undefined) return undefined;
  return blockedMount({ table, ...pathsOf(thread, seen), ...defined({ family }) });
}

/** What the process holds that has a path, as its mount table writes it. */
function pathsOf({ held, look, tid }: Thread, { open, call }: Seen): Pick<WaitFacts, 'call' | 'others'> {
  const link = (what: string, name: string) => look.see(what, () => held.directory.readlink(`task/${tid}/${name}`));
  const root = link('root', 'root');
  // Links are told from our root, mount tables from the process's own.
  const inside = (path: string) => (root !== undefined && path.startsWith(`${root}/`) ? path.slice(root.length) : path);
  const heldPath = (by: string, path: string | undefined): readonly HeldPath[] =>
    path?.startsWith('/') ? [{ by, path: inside(withoutDeleted(path)) }] : [];
  const cwd = heldPath('its working directory', link('workingDirectory', 'cwd'));
  const exe = heldPath('its executable', link('executable', 'exe'));
  const fds = new Map([...(open?.links ?? [])].map(([fd, path]) => [fd, heldPath(`descriptor ${fd}`, path)]));
  const asked = isCall(call) && call.fd !== undefined ? fds.get(call.fd)?.[0] : undefined;
  // A page fault waits for a file that is mapped: the program itself more often than not.
  const first = call === 'fault' ? [...exe, ...cwd] : [...cwd, ...exe];
  return { ...defined({ call: asked }), others: [...first, ...[...fds.values()].flat()] };
}

function isCall(call: CallState): call is CurrentCall {
  return typeof call === 'object';
}

function callEvidence(call: CurrentCall, open: OpenLinks | undefined): Readonly<Record<string, unknown>> {
  const link = call.fd === undefined ? undefined : open?.links.get(call.fd);
  return link === undefined ? { ...call } : { ...call, link };
}

function frameText({ name, module }: Frame): string {
  return module === undefined ? name : `${name} [${module}]`;
}

/** TracerPid of proc_pid_status(5). */
function tracerOf(host: Host, status: string | undefined): NamedProcess | undefined {
  const pid = /^TracerPid:\t(\d+)$/m.exec(status ?? '')?.[1];
  return namedProcess(host, pid === undefined ? undefined : Number(pid));
}

/** A process and its name; `undefined` for 0, which is one outside this pid namespace, or none. */
function namedProcess(host: Host, pid: number | undefined): NamedProcess | undefined {
  if (pid === undefined || pid === 0) return undefined;
  const comm = new Observer().see('comm', () => host.read(`/proc/${pid}/comm`).replace(/\n$/, ''));
  return { pid, comm: comm ?? '?' };
}

function frozenCgroup({ host, held, tid }: Thread): FrozenCgroup | undefined {
  const hierarchies = discoverHierarchies({ host });
  for (const membership of held.membershipsOf(tid)) {
    const hierarchy = hierarchyOf(hierarchies, membership);
    if (hierarchy === undefined || directoryOf(hierarchy, membership.path) === undefined) continue;
    const directory = frozenAt(host, new Cgroup(host, hierarchy, membership.path));
    if (directory !== undefined) return { directory, version: hierarchy.version };
  }
  return undefined;
}

/**
 * Whether nothing of that v2 cgroup runs any more. The name of the kernel function in which a frozen thread then
 * waits tells less: do_freezer_trap became a part of get_signal, in which others stop too, in some builds (6.1 of Debian).
 */
function isTrapped({ host, look }: Thread, frozen: FrozenCgroup | undefined): boolean {
  if (frozen?.version !== 2) return false;
  const events = look.see('whether all of the frozen cgroup stands', () =>
    host.read(`${frozen.directory}/cgroup.events`),
  );
  return /^frozen 1$/m.test(events ?? '');
}

/** In the process's own network namespace. */
function portsOf({ held, look, tid }: Thread, open: OpenLinks): readonly string[] {
  const inodes = socketInodesAmong(open);
  if (inodes.size === 0) return [];
  return ['tcp', 'tcp6'].flatMap((name) => {
    const file = `task/${tid}/net/${name}`;
    const read = () => (held.directory.stat(file) === undefined ? '' : held.directory.read(file)); // a kernel without IPv6
    const table = look.see(`listening (${name})`, read);
    return table === undefined ? [] : listeningPorts(table, inodes);
  });
}
