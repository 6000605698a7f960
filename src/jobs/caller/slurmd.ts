// Caller ID asked of the slurmd at the source of a connection, by Slurm's own `scontrol callerid`: every release from
// 19.05 to 26.05 has it, with the same words. (slurm_network_callerid of libslurm changed its signature in 26.05, and
// the wrong one corrupts memory.) A scontrol is run only where root alone could have put it there.

import path from 'node:path';
import { ifReadable, quote, SlurmCgroupsError } from '../../machine/errors.js';
import { type ConfigFiles, configFiles } from '../../machine/guarded-files.js';
import type { Host, RunResult } from '../../machine/host.js';
import { isLinkLocal } from '../../machine/ip-address.js';
import type { TcpConnection } from '../../machine/tcp-table.js';
import { requireTrusted, rootOnly } from '../config/trust.js';
import { findSlurmd } from '../protected.js';
import { type CallerIdAnswer, type CallerIdQuestion, unknownCaller } from './question.js';

/** An answer, and whether the source was silent: it did not even refuse. */
export interface SlurmdAnswer {
  readonly answer: CallerIdAnswer;
  readonly silent: boolean;
}

/** A line of an id and a name; of a complaint there may be more. */
const mostBytes = 4096;

/** A source that had less of the time than this part, because finding scontrol took the rest, was not silent. */
const leastPartToAnswer = 0.75;

/** Nor one that was given less than this, in ms: a healthy slurmd on a busy network may need it, and scontrol its start. */
const leastToAnswerMs = 300;

/**
 * Asks the slurmd at the source. At its deadline scontrol is killed and left alone. Never throws
 * for what Slurm, scontrol or the network do.
 *
 * @param folders where scontrol is looked for if it does not lie beside slurmd.
 */
export async function askSlurmd(
  question: CallerIdQuestion,
  folders: readonly string[] = usualFolders,
): Promise<SlurmdAnswer> {
  const { node, connection, deadline } = question;
  const { host } = node;
  const unanswered = (why: string): SlurmdAnswer => ({ answer: unknownCaller(why), silent: false });
  const { address } = connection.source;
  if (isLinkLocal(address))
    return unanswered(`${address.text} is an address of one link only: no slurmd can be asked there`);
  const timeoutMs = Math.floor(deadline.leftMs());
  if (timeoutMs <= 0) return unanswered('no time is left to ask');
  const files = configFiles(host, deadline);
  try {
    const scontrol = await findScontrol(node, files, folders);
    if (scontrol?.includes('='))
      return unanswered(`${quote(scontrol)} cannot be started: env(1) takes it for a variable`);
    if (scontrol === undefined) return unanswered(`there is no scontrol beside slurmd nor in ${folders.join(', ')}`);
    const file = await configurationFor(node, files, scontrol);
    if (file === undefined)
      return unanswered('no slurm.conf is known here, and without one scontrol would ask DNS and slurmctld for it');
    const leftMs = Math.floor(deadline.leftMs());
    if (leftMs <= 0) return unanswered(`finding scontrol took all of the ${timeoutMs} ms that there were to ask`);
    const result = await files.run(
      '/usr/bin/env',
      [...environment, `SLURM_CONF=${file}`, scontrol, ...scontrolArguments(connection)],
      mostBytes,
    );
    if (result !== undefined) return readScontrol(result, address.text);
    const answer = unknownCaller(`the slurmd at ${address.text} did not answer within ${leftMs} ms`);
    return { answer, silent: leftMs >= Math.max(leastToAnswerMs, timeoutMs * leastPartToAnswer) };
  } catch (error) {
    if (error instanceof SlurmCgroupsError) return unanswered(error.message);
    throw error;
  }
}

/**
 * env(1) starts it: a program on a file system that does not answer then blocks env, which is killed or left behind, and
 * not this process (a spawn waits until execve is through). Nothing of our own environment is handed on.
 */
const environment: readonly string[] = ['-i', 'LC_ALL=C'];

