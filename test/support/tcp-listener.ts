// A listener of this machine for tests: who connects stays connected until it is closed.

import { once } from 'node:events';
import net from 'node:net';

export interface Accepted {
  /** As sshd writes SSH_CONNECTION: the addresses of a dual-stack listener are IPv4 ones in IPv6's clothes. */
  readonly text: string;
}

export class Listener {
  readonly port: number;
  readonly #server: net.Server;
  readonly #sockets: net.Socket[] = [];
  readonly #accepted: Accepted[] = [];

  private constructor(server: net.Server) {
    this.#server = server;
    const address = server.address();
    this.port = typeof address === 'object' && address !== null ? address.port : 0;
    server.on('connection', (socket) => {
      this.#sockets.push(socket.on('error', () => {}));
      const { remoteAddress, remotePort, localAddress, localPort } = socket;
      this.#accepted.push({ text: `${remoteAddress} ${remotePort} ${localAddress} ${localPort}` });
    });
  }

  static async at(address: string): Promise<Listener> {
    const server = net.createServer();
    server.listen(0, address);
    await once(server, 'listening');
    return new Listener(server);
  }

  /** The next one that connects. */
  async accept(): Promise<Accepted> {
    for (const end = Date.now() + 30_000; ; ) {
      const next = this.#accepted.shift();
      if (next !== undefined) return next;
      if (Date.now() > end) throw new Error('Nothing has connected');
      await new Promise((fulfil) => setTimeout(fulfil, 5));
    }
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** Where to listen, where to connect to, and what the source is called then. */
export const families = [
  { name: 'IPv4', listen: '127.0.0.1', connect: '127.0.0.1', source: '127.0.0.1' },
  { name: 'IPv6', listen: '::1', connect: '::1', source: '::1' },
  { name: 'IPv4 in the clothes of IPv6', listen: '::', connect: '127.0.0.1', source: '127.0.0.1' },
] as const;
