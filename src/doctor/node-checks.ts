// Checks of the node: its cgroup hierarchies, Slurm's trees in them, slurmd, its configuration and its spool.

import type { Hierarchies } from '../cgroup/hierarchies.js';
import type { SlurmConfiguration } from '../jobs/config/read.js';
import { mountpointElsewhere, type SlurmNode } from '../jobs/node.js';
import { whyStrange } from '../jobs/stepd/sockets.js';
import { trustedOwners } from '../jobs/stepd/trusted-users.js';
import { unplacedNote, unplacedOnNode } from '../jobs/stepd/unplaced.js';
import { someOf } from '../machine/errors.js';
import type { Host } from '../machine/host.js';
import { type Check, check, type Finding, fail, ok, unknown, warn } from './check.js';
import { configChecks } from './config-checks.js';
import { daemonsNamed, hasAnswer } from './daemons.js';
import { etcFiles } from './etc-files.js';

/** What is known of the node beforehand. */
export interface NodeChecksOptions {
  /** Only part of a tree is examined, without configuration (`within` of readNode). */
  readonly isPart: boolean;
  /** Why the configuration could not be read, where it could not: then `node` was read without it. */
  readonly unread?: Finding;
}

export async function nodeChecks(node: SlurmNode, { isPart, unread }: NodeChecksOptions): Promise<readonly Check[]> {
  const { configuration } = node;
  const general = [
    check('cgroups', () => hierarchies(node)),
    check('layout', () => layout(node)),
    ...(isPart ? [] : [check('slurmd', () => slurmd(node))]),
    ...(isPart ? [] : [check('configuration', () => unread ?? found(node))]),
    ...(isPart || configuration?.file === undefined
      ? []
      : [
          ...configChecks.map(([name, find]) => check(name, () => find(configuration))),
          check('CgroupPlugin', () => cgroupPlugin(configuration, node.hierarchies)),
        ]),
    check('node name', () => nodeName(node)),
    ...(isPart ? [] : [check('spool', () => spool(node))]),
  ];
  return Promise.all(general);
}

function hierarchies({ configuration, hierarchies: found }: SlurmNode): Finding {
  const { mode, all } = found;
  const named = all.map(({ key, version }) => (version === 2 ? 'v2' : key));
  const readOnly = all.filter((one) => one.readOnly).map(({ mountPoint }) => mountPoint);
  if (readOnly.length > 0)
    return fail(
      `${someOf(readOnly)} ${readOnly.length === 1 ? 'is' : 'are'} mounted read-only: no process can be moved into a job`,
      'run it on the node, not in a container; on the node itself, remount them read-write',
    );
  if (
    mode !== 'unified' &&
    !named.includes('freezer') &&
    all.every(({ controllers }) => !controllers.includes('freezer'))
  )
    return warn(
      `${mode}, without the freezer: a job that keeps forking cannot be stopped while it is ended`,
      'mount the freezer hierarchy, or use cgroup v2',
    );
  const elsewhere = mountpointElsewhere(configuration, found);
  if (elsewhere !== undefined)
    return warn(elsewhere, 'remove or correct CgroupMountpoint in cgroup.conf, then restart slurmd');
  return ok(mode === 'unified' ? 'unified: v2' : `${mode}: ${named.join(' ')}`);
}

function layout(node: SlurmNode): Finding {
  if (node.unreadable.length > 0)
    return unknown(`Slurm's cgroups could not be read: ${someOf(node.unreadable, 1)}`, 'run it as root on the node');
  const foreign = node.notes.find((note) => note.endsWith("it is not Slurm's"));
  if (foreign !== undefined)
    return warn(foreign, 'find out who made it and remove it: Slurm cannot create its own cgroup of that name');
  const tops = [...new Set(node.tops.map(({ version, path }) => `v${version} ${path}`))];
  const unplaced = unplacedNote(unplacedOnNode(node));
  if (unplaced !== undefined)
    return fail(
      `${unplaced}${tops.length === 0 ? '' : ` below ${someOf(tops)}`}: sessions cannot be put into ${tops.length === 0 ? 'jobs' : 'them'}`,
      'compare cat /proc/PID/cgroup of a process of the job with CgroupSlice and CgroupPrepend in cgroup.conf; name another place with --within',
    );
  return ok(tops.length === 0 ? 'no cgroup of Slurm yet: no job has run here since the boot' : someOf(tops));
}

function slurmd({ host }: SlurmNode): Finding {
  // doctor reads this file on every node: a recording without it holds only some processes.
  const isWhole = hasAnswer(host, '/proc/stat');
  const running = daemonsNamed(host, 'slurmd');
  const stopped = running.find((one) => one.stopped);
  if (stopped !== undefined)
    return fail(
      `process ${stopped.pid} is stopped (SIGSTOP or a debugger): no job can start or end here, and it answers no question`,
      `kill -CONT ${stopped.pid}, and find out what stopped it`,
    );
  if (running.length > 0) return ok('running');
  if (host.self().uid !== 0) return unknown('this user cannot see it', 'run it as root');
  if (!isWhole) return unknown('the recording holds only some processes', 'run it on the node itself');
  return fail(
    'not running: no job can start here, and other nodes get no answer about connections from here (caller ID)',
    'systemctl start slurmd; the reason it stopped is in journalctl -u slurmd',
  );
}

