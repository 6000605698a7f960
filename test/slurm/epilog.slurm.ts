// An epilog that passes on the exit code of clean, on a real Slurm: an ordinary job leaves the node as it was.

import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Cluster, startCluster, until, users } from './cluster.js';
import { program } from './command.js';

let cluster: Cluster;
let folder: string;
const said = () => (fs.existsSync(`${folder}/said`) ? fs.readFileSync(`${folder}/said`, 'utf8') : '');

beforeAll(async () => {
  folder = fs.mkdtempSync('/run/slurm-cgroups-test-epilog-');
  const file = path.join(folder, 'epilog');
  const words = `${process.execPath} ${program} clean "$SLURM_JOB_ID" --node "$SLURMD_NODENAME"`;
  fs.writeFileSync(
    file,
    `#!/bin/sh\n${words} >"${folder}/now" 2>&1\ncode=$?\n{ cat "${folder}/now"; echo "job $SLURM_JOB_ID: $code"; } >>"${folder}/said"\nexit $code\n`,
    { mode: 0o755 },
  );
  cluster = await startCluster({ Epilog: file });
});
afterAll(async () => {
  await cluster?.stop();
  fs.rmSync(folder, { recursive: true });
});

const stateOfNode = async () =>
  /State=(\S+)/.exec(await cluster.run('scontrol', ['show', 'node', cluster.nodeName]))?.[1];

it('an ordinary job, one that was cancelled and one that failed: nothing is there, 0, and the node is not drained', async () => {
  const [user] = users;
  const ends = await cluster.submit(user, 'sleep 1');
  const fails = await cluster.submit(user, 'sleep 1; exit 3');
  const cancelled = await cluster.submit(user, "trap '' TERM; setsid sleep 3600 & sleep 3600");
  await cluster.run('scancel', [String(cancelled)]);
  for (const jobId of [ends, fails, cancelled])
    await until(`the epilog of job ${jobId} has run: ${said()}`, () => said().includes(`job ${jobId}: `));
  const lines = said().trim().split('\n');
  for (const jobId of [ends, fails, cancelled]) {
    expect(lines).toContain(`job ${jobId}: 0`);
    expect(lines).toContain(`Nothing of job ${jobId} is on this node.`);
  }
  await until('the node is idle, and not drained', async () => {
    const state = await stateOfNode();
    expect(state).not.toContain('DRAIN');
    return state === 'IDLE';
  });
});
