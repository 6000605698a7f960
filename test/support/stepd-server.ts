// A slurmstepd as a real one speaks (Slurm src/slurmd/slurmstepd/req.c), for tests: on a unix socket of this
// process, with the answers of a recording.

import fs from 'node:fs';
import type net from 'node:net';
import path from 'node:path';
import { formatSluid, type StepdAnswers } from '../../src/jobs/stepd/protocol.js';

/** A line of a recorded stepd.jsonl. */
export interface RecordedStepd {
  readonly socket: string;
  readonly server: number;
  readonly uid: number;
  readonly state: number;
  readonly daemon: number;
  readonly nodeid: number;
  readonly x11: number;
  readonly sluid?: string;
  readonly sluidMs?: string;
  readonly cluster?: string;
  readonly seq?: string;
}

const folder = path.resolve(import.meta.dirname, '../recordings/stepd');

/** `slurm-22.05-v1 vm_1.0` and what that slurmstepd answered. */
export function recordedStepds(): readonly (readonly [name: string, recorded: RecordedStepd])[] {
  return fs.readdirSync(folder).flatMap((file) =>
    fs
      .readFileSync(path.join(folder, file), 'utf8')
      .trim()
      .split('\n')
      .map((line): readonly [string, RecordedStepd] => {
        const recorded: RecordedStepd = JSON.parse(line);
        return [`${file.replace('.jsonl', '')} ${recorded.socket}`, recorded];
      }),
  );
}

/** The number of a SLUID, from its parts. */
export function sluidOf({ sluidMs = '0', cluster = '0', seq = '0' }: RecordedStepd): bigint {
  return (BigInt(cluster) << 52n) | (BigInt(sluidMs) << 10n) | BigInt(seq);
}

/** What our client makes of the recorded answers. */
export function answersOf(recorded: RecordedStepd): Partial<StepdAnswers> {
  return {
    uid: recorded.uid,
    state: (['not-running', 'starting', 'running', 'ending', 'ending'] as const)[recorded.state] ?? 'running',
    daemonPid: recorded.daemon,
    nodeId: recorded.nodeid,
    x11Display: recorded.x11 === 0 ? {} : { display: recorded.x11 },
    ...(recorded.sluid === undefined ? {} : { sluid: formatSluid(sluidOf(recorded)) }),
  };
}

export function int32s(...values: readonly number[]): Buffer {
  return Buffer.from(new Int32Array(values).buffer);
}

/** The bytes with which it answers each request; `undefined`: it closes. */
export function bytesOf(recorded: RecordedStepd, request: number, xauthority = ''): Buffer | undefined {
  switch (request) {
    case 1:
      return recorded.sluid === undefined ? undefined : Buffer.from(new BigUint64Array([sluidOf(recorded)]).buffer);
    case 5:
      return int32s(recorded.state);
    case 9:
      return int32s(recorded.daemon);
    case 20:
      return int32s(recorded.uid);
    case 21:
      return int32s(recorded.nodeid);
    case 22:
      return int32s(recorded.socket.endsWith('.4294967292') ? 0 : -1);
    case 23: {
      const path = xauthority === '' ? Buffer.alloc(0) : Buffer.from(`${xauthority}\0`);
      return Buffer.concat([int32s(recorded.x11, path.length), path]);
    }
    default:
      return undefined;
  }
}

export interface Speaking {
  /** Gets every number that came. */
  readonly asked?: (number: number) => void;
  /** Bytes that are written at a time. */
  readonly pieces?: number;
  /** Does what it is told with ADD_EXTERN_PID and gives what it answers: a number, or nothing, or it closes. */
  readonly add?: (pid: number) => number | 'nothing' | 'close';
}

/** Speaks on one connection. */
export function speakAs(
  recorded: RecordedStepd,
  { asked = () => {}, pieces = Number.POSITIVE_INFINITY, add }: Speaking = {},
): (socket: net.Socket) => void {
  return (socket) => {
    let greeted = false;
    let held = Buffer.alloc(0);
    let adding = false;
    const answer = (bytes: Buffer | undefined) => {
      if (bytes === undefined) socket.end();
      else for (let at = 0; at < bytes.length; at += pieces) socket.write(bytes.subarray(at, at + pieces));
    };
    socket.setNoDelay();
    socket.on('data', (bytes) => {
      held = Buffer.concat([held, bytes]);
      for (; held.length >= 4; held = held.subarray(4)) {
        const number = new Int32Array(new Uint8Array(held.subarray(0, 4)).buffer)[0] ?? 0;
        asked(number);
        if (!greeted) {
          greeted = true;
          // Its own and two before; any larger one.
          if (number >= (recorded.server - 2) << 8) answer(int32s(recorded.server << 8));
          else socket.end(int32s(-1));
        } else if (adding) {
          adding = false;
          const result = add?.(number);
          if (result === undefined) answer(bytesOf(recorded, 22));
          else if (result !== 'nothing') answer(result === 'close' ? undefined : int32s(result));
        } else if (number === 22) adding = true;
        else answer(bytesOf(recorded, number));
      }
    });
  };
}
