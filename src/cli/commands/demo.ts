// slurm-cgroups demo: what the commands do, on real cgroups of this machine, in a sandbox: two jobs of one user, a session
// from outside that is adopted and verified, a job that is ended, and logins through a real sshd (demo/). Then everything
// is removed.

import path from 'node:path';
import { hasCode, SlurmCgroupsError } from '../../machine/errors.js';
import type { Host } from '../../machine/host.js';
import { liveHost } from '../../machine/live-host.js';
import { recordedHost } from '../../machine/recording.js';
import type { Sandbox } from '../sandbox.js';
import { type CommandSpec, parseWords, type RunCommand } from '../spec.js';
import { stoppable } from '../stop.js';
import type { Output } from '../terminal/output.js';
import { standardOutput, visible } from '../terminal/output.js';
import { adoptSpec, runAdopt } from './adopt.js';
import { cleanSpec, runClean } from './clean.js';
import { listSpec, runList } from './list.js';
import { runVerify, verifySpec } from './verify.js';

export const demoSpec: CommandSpec = {
  name: 'demo',
  summary: 'show what the commands do, on real cgroups of this machine, in a sandbox, without Slurm',
  about:
    'Makes a sandbox in each writable cgroup hierarchy, with two jobs of one user as Slurm lays them out. A session ' +
    'arrives, is adopted into the newest job and verified; the other job is ended. Then ssh logs in through an sshd of ' +
    "the demo's own on 127.0.0.1 with the PAM module, in a mount namespace of its own, where sshd, ssh and a built " +
    "module are there; else it says what it leaves out. Everything is removed. Never touches Slurm's own cgroups, nor " +
    'a file of /etc. Without root, it shows the same on a recorded node.',
  operands: [],
  flags: [],
  examples: [['slurm-cgroups demo', 'a few seconds']],
};

const prefix = 'slurm-cgroups-demo';
/** A uid without a name: in systemd's range for dynamic users, which ends at 65519 (systemd, UIDS-GIDS). */
const demoUid = 64_731;
const firstJob = 101;
const secondJob = 102;
/** Longer than a tick of the clock that stamps directories (4 ms). */
const betweenJobsMs = 20;
/** Forks and ignores SIGTERM, as does its child in a session of its own. Both end with this process: its pipe ends. */
const resisting =
  'trap "" TERM; exec 3<&0; setsid sh -c "read -r line" <&3 & while kill -0 $! 2>/dev/null; do sleep 0.1; done';
const forkingMs = 300;

export const runDemo: RunCommand = async () => {
  const output = standardOutput();
  const host = liveHost();
  try {
    return await runReal(host, output);
  } catch (error) {
    if (!hasCode(error, 'ERR_NOT_PERMITTED', 'ERR_READ_ONLY', 'ERR_NO_CGROUPS')) throw error;
    output.print(
      output.style('yellow', `No real cgroups for this demo: ${visible(error.message)}.`),
      'Here is the same on a RECORDED node (Slurm 22.05, cgroup v1); nothing on this machine is touched.',
      '',
    );
    const exitCode = await runRecorded(output);
    const { leftOut } = await import('../demo/login-part.js');
    output.print('', leftOut(visible(error.message)));
    return exitCode;
  }
};

async function runReal(host: Host, output: Output): Promise<number> {
  // Here, or every command would load fs-extra and its forty files.
  const { removeLeftovers, Sandbox } = await import('../sandbox.js');
  const isRoot = host.self().uid === 0; // others cannot remove what root's demo left behind
  for (const name of isRoot ? await removeLeftovers(host, prefix) : [])
    output.print(`Removed what an earlier demo left behind: ${name}`, '');
  return stoppable(
    async (signal) => {
      const sandbox = await Sandbox.create(host, prefix);
      try {
        return await tell(sandbox, output, signal);
      } finally {
        await sandbox.remove();
        output.print(
          '',
          `Ended what was started and removed ${sandbox.within} from ${sandbox.controllers.join(', ')}.`,
        );
      }
    },
    (by) => output.print(`Stopped by ${by}.`),
  );
}

