// A machine with v1 and v2 beside it, as one that has v2 alone: the mounts of v1 are left out of the mount table.

import type { Host } from '../../src/machine/host.js';

export function withoutV1(host: Host): Host {
  const isV1 = (line: string) => / - cgroup /.test(line);
  return {
    ...host,
    read: (file) => {
      const text = host.read(file);
      return file === '/proc/self/mountinfo'
        ? text
            .split('\n')
            .filter((line) => !isV1(line))
            .join('\n')
        : text;
    },
  };
}
