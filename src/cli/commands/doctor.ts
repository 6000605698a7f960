// slurm-cgroups doctor: checks that sessions can be put into jobs on this node, and says what to do if not. It also
// records a node, so that others can examine it.

import { rootPath } from '../../cgroup/path.js';
import { type Check, type CheckOutcome, check, type Finding, ok, unknown, unreadable } from '../../doctor/check.js';
import { etcFiles } from '../../doctor/etc-files.js';
import { externChecks } from '../../doctor/extern-checks.js';
import { loginChecks } from '../../doctor/login-checks.js';
import { nodeChecks } from '../../doctor/node-checks.js';
import { readSshds, sshdRecordingLine } from '../../doctor/running-sshd.js';
import { discoverJobs } from '../../jobs/discovery.js';
import type { OwnedJob } from '../../jobs/job.js';
import { readNode, type SlurmNode } from '../../jobs/node.js';
import { findOwners } from '../../jobs/owners/find.js';
import { ownersAnswer, ownersText } from '../../jobs/owners/recorded.js';
import { defined } from '../../machine/defined.js';
import { ConfigError, hasCode, quote, SlurmCgroupsError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import { liveHost } from '../../machine/live-host.js';
import {
  hostOf,
  logOf,
  nodeOptions,
  patienceMs,
  recordedOptions,
  requireChosen,
  requireSlurm,
  slurmdLine,
} from '../context.js';
import { usageError } from '../exit.js';
import { type CommandSpec, commonFlags, flagValue, fromFlag, type Words } from '../spec.js';
import { count, json, type Output, standardOutput, visible, wrapped } from '../terminal/output.js';
import { usersLine } from '../users.js';

export const doctorSpec: CommandSpec = {
  name: 'doctor',
  summary: 'check that this node can put sessions into jobs, and say what to correct',
  about:
    "Checks cgroups, Slurm's configuration, the extern steps of the jobs here, sshd, PAM and logind; changes nothing " +
    'but the file that --record or --write-node names. ' +
    'Each check that is not ok comes with a remedy. With --record it also writes what it read into a file ' +
    'that list, verify, adopt --dry-run, clean --dry-run, strays and doctor read with --from: it holds the configuration, ' +
    'users and names of processes, but no environments and no command lines. With --write-node it checks nothing: it ' +
    "reads Slurm's configuration once for all logins, into /run/slurm-cgroups/node.json. Logins use it until one of the " +
    'files that it was read from changes. Exit code 0: no check fails. 1: a check fails.',
  operands: [],
  flags: [
    { name: 'brief', description: 'one line, the same on all healthy nodes' },
    { name: 'record', takes: 'FILE', description: 'also write what was read into this file (mode 0600)' },
    { name: 'force', description: 'with --record: replace an existing file' },
    { name: 'write-node', description: 'write what logins need of Slurm on this node, instead of checking it' },
    fromFlag,
    ...commonFlags,
  ],
  examples: [
    ['slurm-cgroups doctor', 'all checks, the worst first'],
    ['clush -ab slurm-cgroups doctor --brief', 'which nodes differ?'],
    ['slurm-cgroups doctor --record node.jsonl', 'for a report; read it with: slurm-cgroups list --from node.jsonl'],
    ['slurm-cgroups doctor --write-node', 'at boot, and after each change of slurm.conf'],
  ],
};

export async function runDoctor(words: Words, output: Output = standardOutput(), live?: Host): Promise<number> {
  const asked = askedFor(words);
  const log = await logOf('doctor', words);
  if (asked.writeNode) return writeNode(words, output, live);
  const lines: string[] = [];
  const source = await hostOf(words, live);
  if (asked.record !== undefined) await (await import('../record/file.js')).checkRecordingFile(asked.record, asked);
  const host = asked.record === undefined ? source : (await import('../record/reads.js')).recorder(source, lines);
  const machine = asked.brief ? undefined : await machineOf(host, lines);
  let found: Examination | undefined;
  try {
    found = await examine(host, words, machine);
  } finally {
    // Also of a node that cannot be examined: the recording shows why.
    if (asked.record !== undefined)
      await writeRecording(asked.record, lines, { host, words, found, force: asked.force });
  }
  const { node, checks } = found;
  for (const one of checks) log(one.outcome === 'fail' ? 'error' : 'debug', `${one.name}: ${one.outcome}`, { ...one });
  const fails = checks.some(({ outcome }) => outcome === 'fail');
  if (words.flags.has('json')) output.print(json({ ok: !fails, node: node.nodeName ?? null, checks }));
  else if (asked.brief) output.print(briefLine(checks, output));
  else output.print(...render(node, checks, output));
  if (asked.record !== undefined && !words.flags.has('json') && !asked.brief)
    output.print(
      '',
      `Recorded ${count(lines.length, 'answer')} of this node in ${visible(asked.record)}; it holds the configuration, users and names of processes: check it before you pass it on.`,
    );
  return fails ? 1 : 0;
}

interface Asked {
  readonly brief: boolean;
  readonly record: string | undefined;
  readonly force: boolean;
  readonly writeNode: boolean;
}

/** @throws SlurmCgroupsError ERR_USAGE */
function askedFor(words: Words): Asked {
  const [brief, force] = [words.flags.has('brief'), words.flags.has('force')];
  const record = flagValue(words, 'record');
  if (brief && words.flags.has('json')) throw usageError('--brief and --json exclude each other');
  if (record !== undefined && words.flags.has('from')) throw usageError('A recorded node cannot be recorded again');
  if (force && record === undefined) throw usageError('--force goes with --record');
  const writeNode = words.flags.has('write-node');
  const other = ['brief', 'record', 'from', 'within'].find((name) => words.flags.has(name));
  if (writeNode && other !== undefined) throw usageError(`--write-node and --${other} exclude each other`);
  return { brief, record, force, writeNode };
}

/**
 * Writes the file of jobs/node-file.ts. Where the configuration cannot be used, an old file goes: it would say less than
 * what is found without it.
 *
 * @throws SlurmCgroupsError ERR_NOT_PERMITTED, ERR_CONFIG, ERR_NOT_SLURM, ERR_NO_CGROUPS, ERR_USAGE
 */
async function writeNode(words: Words, output: Output, live: Host = liveHost()): Promise<number> {
  const { nodeFile: file, removeNodeFile, writeNodeFile } = await import('../../jobs/node-file.js');
  if (live.self().uid !== 0)
    throw new SlurmCgroupsError('ERR_NOT_PERMITTED', `Cannot write ${quote(file)}: only root may`, { path: file });
  try {
    const { nodeName, files } = await writeNodeFile(live, await usableNode(live, words), { timeoutMs: patienceMs });
    const name = nodeName === undefined ? 'several nodes' : `node ${visible(nodeName)}`;
    if (words.flags.has('json'))
      output.print(json({ wrote: file, nodeName: nodeName ?? null, files: [...files.keys()] }));
    else output.print(`Wrote ${file}: ${name}, ${count(files.size, 'configuration file')}`);
    return 0;
  } catch (error) {
    if (!hasCode(error, 'ERR_CONFIG', 'ERR_PARSE')) throw error;
    const removed = removeNodeFile(live) ? `, and the old ${quote(file)} was removed` : '';
    throw new ConfigError(`${error.message}; nothing was written${removed}`, error.subject, error);
  }
}

async function usableNode(live: Host, words: Words): Promise<SlurmNode> {
  const node = await readAnyway(live, words);
  requireChosen(node, words);
  const { configurationError: error } = node;
  if (error !== undefined) throw new ConfigError(error.message, error.subject, error);
  await requireSlurm(node);
  return node;
}

interface Examination {
  readonly node: SlurmNode;
  readonly checks: readonly Check[];
}

/** @throws SlurmCgroupsError ERR_NO_CGROUPS, ERR_NOT_SLURM */
async function examine(host: Host, words: Words, machine: Finding | undefined): Promise<Examination> {
  const node = await readAnyway(host, words);
  requireChosen(node, words);
  const unread = node.configurationError === undefined ? undefined : unreadable(node.configurationError);
  if (unread === undefined) await requireSlurm(node);
  const [ofNode, ofSteps, ofLogins] = await Promise.all([
    nodeChecks(node, {
      isPart: words.flags.has('within') && node.configuration === undefined && unread === undefined,
      ...defined({ unread }),
    }),
    externChecks(node),
    loginChecks(host, { configuration: node.configuration }),
  ]);
  const ofMachine = machine === undefined ? [] : [await check('machine', () => machine)];
  return { node, checks: [...ofNode, ...ofSteps, ...ofLogins, ...ofMachine] };
}

/** A configuration that cannot be read is a finding; the rest is checked all the same. */
function readAnyway(host: Host, words: Words): Promise<SlurmNode> {
  return readNode({
    host,
    timeoutMs: patienceMs,
    ...recordedOptions(host),
    ...nodeOptions(words, host),
    configurationError: 'note',
  });
}

/** Facts of the machine, kept beside the host's answers under a name that is no path. */
const machineAnswer = 'machine';

async function machineOf(host: Host, lines: string[]): Promise<Finding> {
  const { machineLine, parseMachine, readMachine } = await import('../record/machine-facts.js');
  const isLive = host.source === 'live';
  try {
    const machine = isLive ? await readMachine(host) : parseMachine(host.read(machineAnswer));
    if (machine !== undefined) {
      if (isLive && lines.length > 0)
        lines.push(JSON.stringify({ read: machineAnswer, text: JSON.stringify(machine) }));
      return ok(machineLine(machine));
    }
  } catch (error) {
    if (!hasCode(error, 'ERR_NOT_RECORDED')) throw error;
  }
  return unknown(
    'the facts of this machine did not arrive in time',
    'nothing depends on them; run it again when the machine is less busy',
  );
}

interface Recording {
  readonly host: Host;
  readonly words: Words;
  readonly found: Examination | undefined;
  readonly force: boolean;
}

async function writeRecording(file: string, lines: string[], { host, words, found, force }: Recording): Promise<void> {
  const [{ writeRecordingFile }, { readForRecording, uidsIn }, { completingHost }] = await Promise.all([
    import('../record/file.js'),
    import('../record/reads.js'),
    import('../../machine/recording.js'),
  ]);
  if (found !== undefined) {
    lines.push(slurmdLine(found.node), await sshdLineOf(host));
    // What was read so far is played, and only what is missing is asked for: a node that is played is one moment, as far
    // as it can be. It calls itself a recording, so no slurmstepd is asked, and nothing has a deadline. So a configuration is
    // read only where that was done a moment ago.
    const played = completingHost(host, lines);
    const { configuration, nodeName } = found.node;
    const options = {
      ...(configuration?.file === undefined ? { within: rootPath } : { configFile: configuration.file }),
      ...defined({ nodeName }),
      ...nodeOptions(words, played),
      configurationError: 'note' as const,
    };
    const jobs = await ownedJobsOn(found.node, await readNode({ host: played, ...options }));
    lines.push(JSON.stringify({ read: ownersAnswer, text: ownersText(jobs) }));
    const uids = jobs.flatMap(({ uid }) => uid ?? []);
    await readForRecording(await readNode({ host: played, ...options }), new Set(uids));
    lines.push(await usersLine(host, [...uids, ...uidsIn(lines)]));
  }
  await writeRecordingFile(file, `${lines.join('\n')}\n`, { force });
}

/** What the sshds say cannot be asked of a recording either. Nothing where their files cannot be read. */
async function sshdLineOf(host: Host): Promise<string> {
  try {
    return sshdRecordingLine(await readSshds(host, etcFiles(host)));
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return '';
  }
}

/** The owners of the jobs that were recorded, as slurmstepd names them now: a recording cannot ask. */
async function ownedJobsOn(live: SlurmNode, recorded: SlurmNode): Promise<readonly OwnedJob[]> {
  try {
    return await findOwners(discoverJobs(recorded), { node: live });
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    return [];
  }
}

/** The worst first. */
const order: readonly CheckOutcome[] = ['fail', 'warn', 'unknown', 'ok'];
const saying: Readonly<Record<CheckOutcome, string>> = { fail: 'FAIL', warn: 'warn', unknown: 'unknown', ok: 'ok' };
const styles = { fail: 'red', warn: 'yellow', unknown: 'yellow', ok: 'green' } as const;

function briefLine(checks: readonly Check[], output: Output): string {
  const parts = order
    .filter((outcome) => outcome !== 'ok')
    .flatMap((outcome) => {
      const names = checks.filter((one) => one.outcome === outcome).map(({ name }) => name);
      return names.length === 0 ? [] : [`${output.style(styles[outcome], saying[outcome])} ${names.join(', ')}`];
    });
  return parts.length === 0 ? output.style('green', 'ok') : parts.join('; ');
}

function render({ nodeName }: SlurmNode, checks: readonly Check[], output: Output): readonly string[] {
  const name = output.style('bold', nodeName === undefined ? 'this node' : `node ${visible(nodeName)}`);
  const [bad, warned, unseen, fine] = order.map((outcome) => checks.filter((one) => one.outcome === outcome));
  const sums = [
    bad?.length === 0 ? undefined : output.style('red', `${count(bad?.length ?? 0, 'check')} failed`),
    warned?.length === 0 ? undefined : output.style('yellow', count(warned?.length ?? 0, 'warning')),
    unseen?.length === 0 ? undefined : `${unseen?.length} unknown`,
    output.style('green', `${fine?.length ?? 0} ok`),
  ].filter((sum) => sum !== undefined);
  const widest = Math.max(...checks.map((one) => one.name.length));
  const at = widest + 11;
  const wrap = (text: string, indent: number) =>
    output.columns === undefined ? [text] : wrapped(text, { width: output.columns, indent: ' '.repeat(indent) });
  const said = (one: Check): readonly string[] => {
    const word = saying[one.outcome].padEnd(7);
    const [first = '', ...more] = wrap(`${word}  ${one.name.padEnd(widest)}  ${visible(one.detail)}`, at);
    return [output.style(styles[one.outcome], word) + first.slice(word.length), ...more];
  };
  const trouble = [...(bad ?? []), ...(warned ?? []), ...(unseen ?? [])].flatMap((one) => [
    '',
    ...said(one),
    ...('remedy' in one ? wrap(`${' '.repeat(at)}→ ${visible(one.remedy)}`, at + 2) : []),
  ]);
  const rest = (fine ?? []).flatMap((one) =>
    wrap(`${saying.ok.padEnd(7)}  ${one.name.padEnd(widest)}  ${visible(one.detail)}`, at),
  );
  return [`${name}: ${sums.join(', ')}`, ...trouble, ...(rest.length === 0 ? [] : ['', ...rest])];
}
