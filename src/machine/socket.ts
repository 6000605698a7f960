// A client of unix stream sockets that never waits without end and never keeps more than it was asked for.
// Loaded when the first connection is made: node:net is of no use to a start of this program.

import net from 'node:net';
import { deadlineIn, type WaitOptions } from './deadline.js';
import { SystemCallError } from './errors.js';

/** One connection to a unix stream socket. */
export interface Connection {
  /** Sends without waiting: for requests that fit any buffer. */
  send(bytes: Uint8Array): void;
  /**
   * The next `length` bytes. `undefined`: the other side closed before it had sent that many.
   *
   * @throws SystemCallError ETIMEDOUT
   */
  receive(length: number, options: WaitOptions): Promise<Uint8Array | undefined>;
  /** Whether something lies here that was not asked for yet. */
  readonly pending: boolean;
  close(): void;
}

/** sizeof(sun_path) of sockaddr_un, without the NUL at its end. */
const longestPath = 107;

/** A full backlog: between 1 and 20 ms until the next try, so that a short crowd is soon over. */
const [firstPauseMs, longestPauseMs] = [1, 20];

export interface Address {
  /** Asked again before each try: it leads through a descriptor, which must still be open then. */
  readonly path: () => string;
  /** The path as people know it, for errors. */
  readonly known: string;
  /** Milliseconds of a clock that never steps back. */
  readonly now: () => number;
}

export async function connectUnix(address: Address, options: WaitOptions): Promise<Connection> {
  const { known } = address;
  const deadline = deadlineIn(address, options.timeoutMs, options.signal);
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    options.signal?.throwIfAborted();
    const path = address.path();
    if (Buffer.byteLength(path) > longestPath) throw new SystemCallError('connect to', known, 'ENAMETOOLONG');
    const answer = await tryConnect(path);
    if (typeof answer !== 'string') return openConnection(answer, address);
    // A blocking connect(2) would wait for a place in the queue; Node's does not block, so it says EAGAIN.
    if (answer !== 'EAGAIN') throw new SystemCallError('connect to', known, answer);
    if (deadline.isOver()) throw new SystemCallError('connect to', known, 'ETIMEDOUT');
    await within(Math.min(pauseMs, deadline.leftMs()), options.signal);
  }
}

/** The socket, or the errno. On a unix socket the kernel answers at once: there is nothing to wait for. */
function tryConnect(path: string): Promise<net.Socket | string> {
  return new Promise((fulfil) => {
    const socket = net.connect({ path });
    const failed = (error: NodeJS.ErrnoException) => {
      socket.destroy();
      fulfil(error.code ?? 'EIO');
    };
    socket.once('error', failed);
    socket.once('connect', () => {
      socket.off('error', failed);
      fulfil(socket);
    });
  });
}

function openConnection(socket: net.Socket, address: Address): Connection {
  const { known } = address;
  let held = Buffer.alloc(0);
  let ended = false;
  let wake = () => {};
  socket.on('data', (bytes) => {
    held = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
    socket.pause(); // what was not asked for stays with the kernel, and at last with the sender
    wake();
  });
  // ECONNRESET (it closed with something of ours unread) and EPIPE: the other side is gone, as at its end.
  for (const event of ['end', 'error', 'close'] as const) {
    socket.on(event, () => {
      ended = true;
      wake();
    });
  }
  return {
    get pending() {
      return held.length > 0;
    },
    send: (bytes) => {
      if (!ended) socket.write(bytes);
    },
    receive: async (length, { timeoutMs, signal }) => {
      const deadline = deadlineIn(address, timeoutMs, signal);
      for (;;) {
        signal?.throwIfAborted();
        if (held.length >= length) {
          const bytes = held.subarray(0, length);
          held = held.subarray(length);
          return bytes;
        }
        if (ended) return undefined;
        if (deadline.isOver()) throw new SystemCallError('read from', known, 'ETIMEDOUT');
        const woken = new Promise<void>((fulfil) => {
          wake = fulfil;
        });
        socket.resume();
        await within(deadline.leftMs(), signal, woken);
      }
    },
    close: () => {
      ended = true;
      held = Buffer.alloc(0);
      socket.destroy();
    },
  };
}

/** Until `event` comes, if it does, the time is over, or it is not wanted any more. */
function within(ms: number, signal: AbortSignal | undefined, event?: Promise<void>): Promise<void> {
  return new Promise((fulfil) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      fulfil();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
    event?.then(done);
  });
}