/**
 * The slurm.conf that scontrol is given, since without one it looks for itself, at last by DNS and at slurmctld
 * (measured): that by which this node goes (of a configless one, slurmd's cache), else that of scontrol's own
 * installation, where Slurm looks that was built without --sysconfdir. Plugins that it names run as root.
 *
 * @throws ConfigError where others than root could have put it there.
 */
async function configurationFor(
  { configuration }: Pick<CallerIdQuestion['node'], 'configuration'>,
  files: ConfigFiles,
  scontrol: string,
): Promise<string | undefined> {
  if (configuration?.file !== undefined) return configuration.file;
  const found = await files.locate(path.join(path.dirname(scontrol), '../etc/slurm.conf'));
  if (found !== undefined) requireTrusted(found, rootOnly);
  return found?.target;
}

function scontrolArguments({ source, destination }: TcpConnection): readonly string[] {
  const ends = [source, destination].flatMap(({ address, port }) => [address.text, String(port)]);
  return ['callerid', ...ends, String(source.address.family)];
}

const usualFolders: readonly string[] = ['/usr/bin', '/usr/local/bin', '/opt/slurm/bin'];

/**
 * The scontrol of this node: of the same installation as the slurmd that runs, else of the usual places.
 *
 * @throws ConfigError where others than root could have put it there.
 */
export async function findScontrol(
  node: Pick<CallerIdQuestion['node'], 'host' | 'configuration'>,
  files: ConfigFiles,
  folders: readonly string[] = usualFolders,
): Promise<string | undefined> {
  const beside = slurmdFolder(node);
  const near = beside === undefined ? [] : [path.join(beside, '../bin'), beside];
  for (const folder of new Set([...near, ...folders])) {
    const found = await files.locate(`${folder}/scontrol`);
    if (found === undefined) continue;
    requireTrusted(found, rootOnly);
    return found.target; // no link is left in it that could be turned
  }
  return undefined;
}

function slurmdFolder({
  host,
  configuration,
}: Pick<CallerIdQuestion['node'], 'host' | 'configuration'>): string | undefined {
  const pid = configuration?.slurmd?.pid ?? findSlurmd(host);
  return pid === undefined ? undefined : executableFolder(host, pid);
}

/** `undefined`: it has ended, or is not ours to see. */
function executableFolder(host: Host, pid: number): string | undefined {
  const file = ifReadable(() => host.readlink(`/proc/${pid}/exe`));
  return file?.startsWith('/') ? path.dirname(file) : undefined;
}

/**
 * What `scontrol callerid` says (measured on 22.05): `JOBID NODE` and exit code 0; else 1 and on stderr
 * `slurm_network_callerid: remote job id indeterminate` where the slurmd knows no job of that connection, or
 * `… unable to retrieve callerid data from remote slurmd` and then `callerid failure: Connection refused`, `Connection
 * timed out` after TCPTimeout, or another errno.
 */
export function readScontrol({ exitCode, stdout, stderr }: RunResult, source: string): SlurmdAnswer {
  const answered = (answer: CallerIdAnswer): SlurmdAnswer => ({ answer, silent: false });
  if (exitCode === 0) {
    const jobId = Number(/^(\d{1,10}) [\w.-]{1,255}\n$/.exec(stdout)?.[1] ?? 0);
    if (jobId > 0 && jobId < noVal) return answered({ answer: 'job', jobId });
    return answered(unknownCaller(`scontrol answered ${shown(stdout)}, which is no job and node`));
  }
  if (exitCode === undefined) return answered(unknownCaller('scontrol was ended by a signal, or said too much'));
  if (stderr.includes('remote job id indeterminate'))
    return answered(unknownCaller(`the slurmd at ${source} knows no job of this connection`));
  const why = /^callerid failure: (.+)$/m.exec(stderr)?.[1] ?? stderr.trim().split('\n').at(-1) ?? '';
  const answer = unknownCaller(
    `the slurmd at ${source} could not be asked: ${why === '' ? `exit code ${exitCode}` : shown(why)}`,
  );
  return { answer, silent: /timed out/i.test(stderr) };
}

/** NO_VAL and above (slurm.h) mean that there is none. */
const noVal = 0xffff_fffe;

function shown(text: string): string {
  return quote(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
