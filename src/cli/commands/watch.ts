// slurm-cgroups watch: the jobs on this node as they come and go: a live page on a terminal, elsewhere one JSON object
// per line.

import process from 'node:process';
import type { Job } from '../../jobs/job.js';
import type { SlurmNode } from '../../jobs/node.js';
import { seenOfStep } from '../../jobs/processes.js';
import { isSuspended } from '../../jobs/suspension.js';
import { type JobEvent, type WatchJobsOptions, watchJobs } from '../../jobs/watch/watch.js';
import { deadlineIn } from '../../machine/deadline.js';
import { defined } from '../../machine/defined.js';
import { Pace } from '../../machine/pace.js';
import { Wakeup } from '../../machine/wakeup.js';
import { nodeOptions, openContext, requireSlurm } from '../context.js';
import { type CommandSpec, commonFlags, type Words, whose } from '../spec.js';
import { stoppable } from '../stop.js';
import { jsonLine, type Output, standardOutput } from '../terminal/output.js';
import { canDraw, isTerminalGone, type Key, Screen } from '../terminal/screen.js';
import { namesOf, requireUid, type UserNames } from '../users.js';
import { JobTable, pageOf, sortOrders, type View } from '../watch-page.js';

export const watchSpec: CommandSpec = {
  name: 'watch',
  summary: 'show the jobs on this node as they come and go',
  about:
    'Shows the jobs on this node and follows their changes: as a live table on a terminal, elsewhere, or with --json, as ' +
    'one JSON object per line. Works while slurmd and slurmctld are down. In the table the arrows scroll, s sorts; q or ' +
    'Ctrl-C ends it, with exit code 0.',
  operands: [],
  flags: [
    { name: 'uid', takes: 'U', description: 'only jobs of this user id' },
    { name: 'user', takes: 'NAME', description: 'only jobs of this user' },
    { name: 'steps', description: 'show steps too: one line each in the table, events of their own in JSON' },
    ...commonFlags.map((flag) =>
      flag.name === 'json' ? { ...flag, description: 'print one JSON object per line, even on a terminal' } : flag,
    ),
  ],
  examples: [
    ['slurm-cgroups watch', 'a table of jobs, users, steps, processes and ages'],
    ['slurm-cgroups watch --json | jq --unbuffered -c "select(.event == \\"added\\")"', 'one line for each new job'],
  ],
};

export async function runWatch(words: Words, output: Output = standardOutput()): Promise<number> {
  const said = whose(words);
  const { node, host, log } = await openContext('watch', words, { configurationError: 'note' });
  await requireSlurm(node);
  const uid = said === undefined ? undefined : 'uid' in said ? said.uid : await requireUid(host, said.user);
  const asTable = !words.flags.has('json') && canDraw();
  const options = { ...nodeOptions(words, host), steps: asTable || words.flags.has('steps') };
  return stoppable(
    async (stop) => {
      const over = new AbortController();
      const end = () => over.abort();
      stop.addEventListener('abort', end, { once: true });
      process.on('SIGPIPE', end);
      try {
        const watching = { ...options, signal: over.signal };
        const isWanted = (event: JobEvent) => uid === undefined || !('job' in event) || event.uid === uid;
        if (asTable) await drawTable(node, watching, { steps: words.flags.has('steps'), output, isWanted, end });
        else await printLines(node, watching, { output, isWanted });
        if (over.signal.aborted) log('verbose', 'asked to stop');
      } catch (error) {
        if (!isTerminalGone(error)) throw error;
        log('verbose', 'the terminal is gone');
      } finally {
        process.off('SIGPIPE', end);
      }
      return 0; // the user ends it: there is no other end
    },
    () => {},
  );
}

async function printLines(
  node: SlurmNode,
  options: WatchJobsOptions,
  { output, isWanted }: Pick<TableOptions, 'output' | 'isWanted'>,
): Promise<void> {
  const users = new Users(node);
  let first: JobEvent[] | undefined = [];
  for await (const event of watchJobs(options)) {
    if (!isWanted(event)) continue;
    // The users of the jobs that are here at the start are looked up together.
    first?.push(event);
    if (first !== undefined && event.event !== 'ready') continue;
    const events = first ?? [event];
    first = undefined;
    await users.learn(events);
    output.print(...events.map((one) => jsonLine(jsonOf(node, one, users.names))));
    if (output.isClosed()) return;
  }
}

