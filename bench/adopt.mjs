// An adoption beside pam_slurm_adopt's, on a real Slurm: a user with two jobs logs in. Ours as a resident process makes it
// (the node was read before, as `serve` will hold it), until /proc proves it, which is when a login is answered, and until
// slurmstepd has counted it; and as a whole command. Theirs is the account phase by pamtester, with what pamtester and
// PAM cost by themselves (the same with pam_permit) taken off where ours has no start of a process either. Last, whole
// logins by our own module, which starts its helper each time, and the helper beside an empty node.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { buildModule, missing } from '../scripts/build-native.mjs';
import { command, loadTests } from './load.mjs';
import { median, wholeProcess } from './measure.mjs';
import { onCluster } from './owners.mjs';

const rounds = 41;
const uid = 1; // the first of the test's users
/** Pauses between logins: back to back, and as they come on a quiet node, where the kernel's grace periods are waited for. */
const pauses = { 'back to back': 0, 'apart, 150 ms': 150 };

/** Of a machine without a journal; each login has a line. */
const log = '/run/slurm-cgroups/logins.log';

/** @param {{ product: object, report: Function }} of */
export async function measureAdopt({ product, report }) {
  if (!fs.existsSync('/usr/bin/pamtester')) {
    console.log('No pamtester here (apt-get install pamtester libpam-slurm-adopt): adoptions are not measured.');
    return;
  }
  const tests = await loadTests();
  const [user] = tests.users;
  await onCluster(tests, 'adoptions are', (cluster) => measureLogins({ product, report, cluster, user, tests }));
}

async function measureLogins({ product, report, cluster, user, tests }) {
  const folder = fs.mkdtempSync('/run/slurm-cgroups-bench-');
  const pam = new Pamtester(folder, cluster, user);
  const hadLog = fs.existsSync(log);
  try {
    for (let left = 2; left > 0; left--) await cluster.submit(user, 'sleep 600');
    const node = await product.readNode({ nodeName: cluster.nodeName, configFile: cluster.conf });
    for (const [how, pauseMs] of Object.entries(pauses)) await measureOn({ product, report, pam, node, how, pauseMs });
    await measureCommand({ report, pam, cluster });
    // As it is at a site: what a login needs of Slurm's configuration was written down.
    await wholeProcess(process.execPath, [command, 'doctor', '--write-node', '--node', cluster.nodeName])();
    await measureHelper({ report, cluster, user });
    if (pam.hasModule) {
      await measureModule({ report, pam });
      await measureSsh({ report, cluster, tests, folder, words: pam.modules });
    } else console.log(`Our own module is not measured: ${missing()}`);
  } finally {
    pam.close();
    fs.rmSync(folder, { recursive: true });
    fs.rmSync('/run/slurm-cgroups/node.json', { force: true }); // it is of a node that is gone
    if (!hadLog) fs.rmSync(log, { force: true });
  }
}

async function measureOn({ product, report, pam, node, how, pauseMs }) {
  const times = { proven: [], counted: [], theirs: [], permit: [] };
  for (let round = -3; round < rounds; round++) {
    const session = spawn('/bin/sleep', ['600'], { uid, gid: uid, stdio: 'ignore' });
    await once(session, 'spawn');
    const pause = () => new Promise((fulfil) => setTimeout(fulfil, pauseMs));
    await pause();
    const begin = performance.now();
    let proven = 0;
    const admission = await product.admitSession(
      { uid, pid: session.pid },
      { node, onProven: () => (proven = performance.now() - begin) },
    );
    const counted = performance.now() - begin;
    session.kill('SIGKILL');
    if (admission.adoption?.outcome !== 'adopted' || proven === 0) throw new Error(JSON.stringify(admission));
    await pause();
    const theirs = await pam.login('adopt');
    await pause();
    const permit = await pam.login('permit');
    if (round < 0) continue;
    for (const [name, ms] of Object.entries({ proven, counted, theirs, permit })) times[name].push(ms);
  }
  const [proven, counted, theirs, permit] = Object.values(times).map(median);
  const peer = 'pam_slurm_adopt over pam_permit';
  report(`adopt, ${how}: until proven`, [proven, theirs - permit], peer, pauseMs === 0 ? 1 : undefined);
  report(`adopt, ${how}: until counted`, [counted, theirs - permit], peer);
}

async function measureCommand({ report, pam, cluster }) {
  const times = { ours: [], theirs: [] };
  for (let round = -2; round < 11; round++) {
    const session = spawn('/bin/sleep', ['600'], { uid, gid: uid, stdio: 'ignore' });
    await once(session, 'spawn');
    const words = ['adopt', String(session.pid), '--node', cluster.nodeName];
    const ours = await wholeProcess(process.execPath, [command, ...words])();
    session.kill('SIGKILL');
    const theirs = await pam.login('adopt');
    if (round < 0) continue;
    times.ours.push(ours);
    times.theirs.push(theirs);
  }
  report('adopt, the whole command', [median(times.ours), median(times.theirs)], 'pamtester, whole');
}

/** The helper alone: a request by its standard input, as the module gives it. */
async function measureHelper({ report, cluster, user }) {
  const times = { ours: [], empty: [] };
  for (let round = -2; round < 21; round++) {
    const session = spawn('/bin/sleep', ['600'], { uid, gid: uid, stdio: 'ignore' });
    await once(session, 'spawn');
    const ours = await helperRun(session.pid, { cluster, user });
    session.kill('SIGKILL');
    const empty = await wholeProcess(process.execPath, ['-e', '0'])();
    if (round < 0) continue;
    times.ours.push(ours);
    times.empty.push(empty);
  }
  const [ours, empty] = [median(times.ours), median(times.empty)];
  report('pam, the helper alone', [ours, empty], 'an empty node', 1.6);
  console.log(`  its shares: ${sharesOf(times.ours.length, { ours, empty })}`);
}

