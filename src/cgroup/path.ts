// The path of a cgroup inside its hierarchy, as /proc/PID/cgroup writes it: it begins with "/", and only a
// cgroup outside the reader's cgroup namespace has ".." parts. Checked once, then carried as CgroupPath.

import { ParseError, quote } from '../machine/errors.js';

declare const checked: unique symbol;

/** A checked path inside a hierarchy, such as `/slurm/uid_1000/job_7`; `/` is the hierarchy's root. */
export type CgroupPath = string & { readonly [checked]: true };

export const rootPath: CgroupPath = cgroupPath('/');

/** @throws ParseError unless the text is absolute, without empty or "." parts and without NUL or line break. */
export function cgroupPath(text: string): CgroupPath {
  if (text !== '/' && !/^(?:\/(?!\.?(?:\/|$))[^/\0\n]+)+$/.test(text)) {
    throw new ParseError(`${quote(text)} is not the path of a cgroup: it needs to be absolute, without empty parts`, {
      path: text,
    });
  }
  return text as CgroupPath;
}

/** The names on the way: `[]` for the root. */
export function partsOf(path: CgroupPath): readonly string[] {
  return path === '/' ? [] : path.slice(1).split('/');
}

/** @throws ParseError where a name is empty, `.`, or holds a slash. */
export function childPath(path: CgroupPath, ...names: readonly string[]): CgroupPath {
  if (names.length === 0) return path;
  const below = cgroupPath(names.includes('') ? '//' : `/${names.join('/')}`); // what stands above was checked when it was made
  return path === '/' ? below : (`${path}${below}` as CgroupPath);
}

/** The path of a child as the kernel lists it: before Linux 5.13 a name can hold a line break (v1, rename(2)). */
export function listedChildPath(path: CgroupPath, name: string): CgroupPath {
  return (path === '/' ? `/${name}` : `${path}/${name}`) as CgroupPath;
}

/** What follows `ancestor` in `path`: `/` when they are the same, `undefined` when it does not lie below. */
export function pathBelow(path: CgroupPath, ancestor: CgroupPath): CgroupPath | undefined {
  if (path === ancestor) return rootPath;
  if (ancestor === '/') return path;
  return path.startsWith(`${ancestor}/`) ? (path.slice(ancestor.length) as CgroupPath) : undefined;
}

/** The cgroup above; the root is its own. */
export function parentPath(path: CgroupPath): CgroupPath {
  const end = path.lastIndexOf('/');
  return end <= 0 ? rootPath : (path.slice(0, end) as CgroupPath);
}
