// watchJobs() on cgroups of the test's own, on v1 and v2: what it tells against what discoverJobs finds.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { cgroupPath } from '../../../src/cgroup/path.js';
import { discoverJobs } from '../../../src/jobs/discovery.js';
import { readNode } from '../../../src/jobs/node.js';
import { type JobEvent, type WatchJobsOptions, watchJobs } from '../../../src/jobs/watch/watch.js';
import { recordedHost } from '../../../src/testing.js';
import { loadRecording } from '../../recordings/recordings.js';
import { distFolder } from '../../support/program-run.js';
import { descriptors, kernelTest, type TestCgroups } from '../../support/test-cgroups.js';

/** Slurm's tree in some hierarchies at once. */
class Tree {
  readonly within;
  readonly #tops: readonly string[];

  constructor(area: TestCgroups, keys: readonly string[]) {
    this.within = cgroupPath(`/${area.name}`);
    this.#tops = keys.map((key) => area.at(key).directory);
  }

  make(...below: readonly string[]): void {
    for (const one of below) for (const top of this.#tops) fs.mkdirSync(`${top}/${one}`, { recursive: true });
  }

  remove(...below: readonly string[]): void {
    for (const one of below) for (const top of this.#tops) removeTree(`${top}/${one}`);
  }
}

function removeTree(directory: string): void {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true }))
    if (entry.isDirectory()) removeTree(`${directory}/${entry.name}`);
  fs.rmdirSync(directory);
}

/** Hears a watch to its end. */
class Listener {
  readonly told: string[] = [];
  readonly events: JobEvent[] = [];
  readonly #stop = new AbortController();
  readonly #ended: Promise<unknown>;

