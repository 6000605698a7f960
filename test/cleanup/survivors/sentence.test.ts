import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { explainSurvivor, type SurvivorFacts } from '../../../src/cleanup/survivors/sentence.js';

const nothing: SurvivorFacts = { pid: 4711, comm: 'rsync', state: 'D', devices: [], ports: [] };
const mount = { point: '/scratch', type: 'nfs4', source: 'filer:/export', by: 'descriptor 3', sure: true };
const gdb = { pid: 77, comm: 'gdb' };

describe('explainSurvivor()', () => {
  it.each<[Partial<SurvivorFacts>, string]>([
    [{ mount }, 'waits in the kernel for the NFS server filer:/export of /scratch: it ends when the server answers'],
    [
      { mount: { ...mount, sure: false } },
      'waits in the kernel, most likely for the NFS server filer:/export of /scratch: it ends when the server answers',
    ],
    [
      { mount, tid: 4712, frozenAt: '/f' },
      ', in its thread 4712, waits in the kernel for the NFS server filer:/export of /scratch, and its cgroup /f is frozen: it ends when that is thawed and the server answers',
    ],
    [
      { mount, devices: ['/dev/nvidia0'], ports: ['0.0.0.0:80'] },
      'waits in the kernel for the NFS server filer:/export of /scratch: it ends when the server answers (it holds /dev/nvidia0 and listens on 0.0.0.0:80)',
    ],
    [
      {
        waitChannel: 'os_acquire_mutex',
        module: 'nvidia',
        call: { number: 16, name: 'ioctl', fd: 3 },
        devices: ['a', 'b', 'c', 'd', 'e'],
      },
      'waits in the kernel during ioctl in os_acquire_mutex of the module nvidia, where no signal reaches it: it ends when the kernel lets it go (it holds a, b, c, d and 1 more)',
    ],
    [{ tracer: gdb }, 'waits in the kernel, where no signal reaches it: it ends when the kernel lets it go'],
    [
      { activity: 'frozen', frozenAt: '/sys/fs/cgroup/freezer/slurm/uid_1/job_2' },
      'is frozen with its cgroup /sys/fs/cgroup/freezer/slurm/uid_1/job_2: it ends when that is thawed (scontrol resume for a suspended job; else by what froze it)',
    ],
    [
      { frozenAt: '/f' },
      'is frozen with its cgroup /f: it ends when that is thawed (scontrol resume for a suspended job; else by what froze it)',
    ],
    [{ state: 'S', frozenAt: '/f' }, 'is in the frozen cgroup /f: it ends when that is thawed'],
    [
      { activity: 'pid-namespace', state: 'S' },
      'is the first process of a pid namespace: it ends when all others in that namespace have ended',
    ],
    [{ activity: 'dumping' }, 'writes its core dump: it ends when that is written'],
    [{ state: 't', tracer: gdb }, 'is traced by pid 77 (gdb): it ends when that lets it go or ends'],
    [{ state: 't' }, 'is stopped by a tracer: it ends when that lets it go or ends'],
    [
      { state: 'Z', parent: { pid: 123, comm: 'python3' } },
      'is dead and waits for its parent 123 (python3) to collect its exit code',
    ],
    [
      { state: 'Z', parent: { pid: 123, comm: 'python3' }, tracer: gdb },
      'is dead and waits for its tracer 77 (gdb) to collect its exit code',
    ],
    [{ state: 'Z' }, 'is dead and waits for its parent to collect its exit code'],
    [
      { state: 'R', activity: 'exiting', waitChannel: 'exit_mmap' },
      'is ending, and the kernel takes down what it held in exit_mmap',
    ],
    [{ state: 'R' }, 'still runs: it ends when the kernel is done with its last call'],
    [{ state: 'T' }, 'is stopped: SIGKILL or SIGCONT wakes it'],
    [
      { state: 'S', waitChannel: 'pipe_read' },
      'had not ended in time, though nothing is seen to keep it (state S in pipe_read)',
    ],
    [{ state: '' }, 'could not be looked at'],
  ])('%j', (facts, sentence) => {
    const space = sentence.startsWith(',') ? '' : ' ';
    expect(explainSurvivor({ ...nothing, ...facts })).toBe(`pid 4711 (rsync)${space}${sentence}`);
  });

  it('always is one sentence that begins with the process', () => {
    const maybe = <T>(values: readonly T[]) => fc.option(fc.constantFrom(...values), { nil: undefined });
    const facts = fc.record({
      state: fc.constantFrom('R', 'S', 'D', 'T', 't', 'Z', 'X', 'I', 'P', ''),
      mount: maybe([mount, { ...mount, type: 'fuse', sure: false }, { ...mount, type: 'ext4' }]),
      tracer: maybe([gdb]),
      parent: maybe([gdb]),
      frozenAt: maybe(['/f']),
      activity: maybe(['frozen', 'pid-namespace', 'dumping', 'exiting'] as const),
      waitChannel: maybe(['x']),
      tid: maybe([5]),
      devices: fc.subarray(['/dev/nvidia0', '/dev/kfd']),
      ports: fc.subarray(['0.0.0.0:80']),
    });
    fc.assert(
      fc.property(facts, (some) => {
        const known = Object.fromEntries(Object.entries(some).filter(([, value]) => value !== undefined));
        const text = explainSurvivor({ ...nothing, ...known });
        expect(text).toMatch(/^pid 4711 \(rsync\)[ ,].*[^.\n]$/);
        expect(text).not.toMatch(/undefined| {2}|\n/);
      }),
    );
  });
});
