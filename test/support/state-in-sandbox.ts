// Any host, a recorded one too, whose files of /run/slurm-cgroups can be read and written: a folder of this machine
// stands for it. (state-elsewhere.ts makes a folder for one host; here several see the same.)

import type { Host } from '../../src/machine/host.js';
import { liveHost } from '../../src/machine/live-host.js';
import { recordedHost } from '../../src/machine/recording.js';

const state = '/run/slurm-cgroups';

export function withStateIn(folder: string, host: Host): Host {
  const live = liveHost();
  const really = (file: string) => folder + file.slice(state.length);
  const either =
    <T>(onState: (file: string) => T, onHost: (file: string) => T) =>
    (file: string): T =>
      file === state || file.startsWith(`${state}/`) ? onState(really(file)) : onHost(file);
  return {
    ...host,
    read: either(live.read, host.read),
    stat: either(live.stat, host.stat),
    mkdir: either(live.mkdir, host.mkdir),
    unlink: either(live.unlink, host.unlink),
    create: (file, text) => live.create(really(file), text),
    rename: (from, to) => live.rename(really(from), really(to)),
  };
}

/** A recorded node with such a folder. No recording says which boot it is of. */
export function recordedHostWithState(text: string, folder: string, bootId = 'recorded'): Host {
  const bootIdFile = '/proc/sys/kernel/random/boot_id';
  const recorded = recordedHost(text);
  const read: Host['read'] = (file) => (file === bootIdFile ? `${bootId}\n` : recorded.read(file));
  return withStateIn(folder, { ...recorded, read });
}
