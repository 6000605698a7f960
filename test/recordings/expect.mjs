// Derives what the product must answer on each recording, without the product: node expect.mjs FIXTURES_DIR
// OUT_DIR. It reads what Slurm said (jobs.txt, the answers of each step's socket) and the captured tree, by
// the rules of the project's facts, and stops where the kernel's memberships (proc-cgroup.txt) say otherwise.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';

const moments = {
  tree: '',
  'tree-before-adoption': 'before-adoption',
  'tree-after-ls': 'after-ls',
  'tree-after-reclaim': 'after-reclaim',
};
const uids = { alice: 1001, bob: 1002 };
const stepNames = { 4294967290: 'interactive', 4294967291: 'batch', 4294967292: 'extern' };
/** Where the author's rule looks for step_extern when memory has none. */
const fallbackOrder = ['memory', 'cpuset', 'devices', 'freezer', 'cpuacct', 'cpu,cpuacct', 'unified'];
const modes = { 'slurm-22.05-v1': 'hybrid', v1: 'legacy', v2: 'unified' };

function main([fixtures, out]) {
  if (fixtures === undefined || out === undefined) {
    process.stderr.write('usage: node expect.mjs FIXTURES_DIR OUT_DIR\n');
    return 2;
  }
  fs.mkdirSync(out, { recursive: true });
  for (const name of fs.readdirSync(fixtures).sort()) {
    for (const [file, moment] of Object.entries(moments)) {
      const read = (base) => linesOf(path.join(fixtures, name, base));
      if (read(`${file}.txt`).length === 0) continue;
      const expected = expectedOf({ name, moment, read, tree: read(`${file}.txt`) });
      const target = [name, moment, 'json'].filter((part) => part !== '').join('.');
      fs.writeFileSync(path.join(out, target), `${format(expected, 0)}\n`);
    }
  }
  return 0;
}

function linesOf(file) {
  return fs.existsSync(file)
    ? fs
        .readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
    : [];
}

function expectedOf({ name, moment, read, tree }) {
  const release = Number(/^slurm-(\d+\.\d+)-(v\d)/.exec(name)[1]);
  const v2 = /-v2/.test(name);
  const processes = processesOf(read('proc-cgroup.txt'));
  for (const one of processes) one.role = roleOf(one, processes, release);
  // Before its adoption the adopted process was somewhere that nobody captured: the recording leaves it out.
  const here = processes.filter(({ role }) => moment !== 'before-adoption' || role !== 'adopted');
  const directories = directoriesOf(tree);
  const jobs = jobsOf(directories, here);
  const known = read('jobs.txt').length > 0;
  if (known) checkAgainstSlurm(jobs, read, here);
  for (const job of jobs) job.real = known ? realByName(job, read) : realByPlace(job, read, here);
  const listed = jobs.map((job) => listedOf(job, directories, v2));
  return {
    source: known
      ? 'jobs and owners: jobs.txt; processes: stepd.jsonl, the same as by proc-cgroup.txt; directories and times: the tree'
      : 'no jobs.txt and no stepd.jsonl: jobs and steps by their directories, processes by proc-cgroup.txt; real owners by the uid of each slurm_script and the group of its spool folder',
    mode: modes[name] ?? (v2 ? modes.v2 : modes.v1),
    slurmIn: [...new Set(directories.map(({ hierarchy }) => hierarchy))].sort(),
    list: listed,
    newest: newestOf(jobs, v2, moment, read('spool-stat.txt')),
    verify: [{ pid: 1, role: 'pid 1, synthesized', memberships: new Map() }, ...here].map((one) =>
      verdictOf(one, jobs),
    ),
    decide: v2 ? [] : decisionsOf(jobs),
    notes: v2
      ? []
      : [
          'a healthy slurmstepd on v1 is partial: in the job in freezer, in its step in cpuset and devices, else outside',
        ],
  };
}

// ---------------------------------------------------------------------------------------- the kernel's side

function processesOf(lines) {
  const processes = [];
  for (const line of lines) {
    const head = /^# pid (\d+) uid (\d+) comm (.*)$/.exec(line);
    if (head !== null) {
      processes.push({ pid: Number(head[1]), uid: Number(head[2]), comm: head[3], memberships: new Map() });
      continue;
    }
    const [id, controllers, ...where] = line.split(':');
    processes.at(-1).memberships.set(id === '0' ? 'unified' : controllers, where.join(':'));
  }
  return processes.sort((a, b) => a.pid - b.pid);
}

const jobPlace = /\/(?:slurm_(\w+)\/uid_(\d+)|(\w+)_slurmstepd\.scope)\/(job_\d+|s[0-9A-Z]{13})(?:\/step_([^/]+))?/;

