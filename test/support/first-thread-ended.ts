// A real process whose first thread has ended while others of it wait: what pthread_exit(3) in main() makes. Node has
// threads of its own, and koffi the system call that ends one thread alone, so that no compiler is needed.

import fs from 'node:fs';
import { createRequire } from 'node:module';
import process from 'node:process';
import type { TestContext } from 'vitest';
import { stateOf, until } from './stuck-processes.js';

/** Nothing that a killed test left behind lives longer. */
const lifetimeSeconds = 120;

/** exit(2), which glibc keeps for itself: include/uapi/asm-generic/unistd.h, on x86 a number of its own. */
const exitNumber = process.arch === 'x64' ? 60 : 93;

const script = `
  const [koffi, uid] = process.argv.slice(1);
  const libc = require(koffi).load("libc.so.6");
  const [exit, alarm] = [libc.func("long syscall(long, long)"), libc.func("int alarm(int)")];
  process.on("SIGTERM", () => {});
  process.setgid(+uid); process.setuid(+uid);
  alarm(${lifetimeSeconds});
  exit(${exitNumber}, 0);
`;

function koffiFile(): string | undefined {
  try {
    return createRequire(import.meta.url).resolve('koffi');
  } catch {
    return undefined; // an optional package
  }
}

export interface Program {
  readonly file: string;
  readonly args: readonly string[];
  /** The same for /bin/sh. */
  readonly line: string;
}

/** Started as root it becomes `uid`, and then its first thread ends. SIGTERM does not end the rest. */
export function firstThreadEnded(uid: number, context: Pick<TestContext, 'skip'>): Program {
  const koffi = koffiFile();
  if (koffi === undefined) {
    if (process.env['CI'] === 'true') throw new Error('Skipped, which CI does not allow: needs koffi');
    return context.skip('needs koffi');
  }
  const args = ['-e', script, koffi, String(uid)];
  return { file: process.execPath, args, line: [process.execPath, ...args].map((one) => `'${one}'`).join(' ') };
}

/** Waits until it is so: dead by its own state, and others of its threads are there. */
export async function untilFirstThreadEnded(pid: number): Promise<void> {
  await until('its first thread has ended', () => stateOf(pid) === 'Z');
  if (fs.readdirSync(`/proc/${pid}/task`).length === 1) throw new Error('All of it has ended');
}
