import { describe, expect, it } from 'vitest';
import { failureOf, StepdConnection, StepdError } from '../../../src/jobs/stepd/connection.js';
import { socketOf } from '../../../src/jobs/stepd/sockets.js';
import { deadlineIn } from '../../../src/machine/deadline.js';
import { SystemCallError } from '../../../src/machine/errors.js';
import { liveHost } from '../../../src/machine/live-host.js';
import type { Connection } from '../../../src/machine/socket.js';
import { int32s } from '../../support/stepd-server.js';

const host = liveHost();
const socket = socketOf('/spool', { nodeName: 'vm', jobId: 7, stepId: 'extern' });
const inTime = (signal?: AbortSignal) => deadlineIn(host, 1000, signal);

/** A server in memory: `answers` are what each receive gets, an errno, or the end. */
function talkTo(answers: readonly (Buffer | string | undefined)[], { pending = false } = {}) {
  const sent: number[][] = [];
  const left = [...answers];
  let closed = 0;
  const connection: Connection = {
    pending,
    send: (bytes) => void sent.push([...new Int32Array(new Uint8Array(bytes).buffer)]),
    receive: async (_length, { signal }) => {
      signal?.throwIfAborted();
      const answer = left.shift();
      if (typeof answer === 'string') throw new SystemCallError('read from', '/spool/x', answer);
      return answer;
    },
    close: () => void closed++,
  };
  const stepd = new StepdConnection({ socket, serverVersion: 38 << 8, connection });
  return { stepd, sent, closed: () => closed };
}

describe('StepdConnection', () => {
  it('asks nothing more after a silence, an end or nonsense: the next answer would belong to another question', async () => {
    for (const [answers, outcome] of [
      [['ETIMEDOUT', int32s(1001)], 'silent'],
      [[undefined, int32s(1001)], 'refused'],
      [[int32s(-1), int32s(1001)], 'garbled'],
      [['EIO', int32s(1001)], 'unreachable'],
    ] as const) {
      const { stepd, sent } = talkTo(answers);
      expect(await stepd.ask('uid', inTime())).toMatchObject({ outcome, error: { request: 'uid', failure: outcome } });
      expect(await stepd.ask('state', inTime())).toMatchObject({ outcome, error: { request: 'state' } });
      expect(await stepd.addPid(4711, inTime())).toMatchObject({ outcome, error: { request: 'addPid' } });
      expect(sent).toEqual([[20]]);
    }
  });

  it('goes on after a refused process and a question that its release does not know', async () => {
    const { stepd, sent } = talkTo([int32s(-1), int32s(0), int32s(3)]);
    expect(await stepd.ask('sluid', inTime())).toMatchObject({ outcome: 'unsupported', error: { code: 'ERR_STEPD' } });
    expect(await stepd.addPid(4711, inTime())).toMatchObject({ outcome: 'refused' });
    expect(await stepd.addPid(4711, inTime())).toEqual({ outcome: 'answered', value: 'accepted' });
    expect(await stepd.ask('state', inTime())).toEqual({ outcome: 'answered', value: 'ending' });
    expect(sent).toEqual([[22, 4711], [22, 4711], [5]]);
    await expect(stepd.addPid(0, inTime())).rejects.toThrow(RangeError);
  });

  it('takes what was not asked for as nonsense', async () => {
    const { stepd, sent } = talkTo([int32s(1001)], { pending: true });
    expect(await stepd.ask('uid', inTime())).toMatchObject({ outcome: 'garbled' });
    expect(sent).toEqual([]);
  });

  it('throws the reason of an abort, and is over then', async () => {
    const { stepd } = talkTo([int32s(1001), int32s(1001)]);
    const signal = AbortSignal.abort(new Error('not wanted any more'));
    await expect(stepd.ask('uid', inTime(signal))).rejects.toThrow('not wanted any more');
    expect(await stepd.ask('uid', inTime())).toMatchObject({ outcome: 'silent' });
  });

  it('closes its connection', () => {
    const { stepd, closed } = talkTo([]);
    stepd.close();
    expect(closed()).toBe(1);
  });
});

it('StepdError names what was asked, of whom, and why not', () => {
  const error = new StepdError('silent', { socket, request: 'uid', why: 'it does not answer in time' });
  expect(error.message).toBe('Cannot ask uid of slurmstepd at "/spool/vm_7.4294967292": it does not answer in time');
  expect(error).toMatchObject({ code: 'ERR_STEPD', subject: { path: '/spool/vm_7.4294967292', jobId: 7 } });
});

it('failureOf() throws again what is no failure of a connection', () => {
  expect(() => failureOf(new TypeError('a mistake'))).toThrow('a mistake');
  expect(failureOf(new SystemCallError('connect to', '/x', 'ENOENT')).failure).toBe('absent');
});
