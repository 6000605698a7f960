// npm run bench: this product beside the real alternatives, in one run, as ratios of medians. A bench reports
// and never fails; a line over its bound is marked OVER. What needs root, a C compiler or lscgroup says so.

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { cWalk, inTurn, wholeProcess } from './measure.mjs';
import { chooseHierarchies, prefix, Tree } from './tree.mjs';

const root = path.resolve(import.meta.dirname, '..');
const command = path.join(root, 'dist/bin/slurm-cgroups.js');
const sizes = [10, 1000, 10_000];
const uid = 64_800;

const rows = [];
/** A line of the table: ours against theirs, and the most the ratio may be. */
function report(what, ours, theirs, their, bound) {
  const ratio = ours / theirs;
  const verdict = bound === undefined ? '' : ratio <= bound ? `<= ${bound}` : `OVER ${bound}`;
  rows.push([what, ours.toFixed(2), theirs.toFixed(2), their, ratio.toFixed(2), verdict]);
}

function table() {
  const all = [['measured (median ms)', 'ours', 'theirs', 'against', 'ratio', 'bound'], ...rows];
  const widths = all[0].map((_, at) => Math.max(...all.map((row) => row[at].length)));
  for (const row of all)
    console.log(
      row
        .map((cell, at) => cell.padEnd(widths[at]))
        .join('  ')
        .trimEnd(),
    );
}

/** The product's own code, bundled as the command is. */
async function product() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), `${prefix}-`));
  const outfile = path.join(folder, 'product.mjs');
  await build({
    stdin: {
      contents: `export { discoverHierarchies } from './src/cgroup/hierarchies.js';
        export { liveHost } from './src/cgroup/host.js';
        export { parseProcCgroup } from './src/cgroup/membership.js';
        export { parseMountInfo } from './src/cgroup/mounts.js';
        export { cgroupPath } from './src/cgroup/path.js';
        export { configLines } from './src/jobs/config-syntax.js';
        export { discoverJobs } from './src/jobs/discovery.js';
        export { readNode } from './src/jobs/node.js';
        export { processesOf } from './src/cli/commands/list.js';`,
      resolveDir: root,
      loader: 'ts',
    },
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['koffi'],
    logLevel: 'error',
  });
  try {
    return await import(pathToFileURL(outfile).href);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

function has(program) {
  return ['/usr/bin', '/bin', '/usr/sbin'].map((folder) => `${folder}/${program}`).find((file) => fs.existsSync(file));
}

function compileWalk() {
  const cc = has('cc') ?? has('gcc');
  if (cc === undefined) return undefined;
  fs.mkdirSync(path.join(root, 'bench/bin'), { recursive: true });
  const out = path.join(root, 'bench/bin/walk');
  execFileSync(cc, ['-O2', '-o', out, path.join(root, 'bench/walk.c')]);
  return out;
}

/** Trees whose maker has ended. */
function removeLeftovers(hierarchies) {
  for (const { mountPoint } of hierarchies.all) {
    for (const name of fs.readdirSync(mountPoint)) {
      const pid = new RegExp(`^${prefix}-(\\d+)-\\d+$`).exec(name)?.[1];
      if (pid === undefined || fs.existsSync(`/proc/${pid}`)) continue;
      console.log(`Removing what an earlier bench left behind: ${mountPoint}/${name}`);
      removeBelow(`${mountPoint}/${name}`);
    }
  }
}

function removeBelow(directory) {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true }))
    if (entry.isDirectory()) removeBelow(`${directory}/${entry.name}`);
  fs.rmdirSync(directory);
}

async function listing(lib, tree, walk, programs) {
  for (const size of sizes) {
    for (const _ of tree.make(size, uid)) await new Promise(setImmediate);
    const node = await lib.readNode({ within: lib.cgroupPath(tree.within(size)) });
    const ours = () => {
      const jobs = lib.discoverJobs(node);
      for (const job of jobs) for (const step of job.steps) lib.processesOf(node, step);
      if (jobs.length !== size) throw new Error(`found ${jobs.length} of ${size} jobs`);
    };
    const rounds = size < 10_000 ? 20 : 7;
    if (walk !== undefined) {
      const c = cWalk(walk, tree.version, tree.tops(size));
      const [mine, theirs] = await inTurn([ours, c], { rounds });
      c.end();
      report(`list, in process, ${size} jobs`, mine, theirs, 'C walk (-O2)', size === 10_000 ? 2.5 : undefined);
    }
    const whole = wholeProcess(process.execPath, [command, 'list', '--json', '--within', tree.within(size)]);
    const their = programs.filter(({ file }) => file !== undefined);
    const times = await inTurn([whole, ...their.map(({ file, args }) => wholeProcess(file, args(size)))], {
      rounds: size < 10_000 ? 7 : 5,
      warmUp: 1,
    });
    for (const [at, { name, bound }] of their.entries())
      report(
        `list --json, whole process, ${size} jobs`,
        times[0],
        times[at + 1],
        name,
        size === 10_000 ? bound : undefined,
      );
  }
  const nodes = await Promise.all(
    [10_000, 10].map((size) => lib.readNode({ within: lib.cgroupPath(tree.within(size)) })),
  );
  const [many, few] = await inTurn(
    nodes.map((node) => () => {
      for (let i = 0; i < 20; i++) if (lib.discoverJobs(node, { uid }).length !== 2) throw new Error('not two jobs');
    }),
    { rounds: 50 },
  );
  report(
    'jobs of one uid: 10,000 jobs here',
    many / 20,
    few / 20,
    '10 jobs here',
    tree.version === 1 ? 1.5 : undefined,
  );
}