/** Ways to find a slurm.conf that need no mention. */
const usual: ReadonlySet<string | undefined> = new Set([undefined, 'default', 'option']);

/** What libslurm reads unless it is told otherwise: pam_slurm_adopt, and the commands of users. */
const defaultFile = '/etc/slurm/slurm.conf';

async function found({ host, configuration }: SlurmNode): Promise<Finding> {
  const [first, ...more] = configuration?.notes ?? [];
  const notes = first === undefined ? '' : `: ${first}${more.length === 0 ? '' : ` (and ${more.length} more notes)`}`;
  if (configuration?.file === undefined)
    return unknown(
      `no slurm.conf was read${notes === '' ? ': Slurm looks in the usual places, and there is none' : notes}; Slurm's defaults are assumed`,
      'run it as root while slurmd is running, which names its own configuration',
    );
  const files = [configuration.file, ...(configuration.cgroupFile === undefined ? [] : [configuration.cgroupFile])];
  const by = usual.has(configuration.foundBy) ? '' : ` (${configuration.foundBy})`;
  if (configuration.cgroupFile === undefined)
    return warn(
      `${files.join(', ')}${by}, without a cgroup.conf beside it${notes}: no limit is enforced`,
      'write a cgroup.conf with ConstrainCores=yes, ConstrainRAMSpace=yes and ConstrainDevices=yes',
    );
  const told = configuration.notes.filter((note) => !/recording/.test(note));
  if (told.length > 0)
    return warn(
      `${files.join(', ')}${by}: ${someOf(told, 1)}`,
      'check the line that is named: Slurm may read it differently',
    );
  if (configuration.file !== defaultFile && (await differs(host, configuration.file, defaultFile)))
    return warn(
      `slurmd reads ${configuration.file}${by}, but ${defaultFile}, which pam_slurm_adopt and the Slurm commands read, is another`,
      `make ${defaultFile} a link to ${configuration.file}, or start slurmd with it`,
    );
  return ok(`${files.join(', ')}${by}`);
}

async function differs(host: Host, one: string, other: string): Promise<boolean> {
  const files = etcFiles(host);
  const [text, otherText] = [await files.text(one), await files.text(other)];
  return text !== undefined && otherText !== undefined && text !== otherText;
}

/** autodetect, cgroup/v1, cgroup/v2, disabled (cgroup.conf(5)). */
function cgroupPlugin({ cgroupPlugin: plugin, places }: SlurmConfiguration, { mode, all }: Hierarchies): Finding {
  const place = places.get('cgroupPlugin');
  const where = place === undefined ? '' : ` (${place.file}:${place.line})`;
  if (plugin === undefined || plugin === 'autodetect') return ok(`autodetect: ${mode}`);
  const remedy = 'remove CgroupPlugin from cgroup.conf, then restart slurmd';
  if (plugin === 'disabled') return fail(`disabled${where}: jobs have no cgroups`, remedy);
  const version = plugin === 'cgroup/v1' ? 1 : 2;
  if (version === 2 ? mode === 'unified' : all.some((one) => one.version === 1 && one.controllers.includes('freezer')))
    return ok(`${plugin}${where}`);
  return fail(`${plugin}${where} does not fit this machine, whose cgroups are ${mode}`, remedy);
}

function nodeName({ nodeName: name, tops, spools }: SlurmNode): Finding {
  if (name !== undefined) return ok(name);
  const names = [...new Set([...tops.flatMap((top) => top.nodeName ?? []), ...spools.keys()])];
  if (names.length === 0)
    return unknown('the name of this node is not known', 'give it with --node, as NodeName in slurm.conf has it');
  return warn(`several nodes share this machine: ${someOf(names)}`, 'run it for one at a time with --node');
}

async function spool(node: SlurmNode): Promise<Finding> {
  if (node.spools.size === 0)
    return warn(
      `no spool of slurmd was found${node.configuration?.slurmdSpoolDir === undefined ? '' : ` (SlurmdSpoolDir=${node.configuration.slurmdSpoolDir})`}: slurmstepd is looked for among all listening sockets`,
      'check SlurmdSpoolDir in slurm.conf (it must be on a disk of this node), and that slurmd has run here',
    );
  const trusted = await trustedOwners(node);
  for (const folder of node.spools.values()) {
    const stat = node.host.stat(folder);
    const strange = stat === undefined ? 'it is gone' : whyStrange(stat, trusted);
    if (strange !== undefined)
      return fail(
        `${folder} is not trusted: ${strange}`,
        `let only root write there: chown root ${folder}; chmod go-w ${folder}`,
      );
  }
  return ok([...node.spools.values()].join(', '));
}
