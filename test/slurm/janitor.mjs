// Takes a test cluster away when its starter closes our standard input, or dies: then the kernel closes it. The
// only way in which a cluster ends. Arguments: the cluster's folder and its node's name, both its own alone.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';

const [folder, ...nodeNames] = process.argv.slice(2);
if (!folder || nodeNames.length === 0 || !nodeNames.every((name) => /^scg[0-9a-z]+$/.test(name)))
  throw new Error('no cluster is named');

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {});
process.stdin.resume();
process.stdin.on('end', () => void takeAway());

/** Directories of these nodes' Slurm in every v1 hierarchy, those within first. */
function cgroups() {
  const found = [];
  const visit = (directory) => {
    let entries = [];
    try {
      entries = fs.readdirSync(directory, { withFileTypes: true });
    } catch {
      return; // gone meanwhile
    }
    for (const entry of entries) if (entry.isDirectory()) visit(path.join(directory, entry.name));
    found.push(directory);
  };
  for (const line of fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    if (!/ - cgroup /.test(line)) continue;
    for (const name of nodeNames) {
      const top = path.join(line.split(' ')[4] ?? '', `slurm_${name}`);
      if (fs.existsSync(top)) visit(top);
    }
  }
  return found;
}

function attempt(act) {
  try {
    act();
  } catch {
    // it is gone, or not so far yet: it is tried again
  }
}

/** A daemon's pid was written down; it is still the same if our folder is in its words or, slurmdbd has none, its environment. */
function stopDaemon(name, signal) {
  attempt(() => {
    const pid = Number(fs.readFileSync(path.join(folder, `${name}.pid`), 'utf8'));
    const isOurs = ['cmdline', 'environ'].some((name) =>
      fs.readFileSync(`/proc/${pid}/${name}`, 'utf8').includes(folder),
    );
    if (pid > 1 && isOurs) process.kill(pid, signal);
  });
}

async function takeAway() {
  stopDaemon('slurmctld', 'SIGKILL'); // starts nothing more
  for (const name of ['slurmd', 'slurmd-b']) stopDaemon(name, 'SIGKILL');
  const until = Date.now() + 60_000;
  for (let left = cgroups(); left.length > 0 && Date.now() < until; left = cgroups()) {
    for (const directory of left) {
      attempt(() => fs.writeFileSync(path.join(directory, 'freezer.state'), 'THAWED', { flag: 'r+' }));
      attempt(() => {
        for (const pid of fs.readFileSync(path.join(directory, 'cgroup.procs'), 'utf8').split('\n'))
          if (Number(pid) > 1) attempt(() => process.kill(Number(pid), 'SIGKILL'));
      });
    }
    for (const directory of left) attempt(() => fs.rmdirSync(directory));
    await sleep(50);
  }
  for (const name of ['slurmdbd', 'mariadbd', 'munged', 'network-a', 'network-b']) stopDaemon(name, 'SIGKILL');
  await sleep(50);
  fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  process.exit(cgroups().length === 0 ? 0 : 1);
}
