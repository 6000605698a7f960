// Which process a login is. An sshd is played by Node under that name, with real connections; real ones are met by the
// tests on real Slurm.

import net from 'node:net';
import { expect, it } from 'vitest';
import { adopt } from '../../src/adopt/adoption.js';
import { processOfLogin } from '../../src/adopt/login-process.js';
import { identityOf } from '../../src/cgroup/process.js';
import { hasCode, SlurmCgroupsError } from '../../src/machine/errors.js';
import { failingHost } from '../../src/machine/failing.js';
import { liveHost } from '../../src/machine/live-host.js';
import { alice, childrenOf, inWorld, kernels, onKernels } from '../support/kernel-jobs.js';
import { playSshd } from '../support/played-sshd.js';
import { Listener } from '../support/tcp-listener.js';

onKernels((kernel) => {
  it('processOfLogin() of no process fails', () => {
    const nobody = { pid: 4_194_304, startTime: 1n };
    expect(() => processOfLogin(kernel.host, nobody, undefined)).toThrow('There is no process 4194304');
  });

  if (kernel !== kernels[0]) return; // what follows looks at processes alone, which are the same whatever the cgroups

  /** A child under its own name, which holds what is given to it, and ends with its parent. */
  const child = (handles: string) =>
    `spawn(process.execPath, ['-e', "process.stdin.resume().on('end', () => process.exit())"], { stdio: ['pipe', 'ignore', 'ignore', ${handles}] })
       .once('spawn', ready);`;

  const found = (pid: number, connection: string | undefined, host = liveHost()) => {
    try {
      const { process: one, asksItself } = processOfLogin(host, identityOf(liveHost(), pid), connection);
      expect(one).toEqual(identityOf(liveHost(), one.pid));
      return [one.pid, asksItself];
    } catch (error) {
      if (hasCode(error, 'ERR_PROTECTED', 'ERR_NO_SUCH_PROCESS')) return error.code;
      throw error;
    }
  };

  const withListener = async (act: (connect: string, next: () => Promise<string>) => Promise<void>) => {
    const listener = await Listener.at('127.0.0.1');
    /** As sshd would write it: the other end is the source. */
    const next = async () => {
      const [address, port, otherAddress, otherPort] = (await listener.accept()).text.split(' ');
      return `${otherAddress} ${otherPort} ${address} ${port}`;
    };
    try {
      await act(`net.connect(${listener.port}, '127.0.0.1')`, next);
    } finally {
      listener.close();
    }
  };

  inWorld(kernel, 'processOfLogin() is the caller, which holds the connection', async (world) => {
    await withListener(async (connect, next) => {
      const pid = await playSshd(world, `${connect}.once('connect', ready);`);
      const connection = await next();
      expect(found(pid, connection)).toEqual([pid, false]);
      // Whatever cannot be read is an error of ours, and nothing stays open.
      const reads = failingHost(liveHost());
      found(pid, connection, reads);
      for (let nth = 1; nth <= reads.calls.length; nth++) {
        const host = failingHost(liveHost(), { nth, errno: 'EIO' });
        try {
          processOfLogin(host, identityOf(liveHost(), pid), connection);
        } catch (error) {
          expect(error).toBeInstanceOf(SlurmCgroupsError);
        }
        expect(host.openDirectories()).toBe(0);
      }
    });
  });

  inWorld(kernel, 'processOfLogin() is the one above, where PAM runs in a child that holds it too', async (world) => {
    await withListener(async (connect, next) => {
      const script = `const socket = ${connect}.once('connect', () => { ${child('socket._handle.fd')} });`;
      const pid = await playSshd(world, script);
      const connection = await next();
      const [fork = 0] = childrenOf(pid);
      expect(found(fork, connection)).toEqual([pid, false]);
    });
  });

  inWorld(kernel, 'processOfLogin() is never the sshd that listens, nor that of an outer connection', async (world) => {
    await withListener(async (connect, next) => {
      const listens = `net.createServer().listen(0, '127.0.0.1', () => {
        const socket = ${connect}.once('connect', () => { ${child('socket._handle.fd')} }); });`;
      const above = await playSshd(world, listens, { name: 'sshd' });
      const connection = await next();
      const [fork = 0] = childrenOf(above);
      expect(found(fork, connection)).toEqual([fork, false]);
      expect(found(above, connection)).toBe('ERR_PROTECTED');
      // An sshd with a connection of its own below one with another.
      const inner = `spawn(process.execPath, ['-e', "const net = require('node:net'); ${connect}; process.stdin.resume().on('end', () => process.exit())"], { stdio: ['pipe', 'ignore', 'ignore'] })`;
      const outer = await playSshd(world, `${connect}.once('connect', () => { ${inner}.once('spawn', ready); });`);
      const [first, second] = [await next(), await next()];
      const [below = 0] = childrenOf(outer);
      expect(found(below, first)).toEqual([outer, false]);
      expect(found(below, second)).toEqual([below, false]);
      expect(found(outer, second)).toBe('ERR_PROTECTED');
    });
  });

  inWorld(kernel, 'processOfLogin() is the one above without TCP too, and not the one that listens', async (world) => {
    // Behind a pipe with keyboard-interactive: an sshd, and one below it.
    const pid = await playSshd(world, child("'ignore'"));
    const [fork = 0] = childrenOf(pid);
    for (const text of [undefined, 'UNKNOWN 65535 UNKNOWN 65535', 'nonsense'])
      expect(found(fork, text)).toEqual([pid, true]);
    const listens = `net.createServer().listen(0, '127.0.0.1', () => { ${child("'ignore'")} });`;
    const [below = 0] = childrenOf(await playSshd(world, listens, { name: 'sshd' }));
    expect(found(below, undefined)).toEqual([below, true]);
  });

  inWorld(kernel, 'processOfLogin() is the one whose client has closed its side already', async (world) => {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => {}).end());
    await new Promise<void>((fulfil) => server.listen(0, '127.0.0.1', fulfil));
    const accepted = new Promise<net.Socket>((fulfil) => server.once('connection', fulfil));
    try {
      const { port } = server.address() as net.AddressInfo;
      const half = `net.connect({ port: ${port}, host: '127.0.0.1', allowHalfOpen: true }).once('end', ready).resume();`;
      const pid = await playSshd(world, half);
      const { remotePort, localPort } = await accepted;
      const connection = `127.0.0.1 ${localPort} 127.0.0.1 ${remotePort}`;
      expect(found(pid, connection)).toEqual([pid, false]);
      await world.twoJobs();
      const { outcome } = await adopt(pid, await world.job(102), { node: await world.node() });
      expect(outcome).toBe('adopted');
    } finally {
      (await accepted).destroy();
      server.close();
    }
  });

  inWorld(kernel, 'processOfLogin() is nobody where no sshd holds the connection', async (world) => {
    await withListener(async (connect, next) => {
      const pid = await playSshd(world, 'ready();');
      const other = await playSshd(world, `${connect}.once('connect', ready);`);
      const connection = await next();
      expect(found(pid, connection)).toBe('ERR_PROTECTED');
      expect(found(other, connection)).toEqual([other, false]);
      expect(found(other, '192.0.2.7 50312 192.0.2.1 22')).toBe('ERR_PROTECTED');
    });
  });

  inWorld(kernel, 'processOfLogin() is the caller of every other program, and where there is no TCP', async (world) => {
    await withListener(async (connect, next) => {
      const other = await playSshd(world, `${connect}.once('connect', ready);`, { name: 'login' });
      const connection = await next();
      expect(found(other, connection)).toEqual([other, true]);
      const ofUser = await playSshd(world, 'ready();', { uid: alice });
      expect(found(ofUser, connection)).toEqual([ofUser, true]);
      const piped = await playSshd(world, 'ready();');
      for (const text of [undefined, 'UNKNOWN 65535 UNKNOWN 65535', 'nonsense'])
        expect(found(piped, text)).toEqual([piped, true]);
    });
  });

  inWorld(kernel, 'processOfLogin() fails where the caller has ended, or its pid is another’s', async (world) => {
    const pid = await playSshd(world, 'ready();');
    const { startTime } = identityOf(liveHost(), pid);
    expect(() => processOfLogin(liveHost(), { pid, startTime: startTime + 1n }, undefined)).toThrow(/another by now/);
    expect(() => processOfLogin(liveHost(), { pid: 4_194_304, startTime }, undefined)).toThrow(SlurmCgroupsError);
  });
});
