import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Cgroup } from '../../src/cgroup/cgroup.js';
import { type Member, MemberReader } from '../../src/cgroup/killing.js';
import { cgroupPath } from '../../src/cgroup/path.js';
import { lineOfDescent, proofOf, spareReason } from '../../src/cleanup/spared.js';
import { readNode } from '../../src/jobs/node.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';
import { loadRecording } from '../recordings/recordings.js';

const node = await readNode({ host: recordedHost(loadRecording('slurm-22.05-v1')) });
const freezer = node.hierarchies.get('freezer');
if (freezer === undefined) throw new Error('the recording has a freezer');
const cgroup = new Cgroup(node.host, freezer, cgroupPath('/slurm_vm/uid_1001/job_4'));
const member = (pid: number): Member => new MemberReader(node.host).read(pid, cgroup) ?? expect.unreachable();
const why = (one: Member, jobId = 4) => spareReason(one, { node, job: { jobId }, line: new Set([7001]) });

describe('spareReason()', () => {
  it.each([
    [6493, 'is slurmstepd'],
    [6506, 'is slurmstepd'],
  ])('spares slurmstepd (%i)', (pid, reason) => {
    expect(why(member(pid))).toBe(reason);
  });

  it('ends the job’s own processes', () => {
    expect([why(member(6517)), why(member(6519))]).toEqual([undefined, undefined]);
  });

  it('spares what another job has in any hierarchy', () => {
    expect(why(member(6517), 5)).toBe('is also in job 4');
  });

  it('never gives out pid 1, kernel threads, or our own line, whatever else they are', () => {
    fc.assert(
      fc.property(fc.constantFrom(6493, 6502, 6517, 6519), fc.constantFrom('first', 'kernel', 'line'), (pid, kind) => {
        const odd = {
          ...member(pid),
          ...(kind === 'first' ? { pid: 1 } : kind === 'kernel' ? { kernelThread: true } : { pid: 7001 }),
        };
        expect(why(odd)).toBeTypeOf('string');
      }),
    );
  });

  it('a name proves nothing: no comm changes the answer', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(6493, 6517, 6519),
        fc.constantFrom('slurmstepd', 'slurmd', 'sshd', 'systemd', '[kthreadd]'),
        (pid, comm) => {
          expect(why({ ...member(pid), comm })).toBe(why(member(pid)));
        },
      ),
    );
  });
});

describe('proofOf()', () => {
  it('says where in the job the process is', () => {
    expect(proofOf(member(6519), node, { jobId: 4 })).toBe(
      'member of /slurm_vm/uid_1001/job_4/step_batch in freezer, cpuset; /slurm_vm/uid_1001/job_4/step_batch/task_0 in devices, memory, cpuacct',
    );
  });
});

describe('lineOfDescent()', () => {
  it('is this process, its ancestors, and the first process', () => {
    const line = lineOfDescent(liveHost());
    expect([line.has(process.pid), line.has(process.ppid), line.has(1)]).toEqual([true, true, true]);
  });
});