/** Which job and step a path names, whatever lies below the step. */
function placeOf(where) {
  const found = jobPlace.exec(where);
  if (found === null) return undefined;
  const [, v1Node, uid, v2Node, folder, stepId] = found;
  return {
    key: `${v1Node ?? v2Node} ${folder}`,
    nodeName: v1Node ?? v2Node,
    uid: uid === undefined ? null : Number(uid),
    folder,
    stepId,
  };
}

/** Directories of jobs and steps themselves, each with its time. */
function directoriesOf(tree) {
  return tree.flatMap((line) => {
    const [where, seconds] = line.split(' ');
    const place = placeOf(`/${where}`);
    const hierarchy = where.startsWith('system.slice/') ? 'unified' : where.split('/')[0];
    const top = /^(?:system\.slice\/\w+_slurmstepd\.scope|[^/]+\/slurm_\w+)$/.test(where);
    if (place === undefined) return top ? [{ hierarchy, top: true }] : [];
    const last = where.split('/').at(-1);
    const isOwn = last === (place.stepId === undefined ? place.folder : `step_${place.stepId}`);
    return isOwn ? [{ ...place, hierarchy, mtimeNs: BigInt(seconds.replace('.', '').slice(0, 19)) }] : [];
  });
}

function jobsOf(directories, processes) {
  const jobs = new Map();
  for (const directory of directories.filter(({ top }) => top === undefined)) {
    const { key, nodeName, uid, folder, stepId, hierarchy, mtimeNs } = directory;
    const job = jobs.get(key) ?? { key, nodeName, uid, folder, hierarchies: [], steps: new Map(), extern: new Map() };
    jobs.set(key, job);
    if (stepId === undefined) {
      job.hierarchies.push(hierarchy);
      continue;
    }
    const step = job.steps.get(stepId) ?? { stepId, hierarchies: [], pids: [] };
    job.steps.set(stepId, step);
    step.hierarchies.push(hierarchy);
    if (stepId === 'extern') job.extern.set(hierarchy, mtimeNs);
  }
  for (const { pid, memberships } of processes) {
    for (const place of [...memberships.values()].map(placeOf)) {
      const step = place?.stepId === undefined ? undefined : jobs.get(place.key).steps.get(place.stepId);
      if (step !== undefined && !step.pids.includes(pid)) step.pids.push(pid);
    }
  }
  return [...jobs.values()].sort(byPlace);
}

function byPlace(a, b) {
  const number = (job) => Number(/^job_(\d+)$/.exec(job.folder)?.[1] ?? 0);
  return a.nodeName.localeCompare(b.nodeName) || number(a) - number(b) || (a.folder < b.folder ? -1 : 1);
}

/** Up to 24.11 an extern step begins with a placeholder; whoever else of root is there was adopted. */
function roleOf({ pid, uid, comm, memberships }, processes, release) {
  const places = [...memberships.values()].map(placeOf).filter((place) => place !== undefined);
  const step = places.find(({ stepId }) => stepId !== undefined);
  if (step === undefined)
    return [...memberships.values()].some((where) => where.endsWith('_slurmstepd.scope/system'))
      ? 'slurmstepd infinity'
      : comm;
  if (comm === 'slurmstepd') return `slurmstepd of ${step.stepId}`;
  if (step.stepId !== 'extern' || uid !== 0) return comm === 'slurm_script' ? comm : `${comm} in step ${step.stepId}`;
  if (release > 25) return 'adopted';
  const first = processes.find(
    (other) =>
      other.comm !== 'slurmstepd' &&
      [...other.memberships.values()]
        .map(placeOf)
        .some((place) => place?.key === step.key && place.stepId === 'extern'),
  );
  return first.pid === pid ? 'placeholder' : 'adopted';
}

// ------------------------------------------------------------------------------------------- Slurm's side

function socketOf(name) {
  const [, nodeName, jobId, step, component] = /^(\w+)_(\d+)\.(\d+)(?:\.(\d+))?$/.exec(name);
  return { nodeName, jobId: Number(jobId), step: stepNames[step] ?? step, component };
}