/** By the records of those logins: what an empty node takes, the stages of the login, and the rest. */
function sharesOf(count, { ours, empty }) {
  const records = fs.readFileSync(log, 'utf8').trim().split('\n').slice(-count).map(JSON.parse);
  const stages = [...new Set(records.flatMap(({ stagesMs }) => Object.keys(stagesMs)))];
  const shares = stages.map((stage) => [stage, median(records.map(({ stagesMs }) => stagesMs[stage] ?? 0))]);
  const rest = ours - empty - shares.reduce((sum, [, ms]) => sum + ms, 0);
  return [['an empty node', empty], ...shares, ['loading, request, node file, answer and log', rest]]
    .map(([name, ms]) => `${name} ${ms.toFixed(1)} ms`)
    .join(', ');
}

async function helperRun(pid, { cluster, user }) {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
  const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  const uptimeMs = Math.round(Number(fs.readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000);
  const lines = ['slurm-cgroups-login 1', 'phase account', `deadline ${uptimeMs + 5000}`, `user ${user}`, `uid ${uid}`];
  lines.push(
    `pid ${pid}`,
    `start ${startTime}`,
    'threads 1',
    'service sshd',
    `option nodename=${cluster.nodeName}`,
    'end',
  );
  const begin = performance.now();
  const child = spawn(process.execPath, [command, 'pam'], { env: {}, stdio: ['pipe', 'ignore', 'inherit'] });
  child.stdin.end(`${lines.join('\n')}\n`);
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`slurm-cgroups pam ended with ${code}`);
  return performance.now() - begin;
}

/** Whole logins by pamtester, ours and theirs. */
async function measureModule({ report, pam }) {
  const times = { ours: [], theirs: [] };
  for (let round = -2; round < 21; round++) {
    const ours = await pam.login('module');
    const theirs = await pam.login('adopt');
    if (round < 0) continue;
    times.ours.push(ours);
    times.theirs.push(theirs);
  }
  report('pam, a login by our module', [median(times.ours), median(times.theirs)], 'pam_slurm_adopt, whole');
}

/** Whole sessions by ssh at a real sshd, from the client's start to its end: ours with both phases, theirs, and neither. */
async function measureSsh({ report, cluster, tests, folder, words }) {
  const [user] = tests.users;
  fs.chmodSync(folder, 0o755);
  const stacks = {
    ours: [`account required ${words.module}`, 'session required pam_permit.so', `session required ${words.module}`],
    theirs: [`account required ${words.adopt}`, 'session required pam_permit.so'],
    neither: ['account required pam_permit.so', 'session required pam_permit.so'],
  };
  const servers = {};
  const times = { ours: [], theirs: [], neither: [] };
  try {
    for (const [name, lines] of Object.entries(stacks)) {
      const pam = ['auth required pam_permit.so', ...lines];
      const env = { SLURM_CONF: cluster.conf };
      servers[name] = await tests.SshServer.start({ folder, pam, env, users: tests.users });
    }
    for (let round = -2; round < 15; round++)
      for (const [name, server] of Object.entries(servers)) {
        const begin = performance.now();
        const { code, stderr } = await server.ssh(user, ['true']);
        if (code !== 0) throw new Error(`ssh ended with ${code}: ${stderr}`);
        if (round >= 0) times[name].push(performance.now() - begin);
      }
  } finally {
    for (const server of Object.values(servers)) await server.close();
  }
  const [ours, theirs, neither] = Object.values(times).map(median);
  report('ssh, a whole session with our module', [ours, theirs], 'with pam_slurm_adopt');
  report('ssh, the same with neither', [neither, theirs], 'with pam_slurm_adopt');
}

/** A shell that sees PAM services of its own, in a mount namespace, and starts pamtester for each login. */
class Pamtester {
  #shell;
  #lines;
  #user;
  hasModule = missing() === undefined;
  /** Their words on the PAM line, by service. */
  modules;

  constructor(folder, cluster, user) {
    const pam = path.join(folder, 'pam.d');
    fs.mkdirSync(pam);
    const modules = { adopt: `pam_slurm_adopt.so service=* nodename=${cluster.nodeName}`, permit: 'pam_permit.so' };
    if (this.hasModule) {
      const helper = path.join(folder, 'helper');
      fs.writeFileSync(helper, `#!${process.execPath}\nrequire(${JSON.stringify(command)});\n`, { mode: 0o755 });
      modules.module = `${buildModule(folder)} helper=${helper} service=* nodename=${cluster.nodeName}`;
    }
    this.modules = modules;
    for (const [name, module] of Object.entries(modules))
      fs.writeFileSync(path.join(pam, name), `account required ${module}\nauth required pam_deny.so\n`);
    const script =
      'mount --bind "$0" /etc/pam.d && while read -r service user; do pamtester "$service" "$user" acct_mgmt >/dev/null 2>&1; echo $?; done';
    this.#shell = spawn('/usr/bin/unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-c', script, pam], {
      env: { PATH: '/usr/bin:/bin', SLURM_CONF: cluster.conf },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#lines = readline.createInterface({ input: this.#shell.stdout })[Symbol.asyncIterator]();
    this.#user = user;
  }

  /** ms from the word to the shell to pamtester's end. */
  async login(service) {
    const begin = performance.now();
    this.#shell.stdin.write(`${service} ${this.#user}\n`);
    const { value } = await this.#lines.next();
    if (value !== '0') throw new Error(`pamtester ${service} ended with ${value}`);
    return performance.now() - begin;
  }

  close() {
    this.#shell.stdin.end();
  }
}
