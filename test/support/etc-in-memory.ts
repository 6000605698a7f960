// Files of /etc in memory.

import type { EtcFiles } from '../../src/doctor/etc-files.js';

export function filesOf(texts: Readonly<Record<string, string>>): EtcFiles {
  return {
    text: async (file) => texts[file],
    names: (folder) =>
      Object.keys(texts)
        .filter((file) => file.startsWith(`${folder}/`))
        .map((file) => file.slice(folder.length + 1))
        .sort(),
  };
}