/** Every step that answered on its socket has its directories and exactly those processes; and no others are there. */
function checkAgainstSlurm(jobs, read, here) {
  const left = new Set(jobs.flatMap((job) => [...job.steps.keys()].map((stepId) => `${job.key} ${stepId}`)));
  const pidsHere = new Set(here.map(({ pid }) => pid));
  for (const line of read('stepd.jsonl')) {
    const answer = JSON.parse(line);
    const { nodeName, jobId, step, component } = socketOf(answer.socket);
    const job = jobs.find(
      (one) => one.nodeName === nodeName && (one.folder === `job_${jobId}` || one.folder === answer.sluid),
    );
    assert(job, `${answer.socket}: no directory`);
    assert(job.uid === null || job.uid === answer.uid, `${answer.socket}: another owner`);
    const stepId = job.steps.has(`${step}+${component}`) ? `${step}+${component}` : step;
    // LIST_PIDS names slurmstepd itself on v2 only; it is in a directory of its step everywhere.
    const pids = [...new Set([answer.daemon, ...answer.pids])].filter((pid) => pidsHere.has(pid)).sort((a, b) => a - b);
    assert.deepEqual(job.steps.get(stepId)?.pids, pids, `${answer.socket}: other processes`);
    left.delete(`${job.key} ${stepId}`);
  }
  assert.deepEqual([...left], [], 'steps without a socket');
}

function realByName(job, read) {
  const answers = read('stepd.jsonl').map((line) => JSON.parse(line));
  const answer = answers.find(({ socket, sluid }) => {
    const { nodeName, jobId } = socketOf(socket);
    return nodeName === job.nodeName && (job.folder === `job_${jobId}` || job.folder === sluid);
  });
  const { jobId } = socketOf(answer.socket);
  const row = read('jobs.txt')
    .map((line) => line.split(/\s+/))
    .find(([, id]) => id === String(jobId));
  assert.equal(uids[row[2]], answer.uid);
  return { jobId, uid: answer.uid, user: row[2], ...(answer.sluid === undefined ? {} : { sluid: answer.sluid }) };
}

function realByPlace(job, read, processes) {
  const jobId = Number(job.folder.slice('job_'.length));
  const script = processes.find(
    ({ comm, pid }) => comm === 'slurm_script' && job.steps.get('batch').pids.includes(pid),
  );
  const row = read('spool.txt')
    .map((line) => line.split(' '))
    .find(([name]) => name === `job${String(jobId).padStart(5, '0')}`);
  assert.equal(uids[row[2]], script.uid);
  assert(job.uid === null || job.uid === script.uid);
  return { jobId, uid: script.uid, user: row[2] };
}

// ---------------------------------------------------------------------------------------------- the answers

/** How a job can be named at this stage: its id where the directory says it, its SLUID, the node of its tree. */
function nameOf(job) {
  const id = /^job_(\d+)$/.exec(job.folder)?.[1];
  return {
    jobId: id === undefined ? null : Number(id),
    ...(id === undefined ? { sluid: job.folder } : {}),
    nodeName: job.nodeName,
  };
}

function listedOf(job, directories, v2) {
  const trees = [...new Set(directories.filter(({ top }) => top).map(({ hierarchy }) => hierarchy))].sort();
  const order = ['extern', 'batch', 'interactive'];
  const rank = ({ stepId }) =>
    order.includes(stepId) ? order.indexOf(stepId) : order.length + Number.parseInt(stepId, 10);
  return {
    ...nameOf(job),
    uid: v2 ? null : job.uid,
    hierarchies: job.hierarchies.sort(),
    externMissingIn: trees.filter((hierarchy) => !job.extern.has(hierarchy)),
    steps: [...job.steps.values()]
      .sort((a, b) => rank(a) - rank(b))
      .map(({ stepId, pids, hierarchies }) => ({
        stepId,
        pids: pids.sort((a, b) => a - b),
        hierarchies: hierarchies.sort(),
      })),
    real: job.real,
  };
}

const earliest = ({ extern }) => [...extern.values()].sort((a, b) => (a < b ? -1 : 1))[0];
/** The first hierarchy in the fallback order that has step_extern of every one of these jobs. */
const commonOf = (jobs) => fallbackOrder.find((hierarchy) => jobs.every(({ extern }) => extern.has(hierarchy)));
/** The author's rule compares like with like: all jobs are read in that hierarchy. */
const byAuthor = (jobs) => {
  const common = commonOf(jobs);
  return ({ extern }) => extern.get(common);
};
/** What the rule would be without that: each job in the first hierarchy that has it. */
const byOwnFirst = ({ extern }) => extern.get(fallbackOrder.find((hierarchy) => extern.has(hierarchy)));

function latest(jobs, timeOf) {
  const ranked = [...jobs].sort((a, b) => (timeOf(a) > timeOf(b) ? -1 : 1));
  assert(ranked.length < 2 || timeOf(ranked[0]) > timeOf(ranked[1]), 'a tie');
  return ranked[0];
}

const ctimeOf = (line) => line.split(' ctime=')[1];

