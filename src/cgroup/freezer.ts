// Whether a cgroup is frozen. A process moved into a frozen one stops at once and cannot even be killed on
// v1 until somebody thaws it (measured: kill -9 leaves it in state D).

import type { Cgroup } from './cgroup.js';
import { isGone } from './errors.js';
import type { Host } from './host.js';
import { directoryOf } from './hierarchies.js';
import { cgroupPath, partsOf } from './path.js';

/**
 * The nearest cgroup, from this one up, that is frozen or being frozen: its directory; `undefined` when none
 * is. Also answers for hierarchies without a freezer: `undefined`.
 */
export function frozenAt(host: Host, cgroup: Cgroup): string | undefined {
  const { hierarchy } = cgroup;
  if (hierarchy.version === 1 && !hierarchy.controllers.includes('freezer')) return undefined;
  const file = hierarchy.version === 1 ? 'freezer.state' : 'cgroup.freeze';
  for (let parts = partsOf(cgroup.path); parts.length > 0; parts = parts.slice(0, -1)) {
    const directory = directoryOf(hierarchy, cgroupPath(`/${parts.join('/')}`));
    if (directory === undefined) return undefined; // above what the mount shows, and so not ours to see
    const state = readIfThere(host, `${directory}/${file}`);
    // v1: THAWED, FREEZING, FROZEN. v2: the wish, 0 or 1; the wish alone already stops what comes in.
    if (state !== undefined && state !== 'THAWED' && state !== '0') return directory;
  }
  return undefined;
}

function readIfThere(host: Host, path: string): string | undefined {
  try {
    return host.read(path).trim();
  } catch (error) {
    if (isGone(error)) return undefined; // a root has no freezer file; neither has v2 before Linux 5.2
    throw error;
  }
}
