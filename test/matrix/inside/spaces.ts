// Where jobs have mounts of their own (JobContainerType, NamespaceType): what join_container does to a real login through
// the PAM module, and through the pam_slurm_adopt of this release. That a session joins them unless it is told not to,
// module.ts looks at.

import fs from 'node:fs';
import { expect, it } from 'vitest';
import type { Cluster } from '../../slurm/cluster.js';
import { moduleWords } from '../../slurm/differential/pam-module.js';
import { locate, moduleFolders } from '../../slurm/differential/pam-stack.js';
import { SshServer } from '../../slurm/ssh-server.js';
import { moduleFolder, moduleHere, mountsOf, taskOf } from './module.js';
import { cell, listPids, nodeName, stamp, until } from './slurm.js';

/** In /tmp of the job, and of the machine. */
const [ofJob, ofMachine] = ['lab-where-job', 'lab-where-machine'];

/** What a session sees of where it is. It ends with its connection. */
const look = 'echo "$$ $(readlink /proc/self/ns/mnt) $(cd /tmp && echo lab-where-*)"; exec cat';

/** bob has one job. */
export function describeNamespaces(cluster: () => Promise<Cluster>, bobs: () => number): void {
  it(`${cell.container}: with join_container=false a session is in its job and sees the machine's /tmp; pam_slurm_adopt does the same, and else joins the job's`, async () => {
    const task = await taskOf(bobs());
    fs.writeFileSync(`/proc/${task}/root/tmp/${ofJob}`, '');
    fs.writeFileSync(`/tmp/${ofMachine}`, '');
    const permit = ['auth', 'account', 'session'].map((phase) => `${phase} required pam_permit.so`);
    const site = { cluster: await cluster(), folder: moduleFolder, module: moduleHere() };
    const words = moduleWords(site, ['budget=50s', 'action_adopt_failure=deny', 'join_container=false']);
    const ours = [...permit, `account required ${words}`, `session required ${words}`];
    const other = locate('pam_slurm_adopt.so', moduleFolders) ?? expect.unreachable('no pam_slurm_adopt.so');
    const theirs = (option: string) => [
      ...permit,
      `account required ${other} nodename=${nodeName} action_adopt_failure=deny ${option}`,
    ];
    const server = await SshServer.start({ folder: moduleFolder, users: ['bob'], pam: [] });
    try {
      const joined = [mountsOf(task), ofJob];
      const apart = [mountsOf(server.pid), ofMachine]; // sshd has some mounts of its own
      expect(joined[0]).not.toBe(apart[0]);
      for (const [who, pam, sees] of [
        ['ours, apart', ours, apart],
        ['theirs, apart', theirs('join_container=false'), apart],
        ['theirs, joined', theirs('join_container=true'), joined],
      ] as const) {
        server.setPam(pam);
        const session = await server.open('bob', [look]);
        const [pid, ...seen] = session.stdout.trim().split(' ');
        expect([who, session.code, ...seen], server.log).toEqual([who, 0, ...sees]);
        await until(`Slurm lists the session in the job (${who})`, async () =>
          (await listPids(bobs())).some((one) => one.stepId === 'extern' && one.pid === Number(pid)),
        );
        await session.close();
        stamp(`a session was looked at (${who})`);
      }
    } finally {
      await server.close();
    }
  });
}