  constructor(options: WatchJobsOptions) {
    this.#ended = this.#listen(options).then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  async #listen(options: WatchJobsOptions): Promise<void> {
    for await (const event of watchJobs({ ...options, signal: this.#stop.signal })) {
      this.events.push(event);
      this.told.push(brief(event));
    }
  }

  /** Until that was told; gives everything told since the last call. */
  async until(what: string): Promise<readonly string[]> {
    for (let waited = 0; !this.told.includes(what); waited += 2) {
      if (waited > 10_000) throw new Error(`"${what}" was not told, but ${this.told.join(', ')}`);
      await pause(2);
    }
    await pause(60); // what else is told then?
    return this.told.splice(0);
  }

  async end(): Promise<unknown> {
    this.#stop.abort(new Error('enough'));
    return this.#ended;
  }
}

function brief(event: JobEvent): string {
  if (event.event === 'ready') return `ready ${event.jobs}`;
  if (event.event === 'note') return `note ${event.note}`;
  const what = `${event.event} ${event.uid ?? '?'}/${event.jobId ?? event.sluid}`;
  return 'stepId' in event ? `${what}.${event.stepId}` : what;
}

/** Watches of inotify in this process. */
function inotifyWatches(): number {
  return fs.readdirSync('/proc/self/fdinfo').reduce((sum, fd) => {
    try {
      return sum + (fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').match(/^inotify /gm)?.length ?? 0);
    } catch {
      return sum; // closed meanwhile: the directory was read through it
    }
  }, 0);
}

const v1 = ['freezer', 'devices'];

/** Both layouts: the directory of a job of a uid, and what its events call it. */
const layouts = [
  {
    name: 'v1',
    keys: v1,
    top: 'slurm',
    job: (uid: number, id: number) => `slurm/uid_${uid}/job_${id}`,
    called: (uid: number, id: number) => `${uid}/${id}`,
  },
  {
    name: 'v2',
    keys: ['unified'],
    top: 'system.slice/slurmstepd.scope',
    job: (_: number, id: number) => `system.slice/slurmstepd.scope/job_${id}`,
    called: (_: number, id: number) => `?/${id}`,
  },
] as const;

describe('watchJobs()', () => {
  for (const { name, keys, top, job, called } of layouts) {
    kernelTest(`${name}: those that are here, ready, then each that comes and goes, once`, keys, async (area) => {
      const tree = new Tree(area, keys);
      tree.make(`${job(1, 1)}/step_extern`);
      const heard = new Listener({ within: tree.within });
      expect(await heard.until('ready 1')).toEqual([`added ${called(1, 1)}`, 'ready 1']);
      tree.make(`${job(1, 2)}/step_extern`);
      expect(await heard.until(`added ${called(1, 2)}`)).toEqual([`added ${called(1, 2)}`]);
      tree.make(`${job(2, 3)}/step_extern`); // a new user: a watch of its own
      expect(await heard.until(`added ${called(2, 3)}`)).toEqual([`added ${called(2, 3)}`]);
      tree.make(`${job(2, 4)}/step_extern`);
      expect(await heard.until(`added ${called(2, 4)}`)).toEqual([`added ${called(2, 4)}`]);
      tree.remove(job(1, 1));
      expect(await heard.until(`removed ${called(1, 1)}`)).toEqual([`removed ${called(1, 1)}`]);
      expect(heard.events.every(({ time }) => /^\d{4}-.*Z$/.test(time))).toBe(true);
      expect(await heard.end()).toBeUndefined();
    });

    kernelTest(`${name}: a directory made again under the same name is another job`, keys, async (area) => {
      const tree = new Tree(area, keys);
      tree.make(job(1, 1));
      const heard = new Listener({ within: tree.within });
      await heard.until('ready 1');
      tree.remove(job(1, 1));
      tree.make(job(1, 1));
      expect(await heard.until(`added ${called(1, 1)}`)).toEqual([`removed ${called(1, 1)}`, `added ${called(1, 1)}`]);
      await heard.end();
    });

    kernelTest(`${name}: the root is missing, comes, goes, comes again, is replaced at once`, keys, async (area) => {
      const tree = new Tree(area, keys);
      const heard = new Listener({ within: tree.within });
      await heard.until('ready 0');
      for (const id of [1, 2]) {
        tree.make(job(1, id));
        expect(await heard.until(`added ${called(1, id)}`)).toEqual([`added ${called(1, id)}`]);
        tree.remove(top);
        expect(await heard.until(`removed ${called(1, id)}`)).toEqual([`removed ${called(1, id)}`]);
      }
      tree.make(top);
      await pause(100);
      tree.remove(top); // an empty one
      tree.make(job(1, 3));
      await heard.until(`added ${called(1, 3)}`);
      tree.remove(top);
      tree.make(job(1, 4));
      expect(await heard.until(`added ${called(1, 4)}`)).toEqual([`removed ${called(1, 3)}`, `added ${called(1, 4)}`]);
      tree.make(job(1, 5)); // the new one is watched
      expect(await heard.until(`added ${called(1, 5)}`)).toEqual([`added ${called(1, 5)}`]);
      await heard.end();
    });

    kernelTest(`${name}: with steps, steps too`, keys, async (area) => {
      const tree = new Tree(area, keys);
      tree.make(`${job(1, 1)}/step_extern`);
      const heard = new Listener({ within: tree.within, steps: true });
      expect(await heard.until('ready 1')).toEqual([
        `added ${called(1, 1)}`,
        `step-added ${called(1, 1)}.extern`,
        'ready 1',
      ]);
      tree.make(`${job(1, 1)}/step_0`);
      expect(await heard.until(`step-added ${called(1, 1)}.0`)).toEqual([`step-added ${called(1, 1)}.0`]);
      tree.remove(`${job(1, 1)}/step_0`);
      expect(await heard.until(`step-removed ${called(1, 1)}.0`)).toEqual([`step-removed ${called(1, 1)}.0`]);
      tree.make(`${job(1, 2)}/step_extern`);
      await heard.until(`step-added ${called(1, 2)}.extern`);
      tree.make(`${job(1, 2)}/step_1`); // a job that came while it watched
      expect(await heard.until(`step-added ${called(1, 2)}.1`)).toEqual([`step-added ${called(1, 2)}.1`]);
      await heard.end();
    });

    kernelTest(
      `${name}: 1,000 jobs that come and go quickly: at rest it knows what discoverJobs finds`,
      keys,
      async (area) => {
        const tree = new Tree(area, keys);
        const heard = new Listener({ within: tree.within });
        await heard.until('ready 0');
        for (let id = 1; id <= 1000; id++) {
          tree.make(job(1 + (id % 20), id));
          if (id > 30 && id % 100 !== 0) tree.remove(job(1 + ((id - 30) % 20), id - 30));
          if (id % 50 === 0) await pause(5);
        }
        const expected = discoverJobs(await readNode({ within: tree.within }))
          .map(({ jobId }) => jobId)
          .sort();
        const known = () => {
          const jobs = new Set<number | undefined>();
          for (const event of heard.events) {
            if (event.event === 'added') {
              expect(jobs.has(event.jobId)).toBe(false);
              jobs.add(event.jobId);
            } else if (event.event === 'removed') expect(jobs.delete(event.jobId)).toBe(true);
          }
          return [...jobs].sort();
        };
        for (let waited = 0; waited < 10_000 && known().length !== expected.length; waited += 50) await pause(50);
        expect(known()).toEqual(expected);
        await heard.end();
      },
    );

    kernelTest(`${name}: nothing is left open, however it ends`, keys, async (area) => {
      const tree = new Tree(area, keys);
      tree.make(`${job(1, 1)}/step_extern`);
      for await (const event of watchJobs({ within: tree.within })) if (event.event === 'ready') break; // inotify itself stays
      const before = [descriptors(), inotifyWatches()];
      const nextReady = async (events: AsyncIterator<JobEvent>) => {
        for (;;) if ((await events.next()).value?.event === 'ready') return;
      };

      for await (const event of watchJobs({ within: tree.within, steps: true })) {
        if (event.event !== 'ready') continue;
        expect(inotifyWatches()).toBeGreaterThan(before[1] ?? 0);
        break;
      }
      expect([descriptors(), inotifyWatches()]).toEqual(before);

      const returned = watchJobs({ within: tree.within });
      await nextReady(returned);
      const pending = returned.next();
      expect(await returned.return?.()).toEqual({ done: true, value: undefined });
      expect(await pending).toEqual({ done: true, value: undefined });
      expect([descriptors(), inotifyWatches()]).toEqual(before);

      const thrown = watchJobs({ within: tree.within });
      await nextReady(thrown);
      await expect(thrown.throw?.(new TypeError('mine'))).rejects.toThrow('mine');
      expect([descriptors(), inotifyWatches()]).toEqual(before);

      const stop = new AbortController();
      const aborted = watchJobs({ within: tree.within, signal: stop.signal });
      await nextReady(aborted);
      stop.abort(new Error('enough')); // while nothing waits: closed at once
      expect([descriptors(), inotifyWatches()]).toEqual(before);
      for (const _ of [1, 2]) expect(await aborted.next()).toEqual({ done: true, value: undefined });

      const waiting = new AbortController();
      const alive = watchJobs({ within: tree.within, signal: waiting.signal });
      await nextReady(alive);
      const event = alive.next();
      waiting.abort();
      expect(await event).toEqual({ done: true, value: undefined });
      expect([descriptors(), inotifyWatches()]).toEqual(before);

      const early = watchJobs({ within: tree.within, steps: true });
      const first = early.next();
      await early.return?.();
      await first;
      expect([descriptors(), inotifyWatches()]).toEqual(before);
    });
  }

  kernelTest('its end leaves no timer: the program could end', v1, async (area) => {
    const tree = new Tree(area, v1);
    tree.make('slurm/uid_1/job_1/step_0');
    // In a process of its own: the test runner has timers, too.
    const script = `
      import fs from 'node:fs';
      const { watchJobs } = await import(${JSON.stringify(path.join(distFolder, 'jobs/watch/watch.js'))});
      for await (const { event } of watchJobs({ within: '/${area.name}', steps: true })) {
        if (event === 'ready') fs.rmdirSync('${area.at('freezer').directory}/slurm/uid_1/job_1/step_0');
        if (event === 'ready') fs.rmdirSync('${area.at('devices').directory}/slurm/uid_1/job_1/step_0');
        if (event === 'step-removed') break;
      }
      console.log(process.getActiveResourcesInfo().filter((one) => one === 'Timeout').length);`;
    const ran = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect([ran.stdout, ran.stderr, ran.status]).toEqual(['0\n', '', 0]);
  });

  kernelTest('v1: one truth over several hierarchies', v1, async (area) => {
    const [freezer, devices] = v1.map((key) => area.at(key).directory);
    const tree = new Tree(area, v1);
    const heard = new Listener({ within: tree.within });
    await heard.until('ready 0');
    fs.mkdirSync(`${devices}/slurm/uid_1/job_1`, { recursive: true });
    expect(await heard.until('added 1/1')).toEqual(['added 1/1']);
    fs.mkdirSync(`${freezer}/slurm/uid_1/job_1`, { recursive: true }); // the root comes later in this one
    expect(await heard.until('changed 1/1')).toEqual(['changed 1/1']);
    removeTree(`${devices}/slurm/uid_1`);
    expect(await heard.until('changed 1/1')).toEqual(['changed 1/1']);
    removeTree(`${freezer}/slurm/uid_1`);
    expect(await heard.until('removed 1/1')).toEqual(['removed 1/1']);
    await heard.end();
  });

  kernelTest('v1: a step that stands where nothing is watched is reported, and its end', v1, async (area) => {
    const devices = area.at('devices').directory;
    const tree = new Tree(area, v1);
    tree.make('slurm/uid_1/job_1/step_0');
    const heard = new Listener({ within: tree.within, steps: true });
    await heard.until('ready 1');
    fs.rmdirSync(`${area.at('freezer').directory}/slurm/uid_1/job_1/step_0`);
    await pause(300);
    expect(heard.told).toEqual([]); // still in the other
    fs.rmdirSync(`${devices}/slurm/uid_1/job_1/step_0`);
    expect(await heard.until('step-removed 1/1.0')).toEqual(['step-removed 1/1.0']);
    await heard.end();
  });

  kernelTest('v1: as few watches as plain fs.watch, one more a job with steps', v1, async (area) => {
    const tree = new Tree(area, v1);
    for (let id = 1; id <= 20; id++) tree.make(`slurm/uid_${1 + (id % 4)}/job_${id}/step_extern`);
    for (const [steps, most] of [
      [false, 2 * (1 + 4)],
      [true, 2 * (1 + 4) + 20],
    ] as const) {
      const before = inotifyWatches();
      for await (const event of watchJobs({ within: tree.within, steps })) {
        if (event.event !== 'ready') continue;
        expect(inotifyWatches() - before).toBe(most);
        break;
      }
    }
  });

  kernelTest('v2: jobs by SLUID, whose id is not known', ['unified'], async (area) => {
    const tree = new Tree(area, ['unified']);
    const heard = new Listener({ within: tree.within });
    await heard.until('ready 0');
    tree.make('system.slice/slurmstepd.scope/sEKNKTV3WPV500/step_extern', 'system.slice/slurmstepd.scope/system');
    expect(await heard.until('added ?/sEKNKTV3WPV500')).toEqual(['added ?/sEKNKTV3WPV500']);
    await heard.end();
  });

  kernelTest('two at once hear the same', v1, async (area) => {
    const tree = new Tree(area, v1);
    const both = [new Listener({ within: tree.within }), new Listener({ within: tree.within })];
    for (const one of both) await one.until('ready 0');
    for (const id of [1, 2]) {
      tree.make(`slurm/uid_1/job_${id}`);
      for (const one of both) expect(await one.until(`added 1/${id}`)).toEqual([`added 1/${id}`]);
      tree.remove('slurm'); // each has to watch the new one, not the other's old watch
      for (const one of both) expect(await one.until(`removed 1/${id}`)).toEqual([`removed 1/${id}`]);
    }
    for (const one of both) await one.end();
  });

  kernelTest('without the kernel’s watches it looks every second, and says why', v1, async (area) => {
    const tree = new Tree(area, v1);
    tree.make('slurm/uid_1/job_1');
    process.env['CHOKIDAR_USEPOLLING'] = '1';
    try {
      const heard = new Listener({ within: tree.within });
      expect((await heard.until('ready 1')).join()).toMatch(
        /^added 1\/1,note Cannot watch ".*": .*: looking every 1 s instead,ready 1$/,
      );
      tree.make('slurm/uid_2/job_2');
      expect(await heard.until('added 2/2')).toEqual(['added 2/2']);
      await heard.end();
    } finally {
      delete process.env['CHOKIDAR_USEPOLLING'];
    }
  });

  it('a recorded node tells its jobs and ends', async () => {
    const told: string[] = [];
    for await (const event of watchJobs({ host: recordedHost(loadRecording('slurm-22.05-v1')) }))
      told.push(brief(event));
    expect(told.at(-1)).toBe(`ready ${told.length - 1}`);
    expect(told).toContain('added 1002/7');
  });

  it('an aborted signal ends it before anything is opened', async () => {
    const over = watchJobs({ signal: AbortSignal.abort(new Error('enough')) });
    expect(await over.next()).toEqual({ done: true, value: undefined });
  });

  it('passes on what readNode says', async () => {
    const host = recordedHost(
      '{"recording":"slurm-cgroups","version":1,"self":{"pid":9,"uid":0}}\n{"read":"/proc/self/mountinfo","text":""}\n',
    );
    await expect(watchJobs({ host, within: cgroupPath('/') }).next()).rejects.toMatchObject({ code: 'ERR_NO_CGROUPS' });
  });
});
