// What the keys of slurm.conf and cgroup.conf mean, as far as it matters here.

import { ConfigError, quote } from '../../machine/errors.js';
import type { LoadedConfig, Setting } from './includes.js';
import type { NodeEntry } from './node-names.js';
import type { SourceLine } from './place.js';
import type { SlurmdProcess } from './slurmd.js';

/** What is set in the configuration; a field that is absent or undefined is not set, and Slurm's default holds. */
export interface SlurmConfiguration {
  /** The slurm.conf that was read. Absent: whether there is one is not known, and the notes say why. */
  readonly file?: string | undefined;
  /** What led to it: `option`, `slurmd -f`, `SLURM_CONF of slurmd`, `default`, `configless` … */
  readonly foundBy?: string | undefined;
  /** The cgroup.conf beside it, if there is one. */
  readonly cgroupFile?: string | undefined;
  /** All files that were read, included ones too: what to watch. */
  readonly files: readonly string[];
  /** The slurmd that reads it, where it was looked for and found. */
  readonly slurmd?: SlurmdProcess | undefined;
  /** NodeNames that slurmds were started with (`-N`); only where each of them says its own. */
  readonly slurmdNames?: readonly string[] | undefined;
  readonly clusterName?: string | undefined;
  /** Name or number. Not set: root. */
  readonly slurmUser?: string | undefined;
  /** Name or number. Not set: root. */
  readonly slurmdUser?: string | undefined;
  /** As it is written, see expandSlurmdPath. Not set: /var/spool/slurmd. */
  readonly slurmdSpoolDir?: string | undefined;
  /** In lower case: `contain`; `x11` and `runinjob` mean it too. */
  readonly prologFlags?: readonly string[] | undefined;
  readonly proctrackType?: string | undefined;
  readonly taskPlugin?: readonly string[] | undefined;
  readonly jobAcctGatherType?: string | undefined;
  /** Up to 25.05; later releases take it for NamespaceType. Not set: none. */
  readonly jobContainerType?: string | undefined;
  /** 25.11 on. Not set: none. */
  readonly namespaceType?: string | undefined;
  readonly launchParameters?: readonly string[] | undefined;
  readonly nodes: readonly NodeEntry[];
  /** Without a slash at its end. Not set: /sys/fs/cgroup. */
  readonly cgroupMountpoint?: string | undefined;
  readonly cgroupPlugin?: string | undefined;
  readonly cgroupPrepend?: string | undefined;
  readonly cgroupSlice?: string | undefined;
  readonly cgroupJobIdPaths?: boolean | undefined;
  readonly ignoreSystemd?: boolean | undefined;
  readonly constrainCores?: boolean | undefined;
  readonly constrainRamSpace?: boolean | undefined;
  readonly constrainSwapSpace?: boolean | undefined;
  readonly constrainDevices?: boolean | undefined;
  /** File and line of each field that is set, by the field's name. */
  readonly places: ReadonlyMap<string, SourceLine>;
  /** What was not read, or not as Slurm would, for people. */
  readonly notes: readonly string[];
}

/** The keys of both files that are read, in lower case: a recording keeps no others. */
export const readKeys: ReadonlySet<string> = new Set([
  'cgroupjobidpaths',
  'cgroupmountpoint',
  'cgroupplugin',
  'cgroupprepend',
  'cgroupslice',
  'clustername',
  'constraincores',
  'constraindevices',
  'constrainramspace',
  'constrainswapspace',
  'ignoresystemd',
  'jobacctgathertype',
  'jobcontainertype',
  'launchparameters',
  'namespacetype',
  'nodename',
  'proctracktype',
  'prologflags',
  'slurmdspooldir',
  'slurmduser',
  'slurmuser',
  'taskplugin',
]);

/** The plugin that gives jobs namespaces of their own; `undefined`: none does. */
export function namespacePlugin({
  namespaceType,
  jobContainerType,
}: Pick<SlurmConfiguration, 'namespaceType' | 'jobContainerType'>): string | undefined {
  const plugin = namespaceType ?? jobContainerType;
  return plugin === undefined || /(?:^|\/)none$/.test(plugin) ? undefined : plugin;
}

/** Those of PrologFlags with which slurmd starts an extern step on each node of a job (RunInJob: 24.05 on). */
export function externStepFlags(flags: readonly string[] | undefined): readonly string[] {
  return flags?.filter((flag) => ['contain', 'x11', 'runinjob'].includes(flag)) ?? [];
}

