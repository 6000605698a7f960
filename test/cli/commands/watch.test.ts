// The command as people and programs run it: on a terminal (script(1) gives one), and into a pipe.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { programFile, runProgramFile } from '../../support/program-run.js';
import { kernelTest, type TestCgroups } from '../../support/test-cgroups.js';

/** The first hierarchy that is there, its layout the right one. */
class Tree {
  readonly within: string;
  readonly top: string;
  readonly isV1: boolean;

  constructor(area: TestCgroups) {
    this.isV1 = area.has('freezer');
    this.within = `/${area.name}`;
    const { directory } = area.at(this.isV1 ? 'freezer' : 'unified');
    this.top = `${directory}/${this.isV1 ? 'slurm' : 'system.slice/slurmstepd.scope'}`;
    fs.mkdirSync(this.top, { recursive: true });
  }

  job(id: number): string {
    return `${this.top}/${this.isV1 ? 'uid_65533/' : ''}job_${id}`;
  }

  make(id: number, ...steps: readonly string[]): void {
    fs.mkdirSync(this.job(id), { recursive: true });
    for (const step of steps) fs.mkdirSync(`${this.job(id)}/step_${step}`);
  }

  remove(id: number): void {
    for (const name of fs.readdirSync(this.job(id)).filter((one) => one.startsWith('step_')))
      fs.rmdirSync(`${this.job(id)}/${name}`);
    fs.rmdirSync(this.job(id));
  }
}

const started: ChildProcessWithoutNullStreams[] = [];
/** What a failed test left running; a closed terminal ends what runs on it. */
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
});

class Running {
  readonly child: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<readonly unknown[]>;
  text = '';
  errors = '';

  constructor(file: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.child = spawn(file, [...args], { env: { PATH: '/usr/bin:/bin', TERM: 'xterm-256color', ...env } });
    started.push(this.child);
    this.child.stdout.setEncoding('utf8').on('data', (part: string) => {
      this.text += part;
    });
    this.child.stderr.setEncoding('utf8').on('data', (part: string) => {
      this.errors += part;
    });
    this.#closed = once(this.child, 'close');
  }

  get lines(): readonly Record<string, unknown>[] {
    return this.text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  }

  async until(isSo: () => boolean): Promise<void> {
    for (let waited = 0; !isSo(); waited += 10) {
      if (waited > 20_000) throw new Error(`It never said so, but ${this.text}${this.errors}`);
      await pause(10);
    }
  }

  async end(): Promise<readonly unknown[]> {
    return this.#closed;
  }
}

function inPipe(tree: Tree, ...words: readonly string[]): Running {
  return new Running(process.execPath, [programFile, 'watch', '--within', tree.within, ...words]);
}

/** On a terminal of its own, 80 columns wide; script(1) gives its exit code. */
function onTerminal(tree: Tree, words = '', env: Readonly<Record<string, string>> = {}): Running {
  const command = `stty rows 24 cols 80; exec ${process.execPath} ${programFile} watch --within ${tree.within} ${words}`;
  return new Running('/usr/bin/script', ['-qefc', command, '/dev/null'], env);
}

/** The process on that terminal. */
function pidOnTerminal({ child }: Running): number {
  return Number(fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim());
}

const [enter, leave] = ['\u001b[?1049h\u001b[?25l', '\u001b[?25h\u001b[?1049l'];

describe('watch into a pipe', () => {
  kernelTest('prints one JSON object a line, with the documented shape', [], async (area) => {
    const tree = new Tree(area);
    tree.make(7, 'extern');
    const running = inPipe(tree, '--steps');
    await running.until(() => running.text.includes('"ready"'));
    tree.make(8);
    await running.until(() => running.text.includes('"jobId":8'));
    tree.remove(8);
    await running.until(() => running.text.includes('"removed"'));
    running.child.kill('SIGINT');
    expect(await running.end()).toEqual([0, null]);
    expect(running.errors).toBe('');
    const owner = tree.isV1 ? { uid: 65_533 } : {};
    const place = (id: number, below = '') => [
      { controllers: tree.isV1 ? ['freezer'] : [], path: `${tree.job(id)}${below}` },
    ];
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(running.lines).toEqual([
      { time, event: 'added', jobId: 7, ...owner, suspended: false, cgroups: place(7) },
      { time, event: 'step-added', jobId: 7, stepId: 'extern', ...owner, cgroups: place(7, '/step_extern') },
      { time, event: 'ready', jobId: null, jobs: 1, node: expect.any(String), mode: expect.any(String) },
      { time, event: 'added', jobId: 8, ...owner, suspended: false, cgroups: place(8) },
      { time, event: 'removed', jobId: 8, ...owner, cgroups: place(8) },
    ]);
  });

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGPIPE'] as const) {
    kernelTest(`${signal} ends it, with exit code 0`, [], async (area) => {
      const tree = new Tree(area);
      tree.make(7, 'extern');
      const running = inPipe(tree);
      await running.until(() => running.text.includes('"ready"'));
      tree.remove(7); // watches that are at work when it ends
      running.child.kill(signal);
      expect(await running.end()).toEqual([0, null]);
      expect(running.errors).toBe('');
    });
  }

  kernelTest('a reader that stops early ends it, with exit code 0', [], async (area) => {
    const tree = new Tree(area);
    const running = inPipe(tree);
    await running.until(() => running.text.includes('"ready"'));
    running.child.stdout.destroy();
    tree.make(7);
    expect(await running.end()).toEqual([0, null]);
    expect(running.errors).toBe('');
  });

  it('refuses a mistake: exit code 2', () => {
    const { exitCode, stderr } = runProgramFile('watch', '--within', '/slurm-cgroups-test-nowhere');
    expect([exitCode, stderr]).toEqual([
      2,
      'slurm-cgroups watch: There is no cgroup "/slurm-cgroups-test-nowhere" on this node (--within); see "slurm-cgroups watch --help"\n',
    ]);
    expect(runProgramFile('watch', 'more').exitCode).toBe(2);
    expect(runProgramFile('watch', '--within', 'not/absolute').exitCode).toBe(2);
    expect(runProgramFile('watch', '--help').stdout).toContain('slurm-cgroups watch --json');
  });
});

