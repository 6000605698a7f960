// One smoke for every release on every layout: whatever the product says of a node, Slurm says it too. The tests
// stand in the order in which they must run: the jobs of the first are those of the last.

import { execFile } from 'node:child_process';
import fs from 'node:fs';
import process from 'node:process';
import { promisify } from 'node:util';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { withExternTimes } from '../../../src/jobs/extern-times.js';
import { ifThere } from '../../../src/machine/errors.js';
import { liveHost } from '../../../src/machine/live-host.js';
import { newestJob } from '../../../src/policy/newest.js';
import { describeAccounting } from './accounting.js';
import { describeAttacks } from './attacks.js';
import { agent, compareAdopters, siteHere } from './differential.js';
import { describeClock, describeLogind, describePenalties } from './login.js';
import { describeModuleLogins } from './module.js';
import {
  cell,
  commandHere,
  commOf,
  directoriesOf,
  directoryNameOf,
  examined,
  isAlive,
  type ListJson,
  listPids,
  namedBySluid,
  node,
  nodeName,
  owned,
  patiently,
  queue,
  readOr,
  restartSlurmctld,
  run,
  session,
  shell,
  stamp,
  stepdsOf,
  submit,
  tally,
  tallyOf,
  uids,
  until,
  withoutNames,
} from './slurm.js';
import { describeNamespaces } from './spaces.js';

/** Where a recording of this node is left for those outside. */
const out = '/lab/out';

/** A cell for each reading of times does all; the others leave out what takes long (the clock, with a new slurmctld). */
const isThorough: boolean = cell.full || ['22.05 v1', '24.11 v2 systemd', '26.05 v2 systemd'].includes(cell.name);

/** alice's jobs in the order of their starts, the first with a step of srun, and bob's. */
let [first, bobs, second, third] = [0, 0, 0, 0];
/** A session of alice's that is adopted. */
let adopted = 0;

beforeAll(async () => {
  stamp('the tests begin');
  [first, bobs] = await Promise.all([
    submit('alice', `${agent('first')} srun -n1 --overlap sleep 3600 & sleep 3601 & wait`, { steps: ['0'] }),
    submit('bob', `${agent("bob's")} sleep 3602`, { args: ['--gres=gpu:1'] }),
  ]);
  second = await submit('alice', 'sleep 3603 & sleep 3604');
  stamp('the jobs run');
}, 400_000);
afterEach(({ task }) => stamp(task.name));

/** The newest of alice's jobs, and how it was found. */
async function newest(): Promise<{ readonly jobId: number | undefined; readonly trace: readonly string[] }> {
  const hers = (await owned()).filter(({ uid }) => uid === uids.alice);
  const found = newestJob(withExternTimes(hers, await node()));
  return { jobId: found?.job.jobId, trace: found?.trace ?? [] };
}

/**
 * Any user's `ls` makes the times of Slurm's directories "now", from 23.11 on (FACTS 3); this one looks at the oldest
 * job last.
 */
async function looksAround(): Promise<void> {
  const { tops } = await node();
  await run('sh', ['-c', 'ls -lrR "$@" >/dev/null 2>&1 || :', 'sh', ...tops.map((top) => top.directory)], 'bob');
}

async function setClock(seconds: number): Promise<void> {
  await run('date', ['-s', `@${Math.round(Date.now() / 1000) + seconds}`]);
}

/** Its user may make devices, as far as the cgroup allows. */
async function setuidMknod(): Promise<string> {
  const file = '/opt/lab-mknod'; // /tmp may be mounted nosuid
  await run('sh', ['-c', `cp "$(command -v mknod)" ${file} && chmod 4755 ${file}`]);
  return file;
}

const listed = async (...words: readonly string[]): Promise<ListJson> =>
  JSON.parse((await commandHere('list', '--json', ...words)).text);

interface Examined {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly outcome: string; readonly detail: string }[];
}

/** Each hierarchy in which the process is in the job's extern step. */
function externPlacesOf(pid: number, name: string): readonly string[] {
  return readOr(`/proc/${pid}/cgroup`)
    .split('\n')
    .filter((line) => line.includes(`/${name}/step_extern`));
}

