// The PAM module and the programs that its tests run, compiled once for each file of tests. Where they cannot be
// compiled the tests are skipped with the reason; with CI that is a failure.

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, test } from 'vitest';
import { kernelTest, type TestCgroups } from '../support/test-cgroups.js';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '../..');
const builder = path.join(root, 'scripts/build-native.mjs');
const pam = path.join(root, 'native/pam');
const folder = path.join(root, 'test/native');
/** What the pure tests look at. */
const pure = ['number', 'options', 'plain', 'reply', 'request', 'self', 'trust', 'enter', 'child'];
const cc = () => (process.env['CC'] ?? 'gcc').split(' ');

/** Why nothing can be compiled here. */
function findObstacle(): string | undefined {
  const said = execFileSync(process.execPath, [builder, '--missing'], { encoding: 'utf8' }).trim();
  return said === '' ? undefined : said;
}

/** Why a login of the tests cannot run here. */
function findRootObstacle(): string | undefined {
  if (process.geteuid?.() !== 0) return 'needs root';
  const own = spawnSync('/usr/bin/unshare', ['-m', '/bin/true']);
  return own.status === 0 ? undefined : 'needs a mount namespace of its own (CAP_SYS_ADMIN)';
}

/** In what a call that takes too long is found out: a machine of CI that is busy takes seconds for what takes milliseconds. */
export const longestMs = 30_000;

export class Programs {
  #folder = '';
  readonly #obstacle: string | undefined = findObstacle();

