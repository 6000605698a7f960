// The examples of README.md, as a program of somebody else's: compiled against the package, and run, on recorded nodes of
// cgroup v1 and v2, and on this machine's own cgroups where they move a process.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Sandbox } from '../src/cli/sandbox.js';
import { liveHost } from '../src/machine/live-host.js';
import { expectedFor, recording } from './recordings/recordings.js';
import { blocks } from './support/code-blocks.js';
import { canUseCgroups, mayBeSkipped } from './support/may-run.js';
import { distFolder } from './support/program-run.js';
import { until } from './support/stuck-processes.js';

const root = path.resolve(import.meta.dirname, '..');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'slurm-cgroups-examples-'));
const examples = blocks(fs.readFileSync(path.join(root, 'README.md'), 'utf8'), 'ts');
const [readsJobs = 0, admits = 1, watches = 2] = [0, 1, 2];

/** The package as the examples find it, but for the machine that they look at: a recording, or a part of this one's tree. */
const stand = `
  import fs from 'node:fs';
  import * as real from ${JSON.stringify(path.join(distFolder, 'index.js'))};
  import { recordedHost } from ${JSON.stringify(path.join(distFolder, 'testing.js'))};
  export * from ${JSON.stringify(path.join(distFolder, 'index.js'))};
  const { EXAMPLE_RECORDING: file, EXAMPLE_WITHIN: within } = process.env;
  const where = file === undefined
    ? { within, spoolDir: \`/run/slurm-cgroups\${within}/spool\` }
    : { host: recordedHost(fs.readFileSync(file, 'utf8')) };
  export const readNode = (options) => real.readNode({ ...options, ...where });
  export const watchJobs = (options) => real.watchJobs({ ...options, ...where });
`;

beforeAll(() => {
  const own = path.join(folder, 'node_modules/slurm-cgroups');
  fs.mkdirSync(own, { recursive: true });
  fs.writeFileSync(`${own}/package.json`, '{ "type": "module", "exports": "./index.js" }');
  fs.writeFileSync(`${own}/index.js`, stand);
  fs.writeFileSync(`${own}/index.d.ts`, `export * from ${JSON.stringify(path.join(distFolder, 'index.js'))};\n`);
  fs.writeFileSync(path.join(folder, 'package.json'), '{ "type": "module" }');
});
afterAll(() => fs.rmSync(folder, { recursive: true }));

/** Compiled as strictly as this package is; the uid and the pid of the document are those of the node. */
function compile(at: number, { uid, pid }: { readonly uid: number; readonly pid: number }): string {
  const name = `example-${at}-${uid}-${pid}`;
  const code = (examples[at] ?? '').replaceAll('1001', String(uid)).replaceAll('4711', String(pid));
  fs.writeFileSync(path.join(folder, `${name}.ts`), code);
  const options = {
    ...{ isolatedDeclarations: false, declaration: false, noEmit: false, rewriteRelativeImportExtensions: false },
    ...{
      outDir: path.join(folder, 'out'),
      rootDir: folder,
      types: ['node'],
      typeRoots: [path.join(root, 'node_modules/@types')],
    },
  };
  const config = { extends: path.join(root, 'tsconfig.json'), compilerOptions: options, include: [`${name}.ts`] };
  fs.writeFileSync(path.join(folder, `${name}.json`), JSON.stringify(config));
  const tsc = path.join(root, 'node_modules/typescript/bin/tsc');
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', path.join(folder, `${name}.json`)], {
    encoding: 'utf8',
  });
  expect([status, stdout]).toEqual([0, '']);
  return path.join(folder, `out/${name}.js`);
}

function run(file: string, env: NodeJS.ProcessEnv): readonly string[] {
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8', env });
  expect([status, stderr]).toEqual([0, '']);
  return stdout.trimEnd().split('\n');
}

/** On v2 one is no batch job: only its slurmstepd could have told whose it is. */
const nodes = [
  { name: 'slurm-22.05-v1', untold: [] },
  { name: 'slurm-24.11-v2', untold: [5] },
];

describe.each(nodes)('the examples of README.md on $name', ({ name, untold }) => {
  const isTold = ({ real }: { readonly real: { readonly jobId: number } }) => !untold.includes(real.jobId);
  const env = { EXAMPLE_RECORDING: recording(name) };
  const { list, verify } = expectedFor(name);

  it('name the jobs of one user, and where a process is', { timeout: 180_000 }, () => {
    const placed = verify.find((one) => one.role === 'slurm_script' && one.job !== null) ?? expect.unreachable();
    for (const uid of new Set(list.map(({ real }) => real.uid))) {
      const lines = run(compile(readsJobs, { uid: uid ?? 0, pid: placed.pid }), env);
      const jobs = list.filter((one) => one.real.uid === uid && isTold(one));
      const others = list.length - jobs.length;
      expect([jobs.length > 0, others > 0]).toEqual([true, true]);
      const said = jobs.map(({ real, steps }) => {
        const pids = new Set(steps.flatMap((step) => step.pids));
        return `job ${real.jobId}: ${pids.size} processes, unknown bytes of memory`;
      });
      const unknown = untold.map(
        (jobId) => `job ${jobId}: slurmstepd would have to be asked, and a recording has none`,
      );
      expect(lines).toEqual([...said, ...unknown, `contained ${placed.job?.jobId}`]);
    }
  });

  it('tell the jobs, and end', { timeout: 120_000 }, () => {
    const lines = run(compile(watches, { uid: 1, pid: 1 }), env);
    expect(lines.map((line) => line.split(' ').slice(1).join(' ')).sort()).toEqual(
      list.map((one) => `${one.real.jobId} ${isTold(one) ? one.real.uid : undefined}`).sort(),
    );
  });
});

it('there are three examples', () => {
  expect(examples.length).toBe(3);
});

const uid = 64_739;

describe.skipIf(!canUseCgroups && mayBeSkipped)('the examples of README.md on this machine', () => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create(liveHost(), 'slurm-cgroups-test');
    await sandbox.addJob({ jobId: 31, uid });
  });
  afterAll(() => sandbox.remove());

  it('admit a session, and say why one that is protected is not', { timeout: 180_000 }, async () => {
    const env = { EXAMPLE_WITHIN: sandbox.within };
    const { pid } = await sandbox.startSleeper(uid);
    const lines = run(compile(admits, { uid, pid }), env);
    expect(lines.slice(0, 2)).toEqual(['allow', 'The session is in job 31']);
    expect(lines).toContain('/proc shows it in job 31 in every hierarchy of the job');
    expect(fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain('/job_31/');
    expect(run(compile(admits, { uid, pid: 1 }), env)).toEqual([
      expect.stringMatching(/^Process 1 \(.*\) is not moved: it is the first process of this machine$/),
    ]);
  });

  it('watch until their signal ends them, without an exception', { timeout: 120_000 }, async () => {
    const file = compile(watches, { uid, pid: 1 });
    const code = fs.readFileSync(file, 'utf8');
    const stopping = code.replace(
      'new AbortController();',
      "new AbortController(); process.once('SIGTERM', () => stop.abort());",
    );
    expect(stopping).not.toBe(code);
    fs.writeFileSync(file, stopping);
    const child = spawn(process.execPath, [file], {
      env: { EXAMPLE_WITHIN: sandbox.within },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const said = text(child.stderr);
    let heard = '';
    child.stdout.on('data', (part) => {
      heard += part;
    });
    await until('it tells the job', () => heard.includes(` 31 ${uid}`));
    child.kill('SIGTERM');
    const [exitCode] = await once(child, 'exit');
    expect([exitCode, await said]).toEqual([0, '']);
  });
});