describe(`Slurm ${cell.slurm} on ${cell.cgroup}`, () => {
  it('list, as a command, shows the jobs, steps and processes that Slurm lists', async () => {
    const words = ['list', '--json', ...(cell.nodes === 2 ? ['--node', nodeName] : [])];
    const file = '/repository/dist/bin/slurm-cgroups.js';
    const options = { env: {}, cwd: '/', timeout: 120_000 };
    const { stdout } = await patiently(() => promisify(execFile)(process.execPath, [file, ...words], options));
    const said: ListJson = JSON.parse(stdout);
    expect(said.node).toBe(nodeName);
    expect(said.jobs.map(({ jobId }) => jobId).sort()).toEqual([first, bobs, second].sort());
    for (const job of said.jobs)
      expect(job.steps.map(({ stepId }) => stepId).sort()).toEqual(
        stepdsOf(job.jobId ?? 0)
          .map(({ stepId }) => stepId)
          .sort(),
      );
    expect(tallyOf(said)).toEqual(tally(await listPids()));
    expect(new Set(said.jobs.filter((job) => job.newest).map(({ jobId }) => jobId))).toEqual(new Set([bobs, second]));
  });

  if (cell.slurm === '26.05' && cell.cgroup === 'v2')
    it(`directories are named by ${namedBySluid ? 'SLUID' : 'job id'}, and told with their job ids`, async () => {
      const jobs = await owned();
      const said = jobs.map(({ jobId = 0, sluid }) => sluid ?? `job_${jobId}`);
      expect(said).toEqual(jobs.map(({ jobId = 0 }) => directoryNameOf(jobId)));
      expect(jobs.filter(({ sluid }) => (sluid !== undefined) !== namedBySluid)).toEqual([]);
    });

  if (cell.cgroup === 'v2')
    it('the scope is where Slurm put it, and holds no job that is none', async () => {
      const here = await node();
      expect(here.tops.map((top) => top.directory)).toEqual([
        `/sys/fs/cgroup/system.slice/${nodeName}_slurmstepd.scope`,
      ]);
      const slurmd = Number((await run('pidof', ['slurmd'])).trim().split(' ')[0]);
      expect(await commandHere('verify', String(slurmd))).toMatchObject({ code: 1 });
    });

  if (cell.configless)
    it("the configuration is found in slurmd's cache", async () => {
      const { configuration, spools } = await node();
      expect(fs.existsSync('/etc/slurm/slurm.conf')).toBe(false);
      expect(configuration?.file).toMatch(/\/(conf-cache|run\/slurm\/conf)\/slurm\.conf$/);
      expect(spools.get(nodeName)).toBe('/var/spool/lab/spool');
    });

  it('findOwners() names the user that squeue names', async () => {
    const found = Object.fromEntries((await owned()).map(({ jobId, uid }) => [jobId, uid]));
    expect(found).toEqual(Object.fromEntries((await queue()).map(({ jobId, uid }) => [jobId, uid])));
  });

  it('newestJob() is the job that started last, whatever was looked at and whatever the kernel forgot', async () => {
    expect(await newest()).toMatchObject({ jobId: second });
    if (isThorough) {
      await looksAround();
      expect(await newest()).toMatchObject({ jobId: second });
    }
    fs.writeFileSync('/proc/sys/vm/drop_caches', '2\n');
    await looksAround();
    const { jobId, trace } = await newest();
    expect(jobId, trace.join('; ')).toBe(second);
  });

  it('adopt puts a session into the newest job, and Slurm lists it there', async () => {
    adopted = session('alice');
    const { code, text } = await commandHere('adopt', String(adopted), '--json');
    expect(code, text).toBe(0);
    const report = JSON.parse(text);
    expect(report).toMatchObject({
      ...{ action: 'adopt', job: { jobId: second } },
      adoption: { outcome: 'adopted', accounting: 'stepd' },
    });
    // Only slurmstepd makes the first leaf there (FACTS 4).
    if (cell.slurm === '26.05' && cell.cgroup === 'v2') expect(report.adoption.moved).toBe('stepd');
    // LaunchParameters=ulimit_pam_adopt, which slurmstepd does with what it is told of (23.02 on): 100 MiB.
    if (cell.configless) expect(readOr(`/proc/${adopted}/limits`)).toMatch(/^Max resident set\s+104857600\s/m);
    const name = directoryNameOf(second);
    const places = externPlacesOf(adopted, name);
    expect(places.length, readOr(`/proc/${adopted}/cgroup`)).toBeGreaterThanOrEqual(cell.cgroup === 'v2' ? 1 : 3);
    const pids = (await listPids(second)).filter(({ stepId }) => stepId === 'extern').map(({ pid }) => pid);
    expect(pids).toContain(adopted);
  });

  it('verify says yes for its job, and no for another', async () => {
    const yes = await commandHere('verify', String(adopted), '--job', String(second), '--json');
    expect(yes.code, yes.text).toBe(0);
    expect(JSON.parse(yes.text)).toMatchObject({ verdict: 'contained', job: { jobId: second, stepId: 'extern' } });
    expect(await commandHere('verify', String(adopted), '--job', String(first))).toMatchObject({ code: 1 });
    expect(await commandHere('verify', String(process.pid))).toMatchObject({ code: 1 });
  });

  it("the job's limits bite in an adopted session: its CPUs, devices, memory", async () => {
    const [hers, his, free] = [shell('alice'), shell('bob'), shell('carol')];
    const device = 'cat </dev/lab0 | head -c 1 | wc -c';
    const mknod = await setuidMknod();
    for (const [one, jobId] of [
      [hers, second],
      [his, bobs],
    ] as const) {
      const { code, text } = await commandHere('adopt', String(one.pid), '--job', String(jobId));
      expect(code, text).toBe(0);
    }
    const cpus = (pid: number) => /^Cpus_allowed_list:\s*(.*)$/m.exec(readOr(`/proc/${pid}/status`))?.[1];
    const batch = (await listPids(second)).find(({ stepId }) => stepId === 'batch')?.pid ?? 0;
    expect(cpus(hers.pid)).toBe(cpus(batch));
    expect(cpus(hers.pid)).toMatch(/^[01]$/);
    expect(cpus(free.pid)).toBe('0-1');
    // The device is bob's, whose job asked for it. A session in no job is not limited.
    expect(await his.say(device)).toBe('1\ncode 0');
    expect(await free.say(device)).toBe('1\ncode 0');
    expect(await hers.say(device)).toMatch(/Operation not permitted/);
    expect(await hers.say(`${mknod} /tmp/lab-alice c 1 7`)).toMatch(/Operation not permitted\s+code 1$/);
    expect(await free.say(`${mknod} /tmp/lab-carol c 1 7`)).toBe('code 0');
    // 150 MiB in a job of 100: the session's process is killed, and no other, neither in this job nor in others.
    const others = (await listPids()).map(({ pid }) => pid).filter((pid) => commOf(pid) === 'sleep');
    expect(await hers.say('head -c 150M /dev/zero | tail >/dev/null')).toMatch(/code 137$/);
    expect(others.length).toBeGreaterThan(3);
    expect(others.filter((pid) => !isAlive(pid))).toEqual([]);
    expect(isAlive(hers.pid)).toBe(true);
    for (const { pid } of [hers, his, free]) process.kill(pid, 'SIGKILL');
  });

  const machine = liveHost();

  it('doctor finds the node fit, and its recording has the jobs that the live node has', async () => {
    const file = `${out}/recording.jsonl`;
    const full = await examined(file);
    fs.writeFileSync(`${out}/doctor.json`, full.text);
    const report: Examined = JSON.parse(full.text);
    const failing = report.checks.filter(({ outcome }) => outcome === 'fail').map(({ name }) => name);
    expect(full.code, full.text).toBe(failing.length === 0 ? 0 : 1);
    // Debian's logind, where it runs, removes what the jobs of a user share when they log out (FACTS 6).
    const commOf = (pid: string) => ifThere(() => machine.read(`/proc/${pid}/comm`));
    const doesLogindRun = machine
      .names('/proc')
      .some((name) => /^\d+$/.test(name) && commOf(name) === 'systemd-logind\n');
    expect(failing, full.text).toEqual(doesLogindRun ? ['RemoveIPC'] : []);
    const detailOf = (name: string) => report.checks.find((check) => check.name === name)?.detail;
    expect(detailOf('configuration')).toContain(cell.configless ? '/slurm.conf' : '/etc/slurm/slurm.conf');
    // Again while the machine is too busy for what has a deadline, as examined() does.
    let brief = await commandHere('doctor', '--brief');
    for (let left = 4; left > 0 && brief.code !== full.code; left--) brief = await commandHere('doctor', '--brief');
    expect(brief.code).toBe(full.code);
    expect(brief.text.split('\n')).toHaveLength(1);
    // In one go: what Slurm says of this moment, beside what the recording says.
    const [live, pids, jobs] = [await listed(), await listPids(), await queue()];
    const expected = {
      cell,
      node: nodeName,
      newest: { uid: uids.alice, jobId: second },
      adopted: { pid: adopted, jobId: second },
      jobs: jobs.map((job) => ({
        ...job,
        steps: stepdsOf(job.jobId).map(({ stepId, pid }) => ({
          stepId,
          slurmstepd: pid,
          pids: pids.filter((one) => one.jobId === job.jobId && one.stepId === stepId).map((one) => one.pid),
        })),
      })),
      brief: brief.text,
      list: live,
    };
    fs.writeFileSync(`${out}/expected.json`, `${JSON.stringify(expected, undefined, 2)}\n`);
    expect(tallyOf(live)).toEqual(tally(pids));
    const played = await listed('--from', file);
    expect(withoutNames(played)).toEqual(withoutNames(live));
  });

  compareAdopters(() => ({ first, second, "bob's": bobs }));
  const cluster = async () => (await siteHere()).cluster;
  // Each where it is shown, and no more: a login takes an emulated machine seconds.
  if ((cell.boot === 'systemd' && cell.cgroup === 'v2') || cell.slurm === '20.11')
    describeModuleLogins(cluster, () => bobs);
  if (cell.container) describeNamespaces(cluster, () => bobs);
  if (cell.boot === 'systemd' && !cell.jobIdPaths) describeLogind(cluster);
  if (cell.name === '24.11 v1') describePenalties(cluster, () => bobs);
  if (cell.name === '22.05 v2') describeClock(cluster, () => second);

  if (isThorough)
    it('newestJob() is the later job also where the clock was set back before it', async () => {
      await setClock(-3600);
      try {
        await restartSlurmctld();
        third = await submit('alice', 'sleep 3605');
        expect(await newest()).toMatchObject({ jobId: third });
        await looksAround();
        expect(await newest()).toMatchObject({ jobId: third });
      } finally {
        await setClock(3600);
      }
      expect(await newest()).toMatchObject({ jobId: third });
    });

  it('clean does not touch a job that slurmstepd runs; by force it ends its processes and no other', async () => {
    const before = await listPids();
    const refused = await commandHere('clean', String(bobs), '--json');
    expect(refused.code, refused.text).toBe(1);
    expect(JSON.parse(refused.text)).toMatchObject({ ended: [], refused: expect.stringContaining('slurmstepd') });
    const theirs = before.filter(({ jobId, pid }) => jobId === bobs && commOf(pid) !== 'slurmstepd');
    expect(theirs.length).toBeGreaterThan(0);
    expect(theirs.filter(({ pid }) => !isAlive(pid))).toEqual([]);
    const forced = await commandHere('clean', String(bobs), '--force', '--grace', '0', '--json');
    const report: { ended: { pid: number; comm: string }[]; survivors: unknown[]; refused?: string } = JSON.parse(
      forced.text,
    );
    expect(report.refused, forced.text).toBeUndefined();
    expect(report.survivors, forced.text).toEqual([]);
    const ofBatch = theirs.filter(({ stepId }) => stepId === 'batch').map(({ pid }) => pid);
    expect(report.ended.map(({ pid }) => pid)).toEqual(expect.arrayContaining(ofBatch));
    expect(report.ended.filter(({ comm }) => comm === 'slurmstepd')).toEqual([]);
    expect(ofBatch.filter(isAlive)).toEqual([]);
    expect(before.filter(({ jobId, pid }) => jobId !== bobs && !isAlive(pid))).toEqual([]);
    await until(`Slurm ends job ${bobs}`, async () => (await queue()).every(({ jobId }) => jobId !== bobs));
  });

  it('clean ends everything of a job whose slurmstepds died, and removes its cgroups', async () => {
    const before = await listPids();
    const theirs = before.filter(({ jobId, pid }) => jobId === second && commOf(pid) !== 'slurmstepd');
    const name = directoryNameOf(second);
    for (const { pid } of stepdsOf(second)) process.kill(pid, 'SIGKILL');
    await until('its slurmstepds are dead', () => stepdsOf(second).length === 0);
    expect(theirs.map(({ pid }) => pid)).toContain(adopted);
    expect(isAlive(adopted)).toBe(true);
    // Nothing is left that knows which job a SLUID is: that name is asked for.
    const { code, text } = await commandHere('clean', namedBySluid ? name : String(second), '--grace', '0', '--json');
    expect(code, text).toBe(0);
    expect(theirs.filter(({ pid }) => isAlive(pid))).toEqual([]);
    expect(JSON.parse(text).ended.map(({ pid }: { pid: number }) => pid)).toContain(adopted);
    expect(await directoriesOf(name)).toEqual([]);
    const others = before.filter(({ jobId }) => jobId === first || jobId === third);
    expect(others.length).toBeGreaterThan(0);
    expect(others.filter(({ pid }) => !isAlive(pid))).toEqual([]);
  });
});

// At the end: its jobs are none of those above.
if (cell.accounting) describeAccounting();
// Where a step's directory is its user's.
if (['20.11', '22.05'].includes(cell.slurm) && cell.cgroup !== 'v2') describeAttacks();
