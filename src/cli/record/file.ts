// A recording as a file. It holds configuration, user ids and names of processes, so only its owner may read it; no file
// is replaced without --force, and no symbolic link is followed.

import path from 'node:path';
import fsExtra from 'fs-extra';
import { quote, SlurmCgroupsError, SystemCallError } from '../../machine/errors.js';
import { usageError } from '../exit.js';

export interface WriteOptions {
  /** A regular file of that name may be replaced. */
  readonly force: boolean;
}

/**
 * Checks that it can be written, before the node is read.
 *
 * @throws SlurmCgroupsError ERR_USAGE where something is there already.
 */
export async function checkRecordingFile(file: string, { force }: WriteOptions): Promise<void> {
  if (file === '' || file.includes('\0')) throw usageError(`${quote(file)} is not the name of a file`);
  const there = await attempt('look at', file, () => fsExtra.lstat(file).catch(absent));
  if (there === undefined) {
    await attempt('write in', path.dirname(file), () => fsExtra.access(path.dirname(file), fsExtra.constants.W_OK));
    return;
  }
  if (there.isSymbolicLink()) throw usageError(`Cannot record to ${quote(file)}: it is a symbolic link`);
  if (!there.isFile()) throw usageError(`Cannot record to ${quote(file)}: it is not a file`);
  if (!force) throw usageError(`Cannot record to ${quote(file)}: it exists already; --force replaces it`);
}

/** Writes all of it or nothing, with mode 0600. */
export async function writeRecordingFile(file: string, text: string, options: WriteOptions): Promise<void> {
  await checkRecordingFile(file, options);
  const { force } = options;
  // A new name beside it, so that a reader sees the old file or the new one, whole.
  const made = force ? `${file}.new` : file;
  // O_EXCL follows no symbolic link, and refuses a file that was made meanwhile.
  const fd = await attempt('write', made, () => fsExtra.open(made, 'wx', 0o600));
  try {
    await attempt('write', made, () => fsExtra.writeFile(fd, text));
    await attempt('write', made, () => fsExtra.fsync(fd));
    if (force) await attempt('replace', file, () => fsExtra.rename(made, file));
  } catch (error) {
    await fsExtra.remove(made);
    throw error;
  } finally {
    await fsExtra.close(fd);
  }
}

function absent(error: unknown): undefined {
  if (errnoOf(error) === 'ENOENT') return undefined;
  throw error;
}

function errnoOf(error: unknown): string | undefined {
  const code: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'code') : undefined;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

async function attempt<T>(call: string, file: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    const errno = error instanceof SlurmCgroupsError ? undefined : errnoOf(error);
    throw errno === undefined ? error : new SystemCallError(call, file, errno);
  }
}