describe.skipIf(!fs.existsSync('/usr/bin/script') && process.env['CI'] !== 'true')('watch on a terminal', () => {
  kernelTest('draws a page of jobs, in place, and Ctrl-C leaves the terminal as it was', [], async (area) => {
    const tree = new Tree(area);
    tree.make(7, 'extern', 'batch');
    const running = onTerminal(tree);
    await running.until(() => running.text.includes('extern batch') && running.text.includes('  1 job, '));
    tree.make(8);
    await running.until(() => running.text.includes('job 8 started'));
    tree.remove(8);
    await running.until(() => running.text.includes('job 8 ended'));
    running.child.stdin.write('\u0003');
    expect(await running.end()).toEqual([0, null]);
    expect(running.text.startsWith(enter)).toBe(true);
    expect(running.text.trimEnd().endsWith(leave)).toBe(true);
    expect(running.text.split(leave)).toHaveLength(2);
    // Frames overwrite: the screen is never cleared as a whole, which would flicker.
    expect(running.text).not.toContain('\u001b[2J');
    expect(running.text.split('\u001b[?2026h\u001b[H').length).toBeGreaterThan(3);
  });

  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    kernelTest(`${signal} leaves the terminal as it was`, [], async (area) => {
      const running = onTerminal(new Tree(area));
      await running.until(() => running.text.includes('no job'));
      process.kill(pidOnTerminal(running), signal);
      expect(await running.end()).toEqual([0, null]);
      expect(running.text.trimEnd().endsWith(leave)).toBe(true);
    });
  }

  kernelTest('Ctrl-Z gives the terminal back, and it draws again when it goes on', [], async (area) => {
    const tree = new Tree(area);
    const running = onTerminal(tree);
    await running.until(() => running.text.includes('no job'));
    const pid = pidOnTerminal(running);
    process.kill(pid, 'SIGTSTP'); // Ctrl-Z
    await running.until(() => / \(.*\) T /s.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8')));
    await running.until(() => {
      // script(1) stops with it, maybe before it has passed on what was said last, and wakes it.
      running.child.kill('SIGCONT');
      return running.text.split(enter)[2]?.includes('no job') === true;
    });
    const pages = running.text.split(enter);
    expect(pages).toHaveLength(3);
    expect(pages[1]?.trimEnd().endsWith(leave)).toBe(true); // the shell's page was back while it was stopped
    process.kill(pidOnTerminal(running), 'SIGTERM');
    expect(await running.end()).toEqual([0, null]);
    expect(running.text.trimEnd().endsWith(leave)).toBe(true);
  });

  kernelTest('names cannot steer the terminal', [], async (area) => {
    const tree = new Tree(area);
    tree.make(7, '\u001b[2J\u001b[31mred');
    const running = onTerminal(tree, '--steps');
    await running.until(() => running.text.includes('red'));
    running.child.stdin.write('\u0003');
    expect(await running.end()).toEqual([0, null]);
    expect(running.text).toContain('\\x1b[2J\\x1b[31mred');
    expect(running.text).not.toContain('\u001b[2J');
  });

  kernelTest('on one that cannot be drawn on, or with --json: lines', [], async (area) => {
    const tree = new Tree(area);
    for (const running of [onTerminal(tree, '--json'), onTerminal(tree, '', { TERM: 'dumb' })]) {
      await running.until(() => running.text.includes('"ready"'));
      running.child.stdin.write('\u0003');
      expect(await running.end()).toEqual([0, null]);
      expect(running.text).not.toContain('\u001b');
    }
  });
});
