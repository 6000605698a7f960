// What the PAM module runs at a login: one request on standard input, one reply on standard output. All that is imported
// here is loaded at every login. Under pam_exec, which gives no request, the environment of PAM is one.

import process from 'node:process';
import { type AnsweredLogin, answerLogin, type LoginOptions, leftOf } from '../../adopt/login.js';
import { forgetLogin, noteLogin } from '../../adopt/login-note.js';
import {
  bareReply,
  endOfMessage,
  formatBegunReply,
  formatLoginReply,
  type LoginRequest,
  loginProtocol,
  parseLoginRequest,
} from '../../adopt/login-protocol.js';
import { Recorder } from '../../adopt/record.js';
import { identityOf, parseProcStat } from '../../cgroup/process.js';
import { type ReadNodeOptions, readNode, type SlurmNode } from '../../jobs/node.js';
import { nodeForLogin } from '../../jobs/node-for-login.js';
import { uptimeMs } from '../../machine/clock.js';
import { deadlineIn } from '../../machine/deadline.js';
import { defined } from '../../machine/defined.js';
import { ConfigError, SlurmCgroupsError } from '../../machine/errors.js';
import { configFiles, requireRoots } from '../../machine/guarded-files.js';
import type { Host } from '../../machine/host.js';
import { inputIsTerminal, liveHost, readInput, writeError, writeOutput } from '../../machine/live-host.js';
import {
  configurationFile,
  longestConfiguration,
  parseConfigFile,
  type SiteConfiguration,
} from '../../policy/config-file.js';
import { defaultOptions } from '../../policy/options.js';
import { mistakeIn, parsePamLine } from '../../policy/pam-line.js';
import { nodeOptions, requireChosen } from '../context.js';
import { usageError } from '../exit.js';
import { logLogin } from '../login-log.js';
import { type CommandSpec, flagValue, type Words, withinFlag } from '../spec.js';
import { visible } from '../terminal/output.js';

export const pamSpec: CommandSpec = {
  name: 'pam',
  summary: 'answer the PAM module at a login (not run by hand)',
  about:
    'The helper of pam_slurm_cgroups.so: reads one request of the module on standard input, decides which job the ' +
    'session belongs to, puts it there, and answers. It also runs under pam_exec, with options as words, to try it: ' +
    'that is no login route, since pam_exec waits without a limit and cannot leave an answer to other modules. To see ' +
    'what a login would do, use "slurm-cgroups adopt PID --dry-run". Exit code 0: let in, or not its business; 1: refused.',
  operands: ['[opt...]'],
  flags: [
    { name: 'config', takes: 'FILE', description: `the configuration of the site (default: ${configurationFile})` },
    withinFlag,
  ],
  examples: [
    [
      'account required pam_exec.so /usr/lib/slurm-cgroups/slurm-cgroups pam action_unknown=deny',
      'a line of /etc/pam.d/sshd, to try it',
    ],
  ],
};

export async function runPam(words: Words): Promise<number> {
  const host = liveHost();
  if (host.self().uid !== 0)
    throw new SlurmCgroupsError(
      'ERR_NOT_PERMITTED',
      'Cannot answer a login: only root may move processes between jobs',
    );
  const isByModule = process.env['PAM_TYPE'] === undefined;
  if (isByModule && words.operands.length > 0)
    throw usageError('Options stand on the PAM line: the module sends them (only pam_exec takes them here)');
  if (isByModule && inputIsTerminal())
    throw usageError(
      'The PAM module runs this command; to see what a login would do, run "slurm-cgroups adopt PID --dry-run"',
    );
  const request = isByModule ? readRequest() : await requestOfPamExec(host, words.operands);
  if (request === undefined) return 0;
  let begun = '';
  const { reply, record } = await answerTo(host, request, words, (its) => {
    if (!isByModule) return;
    begun = formatBegunReply(its);
    writeOutput(begun);
  });
  if (isByModule) writeOutput(formatLoginReply(reply, begun));
  else writeOutput(reply.action === 'deny' ? reply.messages.map((line) => `${line}\n`).join('') : '');
  // Behind the answer, which the journal must not make late; the module waits for the end of this program, too.
  const unlogged = await logLogin(host, record);
  if (unlogged !== undefined) writeError(`slurm-cgroups pam: the login is not in the log: ${visible(unlogged)}\n`);
  return reply.action === 'deny' ? 1 : 0;
}

function readRequest(): LoginRequest {
  const text = readInput(loginProtocol.longestMessage, endOfMessage);
  return parseLoginRequest(text);
}

