// What the slurmd of this node was started with: only its own command line and environment say which
// configuration it reads. Both can block (they take the target's memory lock), so a child reads them.

import { parseProcStat, rootsProcessesCalled } from '../../cgroup/process.js';
import { defined } from '../../machine/defined.js';
import { ConfigError, hasCode, isGone, quote } from '../../machine/errors.js';
import type { ConfigFiles } from '../../machine/guarded-files.js';
import type { Host } from '../../machine/host.js';

/** A running slurmd. */
export interface SlurmdProcess {
  readonly pid: number;
  /** `-N` of its command line. */
  readonly nodeName?: string;
  /** The file it was told to read. Absent: it looked for itself. */
  readonly file?: string;
  /** What told it so, for people. */
  readonly toldBy?: string;
  /** It has its configuration from slurmctld (`--conf-server`), whatever lies in /etc/slurm. */
  readonly configless: boolean;
}

export interface FoundSlurmds {
  readonly slurmds: readonly SlurmdProcess[];
  readonly notes: readonly string[];
}

/**
 * The name of the program that a process runs, by its executable: `/usr/sbin/slurmstepd-wlm` → `slurmstepd` (Debian's
 * alternatives; measured, all four releases), `/usr/sbin/sshd` → `sshd`. An update leaves ` (deleted)` behind it.
 */
export function programName(executable: string): string {
  const file = executable.replace(/ \(deleted\)$/, '');
  const name = file.slice(file.lastIndexOf('/') + 1);
  return /^(slurmd|slurmstepd)-[\w.+-]+$/.exec(name)?.[1] ?? name;
}

/**
 * The slurmd processes of this machine. A name proves nothing: it is one with all four uids 0 whose executable
 * is root's and called slurmd.
 *
 * @throws ConfigError where one of them does not tell in time.
 */
export async function findSlurmds(host: Host, files: ConfigFiles): Promise<FoundSlurmds> {
  if (host.source === 'recording') {
    return {
      slurmds: [],
      notes: ['What slurmd was started with is not known: a recording leaves command lines and environments out'],
    };
  }
  const slurmds: SlurmdProcess[] = [];
  const notes: string[] = [];
  for (const pid of rootsProcessesCalled(host, 'slurmd')) {
    try {
      if (programName(host.readlink(`/proc/${pid}/exe`)) !== 'slurmd' || !(await runsRootsFile(files, pid))) continue;
      // The paths it names are those of its own mounts.
      if (host.readlink(`/proc/${pid}/ns/pid`) !== host.readlink('/proc/self/ns/pid')) {
        notes.push(`Process ${pid} is a slurmd in a container: what it reads is not this node's configuration`);
        continue;
      }
      const { startTime } = parseProcStat(host.read(`/proc/${pid}/stat`));
      const [commandLine, environment] = await Promise.all([
        runFor(files, pid, '/bin/cat', ['--', `/proc/${pid}/cmdline`]),
        runFor(files, pid, '/bin/cat', ['--', `/proc/${pid}/environ`]),
      ]);
      // The pid may have become another's in between.
      if (commandLine === '' || parseProcStat(host.read(`/proc/${pid}/stat`)).startTime !== startTime) continue;
      slurmds.push({ pid, ...slurmdWords(commandLine.split('\0').slice(0, -1), environment.split('\0')) });
    } catch (error) {
      if (isGone(error)) continue; // ended meanwhile
      if (!hasCode(error, 'ERR_NOT_PERMITTED')) throw error;
      notes.push(`What slurmd (process ${pid}) was started with is not known: only root may ask`);
    }
  }
  return { slurmds, notes };
}

/** Whether the executable of a process is a file of root's. */
async function runsRootsFile(files: ConfigFiles, pid: number): Promise<boolean> {
  // Through the link itself: that is the file that runs, also when an update has replaced or removed it.
  return (
    (await runFor(files, pid, '/usr/bin/stat', ['-L', '-c', '%u %F', '--', `/proc/${pid}/exe`])) === '0 regular file\n'
  );
}

async function runFor(files: ConfigFiles, pid: number, program: string, args: readonly string[]): Promise<string> {
  const result = await files.run(program, args);
  if (result !== undefined) return result.exitCode === 0 ? result.stdout : '';
  throw new ConfigError(
    `Cannot find out what slurmd (process ${pid}) was started with: it does not answer within ${files.timeoutMs} ms`,
    { pid },
  );
}

