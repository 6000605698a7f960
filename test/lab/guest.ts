// A machine for one command: it boots in some seconds, has kernel and cgroups as asked, sees a copy of this
// repository, and is gone with everything in it when the command ends, at its deadline, or when we end. The place
// for what could hurt a machine. Software emulation (times in it mean nothing): KVM need not be there.

import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { kept, labFolder, removeAbandoned, removeTree, startTimeOf } from './cache.js';
import { type Boot, type KernelName, keptKernel } from './kernel.js';
import { keptRoot, type RootName } from './root.js';
import { ensureHostPackages, lastLines, startTool } from './tool.js';

export interface GuestOptions {
  /** Default: 6.1, which has all of v1 and v2. */
  readonly kernel?: KernelName;
  /** Default: bookworm, without Slurm. */
  readonly root?: RootName;
  /** Default: the command as init's only child, and no more. `systemd`: as a service of a real systemd, which mounts v2. */
  readonly boot?: 'bare' | 'systemd';
  readonly cgroup: 'v1' | 'v2' | 'hybrid';
  /** Runs as root in /repository (this repository; what is written there is forgotten). */
  readonly command: readonly string[];
  /** From the start of the machine to its end. */
  readonly timeoutMs: number;
  /** Files for /lab/in. */
  readonly files?: Readonly<Record<string, string | Buffer>>;
  /** Files of the repository that have another text there. */
  readonly replacing?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  /** Kernel settings made before the command starts: `{ 'kernel.pid_max': 500 }`. */
  readonly sysctl?: Readonly<Record<string, string | number>>;
  readonly memoryMiB?: number;
  readonly cpus?: number;
}

export interface GuestResult {
  readonly exitCode: number;
  /** What the command wrote to stdout and stderr. */
  readonly output: string;
  /** What it left in /lab/out, by path below it. */
  readonly files: Readonly<Record<string, string>>;
  readonly seconds: number;
}

/** The guest gave no exit code: it was ended at its deadline, or its kernel died. */
export class GuestError extends Error {
  readonly output: string;
  readonly files: Readonly<Record<string, string>>;

  constructor(message: string, had: { readonly output: string; readonly files: Readonly<Record<string, string>> }) {
    super(message);
    this.name = 'GuestError';
    this.output = had.output;
    this.files = had.files;
  }
}

interface Lab extends Boot {
  readonly root: string;
  readonly node: string;
}

const repository = path.resolve(import.meta.dirname, '../..');

const bareRoot: RootName = { suite: 'bookworm', slurm: false };

/** A folder for each guest that runs, named after the process that started it. */
export function runsFolder(): string {
  return path.join(labFolder(), 'runs');
}

/** Makes what is missing: packages of the host, root, kernel. About a minute the first time, then nothing. */
export async function prepareLab(
  { kernel = '6.1', root: name = bareRoot }: Pick<GuestOptions, 'kernel' | 'root'> = {},
  say: (text: string) => void = () => {},
): Promise<Lab> {
  await ensureHostPackages(say);
  const root = await keptRoot(name, say);
  const node = await kept({
    name: `node-${process.version}`,
    ingredients: [process.version, String(fs.statSync(process.execPath).size)],
    make: async (folder) => fs.copyFileSync(process.execPath, path.join(folder, 'node')),
  });
  return { ...(await keptKernel(kernel, say)), root, node };
}

/**
 * Runs one command in a guest of its own.
 *
 * @throws GuestError when there is no exit code; its message has the last lines of what was printed.
 */
export async function runInGuest(options: GuestOptions): Promise<GuestResult> {
  const lab = await prepareLab(options);
  const runs = runsFolder();
  fs.mkdirSync(runs, { recursive: true });
  removeAbandoned(runs);
  const share = path.join(runs, `.run-${process.pid}-${startTimeOf(process.pid)}-${randomBytes(4).toString('hex')}`);
  try {
    for (const folder of ['lab/in', 'lab/out']) fs.mkdirSync(path.join(share, folder), { recursive: true });
    copyRepository(path.join(share, 'repository'));
    for (const [name, text] of Object.entries(options.replacing ?? {}))
      fs.writeFileSync(path.join(share, 'repository', name), text);
    for (const [name, text] of Object.entries(options.files ?? {}))
      fs.writeFileSync(path.join(share, 'lab/in', name), text);
    fs.writeFileSync(path.join(share, 'lab/in/start'), startScript(options));
    return await boot(lab, share, options);
  } finally {
    removeTree(share);
  }
}

/** As it is now: a file that is edited or built anew meanwhile would be seen half old, half new. */
function copyRepository(to: string): void {
  const left = ['node_modules', '.git'].map((name) => path.join(repository, name));
  fs.cpSync(repository, to, { recursive: true, filter: (file) => !left.includes(file) });
  fs.mkdirSync(path.join(to, 'node_modules'));
}