/** The site's configuration, then the PAM line, then the login itself. A mistake in either is a generic failure. */
async function answerTo(
  host: Host,
  request: LoginRequest,
  words: Words,
  onMoving: LoginOptions['onMoving'] & {},
): Promise<AnsweredLogin> {
  let site: SiteConfiguration;
  try {
    site = await configurationOf(host, request, flagValue(words, 'config') ?? configurationFile);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return misconfigured(host, request, error);
  }
  const { options, messages } = site;
  const its = { timeoutMs: leftOf(host, request) / 2, ...defined({ nodeName: options.nodename }) };
  // No epilog runs in a sandbox, so nothing is recorded for one.
  const isSandbox = words.flags.has(withinFlag.name);
  const node = isSandbox ? await nodeWithin(host, words, its) : await nodeForLogin(host, its);
  return kept(host, await answerLogin(request, { node, options, messages, isRecorded: !isSandbox, onMoving }));
}

/**
 * The demo's sandbox, or another that was made by root. The module runs its helper with the word `pam` alone, so only a
 * helper that adds the flag itself, a file of root's, can choose one.
 *
 * @throws SlurmCgroupsError ERR_USAGE where there is no such cgroup.
 */
async function nodeWithin(
  host: Host,
  words: Words,
  its: Pick<ReadNodeOptions, 'timeoutMs' | 'nodeName'>,
): Promise<SlurmNode> {
  const node = await readNode({ host, configurationError: 'note', ...nodeOptions(words, host), ...its });
  requireChosen(node, words);
  return node;
}

async function configurationOf(host: Host, request: LoginRequest, file: string): Promise<SiteConfiguration> {
  const files = configFiles(host, deadlineIn(host, Math.max(1, leftOf(host, request) / 4)));
  const located = await files.locate(file);
  if (located !== undefined) requireRoots(located);
  const site =
    located === undefined
      ? { options: defaultOptions, messages: {} }
      : parseConfigFile(await files.read(located, longestConfiguration));
  return { ...site, options: parsePamLine(request.options, site.options) };
}

/**
 * Leaves what the session phase needs. A refusal is one whatever becomes of that; a session that is in its job is let in
 * without it only where it would be let in outside its job, too, since nothing would put it back.
 */
function kept(host: Host, answered: AnsweredLogin): AnsweredLogin {
  const { reply, record } = answered;
  const { process: adopted, action } = reply;
  if (adopted === undefined) return answered;
  try {
    if (action === 'allow') noteLogin(host, adopted, formatLoginReply(reply));
    else forgetLogin(host, adopted);
    return answered;
  } catch (error) {
    if (!(error instanceof SlurmCgroupsError)) throw error;
    const line = `The session phase of this login is not prepared: ${error.message}`;
    const log = [...reply.log, { severity: 3, line }];
    if (action !== 'allow' || reply.failure !== 'deny') return { reply: { ...reply, log }, record };
    const reason = 'this node cannot write down where the session is';
    const messages = [`Access denied by pam_slurm_cgroups: ${reason}`];
    const refusal = { ...bareReply, action: 'deny', reason, log, messages } as const;
    return { reply: refusal, record: { ...record, action: 'deny', reason } };
  }
}

/** action_generic_failure as far as it can be read: the module knows it from the same line. */
function misconfigured(host: Host, request: LoginRequest, error: ConfigError): AnsweredLogin {
  const { actionGenericFailure: action } = parsePamLine(
    request.options.filter((word) => mistakeIn(word) === undefined),
  );
  const reason = error.message;
  const answer = { action, rule: 'configuration', reason, trace: [`action_generic_failure=${action}`] } as const;
  const { pid, uid, user, service, connection } = request;
  const recorder = new Recorder(host, { pid, uid, user, service, ...defined({ connection }) });
  return {
    reply: {
      ...{ ...bareReply, action, reason },
      log: [{ severity: 3, line: reason }],
      messages:
        action === 'deny' ? ['Access denied by pam_slurm_cgroups: it is not configured rightly on this node'] : [],
    },
    record: recorder.end({ decision: answer, answer, trace: [reason, ...answer.trace], tried: undefined }),
  };
}

/** How long a login under pam_exec may take: its budget. */
const pamExecMs = defaultOptions.budgetMs;

/** The request that the environment of pam_exec makes; `undefined`: not a phase in which anything is decided. */
async function requestOfPamExec(host: Host, options: readonly string[]): Promise<LoginRequest | undefined> {
  const { PAM_TYPE: type, PAM_USER: user, PAM_SERVICE: service, SSH_CONNECTION: connection } = process.env;
  if (type !== 'account') return undefined;
  if (user === undefined || service === undefined)
    throw usageError('pam_exec gives PAM_USER and PAM_SERVICE, and they are not there');
  const { requireUid } = await import('../users.js');
  const uid = await requireUid(host, user);
  if (uid === 0) return undefined;
  const parent = identityOf(host, parseProcStat(host.read(`/proc/${host.self().pid}/stat`)).ppid);
  return {
    phase: 'account',
    deadlineMs: uptimeMs(host) + pamExecMs,
    ...{ user, uid, service, options, threads: 1, isCounted: false },
    ...{ pid: parent.pid, startTime: parent.startTime },
    ...defined({ connection }),
  };
}
