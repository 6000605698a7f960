// What machine this is, for a report, from systeminformation, which is loaded only here. It runs programs through a shell,
// so PATH is the system's meanwhile, and there is a deadline. Its osInfo() is not used: it runs `hostname -f` and blocks
// the whole program while a name server is silent.

import process from 'node:process';
import { ifReadable } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';

/** Nothing in it names a single machine: no serial number, no address. */
export interface Machine {
  readonly model: string;
  readonly distribution: string;
  readonly kernel: string;
  readonly processor: string;
  readonly cpus: number;
  readonly memoryBytes: number;
}

/** `undefined`: there was no answer in time. */
export async function readMachine(host: Host, timeoutMs = 4000): Promise<Machine | undefined> {
  const over = new AbortController();
  const late = host.sleep(timeoutMs, over.signal).then(() => undefined);
  late.catch(() => {}); // stopped below
  try {
    return await Promise.race([ask(host), late]);
  } finally {
    over.abort();
  }
}

async function ask(host: Host): Promise<Machine | undefined> {
  const path = process.env['PATH'];
  process.env['PATH'] = '/usr/sbin:/usr/bin:/sbin:/bin';
  try {
    const { default: si } = await import('systeminformation');
    const [system, cpu, memory] = await Promise.all([si.system(), si.cpu(), si.mem()]);
    return {
      model: words(system.manufacturer, system.model),
      distribution: words(/^PRETTY_NAME="?([^"\n]*)/m.exec(textOf(host, '/etc/os-release'))?.[1]),
      kernel: words('Linux', textOf(host, '/proc/sys/kernel/osrelease')),
      processor: words(cpu.manufacturer, cpu.brand),
      cpus: cpu.cores,
      memoryBytes: memory.total,
    };
  } catch {
    return undefined; // an error of the package, or it is not installed: a report without these facts is still one
  } finally {
    if (path === undefined) delete process.env['PATH'];
    else process.env['PATH'] = path;
  }
}

function textOf(host: Host, file: string): string {
  return ifReadable(() => host.read(file)) ?? '';
}

function words(...parts: readonly unknown[]): string {
  const texts = parts.filter((part) => typeof part === 'string').map((part) => part.trim());
  return texts.filter((part) => part !== '').join(' ') || 'unknown';
}

/** One line for people: `Dell Inc. PowerEdge R750, AMD EPYC 9654, 192 CPUs, 768 GiB, Debian GNU/Linux 13, Linux 6.12.5`. */
export function machineLine({ model, processor, cpus, memoryBytes, distribution, kernel }: Machine): string {
  const gib = memoryBytes / 2 ** 30;
  const size = `${gib < 10 ? gib.toFixed(1) : Math.round(gib)} GiB`;
  return [model, processor, `${cpus} CPU${cpus === 1 ? '' : 's'}`, size, distribution, kernel].join(', ');
}

/** As it was recorded. */
export function parseMachine(text: string): Machine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined; // the recording was edited
  }
  return isMachine(value) ? value : undefined;
}

function isMachine(value: unknown): value is Machine {
  const has = (key: string, type: string) =>
    typeof value === 'object' && value !== null && typeof Reflect.get(value, key) === type;
  return (
    ['model', 'distribution', 'kernel', 'processor'].every((key) => has(key, 'string')) &&
    ['cpus', 'memoryBytes'].every((key) => has(key, 'number'))
  );
}
