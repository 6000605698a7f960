// An sshd that Node plays under its name: what the product looks at is the executable, the uids and the sockets.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { until, type World } from './kernel-jobs.js';

/**
 * Node under another name, root's unless `uid` says otherwise, runs `script`, which has `net` and `spawn`, and calls
 * `ready` once it is what it is to be. It lives as long as its world.
 */
export async function playSshd(
  world: World,
  script: string,
  { name = 'sshd-session', uid = 0 }: { readonly name?: string; readonly uid?: number } = {},
): Promise<number> {
  const folder = world.folder();
  fs.chmodSync(folder, 0o777);
  const [file, ready] = [path.join(folder, name), path.join(folder, 'ready')];
  linkOrCopy(process.execPath, file);
  const begin = `const ready = () => require('node:fs').writeFileSync('${ready}', '');
    const net = require('node:net'); const { spawn } = require('node:child_process');`;
  const pid = await world.start(file, ['-e', `${begin} ${script} setTimeout(() => {}, ${world.lifetime}000);`], uid);
  await until(`${name} is ready`, () => fs.existsSync(ready));
  return pid;
}

/** Node is large: where the file system allows it, its new name is a link. */
function linkOrCopy(program: string, file: string): void {
  try {
    fs.linkSync(program, file);
  } catch {
    fs.copyFileSync(program, file);
    fs.chmodSync(file, 0o755);
  }
}
