// npm run bench: this product beside the real alternatives, in one run, as ratios of medians. A bench reports
// and does not fail: a line over its bound says OVER. What is missing here (root, a C compiler, lscgroup) is said.

import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { measureAdopt } from './adopt.mjs';
import { measureCallerId } from './callerid.mjs';
import { measureBomb, measureEnding, measureScan } from './ending.mjs';
import { command, loadProduct, recordedNode, root } from './load.mjs';
import { cWalk, inTurn, wholeProcess } from './measure.mjs';
import { measureOwners } from './owners.mjs';
import { chooseHierarchies, removeLeftovers, Tree } from './tree.mjs';
import { measureWatch } from './watch.mjs';

const uid = 64_800;
const most = 10_000;

/** `npm run bench -- PART…` measures these alone. */
const parts = ['parsers', 'list', 'watch', 'ending', 'bomb', 'scan', 'owners', 'callerid', 'adopt'];
const wanted = process.argv.slice(2);
const unknown = wanted.filter((one) => !parts.includes(one));
if (unknown.length > 0) {
  console.error(`There is no part ${unknown.join(', ')}; there are ${parts.join(', ')}.`);
  process.exit(2);
}
const measures = (part) => wanted.length === 0 || wanted.includes(part);

const widths = [52, 11, 11, 33, 6, 12];
const isNumber = (at) => at === 1 || at === 2 || at === 4;
let isFirst = true;

/** A line of the table, as soon as it is known: some take minutes. */
function row(cells) {
  const line = cells.map((cell, at) => (isNumber(at) ? cell.padStart(widths[at]) : cell.padEnd(widths[at])));
  console.log(line.join('  ').trimEnd());
}

/** Ours against theirs in ms, and the most their ratio may be. */
function report(what, [ours, theirs], against, bound) {
  if (isFirst) row(['', 'ours, ms', 'theirs, ms', 'theirs is', 'ratio', 'bound']);
  isFirst = false;
  const ratio = ours / theirs;
  const verdict = bound === undefined ? '' : ratio <= bound ? `at most ${bound}` : `OVER ${bound}`;
  row([what, ours.toFixed(2), theirs.toFixed(2), against, ratio.toFixed(2), verdict]);
}

function find(...names) {
  const folders = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'];
  return names.flatMap((name) => folders.map((folder) => `${folder}/${name}`)).find((file) => fs.existsSync(file));
}

/** The yardsticks; `undefined` without a compiler. */
function compile(name) {
  const compiler = find('cc', 'gcc', 'clang');
  if (compiler === undefined) return undefined;
  const program = path.join(root, 'bench/bin', name);
  fs.mkdirSync(path.dirname(program), { recursive: true });
  execFileSync(compiler, ['-O2', '-o', program, path.join(root, `bench/${name}.c`)]);
  return program;
}

/** The programs that list the same cgroups. Both get the same trees, and their output goes the same way as ours. */
function findListers(tree, hierarchies) {
  const wanted = [
    {
      name: 'lscgroup',
      from: 'Debian: cgroup-tools',
      bound: 0.4,
      // It takes no path on v2; all there is then is little more.
      args: (size) => (tree.version === 2 ? [] : hierarchies.map((one) => `${one.key}:${tree.within(size)}`)),
    },
    {
      name: 'systemd-cgls',
      from: 'systemd',
      bound: 1,
      // --all: cgroups without processes too, as `list` and lscgroup show them.
      args: (size) => ['--no-pager', '--all', ...hierarchies.map((one) => `${one.mountPoint}${tree.within(size)}`)],
    },
  ];
  return wanted.flatMap((one) => {
    const file = find(one.name);
    if (file === undefined) console.log(`${one.name} is not installed (${one.from}): not compared.`);
    return file === undefined ? [] : [{ ...one, file }];
  });
}

/** `list`: discovery and the processes of every step, in this process and as a command. */
async function measureList(product, tree, { size, walk, listers }) {
  const atMost = (ratio) => (size === most ? ratio : undefined);
  if (walk !== undefined) {
    const node = await product.readNode({ within: tree.within(size) });
    let found = { jobs: 0, steps: 0 };
    const list = async () => {
      found = { jobs: 0, steps: 0 };
      for (const job of product.discoverJobs(node)) {
        found.jobs += job.cgroups.length;
        for (const step of job.steps) {
          found.steps += step.cgroups.length;
          await product.membersOfStep(node, step);
        }
      }
    };
    const c = cWalk(walk, tree.version, tree.tops(size));
    const times = await inTurn([list, c], { rounds: size < most ? 20 : 7 });
    c.end();
    if (found.jobs !== c.last.jobs || found.steps !== c.last.steps)
      throw new Error(`not the same work: ${JSON.stringify([found, c.last])}`);
    report(`list, ${size} jobs, in process`, times, 'C walk, -O2', atMost(2.5));
  }
  const list = wholeProcess(process.execPath, [command, 'list', '--json', '--within', tree.within(size)]);
  const others = [];
  for (const lister of listers) {
    const run = wholeProcess(lister.file, lister.args(size));
    try {
      await run(); // a first time, not counted
      others.push({ ...lister, run });
    } catch (error) {
      console.log(`${error.message}: not compared.`);
    }
  }
  const [ours, ...theirs] = await inTurn([list, ...others.map(({ run }) => run)], {
    rounds: size < most ? 11 : 5,
    warmUp: 1,
  });
  for (const [at, { name, bound }] of others.entries())
    report(`list --json, ${size} jobs, whole process`, [ours, theirs[at]], name, atMost(bound));
}

