// The processes of the sessions of an sshd, by the kernel's word.

import fs from 'node:fs';
import type { SshServer } from './ssh-server.js';

export interface Running {
  readonly pid: number;
  readonly ppid: number;
  /** The real one. */
  readonly uid: number;
}

/** Every process of this machine. */
export function everybody(): readonly number[] {
  return fs
    .readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** `undefined`: it has ended, if only its parent knew. */
export function running(pid: number): Running | undefined {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    const [, state, ppid, uid] = /^State:\s(\S)[\s\S]*^PPid:\s(\d+)[\s\S]*^Uid:\s(\d+)/m.exec(status) ?? [];
    return state === 'Z' || state === 'X' ? undefined : { pid, ppid: Number(ppid), uid: Number(uid) };
  } catch {
    return undefined;
  }
}

/** What runs below the sshd that listens. */
export function below(server: Pick<SshServer, 'pid'>): readonly Running[] {
  const all = everybody().flatMap((pid) => running(pid) ?? []);
  const found: Running[] = [];
  for (let above = [server.pid]; above.length > 0; ) {
    const next = all.filter(({ ppid }) => above.includes(ppid));
    found.push(...next);
    above = next.map(({ pid }) => pid);
  }
  return found;
}