/** Over all jobs of the host, of each node where there are several, of each owner where the path names one. */
function newestOf(jobs, v2, moment, spool) {
  const nodes = [...new Set(jobs.map(({ nodeName }) => nodeName))];
  const owners = v2 ? [] : [...new Set(jobs.map(({ uid }) => uid))].sort();
  const groups = [
    { among: 'all', candidates: jobs },
    ...(nodes.length === 1
      ? []
      : nodes.map((nodeName) => ({
          among: 'node',
          nodeName,
          candidates: jobs.filter((job) => job.nodeName === nodeName),
        }))),
    ...owners.map((uid) => ({ among: 'owner', uid, candidates: jobs.filter((job) => job.uid === uid) })),
  ];
  return groups.map(({ candidates, ...group }) => {
    const newest = latest(candidates, earliest);
    const author = latest(candidates, byAuthor(candidates));
    const last = Math.max(...candidates.map(({ real }) => real.jobId));
    const notes = [];
    assert.equal(author, newest, 'the two rules differ: say why');
    const apart = latest(candidates, byOwnFirst);
    if (apart !== author) {
      notes.push(
        `the author's rule, each job in the first hierarchy that has it, would find ${apart.folder}: in memory it alone has a step_extern, made by an adoption long after its start`,
        `all read in ${commonOf(candidates)}, the first that has every job, it is ${author.folder}`,
      );
      assert(candidates.every((job) => job === apart || !job.extern.has('memory')));
    }
    if (moment === 'after-ls')
      notes.push('all mtimes are those of one ls -lR, in its order; that it is the right job is chance');
    if (moment === 'after-reclaim') {
      const sockets = spool
        .filter((line) => /_\d+\.4294967292 /.test(line))
        .sort((a, b) => (ctimeOf(a) < ctimeOf(b) ? -1 : 1));
      assert.equal(socketOf(sockets.at(-1).split(' ')[0]).jobId, last);
      notes.push(
        `inodes were made anew in the order of the stats, so the mtimes say nothing; with the sockets consulted it is job ${last}`,
      );
    } else if (newest.real.jobId !== last) {
      notes.push(`job ${last} has the greater id, but its extern step began earlier`);
    }
    return {
      ...group,
      newest: nameOf(newest),
      stepExternMtime: nameOf(author),
      ...(notes.length === 0 ? {} : { why: notes.join('; ') }),
    };
  });
}

function verdictOf({ pid, role, memberships }, jobs) {
  const places = [...memberships]
    .map(([hierarchy, where]) => ({ hierarchy, ...placeOf(where) }))
    .filter(({ key }) => key !== undefined);
  const keys = [...new Set(places.map(({ key }) => key))];
  if (keys.length === 0) return { pid, role, verdict: 'outside', job: null, missingIn: [] };
  assert.equal(keys.length, 1, `process ${pid} is in two jobs`);
  const job = jobs.find(({ key }) => key === keys[0]);
  const steps = [...new Set(places.map(({ stepId }) => stepId).filter((stepId) => stepId !== undefined))];
  assert.equal(steps.length, 1, `process ${pid} is in several steps`);
  const missingIn = job.hierarchies
    .filter((hierarchy) => !places.some((place) => place.hierarchy === hierarchy))
    .sort();
  const verdict = missingIn.length === 0 ? 'contained' : 'partial';
  return { pid, role, verdict, job: { ...nameOf(job), stepId: steps[0] }, missingIn };
}

function decisionsOf(jobs) {
  const owners = [...new Set(jobs.map(({ uid }) => uid))].sort();
  return [
    ...owners.map((uid) => {
      const own = jobs.filter((job) => job.uid === uid);
      const { jobId, nodeName } = nameOf(latest(own, earliest));
      const why =
        own.length === 1
          ? 'the only job: caller ID is not asked'
          : `${own.length} jobs, caller ID unknown, action_unknown=newest`;
      return { uid, action: 'adopt', jobId, nodeName, why };
    }),
    { uid: 4242, action: 'deny', jobId: null, why: 'no jobs here, action_no_jobs=deny' },
  ];
}

// ------------------------------------------------------------------------------------------------ the file

/** JSON with short values on one line, for people to read and compare. */
function format(value, indent) {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const inner = ' '.repeat(indent + 2);
  const isArray = Array.isArray(value);
  const items = isArray
    ? value.map((item) => format(item, indent + 2))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${format(item, indent + 2)}`);
  if (items.length === 0) return isArray ? '[]' : '{}';
  const isFlat =
    !(isArray && value.length > 1 && typeof value[0] === 'object') && items.every((item) => !item.includes('\n'));
  const line = isArray ? `[${items.join(', ')}]` : `{ ${items.join(', ')} }`;
  if (isFlat && indent > 0 && line.length + indent < 160) return line;
  const [open, close] = isArray ? '[]' : '{}';
  return `${open}\n${items.map((item) => `${inner}${item}`).join(',\n')}\n${' '.repeat(indent)}${close}`;
}

process.exitCode = main(process.argv.slice(2));