/** Twenty times each, since one takes a fifth of a millisecond. The user has the same two jobs here and there. */
async function measureOneUser(product, tree, few) {
  const nodes = await Promise.all([most, few].map((size) => product.readNode({ within: tree.within(size) })));
  const times = await inTurn(
    nodes.map((node) => () => {
      for (let i = 0; i < 20; i++)
        if (product.discoverJobs(node, { uid }).length !== 2) throw new Error(`uid ${uid} has not two jobs`);
    }),
    { rounds: 100 },
  );
  report(
    `jobs of one user, ${most} jobs here`,
    times.map((ms) => ms / 20),
    `${few} jobs here`,
    1.5,
  );
}

async function measureStart(what, words, bound) {
  const times = await inTurn(
    [
      wholeProcess(process.execPath, [command, 'adopt', '--dry-run', ...words]),
      wholeProcess(process.execPath, ['-e', '0']),
    ],
    { rounds: 40, warmUp: 3 },
  );
  report(what, times, 'node -e 0', bound);
}

/** MB/s over some megabytes of what this machine has, and of a slurm.conf as sites write it. */
async function measureParsers(product) {
  const config =
    'NodeName=n[001-100] CPUs=64 RealMemory=256000 State=UNKNOWN # a rack\nSlurmdSpoolDir=/var/spool/slurmd\nPrologFlags=contain\n';
  const parsers = [
    ['parseProcCgroup', fs.readFileSync('/proc/self/cgroup', 'utf8'), product.parseProcCgroup],
    ['parseMountInfo', fs.readFileSync('/proc/self/mountinfo', 'utf8'), product.parseMountInfo],
    ['slurm.conf', config.repeat(300), (text) => [...product.configLines(text, 'slurm.conf')]],
  ];
  const speeds = [];
  for (const [name, text, parse] of parsers) {
    const times = Math.ceil(4e6 / text.length);
    const parseAll = () => {
      for (let i = 0; i < times; i++) parse(text);
    };
    const [ms] = await inTurn([parseAll], { rounds: 7 });
    speeds.push(`${name} ${((text.length * times) / ms / 1000).toFixed(0)} MB/s`);
  }
  console.log(`Parsers: ${speeds.join(', ')}`);
}

/** A process of the user, to be asked about. It reads until its end, so it ends with the bench, even a killed one. */
function startIdler() {
  return spawn('/bin/cat', { uid, gid: uid, stdio: ['pipe', 'ignore', 'ignore'] });
}

async function measureOnCgroups(product, hierarchies) {
  const tree = new Tree(hierarchies);
  process.on('exit', () => tree.remove());
  const walk = compile('walk');
  if (walk === undefined) console.log('There is no C compiler: not compared with C.');
  const listers = findListers(tree, hierarchies);
  const idler = startIdler();
  const few = 10;
  const start = (size) => [String(idler.pid), '--within', tree.within(size)];
  for (const size of measures('list') ? [few, 1000, most] : [1000]) {
    for (const _ of tree.make(size, uid)) await new Promise(setImmediate);
    if (measures('watch') && size === 1000) await measureWatch({ tree, size, report });
    if (!measures('list')) continue;
    if (tree.version === 1 && size !== 1000)
      await measureStart(`adopt --dry-run, ${size} jobs here`, start(size), size === few ? 1.25 : undefined);
    await measureList(product, tree, { size, walk, listers });
  }
  if (tree.version === 1 && measures('list')) await measureOneUser(product, tree, few);
}

/** In the freezer and pids of v1, or in v2: what a crowd needs. */
async function measureEndings(product, all, chosen) {
  const program = compile('ending');
  if (program === undefined) {
    console.log('There is no C compiler: no crowd is made, nothing is ended.');
    return;
  }
  const v1 = ['freezer', 'pids'].flatMap((one) => all.all.find(({ controllers }) => controllers.includes(one)) ?? []);
  const hierarchies = chosen[0].version === 1 ? v1 : chosen;
  const tree = new Tree(hierarchies);
  process.on('exit', () => tree.remove());
  const about = { product, command, program, hierarchies, tree, uid, report };
  if (measures('ending')) await measureEnding(about);
  if (measures('bomb')) await measureBomb(about);
  if (measures('scan')) await measureScan(about);
}

function hierarchiesHere(product) {
  try {
    return product.discoverHierarchies();
  } catch (error) {
    console.log(`${error.message}.`); // a container without cgroups
    return undefined;
  }
}

/** On a recorded node: a start that also reads and parses a file. */
const recorded = ['6516', '--from', recordedNode];

console.log(
  `Node.js ${process.version}, Linux ${os.release()}, ${os.cpus().length} CPUs, load ${os.loadavg()[0].toFixed(1)}`,
);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.on(signal, () => process.exit(128 + os.constants.signals[signal]));
const product = await loadProduct();
if (measures('parsers')) await measureParsers(product);
const all = hierarchiesHere(product);
const chosen = all === undefined ? undefined : chooseHierarchies(all);
if (chosen === undefined) {
  console.log('Without root and a writable cgroup file system nothing is listed; adopt decides on a recorded node.');
} else {
  for (const directory of removeLeftovers(all)) console.log(`Removed what an earlier bench left behind: ${directory}`);
  console.log(
    `Jobs are made in real cgroups: ${chosen.map((one) => one.key).join(', ')} (this machine is ${all.mode}).`,
  );
  if (measures('list') || measures('watch')) await measureOnCgroups(product, chosen);
  if (['ending', 'bomb', 'scan'].some(measures)) await measureEndings(product, all, chosen);
}
if (measures('owners')) await measureOwners({ product, report });
if (measures('callerid')) await measureCallerId({ product, report });
if (measures('adopt')) await measureAdopt({ product, report });
if (chosen?.[0].version !== 1 && measures('list')) await measureStart('adopt --dry-run, recorded node', recorded);
process.exit(0);
