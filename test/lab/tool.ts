// Programs of the host that the lab uses (mmdebstrap, apt-get, cpio, qemu): each is our child, ends with us on
// every path, and is ended by its pid.

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';

export interface ToolOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Buffer;
  readonly timeoutMs?: number;
}

/** Children that have not ended yet: an exit of this process takes them along. */
const running = new Set<ChildProcess>();

/**
 * Starts a program that cannot outlive us: at an exit it is killed here; if we are killed, the kernel kills it
 * (PR_SET_PDEATHSIG, by setpriv, which then becomes the program: same pid).
 */
export function startTool(file: string, args: readonly string[], options: ToolOptions = {}): ChildProcess {
  const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', '--', file, ...args], {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      LC_ALL: 'C.UTF-8',
      DEBIAN_FRONTEND: 'noninteractive',
      ...options.env,
    },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  if (running.size === 0) watchOurEnd();
  running.add(child);
  child.once('close', () => {
    running.delete(child);
    if (running.size === 0) unwatchOurEnd();
  });
  if (options.input !== undefined) child.stdin?.on('error', () => {}).end(options.input); // it may end without reading
  return child;
}

function endAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** Where others listen to a signal, they decide what it means; else it means what it always does. */
function endAllAndOurselves(signal: NodeJS.Signals): void {
  endAll();
  unwatchOurEnd();
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
}

const endings: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

function watchOurEnd(): void {
  process.on('exit', endAll);
  for (const signal of endings) process.on(signal, endAllAndOurselves);
}

function unwatchOurEnd(): void {
  process.off('exit', endAll);
  for (const signal of endings) process.off(signal, endAllAndOurselves);
}

/** Runs a program to its end and gives its output. */
export async function runTool(file: string, args: readonly string[], options: ToolOptions = {}): Promise<Buffer> {
  const child = startTool(file, args, options);
  const output: Buffer[] = [];
  const complaints: Buffer[] = [];
  child.stdout?.on('data', (part: Buffer) => output.push(part));
  child.stderr?.on('data', (part: Buffer) => complaints.push(part));
  const timeoutMs = options.timeoutMs ?? 600_000;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  try {
    const ended = await new Promise<string | undefined>((fulfil, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => fulfil(code === 0 ? undefined : (signal ?? `exit code ${code}`)));
    });
    if (ended === undefined) return Buffer.concat(output);
    const why = late ? `no end within ${timeoutMs} ms` : ended;
    throw new Error(
      `Cannot run ${[file, ...args].join(' ')}: ${why}\n${lastLines(Buffer.concat(complaints).toString(), 20)}`,
    );
  } finally {
    clearTimeout(timer);
  }
}

export function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}

/** Debian's packages that the lab uses on the host, each known by a file of its own. */
const hostPackages: Readonly<Record<string, string>> = {
  mmdebstrap: '/usr/bin/mmdebstrap',
  'qemu-system-x86': '/usr/bin/qemu-system-x86_64',
  'busybox-static': '/usr/share/doc/busybox-static',
  cpio: '/usr/bin/cpio',
  zstd: '/usr/bin/zstd',
  'xz-utils': '/usr/bin/xz',
};

/**
 * Installs what is missing.
 *
 * @throws Error that says what this machine lacks.
 */
export async function ensureHostPackages(say: (text: string) => void): Promise<void> {
  if (process.arch !== 'x64')
    throw new Error(`The guests are x86-64 machines with this one's node, which is of ${process.arch}`);
  const missing = Object.keys(hostPackages).filter((name) => !fs.existsSync(hostPackages[name] ?? ''));
  const install = `apt-get install --no-install-recommends ${missing.join(' ')}`;
  if (process.geteuid?.() !== 0)
    throw new Error(
      `The guests need root: their file systems hold files of root's${missing.length === 0 ? '' : `. Missing, too: ${install}`}`,
    );
  if (missing.length === 0) return;
  if (!fs.existsSync('/usr/bin/apt-get'))
    throw new Error(`The guests are made on Debian; missing here: ${missing.join(', ')}`);
  say(`${install} …`);
  await runTool('/usr/bin/apt-get', ['update', '-qq']);
  await runTool('/usr/bin/apt-get', [
    'install',
    '-y',
    '-qq',
    '-o',
    'DPkg::Lock::Timeout=300',
    '--no-install-recommends',
    ...missing,
  ]);
}