  /** Compiles before the tests of the file. */
  constructor(what: readonly ('module' | 'login' | 'pieces')[]) {
    beforeAll(async () => {
      if (this.#obstacle !== undefined) return;
      this.#folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-native-'));
      if (what.includes('module')) await run(process.execPath, [builder, this.#folder]);
      if (what.includes('login')) {
        const parts = ['self', 'reply', 'number'].map((name) => `${pam}/${name}.c`);
        await this.#compile('login', ['-rdynamic', '-pthread', `${folder}/login.c`, ...parts, '-lpam']);
        await this.#compile('puppet', [`${folder}/puppet.c`]);
        await this.#compile('stepd', [`${folder}/stepd.c`]);
      }
      if (what.includes('pieces')) {
        const checks = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
        await this.#compile('pieces', [...checks, `${folder}/pieces.c`, ...pure.map((name) => `${pam}/${name}.c`)]);
      }
    });
    afterAll(() => fs.rmSync(this.#folder, { recursive: true, force: true }));
  }

  get module(): string {
    return path.join(this.#folder, 'pam_slurm_cgroups.so');
  }
  path(name: string): string {
    return path.join(this.#folder, name);
  }

  async #compile(name: string, words: readonly string[]): Promise<void> {
    const [compiler = 'gcc', ...more] = cc();
    const flags = ['-std=c11', '-D_GNU_SOURCE', '-g', '-O1', '-Wall', '-Wextra', '-Werror', `-I${pam}`];
    await run(compiler, [...more, ...flags, '-o', this.path(name), ...words]);
  }

  /** A test of what was compiled; `asRoot`: only root can do what it does. */
  test(name: string, asRoot: boolean, act: () => Promise<void> | void): void {
    test(name, async (context) => {
      const reason = this.#obstacle ?? (asRoot ? findRootObstacle() : undefined);
      if (reason !== undefined) {
        if (process.env['CI'] === 'true') throw new Error(`Skipped, which CI does not allow: ${reason}`);
        context.skip(reason);
      }
      await act();
    });
  }

  /** The same on real cgroups: test/support/test-cgroups.ts. */
  kernelTest(name: string, needs: readonly string[], act: (area: TestCgroups) => Promise<void>): void {
    if (this.#obstacle === undefined) kernelTest(name, needs, act);
    else this.test(name, true, () => undefined); // skipped with the reason
  }

  /** What a login said, line by line; its steps are those of login.c. */
  async login(...steps: readonly string[]): Promise<Login> {
    const { stdout } = await run(this.path('login'), [this.module, this.path('puppet'), ...steps], {
      timeout: 2 * longestMs,
      killSignal: 'SIGKILL',
    });
    return new Login(stdout.split('\n').slice(0, -1));
  }
}

/** Answers of PAM, by its numbers. */
const answers: Readonly<Record<string, string>> = { 0: 'success', 6: 'refused', 14: 'session error', 25: 'ignored' };

export class Login {
  readonly lines: readonly string[];

  constructor(lines: readonly string[]) {
    this.lines = lines;
    if (lines.at(-1) !== 'done') throw new Error(`the login did not come to its end:\n${lines.join('\n')}`);
  }

  #behind(word: string): readonly string[] {
    return this.lines.flatMap((line) => (line.startsWith(`${word} `) ? [line.slice(word.length + 1)] : []));
  }

  /** The answer of each call. */
  get answers(): readonly string[] {
    return this.#behind('result').map((line) => answers[line.split(' ')[1] ?? ''] ?? line);
  }
  /** How long the last call took. */
  get tookMs(): number {
    return Number(this.#behind('result').at(-1)?.split(' ')[2]);
  }
  /** Our own lines in the log: `3 No decision …`. */
  get log(): readonly string[] {
    return this.#behind('log').flatMap((line) => {
      const [, severity, facility, text] = /^(\d) (\d+) pam_slurm_cgroups\([^)]*\): (.*)$/.exec(line) ?? [];
      return text === undefined ? [] : [`${severity}${facility === '10' ? '' : ` not authpriv, ${facility}`} ${text}`];
    });
  }
  get user(): readonly string[] {
    return this.#behind('user');
  }
  /** The PAM environment after the last call. */
  get environment(): readonly string[] {
    const last = this.lines.findLastIndex((line) => line.startsWith('result '));
    return this.lines.slice(last).flatMap((line) => (line.startsWith('pamenv ') ? [line.slice(7)] : []));
  }
  /** That of a process forked after the calls. */
  get environmentOfChild(): readonly string[] {
    return this.#behind('childenv');
  }
  /** What the calls changed in their caller: nothing. */
  get changed(): readonly string[] {
    return this.#behind('changed');
  }
  /** What the puppet saw of that kind. */
  saw(kind: string): readonly string[] {
    return this.#behind(`saw ${kind}`);
  }
  has(line: string): boolean {
    return this.lines.includes(line);
  }
}

/** The helper's answer, a line each; `|` for the line end, as login.c takes it. */
export function reply(...lines: readonly string[]): string {
  return ['slurm-cgroups-answer 1', ...lines, 'end', ''].join('|');
}
/** One that lets the login in, into job 5. */
export const allowed: string = reply(
  'action allow',
  'reason adopted into job 5',
  'log 6 Process @PID@ adopted into job 5',
  'message You are in job 5',
  'process @PID@ @START@',
  'job 5',
  'display localhost:52.0',
  'xauthority /tmp/x',
);

/** The PAM line with the puppet as helper. */
export const line = (...words: readonly string[]): string => `words=helper=/run/test/helper ${words.join(' ')}`;

/** Where records lie. */
export const folders: readonly string[] = ['mkdir=/run/slurm-cgroups', 'mkdir=/run/slurm-cgroups/logins'];
/** That of the login itself. */
export const file = '/run/slurm-cgroups/logins/@PID@-@START@';
/** The login has such a record. */
export const recorded = (...lines: readonly string[]): readonly string[] => [
  ...folders,
  `file=${file}=${reply(...lines)}`,
];

/** `cgroup` lines of where this process is, as its children are. */
export function here(): readonly string[] {
  const text = fs.readFileSync('/proc/self/cgroup', 'utf8').trimEnd();
  return text.split('\n').map((membership) => {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(.*)$/.exec(membership) ?? [];
    return `cgroup ${controllers === '' ? '-' : controllers} ${path}`;
  });
}
