// An adoption beside pam_slurm_adopt's, on a real Slurm: a user with two jobs logs in. Ours as a resident process makes it
// (the node was read before, as `serve` will hold it), until /proc proves it, which is when a login is answered, and until
// slurmstepd has counted it; and as a whole command. Theirs is the account phase by pamtester, with what pamtester and
// PAM cost by themselves (the same with pam_permit) taken off where ours has no start of a process either.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { command, loadTests } from './load.mjs';
import { median, wholeProcess } from './measure.mjs';
import { onCluster } from './owners.mjs';

const rounds = 41;
const uid = 1; // the first of the test's users
/** Pauses between logins: back to back, and as they come on a quiet node, where the kernel's grace periods are waited for. */
const pauses = { 'back to back': 0, 'apart, 150 ms': 150 };

/** @param {{ product: object, report: Function }} of */
export async function measureAdopt({ product, report }) {
  if (!fs.existsSync('/usr/bin/pamtester')) {
    console.log('No pamtester here (apt-get install pamtester libpam-slurm-adopt): adoptions are not measured.');
    return;
  }
  const tests = await loadTests();
  const [user] = tests.users;
  await onCluster(tests, 'adoptions are', (cluster) => measureLogins({ product, report, cluster, user }));
}

async function measureLogins({ product, report, cluster, user }) {
  const folder = fs.mkdtempSync('/run/slurm-cgroups-bench-');
  const pam = new Pamtester(folder, cluster, user);
  try {
    for (let left = 2; left > 0; left--) await cluster.submit(user, 'sleep 600');
    const node = await product.readNode({ nodeName: cluster.nodeName, configFile: cluster.conf });
    for (const [how, pauseMs] of Object.entries(pauses)) await measureOn({ product, report, pam, node, how, pauseMs });
    await measureCommand({ report, pam, cluster });
  } finally {
    pam.close();
    fs.rmSync(folder, { recursive: true });
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

/** A shell that sees PAM services of its own, in a mount namespace, and starts pamtester for each login. */
class Pamtester {
  #shell;
  #lines;
  #user;

  constructor(folder, cluster, user) {
    const pam = path.join(folder, 'pam.d');
    fs.mkdirSync(pam);
    const modules = { adopt: `pam_slurm_adopt.so service=* nodename=${cluster.nodeName}`, permit: 'pam_permit.so' };
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