async function boot(lab: Lab, share: string, options: GuestOptions): Promise<GuestResult> {
  const begin = performance.now();
  const guest = startTool('/usr/bin/qemu-system-x86_64', machine(lab, share, options));
  let console = '';
  const hear = (part: string) => {
    console += part;
  };
  guest.stdout?.setEncoding('utf8').on('data', hear);
  guest.stderr?.setEncoding('utf8').on('data', hear);
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    guest.kill('SIGKILL');
  }, options.timeoutMs);
  try {
    await new Promise<void>((fulfil, reject) => {
      guest.once('error', reject);
      guest.once('close', () => fulfil());
    });
  } finally {
    clearTimeout(timer);
  }
  const seconds = (performance.now() - begin) / 1000;
  const read = (name: string) => {
    const file = path.join(share, 'lab', name);
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : undefined;
  };
  const output = read('output') ?? '';
  const exitCode = read('exit');
  const files = filesIn(path.join(share, 'lab/out'));
  if (exitCode !== undefined) return { exitCode: Number(exitCode), output, files, seconds };
  // What a dying kernel says first is farther up than the last lines: its registers and its stack come after.
  const panic = /Kernel panic[^\r\n]*/.exec(console)?.[0];
  const died = `its machine ended before it${panic === undefined ? '' : ` (${panic})`}`;
  const why = late ? `it did not end within ${options.timeoutMs} ms` : died;
  const printed = `--- output\n${lastLines(output, 40)}\n--- console\n${lastLines(console, 40)}`;
  throw new GuestError(`Cannot run ${options.command.join(' ')} in a guest: ${why}\n${printed}`, { output, files });
}

function machine(
  lab: Lab,
  share: string,
  { cgroup, boot = 'bare', memoryMiB = 3072, cpus = 2 }: GuestOptions,
): readonly string[] {
  const folder = (tag: string, where: string, readOnly: boolean) => [
    '-virtfs',
    `local,path=${where.replaceAll(',', ',,')},mount_tag=${tag},security_model=none,multidevs=remap${readOnly ? ',readonly=on' : ''}`,
  ];
  return [
    // Its processors take turns in one thread: of two machines on two processors each is then faster by half than where
    // four threads wait for each other's locks (measured: two cells of the matrix in 196 s, else in 337).
    ...['-accel', 'tcg,thread=single', '-cpu', 'max', '-smp', String(cpus), '-m', String(memoryMiB)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', lab.kernel, '-initrd', lab.initramfs],
    // no_timer_check: a busy host is late with the ticks by which a kernel tries its timer ("IO-APIC + timer doesn't work").
    ...[
      '-append',
      `console=ttyS0 quiet panic=-1 no_timer_check mitigations=off audit=0 systemd.show_status=false TERM=dumb boot=${boot} cgroup=${cgroup} ${boot === 'systemd' && cgroup !== 'v2' ? 'systemd.unified_cgroup_hierarchy=0 ' : ''}`,
    ],
    ...folder('root', lab.root, true),
    ...folder('repository', path.join(share, 'repository'), true),
    ...folder('modules', path.join(repository, 'node_modules'), true),
    ...folder('node', lab.node, true),
    ...folder('lab', path.join(share, 'lab'), false),
  ];
}

/**
 * The guest's pid 1 after init.sh: a shell that reaps what the command leaves, and turns the machine off by the
 * kernel's own means, which no hanging mount can delay (`sync` and `umount` could).
 */
function startScript({ command, env = {}, sysctl = {} }: GuestOptions): string {
  const exported = {
    PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    LC_ALL: 'C.UTF-8',
    TERM: 'dumb',
    NO_COLOR: '1',
    ...env,
  };
  return [
    ...Object.entries(exported).map(([name, value]) => `export ${name}=${quoted(value)}`),
    ...Object.entries(sysctl).map(
      ([name, value]) => `echo ${quoted(String(value))} >/proc/sys/${name.replaceAll('.', '/')}`,
    ),
    'cd /repository',
    `( ${command.map(quoted).join(' ')} ) </dev/null >/lab/output 2>&1`,
    'echo $? >/lab/exit.new && mv /lab/exit.new /lab/exit',
    'echo o >/proc/sysrq-trigger',
    'while :; do sleep 1; done',
    '',
  ].join('\n');
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function filesIn(folder: string): Readonly<Record<string, string>> {
  const found = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    found.map((entry) => {
      const file = path.join(entry.parentPath, entry.name);
      return [path.relative(folder, file), fs.readFileSync(file, 'utf8')];
    }),
  );
}