async function tell(sandbox: Sandbox, output: Output, signal: AbortSignal): Promise<number> {
  const { host, within } = sandbox;
  const step = async (title: string) => {
    await host.sleep(0, signal); // lets a signal arrive
    output.print('', output.style('bold', `# ${title}`));
  };
  const list = async (...words: readonly string[]) =>
    show(output, listSpec.name, words, async (them) => runList(parseWords(listSpec, them), output));
  const clean = async (...words: readonly string[]) =>
    show(output, cleanSpec.name, words, async (them) => runClean(parseWords(cleanSpec, them), output));
  output.print(
    output.style('bold', '# A sandbox of this machine’s real cgroups'),
    `${within} in ${sandbox.controllers.join(', ')} (cgroup v${sandbox.version})`,
  );

  await step(`Two jobs of uid ${demoUid}, laid out as Slurm does, with real processes`);
  const first = await sandbox.addJob({ jobId: firstJob, uid: demoUid });
  await sandbox.startShell(demoUid, first);
  await host.sleep(betweenJobsMs, signal);
  const second = await sandbox.addJob({ jobId: secondJob, uid: demoUid });
  await sandbox.startShell(demoUid, second);
  await list('--within', within);

  await step('A session arrives from outside: which job does it belong to, and why?');
  const session = await sandbox.startShell(demoUid);
  const pid = String(session.pid);
  await show(output, verifySpec.name, [pid, '--within', within], async (words) =>
    runVerify(parseWords(verifySpec, words), output),
  );
  await show(output, adoptSpec.name, [pid, '--dry-run', '--within', within], async (words) =>
    runAdopt(parseWords(adoptSpec, words), output),
  );

  await step('Adopted, in every hierarchy or not at all');
  const adopted = await show(output, adoptSpec.name, [pid, '--within', within], async (words) =>
    runAdopt(parseWords(adoptSpec, words), output),
  );

  await step('Proven from /proc');
  const proven = await show(
    output,
    verifySpec.name,
    [pid, '--job', String(secondJob), '--within', within],
    async (words) => runVerify(parseWords(verifySpec, words), output),
  );
  await list('--job', String(secondJob), '--within', within);

  await step(
    `Job ${firstJob} ends, although its processes fork, start sessions of their own, ignore SIGTERM or are stopped`,
  );
  await sandbox.startScript(demoUid, resisting, first);
  const stopped = await sandbox.startShell(demoUid, first);
  await host.sleep(forkingMs, signal);
  host.signal(stopped.pid, 'SIGSTOP');
  const cleaned = await clean(String(firstJob), '--grace', '1', '--within', within);
  await list('--within', within);
  await host.sleep(0, signal);
  if (cleaned !== 0)
    throw new SlurmCgroupsError('ERR_CGROUP_REFUSED', `The demo failed: job ${firstJob} has not ended`);
  if (adopted !== 0 || proven !== 0)
    throw new SlurmCgroupsError('ERR_CGROUP_REFUSED', `The demo failed: process ${pid} is not in job ${secondJob}`);

  const { tellLogin } = await import('../demo/login-part.js');
  await tellLogin(sandbox, { uid: demoUid, jobId: secondJob }, { output, signal, step, list, clean });
  return 0;
}

/** Prints the command as it would be typed, then runs it. */
async function show(
  output: Output,
  name: string,
  words: readonly string[],
  run: (words: readonly string[]) => Promise<number>,
): Promise<number> {
  output.print(output.style('bold', `$ slurm-cgroups ${name} ${words.join(' ')}`));
  const exitCode = await run(words);
  if (exitCode !== 0) output.print(output.style('dim', `(exit code ${exitCode})`));
  return exitCode;
}

/** The same commands on the recorded node. */
async function runRecorded(output: Output): Promise<number> {
  const file = path.join(import.meta.dirname, 'demo-node.jsonl');
  const node = recordedHost(liveHost().read(file));
  const from = ['--from', file];
  const pid = sessionIn(node);
  output.print(output.style('bold', '# RECORDED: two jobs of uid 1001, one of uid 1002'));
  await show(output, listSpec.name, from, async (words) => runList(parseWords(listSpec, words), output));
  output.print('', output.style('bold', '# RECORDED: which job would a process of uid 1001 be adopted into, and why?'));
  await show(output, adoptSpec.name, [pid, '--dry-run', ...from], async (words) =>
    runAdopt(parseWords(adoptSpec, words), output),
  );
  output.print('', output.style('bold', '# RECORDED: what does it belong to?'));
  await show(output, verifySpec.name, [pid, ...from], async (words) =>
    runVerify(parseWords(verifySpec, words), output),
  );
  return 0;
}

/** A process of uid 1001 in the recording. */
function sessionIn(node: Host): string {
  const found = node
    .names('/proc')
    .find((name) => /^\d+$/.test(name) && /^Uid:\t1001\t/m.test(node.read(`/proc/${name}/status`)));
  if (found === undefined) throw new SlurmCgroupsError('ERR_PARSE', 'The recorded node has no process of uid 1001');
  return found;
}
