import { describe, expect, it } from 'vitest';
import { holdProcess } from '../../src/cgroup/process.js';
import { exitOf, isDead, isDeadState, isExiting, isHeldDead } from '../../src/cgroup/process-end.js';
import { hasCode, SystemCallError } from '../../src/machine/errors.js';
import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { firstThreadEnded, untilFirstThreadEnded } from '../support/first-thread-ended.js';
import { started, stateOf, until } from '../support/stuck-processes.js';

const pid = 4242;
const startTime = 77n;

const none = 0x400000;
const exiting = 0x400004; // PF_EXITING

/** Its threads, the first one first: state and flags. */
type Thread = readonly [state: string, flags: number];

const textOf = ([state, flags]: Thread, tid: number, threads: number) =>
  `${tid} (x) ${state} 1 1 1 0 -1 ${flags} ${Array(10).fill(0).join(' ')} ${threads} 0 ${startTime} 0 0\n`;

/** A machine with that one process, and what is missing answers as the kernel does. */
function hostOf(...threads: readonly Thread[]): Host {
  const folder = `/proc/${pid}`;
  const stats = threads.map((thread, at) => textOf(thread, pid + at, threads.length));
  const files = new Map([
    [`${folder}/status`, `Tgid:\t${pid}\nPid:\t${pid}\nUid:\t1\t1\t1\t1\n`],
    [`${folder}/stat`, stats[0] ?? ''],
    ...stats.map((text, at) => [`${folder}/task/${pid + at}/stat`, text] as const),
  ]);
  const read = (path: string) => {
    const text = files.get(path);
    if (text === undefined) throw new SystemCallError('read', path, 'ENOENT');
    return text;
  };
  const names = () => threads.map((_, at) => String(pid + at));
  const live = liveHost();
  const unused = live.open('/proc');
  unused.close();
  return {
    ...live,
    read,
    names,
    stat: (path) => (path === folder ? live.stat('/proc') : undefined),
    open: (path) => ({ ...unused, path, read: (name) => read(`${path}/${name}`), names, close: () => {} }),
  };
}

describe('a process', () => {
  it.each<[string, readonly Thread[], { exiting: boolean; dead: boolean }]>([
    ['that runs', [['R', none]], { exiting: false, dead: false }],
    ['that is exiting', [['R', exiting]], { exiting: true, dead: false }],
    ['that is stuck while it exits: a survivor', [['D', exiting]], { exiting: true, dead: false }],
    ['that is a zombie', [['Z', exiting]], { exiting: true, dead: true }],
    ['that is being taken away', [['X', exiting]], { exiting: true, dead: true }],
    ['whose first thread has ended', [['Z', exiting], ['S', none]], { exiting: false, dead: false }], // biome-ignore format: a row
    ['whose other threads have ended', [['S', none], ['Z', exiting]], { exiting: false, dead: false }], // biome-ignore format: a row
    ['whose last thread is stuck while it exits', [['Z', exiting], ['Z', exiting], ['D', exiting]], { exiting: true, dead: false }], // biome-ignore format: a row
    ['of which a tracer holds the zombies of all threads', [['Z', exiting], ['Z', exiting]], { exiting: true, dead: true }], // biome-ignore format: a row
  ])('%s', (_, threads, expected) => {
    const host = hostOf(...threads);
    const held = holdProcess(host, pid);
    expect([isExiting(held), exitOf(held) !== undefined]).toEqual([expected.exiting, expected.exiting]);
    expect([isDead(host, { pid, startTime }), isHeldDead(held)]).toEqual([expected.dead, expected.dead]);
  });

  it('says why it cannot be moved', () => {
    expect(exitOf(holdProcess(hostOf(['Z', exiting]), pid))).toMatchObject({
      code: 'ERR_NO_SUCH_PROCESS',
      message: `Process ${pid} (x) has ended: only its exit code is waited for`,
      subject: { pid },
    });
  });

  it('of that pid that began at another time is another: the process in question is dead', () => {
    expect(isDead(hostOf(['R', none]), { pid, startTime: startTime + 1n })).toBe(true);
  });

  it('that cannot be read is not known to have ended', () => {
    const held = holdProcess(hostOf(['R', none]), pid);
    const refusing = (errno: string) => ({
      ...held,
      stat: () => {
        throw new SystemCallError('read', `/proc/${pid}/stat`, errno);
      },
    });
    expect(isExiting(refusing('EACCES'))).toBe(false);
    expect(() => isHeldDead(refusing('EACCES'))).toThrow(SystemCallError);
    expect([isExiting(refusing('ESRCH')), isHeldDead(refusing('ESRCH'))]).toEqual([true, true]);
    expect(() => exitOf(refusing('ESRCH'))).toThrow(expect.toSatisfy((error) => hasCode(error, 'ERR_NO_SUCH_PROCESS')));
  });

  it('of which a thread ends while it is looked at', () => {
    const host = hostOf(['Z', exiting], ['S', none]);
    const gone = (path: string): string => {
      if (path.includes('/task/')) throw new SystemCallError('read', path, 'ESRCH');
      return host.read(path);
    };
    expect(isDead({ ...host, read: gone }, { pid, startTime })).toBe(true);
  });
});

describe('on the real kernel', () => {
  const host = liveHost();

  it('a process lives as long as any thread of it does', async (context) => {
    if (process.geteuid?.() !== 0) context.skip('needs root');
    const program = firstThreadEnded(64_761, context);
    const child = await started(program.file, program.args);
    await untilFirstThreadEnded(child.pid);
    const held = holdProcess(host, child.pid);
    try {
      expect([isExiting(held), isHeldDead(held), isDead(host, held)]).toEqual([false, false, false]);
      child.kill('SIGKILL');
      await until('it is dead', () => isDead(host, held));
      expect([isExiting(held), isHeldDead(held)]).toEqual([true, true]);
    } finally {
      held.close();
    }
  });

  it('a zombie is dead, and what is reaped too', async () => {
    const parent = await started('/bin/sh', ['-c', 'sleep 0 & echo $!; exec sleep 60']);
    const zombie = Number(await new Promise((fulfil) => parent.stdout?.once('data', (text) => fulfil(String(text)))));
    const identity = holdProcess(host, zombie);
    await until('it is a zombie', () => stateOf(zombie) === 'Z');
    expect([isDeadState('Z'), isDead(host, identity), isExiting(identity)]).toEqual([true, true, true]);
    identity.close();
    parent.kill('SIGKILL');
    await until('it is reaped', () => host.stat(`/proc/${zombie}`) === undefined);
    expect(isDead(host, identity)).toBe(true);
  });
});