/** Long options of slurmd that take a value (Slurm 26.05 src/slurmd/slurmd/slurmd.c). */
const longWithValue = [
  'authinfo',
  'ca-cert-file',
  'conf',
  'conf-server',
  'extra',
  'instance-id',
  'instance-type',
  'parameters',
];
/** Its short ones: `bcCd:Df:F::GhL:Mn:N:svVZ`. The value of -F can only be attached. */
const shortWithValue = 'dfLnN';

/**
 * What arguments and environment tell slurmd, by its own order: --conf-server, then -f, then SLURM_CONF.
 * SLURMD_RECONF_CONF_CACHE is what a configless slurmd hands to the one that replaces it on reconfigure.
 */
export function slurmdWords(args: readonly string[], environment: readonly string[]): Omit<SlurmdProcess, 'pid'> {
  let file: string | undefined;
  let nodeName: string | undefined;
  let configless = false;
  for (let at = 1; at < args.length; at++) {
    const arg = args[at] ?? '';
    if (arg === '--') break;
    if (arg.startsWith('--')) {
      const name = arg.slice(2).replace(/=.*$/s, '');
      const option = longWithValue.includes(name)
        ? name
        : onlyOne(longWithValue.filter((long) => long.startsWith(name)));
      if (option !== undefined && !arg.includes('=')) at++;
      if (option === 'conf-server') configless = true;
    } else if (arg.startsWith('-')) {
      for (let index = 1; index < arg.length; index++) {
        const letter = arg.charAt(index);
        if (letter === 'F') break;
        if (!shortWithValue.includes(letter)) continue;
        const value = index + 1 < arg.length ? arg.slice(index + 1) : args[++at];
        if (letter === 'f') file = value;
        if (letter === 'N') nodeName = value;
        break;
      }
    }
  }
  const variable = (name: string) => {
    const entry = environment.find((one) => one.startsWith(`${name}=`));
    return entry?.slice(name.length + 1);
  };
  const node = defined({ nodeName });
  const cache = variable('SLURMD_RECONF_CONF_CACHE');
  if (cache !== undefined)
    return { ...node, file: `${cache}/slurm.conf`, toldBy: 'the configuration cache of slurmd', configless: true };
  if (configless || variable('SLURM_CONF_SERVER') !== undefined) return { ...node, configless: true };
  if (file !== undefined) return { ...node, file, toldBy: 'slurmd -f', configless: false };
  const told = variable('SLURM_CONF');
  return told === undefined
    ? { ...node, configless: false }
    : { ...node, file: told, toldBy: 'SLURM_CONF of slurmd', configless: false };
}

/** getopt_long(3) takes a shortened name that fits one option only. */
function onlyOne(names: readonly string[]): string | undefined {
  return names.length === 1 ? names[0] : undefined;
}

/** Several slurmds run that read different files, and nothing says which is this node's. */
export class SeveralSlurmds extends ConfigError {
  /** The nodes that they were started for; `undefined`: one was started without a name. */
  readonly nodeNames: readonly string[] | undefined;

  constructor(message: string, slurmds: readonly SlurmdProcess[]) {
    super(message);
    const names = slurmds.flatMap(({ nodeName }) => nodeName ?? []);
    this.nodeNames = names.length === slurmds.length ? names : undefined;
  }
}

/**
 * The slurmd of a node among those of this machine (multiple-slurmd builds start it with `-N`).
 *
 * @throws SeveralSlurmds where several read different files and no name says which is this node's.
 */
export function slurmdOf(slurmds: readonly SlurmdProcess[], nodeName: string | undefined): SlurmdProcess | undefined {
  const named = slurmds.filter((one) => nodeName !== undefined && one.nodeName === nodeName);
  const [first, ...others] = named.length > 0 ? named : slurmds;
  const differs = others.find((other) => other.file !== first?.file || other.configless !== first?.configless);
  if (first === undefined || differs === undefined) return first;
  const both = `slurmd ${first.pid} reads ${readBy(first)}, slurmd ${differs.pid} ${readBy(differs)}`;
  throw new SeveralSlurmds(
    `Cannot tell which configuration is this node's: ${both}; name the node or the file`,
    slurmds,
  );
}

function readBy(slurmd: SlurmdProcess): string {
  if (slurmd.file !== undefined) return quote(slurmd.file);
  return slurmd.configless ? "slurmctld's" : 'the default file';
}
