// PAM configuration of one login or one sshd, seen by no other: a folder that lies over /etc/pam.d in a mount
// namespace of its own. The stack writes its answer down and keeps the login waiting until it was looked at.

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Answer } from './adopter.js';
import { dieWithUs, dieWords, shellOnly } from './source.js';

/** The first file of that name in the usual places. */
export function locate(name: string, folders: readonly string[]): string | undefined {
  return folders.map((folder) => path.join(folder, name)).find(fs.existsSync);
}

export const programFolders: readonly string[] = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];
/** Debian's Slurm puts its module beside, not into, the folder of its architecture (22.05). */
export const moduleFolders: readonly string[] = ['/usr/lib/security', '/lib/security'].concat(
  ['/usr/lib', '/lib'].flatMap((folder) => ['x86_64', 'aarch64'].map((cpu) => `${folder}/${cpu}-linux-gnu/security`)),
);

export function shellOnlyWith(more: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...shellOnly, ...more };
}

/** What a stack answered, and the process whose session it is. */
export interface PamAnswer {
  readonly answer: Answer;
  readonly pid: number;
}

export class PamStack {
  readonly #folder: string;

  /** @param module the module that decides, with its words: `pam_slurm_adopt.so action_unknown=deny`. */
  constructor(parent: string, service: string, module: string) {
    this.#folder = fs.mkdtempSync(path.join(parent, 'pam-'));
    fs.chmodSync(this.#folder, 0o755);
    const stay = path.join(this.#folder, 'stay');
    // Its parent is the process that PAM runs in. No login waits longer than a minute, whatever becomes of the test.
    fs.writeFileSync(
      stay,
      `printf '%s %s' "$1" "$PPID" >"${this.#said}.new" && mv "${this.#said}.new" "${this.#said}"\nfor i in $(seq 1200); do [ -e "${this.#said}" ] || exit 0; sleep 0.05; done\n`,
    );
    const say = (answer: Answer, control: string) => `account [${control}] pam_exec.so quiet /bin/sh ${stay} ${answer}`;
    const lines = [
      `account [success=1 ignore=ignore default=2] ${module}`,
      say('ignored', 'default=done'),
      say('in', 'default=done'),
      say('refused', 'default=ignore'),
      'account requisite pam_deny.so',
      'auth required pam_permit.so', // no user is asked for a password: sshd takes keys alone
      'session required pam_permit.so',
      'password requisite pam_deny.so',
    ];
    fs.mkdirSync(this.#pam);
    for (const name of [service, 'other']) fs.writeFileSync(path.join(this.#pam, name), `${lines.join('\n')}\n`);
  }

  get #said(): string {
    return path.join(this.#folder, 'said');
  }
  get #pam(): string {
    return path.join(this.#folder, 'pam.d');
  }

  /** Starts a program that sees this stack; it dies with us. */
  spawn(words: readonly string[], options: SpawnOptions): ChildProcess {
    const enter = ['unshare', '-m', '--propagation', 'private', 'sh', '-c'];
    const script = 'mount --bind "$0" /etc/pam.d && exec "$@"';
    return spawn(dieWithUs, [...dieWords, ...enter, script, this.#pam, ...words], options);
  }

  /** The answer, once it is given. */
  read(): PamAnswer | undefined {
    if (!fs.existsSync(this.#said)) return undefined;
    const [answer = '', pid = ''] = fs.readFileSync(this.#said, 'utf8').split(' ');
    return { answer: answer as Answer, pid: Number(pid) };
  }

  /** Lets the login go on. */
  release(): void {
    fs.rmSync(this.#said, { force: true });
  }

  remove(): void {
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}