/**
 * The settings as values.
 *
 * @throws ConfigError with file and line of a value that Slurm would not take, or that is no text.
 */
export function settingsOf(slurm: LoadedConfig, cgroup: LoadedConfig | undefined): Omit<SlurmConfiguration, 'notes'> {
  const places = new Map<string, SourceLine>();
  const from = (config: LoadedConfig | undefined) => {
    const find = <T>(field: string, meaning: (setting: Setting) => T): T | undefined => {
      const setting = config?.settings.get(field.toLowerCase());
      if (setting === undefined) return undefined;
      places.set(field, setting.place);
      return meaning(setting);
    };
    return {
      text: (field: string) => find(field, checkedText),
      path: (field: string) => find(field, absolutePath),
      inside: (field: string) => find(field, pathInside),
      list: (field: string) =>
        find(field, (setting) =>
          checkedText(setting)
            .split(',')
            .map((word) => word.trim())
            .filter((word) => word !== ''),
        ),
      yes: (field: string) => find(field, yesOrNo(field)),
    };
  };
  const [s, c] = [from(slurm), from(cgroup)];
  return {
    cgroupFile: cgroup?.files[0],
    files: [...slurm.files, ...(cgroup?.files ?? [])],
    clusterName: s.text('clusterName'),
    slurmUser: s.text('slurmUser'),
    slurmdUser: s.text('slurmdUser'),
    slurmdSpoolDir: s.path('slurmdSpoolDir'),
    prologFlags: s.list('prologFlags')?.map((flag) => flag.toLowerCase()),
    proctrackType: s.text('proctrackType'),
    taskPlugin: s.list('taskPlugin')?.map(withPrefix('task/')),
    jobAcctGatherType: s.text('jobAcctGatherType'),
    jobContainerType: s.text('jobContainerType'),
    namespaceType: s.text('namespaceType'),
    launchParameters: s.list('launchParameters'),
    nodes: slurm.nodes,
    cgroupMountpoint: c.path('cgroupMountpoint'),
    cgroupPlugin: c.text('cgroupPlugin'),
    cgroupPrepend: c.inside('cgroupPrepend'),
    cgroupSlice: c.inside('cgroupSlice'),
    cgroupJobIdPaths: c.yes('cgroupJobIdPaths'),
    ignoreSystemd: c.yes('ignoreSystemd'),
    constrainCores: c.yes('constrainCores'),
    constrainRamSpace: c.yes('constrainRamSpace'),
    constrainSwapSpace: c.yes('constrainSwapSpace'),
    constrainDevices: c.yes('constrainDevices'),
    places,
  };
}

/** slurm.conf(5): the prefix is optional here (src/interfaces/task.c takes it off, then puts it on). */
function withPrefix(prefix: string): (name: string) => string {
  return (name) => (name.startsWith(prefix) ? name : `${prefix}${name}`);
}

/** These become names and paths: bytes that are no text have no place in them. */
function checkedText({ value, place }: Setting): string {
  if (!/[\p{Cc}\p{Cs}]/u.test(value)) return value;
  throw wrongValue(place, `${quote(value)} holds characters that are not text`);
}

function absolutePath(setting: Setting): string {
  const value = checkedText(setting);
  if (!value.startsWith('/')) throw wrongValue(setting.place, `${quote(value)} is no absolute path`);
  return value.length > 1 && value.endsWith('/') ? value.slice(0, -1) : value;
}

/** Part of a path, which must not lead out of where it is put. */
function pathInside(setting: Setting): string {
  const value = checkedText(setting);
  if (!value.split('/').includes('..')) return value;
  throw wrongValue(setting.place, `${quote(value)} leads upwards`);
}

/** s_p_handle_boolean of src/common/parse_value.c; slurmd does not start with any other word. */
function yesOrNo(field: string): (setting: Setting) => boolean {
  return ({ value, place }) => {
    if (/^(?:yes|up|true|1)$/i.test(value)) return true;
    if (/^(?:no|down|false|0)$/i.test(value)) return false;
    throw wrongValue(place, `${quote(value)} for ${field} is neither yes nor no`);
  };
}

function wrongValue({ file, line }: SourceLine, why: string): ConfigError {
  return new ConfigError(`Cannot use ${quote(file)}, line ${line}: ${why}`, { path: file, line });
}