/** One event for a program, with the cgroups of the job or of the step. */
function jsonOf(node: SlurmNode, event: JobEvent, names: UserNames): object {
  const { time } = event;
  if (event.event === 'note') return { time, event: event.event, jobId: null, note: event.note };
  if (event.event === 'ready')
    return {
      time,
      event: event.event,
      jobId: null,
      jobs: event.jobs,
      node: node.nodeName ?? null,
      mode: node.hierarchies.mode,
    };
  const { job, uid } = event;
  const user = uid === undefined ? undefined : names(uid);
  const stepId = 'stepId' in event ? event.stepId : undefined;
  const cgroups =
    stepId === undefined ? job.cgroups : (job.steps.find((step) => step.stepId === stepId)?.cgroups ?? []);
  return {
    time,
    event: event.event,
    jobId: event.jobId ?? null,
    ...defined({ stepId, sluid: event.sluid, uid, user, nodeName: event.nodeName }),
    ...(event.event === 'added' ? defined({ suspended: isSuspended(node, job) }) : {}),
    cgroups: cgroups.map(({ controllers, path }) => ({ controllers, path })),
  };
}

/** Names of users, each looked up once. */
class Users {
  readonly #node: SlurmNode;
  readonly #known = new Map<number, string | undefined>();

  constructor(node: SlurmNode) {
    this.#node = node;
  }

  readonly names: UserNames = (uid) => this.#known.get(uid);

  /** Looks up the new ones; tells whether there were any. */
  async learn(about: readonly { readonly uid?: number }[] | readonly JobEvent[]): Promise<boolean> {
    const uids = about.flatMap((one) =>
      'uid' in one && one.uid !== undefined && !this.#known.has(one.uid) ? [one.uid] : [],
    );
    if (uids.length === 0) return false;
    const names = await namesOf(this.#node.host, uids);
    for (const uid of uids) this.#known.set(uid, names(uid));
    return true;
  }
}

interface TableOptions {
  /** With --user: whether it is about one of that user's jobs. */
  readonly isWanted: (event: JobEvent) => boolean;
  readonly end: () => void;
  readonly steps: boolean;
  readonly output: Output;
}

/** How often the page is drawn: processes and ages change without an event. */
const redrawMs = 1000;
/** Events that come within this time are drawn together. */
const gatherMs = 50;

async function drawTable(
  node: SlurmNode,
  options: WatchJobsOptions,
  { steps, output, isWanted, end: quit }: TableOptions,
): Promise<void> {
  const { host } = node;
  const table = new JobTable(steps);
  const users = new Users(node);
  const wakeup = new Wakeup(host);
  let view: View = { first: 0, sortBy: 'newest' };
  const screen = new Screen(
    host,
    () => wakeup.notify(),
    (key) => {
      if (key === 'quit') return quit();
      view = turned(view, key, { jobs: table.jobs.length, rows: screen.size.rows });
      wakeup.notify();
    },
  );
  const failed = new AbortController();
  const isOver = () => options.signal?.aborted === true || failed.signal.aborted;
  const draw = async () => {
    const pace = new Pace(host, deadlineIn(host, redrawMs));
    const page = await pageOf(
      table,
      {
        node: node.nodeName,
        mode: node.hierarchies.mode,
        nowMs: Date.now(),
        size: screen.size,
        steps,
        names: users.names,
        ...(screen.hasKeys ? { view } : {}),
        isSuspended: (job) => isSuspended(node, job),
        processes: (job, stepId) => processCount(node, job, stepId, pace),
      },
      output,
    );
    if (!isOver()) screen.draw(page);
  };
  const follow = async () => {
    for await (const event of watchJobs({ ...options, signal: failed.signal })) {
      if (!isWanted(event)) continue;
      table.apply(event);
      wakeup.notify();
    }
  };
  const keepDrawn = async () => {
    while (!isOver()) {
      await draw();
      if (await users.learn(table.jobs.map(({ job }) => job))) await draw();
      if (await wakeup.wait(redrawMs)) await host.sleep(gatherMs);
    }
  };
  const end = () => {
    failed.abort();
    wakeup.notify();
  };
  options.signal?.addEventListener('abort', end, { once: true });
  screen.enter();
  try {
    await Promise.all([follow(), keepDrawn()].map((one) => one.finally(end)));
  } finally {
    screen.leave();
  }
}

/** What a key makes of the view. */
function turned(
  { first, sortBy }: View,
  key: Exclude<Key, 'quit'>,
  { jobs, rows }: { readonly jobs: number; readonly rows: number },
): View {
  if (key === 'sort')
    return { first: 0, sortBy: sortOrders[(sortOrders.indexOf(sortBy) + 1) % sortOrders.length] ?? 'newest' };
  // A page is what stands between the lines above and below the table.
  const page = Math.max(1, rows - 10);
  const to = {
    up: first - 1,
    down: first + 1,
    'page-up': first - page,
    'page-down': first + page,
    home: 0,
    end: jobs - page,
  };
  return { first: Math.max(0, Math.min(to[key], jobs - 1)), sortBy };
}

async function processCount(node: SlurmNode, job: Job, stepId: string, pace: Pace): Promise<number> {
  const step = job.steps.find((one) => one.stepId === stepId);
  return step === undefined ? 0 : (await seenOfStep(node, step, { pace })).all.length;
}
