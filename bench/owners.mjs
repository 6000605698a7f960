// Whose jobs are here, measured on a real Slurm: the node read, its jobs found and their owners known, in this process,
// beside a whole `scontrol listpids`, which asks the slurmstepd of every step. On v1 the paths tell the owners; asked of
// slurmstepd, as on v2 where no script tells, it is measured as well. And 1,000 recorded jobs, which no machine here
// runs: there is no peer for that.

import { loadTests } from './load.mjs';
import { inTurn, wholeProcess } from './measure.mjs';

const sizes = [1, 10, 100];

/** @param {{ product: object, report: Function }} of */
export async function measureOwners({ product, report }) {
  const tests = await loadTests();
  await measureRecorded(product, tests);
  await onCluster(tests, 'owners are', async (cluster) => {
    for (const size of sizes) {
      await submit(cluster, tests, size);
      await measureRunning({ product, report, cluster });
    }
  });
}

/** Measures on a Slurm of its own; where none can be started, that is said of `what`. */
export async function onCluster({ startCluster }, what, measure) {
  let cluster;
  try {
    cluster = await startCluster();
  } catch (error) {
    console.log(`${String(error.message).split('\n')[0]}: ${what} not measured on a real Slurm.`);
    return;
  }
  try {
    await measure(cluster);
  } finally {
    await cluster.stop();
  }
}

/**
 * Until `size` run, submitted as an array. Slurm starts some a second, on a busy machine fewer than one: it goes on as long
 * as there are more and more. A busy one may lose a job (99 of 100, measured): then those that run are measured.
 */
async function submit(cluster, { until, users }, size) {
  let seen = await countRunning(cluster);
  const script = ['--parsable', '-o', '/dev/null', '--chdir=/', `--array=1-${size - seen}`, '--wrap=sleep 3600'];
  await cluster.run('sbatch', script, users[0]);
  for (let last = performance.now(); seen < size && performance.now() - last < 45_000; ) {
    const before = seen;
    await new Promise((fulfil) => setTimeout(fulfil, 500));
    seen = await countRunning(cluster);
    if (seen > before) last = performance.now();
  }
  await until('a job runs', async () => (await countRunning(cluster)) > 0);
}

/** Jobs whose script and its sleep are there. */
async function countRunning(cluster) {
  const batch = (await listed(cluster))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , step]) => step === 'batch');
  const processes = new Map();
  for (const [, job] of batch) processes.set(job, (processes.get(job) ?? 0) + 1);
  return [...processes.values()].filter((count) => count === 2).length;
}

/** The lines of `scontrol listpids`: of each process one. */
async function listed(cluster) {
  const args = ['listpids', '*', cluster.nodeName];
  // It fails where there is none, also none but what ended meanwhile.
  const text = await cluster.run('scontrol', args).catch(({ stdout = '' }) => stdout);
  return text.trim().split('\n').slice(1);
}

async function measureRunning({ product, report, cluster }) {
  const { readNode, discoverJobs, findOwners, askOwners, deadlineIn } = product;
  const options = { nodeName: cluster.nodeName, configFile: cluster.conf };
  const { size } = new Set((await listed(cluster)).map((line) => line.trim().split(/\s+/)[1]));
  const uid = 1; // `daemon`, the first of the test's users
  const check = (what, found) => {
    if (found.length !== size || found.some((one) => one.uid !== uid)) throw new Error(`${what}: not the same jobs`);
  };
  const byPath = async () => {
    const node = await readNode(options);
    check('paths', await findOwners(discoverJobs(node), { node }));
  };
  const asked = async () => {
    const node = await readNode(options);
    const ownerless = discoverJobs(node).map(({ uid: _, ...job }) => job);
    check(
      'slurmstepds',
      await askOwners(ownerless, { node, deadline: deadlineIn(node.host, 60_000), eachTimeoutMs: 30_000 }),
    );
  };
  process.env.SLURM_CONF = cluster.conf; // scontrol's environment is ours
  const scontrol = wholeProcess('/usr/bin/scontrol', ['listpids', '*', cluster.nodeName]);
  const rounds = size < 100 ? 21 : 11;
  const [ours, oursAsked, theirs] = await inTurn([byPath, asked, scontrol], { rounds });
  delete process.env.SLURM_CONF;
  const word = size === 1 ? 'job' : 'jobs';
  report(`owners, ${size} ${word} run, in process`, [ours, theirs], 'scontrol listpids, whole', 1);
  report(`owners asked of slurmstepd, ${size} ${word}, in process`, [oursAsked, theirs], 'scontrol listpids, whole', 1);
}

/** Played from memory: v1, whose paths tell, and v2, where the scripts in slurmd's spool do. */
async function measureRecorded(product, { treeText }) {
  const size = 1000;
  const ids = Array.from({ length: size }, (_, at) => at + 1);
  const steps = ['step_extern', 'step_batch'];
  const uidOf = (jobId) => 1000 + (jobId % 100);
  const v1 = treeText({
    hierarchies: ['memory', 'freezer'],
    directories: ['memory', 'freezer'].flatMap((one) =>
      ids.flatMap((id) => steps.map((step) => `${one}/slurm/uid_${uidOf(id)}/job_${id}/${step}`)),
    ),
  });
  const time = '1795504327244000000';
  const stat = (where, mode, uid) => ({ stat: where, is: [mode, uid, 0, 30, 7, 2, 0, time, time].map(String) });
  const spool = [
    stat('/spool', 0o40755, 0),
    ...ids.flatMap((id) => {
      const folder = `/spool/job${String(id).padStart(5, '0')}`;
      return [stat(folder, 0o40750, 0), stat(`${folder}/slurm_script`, 0o100700, uidOf(id))];
    }),
  ];
  const v2 =
    treeText({
      hierarchies: ['unified'],
      directories: ids.flatMap((id) =>
        steps.map((step) => `unified/system.slice/n1_slurmstepd.scope/job_${id}/${step}/user/task_0`),
      ),
    }) + spool.map((line) => `${JSON.stringify(line)}\n`).join('');
  const texts = [];
  for (const [name, text] of Object.entries({ v1, v2 })) {
    const host = product.recordedHost(text);
    const find = async () => {
      const node = await product.readNode({ host, within: '/', spoolDir: '/spool', nodeName: 'n1' });
      const found = await product.findOwners(product.discoverJobs(node), { node });
      if (found.length !== size || found.some(({ jobId, uid }) => uid !== uidOf(jobId)))
        throw new Error(`${name}: not the jobs that were recorded`);
    };
    const [ms] = await inTurn([find], { rounds: 11 });
    texts.push(`${name} ${ms.toFixed(1)} ms`);
  }
  console.log(`Owners, ${size} recorded jobs, in process: ${texts.join(', ')} (no peer)`);
}