async function starting(tree) {
  const sleeper = execFileSync(
    '/bin/sh',
    ['-c', `/usr/bin/setpriv --reuid ${uid} --regid ${uid} --clear-groups sleep 300 >/dev/null 2>&1 & echo $!`],
    { encoding: 'utf8' },
  ).trim();
  try {
    await new Promise((fulfil) => setTimeout(fulfil, 100));
    const [ours, empty] = await inTurn(
      [
        wholeProcess(process.execPath, [command, 'adopt', sleeper, '--dry-run', '--within', tree.within(10)]),
        wholeProcess(process.execPath, ['-e', '0']),
      ],
      { rounds: 40, warmUp: 3 },
    );
    report('adopt --dry-run, whole process', ours, empty, 'node -e 0', 1.25);
  } finally {
    process.kill(Number(sleeper), 'SIGKILL');
  }
}

/** MB/s of the parsers over some megabytes of what they read. */
async function parsing(lib) {
  const memberships = `${fs.readFileSync('/proc/self/cgroup', 'utf8')}4:memory:/slurm_vm/uid_1001/job_4/step_extern/task_0\n`;
  const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8');
  const config = `${'NodeName=n[001-100] CPUs=64 RealMemory=256000 State=UNKNOWN # a rack\nSlurmdSpoolDir=/var/spool/slurmd\nPrologFlags=contain\n'.repeat(300)}`;
  const cases = [
    ['parseProcCgroup', memberships, lib.parseProcCgroup],
    ['parseMountInfo', mounts, lib.parseMountInfo],
    ['slurm.conf parser', config, (text) => [...lib.configLines(text, 'slurm.conf')]],
  ];
  for (const [name, text, parse] of cases) {
    const times = Math.ceil(4e6 / text.length);
    const [ms] = await inTurn(
      [
        () => {
          for (let i = 0; i < times; i++) parse(text);
        },
      ],
      { rounds: 5 },
    );
    console.log(`${name}: ${((text.length * times) / ms / 1000).toFixed(0)} MB/s`);
  }
}

console.log(`Node.js ${process.version}, Linux ${os.release()}, ${os.cpus().length} CPUs`);
const lib = await product();
const hierarchies = lib.discoverHierarchies();
const chosen = chooseHierarchies(hierarchies);
await parsing(lib);
if (chosen === undefined) {
  console.log('Not measured, since it needs root and a writable cgroup file system: list, adopt.');
} else {
  removeLeftovers(hierarchies);
  const tree = new Tree(chosen);
  console.log(`Jobs in real cgroups: ${chosen.map((one) => one.key).join(', ')} (${hierarchies.mode})`);
  process.on('SIGINT', () => {
    tree.remove();
    process.exit(130);
  });
  const lscgroup = has('lscgroup');
  if (lscgroup === undefined) console.log('lscgroup is not installed (Debian: cgroup-tools): not compared.');
  const walk = compileWalk();
  if (walk === undefined) console.log('There is no C compiler: not compared with C.');
  const keys = chosen.map((one) => (one.version === 2 ? '' : one.controllers.join()));
  const programs = [
    { name: 'lscgroup', file: lscgroup, bound: 0.4, args: (size) => keys.map((key) => `${key}:${tree.within(size)}`) },
    {
      name: 'systemd-cgls',
      file: has('systemd-cgls'),
      bound: 1,
      args: (size) => ['--no-pager', '--all', ...chosen.map((one) => `${one.mountPoint}${tree.within(size)}`)],
    },
  ];
  try {
    await listing(lib, tree, walk, programs);
    await starting(tree);
  } finally {
    tree.remove();
  }
  table();
}
