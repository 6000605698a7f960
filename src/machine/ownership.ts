// Who can change a file or folder: whom it belongs to, and who else may write to it.

import { type FileStat, isDirectory } from './host.js';

/** Whether others than its owner can write to it: its group, or all users. A sticky bit does not keep them from putting something there. */
export function othersCanWrite({ mode }: Pick<FileStat, 'mode'>): boolean {
  return (mode & 0o022n) !== 0n;
}

/** Whether it is a folder of that user's, to which no other user can write: by default root's. */
export function isFolderOf(stat: FileStat, uid = 0n): boolean {
  return isDirectory(stat) && stat.uid === uid && !othersCanWrite(stat);
}
