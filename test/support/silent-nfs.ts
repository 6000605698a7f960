// An NFS server (version 3, over TCP) with two files, in which it answers everything but READ and WRITE until it
// is told to: a process that reads or has written waits. RFC 5531 (calls), RFC 1813 (NFS and MOUNT). For guests alone.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { afterwards, until } from './stuck-processes.js';

/** Numbers of programs, and of procedures in NFS. */
const program = { nfs: 100_003, mount: 100_005 };
const procedure = {
  getattr: 1,
  setattr: 2,
  lookup: 3,
  access: 4,
  read: 6,
  write: 7,
  fsinfo: 19,
  pathconf: 20,
  commit: 21,
};

const word = (...values: readonly number[]) => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [at, value] of values.entries()) bytes.writeUInt32BE(value, 4 * at);
  return bytes;
};
const long = (value: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
};
/** Counted bytes, filled up to whole words. */
const opaque = (bytes: Buffer) =>
  Buffer.concat([word(bytes.length), bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);

const size = 4096;
/** The handle of a file is its name. `full` has a page to read, `empty` takes one without that anything is read. */
const handles = ['root', 'full', 'empty'];

function attributes(handle: string): Buffer {
  const [type, mode] = handle === 'root' ? [2, 0o777] : [1, 0o666];
  const bytes = long(BigInt(handle === 'full' ? size : 0));
  const times = word(1, 0, 1, 0, 1, 0);
  return Buffer.concat([
    word(type, mode, 1, 0, 0),
    bytes,
    bytes,
    word(0, 0),
    long(1n),
    long(BigInt(handles.indexOf(handle) + 1)),
    times,
  ]);
}

const some = (handle: string) => Buffer.concat([word(1), attributes(handle)]);
const ok = word(0);
const noBefore = word(0);

class Arguments {
  #at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  word(): number {
    this.#at += 4;
    return this.#bytes.readUInt32BE(this.#at - 4);
  }

  opaque(): Buffer {
    const length = this.word();
    const begin = this.#at;
    this.#at += length + ((4 - (length % 4)) % 4);
    return this.#bytes.subarray(begin, begin + length);
  }
}

interface Call {
  readonly program: number;
  readonly procedure: number;
  readonly rest: Arguments;
}

/** The results of a call; `undefined`: such a procedure is not there. */
function results({ program: asked, procedure: number, rest }: Call): Buffer | undefined {
  if (number === 0) return Buffer.alloc(0);
  if (asked === program.mount)
    return number === 1 ? Buffer.concat([ok, opaque(Buffer.from('root')), word(1, 1)]) : Buffer.alloc(0);
  if (asked !== program.nfs) return undefined;
  const handle = rest.opaque().toString();
  switch (number) {
    case procedure.getattr:
      return Buffer.concat([ok, attributes(handle)]);
    case procedure.setattr:
      return Buffer.concat([ok, noBefore, some(handle)]);
    case procedure.lookup: {
      const name = rest.opaque().toString();
      if (!handles.includes(name)) return Buffer.concat([word(2), some(handle)]);
      return Buffer.concat([ok, opaque(Buffer.from(name)), some(name), some(handle)]);
    }
    case procedure.access:
      return Buffer.concat([ok, some(handle), word(rest.word())]);
    case procedure.read:
      return Buffer.concat([ok, some(handle), word(size, 1), opaque(Buffer.alloc(size, 'x'))]);
    case procedure.write: {
      rest.word();
      rest.word();
      return Buffer.concat([ok, noBefore, some(handle), word(rest.word(), 2), long(1n)]);
    }
    case procedure.fsinfo:
      return Buffer.concat([
        ok,
        word(0),
        word(size, size, 1, size, size, 1, size),
        long(1n << 40n),
        word(0, 1),
        word(0x1b),
      ]);
    case procedure.pathconf:
      return Buffer.concat([ok, word(0), word(32, 255, 1, 1, 0, 1)]);
    case procedure.commit:
      return Buffer.concat([ok, noBefore, some(handle), long(1n)]);
    default:
      return undefined;
  }
}

/** `undefined` at first; a record (one fragment) once it is complete. */
function recordIn(bytes: Buffer): Buffer | undefined {
  if (bytes.length < 4) return undefined;
  const length = bytes.readUInt32BE(0) & 0x7fff_ffff;
  return bytes.length < 4 + length ? undefined : bytes.subarray(4, 4 + length);
}

export interface SilentNfs {
  readonly folder: string;
  readonly port: number;
  /** Waits until so many calls of READ and WRITE are held back. */
  heldBack(reads: number, writes: number): Promise<void>;
  /** Answers what was held back, and from now on at once. */
  answer(): void;
}

/** Serves it on a port of its own and mounts it, hard, on a folder of its own. */
export async function mountSilentNfs(): Promise<SilentNfs> {
  let silent = true;
  const held: { readonly is: number; readonly reply: () => void }[] = [];
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    let bytes = Buffer.alloc(0);
    socket.on('error', () => {}); // the kernel lets go of it at an unmount
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (part: Buffer) => {
      bytes = Buffer.concat([bytes, part]);
      for (let record = recordIn(bytes); record !== undefined; record = recordIn(bytes)) {
        bytes = bytes.subarray(4 + record.length);
        const call = new Arguments(Buffer.from(record));
        const [id] = [call.word(), call.word(), call.word()];
        const [asked, , number] = [call.word(), call.word(), call.word()];
        for (let credentials = 0; credentials < 2; credentials++) {
          call.word();
          call.opaque();
        }
        const result = results({ program: asked, procedure: number, rest: call });
        const body = Buffer.concat([word(id, 1, 0, 0, 0, result === undefined ? 1 : 0), result ?? Buffer.alloc(0)]);
        const reply = () => void socket.write(Buffer.concat([word(0x8000_0000 + body.length), body]));
        if (silent && asked === program.nfs && (number === procedure.read || number === procedure.write))
          held.push({ is: number, reply });
        else reply();
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('It has no port');
  const { port } = address;
  const answer = () => {
    silent = false;
    for (const { reply } of held.splice(0)) reply();
  };
  const folder = fs.mkdtempSync('/run/slurm-cgroups-test-nfs-');
  const options = `vers=3,nolock,noacl,hard,proto=tcp,port=${port},mountproto=tcp,mountport=${port},mountvers=3,addr=127.0.0.1`;
  afterwards(async () => {
    answer();
    await ran('umount', '-l', folder);
    fs.rmdirSync(folder);
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await ran('mount', '-i', '-t', 'nfs', '-o', options, '127.0.0.1:/export', folder);
  const count = (is: number) => held.filter((one) => one.is === is).length;
  return {
    folder,
    port,
    heldBack: (reads, writes) =>
      until('they wait', () => count(procedure.read) >= reads && count(procedure.write) >= writes),
    answer,
  };
}

/** Never synchronously: it waits for an answer of this very process. */
async function ran(file: string, ...args: readonly string[]): Promise<void> {
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`${file} ${args.join(' ')}: exit code ${code}`);
}
